"""Stations of a LAN that exist as frames only: thousands of addresses, each with a MAC of its own, behind one interface.

A station asks for the MAC of a shared address by ARP or neighbour solicitation, and sends numbered questions to it in UDP.
Its answers come back through the client's own address, which the hosts have as the gateway to the stations' networks, so
that no host needs thousands of neighbours.

The payload of a question is its flow, its number and the complement of its number: a checksum is the same for all numbers.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from lab.wire import checksum

MOST = 10_000
PORT = 7114
QUESTION = struct.Struct("!III")
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
ETHERNET, HEADER4, HEADER6, UDP = 14, 20, 40, 8
_PROTOCOL_UDP, _PROTOCOL_ICMP6 = 17, 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ALL = b"\xff" * 6
_LINK_ADDRESS_OPTION, _TARGET_LINK_ADDRESS_OPTION = 1, 2
# Coprime to the number of addresses: flows are scattered over the network, no two at one address.
_SCATTER = 0x9E3B


@dataclass(frozen=True, slots=True)
class Station:
    """One station: the flow it sends, and its addresses of both families, packed."""

    flow: int
    mac: bytes
    ipv4: bytes
    ipv6: bytes

    def source(self, target: str) -> bytes:
        """Return the address that questions to a shared address come from."""
        return self.ipv6 if ":" in target else self.ipv4


def networks(lan: int = 0) -> tuple[IPv4Network, IPv6Network]:
    """Return the networks of the stations on one of four LANs; a host that is on several needs a route to each."""
    return IPv4Network(f"10.77.{64 * lan}.0/18"), IPv6Network(f"2001:db8:77:{lan}::/64")


def stations(count: int, lan: int = 0) -> list[Station]:
    """Return the stations 0..count-1 of a LAN; at most MOST."""
    if not 0 < count <= MOST:
        raise ValueError(f"{count} flows: there are 1..{MOST}")
    network4, network6 = networks(lan)
    prefix = network6.network_address.packed[:8]
    found = []
    for flow in range(count):
        ipv4 = network4[1 + flow * _SCATTER % (network4.num_addresses - 2)].packed
        # The modulo of a host count sees the low bits, so they are to look like those of addresses that hosts make up.
        tail = (flow * 0x9E3779B97F4A7C15 + 0x7F4A7C15) & 0xFFFFFFFFFFFFFFFF
        found.append(Station(flow, b"\x02\x77" + struct.pack("!I", flow), ipv4, prefix + struct.pack("!Q", tail)))
    return found


def request(station: Station, target: str) -> bytes:
    """Return the frame that asks for the MAC of an address: an ARP request, or a neighbour solicitation with its MAC."""
    packed = ip_address(target).packed
    if len(packed) == 4:
        head = _ALL + station.mac + struct.pack("!H", ARP)
        return head + struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + station.mac + station.ipv4 + bytes(6) + packed
    group = bytes.fromhex("ff0200000000000000000001ff") + packed[13:]
    option = bytes((_LINK_ADDRESS_OPTION, 1)) + station.mac
    message = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + packed + option
    pseudo = station.ipv6 + group + struct.pack("!II", len(message), _PROTOCOL_ICMP6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 0x60000000, len(message), _PROTOCOL_ICMP6, 255) + station.ipv6 + group
    return b"\x33\x33" + group[12:] + station.mac + struct.pack("!H", IPV6) + header + message


def question(station: Station, target: str, mac: bytes) -> bytearray:
    """Return the frame of a question to an address at a MAC; `number` sets which one it is."""
    packed, source = ip_address(target).packed, station.source(target)
    payload = QUESTION.pack(station.flow, 0, 0xFFFFFFFF)
    length = UDP + len(payload)
    udp = struct.pack("!HHHH", PORT, PORT, length, 0) + payload
    if len(packed) == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, HEADER4 + length, 0, 0, 64, _PROTOCOL_UDP, 0) + source + packed
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        return bytearray(mac + station.mac + struct.pack("!H", IPV4) + header + udp)
    pseudo = source + packed + struct.pack("!II", length, _PROTOCOL_UDP)
    udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    header = struct.pack("!IHBB", 0x60000000, length, _PROTOCOL_UDP, 64) + source + packed
    return bytearray(mac + station.mac + struct.pack("!H", IPV6) + header + udp)


def number(frame: bytearray, value: int) -> bytearray:
    """Give the frame of a question its number, 0..2**32-1; return it."""
    struct.pack_into("!II", frame, len(frame) - 8, value, value ^ 0xFFFFFFFF)
    return frame


@dataclass(frozen=True, slots=True)
class Resolved:
    """Somebody told a station the MAC of a shared address."""

    flow: int
    address: str
    mac: bytes
    ethernet_source: bytes


def resolved(frame: bytes) -> Resolved | None:
    """Read an ARP reply or a solicited neighbour advertisement that was sent to a station; None for all other frames."""
    kind = frame[12:14]
    if kind == b"\x08\x06" and len(frame) >= 42 and frame[20:22] == b"\0\2" and frame[32:34] == b"\x02\x77":
        return _told(frame[34:38], frame[28:32], frame[22:28], frame[6:12])
    # A header without extensions, an advertisement with one option.
    if kind != b"\x86\xdd" or len(frame) < 86 or frame[20] != _PROTOCOL_ICMP6 or frame[54] != _ADVERTISEMENT:
        return None
    if frame[78] != _TARGET_LINK_ADDRESS_OPTION or frame[0:2] != b"\x02\x77":
        return None
    return _told(frame[2:6], frame[62:78], frame[80:86], frame[6:12])


def _told(flow: bytes, address: bytes, mac: bytes, source: bytes) -> Resolved:
    return Resolved(int.from_bytes(flow, "big"), str(ip_address(address)), mac, source)


def answer(frame: bytes) -> tuple[int, int, int] | None:
    """Read the answer to a question: the host's index, the flow and the question's number; None for all other frames."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        start = ETHERNET + HEADER4
        protocol = frame[ETHERNET + 9]
    elif kind == b"\x86\xdd":
        start = ETHERNET + HEADER6
        protocol = frame[ETHERNET + 6]
    else:
        return None
    if protocol != _PROTOCOL_UDP or frame[start : start + 2] != PORT.to_bytes(2, "big"):
        return None
    body = start + UDP
    flow, number, complement = QUESTION.unpack_from(frame, body + 1)
    return (frame[body], flow, number) if number ^ complement == 0xFFFFFFFF else None


def node_of(source: bytes, destination: bytes, count: int) -> int:
    """Say which node takes a packet: all 32-bit words of both addresses XORed, modulo the number of nodes (WIRE.md 8)."""
    folded = 0
    for (word,) in struct.iter_unpack("!I", source + destination):
        folded ^= word
    return folded % count


def wanted_nodes(flows: Sequence[Station], target: str, count: int) -> list[int]:
    """Return for each flow to a shared address the node that the balancing of packets gives it."""
    packed = ip_address(target).packed
    return [node_of(one.source(target), packed, count) for one in flows]


def family_of(target: str) -> socket.AddressFamily:
    """Return the address family of an address."""
    return socket.AF_INET6 if ":" in target else socket.AF_INET
