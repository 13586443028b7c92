"""Where a pair runs: LANs, hosts a and b with one program, a client, and somebody who asks by ARP who answers."""

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from lab.capture import Capture, packet_socket
from lab.lan import Lan, Port
from lab.prober import Prober
from lab.stage import Stage

from .frames import Stamped, arp_question
from .subject import PREFIX_LENGTH, Router, Shape, Subject, interface, own_address

ASK_EVERY_S = 0.005
_NUMBERS = {"a": 1, "b": 2, "asker": 8, "client": 9}
_START_MARGIN_S = 60.0
_SECONDS_A_VIRTUAL_HOST = 0.05
_QUIET_S = 0.3


class Arena:
    """A pair on its LANs; a context manager that leaves nothing behind."""

    def __init__(self, subject: Subject, shape: Shape) -> None:
        self.subject, self.shape = subject, shape
        self.addresses = shape.addresses()
        self._stack = ExitStack()
        try:
            self.stage = self._stack.enter_context(Stage())
            self.lans: list[Lan] = [self.stage.lan]
            self.a, self.b = (self._router(label, rank) for rank, label in enumerate("ab"))
            self.client = self.stage.port("client", [f"{own_address(0, 9)}/{PREFIX_LENGTH}"])
        except BaseException:
            self._stack.close()
            raise

    def _router(self, label: str, rank: int) -> Router:
        port = self.stage.port(label, [f"{own_address(0, rank + 1)}/{PREFIX_LENGTH}"])
        for parent in range(1, self.shape.parents):
            if len(self.lans) <= parent:
                self.lans.append(self.stage.another_lan())
            self.lans[parent].join(port, interface(parent), [f"{own_address(parent, rank + 1)}/{PREFIX_LENGTH}"])
        router = self.subject.router(self.subject, port, self.stage.directory / label, rank, self.shape)
        self._stack.callback(router.close)
        return router

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Hundreds of processes and links go faster when they are not asked to hand over first.
        for router in (self.b, self.a):
            if router.running:
                router.kill()
        self._stack.close()

    @property
    def patience_s(self) -> float:
        """How long a change of owner is waited for."""
        return self.subject.master_down_ns / 1e9 + _START_MARGIN_S / 4 + self.shape.virtual_hosts * _SECONDS_A_VIRTUAL_HOST

    def settle(self) -> None:
        """Start what does not run; return when a has all addresses and b none."""
        everything = len(self.addresses)
        for router in (self.a, self.b):
            if not router.running:
                router.clean()
                router.start()
                router.wait_until_ready()
            if router is self.a and not self.b.running:
                self.a.wait_until_holding(everything, self.patience_s + _START_MARGIN_S)
        self.a.wait_until_holding(everything, self.patience_s)
        self.b.wait_until_holding(0, self.patience_s)
        self.breathe(1.1 * self.subject.interval_ns / 1e9 + _QUIET_S)

    @staticmethod
    def breathe(seconds: float) -> None:
        """Let time pass."""
        threading.Event().wait(seconds)

    def prober(self) -> Prober:
        """Start to ask for the first shared address each millisecond."""
        return Prober([self.a.port, self.b.port], self.client, self.addresses[:1])

    def captures(self, stack: ExitStack, *routers: Router) -> dict[str, "Recording"]:
        """Record what leaves hosts, on all LANs, until the stack is left; by label."""
        ports = {router.label: [lan.ports[router.label] for lan in self.lans] for router in routers}
        return {label: Recording([stack.enter_context(Capture(port)) for port in each]) for label, each in ports.items()}

    def heard(self, stack: ExitStack, router: Router) -> "Recording":
        """Record what reaches a host on its first LAN, until the stack is left."""
        return Recording([stack.enter_context(Capture(router.port, inside=True))])

    def asker(self) -> "Asker":
        """Ask everybody by ARP who has the first shared address."""
        port = self.stage.port("asker", [f"{own_address(0, 8)}/{PREFIX_LENGTH}"])
        return Asker(port, self.addresses[0])


class Asker:
    """Broadcasts the same question while its block lasts, so that every host that has the address answers."""

    def __init__(self, port: Port, address: str) -> None:
        self._socket = packet_socket(port)
        self._frame = arp_question(bytes.fromhex(port.mac.replace(":", "")), own_address(0, 8), address)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._ended.wait(ASK_EVERY_S):
            self._socket.send(self._frame)


class Recording:
    """What left one host."""

    def __init__(self, captures: Iterable[Capture]) -> None:
        self._captures = list(captures)

    def stamped(self) -> list[Stamped]:
        """Return the frames since the last call in order of time, each with its instant."""
        return sorted(frame for capture in self._captures for frame in capture.stamped())
