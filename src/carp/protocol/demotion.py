"""Demotion: the reasons why this host should not be MASTER, and the number they add up to (PROTOCOL.md 5.1).

Differs: the BSDs keep a running sum, which sticks when one end of a plus and a minus is lost. Here each reason is a fact
with a name, and the number is computed from the facts that hold.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .schedule import Schedule
from .values import Instant

MAX_DEMOTE = 255
"""What fits into the demote byte."""
EVERY_INTERFACE = "all"
"""The group that every carp interface is in, besides the one of its own name."""


def groups_of(name: str, groups: Iterable[str]) -> tuple[str, ...]:
    """Return all groups whose reasons demote a carp interface of this name with these configured groups, each once."""
    return tuple(dict.fromkeys((*groups, name, EVERY_INTERFACE)))


@dataclass(frozen=True, slots=True)
class Demotion:
    """One reason: it demotes every carp interface that is in one of `groups` by `amount`, until `until` if that is set.

    `owner` is who set it, `detail` what else people should know.
    """

    name: str
    amount: int
    groups: frozenset[str]
    owner: str
    since: Instant
    until: Instant | None = None
    detail: str = ""


class Demotions:
    """The reasons that hold, by name."""

    def __init__(self) -> None:
        self._facts: dict[str, Demotion] = {}
        # Thousands of reasons may hold, and thousands of interfaces ask for their sum.
        self._by_group: dict[str, dict[str, Demotion]] = {}
        self._totals: Counter[str] = Counter()
        self._expiries: Schedule[str] = Schedule()
        self.changes = 0
        """How often anything changed; who remembers it need not count again."""

    def __iter__(self) -> Iterator[Demotion]:
        """Walk the reasons in the order in which they began."""
        return iter(self._facts.values())

    def add(self, demotion: Demotion) -> None:
        """Let a reason hold; one of the same name is replaced."""
        former = self._facts.get(demotion.name)
        if former is not None:
            self._leave_groups(former)
        self._facts[demotion.name] = demotion
        for group in demotion.groups:
            self._by_group.setdefault(group, {})[demotion.name] = demotion
            self._totals[group] += demotion.amount
        if demotion.until is None:
            self._expiries.clear(demotion.name)
        else:
            self._expiries.set(demotion.name, demotion.until)
        self.changes += 1

    def remove(self, name: str) -> bool:
        """End a reason; tell whether it held."""
        fact = self._facts.pop(name, None)
        if fact is None:
            return False
        self._leave_groups(fact)
        self._expiries.clear(name)
        self.changes += 1
        return True

    def find(self, name: str) -> Demotion | None:
        """Return the reason of this name, if it holds."""
        return self._facts.get(name)

    def expire(self, now: Instant) -> bool:
        """End the reasons whose time is over; tell whether there were any."""
        over = self._expiries.pop_due(now)
        for name, _ in over:
            self.remove(name)
        return bool(over)

    def next_expiry(self) -> Instant | None:
        """Tell when the next reason ends by itself."""
        return self._expiries.next()

    def demoted(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Return those of the groups that any reason demotes: interfaces that differ in the others alone are demoted alike."""
        return tuple(group for group in groups if group in self._by_group)

    def walk(self, groups: Iterable[str]) -> Iterator[Demotion]:
        """Walk the reasons that demote an interface with these groups; within a group in the order in which they began."""
        seen: set[str] = set()
        for group in groups:
            for name, fact in self._by_group.get(group, {}).items():
                if name not in seen:
                    seen.add(name)
                    yield fact

    def count(self, groups: Iterable[str]) -> int:
        """Return the demote count of an interface: the sum over its groups of what each group is demoted by, 0..255.

        `groups` names each group once.
        """
        total = 0
        for group in groups:
            total += self._totals.get(group, 0)
        return max(0, min(MAX_DEMOTE, total))

    def _leave_groups(self, fact: Demotion) -> None:
        for group in fact.groups:
            del self._by_group[group][fact.name]
            self._totals[group] -= fact.amount
            if not self._by_group[group]:
                del self._by_group[group], self._totals[group]
