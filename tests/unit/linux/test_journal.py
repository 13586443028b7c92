"""The state directory: lock, counter, and what has to be undone after a crash."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from carp.linux import journal as journal_module
from carp.linux.journal import Journal, LockedError


@contextmanager
def opened(directory: Path) -> Iterator[Journal]:
    """Live one daemon's life."""
    journal = Journal(directory)
    try:
        yield journal
    finally:
        journal.close()


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """With everything above it."""
    directory = tmp_path / "var" / "lib" / "carp"
    with opened(directory):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_second_daemon_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    """The message holds the directory and the process; the first one goes on."""
    with opened(tmp_path) as first:
        for _ in range(2):
            with pytest.raises(LockedError) as caught:
                Journal(tmp_path)
            assert str(caught.value) == f"{tmp_path} is in use by another carpd, process {os.getpid()}"
        first.save()
    with opened(tmp_path) as later:
        assert later.left_by_a_crash() is not None


def test_a_longer_process_number_before_does_not_show(tmp_path: Path) -> None:
    """What an earlier daemon wrote into the lock is not read as a part of the present number."""
    (tmp_path / "lock").write_text("123456789012345\n")
    with opened(tmp_path), pytest.raises(LockedError, match=rf"process {os.getpid()}$"):
        Journal(tmp_path)


def test_a_directory_that_cannot_be_one(tmp_path: Path) -> None:
    """A file in its place is an error of the system, not a lock."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Journal(tmp_path / "file")


def test_the_counter_rises_with_every_start(tmp_path: Path) -> None:
    """Even if a hundred advertisements went out in between, and all starts happen at once."""
    starts = []
    for _ in range(3):
        with opened(tmp_path) as journal:
            starts.append(journal.reserve_counter())
    assert all(later > earlier + 10_000 * 3600 for earlier, later in pairwise(starts))
    assert starts[0] >= time.time_ns() - 60 * 10**9


def test_the_counter_rises_though_the_wall_clock_went_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock falls back to 1970 is not taken for an echo or a replay of itself."""
    with opened(tmp_path) as journal:
        first = journal.reserve_counter()
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    with opened(tmp_path) as journal:
        assert journal.reserve_counter() > first


def test_the_counter_follows_the_wall_clock_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost state directory does not bring old numbers back, since the clock is above them."""
    with opened(tmp_path) as journal:
        journal.reserve_counter()
    year = time.time_ns() + 365 * 86400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: year)
    with opened(tmp_path) as journal:
        assert journal.reserve_counter() >= year


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '"5"', "null", "-7", "1.5", "\ufeff1", "\0" * 512, "9" * 5000])
def test_a_corrupt_counter_does_not_keep_carpd_from_starting(tmp_path: Path, text: str) -> None:
    """It begins at the wall clock then, and the file is good again."""
    (tmp_path / "counter").write_text(text)
    before = time.time_ns()
    for _ in range(2):
        with opened(tmp_path) as journal:
            start = journal.reserve_counter()
        assert before <= start < 2**63


def test_a_counter_that_is_not_text(tmp_path: Path) -> None:
    """After a crash of the host the file may hold anything."""
    (tmp_path / "counter").write_bytes(b"\xff\xfe\0\0")
    with opened(tmp_path) as journal:
        assert journal.reserve_counter() > 0


def changed(journal: Journal) -> None:
    """Write down what a run would."""
    journal.settings["/proc/sys/net/ipv4/conf/eth0/arp_ignore"] = "0"
    journal.parents.append("eth0")
    journal.qdiscs.append("eth0")
    journal.save()


def test_what_a_crash_left_is_found_again(tmp_path: Path) -> None:
    """On the same boot, in the same namespace, with everything that was written down."""
    with opened(tmp_path) as journal:
        assert journal.left_by_a_crash() is None
        changed(journal)
    with opened(tmp_path) as journal:
        left = journal.left_by_a_crash()
    assert left is not None
    assert left.settings == {"/proc/sys/net/ipv4/conf/eth0/arp_ignore": "0"}
    assert (left.parents, left.qdiscs) == (["eth0"], ["eth0"])


@pytest.mark.parametrize("elsewhere", ["boot", "namespace"])
def test_another_boot_or_namespace_has_nothing_to_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str) -> None:
    """A host that was started again has its own settings: the old ones are not forced upon it."""
    with opened(tmp_path) as journal:
        changed(journal)
    here = journal_module._where()
    assert set(here) == {"boot", "namespace"}
    monkeypatch.setattr(journal_module, "_where", lambda: {**here, elsewhere: "another"})
    with opened(tmp_path) as journal:
        assert journal.left_by_a_crash() is None


def test_after_a_clean_stop_nothing_is_left(tmp_path: Path) -> None:
    """Forgetting twice does no harm."""
    with opened(tmp_path) as journal:
        changed(journal)
        journal.forget()
        journal.forget()
        assert (journal.settings, journal.parents, journal.qdiscs) == ({}, [], [])
    with opened(tmp_path) as journal:
        assert journal.left_by_a_crash() is None


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "null", "5", '"text"', "[1]", "\0" * 512])
def test_a_corrupt_journal_does_not_keep_carpd_from_starting(tmp_path: Path, text: str) -> None:
    """There is nothing to undo then."""
    (tmp_path / "undo.json").write_text(text)
    with opened(tmp_path) as journal:
        assert journal.left_by_a_crash() is None
        changed(journal)
        assert journal.left_by_a_crash() is not None


def test_saving_leaves_no_half_written_file(tmp_path: Path) -> None:
    """The file is replaced in one go; nothing is left beside it."""
    with opened(tmp_path) as journal:
        changed(journal)
        journal.reserve_counter()
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "undo.json", "counter"}


def test_the_link_group_belongs_to_the_directory(tmp_path: Path) -> None:
    """The same at every start and by every way to the directory, another one for another directory, never the default 0."""
    (tmp_path / "link").symlink_to(tmp_path / "one")
    groups = []
    for name in ("one", "one", "link", "two"):
        with opened(tmp_path / name) as journal:
            groups.append(journal.link_group)
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert all(0 < group < 2**31 for group in groups)
