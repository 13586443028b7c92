"""The wall clock is stepped by an hour either way: nothing happens.

Both hosts live on the kernel whose clock is stepped, so a step hits MASTER and BACKUP at once. The clock belongs to the whole
machine, so this runs in a machine of its own only: `sh tests/soak/vm/run`.
"""

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lab.host import Host
from lab.measure import both_answered, longest_gap_ns, lost, owners, takeover_ns
from lab.pairs import SLACK_S, USUAL, make_pair, patience_s, settle, transitions
from lab.stage import Stage, require_carpd
from lab.wait import now_ns

HOUR_S = 3600
STEPS_S = (HOUR_S, -2 * HOUR_S, HOUR_S)
WATCHED_S = 10.0
STORM_EVERY_S = 0.002
WAITED_S = 1.0
ASLEEP_S = (2.5, 5.0)
"""A BACKUP asleep so long finds its MASTER's advertisements in its socket when its master-down time has passed."""
DROWSY_S = 1.5
"""How long a BACKUP sleeps from the death of its MASTER on: its last advertisement is then as old as that."""
MS = 1_000_000
ALLOWED_LATE_NS = 200 * MS
"""What an emulated machine may add to a time."""


def step(seconds: int) -> None:
    """Step the wall clock of this machine, and check that it was stepped."""
    before, at = time.time_ns(), now_ns()
    time.clock_settime_ns(time.CLOCK_REALTIME, before + seconds * 1_000_000_000)
    stepped = (time.time_ns() - before) - (now_ns() - at)
    assert abs(stepped - seconds * 1_000_000_000) < 100 * MS, f"the clock was stepped by {stepped} ns instead of {seconds} s"


def storm() -> None:
    """Step to and fro, quickly enough to fall between the stamp of a packet and its reading."""
    end, count = now_ns() + int(WATCHED_S * 1e9), 0
    while now_ns() < end or count % 2:
        step(-HOUR_S if count % 2 else HOUR_S)
        count += 1
        time.sleep(STORM_EVERY_S)
    print(f"stepped {count} times")


def seen(host: Host) -> dict[str, object]:
    """Return what a step must not change on a host."""
    fence, statistics = host.interface()["fence"], host.status()["statistics"]
    return {
        "state": host.state_of(),
        "transitions": transitions(host),
        "fence": (fence["state"], fence["late_closings"]),
        "dropped": statistics["dropped"],
        "send errors": statistics["send_errors"],
    }


def watch(stage: Stage, a: Host, b: Host, what: str, deed: Callable[[], None]) -> None:
    """Demand that a deed changes nothing on either host, and that a answers the client throughout."""
    before = seen(a), seen(b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        start = now_ns()
        deed()
        prober.wait_for_time(WATCHED_S)
        traces = prober.stop()
    after = seen(a), seen(b)
    for trace in traces.values():
        gap = longest_gap_ns(trace, start, trace.answers[-1].at)
        asked, missing = len(trace.asked(start, trace.end)), lost(trace, start)
        print(f"{what}: {asked} questions to {trace.address}, {missing} unanswered, longest gap {gap / MS:.1f} ms")
        assert owners(trace, start, trace.end) == ["a"], f"answered by {owners(trace, start, trace.end)}"
        assert missing == 0
        assert gap < ALLOWED_LATE_NS
    assert after == before, f"{before} became {after}"


def takeover(stage: Stage, a: Host, b: Host, what: str, deed: Callable[[], int]) -> list[int]:
    """Let b take over because of a deed, which returns its instant; return the time for each address."""
    settle(USUAL, a, b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        event = deed()
        prober.wait_for_owner("b", patience_s(USUAL))
        prober.wait_for_time(WAITED_S)
        traces = prober.stop()
    times = [takeover_ns(trace, event, "b") or 0 for trace in traces.values()]
    print(f"{what}: takeover after {', '.join(f'{took / MS:.1f}' for took in times)} ms")
    assert all(times)
    assert sum(both_answered(trace) for trace in traces.values()) == 0, "two owners"
    return times


def step_then(seconds: int, end: Callable[[], int]) -> Callable[[], int]:
    """Return a deed: a step, and at once the end of a daemon."""

    def deed() -> int:
        step(seconds)
        return end()

    return deed


def then_step(seconds: int, end: Callable[[], int]) -> Callable[[], int]:
    """Return a deed: the end of a daemon, and a step while its peer waits."""

    def deed() -> int:
        event = end()
        time.sleep(WAITED_S)
        step(seconds)
        return event

    return deed


def asleep(b: Host, seconds: int, asleep_s: float) -> Callable[[], None]:
    """Return a deed: b is stopped, the clock is stepped, b goes on."""

    def deed() -> None:
        b.signal(signal.SIGSTOP)
        try:
            time.sleep(asleep_s / 2)
            step(seconds)
            time.sleep(asleep_s / 2)
        finally:
            b.signal(signal.SIGCONT)

    return deed


def asleep_while(end: Callable[[], int], b: Host, seconds: int) -> Callable[[], int]:
    """Return a deed: b is stopped, its peer ends, the clock is stepped, b goes on."""

    def deed() -> int:
        b.signal(signal.SIGSTOP)
        try:
            event = end()
            time.sleep(DROWSY_S)
            step(seconds)
        finally:
            b.signal(signal.SIGCONT)
        return event

    return deed


def nothing_happens(stage: Stage, a: Host, b: Host) -> None:
    """No step changes a state, closes the fence, drops a packet or keeps an answer back."""
    for seconds in STEPS_S:
        watch(stage, a, b, f"step of {seconds:+d} s", partial(step, seconds))
    watch(stage, a, b, "steps to and fro", storm)
    for asleep_s in ASLEEP_S:
        for seconds in STEPS_S:
            watch(stage, a, b, f"step of {seconds:+d} s, BACKUP asleep for {asleep_s} s", asleep(b, seconds, asleep_s))


def timers_are_right(stage: Stage, a: Host, b: Host) -> None:
    """A clean stop and a kill -9 take what they always take: after a step, and with a step while the peer waits."""
    for seconds in (HOUR_S, -HOUR_S):
        for took in takeover(stage, a, b, f"step of {seconds:+d} s, clean stop", step_then(seconds, a.stop)):
            assert took < ALLOWED_LATE_NS
    earliest, latest = USUAL.crash.earliest_ns - ALLOWED_LATE_NS, USUAL.crash.latest_ns + ALLOWED_LATE_NS
    print(f"the protocol's bound of a kill -9: {USUAL.crash.text()} ms")
    for seconds in (HOUR_S, -HOUR_S):
        for what, deed in (
            (f"step of {seconds:+d} s, kill -9", step_then(seconds, a.kill)),
            (f"kill -9, step of {seconds:+d} s", then_step(seconds, a.kill)),
            (f"kill -9, step of {seconds:+d} s, BACKUP asleep for {DROWSY_S} s", asleep_while(a.kill, b, seconds)),
        ):
            for took in takeover(stage, a, b, what, deed):
                assert earliest < took < latest


def main() -> None:
    """Run everything; an AssertionError says what was wrong."""
    if "carp.machine" not in Path("/proc/cmdline").read_text().split():
        sys.exit("this steps the clock of the whole machine: sh tests/soak/vm/run")
    require_carpd()
    with Stage() as stage:
        a, b = make_pair(stage, USUAL)
        settle(USUAL, a, b)
        try:
            nothing_happens(stage, a, b)
            timers_are_right(stage, a, b)
        except BaseException:
            print(stage.logs())
            raise
    print("the wall clock was stepped, and nothing happened")


if __name__ == "__main__":
    main()
