"""One host's own address as the shared one: an old server's address goes on when the server is gone."""

import pytest

from lab.host import Carp
from lab.measure import both_answered
from lab.pairs import QUICK, SLACK_S, make_pair, patience_s, settle, wait_settled
from lab.ping import ping
from lab.stage import Stage
from lab.tables import addresses

pytestmark = pytest.mark.usefixtures("carpd")

OWN4, OWN6 = "192.0.2.1/24", "2001:db8::1/64"
BARE = ("192.0.2.1", "2001:db8::1")
KEPT = {OWN4, OWN6}


@pytest.mark.parametrize("lladdr", ["virtual", "parent"])
def test_it_moves_and_comes_back_and_is_never_taken_from_its_owner(stage: Stage, lladdr: str) -> None:
    """When its owner falls silent or is demoted the other host serves it, one at a time, and the owner keeps it configured."""
    a, b = make_pair(stage, QUICK, Carp(addresses=(OWN4, OWN6), extra={"lladdr": lladdr}))
    settle(QUICK, a, b)
    parent = a.port.interface
    with stage.prober(BARE) as prober:
        prober.wait_for_owner("a", SLACK_S)
        if lladdr == "virtual":  # with MACs of their own, clients would look for the old one for a while
            a.port.block()
            b.wait_for_state("MASTER", patience_s(QUICK))
            prober.wait_for_owner("b", SLACK_S)
            a.port.unblock()
            wait_settled(QUICK, a, b)
            prober.wait_for_owner("a", SLACK_S)
        assert a.carp("demote", "add", "test", "9").returncode == 0
        wait_settled(QUICK, b, a)
        prober.wait_for_owner("b", SLACK_S)
        prober.wait_for_time(0.3)
        assert addresses(a.namespace, parent) >= KEPT
        assert ping(b.namespace, "192.0.2.9", count=3, source=BARE[0]) == 3
        assert a.carp("demote", "remove", "test").returncode == 0
        wait_settled(QUICK, a, b)
        prober.wait_for_owner("a", SLACK_S)
        assert ping(a.namespace, "192.0.2.9", count=3, source=BARE[0]) == 3
        traces = prober.stop()
    assert {address: both_answered(trace) for address, trace in traces.items()} == dict.fromkeys(BARE, 0)
    b.stop()
    a.stop()
    assert addresses(a.namespace, parent) >= KEPT
    stage.client.namespace.ip("neigh flush all")
    assert ping(stage.client.namespace, BARE[0], count=3) == 3


def test_it_is_warned_about(stage: Stage) -> None:
    """Its own traffic needs the address, too; that of another interface, or one that is balanced, is refused."""
    a, _ = make_pair(stage, QUICK, Carp(addresses=(OWN4,)))
    a.start()
    assert f"192.0.2.1 is {a.port.interface}'s own address: only a MASTER can use it, for its own traffic too" in a.log_text()
    assert a.carp("ifconfig", "carp0", "carpnodes", "1:0,2:100").returncode == 1
