"""The takeover itself: from the moment at which host b's timer is due to its last announcement, by the number of addresses."""

from collections.abc import Iterator
from contextlib import ExitStack

from . import frames
from .arena import Arena
from .sample import Sample, Value
from .subject import Shape, Subject

MEASURE = "takeover path"
_BURST_QUIET_NS = 30_000_000
_AFTERMATH_S = 0.5


def play(subject: Subject, addresses: int, repeat: int) -> Iterator[Sample]:
    """Kill the MASTER of one virtual host with so many addresses; yield a sample for each repetition."""
    case = f"{addresses} addresses" if addresses > 1 else "1 address"
    try:
        with Arena(subject, Shape(1, addresses)) as arena:
            for _ in range(repeat):
                arena.settle()
                yield Sample(MEASURE, case, subject.name, _once(arena))
    except (TimeoutError, RuntimeError, OSError) as error:
        yield Sample(MEASURE, case, subject.name, fault=str(error)[:500])


def _once(arena: Arena) -> dict[str, Value]:
    with ExitStack() as stack:
        recording = arena.captures(stack, arena.b)["b"]
        arriving = arena.heard(stack, arena.b)
        arena.breathe(3 * arena.subject.interval_ns / 1e9)
        at = arena.a.kill()
        arena.b.wait_until_holding(len(arena.addresses), arena.patience_s)
        arena.breathe(_AFTERMATH_S)
        spoken = recording.stamped()
        heard = frames.advertisements(arriving.stamped())
    if not heard:
        raise RuntimeError("no advertisement was recorded before the MASTER's end: this machine is too busy")
    due = max(heard) + arena.subject.master_down_ns
    first = min(one for one in frames.advertisements(spoken) if one >= at)
    announced = frames.announced(spoken, arena.addresses, at)
    last = frames.end_of_burst(spoken, at, _BURST_QUIET_NS)
    if last is None or len(announced) < len(arena.addresses):
        raise RuntimeError(f"{len(announced)} of {len(arena.addresses)} addresses were announced")
    return {
        "due_to_advertisement_us": (first - due) / 1e3,
        "advertisement_to_all_announced_us": (max(announced.values()) - first) / 1e3,
        "due_to_last_announcement_us": (last - due) / 1e3,
    }
