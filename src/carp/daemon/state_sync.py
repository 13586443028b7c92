"""State of connections for firewalls: conntrackd carries it, and carpd sees to the order.

Before a carp interface's addresses go live the states that the peer has sent are written into the kernel, or connections would
be reset. A host that lacks states is demoted until it has them, as pfsync does (PROTOCOL.md 9.4), so that it takes over from
nobody who has them. When they do not come it is demoted by less, as other reasons should count again, and preempts nobody all
the same. Whatever ends the exchange demotes both hosts by one, so that it decides nothing by itself.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..config.sync import Sync
from ..linux import conntrackd
from ..linux.clock import boottime
from ..linux.conntrackd import ConntrackdError, Request, Statistics
from ..protocol.actions import Prepare, Transition
from ..protocol.demotion import Demotion
from ..protocol.engine import Engine
from ..protocol.events import DemotionEnded, DemotionStarted, Event, HeldBack, Prepared
from ..protocol.health import OWNER
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant, State
from . import sides
from .bulk import Bulk
from .chronicle import logger
from .state_stages import Stages

FACT = "state sync"
_TROUBLE_DEMOTION = 1
"""Of a host that has states and gets no more, or has waited for them in vain."""
_MASTER_DEMOTED_AFTER_NS = 6 * NANOSECONDS_PER_SECOND
"""A BACKUP has noticed the same trouble by then: a MASTER that was demoted first would be replaced for nothing."""
_SILENT_AFTER_NS = 3 * NANOSECONDS_PER_SECOND
"""conntrackd sends at least one message a second."""
_LOOK_EVERY_S = 1.0
_LOOK_CLOSELY_EVERY_S = 0.1
_PATIENCE_S = 2.0
"""For one question whose answer is short."""
_PURGE_AFTER_S = 60.0
"""What a MASTER leaves in the kernel may be of use to it when it is MASTER again soon."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How the exchange of states is: `demotion` is what it should demote by, 0 for nothing."""

    synchronised: bool
    reason: str
    demotion: int = 0


class StateSync:
    """Watches conntrackd and makes takeovers wait for it.

    Args:
        handle: takes events for the engine; never called from within `prepare` or `transition`.
        link_up: tells whether the interface of a name is up.
    """

    def __init__(self, engine: Engine, handle: Callable[[Event], None], link_up: Callable[[str], bool]) -> None:
        self._engine = engine
        self._handle = handle
        self._link_up = link_up
        self._sync: Sync | None = None
        self._watching: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._stages = Stages(engine, handle, self._begin, self._lack_commit, lambda: (not self._problem, self._pid))
        self._purging: asyncio.Task[None] | None = None
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._statistics: Statistics | None = None
        self._pid: int | None = None
        self._problem = ""
        self._bulk: Bulk | None = None
        self._missed: Bulk | None = None
        """What a MASTER that took over without conntrackd asked for when that was there."""
        self._has_states = self._hears_itself = False
        self._held: set[str] = set()
        """The carp interfaces that preempt nobody because this host has no states; not those that were handed over by hand."""
        self._heard_at = boottime()
        self._trouble_since: Instant | None = None
        self._was_master = False
        self._verdict = _Verdict(False, "not asked yet")
        self.apart = ""
        """Says which carp interfaces are MASTER here while others that belong to them are not; "" if there are none."""
        self._changed_at = datetime.now(UTC)

    def adopt(self, sync: Sync | None) -> None:
        """Go by this configuration from now on, None for none."""
        if self._stopped or sync == self._sync:
            return
        former, self._sync = self._sync, sync
        if sync is not None and former is not None and sync == replace(former, timeout_ns=sync.timeout_ns):
            return  # only commits go by it
        self._statistics, self._bulk, self._missed, self._has_states, self._problem = None, None, None, False, ""
        self._trouble_since, self._pid, self.apart = None, None, ""
        for task in (self._watching, self._purging):
            if task is not None:
                task.cancel()
        self._watching = self._purging = None
        self._let_go()
        if sync is None:
            self._handle(DemotionEnded(FACT))
            return
        if not self._stages.is_master(sync):
            self._apply(sync, _Verdict(False, "the peer's states are not here yet", sync.demote))
        self._watching = self._begin(self._watch(sync))

    async def stop(self) -> None:
        """Ask nothing any more."""
        self._stopped = True
        self._stages.commit.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def prepare(self, action: Prepare) -> None:
        """A pre-master stage begins: let it wait for the states."""
        self._stages.forget(action)
        interface = self._engine.interface(action.interface)
        if self._sync is not None and interface is not None and self._sync.covers(interface.name, interface.parameters.groups):
            self._stages.begin(self._sync, action)

    def prepared(self, event: Prepared) -> None:
        """The hook of a stage is over; the stage is when its states are here, too."""
        self._stages.prepared(event)

    def transition(self, action: Transition) -> None:
        """A virtual host changed its state: a new BACKUP needs the states of its MASTER."""
        if action.new is State.MASTER:
            self._held.discard(action.interface)  # the engine has let it go
        if self._sync is None or State.MASTER not in (action.old, action.new):
            return
        self._woken.set()
        if action.new is not State.MASTER:
            return
        self._stages.became_master(self._sync, action)

    def describe(self) -> dict[str, Any]:
        """Return the document of `carp sync status`."""
        sync = self._sync
        if sync is None:
            return {"configured": False}
        found = self._statistics
        fact = self._engine.host.demotions.find(FACT)
        return {
            "configured": True,
            "conntrackd": {"answers": not self._problem, "problem": self._problem, "pid": found.pid if found else None},
            "link": {"interface": sync.interface, "present": _exists(sync.interface), "up": self._link_up(sync.interface)},
            "role": "MASTER" if self._stages.is_master(sync) else "BACKUP",
            "synchronised": self._verdict.synchronised,
            "reason": self._verdict.reason,
            "since": self._changed_at.isoformat(timespec="milliseconds"),
            "states": None
            if found is None
            else {"kernel": conntrackd.kernel_states(), "internal": found.internal, "external": found.external},
            "demote": 0 if fact is None else fact.amount,
            "held_back": bool(self._held),
            "apart": self.apart,
            "last_takeover": self._stages.commit.describe(),
        }

    def holds(self, name: str) -> bool:
        """Tell whether a carp interface preempts nobody because this host has no states."""
        return name in self._held

    def doubts(self, names: Collection[str]) -> list[str]:
        """Say what becomes of the connections if a peer takes over carp interfaces now, where that is known to be bad."""
        if self._sync is None or self._verdict.synchronised:
            return []
        covered = any(one.name in names for one in self._stages.interfaces(self._sync))
        return [f"the peer may lack the states of connections, which then break: {self._verdict.reason}"] if covered else []

    def left_behind(self, name: str) -> list[str]:
        """Say which carp interfaces stay MASTER here without one that was handed over and belongs to them."""
        return [] if self._sync is None else sides.left_behind(name, self._stages.interfaces(self._sync))

    async def _watch(self, sync: Sync) -> None:
        while True:
            try:
                found = await conntrackd.statistics(sync.socket, _PATIENCE_S)
                self._problem = ""
                verdict = await self._judge(sync, found)
                await self._make_up(sync, found)
            except Exception as error:
                is_ours = not isinstance(error, ConntrackdError)
                self._problem = f"cannot be watched: {error!r}" if is_ours else str(error)
                self._statistics, self._bulk, self._missed, self._has_states = None, None, None, False
                verdict = _Verdict(False, f"conntrackd {self._problem}", sync.demote)
                if is_ours and verdict.reason != self._verdict.reason:
                    logger.exception("state sync: conntrackd cannot be watched")
            if self._stages.is_master(sync):
                verdict = self._as_master(sync, verdict)
            else:
                self._trouble_since = None
            self._apply(sync, verdict)
            self._look_at_sides(sync)
            waits = self._missed is not None or (self._bulk is not None and not self._bulk.given_up)
            interval_s = _LOOK_CLOSELY_EVERY_S if waits else _LOOK_EVERY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._woken.wait()
            self._woken.clear()

    async def _judge(self, sync: Sync, found: Statistics) -> _Verdict:
        """See how the exchange is; ask the peer for its states where this host's are old or none. Raises ConntrackdError."""
        now = boottime()
        former, self._statistics, self._pid = self._statistics, found, found.pid
        was_master, self._was_master = self._was_master, self._stages.is_master(sync)
        is_new = former is None or not found.follows(former)
        self._has_states = (self._has_states or was_master) and not is_new
        if not self._was_master and not self._stages.take_over(sync):
            # What was sent before is in the kernel and no longer in conntrackd, as with a MASTER of a moment ago.
            was_master = was_master or self._stages.commit.is_unfinished
            self._stages.abandon()
        silent_before = now - self._heard_at >= _SILENT_AFTER_NS
        if is_new or former is None or found.received != former.received:
            self._heard_at = now
        self._hears_itself = found.is_balanced and not is_new and (self._hears_itself or found.is_echo(former))
        if not self._link_up(sync.interface):
            self._bulk = None
            missing = not _exists(sync.interface)
            return self._lacking(sync, f"there is no {sync.interface}" if missing else f"{sync.interface} is down")
        if self._was_master:
            self._bulk = None
            if is_new:
                await conntrackd.ask(sync.socket, Request.BULK_UPDATE, _PATIENCE_S)
        elif was_master or is_new or (silent_before and self._heard_at == now) or (not self._has_states and self._bulk is None):
            if was_master:
                self._purge(sync)
            await conntrackd.ask(sync.socket, Request.ASK_PEER, _PATIENCE_S)
            self._bulk = Bulk(found, now)
        if self._hears_itself:
            return self._lacking(sync, "conntrackd hears itself alone: its destination is this host's own address")
        if now - self._heard_at >= _SILENT_AFTER_NS and (self._bulk is None or self._bulk.given_up):
            return self._lacking(
                sync, "the peer is silent" if self._has_states else "the peer is silent and has sent no states"
            )
        if self._bulk is not None:
            return await self._follow_bulk(sync, self._bulk, found, now)
        if self._was_master:
            return _Verdict(True, "this host is MASTER, and the peer gets its states")
        return _Verdict(True, "the peer's states are here")

    async def _follow_bulk(self, sync: Sync, bulk: Bulk, found: Statistics, now: Instant) -> _Verdict:
        """See whether the states that the peer was asked for are here."""
        if bulk.is_complete(found, now):
            self._bulk, self._has_states = None, True
            return _Verdict(True, "the peer's states are here")
        if bulk.asks_again(now):
            await conntrackd.ask(sync.socket, Request.ASK_PEER, _PATIENCE_S)
        if now - bulk.asked_at < sync.bulk_timeout_ns:
            return self._lacking(sync, "the peer's states are on their way")
        bulk.given_up = True
        waited = f"{sync.bulk_timeout_ns / NANOSECONDS_PER_SECOND:g} s"
        return self._lacking(sync, f"the peer did not send its states within {waited}")

    async def _make_up(self, sync: Sync, found: Statistics) -> None:
        """Commit what a takeover without conntrackd has missed, once all that can be is here. Raises ConntrackdError."""
        now = boottime()
        missed, self._missed = self._missed, None
        if not self._was_master or not self._stages.commit.is_owed or self._stages.are_committing:
            return
        waited_ns = 0 if missed is None else now - missed.asked_at
        is_over = not self._link_up(sync.interface) or waited_ns >= sync.bulk_timeout_ns
        if is_over or (missed is not None and missed.is_complete(found, now)):
            self._stages.commit.make_up(has_states=found.external > 0)
            self._stages.follow_up(sync)
            return
        if missed is None or missed.asks_again(now):
            await conntrackd.ask(sync.socket, Request.ASK_PEER, _PATIENCE_S)
        self._missed = missed or Bulk(found, now)

    def _lacking(self, sync: Sync, reason: str) -> _Verdict:
        """This host gets no states; it is demoted by more while it has none and may still get them."""
        waits = not self._has_states and not (self._bulk is not None and self._bulk.given_up)
        return _Verdict(False, reason, sync.demote if waits else min(_TROUBLE_DEMOTION, sync.demote))

    def _as_master(self, sync: Sync, verdict: _Verdict) -> _Verdict:
        """A MASTER has the states by itself; only that its peer gets none counts, and not at once."""
        if verdict.synchronised:
            self._trouble_since = None
            return verdict
        now = boottime()
        if self._trouble_since is None:
            self._trouble_since = now
        lasts = now - self._trouble_since >= _MASTER_DEMOTED_AFTER_NS
        return _Verdict(False, verdict.reason, min(_TROUBLE_DEMOTION, sync.demote) if lasts else 0)

    def _apply(self, sync: Sync, verdict: _Verdict) -> None:
        """Demote by a verdict, and tell of a new one."""
        if (verdict.synchronised, verdict.reason) != (self._verdict.synchronised, self._verdict.reason):
            (logger.info if verdict.synchronised else logger.warning)("state sync: %s", verdict.reason)
            self._changed_at = datetime.now(UTC)
        self._verdict = verdict
        self._hold(sync)
        former = self._engine.host.demotions.find(FACT)
        if not verdict.demotion:
            if former is not None:
                self._handle(DemotionEnded(FACT))
            return
        since = boottime() if former is None else former.since
        wanted = Demotion(FACT, verdict.demotion, sync.groups, OWNER, since, None, verdict.reason)
        if wanted != former:
            self._handle(DemotionStarted(wanted))

    def _hold(self, sync: Sync) -> None:
        """Let this host preempt nobody as long as it has no states."""
        if self._has_states or self._stages.is_master(sync):
            self._let_go()
            return
        for interface in self._stages.interfaces(sync):
            if not interface.held_back:
                self._held.add(interface.name)
                self._handle(HeldBack(interface.name))

    def _let_go(self) -> None:
        held, self._held = self._held, set()
        for name in held:
            self._handle(HeldBack(name, held=False))

    def _look_at_sides(self, sync: Sync) -> None:
        """Tell once of carp interfaces that belong together and are on different hosts, and once of the end of that."""
        former, self.apart = self.apart, sides.apart(self._stages.interfaces(sync), boottime())
        if self.apart and self.apart != former:
            logger.warning("state sync: %s", self.apart)
        elif former and not self.apart:
            logger.info("state sync: what belongs together is on one host again")

    def _lack_commit(self, problem: str) -> None:
        """Go on without the peer's states only where no other host serves: a MASTER that lives is not replaced."""
        if self._sync is None or self._stages.is_master(self._sync):
            logger.error("state sync: this host takes over without the peer's states: conntrackd %s", problem)
            return
        logger.error("state sync: this host stays BACKUP without the peer's states: conntrackd %s", problem)
        self._has_states = False
        self._apply(self._sync, _Verdict(False, f"conntrackd {problem}", self._sync.demote))

    def _purge(self, sync: Sync) -> None:
        """Let go what the kernel has of a former reign, after a while."""
        if self._purging is not None:
            self._purging.cancel()
        self._purging = self._begin(self._purge_later(sync))

    async def _purge_later(self, sync: Sync) -> None:
        await asyncio.sleep(_PURGE_AFTER_S)
        with contextlib.suppress(ConntrackdError):
            # One that hangs would do it when it goes on, and this host may be MASTER then.
            await conntrackd.statistics(sync.socket, _PATIENCE_S)
            if not self._is_master_of_any() and not self._stages.take_over(sync):
                await conntrackd.ask(sync.socket, Request.PURGE, _PATIENCE_S)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_master_of_any(self) -> bool:
        """Tell it of all carp interfaces: their connections are in one table of the kernel."""
        return any(vhost.state is State.MASTER for interface in self._engine.interfaces for vhost in interface.vhosts)


def _exists(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True
