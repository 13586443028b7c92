"""What waits to be told to the daemon: nothing is lost while its end is full, and of each check only the newest is kept."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from .orders import Checked, HookEnded, encode


class Outbox:
    """The sending half of the socket; `on_closed` is called when nobody reads any more."""

    def __init__(self, channel: socket.socket, on_closed: Callable[[], None]) -> None:
        self._socket = channel
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._ended: deque[HookEnded] = deque()
        self._checked: dict[str, Checked] = {}
        self._blocked = False

    def put_ended(self, message: HookEnded) -> None:
        """Tell the end of a hook; all are told, in this order."""
        self._ended.append(message)
        self._send()

    def put_checked(self, message: Checked) -> None:
        """Tell a result, in the place of one of the same check that could not be told yet."""
        self._checked.pop(message.name, None)
        self._checked[message.name] = message
        self._send()

    def forget(self, name: str) -> None:
        """Do not tell what waits of this check."""
        self._checked.pop(name, None)

    def close(self) -> None:
        """Send nothing more."""
        self._ended.clear()
        self._checked.clear()
        self._unblock()

    def _send(self) -> None:
        if not self._blocked:
            self._send_all()

    def _on_writable(self) -> None:
        self._unblock()
        self._send_all()

    def _unblock(self) -> None:
        if self._blocked:
            self._loop.remove_writer(self._socket)
            self._blocked = False

    def _send_all(self) -> None:
        try:
            # Somebody waits for the answers of hooks.
            while self._ended:
                self._socket.send(encode(self._ended[0]))
                self._ended.popleft()
            while self._checked:
                name = next(iter(self._checked))
                self._socket.send(encode(self._checked[name]))
                del self._checked[name]
        except BlockingIOError:
            self._blocked = True
            self._loop.add_writer(self._socket, self._on_writable)
        except OSError:
            self.close()
            self._on_closed()
