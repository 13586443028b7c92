"""The fence, over enough tries: never two owners, never closed for a daemon that lives, and what it costs."""

import os
import signal
import statistics
from collections.abc import Callable

import pytest

from lab.faults import Traffic, programs
from lab.figures import ALLOWED_LATE_NS, Pair
from lab.host import Carp, Host
from lab.load import Load
from lab.measure import both_answered, owners
from lab.pairs import SLACK_S, USUAL, make_pair, patience_s, settle, transitions, wait_settled
from lab.stage import SHARED, Stage, bare
from lab.strikes import Struck, router_pair, stop, strike, wake
from lab.throughput import tcp_bytes_per_second
from lab.wait import holds_for, now_ns, until

pytestmark = [pytest.mark.usefixtures("carpd"), pytest.mark.timeout(1800)]

MS = 1_000_000
TRIES = 20
LOAD_S = 60.0
SUB_SECOND = Pair(0, 10, 20)
WAYS: dict[str, Callable[[Host], int]] = {"kill -9": lambda host: host.kill(), "SIGSTOP": stop}

Note = Callable[[str], None]


def tell(note: Note, name: str, tries: list[Struck]) -> None:
    """Note how many tries had one owner, how long nobody spoke at the least, and the takeover times."""
    good = sum(1 for one in tries if one.both == 0 and one.silent_ns > 0)
    took = sorted(time / MS for one in tries for time in one.took_ns)
    silence = [one.silent_ns / MS for one in tries]
    note(
        f"{name}: one owner in {good} of {len(tries)}; nobody spoke for {min(silence):.1f}..{max(silence):.1f} ms; "
        f"takeover median {statistics.median(took):.1f} ms ({took[0]:.1f}..{took[-1]:.1f})"
    )


@pytest.mark.parametrize("pair", [USUAL, SUB_SECOND], ids=["advbase 1", "advbase 0"])
@pytest.mark.parametrize("way", WAYS)
def test_dead_master(build_stage: Callable[..., Stage], note: Note, way: str, pair: Pair) -> None:
    """On a hub, a killed or stopped MASTER and its successor never both speak, twenty times of twenty."""
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, pair)
    tries: list[Struck] = []
    for _ in range(TRIES):
        tries.append(strike(stage, pair, a, b, lambda: WAYS[way](a)))
        if way == "SIGSTOP":
            wake(stage, pair, a, b)
    tell(note, f"{way}, advbase {pair.advbase}, skews {pair.skew_a} and {pair.skew_b}", tries)
    for one in tries:
        one.check()
    took = statistics.median(time for one in tries for time in one.took_ns)
    if pair is USUAL:
        assert pair.crash.earliest_ns - ALLOWED_LATE_NS < took < pair.crash.latest_ns + ALLOWED_LATE_NS


@pytest.mark.parametrize("flooding", [False, True], ids=["switch", "hub"])
@pytest.mark.parametrize("pair", [USUAL, SUB_SECOND], ids=["advbase 1", "advbase 0"])
def test_woken_master(build_stage: Callable[..., Stage], note: Note, pair: Pair, flooding: bool) -> None:
    """After SIGCONT a replaced MASTER steps back, preempts as usual, and no probe is answered by both, twenty of twenty."""
    stage = build_stage(flooding=flooding)
    a, b = make_pair(stage, pair)
    settle(pair, a, b)
    both = []
    for _ in range(TRIES):
        stop(a)
        b.wait_for_state("MASTER", patience_s(pair))
        both.append(wake(stage, pair, a, b))
    where = "hub" if flooding else "switch"
    note(
        f"SIGCONT of a replaced MASTER, advbase {pair.advbase}, on a {where}: one owner in {both.count(0)} of {len(both)}, "
        f"at most {max(both)} probes answered by both"
    )
    assert both == [0] * TRIES


def test_a_master_that_cannot_send(build_stage: Callable[..., Stage], note: Note) -> None:
    """A MASTER whose advertisements its own host drops falls silent before its successor speaks, ten times of ten."""
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, USUAL)
    tries = []

    def silence() -> int:
        for number, program in enumerate(programs(Traffic.ADVERTISEMENTS), start=1):
            hook = f"filter add dev eth0 egress protocol all pref {number} bpf direct-action bytecode"
            a.namespace.run("tc", *hook.split(), program)
        return now_ns()

    for _ in range(TRIES // 2):
        tries.append(strike(stage, USUAL, a, b, silence))
        for number in (1, 2):
            a.namespace.tc(f"filter del dev eth0 egress pref {number}")
        # Its failed sends demote it for a while; a restart forgets them.
        a.stop()
    tell(note, "advertisements dropped on the MASTER's host", tries)
    for one in tries:
        one.check()


def test_a_backup_that_slept(stage: Stage, note: Note) -> None:
    """A BACKUP that is stopped for ten seconds while the MASTER lives takes nothing over, five times of five."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = transitions(a), transitions(b)
    for _ in range(5):
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            stop(b)
            prober.wait_for_time(10.0)
            b.signal(signal.SIGCONT)
            assert holds_for(lambda: b.state_of() == "BACKUP", 4.0)
            traces = prober.stop()
        assert all(owners(trace, trace.start, trace.end) == ["a"] for trace in traces.values())
        assert sum(both_answered(trace) for trace in traces.values()) == 0
    assert (transitions(a), transitions(b)) == before
    note("BACKUP stopped for 10 s: no takeover in 5 of 5")


@pytest.mark.parametrize(
    ("pair", "realtime"), [(USUAL, False), (Pair(0, 25, 50), True)], ids=["advbase 1", "advbase 0, realtime"]
)
def test_full_load(stage: Stage, note: Note, pair: Pair, realtime: bool) -> None:
    """With every core busy for a minute a healthy MASTER's fence never closes; sub-second intervals need realtime."""
    if realtime and not can_be_realtime():
        pytest.fail("the kernel refuses SCHED_FIFO to this process: nothing can be said of realtime here", pytrace=False)
    a, b = make_pair(stage, pair, None, realtime=realtime)
    settle(pair, a, b)
    assert "refused" not in a.log_text()
    before = transitions(a), transitions(b)
    closed_before = a.interface()["fence"]["late_closings"]
    with Load():
        open_throughout = holds_for(lambda: a.interface()["fence"]["state"] == "open", LOAD_S, 0.5)
    status = a.status()
    late, lateness = status["interfaces"][0]["fence"]["late_closings"] - closed_before, status["timer_lateness"]
    timers = ", ".join(f"{name} {lateness[f'{name}_ms']} ms" for name in ("p50", "p99", "max"))
    what = f"full load for {LOAD_S:.0f} s, advbase {pair.advbase} advskew {pair.skew_a}, realtime {realtime}"
    note(f"{what}: late closings {late}; timers late {timers}")
    assert late == 0
    assert open_throughout
    assert (transitions(a), transitions(b)) == before


def can_be_realtime() -> bool:
    """Ask the kernel, in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def test_throughput(stage: Stage, note: Note) -> None:
    """TCP to a shared address with the fence carries at least 0.8 of what it does without, in the median of ten pairs."""
    a = stage.host("a", Carp(vhid=1, addresses=SHARED), fence="auto")
    b = stage.host("b", Carp(vhid=2, addresses=("192.0.2.101/24", "2001:db8::101/64")), fence="off")
    assert stage.client.carrier()
    for host in (a, b):
        host.start()
        wait_settled(USUAL, host)
    until(lambda: a.interface()["fence"]["state"] == "open", patience_s(USUAL), "the fence to open")
    assert b.interface()["fence"]["state"] == "unavailable"
    for family, number in (("IPv4", 0), ("IPv6", 1)):
        ratios = []
        for turn in range(10):
            rates = {}
            # The order alternates: whoever goes second finds a warmer machine.
            for host in (a, b) if turn % 2 else (b, a):
                address = bare(host.carps[0].addresses)[number]
                rates[host.label] = tcp_bytes_per_second(stage.client, host.port, address, 1.5)
            ratios.append(rates["a"] / rates["b"])
        note(
            f"TCP over {family} with the fence against without: median {statistics.median(ratios):.3f} "
            f"of {len(ratios)} pairs ({', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}), "
            f"last {rates['a'] * 8 / 1e9:.1f} against {rates['b'] * 8 / 1e9:.1f} Gbit/s"
        )
        assert statistics.median(ratios) >= 0.8
