"""The control socket: HTTP and JSON over a unix socket, so that `curl --unix-socket` works.

Root and the group carp may ask; the kernel says who it is that asks.
"""

import asyncio
import contextlib
import grp
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from .conversation import Conversation
from .routes import Route, Routes

_GROUP = "carp"
_MODE = 0o660
_CHECK_PATIENCE_S = 2
_CREDENTIALS = struct.Struct("=iII")
"""Of SO_PEERCRED, unix(7): pid, uid, gid."""


class SocketInUseError(Exception):
    """Another process listens on the control socket."""


class Control:
    """The server: listens at `path` and answers by `routes`."""

    def __init__(self, path: Path, routes: Iterable[Route] = ()) -> None:
        self._path = path
        self._routes = Routes(routes)
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
        conversation = Conversation(reader, writer, self._routes, peer_uid(writer))
        task = asyncio.get_running_loop().create_task(conversation.run())
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """Return the uid of the process that connected."""
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    assert isinstance(uid, int)
    return uid
