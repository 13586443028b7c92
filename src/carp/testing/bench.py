"""One engine on the bench, driven by hand: feed it an event, look at its actions.

The bench keeps the promise that an engine's surroundings give: it wakes the engine exactly when it asked to be woken, and with
`answers` it reports every Send and Probe as sent, and every Take and Prepare as done, at once.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from carp.protocol.actions import Action, Prepare, Probe, Send, Take
from carp.protocol.engine import Engine
from carp.protocol.events import Due, Event, PacketArrived, Prepared, Probed, Sent, Taken
from carp.protocol.interface import CarpInterface
from carp.protocol.packet import Advertisement, DropReason, decode, parse_ip
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import Family, Instant, State
from carp.protocol.vhost import VirtualHost

from .clock import START
from .hosts import configured, parent_up, station_sources

FIRST_COUNTER = 0x1000_0000_0000_0000

A = TypeVar("A")


def only(kind: type[A], actions: Iterable[object]) -> list[A]:
    """Pick the actions of one kind, in order."""
    return [action for action in actions if isinstance(action, kind)]


def read(send: Send) -> Advertisement:
    """Read the advertisement that an engine wants to send.

    Raises:
        ValueError: it is none.
    """
    datagram = parse_ip(send.family, send.packet)
    heard = datagram if isinstance(datagram, DropReason) else decode(datagram)
    if isinstance(heard, Advertisement):
        return heard
    raise ValueError(f"the engine sends what it would refuse itself: {heard}")


def advertisements(actions: Iterable[object]) -> list[Advertisement]:
    """Read all advertisements among the actions."""
    return [read(send) for send in only(Send, actions)]


class Bench:
    """An engine, its time, and all it asked for.

    Args:
        interfaces: the carp interfaces; their parents are up, with `sources`, before they are configured.
        sources: the parents' addresses; an empty mapping leaves them un-numbered.
        answers: report everything that wants an answer as done at once.
    """

    def __init__(
        self,
        *interfaces: InterfaceParameters,
        allow: bool = True,
        preempt: bool = False,
        sources: Mapping[Family, bytes] | None = None,
        answers: bool = True,
        counter_start: int = FIRST_COUNTER,
        seed: int = 1,
    ) -> None:
        self.engine = Engine(counter_start, random.Random(seed))  # noqa: S311 - repeatable, not secret
        self.now = START
        self.actions: list[Action] = []
        self.answers = answers
        self.sources = station_sources(1) if sources is None else dict(sources)
        for carpdev in dict.fromkeys(interface.carpdev for interface in interfaces):
            self.feed(parent_up(self.sources, carpdev))
        self.feed(configured(*interfaces, allow=allow, preempt=preempt))

    def feed(self, event: Event) -> list[Action]:
        """Hand over an event now; return the actions, those that follow from the bench's answers included."""
        actions = self.engine.handle(event, self.now)
        for action in list(actions) if self.answers else ():
            if isinstance(action, Send):
                actions += self.feed_silently(Sent(action.interface, action.vhid, action.family))
            elif isinstance(action, Take):
                actions += self.feed_silently(Taken(action.interface))
            elif isinstance(action, Prepare):
                actions += self.feed_silently(Prepared(action.interface, action.vhid, action.serial))
            elif isinstance(action, Probe):
                actions += self.feed_silently(Probed(action.interface))
        self.actions += actions
        return actions

    def feed_silently(self, event: Event) -> list[Action]:
        """Hand over an event and the answers to what follows, without adding to `actions`."""
        kept, self.actions = self.actions, []
        try:
            return self.feed(event)
        finally:
            self.actions = kept

    def reconfigure(
        self, *interfaces: InterfaceParameters, allow: bool = True, preempt: bool | None = None, **switches: Any
    ) -> list[Action]:
        """Give the host other carp interfaces; `preempt` stays as it is unless given, other switches are as by default."""
        former = self.engine.host.parameters
        wanted = former.preempt if preempt is None else preempt
        return self.feed(configured(*interfaces, allow=allow, preempt=wanted, **switches))

    def hear(self, packet: bytes | PacketArrived, family: Family = Family.IPV4) -> list[Action]:
        """Let a packet arrive now, on the parent of the first carp interface unless the event says where."""
        if isinstance(packet, PacketArrived):
            return self.feed(packet)
        return self.feed(PacketArrived(self.interface().parameters.carpdev, family, packet, self.now))

    def run_until(self, until: int) -> list[Action]:
        """Let time pass; wake the engine at each of its deadlines."""
        actions: list[Action] = []
        while (due := self.engine.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            actions += self.feed(Due(self.now))
        self.now = Instant(max(self.now, until))
        return actions

    def run_for(self, duration_ns: int) -> list[Action]:
        """Let `duration_ns` pass."""
        return self.run_until(self.now + duration_ns)

    def wait_for(self, state: State, vhid: int = 1) -> list[Action]:
        """Let time pass until a virtual host is in a state.

        Raises:
            RuntimeError: nothing is due any more, or a hundred deadlines passed in vain.
        """
        actions: list[Action] = []
        for _ in range(100):
            if self.state(vhid) is state:
                return actions
            due = self.engine.next_deadline()
            if due is None:
                break
            actions += self.run_until(due)
        raise RuntimeError(f"vhid {vhid} does not become {state}")

    def interface(self, name: str | None = None) -> CarpInterface:
        """Find a carp interface; the first one unless named.

        Raises:
            LookupError: there is none.
        """
        for interface in self.engine.interfaces:
            if name in (None, interface.name):
                return interface
        raise LookupError(name)

    def vhost(self, vhid: int = 1) -> VirtualHost:
        """Find a virtual host.

        Raises:
            LookupError: there is none.
        """
        for interface in self.engine.interfaces:
            for vhost in interface.vhosts:
                if vhost.vhid == vhid:
                    return vhost
        raise LookupError(vhid)

    def state(self, vhid: int = 1) -> State:
        """Tell the state of a virtual host."""
        return self.vhost(vhid).state

    def snapshot(self) -> tuple[object, ...]:
        """Return everything that a refused packet must leave as it is."""
        return (
            self.engine.next_deadline(),
            self.engine.next_master_down(),
            tuple(fact.name for fact in self.engine.host.demotions),
            tuple(
                (vhost.expected_master_down(), *_what_it_knows(vhost))
                for interface in self.engine.interfaces
                for vhost in interface.vhosts
            ),
        )


def _what_it_knows(vhost: VirtualHost) -> list[tuple[str, str]]:
    """Write down everything a virtual host remembers, but what it shares with others."""
    shared = {"authenticator", "_timers", "_rng"}
    return [(one.name, repr(getattr(vhost, one.name))) for one in fields(vhost) if one.name not in shared]
