"""`python -m bench.floor`: what the unavoidable parts cost alone on this machine, in a loop that does nothing else.

They are the floor under carpd's figures: a program in Python that makes the same system calls and hashes the same bytes cannot
be quicker. A figure is the fastest of several rounds, as whatever else the machine does only adds to it.
"""

import argparse
import hashlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from carp.linux.clock import Timer, boottime
from carp.protocol.values import Instant
from lab.netns import Namespace
from lab.wire import Forgery

ROUNDS = 7
_ADVERTISEMENT = 70
_ARP = 42
_BATCH = 128
_IFA_LOCAL, _IFA_ADDRESS = 2, 1
_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_REQUEST, _ACK, _CREATE = 1, 4, 0x400


def costs() -> Iterator[tuple[str, float]]:
    """Yield what was done and how long one took, in microseconds."""
    yield from _hashing()
    with ExitStack() as stack:
        left, right = Namespace("floor"), Namespace("floor")
        stack.callback(left.delete)
        stack.callback(right.delete)
        left.ip(f"link add v0 type veth peer name v1 netns {right.name}", "link set v0 up")
        right.ip("link set v1 up")
        sender = stack.enter_context(left.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        sender.bind(("v0", 0))
        yield from _sending(sender)
        hearer = stack.enter_context(right.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        hearer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        hearer.bind(("v1", 0x0800))
        hearer.setblocking(False)
        yield from _hearing(sender, hearer)
        netlink = stack.enter_context(left.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
        index = int(left.query("link show dev v0")[0]["ifindex"])
        yield from _addresses(netlink, index)
    yield from _timers()


def fastest(work: Callable[[], object], times: int) -> float:
    """Return the microseconds of one piece of work, which does itself so many times."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter_ns()
        work()
        best = min(best, (time.perf_counter_ns() - begin) / times / 1e3)
    return best


def _repeat(work: Callable[[], object], times: int) -> float:
    def loop() -> None:
        for _ in range(times):
            work()

    return fastest(loop, times)


def _hashing() -> Iterator[tuple[str, float]]:
    inner, outer = hashlib.sha1(bytes(64)), hashlib.sha1(bytes(64))  # noqa: S324

    def digest() -> bytes:
        one = inner.copy()
        one.update(b"counter8")
        two = outer.copy()
        two.update(one.digest())
        return two.digest()

    yield "HMAC-SHA1 of a counter, from prepared contexts", _repeat(digest, 20_000)


def _sending(sender: socket.socket) -> Iterator[tuple[str, float]]:
    advertisement, announcement = bytes(_ADVERTISEMENT), bytes(_ARP)
    yield "send(2) of an advertisement, nobody hears it", _repeat(lambda: sender.send(advertisement), 5000)
    yield "send(2) of an announcement, nobody hears it", _repeat(lambda: sender.send(announcement), 5000)


def _hearing(sender: socket.socket, hearer: socket.socket) -> Iterator[tuple[str, float]]:
    frame = Forgery().frame()
    best = float("inf")
    for _ in range(ROUNDS * 10):
        for _ in range(_BATCH):
            sender.send(frame)
        begin = time.perf_counter_ns()
        for _ in range(_BATCH):
            hearer.recvmsg(256, 128)
        best = min(best, (time.perf_counter_ns() - begin) / _BATCH / 1e3)
    yield "recvmsg(2) of an advertisement that waits", best
    buffer = bytearray(256)
    for _ in range(_BATCH):
        sender.send(frame)
    begin = time.perf_counter_ns()
    for _ in range(_BATCH):
        hearer.recv_into(buffer)
    yield "recv(2) of it into a buffer, without its stamp", (time.perf_counter_ns() - begin) / _BATCH / 1e3


def _addresses(netlink: socket.socket, index: int) -> Iterator[tuple[str, float]]:
    netlink.bind((0, 0))

    def message(kind: int, number: int) -> bytes:
        address = struct.pack("!I", 0x0A710000 + number)
        attributes = b"".join(struct.pack("=HH", 8, one) + address for one in (_IFA_LOCAL, _IFA_ADDRESS))
        body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index) + attributes
        return (
            struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | (_CREATE if kind == _RTM_NEWADDR else 0), 1, 0) + body
        )

    for count in (1, 16, 255):
        best = float("inf")
        for _ in range(ROUNDS):
            whole = b"".join(message(_RTM_NEWADDR, number) for number in range(1, count + 1))
            begin = time.perf_counter_ns()
            netlink.send(whole)
            _acknowledged(netlink, count)
            best = min(best, (time.perf_counter_ns() - begin) / 1e3)
            netlink.send(b"".join(message(_RTM_DELADDR, number) for number in range(1, count + 1)))
            _acknowledged(netlink, count)
        yield f"{count} addresses set by one netlink write, acknowledged", best


def _acknowledged(netlink: socket.socket, count: int) -> None:
    while count > 0:
        answer = netlink.recv(1 << 16)
        while answer:
            length, _, _, _, _, error = struct.unpack_from("=IHHIIi", answer)
            if error:
                raise OSError(-error, os.strerror(-error))
            answer = answer[(length + 3) & ~3 :]
            count -= 1


def _timers() -> Iterator[tuple[str, float]]:
    timer = Timer()
    try:
        yield "a timerfd set", _repeat(lambda: timer.set(Instant(boottime() + 10**12)), 5000)
        with select.epoll() as epoll:
            epoll.register(timer.fileno(), select.EPOLLIN)
            late = []
            for _ in range(200):
                at = Instant(boottime() + 1_000_000)
                timer.set(at)
                epoll.poll()
                late.append((boottime() - at) / 1e3)
                timer.acknowledge()
            yield "from a timer's instant to Python, the median", sorted(late)[len(late) // 2]
    finally:
        timer.close()


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__).parse_args()
    for what, microseconds in costs():
        print(f"{microseconds:9.2f} us  {what}")


if __name__ == "__main__":
    main()
