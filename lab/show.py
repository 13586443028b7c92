"""How `make lab` looks: a live timeline and a coloured table on a terminal, plain lines and an aligned table elsewhere."""

import os
import threading
from collections.abc import Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .figures import Result
from .probe import Progress
from .scenes import BOTH, NOBODY, Audience, Case, sign
from .wait import now_ns

HEADINGS = ("case", "family", "takeover ms", "bound ms", "longest gap ms", "probes lost", "both answered ms", "")
_COLOURS = {"a": "green", "b": "blue", NOBODY: "red", BOTH: "magenta", "|": "bold yellow"}
VERDICT_COLOURS = {"ok": "green", "slow": "yellow", "early": "yellow", "two owners": "yellow", "WRONG": "bold red"}
_NAME_WIDTH = 22
_SECOND_NS = 1_000_000_000


class Show(Audience, Protocol):
    """An audience that also opens, says a word, closes, and prints the table at the end."""

    def open(self) -> None:
        """Start showing."""

    def say(self, text: str) -> None:
        """Print a line."""

    def close(self) -> None:
        """Stop showing."""

    def table(self, tallied: Sequence[Result]) -> None:
        """Print the table, if there is anything in it."""


def is_fancy(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal whose user wants colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def choose(stream: TextIO) -> Show:
    """Return the show that fits the stream."""
    return RichShow(stream) if is_fancy(stream) else PlainShow(stream)


def row(result: Result) -> tuple[str, ...]:
    """Return the cells of a result, in the order of the headings."""
    takeover = "none" if result.takeover_ns is None else f"{result.takeover_ns / 1e6:.1f}"
    return (
        result.case,
        result.family,
        takeover,
        result.bound.text(),
        f"{result.gap_ns / 1e6:.1f}",
        str(result.lost),
        str(result.both),
        result.verdict,
    )


class PlainShow:
    """Lines of text, for files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def open(self) -> None:
        """Start showing."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def begin(self, case: Case, expected_s: float) -> None:
        """Name the case."""
        self.say(f"{case.name}: {case.told} (about {expected_s:.1f} s)")

    def progress(self, progress: Progress) -> None:
        """Show nothing: lines come when the case is over."""

    def struck(self, at: int) -> None:
        """Show nothing."""

    def end(self, results: list[Result]) -> None:
        """Show the strips and what was wrong."""
        for result in results:
            self.say(f"  {result.family} {result.strip}")
        for fault in dict.fromkeys(fault for result in results for fault in result.faults):
            self.say(f"  WRONG: {fault}")

    def close(self) -> None:
        """Stop showing."""

    def table(self, tallied: Sequence[Result]) -> None:
        """Print the table."""
        if not tallied:
            return
        rows = [HEADINGS, *(row(result) for result in tallied)]
        widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
        self.say("")
        for cells in rows:
            left = (cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True))
            right = (cell.rjust(width) for cell, width in zip(cells[2:-1], widths[2:-1], strict=True))
            self.say("  ".join((*left, *right, cells[-1])).rstrip())


class RichShow:
    """A live picture: a bar for the running case, and for each family a strip whose cells are 50 ms wide."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._lock = threading.Lock()
        self._case: Case | None = None
        self._expected_ns = _SECOND_NS
        self._started = 0
        self._struck: int | None = None
        self._strips: dict[str, str] = {}
        self._before: dict[str, set[str]] = {}
        # It draws at once, so it comes last.
        self._live = Live(console=self._console, refresh_per_second=10, get_renderable=self._picture)

    def open(self) -> None:
        """Start the live picture."""
        self._live.start()

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        self._console.print(text, style="dim", highlight=False)

    def begin(self, case: Case, expected_s: float) -> None:
        """Start a bar and empty strips."""
        with self._lock:
            self._case, self._expected_ns = case, int(expected_s * _SECOND_NS)
            self._started, self._struck = now_ns(), None
            self._strips = {}
            self._before = {}

    def progress(self, progress: Progress) -> None:
        """Add a cell to each strip."""
        with self._lock:
            mark = ""
            if self._struck is not None and self._struck <= progress["at"]:
                mark, self._struck = "|", None
            for address, answers in progress["answers"].items():
                cell = sign(self._before.get(address, set()), set(answers))
                self._strips[address] = self._strips.get(address, "") + mark + cell
                self._before[address] = set(answers)

    def struck(self, at: int) -> None:
        """Mark the event in the strips."""
        with self._lock:
            self._struck = at

    def end(self, results: list[Result]) -> None:
        """Print the finished case above the picture."""
        with self._lock:
            self._case = None
        for result in results:
            self._console.print(self._line(result.case, result.family, result.strip, result.verdict))
        for fault in dict.fromkeys(fault for result in results for fault in result.faults):
            self._console.print(Text(f"  {fault}", style="bold red"))

    def close(self) -> None:
        """Stop the picture."""
        with self._lock:
            self._case = None
        self._live.stop()

    def table(self, tallied: Sequence[Result]) -> None:
        """Print the table."""
        if not tallied:
            return
        table = Table()
        for number, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if number < 2 or not heading else "right")
        for result in tallied:
            *cells, verdict = row(result)
            table.add_row(*cells, Text(verdict, style=VERDICT_COLOURS[verdict]))
        self._console.print(table)

    def _picture(self) -> Group:
        with self._lock:
            if self._case is None:
                return Group()
            bar = Table.grid(padding=(0, 1))
            done = min(now_ns() - self._started, self._expected_ns)
            bar.add_row(Text(self._case.name.ljust(_NAME_WIDTH), style="bold"), ProgressBar(self._expected_ns, done, width=40))
            lines = [self._line("", "IPv6" if ":" in address else "IPv4", signs, "") for address, signs in self._strips.items()]
            return Group(bar, *lines, Text(f"{self._case.told}: a green, b blue, nobody red, both magenta", style="dim"))

    def _line(self, name: str, family: str, signs: str, verdict: str) -> Text:
        room = max(10, self._console.width - _NAME_WIDTH - 14)
        line = Text(f"{name.ljust(_NAME_WIDTH)} {family} ")
        for one in signs[-room:]:
            line.append("|" if one == "|" else "█" if one != NOBODY else "·", style=_COLOURS.get(one, "white"))
        line.append(f" {verdict}", style=VERDICT_COLOURS.get(verdict, ""))
        return line
