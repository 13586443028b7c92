"""Hosts that share balanced addresses by the programs alone, as carpd would set them up; a test moves masks and deadlines."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from fence_host import SECOND_NS, in_ns, index_of, packed

from carp.linux import sysctl
from carp.linux.bpf.balancer import Balance, BalancedNode, Decision
from carp.linux.bpf.fence import Fence
from carp.linux.netlink import Netlink
from carp.protocol.balance import AskerHash
from carp.protocol.values import multicast_mac, virtual_mac
from lab.lan import Port
from lab.stage import SHARED, bare

INDEX = 1
CLOSED_SLOT = 50
VIP4, VIP6 = bare(SHARED)
VIPS = (VIP4, VIP6)
MULTICAST = multicast_mac(1)
STEALTH = virtual_mac(1)
CLIENTS4 = [f"192.0.2.{number}" for number in range(20, 36)]
CLIENTS6 = [f"2001:db8::{number:x}" for number in range(20, 36)]


@dataclass(frozen=True)
class Plan:
    """How addresses are shared: on an interface that takes nothing itself, or on a macvlan for each node."""

    decision: Decision = Decision.PACKETS
    nodes: int = 2
    shared_mac: bytes = MULTICAST
    delivers: bool = False

    @property
    def has_macvlans(self) -> bool:
        """Tell whether each node's macvlan takes what comes by its MAC."""
        return self.decision is not Decision.PACKETS and not self.delivers


class Sharing:
    """One host of a group: programs on its parent, all nodes closed."""

    def __init__(self, port: Port, plan: Plan) -> None:
        self.port = port
        self.namespace = port.namespace
        self.fence = Fence.load("test")
        with self.namespace.entered():
            self.netlink = Netlink()
        parent = index_of(port, port.interface)
        nodes = tuple(BalancedNode(rank, virtual_mac(rank + 1), AskerHash(0, 0, 0)) for rank in range(plan.nodes))
        is_split = plan.decision is Decision.PACKETS
        self.balance = Balance(
            parent_ifindex=parent,
            decision=plan.decision,
            nodes=nodes,
            addresses=tuple(ip_address(address) for address in VIPS),
            shared_mac=plan.shared_mac if is_split else b"",
            reply_mac=packed(port.mac) if is_split else b"",
            delivers=plan.delivers,
            router=False,
        )
        self.fence.balancer.put(INDEX, self.balance)
        self._has_macvlans = plan.has_macvlans
        if not plan.has_macvlans:
            self.extend()
        for key, value in sysctl.PARENT_SETTINGS.items():
            self.namespace.sysctl(key.format(name=port.interface), value)
        if plan.has_macvlans:
            for rank, node in enumerate(nodes):
                self._make_interface(f"carp{rank}", rank, f"address {node.mac.hex(':')}")
        else:
            self._make_interface("carp0", CLOSED_SLOT)
        self.fence.guard_parent(self.netlink, parent)

    def _make_interface(self, name: str, slot: int, mac: str = "") -> None:
        self.namespace.ip(f"link add {name} link {self.port.interface} {mac} type macvlan mode bridge")
        for key, value in sysctl.CARP_LINK_SETTINGS.items():
            self.namespace.sysctl(key.format(name=name), value)
        self.fence.guard_link(self.netlink, index_of(self.port, name), slot)
        self.namespace.ip(
            f"link set dev {name} up",
            *(f"addr add {address} dev {name} nodad noprefixroute" for address in (f"{VIP4}/32", f"{VIP6}/128")),
        )

    def extend(self, duration_ns: int = 600 * SECOND_NS) -> None:
        """Move the deadlines of all nodes."""
        for node in self.balance.nodes:
            self.fence.deadlines.extend(node.slot, in_ns(duration_ns))

    def open(self, *nodes: int) -> None:
        """Be MASTER of exactly these; no other macvlan says anything: the switch would learn its MAC here."""
        self.fence.balancer.set_mask(INDEX, sum(1 << node for node in nodes))
        if self._has_macvlans:
            for rank, node in enumerate(self.balance.nodes):
                self.fence.deadlines.extend(node.slot, in_ns(600 * SECOND_NS if rank in nodes else 0))

    def kept(self) -> int:
        """Count the packets that were kept."""
        return sum(one.kept_packets for one in self.fence.balancer.counts(INDEX, len(self.balance.nodes)))

    def close(self) -> None:
        """Let go of programs and socket."""
        self.netlink.close()
        self.fence.close()


@pytest.fixture
def share() -> Iterator[Callable[..., Sharing]]:
    """Make hosts share the addresses."""
    with ExitStack() as stack:

        def build(port: Port, plan: Plan = Plan()) -> Sharing:
            host = Sharing(port, plan)
            stack.callback(host.close)
            return host

        yield build


def give_addresses(client: Port) -> None:
    """Let the client be many."""
    addresses = [f"{one}/24" for one in CLIENTS4] + [f"{one}/64" for one in CLIENTS6]
    client.namespace.ip(*(f"addr add {address} dev eth0" for address in addresses))


def entry_of(client: Port, address: str) -> str | None:
    """Return the MAC that the client has for an address."""
    rows = client.namespace.query("neigh show dev eth0")
    return next((row["lladdr"] for row in rows if row["dst"] == address and "lladdr" in row), None)


def wait_past(instant_ns: int) -> None:
    """Wait until the fence's clock has passed an instant."""
    while (left := instant_ns - in_ns(0)) >= 0:
        time.sleep(left / SECOND_NS + 0.001)
