"""The document of a running daemon: what it may lack, what is kept of it, and the keys that the BSD words need."""

import json
import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from carp.config.errors import ConfigError, key_text
from carp.config.load import Source, load_document, load_file
from carp.protocol.parameters import HostParameters, Node

RUNNING = Source(key_text, Path("/etc/carp"), incomplete_ok=True)
STRICT = Source(key_text, Path("/etc/carp"))
WHOLE = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.100/24"]}


def problems_of(document, source=RUNNING):
    """Return the sentences about a document, none where it is accepted."""
    try:
        load_document(document, source)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def test_draft():
    """An interface without vhid and carpnodes is known by its name and is none of the host's."""
    loaded = load_document({"carp10": {}, "carp2": {"advskew": 5}, "carp0": WHOLE}, RUNNING)
    assert loaded.drafts == ("carp2", "carp10")
    assert [one.name for one in loaded.host.interfaces] == ["carp0"]


def test_one_node_makes_no_draft():
    """A node of carpnodes is a vhid."""
    loaded = load_document({"carp0": {"carpnodes": ["3:100"]}}, RUNNING)
    assert loaded.drafts == ()
    assert loaded.host.interfaces[0].nodes == (Node(3, 100),)


def test_draft_is_checked():
    """A wrong value is refused before there is a vhid."""
    assert problems_of({"carp0": {"advskew": 255}}) == ["carp0.advskew: 255 is not allowed: an integer 0..254"]
    assert problems_of({"carp0": {"advbase": 0, "demote-skew": True}})[0].startswith("carp0.demote-skew: true needs an advbase")


@pytest.mark.parametrize("addresses", [{}, {"addresses": []}])
def test_without_parent_and_addresses(addresses):
    """With a vhid an interface is the host's, though its parent and its addresses are still to be named."""
    (carp0,) = load_document({"carp0": {"vhid": 1, **addresses}}, RUNNING).host.interfaces
    assert (carp0.carpdev, carp0.addresses) == ("", ())


def test_nothing_at_all():
    """A running daemon may have no carp interface."""
    assert load_document({}, RUNNING).host == HostParameters()


def test_a_file_stays_strict():
    """What may be missing while running is missing in a file, and an empty list of addresses is none."""
    lines = problems_of({"carp0": {"addresses": []}}, STRICT)
    assert [line.split(": ")[0] for line in lines] == ["carp0.addresses", "carp0.carpdev", "carp0.vhid"]
    assert problems_of({}, STRICT) == [": no carp interface: a table such as [carp0], or an empty [global]"]


def test_two_interfaces_without_a_parent():
    """They may have the same vhid until both name the same parent."""
    both = {"carp0": {"vhid": 1}, "carp1": {"vhid": 1}}
    assert problems_of(both) == []
    on_eth0 = {name: {**table, "carpdev": "eth0"} for name, table in both.items()}
    assert problems_of(on_eth0) == ["carp1.vhid: 1 is also the vhid of carp0 on eth0: each vhid once on a carpdev"]


def test_document_is_kept_in_order():
    """[global] comes first, then the interfaces by number, whichever was changed last."""
    loaded = load_document({"carp10": {}, "global": {"log": 7}, "carp2": {}}, RUNNING)
    assert list(loaded.document) == ["global", "carp2", "carp10"]


def test_document_is_kept():
    """The document can be asked for again, is a copy, and is the same when it is loaded again."""
    document = {"global": {"log": 7}, "carp0": {**WHOLE, "addresses": ["192.0.2.100/24"]}, "carp1": {}}
    loaded = load_document(document, RUNNING)
    assert loaded.document == document
    document["carp0"]["addresses"].append("192.0.2.101/24")
    assert loaded.document["carp0"]["addresses"] == ["192.0.2.100/24"]
    assert load_document(loaded.document, RUNNING).document == loaded.document


def test_key_files_are_kept_by_their_whole_path(write):
    """A pass-file means the same file from any folder, also where the configuration was named without one."""
    write("hush\n", "carp0.key")
    path = write('[carp0]\ncarpdev = "eth0"\nvhid = 1\naddresses = ["192.0.2.1/24"]\npass-file = "carp0.key"\n')
    loaded = load_file(path)
    assert loaded.document["carp0"]["pass-file"] == str(Path.cwd() / "carp0.key")
    again = load_document(loaded.document, Source(key_text, Path("/nowhere"), incomplete_ok=True))
    assert again.host == loaded.host


def test_bytes_that_are_not_utf8(folder):
    """A pass phrase, or a file with one, that came as other bytes is kept as its key: UTF-8 cannot hold it."""
    raw = b"\xff\xfehush"
    key_file = folder / os.fsdecode(b"\xff.key")
    key_file.write_bytes(raw)
    key_file.chmod(0o600)
    for source in ({"pass": os.fsdecode(raw)}, {"pass-file": str(key_file)}):
        table = {key: value for key, value in WHOLE.items() if key != "pass"} | source
        loaded = load_document({"carp0": table}, STRICT)
        json.dumps(loaded.document, ensure_ascii=False).encode()
        assert load_document(loaded.document, STRICT).host == loaded.host
        assert loaded.host.interfaces[0].key.startswith(raw)


def test_no_key_is_shown(write):
    """Neither the representation of a configuration nor a warning holds a key."""
    document = {
        "carp0": {**WHOLE, "pass": "hushhush"},
        "carp1": {"pass": "hushhush"},
        "carp2": {"key-hex": b"hushhush".hex().ljust(40, "0")},
        "carp3": {"vhid": 3, "addresses": ["192.0.2.3/24"], "carppeer": "2001:db8::1", "pass": "hushhush"},
    }
    loaded = load_document(document, RUNNING)
    text = repr(loaded) + "".join(loaded.warnings)
    assert "hushhush" not in text
    assert b"hushhush".hex() not in text
    assert loaded.warnings


def test_new_keys():
    """Every key that came with the BSD words reaches the parameters."""
    document = {
        "global": {"dscp": 46, "ifdown-demotion-factor": 240, "senderr-demotion-factor": 0, "arpbalance": True},
        "carp0": {**WHOLE, "up": False, "carppeer": ["198.51.100.2", "2001:db8::2"]},
    }
    loaded = load_document(document, STRICT)
    assert (loaded.host.dscp, loaded.host.ifdown_demotion, loaded.host.senderr_demotion) == (46, 240, 0)
    assert loaded.host.arpbalance
    (carp0,) = loaded.host.interfaces
    assert not carp0.up
    assert carp0.peers == (ip_address("198.51.100.2"), ip_address("2001:db8::2"))


def test_new_defaults():
    """Without them all is as it was: up, to the multicast group, the DSCP of the dialect, demotions by one."""
    loaded = load_document({"carp0": WHOLE}, STRICT)
    assert loaded.host == HostParameters(loaded.host.interfaces, dscp=None, ifdown_demotion=1, senderr_demotion=1)
    assert not loaded.host.arpbalance
    assert loaded.host.interfaces[0].up
    assert loaded.host.interfaces[0].peers == ()


def test_one_peer_without_a_list():
    """A single peer may stand alone."""
    (carp0,) = load_document({"carp0": {**WHOLE, "carppeer": "10.0.0.2"}}, STRICT).host.interfaces
    assert carp0.peers == (ip_address("10.0.0.2"),)


PEER = "an IPv4 or IPv6 address of one host, without a prefix length, such as 192.0.2.2"
HOST = "an address of a host: not unspecified, loopback, multicast or broadcast"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("224.0.0.18", f'"224.0.0.18" is not allowed: {HOST}'),
        (["ff02::12"], f'"ff02::12" is not allowed: {HOST}'),
        (["127.0.0.1"], f'"127.0.0.1" is not allowed: {HOST}'),
        (["0.0.0.0"], f'"0.0.0.0" is not allowed: {HOST}'),
        (["255.255.255.255"], f'"255.255.255.255" is not allowed: {HOST}'),
        (["10.0.0.2/24"], f'"10.0.0.2/24" is not allowed: {PEER}'),
        (["fe80::1%eth0"], f'"fe80::1%eth0" is not allowed: {PEER}'),
        ([5], f"5 is not allowed: {PEER}"),
        (5, '5 is not allowed: a list of IPv4 and IPv6 addresses of hosts, such as ["192.0.2.2"]'),
        ("192.0.2.100", '"192.0.2.100" is a shared address of carp0 itself: an address that the peer has for itself'),
        (["10.0.0.2", "10.0.0.2"], '"10.0.0.2" is listed twice: each address once'),
    ],
)
def test_peers_refused(value, expected):
    """A peer is one other host, by an address of its own."""
    assert problems_of({"carp0": {**WHOLE, "carppeer": value}}, STRICT) == [f"carp0.carppeer: {expected}"]


def test_peer_of_another_family():
    """A peer that nothing would be sent to is told, as soon as there is an address of the other family."""
    (warning,) = load_document({"carp0": {**WHOLE, "carppeer": "2001:db8::2"}}, STRICT).warnings
    assert warning == "carp0.carppeer: 2001:db8::2 hears nothing: carp0 has no IPv6 address to advertise"
    table = {"vhid": 1, "pass": "secret", "carppeer": "2001:db8::2"}
    assert load_document({"carp0": table}, RUNNING).warnings == ()


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("dscp", 64, "an integer 0..63"),
        ("dscp", -1, "an integer 0..63"),
        ("ifdown-demotion-factor", 256, "an integer 0..255"),
        ("senderr-demotion-factor", -1, "an integer 0..255"),
        ("arpbalance", 1, "true or false"),
    ],
)
def test_global_refused(key, value, allowed):
    """The values of [global] have their ranges."""
    shown = str(value).lower()
    assert problems_of({"global": {key: value}, "carp0": WHOLE}, STRICT) == [f"global.{key}: {shown} is not allowed: {allowed}"]


def test_up_is_a_truth():
    """`up` is true or false."""
    assert problems_of({"carp0": {**WHOLE, "up": "no"}}) == ['carp0.up: "no" is not allowed: true or false']
