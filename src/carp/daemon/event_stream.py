"""What happens, told to whoever listens: published once, sent to each listener as server-sent events.

A listener that does not keep up is given up; it costs the others nothing. Each stream starts with the state of every virtual
host, so nobody has to ask twice.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from .pacing import Turns
from .routes import Stream

Publish = Callable[[str, Mapping[str, Any]], None]

MOST_WAITING = 16384
"""Thousands of virtual hosts may change at once, when their parent goes down: that alone makes no listener slow."""
HEARTBEAT_S = 15.0
_HEARTBEAT = b": still here\n\n"
_CONTENT_TYPE = "text/event-stream"


@dataclass(frozen=True)
class Event:
    """One thing that happened; it is written out when the first listener wants it."""

    number: int
    kind: str
    document: Mapping[str, Any]
    at: datetime

    @cached_property
    def encoded(self) -> bytes:
        """The event as it is sent."""
        data = {"event": self.kind, "at": self.at.isoformat(timespec="milliseconds"), **self.document}
        return f"event: {self.kind}\nid: {self.number}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass(eq=False)
class _Listener:
    """What waits for one client; `given_up` resolves when it is too much."""

    given_up: asyncio.Future[None]
    waiting: deque[Event] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, event: Event) -> bool:
        """Let an event wait; tell whether there was room."""
        if len(self.waiting) >= MOST_WAITING:
            self.waiting.clear()
            if not self.given_up.done():
                self.given_up.set_result(None)
            return False
        self.waiting.append(event)
        self.woken.set()
        return True

    def take(self) -> Iterator[bytes]:
        """Take everything that waits."""
        while self.waiting:
            yield self.waiting.popleft().encoded


class Events:
    """Where events are published and listened to."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._listeners: set[_Listener] = set()
        self._published = 0

    def publish(self, kind: str, document: Mapping[str, Any]) -> None:
        """Tell every listener; `document` is not changed afterwards."""
        self._published += 1
        if not self._listeners:
            return
        event = Event(self._published, kind, document, datetime.now(UTC))
        slow = {listener for listener in self._listeners if not listener.add(event)}
        self._listeners -= slow

    def listen(self, states: Callable[[], Iterator[bytes]]) -> Stream:
        """Make a stream of what happens from now on; `states` are the pieces of the JSON that it starts with."""
        listener = _Listener(asyncio.get_running_loop().create_future())
        return Stream(self._feed(listener, states), _CONTENT_TYPE, endless=True, given_up=listener.given_up)

    async def _feed(self, listener: _Listener, states: Callable[[], Iterator[bytes]]) -> AsyncGenerator[bytes, None]:
        self._listeners.add(listener)
        try:
            yield f"event: status\nid: {self._published}\ndata: ".encode()
            async with aclosing(self._turns.pace(states())) as pieces:
                async for piece in pieces:
                    yield piece
            yield b"\n\n"
            while True:
                if not await _woken(listener):
                    yield _HEARTBEAT
                async with aclosing(self._turns.pace(listener.take())) as pieces:
                    async for piece in pieces:
                        yield piece
        finally:
            self._listeners.discard(listener)


async def _woken(listener: _Listener) -> bool:
    """Wait for an event, but not for too long; tell whether there is one."""
    try:
        async with asyncio.timeout(HEARTBEAT_S):
            await listener.woken.wait()
    except TimeoutError:
        return False
    listener.woken.clear()
    return True
