"""Being an ordinary process: nobody's root, nobody's real-time scheduling, and gone when the daemon is."""

import contextlib
import ctypes
import importlib
import os
import pwd
import resource
import signal
import socket
import struct

_PR_SET_PDEATHSIG = 1
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_CREDENTIALS = struct.Struct("=iII")
"""Of SO_PEERCRED, unix(7): pid, uid, gid."""
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
"""Python itself gives these back to the programs that it starts."""
_NOT_FOR_US = (signal.SIGINT, signal.SIGHUP)
_MEMLOCK_BYTES = 8 * 1024 * 1024
_IMPORTED_LATE = ("concurrent.futures.thread", "encodings.idna", "h11", "stringprep")


def become_ordinary() -> None:
    """Put off what is the daemon's own and programs would inherit: directory, scheduling and its limits, the signals."""
    os.chdir("/")
    for ignored in signal.valid_signals() - _IGNORED_BY_PYTHON:
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)
    for number in _NOT_FOR_US:
        # Caught and not ignored: programs would inherit that.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    least = _MEMLOCK_BYTES if most == resource.RLIM_INFINITY else min(_MEMLOCK_BYTES, most)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (least, least))


def become(user: str) -> None:
    """Be this user from now on, with all of its groups and no capability.

    Whatever is imported later must be readable for that user, so what is imported late elsewhere is imported here.

    Raises:
        KeyError: there is no such user.
        OSError: this process may not become it.
    """
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    entry = pwd.getpwnam(user)
    if os.geteuid() == entry.pw_uid:
        return
    os.initgroups(user, entry.pw_gid)
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def drop_lent_capabilities() -> None:
    """Give back what a service manager lent this process: the sockets for pings are open by now."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24))


def bind_to_parent(channel: socket.socket) -> bool:
    """Have the kernel send SIGTERM when the daemon, our parent, dies; tell whether it was still alive then."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    made_by, _, _ = _CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(made_by == os.getppid())
