"""Hears others claim our virtual addresses on a parent, by ARP or neighbour advertisement."""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from ..protocol.events import AddressClaimed
from ..protocol.values import Address
from . import bpf_filter
from .bpf_filter import ARP_SENDER, ARP_SENDER_MAC, ETHERTYPE_ARP, ND_TARGET, SNAP_BYTES

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_SOURCE_MAC = slice(6, 12)


class ClaimSocket:
    """One socket of a parent; hears nothing until it is told what to watch."""

    def __init__(self, parent: str) -> None:
        """Open it; raises OSError."""
        self._parent = parent
        self._watched: frozenset[Address] = frozenset()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            bpf_filter.attach(self._socket, bpf_filter.claims(()))
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((parent, _ETH_P_ALL))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor for a reader."""
        return self._socket.fileno()

    def watch(self, addresses: Iterable[Address]) -> None:
        """Hear claims of exactly these addresses; the first 1500 of them."""
        watched = frozenset(addresses)
        if watched != self._watched:
            self._watched = watched
            bpf_filter.attach(self._socket, bpf_filter.claims(sorted(watched, key=int)))

    def drain(self, at_most: int) -> Iterator[AddressClaimed]:
        """Read claims until the socket is empty or `at_most` were read."""
        for _ in range(at_most):
            try:
                frame = self._socket.recv(SNAP_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, errno.EINTR):
                    continue
                raise
            claim = self._read(frame)
            if claim is not None:
                yield claim

    def _read(self, frame: bytes) -> AddressClaimed | None:
        if len(frame) < ARP_SENDER + 4:
            return None
        if struct.unpack_from("!H", frame, 12)[0] == ETHERTYPE_ARP:
            address, mac = ip_address(frame[ARP_SENDER : ARP_SENDER + 4]), frame[ARP_SENDER_MAC : ARP_SENDER_MAC + 6]
        elif len(frame) >= ND_TARGET + 16:
            address, mac = ip_address(frame[ND_TARGET : ND_TARGET + 16]), frame[_SOURCE_MAC]
        else:
            return None
        return AddressClaimed(self._parent, address, mac) if address in self._watched else None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
