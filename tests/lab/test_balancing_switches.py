"""Which mode works behind which switch: a bridge that floods multicast, one that snoops, one that snoops and asks."""

from collections.abc import Callable

import pytest
from balancing_hosts import check_rule, check_told, flows_to, prepare, share, shared_mac

from lab.flows import Flows
from lab.lan import BRIDGE
from lab.pairs import SLACK_S
from lab.sharing import IP, IP_STEALTH, IP_UNICAST, start_sharing
from lab.stage import Stage
from lab.wait import holds_for, until

pytestmark = pytest.mark.usefixtures("carpd")

FEW = 300
SOME_QUERIES_S = 5.0
SWITCHES = {
    "no snooping": {"snooping": False},
    "snooping, no querier": {"snooping": True},
    "snooping with a querier": {"snooping": True, "querier": True},
}

BuildStage = Callable[..., Stage]


def wait_for_querier(stage: Stage) -> None:
    """Wait until the bridge forwards multicast by what was reported to it; it floods all before."""

    def snoops() -> bool:
        shown = stage.lan.switch.run("ip", "-d", "link", "show", BRIDGE)
        return "mcast_querier 1" in shown and bool(stage.lan.switch.run("bridge", "mdb", "show"))

    until(snoops, SLACK_S, "the switch to snoop")


def everybody_answers(flows: Flows) -> bool:
    """Tell whether the switch brings each flow to all hosts: it has its owner's answer."""
    return all(not record.losers() for record in flows.round().values())


@pytest.mark.parametrize("mode", [IP, IP_STEALTH])
@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_brings_packets_to_all_hosts(build_stage: BuildStage, switch: str, mode: str) -> None:
    """Each flow goes to its owner, and goes on to do so while the switch asks and forgets."""
    stage = build_stage(**SWITCHES[switch])
    hosts = share(stage, 2, mode)
    with flows_to(stage, hosts, FEW) as flows:
        if "querier" in SWITCHES[switch]:
            wait_for_querier(stage)
        check_told(flows, shared_mac(mode))
        until(lambda: everybody_answers(flows), SLACK_S, "all flows to be answered", 0.2)
        check_rule(flows, hosts, flows.round(), [1, 2])
        flows.run()
        flows.wait_for_time(SOME_QUERIES_S)
        found = flows.halt()
    check_rule(flows, hosts, found, [1, 2])


def test_stealth_hides_the_shared_mac(stage: Stage) -> None:
    """With ip-stealth no switch ever learns the shared MAC, whatever the hosts send: answers, pings, ARP, advertisements."""
    hosts = share(stage, 2, IP_STEALTH)
    mac = shared_mac(IP_STEALTH)
    learned = []
    with flows_to(stage, hosts, FEW) as flows:
        check_told(flows, mac)
        flows.run()

        def looked_long_enough() -> bool:
            learned.append(mac in stage.lan.forwarding())
            return len(learned) >= 20

        until(looked_long_enough, 10.0, "twenty looks at the switch table", 0.1)
        found = flows.halt()
        hosts[0].port.unplug()
        until(lambda: hosts[1].is_settled("MASTER"), SLACK_S, "b to have both nodes")
        learned.append(mac in stage.lan.forwarding())
        hosts[0].port.plug()
        start_sharing(hosts)
        check_told(flows, mac)
        learned.append(mac in stage.lan.forwarding())
    assert not any(learned)
    check_rule(flows, hosts, found, [1, 2])


def test_ip_unicast_needs_a_switch_that_is_set_up(build_stage: BuildStage) -> None:
    """A switch that learns brings each packet to one host, and what is not its share is lost; one that does not serves all."""
    stage = build_stage()
    hosts = share(stage, 2, IP_UNICAST)
    with flows_to(stage, hosts, FEW) as flows:
        check_told(flows, shared_mac(IP_UNICAST))
        learned = flows.round()
        for host in hosts:
            slave = f"link set dev {host.port.switch_port} type bridge_slave"
            stage.lan.switch.ip(f"{slave} learning off", f"{slave} fdb_flush")
        check_rule(flows, hosts, flows.round(), [1, 2])
    for record in learned.values():
        assert record.losers()
        assert record.repeated() == set()


def test_a_port_that_comes_back_is_told_again(build_stage: BuildStage) -> None:
    """A snooping switch forgets a port that loses its carrier; when the carrier is back it is told at once."""
    stage = build_stage(snooping=True, querier=True)
    hosts = share(stage, 2)
    with flows_to(stage, hosts, FEW) as flows:
        wait_for_querier(stage)
        check_told(flows, shared_mac(IP))
        until(lambda: everybody_answers(flows), SLACK_S, "all flows to be answered", 0.2)
        hosts[1].port.unplug()
        until(lambda: hosts[0].is_settled("MASTER"), SLACK_S, "a to have both nodes")
        hosts[1].port.plug()
        start_sharing(hosts)
        until(lambda: everybody_answers(flows), SLACK_S, "all flows to be answered again", 0.2)
        check_rule(flows, hosts, flows.round(), [1, 2])


def test_without_advertisements_a_snooping_switch_starves_mode_ip(build_stage: BuildStage) -> None:
    """`snooping = "off"` leaves it to the switch: with an active querier nothing comes until its ports are set by hand."""
    stage = build_stage(snooping=True, querier=True)
    hosts = prepare(stage, 2)
    for host in hosts:
        carp = host.carps[0]
        host.configure([carp.but(extra={**carp.extra, "snooping": "off"})], **host.global_keys)
    start_sharing(hosts)
    with flows_to(stage, hosts, FEW) as flows:
        wait_for_querier(stage)
        check_told(flows, shared_mac(IP))
        nothing = {address: set(range(FEW)) for address in flows.addresses}
        until(
            lambda: {address: record.losers() for address, record in flows.round().items()} == nothing, SLACK_S, "silence", 0.2
        )
        for host in hosts:
            stage.lan.switch.run("bridge", "link", "set", "dev", host.port.switch_port, "mcast_router", "2")
        check_rule(flows, hosts, flows.round(), [1, 2])


@pytest.mark.parametrize("mode", [IP, IP_STEALTH])
def test_only_mode_ip_asks_for_every_multicast_frame(build_stage: BuildStage, mode: str) -> None:
    """A snooping switch takes the hosts' ports for those of multicast routers in mode ip, and in no other."""
    stage = build_stage(snooping=True, querier=True)
    hosts = share(stage, 2, mode)
    wait_for_querier(stage)
    ports = {host.port.switch_port for host in hosts}
    if mode == IP:
        until(lambda: ports <= router_ports(stage), SLACK_S, "the switch to know both ports")
    else:
        assert holds_for(lambda: not ports & router_ports(stage), SOME_QUERIES_S, 0.2)


def router_ports(stage: Stage) -> set[str]:
    """Return the ports behind which the bridge believes a multicast router."""
    rows = stage.lan.switch.query("-d mdb show", program="bridge")
    return {one["port"] for row in rows for routers in row.get("router", {}).values() for one in routers}
