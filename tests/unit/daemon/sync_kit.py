"""conntrackd and its peer in a loop whose time passes only when nothing else is to be done; and a host that depends on them."""

import asyncio
import selectors
from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from carp.config.sync import Sync
from carp.daemon import state_commit, state_stages, state_sync
from carp.daemon.state_sync import FACT, StateSync
from carp.linux import conntrackd
from carp.linux.conntrackd import ConntrackdError, ConntrackdLateError, Request
from carp.protocol.actions import Action, Prepare, Take, Transition
from carp.protocol.engine import Engine
from carp.protocol.events import DemotionEnded, DemotionStarted, Event, Forced, Prepared
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import NANOSECONDS_PER_SECOND, Instant, State
from carp.testing.clock import START, seconds
from carp.testing.hosts import carp_interface, configured, parent_up
from carp.testing.packets import Peer

CARP0 = carp_interface("carp0", 1, pre_master=True)
CARP1 = carp_interface("carp1", 2, pre_master=True)
OTHER = carp_interface("carp9", 9, pre_master=True, groups=("dmz",))

SYNC = Sync(
    "/run/conntrackd.sock",
    "sync0",
    None,
    None,
    timeout_ns=seconds(2),
    bulk_timeout_ns=seconds(10),
    demote=32,
    groups=frozenset({"carp"}),
)

_STATISTICS = """\
cache internal:
current active connections:\t {internal}
connections created:\t\t 1000\tfailed:\t 0

cache external:
current active connections:\t {external}
connections created:\t\t {changes}\tfailed:\t 0
connections updated:\t\t 0\tfailed:\t 0

UDP traffic (active device=sync0):
 {sent_bytes} Bytes sent {received_bytes} Bytes recv
 1 Pckts sent {received} Pckts recv

message tracking:
 0 Malformed msgs {lost} Lost msgs
"""
_ANSWERS_AFTER_S = 0.0001
_BULK_TAKES_S = 0.02


class _Hasty(selectors.SelectSelector):
    """Lets the loop's time pass instead of waiting."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; let as much time pass as nobody needs."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is going to happen any more"
            self.loop.now_ns += round(timeout * NANOSECONDS_PER_SECOND)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that never waits."""

    def __init__(self) -> None:
        self.now_ns: int = START
        selector = _Hasty()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Tell the time in seconds."""
        return self.now_ns / NANOSECONDS_PER_SECOND


class Conntrackd:
    """conntrackd of this host, and what its peer sends it: keep-alives, and `peer_states` when it is asked for them.

    `asked` is what it was asked beside its statistics, with the ms since the beginning. `takes_s` is how long it works at a
    request; a commit goes on when nobody waits for it any more, and another one is answered at once meanwhile. `kernel` is how
    many states commits have written, the last one at `committed_ms`. `peer` is whether it hears of a peer at all.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.pid = 100
        self.dead = False
        self._goes_on = asyncio.Event()
        self.hangs = False
        self.kernel = 0
        self.committed_ms: int | None = None
        self._commit: asyncio.Task[None] | None = None
        self.peer = True
        self.peer_states = 500
        self.sends_states = True
        self.takes_s: dict[Request, float] = {}
        self.external = self.changes = self.received = self.lost = 0
        self.sent_bytes, self.received_bytes = 1, 2
        self.events: list[int] = [0]
        """Answers to the question for the events of the kernel; the last one is repeated."""
        self.asked: list[tuple[int, str]] = []
        self.looks: list[int] = []
        """When its statistics were asked for, in ms."""
        self.paths: set[str] = set()

    @property
    def hangs(self) -> bool:
        """Whether it does nothing; what it is asked meanwhile it does when it goes on."""
        return not self._goes_on.is_set()

    @hangs.setter
    def hangs(self, hangs: bool) -> None:
        (self._goes_on.clear if hangs else self._goes_on.set)()

    def now_ms(self) -> int:
        """Tell the time since the beginning, in ms."""
        return (self._loop.now_ns - START) // 1_000_000

    async def keep_alive(self) -> None:
        """Hear of the peer every second."""
        while True:
            await asyncio.sleep(1)
            if self.peer and not self.dead:
                self.received += 1

    def restart(self) -> None:
        """Begin anew, with nothing of the peer."""
        self.dead = self.hangs = False
        self.pid += 1
        self.external = self.changes = self.received = self.lost = 0

    def words(self) -> list[str]:
        """Return what was asked since the last look, without times."""
        words = [word for _, word in self.asked]
        self.asked.clear()
        return words

    async def ask(self, path: str, request: Request, timeout_s: float | None) -> tuple[str, int]:
        """Answer as conntrackd does."""
        self.paths.add(path)
        if request is Request.STATISTICS:
            self.looks.append(self.now_ms())
        elif request is not Request.RUNTIME:
            self.asked.append((self.now_ms(), request.name))
        if self.dead:
            raise ConntrackdError(f"cannot be asked at {path}: Connection refused")
        pid = self.pid
        try:
            async with asyncio.timeout(timeout_s):
                await self._work(request)
        except TimeoutError:
            raise ConntrackdLateError(f"does not answer within {timeout_s:g} s") from None
        if request is Request.STATISTICS:
            return _STATISTICS.format(internal=7, **vars(self)), pid
        if request is Request.RUNTIME:
            return f"events received: {self.events.pop(0) if len(self.events) > 1 else self.events[0]}", pid
        if request is Request.ASK_PEER and self.peer and self.sends_states:
            self._loop.call_later(_BULK_TAKES_S, self._take_states)
        elif request is Request.FLUSH:
            self.external = 0
        return "", pid

    async def _work(self, request: Request) -> None:
        if request is not Request.COMMIT:
            await self._goes_on.wait()
            await asyncio.sleep(self.takes_s.get(request, _ANSWERS_AFTER_S))
        elif self._commit is None or self._commit.done():
            self._commit = self._loop.create_task(self._write())
            await asyncio.shield(self._commit)
        else:
            await self._goes_on.wait()

    async def _write(self) -> None:
        await self._goes_on.wait()
        await asyncio.sleep(self.takes_s.get(Request.COMMIT, _ANSWERS_AFTER_S))
        self.kernel = max(self.kernel, self.external)
        self.committed_ms = self.now_ms()

    def _take_states(self) -> None:
        self.external = self.peer_states
        self.changes += self.peer_states
        self.received += 1 + self.peer_states // 15


class House:
    """An engine with carp interfaces that are BACKUP, and who watches conntrackd for it.

    `demotions` is what the groups were demoted by for the lack of states, one after the other; `taken` is when addresses went
    live, in ms. A pre-master hook takes `hook_takes_s`.
    """

    def __init__(self, loop: VirtualLoop, *interfaces: InterfaceParameters, preempt: bool = False) -> None:
        self._loop = loop
        self.conntrackd = Conntrackd(loop)
        self.link_is_up = self.link_exists = True
        self.hook_takes_s = 0.0
        self.demotions: list[int] = []
        self.taken: dict[str, int] = {}
        self._within = False
        self.engine = Engine(1, Random(1))
        self.sync = StateSync(self.engine, self.handle, self.link_up)
        for event in (parent_up(), configured(*(interfaces or (CARP0,)), preempt=preempt)):
            self.handle(event)

    def link_up(self, name: str) -> bool:
        """Tell whether the dedicated link is up; there is no other."""
        assert name == SYNC.interface
        return self.link_is_up

    def handle(self, event: Event) -> None:
        """Give the engine an event and do what it asks for, as the daemon does."""
        assert not self._within
        pending: deque[Action] = deque(self.engine.handle(event, Instant(self._loop.now_ns)))
        if isinstance(event, DemotionStarted | DemotionEnded):
            self.demotions.append(self.demotion)
        while pending:
            match action := pending.popleft():
                case Prepare():
                    self._tell(self.sync.prepare, action)
                    over = Prepared(action.interface, action.vhid, action.serial)
                    self._loop.call_later(self.hook_takes_s, self.sync.prepared, over)
                case Take():
                    self.taken[action.interface] = self.conntrackd.now_ms()
                case Transition():
                    self._tell(self.sync.transition, action)

    def _tell(self, whom: Callable[[Any], None], action: Action) -> None:
        self._within = True
        whom(action)
        self._within = False

    @property
    def demotion(self) -> int:
        """What carp interfaces of the groups are demoted by for the lack of states."""
        fact = self.engine.host.demotions.find(FACT)
        return 0 if fact is None else fact.amount

    def demote_of(self, name: str) -> int:
        """Return the demote count that a carp interface advertises."""
        interface = self.engine.interface(name)
        assert interface is not None
        return interface.demote

    def now(self) -> Instant:
        """Tell the time."""
        return Instant(self._loop.now_ns)

    def state(self, name: str = "carp0") -> State:
        """Return the state of a carp interface."""
        interface = self.engine.interface(name)
        assert interface is not None
        return interface.leader.state

    def held_back(self, name: str = "carp0") -> bool:
        """Tell whether a carp interface preempts nobody."""
        interface = self.engine.interface(name)
        assert interface is not None
        return interface.held_back

    def force(self, state: State, *names: str) -> None:
        """Let carp interfaces be in a state; carp0 unless others are named."""
        for name in names or ("carp0",):
            self.handle(Forced(name, state))

    def hear(self, peer: Peer) -> None:
        """Let an advertisement of a peer arrive."""
        self.handle(peer.arrives(peer.advertisement(), self._loop.now_ns))

    @property
    def reason(self) -> Any:
        """What the status says."""
        return self.sync.describe()["reason"]

    @property
    def synchronised(self) -> Any:
        """What the status says."""
        return self.sync.describe()["synchronised"]

    async def wait_for(self, condition: Callable[[], object], most_s: float = 30) -> float:
        """Wait for a condition; return the seconds that it took."""
        began = self._loop.now_ns
        while not condition():
            assert self._loop.now_ns - began < seconds(most_s), (self.reason, self.demotions, self.conntrackd.asked)
            await asyncio.sleep(0.001)
        return (self._loop.now_ns - began) / NANOSECONDS_PER_SECOND

    async def pass_time(self, duration_s: float) -> None:
        """Let time pass."""
        await asyncio.sleep(duration_s)

    async def synchronise(self) -> None:
        """Begin, and wait until everything is as it should be; forget how it came about."""
        self.sync.adopt(SYNC)
        await self.wait_for(lambda: self.synchronised)
        self.demotions.clear()
        self.conntrackd.asked.clear()

    async def begin_as_master(self) -> None:
        """Let carp0 be MASTER with live addresses, and everything be as it should be."""
        self.force(State.MASTER)
        await self.wait_for(lambda: "carp0" in self.taken)
        await self.synchronise()


Scenario = Callable[[House], Awaitable[None]]


def housed(
    monkeypatch: pytest.MonkeyPatch, scenario: Scenario, *interfaces: InterfaceParameters, preempt: bool = False
) -> None:
    """Play a scenario with a house of these carp interfaces, carp0 if none is given; no error of its loop goes unseen."""
    errors: list[dict[str, Any]] = []

    async def played() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.set_exception_handler(lambda _, context: errors.append(context))
        for module in (state_sync, state_stages, state_commit):
            monkeypatch.setattr(module, "boottime", lambda: Instant(loop.now_ns))
        house = House(loop, *interfaces, preempt=preempt)
        monkeypatch.setattr(state_sync, "_exists", lambda _: house.link_exists)
        monkeypatch.setattr(conntrackd, "ask", house.conntrackd.ask)
        peer = loop.create_task(house.conntrackd.keep_alive())
        await scenario(house)
        peer.cancel()
        await house.sync.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(played())
    assert errors == []
