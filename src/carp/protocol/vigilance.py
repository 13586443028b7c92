"""What a carp interface notices about other hosts and its administrator should know; nothing here changes a state."""

from dataclasses import dataclass

from .actions import Note, Notice
from .host import Host, Round
from .packet import Advertisement
from .statistics import Statistics
from .values import (
    NANOSECONDS_PER_MILLISECOND,
    NANOSECONDS_PER_SECOND,
    Address,
    Family,
    Instant,
    State,
    mac_text,
)
from .vhost import Rivalry, VirtualHost

_SETTLED_AFTER_NS = 100 * NANOSECONDS_PER_MILLISECOND
"""What a former MASTER sent before it heard of its successor is still on its way for a moment."""
_DEFEND_EVERY_NS = 10 * NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claimed an address of ours last, and when."""

    address: Address
    mac: bytes
    at: Instant


@dataclass(slots=True)
class Refused:
    """Where the last advertisement with a wrong digest came from, and when; not frozen, as a flood makes many."""

    vhid: int
    source: bytes
    at: Instant


class Vigilance:
    """What one carp interface has noticed.

    Args:
        name: that of the interface.
        statistics: its counters; those of the host are `host.statistics`.
    """

    def __init__(self, name: str, statistics: Statistics, host: Host) -> None:
        self._name = name
        self._statistics = statistics
        self._host = host
        self.last_claim: Claim | None = None
        self.last_refused: Refused | None = None
        self._defended_at: Instant | None = None

    def claimed(
        self, leader: VirtualHost, address: Address, mac: bytes, own_mac: bytes, round_: Round, *, one_mac: bool = False
    ) -> bool:
        """Another host claims an address; tell whether a MASTER should say again where it is.

        At most every ten seconds, as RFC 5227 section 2.4 defends: with the other insisting, both would flood the LAN. A
        claim from the same virtual MAC is another host of the group: the election decides, not the louder one. With
        `one_mac` the former MASTER had that MAC too, so another one is told even just after a takeover.
        """
        may_be_former = round_.now - leader.since < _SETTLED_AFTER_NS and (mac == own_mac or not one_mac)
        if leader.state is not State.MASTER or may_be_former:
            return False
        self._statistics.claims_heard += 1
        self._host.statistics.claims_heard += 1
        self.last_claim = Claim(address, mac, round_.now)
        detail = f"{address} from {mac_text(mac)}"
        if one_mac and mac != own_mac:
            detail += ": the hosts differ in their carpnodes or their balancing"
        round_.actions.append(Notice(self._name, leader.vhid, Note.CLAIMED, detail))
        if mac == own_mac or (self._defended_at is not None and round_.now - self._defended_at < _DEFEND_EVERY_NS):
            return False
        self._defended_at = round_.now
        return True

    def refused(self, vhost: VirtualHost, source: bytes, arrival: Instant) -> None:
        """An advertisement had a wrong digest."""
        self.last_refused = Refused(vhost.vhid, source, arrival)

    def rival(
        self, vhost: VirtualHost, heard: Advertisement, source: bytes, master_since: Instant, arrival: Instant, round_: Round
    ) -> None:
        """A virtual host that was MASTER since then has heard another MASTER, and acted on it."""
        if arrival - master_since < _SETTLED_AFTER_NS:
            return
        stayed = vhost.state is State.MASTER
        vhost.rivalry = Rivalry(source, round_.now, stayed)
        self._statistics.rivals_heard += 1
        self._host.statistics.rivals_heard += 1
        if stayed:
            detail = f"advbase {heard.advbase} advskew {heard.advskew} demote {heard.demote}; this host stays"
            round_.actions.append(Notice(self._name, vhost.vhid, Note.RIVAL, detail, source))

    def family_heard(self, vhost: VirtualHost, family: Family, arrival: Instant, round_: Round) -> None:
        """Notice that one of two families is filtered somewhere: with one timer nothing else would show it."""
        if len(vhost.families) < 2 or vhost.state is not State.BACKUP:
            return
        if family in vhost.silent_families:
            vhost.silent_families.discard(family)
            round_.actions.append(Notice(self._name, vhost.vhid, Note.FAMILY_HEARD, str(family)))
        for other in vhost.families:
            silent_ns = arrival - vhost.last_heard.get(other, arrival)
            if other not in vhost.silent_families and silent_ns > vhost.timing.master_down_ns:
                vhost.silent_families.add(other)
                round_.actions.append(Notice(self._name, vhost.vhid, Note.FAMILY_SILENT, str(other)))
