"""conntrackd's control socket: one request for each connection, answered by text until the daemon closes it.

A commit is answered when it is finished. The requests are those of conntrackd 1.4.7, native integers of four bytes.
"""

import asyncio
import re
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_REQUEST = struct.Struct("=i")
_CREDENTIALS = struct.Struct("=iII")
_PIECE_BYTES = 65536
_MOST_BYTES = 1 << 16
"""Statistics are a page; what is longer comes from something else."""
_COUNTER = r"(?<!\d)(\d{1,20})"
"""One of 64 bits before its name; without the look behind, a row of digits would be tried from each of them on."""
_STATES_BYTES = 2000
"""More than keep-alives of 16 bytes are in any time between two looks."""
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")


class Request(IntEnum):
    """What conntrackd is asked to do, with the letter of its own client."""

    STATISTICS = 21
    """-s"""
    BULK_UPDATE = 22
    """-B: send all states to the peer."""
    ASK_PEER = 23
    """-n: ask the peer for all of its states."""
    RUNTIME = 30
    """-s runtime"""
    PURGE = 43
    """-F: empty the kernel's table."""
    RESYNC = 44
    """-R: read the kernel's table again."""
    FLUSH = 45
    """-f: empty both caches."""
    COMMIT = 46
    """-c: write the states of the peer into the kernel's table."""


class ConntrackdError(Exception):
    """conntrackd did not do it; the text says why, without a subject."""


class ConntrackdLateError(ConntrackdError):
    """It was not done in time; conntrackd goes on with what it was asked to do."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the answer to STATISTICS says, and who gave it.

    `internal` and `external` are the states in the cache of this host's and of the peer's. `changes` counts what was written
    into the latter, `received` the messages of the peer, `lost` those that did not arrive, all since the daemon started;
    `sent_bytes` and `received_bytes` are of all messages, 0 where that is not told.
    """

    pid: int
    internal: int
    external: int
    changes: int
    received: int
    lost: int
    sent_bytes: int = 0
    received_bytes: int = 0

    @property
    def is_balanced(self) -> bool:
        """Whether exactly what was sent has come in, as with one that sends to itself; in the absence of states by chance."""
        return self.sent_bytes == self.received_bytes

    def is_echo(self, former: "Statistics | None") -> bool:
        """Tell whether states were sent since then, and exactly those came in."""
        if former is None or not self.is_balanced or not former.is_balanced:
            return False
        return self.sent_bytes - former.sent_bytes >= _STATES_BYTES

    def follows(self, former: "Statistics") -> bool:
        """Tell whether the same daemon gave both; one in a namespace of its own may get its old id again."""
        return self.pid == former.pid and self.received >= former.received and self.changes >= former.changes


async def ask(path: str, request: Request, timeout_s: float | None) -> tuple[str, int]:
    """Return the answer and the id of the process that gave it; `timeout_s` None waits for ever.

    Raises:
        ConntrackdLateError: not in time, or so many wait for an answer that it takes no connection.
        ConntrackdError: nobody answers, or too much, or this process cannot ask.
    """
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            async with asyncio.timeout(timeout_s):
                connection.connect(path)  # does not block; asyncio would take a full queue for a connection under way
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                await loop.sock_sendall(connection, _REQUEST.pack(request))
                answer = await _read(loop, connection)
    except TimeoutError:
        raise ConntrackdLateError(f"does not answer within {timeout_s:g} s") from None
    except BlockingIOError:
        raise ConntrackdLateError("does not take connections any more") from None
    except (OSError, ValueError) as error:
        raise ConntrackdError(f"cannot be asked at {path}: {getattr(error, 'strerror', None) or error}") from None
    return answer, _CREDENTIALS.unpack(credentials)[0]


async def _read(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> str:
    answer = bytearray()
    while piece := await loop.sock_recv(connection, _PIECE_BYTES):
        answer += piece
        if len(answer) > _MOST_BYTES:
            raise ConntrackdError("answers without an end")
    return answer.decode(errors="replace")


async def statistics(path: str, timeout_s: float) -> Statistics:
    """Ask for the statistics; raises ConntrackdError."""
    text, pid = await ask(path, Request.STATISTICS, timeout_s)
    return parse_statistics(text, pid)


def parse_statistics(text: str, pid: int) -> Statistics:
    """Read an answer to STATISTICS; raises ConntrackdError for one that is none, as of a daemon that only counts."""
    internal, found, external = text.partition("cache external:")
    received, lost = re.search(rf"{_COUNTER} Pckts recv", text), re.search(rf"{_COUNTER} Lost", text)
    counts = [re.search(r"active connections:\s+(\d{1,20})", part) for part in (internal, external)]
    if not found or received is None or lost is None or None in counts:
        raise ConntrackdError("does not synchronise: its configuration has no section Sync with an external cache")
    alive = [int(one[1]) for one in counts if one is not None]
    changes = sum(map(int, re.findall(r"(?:created|updated):\s+(\d{1,20})", external)))
    traffic = re.search(rf"{_COUNTER} Bytes sent\s+{_COUNTER} Bytes recv", text)
    sent_bytes, received_bytes = (int(traffic[1]), int(traffic[2])) if traffic else (0, 0)
    return Statistics(pid, alive[0], alive[1], changes, int(received[1]), int(lost[1]), sent_bytes, received_bytes)


async def events_received(path: str, timeout_s: float) -> int:
    """Return how many events of the kernel conntrackd has read since it started; raises ConntrackdError."""
    text, _ = await ask(path, Request.RUNTIME, timeout_s)
    return sum(map(int, re.findall(r"events received:\s+(\d{1,20})", text)))


def kernel_states() -> int | None:
    """Count the states in the kernel's table; None where it has none."""
    try:
        return int(_COUNT.read_text())
    except (OSError, ValueError):
        return None
