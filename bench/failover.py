"""One virtual host: what a client sees when its MASTER dies, stops, loses its cable, goes deaf and mute, or comes back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lab.measure import Trace, longest_gap_ns, lost, takeover_ns
from lab.netns import CommandError
from lab.wait import until

from . import frames
from .arena import ASK_EVERY_S, Arena
from .sample import Sample, Value
from .subject import Shape, Subject

MEASURE = "failover"
WINDOW_S = 1.5
"""How long after the takeover is still watched: so long, at most, can both be seen to answer."""
BEFORE_S = 0.2


@dataclass(frozen=True)
class Strike:
    """One way for a MASTER to leave. `hit` returns the instant; `mend` undoes it, if starting a again is not enough."""

    name: str
    hit: Callable[[Arena], int]
    mend: Callable[[Arena], object] = lambda _arena: None
    announced: bool = False
    """Whether a says that it leaves, so that no master-down time is waited for."""


STRIKES = (
    Strike("kill -9", lambda arena: arena.a.kill()),
    Strike("clean stop", lambda arena: arena.a.stop(), lambda arena: arena.a.close(), announced=True),
    Strike("link cut", lambda arena: arena.a.port.cut(), lambda arena: arena.a.port.mend()),
    Strike("silent port block", lambda arena: arena.a.port.block(), lambda arena: arena.a.port.unblock()),
)


def play(subject: Subject, strikes: Sequence[Strike] = STRIKES) -> Iterator[Sample]:
    """Build a pair, let every strike happen once, and a's return after the clean stop; yield what each yields."""
    with Arena(subject, Shape()) as arena:
        for strike in strikes:
            try:
                arena.settle()
                yield _strike(arena, strike)
                strike.mend(arena)
                if strike.announced:
                    yield _return(arena)
            except (TimeoutError, RuntimeError, CommandError, OSError) as error:
                yield Sample(MEASURE, strike.name, subject.name, fault=str(error)[:500])
                strike.mend(arena)
                for router in (arena.a, arena.b):
                    router.close()
                    router.clean()


def _strike(arena: Arena, strike: Strike) -> Sample:
    subject, address = arena.subject, arena.addresses[0]
    with ExitStack() as stack:
        seen = arena.captures(stack, arena.a, arena.b)
        arriving = arena.heard(stack, arena.b)
        prober = stack.enter_context(arena.prober())
        prober.wait_for_owner("a", arena.patience_s)
        prober.wait_for_time(BEFORE_S + subject.interval_ns / 1e9)
        if strike.announced:
            stack.enter_context(arena.asker())
        at = strike.hit(arena)
        until(lambda: prober.answering(address).get("b"), arena.patience_s, f"b to take over after {strike.name}")
        if not strike.announced:
            # Not before: the answers of a dead program's host would teach the switch the way back to it.
            stack.enter_context(arena.asker())
        prober.wait_for_time(WINDOW_S)
        trace = prober.stop()[address]
        heard, spoken = seen["a"].stamped(), seen["b"].stamped()
        deadline = max(frames.advertisements(arriving.stamped())) + subject.master_down_ns
    values = _client(trace, at, "b")
    took = values["takeover_ms"]
    if took is not None and not strike.announced:
        values["late_ms"] = took - (deadline - at) / 1e6
    values["both_ms"] = _both_ms(heard, spoken, address, at)
    return Sample(MEASURE, strike.name, subject.name, values)


def _return(arena: Arena) -> Sample:
    """Let a come back while b serves, after a clean stop."""
    address = arena.addresses[0]
    with ExitStack() as stack:
        seen = arena.captures(stack, arena.a, arena.b)
        prober = stack.enter_context(arena.prober())
        stack.enter_context(arena.asker())
        prober.wait_for_owner("b", arena.patience_s)
        at = arena.a.start()
        until(lambda: prober.answering(address).get("a"), arena.patience_s, "a to take over again")
        prober.wait_for_time(WINDOW_S)
        trace = prober.stop()[address]
        heard, spoken = seen["a"].stamped(), seen["b"].stamped()
    values = _client(trace, at, "a")
    values["both_ms"] = _both_ms(heard, spoken, address, at)
    return Sample(MEASURE, "return", arena.subject.name, values)


def _client(trace: Trace, at: int, winner: str) -> dict[str, Value]:
    took = takeover_ns(trace, at, winner)
    return {
        "takeover_ms": None if took is None else took / 1e6,
        "gap_ms": longest_gap_ns(trace, at) / 1e6,
        "lost_probes": lost(trace, at),
    }


def _both_ms(heard: list[frames.Stamped], spoken: list[frames.Stamped], address: str, at: int) -> float:
    """Return for how long both hosts answered ARP after an instant; a block at the switch port comes after the recording."""
    ones, others = ([one for one in frames.answers(seen, address) if one >= at] for seen in (heard, spoken))
    return frames.both_ns(ones, others, int(ASK_EVERY_S * 1e9)) / 1e6
