"""Hosts that share the load of the usual addresses, quick ones, and what every station may expect of them."""

from collections.abc import Iterable, Mapping, Sequence

from lab.balanced import Balanced, Strand
from lab.flow_record import FlowRecord
from lab.flows import Flows
from lab.host import Carp, Host
from lab.shares import strangers, wanted_owners
from lab.sharing import IP, QUICK_STEPS, arp_balanced, balanced, crossed, masters, start_sharing
from lab.stage import SHARED, Stage, bare
from lab.stations import wanted_nodes

STALL_NS = 300_000_000
"""How late a busy machine may make things beyond the protocol's own bound."""
VIP4, VIP6 = bare(SHARED)
LABELS = "abcd"


def prepare(stage: Stage, count: int, mode: str = IP, carp: Carp | None = None, **global_keys: object) -> list[Host]:
    """Configure hosts a, b, ... with a node for each of them; nothing is started."""
    keys = {"preempt": True} | global_keys
    return [
        stage.host(label, balanced(crossed(index, count), mode, QUICK_STEPS, carp), **keys)
        for index, label in enumerate(LABELS[:count])
    ]


def prepare_arp(stage: Stage, count: int, dialect: str = "auto", **global_keys: object) -> list[Host]:
    """Configure hosts with a carp interface for each of them, all with the usual addresses."""
    keys = {"preempt": True, "arpbalance": True} | global_keys
    return [
        stage.host(label, *arp_balanced(crossed(index, count), QUICK_STEPS, dialect=dialect), **keys)
        for index, label in enumerate(LABELS[:count])
    ]


def share(stage: Stage, count: int, mode: str = IP) -> list[Host]:
    """Start hosts of which each is MASTER of its own node."""
    hosts = prepare(stage, count, mode)
    start_sharing(hosts)
    return hosts


def flows_to(stage: Stage, hosts: Iterable[Host], count: int = 1_000, addresses: Sequence[str] = (VIP4, VIP6)) -> Flows:
    """Return flows of the stage's client; a context manager."""
    return Flows([host.port for host in hosts], stage.client, addresses, count)


def shared_mac(mode: str, leader: int = 1) -> str:
    """Return the MAC at which all hosts of a mode get the packets."""
    return f"{'01' if mode == IP else '00'}:00:5e:00:01:{leader:02x}"


def check_told(flows: Flows, mac: str) -> None:
    """Demand that each station is told one MAC of each address by one host, and which."""
    for address, told in flows.resolve().items():
        macs = [[one for one, _ in told.get(station.flow, [])] for station in flows.stations]
        assert [one for one in macs if one != [mac]] == [], address


def check_rule(flows: Flows, hosts: Sequence[Host], found: Mapping[str, FlowRecord], vhids: Sequence[int]) -> None:
    """Demand that each flow had one answer to each question, from the MASTER of the node that its addresses choose."""
    now = masters(hosts)
    assert {len(labels) for labels in now.values()} == {1}
    for address, record in found.items():
        wanted = wanted_owners(wanted_nodes(flows.stations, address, len(vhids)), list(vhids), now)
        assert strangers(record, wanted) == {}, address
        assert (record.repeated(), record.losers()) == (set(), set()), address


class QuickHosts(Balanced):
    """A scene of hosts that were prepared on a stage; it starts them."""

    def __init__(self, stage: Stage, hosts: list[Host], *, by_packet: bool = True, flows: int = 500) -> None:
        self.by_packet = by_packet
        self._hosts = hosts
        super().__init__(None, flows, stage)

    def build(self) -> list[Strand]:
        """Take the hosts as they are."""
        ports = {host.label: host.port for host in self._hosts}
        return [Strand(self.stage.client, ports, (VIP4, VIP6), tuple(range(1, len(ports) + 1)))]
