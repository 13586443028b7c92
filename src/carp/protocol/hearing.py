"""How a packet that arrived becomes what a virtual host hears: the checks from cheap to dear, then the election.

A BACKUP hears the same from its MASTER again and again, but for the counter, the digest and what the IP header numbers. Once
the whole table has said that nothing follows, what is equal takes a short way: after the same checks it only keeps the
master-down timer from firing. `VirtualHost.familiar` holds what was judged so; it is forgotten with everything that the
judgement rests on (`CarpInterface.forget_outdated`, `VirtualHost.step`).
"""

from . import election
from .actions import Drop
from .dialect import CounterRule
from .directory import Directory, Entry
from .events import PacketArrived
from .host import Host, Round
from .interval import election_interval_ns
from .packet import TTL, Advertisement, DropReason, decode, parse_ip
from .paths import is_to_group, is_unicast
from .table import NOTHING_NEW, Heard, Input, Preference
from .usual import COUNTER, DIGEST, USUAL, Usual
from .values import Family, Instant, State
from .vhost import KnownMaster

_MOST_FAMILIAR = 8
"""A virtual host that hears more kinds of advertisements than this begins anew; a quiet LAN has one for each family."""

# Each name of an Enum's member costs 0.1 us where it is looked up.
_INIT, _MASTER = State.INIT, State.MASTER
_BAD_DIGEST = DropReason.BAD_DIGEST
_FOLLOW = CounterRule.FOLLOW


class Hearing:
    """The ears of one host."""

    def __init__(self, host: Host, directory: Directory) -> None:
        self._host = host
        self._directory = directory

    def arrived(self, event: PacketArrived, round_: Round) -> None:
        """Hand a packet to the virtual host that it is for, or count why it is refused."""
        host, family, packet = self._host, event.family, event.packet
        host.statistics.received[family] += 1
        if not host.parameters.allow:
            return
        usual = USUAL[family]
        reason: DropReason | None
        vhid: int | None
        if event.vlan_tagged:
            reason, source, vhid = DropReason.VLAN_TAGGED, b"", None
        elif usual.fits(packet):
            source, vhid = packet[usual.source], packet[usual.vhid]
            reason = self._hear_usual(event, usual, source, vhid, round_)
        else:
            reason, source, vhid = self._read(event, round_)
        if reason is not None:
            host.statistics.dropped[reason] += 1
            round_.actions.append(Drop(event.parent, reason, source, vhid))

    def _hear_usual(self, event: PacketArrived, usual: Usual, source: bytes, vhid: int, round_: Round) -> DropReason | None:
        """Hear a packet that fits; there is no value of it before its digest has proved right."""
        family, packet = event.family, event.packet
        entry = self._directory.to_group(event.parent, vhid)
        if entry is None or entry[1].state is _INIT or family not in entry[1].families:
            return self._homeless(event)
        interface, vhost = entry
        if family not in interface.paths.hears_group:
            return DropReason.BAD_DESTINATION
        interface.statistics.received[family] += 1
        counter = packet[COUNTER]
        if not vhost.authenticator.verify(counter, packet[DIGEST], round_.now):
            return _forged(entry, source, event.arrival)
        interface.forget_outdated()
        judged = packet[usual.judged]
        known = vhost.familiar.get(judged)
        if known is None:
            return _judge(entry, family, source, usual.read(packet), event.arrival, round_, judged)
        _hear_again(entry, family, known, counter, event.arrival, round_)
        return None

    def _read(self, event: PacketArrived, round_: Round) -> tuple[DropReason | None, bytes, int | None]:
        """Hear any packet: say why it is refused, if it is, where it came from, and its vhid as far as there is one."""
        datagram = parse_ip(event.family, event.packet)
        if isinstance(datagram, DropReason):
            return datagram, b"", None
        source = datagram.source
        if not is_to_group(datagram) and not is_unicast(datagram):
            return DropReason.BAD_DESTINATION, source, None
        if is_to_group(datagram) and datagram.ttl != TTL:
            return DropReason.BAD_TTL, source, None
        heard = decode(datagram)
        if isinstance(heard, DropReason):
            return heard, source, None
        entry = self._directory.find(event.parent, datagram, heard.vhid)
        # The digest does not cover the IP header: a copy of an advertisement in another family is no second one.
        if entry is None or entry[1].state is _INIT or event.family not in entry[1].families:
            return self._homeless(event), source, heard.vhid
        interface, vhost = entry
        refused = interface.paths.admits(datagram)
        if refused is not None:
            return refused, source, heard.vhid
        interface.statistics.received[event.family] += 1
        if not vhost.authenticator.verify(heard.counter, heard.digest, round_.now):
            return _forged(entry, source, event.arrival), source, heard.vhid
        return _judge(entry, event.family, source, heard, event.arrival, round_), source, heard.vhid

    def _homeless(self, event: PacketArrived) -> DropReason:
        return DropReason.BAD_VHID if self._directory.has(event.parent) else DropReason.BAD_INTERFACE


def _forged(entry: Entry, source: bytes, arrival: Instant) -> DropReason:
    """Count a wrong digest."""
    interface, vhost = entry
    interface.statistics.dropped[_BAD_DIGEST] += 1
    interface.vigilance.refused(vhost, source, arrival)
    return _BAD_DIGEST


def _judge(
    entry: Entry, family: Family, source: bytes, heard: Advertisement, arrival: Instant, round_: Round, judged: bytes = b""
) -> DropReason | None:
    """Let a virtual host act on an advertisement of right digest; remember it as `judged` if it may be heard so again."""
    interface, vhost = entry
    is_own = interface.paths.is_own(family, source)
    if is_own and heard.counter in vhost.sent_counters:
        interface.statistics.dropped[DropReason.ECHO] += 1
        return DropReason.ECHO
    dialect = interface.parameters.dialect
    if dialect.counter is _FOLLOW:
        vhost.follow_counter = int.from_bytes(heard.counter)
    if not heard.is_bow_out:
        vhost.patience.learn(heard, vhost.timing.advertisement_ns)
    preference = Preference.THERE
    if vhost.state is _MASTER:
        own = interface.paths.source(family, source)
        preference = election.prefer(interface.parameters, vhost, family, own, source, heard, round_.now)
    demote = heard.demote if dialect.hears_demote_byte else 0
    other = Heard(election_interval_ns(heard.advbase, heard.advskew), demote, heard.is_bow_out, preference)
    known = vhost.known_masters[family] = KnownMaster(source, heard.advbase, heard.advskew, heard.demote, arrival)
    former, since = vhost.state, vhost.since
    row = interface.run(vhost, Input.ADVERTISEMENT, round_, other, source=source, family=family, arrival=arrival)
    if former is _MASTER and not heard.is_bow_out:
        interface.vigilance.rival(vhost, heard, source, since, arrival, round_)
    interface.vigilance.family_heard(vhost, family, arrival, round_)
    # A preemption that waits for its delay is judged again, and so is what might be our own echo.
    if judged and row is NOTHING_NEW and vhost.preemptable_since is None and not is_own:
        if len(vhost.familiar) >= _MOST_FAMILIAR:
            vhost.familiar.clear()
        vhost.familiar[judged] = known
    return None


def _hear_again(entry: Entry, family: Family, known: KnownMaster, counter: bytes, arrival: Instant, round_: Round) -> None:
    """Do what `_judge` and the row NOTHING_NEW do about an advertisement that was judged before."""
    interface, vhost = entry
    if interface.parameters.dialect.counter is _FOLLOW:
        vhost.follow_counter = int.from_bytes(counter)
    known.arrival = arrival
    vhost.known_masters[family] = known
    vhost.hear_nothing_new(arrival, family)
    if len(vhost.families) > 1:
        interface.vigilance.family_heard(vhost, family, arrival, round_)
