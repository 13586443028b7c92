"""State of connections for firewalls: conntrackd carries it, and carpd sees to the order.

Before a carp interface's addresses go live the states that the peer has sent are written into the kernel, or connections would
be reset. A host that lacks states is demoted until it has them, as pfsync does (PROTOCOL.md 9.4), so that it takes over from
nobody who has them. Whatever ends the exchange demotes both hosts by one, so that it decides nothing by itself.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..config.sync import Sync
from ..linux import conntrackd
from ..linux.clock import boottime
from ..linux.conntrackd import ConntrackdError, Request, Statistics
from ..protocol.actions import Prepare, Transition
from ..protocol.demotion import Demotion
from ..protocol.engine import Engine
from ..protocol.events import DemotionEnded, DemotionStarted, Event, Prepared
from ..protocol.health import OWNER
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant, State
from ..protocol.vhost import Stage, VirtualHost
from .bulk import Bulk
from .chronicle import logger
from .state_commit import Commit

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


@dataclass(slots=True)
class _Stage:
    """A pre-master stage: whether its states are committed, and the event that ends it, once its hook has."""

    action: Prepare
    committed: bool = False
    prepared: Prepared | None = None


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
        self._stages: dict[tuple[str, int], _Stage] = {}
        self._commit = Commit()
        self._committing: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._statistics: Statistics | None = None
        self._problem = ""
        self._bulk: Bulk | None = None
        self._has_states = False
        self._heard_at = boottime()
        self._trouble_since: Instant | None = None
        self._was_master = False
        self._verdict = _Verdict(False, "not asked yet")
        self._changed_at = datetime.now(UTC)

    def adopt(self, sync: Sync | None) -> None:
        """Go by this configuration from now on, None for none."""
        if sync == self._sync:
            return
        self._sync = sync
        self._statistics, self._bulk, self._has_states, self._problem = None, None, False, ""
        self._trouble_since = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if sync is None:
            self._handle(DemotionEnded(FACT))
            return
        if not self._is_master(sync):
            self._apply(sync, _Verdict(False, "the peer's states are not here yet", sync.demote))
        self._watching = self._begin(self._watch(sync))

    async def stop(self) -> None:
        """Ask nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def prepare(self, action: Prepare) -> None:
        """A pre-master stage begins: let it wait for the states."""
        self._stages.pop((action.interface, action.vhid), None)
        interface = self._engine.interface(action.interface)
        if self._sync is None or interface is None or not self._sync.covers(interface.name, interface.parameters.groups):
            return
        self._stages[action.interface, action.vhid] = _Stage(action)
        if self._committing is None:
            self._committing = self._begin(self._commit_for_all(self._sync))

    def prepared(self, event: Prepared) -> None:
        """The hook of a stage is over; the stage is when its states are here, too."""
        stage = self._stages.get((event.interface, event.vhid))
        if stage is None or stage.action.serial != event.serial or stage.committed:
            self._handle(event)
        else:
            stage.prepared = event

    def transition(self, action: Transition) -> None:
        """A virtual host changed its state: a new BACKUP needs the states of its MASTER."""
        if self._sync is None or State.MASTER not in (action.old, action.new):
            return
        self._woken.set()
        # One that preempts does so some time after its stage, and the old MASTER has served until now.
        if action.new is State.MASTER and self._committing is None and (action.interface, action.vhid) in self._stages:
            self._follow_up(self._sync)

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
            "link": {"interface": sync.interface, "up": self._link_up(sync.interface)},
            "role": "MASTER" if self._is_master(sync) else "BACKUP",
            "synchronised": self._verdict.synchronised,
            "reason": self._verdict.reason,
            "since": self._changed_at.isoformat(timespec="milliseconds"),
            "states": None
            if found is None
            else {"kernel": conntrackd.kernel_states(), "internal": found.internal, "external": found.external},
            "demote": 0 if fact is None else fact.amount,
            "last_takeover": self._commit.describe(),
        }

    async def _watch(self, sync: Sync) -> None:
        while True:
            try:
                found = await conntrackd.statistics(sync.socket, _PATIENCE_S)
                self._problem = ""
                verdict = await self._judge(sync, found)
            except ConntrackdError as error:
                self._problem = str(error)
                self._statistics, self._bulk, self._has_states = None, None, False
                verdict = _Verdict(False, f"conntrackd {error}", sync.demote)
            if self._is_master(sync):
                verdict = self._as_master(sync, verdict)
            else:
                self._trouble_since = None
            self._apply(sync, verdict)
            interval_s = _LOOK_EVERY_S if self._bulk is None else _LOOK_CLOSELY_EVERY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._woken.wait()
            self._woken.clear()

    async def _judge(self, sync: Sync, found: Statistics) -> _Verdict:
        """See how the exchange is; ask the peer for its states where this host's are old or none. Raises ConntrackdError."""
        now = boottime()
        former, self._statistics = self._statistics, found
        was_master, self._was_master = self._was_master, self._is_master(sync)
        if not self._was_master and self._commit.is_unfinished and not self._takes_over(sync):
            # What was sent before is in the kernel and no longer in conntrackd, as with a MASTER of a moment ago.
            was_master = True
            self._abandon_commit()
        is_new = former is None or former.pid != found.pid
        silent_before = now - self._heard_at >= _SILENT_AFTER_NS
        if is_new or former is None or found.received != former.received:
            self._heard_at = now
        if not self._link_up(sync.interface):
            self._bulk = None
            return self._lacking(sync, f"{sync.interface} is down")
        if self._was_master:
            self._bulk = None
            if is_new:
                await conntrackd.ask(sync.socket, Request.BULK_UPDATE, _PATIENCE_S)
        elif was_master or is_new or (silent_before and self._heard_at == now) or (not self._has_states and self._bulk is None):
            self._has_states = (was_master or self._has_states) and not is_new
            if was_master and not self._is_master_of_any():
                await conntrackd.ask(sync.socket, Request.PURGE, _PATIENCE_S)
            await conntrackd.ask(sync.socket, Request.ASK_PEER, _PATIENCE_S)
            self._bulk = Bulk(found, now)
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
        former = self._engine.host.demotions.find(FACT)
        if not verdict.demotion:
            if former is not None:
                self._handle(DemotionEnded(FACT))
            return
        since = boottime() if former is None else former.since
        wanted = Demotion(FACT, verdict.demotion, sync.groups, OWNER, since, None, verdict.reason)
        if wanted != former:
            self._handle(DemotionStarted(wanted))

    async def _commit_for_all(self, sync: Sync) -> None:
        """Write the peer's states into the kernel for every stage that begins until that is done."""
        try:
            while waiting := [stage for stage in self._stages.values() if not stage.committed]:
                await self._commit.run(sync, is_broken=bool(self._problem))
                for stage in waiting:
                    stage.committed = True
                    if stage.prepared is not None:
                        self._handle(stage.prepared)
        finally:
            self._committing = None
        if self._is_master(sync):
            self._follow_up(sync)

    def _follow_up(self, sync: Sync) -> None:
        """Complete a takeover anew: addresses have just gone live."""
        if self._following is not None:
            self._following.cancel()
        self._following = self._begin(self._commit.follow_up(sync))

    def _abandon_commit(self) -> None:
        if self._following is not None:
            self._following.cancel()
        self._commit.abandon()

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _is_master(self, sync: Sync) -> bool:
        return any(vhost.state is State.MASTER for vhost in self._covered(sync))

    def _is_master_of_any(self) -> bool:
        """Tell it of all carp interfaces: their connections are in one table of the kernel."""
        return any(vhost.state is State.MASTER for interface in self._engine.interfaces for vhost in interface.vhosts)

    def _takes_over(self, sync: Sync) -> bool:
        return self._committing is not None or any(vhost.stage is not Stage.NONE for vhost in self._covered(sync))

    def _covered(self, sync: Sync) -> Iterator[VirtualHost]:
        for interface in self._engine.interfaces:
            if sync.covers(interface.name, interface.parameters.groups):
                yield from interface.vhosts
