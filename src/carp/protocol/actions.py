"""What the engine asks for: every action as a frozen value, to be carried out in the order given."""

from dataclasses import dataclass
from enum import Enum

from .packet import DropReason
from .values import Address, Family, InterfaceAddress, State, plain, value


@plain
class Reason(Enum):
    """Why a virtual host changed its state; the value is the text of the log."""

    INITIALIZED = "initialization complete"
    MASTER_TIMED_OUT = "master timed out"
    PREEMPTED_SLOWER = "preempting a slower master"
    LESS_DEMOTED_HERE = "preempting a more demoted master"
    MASTER_BOWED_OUT = "master bowed out"
    MASTER_WILL_TIME_OUT = "master will time out"
    FASTER_MASTER = "more frequent advertisement received"
    LESS_DEMOTED_THERE = "advertisement of a less demoted host received"
    LOST_TIE = "equal advertisement of the preferred host received"
    NOT_READY = "not ready"
    STOPPED = "interface stopped"
    FORCED = "user request"
    STALLED = "this host was stalled"
    TAKE_FAILED = "addresses could not be taken"


@plain
class Note(Enum):
    """Things worth a line in the log that change no state."""

    RIVAL = "another host is MASTER too"
    CLAIMED = "another host claims an address"
    FAMILY_SILENT = "one address family is silent"
    FAMILY_HEARD = "the silent address family is heard again"
    REASSERTED = "said again that this host is MASTER"
    DEMOTED = "demotion changed"
    SEND_FAILED = "advertisement could not be sent"


@value
class Send:
    """Send an advertisement: one IP packet to the group, from the MAC of the interface's virtual host, or one to each peer.

    Those to peers (`unicast`) go the way that the kernel's routes say; a source of zero is for the kernel to choose. If it is
    sent, no peer takes over before `holds_ns` have passed, so the fence may stay open that long; 0 for a bow-out, and while a
    former MASTER that lives is given the time to yield: then it does not open the fence.
    """

    interface: str
    vhid: int
    family: Family
    packets: tuple[bytes, ...]
    holds_ns: int
    unicast: bool = False

    @property
    def packet(self) -> bytes:
        """The packet, of several the first one."""
        return self.packets[0]


@dataclass(frozen=True, slots=True)
class CloseFence:
    """Let nothing pass on behalf of this virtual host from now on.

    Of a carp interface with one virtual host that is everything through it, and from or to its addresses; else its share.
    """

    interface: str
    vhid: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Run the pre-master stage, which ends before the addresses are taken; answer with Prepared, in time and always."""

    interface: str
    vhid: int
    serial: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask who has this address, by ARP or neighbour solicitation from the parent's own MAC; answer with Probed.

    It shows whether the parent sends at all; and of a balanced address whether somebody else answers for it, too. `source` is
    packed, zeros where the parent has none.
    """

    interface: str
    target: Address
    source: bytes


@dataclass(frozen=True, slots=True)
class Take:
    """Make exactly these addresses of the carp interface live; answer with Taken or TakeFailed."""

    interface: str
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Make no address of the carp interface live."""

    interface: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the LAN where these addresses are, by gratuitous ARP and unsolicited neighbour advertisements from their MAC."""

    interface: str
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True, slots=True)
class SetMask:
    """Bit i is set when the virtual host of rank i (ascending vhid) is MASTER here; for carp interfaces with several."""

    interface: str
    mask: int


@value
class Drop:
    """A packet was refused; it has been counted. `source` is packed, b"" where the packet had none."""

    parent: str
    reason: DropReason
    source: bytes
    vhid: int | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A virtual host changed its state. `source` is that of the advertisement that caused it, b"" if none did."""

    interface: str
    vhid: int
    old: State
    new: State
    reason: Reason
    detail: str = ""
    source: bytes = b""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened that an administrator should read."""

    interface: str
    vhid: int | None
    note: Note
    detail: str = ""
    source: bytes = b""


Action = Send | CloseFence | Prepare | Probe | Take | Release | Announce | SetMask | Drop | Transition | Notice
