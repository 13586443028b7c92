"""One host of a virtual LAN: an engine, and what carries out its actions without a kernel."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from carp.protocol.actions import Action, Announce, CloseFence, Prepare, Probe, Release, Send, SetMask, Take, Transition
from carp.protocol.engine import Engine
from carp.protocol.events import Due, Event, PacketArrived, ParentChanged, Prepared, Probed, Sent, Stalled, TakeFailed, Taken
from carp.protocol.packet import destination_of
from carp.protocol.values import Family, Instant, State

from .clock import Rank, VirtualClock, milliseconds
from .history import Change, History
from .hosts import parent_mac
from .kernel import Kernel


class Wire(Protocol):
    """Where a station's packets go."""

    def transmit(self, sender: "Station", parent: str, send: Send) -> None:
        """Bring a packet to the other stations on the wire of this name."""


@dataclass(slots=True)
class ParentLink:
    """A parent interface of a station; `name` is also that of the wire."""

    name: str
    sources: dict[Family, bytes]
    present: bool = True
    up: bool = True

    @property
    def carries(self) -> bool:
        """Whether packets go in and out."""
        return self.present and self.up


@dataclass(slots=True)
class Hardware:
    """What a test can break: how long a take and a pre-master stage last, and what fails with which error."""

    take_delay_ns: int = milliseconds(2)
    stage_ns: int = milliseconds(50)
    take_error: str | None = None
    send_errno: int | None = None


@dataclass(slots=True)
class Noted:
    """What the engine asked for, for tests that look at it."""

    actions: list[tuple[Instant, Action]] = field(default_factory=list)
    announced: list[tuple[Instant, Announce]] = field(default_factory=list)


class Station:
    """A host: it feeds its engine, carries out what that asks for, and wakes it when it wants to be woken.

    It keeps the contract of `Due`: packets that arrived up to a deadline are handed over before the deadline.
    """

    def __init__(self, name: str, number: int, engine: Engine, clock: VirtualClock, wire: Wire, history: History) -> None:
        self.name = name
        self.number = number
        self.engine = engine
        self.parents: dict[str, ParentLink] = {}
        self.hardware = Hardware()
        self.noted = Noted()
        self.alive = True
        self.kernel = Kernel(name, clock, history)
        self._clock = clock
        self._wire = wire
        self._history = history
        self._waiting: deque[Event] = deque()
        self._busy = False
        self._wake_at: Instant | None = None
        self._frozen_since: Instant | None = None
        self._inbox: list[Event] = []
        self._takes: dict[str, int] = {}

    @property
    def frozen(self) -> bool:
        """Whether the station's time stands still."""
        return self._frozen_since is not None

    def state(self, vhid: int = 1) -> State:
        """Tell the state of a virtual host.

        Raises:
            LookupError: the station has no such one.
        """
        for interface in self.engine.interfaces:
            for vhost in interface.vhosts:
                if vhost.vhid == vhid:
                    return vhost.state
        raise LookupError(vhid)

    def feed(self, event: Event) -> None:
        """Hand an event to the engine, and carry out what follows: a frozen station later, a dead one never."""
        if not self.alive:
            return
        if self.frozen:
            self._inbox.append(event)
            return
        self._waiting.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._waiting:
                for action in self.engine.handle(self._waiting.popleft(), self._clock.now):
                    self._carry_out(action)
        finally:
            self._busy = False
        self._plan_wake_up()

    def receive(self, packet: PacketArrived) -> bool:
        """Let a packet arrive; tell whether it reached the engine, now or later."""
        link = self.parents.get(packet.parent)
        if not self.alive or link is None or not link.carries:
            return False
        self.feed(packet)
        return True

    def has_address(self, parent: str, family: Family, packet: bytes) -> bool:
        """Tell whether an IP packet is for this host alone: its parent has the destination."""
        link = self.parents.get(parent)
        return link is not None and link.sources.get(family) == destination_of(family, packet)

    def set_parent(self, name: str, *, present: bool, up: bool, sources: Mapping[Family, bytes] | None = None) -> None:
        """Change a parent interface and tell the engine."""
        link = self.parents.setdefault(name, ParentLink(name, {}))
        link.present, link.up = present, up
        if sources is not None:
            link.sources = dict(sources)
        self.feed(ParentChanged(name, present, up, parent_mac(self.number), tuple(link.sources.items())))

    def kill(self) -> None:
        """Let the daemon vanish without a word; the kernel goes on answering until the fence closes by itself."""
        self.alive = False
        self._history.end_reigns(self.name, self._clock.now)

    def freeze(self, duration_ns: int, *, reported: bool) -> None:
        """Let the host not run for a time; packets wait in its sockets. `reported`: it notices, and says Stalled."""
        self._frozen_since = self._clock.now
        self._clock.call_in(duration_ns, lambda: self._thaw(reported), Rank.DEADLINE)

    def _thaw(self, reported: bool) -> None:
        gap_ns = self._clock.now - (self._frozen_since if self._frozen_since is not None else self._clock.now)
        self._frozen_since = None
        if reported:
            self.feed(Stalled(gap_ns))
        inbox, self._inbox = self._inbox, []
        for event in inbox:
            self.feed(event)
        self._wake_at = None
        self._plan_wake_up()

    def _carry_out(self, action: Action) -> None:
        now = self._clock.now
        self.noted.actions.append((now, action))
        if isinstance(action, Send):
            self._send(action)
        elif isinstance(action, Take):
            self._take(action)
        elif isinstance(action, Prepare):
            done = Prepared(action.interface, action.vhid, action.serial)
            self._clock.call_in(self.hardware.stage_ns, lambda: self.feed(done))
        elif isinstance(action, Probe):
            self._waiting.append(Probed(action.interface, self.hardware.send_errno))
        elif isinstance(action, CloseFence):
            self.kernel.open_until(action.interface, action.vhid, now)
        elif isinstance(action, SetMask):
            self.kernel.set_mask(action.interface, action.mask)
        elif isinstance(action, Release):
            self._takes[action.interface] = self._takes.get(action.interface, 0) + 1
            self.kernel.hold(action.interface, frozenset())
        elif isinstance(action, Announce):
            self.noted.announced.append((now, action))
        elif isinstance(action, Transition):
            change = Change(now, self.name, action.vhid, action.old, action.new, action.reason)
            self._history.record_change(change)

    def _send(self, action: Send) -> None:
        interface = self.engine.interface(action.interface)
        error = self.hardware.send_errno
        parent = interface.parameters.carpdev if interface is not None else next(iter(self.parents))
        if error is None and self.parents[parent].carries:
            self._wire.transmit(self, parent, action)
        if error is None and action.holds_ns > 0:
            self.kernel.open_until(action.interface, action.vhid, Instant(self._clock.now + action.holds_ns))
        self._waiting.append(Sent(action.interface, action.vhid, action.family, error))

    def _take(self, action: Take) -> None:
        number = self._takes[action.interface] = self._takes.get(action.interface, 0) + 1
        error = self.hardware.take_error
        interface = self.engine.interface(action.interface)
        if interface is not None:
            self.kernel.follow(interface.parameters)

        def done() -> None:
            if self._takes[action.interface] != number or not self.alive:
                return  # overtaken by a later take or release
            if error is not None:
                self.feed(TakeFailed(action.interface, error))
                return
            self.kernel.hold(action.interface, frozenset(action.addresses))
            self.feed(Taken(action.interface))

        self._clock.call_in(self.hardware.take_delay_ns, done)

    def _plan_wake_up(self) -> None:
        due = self.engine.next_deadline()
        if due is None or (self._wake_at is not None and self._wake_at <= due):
            return
        self._wake_at = due
        self._clock.call_at(due, lambda: self._wake_up(due), Rank.DEADLINE)

    def _wake_up(self, planned: Instant) -> None:
        if self._wake_at != planned or self.frozen:
            return
        self._wake_at = None
        due = self.engine.next_deadline()
        if due is not None and due <= self._clock.now:
            self.feed(Due(self._clock.now))
        else:
            self._plan_wake_up()
