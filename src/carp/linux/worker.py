"""One thread for everything that can be slow in the kernel: netlink writes wait for a lock that other processes hold.

Jobs run one at a time, the most urgent first; results come back to the event loop. The thread owns its netlink socket.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from enum import IntEnum
from itertools import count

from .netlink import Netlink

Job = Callable[[Netlink], object]
Done = Callable[[object], None]


class Urgency(IntEnum):
    """Which jobs go first."""

    TAKE = 0
    RELEASE = 1
    SETUP = 2
    LINK_DOWN = 3
    STOP = 9


class Worker:
    """The thread. Jobs of equal urgency run in the order of submission."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: queue.PriorityQueue[tuple[Urgency, int, Job | None, Done | None]] = queue.PriorityQueue()
        self._order = count()
        self._thread = threading.Thread(target=self._run, name="netlink", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to work; `done` callbacks run on this loop."""
        self._loop = loop
        self._thread.start()

    def submit(self, urgency: Urgency, job: Job, done: Done | None = None) -> None:
        """Have a job done; `done` receives its result, or the exception that it raised."""
        self._queue.put((urgency, next(self._order), job, done))

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
        self._queue.put((Urgency.STOP, next(self._order), None, None))
        self._thread.join()

    def _run(self) -> None:
        netlink = Netlink()
        try:
            while True:
                _, _, job, done = self._queue.get()
                if job is None:
                    return
                result: object
                try:
                    result = job(netlink)
                except Exception as error:
                    result = error
                if done is not None and self._loop is not None:
                    self._loop.call_soon_threadsafe(done, result)
        finally:
            netlink.close()
