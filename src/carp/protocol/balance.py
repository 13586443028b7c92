"""Which node of a load-balanced address serves whom: the BSDs' rules, bit for bit (PROTOCOL.md 7, WIRE.md 8 and 9).

`choice.h` does the same in the kernel, and is compared with this. Addresses are packed, in network byte order, of 4 or 16
bytes; a node is named by its index, 0 for the first; a count of nodes is 1..32.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Self

from .auth import Key

_BLOCK_BYTES = 64
_VERSION_AND_TYPE = b"\x02\x01"
_GOLDEN_RATIO = 0x9E3779B9
_WORD = 0xFFFFFFFF
_ROUNDS = ((13, 8, 13), (12, 16, 5), (3, 10, 15))


def node_of(source: bytes, destination: bytes, count: int) -> int:
    """Choose the node that takes a packet: both addresses folded by XOR, modulo the number of nodes (WIRE.md 8).

    The two directions of a flow have the same node.
    """
    return (_fold(source) ^ _fold(destination)) % count


def asker_by_address(source: bytes, count: int) -> int:
    """Choose the node that answers an asker by its address (FreeBSD 9, WIRE.md 9).

    Differs: no BSD has a rule for IPv6; the address is folded as `node_of` does.
    """
    return _fold(source) % count


@dataclass(frozen=True, slots=True)
class AskerHash:
    """The keyed hash of an asker's MAC for one node, ready but for the MAC (NetBSD and OpenBSD, WIRE.md 9).

    Three 32-bit numbers, as a little-endian BSD host computes them; a big-endian one chooses differently.
    """

    h0: int
    h1: int
    key_word: int

    @classmethod
    def prepare(cls, key: Key) -> Self:
        """Prepare the hash of a virtual host with this key."""
        padded = bytes(byte ^ 0x36 for byte in key.ljust(_BLOCK_BYTES, b"\0"))
        words = struct.unpack("<5I", hashlib.sha1(padded + _VERSION_AND_TYPE, usedforsecurity=False).digest())
        return cls(words[0] ^ words[1], words[2] ^ words[3], int.from_bytes(key[:4], "little"))

    def hash(self, mac: bytes) -> int:
        """Mix a MAC of 6 bytes; returns 32 bits."""
        a = (_GOLDEN_RATIO + int.from_bytes(mac[:4], "little")) & _WORD
        b = (self.h0 + int.from_bytes(mac[4:], "little")) & _WORD
        c = (self.h1 + self.key_word) & _WORD
        for right_a, left_b, right_c in _ROUNDS:
            a = ((a - b - c) & _WORD) ^ (c >> right_a)
            b = ((b - c - a) & _WORD) ^ (a << left_b & _WORD)
            c = ((c - a - b) & _WORD) ^ (b >> right_c)
        return c

    def choose(self, mac: bytes, count: int) -> int:
        """Tell which node the asker with this MAC belongs to; a node answers those who belong to it by its own hash."""
        return self.hash(mac) % count


def _fold(packed: bytes) -> int:
    folded = 0
    for (word,) in struct.iter_unpack(">I", packed):
        folded ^= word
    return folded
