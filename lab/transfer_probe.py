"""The process that sends traffic through firewalls: long TCP transfers, calls (short new connections), and a UDP flow.

Run as `python -m lab.transfer_probe`. It reads one line of JSON (`Order`) from standard input, opens a server in one namespace
and clients in another, and prints a line of JSON every 100 ms (`Progress`) and a last one with the whole record (`Record`)
when standard input closes. Both ends live in one process, so that each byte sent is known to have arrived or not.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

from lab.netns import enter
from lab.transfer_record import TICK_NS, Gap, Order, Progress, Record

PORT = 7117
TICKS_PER_CHUNK = 4
CHUNK = bytes(1400)
TICKS_PER_PROGRESS = 10
GAP_NS = 150_000_000
"""A transfer is on record as pausing when nothing arrives for this long; a chunk is due every 40 ms."""
CALL_LIFE_NS = 1_000_000_000
WORD_EVERY_NS = 200_000_000
CALL_PATIENCE_NS = 9_000_000_000
"""A call that waits for a word this long is broken; TCP repeats a lost SYN after 1, 3, 7 s."""
FINISH_NS = 10_000_000_000
_OPEN_NS = 10_000_000_000
_HELLO = struct.Struct("!cxH")
_UP, _DOWN, _CALL = b"U", b"D", b"C"
_WORD = b"word"


class _Pulse:
    """When something arrived last, and the gaps before."""

    def __init__(self, now: int) -> None:
        self.last = now
        self.gaps: list[Gap] = []

    def beat(self, now: int) -> None:
        if now - self.last >= GAP_NS:
            self.gaps.append((self.last, now))
        self.last = now


class _Transfer(_Pulse):
    """A stream of chunks from one end to the other."""

    def __init__(self, now: int, upwards: bool) -> None:
        super().__init__(now)
        self.upwards = upwards
        self.client: socket.socket | None = None
        self.server: socket.socket | None = None
        self.sent = self.received = self.ended = 0
        self.error = ""
        self.over = False

    @property
    def running(self) -> bool:
        return self.server is not None and not self.ended

    @property
    def sender(self) -> socket.socket | None:
        return self.client if self.upwards else self.server

    def push(self) -> None:
        if self.running and self.sender:
            with contextlib.suppress(BlockingIOError):
                self.sent += self.sender.send(CHUNK)

    def hear(self, one: socket.socket, now: int) -> int:
        with contextlib.suppress(BlockingIOError):
            got = len(one.recv(1 << 18))
            if got:
                self.beat(now)
            else:
                self.over = True
            self.received += got
            return got
        return 0


class _Call:
    """A short connection; each of its words is to be repeated by the server."""

    def __init__(self, now: int, stream: socket.socket) -> None:
        self.stream = stream
        self.opened = self.spoke = now
        self.answered = self.ended = 0
        self.connected = self.waiting = False
        self.error = ""


class _Traffic:
    """The event loop and everything it owns."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        enter(order["server"])
        self.listening = socket.create_server(("", PORT), backlog=1024)
        self.echo = self._bound()
        enter(order["client"])
        self.asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.asking.setblocking(False)
        self.listening.setblocking(False)
        now = time.monotonic_ns()
        self.transfers = [_Transfer(now, number % 2 == 0) for number in range(order["transfers"])]
        self.calls: list[_Call] = []
        self.live_calls: set[_Call] = set()
        self.udp = _Pulse(now)
        self.udp_sent = self.udp_answered = self.bytes = self.ticks = 0
        self.finishing = False
        self._watch(self.listening, self._accept)
        self._watch(self.echo, self._repeat)
        self._watch(self.asking, self._hear_udp)
        for number in range(order["transfers"]):
            self._open_transfer(number)
        self._open_all(now + _OPEN_NS)

    def run(self) -> None:
        """Send until standard input closes, then let what is on its way arrive."""
        self.udp.last = time.monotonic_ns()
        self.handlers[sys.stdin.fileno()] = self._read_input
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        due = time.monotonic_ns()
        while not self.finishing:
            self._poll(due)
            if (now := time.monotonic_ns()) >= due:
                self._tick(now)
                due = max(due + TICK_NS, now - 5 * TICK_NS)
        self.epoll.unregister(sys.stdin.fileno())
        self._finish()

    def record(self) -> Record:
        """Return everything; gaps that have not ended are in it."""
        return {
            "transfers": [
                {"sent": one.sent, "received": one.received, "gaps": one.gaps, "ended": one.ended, "error": one.error}
                for one in self.transfers
            ],
            "calls": [
                {"opened": one.opened, "answered": one.answered, "ended": one.ended, "error": one.error} for one in self.calls
            ],
            "udp_sent": self.udp_sent,
            "udp_answered": self.udp_answered,
            "udp_gaps": self.udp.gaps,
        }

    def _poll(self, due: int) -> None:
        wait_s = max(0.0, (due - time.monotonic_ns()) / 1e9)
        for descriptor, events in self.epoll.poll(wait_s):
            if handler := self.handlers.get(descriptor):
                handler(events)

    def _watch(self, one: socket.socket, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        self.handlers[one.fileno()] = handler
        self.epoll.register(one.fileno(), events)

    def _drop(self, one: socket.socket | None) -> None:
        if one is not None and one.fileno() >= 0:
            self.handlers.pop(one.fileno(), None)
            self.epoll.unregister(one.fileno())
            one.close()

    def _bound(self) -> socket.socket:
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        echo.bind(("", PORT))
        echo.setblocking(False)
        return echo

    def _connect(self) -> socket.socket:
        stream = socket.socket()
        stream.setblocking(False)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.connect_ex((self.order["address"], PORT))
        return stream

    def _open_transfer(self, number: int) -> None:
        transfer = self.transfers[number]
        transfer.client = stream = self._connect()

        def connected(_events: int) -> None:
            def say() -> None:
                stream.send(_HELLO.pack(_UP if transfer.upwards else _DOWN, number))

            if self._safely(transfer, "client", say):
                self.handlers[stream.fileno()] = lambda _events: self._hear(transfer, stream, "client")
                self.epoll.modify(stream.fileno(), select.EPOLLIN)

        self._watch(stream, connected, select.EPOLLOUT)

    def _open_all(self, deadline: int) -> None:
        while not all(one.running for one in self.transfers):
            if time.monotonic_ns() > deadline or any(one.ended for one in self.transfers):
                opened = sum(one.running for one in self.transfers)
                raise TimeoutError(f"only {opened} of {len(self.transfers)} transfers came to {self.order['address']}")
            self._poll(time.monotonic_ns() + TICK_NS)

    def _safely(self, transfer: _Transfer, side: str, action: Callable[[], object]) -> bool:
        try:
            action()
        except OSError as error:
            transfer.ended, transfer.error = time.monotonic_ns(), f"{side}: {error.strerror or error}"
            self._drop(transfer.client)
            self._drop(transfer.server)
            return False
        return True

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                stream, _ = self.listening.accept()
                stream.setblocking(False)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._watch(stream, lambda _events, stream=stream: self._greet(stream))  # type: ignore[misc]

    def _greet(self, stream: socket.socket) -> None:
        try:
            hello = stream.recv(_HELLO.size)
        except BlockingIOError:
            return
        except OSError:
            hello = b""
        if len(hello) < _HELLO.size:
            self._drop(stream)
            return
        kind, number = _HELLO.unpack(hello)
        if kind == _CALL:
            self.handlers[stream.fileno()] = lambda _events: self._answer(stream)
            self._answer(stream)
            return
        transfer = self.transfers[number]
        transfer.server = stream
        transfer.last = time.monotonic_ns()
        self.handlers[stream.fileno()] = lambda _events: self._hear(transfer, stream, "server")

    def _hear(self, transfer: _Transfer, stream: socket.socket, side: str) -> None:
        def hear() -> None:
            self.bytes += transfer.hear(stream, time.monotonic_ns())
            if transfer.over and not self.finishing:
                raise OSError(0, "ended by the other side")

        self._safely(transfer, side, hear)
        if transfer.over and stream.fileno() >= 0:
            self.epoll.modify(stream.fileno(), 0)

    def _answer(self, stream: socket.socket) -> None:
        """Repeat what a caller says; how a call went is judged by its client alone."""
        try:
            if said := stream.recv(100):
                stream.send(said)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(stream)

    def _repeat(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, client = self.echo.recvfrom(64)
                self.echo.sendto(question, client)

    def _hear_udp(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.asking.recv(64)
                self.udp_answered += 1
                self.udp.beat(time.monotonic_ns())

    def _tick(self, now: int) -> None:
        self.ticks += 1
        with contextlib.suppress(OSError):
            self.asking.sendto(_WORD, (self.order["address"], PORT))
        self.udp_sent += 1
        for transfer in self.transfers[self.ticks % TICKS_PER_CHUNK :: TICKS_PER_CHUNK]:
            self._safely(transfer, "client" if transfer.upwards else "server", transfer.push)
        wanted = self.ticks * self.order["calls"] * TICK_NS // 1_000_000_000
        while len(self.calls) < wanted:
            self._open_call(now)
        if self.ticks % TICKS_PER_PROGRESS == 0:
            self._go_on(now)
            self._report(now)

    def _open_call(self, now: int) -> None:
        call = _Call(now, self._connect())
        self.calls.append(call)
        self.live_calls.add(call)
        self._watch(call.stream, lambda _events: self._hear_call(call), select.EPOLLIN | select.EPOLLOUT)

    def _hear_call(self, call: _Call) -> None:
        try:
            if not call.connected:
                call.stream.send(_HELLO.pack(_CALL, 0) + _WORD)
                call.connected = call.waiting = True
                self.epoll.modify(call.stream.fileno(), select.EPOLLIN)
                return
            if not call.stream.recv(100):
                self._end_call(call, "ended by the other side")
                return
            call.answered = call.answered or time.monotonic_ns()
            call.waiting = False
        except BlockingIOError:
            pass
        except OSError as error:
            self._end_call(call, error.strerror or str(error))

    def _end_call(self, call: _Call, error: str = "") -> None:
        call.ended, call.error = time.monotonic_ns(), error
        self.live_calls.discard(call)
        self._drop(call.stream)

    def _go_on(self, now: int) -> None:
        for call in list(self.live_calls):
            if not call.connected or call.waiting:
                if now - call.spoke > CALL_PATIENCE_NS:
                    self._end_call(call, f"not answered for {CALL_PATIENCE_NS // 1_000_000_000} s")
            elif now - call.opened > CALL_LIFE_NS:
                self._end_call(call)
            elif now - call.spoke > WORD_EVERY_NS:
                call.spoke, call.waiting = now, True
                try:
                    call.stream.send(_WORD)
                except OSError as error:
                    self._end_call(call, error.strerror or str(error))

    def _report(self, now: int) -> None:
        progress: Progress = {
            "at": now,
            "bytes": self.bytes,
            "lost": sum(bool(one.ended) for one in self.transfers),
            "silent": max((now - one.last for one in self.transfers if one.running), default=0),
            "udp_silent": now - self.udp.last,
            "calls": len(self.calls),
            "broken": sum(bool(one.error) for one in self.calls),
        }
        self.bytes = 0
        _print(progress)

    def _finish(self) -> None:
        """Close every transfer at its sender and wait until all has arrived at the other end."""
        for transfer in self.transfers:
            if transfer.running and (sender := transfer.sender):
                self._safely(transfer, "end", lambda sender=sender: sender.shutdown(socket.SHUT_WR))  # type: ignore[misc]
        deadline = time.monotonic_ns() + FINISH_NS
        while time.monotonic_ns() < deadline and any(one.running and not one.over for one in self.transfers):
            self._poll(time.monotonic_ns() + TICK_NS)
        now = time.monotonic_ns()
        for transfer in self.transfers:
            if transfer.running and not transfer.over:
                transfer.beat(now)
                transfer.ended, transfer.error = now, "silent at the end"
        self.udp.beat(now)

    def _read_input(self, _events: int) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self.finishing = True


def _print(line: Any) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Send as the order on standard input says; return the exit status."""
    # The terminal sends Ctrl-C to the whole group; whoever started us closes our input when it wants the record.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    try:
        traffic = _Traffic(json.loads(sys.stdin.readline()))
    except (OSError, TimeoutError) as error:
        _print({"refused": str(error)})
        return 1
    traffic.run()
    _print({"record": traffic.record()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
