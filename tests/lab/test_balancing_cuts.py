"""Hosts that share an address are cut and come back: their share moves and pauses, and nobody else notices anything."""

import signal
from collections.abc import Callable, Sequence

import pytest
from balancing_hosts import STALL_NS, QuickHosts, prepare, prepare_arp

from lab.balanced import Event, cut, kill, play_event, plug, restart
from lab.flows import Flows
from lab.host import Host
from lab.shares import ShareResult
from lab.sharing import ARP, IP, IP_STEALTH, IP_UNICAST, is_shared_out, masters
from lab.stage import Stage
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

PERIOD_NS = 250_000_000
"""Each flow is asked so often, so its pause is known to this."""
LINK_LOSS_NS = 50_000_000
SHARED_ADDRESS = "shared address"


def prepared(stage: Stage, mode: str, count: int) -> QuickHosts:
    """Return a scene of hosts in a mode; `shared address` is the one of several carp interfaces."""
    hosts = prepare_arp(stage, count) if mode == SHARED_ADDRESS else prepare(stage, count, mode)
    return QuickHosts(stage, hosts, by_packet=mode not in (ARP, SHARED_ADDRESS))


def check_moved(results: Sequence[ShareResult]) -> None:
    """Demand that one share moved in time and nothing else happened."""
    for one in results:
        assert one.faults == ()
        assert (one.by_two, one.by_none, one.others_pause_ns) == (0, 0, 0)
        assert one.takeover_ns is not None
        assert one.takeover_ns < one.bound.latest_ns + STALL_NS
        assert one.pause_ns < one.bound.latest_ns + PERIOD_NS + STALL_NS


def check_paused(results: Sequence[ShareResult], label: str, *, killed: bool = False) -> None:
    """Demand that a share that was cut was silent for about the takeover time, and went to the others."""
    for one in results:
        # A killed daemon's host serves on until its fence closes.
        assert one.pause_ns > (0 if killed else one.bound.earliest_ns - LINK_LOSS_NS)
        assert one.before[label] > 0
        assert label not in one.after


@pytest.mark.parametrize("mode", [IP, IP_STEALTH, IP_UNICAST, ARP, SHARED_ADDRESS])
def test_a_cut_host_and_its_return(build_stage: Callable[..., Stage], mode: str) -> None:
    """Only its share pauses, for the takeover time; when it returns, it gets its share back, and no more."""
    with prepared(build_stage(flooding=mode == IP_UNICAST), mode, 3) as scene:
        gone = play_event(scene, cut("b"))
        check_moved(gone)
        check_paused(gone, "b")
        back = play_event(scene, plug("b"))
        check_moved(back)
    for before, after in zip(gone, back, strict=True):
        assert after.after == before.before


@pytest.mark.parametrize("mode", [IP, SHARED_ADDRESS])
def test_a_killed_daemon_and_its_restart(stage: Stage, mode: str) -> None:
    """After kill -9 no flow is answered by two, although the addresses are still there; a restart gets the share back."""
    with prepared(stage, mode, 3) as scene:
        gone = play_event(scene, kill("a"))
        check_moved(gone)
        check_paused(gone, "a", killed=True)
        back = play_event(scene, restart("a"))
        check_moved(back)
    for before, after in zip(gone, back, strict=True):
        assert after.after == before.before


def test_the_leader_is_nobody_special(stage: Stage) -> None:
    """When hosts die one after another, the one that is left has everything, and answers ARP and ND for it."""
    with prepared(stage, IP, 3) as scene:
        for label in "ab":
            check_moved(play_event(scene, kill(label)))
        assert scene.faults_now() == []
        assert set(masters([scene.host("c")])) == {1, 2, 3}
        for flows in scene.flows:
            assert all(record.shares() == {"c": len(flows.stations)} for record in flows.round().values())


def test_a_stopped_daemon_that_wakes_up(stage: Stage) -> None:
    """SIGSTOP moves the share; at SIGCONT the host steps back first, and no flow is ever answered by two."""

    def stop(scene: object) -> int:
        hosts.up.pop("b")
        return hosts.host("b").signal(signal.SIGSTOP)

    def wake(scene: object) -> int:
        at = hosts.host("b").signal(signal.SIGCONT)
        hosts.up["b"] = hosts.host("b")
        return at

    with prepared(stage, IP, 3) as hosts:
        check_moved(play_event(hosts, Event("is stopped", "b", False, stop)))
        # Its stall guard lets it wait for a whole master-down time before it preempts.
        woken = play_event(hosts, Event("goes on", "b", True, wake))
        for one in woken:
            assert (one.faults, one.by_two, one.by_none) == ((), 0, 0)


def test_a_host_that_is_asked_to_stop_loses_no_packet_of_others(stage: Stage) -> None:
    """A clean stop bows out of each node: the share moves within milliseconds."""
    with prepared(stage, IP, 2) as scene:

        def stop(_scene: object) -> int:
            scene.up.pop("b")
            return scene.host("b").stop()

        results = play_event(scene, Event("is stopped cleanly", "b", False, stop))
    for one in results:
        assert (one.faults, one.by_two, one.by_none, one.others_pause_ns) == ((), 0, 0, 0)
        # Long before its peer would have missed it.
        assert one.pause_ns < one.bound.earliest_ns


def test_preempt_off_leaves_the_shares_where_they_are(stage: Stage) -> None:
    """Without preempt a host that returns is BACKUP of all nodes, and takes nothing from those that have them."""
    hosts = prepare(stage, 2)
    with QuickHosts(stage, hosts) as scene:
        for host in hosts:
            host.configure(host.carps, preempt=False)
            host.reload()
            host.wait_for(lambda status: not status["interfaces"][0]["preempt"], 10.0, "preempt to be off")
        play_event(scene, cut("b"))
        scene.strands[0].ports["b"].plug()
        hosts[1].wait_until_listening()
        assert_everything(scene.flows[0], hosts[0])
        until(lambda: set(states(hosts[1])) == {"BACKUP"}, 5.0, "b to be BACKUP of both")
        assert not is_shared_out(hosts)
        assert_everything(scene.flows[0], hosts[0])


def assert_everything(flows: Flows, host: Host) -> None:
    """Demand that one host answers every flow."""
    for record in flows.round().values():
        assert record.shares() == {host.label: len(flows.stations)}


def states(host: Host) -> list[str]:
    """Return the states of a host's nodes."""
    return [node["state"] for node in host.interface()["nodes"]]
