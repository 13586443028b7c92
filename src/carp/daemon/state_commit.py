"""Writes the states that the peer has sent into the kernel, and brings conntrackd and the peer in step with that.

Before the addresses are live: commit, flush, resync. Without the commit connections would be reset; without the flush the next
one would put old copies over live states; without the resync conntrackd would know but a part of what it has just written.
After that: what came from the old MASTER since, and a copy of everything for the peer, which a commit does not send by itself.
That copy waits until conntrackd has worked off its own events, or it would miss a hundred states. After a commit that took too
long, which conntrackd ends by itself, the flush is made up for as well; and all of it where conntrackd was not there at first.

conntrackd makes one commit at a time: another request is answered at once and does nothing. So one that took too long is left
connected, and the next one waits for its answer.
"""

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ..config.sync import Sync
from ..linux import conntrackd
from ..linux.clock import boottime
from ..linux.conntrackd import ConntrackdError, ConntrackdLateError, Request
from ..protocol.values import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Instant
from .chronicle import logger

_BROKEN_TIMEOUT_NS = 200 * NANOSECONDS_PER_MILLISECOND
"""For a conntrackd that did not answer a moment ago."""
_ADDRESSES_LIVE_AFTER_S = 0.3
_PATIENCE_S = 5.0
_AGAIN_AFTER_S = 1.0
_EVENTS_EVERY_S = 0.25
_MOST_LOOKS = 40


@dataclass(slots=True)
class _Result:
    """What came of the last one; `problem` is "" where it was in time.

    `states` is how many there were to commit, in time or late, None where nobody could say; `late_at` is when it was late.
    """

    at: str
    took_ms: float
    committed: bool
    problem: str
    states: int | None = None
    late_at: str | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    """A request to commit, of the conntrackd at this path."""

    path: str
    answer: asyncio.Task[tuple[str, int]]


class Commit:
    """The commits of this host."""

    def __init__(self) -> None:
        self._last: _Result | None = None
        self._runs = 0
        self._followed_up = True
        self._lacks_flush = False
        self._is_owed = False
        self._began = boottime()
        self._pid: int | None = None
        self._work: _Work | None = None
        self._limit: asyncio.Timeout | None = None
        """Of the run under way."""

    def describe(self) -> dict[str, Any] | None:
        """Return what came of the last one for the status, None before the first."""
        return None if self._last is None else asdict(self._last)

    @property
    def is_unfinished(self) -> bool:
        """Whether states were committed and `follow_up` has still to come, or to end."""
        return not self._followed_up

    @property
    def is_owed(self) -> bool:
        """Whether conntrackd was not there to commit, or to complete what it did too late: `make_up` does, once."""
        return self._is_owed

    def make_up(self, *, has_states: bool) -> None:
        """Let `follow_up` do all of it now, if there is something to commit."""
        self._is_owed = False
        if has_states:
            self._followed_up, self._lacks_flush, self._pid = False, True, None

    def abandon(self) -> None:
        """Nothing follows: this host did not take over after all, or serves no more."""
        self._runs += 1
        self._followed_up, self._is_owed = True, False

    def reopen(self) -> None:
        """Addresses go live a while after their commit: `follow_up` has to come once more."""
        self._followed_up = False

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._work is not None:
            self._work.answer.cancel()

    def hurry(self, until: Instant) -> None:
        """Let the run under way, if there is one, end by then."""
        limit = self._limit
        latest = asyncio.get_running_loop().time() + _seconds_to(until)
        if limit is not None and not limit.expired():
            limit.reschedule(min(limit.when() or latest, latest))

    async def run(self, sync: Sync, until: Instant, *, is_broken: bool = False, pid: int | None = None) -> str:
        """Commit, in time and whatever becomes of it; right after another one only what came since.

        Args:
            sync: says where conntrackd is.
            until: when to wait no longer.
            is_broken: conntrackd did not answer a moment ago.
            pid: the process that was seen to have the states; None for one that has still to show that it synchronises.

        Returns:
            Why the states are not in the kernel, "" if they are.
        """
        self._runs += 1
        self._began, self._pid = boottime(), pid
        if self._followed_up:
            self._lacks_flush = False
        flushes = self._followed_up
        if is_broken:
            until = min(until, Instant(self._began + _BROKEN_TIMEOUT_NS))
        problem, states, is_in_kernel = "", 0, False
        try:
            async with asyncio.timeout(_seconds_to(until)) as self._limit:
                answered = await self._commit(sync.socket)
                # The external cache keeps what was committed until the flush.
                states = (await conntrackd.statistics(sync.socket, _PATIENCE_S)).external
                if pid not in (None, answered):
                    problem = "has begun anew, and had no states of the peer"
                is_in_kernel = not problem
                if flushes:
                    self._lacks_flush = True
                    await conntrackd.ask(sync.socket, Request.FLUSH, _PATIENCE_S)
                    await conntrackd.ask(sync.socket, Request.RESYNC, _PATIENCE_S)
                    self._lacks_flush = False
            self._followed_up = self._is_owed = False
        except (TimeoutError, ConntrackdLateError) as error:
            took_s = round((boottime() - self._began) / NANOSECONDS_PER_SECOND, 2)
            late = str(error) or f"does not answer within the timeout of {took_s:g} s"
            self._followed_up, self._lacks_flush = False, True
            if is_in_kernel:
                logger.warning("state sync: conntrackd %s, and is to be asked again: the peer's states are in the kernel", late)
            else:
                problem = late
        except ConntrackdError as error:
            problem, self._followed_up, self._is_owed = str(error), True, True
        finally:
            self._limit = None
        self._note(problem, states if flushes or self._last is None else states + (self._last.states or 0))
        return problem

    def _note(self, problem: str, states: int) -> None:
        took_ms = round((boottime() - self._began) / NANOSECONDS_PER_MILLISECOND, 1)
        self._last = _Result(_now(), took_ms, not problem, problem, None if problem else states)
        if problem:
            return
        if states:
            text = "state sync: %d states of the peer are in the kernel after %s ms; the addresses follow"
            logger.info(text, states, took_ms)
        else:
            logger.info("state sync: no states of the peer were waiting to be written into the kernel; the addresses follow")

    async def follow_up(self, sync: Sync) -> None:
        """Do the rest, when the addresses are live, as often as it takes; only after the last of several commits."""
        run = self._runs
        await asyncio.sleep(_ADDRESSES_LIVE_AFTER_S)
        while not self._followed_up and self._runs == run:
            with contextlib.suppress(ConntrackdError):  # whoever watches tells of it
                await self._complete(sync.socket, run)
                return
            await asyncio.sleep(_AGAIN_AFTER_S)

    async def _complete(self, path: str, run: int) -> None:
        """Make the requests that follow this run, unless there is a newer one; raises ConntrackdError."""
        if self._pid not in (None, (await conntrackd.statistics(path, _PATIENCE_S)).pid):
            if self._runs == run:
                # One that has begun anew has nothing to commit before its peer is asked; what the peer has is old once the
                # states are in the kernel.
                self._followed_up = True
                self._is_owed = self._last is None or not self._last.committed
            return
        await self._commit(path)
        if self._lacks_flush:
            self._tell_late((await conntrackd.statistics(path, _PATIENCE_S)).external)
        await _work_off_events(path)
        for request in (Request.FLUSH, Request.RESYNC, Request.BULK_UPDATE):
            if self._runs != run:
                return
            if request is not Request.FLUSH or self._lacks_flush:
                await conntrackd.ask(path, request, _PATIENCE_S)
        if self._runs == run:
            self._followed_up = True

    def _tell_late(self, states: int) -> None:
        """The states of a takeover without them are in the kernel after all."""
        if self._last is None or self._last.committed or self._last.late_at is not None or not states:
            return
        self._last.states, self._last.late_at = states, _now()
        after_s = (boottime() - self._began) / NANOSECONDS_PER_SECOND
        logger.warning("state sync: %d states of the peer are in the kernel late, %.1f s after the takeover", states, after_s)

    async def _commit(self, path: str) -> int:
        """Commit, after what conntrackd is still at; return its process id. Raises ConntrackdError.

        There is no deadline: whoever waits no longer cancels this, and conntrackd goes on.
        """
        while self._work is not None and self._work.path == path and not self._work.answer.done():
            await asyncio.wait({self._work.answer})
        self.close()
        answer = asyncio.get_running_loop().create_task(conntrackd.ask(path, Request.COMMIT, None))
        # Where nobody waits for it any more, nobody else hears of its failure.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._work = _Work(path, answer)
        return (await asyncio.shield(answer))[1]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _seconds_to(until: Instant) -> float:
    return (until - boottime()) / NANOSECONDS_PER_SECOND


async def _work_off_events(path: str) -> None:
    """Wait until conntrackd has read what the kernel told it of its own commit; raises ConntrackdError."""
    before = -1
    for _ in range(_MOST_LOOKS):
        await asyncio.sleep(_EVENTS_EVERY_S)
        now = await conntrackd.events_received(path, _PATIENCE_S)
        if now == before:
            return
        before = now
