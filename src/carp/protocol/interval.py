"""Intervals: advbase and advskew turned into nanoseconds (PROTOCOL.md section 3)."""

from .values import NANOSECONDS_PER_SECOND

SKEW_UNITS_PER_SECOND = 256
MASTER_DOWN_INTERVALS = 3
DEMOTED_SKEW = 240
"""The advskew that FreeBSD, NetBSD and DragonFly show while demoted."""


def skew_ns(advskew: int) -> int:
    """Turn advskew (0..255, in 1/256 s) into nanoseconds, cut to whole microseconds as every BSD does."""
    return advskew * 1_000_000 // SKEW_UNITS_PER_SECOND * 1000


SHORTEST_INTERVAL_NS = skew_ns(1)
"""What OpenBSD uses where advbase and advskew are both 0."""


def election_interval_ns(advbase: int, advskew: int) -> int:
    """Return the interval that elections compare, in nanoseconds; 0 for 0/0 (PROTOCOL.md section 4)."""
    return advbase * NANOSECONDS_PER_SECOND + skew_ns(advskew)


def advertisement_interval_ns(advbase: int, advskew: int) -> int:
    """Return the time between two advertisements of a MASTER in nanoseconds, never 0 (PROTOCOL.md 3.1)."""
    return election_interval_ns(advbase, advskew) or SHORTEST_INTERVAL_NS


def master_down_ns(advbase: int, advskew: int, *, triples_skew: bool) -> int:
    """Return how long a BACKUP waits for a silent MASTER, in nanoseconds (PROTOCOL.md 3.2).

    OpenBSD of 2025 waits 3 * (advbase + skew), `triples_skew`; all others 3 * advbase + skew. With advbase 0 every one of
    them triples the skew, and with both 0 the shortest interval.
    """
    if triples_skew or advbase == 0:
        return MASTER_DOWN_INTERVALS * advertisement_interval_ns(advbase, advskew)
    return MASTER_DOWN_INTERVALS * advbase * NANOSECONDS_PER_SECOND + skew_ns(advskew)
