"""One thread for everything that can be slow in the kernel: netlink writes wait for a lock that other processes hold.

Jobs run one at a time, the most urgent first; results come back to the event loop. The thread owns its netlink socket.

What is in the way of an urgent job is less the kernel than the interpreter, which lets one of both threads run at a time: so
handing a job over is a few instructions, and the writes of one round of the loop become one and come back together.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from queue import SimpleQueue
from typing import NamedTuple

from .netlink import Netlink, Write, carry_out

Job = Callable[[Netlink], object]
Done = Callable[[object], None]

_WRITES_AT_ONCE = 32
"""So that the first ones can be told while the next ones are written."""

_TOLD_AT_ONCE = 16


class Urgency(IntEnum):
    """Which jobs go first."""

    TAKE = 0
    RELEASE = 1
    SETUP = 2
    LINK_DOWN = 3
    STOP = 4


class _Waiting(NamedTuple):
    """Either a job or a write, and neither at the end."""

    job: Job | None
    write: Write | None
    done: Done | None


class Worker:
    """The thread. Jobs of equal urgency run in the order of submission.

    Args:
        after_telling: called when some results have been told, for what can be done about all of them together.
    """

    def __init__(self, after_telling: Callable[[], None] = lambda: None) -> None:
        self._after_telling = after_telling
        self.is_telling = False
        """Whether results are being told; `after_telling` is still to come then."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: tuple[deque[_Waiting], ...] = tuple(deque() for _ in Urgency)
        """By urgency; this side appends, the thread takes away."""
        self._calls: SimpleQueue[None] = SimpleQueue()
        """The thread sleeps until there is one, and then does everything that waits."""
        self._told: deque[tuple[Done, object]] = deque()
        """What the loop is still to hear; the thread appends."""
        self._telling = False
        """Whether the loop is going to look at it."""
        self._woken_soon = False
        """Whether the thread is to be called when this round of the loop is over."""
        self._thread = threading.Thread(target=self._run, name="netlink", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work; `done` callbacks run on this loop."""
        self._loop = loop
        self._thread.start()

    def submit(self, urgency: Urgency, job: Job, done: Done | None = None) -> None:
        """Have a job done; `done` receives its result, or the exception that it raised."""
        self._put(urgency, _Waiting(job, None, done))

    def write(self, urgency: Urgency, write: Write, done: Done | None = None) -> None:
        """Have a write carried out when this round of the loop is over, with the others of its urgency.

        `done` receives None, or the exception that it raised.
        """
        assert self._loop is not None
        self._waiting[urgency].append(_Waiting(None, write, done))
        # Called at once for each of hundreds, the thread would stop the loop as often.
        if not self._woken_soon:
            self._woken_soon = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._woken_soon = False
        self._calls.put(None)

    async def run(self, urgency: Urgency, job: Job) -> object:
        """Have a job done and wait for its result; raises what it raised."""
        assert self._loop is not None
        future: asyncio.Future[object] = self._loop.create_future()

        def done(result: object) -> None:
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.submit(urgency, job, done)
        return await future

    def stop(self) -> None:
        """Finish all jobs and end the thread."""
        self._put(Urgency.STOP, _Waiting(None, None, None))
        self._thread.join()

    def _put(self, urgency: Urgency, waiting: _Waiting) -> None:
        self._waiting[urgency].append(waiting)
        self._calls.put(None)

    def _run(self) -> None:
        netlink = Netlink()
        try:
            while True:
                self._calls.get()
                while (waiting := next(filter(None, self._waiting), None)) is not None:
                    job, write, _ = first = waiting.popleft()
                    if job is not None:
                        self._tell([first], [_result(job, netlink)])
                    elif write is not None:
                        together = [first]
                        while waiting and waiting[0].write is not None and len(together) < _WRITES_AT_ONCE:
                            together.append(waiting.popleft())
                        self._tell(together, carry_out(netlink, [one.write for one in together if one.write is not None]))
                    else:
                        return
        finally:
            netlink.close()

    def _tell(self, finished: Iterable[_Waiting], results: Iterable[object]) -> None:
        self._told.extend((one.done, result) for one, result in zip(finished, results, strict=True) if one.done is not None)
        if self._loop is not None and self._told and not self._telling:
            self._telling = True
            self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        """Tell what came of jobs, a few in each round of the loop: what follows from each takes its time."""
        assert self._loop is not None
        try:
            self._tell_some()
        finally:
            # In this order: what the thread adds in between is seen by one side or the other.
            self._telling = False
            if self._told:
                self._telling = True
                self._loop.call_soon(self._hand_over)

    def _tell_some(self) -> None:
        self.is_telling = True
        try:
            for _ in range(min(len(self._told), _TOLD_AT_ONCE)):
                done, result = self._told.popleft()
                done(result)
        finally:
            self.is_telling = False
            self._after_telling()


def _result(job: Job, netlink: Netlink) -> object:
    try:
        return job(netlink)
    except Exception as error:
        return error
