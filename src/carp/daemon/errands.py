"""What the attendant does for the carp interfaces: checks that demote, and hooks on changes of state."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..attendant.orders import Check, Checked, CheckKind, Forget, Hook, HookEnded, HookKind, Message, Watch
from ..config.hooks import NO_HOOKS, Hooks
from ..config.load import Configuration
from ..config.track import Track
from ..linux.clock import boottime
from ..protocol.actions import Note, Notice, Prepare, Transition
from ..protocol.demotion import EVERY_INTERFACE, Demotion
from ..protocol.engine import Engine
from ..protocol.events import DemotionEnded, DemotionStarted, Event, Prepared
from ..protocol.health import OWNER
from ..protocol.parameters import InterfaceParameters
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant, State
from .attendance import Attendance
from .chronicle import address_text, logger

TRACK_OWNER = "track"
START_FACT = "start"
_BOOT_CHECK = "(start of this host)"
"""No track can be called that."""
_SYSTEMD = Path("/run/systemd/system")
_ANSWER_SLACK_S = 1.0
_LAST_HOOKS_S = 5.0
_HOOK_OF = {State.MASTER: HookKind.MASTER, State.BACKUP: HookKind.BACKUP, State.INIT: HookKind.INIT}


@dataclass(slots=True)
class _Queue:
    """The hooks of one virtual host: the newest change, and what is still to be answered."""

    serial: int = 0
    context: dict[str, Any] = field(default_factory=dict)
    waits_for_addresses: bool = False
    stage: Prepare | None = None
    """The pre-master stage that the engine waits for; its serial begins anew with an interface that is made anew."""
    asked: deque[Prepare] = field(default_factory=deque)
    """The stages that the attendant has still to answer, which it does in order."""
    reasserting: bool = False
    """Whether a hook of the newest change is still to end; one that is overtaken is not reported."""
    outstanding: set[HookKind] = field(default_factory=set)
    """The hooks of the newest change that have not ended."""


class Errands:
    """Orders hooks and checks, and hands what comes of them to the engine.

    Args:
        handle: takes events for the engine; never called from within a call of `transition`, `notice` or `prepare`.
        call_later: as asyncio's.
    """

    def __init__(
        self,
        engine: Engine,
        handle: Callable[[Event], None],
        call_later: Callable[..., object],
        make_attendance: Callable[..., Attendance] = Attendance,
    ) -> None:
        self._engine = engine
        self._handle = handle
        self._call_later = call_later
        self._make_attendance = make_attendance
        self._attendance: Attendance | None = None
        self._hooks: Mapping[str, Hooks] = {}
        self._tracks: dict[str, Track] = {}
        self._failing: dict[str, str] = {}
        """The checks that do not hold, with the detail of each."""
        self._awaits_boot = False
        self._queues: dict[str, _Queue] = {}
        self._told = asyncio.Event()
        """Something was heard of hooks."""

    def begin(self, configuration: Configuration) -> None:
        """Hold this host back until its start is over, if that is wanted; before anything else is configured."""
        if configuration.start_demote:
            now = boottime()
            until = Instant(now + configuration.start_demote_time_ns)
            groups = frozenset({EVERY_INTERFACE})
            # Without systemd nobody tells, and the time decides.
            self._awaits_boot = _SYSTEMD.is_dir()
            self._handle(
                DemotionStarted(
                    Demotion(START_FACT, configuration.start_demote, groups, OWNER, now, until, "until this host has started")
                )
            )

    def expect(self, configuration: Configuration) -> None:
        """Be ready for the changes of state that come of this configuration, those of the interfaces that go among them."""
        self._hooks = {**self._hooks, **configuration.hooks}
        runs = any(hooks.programs for hooks in configuration.hooks.values())
        if self._attendance is None and (configuration.tracks or self._awaits_boot or runs):
            self._attendance = self._make_attendance(configuration.script_user, self._received, self._checks, self._lost)
            self._attendance.start()

    def adopt(self, configuration: Configuration) -> None:
        """Check and run from now on what this configuration wants, which was expected."""
        former, self._tracks = self._tracks, {track.check.name: track for track in configuration.tracks}
        self._hooks = configuration.hooks
        for name in former.keys() - self._tracks.keys():
            self._failing.pop(name, None)
            self._handle(DemotionEnded(_fact_of(name)))
        for name in self._failing:
            self._demote(name)
        if self._attendance is None:
            return
        if self._attendance.user != configuration.script_user:
            self._attendance.user = configuration.script_user
            self._lost()
            self._attendance.restart()
            return
        for name in former.keys() - self._tracks.keys():
            self._attendance.send(Forget(name))
        for name, track in self._tracks.items():
            if name not in former or former[name].check != track.check:
                self._attendance.send(Watch(track.check))

    async def stop(self) -> None:
        """End the attendant; the hooks of the last changes have some seconds to end before."""
        if self._attendance is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_HOOKS_S):
                    while any(queue.outstanding for queue in self._queues.values()):
                        self._told.clear()
                        await self._told.wait()
            await self._attendance.stop()

    def transition(self, action: Transition, parameters: InterfaceParameters | None) -> None:
        """A virtual host changed its state."""
        if parameters is None:
            return
        # Also where nothing runs yet: a reload may bring hooks.
        name = _queue_of(parameters, action.vhid)
        queue = self._queues.setdefault(name, _Queue())
        queue.serial += 1
        queue.reasserting = False
        queue.outstanding.clear()
        queue.context = {
            "interface": action.interface,
            "vhid": action.vhid,
            "old_state": action.old.value,
            "state": action.new.value,
            "reason": action.reason.value + (f": {action.detail}" if action.detail else ""),
            "peer": address_text(action.source) if action.source else "",
            "addresses": [str(address) for address in parameters.addresses],
            "carpdev": parameters.carpdev,
        }
        # Whoever is called at MASTER finds the addresses set; where several virtual hosts have them they were set before.
        queue.waits_for_addresses = action.new is State.MASTER and not parameters.is_balanced
        if not queue.waits_for_addresses:
            self._run_hooks_of_state(name, action.new)

    def addresses_live(self, name: str) -> None:
        """The addresses of a carp interface were taken."""
        queue = self._queues.get(name)
        if queue is not None and queue.waits_for_addresses:
            queue.waits_for_addresses = False
            self._run_hooks_of_state(name, State.MASTER)

    def notice(self, action: Notice) -> None:
        """Something was noticed; one kind of it has a hook."""
        interface = self._engine.interface(action.interface)
        if action.note is not Note.REASSERTED or interface is None or action.vhid is None:
            return
        name = _queue_of(interface.parameters, action.vhid)
        queue = self._queues.setdefault(name, _Queue())
        if not queue.reasserting:
            told = {**queue.context, "old_state": State.MASTER.value, "state": State.MASTER.value, "peer": ""}
            queue.reasserting = self._order(name, HookKind.REASSERTED, {**told, "reason": action.note.value})

    def prepare(self, action: Prepare) -> None:
        """Run the pre-master stage; it is answered in time, whatever becomes of it."""
        interface = self._engine.interface(action.interface)
        name = action.interface if interface is None else _queue_of(interface.parameters, action.vhid)
        queue = self._queues.setdefault(name, _Queue())
        queue.stage = action
        hooks = self._hooks.get(action.interface, NO_HOOKS)
        wait_s = 0.0
        if interface is not None:
            vhost = next(one for one in interface.vhosts if one.vhid == action.vhid)
            preempts = vhost.state is State.BACKUP
            master = vhost.known_master(boottime()) if preempts else None
            context = {
                "interface": action.interface,
                "vhid": vhost.vhid,
                "old_state": State.BACKUP.value,
                "state": State.MASTER.value,
                "reason": "before replacing the master" if preempts or vhost.reason is None else vhost.reason.value,
                "peer": "" if master is None else address_text(master.source),
                "addresses": [str(address) for address in interface.parameters.addresses],
                "carpdev": interface.parameters.carpdev,
            }
            if self._order(name, HookKind.PRE_MASTER, context):
                queue.asked.append(action)
                wait_s = hooks.pre_master_deadline_ns / NANOSECONDS_PER_SECOND + _ANSWER_SLACK_S
        self._call_later(wait_s, self._answer, name, action)

    def describe(self) -> list[dict[str, Any]]:
        """Return each track with whether it holds, for the status."""
        return [
            {
                "name": name,
                "kind": track.check.kind.value,
                "target": track.check.target,
                "holds": name not in self._failing,
                "detail": self._failing.get(name, ""),
                "demote": track.demote,
                "groups": sorted(track.groups),
            }
            for name, track in self._tracks.items()
        ]

    def _run_hooks_of_state(self, name: str, state: State) -> None:
        context = self._queues[name].context
        self._order(name, _HOOK_OF[state], context)
        self._order(name, HookKind.CHANGE, context)

    def _order(self, name: str, kind: HookKind, context: Mapping[str, Any]) -> bool:
        """Order a hook; return whether there is one and somebody to run it."""
        hooks = self._hooks.get(context["interface"], NO_HOOKS)
        argv = hooks.programs.get(kind)
        if argv is None or self._attendance is None:
            return False
        before = kind is HookKind.PRE_MASTER
        timeout_ns = hooks.pre_master_deadline_ns if before else hooks.timeout_ns
        told = {"hook": kind.value, **context}
        order = Hook(name, self._queues[name].serial, kind, argv, timeout_ns, answer=before, context=told)
        if self._attendance.send(order):
            self._queues[name].outstanding.add(kind)
            return True
        logger.error("%s: the hook %s was not run: the attendant does not listen", name, kind.value)
        return False

    def _received(self, message: Message) -> None:
        match message:
            case Checked():
                self._checked(message)
            case HookEnded():
                self._hook_ended(message)

    def _checked(self, checked: Checked) -> None:
        if checked.name == _BOOT_CHECK:
            if checked.holds:
                self._awaits_boot = False
                self._handle(DemotionEnded(START_FACT))
            return
        if checked.name not in self._tracks:
            return
        if checked.holds:
            if self._failing.pop(checked.name, None) is not None:
                logger.info("track %s holds again", checked.name)
            self._handle(DemotionEnded(_fact_of(checked.name)))
        else:
            if checked.name not in self._failing:
                logger.warning("track %s fails: %s", checked.name, checked.detail)
            self._failing[checked.name] = checked.detail
            self._demote(checked.name)

    def _demote(self, name: str) -> None:
        track, detail = self._tracks[name], self._failing[name]
        former = self._engine.host.demotions.find(_fact_of(name))
        since = boottime() if former is None else former.since
        wanted = Demotion(_fact_of(name), track.demote, track.groups, TRACK_OWNER, since, None, detail)
        if wanted != former:
            self._handle(DemotionStarted(wanted))

    def _hook_ended(self, ended: HookEnded) -> None:
        if ended.problem and ended.problem != "overtaken":
            logger.warning("%s: the hook %s failed: %s", ended.queue, ended.kind.value, ended.problem)
        queue = self._queues.get(ended.queue)
        if queue is None:
            return
        if ended.serial == queue.serial:
            queue.outstanding.discard(ended.kind)
            self._told.set()
            if ended.kind is HookKind.REASSERTED:
                queue.reasserting = False
        if ended.kind is HookKind.PRE_MASTER and queue.asked:
            self._answer(ended.queue, queue.asked.popleft())

    def _answer(self, name: str, stage: Prepare) -> None:
        """Let the engine go on, once."""
        queue = self._queues[name]
        if queue.stage is stage:
            queue.stage = None  # whoever else answers comes too late
            self._handle(Prepared(stage.interface, stage.vhid, stage.serial))

    def _lost(self) -> None:
        """Nothing that was asked will be answered; what the checks said last is kept."""
        self._told.set()
        for name, queue in self._queues.items():
            queue.reasserting = False
            queue.asked.clear()
            queue.outstanding.clear()
            if queue.stage is not None:
                self._call_later(0, self._answer, name, queue.stage)

    def _checks(self) -> Iterable[Message]:
        if self._awaits_boot:
            yield Watch(Check(_BOOT_CHECK, CheckKind.BOOT, ""))
        for track in self._tracks.values():
            yield Watch(track.check)


def _queue_of(parameters: InterfaceParameters, vhid: int) -> str:
    """Return whose hooks run one after the other: a virtual host's."""
    return f"{parameters.name} vhid {vhid}" if parameters.is_balanced else parameters.name


def _fact_of(track: str) -> str:
    return f"track {track}"
