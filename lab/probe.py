"""The probing process: one numbered question each millisecond to every shared address, and a record of who answers when.

Run as `python -m lab.probe`. It reads one line of JSON (`Order`) from standard input, opens an echo socket for every address
in every host's namespace and a client socket in the client's, and probes until standard input closes or SIGTERM comes. It
prints a line of JSON every 50 ms (`Progress`) and a last one with the whole record (`Record`).

A process of its own, one thread, epoll and a timerfd: probing must neither wait for the test that watches nor disturb the
daemons that are measured. The echo sockets are bound to the shared address itself, long before the host owns it, so a
question is answered exactly while the kernel there takes the address for its own, and the answer comes from that address.
"""

import base64
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any, TypedDict

from lab.netns import bind_freely, enter

PORT = 7112
TICK_NS = 1_000_000
PROGRESS_EVERY_NS = 50_000_000
STALL_NS = 3_000_000
PATIENCE_NS = 1_000_000_000
"""A question that stays unanswered this long is lost."""

_SEQUENCE = struct.Struct("!Q")
_ITIMERSPEC = struct.Struct("qqqq")
_CLOCK_MONOTONIC = 1
_BUFFER_BYTES = 1 << 20

# No route or no neighbour for now: a question like any other that gets no answer.
_unreachable = contextlib.suppress(OSError)


class Order(TypedDict):
    """What to probe: the namespaces' files by host label, the client's, and the addresses."""

    hosts: dict[str, str]
    client: str
    addresses: list[str]


class Progress(TypedDict):
    """What happened since the line before: answers by host for each address, and the questions sent."""

    at: int
    sent: int
    answers: dict[str, dict[str, int]]


class Record(TypedDict):
    """Everything: arrays in base64, machine byte order; the position in `sent` is the question's number."""

    hosts: list[str]
    sent: dict[str, str]
    sequence: dict[str, str]
    host: dict[str, str]
    at: dict[str, str]
    stalls: list[tuple[int, int]]


class _Target:
    """One shared address: the client's socket and the record."""

    def __init__(self, address: str, hosts: int) -> None:
        self.address = address
        self.sent = array("q")
        self.sequence = array("q")
        self.host = array("b")
        self.at = array("q")
        self.since_progress = [0] * hosts
        self.last_answered = -1
        self.client = socket.socket(_family(address), socket.SOCK_DGRAM)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self.client.setblocking(False)
        self.client.connect((address, PORT))

    def ask(self, now: int) -> None:
        sequence = len(self.sent)
        self.sent.append(now)
        with _unreachable:
            self.client.send(_SEQUENCE.pack(sequence))

    def hear(self) -> None:
        try:
            answer = self.client.recv(64)
        except OSError:
            return
        sequence = _SEQUENCE.unpack_from(answer, 1)[0]
        host = answer[0]
        self.sequence.append(sequence)
        self.host.append(host)
        self.at.append(time.monotonic_ns())
        self.since_progress[host] += 1
        self.last_answered = max(self.last_answered, sequence)


class _Probe:
    """The event loop and everything it owns."""

    def __init__(self, order: Order) -> None:
        self.labels = list(order["hosts"])
        self.handlers: dict[int, Callable[[], None]] = {}
        self.sockets: list[socket.socket] = []
        self.epoll = select.epoll()
        for index, path in enumerate(order["hosts"].values()):
            enter(path)
            for address in order["addresses"]:
                self._open_echo(address, index)
        enter(order["client"])
        self.targets = [_Target(address, len(self.labels)) for address in order["addresses"]]
        for target in self.targets:
            self._watch(target.client.fileno(), target.hear)
        self.timer = _timerfd(TICK_NS)
        self._watch(self.timer, self._tick)
        self._watch(sys.stdin.fileno(), self._read_input)
        self.stalls: list[tuple[int, int]] = []
        self.last_tick = self.last_progress = time.monotonic_ns()
        self.sent_at_progress = 0
        self.stop_asked = False

    def run(self) -> None:
        poll, handlers = self.epoll.poll, self.handlers
        while not self.stop_asked:
            for descriptor, _ in poll():
                handlers[descriptor]()
        self.epoll.unregister(self.timer)
        deadline = time.monotonic_ns() + PATIENCE_NS
        while (left := deadline - time.monotonic_ns()) > 0 and not self._nothing_outstanding():
            for descriptor, _ in poll(left / 1e9):
                handlers[descriptor]()

    def record(self) -> Record:
        return {
            "hosts": self.labels,
            "sent": {target.address: _text(target.sent) for target in self.targets},
            "sequence": {target.address: _text(target.sequence) for target in self.targets},
            "host": {target.address: _text(target.host) for target in self.targets},
            "at": {target.address: _text(target.at) for target in self.targets},
            "stalls": self.stalls,
        }

    def _tick(self) -> None:
        os.read(self.timer, 8)
        now = time.monotonic_ns()
        if now - self.last_tick > TICK_NS + STALL_NS:
            self.stalls.append((self.last_tick + TICK_NS, now))
        self.last_tick = now
        for target in self.targets:
            target.ask(now)
        if now - self.last_progress >= PROGRESS_EVERY_NS:
            self._report_progress(now)

    def _report_progress(self, now: int) -> None:
        sent = len(self.targets[0].sent)
        progress: Progress = {
            "at": now,
            "sent": sent - self.sent_at_progress,
            "answers": {
                target.address: {self.labels[host]: count for host, count in enumerate(target.since_progress) if count}
                for target in self.targets
            },
        }
        _print(progress)
        for target in self.targets:
            target.since_progress = [0] * len(self.labels)
        self.last_progress, self.sent_at_progress = now, sent

    def _nothing_outstanding(self) -> bool:
        oldest_wanted = time.monotonic_ns() - PATIENCE_NS
        for target in self.targets:
            answered = set(target.sequence)
            for sequence in range(len(target.sent) - 1, -1, -1):
                if target.sent[sequence] < oldest_wanted:
                    break
                if sequence not in answered:
                    return False
        return True

    def _read_input(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self.stop_asked = True

    def _open_echo(self, address: str, host: int) -> None:
        echo = socket.socket(_family(address), socket.SOCK_DGRAM)
        echo.setblocking(False)
        bind_freely(echo, address, PORT)
        label = bytes((host,))

        def answer() -> None:
            try:
                question, client = echo.recvfrom(64)
                echo.sendto(label + question, client)
            except OSError:
                # The address left between question and answer.
                pass

        self.sockets.append(echo)
        self._watch(echo.fileno(), answer)

    def _watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        self.handlers[descriptor] = handler
        self.epoll.register(descriptor, select.EPOLLIN)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _text(numbers: "array[int]") -> str:
    return base64.b64encode(numbers.tobytes()).decode()


def _print(line: Any) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _timerfd(interval_ns: int) -> int:
    """Open a timerfd that fires each `interval_ns`; os.timerfd_create came with Python 3.13."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    seconds, nanoseconds = divmod(interval_ns, 1_000_000_000)
    setting = _ITIMERSPEC.pack(seconds, nanoseconds, seconds, nanoseconds)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, setting, None) != 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


def main() -> int:
    """Probe as the order on standard input says; return the exit status."""
    probe = _Probe(json.loads(sys.stdin.readline()))

    def stop(_signal: int, _frame: object) -> None:
        probe.stop_asked = True

    signal.signal(signal.SIGTERM, stop)
    # The terminal sends Ctrl-C to the whole group; whoever started us closes our input when it wants the record.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    probe.run()
    _print({"record": probe.record()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
