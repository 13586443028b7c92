"""What the kernel knows about processes: who is whose child, CPU time, memory."""

import contextlib
import os
import re
import signal
from collections.abc import Iterable
from pathlib import Path

_gone = (FileNotFoundError, ProcessLookupError)
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PPID, _CUTIME, _CSTIME = 1, 13, 14


def family(pid: int) -> list[int]:
    """Return a process and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[_PPID]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, of which some may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def cpu_ns(pids: Iterable[int]) -> int:
    """Return the CPU time of processes and of their children that have ended, in ns.

    That of the living is exact (schedstat of every thread), that of ended children is in ticks of the kernel.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(*_gone):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(*_gone):
                    total += int((thread / "schedstat").read_text().split()[0])
        if fields := _stat(pid):
            total += (int(fields[_CUTIME]) + int(fields[_CSTIME])) * _TICK_NS
    return total


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes, in bytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(*_gone):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, from the state on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except _gone:
        return []
