"""Advertisements made by hand, right or wrong in any field, independently of the code under test.

The layout and the digest are those of the BSDs: a header of 36 bytes, then HMAC-SHA1 over version, type, vhid, the sorted
addresses and the counter, with the pass phrase as key.
"""

import hmac
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

GROUP4, GROUP6 = "224.0.0.18", "ff02::12"
_GROUP_MAC = {4: bytes.fromhex("01005e000012"), 6: bytes.fromhex("333300000012")}
_ETHER_TYPE = {4: 0x0800, 6: 0x86DD}
PROTOCOL = 112


def checksum(data: bytes) -> int:
    """Return the Internet checksum."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def digest(password: str, vhid: int, addresses: Iterable[str], counter: bytes) -> bytes:
    """Return the digest for a pass phrase and addresses without prefix lengths."""
    shared = sorted({ipaddress.ip_address(address) for address in addresses}, key=lambda one: (one.version, int(one)))
    text = bytes((2, 1, vhid)) + b"".join(address.packed for address in shared) + counter
    return hmac.digest(password.encode().ljust(20, b"\0"), text, "sha1")


@dataclass(frozen=True)
class Forgery:
    """An advertisement; every field can be made wrong. `payload` replaces the 36 bytes altogether."""

    password: str = "opensesame"
    vhid: int = 1
    addresses: tuple[str, ...] = ("192.0.2.100", "2001:db8::100")
    advbase: int = 1
    advskew: int = 0
    demote: int = 0
    version: int = 2
    ttl: int = 255
    source: str = "192.0.2.66"
    destination: str = ""
    counter: bytes = b""
    spoil_checksum: bool = False
    spoil_digest: bool = False
    payload: bytes | None = None
    protocol: int = PROTOCOL
    fragment: int = 0x4000

    def header(self) -> bytes:
        """Return the CARP header of 36 bytes."""
        counter = self.counter or os.urandom(8)
        seal = digest(self.password, self.vhid, self.addresses, counter)
        if self.spoil_digest:
            seal = bytes((seal[0] ^ 1,)) + seal[1:]
        fields = (self.version << 4 | 1, self.vhid, self.advskew, 7, self.demote, self.advbase)
        total = checksum(struct.pack("!6BH8s20s", *fields, 0, counter, seal)) ^ (0x5555 if self.spoil_checksum else 0)
        return struct.pack("!6BH8s20s", *fields, total, counter, seal)

    def packet(self) -> bytes:
        """Return the IP packet."""
        payload = self.header() if self.payload is None else self.payload
        source = ipaddress.ip_address(self.source)
        if source.version == 6:
            head = struct.pack("!IHBB", 0x60000000, len(payload), self.protocol, self.ttl)
            return head + source.packed + ipaddress.ip_address(self.destination or GROUP6).packed + payload
        parts = (0x45, 0x10, 20 + len(payload), 0, self.fragment, self.ttl, self.protocol)
        ends = source.packed + ipaddress.ip_address(self.destination or GROUP4).packed
        total = checksum(struct.pack("!BBHHHBBH", *parts, 0) + ends)
        return struct.pack("!BBHHHBBH", *parts, total) + ends + payload

    def frame(self, source_mac: bytes | None = None, vlan: int | None = None) -> bytes:
        """Return the Ethernet frame to the multicast group, from the virtual MAC unless another is given."""
        version = ipaddress.ip_address(self.source).version
        mac = source_mac or bytes((0, 0, 0x5E, 0, 1, self.vhid & 0xFF))
        tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
        return _GROUP_MAC[version] + mac + tag + struct.pack("!H", _ETHER_TYPE[version]) + self.packet()


def inject(raw: socket.socket, frames: Iterable[bytes]) -> int:
    """Send frames through a packet socket that is bound to an interface; return how many."""
    return sum(1 for frame in frames if raw.send(frame))
