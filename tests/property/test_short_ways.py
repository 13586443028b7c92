"""The short ways change nothing: an engine that remembers does what one does that reads and makes everything anew.

Two engines live the same life. One is as it is; the other forgets before each event what it has judged and prepared, and
every packet that reaches it is padded, so that it is taken apart step by step.
"""

import random
from dataclasses import fields, replace
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from carp.protocol.actions import Send
from carp.protocol.auth import key_from_passphrase
from carp.protocol.demotion import Demotion
from carp.protocol.engine import Engine
from carp.protocol.events import AllSent, DemotionEnded, DemotionStarted, Forced, HeldBack, PacketArrived, Prepared, Sent
from carp.protocol.interface import CarpInterface
from carp.protocol.packet import HEADER_BYTES, internet_checksum
from carp.protocol.parameters import Balancing, Node
from carp.protocol.values import Family, State
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, KEY, PARENT, VIP4, VIP6, address, carp_interface, configured, station_sources
from carp.testing.lan import VirtualLan, Weather

from .test_lan import LONGEST_DELAY

IPV4, IPV6 = Family
HOSTS = 3
NOT_COMPARED = {"authenticator", "familiar", "prepared", "patience", "_timers", "_rng"}
USUAL_BYTES = {IPV4: 20 + HEADER_BYTES, IPV6: 40 + HEADER_BYTES}


def padded(event):
    """Let a packet that is whole arrive with a byte of padding behind it, which nobody looks at."""
    if isinstance(event, PacketArrived) and len(event.packet) == USUAL_BYTES[event.family]:
        at, rest = (2, 0) if event.family is IPV4 else (4, 40)
        if int.from_bytes(event.packet[at : at + 2]) + rest <= len(event.packet):
            return replace(event, packet=event.packet + b"\0")
    return event


def what_it_knows(engine):
    """Return everything that an engine could show or act on, but for what it prepared."""
    host = engine.host
    timers = [getattr(host.timers, field.name) for field in fields(host.timers)]
    interfaces = [
        (
            (interface.name, interface.statistics, interface.held_back, interface.demote),
            [value for name, value in vars(interface.vigilance).items() if name.startswith("last")],
            [
                (
                    [schedule.get(vhost) for schedule in timers],
                    [(one.name, getattr(vhost, one.name)) for one in fields(vhost) if one.name not in NOT_COMPARED],
                    vhost.patience,
                )
                for vhost in interface.vhosts
            ],
        )
        for interface in engine.interfaces
    ]
    facts = [(fact.name, fact.amount, fact.until) for fact in host.demotions]
    return engine.next_deadline(), engine.next_master_down(), host.statistics, facts, interfaces


class Twin(Engine):
    """An engine with a forgetful twin; it fails where they differ."""

    def __init__(self, counter_start, rng):
        forgetful = random.Random()
        forgetful.setstate(rng.getstate())
        super().__init__(counter_start, rng)
        self.forgetful = Engine(counter_start, forgetful)
        self.familiar = 0

    def handle(self, event, now):
        for interface in self.forgetful.interfaces:
            for vhost in interface.vhosts:
                vhost.familiar.clear()
                vhost.prepared.clear()
        self.familiar += isinstance(event, PacketArrived) and self.knows(event)
        actions = super().handle(event, now)
        assert actions == self.forgetful.handle(padded(event), now), event
        assert what_it_knows(self) == what_it_knows(self.forgetful), event
        return actions

    def knows(self, event):
        """Tell whether a packet may take the short way."""
        judged = event.packet[12:26] if event.family is IPV4 else event.packet[8:46]
        return any(judged in vhost.familiar for interface in self.interfaces for vhost in interface.vhosts)


class Life:
    """Some hosts, and what disturbs them; every choice comes from one source of chance."""

    def __init__(self, rng, dialect):
        self.rng = rng
        self.lan = VirtualLan(rng.getrandbits(32))
        self.heard = []
        self.dialect = dialect
        self.balanced = rng.random() < 0.25 and dialect == "auto"
        self.peers = [] if rng.random() < 0.9 else [one for number in (1, 2) for one in self.named(number)]
        self.addresses = rng.choice([(VIP4,), (VIP6,), DUAL_STACK, DUAL_STACK])
        for number in range(1, HOSTS + 1):
            self.lan.add(f"h{number}", *self.interfaces(), preempt=rng.random() < 0.5)

    def named(self, number):
        """Name a host as a peer in both families."""
        return [address(f"192.0.2.{number}").ip, address(f"fe80::{number:x}").ip]

    def interfaces(self):
        """Draw the parameters of a host's carp interfaces."""
        rng = self.rng
        more = {
            "advbase": rng.choice([0, 1, 1, 1, 1]),
            "preempt_delay_ns": rng.choice([0, 0, seconds(2)]),
            "pre_master": rng.random() < 0.2,
            "preempt": rng.choice([None, None, True, False]),
            "digest_grace_ns": rng.choice([0, seconds(3)]),
            "key": rng.choice([KEY] * 15 + [key_from_passphrase("other")]),
            "demote_skew": rng.random() < 0.2,
            "groups": rng.choice([("carp",), ("carp", "more")]),
        }
        if self.balanced:
            nodes = tuple(Node(vhid, rng.choice([60, 100, 200])) for vhid in (1, 2, 3))
            return [carp_interface(nodes=nodes, addresses=self.addresses, balancing=Balancing.IP, **more)]
        return [
            carp_interface(
                f"carp{vhid}",
                vhid,
                advskew=rng.choice([60, 60, 100, 200]),
                addresses=rng.choice([self.addresses] * 9 + [(VIP4,)]),
                dialect=self.dialect,
                peers=self.peers,
                **more,
            )
            for vhid in (1, 2)
        ]

    def disturb(self):
        """Let something happen to one host."""
        self.rng.choice(
            [
                *(self.reconfigure, self.demote, self.undemote, self.hold_back, self.force, self.link, self.renumber),
                *(self.freeze, self.weather, self.mute, self.break_hardware, self.answer_late),
                *(self.forge, self.forge, self.replay, self.replay),
            ]
        )(self.rng.choice(list(self.lan.stations.values())))

    def reconfigure(self, station):
        switches = {"dscp": self.rng.choice([None, None, 48]), "allow": self.rng.random() < 0.9}
        station.feed(configured(*self.interfaces(), preempt=self.rng.random() < 0.5, **switches))

    def demote(self, station):
        name, amount = self.rng.choice(["a", "b"]), self.rng.choice([1, 1, 2, 300])
        until = self.rng.choice([None, self.lan.now + seconds(2)])
        groups = frozenset({self.rng.choice(["carp", "more", "carp1"])})
        station.feed(DemotionStarted(Demotion(name, amount, groups, "test", self.lan.now, until)))

    def undemote(self, station):
        station.feed(DemotionEnded(self.rng.choice(["a", "b"])))

    def hold_back(self, station):
        station.feed(HeldBack(next(station.engine.interfaces).name, self.rng.random() < 0.7))

    def force(self, station):
        station.feed(Forced(next(station.engine.interfaces).name, self.rng.choice([State.BACKUP, State.MASTER])))

    def link(self, station):
        up = self.rng.random() < 0.7
        station.set_parent(PARENT, present=up or self.rng.random() < 0.5, up=up)

    def renumber(self, station):
        sources = self.rng.choice([station_sources(number) for number in (1, 2, 3, station.number + 10)] + [{}])
        station.set_parent(PARENT, present=True, up=True, sources=sources)

    def freeze(self, station):
        if not station.frozen:
            station.freeze(milliseconds(self.rng.choice([5, 700, 4000])), reported=self.rng.random() < 0.5)

    def weather(self, _station):
        rng = self.rng
        loss, doubled, echo = rng.choice([0.0, 0.0, 0.3]), rng.choice([0.0, 0.2]), rng.choice([0.0, 0.2])
        self.lan.weather = Weather(loss, (0, rng.choice([0, LONGEST_DELAY])), doubled, 0.2, echo)

    def mute(self, station):
        self.lan.heal()
        if self.rng.random() < 0.5:
            self.lan.mute(station.name, self.rng.choice([(IPV4,), (IPV6,), (IPV4, IPV6)]))

    def break_hardware(self, station):
        station.hardware.take_error = self.rng.choice([None, None, "no"])
        station.hardware.send_errno = self.rng.choice([None, None, 105])

    def answer_late(self, station):
        name = next(station.engine.interfaces).name
        station.feed(Prepared(name, 1, self.rng.choice([0, 1])))
        station.feed(Sent(name, 1, IPV4, self.rng.choice([None, 1])))
        station.feed(AllSent([Send(gone, 1, IPV4, (), 0) for gone in (name, "gone", name)]))

    def replay(self, station):
        """Let a packet of any host and time arrive once more, or back where it came from, now and then by another way."""
        if self.heard:
            event = self.rng.choice(self.heard[-60:])
            parent = self.rng.choice([event.parent] * 9 + ["wlan0"])
            for _ in range(self.rng.choice([1, 1, 2])):
                station.receive(replace(event, arrival=self.lan.now))
            station.feed(replace(event, parent=parent, arrival=self.lan.now, vlan_tagged=self.rng.random() < 0.1))

    def forge(self, station):
        """Change a byte of a packet; the checksums are made right again, mostly."""
        if not self.heard:
            return
        event = self.rng.choice(self.heard[-60:])
        packet = bytearray(event.packet)
        packet[self.rng.randrange(len(packet))] = self.rng.choice([0, 1, 2, 5, 7, 33, 255, self.rng.randrange(256)])
        if self.rng.random() < 0.9:
            at = len(packet) - HEADER_BYTES
            packet[at + 6 : at + 8] = bytes(2)
            packet[at + 6 : at + 8] = internet_checksum(bytes(packet[at:])).to_bytes(2)
            if event.family is IPV4:
                packet[10:12] = bytes(2)
                packet[10:12] = internet_checksum(bytes(packet[:20])).to_bytes(2)
        cut = self.rng.choice([len(packet)] * 9 + [self.rng.randrange(len(packet))])
        station.receive(replace(event, packet=bytes(packet[:cut]), arrival=self.lan.now))

    def listen(self):
        """Remember every packet that is brought to anybody."""
        bring = self.lan._bring

        def hear(sender, receiver, packet):
            self.heard.append(packet)
            bring(sender, receiver, packet)

        self.lan._bring = hear

    def live(self, steps):
        """Go through some disturbances with quiet times between."""
        self.listen()
        self.lan.run_for(seconds(5))
        for _ in range(steps):
            self.disturb()
            self.lan.run_for(self.rng.choice([0, milliseconds(1), milliseconds(400), seconds(1.5), seconds(4)]))
        return self.lan


@given(st.randoms(use_true_random=False), st.sampled_from(["auto", "auto", "openbsd", "freebsd", "netbsd10", "ucarp"]))
def test_who_remembers_does_the_same(rng, dialect):
    """Whatever happens to hosts that hear each other: same actions, states, counters and deadlines as without remembering."""
    with patch("carp.testing.lan.Engine", Twin):
        Life(rng, dialect).live(20)


def test_short_ways_are_taken(monkeypatch):
    """In such lives many packets are familiar and many advertisements are repeated, else nothing would be shown."""
    repeated = []
    again = CarpInterface.advertise_again
    monkeypatch.setattr(CarpInterface, "advertise_again", lambda *arguments: repeated.append(again(*arguments)) or repeated[-1])
    with patch("carp.testing.lan.Engine", Twin):
        lives = [Life(random.Random(seed), "auto").live(20) for seed in range(5)]
    assert sum(station.engine.familiar for lan in lives for station in lan.stations.values()) > 500
    assert sum(repeated) > 200
