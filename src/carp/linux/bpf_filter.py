"""Classic BPF programs for packet sockets (packet(7), SO_ATTACH_FILTER), written with labels.

The programs look at whole Ethernet frames. A tag of a VLAN has been taken off and stands beside the packet.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from ..protocol.packet import IP_PROTOCOL_CARP
from ..protocol.values import Address

SNAP_BYTES = 512
MOST_ADDRESSES = 1500
"""The kernel takes programs of 4096 instructions; an address costs two."""

ETHERNET_HEADER_BYTES = 14
ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
ARP_SENDER_MAC, ARP_SENDER = 22, 28
"""Offsets in the frame."""
IPV6_NEXT_HEADER = 20
ICMPV6_TYPE, ND_TARGET = 54, 62

_IPV4_PROTOCOL, _IPV4_DESTINATION = 23, 30
_IPV6_DESTINATION = 38
_IPV4_MULTICAST, _IPV4_ABOVE_MULTICAST, _IPV6_MULTICAST = 0xE0, 0xF0, 0xFF
_IPV6_FRAGMENT = 44
_ICMPV6, _NEIGHBOUR_ADVERTISEMENT = 58, 136
_SO_ATTACH_FILTER = 26
_PACKET_OTHERHOST, _PACKET_OUTGOING = 3, 4
_PACKET_TYPE = 0xFFFFF000 + 4
_VLAN_TAGGED = 0xFFFFF000 + 48
_LD_WORD, _LD_HALF, _LD_BYTE, _JA, _JEQ, _JGE, _RET = 0x20, 0x28, 0x30, 0x05, 0x15, 0x35, 0x06


class Instruction(NamedTuple):
    """One instruction; without a label a jump goes on with the next one."""

    code: int
    operand: int
    equal: str = ""
    unequal: str = ""
    label: str = ""


_NOT_FOR_US = (
    Instruction(_LD_BYTE, _PACKET_TYPE),
    Instruction(_JEQ, _PACKET_OTHERHOST, "refuse"),
    Instruction(_JEQ, _PACKET_OUTGOING, "refuse"),
    Instruction(_LD_HALF, 12),
)
_VERDICTS = (Instruction(_RET, 0, label="refuse"), Instruction(_RET, SNAP_BYTES, label="accept"))


def advertisements() -> bytes:
    """Pass protocol 112 to any group, also in fragments: those are for the parser to count.

    What is addressed to this host alone comes through a raw socket, which it reaches after routing and IPsec.
    """
    return _assemble(
        (
            *_NOT_FOR_US,
            Instruction(_JEQ, ETHERTYPE_IPV6, "ipv6"),
            Instruction(_JEQ, ETHERTYPE_IPV4, "", "refuse"),
            Instruction(_LD_BYTE, _IPV4_DESTINATION),
            Instruction(_JGE, _IPV4_MULTICAST, "", "refuse"),
            Instruction(_JGE, _IPV4_ABOVE_MULTICAST, "refuse"),
            Instruction(_LD_BYTE, _IPV4_PROTOCOL),
            Instruction(_JEQ, IP_PROTOCOL_CARP, "accept", "refuse"),
            Instruction(_LD_BYTE, _IPV6_DESTINATION, label="ipv6"),
            Instruction(_JEQ, _IPV6_MULTICAST, "", "refuse"),
            Instruction(_LD_BYTE, IPV6_NEXT_HEADER),
            Instruction(_JEQ, IP_PROTOCOL_CARP, "accept"),
            Instruction(_JEQ, _IPV6_FRAGMENT, "", "refuse"),
            Instruction(_LD_BYTE, ICMPV6_TYPE),
            Instruction(_JEQ, IP_PROTOCOL_CARP, "accept", "refuse"),
            *_VERDICTS,
        )
    )


def claims(addresses: Iterable[Address]) -> bytes:
    """Pass ARP whose sender is one of these addresses, and neighbour advertisements whose target's last four bytes match.

    Those beyond MOST_ADDRESSES are not watched.
    """
    watched = list(dict.fromkeys(addresses))[:MOST_ADDRESSES]
    v4 = [int(address) for address in watched if isinstance(address, IPv4Address)]
    v6 = [int(address) & 0xFFFFFFFF for address in watched if not isinstance(address, IPv4Address)]
    # A jump reaches 255 instructions at most, so every match returns on the spot.
    compare_v4 = [part for value in v4 for part in (Instruction(_JEQ, value, "", "+1"), Instruction(_RET, SNAP_BYTES))]
    compare_v6 = [part for value in v6 for part in (Instruction(_JEQ, value, "", "+1"), Instruction(_RET, SNAP_BYTES))]
    return _assemble(
        (
            Instruction(_LD_BYTE, _VLAN_TAGGED),
            Instruction(_JEQ, 0, "+1"),
            Instruction(_RET, 0),
            Instruction(_LD_HALF, 12),
            Instruction(_JEQ, ETHERTYPE_ARP, "+4"),
            Instruction(_JEQ, ETHERTYPE_IPV6, "", "+1"),
            Instruction(_JA, len(compare_v4) + 4),
            Instruction(_RET, 0),
            Instruction(_RET, 0),
            Instruction(_LD_WORD, ARP_SENDER),
            *compare_v4,
            Instruction(_RET, 0),
            Instruction(_LD_BYTE, IPV6_NEXT_HEADER),
            Instruction(_JEQ, _ICMPV6, "+1"),
            Instruction(_RET, 0),
            Instruction(_LD_BYTE, ICMPV6_TYPE),
            Instruction(_JEQ, _NEIGHBOUR_ADVERTISEMENT, "+1"),
            Instruction(_RET, 0),
            Instruction(_LD_WORD, ND_TARGET + 12),
            *compare_v6,
            Instruction(_RET, 0),
        )
    )


def attach(to: socket.socket, program: bytes) -> None:
    """Attach a program to a socket instead of the one it has; raises OSError."""
    buffer = ctypes.create_string_buffer(program, len(program))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))


def _assemble(program: Sequence[Instruction]) -> bytes:
    places = {instruction.label: place for place, instruction in enumerate(program) if instruction.label}

    def skip(target: str, place: int) -> int:
        if not target:
            return 0
        return int(target) if target.startswith("+") else places[target] - place - 1

    return b"".join(
        struct.pack("=HBBI", one.code, skip(one.equal, place), skip(one.unequal, place), one.operand)
        for place, one in enumerate(program)
    )
