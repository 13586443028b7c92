"""The routing socket: requests with their acknowledgements, dumps, and a listener for changes."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Generator, Iterable, Iterator, Sequence

from .rtnetlink import HEADER, NLM_F_ACK, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, messages

_RTMGRP_LINK = 0x1
_RTMGRP_TC = 0x8
_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 16
_MESSAGES_PER_WRITE = 500
_DUMP_TRIES = 5
_FLAGS, _FLAGS_OFFSET = struct.Struct("=H"), 6
_SEQUENCE, _SEQUENCE_OFFSET = struct.Struct("=I"), 8


class NetlinkError(OSError):
    """The kernel refused a request; `position` is which one of a batch."""

    errno: int

    def __init__(self, number: int, position: int) -> None:
        super().__init__(number, os.strerror(number))
        self.position = position


Write = Generator[Sequence[bytes], list[NetlinkError], None]
"""One write in the making: it yields its messages once, is sent what the kernel refused, and returns or raises.

So several can be made one: what waits for the kernel's lock waits once. Positions are those within its own messages.
"""


def _open(groups: int, flags: int = 0) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | flags, socket.NETLINK_ROUTE)
    with contextlib.suppress(PermissionError):  # reading works without privilege, with the default queue
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    opened.bind((0, groups))
    return opened


class Netlink:
    """Requests to the kernel; each call blocks until the answer is there. One thread at a time."""

    def __init__(self) -> None:
        self._socket = _open(0)
        self._sequence = 1

    def execute(self, batch: Iterable[bytes]) -> list[NetlinkError]:
        """Send prepared messages, up to 500 in one write, and wait for the last; return what the kernel refused, in order.

        The kernel goes on after a refusal. Only the last message of a write asks for an acknowledgement: errors come by
        themselves.
        """
        requests = list(batch)
        refused: list[NetlinkError] = []
        for begin in range(0, len(requests), _MESSAGES_PER_WRITE):
            refused += self._write(requests[begin : begin + _MESSAGES_PER_WRITE], begin)
        return refused

    def _write(self, requests: Sequence[bytes], begin: int) -> list[NetlinkError]:
        first = self._sequences(len(requests))
        written = bytearray(b"".join(requests))
        offset = at = 0
        for sequence, request in enumerate(requests, first):
            at = offset
            _SEQUENCE.pack_into(written, at + _SEQUENCE_OFFSET, sequence)
            offset += len(request)
        flags = _FLAGS.unpack_from(written, at + _FLAGS_OFFSET)[0]
        _FLAGS.pack_into(written, at + _FLAGS_OFFSET, flags | NLM_F_ACK)
        self._socket.send(written)
        return list(self._refusals(first, first + len(requests) - 1, begin))

    def _sequences(self, how_many: int) -> int:
        """Return the first of so many numbers that no request had before."""
        first = self._sequence
        self._sequence += how_many
        return first

    def _refusals(self, first: int, last: int, begin: int) -> Iterator[NetlinkError]:
        while True:
            for kind, _, sequence, body in messages(self._socket.recv(_CHUNK_BYTES)):
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    yield NetlinkError(number, begin + sequence - first)
                if sequence == last:
                    return

    def dump(self, request: bytes) -> list[bytes]:
        """Return the bodies of a dump; one that changed under our hands is repeated."""
        for _ in range(_DUMP_TRIES):
            bodies, interrupted = self._dump_once(request)
            if not interrupted:
                break
        return bodies

    def _dump_once(self, request: bytes) -> tuple[list[bytes], bool]:
        sequence = self._sequences(1)
        buffer = bytearray(request)
        struct.pack_into("=I", buffer, 8, sequence)
        self._socket.send(buffer)
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, answered, body in messages(self._socket.recv(_CHUNK_BYTES)):
                if answered != sequence:
                    continue
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_DONE:
                    return bodies, interrupted
                if kind == NLMSG_ERROR:
                    raise NetlinkError(-struct.unpack_from("=i", body)[0], 0)
                bodies.append(body)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, requests: Sequence[bytes]) -> list[bytes | None]:
        """Send requests that have one answer each, a hundred at most, in one write; return the bodies, None for refusals."""
        answers: dict[int, bytes | None] = {}
        first = self._sequences(len(requests))
        sequences = range(first, first + len(requests))
        buffers = [bytearray(request) for request in requests]
        for buffer, sequence in zip(buffers, sequences, strict=True):
            struct.pack_into("=I", buffer, 8, sequence)
        if buffers:
            self._socket.send(b"".join(buffers))
        while len(answers) < len(sequences):
            for kind, _, sequence, body in messages(self._socket.recv(_CHUNK_BYTES)):
                if sequences[0] <= sequence <= sequences[-1]:
                    answers[sequence] = None if kind == NLMSG_ERROR else body
        return [answers[sequence] for sequence in sequences]


def carry_out(netlink: Netlink, writes: Sequence[Write]) -> list[Exception | None]:
    """Make one write of several; return what each raised in the end, None where it did not."""
    results: list[Exception | None] = [None] * len(writes)
    requests: list[bytes] = []
    begun: list[tuple[int, range]] = []
    for number, write in enumerate(writes):
        try:
            own = next(write)
        except StopIteration:
            continue
        except Exception as error:
            results[number] = error
            continue
        begun.append((number, range(len(requests), len(requests) + len(own))))
        requests += own
    try:
        refused = netlink.execute(requests)
    except Exception as error:
        for number, _ in begun:
            results[number] = error
        return results
    for number, places in begun:
        own_refused = [NetlinkError(one.errno, one.position - places.start) for one in refused if one.position in places]
        try:
            writes[number].send(own_refused)
        except StopIteration:
            continue
        except Exception as error:
            results[number] = error
    return results


def perform(netlink: Netlink, write: Write) -> None:
    """Carry out a write alone; raises what it raises."""
    for error in carry_out(netlink, [write]):
        if error is not None:
            raise error


class OverflowedError(Exception):
    """Changes were lost: everything is to be read again."""


class Monitor:
    """Listens for changes of links, addresses and traffic control filters."""

    def __init__(self) -> None:
        self._socket = _open(_RTMGRP_LINK | _RTMGRP_TC | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR, socket.SOCK_NONBLOCK)
        self._buffer = memoryview(bytearray(_CHUNK_BYTES))

    def fileno(self) -> int:
        """Return the descriptor for a reader."""
        return self._socket.fileno()

    def drain(self) -> list[tuple[int, bytes]]:
        """Return what has come in as (type, body).

        Raises:
            OverflowedError: the queue ran over.
        """
        changes: list[tuple[int, bytes]] = []
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return changes
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise OverflowedError from None
                raise
            # Each comes by itself; not as the rest of this module has it, since hundreds come in the middle of a takeover.
            length, kind, _, _, _ = HEADER.unpack_from(self._buffer)
            if size >= length >= HEADER.size:
                changes.append((kind, bytes(self._buffer[HEADER.size : length])))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
