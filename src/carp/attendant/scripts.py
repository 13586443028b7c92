"""Checks that run a program: SCRIPT, and BOOT, which asks systemd."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..protocol.values import NANOSECONDS_PER_SECOND
from .judgement import Finding, Tell
from .orders import Check
from .process import Execution, Program, Programs

MOST_AT_ONCE = 64

_SYSTEMD = Path("/run/systemd/system")
"""Is there exactly where systemd is the init of this host (sd_booted(3))."""

_ASK_SYSTEMD = ("systemctl", "is-system-running")
_NOT_YET = frozenset({"initializing", "starting"})
_NO_ANSWER = frozenset({"", "unknown"})


class ScriptProbe:
    """A check that holds while its program ends with status 0."""

    def __init__(self, check: Check, slots: asyncio.Semaphore, programs: Programs) -> None:
        self.slots = slots
        self._programs = programs
        self._program = Program(check.argv, check.timeout_ns / NANOSECONDS_PER_SECOND)

    async def run(self, tell: Tell) -> None:
        """Run the program; what it left in its group is killed."""
        execution = self._programs.start(self._program)
        await _to_the_end(execution, lambda: tell(self._finding(execution)))

    def _finding(self, execution: Execution) -> Finding:
        result = execution.result.result()
        return Finding(good=not result.problem, detail=result.problem)


class BootProbe:
    """A check that holds once this host has started, as far as systemd knows."""

    def __init__(self, check: Check, slots: asyncio.Semaphore, programs: Programs) -> None:
        self.slots = slots
        self._programs = programs
        self._program = Program(_ASK_SYSTEMD, check.timeout_ns / NANOSECONDS_PER_SECOND, reads_stdout=True)

    async def run(self, tell: Tell) -> None:
        """Ask once."""
        if not _SYSTEMD.exists():
            tell(Finding(good=True, detail="there is no systemd"))
            return
        execution = self._programs.start(self._program)
        await _to_the_end(execution, lambda: tell(self._finding(execution)))

    def _finding(self, execution: Execution) -> Finding:
        # The exit status is not 0 in most states, good ones among them.
        problem, output = execution.result.result()
        state = output.decode(errors="replace").strip()
        if state in _NO_ANSWER:
            return Finding(good=False, detail=f"systemctl: {problem or 'no answer'}")
        return Finding(good=state not in _NOT_YET, detail=state)


async def _to_the_end(execution: Execution, on_result: Callable[[], None]) -> None:
    """Wait for the result, then until the program is gone; it is killed if nobody waits any more."""
    try:
        await asyncio.shield(execution.result)
        on_result()
        await execution.gone.wait()
    finally:
        execution.kill()
