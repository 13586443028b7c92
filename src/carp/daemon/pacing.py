"""Long answers made a little at a time, so that a timer waits for one such turn at most.

After each turn nobody has one for a while: a process that always wants the processor is made to wait by the kernel when others
want it too, and its timers with it. Clients that ask for the same thing therefore share what is made.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

_TURN_S = 0.0003
_PAUSE_S = 0.001
_GATHERED_BYTES = 1 << 16


class Turns:
    """Everyone who makes a long answer takes turns with all others."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def pace(self, pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Make the pieces, and gather them to what is worth sending."""
        loop = asyncio.get_running_loop()
        gathered = bytearray()
        more = True
        while more:
            await self._turn.acquire()
            try:
                more = _make(pieces, gathered)
            finally:
                loop.call_later(_PAUSE_S, self._turn.release)
            if gathered and (len(gathered) >= _GATHERED_BYTES or not more):
                yield bytes(gathered)
                gathered.clear()


class Shared:
    """An answer that is made once for everybody who asked before it was begun.

    Args:
        make: begins to make it.
    """

    def __init__(self, turns: Turns, make: Callable[[], Iterator[bytes]]) -> None:
        self._turns = turns
        self._make = make
        self._one_at_a_time = asyncio.Lock()
        self._next: _Copy | None = None

    async def ask(self) -> AsyncGenerator[bytes, None]:
        """Get the answer in pieces; nothing in it is older than this question."""
        copy = self._next
        if copy is None:
            copy = self._next = _Copy()
            copy.maker = asyncio.get_running_loop().create_task(self._fill(copy))
        copy.readers += 1
        try:
            read = 0
            while True:
                changed = copy.changed
                while read < len(copy.chunks):
                    yield copy.chunks[read]
                    read += 1
                if copy.error is not None:
                    raise copy.error
                if copy.is_whole:
                    return
                await changed.wait()
        finally:
            copy.readers -= 1
            if copy.readers == 0:
                self._abandon(copy)

    async def _fill(self, copy: "_Copy") -> None:
        try:
            async with self._one_at_a_time:
                # Whoever asks from now on gets another one.
                self._next = None
                async with aclosing(self._turns.pace(self._make())) as chunks:
                    async for chunk in chunks:
                        copy.chunks.append(chunk)
                        copy.tell()
            copy.is_whole = True
        except Exception as error:
            copy.error = error
        copy.tell()

    def _abandon(self, copy: "_Copy") -> None:
        if copy.maker is not None:
            copy.maker.cancel()
        if self._next is copy:
            self._next = None


class _Copy:
    """One answer as far as it is made."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.is_whole = False
        self.error: Exception | None = None
        self.changed = asyncio.Event()
        self.maker: asyncio.Task[None] | None = None
        self.readers = 0

    def tell(self) -> None:
        """Wake those who read it."""
        self.changed.set()
        self.changed = asyncio.Event()


def _make(pieces: Iterator[bytes], gathered: bytearray) -> bool:
    """Make pieces for as long as a turn is; tell whether there are more."""
    until = time.monotonic() + _TURN_S
    for piece in pieces:
        gathered += piece
        if time.monotonic() >= until:
            return True
    return False
