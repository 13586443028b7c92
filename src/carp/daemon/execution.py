"""Gives the engine events and carries out what it asks for, in order; it is told at once what came of it."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from ..config.load import Configuration
from ..linux.clock import boottime
from ..protocol.actions import (
    Action,
    Announce,
    CloseFence,
    Drop,
    Notice,
    Prepare,
    Probe,
    Release,
    Send,
    SetMask,
    Take,
    Transition,
)
from ..protocol.engine import Engine
from ..protocol.events import AllSent, Event, Probed, Stalled
from ..protocol.parameters import InterfaceParameters
from ..protocol.values import NANOSECONDS_PER_MILLISECOND, Instant
from .balancing import Balancers
from .chronicle import Chronicle
from .errands import Errands
from .fencing import Fencing
from .ownership import Ownership
from .sender import Sender
from .state_sync import StateSync

_MOST_AT_ONCE = 64
"""Advertisements that are sent together: as many as a peer reads together, and less than a millisecond's work."""
_LOOKS_AHEAD = 4
"""Between the advertisements of two virtual hosts that take over there are a take, a transition and perhaps a notice."""
_PAUSE_NS = 5 * NANOSECONDS_PER_MILLISECOND
"""One step takes microseconds: after so long a pause the engine is asked whether what it wanted still holds, unless it must."""


class Execution:
    """Knows who does what.

    Args:
        running: returns the configuration that runs, None before there is one.
    """

    def __init__(
        self,
        engine: Engine,
        sender: Sender,
        ownership: Ownership,
        fencing: Fencing,
        balancers: Balancers,
        chronicle: Chronicle,
        errands: Errands,
        state_sync: StateSync,
        running: Callable[[], Configuration | None],
    ) -> None:
        self._engine = engine
        self._sender = sender
        self._ownership = ownership
        self._fencing = fencing
        self._balancers = balancers
        self._chronicle = chronicle
        self._errands = errands
        self._state_sync = state_sync
        self._running = running
        self._volley: list[Send] = []
        """Advertisements that wait for what else leaves with them.

        Who is told of something in the middle of a round may cause another one in it: what was wanted before leaves before.
        """
        self.observers: set[Callable[[Transition], None]] = set()
        """Are told of each change of state, in the middle of a round."""

    def handle(self, event: Event, now: Instant | None = None) -> None:
        """Give the engine an event, do everything that it asks for, and what follows from that; `now` None is this moment."""
        made_at = boottime() if now is None else now
        actions = self._engine.handle(event, made_at)
        if actions:
            self._carry_out(actions, made_at)

    def handle_all(self, events: Iterable[Event], now: Instant) -> None:
        """Handle a batch of events, one after the other; of most that are heard nothing follows."""
        handle = self._engine.handle
        for event in events:
            if actions := handle(event, now):
                self._carry_out(actions, now)

    def handle_together(self, events: Iterable[Event], now: Instant) -> None:
        """Handle a batch of events before anything is done, so that what all of them bring can be sent together."""
        if actions := [action for event in events for action in self._engine.handle(event, now)]:
            self._carry_out(actions, now)

    def _carry_out(self, actions: list[Action], made_at: Instant) -> None:
        try:
            self._in_order(deque(actions), made_at)
        finally:
            self._volley = []  # after an error, what waited would be wrong by the next round

    def _in_order(self, pending: deque[Action], made_at: Instant) -> None:
        released: dict[str, None] = {}
        ran_at = made_at
        while pending or self._volley:
            if self._volley and self._leaves_now(pending):
                now = boottime()
                # Before its peers' patience is over, a virtual host cannot have been replaced.
                if now - ran_at < _PAUSE_NS or now - made_at < min(one.holds_ns for one in self._volley):
                    pending.extend(self._send(now))
                else:
                    waiting, self._volley = self._volley, []
                    pending = deque(self._reconsider([*waiting, *pending], now - made_at, now))
                    now = boottime()  # asking thousands of virtual hosts is no pause
                ran_at = now
                continue
            action = pending.popleft()
            match action:
                case Send():
                    self._volley.append(action)
                case Take():
                    # An interface that is made anew releases first.
                    released.pop(action.interface, None)
                    self._ownership.take(action.interface, action.addresses)
                case Release():
                    released[action.interface] = None
                case _:
                    pending.extend(self._do(action, made_at))
        # Everybody bows out before the first one is torn down.
        self._ownership.release(list(released))

    def _leaves_now(self, pending: deque[Action]) -> bool:
        """Tell whether the advertisements that wait leave before the next action is carried out.

        They wait for others alone: until then those of other virtual hosts may be told of, and their addresses be on their way.
        """
        if len(self._volley) == _MOST_AT_ONCE:
            return True
        if pending and isinstance(pending[0], Send):
            return False
        # Looking further would take long among thousands of notices, and so would waiting.
        if not any(isinstance(one, Send) for one in islice(pending, _LOOKS_AHEAD)):
            return True
        match pending[0]:
            case Take() | Release() | Transition() | Notice() | Drop():
                return False
            case Announce(interface):
                return self._volley[-1].interface == interface
        return True

    def _do(self, action: Action, made_at: Instant) -> list[Action]:
        """Carry out what waits for nothing and keeps nothing waiting; return what follows from it."""
        match action:
            case Drop() | Transition() | Notice():
                self._tell(action, made_at)
            case Probe():
                return self._probe(action)
            case CloseFence():
                self._fencing.close(action.interface, action.vhid)
            case Announce():
                self._announce(action)
            case Prepare():
                self._state_sync.prepare(action)
                self._errands.prepare(action)
            case SetMask():
                self._balancers.set_mask(action.interface, action.mask)
        return []

    def _reconsider(self, actions: list[Action], gap_ns: int, now: Instant) -> list[Action]:
        """This host did not run for a while: leave out the advertisements of those who step back for it."""
        answer = self._engine.handle(Stalled(gap_ns), now)
        stepped_back = {(one.interface, one.vhid) for one in answer if isinstance(one, Transition)}
        kept = [one for one in actions if not (isinstance(one, Send) and (one.interface, one.vhid) in stepped_back)]
        return kept + answer

    def _send(self, before: Instant) -> list[Action]:
        """Send the advertisements that wait; return what follows from how that went."""
        volley, self._volley = self._volley, []
        sent, others = self._sender.advertise(volley, self._parameters)
        answer = self._engine.handle(AllSent(sent), before) if sent else []
        for send in sent:
            self._open_fence(send, before)
        for send, result in others:
            if result.error is None:
                self._open_fence(send, before)
            answer += self._engine.handle(result, before)
        return answer

    def _open_fence(self, send: Send, before: Instant) -> None:
        """Peers heard this advertisement: until the first of them would take over, the fence may be open."""
        interface = self._engine.interface(send.interface)
        if interface is None or not send.holds_ns:
            return
        families, until = interface.leader.families, Instant(before + send.holds_ns)
        closed_ns = self._fencing.sent(send.interface, send.vhid, families, send.family, until, before)
        if closed_ns is not None:
            late = f"{closed_ns / NANOSECONDS_PER_MILLISECOND:.0f} ms"
            self._chronicle.say(2, f"{send.interface}: the fence was closed for {late}: an advertisement came too late")

    def _probe(self, action: Probe) -> list[Action]:
        parameters = self._parameters(action.interface)
        if parameters is None:
            return []
        error = self._sender.probe(action, parameters)
        return self._engine.handle(Probed(action.interface, error), boottime())

    def _announce(self, action: Announce) -> None:
        interface = self._engine.interface(action.interface)
        if interface is not None:
            self._sender.announce(action, interface.parameters)

    def _tell(self, action: Transition | Notice | Drop, now: Instant) -> None:
        match action:
            case Drop():
                self._chronicle.drop(action, now)
            case Transition():
                self._chronicle.transition(action)
                self._errands.transition(action, self._parameters(action.interface))
                self._state_sync.transition(action)
                for observer in list(self.observers):
                    observer(action)
            case Notice():
                self._chronicle.notice(action, now)
                self._errands.notice(action)

    def _parameters(self, name: str) -> InterfaceParameters | None:
        """Find an interface's parameters; one that is being removed still bows out, with its former ones."""
        interface = self._engine.interface(name)
        if interface is not None:
            return interface.parameters
        running = self._running()
        known = running.host.interfaces if running is not None else ()
        return next((parameters for parameters in known if parameters.name == name), None)
