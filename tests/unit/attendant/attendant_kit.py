"""An attendant as a process, with the daemon's end of its socket in the test's hands."""

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

from carp.attendant.orders import (
    MAX_MESSAGE_BYTES,
    Check,
    Checked,
    CheckKind,
    Hook,
    HookEnded,
    HookKind,
    Message,
    decode,
    encode,
)
from carp.attendant.proc import is_alive
from lab.wait import until

PATIENCE_S = 15
MILLISECOND_NS = 1_000_000
SECOND_NS = 1000 * MILLISECOND_NS

_Kind = TypeVar("_Kind", Checked, HookEnded)


class Attendant:
    """`python -m carp.attendant`, started as the daemon starts it."""

    def __init__(self, *, program: str = "", prefix: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        what = ("-c", program) if program else ("-m", "carp.attendant")
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *what, "--socket", str(theirs.fileno()), *more],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.socket.settimeout(PATIENCE_S)

    def send(self, message: Message) -> None:
        """Give an order."""
        self.socket.send(encode(message))

    def receive(self) -> Message:
        """Wait for the next message."""
        return decode(self.socket.recv(MAX_MESSAGE_BYTES))

    def next(self, kind: type[_Kind]) -> _Kind:
        """Wait for the next message, which is of this kind."""
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def silent_for(self, seconds: float) -> bool:
        """Tell whether nothing is said for so long."""
        return not select.select([self.socket], [], [], seconds)[0]

    def rss_kib(self) -> int:
        """Return the memory that it uses and has used at most."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    def cpu_s(self) -> float:
        """Return the processor time that it has used itself."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Count its open descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def end(self) -> tuple[int, str]:
        """Close the daemon's end; return the exit status and what was logged."""
        self.socket.close()
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait until it ends."""
        _, log = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, log.decode()

    def destroy(self) -> None:
        """Leave nothing behind, whatever the test did."""
        self.socket.close()
        if self.process.poll() is None:
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


class Scripts:
    """A folder with small shell scripts, and what they write down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, body: str, name: str = "script", first: str = "#!/bin/sh") -> tuple[str, ...]:
        """Write a script, whose $D is the folder; return its argv."""
        file = self.folder / name
        file.write_text(f"{first}\nexport D={self.folder}\n{body}\n")
        file.chmod(0o755)
        return (str(file),)

    def read(self, name: str) -> str:
        """Return what is in a file, "" if it does not exist."""
        file = self.folder / name
        return file.read_text() if file.exists() else ""

    def pid(self, name: str) -> int:
        """Wait until a script has written a number into a file, and return it."""
        until(lambda: self.read(name).endswith("\n"), PATIENCE_S, f"a number in {name}")
        return int(self.read(name))


def check(kind: CheckKind, target: str = "", name: str = "c", **more: Any) -> Check:
    """Describe a check that looks every 50 ms and decides at once."""
    usual: dict[str, Any] = {"interval_ns": 50 * MILLISECOND_NS, "timeout_ns": 5 * SECOND_NS, "rise": 1, "fall": 1}
    return Check(name, kind, target, **{**usual, **more})


def hook(argv: tuple[str, ...], serial: int = 1, kind: HookKind = HookKind.MASTER, **more: Any) -> Hook:
    """Order a hook of carp0 that has 10 s."""
    usual: dict[str, Any] = {"queue": "carp0", "timeout_ns": 10 * SECOND_NS}
    return Hook(serial=serial, kind=kind, argv=argv, **{**usual, **more})


def gone(pid: int) -> None:
    """Wait until a process is no more."""
    until(lambda: not is_alive(pid), PATIENCE_S, f"the end of process {pid}")


def now_s() -> float:
    """Return the time on a clock that only goes forward."""
    return time.monotonic()
