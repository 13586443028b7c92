"""What carpd tells the service manager that started it: the protocol of sd_notify(3), a datagram of assignments.

Nothing here raises, and nothing waits: a service manager that does not listen costs the daemon nothing.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"
_WATCHDOG_OF = "WATCHDOG_PID"
_MICROSECONDS_PER_SECOND = 1_000_000
_NANOSECONDS_PER_MICROSECOND = 1000
_STATES = ("READY", "RELOADING", "STOPPING")


class Notifier:
    """The way to the service manager; to nobody if `address` is "".

    `address` is the path of a datagram socket, or a name in the abstract namespace after an @. `watchdog_interval_s` is how
    often `watchdog` has to be called, in seconds; None if nobody waits for it.
    """

    def __init__(self, address: str = "", watchdog_interval_s: float | None = None) -> None:
        self.watchdog_interval_s = watchdog_interval_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._owed: dict[str, str] = {}
        self._socket: socket.socket | None = None
        # Other kinds of address, such as vsock:, are those of virtual machines.
        if address.startswith(("/", "@")):
            with contextlib.suppress(OSError):  # a process without descriptors left has worse to tell than this
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Notifier":
        """Take what the service manager left in the environment, and out of it: children must not speak for carpd."""
        address, period, process = (environment.pop(name, "") for name in (_SOCKET, _WATCHDOG, _WATCHDOG_OF))
        return cls(address, _half_of(period) if address and process in ("", str(os.getpid())) else None)

    def ready(self, status: str) -> None:
        """Say that carpd serves; or that it has reloaded, successfully or not. `status` is a line for people."""
        self._tell(READY="1", STATUS=_line(status))

    def reloading(self) -> None:
        """Say that carpd reads its configuration again; `ready` has to follow, whatever comes of it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // _NANOSECONDS_PER_MICROSECOND
        self._tell(RELOADING="1", MONOTONIC_USEC=str(now))

    def stopping(self) -> None:
        """Say that carpd hands over and ends."""
        self._tell(STOPPING="1")

    def status(self, text: str) -> None:
        """Say in a line for people what carpd does."""
        self._tell(STATUS=_line(text))

    def watchdog(self) -> None:
        """Say that carpd lives. Nothing is sent where nobody waits for it."""
        if self.watchdog_interval_s is not None:
            self._tell(WATCHDOG="1")

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, **assignments: str) -> None:
        if self._socket is None:
            return
        if not assignments.keys().isdisjoint(_STATES):
            # Of two states the newer one counts, and an older one must not arrive beside it.
            for outdated in (*_STATES, "MONOTONIC_USEC"):
                self._owed.pop(outdated, None)
        self._owed |= assignments
        message = "\n".join(f"{name}={value}" for name, value in self._owed.items())
        try:
            self._socket.sendto(message.encode(errors="replace"), self._address)
        except BlockingIOError:
            return  # its queue is full: what it missed goes with the next message, the watchdog's at the latest
        except (OSError, ValueError):
            pass  # it is gone, or there never was such a socket: carpd serves all the same
        self._owed.clear()


def _half_of(period_us: str) -> float | None:
    """Return half of a period that is written in microseconds, in seconds; None if it is no period."""
    if not (period_us.isascii() and period_us.isdigit() and int(period_us)):
        return None
    return int(period_us) / 2 / _MICROSECONDS_PER_SECOND


def _line(text: str) -> str:
    """Keep a text from being read as several assignments."""
    return " ".join(text.splitlines())
