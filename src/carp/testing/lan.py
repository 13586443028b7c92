"""A virtual LAN: any number of CARP hosts, joined by wires that lose, delay, double and reorder as a test wants it.

A wire has the name of the parent interfaces on it, so hosts whose carp interfaces name the same carpdev hear each other. All
chance comes from one seed. Faults are ordinary calls between two runs, or planned with `clock.call_at`.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from carp.protocol.actions import Send
from carp.protocol.engine import Engine
from carp.protocol.events import PacketArrived, Shutdown
from carp.protocol.packet import HEADER_BYTES
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import Family, Instant, InterfaceAddress

from .clock import Rank, VirtualClock, milliseconds, seconds
from .history import Delivery, History
from .hosts import PARENT, configured, station_sources
from .station import Station

COUNTER_STEP = seconds(1)
"""Between the first counters of two stations: real ones come from the time of day in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the wires do to a packet on its way to one receiver.

    `loss`, `duplication`, `reorder` and `echo` are probabilities. A reordered packet is held back by up to the longest delay
    more; an echo brings a packet back to its sender.
    """

    loss: float = 0.0
    delay_ns: tuple[int, int] = (milliseconds(0.05), milliseconds(0.2))
    duplication: float = 0.0
    reorder: float = 0.0
    echo: float = 0.0


FINE = Weather()


class VirtualLan:
    """Hosts by name, their wires and their time."""

    def __init__(self, seed: int = 1, weather: Weather = FINE) -> None:
        self.clock = VirtualClock()
        self.weather = weather
        self.history = History()
        self.stations: dict[str, Station] = {}
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._blocked: set[tuple[str, str, Family]] = set()
        self._island: dict[str, int] = {}

    @property
    def now(self) -> Instant:
        """The present moment."""
        return self.clock.now

    def add(
        self,
        name: str,
        *interfaces: InterfaceParameters,
        sources: Mapping[Family, bytes] | None = None,
        allow: bool = True,
        preempt: bool = False,
        counter_start: int | None = None,
    ) -> Station:
        """Start a host now. Its parents are those that the carp interfaces name, all up.

        Args:
            name: how the test speaks of it.
            interfaces: its carp interfaces.
            sources: the addresses of its parents; an empty mapping leaves them un-numbered. By default each host has the
                next higher address in both families.
            allow: as net.inet.carp.allow.
            preempt: as net.inet.carp.preempt.
            counter_start: the engine's first counter; by default far above that of the host before.
        """
        number = len(self.stations) + 1
        start = (number << 56) + COUNTER_STEP if counter_start is None else counter_start
        engine = Engine(start, random.Random(self._rng.getrandbits(64)))  # noqa: S311 - repeatable, not secret
        station = Station(name, number, engine, self.clock, self, self.history)
        self.stations[name] = station
        known = station_sources(number) if sources is None else sources
        for parent in dict.fromkeys([one.carpdev for one in interfaces] or [PARENT]):
            station.set_parent(parent, present=True, up=True, sources=known)
        station.feed(configured(*interfaces, allow=allow, preempt=preempt))
        return station

    def run_for(self, duration_ns: int) -> None:
        """Let `duration_ns` pass."""
        self.clock.run_for(duration_ns)

    def run_until(self, until: int) -> None:
        """Let time pass up to a moment."""
        self.clock.run_until(until)

    def masters(self, vhid: int = 1) -> set[str]:
        """Tell who is MASTER of a vhid now."""
        return self.history.masters(vhid, self.now)

    def holders(self, address: InterfaceAddress) -> set[str]:
        """Tell who answers for an address now."""
        return self.history.holders(address, self.now)

    def servers(self, vhid: int = 1) -> set[str]:
        """Tell who serves the share of a virtual host now."""
        return self.history.servers(vhid, self.now)

    def stop(self, name: str) -> None:
        """Stop a host cleanly: it bows out, and has no part in anything afterwards."""
        station = self.stations[name]
        station.feed(Shutdown())
        station.kill()

    def kill(self, name: str) -> None:
        """Let a host's daemon vanish without a word."""
        self.stations[name].kill()

    def freeze(self, name: str, duration_ns: int, *, reported: bool = True) -> None:
        """Let a host not run for a time; `reported` False is a host that does not notice."""
        self.stations[name].freeze(duration_ns, reported=reported)

    def link(self, name: str, *, up: bool, present: bool = True, parent: str = PARENT) -> None:
        """Pull or plug a parent's cable, or remove the parent altogether; the host notices."""
        self.stations[name].set_parent(parent, present=present, up=up)

    def block(self, sender: str, receiver: str, families: Iterable[Family] = Family) -> None:
        """Lose everything on the way from one host to another; nobody notices."""
        self._blocked.update((sender, receiver, family) for family in families)

    def mute(self, sender: str, families: Iterable[Family] = Family) -> None:
        """Lose everything that a host sends, as a silently blocked switch port does."""
        listed = tuple(families)
        for receiver in self.stations:
            self.block(sender, receiver, listed)

    def partition(self, *islands: Iterable[str]) -> None:
        """Cut the wires between groups of hosts; a host that is not named hears nobody."""
        self._island = {name: number for number, island in enumerate(islands) for name in island}
        for position, name in enumerate(self.stations):
            self._island.setdefault(name, -1 - position)

    def heal(self) -> None:
        """Join everything again: no partition, no block."""
        self._island.clear()
        self._blocked.clear()

    def hears(self, receiver: str, sender: str, family: Family = Family.IPV4) -> bool:
        """Tell whether a packet could get from one host to another."""
        same_island = self._island.get(receiver) == self._island.get(sender)
        return same_island and (sender, receiver, family) not in self._blocked

    def transmit(self, sender: Station, parent: str, send: Send) -> None:
        """Bring packets to the other hosts, as the weather is: one to the group to all, one to a peer to whom it is for."""
        for packet in send.packets:
            self._transmit(sender, parent, send, packet)

    def _transmit(self, sender: Station, parent: str, send: Send, packet: bytes) -> None:
        for receiver in self.stations.values():
            if send.unicast and not receiver.has_address(parent, send.family, packet):
                continue
            if receiver is sender:
                copies = int(self._rng.random() < self.weather.echo)
            elif not self.hears(receiver.name, sender.name, send.family) or self._rng.random() < self.weather.loss:
                continue
            else:
                copies = 1 + (self._rng.random() < self.weather.duplication)
            for _ in range(copies):
                self._bring(sender, receiver, PacketArrived(parent, send.family, packet, self.now))

    def _bring(self, sender: Station, receiver: Station, packet: PacketArrived) -> None:
        sent, (least, most) = self.now, self.weather.delay_ns
        delay_ns = self._rng.randint(least, most)
        if self._rng.random() < self.weather.reorder:
            delay_ns += self._rng.randint(0, most)

        def arrive() -> None:
            if receiver.receive(replace(packet, arrival=self.now)):
                vhid = packet.packet[-HEADER_BYTES + 1]
                way = (sender.name, receiver.name)
                self.history.deliveries.append(Delivery(*way, vhid, packet.family, sent, self.now))

        self.clock.call_in(delay_ns, arrive, Rank.PACKET)
