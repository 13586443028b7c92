"""An advertisement that is ready but for what changes from one to the next: counter, digest, checksums, IPv4 identification."""

import random
import struct
from typing import NamedTuple

from .packet import HEADER_BYTES, IPV4_HEADER_BYTES
from .values import Family

_IDENTIFICATION_AT, _CHECKSUM_AT = 4, 10
_FIELDS_BYTES = 6
_IPV4 = struct.Struct("!4sH4sH14sH8s20s")
_IPV6 = struct.Struct("!46sH8s20s")


class Template:
    """One virtual host's advertisement to one destination.

    Args:
        sample: a whole packet, whose changing parts do not matter.
        pseudo: what joins in the CARP checksum besides the CARP header, or b"".
        numbered: whether the identification is random, else it is 0; IPv6 has none.
    """

    __slots__ = ("_fields_sum", "_header", "_header_sum", "_ipv4_parts", "_numbered")

    def __init__(self, family: Family, sample: bytes, pseudo: bytes = b"", *, numbered: bool = False) -> None:
        fields_at = len(sample) - HEADER_BYTES
        self._header = sample[: fields_at + _FIELDS_BYTES]
        # A sum of 16-bit words is that of a number modulo 0xffff, and its complement is what makes it 0.
        self._fields_sum = int.from_bytes(pseudo + self._header[fields_at:]) % 0xFFFF
        self._numbered = numbered
        self._ipv4_parts: tuple[bytes, bytes, bytes] | None = None
        self._header_sum = 0
        if family is Family.IPV4:
            first, flags = sample[:_IDENTIFICATION_AT], sample[_IDENTIFICATION_AT + 2 : _CHECKSUM_AT]
            self._ipv4_parts = first, flags, self._header[_CHECKSUM_AT + 2 :]
            self._header_sum = int.from_bytes(first + flags + sample[_CHECKSUM_AT + 2 : IPV4_HEADER_BYTES]) % 0xFFFF

    def fill(self, counter: bytes, digest: bytes, rng: random.Random) -> bytes:
        """Return the packet with this counter and its digest."""
        checksum = -(self._fields_sum + int.from_bytes(counter + digest)) % 0xFFFF
        if self._ipv4_parts is None:
            return _IPV6.pack(self._header, checksum, counter, digest)
        first, flags, rest = self._ipv4_parts
        identification = rng.getrandbits(16) if self._numbered else 0
        header_checksum = -(self._header_sum + identification) % 0xFFFF
        return _IPV4.pack(first, identification, flags, header_checksum, rest, checksum, counter, digest)


class Prepared(NamedTuple):
    """One virtual host's advertisements of one family, to the group or to each peer (`unicast`)."""

    templates: tuple[Template, ...]
    unicast: bool
