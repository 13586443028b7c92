"""How the shares of hosts are shown: bars that are redrawn on a terminal, a block for each event elsewhere; and the table."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .balanced import Balanced, Watcher
from .shares import ShareResult
from .show import VERDICT_COLOURS, is_fancy

HEADINGS = (
    "event", "address", "% before", "% after", "takeover ms", "bound ms",
    "its pause ms", "others' pause", "by two", "by none", "",
)  # fmt: skip
_LEFT = 4
_WIDTH = 40
_COLOURS = ("green", "blue", "yellow", "magenta", "cyan", "red")
_FULL, _EMPTY = "█", "·"


class Bars(Watcher, Protocol):
    """A watcher that also opens, says a word, closes, and prints the table at the end."""

    def open(self) -> None:
        """Start showing."""

    def say(self, text: str) -> None:
        """Print a line."""

    def close(self) -> None:
        """Stop showing."""

    def table(self, results: Sequence[ShareResult]) -> None:
        """Print the table, if there is anything in it."""


def choose(stream: TextIO) -> Bars:
    """Return the bars that fit the stream."""
    return RichBars(stream) if is_fancy(stream) else PlainBars(stream)


def percent(share: float) -> str:
    """Return a share, 0..1, as people read it."""
    return f"{100 * share:.0f}%"


def bar(share: float, width: int = _WIDTH) -> str:
    """Return a bar; a share that is not nothing has one cell at least."""
    cells = max(round(share * width), 1 if share > 0 else 0)
    return _FULL * cells + _EMPTY * (width - cells)


def shares_text(shares: Mapping[str, float]) -> str:
    """Return the shares of hosts in one cell of the table."""
    return " ".join(f"{label} {100 * share:.0f}" for label, share in shares.items()) or "none"


def row(result: ShareResult) -> tuple[str, ...]:
    """Return the cells of a result, in the order of the headings."""
    return (
        f"{result.scene}: {result.event}",
        result.address,
        shares_text(result.before),
        shares_text(result.after),
        "none" if result.takeover_ns is None else f"{result.takeover_ns / 1e6:.1f}",
        result.bound.text(),
        f"{result.pause_ns / 1e6:.1f}",
        f"{result.others_pause_ns / 1e6:.1f}",
        str(result.by_two),
        str(result.by_none),
        result.verdict,
    )


def _faults(results: Iterable[ShareResult]) -> list[str]:
    return list(dict.fromkeys(fault for result in results for fault in result.faults))


class PlainBars:
    """Lines of text, for files and pipes: what the shares were before an event and what they are after it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._labels: list[str] = []
        self._told = ""

    def open(self) -> None:
        """Start showing."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._stream, flush=True)

    def begin(self, scene: Balanced, told: str) -> None:
        """Remember the names."""
        self._labels, self._told = scene.labels, f"{scene.name}: {told}"

    def progress(self, address: str, shares: Mapping[str, float]) -> None:
        """Show nothing: a block comes when the event is over."""

    def end(self, results: Sequence[ShareResult]) -> None:
        """Print the block."""
        self.say(self._told)
        width = max(map(len, self._labels))
        for result in results:
            self.say(f"  {result.address}")
            for label in self._labels:
                before, after = result.before.get(label, 0.0), result.after.get(label, 0.0)
                self.say(f"    {label.ljust(width)} {percent(before):>4} -> {percent(after):>4} {bar(after)}")
        for fault in _faults(results):
            self.say(f"  WRONG: {fault}")

    def close(self) -> None:
        """Stop showing."""

    def table(self, results: Sequence[ShareResult]) -> None:
        """Print the table."""
        if not results:
            return
        rows = [HEADINGS, *map(row, results)]
        widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADINGS))]
        self.say("")
        for cells in rows:
            padded = (
                cell.ljust(width) if column < _LEFT or column == len(HEADINGS) - 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            self.say("  ".join(padded).rstrip())


class RichBars:
    """A live picture: for each address a bar a host, redrawn each quarter of a second."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._lock = threading.Lock()
        self._told = ""
        self._labels: list[str] = []
        self._shares: dict[str, Mapping[str, float]] = {}
        # It draws at once, so it comes last.
        self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._picture)

    def open(self) -> None:
        """Start the live picture."""
        self._live.start()

    def say(self, text: str) -> None:
        """Print a line above the picture."""
        self._console.print(text, style="dim", highlight=False)

    def begin(self, scene: Balanced, told: str) -> None:
        """Start a picture for the event."""
        with self._lock:
            self._told, self._labels = f"{scene.name}: {told}", scene.labels
            self._shares = {}

    def progress(self, address: str, shares: Mapping[str, float]) -> None:
        """Draw the bars of an address anew."""
        with self._lock:
            self._shares[address] = shares

    def end(self, results: Sequence[ShareResult]) -> None:
        """Print what was wrong above the picture."""
        for fault in _faults(results):
            self._console.print(Text(f"  {fault}", style="bold red"))

    def close(self) -> None:
        """Stop the picture."""
        with self._lock:
            self._told = ""
            self._shares = {}
        self._live.stop()

    def table(self, results: Sequence[ShareResult]) -> None:
        """Print the table."""
        if not results:
            return
        table = Table()
        for number, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if number < _LEFT or not heading else "right")
        for result in results:
            *cells, verdict = row(result)
            table.add_row(*cells, Text(verdict, style=VERDICT_COLOURS[verdict]))
        self._console.print(table)

    def _picture(self) -> Group:
        with self._lock:
            lines = [Text(self._told, style="bold")] if self._told else []
            width = max(map(len, self._labels), default=0)
            for address, shares in sorted(self._shares.items()):
                lines.append(Text(f"  {address}", style="dim"))
                for number, label in enumerate(self._labels):
                    share = shares.get(label, 0.0)
                    line = Text(f"    {label.ljust(width)} {percent(share):>4} ")
                    lines.append(line.append(bar(share), style=_COLOURS[number % len(_COLOURS)]))
        return Group(*lines)
