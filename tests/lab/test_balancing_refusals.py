"""What load balancing cannot do here is said, with its place: parents that take no macvlan, hosts that do not agree."""

import subprocess

import pytest
from balancing_hosts import VIP4, VIP6, flows_to, prepare, prepare_arp
from test_fence_state import without_libbpf

from lab.host import Host
from lab.pairs import SLACK_S
from lab.sharing import ARP, IP, IP_STEALTH, QUICK_STEPS, balanced, start_sharing
from lab.stage import Stage
from lab.tables import links, portrait
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

NOTICED_WITHIN_S = 90.0
"""The leader's MASTER asks for its own address once a minute."""


@pytest.mark.parametrize("mode", [IP, IP_STEALTH, ARP])
def test_a_parent_that_is_a_port_of_a_bridge(stage: Stage, mode: str) -> None:
    """The kernel refuses a macvlan there: the interface is INIT, the log names the parent and why, and nothing is balanced."""
    host = prepare(stage, 2, mode)[0]
    host.namespace.ip("link add br7 type bridge", "link set br7 up", "link set eth0 master br7")
    before = portrait(host.namespace)
    host.start()
    until(lambda: "eth0" in host.log_text(), SLACK_S, "the log to name the parent")
    assert {node["state"] for node in host.interface()["nodes"]} == {"INIT"}
    complaint = next(line for line in host.log_text().splitlines() if "eth0" in line)
    assert "busy" in complaint.lower() or "bridge" in complaint.lower(), complaint
    assert "carp0" not in links(host.namespace) or "UP" not in links(host.namespace)["carp0"]["flags"]
    host.stop()
    assert before.differences(portrait(host.namespace)) == []


def test_it_serves_when_the_parent_has_left_the_bridge(stage: Stage) -> None:
    """The reason goes and the nodes come up, without a restart."""
    host = prepare(stage, 2)[0]
    host.namespace.ip("link add br7 type bridge", "link set br7 up", "link set eth0 master br7")
    host.start()
    until(lambda: "eth0" in host.log_text(), SLACK_S, "the log to name the parent")
    host.namespace.ip("link set eth0 nomaster")
    host.wait_for_state("MASTER", 3 * SLACK_S)


def test_balancing_without_the_fence(stage: Stage) -> None:
    """`fence = "off"` is refused with the reason, before anything is touched."""
    host = prepare(stage, 2, fence="off")[0]
    before = portrait(host.namespace)
    host.start(wait=False)
    assert host.wait_for_end() == 2
    assert "fence" in host.log_text()
    assert "carp0" in host.log_text()
    assert before.differences(portrait(host.namespace)) == []


def test_balancing_without_libbpf(stage: Stage) -> None:
    """What needs the kernel's BPF and does not find it refuses to start, names what is balanced and what is missing."""
    host = prepare(stage, 2)[0]
    before = portrait(host.namespace)
    done = subprocess.run(host.namespace.wrap(*without_libbpf(host)), capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "carp0: balancing ip" in done.stderr
    assert "libbpf 1.1 or newer" in done.stderr
    assert "Traceback" not in done.stderr
    assert before.differences(portrait(host.namespace)) == []


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
