"""`python -m bench.report`: docs/benchmarks.md and its pictures, made from bench/results/results.json."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import failover, flooding, growth, path, stability
from .plots import strip
from .sample import Results, Spread
from .targets import Row, number, rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
FILE = "results.json"

UNITS = {
    "_s_per_min": "s/min",
    "_ms": "ms",
    "_us": "us",
    "_mb": "MB",
    "_percent": "%",
    "_bytes_per_s": "bytes/s",
    "_s": "s",
}
INTRODUCTION = """# Benchmarks

Made by `make bench` (root, some 21 minutes), which installs ucarp and keepalived from Debian, runs all programs on one
machine in the same run, and writes this page and its pictures from `bench/results/results.json`. `make bench QUICK=1` shows
in 3 minutes that it runs, and `STABLE=600` watches stability for ten minutes; neither a quick run nor a partial one touches
this page. No BSD is in it: their CARP is part of the kernel, and there is no daemon to kill.

Two hosts, a and b, are network namespaces on a bridge; a is preferred. A client asks the shared address each millisecond.
Instants of frames are the kernel's, at the switch port. Failovers of one virtual host are repeated two or three times, two
pairs at a time where the interval is a second; all else is measured once, and false takeovers of all pairs at the same time.
A figure is the median, with the least and the most in brackets where there are several; x is its ratio to carpd's.

- *takeover*: until b answers the client. *late*: how much of that is beyond the protocol's own time, from the last
  advertisement of a, three intervals and a skew. With a virtual MAC the switch brings questions to a, which still answers
  when its program was killed, until b has told it otherwise.
- *kill -9* hits all processes of a program, and nothing starts them again: keepalived's parent, were it left, would start
  its child again and mend most of what follows. *both*: for how long both hosts answered ARP, of the 1.5 s that are watched.
- *gap*: the longest time without an answer.
- *startup*: until all of N are MASTER. *spread*: from the first address to the last that is announced after kill -9; *latest
  late*: how late the latest is by its own last advertisement. The instances of other programs advertise at different
  moments, and their spread is those moments'; carpd's advertise together, and its latest is what the work takes.
- *CPU* is that of the program's processes; what the kernel does for them in interrupts, filters included, is nobody's.

Priorities and advskews are those with which each program waits as little as its protocol allows. CARP counts in 1/256 s: in
the class of 10 ms a advertises every 3.9 ms and b waits for 23 ms, or, "patient", 7.8 ms and 35 ms; VRRP advertises every 10
ms and waits for 30 ms. carpd gives a MASTER a moment more when it wakes up late for its timer
([differences](differences.md)).

Where carpd is behind: after kill -9 nobody answers from the moment its fence closes until the takeover, while the addresses
of a killed ucarp or keepalived go on answering; it starts, and so returns, a second later than a program in C; one virtual
host costs an interpreter's memory and its timers; it advertises 1 ms after its timer where keepalived needs 0.2; it hears a
flood with its own source address, which others' kernels refuse on their raw sockets. Watched for longer than the minute
here, the pair that waits for 23 ms takes over wrongly more often than keepalived, the patient one does not
([figures](performance.md)). Where a target is missed, [where the time goes](performance.md) shows why.
"""
FLOOD_NOTE = (
    "The flood comes from the victim's own switch port; CPU is the victim's, in percent of one processor. *missed* "
    "and *late* are advertisements that the MASTER did not send in time. What a flooded BACKUP does not hear shows in "
    "false takeovers only, and a flood that is shorter than its patience cannot show that: the pairs of 100 ms are "
    "the test. VRRP has no digest here: its wrong checksum stands for the wrong digest."
)
PLOTS: tuple[tuple[str, str, str, str, str], ...] = (
    (failover.MEASURE, "kill -9", "late_ms", "Takeover after kill -9, later than the protocol's own time", "ms"),
    (failover.MEASURE, "kill -9", "takeover_ms", "Takeover after kill -9", "ms"),
    (failover.MEASURE, "clean stop", "gap_ms", "Clean stop, longest gap", "ms"),
    (failover.MEASURE, "link cut", "takeover_ms", "Takeover after a link cut", "ms"),
    (failover.MEASURE, "silent port block", "takeover_ms", "Takeover after a silent port block", "ms"),
    (failover.MEASURE, "return", "gap_ms", "Return of the preferred host, longest gap", "ms"),
    (path.MEASURE, "1 address", "due_to_last_announcement_us", "From the timer to the last announcement, 1 address", "us"),
    (
        path.MEASURE,
        "255 addresses",
        "due_to_last_announcement_us",
        "From the timer to the last announcement, 255 addresses",
        "us",
    ),
)


def page(results: Results, pictures: Sequence[tuple[str, str]]) -> str:
    """Return the page; `pictures` are file names, as links go from the page, with titles."""
    return "\n".join([INTRODUCTION, *_about(results), *_verdicts(results), *_measures(results), *_pictures(pictures)])


def draw(results: Results, directory: Path) -> list[tuple[str, str]]:
    """Write the pictures of what was measured; return their paths and titles."""
    made = []
    for measure, case, value, title, unit in PLOTS:
        figures = {one: results.figures(measure, case, one, value) for one in results.subjects(measure, case)}
        if any(figures.values()):
            file = directory / f"{measure}-{case}-{value}.svg".replace(" ", "-")
            file.write_text(strip(title, unit, figures))
            made.append((str(file), title))
    return made


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return ["| " + " | ".join(one) + " |" for one in (header, ["---"] * len(header), *lines)] + [""]


def verdict_lines(judged: Sequence[Row]) -> list[str]:
    """Return the verdicts for a terminal, one line each."""
    widths = [max(len(getattr(row, field)) for row in judged) for field in ("what", "target", "measured")]
    return [
        f"{row.what:{widths[0]}}  {row.target:{widths[1]}}  {row.measured:{widths[2]}}  {row.verdict.upper()}" for row in judged
    ]


def ratio_lines(results: Results) -> list[str]:
    """Return each figure beside carpd's of the same interval, for a terminal."""
    lines = []
    for measure in (failover.MEASURE, growth.MEASURE, path.MEASURE, stability.MEASURE, flooding.MEASURE):
        for case in results.cases(measure):
            lines.append(f"\n{measure}: {case}")
            values = _values(results, measure, case)
            for subject, *cells in _lines(results, measure, case):
                lines.append(f"  {subject}: " + ", ".join(f"{name} {cell}" for name, cell in zip(values, cells, strict=True)))
    return lines


def _about(results: Results) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    options = ", ".join(f"{name} {value}" for name, value in results.options.items())
    versions = [[name, version] for name, version in results.versions.items()]
    skipped = [f"Left out for want of time: {', '.join(results.skipped)}.", ""] if results.skipped else []
    faults = [f"- {one.subject}, {one.measure}, {one.case}: {one.fault}" for one in results.faults()]
    told = ["What did not work:", "", *faults, ""] if faults else []
    about = f"The machine: {machine}. The run: {options}; {results.seconds / 60:.1f} minutes."
    return [*table(["Program", "Version"], versions), about, "", *skipped, *told]


def _verdicts(results: Results) -> list[str]:
    lines = [[row.what, row.target, row.measured, row.verdict] for row in rows(results)]
    return ["## Targets", "", *table(["", "target", "carpd", "verdict"], lines)]


def _measures(results: Results) -> Iterator[str]:
    titles = {
        failover.MEASURE: "One virtual host",
        growth.MEASURE: "Many virtual hosts",
        path.MEASURE: "From the timer to the last announcement",
        stability.MEASURE: "False takeovers",
        flooding.MEASURE: "Floods",
    }
    for measure, title in titles.items():
        cases = results.cases(measure)
        if not cases:
            continue
        yield f"## {title}\n"
        if measure == flooding.MEASURE:
            yield FLOOD_NOTE + "\n"
        for case in cases:
            yield f"### {case}\n"
            lines = [[*cells] for cells in _lines(results, measure, case)]
            width = max((len(cells) for cells in lines), default=0)
            if width:
                header = ["", *_values(results, measure, case)]
                yield "\n".join(table(header, lines))


def _lines(results: Results, measure: str, case: str) -> Iterator[list[str]]:
    values = _values(results, measure, case)
    reference = {
        value: found
        for value in values
        for one in results.subjects(measure, case)
        if one.startswith("carpd") and (found := results.median(measure, case, one, value)) is not None
    }
    for subject in results.subjects(measure, case):
        cells = [subject]
        for value in values:
            ours = _reference(results, measure, case, subject, value, reference)
            cells.append(_cell(results.spread(measure, case, subject, value), ours, value))
        yield cells


def _reference(results: Results, measure: str, case: str, subject: str, value: str, usual: dict[str, float]) -> float | None:
    """Return carpd's median at the same interval, or at the only one it was measured at."""
    if subject.startswith("carpd"):
        return None
    klass = next((klass for klass in ("100 ms", "10 ms", "1 s") if f" {klass}" in subject), "1 s")
    same = results.median(measure, case, f"carpd {klass}", value)
    return same if same is not None else usual.get(value)


def _cell(spread: Spread | None, ours: float | None, value: str) -> str:
    if spread is None:
        return "-"
    shown = f"{number(spread.median)} {_unit(value)}".strip()
    if spread.count > 1:
        shown += f" ({number(spread.least)}..{number(spread.most)})"
    if ours is not None and ours > 0 and spread.median > 0:
        shown += f", x{spread.median / ours:.2g}"
    return shown


def _values(results: Results, measure: str, case: str) -> list[str]:
    return list(
        dict.fromkeys(value for one in results.samples if (one.measure, one.case) == (measure, case) for value in one.values)
    )


def _unit(value: str) -> str:
    return next((unit for ending, unit in UNITS.items() if value.endswith(ending)), "")


def _pictures(pictures: Sequence[tuple[str, str]]) -> list[str]:
    return ["## Distributions", "", *(f"![{title}]({file})\n" for file, title in pictures)] if pictures else []


def write(results: Results, directory: Path, document: Path) -> None:
    """Write pictures into a directory and the page that shows them."""
    pictures = draw(results, directory)
    here = document.resolve().parent
    document.write_text(page(results, [(os.path.relpath(file, here), title) for file, title in pictures]))


def main() -> int:
    """Make the page again from the file of a run."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the directory of the run")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    write(Results.read(arguments.results / FILE), arguments.results.resolve(), arguments.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
