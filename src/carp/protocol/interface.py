"""One carp interface: its 1..32 virtual hosts, and what they share (addresses, MAC, key, demotion).

Each virtual host holds its own election. The one with the lowest vhid is the leader: with several of them it decides which
host answers for the addresses.
"""

from collections.abc import Callable
from dataclasses import replace

from . import election
from .actions import CloseFence, Note, Notice, Prepare, Transition
from .advertising import advertise, digests, send_prepared
from .auth import Authenticator, DigestSet
from .demotion import groups_of
from .health import PROBE_EVERY_NS, Health, why_not_ready
from .holding import BalancedHolding, Holding, inquiry
from .host import Host, Parent, Round
from .parameters import InterfaceParameters
from .paths import Paths
from .statistics import Statistics
from .table import NO_ONE, NOT_ASKED, Effect, Heard, Input, Row, Standing, would_preempt
from .values import (
    NANOSECONDS_PER_MILLISECOND,
    NANOSECONDS_PER_SECOND,
    Address,
    Family,
    Instant,
    State,
)
from .vhost import TIMER_EFFECTS, Stage, VirtualHost
from .vigilance import Vigilance

ANNOUNCE_EVERY_NS = 60 * NANOSECONDS_PER_SECOND
"""Switches forget a MAC that was silent for 300 s, many sooner."""
_MASTER = State.MASTER
_HEARD_MASTER = Effect.HEARD_MASTER
_REASSERTION_SPACING_NS = 25 * NANOSECONDS_PER_MILLISECOND
"""A flood of replays is answered this rarely."""


class CarpInterface:
    """One carp interface of this host."""

    def __init__(self, parameters: InterfaceParameters, host: Host, now: Instant) -> None:
        self.parameters = parameters
        self.statistics = Statistics()
        self._host = host
        self.parent = host.parents.setdefault(parameters.carpdev, Parent())
        """The interface that carries this one."""
        self.demotion_groups = groups_of(parameters.name, parameters.groups)
        """The groups whose reasons demote it."""
        self._demote = 0
        self._counted_at = -1
        self._basis: tuple[object, ...] = ()
        self.vigilance = Vigilance(parameters.name, self.statistics, host)
        self.held_back = False
        """Whether it was handed over by hand and so preempts nobody."""
        self.paths = Paths(parameters, self.parent)
        self._health = Health(parameters, host.demotions)
        self._holding = (BalancedHolding if parameters.is_balanced else Holding)(parameters, host)
        self.vhosts = [
            VirtualHost(node, Authenticator(self._digests(node.vhid)), host.timers, self.parent.cadence, host.rng, now)
            for node in parameters.nodes
        ]
        self._retime()

    @property
    def name(self) -> str:
        """The name, such as carp0."""
        return self.parameters.name

    @property
    def leader(self) -> VirtualHost:
        """The virtual host with the lowest vhid."""
        return self.vhosts[0]

    @property
    def demote(self) -> int:
        """The demote count, 0..255."""
        changes = self._host.demotions.changes
        if self._counted_at != changes:
            self._counted_at = changes
            self._demote = self._host.demotions.count(self.demotion_groups)
        return self._demote

    @property
    def preempt(self) -> bool:
        """Whether this interface preempts a slower MASTER."""
        own = self.parameters.preempt
        return self._host.parameters.preempt if own is None else own

    def not_ready(self) -> str:
        """Say why the virtual hosts cannot run, or return "" (PROTOCOL.md 3.4)."""
        return why_not_ready(self.parameters, self.parent, self._host)

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
        self._host.timers.probe.clear(self.leader)
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
        self.demotion_groups, self._counted_at = groups_of(self.name, parameters.groups), -1
        self._holding.follow(parameters)
        if (former.key, former.addresses) != (parameters.key, parameters.addresses):
            for vhost in self.vhosts:
                vhost.authenticator.replace(self._digests(vhost.vhid), round_.now, parameters.digest_grace_ns)
            if parameters.addresses and former.addresses != parameters.addresses and self._holding.serves(self.vhosts):
                self._holding.note_taken(live=False)
                self._holding.take(round_)
        for vhost, node in zip(self.vhosts, parameters.nodes, strict=True):
            vhost.node = node
        self.paths = Paths(parameters, self.parent)
        self._health.follow(parameters, self._host.parameters)
        if former.peers != parameters.peers:
            self._health.sends_elsewhere(parameters)
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

    def forget_outdated(self) -> None:
        """Let the virtual hosts forget what they prepared and judged, once anything that it rests on has changed."""
        host, parent = self._host.parameters, self.parent
        basis = (self.parameters, self.demote, host.preempt, self.held_back, host.dscp, parent.sources, parent.addresses)
        if basis != self._basis:
            for vhost in self.vhosts:
                vhost.familiar.clear()
                vhost.prepared.clear()
        # Equal is not enough: the same values are found equal faster next time.
        self._basis = basis

    def readvertise(self, round_: Round) -> None:
        """Tell the peers at once what changed: every MASTER here sends an advertisement."""
        self._retime()
        for vhost in self.vhosts:
            if vhost.state is State.MASTER:
                self._advertise(vhost, round_)

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
    ) -> Row:
        """Give a virtual host an input, carry out what the table says, and return its row."""
        # Only an advertisement makes the table ask who is better.
        own = NOT_ASKED if heard is NO_ONE else self._standing(vhost, heard, round_.now)
        row, former = vhost.step(input_, own, round_.now, heard, detail)
        if row.reason is not None:
            if vhost.state is State.MASTER:
                self.held_back = False
                self.statistics.became_master += 1
                self._host.statistics.became_master += 1
            round_.actions.append(Transition(self.name, vhost.vhid, former, vhost.state, row.reason, detail, source))
        for effect in row.effects:
            timer = TIMER_EFFECTS.get(effect)
            if timer is None:
                _EFFECTS[effect](self, vhost, round_)
            else:
                timer(vhost, arrival if arrival is not None and effect is _HEARD_MASTER else round_.now, family)
        if row.reason is not None:
            self._holding.note_change(self.vhosts, round_)
        return row

    def advertise_again(self, vhost: VirtualHost, deadline: Instant, round_: Round) -> bool:
        """Do what a MASTER's advertisement timer does, if all is as it was the last time; tell whether it was done."""
        self.forget_outdated()
        now, prepared = round_.now, vhost.prepared
        if not prepared or vhost.state is not _MASTER or not vhost.only_advertises or vhost.was_stalled(now - deadline, now):
            return False
        send_prepared(prepared, self.parameters, vhost, self._host, vhost.patience.holds_ns, now, round_.actions)
        vhost.arm_advertise(now)
        return True

    def _standing(self, vhost: VirtualHost, heard: Heard, now: Instant) -> Standing:
        """Return this host's side of an election; a preemption may have to wait for its delay, and for the stage before it."""
        preempt = self.preempt and not self.held_back
        own = election.standing(self.parameters, vhost.node.advskew, self.demote, preempt=preempt)
        if vhost.state is not State.BACKUP:
            return own
        if not preempt or not would_preempt(own, heard):
            vhost.preemptable_since = None
        elif vhost.preemptable_since is None:
            vhost.preemptable_since = now
        since = vhost.preemptable_since
        return replace(
            own,
            preempt=since is not None and now - since >= self.parameters.preempt_delay_ns,
            unprepared=self.parameters.pre_master and vhost.stage is not Stage.DONE,
            cannot_take=vhost.take_failed_at is not None and now - vhost.take_failed_at < vhost.timing.master_down_ns,
        )

    def prepared(self, vhid: int, serial: int, round_: Round) -> None:
        """The pre-master stage of this serial is over."""
        for vhost in self.vhosts:
            if vhost.vhid == vhid and vhost.stage is Stage.RUNNING and vhost.stage_serial == serial:
                self.run(vhost, Input.PREPARED, round_)

    def sent_well(self, family: Family, round_: Round) -> None:
        """Count an advertisement that was sent."""
        self.statistics.sent[family] += 1
        self._host.statistics.sent[family] += 1
        if self._health.doubts_sending:
            self.probe_result(False, round_)

    def sent_badly(self, round_: Round) -> None:
        """Count an advertisement that could not be sent."""
        self.statistics.send_errors += 1
        self._host.statistics.send_errors += 1
        self.probe_result(True, round_)

    def probe_result(self, error: bool, round_: Round) -> None:
        """Learn whether the parent sends; while it does not, it is tried again and again."""
        self._health.sent(error=error, host=self._host.parameters, now=round_.now)
        probes = self._host.timers.probe
        if self._health.sends_fail and probes.get(self.leader) is None:
            probes.set(self.leader, Instant(round_.now + PROBE_EVERY_NS))

    def probe(self, round_: Round) -> None:
        """Try whether the parent sends again; a MASTER learns that from its advertisements."""
        if not self._health.sends_fail:
            return
        self._host.timers.probe.set(self.leader, Instant(round_.now + PROBE_EVERY_NS))
        if any(vhost.state is State.MASTER for vhost in self.vhosts) or not self.parent.works:
            return
        inquiry(self.parameters, self.parent, round_, self.leader.known_master(round_.now))

    def taken(self, error: str | None, round_: Round) -> None:
        """The addresses are live, or `error` says why not: then this host is demoted and yields."""
        self._health.taken(error=error is not None, host=self._host.parameters, now=round_.now)
        self._holding.note_taken(live=error is None)
        for vhost in self.vhosts:
            if error is None:
                self.run(vhost, Input.TAKEN, round_)
            else:
                vhost.take_failed_at = round_.now
                self.run(vhost, Input.TAKE_FAILED, round_, detail=error)

    def _bow_out(self, vhost: VirtualHost, round_: Round) -> None:
        if self.parameters.dialect.sends_bow_out:
            self._advertise(vhost, round_, bow_out=True)

    def _close_fence(self, vhost: VirtualHost, round_: Round) -> None:
        round_.actions.append(CloseFence(self.name, vhost.vhid))

    def _release(self, _vhost: VirtualHost, round_: Round) -> None:
        self._holding.release(round_)

    def _announce(self, _vhost: VirtualHost, round_: Round) -> None:
        self._holding.announce(round_)

    def _announce_one(self, vhost: VirtualHost, round_: Round) -> None:
        if self._asks(vhost):
            inquiry(self.parameters, self.parent, round_)
        else:
            # All have the same MAC, and it is the switches that are to hear of it.
            self._holding.announce(round_, at_most=1)

    def _count_advertisement(self, vhost: VirtualHost, round_: Round) -> None:
        if vhost.second_announcement_due():
            self._holding.announce(round_)

    def _take(self, vhost: VirtualHost, round_: Round) -> None:
        vhost.stage = Stage.DONE  # also where there was none: one that is configured later is for the next takeover
        self._holding.take(round_)
        if not self.parameters.is_balanced:
            return
        if self.parameters.pre_master:
            # Its share stays closed during the stage, and only an advertisement opens it.
            self._advertise(vhost, round_)
        if self._asks(vhost):
            inquiry(self.parameters, self.parent, round_)
        vhost.follow_announcing(round_.now)

    def _asks(self, vhost: VirtualHost) -> bool:
        """Tell whether this MASTER answers for the addresses, and so has to see whether another host does with another MAC."""
        return self.parameters.balancing.splits_packets and vhost is self.leader

    def _prepare_and_take(self, vhost: VirtualHost, round_: Round) -> None:
        if self.parameters.pre_master:
            self._prepare(vhost, round_)
        else:
            self._take(vhost, round_)

    def _prepare(self, vhost: VirtualHost, round_: Round) -> None:
        """Begin the pre-master stage unless it runs; a MASTER whose stage is over already takes its addresses."""
        if vhost.stage is Stage.DONE:
            self._take(vhost, round_)
        elif vhost.stage is Stage.NONE:
            vhost.stage = Stage.RUNNING
            vhost.stage_serial += 1
            round_.actions.append(Prepare(self.name, vhost.vhid, vhost.stage_serial))

    def _advertise(self, vhost: VirtualHost, round_: Round, *, bow_out: bool = False) -> None:
        unprepared = self.parameters.pre_master and self.parameters.is_balanced and vhost.stage is not Stage.DONE
        opens = not (bow_out or vhost.waits_for_yield or unprepared)
        self.forget_outdated()
        round_.actions += advertise(
            self.parameters, vhost, self.paths, self._host, demote=self.demote, bow_out=bow_out, opens=opens, now=round_.now
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
        if vhost.serves:
            self._holding.announce(round_)
            round_.actions.append(Notice(self.name, vhost.vhid, Note.REASSERTED))
        self._advertise(vhost, round_)

    def claimed(self, address: Address, mac: bytes, round_: Round) -> None:
        """Another host claims one of this interface's addresses, by ARP or neighbour advertisement from this MAC."""
        if self._holding.claims_rightfully(address, mac):
            return
        own_mac = self.parameters.mac or self.parent.mac
        if self.vigilance.claimed(self.leader, address, mac, own_mac, round_, one_mac=self._asks(self.leader)):
            self._reassert(self.leader, round_)

    def _retime(self) -> None:
        """Work out what depends on parameters and demotion only, so that no packet has to."""
        parameters = self.parameters
        demote = self.demote
        for vhost in self.vhosts:
            announces = self._asks(vhost) or (self.paths.hides_mac and not parameters.is_balanced)
            vhost.announces_every_ns = ANNOUNCE_EVERY_NS if announces else 0
            vhost.timing = election.timing(parameters, vhost.node.advskew, demote)
            vhost.patience.change(parameters, vhost.node.advskew)
            vhost.families = parameters.families
            vhost.one_master_down_timer = parameters.dialect.one_master_down_timer

    def _digests(self, vhid: int) -> DigestSet:
        return digests(self.parameters, vhid, self.parent.mac)


_EFFECTS: dict[Effect, Callable[[CarpInterface, VirtualHost, Round], None]] = {
    Effect.ADVERTISE: CarpInterface._advertise,
    Effect.BOW_OUT: CarpInterface._bow_out,
    Effect.CLOSE_FENCE: CarpInterface._close_fence,
    Effect.REASSERT: CarpInterface._reassert,
    Effect.PREPARE: CarpInterface._prepare,
    Effect.PREPARE_AND_TAKE: CarpInterface._prepare_and_take,
    Effect.TAKE: CarpInterface._take,
    Effect.RELEASE: CarpInterface._release,
    Effect.ANNOUNCE: CarpInterface._announce,
    Effect.ANNOUNCE_ONE: CarpInterface._announce_one,
    Effect.COUNT_ADVERTISEMENT: CarpInterface._count_advertisement,
}
"""What is done about the effects that the virtual host itself has no part in."""
