"""What a program writes on one stream: the beginning is kept, the rest is thrown away slowly enough to cost nothing.

A program that writes without end is held up by its full pipe instead of keeping the attendant busy, and is never ended by a
broken one.
"""

import asyncio
import contextlib
import os

MOST_KEPT_BYTES = 4096
MOST_TEXT_CHARACTERS = 120
_READ_BYTES = 1 << 16
_PAUSE_S = 0.02
"""Between two readings of what is thrown away: 64 KiB each, some 3 MB/s."""


class Output:
    """A pipe whose `write_end` is for the program; `begin` or `close` follows as soon as that was started or was not."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._kept = bytearray()
        self._pause: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether nobody can write any more."""
        return self._read_end < 0

    @property
    def kept(self) -> bytes:
        """What was written first, at most MOST_KEPT_BYTES."""
        return bytes(self._kept)

    def begin(self) -> None:
        """Leave writing to the program, and begin to read."""
        os.close(self.write_end)
        self.write_end = -1
        self._resume()

    def read_rest(self) -> None:
        """Keep what is in the pipe already."""
        while not self.ended and len(self._kept) < MOST_KEPT_BYTES and self._read():
            pass

    def close(self) -> None:
        """Stop reading; whoever writes afterwards gets SIGPIPE."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1
        if self.ended:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._read_end = -1

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._read_end, self._on_readable)

    def _on_readable(self) -> None:
        self._read()
        if not self.ended and len(self._kept) >= MOST_KEPT_BYTES:
            self._loop.remove_reader(self._read_end)
            self._pause = self._loop.call_later(_PAUSE_S, self._resume)

    def _read(self) -> bool:
        """Read once; tell whether there may be more."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._read_end, _READ_BYTES)
            self._kept += data[: MOST_KEPT_BYTES - len(self._kept)]
            if not data:
                self.close()
            return bool(data)
        return False


def last_line(raw: bytes) -> str:
    """Return the last line that says something, printable and at most MOST_TEXT_CHARACTERS long."""
    lines = (line.strip() for line in reversed(raw.decode(errors="replace").splitlines()))
    found = next((line for line in lines if line), "")
    return "".join(character if character.isprintable() else " " for character in found)[:MOST_TEXT_CHARACTERS]
