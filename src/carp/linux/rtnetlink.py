"""rtnetlink messages as bytes, both ways (rtnetlink(7), netlink(7)); host byte order, attributes padded to 4 bytes.

Only what carpd needs: macvlans, link flags, addresses; `prefix_route` adds routes. A general library was measured at 13 MB and
0.18 s of start-up for these few messages, and the takeover path needs them as prepared bytes anyway.
"""

import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import NamedTuple

from ..protocol.values import InterfaceAddress

NLMSG_ERROR = 2
NLMSG_DONE = 3
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWQDISC = 36
RTM_DELQDISC = 37
RTM_NEWTFILTER = 44
RTM_DELTFILTER = 45

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP_INTR = 0x10

IFF_UP = 0x1
IFF_RUNNING = 0x40
IFA_F_NODAD = 0x02
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IFA_F_NOPREFIXROUTE = 0x200
CARP_ADDRESS_PROTOCOL = 112
"""The tag (IFA_PROTO) on every address that carpd adds, so that it knows its own again."""

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_GROUP = 1, 3, 5, 18, 27
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_MACVLAN_MODE = 1, 2, 1
_MACVLAN_MODE_BRIDGE = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS, _IFA_PROTO = 1, 2, 4, 8, 11
_LINK_ATTRIBUTES = frozenset((_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_GROUP))
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_AF_INET, _AF_INET6 = 2, 10

HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
_UNSIGNED = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel reports it; `running` is False only where the link is known to be down."""

    index: int
    name: str
    up: bool
    running: bool
    mac: bytes
    kind: str
    parent_index: int
    group: int


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address on a link; `protocol` is CARP_ADDRESS_PROTOCOL on carpd's own."""

    index: int
    address: InterfaceAddress
    flags: int
    protocol: int


class AddressReport(NamedTuple):
    """What the kernel says of an address, as far as it can be read without making objects of it.

    `packed` and `prefix_length` tell one address of a link from another.
    """

    link_index: int
    packed: bytes
    prefix_length: int
    flags: int
    protocol: int

    def parsed(self) -> LinkAddress:
        """Make of it what the rest of the daemon goes by."""
        return LinkAddress(self.link_index, interface_address(self.packed, self.prefix_length), self.flags, self.protocol)


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute with its padding."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Encode one message; sequence 0 is patched when it is sent."""
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def new_macvlan(name: str, parent_index: int, mac: bytes | None, group: int) -> bytes:
    """Create a macvlan in bridge mode, link down, in a link group; fails if the name is taken.

    With `mac` None the kernel makes up a locally administered one.
    """
    data = attribute(_IFLA_INFO_DATA | _NESTED, attribute(_IFLA_MACVLAN_MODE, struct.pack("=I", _MACVLAN_MODE_BRIDGE)))
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + attribute(_IFLA_LINK, struct.pack("=I", parent_index))
        + (attribute(_IFLA_ADDRESS, mac) if mac is not None else b"")
        + attribute(_IFLA_GROUP, struct.pack("=I", group))
        + attribute(_IFLA_LINKINFO | _NESTED, attribute(_IFLA_INFO_KIND, b"macvlan") + data)
    )
    return message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def new_bridge(name: str, group: int) -> bytes:
    """Create a bridge without ports, link down, in a link group; fails if the name is taken."""
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + attribute(_IFLA_GROUP, struct.pack("=I", group))
        + attribute(_IFLA_LINKINFO | _NESTED, attribute(_IFLA_INFO_KIND, b"bridge"))
    )
    return message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


@lru_cache(maxsize=16384)
def set_link(index: int, *, up: bool) -> bytes:
    """Bring a link up or down."""
    return message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP))


def set_link_mac(index: int, mac: bytes) -> bytes:
    """Change the MAC of a link."""
    return message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_ADDRESS, mac))


def delete_link(index: int) -> bytes:
    """Delete one link."""
    return message(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0))


def delete_group(group: int) -> bytes:
    """Delete every link of a group in one go: one grace period of the kernel instead of one for each."""
    return message(RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_GROUP, struct.pack("=I", group)))


@lru_cache(maxsize=16384)
def new_address(index: int, address: InterfaceAddress, flags: int) -> bytes:
    """Add an address or replace the one that is there; `flags` are IFA_F_*."""
    extra = attribute(_IFA_FLAGS, struct.pack("=I", flags)) + attribute(_IFA_PROTO, bytes((CARP_ADDRESS_PROTOCOL,)))
    if isinstance(address.ip, IPv4Address) and address.network.prefixlen < 31:
        extra += attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    return message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address_body(index, address) + extra)


@lru_cache(maxsize=16384)
def delete_address(index: int, address: InterfaceAddress) -> bytes:
    """Delete an address."""
    return message(RTM_DELADDR, 0, _address_body(index, address))


def get_links() -> bytes:
    """Ask for all links."""
    return message(RTM_GETLINK, NLM_F_DUMP, _LINK.pack(0, 0, 0, 0, 0))


def get_addresses() -> bytes:
    """Ask for all addresses of both families."""
    return message(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0))


def _address_body(index: int, address: InterfaceAddress) -> bytes:
    family = _AF_INET if isinstance(address.ip, IPv4Address) else _AF_INET6
    packed = address.ip.packed
    header = _ADDRESS.pack(family, address.network.prefixlen, 0, 0, index)
    return header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split what was received into (type, flags, sequence, body)."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attributes_of(body: bytes, offset: int, only: Container[int] | None = None) -> dict[int, bytes]:
    """Read the attributes from an offset on, by their kind without flags; of these kinds alone, if they are given."""
    found = {}
    end = len(body) - _ATTRIBUTE.size
    unpack = _ATTRIBUTE.unpack_from
    while offset <= end:
        length, kind = unpack(body, offset)
        if length < _ATTRIBUTE.size:
            break
        kind &= _TYPE_MASK
        if only is None or kind in only:
            found[kind] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _number(attributes: dict[int, bytes], kind: int) -> int:
    value = attributes.get(kind)
    return struct.unpack("=I", value)[0] if value is not None and len(value) == 4 else 0


def _text(attributes: dict[int, bytes], kind: int) -> str:
    return attributes.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def link_name(body: bytes) -> tuple[int, str]:
    """Read no more than the index and the name from the body of RTM_NEWLINK or RTM_DELLINK."""
    _, _, index, _, _ = _LINK.unpack_from(body)
    length, kind = _ATTRIBUTE.unpack_from(body, _LINK.size) if len(body) > _LINK.size else (0, 0)
    if kind != _IFLA_IFNAME:  # the kernel writes it first, but need not
        return index, _text(attributes_of(body, _LINK.size, (_IFLA_IFNAME,)), _IFLA_IFNAME)
    return index, body[_LINK.size + _ATTRIBUTE.size : _LINK.size + length].rstrip(b"\0").decode(errors="replace")


def parse_link(body: bytes) -> Link:
    """Read the body of RTM_NEWLINK or RTM_DELLINK."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    attributes = attributes_of(body, _LINK.size, _LINK_ATTRIBUTES)
    info = attributes_of(attributes.get(_IFLA_LINKINFO, b""), 0)
    return Link(
        index=index,
        name=_text(attributes, _IFLA_IFNAME),
        up=bool(flags & IFF_UP),
        running=bool(flags & IFF_RUNNING),
        mac=attributes.get(_IFLA_ADDRESS, b""),
        kind=_text(info, _IFLA_INFO_KIND),
        parent_index=_number(attributes, _IFLA_LINK),
        group=_number(attributes, _IFLA_GROUP),
    )


def filter_index(kind: int, body: bytes) -> int | None:
    """Return the link that a message about a qdisc or a filter concerns, None for a message of another kind."""
    if kind not in (RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER):
        return None
    index: int = struct.unpack_from("=i", body, 4)[0]
    return index


def address_index(body: bytes) -> int:
    """Read nothing but the index of the link from the body of RTM_NEWADDR or RTM_DELADDR."""
    index: int = _ADDRESS.unpack_from(body)[4]
    return index


def read_address(body: bytes) -> AddressReport:
    """Read it no further than is needed at once: hundreds of such bodies come in the middle of a takeover."""
    _, prefix_length, flags, _, index = _ADDRESS.unpack_from(body)
    packed = local = b""
    protocol = 0
    offset, end = _ADDRESS.size, len(body) - _ATTRIBUTE.size
    while offset <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind == _IFA_ADDRESS:
            packed = body[offset + 4 : offset + length]
        elif kind == _IFA_LOCAL:
            local = body[offset + 4 : offset + length]
        elif kind == _IFA_FLAGS:
            flags = _UNSIGNED.unpack_from(body, offset + 4)[0]
        elif kind == _IFA_PROTO:
            protocol = body[offset + 4]
        offset += (length + 3) & ~3
    # On a point-to-point link IFA_ADDRESS is the other end's.
    return AddressReport(index, local or packed, prefix_length, flags, protocol)


@lru_cache(maxsize=16384)
def interface_address(packed: bytes, prefix_length: int) -> InterfaceAddress:
    """Make an address of 4 or 16 bytes."""
    kind = IPv4Interface if len(packed) == 4 else IPv6Interface
    return kind((packed, prefix_length))


def parse_address(body: bytes) -> LinkAddress:
    """Read the body of RTM_NEWADDR or RTM_DELADDR."""
    return read_address(body).parsed()
