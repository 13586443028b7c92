"""A peer on paper: advertisements as another host would send them, and wrong ones of each kind.

The digest is made here from the specification with the standard library's HMAC, not with the code under test, so that a test
that uses these packets compares two independent makings.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from carp.protocol.auth import ZERO_KEY, Key, key_from_passphrase
from carp.protocol.events import PacketArrived
from carp.protocol.packet import (
    BOW_OUT,
    GROUP,
    IP_PROTOCOL_CARP,
    IPV4_HEADER_BYTES,
    IPV6_HEADER_BYTES,
    Advertisement,
    DropReason,
    encode,
    internet_checksum,
    ipv4_packet,
    ipv6_packet,
    pseudo_header,
)
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import Address, Family, Instant, InterfaceAddress

from .hosts import KEY, PARENT, VIP4, station_sources

SOURCE = station_sources(200)
"""Where the peer sends from: higher than any station of a virtual LAN, so that the peer loses ties."""

_FIRST_COUNTER = 0x7000_0000_0000_0000
_TTL_OFFSET = {Family.IPV4: 8, Family.IPV6: 7}
_HEADER_BYTES = {Family.IPV4: IPV4_HEADER_BYTES, Family.IPV6: IPV6_HEADER_BYTES}


def digest_of(key: Key, vhid: int, addresses: Iterable[Address], counter: bytes, *, link_local: bool = False) -> bytes:
    """Make the digest of the specification: sorted addresses without duplicates, IPv4 first."""
    listed = {one.packed for one in addresses if link_local or one.version == 4 or not one.is_link_local}
    ordered = sorted(listed, key=lambda packed: (len(packed), packed))
    return hmac.new(key, b"\x02\x01" + bytes((vhid,)) + b"".join(ordered) + counter, hashlib.sha1).digest()


def repair_ipv4_header(packet: bytes) -> bytes:
    """Make the checksum of an IPv4 header right again."""
    header_bytes = (packet[0] & 0x0F) * 4
    bare = packet[:10] + b"\0\0" + packet[12:header_bytes]
    return packet[:10] + internet_checksum(bare).to_bytes(2) + packet[12:]


def repair_carp_header(packet: bytes, family: Family = Family.IPV4) -> bytes:
    """Make the checksum of the CARP header in an IP packet without options right again."""
    start = _HEADER_BYTES[family]
    payload = packet[start:]
    checksum = internet_checksum(payload[:6] + b"\0\0" + payload[8:36])
    return packet[:start] + payload[:6] + checksum.to_bytes(2) + payload[8:]


def change_byte(packet: bytes, offset: int, value: int) -> bytes:
    """Return the packet with another byte at `offset`."""
    return packet[:offset] + bytes((value,)) + packet[offset + 1 :]


@dataclass(slots=True)
class Peer:
    """Another host of one virtual host's group; each packet takes the next counter."""

    vhid: int = 1
    addresses: tuple[InterfaceAddress, ...] = (VIP4,)
    key: Key = KEY
    sources: dict[Family, bytes] = field(default_factory=lambda: dict(SOURCE))
    counter: int = _FIRST_COUNTER
    advbase: int = 1
    advskew: int = 0
    demote: int = 0
    parent: str = PARENT

    @classmethod
    def of(cls, interface: InterfaceParameters, vhid: int | None = None) -> "Peer":
        """Make a peer that has the same settings as this carp interface, for one of its virtual hosts."""
        node = next(one for one in interface.nodes if vhid in (None, one.vhid))
        return cls(
            vhid=node.vhid,
            addresses=interface.addresses,
            key=interface.key,
            advbase=interface.advbase,
            advskew=node.advskew,
            parent=interface.carpdev,
        )

    def advertisement(
        self,
        family: Family = Family.IPV4,
        *,
        advbase: int | None = None,
        advskew: int | None = None,
        demote: int | None = None,
        link_local: bool = False,
        pseudo: bool = False,
    ) -> bytes:
        """Return a valid advertisement as an IP packet; what is not given is as the peer's fields say."""
        source = self.sources[family]
        value = Advertisement(
            self.vhid,
            self.advbase if advbase is None else advbase,
            self.advskew if advskew is None else advskew,
            self.demote if demote is None else demote,
            *self._counter_and_digest(link_local=link_local),
        )
        if family is Family.IPV4:
            return ipv4_packet(source, GROUP[family], encode(value), tos=0x10, identification=0)
        summed = pseudo_header(source, GROUP[family], 36, IP_PROTOCOL_CARP) if pseudo else b""
        return ipv6_packet(source, GROUP[family], encode(value, summed), traffic_class=0)

    def bow_out(self, family: Family = Family.IPV4, *, demote: int = 0) -> bytes:
        """Return the farewell of a MASTER."""
        return self.advertisement(family, advbase=BOW_OUT, advskew=BOW_OUT, demote=demote)

    def wrong(self, reason: DropReason, family: Family = Family.IPV4) -> bytes:
        """Return a packet that must be refused for this reason and for no other.

        Raises:
            KeyError: nothing in the packet is wrong: it is where it arrives, or that it was our own.
        """
        return WRONG[reason](self, family)

    def arrives(
        self, packet: bytes, at: int, family: Family = Family.IPV4, *, vlan_tagged: bool = False, parent: str | None = None
    ) -> PacketArrived:
        """Wrap a packet in the event of its arrival."""
        return PacketArrived(self.parent if parent is None else parent, family, packet, Instant(at), vlan_tagged)

    def _counter_and_digest(self, *, link_local: bool) -> tuple[bytes, bytes]:
        counter = self.counter.to_bytes(8)
        self.counter += 1
        addresses = [address.ip for address in self.addresses]
        return counter, digest_of(self.key, self.vhid, addresses, counter, link_local=link_local)


def vrrp_packet(family: Family = Family.IPV4, *, version: int | None = None, addresses: int = 1) -> bytes:
    """Return an advertisement of VRRP, which shares the protocol number and the group: version 2, over IPv6 3."""
    version = (2 if family is Family.IPV4 else 3) if version is None else version
    width = 4 if family is Family.IPV4 else 16
    listed = b"".join(bytes(width - 1) + bytes((number + 1,)) for number in range(addresses))
    tail = bytes(8) if version == 2 else b""
    bare = bytes((version << 4 | 1, 1, 100, addresses, 0, 1, 0, 0)) + listed + tail
    payload = bare[:6] + internet_checksum(bare).to_bytes(2) + bare[8:]
    if family is Family.IPV4:
        return ipv4_packet(SOURCE[family], GROUP[family], payload, tos=0xC0, identification=7)
    return ipv6_packet(SOURCE[family], GROUP[family], payload, traffic_class=0xC0)


def _cut(packet: bytes, family: Family, payload_bytes: int) -> bytes:
    start = _HEADER_BYTES[family]
    short = packet[: start + payload_bytes]
    if family is Family.IPV4:
        return repair_ipv4_header(short[:2] + len(short).to_bytes(2) + short[4:])
    return short[:4] + payload_bytes.to_bytes(2) + short[6:]


def _bad_ip_header(peer: Peer, family: Family) -> bytes:
    packet = peer.advertisement(family)
    if family is Family.IPV4:
        return change_byte(packet, 10, packet[10] ^ 0xFF)
    return change_byte(packet, 6, 0)


def _fragment(peer: Peer, family: Family) -> bytes:
    packet = peer.advertisement(family)
    if family is Family.IPV4:
        return repair_ipv4_header(change_byte(packet, 6, 0x20))
    extended = bytes((IP_PROTOCOL_CARP, 0, 0, 1, 0, 0, 0, 7)) + packet[IPV6_HEADER_BYTES:]
    return packet[:4] + len(extended).to_bytes(2) + bytes((44,)) + packet[7:IPV6_HEADER_BYTES] + extended


def _bad_ttl(peer: Peer, family: Family) -> bytes:
    packet = change_byte(peer.advertisement(family), _TTL_OFFSET[family], 254)
    return repair_ipv4_header(packet) if family is Family.IPV4 else packet


def _bad_destination(peer: Peer, family: Family) -> bytes:
    packet = peer.advertisement(family)
    if family is Family.IPV4:
        return repair_ipv4_header(change_byte(packet, 19, 19))
    return change_byte(packet, 39, 0x13)


def _bad_checksum(peer: Peer, family: Family) -> bytes:
    packet = peer.advertisement(family)
    offset = _HEADER_BYTES[family] + 2
    return change_byte(packet, offset, packet[offset] ^ 1)


def _bad_version(peer: Peer, family: Family) -> bytes:
    packet = change_byte(peer.advertisement(family), _HEADER_BYTES[family], 0x11)
    return repair_carp_header(packet, family)


def _bad_vhid(peer: Peer, family: Family) -> bytes:
    return replace(peer, vhid=peer.vhid % 255 + 1).advertisement(family)


def _bad_digest(peer: Peer, family: Family) -> bytes:
    other = ZERO_KEY if peer.key != ZERO_KEY else key_from_passphrase("wrong")
    return replace(peer, key=other).advertisement(family)


WRONG: dict[DropReason, Callable[[Peer, Family], bytes]] = {
    DropReason.BAD_IP_HEADER: _bad_ip_header,
    DropReason.FRAGMENT: _fragment,
    DropReason.BAD_TTL: _bad_ttl,
    DropReason.BAD_DESTINATION: _bad_destination,
    DropReason.TOO_SHORT: lambda peer, family: _cut(peer.advertisement(family), family, 35),
    DropReason.FOREIGN_VRRP: lambda _peer, family: vrrp_packet(family),
    DropReason.BAD_CHECKSUM: _bad_checksum,
    DropReason.BAD_VERSION: _bad_version,
    DropReason.BAD_VHID: _bad_vhid,
    DropReason.BAD_DIGEST: _bad_digest,
}
"""How to make each packet that is wrong by its bytes; the other reasons lie in where or from whom it arrives."""
