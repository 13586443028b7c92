"""Checks that read from this host's file systems: PROCESS, PID_FILE, FILE.

A network file system can hold a reader up for ever, so all reading is done in threads, and a check whose reader hangs starts
no other one.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ..protocol.values import NANOSECONDS_PER_SECOND
from . import proc
from .judgement import Finding, Tell, failure
from .orders import Check, CheckKind
from .process import took_over

_MOST_PID_FILE_BYTES = 64

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


class Aside:
    """Calls that may block, one at a time, each in a thread."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._hanging: asyncio.Future[Any] | None = None

    async def call(
        self, function: Callable[_Arguments, _Value], *arguments: _Arguments.args, **more: _Arguments.kwargs
    ) -> _Value:
        """Return what the function returns; the former call, which was cancelled while it hung, has to come back first."""
        if self._hanging is not None:
            await asyncio.wait([self._hanging])
            self._hanging = None
        future: asyncio.Future[_Value] = asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: function(*arguments, **more)
        )
        try:
            return await asyncio.shield(future)
        finally:
            if not future.done():
                self._hanging = future
                future.add_done_callback(_forget_error)


class LocalProbe:
    """A check of one of the three kinds."""

    def __init__(self, check: Check, slots: asyncio.Semaphore, executor: Executor, names: proc.Names) -> None:
        self.slots = slots
        self._target = check.target
        self._timeout_s = check.timeout_ns / NANOSECONDS_PER_SECOND
        self._aside = Aside(executor)
        self._read = {CheckKind.PROCESS: self._process, CheckKind.PID_FILE: self._pid_file, CheckKind.FILE: self._file}[
            check.kind
        ]
        self._names = names
        self._known: int | None = None

    async def run(self, tell: Tell) -> None:
        """Look once."""
        try:
            async with asyncio.timeout(self._timeout_s):
                finding = await self._aside.call(self._read)
        except TimeoutError:
            finding = Finding(good=False, detail=took_over(self._timeout_s))
        tell(finding)

    def _process(self) -> Finding:
        # The one that was found last is looked at first: that is all there is to do as long as it lives.
        if self._known is None or not proc.has_name(self._known, self._target):
            self._known = self._names.find(self._target)
        if self._known is None:
            return Finding(good=False, detail="no such process")
        return Finding(good=True, detail=f"process {self._known}")

    def _pid_file(self) -> Finding:
        try:
            with Path(self._target).open("rb") as file:
                text = file.read(_MOST_PID_FILE_BYTES)
            number = int(text)
        except OSError as error:
            return Finding(good=False, detail=f"cannot be read: {failure(error)}")
        except ValueError:
            return Finding(good=False, detail="there is no number in the file")
        if not proc.is_alive(number):
            return Finding(good=False, detail=f"no process {number}")
        return Finding(good=True, detail=f"process {number}")

    def _file(self) -> Finding:
        try:
            Path(self._target).stat()
        except OSError as error:
            return Finding(good=False, detail=failure(error))
        return Finding(good=True)


def _forget_error(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
