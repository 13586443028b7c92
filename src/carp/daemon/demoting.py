"""Demotion by hand: named reasons (`carp demote`), and the numbers of `ifconfig -g GROUP carpdemote` and sysctl."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..config import layout
from ..config.errors import shown
from ..linux.clock import boottime
from ..protocol.demotion import EVERY_INTERFACE, MAX_DEMOTE, Demotion
from ..protocol.engine import Engine
from ..protocol.events import DemotionEnded, DemotionStarted, Event
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant
from .refusals import ChangeRefusedError, UnknownNameError

BY_HAND = "admin"
CARP_GROUP = "carp"
"""The group that a carp interface is in unless it is configured otherwise; it exists without any."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
NAME_WORDS = "1..32 letters, digits, '.', '_' and '-', a letter or digit first"
_MOST_S = 10 * 365 * 86400
_SYSCTL_FACT = "net.inet.carp.demotion"
_RESERVED = ("start", "maintenance", _SYSCTL_FACT)
"""Reasons of carpd's own that are written like those of people; all others hold a space."""
_MOST_OWNER_CHARACTERS = 32

Document = dict[str, Any]


class Demoting:
    """Sets and ends the reasons that people give.

    Args:
        running: returns the document that runs.
    """

    def __init__(self, engine: Engine, handle: Callable[[Event], None], running: Callable[[], Mapping[str, Any]]) -> None:
        self._engine = engine
        self._handle = handle
        self._running = running
        self._given: set[str] = set()
        """The names given by `add`."""

    def groups(self) -> dict[str, Document]:
        """Return every group with what it is demoted by and its members."""
        members: dict[str, list[str]] = {CARP_GROUP: []}
        for name, table in layout.carp_tables(self._running()).items():
            for group in table.get("groups", (CARP_GROUP,)):
                members.setdefault(group, []).append(name)
        # What demotes a group that lost its last member can still be taken back.
        for fact in self._engine.host.demotions:
            for group in fact.groups:
                if fact.name == _fact_of(group):
                    members.setdefault(group, [])
        return {group: {"demote": self.count(group), "members": names} for group, names in members.items()}

    def count(self, group: str) -> int:
        """Return what a group is demoted by."""
        return self._engine.host.demotions.count([group])

    def add(self, name: str, values: Mapping[str, object]) -> Demotion:
        """Let a reason hold, in the place of one of the same name.

        `values` are amount, 1..255; groups, default all interfaces of the group carp; for_s, seconds or None; by, a word.

        Raises:
            ChangeRefusedError: something of it is not allowed; every problem is told.
        """
        problems = [*_unknown_keys(values), *_name_problems(name)]
        amount, groups, for_s, by = (values.get(key) for key in ("amount", "groups", "for_s", "by"))
        if not isinstance(amount, int) or isinstance(amount, bool) or not 1 <= amount <= MAX_DEMOTE:
            problems.append(f"amount: {shown(amount)} is not allowed: an integer 1..{MAX_DEMOTE}")
            amount = 0
        if isinstance(for_s, bool) or not isinstance(for_s, int | float | None) or not (for_s is None or 0 < for_s <= _MOST_S):
            problems.append(f"for: {shown(for_s)} is not allowed: seconds, more than 0, at most {_MOST_S}")
            for_s = None
        listed = [one for one in groups if isinstance(one, str)] if isinstance(groups, list) else []
        if groups is None:
            listed = [CARP_GROUP]
        elif not listed or listed != groups:
            problems.append(f"groups: {shown(groups)} is not allowed: a list of groups")
        problems += self._group_problems(name, listed, amount)
        if problems:
            raise ChangeRefusedError(problems)
        now = boottime()
        until = None if for_s is None else Instant(now + round(for_s * NANOSECONDS_PER_SECOND))
        fact = Demotion(name, amount, frozenset(listed), _owner(by), now, until)
        self._given.add(name)
        self._handle(DemotionStarted(fact))
        return fact

    def remove(self, name: str) -> None:
        """End a reason that was given by hand.

        Raises:
            ChangeRefusedError: there is none, or it is one of carpd's own.
        """
        fact = self._engine.host.demotions.find(name)
        given = [one.name for one in self._engine.host.demotions if one.name in self._given]
        if fact is None:
            there = f"there is {', '.join(given)}" if given else "there is none by hand"
            raise UnknownNameError([f"{shown(name)}: no such reason demotes this host; {there}"])
        if name not in self._given:
            raise ChangeRefusedError([f"{name}: this reason is {fact.owner}'s, and ends when it is over{_how_else(name)}"])
        self._given.discard(name)
        self._handle(DemotionEnded(name))

    def adjust_group(self, group: str, amount: int) -> int:
        """Add to what a group is demoted by hand; return what it is demoted by.

        Raises:
            ChangeRefusedError: there is no such group, or the result is not 0..255.
        """
        known = self.groups()
        if group not in known:
            raise UnknownNameError([f"{group}: there is no such group; there is {', '.join(known)}"])
        self._check("carpdemote", group, amount)
        self._adjust(_fact_of(group), group, amount)
        return self.count(group)

    def check_all(self, amount: int) -> None:
        """Check what `adjust_all` would do. Raises ChangeRefusedError."""
        self._check("demotion", CARP_GROUP, amount)

    def adjust_all(self, amount: int) -> None:
        """Add to net.inet.carp.demotion, which was checked."""
        self._adjust(_SYSCTL_FACT, CARP_GROUP, amount)

    def _adjust(self, name: str, group: str, amount: int) -> None:
        former = self._engine.host.demotions.find(name)
        total = amount + (former.amount if former is not None else 0)
        if total:
            since = former.since if former is not None else boottime()
            self._handle(DemotionStarted(Demotion(name, total, frozenset({group}), BY_HAND, since)))
        elif former is not None:
            self._handle(DemotionEnded(name))

    def _check(self, word: str, group: str, amount: int) -> None:
        demotions = self._engine.host.demotions
        facts = (demotions.find(_fact_of(group)), demotions.find(_SYSCTL_FACT) if group == CARP_GROUP else None)
        by_hand = sum(fact.amount for fact in facts if fact is not None)
        if amount and not 0 <= by_hand + amount <= MAX_DEMOTE:
            raise ChangeRefusedError([f"{word}: {amount}: the result must be 0..{MAX_DEMOTE}, and by hand it is {by_hand} now"])

    def _group_problems(self, name: str, groups: Iterable[str], amount: int) -> Iterable[str]:
        known = [*self.groups(), EVERY_INTERFACE, *layout.carp_tables(self._running())]
        for group in groups:
            if group not in known:
                yield f"{shown(group)}: there is no such group; there is {', '.join(known)}"
            else:
                others = sum(
                    fact.amount
                    for fact in self._engine.host.demotions
                    if fact.name in self._given and fact.name != name and group in fact.groups
                )
                if others + amount > MAX_DEMOTE:
                    yield f"amount: {amount}: the sum of {group} must be 0..{MAX_DEMOTE}, and by hand it is {others} without it"


def _name_problems(name: str) -> Iterable[str]:
    if not NAME.fullmatch(name):
        yield f"{shown(name)} is no name of a reason: {NAME_WORDS}"
    elif name in _RESERVED:
        yield f"{name}: this name is carpd's own{_how_else(name)}"


def _how_else(name: str) -> str:
    if name == "maintenance":
        return ": carp maintenance on, carp maintenance off"
    if name == _SYSCTL_FACT:
        return f": carp sysctl {_SYSCTL_FACT}=-N"
    return ": carp ifconfig -g GROUP -carpdemote N" if name.startswith("ifconfig -g ") else ""


def _unknown_keys(values: Mapping[str, object]) -> Iterable[str]:
    allowed = ("amount", "groups", "for_s", "by")
    yield from (f"{key}: unknown key; allowed: {', '.join(allowed)}" for key in values if key not in allowed)


def _owner(by: object) -> str:
    """Name who gave a reason, as far as can be known."""
    word = "".join(one for one in by if one.isprintable())[:_MOST_OWNER_CHARACTERS] if isinstance(by, str) else ""
    return word or BY_HAND


def _fact_of(group: str) -> str:
    return f"ifconfig -g {group}"
