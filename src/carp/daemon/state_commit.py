"""Writes the states that the peer has sent into the kernel, and brings conntrackd and the peer in step with that.

Before the addresses are live: commit, flush, resync. Without the commit connections would be reset; without the flush the next
one would put old copies over live states; without the resync conntrackd would know but a part of what it has just written.
After that: what came from the old MASTER since, and a copy of everything for the peer, which a commit does not send by itself.
That copy waits until conntrackd has worked off its own events, or it would miss a hundred states. After a commit that took too
long, which conntrackd ends by itself, the flush is made up for as well.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..config.sync import Sync
from ..linux import conntrackd
from ..linux.clock import boottime
from ..linux.conntrackd import ConntrackdError, ConntrackdLateError, Request
from ..protocol.values import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Instant
from .chronicle import logger

_STEPS = (Request.COMMIT, Request.FLUSH, Request.RESYNC)
_BROKEN_TIMEOUT_NS = 200 * NANOSECONDS_PER_MILLISECOND
"""For a conntrackd that did not answer a moment ago."""
_ADDRESSES_LIVE_AFTER_S = 0.3
_PATIENCE_S = 5.0
_EVENTS_EVERY_S = 0.25
_MOST_LOOKS = 40


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of the last one; `problem` is "" where the states are in the kernel."""

    at: str
    took_ms: float
    problem: str


class Commit:
    """The commits of this host."""

    def __init__(self) -> None:
        self._last: _Result | None = None
        self._runs = 0
        self._followed_up = True
        self._was_late = False
        """Whether the flush has still to be made."""

    def describe(self) -> dict[str, Any] | None:
        """Return what came of the last one for the status, None before the first."""
        last = self._last
        if last is None:
            return None
        return {"at": last.at, "took_ms": last.took_ms, "committed": not last.problem, "problem": last.problem}

    @property
    def is_unfinished(self) -> bool:
        """Whether states were committed and `follow_up` has still to come, or to end."""
        return not self._followed_up

    def abandon(self) -> None:
        """Nothing follows: this host did not take over after all, or serves no more."""
        self._runs += 1
        self._followed_up = True

    async def run(self, sync: Sync, *, is_broken: bool) -> None:
        """Commit, in time and whatever becomes of it; right after another one only what came since."""
        self._runs += 1
        began = boottime()
        if self._followed_up:
            self._was_late = False
        timeout_ns = min(_BROKEN_TIMEOUT_NS, sync.timeout_ns) if is_broken else sync.timeout_ns
        steps = _STEPS if self._followed_up else _STEPS[:1]
        problem = ""
        try:
            await _ask_in_time(sync.socket, steps, Instant(began + timeout_ns))
            self._followed_up = False
        except ConntrackdLateError as error:
            problem, self._followed_up, self._was_late = str(error), False, True
        except ConntrackdError as error:
            problem, self._followed_up = str(error), True
        took_ms = round((boottime() - began) / NANOSECONDS_PER_MILLISECOND, 1)
        self._last = _Result(datetime.now(UTC).isoformat(timespec="milliseconds"), took_ms, problem)
        if problem:
            logger.error("state sync: this host takes over without the peer's states: conntrackd %s", problem)
        else:
            logger.info("state sync: the peer's states are in the kernel after %s ms", took_ms)

    async def follow_up(self, sync: Sync) -> None:
        """Do the rest, when the addresses are live; only after the last of several commits."""
        run = self._runs
        await asyncio.sleep(_ADDRESSES_LIVE_AFTER_S)
        if self._followed_up or self._runs != run:
            return
        with contextlib.suppress(ConntrackdError):  # whoever watches tells of it
            await conntrackd.ask(sync.socket, Request.COMMIT, _PATIENCE_S)
            await _work_off_events(sync.socket)
            if self._was_late:
                await conntrackd.ask(sync.socket, Request.FLUSH, _PATIENCE_S)
            await conntrackd.ask(sync.socket, Request.RESYNC, _PATIENCE_S)
            await conntrackd.ask(sync.socket, Request.BULK_UPDATE, _PATIENCE_S)
        if self._runs == run:
            self._followed_up = True


async def _ask_in_time(path: str, requests: tuple[Request, ...], deadline: Instant) -> None:
    """Make requests one after the other; raises ConntrackdError."""
    for request in requests:
        left_s = max((deadline - boottime()) / NANOSECONDS_PER_SECOND, 0.001)
        await conntrackd.ask(path, request, left_s)


async def _work_off_events(path: str) -> None:
    """Wait until conntrackd has read what the kernel told it of its own commit; raises ConntrackdError."""
    before = -1
    for _ in range(_MOST_LOOKS):
        await asyncio.sleep(_EVENTS_EVERY_S)
        now = await conntrackd.events_received(path, _PATIENCE_S)
        if now == before:
            return
        before = now
