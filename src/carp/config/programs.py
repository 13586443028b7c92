"""The programs that carpd runs for an administrator: hooks, scripts of tracks, and the user that they run as.

They are started by a daemon of root's. So a program is refused when anyone but root could put another in its place: when the
file, or any directory on the way to it, is owned by somebody else or may be written by group or others. A sticky bit is no
excuse: others could still put a file where there is none yet. Who checks without being root may own them as well, or nobody
could check a configuration before root has it.
"""

import errno
import os
import pwd
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carp.attendant.orders import CheckKind, HookKind

from .errors import Collector, KeyPath, RefusedError, shown
from .layout import GLOBAL, HOOKS, TRACK, global_table, hook_tables, track_tables

PROGRAM = 'the absolute path of a program, or a list of one and its arguments such as ["/etc/carp/up", "lan"]'
USER = "the name of a user of this host, such as nobody"
DEFAULT_USER = "nobody"

MAX_BYTES = 4096
"""Of a program and its arguments together: far below what fits into one order to the attendant."""

_MAX_LINKS = 40
"""As the kernel (MAXSYMLINKS)."""

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ANYONE_MAY_RUN = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_USER_KEY = "script-user"


def program(word: object) -> tuple[str, ...]:
    """Read a program and its arguments: a string is a path, and never split at its spaces.

    Raises:
        RefusedError: it is neither a string nor a list of strings, the path is not absolute, or it is too long.
    """
    argv = [word] if isinstance(word, str) else word
    if not isinstance(argv, list | tuple) or not argv or not all(isinstance(one, str) for one in argv):
        raise RefusedError(PROGRAM)
    if any("\0" in one for one in argv):
        raise RefusedError("strings without NUL", fault="a NUL byte would end the word")
    if not argv[0].startswith("/"):
        raise RefusedError(PROGRAM)
    try:
        length = sum(len(one.encode()) for one in argv)
    except UnicodeEncodeError:
        raise RefusedError(PROGRAM) from None
    if length > MAX_BYTES:
        raise RefusedError(f"at most {MAX_BYTES} bytes", fault=f"program and arguments are {length} bytes long")
    return tuple(argv)


def user(word: object) -> str:
    """Check that something can be the name of a user; a number would be an id, and is refused.

    Raises:
        RefusedError: it is not.
    """
    if not isinstance(word, str) or not word or "\0" in word or word.lstrip("+-").isdigit():
        raise RefusedError(USER)
    return word


def check_programs(document: Mapping[str, Any], problems: Collector) -> None:
    """Check on this host every program of a document, and, if there is any or it is named, the user that they run as."""
    found = list(_named_in(document))
    known: dict[str, list[RefusedError]] = {}
    for path, argv in found:
        if argv[0] not in known:
            known[argv[0]] = list(faults_of(argv[0], is_alone=len(argv) == 1))
        for fault in known[argv[0]]:
            problems.add(path, fault)
    written = global_table(document)
    if found or _USER_KEY in written:
        _check_user(written.get(_USER_KEY, DEFAULT_USER), problems)


def faults_of(path: str, *, is_alone: bool = False) -> Iterator[RefusedError]:
    """Yield everything that keeps a program from being run: of the file, and of each directory and link on the way to it.

    `is_alone` tells that no arguments were given apart from it.
    """
    owners = {0, os.geteuid()}
    try:
        places = list(_way(path))
        status = Path(path).stat()
    except OSError as error:
        first, *arguments = path.split(" ")
        hint = ""
        if is_alone and arguments:
            hint = f"arguments are members of a list: [{', '.join(shown(word) for word in (first, *arguments))}]"
        yield RefusedError(fault=f"{error.filename}: cannot be run: {error.strerror}", hint=hint)
        return
    for place, looked_at in places:
        yield from _exchangeable(place, looked_at, owners)
    yield from _not_runnable(places[-1][0], status)


def _named_in(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, tuple[str, ...]]]:
    """Yield every program with its place; a word that is none is told where the tables are read."""
    for name, table in hook_tables(document):
        for kind in HookKind:
            argv = _lenient(table.get(kind.value))
            if argv:
                yield (name, HOOKS, kind.value), argv
    for name, table in track_tables(document).items():
        argv = _lenient(table.get(CheckKind.SCRIPT.value))
        if argv:
            yield (TRACK, name, CheckKind.SCRIPT.value), argv


def _lenient(word: object) -> tuple[str, ...]:
    try:
        return program(word)
    except RefusedError:
        return ()


def _check_user(name: object, problems: Collector) -> None:
    try:
        pwd.getpwnam(user(name))
    except KeyError:
        problems.add((GLOBAL, _USER_KEY), RefusedError(USER, fault=f"there is no user {shown(name)} on this host"))
    except RefusedError:
        pass  # the reader of the table says it


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Walk from the root to a file as the kernel does, and yield each directory, link and file on the way.

    Raises:
        OSError: the way leads nowhere, or it cannot be looked at.
    """
    place = Path("/")
    yield "/", place.lstat()
    ahead = _parts(path)
    links = 0
    while ahead:
        part = ahead.pop()
        here = place.parent if part == ".." else place / part
        status = here.lstat()
        yield str(here), status
        if not stat.S_ISLNK(status.st_mode):
            place = here
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = str(here.readlink())
        place = Path("/") if target.startswith("/") else place
        ahead += _parts(target)


def _parts(path: str) -> list[str]:
    """Split a path, its first part last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _exchangeable(place: str, status: os.stat_result, owners: set[int]) -> Iterator[RefusedError]:
    """Say who could exchange what stands at a place."""
    if status.st_uid not in owners:
        allowed = "owned by root" if owners == {0} else "owned by root, or by who checks it"
        fault = f"{place}: {_user_name(status.st_uid)} owns it and could exchange the program"
        yield RefusedError(allowed, fault=fault, hint=f"chown root {shlex.quote(place)}")
    mode = stat.S_IMODE(status.st_mode)
    # The mode of a link means nothing: who may write the directory that it is in may exchange it.
    if mode & _OTHERS_MAY_WRITE and not stat.S_ISLNK(status.st_mode):
        who = " and ".join(word for bit, word in ((stat.S_IWGRP, "its group"), (stat.S_IWOTH, "others")) if mode & bit)
        fault = f"{place}: mode {mode:04o} lets {who} exchange the program"
        # What everybody may write to, such as /tmp, is meant to be so.
        hint = "put the program elsewhere" if mode & stat.S_ISVTX else f"chmod go-w {shlex.quote(place)}"
        yield RefusedError("writable by its owner alone", fault=fault, hint=hint)


def _not_runnable(place: str, status: os.stat_result) -> Iterator[RefusedError]:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        yield RefusedError("an executable file", fault=f"{place}: not a regular file")
    elif not mode & _ANYONE_MAY_RUN:
        fault = f"{place}: mode {mode:04o} lets nobody run it"
        yield RefusedError("an executable file", fault=fault, hint=f"chmod +x {shlex.quote(place)}")


def _user_name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
