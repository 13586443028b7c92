"""Hosts with two parents on two LANs and a carp interface on each: both are MASTER on one host, whatever fails."""

import pytest
from bsd_hosts import set_up

from lab.events import Events
from lab.host import Host
from lab.lan import Lan, Port
from lab.measure import both_answered, longest_gap_ns, milliseconds, owners, takeover_ns
from lab.pairs import SLACK_S, USUAL, make_pair, patience_s, settle, transitions, wait_settled
from lab.parents import SECOND_SHARED, mend, with_two_parents
from lab.scenes import CASES, TWO_PARENTS_CASES, TwoParentsScene, play
from lab.stage import SHARED, Stage, bare
from lab.wait import holds_for, now_ns

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
"""The hand-over itself takes some 10 ms; the rest is for a machine that stands still."""
AFTER_S = 0.3
ALL = (*SHARED, *SECOND_SHARED)
CARPS = {"eth0": "carp0", "eth1": "carp1"}
ADDRESSES = {"eth0": bare(SHARED), "eth1": bare(SECOND_SHARED)}


class TwoParents:
    """A settled pair, a better than b."""

    def __init__(self, stage: Stage) -> None:
        self.a, self.b = make_pair(stage, USUAL)
        self.second: Lan = with_two_parents(stage, self.a, self.b)
        settle(USUAL, self.a, self.b)

    def parent(self, host: Host, interface: str) -> Port:
        """Return one of the places of a host."""
        return host.port if interface == "eth0" else self.second.ports[host.label]


@pytest.fixture
def pair(stage: Stage) -> TwoParents:
    """Build it on the usual stage."""
    return TwoParents(stage)


@pytest.mark.parametrize("cut", ["eth0", "eth1"])
def test_a_lost_parent_takes_the_other_along(stage: Stage, pair: TwoParents, cut: str) -> None:
    """Both addresses move to b, the one that still has its link without a gap, and both return after the repair.

    No probe is answered by both hosts, and each address changes its owner twice and no more.
    """
    a, b = pair.a, pair.b
    port, other = pair.parent(a, cut), {"eth0": "eth1", "eth1": "eth0"}[cut]
    before = transitions(a), transitions(b)
    with Events(a) as from_a, stage.prober(ALL) as prober:
        prober.wait_for_owner("a", SLACK_S)
        event = port.cut()
        known = from_a.demoted(CARPS[other], SLACK_S, event)
        prober.wait_for_owner("b", SLACK_S, ADDRESSES[other])
        prober.wait_for_owner("b", patience_s(USUAL))
        assert (a.state_of(CARPS[cut]), a.state_of(CARPS[other])) == ("INIT", "BACKUP")
        prober.wait_for_time(AFTER_S)
        mended = now_ns()
        mend(port)
        prober.wait_for_owner("a", patience_s(USUAL))
        wait_settled(USUAL, a, b)
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    for address in ADDRESSES[other]:
        took = takeover_ns(traces[address], known, "b")
        gap = longest_gap_ns(traces[address], event)
        print(f"{address}: b answers {milliseconds(took)} ms after the demotion, longest gap {milliseconds(gap)} ms")
        assert took is not None
        assert took < STALL_NS
        assert gap < STALL_NS
    for address in ADDRESSES[cut]:
        took = takeover_ns(traces[address], event, "b")
        assert took is not None
        assert took < USUAL.crash.latest_ns + STALL_NS
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
        assert both_answered(trace) == 0
        back = takeover_ns(trace, mended, "a")
        assert back is not None
        # The link has to be back, and the next advertisement of b to be heard.
        assert back < 2 * USUAL.preemption.latest_ns + STALL_NS
    # MASTER, INIT, BACKUP, MASTER on one; MASTER, BACKUP, MASTER on the other; BACKUP, MASTER, BACKUP twice.
    assert (transitions(a) - before[0], transitions(b) - before[1]) == (5, 4)
    assert a.status()["demotions"] == []


def test_a_lost_parent_of_the_backup_moves_nothing(stage: Stage, pair: TwoParents) -> None:
    """The MASTER of both goes on without a lost probe; the BACKUP that was demoted is BACKUP again."""
    a, b = pair.a, pair.b
    before = transitions(a)
    with stage.prober(ALL) as prober:
        prober.wait_for_owner("a", SLACK_S)
        b.port.cut()
        b.wait_for(lambda status: status["interfaces"][1]["demote"] == 1, SLACK_S, "carp1 to be demoted")
        prober.wait_for_time(1.0)
        mend(b.port)
        wait_settled(USUAL, a, b)
        traces = prober.stop()
    assert [owners(trace, trace.start, trace.end) for trace in traces.values()] == [["a"]] * len(ALL)
    assert transitions(a) == before


def test_demoted_alike_advskew_decides(stage: Stage, pair: TwoParents) -> None:
    """Demotion comes before advskew, and where it is equal advskew decides again: both addresses move, and return."""
    a, b = pair.a, pair.b
    with stage.prober(ALL) as prober:
        prober.wait_for_owner("a", SLACK_S)
        set_up(a, ["ifconfig -g carp carpdemote 10"])
        prober.wait_for_owner("b", SLACK_S)
        set_up(b, ["ifconfig -g carp carpdemote 10"])
        prober.wait_for_owner("a", patience_s(USUAL))
        wait_settled(USUAL, a, b)
        assert holds_for(lambda: a.is_settled("MASTER") and b.is_settled("BACKUP"), 2 * USUAL.preemption.latest_ns / 1e9, 0.05)
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    assert [host.interface(name)["demote"] for host in (a, b) for name in CARPS.values()] == [10] * 4
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
        assert both_answered(trace) == 0


def test_a_parent_lost_on_both_leaves_the_other_address_with_the_better_host(stage: Stage, pair: TwoParents) -> None:
    """What goes wrong on both hosts alike, such as a switch that dies, moves nothing in the end."""
    a, b = pair.a, pair.b
    with stage.prober(SHARED) as prober:
        prober.wait_for_owner("a", SLACK_S)
        pair.parent(b, "eth1").cut()
        b.wait_for(lambda status: status["interfaces"][0]["demote"] == 1, SLACK_S, "carp0 to be demoted")
        pair.parent(a, "eth1").cut()
        a.wait_for(lambda status: status["interfaces"][0]["demote"] == 1, SLACK_S, "carp0 to be demoted")
        prober.wait_for_time(2 * USUAL.preemption.latest_ns / 1e9)
        traces = prober.stop()
    assert [owners(trace, trace.start, trace.end) for trace in traces.values()] == [["a"]] * len(SHARED)


def test_make_lab_shows_both_lans() -> None:
    """The case has a row for each address; the cut LAN has the bound of a crash, the other one is handed over at once."""
    (case,) = TWO_PARENTS_CASES
    assert case.name not in {one.name for one in CASES}
    with TwoParentsScene(USUAL) as scene:
        results = play(scene, case)
    assert [one.faults for one in results] == [()] * len(ALL)
    assert [one.case for one in results] == ["two parents, cut LAN"] * 2 + ["two parents, other LAN"] * 2
    assert [one.bound.latest_ns for one in results] == [USUAL.crash.latest_ns] * 2 + [0] * 2
    for one in results[2:]:
        assert one.takeover_ns is not None
        assert one.takeover_ns < STALL_NS
