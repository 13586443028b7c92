"""The client side of the control socket."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import CommandError

DEFAULT_SOCKET = Path("/run/carp/carpd.sock")
_READING_PATIENCE_S = 3
# A change of 255 interfaces waits for the kernel 255 times.
_CHANGING_PATIENCE_S = 30


class DaemonError(CommandError):
    """The daemon could not be asked, or refused: the sentences say what to do.

    `status` is that of HTTP, such as 422, or None where there was no answer.
    """

    def __init__(self, *sentences: str, status: int | None = None) -> None:
        super().__init__(sentences)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience_s: float | None) -> None:
        super().__init__("carp", timeout=patience_s)
        self._path = path
        self._patience_s = patience_s

    def connect(self) -> None:
        """Connect to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._patience_s)
        self.sock.connect(str(self._path))


def socket_path(given: Path | None) -> Path:
    """Return the socket to ask: the one given, else CARP_SOCKET, else the usual one."""
    return given or Path(os.environ.get("CARP_SOCKET", DEFAULT_SOCKET))


def segment(name: str) -> str:
    """Write any name so that it is one segment of a path."""
    return quote(name, safe="")


def get(path: Path, target: str) -> Any:
    """Ask the daemon behind a socket and return the JSON it answers.

    Raises:
        DaemonError: it does not answer, or answers with an error.
    """
    return _exchange(_UnixConnection(path, _READING_PATIENCE_S), path, "GET", target)


def send(path: Path, method: str, target: str, body: object, takes_s: float = 0) -> Any:
    """Ask for a change with PATCH, POST or DELETE and return the JSON of the answer; carpd may let it take `takes_s`.

    Raises:
        DaemonError: the daemon does not answer, or refuses. Nothing was changed if it refuses.
    """
    return _exchange(_UnixConnection(path, _CHANGING_PATIENCE_S + takes_s), path, method, target, json.dumps(body))


def _exchange(connection: _UnixConnection, path: Path, method: str, target: str, content: str | None = None) -> Any:
    try:
        response = _request(connection, method, target, content)
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(path, error, asked_for_a_change=method != "GET") from None
    finally:
        connection.close()
    if not http.client.OK <= response.status < http.client.MULTIPLE_CHOICES:
        raise _refusal(path, response, body)
    return body


def _request(connection: _UnixConnection, method: str, target: str, content: str | None) -> http.client.HTTPResponse:
    headers = {} if content is None else {"Content-Type": "application/json"}
    connection.request(method, target, content, headers)
    return connection.getresponse()


def stream(path: Path, target: str) -> Iterator[str]:
    """Yield the data of the daemon's server-sent events, one line each, as they come.

    Raises:
        DaemonError: the daemon does not answer, refuses, or ends the stream, which has no end of its own.
    """
    connection = _UnixConnection(path, None)
    try:
        response = _request(connection, "GET", target, None)
        if response.status != http.client.OK:
            raise _refusal(path, response, json.loads(response.read()))
        for line in response:
            if line.startswith(b"data:"):
                yield line.removeprefix(b"data:").strip().decode()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(path, error) from None
    finally:
        connection.close()
    raise DaemonError(f"carpd behind {path} ended the stream")


def _unreachable(path: Path, error: Exception, *, asked_for_a_change: bool = False) -> DaemonError:
    if isinstance(error, FileNotFoundError):
        return DaemonError(f"{path} does not exist: is carpd running?")
    if isinstance(error, ConnectionRefusedError):
        return DaemonError(f"nobody listens on {path}: carpd is not running")
    if isinstance(error, PermissionError):
        return DaemonError(f"{path} may be used by root and the group carp only")
    later = "; it may still make the change" if asked_for_a_change and isinstance(error, TimeoutError) else ""
    return DaemonError(f"carpd behind {path} does not answer: {error}{later}")


def _refusal(path: Path, response: http.client.HTTPResponse, body: object) -> DaemonError:
    """Take the sentences out of an answer: each problem, where there are several, else the error."""
    answer = body if isinstance(body, dict) else {}
    said = answer.get("problems") or str(answer.get("error", "")).splitlines()
    sentences = map(str, said or (f"carpd behind {path} refused: {response.reason}",))
    return DaemonError(*sentences, status=response.status)
