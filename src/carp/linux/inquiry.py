"""The frame that asks a LAN who has an address: an ARP request or a neighbour solicitation."""

import struct
from ipaddress import IPv4Address

from ..protocol.packet import internet_checksum, pseudo_header
from ..protocol.values import Address

_BROADCAST_MAC = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST = 1
_ICMPV6 = 58
_NEIGHBOUR_SOLICITATION = 135
_SOURCE_LINK_ADDRESS = 1
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")


def inquiry(target: Address, mac: bytes, source: bytes) -> bytes:
    """Return the frame that asks for `target` from this MAC and packed address, zeros where there is none (RFC 5227, 4861)."""
    if isinstance(target, IPv4Address):
        body = _ARP.pack(1, 0x0800, 6, 4, _ARP_REQUEST, mac, source, bytes(6), target.packed)
        return _BROADCAST_MAC + mac + b"\x08\x06" + body
    group = _SOLICITED_NODE + target.packed[-3:]
    # Without a source there must be no source link-layer address (RFC 4861 section 4.3).
    option = bytes((_SOURCE_LINK_ADDRESS, 1)) + mac if any(source) else b""
    bare = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + target.packed + option
    checksum = internet_checksum(pseudo_header(source, group, len(bare), _ICMPV6) + bare)
    header = struct.pack("!IHBB16s16s", 6 << 28, len(bare), _ICMPV6, 255, source, group)
    return b"\x33\x33" + group[-4:] + mac + b"\x86\xdd" + header + bare[:2] + struct.pack("!H", checksum) + bare[4:]
