"""How the firewalls' scene looks: a line that is drawn anew on a terminal, a line each second elsewhere; and the table."""

import threading
from collections.abc import Iterable
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .axe import Glance, Onlooker, Outcome, titles
from .show import VERDICT_COLOURS, is_fancy

_COLOURS = {"fw1": "green", "fw2": "blue", None: "red"}
_ACT_WIDTH = 6


class AxeShow(Onlooker, Protocol):
    """An onlooker that also opens, closes, and prints the table at the end."""

    def open(self) -> None:
        """Start showing."""

    def say(self, text: str) -> None:
        """Print a line."""

    def close(self) -> None:
        """Stop showing."""

    def table(self, outcomes: Iterable[Outcome]) -> None:
        """Print the table of each run."""


def choose(stream: TextIO) -> AxeShow:
    """Return the show that fits the stream."""
    return RichAxe(stream) if is_fancy(stream) else PlainAxe(stream)


def line(glance: Glance) -> str:
    """Return how it stands in one line."""
    lan, wan = (owner or "nobody" for owner in glance.owners)
    return (
        f"{glance.since_start_s:6.1f} s  {glance.act.ljust(_ACT_WIDTH)}  LAN {lan:6}  WAN {wan:6}"
        f"  {glance.megabytes_per_s:5.1f} MB/s  lost {glance.lost}  new ones broken {glance.broken}"
        f"  longest pause {glance.pause_s:.2f} s"
    )


class PlainAxe:
    """Lines of text, for files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown_s = -1

    def open(self) -> None:
        """Start showing."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def act(self, told: str) -> None:
        """Tell what happens."""
        self.say(told)

    def glance(self, glance: Glance) -> None:
        """Print one line each second."""
        if int(glance.since_start_s) != self._shown_s:
            self._shown_s = int(glance.since_start_s)
            self.say(f"  {line(glance)}")

    def close(self) -> None:
        """Stop showing."""

    def table(self, outcomes: Iterable[Outcome]) -> None:
        """Print the tables."""
        for outcome in outcomes:
            rows = [titles(), *((row.what, row.measured, row.allowed, row.verdict) for row in outcome.rows)]
            widths = [max(len(cells[column]) for cells in rows) for column in range(len(titles()))]
            self.say("")
            for cells in rows:
                self.say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


class RichAxe:
    """A live line: who owns LAN and WAN, what flows, what was lost."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._lock = threading.Lock()
        self._glance: Glance | None = None
        # It draws at once, so it comes last.
        self._live = Live(console=self._console, refresh_per_second=10, get_renderable=self._picture)

    def open(self) -> None:
        """Start the live line."""
        self._live.start()

    def say(self, text: str) -> None:
        """Print a line above it."""
        self._console.print(text, style="dim", highlight=False)

    def act(self, told: str) -> None:
        """Keep the last line of the act before, and tell what happens."""
        with self._lock:
            last, self._glance = self._glance, None
        if last:
            self._console.print(_coloured(last))
        self._console.print(Text(told, style="bold"))

    def glance(self, glance: Glance) -> None:
        """Draw the line anew."""
        with self._lock:
            self._glance = glance

    def close(self) -> None:
        """Stop the line."""
        self._live.stop()

    def table(self, outcomes: Iterable[Outcome]) -> None:
        """Print the tables."""
        for outcome in outcomes:
            table = Table(*titles())
            for row in outcome.rows:
                table.add_row(row.what, row.measured, row.allowed, Text(row.verdict, style=VERDICT_COLOURS[row.verdict]))
            self._console.print(table)

    def _picture(self) -> Text:
        with self._lock:
            return _coloured(self._glance) if self._glance else Text("")


def _coloured(glance: Glance) -> Text:
    text = Text(line(glance))
    for label, colour in _COLOURS.items():
        text.highlight_words([label or "nobody"], style=colour)
    return text
