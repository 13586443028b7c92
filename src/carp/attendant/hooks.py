"""The hooks: for each queue one program at a time, in order, and of what waits only the newest change."""

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..protocol.values import NANOSECONDS_PER_SECOND
from .orders import Hook, HookEnded
from .process import GRACE_S, KILL_PATIENCE_S, Program, Programs, took_over

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 64
OVERTAKEN = "overtaken"

Report = Callable[[HookEnded], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """A hook that has not begun. `deadline` is on the loop's clock and kept by `timer`, for one that wants an answer."""

    hook: Hook
    deadline: float | None = None
    timer: asyncio.TimerHandle | None = None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Queue:
    """The hooks of one carp interface; `task` ends when nothing waits any more."""

    def __init__(self, name: str, programs: Programs, slots: asyncio.Semaphore, report: Report) -> None:
        self._name = name
        self._programs = programs
        self._slots = slots
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self.task = self._loop.create_task(self._run())

    def add(self, hook: Hook) -> None:
        """Let a hook wait for its turn, and overtake what is older."""
        if self._waiting and hook.serial < self._waiting[-1].hook.serial:
            self._overtake(_Waiting(hook))
            return
        while self._waiting and self._waiting[0].hook.serial < hook.serial:
            self._overtake(self._waiting.popleft())
        entry = _Waiting(hook)
        if hook.answer:
            seconds = hook.timeout_ns / NANOSECONDS_PER_SECOND
            entry.deadline = self._loop.time() + seconds
            entry.timer = self._loop.call_later(seconds, self._give_up, entry)
        self._waiting.append(entry)

    def cancel(self) -> None:
        """Run nothing more; what runs is ended by Programs.stop."""
        for entry in self._waiting:
            entry.cancel_timer()
        self._waiting.clear()
        self.task.cancel()

    def _overtake(self, entry: _Waiting) -> None:
        entry.cancel_timer()
        if entry.hook.answer:
            self._end(entry.hook, OVERTAKEN)

    def _give_up(self, entry: _Waiting) -> None:
        self._waiting.remove(entry)
        self._end(entry.hook, took_over(entry.hook.timeout_ns / NANOSECONDS_PER_SECOND))

    async def _run(self) -> None:
        while self._waiting:
            async with self._slots:
                # What has waited for the slot may have been overtaken meanwhile.
                if self._waiting:
                    await self._run_one(self._waiting.popleft())

    async def _run_one(self, entry: _Waiting) -> None:
        entry.cancel_timer()
        hook = entry.hook
        whole_s = hook.timeout_ns / NANOSECONDS_PER_SECOND
        left_s = whole_s if entry.deadline is None else entry.deadline - self._loop.time()
        if left_s <= 0:
            self._end(hook, took_over(whole_s))
            return
        try:
            program = Program(
                hook.argv,
                left_s,
                stdin=json.dumps(hook.context).encode() + b"\n",
                overdue=took_over(whole_s),
                variables={**variables(hook.context), "CARP_HOOK": hook.kind.value},
                may_leave=True,
            )
            execution = self._programs.start(program)
            result = await asyncio.shield(execution.result)
        except Exception as error:
            logger.exception("the hook %s of %s failed", hook.kind.value, hook.queue)
            self._end(hook, f"{type(error).__name__}: {error}")
            return
        self._end(hook, result.problem)
        try:
            async with asyncio.timeout(GRACE_S + KILL_PATIENCE_S):
                await execution.gone.wait()
        except TimeoutError:
            logger.warning("the hook %s of %s cannot be ended: %s", hook.kind.value, hook.queue, hook.argv[0])

    def _end(self, hook: Hook, problem: str) -> None:
        self._report(HookEnded(hook.queue, hook.serial, hook.kind, problem))


class Hooks:
    """All queues."""

    def __init__(self, programs: Programs, report: Report) -> None:
        self._programs = programs
        self._report = report
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)
        self._queues: dict[str, _Queue] = {}

    def take(self, hook: Hook) -> None:
        """Run a hook when its turn comes."""
        queue = self._queues.get(hook.queue)
        if queue is None or queue.task.done():
            queue = self._queues[hook.queue] = _Queue(hook.queue, self._programs, self._slots, self._report)
            queue.task.add_done_callback(lambda _: self._drop(queue))
        queue.add(hook)

    async def stop(self) -> None:
        """Run nothing more."""
        queues = list(self._queues.values())
        for queue in queues:
            queue.cancel()
        for queue in queues:
            with contextlib.suppress(asyncio.CancelledError):
                await queue.task

    def _drop(self, queue: _Queue) -> None:
        for name, one in list(self._queues.items()):
            if one is queue:
                del self._queues[name]


def variables(context: Mapping[str, Any]) -> dict[str, str]:
    """Write what a hook is told as environment variables: "vhid" becomes CARP_VHID, "new-state" CARP_NEW_STATE."""
    return {_variable(key): _text(value) for key, value in context.items()}


def _variable(key: str) -> str:
    return "CARP_" + "".join(character if character.isascii() and character.isalnum() else "_" for character in key).upper()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    if isinstance(value, bool | dict):
        return json.dumps(value)
    # What follows a NUL byte would be lost, and the program refused.
    return str(value).replace("\0", "")
