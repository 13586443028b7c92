"""Programs for hooks and checks on disk, what they wrote down, and tables for a host's configuration."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.host import Host, toml
from lab.pairs import QUICK, SLACK_S, settle
from lab.wait import now_ns, until

Tables = Mapping[str, Mapping[str, object]]

_RECORD = """\
at=$(date +%s%N)
printf '%s\\t%s%s\\n' $at "$(tr '\\0\\n' '\\t ' </proc/$$/environ)" "$(cat)" >>{out}/{log}
"""


@dataclass(frozen=True)
class Run:
    """One run of a hook: when it began, all of its environment, and the JSON object on its standard input."""

    at: int
    variables: dict[str, str]
    told: dict[str, Any]

    @property
    def what(self) -> str:
        """Return which hook it was, and the states: "master BACKUP MASTER"."""
        return f"{self.told['hook']} {self.told['old_state']} {self.told['state']}"


class ProgramKit:
    """A directory whose programs carpd accepts, and in it one that anybody may write to; a context manager.

    Below /tmp or a checkout no program would be accepted: others could exchange it.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="carp-lab-", dir="/run"))
        self.directory.chmod(0o755)
        self.out = self.directory / "out"
        self.out.mkdir()
        self.out.chmod(0o777)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self.directory)

    def write(self, name: str, *lines: str) -> str:
        """Write a shell script, in the place of one of that name, and return its path; {out} is where it may write."""
        # Renamed, as one that runs cannot be written to.
        path, fresh = self.directory / name, self.directory / f".{name}"
        fresh.write_text("\n".join(["#!/bin/sh", *lines, ""]).replace("{out}", str(self.out)))
        fresh.chmod(0o755)
        fresh.rename(path)
        return str(path)

    def recorder(self, name: str, *lines: str, log: str = "runs") -> str:
        """Write a hook that writes down what it is told, and goes on with these lines."""
        return self.write(name, _RECORD.replace("{log}", log), *lines)

    def runs(self, log: str = "runs") -> list[Run]:
        """Return the runs of recorders, in order."""
        # The scripts know the wall clock only; both clocks are read together to convert.
        offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - now_ns()
        return [_run(line, offset) for line in self.lines(log)]

    def lines(self, name: str) -> list[str]:
        """Return the whole lines that programs have written to a file of that name."""
        file = self.out / name
        return (
            [line[:-1] for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")] if file.exists() else []
        )

    def text(self, name: str) -> str:
        """Return what programs have written to a file of that name."""
        return "\n".join(self.lines(name))

    def instant(self, name: str) -> int:
        """Return the instant that `date +%s%N` has written to a file of that name."""
        return int(self.lines(name)[0]) - time.clock_gettime_ns(time.CLOCK_REALTIME) + now_ns()

    def wait_for_lines(self, name: str, count: int = 1, timeout_s: float = SLACK_S) -> list[str]:
        """Wait until a file has so many lines, and return them."""
        until(lambda: len(self.lines(name)) >= count, timeout_s, f"{count} lines in {name}: {self.lines(name)}")
        return self.lines(name)

    def wait_for_runs(self, *wanted: str, log: str = "runs") -> list[Run]:
        """Wait until recorders ran as often as this, which has to be what they did; return it."""
        until(lambda: len(self.lines(log)) >= len(wanted), SLACK_S, f"runs {wanted}: {[run.what for run in self.runs(log)]}")
        assert [run.what for run in self.runs(log)] == list(wanted)
        return self.runs(log)


def add_tables(host: Host, tables: Tables, **global_keys: object) -> None:
    """Write the host's carp.toml anew, with these tables such as `track.gw` or `global.hooks` and no others of the kind.

    `global_keys` are written beside the host's own ones, this once.
    """
    own = host.global_keys
    host.configure(host.carps, **{**own, **global_keys})
    host.global_keys = own
    with host.config.open("a") as file:
        file.write("\n" + toml(tables))


def reload(host: Host, tables: Tables, **global_keys: object) -> None:
    """Change the tables of a running host, and wait until it has taken the change."""
    before = host.log_text().count("configuration reloaded")
    add_tables(host, tables, **global_keys)
    host.reload()
    until(lambda: host.log_text().count("configuration reloaded") > before, SLACK_S, f"{host.label} to reload")


def settle_at_once(master: Host, *backups: Host) -> None:
    """Start a quick pair, both at once to save time, and wait until it is settled."""
    for host in (master, *backups):
        host.start(wait=False)
    for host in (master, *backups):
        host.wait_until_up()
    settle(QUICK, master, *backups)


def attendant_of(host: Host) -> int | None:
    """Return the process id of the host's attendant, None while it has none."""
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(host.pid)], capture_output=True, text=True).stdout
    found = [int(line.split()[0]) for line in listed.splitlines() if "carp.attendant" in line]
    return found[0] if found else None


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(pids: list[int]) -> None:
    """End what should have ended already."""
    for pid in pids:
        if alive(pid):
            os.kill(pid, 9)


def _run(line: str, offset: int) -> Run:
    at, *variables, told = line.split("\t")
    return Run(int(at) - offset, dict(one.split("=", 1) for one in variables), json.loads(told))
