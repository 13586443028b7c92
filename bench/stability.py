"""Takeovers that nobody wanted at intervals of 10 ms: on an idle machine, and on one whose processors are all taken.

All pairs run at the same time, each on a LAN of its own, so that a pause of the machine meets all of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from lab.load import Load
from lab.wait import now_ns

from . import frames
from .arena import Arena
from .sample import Sample
from .subject import Shape, Subject

MEASURE = "false takeovers"
_READ_EVERY_S = 2.0


def play(subjects: Sequence[Subject], seconds: float, *, loaded: bool) -> Iterator[Sample]:
    """Watch all pairs for a while; with load they run with real-time scheduling."""
    case = "full load, realtime" if loaded else "idle"
    with ExitStack() as stack:
        arenas = [stack.enter_context(Arena(subject, Shape(realtime=loaded))) for subject in subjects]
        for arena in arenas:
            try:
                arena.settle()
            except TimeoutError as error:
                yield Sample(MEASURE, case, arena.subject.name, fault=str(error)[:500])
                return
        recordings = [arena.captures(stack, arena.a, arena.b) for arena in arenas]
        spoken: list[dict[str, list[int]]] = [{"a": [], "b": []} for _ in arenas]
        began = ended = now_ns()
        if loaded:
            stack.enter_context(Load())
        while now_ns() < began + seconds * 1e9:
            arenas[0].breathe(_READ_EVERY_S)
            ended = now_ns()
            for recording, instants in zip(recordings, spoken, strict=True):
                for label, one in recording.items():
                    instants[label] += frames.advertisements(one.stamped())
    for arena, instants in zip(arenas, spoken, strict=True):
        interval_ns = arena.subject.interval_ns
        values = {
            "seconds": (ended - began) / 1e9,
            "false_takeovers": frames.runs(instants["b"], 3 * interval_ns),
            "longest_pause_ms": frames.longest_pause_ns(instants["a"], began, ended) / 1e6,
        }
        yield Sample(MEASURE, case, arena.subject.name, values)
