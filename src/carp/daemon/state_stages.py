"""The pre-master stages that wait for states: one commit for all that wait, and what follows when the addresses are live.

A host that takes over from nobody goes on without states when its time is over; one that would take over from a MASTER that
lives stays BACKUP.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from ..config.sync import Sync
from ..linux.clock import boottime
from ..protocol.actions import Prepare, Transition
from ..protocol.engine import Engine
from ..protocol.events import Event, Prepared
from ..protocol.interface import CarpInterface
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant, State
from ..protocol.vhost import Stage, VirtualHost
from .chronicle import logger
from .state_commit import Commit

_PREEMPTION_PATIENCE_NS = 60 * NANOSECONDS_PER_SECOND
"""For the commit of a host that would take over from one who serves: that one may go on meanwhile."""


@dataclass(slots=True)
class _Stage:
    """A pre-master stage: how long it may wait for states, whether it has, and the event that ends it, once its hook has."""

    action: Prepare
    until: Instant
    committed: bool = False
    prepared: Prepared | None = None


class Stages:
    """The stages of this host.

    Args:
        handle: takes events for the engine; never called from within `prepare` or `transition`.
        begin: runs something until it ends or the daemon does.
        lack: told why a commit was not made; does what follows for a host that is no MASTER.
        seen: returns whether conntrackd answers, and the process that did last, None if none ever did.
    """

    def __init__(
        self,
        engine: Engine,
        handle: Callable[[Event], None],
        begin: Callable[[Coroutine[None, None, None]], asyncio.Task[None]],
        lack: Callable[[str], None],
        seen: Callable[[], tuple[bool, int | None]],
    ) -> None:
        self._engine = engine
        self._handle = handle
        self._begin = begin
        self._lack = lack
        self._seen = seen
        self._stages: dict[tuple[str, int], _Stage] = {}
        self._committing: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self.commit = Commit()

    @property
    def are_committing(self) -> bool:
        """Whether states are being written for some of them."""
        return self._committing is not None

    def describe(self) -> dict[str, Any] | None:
        """Return what came of the last commit for the status, None before the first."""
        return self.commit.describe()

    def begin(self, sync: Sync, action: Prepare) -> None:
        """Let a stage wait for the states."""
        # A new MASTER is one already, and addresses of which half are here are no use.
        patience_ns = sync.timeout_ns if self.is_master(sync) else _PREEMPTION_PATIENCE_NS
        self._stages[action.interface, action.vhid] = _Stage(action, Instant(boottime() + patience_ns))
        if self._committing is None:
            self._committing = self._begin(self._commit_for_all(sync))

    def forget(self, action: Prepare) -> None:
        """What an earlier stage of a virtual host waited for counts no more."""
        self._stages.pop((action.interface, action.vhid), None)

    def prepared(self, event: Prepared) -> None:
        """The hook of a stage is over; the stage is when its states are here, too."""
        stage = self._stages.get((event.interface, event.vhid))
        if stage is None or stage.action.serial != event.serial or stage.committed:
            self._handle(event)
        else:
            stage.prepared = event

    def became_master(self, sync: Sync, action: Transition) -> None:
        """Let its stage wait no longer than others do, or see to what came since it was over."""
        if self._committing is not None:
            self._hurry(sync)
        elif (action.interface, action.vhid) in self._stages and self._is_prepared(action):
            # It preempts some time after its stage, and the old MASTER has served until now.
            self.commit.reopen()
            self.follow_up(sync)

    def follow_up(self, sync: Sync) -> None:
        """Complete a takeover anew: addresses have just gone live."""
        if self._following is not None:
            self._following.cancel()
        self._following = self._begin(self.commit.follow_up(sync))

    def abandon(self) -> None:
        """Complete no takeover: this host serves no more."""
        if self._following is not None:
            self._following.cancel()
        self.commit.abandon()

    def take_over(self, sync: Sync) -> bool:
        """Tell whether a virtual host is about to serve."""
        return self._committing is not None or any(vhost.stage is not Stage.NONE for vhost in self._covered(sync))

    def is_master(self, sync: Sync) -> bool:
        """Tell whether a virtual host whose connections are carried is MASTER."""
        return any(vhost.state is State.MASTER for vhost in self._covered(sync))

    def interfaces(self, sync: Sync) -> list[CarpInterface]:
        """Return the carp interfaces whose connections are carried."""
        return [one for one in self._engine.interfaces if sync.covers(one.name, one.parameters.groups)]

    async def _commit_for_all(self, sync: Sync) -> None:
        """Write the peer's states into the kernel for every stage that begins until that is done."""
        try:
            while waiting := [stage for stage in self._stages.values() if not stage.committed]:
                until = min(stage.until for stage in waiting)
                answers, pid = self._seen()
                try:
                    problem = await self.commit.run(sync, until, is_broken=not answers, pid=pid)
                except Exception as error:
                    logger.exception("state sync: a commit was not made")
                    problem = f"cannot be asked: {error!r}"
                if problem:
                    self._lack(problem)
                for stage in waiting:
                    stage.committed = True
                    if stage.prepared is not None:
                        self._handle(stage.prepared)
        finally:
            self._committing = None
        if self.is_master(sync):
            self.follow_up(sync)

    def _hurry(self, sync: Sync) -> None:
        """Let stages that began while another host served wait as others do, now that this one is to."""
        if not self.is_master(sync):
            return
        latest = Instant(boottime() + sync.timeout_ns)
        for stage in self._stages.values():
            stage.until = min(stage.until, latest)
        self.commit.hurry(latest)

    def _is_prepared(self, action: Transition) -> bool:
        interface = self._engine.interface(action.interface)
        vhosts = () if interface is None else interface.vhosts
        return any(vhost.vhid == action.vhid and vhost.stage is Stage.DONE for vhost in vhosts)

    def _covered(self, sync: Sync) -> Iterator[VirtualHost]:
        for interface in self.interfaces(sync):
            yield from interface.vhosts
