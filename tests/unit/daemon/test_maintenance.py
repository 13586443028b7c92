"""The maintenance flag as a file: whole or not there at all, whatever the disk and people do."""

import errno
import os
import stat
from pathlib import Path

import pytest

from carp.daemon import maintenance
from carp.daemon.maintenance import Maintenance

FLAG = Maintenance("new disks", "ann", "2026-01-02T03:04:05+00:00")
OTHER = Maintenance("new kernel", "bob", "2026-02-03T04:05:06+00:00")
WORDS = Maintenance('"quoted" \\ {braces} ä \U0001f600 \n', "", "")


def file_in(folder: Path) -> Path:
    """Name the flag's file."""
    return folder / "maintenance.json"


def watch_disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is made durable and what is replaced, as it happens."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        what = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(what.st_mode) else "file" if what.st_size else "empty file")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        done.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return done


@pytest.mark.parametrize("flag", [FLAG, WORDS, Maintenance()])
def test_what_is_written_is_read(tmp_path: Path, flag: Maintenance) -> None:
    """With all of its words, also where there are none."""
    maintenance.write(tmp_path, flag)
    assert maintenance.read(tmp_path) == flag


def test_a_newer_flag_takes_the_place_of_the_older(tmp_path: Path) -> None:
    """And nothing else is left in the folder."""
    for flag in (FLAG, OTHER):
        maintenance.write(tmp_path, flag)
    assert maintenance.read(tmp_path) == OTHER
    assert list(tmp_path.iterdir()) == [file_in(tmp_path)]


def test_no_flag_is_no_maintenance(tmp_path: Path) -> None:
    """Nor is a folder that is not there."""
    assert maintenance.read(tmp_path) is None
    assert maintenance.read(tmp_path / "absent") is None


def test_a_flag_is_removed(tmp_path: Path) -> None:
    """One that is not there too."""
    maintenance.write(tmp_path, FLAG)
    for _ in range(2):
        maintenance.remove(tmp_path)
        assert (maintenance.read(tmp_path), list(tmp_path.iterdir())) == (None, [])


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_the_flag_is_for_its_owners_eyes(tmp_path: Path, mask: int) -> None:
    """Whatever the umask is."""
    former = os.umask(mask)
    try:
        maintenance.write(tmp_path, FLAG)
    finally:
        os.umask(former)
    assert file_in(tmp_path).stat().st_mode & 0o777 == 0o600


def test_the_flag_outlives_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is on the disk before its name is, and its name before the maintenance begins; so it is with its end."""
    done = watch_disk(monkeypatch)
    maintenance.write(tmp_path, FLAG)
    assert done == ["file", "replace", "folder"]
    done.clear()
    maintenance.remove(tmp_path)
    assert done == ["folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_keeps_the_former_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A new one that is not whole takes nobody's place; the next attempt finds nothing in its way."""

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    maintenance.write(tmp_path, FLAG)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            maintenance.write(tmp_path, OTHER)
    assert maintenance.read(tmp_path) == FLAG
    maintenance.write(tmp_path, OTHER)
    assert maintenance.read(tmp_path) == OTHER


def test_what_is_half_written_is_no_flag(tmp_path: Path) -> None:
    """A daemon that was killed while it wrote began no maintenance."""
    file_in(tmp_path).with_suffix(".new").write_text('{"reason": "new')
    assert maintenance.read(tmp_path) is None
    maintenance.write(tmp_path, FLAG)
    assert list(tmp_path.iterdir()) == [file_in(tmp_path)]


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")]
)
def test_a_flag_that_may_not_be_read_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """It is there: that is what it says."""

    def fail(*_: object, **__: object) -> str:
        raise error

    maintenance.write(tmp_path, FLAG)
    monkeypatch.setattr(Path, "read_text", fail)
    assert maintenance.read(tmp_path) == Maintenance(f"{file_in(tmp_path)} is there and cannot be read: {error}")
