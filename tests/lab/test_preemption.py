"""preempt-delay: a better host that returns lets a MASTER that serves well go on for a while, and no other."""

import pytest

from lab.events import Events
from lab.host import Host
from lab.measure import both_answered, longest_gap_ns, lost, owners
from lab.pairs import QUICK, SLACK_S, make_pair, patience_s, settle, transitions, wait_settled
from lab.stage import Stage
from lab.wait import holds_for, now_ns

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
DELAY_S = 2
FOREVER_S = 3600
WHILE_S = 1.5
"""Some six advertisements of the MASTER."""
AFTER_S = 0.3


def pair_with(stage: Stage, delay_s: int) -> tuple[Host, Host]:
    """Configure a pair whose better host waits before it preempts; b serves, and a has heard it."""
    a, b = make_pair(stage, QUICK, **{"preempt-delay": delay_s})
    settle(QUICK, b)
    return a, b


def started_beside(a: Host, b: Host) -> None:
    """Start the better host, which stays BACKUP."""
    settle(QUICK, b, a)
    assert holds_for(lambda: (a.state_of(), b.state_of()) == ("BACKUP", "MASTER"), WHILE_S)


def test_the_better_host_returns_after_the_delay(stage: Stage) -> None:
    """It has heard the slower MASTER for that long, and takes over at the next advertisement; clients hardly notice."""
    a, b = pair_with(stage, DELAY_S)
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
        event = a.start()
        up = now_ns()
        with Events(a) as from_a:
            took = from_a.became("carp0", "MASTER", DELAY_S + SLACK_S)
        prober.wait_for_owner("a", SLACK_S)
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    wait_settled(QUICK, a, b)
    print(f"preempted {(took - up) / MS:.0f} ms after the daemon was up")
    assert took - event > DELAY_S * 1000 * MS
    # The first advertisement that it hears, and the first one after the delay.
    assert took - up < DELAY_S * 1000 * MS + 2 * QUICK.interval_ns(QUICK.skew_b) + STALL_NS
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["b", "a"]
        assert both_answered(trace) == 0
        assert longest_gap_ns(trace, event) < 50 * MS + STALL_NS


@pytest.mark.parametrize("way", ["kill", "stop", "block"])
def test_a_master_that_is_gone_is_replaced_without_delay(stage: Stage, way: str) -> None:
    """Whether it crashes, stops or falls silent: the delay is for a MASTER that serves."""
    a, b = pair_with(stage, FOREVER_S)
    started_beside(a, b)
    event = {"kill": b.kill, "stop": b.stop, "block": b.port.block}[way]()
    took = a.wait_for_state("MASTER", patience_s(QUICK)) - event
    assert took < QUICK.master_down_ns(QUICK.skew_a) + STALL_NS


def test_a_master_that_is_demoted_more_is_replaced_without_delay(stage: Stage) -> None:
    """What is wrong with it cannot wait; whether this host is better by advskew is another matter."""
    a, b = pair_with(stage, FOREVER_S)
    started_beside(a, b)
    with Events(a) as from_a, Events(b) as from_b:
        assert b.carp("demote", "add", "disk", "1").returncode == 0
        took = from_a.became("carp0", "MASTER", SLACK_S) - from_b.demoted("carp0", SLACK_S)
    assert took < 100 * MS + STALL_NS
    wait_settled(QUICK, a, b)


def test_a_slower_host_that_is_master_again_is_waited_for_again(stage: Stage) -> None:
    """Each time the better host has lost mastership the delay begins anew."""
    a, b = pair_with(stage, DELAY_S)
    settle(QUICK, a, b)
    a.port.cut()
    b.wait_for_state("MASTER", patience_s(QUICK))
    a.wait_for_state("INIT", SLACK_S)
    with Events(a) as from_a:
        begin = a.port.mend()
        took = from_a.became("carp0", "MASTER", DELAY_S + SLACK_S) - begin
    assert DELAY_S * 1000 * MS < took < (DELAY_S + 1) * 1000 * MS + STALL_NS


def test_one_interface_may_have_a_delay_of_its_own(stage: Stage) -> None:
    """The key of the interface goes before that of all; a reload that shortens it counts at once, with no probe lost before."""
    a, b = pair_with(stage, FOREVER_S)
    for host in (a, b):
        first = host.carps[0]
        second = first.but(name="carp1", vhid=2, addresses=("192.0.2.101/24",), extra={"preempt-delay": 0})
        host.configure([first, second], **host.global_keys)
    b.stop()
    settle(QUICK, b)
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
        a.start()
        a.wait_for_state("MASTER", patience_s(QUICK), "carp1")
        assert holds_for(lambda: (a.state_of(), b.state_of()) == ("BACKUP", "MASTER"), WHILE_S)
        changed, before = transitions(b), now_ns()
        a.configure(a.carps, **{**a.global_keys, "preempt-delay": 0})
        a.reload()
        prober.wait_for_owner("a", patience_s(QUICK))
        traces = prober.stop()
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["b", "a"]
        assert lost(trace, trace.start, before - 50 * MS) == 0
    assert transitions(b) == changed + 1
