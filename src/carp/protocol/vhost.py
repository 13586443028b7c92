"""One virtual host: its state, its timers, and what it heard last.

The decisions are rows of `table`; here a row is carried out as far as it concerns the virtual host alone. The effects that
reach outside (advertise, take, announce, ...) are handed to the carp interface, in order.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from .actions import Reason
from .auth import Authenticator
from .cadence import Cadence
from .parameters import Node
from .patience import PeerPatience
from .schedule import Schedule
from .table import NO_ONE, NOTHING_NEW, Effect, Heard, Input, Row, Standing, choose
from .template import Prepared
from .values import NANOSECONDS_PER_MILLISECOND, Family, Instant, State, plain

_REMEMBERED_COUNTERS = 16
"""An echo comes back within a few milliseconds; this many advertisements are two seconds at the shortest sane interval."""

_MASTER = State.MASTER
_TIME_TO_YIELD_NS = 8 * NANOSECONDS_PER_MILLISECOND
"""A MASTER was seen to fall silent within 2 ms of the advertisement that replaces it; a busy host takes longer."""

_LATE_NS = 1 * NANOSECONDS_PER_MILLISECOND
"""A host that runs wakes up for a timer within some 0.2 ms."""
_TIME_TO_SEND_NS = 2 * NANOSECONDS_PER_MILLISECOND
"""A MASTER that goes on has sent what was due, and it has arrived."""

_SECOND_ANNOUNCEMENT_AFTER = 2
"""Advertisements between the two announcements of a new MASTER (PROTOCOL.md 3.6)."""


@dataclass(slots=True)
class KnownMaster:
    """The last valid advertisement of another host; `source` is packed, and `arrival` moves on while it sends the same."""

    source: bytes
    advbase: int
    advskew: int
    demote: int
    arrival: Instant


@dataclass(frozen=True, slots=True)
class Rivalry:
    """The last time that this host heard another MASTER while it was MASTER itself; `stayed` tells who won."""

    source: bytes
    at: Instant
    stayed: bool


@plain
class Stage(Enum):
    """How far the pre-master stage of a virtual host is."""

    NONE = "not begun"
    RUNNING = "running"
    DONE = "over"


_DONE = Stage.DONE


@dataclass(slots=True)
class Timing:
    """The intervals of a virtual host in ns, as its parameters and demotion make them now."""

    advertisement_ns: int
    master_down_ns: int


@dataclass(frozen=True, slots=True)
class Timers:
    """The schedules that all virtual hosts of an engine share: reading delays none but that of the master-down timers."""

    advertise: Schedule["VirtualHost"] = field(default_factory=Schedule)
    yield_over: Schedule["VirtualHost"] = field(default_factory=Schedule)
    master_down: Schedule["VirtualHost"] = field(default_factory=Schedule)
    announce: Schedule["VirtualHost"] = field(default_factory=Schedule)
    probe: Schedule["VirtualHost"] = field(default_factory=Schedule)


@dataclass(slots=True, eq=False, repr=False)
class VirtualHost:
    """One vhid on one carp interface."""

    node: Node
    authenticator: Authenticator
    _timers: Timers
    _cadence: Cadence
    _rng: random.Random
    since: Instant
    """When it came to its state; at first, when it was made."""
    state: State = State.INIT
    reason: Reason | None = None
    detail: str = ""
    transitions: int = 0
    known_masters: dict[Family, KnownMaster] = field(default_factory=dict)
    familiar: dict[bytes, KnownMaster] = field(default_factory=dict)
    """The advertisements of which nothing follows but NOTHING_NEW, by all that an election looks at."""
    prepared: dict[Family, Prepared] = field(default_factory=dict)
    """The advertisements of each family, ready but for what changes from one to the next."""
    rivalry: Rivalry | None = None
    timing: Timing = field(default_factory=lambda: Timing(0, 0))
    patience: PeerPatience = field(default_factory=PeerPatience)
    families: tuple[Family, ...] = ()
    one_master_down_timer: bool = True
    announces_every_ns: int = 0
    """How often a MASTER announces, 0 where its advertisements come from the virtual MAC."""
    last_heard: dict[Family, Instant] = field(default_factory=dict)
    """When each family's master-down timer was restarted last."""
    silent_families: set[Family] = field(default_factory=set)
    sent_counters: deque[bytes] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_COUNTERS))
    follow_counter: int | None = None
    """The last counter that was received, for the dialects that go on from there."""
    stage: Stage = Stage.NONE
    stage_serial: int = 0
    """That of the newest pre-master stage: what an older one says counts no more."""
    take_failed_at: Instant | None = None
    preemptable_since: Instant | None = None
    """Since when every advertisement came from a MASTER that this host would preempt."""
    undecided: tuple[Instant, Instant] | None = None
    """The first and the last of a run of equal advertisements of the family that does not decide ties, alone."""
    reasserted_at: Instant | None = None
    _hesitated_after: Instant | None = None
    """When the MASTER had been heard last before this host gave it a moment more."""
    _advertise_due: Instant | None = None
    _announce_in: int = 0
    _jitter_ns: int = 0
    advertised_at: Instant = field(init=False)
    """When the last advertisement was made, sent or not."""

    def __post_init__(self) -> None:
        """Begin as if an advertisement had just been made."""
        self.advertised_at = self.since

    @property
    def vhid(self) -> int:
        """The virtual host id, 1..255."""
        return self.node.vhid

    @property
    def waits_for_yield(self) -> bool:
        """Whether this MASTER still gives the former one, which lives, the time to fall silent."""
        return self._timers.yield_over.get(self) is not None

    @property
    def serves(self) -> bool:
        """Whether this MASTER has begun to take the addresses."""
        return self.state is _MASTER and not self.waits_for_yield and self.stage is not Stage.RUNNING

    @property
    def only_advertises(self) -> bool:
        """Whether this MASTER, which serves, has nothing else to do when it advertises."""
        return self.stage is _DONE and self._announce_in == 0 and not self.waits_for_yield

    def step(self, input_: Input, own: Standing, now: Instant, heard: Heard = NO_ONE, detail: str = "") -> tuple[Row, State]:
        """Take the row that applies: change the state and return the row and the former state."""
        row = choose(self.state, input_, own, heard)
        if row is not NOTHING_NEW:
            self.familiar.clear()
        former = self.state
        if row.next is not former:
            self.state = row.next
            self.since = now
            self.reason = row.reason
            self.detail = detail
            self.transitions += 1
            self.preemptable_since = None
            if row.next is not _MASTER:
                self.stage = Stage.NONE
        return row, former

    def hear_nothing_new(self, arrival: Instant, family: Family) -> None:
        """Carry out the row NOTHING_NEW about an advertisement that is familiar.

        There is no stage to forget: whatever begins or ends one makes this host forget what is familiar.
        """
        self.preemptable_since = None
        if self._jitter_ns or len(self.last_heard) != 1:
            self._heard_master(arrival, family)
        elif arrival > self.last_heard.get(family, arrival):
            # Of one family and without jitter that is all that there is to it.
            self.last_heard[family] = arrival
            self._timers.master_down.set(self, Instant(arrival + self.timing.master_down_ns))

    def second_announcement_due(self) -> bool:
        """Count one advertisement; tell whether the addresses are announced again with it."""
        if self._announce_in == 0:
            return False
        self._announce_in -= 1
        return self._announce_in == 0

    def restart_waiting(self, now: Instant) -> None:
        """Move the master-down timer to what the present timing makes of the moments when the MASTER was heard."""
        self.last_heard = {family: self.last_heard.get(family, now) for family in self.families}
        self.silent_families.intersection_update(self.families)
        self._schedule_master_down()

    def restart_advertising(self, now: Instant) -> None:
        """Let the next advertisement follow one made now."""
        self._advertise_due = None
        self.arm_advertise(now)

    def advertise_sooner(self, at: Instant) -> None:
        """Let the next advertisement go out at `at`, if it were later, and the addresses be announced with it."""
        self._announce_in = 1
        if self._advertise_due is None or at < self._advertise_due:
            self._advertise_due = at
            self._timers.advertise.set(self, at)

    def follow_announcing(self, now: Instant) -> None:
        """Begin or end to announce, after what it depends on has changed."""
        if self.state is _MASTER and (self._timers.announce.get(self) is None or not self.announces_every_ns):
            self._arm_announce(now, None)

    def was_stalled(self, gap_ns: int, now: Instant) -> bool:
        """Tell whether this host slept too long, for `gap_ns` as far as is known, to trust what it knows.

        A MASTER that has not advertised for as long as a peer waits may have been replaced; a BACKUP that comes later to a
        master-down timer than the timer is long may have lost the newest advertisements.
        """
        if self.state is _MASTER:
            holds_ns = self.patience.holds_ns
            return gap_ns >= holds_ns or now - self.advertised_at >= holds_ns
        return gap_ns >= self.timing.master_down_ns

    def hesitate(self, late_ns: int, now: Instant) -> bool:
        """Give the MASTER a moment more where this host comes late to the master-down timer; tell whether it was given.

        What held this host up, a machine that both share, may have held up the MASTER, too. Once for each silence.
        """
        heard = max(self.last_heard.values(), default=None)
        if late_ns < _LATE_NS or self._hesitated_after == heard:
            return False
        self._hesitated_after = heard
        self._timers.master_down.set(self, Instant(now + min(late_ns + _TIME_TO_SEND_NS, self.timing.advertisement_ns)))
        return True

    def known_master(self, now: Instant) -> KnownMaster | None:
        """Return who was heard as MASTER within the master-down time, by the family that decides ties if it can be."""
        for family in self.families:
            known = self.known_masters.get(family)
            if known is not None and now - known.arrival <= self.timing.master_down_ns:
                return known
        return None

    def expected_master_down(self) -> Instant | None:
        """Tell when the MASTER will be given up for dead."""
        return self._timers.master_down.get(self)

    def forget(self) -> None:
        """Leave the schedules for good."""
        self._disarm(Instant(0), None)

    def arm_advertise(self, now: Instant, _family: Family | None = None) -> None:
        """Let the next advertisement follow one whose time has come."""
        # From the deadline, not from now: a late round must not let the interval drift.
        interval_ns, due = self.timing.advertisement_ns, self._advertise_due
        following = (now if due is None else due) + interval_ns
        if following <= now:
            following = now + interval_ns
        self._advertise_due = due = self._cadence.place(self.node.vhid, Instant(following), interval_ns)
        self._timers.advertise.set(self, due)

    def _arm_announce(self, now: Instant, _family: Family | None) -> None:
        if self.announces_every_ns:
            self._timers.announce.set(self, Instant(now + self.announces_every_ns))
        else:
            self._timers.announce.clear(self)

    def _arm_master_down(self, now: Instant, _family: Family | None) -> None:
        self._jitter_ns = 0
        self.last_heard = dict.fromkeys(self.families, now)
        self.silent_families.clear()
        self._schedule_master_down()

    def _arm_master_down_with_jitter(self, now: Instant, family: Family | None) -> None:
        self._arm_master_down(now, family)
        self._jitter_ns = self._rng.randrange(max(1, self.timing.advertisement_ns // 4))
        self._schedule_master_down()

    def _heard_master(self, now: Instant, family: Family | None) -> None:
        # What an equal MASTER sent before it yielded too does not take away the extra that tells both apart.
        if now - self.since > self.timing.advertisement_ns // 2:
            self._jitter_ns = 0
        if family is not None and now > self.last_heard.get(family, 0):
            self.last_heard[family] = now
        self._schedule_master_down()

    def _schedule_master_down(self) -> None:
        """Run from the newest family with one timer for all, from the oldest with one for each (PROTOCOL.md 3.2)."""
        if not self.last_heard:
            return
        moments = self.last_heard.values()
        heard = max(moments) if self.one_master_down_timer else min(moments)
        self._timers.master_down.set(self, Instant(heard + self.timing.master_down_ns + self._jitter_ns))

    def _disarm(self, _now: Instant, _family: Family | None) -> None:
        self._timers.advertise.clear(self)
        self._timers.yield_over.clear(self)
        self._timers.master_down.clear(self)
        self._timers.announce.clear(self)
        self._advertise_due = None
        self._announce_in = 0
        self._jitter_ns = 0
        self.undecided = None

    def _wait_for_yield(self, now: Instant, _family: Family | None) -> None:
        self._timers.yield_over.set(self, Instant(now + _TIME_TO_YIELD_NS))

    def _note_prepared(self, _now: Instant, _family: Family | None) -> None:
        self.stage = Stage.DONE

    def _forget_prepared(self, _now: Instant, _family: Family | None) -> None:
        self.stage = Stage.NONE

    def _announce_later(self, _now: Instant, _family: Family | None) -> None:
        self._announce_in = _SECOND_ANNOUNCEMENT_AFTER


TIMER_EFFECTS: dict[Effect, Callable[[VirtualHost, Instant, Family | None], None]] = {
    Effect.ARM_ADVERTISE: VirtualHost.arm_advertise,
    Effect.ARM_ANNOUNCE: VirtualHost._arm_announce,
    Effect.ARM_MASTER_DOWN: VirtualHost._arm_master_down,
    Effect.ARM_MASTER_DOWN_WITH_JITTER: VirtualHost._arm_master_down_with_jitter,
    Effect.HEARD_MASTER: VirtualHost._heard_master,
    Effect.DISARM: VirtualHost._disarm,
    Effect.WAIT_FOR_YIELD: VirtualHost._wait_for_yield,
    Effect.NOTE_PREPARED: VirtualHost._note_prepared,
    Effect.FORGET_PREPARED: VirtualHost._forget_prepared,
    Effect.ANNOUNCE_LATER: VirtualHost._announce_later,
}
"""What a virtual host does by itself about an effect: at a moment, and for the family of an advertisement that was heard."""
