"""What a daemon tells as it happens: its stream of server-sent events.

Each has the daemon's own time, on the laboratory's clock and to the millisecond: on a busy machine it comes here later.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from .host import Host
from .wait import now_ns, until

_START_TIMEOUT_S = 10.0
DEMOTED = "demotion changed"


@dataclass(frozen=True)
class Happened:
    """One event: when it happened, when it came here, its kind and its data."""

    at: int
    came: int
    kind: str
    data: dict[str, Any]


class Events:
    """A listener on a running daemon; a context manager. What came is in `seen`, the first being the kind `status`."""

    def __init__(self, host: Host) -> None:
        self.label = host.label
        self.seen: list[Happened] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(host.socket))
        self._socket.sendall(b"GET /v1/events HTTP/1.1\r\nHost: carp\r\n\r\n")
        self._reader = threading.Thread(target=self._read, name=f"events of {host.label}", daemon=True)
        self._reader.start()
        try:
            until(lambda: self.seen, _START_TIMEOUT_S, f"the first event of {host.label}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        # The daemon may be gone, and the connection with it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(_START_TIMEOUT_S)
        self._socket.close()

    def all(self, wanted: Callable[[Happened], object], since: int = 0) -> list[Happened]:
        """Return the wanted events that came here after an instant."""
        return [one for one in list(self.seen) if one.came >= since and wanted(one)]

    def wait(self, wanted: Callable[[Happened], object], timeout_s: float, what: str, since: int = 0) -> Happened:
        """Wait for the first wanted event that came here after an instant."""
        until(lambda: self.all(wanted, since), timeout_s, f"{self.label} to tell {what}")
        return self.all(wanted, since)[0]

    def states(self, name: str, since: int = 0) -> list[str]:
        """Return the states that a carp interface came to after an instant, in order."""
        return [one.data["new"] for one in self.all(is_transition(name), since)]

    def became(self, name: str, state: str, timeout_s: float, since: int = 0) -> int:
        """Wait until a carp interface came to a state; return that instant."""
        return self.wait(is_transition(name, state), timeout_s, f"{name}: {state}", since).at

    def demoted(self, name: str, timeout_s: float, since: int = 0) -> int:
        """Wait until the demotion of a carp interface changed; return that instant."""
        return self.wait(is_demotion(name), timeout_s, f"a demotion of {name}", since).at

    def _read(self) -> None:
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        kind = ""
        try:
            while line := response.readline():
                word, _, text = line.decode().rstrip("\n").partition(": ")
                if word == "event":
                    kind = text
                elif word == "data":
                    self.seen.append(_happened(now_ns(), kind, json.loads(text)))
        except (OSError, http.client.HTTPException, ValueError):
            # The daemon ended, perhaps in the middle of a line.
            pass
        finally:
            response.close()


def _happened(came: int, kind: str, data: dict[str, Any]) -> Happened:
    if "at" not in data:
        return Happened(came, came, kind, data)
    # The daemon tells the wall clock; both clocks are read together to convert.
    offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - now_ns()
    milliseconds = round(datetime.fromisoformat(data["at"]).timestamp() * 1000)
    return Happened(milliseconds * 1_000_000 - offset, came, kind, data)


def is_transition(name: str, state: str | None = None) -> Callable[[Happened], bool]:
    """Tell changes of a carp interface's state, or those to one state."""
    return lambda one: one.kind == "transition" and one.data["interface"] == name and state in (None, one.data["new"])


def is_demotion(name: str) -> Callable[[Happened], bool]:
    """Tell changes of a carp interface's demotion."""
    return lambda one: one.kind == "notice" and one.data["interface"] == name and one.data["note"] == DEMOTED
