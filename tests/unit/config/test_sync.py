"""[sync]: its keys, what they make of carp interfaces, and what is told of changes and disagreements."""

import re
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from carp.config.change import Change
from carp.config.compare import compare
from carp.config.difference import differences
from carp.config.edit import HostView, apply, set_global
from carp.config.errors import key_text
from carp.config.load import Source, draft_parameters, load_document, load_file
from carp.config.sync import Sync
from carp.config.write import public, to_toml

LAN = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.100/24"]\n'
WAN = '[carp1]\ncarpdev = "eth1"\nvhid = 2\npass = "secret"\naddresses = ["198.51.100.100/24"]\n'
LINK = '[sync]\ninterface = "eth2"\n'
ENDS = 'address = "10.9.9.1"\npeer = "10.9.9.2"\n'
SECOND_NS = 1_000_000_000
GROUPS = "a list of groups, such as"
ADDRESS = "an IPv4 or IPv6 address of one host, without a prefix length, such as 192.0.2.2"
OF_A_HOST = "an address of a host: not unspecified, loopback, multicast or broadcast"
SOCKET = "the absolute path of a socket, at most 107 bytes without white space and quotes"
LINK_NAME = "the name of an interface that is no carp interface, 1..15 bytes"


@pytest.fixture
def load(write):
    """Load a text as carp.toml."""
    return lambda text, name="carp.toml": load_file(write(text, name))


def grouped(table, *groups):
    """Put the carp interface of a table into these groups instead of carp."""
    return f"{table}groups = [{', '.join(repr(group) for group in groups)}]\n"


def test_defaults(load):
    """The interface alone has to be named."""
    assert load(LINK + LAN).sync == Sync(
        "/run/conntrackd.ctl", "eth2", None, None, 2 * SECOND_NS, 60 * SECOND_NS, 32, frozenset({"carp"})
    )


def test_every_key(load):
    """Each key is taken; times are kept in nanoseconds."""
    text = '[sync]\nconntrackd = "/run/ct/sync.ctl"\ninterface = "eth2.7"\naddress = "fd00::1"\npeer = "fd00::2"\n'
    text += 'timeout = 0.5\nbulk-timeout = 0\ndemote = 255\ngroups = ["wan", "carp0"]\n'
    assert load(text + LAN + grouped(WAN, "wan")).sync == Sync(
        socket="/run/ct/sync.ctl",
        interface="eth2.7",
        address=ip_address("fd00::1"),
        peer=ip_address("fd00::2"),
        timeout_ns=SECOND_NS // 2,
        bulk_timeout_ns=0,
        demote=255,
        groups=frozenset({"wan", "carp0"}),
    )


def test_nothing_is_synchronised_without_the_table(load):
    """Neither is there a Sync, nor does a takeover wait."""
    configuration = load(LAN)
    assert configuration.sync is None
    assert configuration.host.interfaces[0].pre_master is False


@pytest.mark.parametrize(
    ("groups", "waiting"),
    [
        ('["carp"]', [True, False]),
        ('["wan"]', [False, True]),
        ('["carp1"]', [False, True]),
        ('["all"]', [True, True]),
        ('["carp0", "wan"]', [True, True]),
    ],
)
def test_whose_takeovers_wait(load, groups, waiting):
    """Those of the carp interfaces in the groups; `all` and an interface's own name are groups, too."""
    configuration = load(f"{LINK}groups = {groups}\n{LAN}{grouped(WAN, 'wan')}")
    assert [one.pre_master for one in configuration.host.interfaces] == waiting


def test_a_hook_waits_on_its_own(load, program):
    """A pre-master hook of an interface that [sync] is not about is awaited as before."""
    hook = f'[carp1.hooks]\npre-master = "{program()}"\n'
    configuration = load(f'{LINK}groups = ["carp0"]\n{LAN}{WAN}{hook}')
    assert [one.pre_master for one in configuration.host.interfaces] == [True, True]


def test_a_draft_waits_as_well():
    """What has no vhid yet is in its groups already."""
    configuration = load_document({"sync": {"interface": "eth2"}, "carp0": {}}, Source(key_text, Path(), incomplete_ok=True))
    assert draft_parameters(configuration, "carp0").pre_master is True


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('conntrackd = "conntrackd.ctl"', f'conntrackd: "conntrackd.ctl" is not allowed: {SOCKET}'),
        ("conntrackd = true", f"conntrackd: true is not allowed: {SOCKET}"),
        ('conntrackd = "/"', f'conntrackd: "/" is not allowed: {SOCKET}'),
        ('conntrackd = "/run/a b"', f'conntrackd: "/run/a b" is not allowed: {SOCKET}'),
        (f'conntrackd = "/{"x" * 107}"', f'conntrackd: "/{"x" * 59}..." is not allowed: {SOCKET}'),
        ('interface = ""', f'interface: "" is not allowed: {LINK_NAME}'),
        ('interface = "carp0"', f'interface: "carp0" is not allowed: {LINK_NAME}'),
        ('address = "10.9.9.1/30"', f'address: "10.9.9.1/30" is not allowed: {ADDRESS}'),
        ('peer = "127.0.0.1"', f'peer: "127.0.0.1" is not allowed: {OF_A_HOST}'),
        ("timeout = 0", "timeout: 0 is not allowed: a number of seconds, 0.1..60"),
        ("timeout = 60.1", "timeout: 60.1 is not allowed: a number of seconds, 0.1..60"),
        ("timeout = nan", "timeout: nan is not allowed: a number of seconds, 0.1..60"),
        ("bulk-timeout = -1", "bulk-timeout: -1 is not allowed: a number of seconds, 0..3600"),
        ("bulk-timeout = 3601", "bulk-timeout: 3601 is not allowed: a number of seconds, 0..3600"),
        ("demote = 0", "demote: 0 is not allowed: an integer 1..255"),
        ("demote = 256", "demote: 256 is not allowed: an integer 1..255"),
        ("demote = 1.5", "demote: 1.5 is not allowed: an integer 1..255"),
        ("groups = []", f'groups: an empty list is not allowed: {GROUPS} ["carp"]'),
        ('groups = ["w1"]', 'groups: "w1" is not allowed: a group, carp0..carp9999, or all'),
        ("bulk_timeout = 3", "bulk_timeout: unknown key; did you mean bulk-timeout?"),
    ],
)
def test_wrong_values(refused, line, said):
    """Each is told with its place, its value and what is allowed."""
    link = "" if line.startswith("interface") else 'interface = "eth2"\n'
    assert refused(f"{LAN}[sync]\n{link}{line}\n") == [f"carp.toml: sync.{said}"]


@pytest.mark.parametrize("path", ["/usr/sbin/conntrackd", "/opt/ct/bin/nothing", "{}/file", "{}"])
def test_a_path_of_something_else(refused, tmp_path, path):
    """What is no socket is refused, and so is where programs are: conntrackd deletes what is there when it starts."""
    (tmp_path / "file").touch()
    wrong = path.format(tmp_path)
    shown = f'"{wrong}"' if len(wrong) <= 60 else f'"{wrong[:60]}..."'
    said = refused(f'{LINK}conntrackd = "{wrong}"\n{LAN}')
    assert said == [f"carp.toml: sync.conntrackd: {shown} is not a socket: {SOCKET}"]


def test_a_socket_that_is_there(load, tmp_path):
    """Is right."""
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(tmp_path / "ctl"))
        assert load(f'{LINK}conntrackd = "{tmp_path}/ctl"\n{LAN}').warnings == ()


def test_the_longest_path(load):
    """107 bytes are what a unix socket may have."""
    path = f"/{'x' * 106}"
    assert load(f'{LINK}conntrackd = "{path}"\n{LAN}').sync.socket == path


def test_the_interface_is_required(refused):
    """There is no usual name for the dedicated link."""
    assert refused(f"[sync]\n{LAN}") == [f"carp.toml: sync.interface: missing: {LINK_NAME}"]


def test_all_errors_at_once(refused):
    """They come in the order of the file, with those of other tables."""
    text = f'[sync]\ndemote = 0\ntimeout = 0\naddress = "10.9.9.1"\npeer = "10.9.9.1"\ngroups = ["vpn"]\n{LAN}vhid2 = 1\n'
    places = [line.split(": ")[1] for line in refused(text)]
    assert places == ["sync.demote", "sync.timeout", "sync.peer", "sync.groups", "sync.interface", "carp0.vhid2"]


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("10.9.9.1", "\"10.9.9.1\" is this host's address: the other host's own"),
        ("fd00::2", '"fd00::2" is of another family than 10.9.9.1: an IPv4 address'),
        ("192.0.2.100", '"192.0.2.100" is a shared address of carp0: an address that a host has for itself'),
    ],
)
def test_two_ends_of_one_link(refused, peer, said):
    """They are two addresses of one family that never move."""
    assert refused(f'{LAN}{LINK}address = "10.9.9.1"\npeer = "{peer}"\n') == [f"carp.toml: sync.peer: {said}"]


@pytest.mark.parametrize("line", ['address = "10.9.9.1"', 'peer = "10.9.9.2"'])
def test_one_end_alone(load, line):
    """Neither is needed by carpd."""
    assert load(f"{LINK}{line}\n{LAN}").sync is not None


def test_unknown_groups(refused):
    """A group that no carp interface is in would protect nothing."""
    text = f'{LINK}groups = ["wam"]\n{grouped(LAN, "wan")}'
    known = "one of wan, all, or a carp interface; did you mean wan?"
    assert refused(text) == [f'carp.toml: sync.groups: no carp interface is in "wam": {known}']
    text = f"{LINK}{grouped(LAN, 'wan')}"
    assert refused(text) == [f'carp.toml: sync.groups: no carp interface is in "carp": {known.replace("wan?", "carp0?")}']


def test_unknown_groups_while_running():
    """A group that is lost while carpd runs is remarked upon."""
    document = {"sync": {"interface": "eth2"}, "carp0": {"groups": ["lan"]}}
    configuration = load_document(document, Source(key_text, Path(), incomplete_ok=True))
    assert configuration.warnings == ('sync.groups: no carp interface is in "carp"',)


@pytest.mark.parametrize(
    ("groups", "warnings"),
    [
        ('["carp"]', ("eth0 is the carpdev of carp0: states want a link of their own between the two hosts",)),
        ('["carp1"]', ()),
    ],
)
def test_a_link_that_is_not_dedicated(load, groups, warnings):
    """It is unwise that the states go where the connections are, and legal."""
    configuration = load(f'[sync]\ninterface = "eth0"\ngroups = {groups}\n{LAN}{WAN}')
    assert configuration.warnings == tuple(f"carp.toml: sync.interface: {one}" for one in warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sync = 1\n", "carp.toml: sync: 1 is not allowed: a table [sync]"),
        ("[[sync]]\n", "carp.toml: sync: a list of 1 is not allowed: a table [sync]"),
        ("bulk-timeout = 1\n", "carp.toml: bulk-timeout: stands outside of a table; put it below a line [sync]"),
    ],
)
def test_not_a_table(refused, text, said):
    """What is called so and is none is told, and keys that stand before it."""
    assert refused(f"{text}{LAN}") == [said]


def test_its_text(load, write):
    """It is written between [global] and the carp interfaces, and read back as the same."""
    configuration = load(f"{LAN}{LINK}{ENDS}timeout = 1.5\n[global]\npreempt = true\n")
    text = to_toml(configuration.document, with_keys=True)
    assert re.findall(r"^\[.*\]$", text, re.MULTILINE) == ["[global]", "[sync]", "[carp0]"]
    assert f"{LINK}{ENDS}timeout = 1.5\n" in text
    assert load_file(write(text)) == configuration
    assert public(configuration.document)["sync"] == {**configuration.document["sync"]}


def test_bsd_words_do_not_touch_it(load):
    """A change of an interface or of a sysctl keeps the table; a group may leave and join it."""
    document = load(LINK + LAN).document
    source = Source(key_text, Path(), incomplete_ok=True)
    for after in (
        apply(document, Change("carp0", set={"advskew": 100}), HostView()),
        apply(document, Change("carp0", destroy=True), HostView()),
        set_global(document, {"preempt": True}),
    ):
        assert load_document(after, source).sync == load(LINK + LAN).sync
    out = apply(document, Change("carp0", remove_groups=("carp",)), HostView())
    assert load_document(out, source).host.interfaces[0].pre_master is False


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("", LINK, ["sync: new"]),
        (LINK, "", ["sync: removed"]),
        (LINK, LINK, []),
        (LINK, f"{LINK}timeout = 0.5\ndemote = 1\n", ["sync: timeout 2 s -> 0.5 s", "sync: demote 32 -> 1"]),
        (f'{LINK}conntrackd = "/run/a"\n', LINK, ["sync: conntrackd /run/a -> /run/conntrackd.ctl"]),
        (LINK, LINK.replace("eth2", "eth3"), ["sync: interface eth2 -> eth3"]),
        (LINK, f"{LINK}{ENDS}", ["sync: address none -> 10.9.9.1", "sync: peer none -> 10.9.9.2"]),
        (
            LINK,
            f'{LINK}bulk-timeout = 5\ngroups = ["carp0", "all"]\n',
            ["sync: bulk-timeout 60 s -> 5 s", "sync: groups carp -> all,carp0"],
        ),
    ],
)
def test_differences(load, before, after, said):
    """A reload tells each value that changes."""
    assert differences(load(before + LAN), load(after + LAN)) == said


def hosts(load, *texts):
    """Compare hosts that are given by their tables [sync]: a, b, c."""
    tables = [f"{LAN}advskew = {number}\n{text}" for number, text in enumerate(texts)]
    return compare([(name, load(text, name)) for name, text in zip("abc", tables, strict=False)])


def ends(address, peer):
    """Write a table with these two addresses."""
    return f'{LINK}address = "{address}"\npeer = "{peer}"\n'


def test_hosts_that_agree(load):
    """Each one's peer is the other's address; links may have other names."""
    found = hosts(load, ends("10.9.9.1", "10.9.9.2"), ends("10.9.9.2", "10.9.9.1").replace("eth2", "dmz"))
    assert (found.errors, found.warnings) == ((), ())
    found = hosts(load, LINK, LINK)
    assert (found.errors, found.warnings) == ((), ())


def test_one_host_without_it(load):
    """It is remarked upon: the host takes over without the states."""
    found = hosts(load, LINK, "")
    assert found.errors == ()
    assert found.warnings == ("[sync] is in a and missing in b: connections break when that host takes over",)


def sides(load, *tables):
    """Compare hosts that are given by what is added to their tables of LAN and WAN."""
    texts = [f"{LINK}{LAN}{lan}\n{WAN}{wan}\n" for lan, wan in tables]
    return compare([(name, load(text, name)) for name, text in zip("ab", texts, strict=False)]).warnings


APART = (
    "advskew and advbase prefer a in carp0, b in carp1: packets between them pass no host while both live; with [sync], what"
    " belongs together prefers the same host, and what does not is in different groups"
)


@pytest.mark.parametrize(
    ("second", "is_told"),
    [
        (("advskew = 100", "advskew = 100"), False),
        (("advskew = 100", "advskew = 0"), True),
        (("advskew = 100", "advskew = 50"), False),
        (("advskew = 100", "advbase = 0\nadvskew = 100"), True),
        (("advskew = 100", 'advskew = 0\ngroups = ["dmz"]'), False),
    ],
)
def test_hosts_that_prefer_different_sides(load, second, is_told):
    """LAN and WAN would be on different hosts: told, unless they are in different groups or nobody is preferred."""
    groups = '\ngroups = ["dmz"]' if "dmz" in second[1] else ""
    found = sides(load, ("advskew = 0", f"advskew = 50{groups}"), second)
    assert (APART in found) is is_told
    assert any("prefer a in" in one for one in found) is is_told


def test_a_side_where_both_are_alike(load):
    """Prefers nobody; that is told by itself."""
    found = sides(load, ("advskew = 100", "advskew = 50"), ("advskew = 0", "advskew = 50"))
    assert not any("prefer" in one and "packets between" in one for one in found)


def test_hosts_without_sync_may_have_what_they_like(load):
    """Only who passes connections from one side to the other has sides."""
    texts = [f"{LAN}advskew = {lan}\n{WAN}advskew = {100 - lan}\n" for lan in (0, 100)]
    assert compare([(name, load(text, name)) for name, text in zip("ab", texts, strict=True)]).warnings == ()


def test_one_side_that_preempts(load):
    """A host that comes back would take only a part."""
    found = sides(load, ("preempt = true", ""), ("preempt = true\nadvskew = 100", "preempt = true\nadvskew = 100"))
    assert (
        "preempt in a is true for carp0 and false for carp1: when that host comes back it takes only a part, and packets"
        " between the two pass no host"
    ) in found
    assert not any(one.startswith("preempt in b") for one in found)


def test_the_same_address_twice(load):
    """A file that was copied without a change is found out."""
    found = hosts(load, *[ends("10.9.9.1", "10.9.9.2")] * 2)
    assert "address of [sync] is 10.9.9.1 in a and b alike: it is each host's own on the link" in found.errors


def test_a_peer_that_nobody_is(load):
    """Who has another address than the other one's peer is named."""
    found = hosts(load, ends("10.9.9.1", "10.9.9.2"), ends("10.9.9.3", "10.9.9.1"))
    said = "peer of [sync] is 10.9.9.2 in a, and nobody's address (10.9.9.3 in b): its states reach no other host"
    assert found.errors == (said,)
    assert hosts(load, ends("10.9.9.1", "10.9.9.2"), LINK).errors == ()
