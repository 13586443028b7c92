"""A process that makes traffic and records it, seen from a test: started, watched, stopped for its record or thrown away.

It reads an order, a line of JSON, and answers with lines of progress and, after the end of its input, with its record.
"""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar

from .wait import now_ns, until

_REMEMBERED = 2000


class Timed(TypedDict):
    """What all lines of progress have: their instant."""

    at: int


P = TypeVar("P", bound=Timed)


class Recorder(Generic[P]):
    """The running process; a context manager. Leaving the block without having taken the record throws it away.

    Args:
        module: what is run.
        order: what it is to do.
        what: what it makes, for messages.
        start_timeout_s: how long the first line of progress is waited for.
        stop_timeout_s: how long its end is.
        watch: called for each line of progress, in a thread of its own.
    """

    def __init__(
        self,
        module: str,
        order: Mapping[str, Any],
        what: str,
        start_timeout_s: float,
        stop_timeout_s: float,
        watch: Callable[[P], None] | None = None,
    ) -> None:
        """Start it; return when there is progress."""
        self.progress: deque[P] = deque(maxlen=_REMEMBERED)
        self._what, self._start_timeout_s, self._stop_timeout_s = what, start_timeout_s, stop_timeout_s
        self._watch = watch
        self._record: Any = None
        self._refused = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self._reader = threading.Thread(target=self._read, name=what, daemon=True)
        self._reader.start()
        try:
            assert self._process.stdin
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            until(lambda: self.progress or self._process.poll() is not None, start_timeout_s, f"the first {what}")
        except BaseException:
            self.abandon()
            raise
        if not self.progress:
            self.abandon()
            raise RuntimeError(f"no {what}: {self._refused or 'the process ended'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abandon()

    def wait_for_time(self, duration_s: float) -> None:
        """Let it go on for a while, so that what follows an event is on record too."""
        end = now_ns() + int(duration_s * 1e9)
        until(lambda: self.progress[-1]["at"] >= end, duration_s + self._start_timeout_s, f"{self._what} to go on")

    def take_record(self) -> Any:
        """Stop it, let what is on its way arrive, and return the record."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(self._stop_timeout_s)
        self._reader.join(self._stop_timeout_s)
        if self._record is None:
            raise RuntimeError(f"the process that makes {self._what} left no record (exit status {self._process.returncode})")
        return self._record

    def abandon(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(self._stop_timeout_s)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe and not pipe.closed:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if "record" in message:
                self._record = message["record"]
            elif "refused" in message:
                self._refused = message["refused"]
            else:
                self.progress.append(message)
                if self._watch:
                    self._watch(message)
