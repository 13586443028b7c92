"""As many hosts as there can be nodes, on one switch."""

from collections import Counter
from collections.abc import Iterator

import pytest
from balancing_hosts import VIP4, VIP6, check_rule, check_told, shared_mac
from guide_hosts import start

from lab.flows import Flows
from lab.host import Host
from lab.sharing import IP, balanced, crossed, is_shared_out, masters, standing, wait_until_shared_out
from lab.stage import Stage
from lab.wait import until

pytestmark = [pytest.mark.usefixtures("carpd"), pytest.mark.timeout(300)]

COUNT = 32
STEPS = (1, 0, 7)
"""A second and 7/256 s for each place, so that two hosts never want a node at the same moment."""
SETTLING_S = 60.0
AT_ONCE = 4
FLOWS = 2_000


@pytest.fixture
def hosts(stage: Stage) -> Iterator[list[Host]]:
    """Configure 32 hosts, each with all nodes, of which it prefers its own."""
    crowd = []
    for index in range(COUNT):
        label = f"h{index}"
        stage.port(label, [f"192.0.2.{10 + index}/24", f"2001:db8::1:{index:x}/64"])
        crowd.append(stage.host(label, balanced(crossed(index, COUNT, STEPS), IP, STEPS), preempt=True))
    yield crowd
    # To stop 32 cleanly, one after another, takes longer than all the rest.
    for host in crowd:
        if host.running:
            host.kill()


def test_thirty_two_hosts(stage: Stage, hosts: list[Host]) -> None:
    """Each becomes MASTER of the node that it prefers; each flow has one owner; the nodes of three dead ones move."""
    for first in range(0, COUNT, AT_ONCE):
        start(hosts[first : first + AT_ONCE])
    wait_until_shared_out(hosts, SETTLING_S)
    ports = [host.port for host in hosts]
    with Flows(ports, stage.client, [VIP4, VIP6], FLOWS) as flows:
        check_told(flows, shared_mac(IP))
        check_rule(flows, hosts, flows.round(), range(1, COUNT + 1))
        assert is_shared_out(hosts)
        for host in hosts[3:6]:
            host.kill()
        left = hosts[:3] + hosts[6:]
        until(lambda: is_shared_out(left), SETTLING_S, f"three nodes to move, not {standing(left)}", 0.2)
        now = masters(left)
        # The next in turn after all three.
        assert Counter(label for labels in now.values() for label in labels) == Counter(
            {"h6": 4} | {host.label: 1 for host in left if host.label != "h6"}
        )
        check_told(flows, shared_mac(IP))
        check_rule(flows, left, flows.round(), range(1, COUNT + 1))
