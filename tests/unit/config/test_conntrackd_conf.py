"""conntrackd.conf as it is made of a carp.toml."""

import re
from ipaddress import ip_address

import pytest

from carp.config.conntrackd import conntrackd_conf
from carp.config.errors import ConfigError
from carp.config.load import load_file

LAN = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.100/24"]\n'
WAN = '[carp1]\ncarpdev = "eth1"\nvhid = 2\npass = "secret"\naddresses = ["198.51.100.100/24", "2001:db8::100/64"]\n'
LINK = '[sync]\ninterface = "eth2"\n'
ENDS_KEYS = ("address", "peer")
ENDS = 'address = "10.9.9.1"\npeer = "10.9.9.2"\n'
A_HOST = "an IPv4 or IPv6 address of one host, without a prefix length, such as 192.0.2.2"
LETTERS = "a letter, then letters, digits, '.', '_' and '-'"


@pytest.fixture
def load(write):
    """Load a text as carp.toml."""
    return lambda text: load_file(write(text))


def ends(address, peer):
    """Write a table with these two addresses."""
    return f'{LINK}address = "{address}"\npeer = "{peer}"\n'


def ignored(text):
    """Return the addresses of Address Ignore."""
    return re.findall(r"^ {12}IPv[46]_address (\S+)", text, re.MULTILINE)


OWN = tuple(ip_address(word) for word in ("192.0.2.1", "198.51.100.1", "2001:db8::1", "fe80::5"))
"""What a host may have for itself on its parents."""


def words_of(text):
    """Return what conntrackd reads: the lines without comments and blanks."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


def test_conntrackd_conf(load):
    """It has the link, the socket, and FTFW with the external cache that carpd commits."""
    text = conntrackd_conf(load(f'{LINK}{ENDS}conntrackd = "/run/ct/a.ctl"\n{LAN}{WAN}'), OWN)
    for line in (
        "Mode FTFW {",
        "DisableExternalCache no",
        "StartupResync yes",
        "IPv4_address 10.9.9.1",
        "IPv4_Destination_Address 10.9.9.2",
        "Interface eth2",
        "Path /run/ct/a.ctl",
        "LockFile /run/ct/a.lock",
    ):
        assert words_of(text).count(line) == 1 + (line == "IPv4_address 10.9.9.1"), line
    assert text.count("{") == text.count("}")


def test_conntrackd_conf_over_ipv6(load):
    """The words follow the family of the addresses."""
    lines = words_of(conntrackd_conf(load(ends("fe80::1", "fe80::2") + LAN), ()))
    assert lines[lines.index("UDP {") + 1 :][:2] == ["IPv6_address fe80::1", "IPv6_Destination_Address fe80::2"]


def test_what_is_not_replicated(load):
    """Single addresses of the firewalls: shared ones, their own, those of the link; each once, never a network of clients."""
    text = conntrackd_conf(load(LINK + ENDS + LAN + 'carppeer = ["192.0.2.2"]\n' + WAN), OWN)
    assert ignored(text) == [
        *("127.0.0.1", "::1", "fe80::/10"),
        *("10.9.9.1", "10.9.9.2"),
        *("192.0.2.1", "192.0.2.2", "192.0.2.100"),
        *("198.51.100.1", "198.51.100.100"),
        *("2001:db8::1", "2001:db8::100"),
    ]
    assert "add the own addresses" not in text


def test_made_elsewhere(load):
    """Where the host's own addresses are not known, the text says which have to be added."""
    text = conntrackd_conf(load(LINK + ENDS + LAN + WAN), None)
    assert "            # Made elsewhere than on the host: add the own addresses of both firewalls on eth0 and eth1.\n" in text


def test_both_hosts_files(load):
    """They differ in the direction of the link and in nothing else, if each host lists the other as its carppeer."""
    tables = [
        (ends("10.9.9.1", "10.9.9.2") + LAN + 'carppeer = ["192.0.2.2"]\n', "192.0.2.1"),
        (ends("10.9.9.2", "10.9.9.1") + LAN + 'carppeer = ["192.0.2.1"]\n', "192.0.2.2"),
    ]
    a, b = (words_of(conntrackd_conf(load(text), [ip_address(own)])) for text, own in tables)
    assert [pair for pair in zip(a, b, strict=True) if pair[0] != pair[1]] == [
        ("IPv4_address 10.9.9.1", "IPv4_address 10.9.9.2"),
        ("IPv4_Destination_Address 10.9.9.2", "IPv4_Destination_Address 10.9.9.1"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["sync: missing: a table [sync]"]),
        (LINK, [f"sync.{key}: missing: conntrackd has to be told both addresses of the link: {A_HOST}" for key in ENDS_KEYS]),
        (LINK.replace("eth2", "2eth") + ENDS, [f'sync.interface: "2eth" cannot be written in conntrackd.conf: {LETTERS}']),
    ],
)
def test_too_little_for_conntrackd(load, text, said):
    """What is missing is named, all of it at once."""
    with pytest.raises(ConfigError) as refused:
        conntrackd_conf(load(text + LAN), ())
    assert str(refused.value).splitlines() == [f"carp.toml: {one}" for one in said]
