"""What a case yields: figures of each family beside the bounds that the protocol itself sets, and whether they hold."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .measure import Trace, both_answered, longest_gap_ns, lost, takeover_ns

ALLOWED_LATE_NS = 20_000_000
"""What a takeover may take beyond the protocol's own bound before it is called slow."""
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bound:
    """Between which times after the event the protocol itself makes the other host take over."""

    earliest_ns: int
    latest_ns: int

    def text(self) -> str:
        """Return the bound in milliseconds."""
        earliest, latest = self.earliest_ns / 1e6, self.latest_ns / 1e6
        return f"{latest:.0f}" if self.earliest_ns == self.latest_ns else f"{earliest:.0f}..{latest:.0f}"


@dataclass(frozen=True, slots=True)
class Pair:
    """The timing of two hosts, a and b; a is the better one."""

    advbase: int = 1
    skew_a: int = 0
    skew_b: int = 100

    def interval_ns(self, advskew: int) -> int:
        """Return the time between two advertisements of a MASTER."""
        return (self.advbase * _SECOND_NS + advskew * _SECOND_NS // 256) or _SECOND_NS // 256

    def master_down_ns(self, advskew: int) -> int:
        """Return how long a BACKUP waits in silence: 3 * advbase + skew, and three intervals where advbase is 0."""
        if self.advbase == 0:
            return 3 * self.interval_ns(advskew)
        return 3 * self.advbase * _SECOND_NS + advskew * _SECOND_NS // 256

    @property
    def crash(self) -> Bound:
        """The bound of a takeover by b after a fell silent: it depends on when a was heard last."""
        down = self.master_down_ns(self.skew_b)
        return Bound(down - self.interval_ns(self.skew_a), down)

    @property
    def preemption(self) -> Bound:
        """The bound of a takeover by a from the moment it listens: b's next advertisement."""
        return Bound(0, self.interval_ns(self.skew_b))


AT_ONCE = Bound(0, 0)


@dataclass(frozen=True, slots=True)
class Result:
    """One case for one address. Times are nanoseconds; `faults` are sentences about behaviour that is wrong, not slow.

    `unfenced` is true where a host has no fence: that two hosts answer is then marked, not wrong.
    """

    case: str
    address: str
    bound: Bound
    takeover_ns: int | None
    gap_ns: int
    lost: int
    both: int
    strip: str = ""
    unfenced: bool = False
    faults: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        return "IPv6" if ":" in self.address else "IPv4"

    @property
    def slow(self) -> bool:
        """Whether the takeover came later than the bound and what is allowed beyond."""
        return self.takeover_ns is not None and self.takeover_ns > self.bound.latest_ns + ALLOWED_LATE_NS

    @property
    def early(self) -> bool:
        """Whether the takeover came before the protocol can have wanted it: the MASTER had not been heard for a while."""
        return self.takeover_ns is not None and self.takeover_ns < self.bound.earliest_ns - ALLOWED_LATE_NS

    @property
    def verdict(self) -> str:
        """One word."""
        if self.faults:
            return "WRONG"
        if self.unfenced and self.both:
            return "two owners"
        return "slow" if self.slow else "early" if self.early else "ok"

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values, times in nanoseconds."""
        return asdict(self) | {"family": self.family, "verdict": self.verdict}


def result(case: str, bound: Bound, trace: Trace, event: int, winner: str) -> Result:
    """Measure one address from an event on; a host that never answers after it is the first fault."""
    takeover = takeover_ns(trace, event, winner)
    faults = () if takeover is not None else (f"{winner} never answered for {trace.address}",)
    return Result(
        case=case,
        address=trace.address,
        bound=bound,
        takeover_ns=takeover,
        gap_ns=longest_gap_ns(trace, event),
        lost=lost(trace, event),
        both=both_answered(trace, event),
        faults=faults,
    )


def tally(results: Iterable[Result]) -> list[Result]:
    """Reduce repetitions of a case to one result of medians; every fault stays."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        groups.setdefault((one.case, one.address), []).append(one)
    return [_median_of(group) for group in groups.values()]


def _median_of(group: Sequence[Result]) -> Result:
    takeovers = [one.takeover_ns for one in group if one.takeover_ns is not None]
    return replace(
        group[-1],
        takeover_ns=round(statistics.median(takeovers)) if takeovers else None,
        gap_ns=round(statistics.median(one.gap_ns for one in group)),
        lost=round(statistics.median(one.lost for one in group)),
        both=round(statistics.median(one.both for one in group)),
        faults=tuple(dict.fromkeys(fault for one in group for fault in one.faults)),
    )
