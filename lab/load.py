"""A host with no time to spare: one process on each core that does nothing but count."""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self


class Load:
    """Keeps every core busy while its block lasts; a context manager."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for core in sorted(os.sched_getaffinity(0)):
            work = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
            # It must not outlive a killed test.
            line = ("setpriv", "--pdeathsig", "KILL", sys.executable, "-S", "-c", work)
            self._processes.append(subprocess.Popen(line, stdin=subprocess.DEVNULL))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
