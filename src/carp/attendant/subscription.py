"""A routing socket that hears only of what somebody wants to know, without privilege."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterable
from enum import IntEnum

from ..linux.netlink import OverflowedError
from ..linux.rtnetlink import messages

_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_RECEIVE_BUFFER_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 16
_MOST_READ_AT_ONCE = 256


class Group(IntEnum):
    """What the kernel tells of (RTNLGRP_*)."""

    LINK = 1
    IPV4_IFADDR = 5
    IPV4_ROUTE = 7
    IPV6_IFADDR = 9
    IPV6_ROUTE = 11


class Subscription:
    """Calls `on_readable` once something has come in, and again only after `drain`."""

    def __init__(self, on_readable: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_readable = on_readable
        self._groups: frozenset[Group] = frozenset()
        self._listening = False
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        # Without privilege the kernel gives less than this; what does not fit is read anew.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self.socket.bind((0, 0))
        self._listen()

    def join(self, groups: Iterable[Group]) -> None:
        """Hear of these from now on and of nothing else."""
        wanted = frozenset(groups)
        for group in self._groups - wanted:
            self.socket.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, group)
        for group in wanted - self._groups:
            self.socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._groups = wanted

    def drain(self) -> list[tuple[int, bytes]]:
        """Return what has come in as (type, body), or the first part of very much.

        Raises:
            OverflowedError: the queue ran over, and everything is to be read anew.
        """
        changes: list[tuple[int, bytes]] = []
        self._listen()
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_READ_AT_ONCE):
                try:
                    data = self.socket.recv(_CHUNK_BYTES)
                except OSError as error:
                    if error.errno == errno.ENOBUFS:
                        raise OverflowedError from None
                    raise
                changes.extend((kind, body) for kind, _, _, body in messages(data))
        return changes

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self.socket)
        self.socket.close()

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._loop.add_reader(self.socket, self._on_ready)

    def _on_ready(self) -> None:
        self._listening = False
        self._loop.remove_reader(self.socket)
        self._on_readable()
