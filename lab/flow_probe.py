"""The process that sends thousands of flows to shared addresses and hears which hosts answer each.

Run as `python -m lab.flow_probe`. It reads one line of JSON (`FlowOrder`) from standard input, opens an echo socket for every
shared address in every host's namespace and one packet socket on the client's interface, and then does what it is told, a
word a line: `resolve`, `round`, `run PERIOD_MS`, `halt`. Each is answered by one line of JSON; while it runs, a line comes
every `PROGRESS_EVERY_NS`. It ends when standard input closes.

One thread does all: it sends no more than WINDOW questions that are not answered yet, so that no queue of the kernel
overflows however many hosts get a copy of each. An echo socket is bound to the shared address long before a host owns it.
"""

import base64
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

from lab.netns import bind_freely, enter
from lab.stations import PORT, QUESTION, answer, family_of, number, question, request, resolved, stations

PATIENCE_NS = 1_000_000_000
PROGRESS_EVERY_NS = 250_000_000
WINDOW = 64
FORGET_NS = 20_000_000
"""After this time an unanswered question no longer keeps others from being sent."""
LINGER_NS = 60_000_000
"""How long a second answer is waited for when each question has one."""
_TRIES = 3
_TICK_NS = 2_000_000
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 0x0003
_BUFFER_BYTES = 32 << 20
_FRAME_BYTES = 512
_BURST = 64

# The interface is down or its queue is full for now: a question like any other that gets no answer.
_unsent = contextlib.suppress(OSError)


class FlowOrder(TypedDict):
    """What to ask: the namespaces' files by host label, the client's and its interface, the addresses, how many flows
    each, and the number of the LAN.
    """

    hosts: dict[str, str]
    client: str
    interface: str
    addresses: list[str]
    flows: int
    lan: int


class Tally(TypedDict):
    """Since the line before, by address: flows that each host answered, and how many were asked."""

    at: int
    asked: int
    answered: dict[str, dict[str, int]]


class Answers(TypedDict):
    """Answers in base64 arrays of machine byte order; `mac` indexes `macs`. What was asked is `flows` of each address."""

    macs: list[str]
    addresses: list[str]
    flow: dict[str, str]
    number: dict[str, str]
    host: dict[str, str]
    mac: dict[str, str]
    at: dict[str, str]
    asked_flow: dict[str, str]
    asked_at: dict[str, str]


class _Target:
    """One shared address: the frames of its flows, and what was asked and answered since the last clearing."""

    def __init__(self, address: str, flows: int, hosts: int) -> None:
        self.address = address
        self.frames: list[bytearray | None] = [None] * flows
        self.numbers = array("I", [0]) * flows
        self.hosts = hosts
        self.clear()

    def clear(self) -> None:
        self.flow, self.number, self.host, self.mac, self.at = array("I"), array("I"), array("b"), array("I"), array("q")
        self.asked_flow, self.asked_at = array("I"), array("q")
        self.first_number = array("I", self.numbers)
        self.tally = [0] * self.hosts


class _FlowProbe:
    def __init__(self, order: FlowOrder) -> None:
        self.labels = list(order["hosts"])
        self.stations = stations(order["flows"], order["lan"])
        self.handlers: dict[int, Callable[[], None]] = {}
        self.echoes: list[socket.socket] = []
        self.epoll = select.epoll()
        for index, path in enumerate(order["hosts"].values()):
            enter(path)
            for address in order["addresses"]:
                self._open_echo(address, index)
        enter(order["client"])
        self.packets = _packet_socket(order["interface"])
        self._watch(self.packets.fileno(), self._hear)
        self.targets = [_Target(address, order["flows"], len(self.labels)) for address in order["addresses"]]
        self.by_address = {target.address: target for target in self.targets}
        self.macs: dict[bytes, int] = {}
        self.told: dict[str, dict[int, list[tuple[str, str]]]] = {target.address: {} for target in self.targets}
        self.waiting: dict[tuple[int, int], int] = {}

    def obey(self) -> None:
        """Do what standard input says until it closes."""
        for line in iter(self._command, ""):
            word, _, rest = line.partition(" ")
            if word == "resolve":
                _print(self._resolve())
            elif word == "round":
                _print(self._round())
            elif word == "run":
                _print(self._run(int(rest) * 1_000_000))

    def _command(self) -> str:
        # Echoes must work between commands too: an idle flow may be asked by others.
        while True:
            for descriptor, _ in self.epoll.poll(0 if self._has_input() else 0.02):
                self.handlers[descriptor]()
            if self._has_input():
                return sys.stdin.readline().strip()

    @staticmethod
    def _has_input() -> bool:
        return bool(select.select([sys.stdin], [], [], 0)[0])

    def _resolve(self) -> dict[str, Any]:
        """Let every station ask for the MAC of every address, and make the frames of its questions."""
        for one in self.told.values():
            one.clear()
        for _ in range(_TRIES):
            missing = [
                (target, flow)
                for target in self.targets
                for flow in range(len(self.stations))
                if flow not in self.told[target.address]
            ]
            if not missing:
                break
            self._send_all(missing, self._ask_for_mac, lambda key: key[1] not in self.told[self.targets[key[0]].address])
        for target in self.targets:
            for flow, told in self.told[target.address].items():
                mac = bytes.fromhex(told[0][0].replace(":", ""))
                target.frames[flow] = question(self.stations[flow], target.address, mac)
        return {"told": {address: {str(flow): told for flow, told in one.items()} for address, one in self.told.items()}}

    def _ask_for_mac(self, target: _Target, flow: int) -> None:
        with _unsent:
            self.packets.send(request(self.stations[flow], target.address))

    def _round(self) -> Answers:
        """Ask one question of each flow."""
        for target in self.targets:
            target.clear()
        self.waiting.clear()
        all_flows = [
            (target, flow) for flow in range(len(self.stations)) for target in self.targets if target.frames[flow] is not None
        ]
        self._send_all(all_flows, self._ask, lambda key: key in self.waiting)
        return self._record()

    def _send_all(
        self,
        questions: list[tuple[_Target, int]],
        send: Callable[[_Target, int], None],
        is_open: Callable[[tuple[int, int]], bool],
    ) -> None:
        """Send questions with at most WINDOW of them on their way; return when all had their answer or their time."""
        index = {id(target): number for number, target in enumerate(self.targets)}
        flying: deque[tuple[int, tuple[int, int]]] = deque()
        outstanding: deque[tuple[int, tuple[int, int]]] = deque()
        left: Iterator[tuple[_Target, int]] = iter(questions)
        more = True
        while more or outstanding:
            now = time.monotonic_ns()
            while flying and (now - flying[0][0] > FORGET_NS or not is_open(flying[0][1])):
                outstanding.append(flying.popleft())
            while outstanding and (now - outstanding[0][0] > PATIENCE_NS or not is_open(outstanding[0][1])):
                outstanding.popleft()
            while more and len(flying) < WINDOW:
                if (one := next(left, None)) is None:
                    more = False
                    break
                send(*one)
                flying.append((time.monotonic_ns(), (index[id(one[0])], one[1])))
            if not more and flying:
                outstanding.extend(flying)
                flying.clear()
            self._poll(0.002)
        self._listen(LINGER_NS)

    def _ask(self, target: _Target, flow: int) -> None:
        frame = target.frames[flow]
        assert frame is not None
        value = target.numbers[flow]
        target.numbers[flow] = value + 1
        target.asked_flow.append(flow)
        target.asked_at.append(time.monotonic_ns())
        self.waiting[self.targets.index(target), flow] = value
        with _unsent:
            self.packets.send(number(frame, value))

    def _run(self, period_ns: int) -> Answers:
        """Ask a question of each flow each period, spread evenly over it, until the next word comes."""
        for target in self.targets:
            target.clear()
        self.waiting.clear()
        # Flows take turns, so that each moment sees a sample of all of them.
        turns = [(target, flow) for flow in range(len(self.stations)) for target in self.targets]
        begin = last_progress = time.monotonic_ns()
        sent = asked = 0
        while not self._has_input():
            now = time.monotonic_ns()
            due = (now - begin) * len(turns) // period_ns
            # After a stall of our own the burst is bounded like any other.
            for _ in range(min(due - sent, _BURST)):
                target, flow = turns[sent % len(turns)]
                if target.frames[flow] is not None:
                    self._ask(target, flow)
                    asked += target is self.targets[0]
                sent += 1
            if now - last_progress >= PROGRESS_EVERY_NS:
                self._report(now, asked)
                last_progress, asked = now, 0
            self._poll(_TICK_NS / 1e9)
        self._listen(PATIENCE_NS)
        return self._record()

    def _report(self, now: int, asked: int) -> None:
        counts = {
            target.address: {self.labels[host]: count for host, count in enumerate(target.tally) if count}
            for target in self.targets
        }
        tally: Tally = {"at": now, "asked": asked, "answered": counts}
        _print(tally)
        for target in self.targets:
            target.tally = [0] * len(self.labels)

    def _record(self) -> Answers:
        def texts(name: str) -> dict[str, str]:
            return {target.address: base64.b64encode(getattr(target, name).tobytes()).decode() for target in self.targets}

        # Numbers go on over rounds; a record counts from its own beginning.
        for target in self.targets:
            for place, flow in enumerate(target.flow):
                target.number[place] -= target.first_number[flow]
        return {
            "macs": [mac.hex(":") for mac in self.macs],
            "addresses": [target.address for target in self.targets],
            "flow": texts("flow"),
            "number": texts("number"),
            "host": texts("host"),
            "mac": texts("mac"),
            "at": texts("at"),
            "asked_flow": texts("asked_flow"),
            "asked_at": texts("asked_at"),
        }

    def _poll(self, timeout_s: float) -> None:
        for descriptor, _ in self.epoll.poll(timeout_s):
            self.handlers[descriptor]()

    def _listen(self, duration_ns: int) -> None:
        deadline = time.monotonic_ns() + duration_ns
        while (left := deadline - time.monotonic_ns()) > 0:
            self._poll(left / 1e9)

    def _hear(self) -> None:
        for _ in range(_BURST):
            try:
                frame = self.packets.recv(_FRAME_BYTES)
            except OSError:
                return
            if (heard := answer(frame)) is not None:
                self._hear_answer(frame, *heard)
            elif (told := resolved(frame)) is not None and told.address in self.told:
                seen = self.told[told.address].setdefault(told.flow, [])
                seen.append((told.mac.hex(":"), told.ethernet_source.hex(":")))

    def _hear_answer(self, frame: bytes, host: int, flow: int, value: int) -> None:
        at = time.monotonic_ns()
        # An answer's source is the shared address.
        packed = frame[26:30] if frame[12] == 0x08 else frame[22:38]
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        target = self.by_address.get(socket.inet_ntop(family, packed))
        if target is None or value < target.first_number[flow]:
            return
        target.flow.append(flow)
        target.number.append(value)
        target.host.append(host)
        target.mac.append(self.macs.setdefault(frame[6:12], len(self.macs)))
        target.at.append(at)
        target.tally[host] += 1
        key = self.targets.index(target), flow
        if self.waiting.get(key) == value:
            del self.waiting[key]

    def _open_echo(self, address: str, host: int) -> None:
        echo = socket.socket(family_of(address), socket.SOCK_DGRAM)
        echo.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        echo.setblocking(False)
        bind_freely(echo, address, PORT)
        label = bytes((host,))

        def reply() -> None:
            for _ in range(_BURST):
                try:
                    asked, client = echo.recvfrom(QUESTION.size)
                    echo.sendto(label + asked, client)
                except BlockingIOError:
                    return
                except OSError:
                    # The address left between question and answer, or the fence is closed.
                    continue

        self.echoes.append(echo)
        self._watch(echo.fileno(), reply)

    def _watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        self.handlers[descriptor] = handler
        self.epoll.register(descriptor, select.EPOLLIN)


def _packet_socket(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    raw.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    raw.bind((interface, _ETH_P_ALL))
    raw.setblocking(False)
    return raw


def _print(line: Any) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Ask as standard input says; return the exit status."""
    probe = _FlowProbe(json.loads(sys.stdin.readline()))
    # The terminal sends Ctrl-C to the whole group; whoever started us closes our input when it wants us to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    _print({"ready": os.getpid()})
    probe.obey()
    return 0


if __name__ == "__main__":
    sys.exit(main())
