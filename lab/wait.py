"""Waiting for conditions, and the one clock of the laboratory."""

import time
from collections.abc import Callable

POLL_S = 0.01


def now_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds; all instants of the laboratory are on it."""
    return time.monotonic_ns()


def until(condition: Callable[[], object], timeout_s: float, what: str, every_s: float = POLL_S) -> int:
    """Poll a condition until it holds and return that instant; TimeoutError says `what` did not come."""
    deadline = now_ns() + int(timeout_s * 1e9)
    while not condition():
        if now_ns() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s in vain: {what}")
        time.sleep(every_s)
    return now_ns()


def holds_for(condition: Callable[[], object], duration_s: float, every_s: float = POLL_S) -> bool:
    """Tell whether a condition holds at every look during `duration_s`."""
    deadline = now_ns() + int(duration_s * 1e9)
    while now_ns() < deadline:
        if not condition():
            return False
        time.sleep(every_s)
    return True
