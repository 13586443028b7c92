"""Failover as a client sees it: how long nobody answers, and who answers in the end."""

import signal
import statistics

import pytest

from lab.figures import Pair
from lab.host import Host
from lab.measure import longest_gap_ns, lost, owners, takeover_ns
from lab.pairs import QUICK, SLACK_S, USUAL, check_caches, make_pair, patience_s, settle, wait_settled
from lab.stage import SHARED, Stage, bare
from lab.wait import holds_for, now_ns

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
"""What a stalled virtual machine may add; the exact figures belong to the long tests."""
AFTER_S = 0.3


def test_a_clean_stop_leaves_no_gap(stage: Stage) -> None:
    """On SIGTERM the MASTER bows out and the BACKUP takes over at once, in both families."""
    a, b = make_pair(stage)
    gaps = []
    for _ in range(3):
        settle(QUICK, a, b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.stop()
            prober.wait_for_owner("b", SLACK_S)
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        gaps += [longest_gap_ns(trace, event) for trace in traces.values()]
    assert statistics.median(gaps) < 20 * MS + STALL_NS / 2
    assert "bow" in b.log_text().lower()


def test_a_better_host_takes_its_place_back(stage: Stage) -> None:
    """With preempt the better host becomes MASTER at the first advertisement it hears, and hardly a probe is lost."""
    a, b = make_pair(stage)
    settle(QUICK, b)
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
        event = a.start()
        prober.wait_for_owner("a", patience_s(QUICK))
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    wait_settled(QUICK, a, b)
    for trace in traces.values():
        assert longest_gap_ns(trace, event) < 50 * MS + STALL_NS
        assert owners(trace, trace.end - 200 * MS, trace.end) == ["a"]
    check_caches(stage, a, packets=10)


def test_without_preempt_the_better_host_waits(stage: Stage) -> None:
    """With preempt off, as it is by default, a better host that returns stays BACKUP."""
    a, b = make_pair(stage, preempt=False)
    settle(QUICK, b)
    settle(QUICK, b, a)
    assert holds_for(lambda: (a.state_of(), b.state_of()) == ("BACKUP", "MASTER"), 3 * QUICK.master_down_ns(60) / 1e9)


@pytest.mark.parametrize(("pair", "tries"), [(USUAL, 2), (QUICK, 4)], ids=["advbase 1", "advbase 0"])
def test_a_silent_cut_is_noticed_when_the_protocol_says(stage: Stage, pair: Pair, tries: int) -> None:
    """A BACKUP takes over between master-down less the MASTER's interval, and master-down, after a silent cut."""
    a, b = make_pair(stage, pair)
    took = []
    for _ in range(tries):
        settle(pair, a, b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.port.block()
            prober.wait_for_owner("b", patience_s(pair))
            traces = prober.stop()
        took += [takeover_ns(trace, event, "b") or 0 for trace in traces.values()]
        a.port.unblock()
        wait_settled(pair, a, b)
    assert pair.crash.earliest_ns - STALL_NS < statistics.median(took) < pair.crash.latest_ns + STALL_NS


def test_a_sub_second_pair_fails_over_in_a_blink(stage: Stage) -> None:
    """With advbase 0 and skews 5 and 6 a cut is over within some 80 ms."""
    pair = Pair(0, 5, 6)
    a, b = make_pair(stage, pair)
    took = []
    for _ in range(3):
        settle(pair, a, b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.port.block()
            prober.wait_for_owner("b", SLACK_S)
            traces = prober.stop()
        took += [takeover_ns(trace, event, "b") or 0 for trace in traces.values()]
        a.port.unblock()
    assert statistics.median(took) < 80 * MS + STALL_NS


@pytest.mark.parametrize("way", ["cut", "unplug"])
def test_a_lost_link_moves_the_address_and_brings_it_back(stage: Stage, way: str) -> None:
    """A MASTER whose link or carrier goes is INIT and the other takes over; when the link returns the better one does."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        event = a.port.cut() if way == "cut" else a.port.unplug()
        prober.wait_for_owner("b", patience_s(QUICK))
        a.wait_for_state("INIT", SLACK_S)
        traces = prober.stop()
    for trace in traces.values():
        took = takeover_ns(trace, event, "b")
        assert took is not None
        assert took < QUICK.crash.latest_ns + STALL_NS
    if way == "cut":
        a.port.mend()
        # Linux drops the interface's IPv6 addresses with the link.
        a.namespace.ip("addr replace 2001:db8::1/64 dev eth0")
    else:
        a.port.plug()
    wait_settled(QUICK, a, b)
    check_caches(stage, a, packets=20)


def test_a_killed_daemon_is_replaced_and_a_restart_cleans_up(stage: Stage) -> None:
    """After kill -9 the other host takes over in time; the next start removes what was left and takes its place."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    event = a.kill()
    took = b.wait_for_state("MASTER", patience_s(QUICK)) - event
    assert took < QUICK.crash.latest_ns + STALL_NS
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
    a.start()
    wait_settled(QUICK, a, b)
    check_caches(stage, a, packets=20)


def test_a_stopped_daemon_steps_back_when_it_wakes(stage: Stage) -> None:
    """A daemon that was stopped for longer than its peer's patience does not disturb: soon one host is MASTER again."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    a.signal(signal.SIGSTOP)
    b.wait_for_state("MASTER", patience_s(QUICK))
    a.signal(signal.SIGCONT)
    wait_settled(QUICK, a, b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        prober.wait_for_time(1.0)
        traces = prober.stop()
    assert all(owners(trace, trace.start, trace.end) == ["a"] for trace in traces.values())


def test_a_healed_split_is_over_at_the_next_advertisement(stage: Stage) -> None:
    """Two islands have a MASTER each; when they rejoin, one stays, and the client finds it at once in both families."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    # The client is on b's island, so its cache and the switch table point to b when the split heals.
    stage.lan.partition(b.port, stage.client)
    b.wait_for_state("MASTER", patience_s(QUICK))
    assert a.state_of() == "MASTER"
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
        event = stage.lan.rejoin()
        prober.wait_for_owner("a", patience_s(QUICK))
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    wait_settled(QUICK, a, b)
    for trace in traces.values():
        took = takeover_ns(trace, event, "a")
        assert took is not None
        # At most two intervals: one in which a is heard, one in which its answer to b's last advertisement is due.
        assert took < 2 * QUICK.interval_ns(60) + STALL_NS
        assert longest_gap_ns(trace, event) < 2 * QUICK.interval_ns(60) + STALL_NS
    check_caches(stage, a, packets=20)


@pytest.mark.parametrize("shared", [SHARED[:1], SHARED[1:]], ids=["IPv4 only", "IPv6 only"])
def test_one_family_alone_fails_over(stage: Stage, shared: tuple[str, ...]) -> None:
    """Addresses of one family need nothing of the other."""
    a, b = make_pair(stage)
    for host in (a, b):
        host.configure([host.carps[0].but(addresses=shared)], **host.global_keys)
    settle(QUICK, a, b)
    with stage.prober(shared) as prober:
        prober.wait_for_owner("a", SLACK_S)
        a.port.block()
        prober.wait_for_owner("b", patience_s(QUICK))
        (trace,) = prober.stop().values()
    assert trace.address == bare(shared)[0]
    a.port.unblock()
    wait_settled(QUICK, a, b)
    check_caches(stage, a, shared, packets=20)


def test_a_quiet_pair_loses_nothing(stage: Stage) -> None:
    """While nothing happens every probe is answered, by the MASTER, and nobody changes state."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = now_ns()
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        prober.wait_for_time(3.0)
        traces = prober.stop()
    for trace in traces.values():
        assert lost(trace) == 0
        assert owners(trace, before, trace.end) == ["a"]
    assert _states(a, b) == ("MASTER", "BACKUP")


def _states(*hosts: Host) -> tuple[str | None, ...]:
    return tuple(host.state_of() for host in hosts)
