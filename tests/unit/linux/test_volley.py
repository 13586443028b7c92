"""Sending many packets with one system call."""

import errno
import socket
from collections.abc import Iterator

import pytest

from carp.linux.batch import DATA_BYTES, PACKETS, Volley, volley

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Make two ends that keep packets apart."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def received(end: socket.socket) -> list[bytes]:
    """Read all that waits."""
    packets = []
    while True:
        try:
            packets.append(end.recv(2 * DATA_BYTES))
        except BlockingIOError:
            return packets


def test_all_arrive_in_their_order(pair: Pair) -> None:
    """Each with its own length, shorter and longer ones than were sent before."""
    sent = Volley()
    for packets in ([b"a" * 90, b"b", b"c" * DATA_BYTES], [b"dd"], []):
        assert sent.send(pair[0].fileno(), packets) == {}
        assert received(pair[1]) == packets


def test_what_has_no_room_is_told(pair: Pair) -> None:
    """Of each packet, and those before it arrive."""
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    packets = [bytes((number,)) * DATA_BYTES for number in range(PACKETS)]
    errors = volley().send(pair[0].fileno(), packets)
    room = PACKETS - len(errors)
    assert 0 < room < PACKETS
    assert errors == dict.fromkeys(range(room, PACKETS), errno.EAGAIN)
    assert received(pair[1]) == packets[:room]


def test_errors_between_those_that_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel stops before a packet that it refuses, and tells why when it is asked again."""
    refused = {0: errno.ENOBUFS, 3: errno.ENETDOWN, 4: errno.EPERM}
    made = Volley()
    base = made._address
    state = {"errno": 0}

    def sendmmsg(_descriptor: int, address: int, count: int, _flags: int) -> int:
        first = (address - base) // 64
        good = 0
        while good < count and first + good not in refused:
            good += 1
        state["errno"] = 0 if good else refused[first]
        return good or -1

    monkeypatch.setattr("carp.linux.batch._sendmmsg", sendmmsg)
    monkeypatch.setattr("carp.linux.batch.ctypes.get_errno", lambda: state["errno"])
    assert made.send(3, [b"x"] * 6) == refused


def test_a_closed_socket_sends_nothing() -> None:
    """And says so of every packet."""
    assert volley().send(-1, [b"a", b"b"]) == {0: errno.EBADF, 1: errno.EBADF}
