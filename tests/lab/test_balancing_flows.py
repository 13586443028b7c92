"""Several hosts serve one address at once: each flow has one owner, the one that the rule says, of both families."""

from collections.abc import Callable

import pytest
from balancing_hosts import VIP4, VIP6, check_rule, check_told, flows_to, prepare_arp, share, shared_mac

from lab.flows import Told
from lab.pairs import virtual_mac
from lab.sharing import ARP, IP, IP_STEALTH, IP_UNICAST, masters, start_sharing
from lab.stage import Stage
from lab.stations import MOST, Station

pytestmark = pytest.mark.usefixtures("carpd")

SOME = 2_000
LEAST_SHARE = 0.3
"""Of two hosts: far from a half, and far from nothing."""


def owner_by_mac(told: Told, vhids: list[int], now: dict[int, list[str]]) -> list[str]:
    """Return who should answer each flow: the MASTER of the vhid whose virtual MAC its station was told."""
    by_mac = {virtual_mac(vhid): now[vhid][0] for vhid in vhids}
    return [by_mac[told[flow][0][0]] for flow in sorted(told)]


def node_of_asker(station: Station, address: str, count: int) -> int:
    """Say which node the address of an asker chooses: an IPv4 address as a number, the words of an IPv6 one XORed."""
    if ":" not in address:
        return int.from_bytes(station.ipv4, "big") % count
    words = [int.from_bytes(station.ipv6[start : start + 4], "big") for start in range(0, 16, 4)]
    return (words[0] ^ words[1] ^ words[2] ^ words[3]) % count


@pytest.mark.parametrize("count", [2, 3, 4])
def test_each_flow_has_one_owner(stage: Stage, count: int) -> None:
    """Of 10,000 flows each is answered once, by the MASTER of the node that its addresses choose; ARP and ND by one host."""
    hosts = share(stage, count)
    with flows_to(stage, hosts, MOST) as flows:
        check_told(flows, shared_mac(IP))
        check_rule(flows, hosts, flows.round(), range(1, count + 1))


@pytest.mark.parametrize("mode", [IP, IP_STEALTH, IP_UNICAST])
def test_what_the_wire_shows_of_a_mode(build_stage: Callable[..., Stage], mode: str) -> None:
    """Stations are told the leader's shared MAC; what is answered comes from each host's own."""
    stage = build_stage(flooding=mode == IP_UNICAST)
    hosts = share(stage, 3, mode)
    own = {host.label: {host.port.mac} for host in hosts}
    with flows_to(stage, hosts, SOME) as flows:
        check_told(flows, shared_mac(mode))
        found = flows.round()
        check_rule(flows, hosts, found, [1, 2, 3])
    for record in found.values():
        assert {label: record.macs(label) for label in own} == own


@pytest.mark.parametrize("count", [2, 3])
def test_arp_balancing_by_address(stage: Stage, count: int) -> None:
    """Of carp interfaces with one address the asker's address chooses who answers, with that one's MAC; its flow goes there."""
    hosts = prepare_arp(stage, count)
    start_sharing(hosts)
    now, vhids = masters(hosts), list(range(1, count + 1))
    with flows_to(stage, hosts, SOME) as flows:
        told, found = flows.resolve(), flows.round()
    for address in (VIP4, VIP6):
        macs = [[mac for mac, _ in told[address].get(station.flow, [])] for station in flows.stations]
        chosen = [virtual_mac(1 + node_of_asker(station, address, count)) for station in flows.stations]
        assert macs == [[mac] for mac in chosen]
        wanted = owner_by_mac(told[address], vhids, now)
        assert [found[address].owners(flow) for flow in found[address].flows] == [{label} for label in wanted]
        assert (found[address].repeated(), found[address].losers()) == (set(), set())


@pytest.mark.parametrize("words", ["dialect netbsd", "balancing arp"])
def test_arp_balancing_by_mac(stage: Stage, words: str) -> None:
    """With a keyed hash of the asker's MAC each station is told one MAC, and the MASTER of that one answers it."""
    hosts = share(stage, 2, ARP) if words == "balancing arp" else prepare_arp(stage, 2, "netbsd")
    start_sharing(hosts)
    now = masters(hosts)
    with flows_to(stage, hosts, SOME) as flows:
        told, found = flows.resolve(), flows.round()
    for address in (VIP4, VIP6):
        assert {len(seen) for seen in told[address].values()} == {1}
        assert len(told[address]) == SOME
        wanted = owner_by_mac(told[address], [1, 2], now)
        assert [found[address].owners(flow) for flow in found[address].flows] == [{label} for label in wanted]
        assert (found[address].repeated(), found[address].losers()) == (set(), set())
        assert min(found[address].shares().values()) > LEAST_SHARE * SOME


def test_a_station_gets_the_same_host_of_both_ways(stage: Stage) -> None:
    """The rule is symmetric: which host takes a packet also sends what is asked of it from the shared address."""
    hosts = share(stage, 2)
    with flows_to(stage, hosts, SOME) as flows:
        flows.resolve()
        before, after = flows.round(), flows.round()
    for address in (VIP4, VIP6):
        owners = [[record.owners(flow) for flow in record.flows] for record in (before[address], after[address])]
        assert owners[0] == owners[1]
