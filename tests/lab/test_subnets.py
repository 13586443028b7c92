"""Where the shared addresses may lie: in the parent's subnet, in another, and on parents without addresses."""

from dataclasses import dataclass

import pytest

from lab.host import Carp
from lab.measure import longest_gap_ns
from lab.pairs import QUICK, SLACK_S, check_caches, make_pair, patience_s, settle, wait_settled
from lab.stage import SHARED, Stage

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000


@dataclass(frozen=True)
class Arrangement:
    """Shared addresses, and what the hosts and the client have of their own."""

    shared: tuple[str, ...]
    numbered: bool = True
    link_local: bool = True
    clients: tuple[str, ...] = ()


ARRANGEMENTS = {
    "in the parent's subnet": Arrangement(SHARED),
    "as single addresses": Arrangement(("192.0.2.100/32", "2001:db8::100/128")),
    "in another subnet": Arrangement(("198.51.100.1/24", "2001:db8:5::1/64"), clients=("198.51.100.9/24", "2001:db8:5::9/64")),
    "in two subnets": Arrangement((*SHARED, "198.51.100.1/24"), clients=("198.51.100.9/24",)),
    "on a parent without addresses": Arrangement(SHARED, numbered=False),
    "on a parent without even a link-local address": Arrangement(SHARED, numbered=False, link_local=False),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_addresses_work_wherever_they_lie(stage: Stage, arrangement: Arrangement) -> None:
    """They are answered, known at the virtual MAC, and move on a clean stop and after a silent cut."""
    for label in ("a", "b"):
        stage.port(label, None if arrangement.numbered else (), link_local=arrangement.link_local)
    stage.client.namespace.ip(*(f"addr add {address} dev eth0 nodad" for address in arrangement.clients))
    a, b = make_pair(stage, QUICK, Carp(addresses=arrangement.shared))
    settle(QUICK, a, b)
    check_caches(stage, a, arrangement.shared, packets=30)
    with stage.prober(arrangement.shared) as prober:
        prober.wait_for_owner("a", SLACK_S)
        event = a.stop()
        prober.wait_for_owner("b", SLACK_S)
        prober.wait_for_time(0.2)
        traces = prober.stop()
    for trace in traces.values():
        assert longest_gap_ns(trace, event) < 300 * MS, trace.address
    check_caches(stage, b, arrangement.shared, packets=30)
    settle(QUICK, a, b)
    a.port.block()
    b.wait_for_state("MASTER", patience_s(QUICK))
    check_caches(stage, b, arrangement.shared, packets=30)
    a.port.unblock()
    wait_settled(QUICK, a, b)


def test_the_hosts_own_traffic_keeps_its_own_source(stage: Stage) -> None:
    """A MASTER that starts a conversation in the shared subnet does so from its own address, also after its link flapped."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    for _ in range(2):
        route = a.namespace.query("route get 192.0.2.9")[0]
        assert (route["dev"], route["prefsrc"]) == ("eth0", "192.0.2.1")
        a.port.cut()
        a.wait_for_state("INIT", SLACK_S)
        a.port.mend()
        a.namespace.ip("addr replace 2001:db8::1/64 dev eth0")
        wait_settled(QUICK, a, b)
