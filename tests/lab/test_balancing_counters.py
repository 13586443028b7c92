"""The counters of each node: what a host keeps and drops adds up to the traffic."""

import pytest
from balancing_hosts import VIP4, VIP6, flows_to, share

from lab.host import Host
from lab.sharing import IP, IP_STEALTH, masters
from lab.stage import Stage
from lab.stations import wanted_nodes
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

FLOWS = 400
_QUESTION_BYTES = {4: 14 + 20 + 8 + 12, 6: 14 + 40 + 8 + 12}


def counts(host: Host) -> list[dict[str, int]]:
    """Return the counters of a host's nodes, by rank."""
    return [node["balance"] for node in host.interface()["nodes"]]


def grown(before: list[dict[str, int]], after: list[dict[str, int]], key: str) -> list[int]:
    """Return by how much a counter of each node has grown."""
    return [later[key] - earlier[key] for earlier, later in zip(before, after, strict=True)]


@pytest.mark.parametrize("mode", [IP, IP_STEALTH])
@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_counters_add_up(stage: Stage, mode: str, address: str) -> None:
    """Each host gets every packet, keeps those of its own node and drops those of the others; packets and bytes add up."""
    hosts = share(stage, 3, mode)
    with flows_to(stage, hosts, FLOWS, [address]) as flows:
        flows.resolve()
        before = {host.label: counts(host) for host in hosts}
        record = flows.round()[address]
        after = {host.label: counts(host) for host in hosts}
    nodes = wanted_nodes(flows.stations, address, len(hosts))
    size = _QUESTION_BYTES[6 if ":" in address else 4]
    for rank, host in enumerate(hosts):
        kept = grown(before[host.label], after[host.label], "kept_packets")
        dropped = grown(before[host.label], after[host.label], "dropped_packets")
        mine = [nodes.count(node) if node == rank else 0 for node in range(len(hosts))]
        others = [0 if node == rank else nodes.count(node) for node in range(len(hosts))]
        assert (kept, dropped) == (mine, others)
        assert kept[rank] == record.shares()[host.label]
        assert grown(before[host.label], after[host.label], "kept_bytes") == [size * count for count in mine]
        assert grown(before[host.label], after[host.label], "dropped_bytes") == [size * count for count in others]


def test_the_displays_name_each_node(stage: Stage) -> None:
    """`carp status` has a line for each node with what was kept and dropped, and says which of them are open."""
    hosts = share(stage, 2)
    with flows_to(stage, hosts, FLOWS) as flows:
        flows.resolve()
        flows.round()
    for rank, host in enumerate(hosts):
        balances = counts(host)
        assert [(one["index"], one["open"]) for one in balances] == [(0, rank == 0), (1, rank == 1)]
        shown = host.carp("status").stdout
        assert "balancing ip, MASTER of 1 of 2" in shown
        lines = [line.split() for line in shown.splitlines()]
        for vhid, one in enumerate(balances, start=1):
            row = next(line for line in lines if line[:1] == [str(vhid)] and line[1:2] in (["MASTER"], ["BACKUP"]))
            assert str(one["kept_packets"]) in row
            assert str(one["dropped_packets"]) in row


def test_counters_go_on_when_nodes_move(stage: Stage) -> None:
    """A takeover does not clear them: what was dropped for a node before is kept for it from then on."""
    hosts = share(stage, 2)
    with flows_to(stage, hosts, FLOWS) as flows:
        flows.resolve()
        flows.round()
        first = counts(hosts[0])
        assert first[1]["kept_packets"] == 0
        assert first[1]["dropped_packets"] > 0
        hosts[1].port.unplug()
        until(lambda: masters(hosts[:1]) == {1: ["a"], 2: ["a"]}, 10.0, "a to have both nodes")
        before = counts(hosts[0])
        flows.round()
        after = counts(hosts[0])
    nodes = [wanted_nodes(flows.stations, address, 2) for address in flows.addresses]
    assert grown(before, after, "kept_packets") == [sum(one.count(node) for one in nodes) for node in (0, 1)]
    assert grown(before, after, "dropped_packets") == [0, 0]
    assert before[1]["dropped_packets"] == first[1]["dropped_packets"]
