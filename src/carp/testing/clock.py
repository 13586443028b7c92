"""A clock that stands still until somebody runs it.

Everything that shall happen is a call at an instant. Calls of one instant run in the order of their `Rank`, then in the order
in which they were asked for: packets that arrived are read before a deadline of the same instant is looked at, as the engine
wants it (`Due.read_until`).
"""

import heapq
from collections.abc import Callable
from enum import IntEnum

from carp.protocol.values import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Instant

START = Instant(1_000 * NANOSECONDS_PER_SECOND)
"""Where a virtual clock begins: not at 0, so that a moment before it can be named."""

MOST_CALLS_AT_ONCE = 100_000
"""More than this many calls at one instant are a loop that does not end."""


def seconds(number: float) -> int:
    """Turn seconds into the nanoseconds that everything here counts in."""
    return round(number * NANOSECONDS_PER_SECOND)


def milliseconds(number: float) -> int:
    """Turn milliseconds into nanoseconds."""
    return round(number * NANOSECONDS_PER_MILLISECOND)


class Rank(IntEnum):
    """What comes first at one instant."""

    PACKET = 0
    ANSWER = 1
    DEADLINE = 2


class VirtualClock:
    """The time of a test, and what is planned in it."""

    def __init__(self, start: Instant = START) -> None:
        self._now = start
        self._planned: list[tuple[Instant, Rank, int, Callable[[], None]]] = []
        self._order = 0

    @property
    def now(self) -> Instant:
        """The present moment."""
        return self._now

    def next_call(self) -> Instant | None:
        """Tell when something is planned next."""
        return self._planned[0][0] if self._planned else None

    def call_at(self, at: int, call: Callable[[], None], rank: Rank = Rank.ANSWER) -> None:
        """Plan a call; a moment that has passed means now."""
        self._order += 1
        heapq.heappush(self._planned, (Instant(max(at, self._now)), rank, self._order, call))

    def call_in(self, delay_ns: int, call: Callable[[], None], rank: Rank = Rank.ANSWER) -> None:
        """Plan a call `delay_ns` from now."""
        self.call_at(self._now + delay_ns, call, rank)

    def run_until(self, until: int) -> None:
        """Let time pass and make every planned call up to and including `until`.

        Raises:
            RuntimeError: the calls of one instant plan ever more calls of the same instant.
        """
        at_once, moment = 0, self._now
        while self._planned and self._planned[0][0] <= until:
            at, _, _, call = heapq.heappop(self._planned)
            at_once = at_once + 1 if at == moment else 0
            if at_once > MOST_CALLS_AT_ONCE:
                raise RuntimeError(f"time stands still at {at} ns")
            self._now = moment = at
            call()
        self._now = Instant(max(self._now, until))

    def run_for(self, duration_ns: int) -> None:
        """Let `duration_ns` pass."""
        self.run_until(self._now + duration_ns)
