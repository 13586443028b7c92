"""The advertisement on the wire: IP packet to value and back (PROTOCOL.md section 1, WIRE.md sections 1 and 5).

The CARP header follows the IP header directly, protocol 112, all numbers big endian::

     0                   1                   2                   3
    +-------+-------+---------------+---------------+---------------+
    |version| type  |     vhid      |    advskew    |   authlen 7   |
    +-------+-------+---------------+---------------+---------------+
    |    demote     |    advbase    |           checksum            |
    +---------------+---------------+-------------------------------+
    |                        counter, 8 bytes                       |
    +---------------------------------------------------------------+
    |                  digest, 20 bytes (HMAC-SHA1)                 |
    +---------------------------------------------------------------+

advskew is in 1/256 s, advbase in s. The checksum is the Internet checksum of these 36 bytes; NetBSD of 2023 adds the IPv6
pseudo header, so both forms are accepted over IPv6. Nobody checks the type or authlen.
"""

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Self

from .values import Family, plain

IP_PROTOCOL_CARP = 112
HEADER_BYTES = 36
IPV4_HEADER_BYTES = 20
IPV6_HEADER_BYTES = 40
TTL = 255
BOW_OUT = 255
"""The advbase and the advskew of a MASTER that leaves (PROTOCOL.md 3.7)."""

IPV4_GROUP = bytes((224, 0, 0, 18))
IPV6_GROUP = bytes.fromhex("ff020000000000000000000000000012")
GROUP = {Family.IPV4: IPV4_GROUP, Family.IPV6: IPV6_GROUP}
GROUP_MAC = {Family.IPV4: bytes.fromhex("01005e000012"), Family.IPV6: bytes.fromhex("333300000012")}

_VERSION_2_TYPE_1 = 0x21
_AUTHLEN = 7
_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_HEADER = struct.Struct("!BBBBBBH8s20s")
_HEADER_WORDS = struct.Struct("!18H")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")


@plain
class DropReason(Enum):
    """Why a packet was refused. Each member is one counter; its value is the metric label.

    `bsd` names the counter of the BSDs' carpstats that it belongs to (PROTOCOL.md 1.5).
    """

    BAD_INTERFACE = "bad-interface", "badif"
    VLAN_TAGGED = "vlan-tagged", "badif"
    BAD_DESTINATION = "bad-destination", "badif"
    BAD_IP_HEADER = "bad-ip-header", "hdrops"
    FRAGMENT = "fragment", "hdrops"
    BAD_TTL = "bad-ttl", "badttl"
    TOO_SHORT = "too-short", "badlen"
    FOREIGN_VRRP = "foreign-vrrp", "badver"
    BAD_CHECKSUM = "bad-checksum", "badsum"
    BAD_VERSION = "bad-version", "badver"
    BAD_VHID = "bad-vhid", "badvhid"
    BAD_DIGEST = "bad-digest", "badauth"
    ECHO = "echo", "badauth"

    bsd: str

    def __new__(cls, value: str, bsd: str) -> Self:
        """Give the member its label as value and the BSD counter's name beside it."""
        member = object.__new__(cls)
        member._value_ = value
        member.bsd = bsd
        return member


@dataclass(frozen=True, slots=True)
class Advertisement:
    """One advertisement. `counter` is 8 bytes and `digest` 20, as on the wire."""

    vhid: int
    advbase: int
    advskew: int
    demote: int
    counter: bytes
    digest: bytes

    @property
    def is_bow_out(self) -> bool:
        """Tell the farewell of a MASTER: advbase and advskew both 255."""
        return self.advbase == BOW_OUT and self.advskew == BOW_OUT


@dataclass(frozen=True, slots=True)
class Datagram:
    """An IP packet of protocol 112, whole and unfragmented; addresses are packed."""

    family: Family
    source: bytes
    destination: bytes
    ttl: int
    payload: bytes


def internet_checksum(data: bytes) -> int:
    """Return the RFC 1071 checksum of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, length: int, next_header: int) -> bytes:
    """Return the 40 bytes that IPv6 checksums begin with (RFC 8200 section 8.1)."""
    return source + destination + struct.pack("!II", length, next_header)


def encode(advertisement: Advertisement, pseudo: bytes = b"") -> bytes:
    """Return the 36 bytes of an advertisement with its checksum; `pseudo` joins in the sum where a dialect wants it."""
    fields = (
        _VERSION_2_TYPE_1,
        advertisement.vhid,
        advertisement.advskew,
        _AUTHLEN,
        advertisement.demote,
        advertisement.advbase,
    )
    bare = _HEADER.pack(*fields, 0, advertisement.counter, advertisement.digest)
    return _HEADER.pack(*fields, internet_checksum(pseudo + bare), advertisement.counter, advertisement.digest)


def decode(datagram: Datagram) -> Advertisement | DropReason:
    """Read an advertisement, or say why it is none; everything is checked that needs neither configuration nor key.

    The order is FreeBSD's: version before length, since a version tells what the length must be (PROTOCOL.md 1.4).
    """
    payload = datagram.payload
    if _is_vrrp(payload):
        return DropReason.FOREIGN_VRRP
    if len(payload) < HEADER_BYTES:
        return DropReason.TOO_SHORT
    version_type, vhid, advskew, _, demote, advbase, _, counter, digest = _HEADER.unpack_from(payload)
    if not _checksum_holds(datagram):
        return DropReason.BAD_CHECKSUM
    if version_type >> 4 != 2:
        return DropReason.BAD_VERSION
    return Advertisement(vhid, advbase, advskew, demote, counter, digest)


def _is_vrrp(payload: bytes) -> bool:
    """Tell VRRP, which shares the protocol number: 8 bytes, the addresses, and in version 2 eight bytes of authentication.

    VRRP counts its addresses where CARP has authlen 7 (RFC 3768 5.1, RFC 5798 5.1). What could be either is read as CARP.
    """
    if len(payload) < 8 or payload[0] & 0x0F != 1:
        return False
    version, count = payload[0] >> 4, payload[3]
    if version == 2:
        return count != _AUTHLEN and len(payload) == 16 + 4 * count
    return version == 3 and len(payload) != HEADER_BYTES and len(payload) in (8 + 4 * count, 8 + 16 * count)


def _checksum_holds(datagram: Datagram) -> bool:
    """Check the sum over exactly 36 bytes, over IPv6 also in the form with the pseudo header."""
    # A sum that includes its own checksum folds to 0xffff.
    total = sum(_HEADER_WORDS.unpack_from(datagram.payload))
    total = (total & 0xFFFF) + (total >> 16)
    if (total & 0xFFFF) + (total >> 16) == 0xFFFF:
        return True
    if datagram.family is Family.IPV4:
        return False
    pseudo = pseudo_header(datagram.source, datagram.destination, len(datagram.payload), IP_PROTOCOL_CARP)
    return internet_checksum(pseudo + datagram.payload[:HEADER_BYTES]) == 0


def ipv4_packet(source: bytes, destination: bytes, payload: bytes, *, tos: int, identification: int) -> bytes:
    """Put an IPv4 header before the payload: DF, TTL 255, no options (PROTOCOL.md 1.2)."""
    length = IPV4_HEADER_BYTES + len(payload)
    fields = (0x45, tos, length, identification, _DONT_FRAGMENT, TTL, IP_PROTOCOL_CARP)
    checksum = internet_checksum(_IPV4.pack(*fields, 0, source, destination))
    return _IPV4.pack(*fields, checksum, source, destination) + payload


def ipv6_packet(source: bytes, destination: bytes, payload: bytes, *, traffic_class: int, hop_limit: int = TTL) -> bytes:
    """Put an IPv6 header before the payload: flow label 0, and hop limit 255 unless it has come a way (PROTOCOL.md 1.2)."""
    return _IPV6.pack(6 << 28 | traffic_class << 20, len(payload), IP_PROTOCOL_CARP, hop_limit, source, destination) + payload


def destination_of(family: Family, packet: bytes) -> bytes:
    """Return the packed destination of an IP packet."""
    return packet[16:IPV4_HEADER_BYTES] if family is Family.IPV4 else packet[24:IPV6_HEADER_BYTES]


def parse_ip(family: Family, packet: bytes) -> Datagram | DropReason:
    """Take an IP packet apart; bytes behind its own length (Ethernet padding) are ignored."""
    return _parse_ipv4(packet) if family is Family.IPV4 else _parse_ipv6(packet)


def _parse_ipv4(packet: bytes) -> Datagram | DropReason:
    if len(packet) < IPV4_HEADER_BYTES:
        return DropReason.BAD_IP_HEADER
    first, _, length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
    header_bytes = (first & 0x0F) * 4
    if first >> 4 != 4 or header_bytes < IPV4_HEADER_BYTES or not header_bytes <= length <= len(packet):
        return DropReason.BAD_IP_HEADER
    if internet_checksum(packet[:header_bytes]) != 0 or protocol != IP_PROTOCOL_CARP:
        return DropReason.BAD_IP_HEADER
    if fragment & _MORE_FRAGMENTS_OR_OFFSET:
        return DropReason.FRAGMENT
    return Datagram(Family.IPV4, source, destination, ttl, packet[header_bytes:length])


def _parse_ipv6(packet: bytes) -> Datagram | DropReason:
    if len(packet) < IPV6_HEADER_BYTES:
        return DropReason.BAD_IP_HEADER
    first, length, next_header, hop_limit, source, destination = _IPV6.unpack_from(packet)
    if first >> 28 != 6 or IPV6_HEADER_BYTES + length > len(packet):
        return DropReason.BAD_IP_HEADER
    if next_header == 44:
        return DropReason.FRAGMENT
    if next_header != IP_PROTOCOL_CARP:
        return DropReason.BAD_IP_HEADER
    return Datagram(Family.IPV6, source, destination, hop_limit, packet[IPV6_HEADER_BYTES : IPV6_HEADER_BYTES + length])
