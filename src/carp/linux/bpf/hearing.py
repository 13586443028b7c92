"""The filter of a parent's packet socket that refuses in the kernel what is certainly no advertisement for this host.

It counts what it refuses, in memory that it shares with this process; one for each reason in 100 ms passes. Layout as in
hearing.bpf.c.
"""

import socket
from collections.abc import Iterable
from importlib import resources

from ...protocol.packet import DropReason
from ...protocol.values import Family
from .libbpf import BpfMap, BpfObject, FenceUnavailable, Program

_OBJECT = "hearing.bpf.o"
_REASONS = (DropReason.BAD_TTL, DropReason.BAD_CHECKSUM, DropReason.BAD_VERSION, DropReason.BAD_VHID)
_COUNTED = [(family, reason) for family in Family for reason in _REASONS]
_WORD_BYTES, _WORD_BITS = 8, 64
_JUDGES, _VHIDS, _VHID_WORDS = 0, 1, 4
_REFUSED = _VHIDS + _VHID_WORDS + len(_REASONS)
_WORDS = _REFUSED + len(_COUNTED)
_SO_ATTACH_BPF = 50

Refused = tuple[Family, DropReason, int]
"""How many packets of a family were refused for a reason."""


class Hearing:
    """The filter of one socket; at first it refuses nothing but what is no advertisement at all."""

    def __init__(self, loaded: BpfObject, program: Program, kernel: BpfMap) -> None:
        """Use `load` instead."""
        self._object = loaded
        self._program = program
        self._memory = kernel.mapping(_WORDS * _WORD_BYTES, writable=True)
        self._words = memoryview(self._memory).cast("Q")
        self._former = [0] * len(_COUNTED)

    @classmethod
    def load(cls) -> "Hearing":
        """Load the program into the kernel, which takes a millisecond.

        Raises:
            FenceUnavailable: no libbpf, no privilege, no BPF in the kernel.
        """
        try:
            data = (resources.files(__package__) / _OBJECT).read_bytes()
            loaded = BpfObject(data, _OBJECT)
            return cls(loaded, loaded.program("carp_hear"), loaded.map("carp_hearing"))
        except OSError as error:
            raise FenceUnavailable(f"{_OBJECT} cannot be used: {error.strerror}") from None

    def attach(self, to: socket.socket) -> None:
        """Put the filter on its socket, in the place of the one that it has, and let go of what that needs. Raises OSError."""
        to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, self._program.descriptor)
        self._object.close()

    def admit(self, vhids: Iterable[int] | None) -> None:
        """Refuse advertisements with other vhids than these, and those with a wrong TTL, checksum or version; None: nothing."""
        if vhids is None:
            self._words[_JUDGES] = 0
            return
        bits = sum(1 << vhid for vhid in set(vhids))
        for word in range(_VHID_WORDS):
            self._words[_VHIDS + word] = bits >> word * _WORD_BITS & (1 << _WORD_BITS) - 1
        self._words[_JUDGES] = 1

    def refused(self) -> list[Refused]:
        """Return what was refused since this was asked last; what passed is not among it."""
        counts = self._words[_REFUSED:].tolist()
        if counts == self._former:
            return []
        former, self._former = self._former, counts
        return [
            (*counted, count - before)
            for counted, count, before in zip(_COUNTED, counts, former, strict=True)
            if count != before
        ]

    def close(self) -> None:
        """Let go of it; on a socket it stays."""
        self._words.release()
        self._memory.close()
        self._object.close()
