"""The control socket: HTTP and JSON over a unix socket, so that `curl --unix-socket` works.

GET /v1/status answers the status document.
"""

import asyncio
import contextlib
import grp
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import h11

from .chronicle import logger

_GROUP = "carp"
_MODE = 0o660
_PATIENCE_S = 10
_CHECK_PATIENCE_S = 2
_READ_BYTES = 1 << 16

Handler = Callable[[], object]


class SocketInUseError(Exception):
    """Another process listens on the control socket."""


class Control:
    """The server. `routes` maps a path to what answers a GET of it, with something that JSON can hold."""

    def __init__(self, path: Path, routes: dict[str, Handler]) -> None:
        self._path = path
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """Make sure that nobody else listens; raises SocketInUseError."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CHECK_PATIENCE_S)
            try:
                probe.connect(str(self._path))
            except TimeoutError:
                pass  # somebody listens, and is stopped
            except OSError:
                return
        raise SocketInUseError(f"{self._path} is in use by another carpd")

    async def start(self) -> None:
        """Listen: root and the group carp may connect. Raises OSError."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        # Nobody may connect before the owner is set.
        former = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, self._path)
        finally:
            os.umask(former)
        with contextlib.suppress(KeyError):
            os.chown(self._path, 0, grp.getgrnam(_GROUP).gr_gid)
        self._path.chmod(_MODE)

    async def stop(self) -> None:
        """Close everything and remove the socket."""
        if self._server is not None:
            self._server.close()
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._converse(connection, reader, writer)
        except (TimeoutError, OSError):
            pass  # a client that hangs or leaves is its own affair
        except h11.RemoteProtocolError as error:
            with contextlib.suppress(h11.LocalProtocolError, OSError):
                writer.write(_response(connection, error.error_status_hint, {"error": str(error)}))
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _converse(self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: h11.Request | None = None
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                status, document = self._answer(request)
                writer.write(_response(connection, status, document, with_body=request.method != b"HEAD"))
                await writer.drain()
                if connection.our_state is h11.MUST_CLOSE:
                    return
                connection.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return

    def _answer(self, request: h11.Request) -> tuple[int, object]:
        path = request.target.decode("ascii").partition("?")[0]
        handler = self._routes.get(path)
        if handler is None:
            return 404, {"error": f"{path} is not known; there is {', '.join(sorted(self._routes))}"}
        if request.method not in (b"GET", b"HEAD"):
            return 405, {"error": f"{path} can be read only (GET)"}
        try:
            return 200, handler()
        except Exception:
            logger.exception("the answer to %s failed", path)
            return 500, {"error": "carpd has a fault; its log has the details"}


def _response(connection: h11.Connection, status: int, document: object, *, with_body: bool = True) -> bytes:
    body = json.dumps(document).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    response = h11.Response(status_code=status, headers=headers)
    parts = (response, h11.Data(data=body), h11.EndOfMessage()) if with_body else (response, h11.EndOfMessage())
    return b"".join(connection.send(part) or b"" for part in parts)
