"""The table of links and addresses, fed with the kernel's messages."""

import struct
from ipaddress import ip_address, ip_interface
from types import SimpleNamespace
from typing import Any

import pytest

from carp.linux.links import LinkTable
from carp.linux.rtnetlink import (
    CARP_ADDRESS_PROTOCOL,
    IFA_F_DADFAILED,
    IFA_F_TENTATIVE,
    IFF_RUNNING,
    IFF_UP,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWQDISC,
    attribute,
)
from carp.protocol.values import Family

AF_BRIDGE = 7
IFLA_IFNAME = 3


def link_body(index: int, name: str, flags: int = IFF_UP | IFF_RUNNING, family: int = 0) -> bytes:
    """Write what the kernel says of a link."""
    return struct.pack("=BxHiII", family, 1, index, flags, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0")


def address_body(index: int, text: str, flags: int = 0, protocol: int = 0) -> bytes:
    """Write what the kernel says of an address."""
    address = ip_interface(text)
    body = struct.pack("=BBBBi", 2 if address.version == 4 else 10, address.network.prefixlen, 0, 0, index)
    if address.version == 4:
        body += attribute(2, address.ip.packed)
    return body + attribute(1, address.ip.packed) + attribute(8, struct.pack("=I", flags)) + attribute(11, bytes((protocol,)))


def table_of(*bodies: bytes) -> LinkTable:
    """Make a table with one link eth0, index 2, and addresses."""
    table = LinkTable()
    table.apply(RTM_NEWLINK, link_body(2, "eth0"))
    for body in bodies:
        table.apply(RTM_NEWADDR, body)
    return table


def sources(*bodies: bytes) -> dict[Family, str]:
    """Tell where the advertisements of a link with these addresses come from."""
    return {family: str(ip_address(packed)) for family, packed in table_of(*bodies).sources(2)}


def test_links_come_change_and_go() -> None:
    """By index and by name; a deleted link takes its addresses along."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    assert table.apply(RTM_NEWLINK, link_body(3, "eth1", flags=IFF_UP)) == 3
    link = table.by_name("eth1")
    assert link is not None
    assert (link.up, link.running) == (True, False)
    table.apply(RTM_NEWLINK, link_body(3, "wan"))
    assert table.by_name("eth1") is None
    assert table.by_index(3) is table.by_name("wan")
    assert [one.name for one in table.all()] == ["eth0", "wan"]
    assert table.apply(RTM_DELLINK, link_body(2, "eth0")) == 2
    assert table.by_name("eth0") is None
    assert table.addresses(2) == []
    assert table.sources(2) == ()


def test_other_messages_concern_nobody() -> None:
    """They change nothing."""
    table = table_of()
    assert table.apply(RTM_NEWQDISC, struct.pack("=Bxxxi", 0, 2) + bytes(12)) is None


def test_addresses_come_and_go() -> None:
    """The same address twice is one; deleting what is not there does no harm."""
    table = table_of(address_body(2, "192.0.2.1/24"), address_body(2, "192.0.2.1/24"), address_body(2, "192.0.2.2/24"))
    assert [str(one.address) for one in table.addresses(2)] == ["192.0.2.1/24", "192.0.2.2/24"]
    assert table.apply(RTM_DELADDR, address_body(2, "192.0.2.1/24")) == 2
    table.apply(RTM_DELADDR, address_body(2, "192.0.2.1/24"))
    assert [str(one.address) for one in table.addresses(2)] == ["192.0.2.2/24"]


def test_a_port_that_leaves_its_bridge_is_still_there() -> None:
    """The bridge tells of its ports with messages of its own family: the link itself, and its addresses, stay."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    table.apply(RTM_NEWLINK, link_body(2, "eth0", family=AF_BRIDGE))
    table.apply(RTM_DELLINK, link_body(2, "eth0", family=AF_BRIDGE))
    assert table.by_name("eth0") is not None
    assert dict(table.sources(2)) == {Family.IPV4: bytes((192, 0, 2, 1))}


def test_advertisements_come_from_the_first_ipv4_address() -> None:
    """In the kernel's order, not in numerical order."""
    assert sources(address_body(2, "192.0.2.9/24"), address_body(2, "192.0.2.1/24")) == {Family.IPV4: "192.0.2.9"}


def test_advertisements_over_ipv6_come_from_a_link_local_address() -> None:
    """Wherever it stands in the list; without one, from the first."""
    everything = (address_body(2, "2001:db8::1/64"), address_body(2, "fe80::1/64"), address_body(2, "fe80::2/64"))
    assert sources(*everything) == {Family.IPV6: "fe80::1"}
    assert sources(everything[0], address_body(2, "2001:db8::2/64")) == {Family.IPV6: "2001:db8::1"}


def test_an_ipv4_link_local_address_is_nothing_special() -> None:
    """169.254/16 does not go before the host's own address."""
    assert sources(address_body(2, "192.0.2.1/24"), address_body(2, "169.254.1.1/16")) == {Family.IPV4: "192.0.2.1"}


def test_shared_addresses_are_no_sources() -> None:
    """Both hosts have them: with lladdr = "parent" they lie on the parent itself."""
    shared4 = address_body(2, "192.0.2.100/24", protocol=CARP_ADDRESS_PROTOCOL)
    shared6 = address_body(2, "fe80::100/64", protocol=CARP_ADDRESS_PROTOCOL)
    assert sources(shared4, shared6) == {}
    assert sources(shared4, shared6, address_body(2, "192.0.2.1/24"), address_body(2, "2001:db8::1/64")) == {
        Family.IPV4: "192.0.2.1",
        Family.IPV6: "2001:db8::1",
    }


def test_a_duplicate_address_is_no_source() -> None:
    """Somebody else has it."""
    failed = address_body(2, "fe80::1/64", flags=IFA_F_DADFAILED)
    assert sources(failed) == {}
    assert sources(failed, address_body(2, "fe80::2/64")) == {Family.IPV6: "fe80::2"}


def test_usable_addresses() -> None:
    """All of the link's own, in the kernel's order, that a packet can come from now: no shared, duplicate or tentative one."""
    table = table_of(
        address_body(2, "192.0.2.1/24"),
        address_body(2, "2001:db8::1/64"),
        address_body(2, "fe80::1/64"),
        address_body(2, "192.0.2.100/24", protocol=CARP_ADDRESS_PROTOCOL),
        address_body(2, "2001:db8::2/64", flags=IFA_F_TENTATIVE),
        address_body(2, "2001:db8::3/64", flags=IFA_F_DADFAILED),
        address_body(3, "198.51.100.1/24"),
    )
    assert table.usable_addresses(2) == tuple(map(ip_interface, ("192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")))
    table.apply(RTM_NEWADDR, address_body(2, "2001:db8::2/64"))
    assert ip_interface("2001:db8::2/64") in table.usable_addresses(2)
    assert table.usable_addresses(4) == ()


def test_both_families_of_one_link_only() -> None:
    """IPv4 first; another link's addresses do not count."""
    table = table_of(address_body(2, "fe80::1/64"), address_body(2, "192.0.2.1/24"), address_body(3, "198.51.100.1/24"))
    assert [family for family, _ in table.sources(2)] == [Family.IPV4, Family.IPV6]
    assert table.sources(4) == ()


@pytest.mark.parametrize(
    ("present", "wanted", "expected"),
    [
        ("192.0.2.1/24", "192.0.2.100/24", True),
        ("192.0.2.1/16", "192.0.2.100/24", True),
        ("192.0.2.1/25", "192.0.2.100/24", False),
        ("192.0.2.1/32", "192.0.2.100/24", False),
        ("192.0.3.1/24", "192.0.2.100/24", False),
        ("192.0.2.1/24", "192.0.2.100/32", False),
        ("192.0.2.1/24", "192.0.2.100/25", True),
        ("2001:db8::1/64", "2001:db8::100/64", True),
        ("2001:db8::1/48", "2001:db8::100/64", True),
        ("2001:db8::1/65", "2001:db8::100/64", False),
        ("2001:db8::1/64", "2001:db8::100/128", False),
        ("2001:db8::1/64", "192.0.2.100/24", False),
        ("32.1.13.1/24", "2001:db8::100/64", False),
    ],
)
def test_whether_a_prefix_is_on_link_already(present: str, wanted: str, expected: bool) -> None:
    """An equal or a wider prefix covers it; a narrower one, another one or one host's does not."""
    assert table_of(address_body(2, present)).has_on_link(ip_interface(wanted), 7) is expected


def test_own_addresses_do_not_make_a_prefix_on_link() -> None:
    """Neither carpd's anywhere nor any on the carp interface itself: their route goes away with them."""
    wanted = ip_interface("192.0.2.100/24")
    shared = address_body(2, "192.0.2.101/24", protocol=CARP_ADDRESS_PROTOCOL)
    assert not table_of(shared).has_on_link(wanted, 7)
    assert not table_of(address_body(7, "192.0.2.1/24")).has_on_link(wanted, 7)
    assert table_of(address_body(7, "192.0.2.1/24")).has_on_link(wanted, None)


def test_a_prefix_that_was_removed_is_not_on_link() -> None:
    """The next take makes its own route then."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    table.apply(RTM_DELADDR, address_body(2, "192.0.2.1/24"))
    assert not table.has_on_link(ip_interface("192.0.2.100/24"), 7)


def test_links_that_exchange_their_names() -> None:
    """Each is found by its new one, and what nobody is called any more is not."""
    table = table_of()
    table.apply(RTM_NEWLINK, link_body(3, "eth1"))
    table.apply(RTM_NEWLINK, link_body(2, "spare"))
    table.apply(RTM_NEWLINK, link_body(3, "eth0"))
    table.apply(RTM_NEWLINK, link_body(2, "eth1"))
    assert [(name, link.index) for name in ("eth0", "eth1") if (link := table.by_name(name)) is not None] == [
        ("eth0", 3),
        ("eth1", 2),
    ]
    assert table.by_name("spare") is None
    table.apply(RTM_DELLINK, link_body(3, "eth0"))
    assert table.by_name("eth0") is None
    assert table.by_name("eth1") is table.by_index(2)


def test_a_link_whose_name_is_not_told_first() -> None:
    """The kernel promises no order of what it tells."""
    body = struct.pack("=BxHiII", 0, 1, 5, IFF_UP, 0) + attribute(27, bytes(4)) + attribute(IFLA_IFNAME, b"eth5\0")
    table = table_of()
    table.apply(RTM_NEWLINK, body)
    link = table.by_name("eth5")
    assert link is not None
    assert (link.index, link.up) == (5, True)


def test_what_takes_depend_on_has_a_version() -> None:
    """It changes with the addresses of others alone: their coming, going, and becoming carpd's, not with their refreshing."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    versions = [table.foreign_version]

    def changed(kind: int, body: bytes) -> bool:
        table.apply(kind, body)
        versions.append(table.foreign_version)
        return versions[-1] not in versions[:-1]

    assert not changed(RTM_NEWADDR, address_body(2, "192.0.2.1/24", flags=0x80))
    assert not changed(RTM_NEWADDR, address_body(7, "192.0.2.100/24", protocol=CARP_ADDRESS_PROTOCOL))
    assert not changed(RTM_DELADDR, address_body(7, "192.0.2.100/24", protocol=CARP_ADDRESS_PROTOCOL))
    assert not changed(RTM_NEWLINK, link_body(2, "eth0", flags=0))
    assert changed(RTM_NEWADDR, address_body(3, "198.51.100.1/24"))
    assert changed(RTM_DELADDR, address_body(3, "198.51.100.1/24"))
    assert changed(RTM_NEWADDR, address_body(2, "192.0.2.1/24", protocol=CARP_ADDRESS_PROTOCOL))
    assert changed(RTM_NEWADDR, address_body(2, "192.0.2.1/24"))
    assert changed(RTM_DELLINK, link_body(2, "eth0"))


def test_a_prefix_of_two_links_is_on_link_for_both() -> None:
    """The one is on-link through the other; a link alone with it does not count for itself."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    wanted = ip_interface("192.0.2.100/24")
    assert [table.has_on_link(wanted, index) for index in (2, 3)] == [False, True]
    table.apply(RTM_NEWADDR, address_body(3, "192.0.2.2/24"))
    assert [table.has_on_link(wanted, index) for index in (2, 3)] == [True, True]


def test_messages_count_in_the_order_of_their_arrival() -> None:
    """An address of a link that was deleted and made again under its number is the new one's; hundreds may wait to be read."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    table.apply(RTM_DELLINK, link_body(2, "eth0"))
    table.apply(RTM_NEWLINK, link_body(2, "eth0"))
    table.apply(RTM_NEWADDR, address_body(2, "192.0.2.2/24"))
    assert [str(one.address) for one in table.addresses(2)] == ["192.0.2.2/24"]
    for number in range(3000):
        body = address_body(2, f"10.0.{number >> 8}.{number & 255}/32")
        assert table.apply(RTM_NEWADDR, body) == 2
        if number % 3:
            table.apply(RTM_DELADDR, body)
        assert len(table._unread) < 300
    assert len(table.addresses(2)) == 1001


def test_what_was_told_before_everything_was_read_again_does_not_count() -> None:
    """What is read is newer; what is told after that counts again."""
    table = table_of(address_body(2, "192.0.2.1/24"))
    answers = {RTM_GETLINK: [link_body(2, "eth0"), link_body(3, "eth1")], RTM_GETADDR: [address_body(3, "198.51.100.1/24")]}
    netlink: Any = SimpleNamespace(dump=lambda request: answers[struct.unpack_from("=H", request, 4)[0]])
    version = table.foreign_version
    table.apply(RTM_NEWADDR, address_body(3, "198.51.100.2/24"))
    table.load(netlink)
    assert table.foreign_version != version
    assert (table.addresses(2), [str(one.address) for one in table.addresses(3)]) == ([], ["198.51.100.1/24"])
    assert table.by_name("eth1") is table.by_index(3)
    assert not table.has_on_link(ip_interface("192.0.2.100/24"), 7)
    assert table.has_on_link(ip_interface("198.51.100.100/24"), 7)
    table.apply(RTM_DELADDR, address_body(3, "198.51.100.1/24"))
    assert not table.has_on_link(ip_interface("198.51.100.100/24"), 7)
