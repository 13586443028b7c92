"""The attendant at work: takes orders from the daemon and ends with it, and with everything that it runs.

The descriptors are inherited. The other end of the socket pair belongs to the daemon alone, which is also who made the pair.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping

from .checks import Checks
from .hooks import Hooks
from .orders import MAX_MESSAGE_BYTES, Forget, Hook, Message, Watch, decode
from .ordinary import become, become_ordinary, bind_to_parent, drop_lent_capabilities
from .outbox import Outbox
from .ping import Echo
from .process import Programs

logger = logging.getLogger(__name__)

_MOST_READ_AT_ONCE = 64


class Service:
    """Serves one daemon. `pings` are the descriptors of raw ICMP sockets by IP version."""

    def __init__(self, channel: socket.socket, pings: Mapping[int, int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = channel
        self._socket.setblocking(False)
        self._over = asyncio.Event()
        self._outbox = Outbox(channel, self._over.set)
        self._programs = Programs()
        self._echoes = _echoes(pings)
        self._hooks = Hooks(self._programs, self._outbox.put_ended)
        self._checks = Checks(self._outbox.put_checked, self._programs, self._echoes)

    async def run(self) -> None:
        """Work until the daemon is gone or SIGTERM comes, and leave nothing running."""
        self._loop.add_signal_handler(signal.SIGTERM, self._over.set)
        self._loop.add_reader(self._socket, self._on_readable)
        try:
            await self._over.wait()
        finally:
            self._loop.remove_reader(self._socket)
            await self._stop()

    async def _stop(self) -> None:
        self._outbox.close()
        try:
            await self._hooks.stop()
            await self._checks.stop()
        finally:
            await self._programs.stop()
        for echo in self._echoes.values():
            echo.close()
        self._socket.close()

    def _on_readable(self) -> None:
        try:
            for _ in range(_MOST_READ_AT_ONCE):
                raw, _, flags, _ = self._socket.recvmsg(MAX_MESSAGE_BYTES)
                if not raw:
                    self._over.set()
                    return
                self._take(raw, truncated=bool(flags & socket.MSG_TRUNC))
        except BlockingIOError:
            pass
        except OSError:
            self._over.set()

    def _take(self, raw: bytes, *, truncated: bool) -> None:
        if truncated:
            logger.warning("an order is ignored: it is longer than %d bytes", MAX_MESSAGE_BYTES)
            return
        try:
            self._carry_out(decode(raw))
        except Exception as error:
            # One bad order must not end the others.
            logger.warning("an order is ignored: %s", error)

    def _carry_out(self, order: Message) -> None:
        match order:
            case Watch():
                self._outbox.forget(order.check.name)
                self._checks.watch(order.check)
            case Forget():
                self._outbox.forget(order.name)
                self._checks.forget(order.name)
            case Hook():
                self._hooks.take(order)
            case _:
                raise ValueError(f"{type(order).__name__} is not for the attendant")


def serve(descriptor: int, pings: Mapping[int, int], user: str, *, activated: bool) -> None:
    """Be the attendant of the daemon at the other end of this descriptor, until it is gone.

    It becomes this user, unless `user` is "". `activated` says that a service manager started this process, which is no child
    of the daemon then.

    Raises:
        KeyError: there is no such user.
        OSError: this process may not become that user.
    """
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    become_ordinary()
    if user:
        become(user)
    if activated:
        drop_lent_capabilities()
    # The kernel forgets it when a process becomes another user, so it comes last.
    if not activated and not bind_to_parent(channel):
        return

    async def work() -> None:
        await Service(channel, pings).run()

    asyncio.run(work())


def _echoes(pings: Mapping[int, int]) -> dict[int, Echo]:
    echoes = {}
    for version, descriptor in pings.items():
        try:
            echoes[version] = Echo(version, descriptor)
        except OSError as error:
            logger.warning("descriptor %d is no ping socket for IPv%d: %s", descriptor, version, error)
    return echoes
