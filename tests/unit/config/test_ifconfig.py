"""The words of ifconfig that are right: what each line of the BSDs asks for."""

import shlex

import pytest

from carp.config.change import Change, WrittenAddress
from carp.config.ifconfig import GroupDemotion, Show, parse

PASS_REPLACES = ("pass-file", "key-hex", "pass-credential")


def read(line: str) -> Change | GroupDemotion | Show:
    """Read a line as it is typed after `ifconfig`."""
    return parse(shlex.split(line, comments=True))


def change(line: str) -> Change:
    """Read a line that changes an interface."""
    found = read(line)
    assert isinstance(found, Change)
    return found


def keyed(name: str, addresses: tuple[str, ...] = (), **values: object) -> Change:
    """Build the change of a line with a vhid and a pass phrase."""
    parts = [address.partition("/") for address in addresses]
    written = tuple(WrittenAddress(ip, int(length) if length else None) for ip, _, length in parts)
    return Change(name, set=values, unset=("carpnodes", *PASS_REPLACES), add_addresses=written)


MANUALS = [
    ("carp1 create", Change("carp1", create=True)),
    ("carp1 destroy", Change("carp1", destroy=True)),
    (
        "carp0 vhid 1 192.168.1.10  # the shortest form",
        Change("carp0", set={"vhid": 1}, unset=("carpnodes",), add_addresses=(WrittenAddress("192.168.1.10"),)),
    ),
    ("carp0 advskew 100", Change("carp0", set={"advskew": 100})),
    ("carp0 vhid 10 pass asdfasdf", keyed("carp0", vhid=10, **{"pass": "asdfasdf"})),
    ("carp1 vhid 20 advskew 100 pass asdfasdf", keyed("carp1", vhid=20, advskew=100, **{"pass": "asdfasdf"})),
    (
        "carp1 vhid 1 carpdev em0 pass lanpasswd 172.16.0.100 255.255.255.0",
        keyed("carp1", ("172.16.0.100/24",), vhid=1, carpdev="em0", **{"pass": "lanpasswd"}),
    ),
    (
        "carp2 vhid 2 carpdev em1 pass netpasswd 192.0.2.100 255.255.255.0",
        keyed("carp2", ("192.0.2.100/24",), vhid=2, carpdev="em1", **{"pass": "netpasswd"}),
    ),
    (
        "carp1 vhid 1 carpdev em0 pass lanpasswd advskew 128 172.16.0.100 255.255.255.0",
        keyed("carp1", ("172.16.0.100/24",), vhid=1, carpdev="em0", advskew=128, **{"pass": "lanpasswd"}),
    ),
    (
        "carp2 vhid 2 carpdev em1 pass netpasswd advskew 128 192.0.2.100 255.255.255.0",
        keyed("carp2", ("192.0.2.100/24",), vhid=2, carpdev="em1", advskew=128, **{"pass": "netpasswd"}),
    ),
    (
        "carp0 172.16.0.202/24 vhid 1 pass password1 advbase 1 advskew 0",
        keyed("carp0", ("172.16.0.202/24",), vhid=1, advbase=1, advskew=0, **{"pass": "password1"}),
    ),
    (
        "carp1 172.16.240.202/24 vhid 2 pass password2 advbase 1 advskew 100",
        keyed("carp1", ("172.16.240.202/24",), vhid=2, advbase=1, advskew=100, **{"pass": "password2"}),
    ),
    ("carp0 vhid 1 pass mekmitasdigoat", keyed("carp0", vhid=1, **{"pass": "mekmitasdigoat"})),
    ("carp0 vhid 1 advskew 100 pass mekmitasdigoat", keyed("carp0", vhid=1, advskew=100, **{"pass": "mekmitasdigoat"})),
    ("carp0 up", Change("carp0", up=True)),
    ("carp0 down", Change("carp0", up=False)),
    ("carp0 state backup", Change("carp0", state="backup")),
    ("carp0 state init", Change("carp0", state="init")),
    ("carp0 state MASTER", Change("carp0", state="master")),
    ("carp0 carppeer 10.0.0.2", Change("carp0", set={"carppeer": ["10.0.0.2"]})),
    ("carp0 -carppeer", Change("carp0", unset=("carppeer",))),
    ("carp0 -carpdev", Change("carp0", unset=("carpdev",))),
    ("carp0 192.0.2.101/32 alias", Change("carp0", add_addresses=(WrittenAddress("192.0.2.101", 32),))),
    ("carp0 192.0.2.101 delete", Change("carp0", remove_addresses=(WrittenAddress("192.0.2.101"),))),
    ("carp0 inet6 2001:db8::100/64", Change("carp0", add_addresses=(WrittenAddress("2001:db8::100", 64),))),
    ("carp0 group lan", Change("carp0", add_groups=("lan",))),
    ("carp0 -group lan", Change("carp0", remove_groups=("lan",))),
    (
        "carp0 balancing ip carpnodes 1:0,2:100",
        Change("carp0", set={"balancing": "ip", "carpnodes": ["1:0", "2:100"]}, unset=("vhid", "advskew")),
    ),
    (
        "carp0 172.16.240.102/24 balancing ip carpnodes 3:0,4:100 pass password3",
        Change(
            "carp0",
            set={"balancing": "ip", "carpnodes": ["3:0", "4:100"], "pass": "password3"},
            unset=("vhid", "advskew", *PASS_REPLACES),
            add_addresses=(WrittenAddress("172.16.240.102", 24),),
        ),
    ),
]
"""Every line of the manuals and guides that changes an interface."""


@pytest.mark.parametrize(("line", "expected"), MANUALS)
def test_lines_of_the_manuals(line: str, expected: Change):
    """A line of the manuals asks for what it says, and for nothing else."""
    assert read(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Show("all")),
        ("-a", Show("all")),
        ("carp0", Show("interface", "carp0")),
        ("carp9999", Show("interface", "carp9999")),
        ("carp0 vhaddr", Show("interface", "carp0")),
        ("carp", Show("group", "carp")),
        ("lan", Show("group", "lan")),
        ("-g carp", Show("demotion", "carp")),
        ("-g carp carpdemote", GroupDemotion("carp", 1)),
        ("-g carp carpdemote 50", GroupDemotion("carp", 50)),
        ("-g lan carpdemote 0", GroupDemotion("lan", 0)),
        ("-g carp -carpdemote", GroupDemotion("carp", -1)),
        ("-g carp -carpdemote 128", GroupDemotion("carp", -128)),
    ],
)
def test_lines_without_a_change_of_an_interface(line: str, expected: object):
    """A display is told by its kind, and a group's demotion is an amount, 1 unless it is given."""
    assert read(line) == expected


def test_the_order_of_the_words_does_not_matter():
    """Each keyword with its value may stand anywhere after the interface."""
    words = ["vhid 1", "advskew 100", "172.16.0.100 255.255.255.0", "pass secret", "carpdev em0", "state backup", "up"]
    asked = change("carp0 " + " ".join(words))
    for turn in range(1, len(words)):
        turned = words[turn:] + words[:turn]
        assert change("carp0 " + " ".join(turned)) == asked
        assert change("carp0 " + " ".join(reversed(turned))) == asked


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("vhid 255", "vhid", 255),
        ("advbase 0", "advbase", 0),
        ("advbase 254", "advbase", 254),
        ("advskew 254", "advskew", 254),
        ("pass 19-bytes-are-allowed"[:24], "pass", "19-bytes-are-allowed"[:19]),
        ("pass 'with spaces'", "pass", "with spaces"),
        ("pass vhid", "pass", "vhid"),
        ("pass 10.0.0.1", "pass", "10.0.0.1"),
        ("balancing none", "balancing", "none"),
        ("balancing ip-stealth", "balancing", "ip-stealth"),
        ("balancing ip-unicast", "balancing", "ip-unicast"),
        ("balancing arp", "balancing", "arp"),
        ("carpnodes 7:254", "carpnodes", ["7:254"]),
        ("lladdr virtual", "lladdr", "virtual"),
        ("lladdr parent", "lladdr", "parent"),
        ("lladdr 02:00:00:00:00:0A", "lladdr", "02:00:00:00:00:0a"),
        ("carpdev vlan100.5", "carpdev", "vlan100.5"),
        ("carppeer 10.0.0.2,10.0.0.3 carppeer 2001:DB8::2", "carppeer", ["10.0.0.2", "10.0.0.3", "2001:db8::2"]),
    ],
)
def test_values(line: str, key: str, value: object):
    """The ends of every range and every word of a list are allowed; a pass phrase may look like anything."""
    assert change(f"carp0 {line}").set[key] == value


def test_thirty_two_nodes():
    """Carpnodes holds up to 32 virtual hosts."""
    nodes = [f"{vhid}:0" for vhid in range(1, 33)]
    assert change(f"carp0 balancing ip carpnodes {','.join(nodes)}").set["carpnodes"] == nodes


@pytest.mark.parametrize(
    ("line", "unset"),
    [
        ("vhid 1", {"carpnodes"}),
        ("carpnodes 1:0", {"vhid", "advskew"}),
        ("pass secret", set(PASS_REPLACES)),
        ("advskew 5", set()),
    ],
)
def test_what_takes_the_place_of_what(line: str, unset: set[str]):
    """Vhid and carpnodes take each other's place, and a pass phrase that of any other key."""
    assert set(change(f"carp0 {line}").unset) == unset


def test_several_groups():
    """Groups are joined and left one by one in one line."""
    asked = change("carp0 group lan -group wan group dmz")
    assert (asked.add_groups, asked.remove_groups) == (("lan", "dmz"), ("wan",))


def test_create_with_more_words():
    """What is created may be set in the same line."""
    asked = change("carp1 create vhid 5 up")
    assert (asked.create, asked.set, asked.up) == (True, {"vhid": 5}, True)


def test_a_change_travels_as_json():
    """A line's change comes out of its JSON form as it was."""
    for line, expected in MANUALS:
        assert Change.from_json(expected.interface, change(line).to_json()) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("192.0.2.1", [("192.0.2.1", None)]),
        ("192.0.2.1/25", [("192.0.2.1", 25)]),
        ("192.0.2.1 255.255.255.128", [("192.0.2.1", 25)]),
        ("192.0.2.1 0xffffff80", [("192.0.2.1", 25)]),
        ("192.0.2.1 255.255.255.255", [("192.0.2.1", 32)]),
        ("10.0.0.1 192.0.0.0", [("10.0.0.1", 2)]),
        ("192.0.2.1 netmask 255.255.255.128", [("192.0.2.1", 25)]),
        ("192.0.2.1 vhid 1 netmask 0xFFFFFF80", [("192.0.2.1", 25)]),
        ("netmask 255.255.255.128 192.0.2.1", [("192.0.2.1", 25)]),
        ("inet 192.0.2.1 netmask 255.255.255.0 broadcast 192.0.2.255", [("192.0.2.1", 24)]),
        ("inet 192.0.2.1 prefixlen 25", [("192.0.2.1", 25)]),
        ("inet 192.0.2.1/24 broadcast 192.0.2.255", [("192.0.2.1", 24)]),
        ("inet6 2001:DB8:0::1 prefixlen 48", [("2001:db8::1", 48)]),
        ("inet6 2001:db8::1", [("2001:db8::1", None)]),
        ("2001:db8::1/128", [("2001:db8::1", 128)]),
        ("inet alias 192.0.2.1 netmask 255.255.255.0", [("192.0.2.1", 24)]),
        ("alias 192.0.2.1", [("192.0.2.1", None)]),
        ("inet vhid 1 alias 192.0.2.1/32", [("192.0.2.1", 32)]),
        ("192.0.2.1/24 192.0.2.2/32 alias", [("192.0.2.1", 24), ("192.0.2.2", 32)]),
        ("192.0.2.1 255.255.255.0 192.0.2.2 255.255.255.255", [("192.0.2.1", 24), ("192.0.2.2", 32)]),
        ("192.0.2.1 2001:db8::1", [("192.0.2.1", None), ("2001:db8::1", None)]),
        ("inet 192.0.2.1/24 inet6 2001:db8::1/64", [("192.0.2.1", 24), ("2001:db8::1", 64)]),
    ],
)
def test_forms_of_addresses(line: str, expected: list[tuple[str, int | None]]):
    """An address is written in any form of the BSDs, with its length where the line tells it."""
    found = change(f"carp0 {line}")
    assert [(one.address, one.prefix_length) for one in found.add_addresses] == expected
    assert found.remove_addresses == ()


@pytest.mark.parametrize(
    "line", ["192.0.2.1 delete", "delete 192.0.2.1", "-alias 192.0.2.1", "inet 192.0.2.1 -alias", "192.0.2.1 -alias delete"]
)
def test_forms_of_removal(line: str):
    """-alias and delete remove, before the address or after it."""
    found = change(f"carp0 {line}")
    assert (found.add_addresses, found.remove_addresses) == ((), (WrittenAddress("192.0.2.1"),))


def test_several_are_removed():
    """A line either adds or removes: delete holds for all its addresses."""
    assert len(change("carp0 192.0.2.1/24 192.0.2.2/24 delete").remove_addresses) == 2
