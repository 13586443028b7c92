"""Where addresses that hosts share the load of may lie: in the parent's subnet, alone, on parents without addresses."""

import pytest
from balancing_hosts import prepare, shared_mac

from lab.flows import Flows
from lab.host import Carp
from lab.sharing import ARP, IP, IP_STEALTH, start_sharing
from lab.stage import SHARED, Stage, bare
from lab.tables import neighbours

pytestmark = pytest.mark.usefixtures("carpd")

FLOWS = 500
SUBNETS = {
    "as single addresses": (("192.0.2.100/32", "2001:db8::100/128"), True),
    "on a parent without addresses": (SHARED, False),
}


@pytest.mark.parametrize("mode", [IP, IP_STEALTH, ARP])
@pytest.mark.parametrize(("shared", "numbered"), SUBNETS.values(), ids=SUBNETS)
def test_flows_have_one_owner_wherever_the_address_lies(
    stage: Stage, mode: str, shared: tuple[str, ...], numbered: bool
) -> None:
    """Each is answered once, and neighbours of the hosts know the address behind the shared MAC only, whoever asks for them."""
    for label in ("a", "b"):
        stage.port(label, None if numbered else ())
    hosts = prepare(stage, 2, mode, Carp(addresses=shared))
    start_sharing(hosts)
    addresses = bare(shared)
    with Flows([host.port for host in hosts], stage.client, addresses, FLOWS) as flows:
        flows.resolve()
        first, found = flows.round(), flows.round()
    for address in addresses:
        assert (found[address].repeated(), found[address].losers()) == (set(), set())
        assert sorted(first[address].shares()) == sorted(found[address].shares()) == ["a", "b"]
    if mode != ARP:
        known = neighbours(stage.client.namespace)
        assert {known[address].mac for address in addresses if address in known} <= {shared_mac(mode)}
