"""From single results to whether a check holds: rise and fall, and what all probes have in common."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Finding(NamedTuple):
    """One result; `detail` is a few words for people, "" where there is nothing to say."""

    good: bool
    detail: str = ""


Tell = Callable[[Finding], None]


class Probe(Protocol):
    """How one kind of check gets its results, again and again."""

    slots: asyncio.Semaphore
    """Shared with others of its sort; one is held while it runs, and waiting for it is not part of the time it has."""

    async def run(self, tell: Tell) -> None:
        """Tell one finding as soon as it is known, and return when nothing of this run is left; bounds its own time.

        What it raises is a bad result. Cancelling it ends whatever it has begun.
        """
        ...


@dataclass(slots=True)
class Judgement:
    """Whether a check holds, None before the first result; `rise` and `fall` are 1 or more."""

    rise: int
    fall: int
    holds: bool | None = None
    _against: int = 0

    def add(self, *, good: bool) -> bool:
        """Count a result; tell whether it is the first one or changes whether the check holds.

        The first one counts at once, whichever it is.
        """
        if self.holds is None:
            self.holds = good
            return True
        if good is self.holds:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self.rise if good else self.fall):
            return False
        self.holds, self._against = good, 0
        return True


def failure(error: BaseException) -> str:
    """Put an error into a few words: the system's own where it has some."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
