"""Deadlines of many things, the next one found in constant time."""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from .values import Instant

K = TypeVar("K", bound=Hashable)


class Schedule(Generic[K]):
    """At most one deadline for each key.

    What is due at the same instant, as the advertisements of a parent are, has one place in the heap. Moving a deadline into
    the future, which a BACKUP does with every advertisement it hears, costs one dictionary write: the key stays where it was
    and is looked at again when that comes up.
    """

    __slots__ = ("_deadlines", "_heap", "_keys")

    def __init__(self) -> None:
        self._deadlines: dict[K, Instant] = {}
        self._heap: list[Instant] = []
        self._keys: dict[Instant, list[K]] = {}
        """Those that may be due at each instant of the heap, in the order in which they were set."""

    def set(self, key: K, at: Instant) -> None:
        """Let the key be due at `at` instead of at any other time."""
        former = self._deadlines.get(key)
        self._deadlines[key] = at
        if former is None or at < former:
            if (keys := self._keys.get(at)) is not None:
                keys.append(key)
            else:
                self._begin(key, at)

    def clear(self, key: K) -> None:
        """Let the key not be due any more."""
        self._deadlines.pop(key, None)

    def get(self, key: K) -> Instant | None:
        """Tell when the key is due."""
        return self._deadlines.get(key)

    def next(self) -> Instant | None:
        """Tell when the next key is due."""
        heap, deadlines = self._heap, self._deadlines
        while heap:
            at = heap[0]
            keys = self._keys[at]
            while keys:
                deadline = deadlines.get(keys[-1])
                if deadline == at:
                    return at
                self._reenter(keys.pop(), at, deadline)
            del self._keys[heapq.heappop(heap)]
        return None

    def pop_due(self, until: Instant) -> list[tuple[K, Instant]]:
        """Take out the keys that are due at `until` or earlier, earliest first, each with its deadline."""
        due = []
        heap, deadlines = self._heap, self._deadlines
        while heap and heap[0] <= until:
            at = heapq.heappop(heap)
            for key in self._keys.pop(at):
                deadline = deadlines.get(key)
                if deadline == at:
                    del deadlines[key]
                    due.append((key, at))
                else:
                    self._reenter(key, at, deadline)
        return due

    def _reenter(self, key: K, at: Instant, deadline: Instant | None) -> None:
        """Put a key where its deadline is now; if that was moved forward it is there already."""
        if deadline is not None and deadline > at:
            if (keys := self._keys.get(deadline)) is not None:
                keys.append(key)
            else:
                self._begin(key, deadline)

    def _begin(self, key: K, at: Instant) -> None:
        """Put the first key at an instant."""
        self._keys[at] = [key]
        heapq.heappush(self._heap, at)
