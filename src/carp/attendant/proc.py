"""What /proc says of processes."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_ENDED = (b"Z", b"X")
_SHARED_FOR_S = 0.1


@dataclass(frozen=True, slots=True)
class Status:
    """The part of /proc/PID/stat that is of use; `comm` is cut at 15 bytes by the kernel."""

    comm: bytes
    alive: bool
    session: int


def numbers() -> Iterator[int]:
    """Walk the numbers of all processes that this user may see; more may come and go meanwhile."""
    with os.scandir(_PROC) as entries:
        for entry in entries:
            if entry.name.isdigit():
                yield int(entry.name)


def status(number: int) -> Status | None:
    """Describe a process, None if there is none or it is hidden; a zombie is there but not alive."""
    try:
        raw = (_PROC / str(number) / "stat").read_bytes()
        # A comm may hold spaces and parentheses itself.
        begin, end = raw.index(b"("), raw.rindex(b")")
        fields = raw[end + 1 :].split()
        return Status(raw[begin + 1 : end], fields[0] not in _ENDED, int(fields[3]))
    except (OSError, ValueError, IndexError):
        return None


def has_name(number: int, name: str) -> bool:
    """Tell whether a process is alive and has this comm, or this last part of its argv[0]."""
    found = status(number)
    if found is None or not found.alive:
        return False
    wanted = os.fsencode(name)
    return found.comm == wanted or _program(number) == wanted


class Names:
    """Finds processes by name, from any thread. Reading all of /proc takes milliseconds, so all who ask at once share that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = -_SHARED_FOR_S
        self._numbers: dict[bytes, int] = {}

    def find(self, name: str) -> int | None:
        """Return the number of a process of this name; one that began less than 0.1 s ago may be missed."""
        with self._lock:
            fresh = time.monotonic() - self._read_at >= _SHARED_FOR_S
            if fresh:
                self._read()
            number = self._numbers.get(os.fsencode(name))
            if number is not None and not fresh and not has_name(number, name):
                # There may be another one.
                self._read()
                number = self._numbers.get(os.fsencode(name))
            return number

    def _read(self) -> None:
        self._numbers = {}
        for number in numbers():
            found = status(number)
            if found is not None and found.alive:
                self._numbers.setdefault(found.comm, number)
                self._numbers.setdefault(_program(number), number)
        self._read_at = time.monotonic()


def is_alive(number: int) -> bool:
    """Tell whether a process is there and no zombie; another user's that is hidden counts as alive."""
    if number <= 0:
        return False
    found = status(number)
    if found is not None:
        return found.alive
    try:
        os.kill(number, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def of_session(session: int) -> list[int]:
    """List the living processes of a session."""
    found = ((number, status(number)) for number in numbers())
    return [number for number, its in found if its is not None and its.alive and its.session == session]


def _program(number: int) -> bytes:
    try:
        first = (_PROC / str(number) / "cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return b""
    return first.rpartition(b"/")[2]
