"""Keeps the attendant: starts it when there is something for it to do, and again when it ends."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable

from ..attendant import orders
from ..attendant.orders import Checked, Hook, HookEnded, HookKind, Message
from ..attendant.ping import icmp_sockets
from ..config.errors import shown
from .chronicle import logger

PLACE = "CARP_ATTENDANT"
"""The environment variable that holds the path of the attendant's socket, where a service manager starts it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LASTING_S = 60.0
"""After one that lived so long the pauses begin anew."""
_MOST_WAITING = 4096
"""Hooks for one that does not listen; what it is to watch is limited by the configuration."""
_MOST_AT_ONCE = 64
_SOCKET_BYTES = 4 * orders.MAX_MESSAGE_BYTES
_END_PATIENCE_S = 3.0


class Attendance:
    """The attendant's process and the socket to it. Nothing here blocks the loop.

    Args:
        user: whom it runs as, unless a service manager starts it.
        received: gets what it says.
        began: returns what a new attendant is to be told first.
        lost: is called when it has ended; what was asked of it will not be answered.
    """

    def __init__(
        self,
        user: str,
        received: Callable[[Message], None],
        began: Callable[[], Iterable[Message]],
        lost: Callable[[], None],
    ) -> None:
        self.user = user
        self._received = received
        self._began = began
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self._pause_s = _FIRST_PAUSE_S
        self._started_at = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False
        self._place = os.environ.get(PLACE, "")

    @property
    def runs(self) -> bool:
        """Whether there is one that listens."""
        return self._socket is not None

    def send(self, message: Message) -> bool:
        """Tell it something; return whether there is anyone to be told."""
        if self._socket is None or (isinstance(message, Hook) and len(self._waiting) >= _MOST_WAITING):
            return False
        raw = orders.encode(message)
        if len(raw) > orders.MAX_MESSAGE_BYTES:
            logger.error("the attendant cannot be told %d bytes at once", len(raw))
            return False
        self._waiting.append(raw)
        self._flush()
        return self._socket is not None

    def start(self) -> None:
        """Start it unless it runs; it is told what it has to know."""
        if self._stopped or self._socket is not None or self._retry is not None:
            return
        try:
            ours = self._connect(self._place) if self._place else self._spawn()
        except OSError as error:
            self._cannot_start(error)
            return
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        self._socket = ours
        self._started_at = self._loop.time()
        self._loop.add_reader(ours.fileno(), self._read)
        for message in self._began():
            self.send(message)

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = {"--socket": theirs, **{_ICMP_OPTION[version]: one for version, one in icmp_sockets()}}
        try:
            numbers = [word for option, one in passed.items() for word in (option, str(one.fileno()))]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carp.attendant", *numbers, "--user", self.user],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[one.fileno() for one in passed.values()],
                cwd="/",
                env={key: value for key, value in os.environ.items() if key not in _NOT_FOR_IT},
            )
        except OSError:
            ours.close()
            raise
        finally:
            for one in passed.values():
                one.close()
        return ours

    def _connect(self, place: str) -> socket.socket:
        """Reach one that the service manager starts for each connection."""
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            ours.connect(place)
        except OSError:
            ours.close()
            raise
        return ours

    def restart(self) -> None:
        """End it and start another one at once, such as for another user."""
        if self._socket is not None:
            self._hang_up()
            self._pause_s = _FIRST_PAUSE_S
            self.start()

    async def stop(self) -> None:
        """End it, and everything that it runs with it."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        process = self._process
        if self._socket is not None:
            self._hang_up()
        if process is not None:
            await asyncio.to_thread(_reap, process)

    def _read(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            if self._socket is None:
                return
            try:
                raw = self._socket.recv(orders.MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                raw = b""
            if not raw:
                self._ended()
                return
            try:
                message = _answer(raw)
            except ValueError as error:
                logger.error("the attendant speaks nonsense: %s", error)
                continue
            self._received(message)

    def _flush(self) -> None:
        assert self._socket is not None
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                self._ended()
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _ended(self) -> None:
        lived_s = self._loop.time() - self._started_at
        self._hang_up()
        if lived_s > _LASTING_S:
            self._pause_s = _FIRST_PAUSE_S
        logger.error("the attendant ended: no hooks and checks until it is started again, in %.0f s", self._pause_s)
        self._lost()
        self._plan_retry()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._waiting.clear()
        process, self._process = self._process, None
        if process is not None and not self._stopped:
            self._loop.run_in_executor(None, _reap, process)

    def _cannot_start(self, error: OSError) -> None:
        logger.error("hooks and checks cannot run: %s", error)
        self._plan_retry()

    def _plan_retry(self) -> None:
        def again() -> None:
            self._retry = None
            self.start()

        if not self._stopped:
            self._retry = self._loop.call_later(self._pause_s, again)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


_ICMP_OPTION = {4: "--icmp", 6: "--icmp6"}
_NOT_FOR_IT = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"})


def _answer(raw: bytes) -> Message:
    """Read what it says; it is not trusted, as it runs for somebody else.

    Raises:
        ValueError: it may not say that.
    """
    match orders.decode(raw):
        case (
            Checked(name=str(), holds=bool(), detail=str())
            | HookEnded(queue=str(), serial=int(), kind=HookKind(), problem=str()) as message
        ):
            return message
        case other:
            raise ValueError(f"not its place to say: {shown(str(other))}")


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end, which its closed socket asks for; insist if it does not come."""
    try:
        process.wait(_END_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
