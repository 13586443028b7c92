"""How late the timer fires: the measure of whether this host is quick enough for its intervals."""

from collections import deque
from typing import Any

from ..protocol.values import NANOSECONDS_PER_MILLISECOND

_REMEMBERED = 4096


class Lateness:
    """The lateness of the last 4096 timers, and the worst of all."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        self._count = 0
        self._worst_ns = 0

    def note(self, late_ns: int) -> None:
        """A timer fired that much after its deadline."""
        self._recent.append(late_ns)
        self._count += 1
        self._worst_ns = max(self._worst_ns, late_ns)

    def describe(self) -> dict[str, Any]:
        """Return p50 and p99 of the last 4096 timers and the worst ever, in milliseconds."""
        ordered = sorted(self._recent)
        if not ordered:
            return {"timers": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
        return {
            "timers": self._count,
            "p50_ms": _milliseconds(ordered[len(ordered) // 2]),
            "p99_ms": _milliseconds(ordered[len(ordered) * 99 // 100]),
            "max_ms": _milliseconds(self._worst_ns),
        }


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / NANOSECONDS_PER_MILLISECOND, 3)
