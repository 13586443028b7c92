"""The engine: every carp interface of one host, as a function of events and time.

`handle(event, now)` returns the actions to carry out, in order; `next_deadline()` tells when to call it with `Due` at the
latest. There is nothing else: no socket, no clock, no log.
"""

import errno
import random
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from .actions import Action, Note, Notice
from .directory import Directory
from .events import (
    AddressClaimed,
    AllSent,
    Configured,
    DemotionEnded,
    DemotionStarted,
    Due,
    Event,
    Forced,
    HeldBack,
    PacketArrived,
    ParentChanged,
    Prepared,
    Probed,
    Sent,
    Shutdown,
    Stalled,
    TakeFailed,
    Taken,
)
from .hearing import Hearing
from .host import Host, Parent, Round
from .interface import CarpInterface
from .parameters import InterfaceParameters
from .sending import CounterSource
from .sharing import shared_addresses
from .statistics import Statistics
from .table import Input
from .values import NANOSECONDS_PER_SECOND, Instant, State
from .vhost import Timers, VirtualHost

_NO_MEMORY = frozenset({errno.ENOBUFS, errno.ENOMEM})
_ADVERTISE = Input.ADVERTISE
_FORCED_INPUT = {State.INIT: Input.FORCE_INIT, State.BACKUP: Input.FORCE_BACKUP, State.MASTER: Input.FORCE_MASTER}


class Engine:
    """The protocol of one host.

    Args:
        counter_start: the first value of the advertisement counter, above any that this host ever sent.
        rng: randomness for identifications, cookies and ties; a seeded one makes a run repeatable.
    """

    def __init__(self, counter_start: int, rng: random.Random) -> None:
        timers = Timers()
        self._timers = timers
        self._schedules = (timers.advertise, timers.yield_over, timers.master_down, timers.announce, timers.probe)
        self._host = Host(CounterSource(counter_start), rng, timers)
        self._interfaces: dict[str, CarpInterface] = {}
        self._directory = Directory()
        self._hearing = Hearing(self._host, self._directory)
        self._home: dict[VirtualHost, CarpInterface] = {}
        self._demote_counts: dict[str, int] = {}
        self._settled_changes = 0

    @property
    def interfaces(self) -> Iterator[CarpInterface]:
        """Walk the carp interfaces in the order of the configuration."""
        return iter(self._interfaces.values())

    @property
    def host(self) -> Host:
        """What the carp interfaces share: parents, demotions, switches, counters."""
        return self._host

    @property
    def statistics(self) -> Statistics:
        """The counters of the whole host."""
        return self._host.statistics

    def interface(self, name: str) -> CarpInterface | None:
        """Find a carp interface by name."""
        return self._interfaces.get(name)

    def next_deadline(self) -> Instant | None:
        """Tell when something is due next, or None; it may lie in the past."""
        earliest = self._host.demotions.next_expiry()
        for schedule in self._schedules:
            at = schedule.next()
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def next_master_down(self) -> Instant | None:
        """Tell when a master-down timer fires next: reading further than that is of no use to it."""
        return self._timers.master_down.next()

    def handle(self, event: Event, now: Instant) -> list[Action]:
        """Return what is to be done about an event, in order."""
        round_ = Round(now)
        _HANDLERS[type(event)](self, event, round_)
        return round_.actions

    def _configured(self, event: Configured, round_: Round) -> None:
        former, self._host.parameters = self._host.parameters, event.parameters
        self._host.shared = {(one.carpdev, one.address): one for one in shared_addresses(event.parameters.interfaces)}
        wanted = {parameters.name: parameters for parameters in event.parameters.interfaces}
        for name, interface in list(self._interfaces.items()):
            successor = wanted.get(name)
            if successor is None or not _same_identity(interface.parameters, successor):
                self._remove(interface, round_)
        reordered = {}
        for name, parameters in wanted.items():
            existing = self._interfaces.get(name)
            if existing is None:
                existing = self._create(parameters, round_)
            elif existing.parameters != parameters:
                existing.reconfigure(parameters, round_)
            reordered[name] = existing
        self._interfaces = reordered
        for interface in self._interfaces.values():
            interface.follow_host()
            if former.allow != event.parameters.allow:
                interface.check_readiness(round_)
        for interface in self._interfaces.values():
            if interface.leader.state is State.INIT:
                interface.check_readiness(round_)
        self._settled_changes = -1  # groups may have changed
        self._settle_demotions(round_)

    def _create(self, parameters: InterfaceParameters, round_: Round) -> CarpInterface:
        interface = CarpInterface(parameters, self._host, round_.now)
        self._demote_counts[parameters.name] = interface.demote
        self._directory.add(interface)
        for vhost in interface.vhosts:
            self._home[vhost] = interface
        return interface

    def _remove(self, interface: CarpInterface, round_: Round) -> None:
        for vhost in interface.vhosts:
            interface.run(vhost, Input.STOP, round_)
            del self._home[vhost]
        interface.forget()
        self._directory.remove(interface)
        del self._interfaces[interface.name]
        self._demote_counts.pop(interface.name, None)

    def _parent_changed(self, event: ParentChanged, round_: Round) -> None:
        parent = self._host.parents.setdefault(event.parent, Parent())
        mac_changed = parent.mac != event.mac
        parent.present, parent.up, parent.mac = event.present, event.up, event.mac
        parent.sources, parent.addresses = dict(event.sources), event.addresses
        for interface in self._interfaces.values():
            if interface.parameters.carpdev == event.parent:
                if mac_changed:
                    interface.parent_mac_changed()
                interface.check_readiness(round_)
        self._settle_demotions(round_)

    def _packet_arrived(self, event: PacketArrived, round_: Round) -> None:
        self._hearing.arrived(event, round_)

    def _address_claimed(self, event: AddressClaimed, round_: Round) -> None:
        for interface in self._interfaces.values():
            if interface.parameters.carpdev == event.parent and any(
                address.ip == event.address for address in interface.parameters.addresses
            ):
                interface.claimed(event.address, event.mac, round_)

    def _due(self, event: Due, round_: Round) -> None:
        for vhost, deadline in self._timers.advertise.pop_due(round_.now):
            if not self._home[vhost].advertise_again(vhost, deadline, round_):
                self._expire(vhost, _ADVERTISE, deadline, round_)
        for vhost, _ in self._timers.announce.pop_due(round_.now):
            self._home[vhost].run(vhost, Input.ANNOUNCE, round_)
        for vhost, deadline in self._timers.yield_over.pop_due(round_.now):
            self._expire(vhost, Input.YIELD_OVER, deadline, round_)
        for vhost, deadline in self._timers.master_down.pop_due(min(round_.now, event.read_until)):
            if vhost.was_stalled(round_.now - deadline, round_.now) or not vhost.hesitate(event.late_ns, round_.now):
                self._expire(vhost, Input.MASTER_DOWN, deadline, round_)
        for vhost, _ in self._timers.probe.pop_due(round_.now):
            self._home[vhost].probe(round_)
        if self._host.demotions.expire(round_.now):
            self._settle_demotions(round_)

    def _expire(self, vhost: VirtualHost, input_: Input, deadline: Instant, round_: Round) -> None:
        """Let a timer fire, unless it fires so late that this host must listen before it speaks."""
        interface = self._home[vhost]
        late_ns = round_.now - deadline
        if vhost.was_stalled(late_ns, round_.now):
            self._stall(interface, vhost, late_ns, round_)
        else:
            interface.run(vhost, input_, round_)

    def _stall(self, interface: CarpInterface, vhost: VirtualHost, gap_ns: int, round_: Round) -> None:
        interface.run(vhost, Input.STALLED, round_, detail=f"for {gap_ns / NANOSECONDS_PER_SECOND:.3f} s")

    def _sent(self, event: Sent, round_: Round) -> None:
        interface = self._interfaces.get(event.interface)
        if interface is None:
            return
        if event.error is None:
            interface.sent_well(event.family, round_)
            for peer in event.unreached:
                round_.actions.append(Notice(interface.name, event.vhid, Note.SEND_FAILED, f"to {ip_address(peer)}"))
        else:
            detail = f"{event.family}, errno {event.error}"
            round_.actions.append(Notice(interface.name, event.vhid, Note.SEND_FAILED, detail))
            if event.error in _NO_MEMORY:
                interface.statistics.no_memory += 1
                self._host.statistics.no_memory += 1
            interface.sent_badly(round_)
        self._settle_demotions(round_)

    def _all_sent(self, event: AllSent, round_: Round) -> None:
        for send in event.advertisements:
            interface = self._interfaces.get(send.interface)
            if interface is not None:
                interface.sent_well(send.family, round_)
        self._settle_demotions(round_)

    def _taken(self, event: Taken | TakeFailed, round_: Round) -> None:
        interface = self._interfaces.get(event.interface)
        if interface is not None:
            interface.taken(event.error if isinstance(event, TakeFailed) else None, round_)
            self._settle_demotions(round_)

    def _probed(self, event: Probed, round_: Round) -> None:
        interface = self._interfaces.get(event.interface)
        if interface is not None:
            interface.probe_result(event.error is not None, round_)
            self._settle_demotions(round_)

    def _prepared(self, event: Prepared, round_: Round) -> None:
        interface = self._interfaces.get(event.interface)
        if interface is not None:
            interface.prepared(event.vhid, event.serial, round_)

    def _held_back(self, event: HeldBack, _round: Round) -> None:
        interface = self._interfaces.get(event.interface)
        if interface is not None:
            interface.held_back = event.held

    def _forced(self, event: Forced, round_: Round) -> None:
        """Force every virtual host, if the leader is in another state: it is the one that is compared (PROTOCOL.md 4.7)."""
        interface = self._interfaces.get(event.interface)
        if interface is not None and interface.leader.state not in (State.INIT, event.state):
            for vhost in interface.vhosts:
                interface.run(vhost, _FORCED_INPUT[event.state], round_)

    def _stalled(self, event: Stalled, round_: Round) -> None:
        for vhost, interface in self._home.items():
            if vhost.was_stalled(event.gap_ns, round_.now):
                self._stall(interface, vhost, event.gap_ns, round_)

    def _demotion_started(self, event: DemotionStarted, round_: Round) -> None:
        self._host.demotions.add(event.demotion)
        self._settle_demotions(round_)

    def _demotion_ended(self, event: DemotionEnded, round_: Round) -> None:
        self._host.demotions.remove(event.name)
        self._settle_demotions(round_)

    def _shutdown(self, _event: Shutdown, round_: Round) -> None:
        self._host.stopped = True
        for vhost, interface in self._home.items():
            interface.run(vhost, Input.STOP, round_)

    def _settle_demotions(self, round_: Round) -> None:
        """Find the interfaces whose demote count changed; those advertise the new one at once (PROTOCOL.md 4.2)."""
        demotions = self._host.demotions
        if demotions.changes == self._settled_changes:
            return
        self._settled_changes = demotions.changes
        # Thousands of interfaces may have one group, and thousands of reasons demote it: they are named once.
        named: dict[tuple[str, ...], str] = {}
        for name, interface in self._interfaces.items():
            former, count = self._demote_counts.get(name, 0), interface.demote
            if count == former:
                continue
            self._demote_counts[name] = count
            demoted = demotions.demoted(interface.demotion_groups)
            if demoted not in named:
                named[demoted] = ", ".join(fact.name for fact in demotions.walk(demoted))
            detail = f"{former} -> {count}" + (f" ({named[demoted]})" if demoted else "")
            round_.actions.append(Notice(name, None, Note.DEMOTED, detail))
            interface.readvertise(round_)


def _same_identity(one: InterfaceParameters, other: InterfaceParameters) -> bool:
    """Tell whether a change from one to the other keeps the virtual hosts and the link they live on."""
    return (
        [node.vhid for node in one.nodes] == [node.vhid for node in other.nodes]
        and (one.carpdev, one.lladdr, one.balancing) == (other.carpdev, other.lladdr, other.balancing)
        and one.dialect == other.dialect
    )


_HANDLERS: dict[type, Callable[..., None]] = {
    Configured: Engine._configured,
    ParentChanged: Engine._parent_changed,
    PacketArrived: Engine._packet_arrived,
    AddressClaimed: Engine._address_claimed,
    Due: Engine._due,
    Sent: Engine._sent,
    AllSent: Engine._all_sent,
    Taken: Engine._taken,
    TakeFailed: Engine._taken,
    Probed: Engine._probed,
    Prepared: Engine._prepared,
    HeldBack: Engine._held_back,
    Forced: Engine._forced,
    Stalled: Engine._stalled,
    DemotionStarted: Engine._demotion_started,
    DemotionEnded: Engine._demotion_ended,
    Shutdown: Engine._shutdown,
}
