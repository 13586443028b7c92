"""Every key of [global] and [carpN]: what it allows, and what a user reads who writes something else."""

from collections.abc import Callable
from ipaddress import ip_interface

import pytest

from carp.config import words
from carp.config.load import load_file
from carp.config.model import InterfaceTable
from carp.protocol.auth import key_from_passphrase
from carp.protocol.dialect import DIALECTS
from carp.protocol.parameters import Balancing, LinkAddress, Node

Complaint = Callable[[str], str]

HOST = "an address of a host: not unspecified, loopback, multicast or broadcast"
ADDRESS = "an IPv4 or IPv6 address with its prefix length, such as 192.0.2.100/24"
CARPDEV = "the name of the parent interface, 1..15 bytes without slash, colon or white space"
NODE = '"vhid:advskew", with vhid 1..255 and advskew 0..254'


def test_defaults(write):
    """A carp interface needs a parent, a vhid and an address; everything else has the default of the BSDs."""
    path = write('[carp0]\ncarpdev = "eth0"\nvhid = 1\naddresses = ["192.0.2.100/24", "2001:db8::100/64"]\n')
    configuration = load_file(path)
    (carp0,) = configuration.host.interfaces
    assert (carp0.name, carp0.carpdev, carp0.nodes, carp0.advbase) == ("carp0", "eth0", (Node(1, 0),), 1)
    assert carp0.addresses == (ip_interface("192.0.2.100/24"), ip_interface("2001:db8::100/64"))
    assert (carp0.groups, carp0.lladdr, carp0.preempt, carp0.dialect.name) == (("carp",), LinkAddress.VIRTUAL, None, "auto")
    assert (carp0.demote_skew, carp0.digest_grace_ns) == (False, 60_000_000_000)
    assert (carp0.balancing, carp0.announces_router) == (Balancing.NONE, True)
    assert (configuration.host.allow, configuration.host.preempt, configuration.log) == (True, False, 2)
    assert configuration.path == path


def test_every_key(write):
    """Every key reaches the parameters of its interface."""
    text = """
    [global]
    allow = false
    preempt = true
    log = 7
    [carp9999]
    carpdev = "eth0.100"
    vhid = 255
    pass = "secret"
    advbase = 254
    advskew = 254
    addresses = ["192.0.2.100/32"]
    groups = ["lan", "wan-"]
    lladdr = "02:00:00:00:00:0A"
    preempt = false
    dialect = "openbsd"
    demote-skew = true
    digest-grace = 0.5
    balancing = "none"
    snooping = "off"
    """
    configuration = load_file(write(text))
    (carp,) = configuration.host.interfaces
    assert (configuration.host.allow, configuration.host.preempt, configuration.log) == (False, True, 7)
    assert (carp.name, carp.carpdev, carp.leader, carp.advbase) == ("carp9999", "eth0.100", Node(255, 254), 254)
    assert (carp.groups, carp.lladdr, carp.preempt) == (("lan", "wan-"), bytes.fromhex("02000000000a"), False)
    assert (carp.dialect, carp.demote_skew, carp.digest_grace_ns) == (DIALECTS["openbsd"], True, 500_000_000)
    assert (carp.balancing, carp.announces_router) == (Balancing.NONE, False)
    assert carp.key == key_from_passphrase("secret")


@pytest.mark.parametrize(
    "line",
    [
        "advbase = 0\nadvskew = 0",
        "digest-grace = 0",
        "digest-grace = 3600",
        'lladdr = "parent"',
        'carpnodes = ["3:254"]',
        "groups = []",
        'carpdev = "fifteen-bytes-x"',
        'addresses = ["192.0.2.1/24", "198.51.100.1/25", "fe80::1/64", "2001:db8::1/128"]',
        *(f'dialect = "{name}"' for name in DIALECTS),
    ],
)
def test_allowed(complaint: Complaint, line: str):
    """The ends of every range are allowed, advbase 0 with advskew 0 too."""
    assert complaint(line) == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vhid = 0", "vhid: 0 is not allowed: an integer 1..255"),
        ("vhid = 256", "vhid: 256 is not allowed: an integer 1..255"),
        ('vhid = "1"', 'vhid: "1" is not allowed: an integer 1..255'),
        ("vhid = true", "vhid: true is not allowed: an integer 1..255"),
        ("vhid = 1.0", "vhid: 1.0 is not allowed: an integer 1..255"),
        (f"vhid = 0x{'f' * 8000}", "vhid: a number that long is not allowed: an integer 1..255"),
        ("vhid = 2026-01-01", "vhid: a date or time is not allowed: an integer 1..255"),
        ("advskew = 255", "advskew: 255 is not allowed: an integer 0..254"),
        ("advskew = -1", "advskew: -1 is not allowed: an integer 0..254"),
        ("advbase = 255", "advbase: 255 is not allowed: an integer 0..254"),
        ('carpdev = ""', f'carpdev: "" is not allowed: {CARPDEV}'),
        ('carpdev = "sixteen-bytes-xx"', f'carpdev: "sixteen-bytes-xx" is not allowed: {CARPDEV}'),
        ('carpdev = "a/b"', f'carpdev: "a/b" is not allowed: {CARPDEV}'),
        ('carpdev = "a b"', f'carpdev: "a b" is not allowed: {CARPDEV}'),
        ('carpdev = "eth0:1"', f'carpdev: "eth0:1" is not allowed: {CARPDEV}'),
        ('carpdev = ".."', f'carpdev: ".." is not allowed: {CARPDEV}'),
        ("carpdev = 5", f"carpdev: 5 is not allowed: {CARPDEV}"),
        ('carpdev = "carp1"', 'carpdev: "carp1" is not allowed: a parent that is not itself a carp interface'),
        ("preempt = 1", "preempt: 1 is not allowed: true or false"),
        ('demote-skew = "yes"', 'demote-skew: "yes" is not allowed: true or false'),
        ("advbase = 0\ndemote-skew = true", "demote-skew: true needs an advbase of 1 or more: false, or advbase 1..254"),
        ("digest-grace = -0.5", "digest-grace: -0.5 is not allowed: a number of seconds, 0..3600"),
        ("digest-grace = 3601", "digest-grace: 3601 is not allowed: a number of seconds, 0..3600"),
        ("digest-grace = nan", "digest-grace: nan is not allowed: a number of seconds, 0..3600"),
        ("preempt-delay = -0.5", "preempt-delay: -0.5 is not allowed: a number of seconds, 0..3600"),
        ("preempt-delay = 3601", "preempt-delay: 3601 is not allowed: a number of seconds, 0..3600"),
        ("digest-grace = true", "digest-grace: true is not allowed: a number of seconds, 0..3600"),
    ],
)
def test_numbers_and_names(complaint: Complaint, line: str, expected: str):
    """A value out of range or of another type is shown, with what is allowed; "1" is not 1, and neither is true."""
    assert complaint(line) == f"carp.toml: carp0.{expected}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"192.0.2.100"', "an address with its prefix length; write the prefix, such as 192.0.2.100/24"),
        ('"2001:db8::1"', "an address with its prefix length; write the prefix, such as 2001:db8::1/64"),
        ('"192.0.2.100/255.255.255.0"', f"{ADDRESS}; write 192.0.2.100/24"),
        ('"192.0.2.256/24"', ADDRESS),
        ('"192.0.2.1/33"', ADDRESS),
        ('"192.0.2.1/"', ADDRESS),
        ('"www.example.org/24"', ADDRESS),
        ('"fe80::1%eth0/64"', ADDRESS),
        ("5", ADDRESS),
        ('"192.0.2.1/0"', "a prefix length of 1..32"),
        ('"0.0.0.0/8"', HOST),
        ('"::/64"', HOST),
        ('"127.0.0.1/8"', HOST),
        ('"::1/128"', HOST),
        ('"224.0.0.18/24"', HOST),
        ('"ff02::12/64"', HOST),
        ('"255.255.255.255/32"', HOST),
    ],
)
def test_addresses(complaint: Complaint, value: str, expected: str):
    """An address is one that a host can have, and its prefix is written, never guessed."""
    assert complaint(f"addresses = [{value}]") == f"carp.toml: carp0.addresses: {value} is not allowed: {expected}"


@pytest.mark.parametrize(("value", "which"), [('"192.0.2.0/24"', "network"), ('"192.0.2.255/24"', "broadcast")])
def test_addresses_that_no_host_has(complaint: Complaint, value: str, which: str):
    """The first and the last of an IPv4 subnet are nobody's."""
    assert f"carp0.addresses: {value} is the {which} address of its subnet" in complaint(f"addresses = [{value}]")


@pytest.mark.parametrize("value", ["192.0.2.0/31", "192.0.2.255/32", "192.0.2.255/23", "2001:db8::/64"])
def test_addresses_at_the_edge(value: str):
    """Where there is no such address, the first and the last one are like any other."""
    assert words.address(value) == ip_interface(value)


@pytest.mark.parametrize(
    ("value", "shown"), [("[]", "an empty list"), ('"192.0.2.1/24"', '"192.0.2.1/24"'), ("{a = 1}", "a table")]
)
def test_addresses_are_a_list(complaint: Complaint, value: str, shown: str):
    """The addresses are a list with at least one member."""
    allowed = 'a list such as ["192.0.2.100/24", "2001:db8::100/64"]'
    assert complaint(f"addresses = {value}") == f"carp.toml: carp0.addresses: {shown} is not allowed: {allowed}"


def test_address_listed_twice(complaint: Complaint):
    """An address is listed once; another prefix does not make it another address."""
    expected = 'carp.toml: carp0.addresses: "192.0.2.1/32" is listed twice: each address once'
    assert complaint('addresses = ["192.0.2.1/24", "192.0.2.1/32"]') == expected


@pytest.mark.parametrize("name", ["", "lan1", "sixteen-letters-", "a b", "a/b", "ä"])
def test_groups(complaint: Complaint, name: str):
    """A group is named as OpenBSD allows: not ending in a digit, 15 characters at most."""
    text = complaint(f'groups = ["{name}"]')
    assert text.startswith("carp.toml: carp0.groups: ")
    assert text.endswith("a group name of 1..15 letters, digits, '_', '-' and '.' that does not end in a digit")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('lladdr = "00:00:00:00:00:00"', "a MAC of one host: not zero, and the first byte even"),
        ('lladdr = "01:00:5e:00:01:01"', "a MAC of one host: not zero, and the first byte even"),
        ('lladdr = "02:00:00:00:00"', "virtual, parent or a MAC such as 02:00:00:00:00:01"),
        ('lladdr = "virtul"', "virtual, parent or a MAC such as 02:00:00:00:00:01; did you mean virtual?"),
        ('dialect = "freebds"', f"one of {', '.join(DIALECTS)}; did you mean freebsd?"),
        ("dialect = 5", f"one of {', '.join(DIALECTS)}"),
        ('balancing = "ip-stelth"', "one of none, ip, ip-stealth, ip-unicast, arp; did you mean ip-stealth?"),
        ("balancing = true", "one of none, ip, ip-stealth, ip-unicast, arp"),
        ('snooping = "of"', "mrd or off; did you mean off?"),
        ('snooping = "on"', "mrd or off"),
        ("snooping = false", "mrd or off"),
        ('carpnodes = ["0:0"]', NODE),
        ('carpnodes = ["256:0"]', NODE),
        ('carpnodes = ["1:255"]', NODE),
        ('carpnodes = ["1"]', NODE),
        ("carpnodes = [1]", NODE),
        ("carpnodes = []", f"a list of 1..32 words {NODE}"),
    ],
)
def test_words(complaint: Complaint, line: str, expected: str):
    """A word out of a set is refused with the set and, where one is alike, the word that was meant."""
    key, value = line.split(" = ")
    shown = "an empty list" if value == "[]" else value.strip("[]")
    assert complaint(line) == f"carp.toml: carp0.{key}: {shown} is not allowed: {expected}"


def test_carpnodes_instead_of_vhid(complaint: Complaint):
    """A node has its vhid and its advskew in itself: neither stands beside carpnodes."""
    assert complaint('carpnodes = ["3:0"]\nvhid = 3\nadvskew = 0').splitlines() == [
        "carp.toml: carp0.vhid: not together with carpnodes: carpnodes holds it",
        "carp.toml: carp0.advskew: not together with carpnodes: carpnodes holds it",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("log = 8", "log: 8 is not allowed: an integer 0..7"),
        ("log = -1", "log: -1 is not allowed: an integer 0..7"),
        ("allow = 1", "allow: 1 is not allowed: true or false"),
        ('preempt = "no"', 'preempt: "no" is not allowed: true or false'),
        ("preempt-delay = -1", "preempt-delay: -1 is not allowed: a number of seconds, 0..3600"),
        ("preempt-delay = 3601", "preempt-delay: 3601 is not allowed: a number of seconds, 0..3600"),
        ('preempt-delay = "5"', 'preempt-delay: "5" is not allowed: a number of seconds, 0..3600'),
        ("start-demote = 256", "start-demote: 256 is not allowed: an integer 0..255"),
        ("start-demote = -1", "start-demote: -1 is not allowed: an integer 0..255"),
        ("start-demote = 1.5", "start-demote: 1.5 is not allowed: an integer 0..255"),
        ("start-demote-time = -1", "start-demote-time: -1 is not allowed: a number of seconds, 0..3600"),
        ("start-demote-time = inf", "start-demote-time: inf is not allowed: a number of seconds, 0..3600"),
        ("start_demote = 1", "start_demote: unknown key; did you mean start-demote?"),
        ("premt = true", "premt: unknown key; did you mean preempt?"),
    ],
)
def test_global(refused: Callable[[str], list[str]], line: str, expected: str):
    """The values of [global] have their types and ranges."""
    good = '[carp0]\ncarpdev = "eth0"\nvhid = 1\naddresses = ["192.0.2.1/24"]\n'
    assert refused(f"[global]\n{line}\n{good}") == [f"carp.toml: global.{expected}"]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("advskw", "; did you mean advskew?"),
        ("pass_file", "; did you mean pass-file?"),
        ("VHID", "; did you mean vhid?"),
        ("x", ""),
    ],
)
def test_unknown_key(complaint: Complaint, key: str, hint: str):
    """An unknown key is refused with the nearest known one, and without its value: it might be a pass phrase."""
    assert complaint(f'{key} = "hush"') == f"carp.toml: carp0.{key}: unknown key{hint}"


def test_missing_keys(refused: Callable[[str], list[str]]):
    """What a carp interface needs and does not have is listed, with what it should be."""
    assert refused("[carp0]\n") == [
        f"carp.toml: carp0.carpdev: missing: {CARPDEV}",
        'carp.toml: carp0.addresses: missing: a list such as ["192.0.2.100/24", "2001:db8::100/64"]',
        "carp.toml: carp0.vhid: missing: an integer 1..255",
    ]


def test_long_values_are_cut(complaint: Complaint):
    """A message is one line of bounded length whatever the value is."""
    text = complaint(f'lladdr = "{"x" * 5000}\\n\\u001b"')
    assert len(text) < 300
    assert text.isprintable()


def test_schema():
    """The model has a JSON schema, in which every key says what it allows."""
    properties = InterfaceTable.model_json_schema()["properties"]
    assert {"carpdev", "vhid", "pass", "pass-file", "key-hex", "carpnodes"} <= properties.keys()
    assert all(prop["description"] for prop in properties.values())


GOOD = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.100/24"]\n'


def test_fence_words(write, refused):
    """The fence is auto, required or off; anything else is told with the nearest word."""
    for word in ("auto", "required", "off"):
        assert load_file(write(f'{GOOD}[global]\nfence = "{word}"\n')).fence == word
    (problem,) = refused(f'{GOOD}[global]\nfence = "require"\n')
    assert "global.fence" in problem
    assert "did you mean required?" in problem


def test_realtime(write):
    """Real time is off unless it is asked for."""
    assert not load_file(write(GOOD)).realtime
    assert load_file(write(f"{GOOD}[global]\nrealtime = true\n")).realtime


def test_start(write):
    """The start demotes nothing unless it is asked for, and then for a minute at most."""
    plain = load_file(write(GOOD))
    assert (plain.start_demote, plain.start_demote_time_ns) == (0, 60_000_000_000)
    asked = load_file(write(f"{GOOD}[global]\nstart-demote = 255\nstart-demote-time = 0.5\n"))
    assert (asked.start_demote, asked.start_demote_time_ns) == (255, 500_000_000)


def test_preempt_delay(write):
    """A preemption waits for nothing; the delay of an interface, 0 too, takes the place of that of [global]."""

    def delays(*lines):
        more = '[carp1]\ncarpdev = "eth1"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.1/24"]\n'
        text = "\n".join((GOOD, *lines, more))
        return [one.preempt_delay_ns for one in load_file(write(text)).host.interfaces]

    assert delays() == [0, 0]
    assert delays("preempt-delay = 3600") == [3600_000_000_000, 0]
    assert delays("[global]", "preempt-delay = 1.5") == [1_500_000_000, 1_500_000_000]
    assert delays("preempt-delay = 0", "[global]", "preempt-delay = 1.5") == [0, 1_500_000_000]


def test_peer_master_down(write, complaint):
    """The patience of the fastest peer is in seconds, and longer than the interval of this host's advertisements."""
    (interface,) = load_file(write(f"{GOOD}peer-master-down = 2.5\n")).host.interfaces
    assert interface.peer_master_down_ns == 2_500_000_000
    assert "more than 1.5 s" in complaint("advskew = 128\npeer-master-down = 1.5")
    assert "0" in complaint("peer-master-down = 0")
