"""Frames seen on a switch port, in the direction from the host: what really left it."""

import socket
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .lan import Port
from .wait import now_ns

_ETH_P_ALL = 0x0003
_BUFFER_BYTES = 16 << 20
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_MAX_FRAMES = 50_000


class Capture:
    """A capture on a host's switch port, or with `inside` on the host's own interface; a context manager.

    Frames wait in the socket until `frames` is called; some ten thousand fit.
    """

    def __init__(self, port: Port, *, inside: bool = False) -> None:
        namespace = port.namespace if inside else port.lan.switch
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        # Set before the binding: on a hub the frames to the host would crowd out those from it.
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((port.interface if inside else port.switch_port, _ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def stamped(self, wanted: Callable[[bytes], bool] = lambda _frame: True) -> list[tuple[int, bytes]]:
        """Return the wanted frames from the host since the last call, each with its instant."""
        # The kernel stamps with the wall clock; both clocks are read together to convert.
        offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - now_ns()
        found = []
        for _ in range(_MAX_FRAMES):
            try:
                frame, control, _, address = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                break
            if address[2] != socket.PACKET_OUTGOING and wanted(frame):
                seconds, nanoseconds = struct.unpack("qq", control[0][2])
                found.append((seconds * 1_000_000_000 + nanoseconds - offset, frame))
        return found

    def frames(self, wanted: Callable[[bytes], bool] = lambda _frame: True) -> list[bytes]:
        """Return the wanted frames from the host since the last call."""
        return [frame for _, frame in self.stamped(wanted)]


def source_mac(frame: bytes) -> str:
    """Return the source of an Ethernet frame."""
    return frame[6:12].hex(":")


def is_advertisement(frame: bytes) -> bool:
    """Tell the frames of protocol 112, of either family."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    return (kind == 0x0800 and frame[23] == 112) or (kind == 0x86DD and frame[20] == 112)


def packet_socket(port: Port) -> socket.socket:
    """Open a packet socket on a host's interface, for frames made by hand."""
    raw = port.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.bind((port.interface, 0))
    return raw
