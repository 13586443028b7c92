"""Many packets with one system call: recvmmsg(2) and sendmmsg(2) with memory that is made once for all sockets.

Python's own recvmsg(2) asks the kernel for the name of a packet socket's interface each time, and learns only by one more call
that nothing is left. What is sent at once wakes a peer that reads it once, not for each packet. The layouts are those of 64-bit
platforms.
"""

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from functools import cache

PACKETS = 64
"""How many a batch holds at most."""
DATA_BYTES = 512
"""What is kept of a packet."""
CONTROL_BYTES = 192
"""What is kept of its control messages."""

_NAME_BYTES = 32
_HEADER = struct.Struct("=QI4xQQQQi4xI4x")
_VECTOR = struct.Struct("=QQ")
_CONTROL_HEADER = struct.Struct("=Qii")
_CONTROL_LENGTH_AT, _CONTROL_LENGTH_BYTES = 40, 8
_LENGTH_AT, _LENGTH_BYTES = 56, 4
_MSG_DONTWAIT = 0x40
_TRIES = 4
# They never wait, so they keep the interpreter's lock: another thread would give it back milliseconds later.
_libc = ctypes.PyDLL(None, use_errno=True)
_recvmmsg, _sendmmsg = _libc.recvmmsg, _libc.sendmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Batch:
    """Room for a batch of packets; what it holds is lost with the next `receive`.

    Packet `i` begins at `data_at[i]` of `memory`, its control messages at `control_at[i]`, its sender at `name_at[i]`.
    """

    def __init__(self) -> None:
        headers_bytes = PACKETS * _HEADER.size
        vectors_at = headers_bytes
        names_at = vectors_at + PACKETS * _VECTOR.size
        controls_at = names_at + PACKETS * _NAME_BYTES
        data_at = controls_at + PACKETS * CONTROL_BYTES
        self.name_at = range(names_at, controls_at, _NAME_BYTES)
        self.control_at = range(controls_at, data_at, CONTROL_BYTES)
        self.data_at = range(data_at, data_at + PACKETS * DATA_BYTES, DATA_BYTES)
        self.memory = mmap.mmap(-1, self.data_at.stop)
        """Slices of it are bytes."""
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for number, (name, control, data) in enumerate(zip(self.name_at, self.control_at, self.data_at, strict=True)):
            vector = vectors_at + number * _VECTOR.size
            _VECTOR.pack_into(self.memory, vector, self._address + data, DATA_BYTES)
            places = (self._address + name, _NAME_BYTES, self._address + vector, 1, self._address + control, CONTROL_BYTES)
            _HEADER.pack_into(self.memory, number * _HEADER.size, *places, 0, 0)
        # The kernel writes into the headers how long everything is, and reads from them how long it may be.
        self._fresh_headers = self.memory[:headers_bytes]
        headers = memoryview(self.memory)[:headers_bytes]
        self._lengths = headers.cast("I")[_LENGTH_AT // _LENGTH_BYTES :: _HEADER.size // _LENGTH_BYTES]
        self._control_lengths = headers.cast("Q")[
            _CONTROL_LENGTH_AT // _CONTROL_LENGTH_BYTES :: _HEADER.size // _CONTROL_LENGTH_BYTES
        ]

    def receive(self, descriptor: int) -> int:
        """Take what waits in a socket and return the number of packets; fewer than PACKETS means that none is left.

        That a parent is down is said once and no reason to stop: its link event tells the rest. Raises OSError for all else.
        """
        self.memory[: len(self._fresh_headers)] = self._fresh_headers
        for _ in range(_TRIES):
            count: int = _recvmmsg(descriptor, self._address, PACKETS, _MSG_DONTWAIT, None)
            if count >= 0:
                return count
            number = ctypes.get_errno()
            if number == errno.EAGAIN:
                break
            if number not in (errno.ENETDOWN, errno.EINTR):
                raise OSError(number, os.strerror(number))
        return 0

    def lengths(self, count: int) -> list[int]:
        """Return how long the first packets are; what was longer than DATA_BYTES is cut."""
        return self._lengths[:count].tolist()

    def control_lengths(self, count: int) -> list[int]:
        """Return how many bytes of control messages the first packets have."""
        return self._control_lengths[:count].tolist()

    def all_controls(self, count: int) -> bytes:
        """Return the control messages of the first packets, each in CONTROL_BYTES."""
        return self.memory[self.control_at.start : self.control_at.start + count * CONTROL_BYTES]

    def controls(self, place: int, length: int) -> Iterator[tuple[int, int, bytes]]:
        """Walk the control messages of a packet, whose length is given: level, kind and data."""
        at, end = self.control_at[place], self.control_at[place] + length
        while at + _CONTROL_HEADER.size <= end:
            size, level, kind = _CONTROL_HEADER.unpack_from(self.memory, at)
            if size < _CONTROL_HEADER.size:
                return
            yield level, kind, self.memory[at + _CONTROL_HEADER.size : at + size]
            at += (size + 7) & ~7


class Volley:
    """Room for packets that are sent together."""

    def __init__(self) -> None:
        vectors_at = PACKETS * _HEADER.size
        data_at = vectors_at + PACKETS * _VECTOR.size
        self._data_at = range(data_at, data_at + PACKETS * DATA_BYTES, DATA_BYTES)
        self._memory = mmap.mmap(-1, self._data_at.stop)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for number, data in enumerate(self._data_at):
            vector = vectors_at + number * _VECTOR.size
            _VECTOR.pack_into(self._memory, vector, self._address + data, 0)
            _HEADER.pack_into(self._memory, number * _HEADER.size, 0, 0, self._address + vector, 1, 0, 0, 0, 0)
        self._lengths = memoryview(self._memory)[vectors_at:data_at].cast("Q")[1::2]

    def send(self, descriptor: int, packets: Sequence[bytes]) -> dict[int, int]:
        """Send at most PACKETS of at most DATA_BYTES each; return the errno of each that could not be sent, by its place."""
        memory, lengths = self._memory, self._lengths
        for place, (at, packet) in enumerate(zip(self._data_at, packets, strict=False)):
            length = len(packet)
            memory[at : at + length] = packet
            lengths[place] = length
        errors = {}
        done = 0
        while done < len(packets):
            # An error is told of the first packet of a call only; those before it were sent.
            sent = _sendmmsg(descriptor, self._address + done * _HEADER.size, len(packets) - done, _MSG_DONTWAIT)
            if sent > 0:
                done += sent
            elif (number := ctypes.get_errno()) != errno.EINTR:
                errors[done] = number
                done += 1
        return errors


@cache
def volley() -> Volley:
    """Return the one volley of the loop's thread."""
    return Volley()


@cache
def shared() -> Batch:
    """Return the one batch of the loop's thread: what was read is handed over before the next reading."""
    return Batch()
