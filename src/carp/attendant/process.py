"""Runs programs: each in a session of its own, bounded in time and output, and ended with its whole process group."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from . import proc
from .output import Output, last_line

GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""

KILL_PATIENCE_S = 5.0
"""How long to wait after SIGKILL; a process that waits for a dead disk does not even end then."""

_MOST_OUTPUTS_LEFT = 64
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Program:
    """What is run: `argv` in / with `stdin` on standard input and nothing but PATH, LANG and `variables` in its environment.

    `overdue` is the problem that it has at its timeout, if "took over `timeout_s` s" is not the right one. Standard error is
    read, or standard output if `reads_stdout`; the other one is thrown away. `may_leave` lets a child live that has made a
    session of its own, and still reads what that writes.
    """

    argv: tuple[str, ...]
    timeout_s: float
    stdin: bytes = b""
    variables: Mapping[str, str] = field(default_factory=dict)
    overdue: str = ""
    reads_stdout: bool = False
    may_leave: bool = False


class Result(NamedTuple):
    """How a program ended: `problem` is "" after status 0, else a few words; `output` is the beginning of what was read."""

    problem: str
    output: bytes = b""


class Leftovers:
    """The outputs that children of ended programs may still write to; of too many the oldest is closed."""

    def __init__(self) -> None:
        self._outputs: deque[Output] = deque()

    def add(self, output: Output) -> None:
        """Keep one that has not ended."""
        self._outputs = deque(one for one in self._outputs if not one.ended)
        self._outputs.append(output)
        if len(self._outputs) > _MOST_OUTPUTS_LEFT:
            self._outputs.popleft().close()

    def close(self) -> None:
        """Close them all."""
        for output in self._outputs:
            output.close()


class Execution:
    """A program that runs. `result` comes as soon as it is known, at the timeout already; `gone` when nothing runs any more."""

    def __init__(self, program: Program, left: Leftovers) -> None:
        self._left = left
        self._loop = asyncio.get_running_loop()
        self._program = program
        self._output = Output()
        self._forced = False
        self._timer: asyncio.TimerHandle | None = None
        self.result: asyncio.Future[Result] = self._loop.create_future()
        self.gone = asyncio.Event()
        try:
            self._process = self._start()
        except (OSError, ValueError) as error:
            self._output.close()
            words = error.strerror if isinstance(error, OSError) else str(error)
            self._finish(Result(f"cannot be run: {words}"))
            return
        self._output.begin()
        self._timer = self._loop.call_later(max(program.timeout_s, 0.0), self._on_timeout)

    def _start(self) -> subprocess.Popen[bytes]:
        program = self._program
        read, thrown_away = self._output.write_end, subprocess.DEVNULL
        with _standard_input(program.stdin) as stdin:
            process = subprocess.Popen(
                program.argv,
                stdin=stdin,
                stdout=read if program.reads_stdout else thrown_away,
                stderr=thrown_away if program.reads_stdout else read,
                cwd="/",
                env={"PATH": _PATH, "LANG": "C.UTF-8", **program.variables},
                start_new_session=True,
            )
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except OSError:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        self._loop.add_reader(self._pidfd, self._on_end)
        return process

    def terminate(self, problem: str) -> None:
        """End it now, with SIGTERM and after GRACE_S with SIGKILL; the result is `problem` unless there was one."""
        if self.gone.is_set() or self._forced:
            return
        self._forced = True
        self._settle(Result(problem))
        self._disarm()
        self._timer = self._loop.call_later(GRACE_S, self.kill)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with SIGKILL."""
        if self.gone.is_set():
            return
        self._forced = True
        self._settle(Result("killed"))
        self._disarm()
        self._signal(signal.SIGKILL)
        self._kill_session()

    def _on_timeout(self) -> None:
        self.terminate(self._program.overdue or took_over(self._program.timeout_s))

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # The leader is not reaped yet, so its number still names this group and session and no other.
        self._signal(signal.SIGKILL)
        if self._forced:
            self._kill_session()
        status = self._process.wait()
        self._output.read_rest()
        output = self._output.kept
        if not self._program.may_leave:
            self._output.close()
        elif not self._output.ended:
            self._left.add(self._output)
        self._finish(Result(_problem(status, output), output))

    def _finish(self, result: Result) -> None:
        self._disarm()
        self._settle(result)
        self.gone.set()

    def _settle(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _signal(self, number: signal.Signals) -> None:
        # A program that has become another user's cannot be ended by this one.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _kill_session(self) -> None:
        """Kill those that have left the group but not the session, as timeout(1) and shells with job control do."""
        for number in proc.of_session(self._process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)


class Programs:
    """All that run."""

    def __init__(self) -> None:
        self._running: set[Execution] = set()
        self._left = Leftovers()

    def start(self, program: Program) -> Execution:
        """Run a program; one that cannot be run has a result at once."""
        self._running = {one for one in self._running if not one.gone.is_set()}
        execution = Execution(program, self._left)
        self._running.add(execution)
        return execution

    async def stop(self) -> None:
        """End all; returns when they are gone, or the kernel does not end them for seconds."""
        running = [one for one in self._running if not one.gone.is_set()]
        for execution in running:
            execution.terminate("the attendant ends")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S + KILL_PATIENCE_S):
                for execution in running:
                    await execution.gone.wait()
        self._left.close()


def took_over(seconds: float) -> str:
    """Say that something was not done in time."""
    return f"took over {seconds:g} s"


@contextlib.contextmanager
def _standard_input(content: bytes) -> Iterator[int]:
    """Lend a descriptor to read the content from: memory, so that nobody has to wait until the program reads it."""
    if not content:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("standard input")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _problem(status: int, output: bytes) -> str:
    if status == 0:
        return ""
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    line = last_line(output)
    return f"exit status {status}" + (f": {line}" if line else "")
