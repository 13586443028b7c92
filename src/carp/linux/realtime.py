"""Real-time scheduling and locked memory, for sub-second intervals on a busy host."""

import ctypes
import os

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PRIORITY = 50
_libc = ctypes.CDLL(None, use_errno=True)


def become_realtime() -> list[str]:
    """Run with SCHED_FIFO and all memory locked; return what the kernel refused, as sentences.

    Threads that are started afterwards inherit the scheduling. A cgroup without rt_runtime refuses it.
    """
    refused = []
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError as error:
        refused.append(f"real-time scheduling is refused: {error.strerror}")
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        refused.append(f"memory cannot be locked: {os.strerror(ctypes.get_errno())}")
    return refused
