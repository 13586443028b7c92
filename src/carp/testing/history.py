"""What was seen on a virtual LAN: who was MASTER when, who answered or served when, and who heard whom.

A virtual host is known by its vhid alone here; a test with several wires gives each its own vhids.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from carp.protocol.actions import Reason
from carp.protocol.values import NEVER, Family, Instant, InterfaceAddress, State


@dataclass(slots=True)
class Reign:
    """A time in which a station was MASTER of a vhid; `end` is NEVER while it lasts."""

    station: str
    vhid: int
    begin: Instant
    end: Instant = NEVER


@dataclass(slots=True)
class Tenure:
    """A time in which a station answered for an address; `end` is NEVER while it lasts."""

    station: str
    address: InterfaceAddress
    begin: Instant
    end: Instant = NEVER


@dataclass(slots=True)
class Share:
    """A time in which a station served the traffic of a virtual host; `end` is NEVER while it lasts.

    Of a carp interface with one virtual host that is everything, else its share.
    """

    station: str
    vhid: int
    begin: Instant
    end: Instant = NEVER


@dataclass(frozen=True, slots=True)
class Change:
    """A transition of a virtual host."""

    at: Instant
    station: str
    vhid: int
    old: State
    new: State
    reason: Reason


@dataclass(frozen=True, slots=True)
class Delivery:
    """An advertisement that a station handed to its engine."""

    sender: str
    receiver: str
    vhid: int
    family: Family
    sent: Instant
    arrived: Instant


@dataclass(frozen=True, slots=True)
class Overlap:
    """A time in which two stations were MASTER of one vhid, or served its share; `end` is NEVER if it lasts."""

    first: str
    second: str
    vhid: int
    begin: Instant
    end: Instant

    @property
    def duration_ns(self) -> int:
        """How long it was both."""
        return self.end - self.begin


@dataclass(slots=True)
class History:
    """The record of a run, in order of time."""

    changes: list[Change] = field(default_factory=list)
    reigns: list[Reign] = field(default_factory=list)
    tenures: list[Tenure] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    def record_change(self, change: Change) -> None:
        """Note a transition, and the reign that it begins or ends."""
        self.changes.append(change)
        if change.new is State.MASTER:
            self.reigns.append(Reign(change.station, change.vhid, change.at))
        elif change.old is State.MASTER:
            self.end_reigns(change.station, change.at, change.vhid)

    def end_reigns(self, station: str, at: Instant, vhid: int | None = None) -> None:
        """Note that a station is MASTER no longer: of one vhid, or of any."""
        for reign in self.reigns:
            if reign.station == station and vhid in (None, reign.vhid) and reign.end == NEVER:
                reign.end = at

    def record_addresses(
        self, station: str, former: frozenset[InterfaceAddress], now: frozenset[InterfaceAddress], at: Instant
    ) -> None:
        """Note for which addresses a station answers from now on."""
        for tenure in self.tenures if former - now else ():
            if tenure.station == station and tenure.end == NEVER and tenure.address in former - now:
                tenure.end = at
        self.tenures += [Tenure(station, address, at) for address in sorted(now - former, key=str)]

    def record_shares(self, station: str, former: frozenset[int], now: frozenset[int], at: Instant) -> None:
        """Note the vhids whose share a station serves from now on."""
        for share in self.shares if former - now else ():
            if share.station == station and share.end == NEVER and share.vhid in former - now:
                share.end = at
        self.shares += [Share(station, vhid, at) for vhid in sorted(now - former)]

    def masters(self, vhid: int, at: Instant) -> set[str]:
        """Tell who was MASTER at a moment."""
        return {one.station for one in self.reigns if one.vhid == vhid and one.begin <= at < one.end}

    def holders(self, address: InterfaceAddress, at: Instant) -> set[str]:
        """Tell who answered for an address at a moment."""
        return {one.station for one in self.tenures if one.address == address and one.begin <= at < one.end}

    def servers(self, vhid: int, at: Instant) -> set[str]:
        """Tell who served the share of a virtual host at a moment."""
        return {one.station for one in self.shares if one.vhid == vhid and one.begin <= at < one.end}

    def overlaps(self, vhid: int) -> Iterator[Overlap]:
        """Walk the times in which two stations were MASTER of one vhid, pair by pair."""
        return _overlaps(self.reigns, vhid)

    def shared_twice(self, vhid: int) -> Iterator[Overlap]:
        """Walk the times in which two stations served the share of one vhid, pair by pair."""
        return _overlaps(self.shares, vhid)

    def heard(self, overlap: Overlap, family: Family) -> tuple[int, int]:
        """Count the advertisements of a family that each of two MASTERs sent and the other heard while both were MASTER.

        The first number is what `first` heard of `second`. What arrives at the very begin or end of the overlap is left
        out: it may have come before the second reign, or be what ended the first.
        """
        ways = {(overlap.second, overlap.first): 0, (overlap.first, overlap.second): 0}
        for one in self.deliveries:
            way = (one.sender, one.receiver)
            in_time = overlap.begin <= one.sent and overlap.begin < one.arrived < overlap.end
            if way in ways and in_time and (one.vhid, one.family) == (overlap.vhid, family):
                ways[way] += 1
        first, second = ways.values()
        return first, second


def _overlaps(periods: Iterable[Reign] | Iterable[Share], vhid: int) -> Iterator[Overlap]:
    own = [period for period in periods if period.vhid == vhid]
    for index, first in enumerate(own):
        for second in own[index + 1 :]:
            begin, end = max(first.begin, second.begin), min(first.end, second.end)
            if begin < end and first.station != second.station:
                yield Overlap(first.station, second.station, vhid, Instant(begin), Instant(end))
