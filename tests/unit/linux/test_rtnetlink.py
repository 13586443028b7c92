"""rtnetlink messages: what is built here is read back, and padding is where the kernel wants it."""

import struct
from ipaddress import ip_interface

import pytest

from carp.linux import rtnetlink
from carp.linux.rtnetlink import (
    CARP_ADDRESS_PROTOCOL,
    HEADER,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELTFILTER,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWQDISC,
    attribute,
    delete_address,
    delete_group,
    delete_link,
    filter_index,
    message,
    messages,
    new_address,
    new_bridge,
    new_macvlan,
    parse_address,
    parse_link,
    set_link,
    set_link_mac,
)

MAC = bytes.fromhex("00005e000107")
IFA_BROADCAST = 4


def body_of(data: bytes) -> bytes:
    """Take the header off."""
    ((_, _, _, body),) = messages(data)
    return body


@pytest.mark.parametrize("length", range(9))
def test_attributes_are_padded_to_four_bytes(length: int) -> None:
    """The padding is there but not counted."""
    encoded = attribute(7, b"x" * length)
    assert len(encoded) % 4 == 0
    assert struct.unpack_from("=HH", encoded) == (4 + length, 7)
    assert encoded[4:] == b"x" * length + bytes(-length % 4)


def test_a_message_is_a_request_with_its_length() -> None:
    """The kernel refuses anything else."""
    encoded = message(RTM_NEWLINK, rtnetlink.NLM_F_CREATE, b"body")
    length, kind, flags, sequence, port = HEADER.unpack_from(encoded)
    assert (length, kind, sequence, port) == (len(encoded), RTM_NEWLINK, 0, 0)
    assert flags == rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_REQUEST


def test_several_messages_are_taken_apart() -> None:
    """Whatever their lengths; each begins at a multiple of four."""
    first = HEADER.pack(HEADER.size + 5, RTM_NEWLINK, 1, 11, 0) + b"12345" + bytes(3)
    second = HEADER.pack(HEADER.size + 2, RTM_NEWADDR, 2, 12, 0) + b"67"
    assert list(messages(first + second)) == [(RTM_NEWLINK, 1, 11, b"12345"), (RTM_NEWADDR, 2, 12, b"67")]


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(16), HEADER.pack(5, 1, 1, 1, 1) + bytes(40)])
def test_what_is_no_message_ends_the_reading(data: bytes) -> None:
    """It neither crashes nor goes round for ever."""
    assert list(messages(data)) == []


@pytest.mark.parametrize("name", ["carp0", "carp12", "carp123", "carp9999"])
def test_a_macvlan_is_asked_for_with_everything(name: str) -> None:
    """Name, parent, MAC, group, kind; link down, so that the parent's LAN hears nothing from it yet."""
    request = new_macvlan(name, 17, MAC, 0x63001234)
    _, kind, flags, _, _ = HEADER.unpack_from(request)
    assert kind == RTM_NEWLINK
    assert flags & rtnetlink.NLM_F_CREATE
    assert flags & rtnetlink.NLM_F_EXCL
    link = parse_link(body_of(request))
    assert (link.name, link.parent_index, link.mac, link.group) == (name, 17, MAC, 0x63001234)
    assert (link.kind, link.up) == ("macvlan", False)


def test_a_bridge_is_asked_for_by_name_and_group() -> None:
    """Link down, and it fails if the name is taken."""
    request = new_bridge("carp9999", 0x63001234)
    _, kind, flags, _, _ = HEADER.unpack_from(request)
    assert (kind, flags & rtnetlink.NLM_F_EXCL) == (RTM_NEWLINK, rtnetlink.NLM_F_EXCL)
    link = parse_link(body_of(request))
    assert (link.name, link.kind, link.group, link.up) == ("carp9999", "bridge", 0x63001234, False)


def test_links_are_changed_by_their_index() -> None:
    """Up, down, another MAC, deleted."""
    up, down = parse_link(body_of(set_link(5, up=True))), parse_link(body_of(set_link(5, up=False)))
    assert (up.index, up.up, down.index, down.up) == (5, True, 5, False)
    assert struct.unpack_from("=I", body_of(set_link(5, up=False)), 12)[0] == rtnetlink.IFF_UP
    other = parse_link(body_of(set_link_mac(5, MAC)))
    assert (other.index, other.mac) == (5, MAC)
    assert struct.unpack_from("=I", body_of(set_link_mac(5, MAC)), 12)[0] == 0
    assert parse_link(body_of(delete_link(5))).index == 5


def test_a_group_is_deleted_whole() -> None:
    """By the group alone: an index or a name would make it one link."""
    request = delete_group(0x63001234)
    assert HEADER.unpack_from(request)[1] == RTM_DELLINK
    link = parse_link(body_of(request))
    assert (link.index, link.name, link.group) == (0, "", 0x63001234)


@pytest.mark.parametrize("text", ["192.0.2.100/24", "192.0.2.100/32", "192.0.2.100/31", "2001:db8::100/64", "fe80::1/128"])
def test_an_address_is_added_as_it_is_written(text: str) -> None:
    """With its prefix, its flags and carpd's tag, and it is the same when it is deleted."""
    address = ip_interface(text)
    added = parse_address(body_of(new_address(9, address, IFA_F_NODAD | IFA_F_NOPREFIXROUTE)))
    assert (added.index, added.address, added.protocol) == (9, address, CARP_ADDRESS_PROTOCOL)
    assert added.flags == IFA_F_NODAD | IFA_F_NOPREFIXROUTE
    deletion = delete_address(9, address)
    assert HEADER.unpack_from(deletion)[1] == RTM_DELADDR
    deleted = parse_address(body_of(deletion))
    assert (deleted.index, deleted.address) == (9, address)


@pytest.mark.parametrize(
    ("text", "broadcast"),
    [
        ("192.0.2.100/24", "c00002ff"),
        ("192.0.2.100/30", "c0000267"),
        ("192.0.2.100/31", None),
        ("192.0.2.100/32", None),
        ("2001:db8::1/64", None),
    ],
)
def test_an_ipv4_subnet_has_its_broadcast_address(text: str, broadcast: str | None) -> None:
    """As ip(8) sets it with `brd +`; there is none in a prefix of two addresses or one."""
    body = body_of(new_address(9, ip_interface(text), 0))
    found = rtnetlink.attributes_of(body, 8).get(IFA_BROADCAST)
    assert found == (None if broadcast is None else bytes.fromhex(broadcast))


def kernel_address(text: str, *extra: bytes, flags: int = 0) -> bytes:
    """Write the body of RTM_NEWADDR as the kernel does for an IPv6 address: without IFA_LOCAL."""
    address = ip_interface(text)
    head = struct.pack("=BBBBi", 10, address.network.prefixlen, flags & 0xFF, 0, 4)
    return head + attribute(1, address.ip.packed) + b"".join(extra)


def test_the_kernels_own_form_of_an_ipv6_address() -> None:
    """IPv6 addresses come without IFA_LOCAL; the flags of eight bits count where the long ones are missing."""
    seen = parse_address(kernel_address("fe80::1/64", flags=0x80))
    assert (seen.index, str(seen.address), seen.flags, seen.protocol) == (4, "fe80::1/64", 0x80, 0)
    seen = parse_address(kernel_address("fe80::1/64", attribute(8, struct.pack("=I", 0x208))))
    assert seen.flags == 0x208


def test_an_address_with_a_peer_is_the_local_one() -> None:
    """On a point-to-point link the advertisements come from this end."""
    head = struct.pack("=BBBBi", 2, 32, 0, 0, 4)
    body = head + attribute(1, bytes((10, 0, 0, 2))) + attribute(2, bytes((10, 0, 0, 1)))
    assert str(parse_address(body).address) == "10.0.0.1/32"


def test_attributes_that_are_cut_do_not_crash() -> None:
    """What is missing is empty."""
    body = body_of(new_macvlan("carp0", 17, MAC, 5))
    whole = parse_link(body)
    for length in range(16, len(body)):
        cut = parse_link(body[:length])
        assert cut.index == whole.index
    assert parse_link(body[:16]).name == ""
    assert parse_link(body[:16] + bytes(40)).name == ""


def test_whom_a_filter_message_concerns() -> None:
    """Messages about traffic control carry the link's index; others are not about filters."""
    body = struct.pack("=Bxxxi", 0, 23) + bytes(12)
    assert filter_index(RTM_NEWQDISC, body) == 23
    assert filter_index(RTM_DELTFILTER, body) == 23
    assert filter_index(RTM_NEWLINK, body) is None
