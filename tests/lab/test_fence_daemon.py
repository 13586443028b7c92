"""The fence at work: however the MASTER falls silent, its host has fallen silent before the other one speaks."""

import signal
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lab.faults import Traffic, programs
from lab.figures import Pair, Result, result
from lab.host import Host
from lab.measure import both_answered, lost, owners
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, patience_s, settle, transitions
from lab.scenes import CASES, Scene, play
from lab.stage import Stage
from lab.strikes import Struck, router_pair, stop, strike, wake
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
SUB_SECOND = Pair(0, 10, 20)
NFT = """table netdev blocked {
  chain out { type filter hook egress device "eth0" priority 0; ip protocol 112 drop; ip6 nexthdr 112 drop; }
}
"""
WAYS: dict[str, Callable[[Host], int]] = {"kill -9": lambda host: host.kill(), "SIGSTOP": stop}


def in_bounds(pair: Pair, tries: list[Struck]) -> bool:
    """Tell whether the takeover came when the protocol says, in the median, but for what a stalled machine adds."""
    took = statistics.median(time for one in tries for time in one.took_ns)
    return pair.crash.earliest_ns - STALL_NS < took < pair.crash.latest_ns + STALL_NS


@pytest.mark.parametrize("way", WAYS)
def test_a_dead_master_is_silent_before_the_other_speaks(build_stage: Callable[..., Stage], way: str) -> None:
    """With advbase 1 the takeover keeps its time, and no frame of any kind comes from both hosts."""
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, USUAL)
    tries = []
    for _ in range(2):
        tries.append(strike(stage, USUAL, a, b, lambda: WAYS[way](a)))
        tries[-1].check()
        if way == "SIGSTOP":
            wake(stage, USUAL, a, b)
    assert in_bounds(USUAL, tries)


@pytest.mark.parametrize("way", WAYS)
def test_a_dead_sub_second_master_is_silent_before_the_other_speaks(build_stage: Callable[..., Stage], way: str) -> None:
    """With advbase 0, advskew 10 against 20, no frame of any kind comes from both hosts."""
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, SUB_SECOND)
    for _ in range(3):
        strike(stage, SUB_SECOND, a, b, lambda: WAYS[way](a)).check()
        if way == "SIGSTOP":
            wake(stage, SUB_SECOND, a, b)


@pytest.mark.parametrize("flooding", [False, True], ids=["switch", "hub"])
@pytest.mark.parametrize("pair", [USUAL, SUB_SECOND], ids=["advbase 1", "advbase 0"])
def test_a_woken_master_steps_back_before_it_takes_over(build_stage: Callable[..., Stage], pair: Pair, flooding: bool) -> None:
    """After SIGCONT a replaced MASTER is BACKUP first, then preempts as usual, and no probe is answered by both.

    Its addresses are still there when it wakes: on a hub every question reaches it.
    """
    stage = build_stage(flooding=flooding)
    a, b = make_pair(stage, pair)
    settle(pair, a, b)
    for _ in range(2):
        stop(a)
        b.wait_for_state("MASTER", patience_s(pair))
        assert wake(stage, pair, a, b) == 0


def test_without_the_fence_both_are_seen_to_answer(build_stage: Callable[..., Stage]) -> None:
    """The instrument sees what the fence prevents: with fence = "off" a killed MASTER's kernel goes on."""
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, QUICK, fence="off")
    struck = strike(stage, QUICK, a, b, a.kill)
    assert struck.missing == set()
    assert struck.both > 100
    assert struck.silent_ns < -100 * MS


def test_make_lab_calls_two_owners_wrong_unless_there_is_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the cases "kill -9" and "SIGSTOP" nobody is answered by both; if one were, it would be wrong, or marked."""

    def worse(*arguments: Any) -> Result:
        return replace(result(*arguments), both=5)

    cases = {case.name: case for case in CASES if case.one_owner}
    assert {"kill -9", "SIGSTOP", "link cut", "port blocked"} == cases.keys()
    with Scene(QUICK) as scene:
        for name in ("kill -9", "SIGSTOP"):
            assert [(one.both, one.faults, one.unfenced) for one in play(scene, cases[name])] == [(0, (), False)] * 2
        monkeypatch.setattr("lab.scenes.result", worse)
        assert [one.verdict for one in play(scene, cases["kill -9"])] == ["WRONG", "WRONG"]
    with Scene(QUICK, fence="off") as scene:
        assert [one.verdict for one in play(scene, cases["kill -9"])] == ["two owners", "two owners"]


def drop_own_advertisements(host: Host, by: str) -> int:
    """Drop what the host itself sends of protocol 112 on its parent, ahead of carpd's own filters; return the instant."""
    if by == "tc":
        for number, program in enumerate(programs(Traffic.ADVERTISEMENTS), start=1):
            hook = f"filter add dev eth0 egress protocol all pref {number} bpf direct-action bytecode"
            host.namespace.run("tc", *hook.split(), program)
    else:
        host.namespace.run("nft", "-f", "-", text=NFT)
    return now_ns()


def fence_of(host: Host) -> str:
    """Return the state of the fence."""
    return str(host.interface()["fence"]["state"])


@pytest.mark.parametrize("by", ["tc", "nft"])
def test_a_master_that_cannot_send_falls_silent(build_stage: Callable[..., Stage], by: str) -> None:
    """An egress filter on the parent drops the MASTER's advertisements: its fence closes, then the other takes over."""
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, USUAL)

    def silence() -> int:
        event = drop_own_advertisements(a, by)
        until(lambda: fence_of(a) == "closed", patience_s(USUAL), "the fence to close", 0.02)
        assert b.state_of() == "BACKUP", "the other took over before the fence was seen closed"
        return event

    struck = strike(stage, USUAL, a, b, silence)
    struck.check()
    assert in_bounds(USUAL, [struck])
    assert a.interface()["statistics"]["send_errors"] > 0
    assert fence_of(a) == "closed"
    assert "could not be sent" in a.log_text()


def test_a_backup_that_slept_does_not_take_over(stage: Stage) -> None:
    """A BACKUP that was stopped for ten seconds while the MASTER lived listens first: nobody changes state."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = transitions(a), transitions(b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        stop(b)
        prober.wait_for_time(10.0)
        b.signal(signal.SIGCONT)
        assert holds_for(lambda: b.state_of() == "BACKUP", 2.0)
        prober.wait_for_time(0.2)
        traces = prober.stop()
    assert (transitions(a), transitions(b)) == before
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["a"]
        assert (lost(trace), both_answered(trace)) == (0, 0)
