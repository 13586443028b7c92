"""The clock of the protocol, CLOCK_BOOTTIME, and a timer on it that does not round to milliseconds.

asyncio's own timers go through epoll, which rounds up to whole milliseconds; a timerfd was measured at 0.05 ms.
"""

import contextlib
import ctypes
import os
import time

from ..protocol.values import NANOSECONDS_PER_SECOND, Instant

_CLOCK_BOOTTIME = 7
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
# What never waits keeps the interpreter's lock, which is quicker and cannot be lost to another thread.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def boottime() -> Instant:
    """Read CLOCK_BOOTTIME: monotonic, counts while the host is suspended, never stepped."""
    return Instant(time.clock_gettime_ns(_CLOCK_BOOTTIME))


class StampConverter:
    """Turns the kernel's packet stamps (CLOCK_REALTIME, ns) into instants.

    The wall clock may be stepped at any moment, so both clocks are read together at the start of each drain and a stamp never
    leaves [all was read until then, this drain]. What came before a step and is read after it fits the clocks of the last drain
    that left nothing.
    """

    __slots__ = ("_former_offset_ns", "_now", "_offset_ns", "_previous", "_stopped_at")

    def __init__(self) -> None:
        self._previous = self._now = boottime()
        self._offset_ns = self._former_offset_ns = self._now - time.time_ns()
        self._stopped_at: Instant | None = None

    def begin_drain(self) -> Instant:
        """Read both clocks; return the moment up to which an empty socket has been read."""
        if self._stopped_at is None:
            self._previous, self._former_offset_ns = self._now, self._offset_ns
        else:
            self._previous, self._stopped_at = self._stopped_at, None
        # Whatever comes between both readings makes packets look younger, never older.
        wall = time.time_ns()
        self._now = boottime()
        self._offset_ns = self._now - wall
        return self._now

    def stop_at(self, arrival: Instant) -> None:
        """This drain ends with a packet that arrived then; others may wait that came after it and long ago."""
        self._stopped_at = arrival

    def convert(self, stamp_ns: int) -> Instant:
        """Place a stamp on CLOCK_BOOTTIME."""
        at = stamp_ns + self._offset_ns
        before_step = stamp_ns + self._former_offset_ns
        # Where both would do, the later one: taken for old, a living MASTER's advertisement would bring a second MASTER.
        if self._previous <= before_step <= self._now and (at < before_step or at > self._now):
            at = before_step
        if at > self._now:
            return self._now
        return Instant(at) if at > self._previous else self._previous


class Timer:
    """One absolute timer as a file descriptor that becomes readable when it fires."""

    def __init__(self) -> None:
        self._fd: int = _libc.timerfd_create(_CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._armed: Instant | None = None
        self._spec = _Itimerspec()
        self._spec_at = ctypes.addressof(self._spec)

    def fileno(self) -> int:
        """Return the descriptor for a reader."""
        return self._fd

    def set(self, at: Instant | None) -> None:
        """Fire at `at`, at once if that has passed; None stops the timer."""
        if at == self._armed:
            return
        # A value of zero would disarm.
        moment = 0 if at is None else max(1, at)
        value = self._spec.value
        value.seconds, value.nanoseconds = divmod(moment, NANOSECONDS_PER_SECOND)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_at, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._armed = at

    def acknowledge(self) -> Instant | None:
        """Make the descriptor unreadable again; return the moment for which it was set."""
        armed, self._armed = self._armed, None
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)
        return armed

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
