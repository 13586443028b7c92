"""Counters, as the BSDs' carpstats has them and a little finer (PROTOCOL.md 1.5)."""

from collections import Counter
from dataclasses import dataclass, field

from .packet import DropReason
from .values import Family


def _per_family() -> dict[Family, int]:
    return dict.fromkeys(Family, 0)


@dataclass(slots=True)
class Statistics:
    """What one engine, or one carp interface, has counted since it began.

    `received` counts packets of protocol 112 before any check. `became_master` is OpenBSD's `preempt` counter: transitions to
    MASTER of any kind.
    """

    received: dict[Family, int] = field(default_factory=_per_family)
    sent: dict[Family, int] = field(default_factory=_per_family)
    dropped: Counter[DropReason] = field(default_factory=Counter)
    send_errors: int = 0
    no_memory: int = 0
    became_master: int = 0
    rivals_heard: int = 0
    claims_heard: int = 0

    def dropped_as_bsd(self) -> Counter[str]:
        """Sum the drops under the names of the BSDs' counters."""
        total: Counter[str] = Counter()
        for reason, count in self.dropped.items():
            total[reason.bsd] += count
        return total
