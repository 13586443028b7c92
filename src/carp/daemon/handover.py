"""Handing over by hand: `carp switch` for one carp interface, `carp maintenance` for all.

This host is demoted as far as possible and goes on to answer until a peer is MASTER, so no client is left alone; where no peer
takes over it stays.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..config.errors import shown
from ..linux.clock import boottime
from ..protocol.actions import Transition
from ..protocol.demotion import EVERY_INTERFACE, MAX_DEMOTE, Demotion
from ..protocol.events import DemotionEnded, DemotionStarted, HeldBack
from ..protocol.interface import CarpInterface
from ..protocol.values import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Instant, State
from . import maintenance
from .chronicle import logger
from .maintenance import Maintenance
from .refusals import ChangeRefusedError, UnknownNameError
from .runtime import Runtime

DEFAULT_PATIENCE_S = 5.0
LONGEST_PATIENCE_S = 300.0
MAINTENANCE = "maintenance"
_GRACE_NS = 1 * NANOSECONDS_PER_SECOND
_NO_DEMOTE_BYTE = (
    "a peer that knows no demote byte (FreeBSD, NetBSD, ucarp -P) needs demote-skew = true here; one with a pre-master hook may"
    " need a longer timeout"
)


@dataclass(slots=True)
class HandedOver:
    """What became of a hand-over: ns until a peer was MASTER by interface, and the interfaces that are still MASTER here.

    One that is neither has stopped for another reason, such as a parent that went down meanwhile.
    """

    took_ns: dict[str, int] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)


class HandOver:
    """Hands over.

    Args:
        directory: the state directory, which holds the maintenance flag.
    """

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self._runtime = runtime
        self._directory = directory
        self._flag: Maintenance | None = None
        self._switching: set[str] = set()
        self._changing_flag = asyncio.Lock()

    def begin(self) -> None:
        """Go on with a maintenance that an earlier run began; before anything is configured."""
        self._flag = maintenance.read(self._directory)
        if self._flag is not None:
            logger.warning("in maintenance%s", f": {self._flag.reason}" if self._flag.reason else "")
            self._runtime.handle(DemotionStarted(_maintenance_fact(self._flag)))

    async def switch(self, name: str, values: Mapping[str, object]) -> dict[str, Any]:
        """Hand one carp interface over, or leave everything as it was.

        `values` are to_backup, whether a BACKUP is right already, and timeout_s.

        Raises:
            ChangeRefusedError: it is not MASTER here, or no peer took it.
        """
        to_backup, patience_s = _flag(values, "to_backup"), _patience(values)
        interface = self._runtime.engine.interface(name)
        if interface is None:
            known = ", ".join(one.name for one in self._runtime.engine.interfaces) or "none"
            raise UnknownNameError([f"{name}: there is no such carp interface with a vhid; there is {known}"])
        if interface.leader.state is State.INIT:
            raise ChangeRefusedError([f"{name} is INIT: {interface.not_ready() or 'not started yet'}"])
        if not _serves(interface):
            if to_backup:
                return {"took_ms": None, "master": _master(interface), "warnings": []}
            known_as = _master(interface) or "not known"
            raise ChangeRefusedError([f"{name} is BACKUP here; its MASTER is {known_as}: hand it over there"])
        if name in self._switching:
            raise ChangeRefusedError([f"{name} is being handed over already"])
        warnings = self._runtime.state_sync.doubts({name})
        now = boottime()
        until = Instant(now + round(patience_s * NANOSECONDS_PER_SECOND) + _GRACE_NS)
        fact = Demotion(f"switch {name}", MAX_DEMOTE, frozenset({name}), "carp switch", now, until)
        self._switching.add(name)
        try:
            result = await self._hand_over([interface], fact, patience_s)
            if result.took_ns:
                # Or this host would take it back at the next advertisement, if it preempts.
                self._runtime.handle(HeldBack(name))
        finally:
            self._switching.discard(name)
            self._runtime.handle(DemotionEnded(fact.name))
        if result.kept:
            raise ChangeRefusedError(
                [f"{name}: no peer took it within {patience_s:g} s, so this host goes on as MASTER; {_NO_DEMOTE_BYTE}"]
            )
        if not result.took_ns:
            leader = interface.leader
            why = ": ".join(word for word in (leader.reason.value if leader.reason else "", leader.detail) if word)
            raise ChangeRefusedError([f"{name} became {leader.state.value} before a peer took it: {why}"])
        warnings += self._runtime.state_sync.left_behind(name)
        return {"took_ms": _milliseconds(result.took_ns[name]), "master": _master(interface), "warnings": warnings}

    async def maintain(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Begin or end the maintenance of this host; tell what peers took over and what nobody took.

        `values` are on, reason, by and timeout_s.

        Raises:
            ChangeRefusedError: a value is not allowed, or the flag cannot be written.
        """
        patience_s = _patience(values)
        reason, by = (_in_one_line(values.get(key)) for key in ("reason", "by"))
        if values.get("on") is None:
            raise ChangeRefusedError(["on: true or false is to be given"])
        flag = None
        if _flag(values, "on"):
            # Said once more, to try again: it began when it began.
            known = self._flag if self._flag is not None and self._flag.since else None
            began = known or Maintenance("", "", datetime.now(UTC).isoformat(timespec="seconds"))
            flag = Maintenance(reason or began.reason, by or began.by, began.since)
        await self._keep(flag)
        if flag is None:
            self._runtime.handle(DemotionEnded(MAINTENANCE))
            logger.info("maintenance is over")
            return self.describe()
        logger.info("maintenance begins%s", f": {flag.reason}" if flag.reason else "")
        serving = [one for one in self._runtime.engine.interfaces if _serves(one)]
        warnings = self._runtime.state_sync.doubts({one.name for one in serving})
        result = await self._hand_over(serving, _maintenance_fact(flag), patience_s)
        for name in result.kept:
            logger.warning("%s: no peer took over: this host goes on as MASTER", name)
        took = {name: _milliseconds(took_ns) for name, took_ns in result.took_ns.items()}
        hint = _NO_DEMOTE_BYTE if result.kept else ""
        return {**self.describe(), "took_ms": took, "kept": result.kept, "hint": hint, "warnings": warnings}

    def describe(self) -> dict[str, Any]:
        """Return whether this host is in maintenance, and which carp interfaces it serves."""
        flag = self._flag
        return {
            "on": flag is not None,
            "reason": flag.reason if flag is not None else "",
            "by": flag.by if flag is not None else "",
            "since": flag.since if flag is not None else "",
            "serves": [one.name for one in self._runtime.engine.interfaces if _serves(one)],
        }

    async def _keep(self, flag: Maintenance | None) -> None:
        """Set the flag, or take it away, on the disk and here; in the order in which it was asked for."""
        async with self._changing_flag:
            try:
                if flag is None:
                    await asyncio.to_thread(maintenance.remove, self._directory)
                else:
                    await asyncio.to_thread(maintenance.write, self._directory, flag)
            except OSError as error:
                raise ChangeRefusedError([f"the maintenance flag cannot be written: {error.strerror or error}"]) from None
            self._flag = flag

    async def _hand_over(self, interfaces: Iterable[CarpInterface], fact: Demotion, patience_s: float) -> HandedOver:
        """Let a reason hold, and wait until no interface is MASTER any more."""
        waiting = {one.name: one for one in interfaces}
        result = HandedOver()
        all_over = asyncio.Event()
        begin = boottime()

        def observe(action: Transition) -> None:
            interface = waiting.get(action.interface)
            if interface is not None and not _serves(interface):
                del waiting[action.interface]
                if action.source:  # that of the new MASTER's advertisement
                    result.took_ns[action.interface] = boottime() - begin
                if not waiting:
                    all_over.set()

        self._runtime.observers.add(observe)
        try:
            self._runtime.handle(DemotionStarted(fact))
            if waiting:
                await asyncio.wait_for(all_over.wait(), patience_s)
        except TimeoutError:
            result.kept = list(waiting)
        finally:
            self._runtime.observers.discard(observe)
        return result


def _maintenance_fact(flag: Maintenance) -> Demotion:
    groups = frozenset({EVERY_INTERFACE})
    return Demotion(MAINTENANCE, MAX_DEMOTE, groups, flag.by or "admin", boottime(), None, flag.reason)


def _serves(interface: CarpInterface) -> bool:
    return any(vhost.state is State.MASTER for vhost in interface.vhosts)


def _master(interface: CarpInterface) -> str | None:
    known = interface.leader.known_master(boottime())
    return None if known is None else str(ip_address(known.source))


def _milliseconds(duration_ns: int) -> float:
    return round(duration_ns / NANOSECONDS_PER_MILLISECOND, 1)


def _flag(values: Mapping[str, object], key: str) -> bool:
    given = values.get(key, False)
    if not isinstance(given, bool):
        raise ChangeRefusedError([f"{key}: {shown(given)} is not allowed: true or false"])
    return given


def _in_one_line(words: object) -> str:
    """Return what people said so that it can be written in the middle of a line."""
    return "".join(one if one.isprintable() else " " for one in str(words or "")).strip()


def _patience(values: Mapping[str, object]) -> float:
    given = values.get("timeout_s")
    if given is None:
        return DEFAULT_PATIENCE_S
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= LONGEST_PATIENCE_S:
        raise ChangeRefusedError(
            [f"timeout: {shown(given)} is not allowed: seconds, more than 0, at most {LONGEST_PATIENCE_S:g}"]
        )
    return float(given)
