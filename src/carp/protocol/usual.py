"""The usual advertisement, told from its raw bytes: to the group, whole, without IP options, its digest not looked at.

It is what every MASTER sends each second, and nearly all that arrives. One comparison of numbers finds what `packet.parse_ip`
and `packet.decode` would find step by step; about what is not usual those decide, and say why it is refused.
"""

from .packet import GROUP, HEADER_BYTES, IP_PROTOCOL_CARP, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, TTL, Advertisement
from .values import Family

_PAYLOAD_BITS = 8 * HEADER_BYTES
_PAYLOAD = (1 << _PAYLOAD_BITS) - 1
_ENDS_AND_PAYLOAD = (1 << _PAYLOAD_BITS + 8 * 32) - 1
_PSEUDO_TAIL = HEADER_BYTES + IP_PROTOCOL_CARP
"""What the IPv6 pseudo header has besides the addresses, as a sum."""
# Version 2 of any type; with authlen 7 it is no VRRP.
_CARP_SHAPE, _CARP_MASK = bytes.fromhex("20000007") + bytes(32), bytes.fromhex("f00000ff") + bytes(32)


class Usual:
    """Where the parts of the usual advertisement of one family are.

    `source` and `judged` are parts of the packet: the latter holds all that an election looks at, and the vhid is a byte.
    """

    __slots__ = ("_has_header_sum", "_length", "_mask", "_shape", "judged", "source", "vhid")

    def __init__(self, family: Family, shape: bytes, mask: bytes, *, source: int) -> None:
        head, address = len(shape), len(GROUP[family])
        ends = bytes(address) + GROUP[family]
        self._length = head + 2 * address + HEADER_BYTES
        self._shape = int.from_bytes(shape + ends + _CARP_SHAPE)
        self._mask = int.from_bytes(mask + bytes(address) + b"\xff" * address + _CARP_MASK)
        self._has_header_sum = family is Family.IPV4
        self.source = slice(source, source + address)
        self.vhid = self._length - HEADER_BYTES + 1
        self.judged = slice(source, self.vhid + 5)

    def fits(self, packet: bytes) -> bool:
        """Tell whether a packet is one; its digest is not looked at."""
        if len(packet) != self._length:
            return False
        whole = int.from_bytes(packet)
        if whole & self._mask != self._shape:
            return False
        # A number is its 16-bit words' sum modulo 0xffff, and a sum that includes its own checksum is 0 then.
        if self._has_header_sum:
            return whole % 0xFFFF == 0 and (whole >> _PAYLOAD_BITS) % 0xFFFF == 0
        return (whole & _PAYLOAD) % 0xFFFF == 0 or ((whole & _ENDS_AND_PAYLOAD) + _PSEUDO_TAIL) % 0xFFFF == 0

    def read(self, packet: bytes) -> Advertisement:
        """Read a packet that fits."""
        vhid, advskew, _, demote, advbase = packet[self.vhid : self.vhid + 5]
        return Advertisement(vhid, advbase, advskew, demote, packet[COUNTER], packet[DIGEST])


COUNTER = slice(-28, -20)
DIGEST = slice(-20, None)
USUAL = {
    # First byte, TOS, length, identification, fragment, TTL, protocol, checksum.
    Family.IPV4: Usual(
        Family.IPV4,
        bytes((0x45, 0, 0, IPV4_HEADER_BYTES + HEADER_BYTES, 0, 0, 0, 0, TTL, IP_PROTOCOL_CARP, 0, 0)),
        bytes.fromhex("ff00ffff00003fffffff0000"),
        source=12,
    ),
    # First byte, rest of the first word, length, next header, hop limit.
    Family.IPV6: Usual(
        Family.IPV6,
        bytes((0x60, 0, 0, 0, 0, HEADER_BYTES, IP_PROTOCOL_CARP, TTL)),
        bytes.fromhex("f0000000ffffffff"),
        source=IPV6_HEADER_BYTES - 32,
    ),
}
"""How the usual advertisement of each family looks."""
