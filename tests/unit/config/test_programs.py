"""Programs that carpd would run: what they must be, and who could put another one in their place."""

import os
import pwd
from pathlib import Path

import pytest

from carp.config import programs
from carp.config.errors import Problem
from carp.config.programs import faults_of

NOBODY = pwd.getpwnam("nobody").pw_uid
ALONE = "writable by its owner alone"


def faults(path, **given):
    """Return the sentences about a program, as a user reads them after its place."""
    found = (Problem("x", "", one.allowed, one.hint, one.fault) for one in faults_of(str(path), **given))
    return [str(one).removeprefix("x: ") for one in found]


def test_a_program(program):
    """A file that its owner alone may write and anybody may run is fine, on a way of such directories."""
    assert faults(program()) == []
    assert faults(program(mode=0o700)) == []
    assert faults("/bin/sh") == []


def test_where_pytest_works(tmp_path):
    """A directory that others may write is refused for all that is below it, the sticky bit notwithstanding."""
    path = Path("/tmp") / "absent" if not str(tmp_path).startswith("/tmp/") else tmp_path / "hook"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    assert (
        faults(path)[0] == f"/tmp: mode 1777 lets its group and others exchange the program: {ALONE}; put the program elsewhere"
    )


@pytest.mark.parametrize(("mode", "who"), [(0o775, "its group"), (0o757, "others"), (0o777, "its group and others")])
def test_writable_by_others(program, trusted, mode, who):
    """Neither the file nor any directory on the way may be written by group or others, each is told by itself."""
    path = program("a hook", mode)
    of_file = f"{path}: mode {mode:04o} lets {who} exchange the program: {ALONE}; chmod go-w '{path}'"
    assert faults(path) == [of_file]
    trusted.chmod(mode)
    assert faults(path) == [
        f"{trusted}: mode {mode:04o} lets {who} exchange the program: {ALONE}; chmod go-w {trusted}",
        of_file,
    ]
    path.chmod(0o755)
    assert len(faults(path)) == 1


def test_the_root_counts(program, monkeypatch):
    """The way begins at the root of the file system, which is looked at like any other directory."""
    lstat = Path.lstat

    def open_root(path):
        found = lstat(path)
        return os.stat_result((found.st_mode | 0o022, *found[1:])) if path == Path("/") else found

    monkeypatch.setattr(programs.Path, "lstat", open_root)
    (line,) = faults(program())
    assert line.startswith("/: mode 0777 lets its group and others exchange the program: ")


def test_owned_by_another(program, trusted):
    """Neither the file nor any directory on the way may belong to anybody but root."""
    path = program()
    os.chown(path, NOBODY, 0)
    could = f"nobody (uid {NOBODY}) owns it and could exchange the program: owned by root; chown root"
    assert faults(path) == [f"{path}: {could} {path}"]
    os.chown(path, 0, 0)
    os.chown(trusted, NOBODY, 0)
    assert faults(path) == [f"{trusted}: {could} {trusted}"]
    os.chown(trusted, 0, 0)
    os.chown(path, 4_000_000, 0)
    assert faults(path)[0].startswith(f"{path}: uid 4000000 owns it and could exchange the program: owned by root; ")
    os.chown(path, 0, 4_000_000)
    assert faults(path) == []


def test_owned_by_who_checks(program, monkeypatch):
    """Who checks without being root may own the program, and no third one may."""
    path = program()
    os.chown(path, NOBODY, 0)
    monkeypatch.setattr(programs.os, "geteuid", lambda: NOBODY)
    assert faults(path) == []
    monkeypatch.setattr(programs.os, "geteuid", lambda: 4_000_000)
    (line,) = faults(path)
    assert ": owned by root, or by who checks it; chown root" in line


def test_links(program, trusted):
    """A link is followed, and both the way to it and the way that it leads count."""
    path = program()
    (trusted / "open").mkdir()
    (trusted / "open").chmod(0o777)
    (trusted / "open" / "hook").write_text("")
    (trusted / "open" / "hook").chmod(0o755)
    (trusted / "open" / "back").symlink_to(path)
    (trusted / "good").symlink_to("hook")
    (trusted / "bad").symlink_to("open/hook")
    (trusted / "way").symlink_to(trusted / "open", target_is_directory=True)
    assert faults(trusted / "good") == []
    of_open = f"{trusted}/open: mode 0777 lets its group and others exchange the program: {ALONE}; chmod go-w {trusted}/open"
    for name in ("bad", "open/back", "way/hook", "way/../hook", "open/../good"):
        assert faults(f"{trusted}/{name}") == [of_open], name


def test_link_of_another(program, trusted):
    """A link that somebody else owns is refused as a file would be."""
    program()
    link = trusted / "link"
    link.symlink_to("hook")
    os.lchown(link, NOBODY, 0)
    (line,) = faults(link)
    assert line.startswith(f"{link}: nobody (uid {NOBODY}) owns it")


def test_not_to_be_run(program, trusted):
    """A directory, a pipe, and a file that nobody may run are no programs."""
    assert faults(trusted) == [f"{trusted}: not a regular file: an executable file"]
    os.mkfifo(trusted / "pipe", 0o755)
    assert faults(trusted / "pipe") == [f"{trusted}/pipe: not a regular file: an executable file"]
    path = program(mode=0o644)
    assert faults(path) == [f"{path}: mode 0644 lets nobody run it: an executable file; chmod +x {path}"]
    (trusted / "here").symlink_to(".")
    assert faults(trusted / "here")[-1].endswith("not a regular file: an executable file")


def test_not_there(program, trusted):
    """What leads nowhere is told with the part that is missing, and a line of a shell with how it is written instead."""
    path = program()
    (trusted / "round").symlink_to("round")
    absent = trusted / "absent"
    assert faults(absent / "hook") == [f"{absent}: cannot be run: No such file or directory"]
    assert faults(path / "hook") == [f"{path}/hook: cannot be run: Not a directory"]
    assert faults(f"{path}/..") == [f"{path}/..: cannot be run: Not a directory"]
    assert faults(trusted / "round") == [f"{trusted}/round: cannot be run: Too many levels of symbolic links"]
    line = f"{path} -v lan"
    hint = f'arguments are members of a list: ["{path}", "-v", "lan"]'
    assert faults(line, is_alone=True) == [f"{line}: cannot be run: No such file or directory; {hint}"]
    assert faults(line) == [f"{line}: cannot be run: No such file or directory"]


def test_not_to_be_looked_at(trusted):
    """Where the way cannot be looked at, that is said."""
    closed = trusted / "closed"
    closed.mkdir(mode=0)
    former = os.geteuid()
    os.seteuid(NOBODY if former == 0 else former)
    try:
        found = faults(closed / "hook")
    finally:
        os.seteuid(former)
    assert f"{closed / 'hook'}: cannot be run: Permission denied" in found


NOBODY = 65534
GOOD = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.1/24"]\n'
USER = "the name of a user of this host, such as nobody"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"carp-no-such-user"', f'there is no user "carp-no-such-user" on this host: {USER}'),
        ('"65534"', f'"65534" is not allowed: {USER}'),
        ('"+0"', f'"+0" is not allowed: {USER}'),
        ("65534", f"65534 is not allowed: {USER}"),
        ('""', f'"" is not allowed: {USER}'),
        ('"a\\u0000b"', f'"a\\u0000b" is not allowed: {USER}'),
    ],
)
def test_script_user_refused(refused, value, expected):
    """The user is one of this host, by name; a number is none."""
    assert refused(f"{GOOD}[global]\nscript-user = {value}\n") == [f"carp.toml: global.script-user: {expected}"]


def test_default_user_is_needed_by_programs_only(refused, program, monkeypatch):
    """A host without the user nobody can use carpd, until there is something to be run."""

    def unknown(name):
        raise KeyError(name)

    monkeypatch.setattr(programs.pwd, "getpwnam", unknown)
    assert refused(GOOD) == []
    expected = f'carp.toml: global.script-user: there is no user "nobody" on this host: {USER}'
    assert refused(f'{GOOD}[carp0.hooks]\nmaster = "{program()}"\n') == [expected]
    assert refused(f'{GOOD}[track.a]\nscript = "{program()}"\n') == [expected]
