"""What an administrator sets: the parameters of one host and of each of its carp interfaces.

The configuration room builds these; the engine compares old with new and changes only what differs.
All ranges are checked by whoever reads them from people; here they are documented.
"""

from dataclasses import dataclass, field
from enum import Enum

from .auth import Key
from .dialect import AUTO, Dialect
from .values import NANOSECONDS_PER_SECOND, Address, Family, InterfaceAddress, family_of, multicast_mac, plain, virtual_mac

MAX_NODES = 32
"""Virtual hosts on one carp interface (OpenBSD's CARP_MAXNODES)."""

DEFAULT_DIGEST_GRACE_NS = 60 * NANOSECONDS_PER_SECOND


@plain
class Balancing(Enum):
    """How the virtual hosts of one carp interface share its traffic (PROTOCOL.md 7); the value is the word for it.

    With ARP each asker is given the MAC of one of them. With the others all hosts receive every packet, and each keeps those
    whose addresses fall to a virtual host that is MASTER there.
    """

    NONE = "none"
    ARP = "arp"
    IP = "ip"
    IP_STEALTH = "ip-stealth"
    IP_UNICAST = "ip-unicast"

    @property
    def splits_packets(self) -> bool:
        """Whether all hosts receive every packet."""
        return self not in (Balancing.NONE, Balancing.ARP)


class LinkAddress(Enum):
    """Which MAC a carp interface uses when none is spelled out."""

    VIRTUAL = "virtual"
    PARENT = "parent"


@dataclass(frozen=True, slots=True)
class Node:
    """One virtual host of a carp interface: vhid 1..255, advskew 0..254 in 1/256 s."""

    vhid: int
    advskew: int = 0


@dataclass(frozen=True, slots=True)
class InterfaceParameters:
    """One carp interface.

    `nodes` is in ascending vhid order, the first one is the leader. `advbase` is in seconds, 0..254. `addresses` are in the
    order in which they were configured. `lladdr` is a LinkAddress or 6 bytes. `preempt` None means: as the host.
    `peer_master_down_ns` is the shortest master-down time of any peer, None to work it out. `carpdev` is "" while nobody has
    named the parent, and `addresses` may be empty: INIT until then. `up` False is INIT by the administrator's wish.
    `peers` are the hosts that advertisements go to instead of the group, for each family that has one.
    `preempt_delay_ns`, 0 or more, is how long a BACKUP that could preempt waits before it does; a MASTER that is gone or more
    demoted is replaced without it. With `pre_master` a hook is to be run, and its end awaited, before the addresses are taken.
    `balancing` is NONE exactly with one node. With `announces_router` snooping switches are told by Multicast Router
    Advertisements that this host wants every multicast frame (RFC 4286); only balancing IP needs that.
    """

    name: str
    carpdev: str
    nodes: tuple[Node, ...]
    key: Key
    addresses: tuple[InterfaceAddress, ...]
    advbase: int = 1
    dialect: Dialect = AUTO
    preempt: bool | None = None
    groups: tuple[str, ...] = ("carp",)
    lladdr: LinkAddress | bytes = LinkAddress.VIRTUAL
    demote_skew: bool = False
    digest_grace_ns: int = DEFAULT_DIGEST_GRACE_NS
    peer_master_down_ns: int | None = None
    up: bool = True
    peers: tuple[Address, ...] = ()
    preempt_delay_ns: int = 0
    pre_master: bool = False
    balancing: Balancing = Balancing.NONE
    announces_router: bool = True

    @property
    def leader(self) -> Node:
        """The virtual host with the lowest vhid: it owns the MAC and answers for the addresses."""
        return self.nodes[0]

    @property
    def received_macs(self) -> tuple[bytes, ...]:
        """The MACs besides the parent's that its network card must let in for several virtual hosts; no link has them."""
        if not self.is_balanced:
            return ()
        if self.balancing is Balancing.ARP:
            return tuple(virtual_mac(node.vhid) for node in self.nodes)
        return () if self.mac is None else (self.mac,)

    @property
    def is_balanced(self) -> bool:
        """Whether several virtual hosts share the traffic."""
        return len(self.nodes) > 1

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that have at least one virtual address, IPv4 first."""
        present = {family_of(address) for address in self.addresses}
        return tuple(family for family in Family if family in present)

    @property
    def mac(self) -> bytes | None:
        """The MAC of the carp interface, or None where it is the parent's own; with ARP balancing each node has another."""
        if isinstance(self.lladdr, bytes):
            return self.lladdr
        if self.balancing is Balancing.IP:
            return multicast_mac(self.leader.vhid)
        return virtual_mac(self.leader.vhid) if self.lladdr is LinkAddress.VIRTUAL else None


@dataclass(frozen=True, slots=True)
class HostParameters:
    """Everything that one host's engine is told: the carp interfaces and the global switches (net.inet.carp.*).

    `dscp` 0..63 is that of the advertisements, None for what the dialect sends. The demotions, 0..255, are what a parent that
    is down and send errors in a row count. With `arpbalance` one address on several carp interfaces of a parent is answered
    for by the one that the asker falls to, without it by the first one.
    """

    interfaces: tuple[InterfaceParameters, ...] = field(default=())
    allow: bool = True
    preempt: bool = False
    dscp: int | None = None
    ifdown_demotion: int = 1
    senderr_demotion: int = 1
    arpbalance: bool = False
