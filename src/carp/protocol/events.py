"""What the engine is told: every event as a frozen value."""

from collections.abc import Sequence
from dataclasses import dataclass

from .actions import Send
from .demotion import Demotion
from .parameters import HostParameters
from .values import Address, Family, Instant, InterfaceAddress, State, value


@dataclass(frozen=True, slots=True)
class Configured:
    """The administrator's wishes, whole; the engine compares them with what it has and changes only what differs."""

    parameters: HostParameters


@dataclass(frozen=True, slots=True)
class ParentChanged:
    """What is known of a parent interface now; `present` False when it is gone.

    `up` is False only where the link is known to be down: an unknown link counts as up (PROTOCOL.md 4.5). `sources` holds
    the packed address of each family that advertisements to the group come from; a family without one is missing.
    `addresses` are all of its own that can be used now, in the kernel's order: one of them is the source towards a peer.
    """

    parent: str
    present: bool
    up: bool
    mac: bytes
    sources: tuple[tuple[Family, bytes], ...] = ()
    addresses: tuple[InterfaceAddress, ...] = ()


@value
class PacketArrived:
    """An IP packet of protocol 112 arrived at `arrival` on an interface, which is a parent unless the packet was routed."""

    parent: str
    family: Family
    packet: bytes
    arrival: Instant
    vlan_tagged: bool = False


@dataclass(frozen=True, slots=True)
class AddressClaimed:
    """Another host on a parent's LAN says that an address is its own, by ARP or neighbour advertisement, from this MAC."""

    parent: str
    address: Address
    mac: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """Deadlines passed. Every packet that arrived before `read_until` has been handed over.

    Advertisements are due by the clock alone; a master-down timer fires only if its deadline is not after `read_until`.
    `late_ns` is for how long this host did nothing although something was due.
    """

    read_until: Instant
    late_ns: int = 0


@value
class Sent:
    """An advertisement was sent, or not: `error` is the errno then.

    One to peers was sent if it left for any of them; `unreached` are the packed addresses of the others.
    """

    interface: str
    vhid: int
    family: Family
    error: int | None = None
    unreached: tuple[bytes, ...] = ()


@value
class AllSent:
    """Each of these advertisements was sent, to the group or to all of its peers."""

    advertisements: Sequence[Send]


@dataclass(frozen=True, slots=True)
class Taken:
    """The addresses of the last Take action are live."""

    interface: str


@dataclass(frozen=True, slots=True)
class TakeFailed:
    """The addresses could not be taken; `error` is a sentence."""

    interface: str
    error: str


@dataclass(frozen=True, slots=True)
class Probed:
    """The answer to a Probe: it was sent, or not, with `error` as the errno."""

    interface: str
    error: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The pre-master stage that the action Prepare of this serial asked for is over: done, failed, or out of time."""

    interface: str
    vhid: int
    serial: int


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A carp interface was handed over by hand: it preempts nobody until it is MASTER again, or `held` is False."""

    interface: str
    held: bool = True


@dataclass(frozen=True, slots=True)
class Forced:
    """An administrator forces a state, as `ifconfig carp0 state backup` does."""

    interface: str
    state: State


@dataclass(frozen=True, slots=True)
class Stalled:
    """This host did not run for `gap_ns`: its peers may have acted meanwhile."""

    gap_ns: int


@dataclass(frozen=True, slots=True)
class DemotionStarted:
    """A reason for demotion holds from now on; one of the same name and owner is replaced."""

    demotion: Demotion


@dataclass(frozen=True, slots=True)
class DemotionEnded:
    """A reason for demotion holds no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The daemon stops: bow out of everything and release it."""


Event = (
    Configured
    | ParentChanged
    | PacketArrived
    | AddressClaimed
    | Due
    | Sent
    | AllSent
    | Taken
    | TakeFailed
    | Probed
    | Prepared
    | HeldBack
    | Forced
    | Stalled
    | DemotionStarted
    | DemotionEnded
    | Shutdown
)
