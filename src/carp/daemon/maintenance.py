"""The maintenance flag: a file in the state directory, so that a host stays out of the way across a restart and a reboot."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "maintenance.json"
_FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Why a host is in maintenance, who said so, and since when (ISO 8601), "" where that is not known."""

    reason: str = ""
    by: str = ""
    since: str = ""


def read(directory: Path) -> Maintenance | None:
    """Return the flag, or None if it is not set.

    One that cannot be read was set by somebody: it counts.
    """
    file = directory / _FILE
    try:
        fields = json.loads(file.read_text())
        return Maintenance(**{key: str(fields[key]) for key in ("reason", "by", "since")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Maintenance(f"{file} is there and cannot be read: {error}")


def write(directory: Path, flag: Maintenance) -> None:
    """Set the flag; it is on the disk when this returns. Raises OSError."""
    file = directory / _FILE
    temporary = file.with_suffix(".new")
    with temporary.open("w") as out:
        temporary.chmod(_FILE_MODE)
        json.dump(asdict(flag), out)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
    _sync(directory)


def remove(directory: Path) -> None:
    """Take the flag away, for good when this returns. Raises OSError."""
    (directory / _FILE).unlink(missing_ok=True)
    _sync(directory)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
