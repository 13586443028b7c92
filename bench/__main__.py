"""`python -m bench`: carpd, ucarp and keepalived in one run. Prints tables and verdicts; writes JSON, pictures and the page.

The exit status says whether everything ran, never how fast: 0 if it did, 1 if something of carpd did not work, 2 if the run
cannot begin.
"""

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.host import program
from lab.netns import left_by, sweep

from . import failover, flooding, growth, path, plan, report, stability
from .carpd import Carpd
from .keepalived import Keepalived
from .sample import Results, Sample, this_machine
from .subject import VHIDS, Shape, Subject
from .targets import rows
from .ucarp import Ucarp

ADAPTERS = {"carpd": Carpd, "ucarp": Ucarp, "keepalived": Keepalived}
MEASURES = ("failover", "path", "growth", "many", "flood", "stability")

OPEN_FILES = 1 << 18


@dataclass(frozen=True)
class Step:
    """A part of the run that yields samples: what it is called, and about how long it takes, in seconds."""

    name: str
    measure: str
    seconds: float
    play: Callable[[], Iterable[Sample]]


def _steps(extent: plan.Extent) -> Iterator[Step]:
    """Return the parts in order. The programs take turns within each measure."""
    yield from _failovers(extent)
    for addresses in extent.path_addresses:
        for subject in plan.PATH:
            yield Step(
                f"takeover path, {addresses} addresses, {subject.name}",
                "path",
                3.0 * extent.path_repeat,
                partial(path.play, subject, addresses, extent.path_repeat),
            )
    for count in extent.counts:
        for subject in (*plan.GROWTH, *(plan.CROWD if count == VHIDS else ())):
            yield Step(
                f"{count} virtual hosts, {subject.name}",
                "growth",
                11 + extent.cost_s + count / 20,
                partial(growth.play, subject, Shape(count), extent.cost_s),
            )
    for count, parents in extent.many:
        shape = Shape(count, parents=parents)
        yield Step(
            f"{count} virtual hosts on {parents} interfaces",
            "many",
            20 + extent.stable_s + count / 25,
            partial(growth.play, plan.CARPD, shape, extent.stable_s),
        )
    for subjects, cells in extent.floods:
        for subject in subjects:
            yield Step(
                f"flood, {subject.name}",
                "flood",
                5 + 2 * len(cells) * (extent.flood_s + 1.5 + 2 * subject.interval_ns / 1e9),
                partial(flooding.play, subject, cells, extent.flood_s),
            )
    for loaded in (False, True):
        seconds = extent.load_s if loaded else extent.stable_s
        yield Step(
            f"false takeovers, {'loaded' if loaded else 'idle'}",
            "stability",
            10 + seconds,
            partial(stability.play, plan.STABILITY, seconds, loaded=loaded),
        )


def _failovers(extent: plan.Extent) -> Iterator[Step]:
    """Rounds of one second are mostly waiting, so several pairs are played at a time."""
    strikes = failover.STRIKES[: extent.strikes]
    for turn in range(max(extent.repeat.values())):
        for klass, repeat in extent.repeat.items():
            subjects = [one for one in plan.SUBJECTS if one.klass == klass and (one in plan.QUICK or not extent.quick)]
            if turn < repeat and subjects:
                width = extent.width[klass]
                yield Step(
                    f"failover at {klass}, round {turn + 1} of {repeat}",
                    "failover",
                    plan.STRIKE_S[klass] * len(strikes) * -(-len(subjects) // width),
                    partial(_side_by_side, subjects, strikes, width),
                )


def _side_by_side(subjects: list[Subject], strikes: Sequence[failover.Strike], width: int) -> Iterator[Sample]:
    with ThreadPoolExecutor(width) as pool:
        for samples in pool.map(lambda subject: list(failover.play(subject, strikes)), subjects):
            yield from samples


def _run(steps: Iterable[Step], results: Results, budget_s: float) -> None:
    """Play steps; one that would not end within the budget is left out and named."""
    began = time.monotonic()
    for step in steps:
        elapsed = time.monotonic() - began
        if elapsed + step.seconds > budget_s:
            results.skipped.append(step.name)
            continue
        print(f"[{elapsed:5.0f} s] {step.name}", flush=True)
        for sample in step.play():
            results.samples.append(sample)
            if sample.fault:
                print(f"          {sample.subject}, {sample.case}: {sample.fault}", flush=True)
    results.seconds = time.monotonic() - began


def _allow_open_files() -> None:
    """Allow what a service manager would: thousands of virtual hosts need more files than a shell allows."""
    for most in (OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions and small counts: shows that it runs")
    parser.add_argument(
        "--stable", type=float, metavar="S", help="how long stability is watched (default 60; the target says 600)"
    )
    parser.add_argument("--only", action="append", choices=MEASURES, help="only this measure; repeatable")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="where JSON and pictures go (default bench/results; of a quick or partial run, its quick/)",
    )
    parser.add_argument("--page", type=Path, help="where the page goes (default docs/benchmarks.md, if the run is whole)")
    arguments = parser.parse_args()
    missing = [name for name in ("ucarp", "keepalived") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing or not program("carpd").exists():
        print(f"root, carpd, ucarp and keepalived are needed; missing: {missing}", file=sys.stderr)
        return 2
    extent = plan.extent(quick=arguments.quick, stable_s=arguments.stable)
    signal.signal(signal.SIGTERM, _interrupt)
    sweep()
    _allow_open_files()
    results = Results(
        versions={name: adapter.version() for name, adapter in ADAPTERS.items()},
        options={"quick": extent.quick, "stability_s": extent.stable_s, "cost_s": extent.cost_s, "flood_s": extent.flood_s},
        machine=this_machine(),
    )
    steps = [step for step in _steps(extent) if not arguments.only or step.measure in arguments.only]
    try:
        _run(steps, results, extent.budget_s)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    # Those of a whole run are kept beside the page that is made of them.
    is_whole = not extent.quick and not arguments.only
    directory = (arguments.results or report.RESULTS / ("" if is_whole else "quick")).resolve()
    results.write(directory / report.FILE)
    page = arguments.page or (report.PAGE if is_whole else directory / "benchmarks.md")
    report.write(results, directory, page)
    print("\n".join(report.ratio_lines(results)))
    print("\n" + "\n".join(f"{name}: {version}" for name, version in results.versions.items()))
    print("\n" + "\n".join(report.verdict_lines(rows(results))))
    print(f"\n{results.seconds:.0f} s; {directory / report.FILE} and {page}")
    if left := left_by(os.getpid()):
        print(f"namespaces left: {left}", file=sys.stderr)
        return 1
    return 1 if any(one.subject.startswith("carpd") for one in results.faults()) else 0


if __name__ == "__main__":
    sys.exit(main())
