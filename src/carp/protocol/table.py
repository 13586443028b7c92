"""The state machine of a virtual host as a closed table (PROTOCOL.md sections 3.4 and 4.1).

`TABLE[state, input]` is a tuple of rows in order; the first row whose guard holds is taken, and the last row of each pair
always holds. Every pair is here: what is ignored is a row that does nothing. The diagram in the docs is drawn from this
table, and nothing outside this module decides about a state.

Differs from the BSDs, each time with its reason in docs/differences.md: a bow-out is heard at every advbase, equal masters
are told apart, a MASTER that hears a worse one speaks up at once, a stalled host steps back, a failed take yields.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .actions import Reason
from .values import State, plain


@plain
class Input(Enum):
    """What can happen to a virtual host."""

    READY = "interface up, parent up, address present"
    NOT_READY = "parent down or gone, address missing, or not allowed"
    STOP = "interface stopped"
    ADVERTISEMENT = "valid advertisement"
    MASTER_DOWN = "master-down timer"
    ADVERTISE = "advertisement timer"
    ANNOUNCE = "announcement timer"
    TAKEN = "addresses are live"
    TAKE_FAILED = "addresses could not be taken"
    FORCE_MASTER = "forced master"
    FORCE_BACKUP = "forced backup"
    FORCE_INIT = "forced init"
    STALLED = "this host was stalled"
    YIELD_OVER = "the other had time to yield"
    PREPARED = "pre-master stage is over"


@plain
class Preference(Enum):
    """Which of two equal MASTERs stays."""

    HERE = "this host"
    THERE = "the other host"
    NEITHER = "nothing tells them apart"
    LATER = "the other address family decides"


@plain
class Effect(Enum):
    """What a row does besides changing the state, in the order given."""

    ADVERTISE = "advertise"
    BOW_OUT = "bow out"
    CLOSE_FENCE = "close the fence"
    PREPARE = "run the pre-master stage"
    PREPARE_AND_TAKE = "take the addresses, after the pre-master stage if it has not run"
    NOTE_PREPARED = "remember that the pre-master stage has run"
    FORGET_PREPARED = "forget it"
    TAKE = "take the addresses"
    WAIT_FOR_YIELD = "give the other time to yield"
    RELEASE = "release the addresses"
    ANNOUNCE = "announce the addresses"
    ANNOUNCE_LATER = "announce again two advertisements later"
    COUNT_ADVERTISEMENT = "count towards the second announcement"
    ANNOUNCE_ONE = "announce one address"
    REASSERT = "advertise and announce at once"
    ARM_ADVERTISE = "arm the advertisement timer"
    ARM_ANNOUNCE = "arm the announcement timer"
    ARM_MASTER_DOWN = "arm the master-down timer"
    ARM_MASTER_DOWN_WITH_JITTER = "arm the master-down timer with a random extra"
    HEARD_MASTER = "restart the master-down timer"
    DISARM = "stop the timers"


@dataclass(frozen=True, slots=True)
class Standing:
    """This host's side of an election, demote 0..255. `patience_ns` is three times advbase plus skew, `interval_ns` once.

    `preempt` is whether it may preempt now. `unprepared` is True where a pre-master stage has to run before a preemption, and
    `cannot_take` where this host could not take the addresses a moment ago.
    """

    advbase: int
    interval_ns: int
    patience_ns: int
    demote: int
    preempt: bool
    hears_bow_out: bool
    reasserts: bool
    unprepared: bool = False
    cannot_take: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """The other side of an election: what a valid advertisement says, and who stays if all is equal."""

    interval_ns: int
    demote: int
    bow_out: bool
    preference: Preference


Predicate = Callable[[Standing, Heard], bool]


@plain
class Guard(Enum):
    """The conditions of the table; what each means is in GUARDS."""

    ALWAYS = "otherwise"
    CANNOT_TAKE = "addresses could not be taken here a moment ago"
    BOWS_OUT = "it is a bow-out"
    PREPARES = "one of the following three, pre-master stage not run"
    PREEMPTS = "preempt, faster here, not more demoted here"
    LESS_DEMOTED_HERE = "less demoted here"
    MASTER_WILL_TIME_OUT = "its interval is longer than our patience"
    LESS_DEMOTED_THERE = "less demoted there"
    FASTER_THERE = "faster there, not more demoted there"
    LOSES_TIE = "equal, the other is preferred"
    CANNOT_TELL = "equal, nothing tells them apart"
    TIE_DECIDED_LATER = "equal, the other family decides"
    REASSERTS = "worse there"


def _ties(own: Standing, heard: Heard) -> bool:
    return own.interval_ns == heard.interval_ns and own.demote == heard.demote


def would_preempt(own: Standing, heard: Heard) -> bool:
    """Tell whether the other is a MASTER that this host preempts, if it may preempt."""
    return own.interval_ns < heard.interval_ns and heard.demote >= own.demote


def _preempts(own: Standing, heard: Heard) -> bool:
    return own.preempt and would_preempt(own, heard)


def _less_demoted_here(own: Standing, heard: Heard) -> bool:
    return heard.demote > own.demote


def _master_will_time_out(own: Standing, heard: Heard) -> bool:
    return own.advbase != 0 and own.patience_ns < heard.interval_ns


def _prepares(own: Standing, heard: Heard) -> bool:
    replaces = _preempts(own, heard) or _less_demoted_here(own, heard) or _master_will_time_out(own, heard)
    return own.unprepared and replaces


GUARDS: dict[Guard, Predicate] = {
    Guard.ALWAYS: lambda _own, _heard: True,
    Guard.CANNOT_TAKE: lambda own, _heard: own.cannot_take,
    Guard.BOWS_OUT: lambda own, heard: heard.bow_out and own.hears_bow_out,
    Guard.PREPARES: _prepares,
    Guard.PREEMPTS: _preempts,
    Guard.LESS_DEMOTED_HERE: _less_demoted_here,
    Guard.MASTER_WILL_TIME_OUT: _master_will_time_out,
    Guard.LESS_DEMOTED_THERE: lambda own, heard: heard.demote < own.demote,
    Guard.FASTER_THERE: lambda own, heard: own.interval_ns > heard.interval_ns and heard.demote <= own.demote,
    Guard.LOSES_TIE: lambda own, heard: _ties(own, heard) and heard.preference is Preference.THERE,
    Guard.CANNOT_TELL: lambda own, heard: _ties(own, heard) and heard.preference is Preference.NEITHER,
    Guard.TIE_DECIDED_LATER: lambda own, heard: _ties(own, heard) and heard.preference is Preference.LATER,
    Guard.REASSERTS: lambda own, _heard: own.reasserts,
}
NO_ONE = Heard(0, 0, bow_out=False, preference=Preference.HERE)
"""Stands in where an input carries no advertisement; only ALWAYS is asked then."""
NOT_ASKED = Standing(0, 0, 0, 0, preempt=False, hears_bow_out=False, reasserts=False)
"""Stands in beside it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `reason` is set where the state changes."""

    guard: Guard
    effects: tuple[Effect, ...]
    next: State
    reason: Reason | None = None


_PROMOTION = (Effect.DISARM, Effect.ADVERTISE, Effect.PREPARE_AND_TAKE, Effect.ARM_ADVERTISE)
# The former MASTER lives and answers until it has heard of it; the fence must not open before that.
_PREEMPTION = (Effect.DISARM, Effect.WAIT_FOR_YIELD, Effect.ADVERTISE, Effect.ARM_ADVERTISE)
_YIELDING = (Effect.DISARM, Effect.CLOSE_FENCE, Effect.RELEASE, Effect.ARM_MASTER_DOWN)


def _stay(state: State, *effects: Effect) -> tuple[Row, ...]:
    return (Row(Guard.ALWAYS, effects, state),)


def _go(state: State, reason: Reason, *effects: Effect) -> tuple[Row, ...]:
    return (Row(Guard.ALWAYS, effects, state, reason),)


def _promote(guard: Guard, reason: Reason) -> Row:
    return Row(guard, _PROMOTION, State.MASTER, reason)


def _preempt(guard: Guard, reason: Reason) -> Row:
    return Row(guard, _PREEMPTION, State.MASTER, reason)


def _yield(guard: Guard, reason: Reason) -> Row:
    return Row(guard, _YIELDING, State.BACKUP, reason)


TABLE: dict[tuple[State, Input], tuple[Row, ...]] = {
    (State.INIT, Input.READY): _go(State.BACKUP, Reason.INITIALIZED, Effect.ARM_MASTER_DOWN),
    (State.INIT, Input.NOT_READY): _stay(State.INIT),
    (State.INIT, Input.STOP): _stay(State.INIT),
    (State.INIT, Input.ADVERTISEMENT): _stay(State.INIT),
    (State.INIT, Input.MASTER_DOWN): _stay(State.INIT),
    (State.INIT, Input.ADVERTISE): _stay(State.INIT),
    (State.INIT, Input.ANNOUNCE): _stay(State.INIT),
    (State.INIT, Input.TAKEN): _stay(State.INIT),
    (State.INIT, Input.TAKE_FAILED): _stay(State.INIT),
    (State.INIT, Input.FORCE_MASTER): _stay(State.INIT),
    (State.INIT, Input.FORCE_BACKUP): _stay(State.INIT),
    (State.INIT, Input.FORCE_INIT): _stay(State.INIT),
    (State.INIT, Input.STALLED): _stay(State.INIT),
    (State.INIT, Input.YIELD_OVER): _stay(State.INIT),
    (State.INIT, Input.PREPARED): _stay(State.INIT),
    (State.BACKUP, Input.READY): _stay(State.BACKUP),
    (State.BACKUP, Input.NOT_READY): _go(State.INIT, Reason.NOT_READY, Effect.DISARM),
    (State.BACKUP, Input.STOP): _go(State.INIT, Reason.STOPPED, Effect.DISARM),
    (State.BACKUP, Input.ADVERTISEMENT): (
        # Two hosts of which neither can would drive each other round, as each gives up at once.
        Row(Guard.CANNOT_TAKE, (Effect.HEARD_MASTER, Effect.FORGET_PREPARED), State.BACKUP),
        _promote(Guard.BOWS_OUT, Reason.MASTER_BOWED_OUT),
        # The old MASTER still serves, so what can take long is done before.
        Row(Guard.PREPARES, (Effect.PREPARE, Effect.HEARD_MASTER), State.BACKUP),
        _preempt(Guard.PREEMPTS, Reason.PREEMPTED_SLOWER),
        _preempt(Guard.LESS_DEMOTED_HERE, Reason.LESS_DEMOTED_HERE),
        _preempt(Guard.MASTER_WILL_TIME_OUT, Reason.MASTER_WILL_TIME_OUT),
        Row(Guard.ALWAYS, (Effect.HEARD_MASTER, Effect.FORGET_PREPARED), State.BACKUP),
    ),
    (State.BACKUP, Input.MASTER_DOWN): (_promote(Guard.ALWAYS, Reason.MASTER_TIMED_OUT),),
    (State.BACKUP, Input.ADVERTISE): _stay(State.BACKUP),
    (State.BACKUP, Input.ANNOUNCE): _stay(State.BACKUP),
    (State.BACKUP, Input.TAKEN): _stay(State.BACKUP),
    (State.BACKUP, Input.TAKE_FAILED): _stay(State.BACKUP),
    (State.BACKUP, Input.FORCE_MASTER): (_promote(Guard.ALWAYS, Reason.FORCED),),
    (State.BACKUP, Input.FORCE_BACKUP): _stay(State.BACKUP),
    (State.BACKUP, Input.FORCE_INIT): _stay(State.BACKUP),
    (State.BACKUP, Input.STALLED): _stay(State.BACKUP, Effect.ARM_MASTER_DOWN),
    (State.BACKUP, Input.YIELD_OVER): _stay(State.BACKUP),
    (State.BACKUP, Input.PREPARED): _stay(State.BACKUP, Effect.NOTE_PREPARED),
    (State.MASTER, Input.READY): _stay(State.MASTER),
    (State.MASTER, Input.NOT_READY): _go(State.INIT, Reason.NOT_READY, Effect.DISARM, Effect.CLOSE_FENCE, Effect.RELEASE),
    (State.MASTER, Input.STOP): _go(
        State.INIT, Reason.STOPPED, Effect.DISARM, Effect.CLOSE_FENCE, Effect.BOW_OUT, Effect.RELEASE
    ),
    (State.MASTER, Input.ADVERTISEMENT): (
        # A leaver moved the switch's entry for the virtual MAC to its own port with its last frame.
        Row(Guard.BOWS_OUT, (Effect.REASSERT,), State.MASTER),
        _yield(Guard.LESS_DEMOTED_THERE, Reason.LESS_DEMOTED_THERE),
        _yield(Guard.FASTER_THERE, Reason.FASTER_MASTER),
        _yield(Guard.LOSES_TIE, Reason.LOST_TIE),
        Row(
            Guard.CANNOT_TELL,
            (Effect.DISARM, Effect.CLOSE_FENCE, Effect.RELEASE, Effect.ARM_MASTER_DOWN_WITH_JITTER),
            State.BACKUP,
            Reason.LOST_TIE,
        ),
        Row(Guard.TIE_DECIDED_LATER, (), State.MASTER),
        Row(Guard.REASSERTS, (Effect.REASSERT,), State.MASTER),
        Row(Guard.ALWAYS, (), State.MASTER),
    ),
    (State.MASTER, Input.MASTER_DOWN): _stay(State.MASTER),
    (State.MASTER, Input.ADVERTISE): _stay(State.MASTER, Effect.ADVERTISE, Effect.COUNT_ADVERTISEMENT, Effect.ARM_ADVERTISE),
    # Where advertisements go to peers, nothing else tells the switches where the virtual MAC is.
    (State.MASTER, Input.ANNOUNCE): _stay(State.MASTER, Effect.ANNOUNCE_ONE, Effect.ARM_ANNOUNCE),
    # The advertisement comes last: it is what teaches the switches the port of the virtual MAC.
    (State.MASTER, Input.TAKEN): _stay(
        State.MASTER, Effect.ANNOUNCE, Effect.ADVERTISE, Effect.ANNOUNCE_LATER, Effect.ARM_ANNOUNCE
    ),
    (State.MASTER, Input.TAKE_FAILED): _go(
        State.BACKUP,
        Reason.TAKE_FAILED,
        Effect.DISARM,
        Effect.CLOSE_FENCE,
        Effect.BOW_OUT,
        Effect.RELEASE,
        Effect.ARM_MASTER_DOWN,
    ),
    (State.MASTER, Input.FORCE_MASTER): _stay(State.MASTER),
    (State.MASTER, Input.FORCE_BACKUP): _go(State.BACKUP, Reason.FORCED, *_YIELDING),
    (State.MASTER, Input.FORCE_INIT): _stay(State.MASTER),
    (State.MASTER, Input.STALLED): _go(State.BACKUP, Reason.STALLED, *_YIELDING),
    (State.MASTER, Input.YIELD_OVER): _stay(State.MASTER, Effect.ADVERTISE, Effect.TAKE),
    (State.MASTER, Input.PREPARED): _stay(State.MASTER, Effect.NOTE_PREPARED, Effect.TAKE),
}


NOTHING_NEW = TABLE[State.BACKUP, Input.ADVERTISEMENT][-1]
"""What a BACKUP does that has heard its MASTER and nobody else."""


_ALWAYS = Guard.ALWAYS


def choose(state: State, input_: Input, own: Standing, heard: Heard = NO_ONE) -> Row:
    """Return the row that applies."""
    for row in TABLE[state, input_]:
        if row.guard is _ALWAYS or GUARDS[row.guard](own, heard):
            return row
    raise AssertionError(f"the table is not closed at {state}, {input_}")
