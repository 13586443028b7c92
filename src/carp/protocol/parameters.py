"""What an administrator sets: the parameters of one host and of each of its carp interfaces.

The configuration room builds these; the engine compares old with new and changes only what differs.
All ranges are checked by whoever reads them from people; here they are documented.
"""

from dataclasses import dataclass, field
from enum import Enum

from .auth import Key
from .dialect import AUTO, Dialect
from .values import NANOSECONDS_PER_SECOND, Address, Family, InterfaceAddress, family_of, virtual_mac

MAX_NODES = 32
"""Virtual hosts on one carp interface (OpenBSD's CARP_MAXNODES)."""

DEFAULT_DIGEST_GRACE_NS = 60 * NANOSECONDS_PER_SECOND


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

    @property
    def leader(self) -> Node:
        """The virtual host with the lowest vhid: it owns the MAC and answers for the addresses."""
        return self.nodes[0]

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that have at least one virtual address, IPv4 first."""
        present = {family_of(address) for address in self.addresses}
        return tuple(family for family in Family if family in present)

    @property
    def mac(self) -> bytes | None:
        """The MAC of the carp interface, or None where it is the parent's own."""
        if isinstance(self.lladdr, bytes):
            return self.lladdr
        return virtual_mac(self.leader.vhid) if self.lladdr is LinkAddress.VIRTUAL else None


@dataclass(frozen=True, slots=True)
class HostParameters:
    """Everything that one host's engine is told: the carp interfaces and the global switches (net.inet.carp.*).

    `dscp` 0..63 is that of the advertisements, None for what the dialect sends. The demotions, 0..255, are what a parent that
    is down and send errors in a row count.
    """

    interfaces: tuple[InterfaceParameters, ...] = field(default=())
    allow: bool = True
    preempt: bool = False
    dscp: int | None = None
    ifdown_demotion: int = 1
    senderr_demotion: int = 1
