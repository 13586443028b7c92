"""Deadlines of many things, the next one found in constant time."""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from .values import Instant

K = TypeVar("K", bound=Hashable)


class Schedule(Generic[K]):
    """At most one deadline for each key.

    Moving a deadline into the future, which a BACKUP does with every advertisement it hears, costs one dictionary write: the
    heap keeps the earlier entry and looks again when that comes up.
    """

    __slots__ = ("_deadlines", "_heap", "_order")

    def __init__(self) -> None:
        self._deadlines: dict[K, Instant] = {}
        self._heap: list[tuple[Instant, int, K]] = []
        self._order = 0

    def set(self, key: K, at: Instant) -> None:
        """Let the key be due at `at` instead of at any other time."""
        former = self._deadlines.get(key)
        self._deadlines[key] = at
        if former is None or at < former:
            self._push(at, key)

    def clear(self, key: K) -> None:
        """Let the key not be due any more."""
        self._deadlines.pop(key, None)

    def get(self, key: K) -> Instant | None:
        """Tell when the key is due."""
        return self._deadlines.get(key)

    def next(self) -> Instant | None:
        """Tell when the next key is due."""
        heap = self._heap
        while heap:
            at, _, key = heap[0]
            deadline = self._deadlines.get(key)
            if deadline == at:
                return at
            if deadline is None or deadline < at:
                heapq.heappop(heap)
            else:
                self._order += 1
                heapq.heapreplace(heap, (deadline, self._order, key))
        return None

    def pop_due(self, until: Instant) -> list[tuple[K, Instant]]:
        """Take out the keys that are due at `until` or earlier, earliest first, each with its deadline."""
        due = []
        heap, deadlines = self._heap, self._deadlines
        while (at := self.next()) is not None and at <= until:
            _, _, key = heapq.heappop(heap)
            del deadlines[key]
            due.append((key, at))
        return due

    def _push(self, at: Instant, key: K) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, key))
