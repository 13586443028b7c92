"""What the kernel of a station does by itself: which addresses it answers for, and whose share of the traffic it serves.

It goes on when the daemon is gone or stands still, until the deadline in the fence of each virtual host has passed.
"""

from dataclasses import dataclass, field

from carp.protocol.parameters import Balancing, InterfaceParameters
from carp.protocol.values import Instant, InterfaceAddress

from .clock import VirtualClock
from .history import History


@dataclass(slots=True)
class Device:
    """A carp interface as the kernel has it.

    `addresses` are those that are set; behind closed fences they answer nobody. Bit i of `mask` is the virtual host of rank i,
    as in SetMask; one that is alone needs no bit. `open_until` holds the deadline of each vhid.
    """

    vhids: tuple[int, ...] = ()
    balancing: Balancing = Balancing.NONE
    addresses: frozenset[InterfaceAddress] = frozenset()
    mask: int = 0
    open_until: dict[int, Instant] = field(default_factory=dict)

    def shares(self, now: Instant) -> frozenset[int]:
        """Tell the vhids whose share is served: MASTER here, the deadline to come, and the addresses set."""
        if not self.addresses:
            return frozenset()
        mask = self.mask if len(self.vhids) > 1 else 1
        return frozenset(
            vhid for rank, vhid in enumerate(self.vhids) if mask >> rank & 1 and self.open_until.get(vhid, now) > now
        )

    def answering(self, now: Instant) -> frozenset[InterfaceAddress]:
        """Tell the addresses that this host answers for: with its leader's share, in ARP balancing with any."""
        shares = self.shares(now)
        answers = bool(shares) if self.balancing is Balancing.ARP else shares.issuperset(self.vhids[:1])
        return self.addresses if answers else frozenset()


class Kernel:
    """The carp interfaces of one station; what they serve is written into the history."""

    def __init__(self, station: str, clock: VirtualClock, history: History) -> None:
        self.devices: dict[str, Device] = {}
        self._station = station
        self._clock = clock
        self._history = history
        self._answering: dict[str, frozenset[InterfaceAddress]] = {}
        self._shares: dict[str, frozenset[int]] = {}

    def follow(self, parameters: InterfaceParameters) -> None:
        """Set up a carp interface for these virtual hosts."""
        device = self._device(parameters.name)
        device.vhids = tuple(node.vhid for node in parameters.nodes)
        device.balancing = parameters.balancing
        self._look(parameters.name)

    def hold(self, name: str, addresses: frozenset[InterfaceAddress]) -> None:
        """Set exactly these addresses on a carp interface."""
        self._device(name).addresses = addresses
        self._look(name)

    def set_mask(self, name: str, mask: int) -> None:
        """Let a carp interface serve the virtual hosts of these ranks, as far as their fences are open."""
        self._device(name).mask = mask
        self._look(name)

    def open_until(self, name: str, vhid: int, until: Instant) -> None:
        """Open the fence of a virtual host up to a moment; one that is not to come closes it."""
        self._device(name).open_until[vhid] = until
        self._look(name)
        if until > self._clock.now:
            self._clock.call_at(until, lambda: self._look(name))

    def _device(self, name: str) -> Device:
        return self.devices.setdefault(name, Device())

    def _look(self, name: str) -> None:
        """Find what is served now, and write down what differs from before."""
        now, device = self._clock.now, self._device(name)
        shares, answering = device.shares(now), device.answering(now)
        self._history.record_shares(self._station, self._shares.get(name, frozenset()), shares, now)
        self._history.record_addresses(self._station, self._answering.get(name, frozenset()), answering, now)
        self._shares[name], self._answering[name] = shares, answering
