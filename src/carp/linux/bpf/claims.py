"""Who claims which virtual address or MAC address of a parent: several may, and the kernel knows the strongest.

A slot claims the addresses of a carp interface, a balance those that its nodes have in common. When a claim ends, the next one
holds, so that nothing is unfenced because two things changed in this order and not in the other. Layouts as in maps.h.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from ...protocol.values import Address
from .libbpf import BpfMap, FenceUnavailable

SLOTS = 8192
"""How many virtual hosts one daemon can fence, a balanced carp interface counting as one more; as in maps.h."""

_VIP = struct.Struct("=I16s")
_OWNER = struct.Struct("=II")
_V4_MAPPED = bytes(10) + b"\xff\xff"


class Claimant(NamedTuple):
    """A slot on a parent, or the balance with an index, which is stronger."""

    number: int
    parent_ifindex: int = 0
    is_balance: bool = False


def address_key(parent_ifindex: int, address: Address) -> bytes:
    """Return the key of a virtual address."""
    return _VIP.pack(parent_ifindex, address.packed if address.version == 6 else _V4_MAPPED + address.packed)


def slot_entry(slot: int) -> bytes:
    """Return what an address of a slot leads to; raises ValueError for one that is not there."""
    return _OWNER.pack(checked_slot(slot), 0)


def balance_entry(place: int) -> bytes:
    """Return what an address of a balance leads to: its place in carp_balances."""
    return _OWNER.pack(0, place + 1)


def checked_slot(slot: int) -> int:
    """Return a slot that there is; raises ValueError for another one."""
    if not 0 <= slot < SLOTS:
        raise ValueError(f"slot {slot} is not in 0..{SLOTS - 1}")
    return slot


class Claims:
    """The entries of a hash map in the kernel, with everybody's claims."""

    def __init__(self, kernel: BpfMap) -> None:
        self._kernel = kernel
        self._entries: dict[bytes, bytes] = {}
        self._by_key: dict[bytes, dict[Claimant, bytes]] = {}
        self._keys: dict[Claimant, set[bytes]] = {}

    def claim(self, claimant: Claimant, wanted: Mapping[bytes, bytes]) -> None:
        """Let somebody claim exactly these entries, values by key; of equal claims the newest holds.

        New claims are made before old ones end; each change of an entry is one step.

        Raises:
            FenceUnavailable: the map is full; claims made until then and all former ones stay.
        """
        keys = self._keys.setdefault(claimant, set())
        for key, value in wanted.items():
            claims = self._by_key.get(key, {})
            if claims.get(claimant) != value:
                claims = {**claims, claimant: value}
                self._write(key, _strongest(claims))
                self._by_key[key] = claims
                keys.add(key)
        for key in keys - wanted.keys():
            claims = self._by_key[key]
            del claims[claimant]
            keys.discard(key)
            if claims:
                self._write(key, _strongest(claims))
            else:
                del self._by_key[key], self._entries[key]
                self._kernel.delete(key)
        if not keys:
            del self._keys[claimant]

    def _write(self, key: bytes, value: bytes) -> None:
        if self._entries.get(key) == value:
            return
        try:
            self._kernel.update(key, value)
        except OSError as error:
            raise FenceUnavailable(f"the kernel takes no more entries for the fence: {error.strerror}") from None
        self._entries[key] = value


def _strongest(claims: Mapping[Claimant, bytes]) -> bytes:
    # Of equal ones max() returns the first, which is the newest here.
    return claims[max(reversed(tuple(claims)), key=lambda claimant: claimant.is_balance)]
