"""Network namespaces: made under names nobody else uses, entered from one process, removed with all they hold.

A namespace is named `carp-<pid>-<n>-<label>` after the process that made it, so that parallel runs never collide and `sweep`
can tell what a killed run left. Programs are started by `ip netns exec`, which also mounts the namespace's own /sys;
`entered` moves only the calling thread: /proc/sys/net and new sockets are then the namespace's, /sys is not.
"""

import ctypes
import itertools
import json
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

RUN_DIRECTORY = Path("/run/netns")
COMMAND_TIMEOUT_S = 30.0

_CLONE_NEWNET = 0x40000000
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_NAME = re.compile(r"carp-(\d+)-\d+-\w+")
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


class CommandError(RuntimeError):
    """A command of the laboratory failed; the message holds what it said."""


def run(*command: str, text: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command to its end and return its output; `text` becomes its standard input."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()} (exit status {done.returncode})")
    return done.stdout


class Namespace:
    """One network namespace. It exists from construction until `delete`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.name = f"carp-{os.getpid()}-{next(_numbers)}-{label}"
        run("ip", "netns", "add", self.name)
        self.ip("link set lo up")

    def __repr__(self) -> str:
        return f"Namespace({self.name})"

    @property
    def path(self) -> Path:
        """The file that setns(2) takes."""
        return RUN_DIRECTORY / self.name

    def delete(self) -> None:
        """Remove the name; the kernel frees the rest when the last process inside has ended."""
        if self.path.exists():
            run("ip", "netns", "del", self.name)

    def wrap(self, *command: str) -> tuple[str, ...]:
        """Return the command line that runs `command` inside, as the process that is started (no child in between)."""
        return ("ip", "netns", "exec", self.name, *command)

    def run(self, *command: str, text: str | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command inside to its end and return its output."""
        return run(*self.wrap(*command), text=text, timeout_s=timeout_s)

    def popen(self, *command: str, stdout: int | IO[Any], stderr: int | IO[Any]) -> subprocess.Popen[bytes]:
        """Start a program inside; its pid is the program's own. It is killed when this process dies, however that happens."""
        line = ("setpriv", "--pdeathsig", "KILL", *self.wrap(*command))
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)

    def ip(self, *lines: str) -> None:
        """Carry out lines, each what follows the word `ip`, in one process."""
        run("ip", "-n", self.name, "-batch", "-", text="\n".join(lines) + "\n")

    def tc(self, line: str) -> str:
        """Carry out a line, what follows the word `tc`, and return the output."""
        return run("tc", "-n", self.name, *line.split())

    def query(self, line: str, program: str = "ip") -> list[dict[str, Any]]:
        """Return what `ip -j`, or `bridge -j`, prints for a line."""
        printed = run(program, "-n", self.name, "-j", *line.split())
        rows: list[dict[str, Any]] = json.loads(printed) if printed.strip() else []
        return [row for row in rows if row]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calling thread live inside; sockets opened meanwhile stay inside for good."""
        with Path("/proc/thread-self/ns/net").open("rb") as home, self.path.open("rb") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket inside."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def sysctl(self, key: str, value: object = None) -> str:
        """Return a setting below net, such as `ipv4/conf/eth0/rp_filter`, after writing `value` to it where one is given."""
        file = Path("/proc/sys/net") / key
        with self.entered():
            if value is not None:
                file.write_text(f"{value}\n")
            return file.read_text().strip()


def bind_freely(one: socket.socket, address: str, port: int) -> None:
    """Bind a socket to an address that need not be this host's now."""
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        one.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    one.bind((address, port))


def enter(path: str) -> None:
    """Move the calling thread into the namespace of a file for good, for processes that live in several."""
    with Path(path).open("rb") as there:
        _setns(there.fileno())


def sweep() -> None:
    """Remove the namespaces of runs whose process is gone."""
    for name in _names():
        match = _NAME.fullmatch(name)
        if match and not Path("/proc", match[1]).exists():
            # Another run may be sweeping the same name.
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)


def left_by(pid: int) -> list[str]:
    """Return the names of the namespaces that a process has made and not yet removed."""
    return [name for name in _names() if name.startswith(f"carp-{pid}-")]


def _names() -> Iterable[str]:
    return [file.name for file in RUN_DIRECTORY.iterdir()] if RUN_DIRECTORY.exists() else []


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")
