"""The client side of the control socket."""

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

DEFAULT_SOCKET = Path("/run/carp/carpd.sock")
_PATIENCE_S = 10


class DaemonError(Exception):
    """The daemon could not be asked; the text is a sentence that says what to do."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("carp", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE_S)
        self.sock.connect(str(self._path))


def socket_path(given: Path | None) -> Path:
    """Return the socket to ask: the one given, else CARP_SOCKET, else the usual one."""
    return given or Path(os.environ.get("CARP_SOCKET", DEFAULT_SOCKET))


def get(path: Path, target: str) -> Any:
    """Ask the daemon behind a socket and return the JSON it answers.

    Raises:
        DaemonError: it does not answer, or answers with an error.
    """
    connection = _UnixConnection(path)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = json.loads(response.read())
    except FileNotFoundError:
        raise DaemonError(f"{path} does not exist: is carpd running?") from None
    except ConnectionRefusedError:
        raise DaemonError(f"nobody listens on {path}: carpd is not running") from None
    except PermissionError:
        raise DaemonError(f"{path} may be used by root and the group carp only") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DaemonError(f"carpd behind {path} does not answer: {error}") from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise DaemonError(f"carpd behind {path} refused: {body.get('error', response.reason)}")
    return body
