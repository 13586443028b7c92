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
_MOST_BYTES = 1 << 20
"""Statistics are a page; what is longer comes from something else."""
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")


class Request(IntEnum):
    """What conntrackd is asked to do, with the letter of its own client."""

    STATISTICS = 21
    """-s"""
    BULK_UPDATE = 22
    """-B: send all states to the peer."""
    ASK_PEER = 23
    """-n: ask the peer for all of its states."""
    PURGE = 26
    """-t: empty the kernel's table after PurgeTimeout, unless a commit comes first."""
    RUNTIME = 30
    """-s runtime"""
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
    into the latter, `received` the messages of the peer, `lost` those that did not arrive, all since the daemon started.
    """

    pid: int
    internal: int
    external: int
    changes: int
    received: int
    lost: int


async def ask(path: str, request: Request, timeout_s: float) -> tuple[str, int]:
    """Return the answer and the id of the process that gave it.

    Raises:
        ConntrackdLateError: not in time.
        ConntrackdError: nobody answers, or too much.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        try:
            async with asyncio.timeout(timeout_s):
                connection.connect(path)  # does not block; asyncio would take a full queue for a connection under way
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                await loop.sock_sendall(connection, _REQUEST.pack(request))
                answer = await _read(loop, connection)
        except TimeoutError:
            raise ConntrackdLateError(f"does not answer within {timeout_s:g} s") from None
        except BlockingIOError:
            raise ConntrackdError("does not take connections any more") from None
        except OSError as error:
            raise ConntrackdError(f"cannot be asked at {path}: {error.strerror or error}") from None
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
    received, lost = re.search(r"(\d+) Pckts recv", text), re.search(r"(\d+) Lost", text)
    counts = [re.search(r"active connections:\s+(\d+)", part) for part in (internal, external)]
    if not found or received is None or lost is None or None in counts:
        raise ConntrackdError("does not synchronise: its configuration has no section Sync with an external cache")
    alive = [int(one[1]) for one in counts if one is not None]
    changes = sum(map(int, re.findall(r"(?:created|updated):\s+(\d+)", external)))
    return Statistics(pid, alive[0], alive[1], changes, int(received[1]), int(lost[1]))


async def events_received(path: str, timeout_s: float) -> int:
    """Return how many events of the kernel conntrackd has read since it started; raises ConntrackdError."""
    text, _ = await ask(path, Request.RUNTIME, timeout_s)
    return sum(map(int, re.findall(r"events received:\s+(\d+)", text)))


def kernel_states() -> int | None:
    """Count the states in the kernel's table; None where it has none."""
    try:
        return int(_COUNT.read_text())
    except (OSError, ValueError):
        return None
