"""The targets, each a row with what was measured and a verdict. All compare medians of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import failover, flooding, growth, stability
from .flood_sender import KINDS
from .plan import CARPD, CARPD_10, CARPD_10_PATIENT, KEEPALIVED, KEEPALIVED_10, UCARP
from .sample import Results

LATE_MS = 5.0
GAP_MS = 5.0
BACKUP_TIMES_KEEPALIVED = 3.0
BACKUP_PART_OF_UCARP = 0.1
PSS_MB = 40.0
SPREAD_MS = 48.0
MANY_CPU_S_PER_MIN = 30.0
"""Half of one processor."""
FLOOD_RATE = 50_000
CROWD = "255"
MANY = "4080 on 16 interfaces"
LEAST_FIT = 0.98
"""The coefficient of determination from which growth counts as linear."""
MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"


@dataclass(frozen=True)
class Row:
    """One target beside what was measured."""

    what: str
    target: str
    measured: str
    verdict: str


@dataclass(frozen=True)
class _Limit:
    """A figure of carpd and the most it may be; None in either means that it was not measured."""

    what: str
    target: str
    unit: str
    figure: float | None
    most: float | None
    beside: str = ""

    def row(self) -> Row:
        if self.figure is None or self.most is None:
            return Row(self.what, self.target, "", NOT_MEASURED)
        measured = f"{number(self.figure)} {self.unit}".strip() + (f" ({self.beside})" if self.beside else "")
        return Row(self.what, self.target, measured, MET if self.figure <= self.most else MISSED)


def rows(results: Results) -> list[Row]:
    """Judge a run."""
    return [limit.row() for limit in _limits(results)] + [_flood(results), *_linear(results)]


def number(value: float | None) -> str:
    """Write a figure with three significant digits."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _limits(results: Results) -> Iterator[_Limit]:
    def take(case: str, value: str) -> Callable[[str], float | None]:
        return lambda subject: results.median(failover.MEASURE, case, subject, value)

    late, both, gap = take("kill -9", "late_ms"), take("kill -9", "both_ms"), take("clean stop", "gap_ms")
    yield _limit(late, "takeover after kill -9, later than the protocol's own time", f"at most +{LATE_MS:g} ms", "ms", LATE_MS)
    yield _limit(both, "both hosts answer after kill -9", "0 ms", "ms", 0.0)
    yield _limit(gap, "clean stop, longest gap", f"at most {GAP_MS:g} ms", "ms", GAP_MS)
    took = take("kill -9", "takeover_ms")
    theirs = took(KEEPALIVED_10.name)
    yield _Limit(
        "takeover, class of 10 ms (carpd's interval is 3.9)",
        "no later than keepalived",
        "ms",
        took(CARPD_10.name),
        theirs,
        f"keepalived {number(theirs)}, patient carpd {number(took(CARPD_10_PATIENT.name)) or '-'}",
    )
    for case in results.cases(stability.MEASURE) or ["idle", "full load, realtime"]:
        ours, theirs = (
            results.median(stability.MEASURE, case, one.name, "false_takeovers") for one in (CARPD_10, KEEPALIVED_10)
        )
        what = f"false takeovers at 10 ms, {case}"
        seconds = number(results.median(stability.MEASURE, case, CARPD_10.name, "seconds"))
        yield _Limit(what, "no more than keepalived", "", ours, theirs, f"keepalived {number(theirs)}, for {seconds} s")
    yield from _crowd(results)


def _limit(figure: Callable[[str], float | None], what: str, target: str, unit: str, most: float) -> _Limit:
    peers = ", ".join(
        f"{one.program} {number(found)}" for one in (KEEPALIVED, UCARP) if (found := figure(one.name)) is not None
    )
    return _Limit(what, target, unit, figure(CARPD.name), most, peers)


def _crowd(results: Results) -> Iterator[_Limit]:
    def take(value: str, case: str = CROWD) -> tuple[float | None, float | None, float | None]:
        ours, keepalived, ucarp = (results.median(growth.MEASURE, case, one.name, value) for one in (CARPD, KEEPALIVED, UCARP))
        return ours, keepalived, ucarp

    def beside(keepalived: float | None, ucarp: float | None) -> str:
        return f"keepalived {number(keepalived) or '-'}, ucarp {number(ucarp) or '-'}"

    ours, keepalived, ucarp = take("cpu_master_s_per_min")
    what = "255 virtual hosts, CPU s/min, MASTER"
    yield _Limit(what, "at most keepalived's", "s/min", ours, keepalived, beside(keepalived, ucarp))
    ours, keepalived, ucarp = take("cpu_backup_s_per_min")
    most = None
    if keepalived is not None and ucarp is not None:
        most = min(BACKUP_TIMES_KEEPALIVED * keepalived, BACKUP_PART_OF_UCARP * ucarp)
    what, target = "255 virtual hosts, CPU s/min, BACKUP", "3 times keepalived's and 1/10 of ucarp's at most"
    yield _Limit(what, target, "s/min", ours, most, f"{beside(keepalived, ucarp)}; limit {number(most)}")
    ours, keepalived, ucarp = take("pss_master_mb")
    yield _Limit("255 virtual hosts, memory (PSS)", "at most 40 MB", "MB", ours, PSS_MB, beside(keepalived, ucarp))
    ours, keepalived, ucarp = take("spread_ms")
    what = "255 virtual hosts, all over after kill -9, first to last"
    late, their_late, _ = take("latest_late_ms")
    compared = f"{beside(keepalived, ucarp)}; the latest is late by {number(late)}, keepalived's by {number(their_late)}"
    yield _Limit(what, f"at most {SPREAD_MS:g} ms", "ms", ours, SPREAD_MS, compared)
    ours, seconds = (results.median(growth.MEASURE, MANY, CARPD.name, one) for one in ("cpu_master_s_per_min", "seconds"))
    what, lasted = "4,080 virtual hosts in one process, MASTER", f"for {number(seconds)} s"
    yield _Limit(what, "at most half a processor", "s/min", ours, MANY_CPU_S_PER_MIN, lasted)
    false = results.median(growth.MEASURE, MANY, CARPD.name, "false_takeovers")
    yield _Limit("4,080 virtual hosts, false takeovers", "none", "", false, 0.0, lasted)


def _flood(results: Results) -> Row:
    what, target = f"flood of {FLOOD_RATE:,} wrong advertisements a second", "no false takeover, the MASTER never missed"
    cases = [f"{kind}, {FLOOD_RATE:,}/s at {victim}" for kind in KINDS for victim in ("BACKUP", "MASTER")]
    figures = [
        [figure for case in cases for figure in results.figures(flooding.MEASURE, case, CARPD.name, name)]
        for name in ("false_takeovers", "missed_by_master")
    ]
    if not figures[0]:
        return Row(what, target, "", NOT_MEASURED)
    false, missed = (int(sum(one)) for one in figures)
    return Row(what, target, f"{false} false takeovers, {missed} missed", MET if false == missed == 0 else MISSED)


def _linear(results: Results) -> Iterator[Row]:
    """Judge growth by a straight line through the medians."""
    for value, unit in (("cpu_master_s_per_min", "s/min"), ("cpu_backup_s_per_min", "s/min"), ("pss_master_mb", "MB")):
        found = (
            (int(case.split()[0]), results.median(growth.MEASURE, case, CARPD.name, value))
            for case in results.cases(growth.MEASURE)
        )
        points = [(count, figure) for count, figure in found if figure is not None]
        what = f"growth of {value.removesuffix('_s_per_min').removesuffix('_mb').replace('_', ', ')}"
        if len(points) < 3:
            yield Row(what, "linear", "", NOT_MEASURED)
            continue
        base, slope, fit = line(points)
        shown = f"{number(base)} + {number(slope)} N {unit}, R² {fit:.3f}"
        yield Row(what, "linear", shown, MET if fit >= LEAST_FIT else MISSED)


def line(points: list[tuple[int, float]]) -> tuple[float, float, float]:
    """Return base and slope of the line of least squares, and the coefficient of determination."""
    mean_x, mean_y = (sum(part) / len(points) for part in zip(*points, strict=True))
    across = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / across if across else 0.0
    base = mean_y - slope * mean_x
    whole = sum((y - mean_y) ** 2 for _, y in points)
    left = sum((y - base - slope * x) ** 2 for x, y in points)
    return base, slope, 1 - left / whole if whole else 1.0
