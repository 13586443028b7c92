"""Checks that read from this host: processes, files, the end of its start."""

import os
import subprocess
from pathlib import Path

import pytest
from attendant_kit import MILLISECOND_NS, PATIENCE_S, Attendant, Scripts, check

from carp.attendant import proc
from carp.attendant.orders import Checked, CheckKind, Watch
from lab.wait import until


def test_a_file_comes_and_goes(attendant: Attendant, tmp_path: Path) -> None:
    """It holds while the file exists, whatever it is."""
    file = tmp_path / "file"
    attendant.send(Watch(check(CheckKind.FILE, str(file))))
    assert attendant.next(Checked) == Checked("c", False, "No such file or directory")
    file.mkdir()
    assert attendant.next(Checked) == Checked("c", True, "")
    file.rmdir()
    assert not attendant.next(Checked).holds


def test_a_process_by_its_name(attendant: Attendant, scripts: Scripts) -> None:
    """A script by its own, and it must be alive: a zombie does not count."""
    name = f"watched{os.getpid()}"
    argv = scripts.make("while :; do sleep 0.02; done", name)
    attendant.send(Watch(check(CheckKind.PROCESS, name)))
    assert attendant.next(Checked) == Checked("c", False, "no such process")
    process = subprocess.Popen(argv)
    try:
        assert attendant.next(Checked) == Checked("c", True, f"process {process.pid}")
        process.kill()
        assert not attendant.next(Checked).holds
        # Only now it is reaped.
    finally:
        process.kill()
        process.wait()


def test_a_process_by_its_argv(tmp_path: Path) -> None:
    """The last part of argv[0] counts where the comm is another one."""
    name = f"a-long-name-indeed-{os.getpid()}"
    process = subprocess.Popen([f"/somewhere/{name}", "60"], executable="/bin/sleep")
    try:
        assert proc.Names().find(name) == process.pid
        assert proc.has_name(process.pid, name)
        assert proc.has_name(process.pid, "sleep")
        assert proc.Names().find(name[:-1]) is None
    finally:
        process.kill()
        process.wait()
    assert proc.Names().find(name) is None
    assert not proc.has_name(process.pid, name)


def test_one_of_two_processes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is found at once, though what was read is not old; nothing is read while neither changes."""
    monkeypatch.setattr(proc, "_SHARED_FOR_S", 3600.0)
    name, names = f"one-of-two-{os.getpid()}", proc.Names()
    both = [subprocess.Popen([name, "60"], executable="/bin/sleep") for _ in range(2)]
    try:
        first = names.find(name)
        (ended,) = (one for one in both if one.pid == first)
        ended.kill()
        ended.wait()
        (other,) = (one for one in both if one is not ended)
        assert names.find(name) == other.pid
        monkeypatch.setattr(proc, "numbers", lambda: pytest.fail("read again"))
        assert names.find(name) == other.pid
        assert names.find(name[:-1]) is None
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_a_pid_file(attendant: Attendant, tmp_path: Path) -> None:
    """It holds while the process whose number is in the file is alive."""
    file = tmp_path / "pid"
    attendant.send(Watch(check(CheckKind.PID_FILE, str(file))))
    assert attendant.next(Checked) == Checked("c", False, "cannot be read: No such file or directory")
    process = subprocess.Popen(["sleep", "60"])
    try:
        file.write_text(f" {process.pid}\n")
        assert attendant.next(Checked) == Checked("c", True, f"process {process.pid}")
        process.kill()
        assert attendant.next(Checked) == Checked("c", False, f"no process {process.pid}")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "99999999999999999999999", "1 2", "\0"])
def test_a_pid_file_with_nonsense(attendant: Attendant, tmp_path: Path, content: str) -> None:
    """Is a bad result."""
    file = tmp_path / "pid"
    file.write_text(content)
    attendant.send(Watch(check(CheckKind.PID_FILE, str(file))))
    assert not attendant.next(Checked).holds


def test_a_file_that_hangs(attendant: Attendant, tmp_path: Path) -> None:
    """Reading it takes too long each time; other checks go on, no threads pile up, and the end is not held up."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for number in range(5):
        attendant.send(Watch(check(CheckKind.PID_FILE, str(fifo), name=f"hangs{number}", timeout_ns=50 * MILLISECOND_NS)))
    for _ in range(5):
        checked = attendant.next(Checked)
        assert (checked.holds, checked.detail) == (False, "took over 0.05 s")
    file = tmp_path / "file"
    attendant.send(Watch(check(CheckKind.FILE, str(file))))
    assert not attendant.next(Checked).holds
    before = threads(attendant)
    for _ in range(5):
        file.touch()
        assert attendant.next(Checked).holds
        file.unlink()
        assert not attendant.next(Checked).holds
    assert threads(attendant) <= before + 1
    assert attendant.end()[0] == 0


def threads(attendant: Attendant) -> int:
    """Count its threads."""
    return len(list(Path(f"/proc/{attendant.process.pid}/task").iterdir()))


def test_the_end_of_the_start(attendant: Attendant) -> None:
    """Without systemd it is over."""
    if Path("/run/systemd/system").exists():
        return  # a host with systemd has another answer
    attendant.send(Watch(check(CheckKind.BOOT)))
    assert attendant.next(Checked) == Checked("c", True, "there is no systemd")


def test_the_end_of_the_start_with_systemd(scripts: Scripts) -> None:
    """Asked again while it goes on, or while there is no answer; never again once it was over, however it ended."""
    (scripts.folder / "system").mkdir()
    scripts.make('echo >>$D/asked; cat $D/state; [ "$(cat $D/state)" = running ]', "systemctl")
    (scripts.folder / "state").write_text("initializing\n")
    program = (
        "import sys; from pathlib import Path; from carp.attendant import process, scripts, __main__ as m; "
        f"scripts._SYSTEMD = Path('{scripts.folder}/system'); process._PATH = '{scripts.folder}:' + process._PATH; m.main()"
    )
    attendant = Attendant(program=program)
    try:
        attendant.send(Watch(check(CheckKind.BOOT, interval_ns=30 * MILLISECOND_NS)))
        assert attendant.next(Checked) == Checked("c", False, "initializing")
        for state in ("starting\n", "unknown\n", ""):
            asked = len(scripts.read("asked"))
            (scripts.folder / "state").write_text(state)
            until(lambda asked=asked: len(scripts.read("asked")) > asked + 3, PATIENCE_S, "some more questions")
        assert attendant.silent_for(0)
        (scripts.folder / "state").write_text("degraded\n")
        assert attendant.next(Checked) == Checked("c", True, "degraded")
        asked = len(scripts.read("asked"))
        assert attendant.silent_for(0.3)
        assert len(scripts.read("asked")) == asked
    finally:
        attendant.destroy()
