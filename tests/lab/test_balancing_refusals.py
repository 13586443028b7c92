"""What load balancing cannot do here is said, with its place: parents that take no macvlan, hosts that do not agree."""

import subprocess

import pytest
from balancing_hosts import VIP4, VIP6, flows_to, prepare, prepare_arp
from guide_hosts import carp, make_networks, start_empty, type_in
from test_fence_state import without_libbpf

from lab.host import Host
from lab.pairs import SLACK_S
from lab.sharing import ARP, IP, IP_STEALTH, QUICK_STEPS, balanced, start_sharing
from lab.stage import Stage
from lab.tables import portrait
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

WRONG_USE, CANNOT_RUN = 2, 1
NOTICED_WITHIN_S = 90.0
"""The leader's MASTER asks for its own address once a minute."""


def refused(host: Host, *prefix: str) -> subprocess.CompletedProcess[str]:
    """Run carpd, which is expected to end by itself, and check that the host is as before."""
    before = portrait(host.namespace)
    line = prefix or host.arguments()
    done = subprocess.run(host.namespace.wrap(*line), capture_output=True, text=True, timeout=60)
    after = portrait(host.namespace)
    # A bridge and its ports show states and timers that change by themselves.
    assert (after.links.keys(), after.settings, after.traffic_control) == (
        before.links.keys(),
        before.settings,
        before.traffic_control,
    )
    assert "Traceback" not in done.stderr
    return done


def into_a_bridge(host: Host) -> None:
    """Make a host's interface a port of a bridge of its own."""
    host.namespace.ip("link add br7 type bridge", "link set br7 up", "link set eth0 master br7")


@pytest.mark.parametrize("mode", [IP, IP_STEALTH, ARP])
def test_a_parent_that_is_a_port_of_a_bridge(stage: Stage, mode: str) -> None:
    """It carries no macvlan: carpd does not start, says which parent and why, and starts when the reason is gone."""
    host = prepare(stage, 2, mode)[0]
    into_a_bridge(host)
    done = refused(host)
    assert done.returncode == CANNOT_RUN
    assert "eth0 carries no macvlan" in done.stderr
    assert "bridge" in done.stderr
    host.namespace.ip("link set eth0 nomaster")
    host.start()
    host.wait_for_state("MASTER", 3 * SLACK_S)


def test_such_a_parent_while_it_runs(stage: Stage) -> None:
    """The line warns with the name of the parent and why; its nodes are INIT, and what ran goes on as before."""
    (network,) = networks = make_networks(stage, eth0="192.168.1")
    (host,) = start_empty(stage, networks, a=1)
    host.namespace.ip("link add eth7 type veth peer name eth8", "link set eth7 up", "addr add 192.168.7.1/24 dev eth7")
    host.namespace.ip("link add br7 type bridge", "link set br7 up", "link set eth7 master br7")
    type_in(host, f"ifconfig carp0 {network.address(10)}/24 balancing ip carpnodes 1:0,2:100 pass secret")
    host.wait_for_state("MASTER", 3 * SLACK_S)
    before = host.interface()["nodes"][0]["transitions"]
    done = carp(host, "ifconfig carp1 192.168.7.10/24 carpdev eth7 balancing ip carpnodes 3:0,4:100 pass secret")
    assert done.returncode == 0
    assert "warning: eth7 carries no macvlan: it is a port of a bridge" in done.stderr
    assert "eth7 carries no macvlan" in host.log_text()
    assert [node["state"] for node in host.interface("carp1")["nodes"]] == ["INIT", "INIT"]
    assert [node["balance"]["open"] for node in host.interface("carp1")["nodes"]] == [False, False]
    assert host.interface()["nodes"][0]["transitions"] == before


def test_balancing_without_the_fence(stage: Stage) -> None:
    """`fence = "off"` is refused with the reason, before anything is touched."""
    done = refused(prepare(stage, 2, fence="off")[0])
    assert done.returncode == WRONG_USE
    assert "fence" in done.stderr
    assert "carp0" in done.stderr


def test_balancing_without_libbpf(stage: Stage) -> None:
    """What needs the kernel's BPF and does not find it refuses to start, names what is balanced and what is missing."""
    host = prepare(stage, 2)[0]
    done = refused(host, *without_libbpf(host))
    assert done.returncode == CANNOT_RUN
    assert "carp0: balancing ip" in done.stderr
    assert "libbpf 1.1 or newer" in done.stderr


@pytest.mark.timeout(240)
def test_hosts_with_different_leaders(stage: Stage) -> None:
    """Two lists of carpnodes make two shared MACs: a MASTER's log and status name the address and the other MAC."""
    a, b = (stage.host(label, balanced(nodes, IP, QUICK_STEPS), preempt=True) for label, nodes in LISTS.items())
    for host in (a, b):
        host.start()
    until(lambda: leader_state(a) == leader_state(b) == "MASTER", 3 * SLACK_S, "each to lead its list")
    with flows_to(stage, [a, b], 20) as flows:
        told = flows.resolve()
    assert {mac for mac, _ in told[VIP4][0]} == {"01:00:5e:00:01:01", "01:00:5e:00:01:02"}

    def noticed() -> bool:
        return any(VIP4 in line or VIP6 in line for line in a.log_text().splitlines() if "01:00:5e:00:01:02" in line)

    until(noticed, NOTICED_WITHIN_S, "the log of a to name the address and the MAC")
    claim = a.interface()["claim"]
    assert claim["address"] in (VIP4, VIP6)
    assert claim["mac"] == "01:00:5e:00:01:02"


LISTS = {"a": [(1, 40), (3, 60)], "b": [(2, 40), (3, 80)]}


def leader_state(host: Host) -> str:
    """Return the state of the node with the lowest vhid."""
    return str(host.interface()["nodes"][0]["state"])


def test_hosts_that_agree_say_nothing(stage: Stage) -> None:
    """Of hosts with one list none warns, in any mode."""
    hosts = prepare(stage, 3)
    start_sharing(hosts)
    with flows_to(stage, hosts, 300) as flows:
        flows.resolve()
        flows.round()
    for host in hosts:
        assert host.interface()["claim"] is None
        assert [node["warnings"] for node in host.interface()["nodes"]] == [[], [], []]
        assert "warning" not in host.log_text().lower()


def test_sharers_of_an_address_on_one_host_alone(stage: Stage) -> None:
    """One host with all carp interfaces of an address is MASTER of all of them and answers everybody."""
    host = prepare_arp(stage, 2)[0]
    host.start()
    for name in ("carp0", "carp1"):
        host.wait_for_state("MASTER", SLACK_S, name)
    with flows_to(stage, [host], 200) as flows:
        assert all(len(one) == 200 for one in flows.resolve().values())
        assert all(record.shares() == {"a": 200} for record in flows.round().values())
