"""Changes while carpd runs: each one makes a new document, which is checked whole and applied as a difference.

Changes come one after another, whoever asks for them; what is refused leaves everything as it was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..config import edit, write
from ..config.change import Change
from ..config.difference import differences, order_warnings
from ..config.errors import ConfigError, KeyPath, key_text, shown
from ..config.globals import BY_KEY
from ..config.load import DEFAULT_PATH, Configuration, Source, load_document
from ..protocol.dialect import AUTO
from ..protocol.events import Forced
from ..protocol.health import OWNER
from ..protocol.values import State
from .chronicle import logger
from .demoting import CARP_GROUP, Demoting
from .event_stream import Publish
from .fitness import Stock, host_problems, host_warnings
from .refusals import ChangeRefusedError
from .runtime import Runtime

Document = dict[str, Any]
Result = TypeVar("Result")

_DSCP_SHIFT = 2
_STATES = {"init": State.INIT, "backup": State.BACKUP, "master": State.MASTER}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change changed, and what whoever asked for it should know; sentences both."""

    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Administration:
    """Makes the changes.

    Args:
        load: reads again what carpd was started from; runs in a thread, raises ConfigError.
        link_group: that of this daemon's links.
        publish: is told of each change.
    """

    def __init__(self, runtime: Runtime, load: Callable[[], Configuration], link_group: int, publish: Publish) -> None:
        self._runtime = runtime
        self._load = load
        self._link_group = link_group
        self._publish = publish
        self.demoting = Demoting(runtime.engine, runtime.handle, lambda: self.running.document)
        self._lock = asyncio.Lock()
        self._closed = False

    @property
    def running(self) -> Configuration:
        """What runs."""
        configuration = self._runtime.configuration
        return configuration if configuration is not None else load_document({}, _SOURCE)

    def close(self) -> None:
        """Change nothing any more: carpd stops."""
        self._closed = True

    async def change(self, change: Change) -> Outcome:
        """Carry out what one line of the BSD words asks for. Raises ChangeRefusedError."""
        return await self._serialised(lambda: self._change(change))

    async def set_global(self, values: Mapping[str, object]) -> tuple[Document, Document, Outcome]:
        """Set values of net.inet.carp.* by their keys, None for the default; `demotion` is added to, as on FreeBSD.

        Returns what these keys were and are. Raises ChangeRefusedError.
        """
        return await self._serialised(lambda: self._set_global(values))

    async def demote(self, group: str, amount: int) -> int:
        """Demote a group by hand, by less if `amount` is negative; return what it is demoted by. Raises ChangeRefusedError."""

        async def work() -> int:
            return self.demoting.adjust_group(group, amount)

        return await self._serialised(work)

    async def reload(self) -> Outcome:
        """Read again what carpd was started from, and change what differs; the log tells. Raises ChangeRefusedError."""
        try:
            outcome = await self._serialised(lambda: self._read_and(self._apply))
        except ChangeRefusedError as refused:
            for problem in (*refused.problems, "the configuration was not changed"):
                logger.error("%s", problem)
            raise
        logger.info("configuration reloaded%s", "" if outcome.changes else ": nothing changed")
        return outcome

    async def difference(self) -> Outcome:
        """Tell what a reload would change. Raises ChangeRefusedError, as it would."""
        return await self._read_and(self._compare)

    async def save(self, path: Path | None) -> tuple[Path, list[str]]:
        """Write the running configuration, to the file that it came from if `path` is None.

        Returns the path and, in sentences, what a file cannot hold. Raises ChangeRefusedError.
        """
        target = (path or self.running.path or DEFAULT_PATH).absolute()
        return target, await self._serialised(lambda: self._save(target))

    def global_values(self) -> Document:
        """Return what `carp sysctl` shows, by key."""
        running, host = self.running, self.running.host
        values = {
            "allow": host.allow,
            "preempt": host.preempt,
            "log": running.log,
            "arpbalance": host.arpbalance,
            "suppress-preempt": sum(fact.owner == OWNER for fact in self._runtime.engine.host.demotions),
            "demotion": self.demoting.count(CARP_GROUP),
            "dscp": AUTO.tos >> _DSCP_SHIFT if host.dscp is None else host.dscp,
            "ifdown-demotion-factor": host.ifdown_demotion,
            "senderr-demotion-factor": host.senderr_demotion,
        }
        return {key: values[key] for key in BY_KEY}

    async def _serialised(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do it when nothing else is being done, and to its end even if nobody waits for it any more."""

        async def alone() -> Result:
            async with self._lock:
                if self._closed:
                    raise ChangeRefusedError(["carpd stops: it changes nothing any more"])
                return await work()

        return await asyncio.shield(asyncio.create_task(alone()))

    async def _change(self, change: Change) -> Outcome:
        name, state = change.interface, change.state
        document = await self._edited(lambda document, host: edit.apply(document, change, host))
        if state is not None and not _has_vhid(document.get(name, {})):
            raise ChangeRefusedError([f"{name}: state {state}: {name} has no vhid yet, and only a virtual host has a state"])
        outcome = await self._apply(await self._checked(document))
        return outcome if state is None else Outcome(outcome.changes, outcome.warnings + self._force(name, _STATES[state]))

    async def _set_global(self, values: Mapping[str, object]) -> tuple[Document, Document, Outcome]:
        for key in values:
            if key not in BY_KEY:
                raise ChangeRefusedError([f"{key}: unknown key; allowed: {', '.join(BY_KEY)}"])
            if BY_KEY[key].read_only:
                raise ChangeRefusedError([f"{key}: it can be read only"])
        amount = values.get("demotion", 0)
        if not isinstance(amount, int) or isinstance(amount, bool):
            raise ChangeRefusedError([f"demotion: {shown(amount)} is not allowed: an integer, which is added"])
        self.demoting.check_all(amount)
        old = self.global_values()
        settings = {key: value for key, value in values.items() if BY_KEY[key].is_setting}
        outcome = Outcome()
        if settings:
            outcome = await self._apply(await self._checked(edit.set_global(self.running.document, settings)))
        if amount:
            self.demoting.adjust_all(amount)
        new = self.global_values()
        return {key: old[key] for key in values}, {key: new[key] for key in values}, outcome

    async def _save(self, target: Path) -> list[str]:
        document, left_out = write.complete(self.running.document)

        def job() -> None:
            text = write.to_toml(document, with_keys=True)
            # What carpd could not read again must not take the place of a good file.
            load_document(document, Source(_place, Path("/")))
            if target == DEFAULT_PATH:
                target.parent.mkdir(mode=0o755, exist_ok=True)
            write.save(target, text)

        try:
            await asyncio.to_thread(job)
        except ConfigError as error:
            raise ChangeRefusedError([*map(str, error.problems), *left_out]) from None
        except OSError as error:
            raise ChangeRefusedError([f"{target}: cannot be written: {error.strerror or error}"]) from None
        return left_out

    async def _edited(self, make: Callable[[Document, edit.HostView], Document]) -> Document:
        view = self._stock().view()
        try:
            return await asyncio.to_thread(make, self.running.document, view)
        except edit.EditError as error:
            raise ChangeRefusedError([str(error)]) from None

    async def _checked(self, document: Document) -> Configuration:
        source = Source(_place, _SOURCE.folder, self.running.path, incomplete_ok=True)
        try:
            return await asyncio.to_thread(load_document, document, source)
        except ConfigError as error:
            raise ChangeRefusedError([str(problem) for problem in error.problems]) from None

    async def _read_and(self, use: Callable[[Configuration], Awaitable[Outcome]]) -> Outcome:
        try:
            configuration = await asyncio.to_thread(self._load)
        except ConfigError as error:
            raise ChangeRefusedError([str(problem) for problem in error.problems]) from None
        return await use(configuration)

    async def _compare(self, new: Configuration) -> Outcome:
        """Compare what runs with what is to run. Raises ChangeRefusedError if this host cannot carry it."""
        old, stock = self.running, self._stock()
        interfaces = self._runtime.engine.interfaces
        masters = {one.name for one in interfaces if any(vhost.state is State.MASTER for vhost in one.vhosts)}

        def job() -> tuple[list[str], Outcome]:
            known = set(old.warnings)
            known.update(host_warnings(old, stock))
            warnings = [one for one in (*new.warnings, *host_warnings(new, stock)) if one not in known]
            outcome = Outcome(differences(old, new), warnings + order_warnings(old, new, masters))
            return host_problems(new, stock, old) + self._runtime.hardware.balancers.problems(new.host), outcome

        problems, outcome = await asyncio.to_thread(job)
        if problems:
            raise ChangeRefusedError(problems)
        return outcome

    async def _apply(self, new: Configuration) -> Outcome:
        outcome = await self._compare(new)
        try:
            failures = await self._runtime.reconfigure(new)
        except OSError as error:
            failures = [f"the kernel refused a part of the change: {error.strerror or error}"]
        for change in outcome.changes:
            logger.info("changed: %s", change)
        for failure in failures:
            logger.error("%s", failure)
        if outcome.changes:
            self._publish("changed", {"changes": outcome.changes})
        return Outcome(outcome.changes, outcome.warnings + failures)

    def _force(self, name: str, state: State) -> list[str]:
        """Force the state once; say where it did not come about."""
        self._runtime.handle(Forced(name, state))
        interface = self._runtime.engine.interface(name)
        if interface is None or interface.leader.state is state:
            return []
        why = interface.not_ready()
        return [f"{name}: it stays {interface.leader.state.value}" + (f": {why}" if why else "")]

    def _stock(self) -> Stock:
        return Stock.take(self._runtime.hardware.table, self._link_group)


def _has_vhid(table: Mapping[str, object]) -> bool:
    return "vhid" in table or "carpnodes" in table


def _place(path: KeyPath) -> str:
    return key_text(path) or "the configuration"


_SOURCE = Source(_place, Path("/"), incomplete_ok=True)
