"""One carp interface: its 1..32 virtual hosts, and what they share (addresses, MAC, key, demotion).

Each virtual host holds its own election. The leader, the one with the lowest vhid, decides who owns the addresses; with
several virtual hosts the mask tells a balancer which of them are MASTER here.
"""

from dataclasses import dataclass

from . import election
from .actions import Announce, CloseFence, Note, Notice, Release, SetMask, Take, Transition
from .advertising import advertise
from .auth import Authenticator, DigestSet
from .dialect import CounterRule
from .health import Health
from .host import Host, Parent, Round
from .interval import election_interval_ns
from .packet import Advertisement, Datagram, DropReason
from .parameters import InterfaceParameters
from .paths import Paths
from .statistics import Statistics
from .table import NO_ONE, NOT_ASKED, Effect, Heard, Input, Standing
from .values import (
    NANOSECONDS_PER_MILLISECOND,
    NANOSECONDS_PER_SECOND,
    Address,
    Family,
    Instant,
    State,
    mac_text,
    virtual_mac,
)
from .vhost import KnownMaster, Rivalry, VirtualHost

ANNOUNCE_EVERY_NS = 60 * NANOSECONDS_PER_SECOND
"""Switches forget a MAC that was silent for 300 s, many sooner."""
_REASSERTION_SPACING_NS = 25 * NANOSECONDS_PER_MILLISECOND
"""A flood of replays is answered this rarely."""
_RIVAL_AFTER_NS = 100 * NANOSECONDS_PER_MILLISECOND
_DEFEND_EVERY_NS = 10 * NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claimed an address of ours last, and when."""

    address: Address
    mac: bytes
    at: Instant


@dataclass(frozen=True, slots=True)
class Refused:
    """Where the last advertisement with a wrong digest came from, and when."""

    vhid: int
    source: bytes
    at: Instant


class CarpInterface:
    """One carp interface of this host."""

    def __init__(self, parameters: InterfaceParameters, host: Host, now: Instant) -> None:
        self.parameters = parameters
        self.statistics = Statistics()
        self._host = host
        self.last_claim: Claim | None = None
        self.last_refused: Refused | None = None
        self._defended_at: Instant | None = None
        self.paths = Paths(parameters, self.parent)
        self._health = Health(parameters, host.demotions)
        self.vhosts = [
            VirtualHost(node, Authenticator(self._digests(node.vhid)), host.timers, host.rng, now) for node in parameters.nodes
        ]
        self._retime()

    @property
    def name(self) -> str:
        """The name, such as carp0."""
        return self.parameters.name

    @property
    def parent(self) -> Parent:
        """The interface that carries this one."""
        return self._host.parents.setdefault(self.parameters.carpdev, Parent())

    @property
    def leader(self) -> VirtualHost:
        """The virtual host that decides who owns the addresses."""
        return self.vhosts[0]

    @property
    def demote(self) -> int:
        """The demote count, 0..255."""
        return self._host.demotions.count(self.parameters.groups)

    @property
    def preempt(self) -> bool:
        """Whether this interface preempts a slower MASTER."""
        own = self.parameters.preempt
        return self._host.parameters.preempt if own is None else own

    def not_ready(self) -> str:
        """Say why the virtual hosts cannot run, or return "" (PROTOCOL.md 3.4)."""
        if self._host.stopped:
            return "this host stops"
        if not self._host.parameters.allow:
            return "carp is not allowed (net.inet.carp.allow is 0)"
        if not self.parameters.up:
            return "down"
        if not self.parameters.carpdev:
            return "no carpdev"
        if not self.parent.present:
            return f"{self.parameters.carpdev} does not exist"
        if not self.parent.up:
            return f"{self.parameters.carpdev} is down"
        if not self.parameters.addresses:
            return "no address"
        return ""

    def check_readiness(self, round_: Round) -> None:
        """Start or suspend the virtual hosts, as the parent and the switches demand; a bad parent demotes."""
        why = self.not_ready()
        wished = self._host.parameters.allow and self.parameters.up
        for vhost in self.vhosts:
            if why and not wished:
                self.run(vhost, Input.STOP, round_, detail=why)
            else:
                self.run(vhost, Input.NOT_READY if why else Input.READY, round_, detail=why)
        broken = wished and bool(self.parameters.carpdev) and not self.parent.works
        self._health.carpdev(broken=broken, host=self._host.parameters, now=round_.now)

    def follow_host(self) -> None:
        """Let what is wrong here count what the host's parameters say now."""
        self._health.follow(self.parameters, self._host.parameters)

    def forget(self) -> None:
        """Leave nothing behind: the interface is gone."""
        self._health.forget()
        for vhost in self.vhosts:
            vhost.forget()

    def parent_mac_changed(self) -> None:
        """Prepare the digests anew where they depend on the parent's MAC; peers change with it or not at all."""
        if self.parameters.dialect.hashes_custom_lladdr and isinstance(self.parameters.lladdr, bytes):
            for vhost in self.vhosts:
                vhost.authenticator = Authenticator(self._digests(vhost.vhid))

    def reconfigure(self, parameters: InterfaceParameters, round_: Round) -> None:
        """Change what can change without losing mastership; the nodes' vhids, the parent and the MAC stay."""
        former, self.parameters = self.parameters, parameters
        if (former.key, former.addresses) != (parameters.key, parameters.addresses):
            for vhost in self.vhosts:
                vhost.authenticator.replace(self._digests(vhost.vhid), round_.now, parameters.digest_grace_ns)
            owns = self.leader.state is State.MASTER and not self.leader.waits_for_yield
            if parameters.addresses and former.addresses != parameters.addresses and owns:
                round_.actions.append(Take(self.name, parameters.addresses))
        for vhost, node in zip(self.vhosts, parameters.nodes, strict=True):
            vhost.node = node
        self.paths = Paths(parameters, self.parent)
        self._health.follow(parameters, self._host.parameters)
        self._retime()
        self.check_readiness(round_)
        intervals_changed = (former.advbase, former.nodes) != (parameters.advbase, parameters.nodes)
        for vhost in self.vhosts:
            vhost.follow_announcing(round_.now)
            if vhost.state is State.MASTER and (intervals_changed or former.peers != parameters.peers):
                self._advertise(vhost, round_)
                vhost.restart_advertising(round_.now)
            elif vhost.state is State.BACKUP:
                vhost.restart_waiting(round_.now)

    def readvertise(self, round_: Round) -> None:
        """Tell the peers at once what changed: every MASTER here sends an advertisement."""
        self._retime()
        for vhost in self.vhosts:
            if vhost.state is State.MASTER:
                self._advertise(vhost, round_)

    def hear(
        self, vhost: VirtualHost, datagram: Datagram, heard: Advertisement, arrival: Instant, round_: Round
    ) -> DropReason | None:
        """Check an advertisement's digest and let the virtual host act on it."""
        family, source = datagram.family, datagram.source
        if not vhost.authenticator.verify(heard.counter, heard.digest, round_.now):
            self.statistics.dropped[DropReason.BAD_DIGEST] += 1
            self.last_refused = Refused(vhost.vhid, source, arrival)
            return DropReason.BAD_DIGEST
        if heard.counter in vhost.sent_counters and self.paths.is_own(family, source):
            self.statistics.dropped[DropReason.ECHO] += 1
            return DropReason.ECHO
        if self.parameters.dialect.counter is CounterRule.FOLLOW:
            vhost.follow_counter = int.from_bytes(heard.counter)
        if not heard.is_bow_out:
            vhost.patience.learn(heard, vhost.timing.advertisement_ns)
        demote = heard.demote if self.parameters.dialect.hears_demote_byte else 0
        other = Heard(
            election_interval_ns(heard.advbase, heard.advskew),
            demote,
            heard.is_bow_out,
            election.prefer(self.parameters, vhost, family, self.paths.source(family, source), source, heard, round_.now),
        )
        vhost.known_masters[family] = KnownMaster(source, heard.advbase, heard.advskew, heard.demote, arrival)
        former, since = vhost.state, vhost.since
        self.run(vhost, Input.ADVERTISEMENT, round_, other, source=source, family=family, arrival=arrival)
        # What the former MASTER sent before it heard us is still on its way for a moment.
        settled = arrival - since >= _RIVAL_AFTER_NS
        if former is State.MASTER and settled and not heard.is_bow_out:
            self._note_rival(vhost, heard, source, round_)
        self._watch_families(vhost, family, arrival, round_)
        return None

    def run(
        self,
        vhost: VirtualHost,
        input_: Input,
        round_: Round,
        heard: Heard = NO_ONE,
        *,
        detail: str = "",
        source: bytes = b"",
        family: Family | None = None,
        arrival: Instant | None = None,
    ) -> None:
        """Give a virtual host an input and carry out what the table says."""
        # Only an advertisement makes the table ask who is better.
        own = NOT_ASKED if heard is NO_ONE else self._standing(vhost)
        row, former = vhost.step(input_, own, round_.now, heard, detail)
        if row.reason is not None:
            if vhost.state is State.MASTER:
                self.statistics.became_master += 1
                self._host.statistics.became_master += 1
            round_.actions.append(Transition(self.name, vhost.vhid, former, vhost.state, row.reason, detail, source))
        for effect in row.effects:
            moment = arrival if arrival is not None and effect is Effect.HEARD_MASTER else round_.now
            if not vhost.apply_timer_effect(effect, moment, family):
                self._carry_out(effect, vhost, round_)
        if row.reason is not None and len(self.vhosts) > 1:
            mask = sum(1 << rank for rank, one in enumerate(self.vhosts) if one.state is State.MASTER)
            round_.actions.append(SetMask(self.name, mask))

    def was_stalled(self, vhost: VirtualHost, gap_ns: int, now: Instant) -> bool:
        """Tell whether this host slept too long, for `gap_ns` as far as is known, to trust what it knows.

        A MASTER that has not advertised for as long as a peer waits may have been replaced; a BACKUP that comes later to a
        master-down timer than the timer is long may have lost the newest advertisements.
        """
        if vhost.state is State.MASTER:
            return max(gap_ns, now - vhost.advertised_at) >= vhost.patience.holds_ns
        return gap_ns >= vhost.timing.master_down_ns

    def _standing(self, vhost: VirtualHost) -> Standing:
        return election.standing(self.parameters, vhost.node.advskew, self.demote, preempt=self.preempt)

    def send_result(self, error: bool, round_: Round) -> None:
        """Count a send."""
        if error:
            self.statistics.send_errors += 1
            self._host.statistics.send_errors += 1
        self._health.sent(error=error, host=self._host.parameters, now=round_.now)

    def taken(self, error: str | None, round_: Round) -> None:
        """The addresses are live, or `error` says why not: then this host is demoted and yields."""
        self._health.taken(error=error is not None, host=self._host.parameters, now=round_.now)
        if error is None:
            self.run(self.leader, Input.TAKEN, round_)
        else:
            self.run(self.leader, Input.TAKE_FAILED, round_, detail=error)

    def _carry_out(self, effect: Effect, vhost: VirtualHost, round_: Round) -> None:
        owns = vhost is self.leader
        if effect is Effect.ADVERTISE:
            self._advertise(vhost, round_)
        elif effect is Effect.BOW_OUT:
            if self.parameters.dialect.sends_bow_out:
                self._advertise(vhost, round_, bow_out=True)
        elif effect is Effect.CLOSE_FENCE and owns:
            round_.actions.append(CloseFence(self.name))
        elif effect is Effect.REASSERT:
            self._reassert(vhost, round_)
        elif effect is Effect.TAKE and owns:
            round_.actions.append(Take(self.name, self.parameters.addresses))
        elif effect is Effect.RELEASE and owns:
            round_.actions.append(Release(self.name))
        elif effect is Effect.ANNOUNCE_ONE and owns:
            # All have the same MAC, and it is the switches that are to hear of it.
            round_.actions.append(Announce(self.name, self.parameters.addresses[:1]))
        elif (effect is Effect.ANNOUNCE and owns) or (
            effect is Effect.COUNT_ADVERTISEMENT and vhost.second_announcement_due() and owns
        ):
            round_.actions.append(Announce(self.name, self.parameters.addresses))

    def _advertise(self, vhost: VirtualHost, round_: Round, *, bow_out: bool = False) -> None:
        round_.actions += advertise(
            self.parameters, vhost, self.paths, self._host, demote=self.demote, bow_out=bow_out, now=round_.now
        )

    def _reassert(self, vhost: VirtualHost, round_: Round) -> None:
        """Advertise and announce at once; what would come too soon after the last time comes a little later.

        A rival sends a frame for each family, and its last one is what the switches remember.
        """
        spacing_ns = min(_REASSERTION_SPACING_NS, vhost.timing.advertisement_ns // 4)
        if vhost.reasserted_at is not None and round_.now - vhost.reasserted_at < spacing_ns:
            vhost.advertise_sooner(Instant(vhost.reasserted_at + spacing_ns))
            return
        vhost.reasserted_at = round_.now
        if vhost is self.leader and not vhost.waits_for_yield:
            round_.actions.append(Announce(self.name, self.parameters.addresses))
        self._advertise(vhost, round_)

    def claimed(self, address: Address, mac: bytes, round_: Round) -> None:
        """Another host claims one of this interface's addresses; a MASTER says so, and tells the LAN again where it is.

        At most every ten seconds, as RFC 5227 section 2.4 defends: with the other insisting, both would flood the LAN. A
        claim from the same virtual MAC is another host of the group: the election decides, not the louder one.
        """
        leader = self.leader
        if leader.state is not State.MASTER or round_.now - leader.since < _RIVAL_AFTER_NS:
            return
        self.statistics.claims_heard += 1
        self._host.statistics.claims_heard += 1
        self.last_claim = Claim(address, mac, round_.now)
        detail = f"{address} from {mac_text(mac)}"
        round_.actions.append(Notice(self.name, leader.vhid, Note.CLAIMED, detail))
        own_mac = self.parameters.mac or self.parent.mac
        if mac != own_mac and (self._defended_at is None or round_.now - self._defended_at >= _DEFEND_EVERY_NS):
            self._defended_at = round_.now
            self._reassert(leader, round_)

    def _note_rival(self, vhost: VirtualHost, heard: Advertisement, source: bytes, round_: Round) -> None:
        stayed = vhost.state is State.MASTER
        vhost.rivalry = Rivalry(source, round_.now, stayed)
        self.statistics.rivals_heard += 1
        self._host.statistics.rivals_heard += 1
        if stayed:
            detail = f"advbase {heard.advbase} advskew {heard.advskew} demote {heard.demote}; this host stays"
            round_.actions.append(Notice(self.name, vhost.vhid, Note.RIVAL, detail, source))

    def _watch_families(self, vhost: VirtualHost, family: Family, arrival: Instant, round_: Round) -> None:
        """Notice that one of two families is filtered somewhere: with one timer nothing else would show it."""
        if len(vhost.families) < 2 or vhost.state is not State.BACKUP:
            return
        if family in vhost.silent_families:
            vhost.silent_families.discard(family)
            round_.actions.append(Notice(self.name, vhost.vhid, Note.FAMILY_HEARD, str(family)))
        for other in vhost.families:
            silent_ns = arrival - vhost.last_heard.get(other, arrival)
            if other not in vhost.silent_families and silent_ns > vhost.timing.master_down_ns:
                vhost.silent_families.add(other)
                round_.actions.append(Notice(self.name, vhost.vhid, Note.FAMILY_SILENT, str(other)))

    def _retime(self) -> None:
        """Work out what depends on parameters and demotion only, so that no packet has to."""
        parameters = self.parameters
        demote = self.demote
        for vhost in self.vhosts:
            vhost.announces_every_ns = ANNOUNCE_EVERY_NS if self.paths.hides_mac and vhost is self.leader else 0
            vhost.timing = election.timing(parameters, vhost.node.advskew, demote)
            vhost.patience.change(parameters, vhost.node.advskew)
            vhost.families = parameters.families
            vhost.one_master_down_timer = parameters.dialect.one_master_down_timer

    def _digests(self, vhid: int) -> DigestSet:
        parameters = self.parameters
        addresses: list[Address] = [address.ip for address in parameters.addresses]
        lladdr = parameters.lladdr if isinstance(parameters.lladdr, bytes) else b""
        if not parameters.dialect.hashes_custom_lladdr or vhid != parameters.leader.vhid:
            lladdr = b""
        elif lladdr in (virtual_mac(vhid), self.parent.mac):
            lladdr = b""  # OpenBSD knows its own MACs however they were set (PROTOCOL.md 6.1)
        return DigestSet.prepare(parameters.dialect, parameters.key, vhid, addresses, lladdr)
