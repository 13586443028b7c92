"""The state directory: its lock, the counter's high-water mark, and what has to be undone on this host.

Whatever carpd is about to change is written down first, so that the next start can undo what a crashed run left. Settings are
undone only on the boot and in the network namespace that they were made in.
"""

import fcntl
import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

_COUNTER_BLOCK = 1 << 48
"""Advertisements reserved with each start: enough for 900 years at 10,000 a second."""


class LockedError(Exception):
    """Another daemon uses this state directory."""


class Journal:
    """The state directory of one daemon, locked while it lives."""

    def __init__(self, directory: Path) -> None:
        """Open and lock the directory, creating it if need be.

        Raises:
            LockedError: another daemon holds the lock.
            OSError: the directory cannot be used.
        """
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip()
            os.close(self._lock)
            raise LockedError(f"{directory} is in use by another carpd" + (f", process {holder}" if holder else "")) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        self.settings: dict[str, str] = {}
        """Sysctl files that were changed, with their original values."""
        self.parents: list[str] = []
        """Parents that may hold addresses and filters of ours."""
        self.qdiscs: list[str] = []
        """Parents whose clsact was made by us."""

    def left_by_a_crash(self) -> "Leftovers | None":
        """Return what a former run on this boot, in this namespace, has not undone."""
        document = _read_json(self._undo_file)
        if not isinstance(document, dict) or document.get("where") != _where():
            return None
        settings, parents, qdiscs = document.get("settings"), document.get("parents"), document.get("qdiscs")
        return Leftovers(
            {str(file): str(value) for file, value in settings.items()} if isinstance(settings, dict) else {},
            [str(name) for name in parents] if isinstance(parents, list) else [],
            [str(name) for name in qdiscs] if isinstance(qdiscs, list) else [],
        )

    def save(self) -> None:
        """Write down what has to be undone; it is on the disk when this returns."""
        document = {"where": _where(), "settings": self.settings, "parents": self.parents, "qdiscs": self.qdiscs}
        _write_atomically(self._undo_file, json.dumps(document, indent=1))

    def forget(self) -> None:
        """Everything is undone."""
        self.settings, self.parents, self.qdiscs = {}, [], []
        self._undo_file.unlink(missing_ok=True)

    @property
    def link_group(self) -> int:
        """The link group (IFLA_GROUP) of this directory's carp interfaces, by which they are known again."""
        return 0x63000000 | zlib.crc32(str(self.directory.resolve()).encode()) & 0xFFFFFF

    def reserve_counter(self) -> int:
        """Return the first counter of this run: above every earlier run's, even if the wall clock went back."""
        file = self.directory / "counter"
        stored = _read_json(file)
        start = max(time.time_ns(), stored if isinstance(stored, int) else 0)
        _write_atomically(file, str(start + _COUNTER_BLOCK))
        return start

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._lock)

    @property
    def _undo_file(self) -> Path:
        return self.directory / "undo.json"


class Leftovers:
    """What a crashed run has left: original settings by file, parents that may hold addresses and filters, clsacts."""

    def __init__(self, settings: dict[str, str], parents: list[str], qdiscs: list[str]) -> None:
        self.settings = settings
        self.parents = parents
        self.qdiscs = qdiscs


def _where() -> dict[str, str]:
    """Identify this boot and this network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"boot": boot, "namespace": str(Path("/proc/self/ns/net").readlink())}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _write_atomically(file: Path, text: str) -> None:
    temporary = file.with_suffix(".new")
    with temporary.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
