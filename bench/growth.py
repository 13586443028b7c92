"""What many virtual hosts cost, and how long it takes until all of them are over."""

from collections.abc import Iterator
from contextlib import ExitStack

from . import frames
from .arena import Arena
from .sample import Sample, Value
from .subject import Shape, Subject

MEASURE = "growth"
_MINUTE_S = 60.0
_MEBIBYTE = 1 << 20
_AFTERMATH_S = 1.0


def play(subject: Subject, shape: Shape, seconds: float) -> Iterator[Sample]:
    """Start a pair, let it run for `seconds`, kill a; yield one sample."""
    case = case_name(shape)
    try:
        with Arena(subject, shape) as arena:
            values: dict[str, Value] = {"startup_s": _start(arena)}
            arena.settle()
            values |= _cost(arena, seconds)
            values |= _failover(arena)
    except (TimeoutError, RuntimeError, OSError) as error:
        yield Sample(MEASURE, case, subject.name, fault=str(error)[:500])
        return
    yield Sample(MEASURE, case, subject.name, values)


def case_name(shape: Shape) -> str:
    """Name the case of a shape."""
    return f"{shape.virtual_hosts}" + (f" on {shape.parents} interfaces" if shape.parents > 1 else "")


def _start(arena: Arena) -> float:
    """Start a alone; return the seconds until each address was announced."""
    with ExitStack() as stack:
        recording = arena.captures(stack, arena.a)["a"]
        at = arena.a.start()
        arena.a.wait_until_holding(len(arena.addresses), arena.patience_s + _MINUTE_S)
        arena.breathe(_AFTERMATH_S)
        announced = frames.announced(recording.stamped(), arena.addresses, at)
    if len(announced) < len(arena.addresses):
        raise RuntimeError(f"{len(announced)} of {len(arena.addresses)} addresses were announced")
    return (max(announced.values()) - at) / 1e9


def _cost(arena: Arena, seconds: float) -> dict[str, Value]:
    """Let the pair be; return CPU seconds a minute and memory of both, and whether b ever spoke."""
    routers = {"master": arena.a, "backup": arena.b}
    with ExitStack() as stack:
        recording = arena.captures(stack, arena.b)["b"]
        before = {role: router.cpu_ns() for role, router in routers.items()}
        arena.breathe(seconds)
        used = {role: router.cpu_ns() - before[role] for role, router in routers.items()}
        false_takeovers = frames.runs(frames.advertisements(recording.stamped()), 3 * arena.subject.interval_ns)
    values: dict[str, Value] = {"seconds": seconds, "false_takeovers": false_takeovers}
    for role, router in routers.items():
        values[f"cpu_{role}_s_per_min"] = used[role] / 1e9 / seconds * _MINUTE_S
        values[f"pss_{role}_mb"] = router.pss_bytes() / _MEBIBYTE
    return values


def _failover(arena: Arena) -> dict[str, Value]:
    """Kill a; return when the first and the last address was announced by b, in ms.

    The groups advertise at different moments of the interval, so with one parent it is also said how late the latest of them
    was by its own last advertisement.
    """
    with ExitStack() as stack:
        arriving = arena.heard(stack, arena.b)
        arena.breathe(1.1 * arena.subject.interval_ns / 1e9)
        recording = arena.captures(stack, arena.b)["b"]
        at = arena.a.kill()
        arena.b.wait_until_holding(len(arena.addresses), arena.patience_s)
        arena.breathe(_AFTERMATH_S)
        announced = frames.announced(recording.stamped(), arena.addresses, at)
        heard = frames.last_of_each(arriving.stamped())
    if len(announced) < len(arena.addresses):
        raise RuntimeError(f"{len(announced)} of {len(arena.addresses)} addresses were announced after kill -9")
    first, last = min(announced.values()), max(announced.values())
    values: dict[str, Value] = {
        "failover_first_ms": (first - at) / 1e6,
        "failover_last_ms": (last - at) / 1e6,
        "spread_ms": (last - first) / 1e6,
    }
    if arena.shape.parents == 1:
        late = [
            announced[address] - heard[group.vhid] - arena.subject.master_down_ns
            for group in arena.shape.groups()
            for address in group.addresses
            if group.vhid in heard
        ]
        values["latest_late_ms"] = max(late) / 1e6 if late else None
    return values
