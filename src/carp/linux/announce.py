"""Frames that tell a LAN where an address is now: gratuitous ARP and unsolicited neighbour advertisements.

All come from the MAC that they announce, so that switches learn its port. Of the ARP forms measured on Linux clients, a
request (sender = target = the address) and a reply whose target MAC is the announced one are both heeded; a request can be
answered by a kernel that still holds the address behind the same MAC, which a reply never is. Both are sent, the reply last.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

from ..protocol.packet import internet_checksum, pseudo_header
from ..protocol.values import Address

_BROADCAST_MAC = b"\xff" * 6
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ICMPV6 = 58
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_ROUTER = 0x80000000
_TARGET_LINK_ADDRESS = 2


def announcements(address: Address, mac: bytes, *, router: bool = False) -> list[bytes]:
    """Return the frames that announce an address behind a MAC, in the order in which they are to be sent.

    `router` sets the Router flag of RFC 4861 section 4.4: a host that forwards must not make its clients forget that.
    """
    if isinstance(address, IPv4Address):
        return [_arp(_ARP_REQUEST, address, mac, bytes(6)), _arp(_ARP_REPLY, address, mac, mac)]
    return [_neighbour_advertisement(address, mac, router=router)]


def _arp(operation: int, address: IPv4Address, mac: bytes, target_mac: bytes) -> bytes:
    body = _ARP.pack(1, 0x0800, 6, 4, operation, mac, address.packed, target_mac, address.packed)
    return _BROADCAST_MAC + mac + b"\x08\x06" + body


def _neighbour_advertisement(address: IPv6Address, mac: bytes, *, router: bool) -> bytes:
    flags = _OVERRIDE | (_ROUTER if router else 0)
    option = bytes((_TARGET_LINK_ADDRESS, 1)) + mac
    bare = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, flags) + address.packed + option
    checksum = internet_checksum(pseudo_header(address.packed, _ALL_NODES, len(bare), _ICMPV6) + bare)
    message = bare[:2] + struct.pack("!H", checksum) + bare[4:]
    header = struct.pack("!IHBB16s16s", 6 << 28, len(message), _ICMPV6, 255, address.packed, _ALL_NODES)
    return _ALL_NODES_MAC + mac + b"\x86\xdd" + header + message
