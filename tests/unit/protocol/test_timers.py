"""Timers: when they fire, what moves them, and what a late or a busy host must not do."""

import pytest

from carp.protocol.actions import Note, Notice, Reason, Send, Transition
from carp.protocol.events import Due, PacketArrived, Stalled
from carp.protocol.values import Family, Instant, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, carp_interface
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

IPV4, IPV6 = Family


def backup(**settings):
    """Put a BACKUP on the bench and a peer on paper."""
    interface = carp_interface(**settings)
    return Bench(interface), Peer.of(interface)


class TestReadingComesFirst:
    def test_master_down_waits_for_reading(self):
        """A master-down timer fires only once every packet that arrived up to its deadline was read."""
        bench, _ = backup()
        bench.now = Instant(bench.engine.next_master_down() + milliseconds(50))
        bench.feed(Due(Instant(bench.engine.next_master_down() - 1)))
        assert bench.state() is State.BACKUP
        bench.feed(Due(bench.engine.next_master_down()))
        assert bench.state() is State.MASTER

    def test_packet_that_waited_in_the_socket_counts_from_its_arrival(self):
        """After a late round the advertisement that arrived in time moves the deadline, counted from when it arrived."""
        bench, peer = backup()
        arrival = Instant(bench.now + seconds(2))
        bench.now = Instant(bench.now + seconds(4))
        bench.hear(PacketArrived("lan0", IPV4, peer.advertisement(), arrival))
        bench.feed(Due(bench.now))
        assert bench.state() is State.BACKUP
        assert bench.engine.next_master_down() == arrival + seconds(3)

    def test_older_arrival_does_not_turn_the_timer_back(self):
        """Packets read out of order leave the deadline that the newest one made."""
        bench, peer = backup()
        bench.run_for(seconds(1))
        bench.hear(peer.advertisement())
        bench.hear(PacketArrived("lan0", IPV4, peer.advertisement(), Instant(bench.now - milliseconds(500))))
        assert bench.engine.next_master_down() == bench.now + seconds(3)

    def test_advertisement_does_not_wait_for_reading(self):
        """A MASTER's due advertisement goes out however far reading is behind."""
        bench, _ = backup()
        bench.wait_for(State.MASTER)
        bench.now = Instant(bench.engine.next_deadline())
        assert len(only(Send, bench.feed(Due(Instant(0))))) == 1


class TestIntervals:
    @pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 100), (2, 254), (0, 5), (0, 0)])
    def test_master_advertises_each_interval(self, advbase, advskew):
        """A MASTER advertises each interval, without drift."""
        bench, _ = backup(advbase=advbase, advskew=advskew)
        bench.wait_for(State.MASTER)
        began, interval = bench.now, bench.vhost().timing.advertisement_ns
        for number in range(1, 20):
            assert bench.engine.next_deadline() == began + number * interval
            bench.run_until(bench.engine.next_deadline())

    def test_late_round_does_not_let_the_interval_drift(self):
        """The next advertisement counts from the deadline, not from when a late round saw it."""
        bench, _ = backup()
        bench.wait_for(State.MASTER)
        due = bench.engine.next_deadline()
        bench.now = Instant(due + milliseconds(90))
        bench.feed(Due(bench.now))
        assert bench.engine.next_deadline() == due + seconds(1)

    def test_very_late_round_sends_one_advertisement(self):
        """A MASTER that missed some intervals does not send them all: one, and the next an interval later."""
        bench, _ = backup(advbase=0, advskew=64, peer_master_down_ns=seconds(3))
        bench.wait_for(State.MASTER)
        bench.now = Instant(bench.now + seconds(1.9))
        assert len(advertisements(bench.feed(Due(bench.now)))) == 1
        assert bench.engine.next_deadline() == bench.now + seconds(0.25)

    def test_alone_on_the_wire(self):
        """A host that hears nobody becomes MASTER after one master-down time, preempt or not."""
        bench, _ = backup(advskew=100)
        started = bench.now
        bench.wait_for(State.MASTER)
        assert bench.now - started == seconds(3) + 390_625_000

    def test_nothing_is_due_in_init(self):
        """A host without carp interfaces, or with none that runs, never asks to be woken."""
        assert Bench().engine.next_deadline() is None
        assert Bench(carp_interface(), allow=False).engine.next_deadline() is None

    def test_master_has_no_master_down_timer(self):
        """A MASTER waits for nobody."""
        bench, _ = backup()
        bench.wait_for(State.MASTER)
        assert bench.engine.next_master_down() is None

    def test_each_promotion_is_for_its_own_virtual_host(self):
        """Virtual hosts on one wire have timers of their own."""
        first, second = carp_interface(), carp_interface("carp1", 2)
        bench = Bench(first, second)
        bench.run_for(seconds(2))
        bench.hear(Peer.of(first).advertisement())
        bench.run_for(seconds(2))
        assert (bench.state(1), bench.state(2)) == (State.BACKUP, State.MASTER)


class TestSilentFamily:
    def notes(self, actions):
        return [(notice.note, notice.detail) for notice in only(Notice, actions)]

    def test_is_noticed_once(self):
        """With one timer for both families, one that is silent for the whole time is worth one line, and its return another."""
        bench, peer = backup(addresses=DUAL_STACK)
        seen = []
        for _ in range(8):
            bench.run_for(seconds(1))
            seen += self.notes(bench.hear(peer.advertisement(IPV4), IPV4))
        assert seen == [(Note.FAMILY_SILENT, "IPv6")]
        assert self.notes(bench.hear(peer.advertisement(IPV6), IPV6)) == [(Note.FAMILY_HEARD, "IPv6")]
        assert self.notes(bench.hear(peer.advertisement(IPV6), IPV6)) == []

    def test_single_family_is_never_silent(self):
        """With addresses of one family the other is not missed."""
        bench, peer = backup()
        for _ in range(8):
            bench.run_for(seconds(1))
            assert bench.hear(peer.advertisement()) == []


class TestStalled:
    def test_master_steps_back_without_a_word(self):
        """A MASTER that did not run for a while may have a successor: it yields and sends nothing."""
        bench, _ = backup()
        bench.wait_for(State.MASTER)
        actions = bench.feed(Stalled(seconds(10)))
        assert only(Send, actions) == []
        assert only(Transition, actions)[0].reason is Reason.STALLED
        assert bench.engine.next_deadline() == bench.now + seconds(3)

    def test_backup_waits_a_full_time(self):
        """A BACKUP may have lost what arrived meanwhile: it waits a full master-down time."""
        bench, _ = backup()
        bench.now = Instant(bench.now + seconds(10))
        bench.feed(Stalled(seconds(10)))
        assert bench.engine.next_deadline() == bench.now + seconds(3)

    def test_frozen_backup_does_not_take_over(self):
        """A BACKUP that was frozen for longer than its patience stays BACKUP when it runs again, noticed or not."""
        for reported in (False, True):
            lan = VirtualLan()
            lan.add("a", carp_interface())
            lan.add("b", carp_interface(advskew=100))
            lan.run_for(seconds(5))
            lan.freeze("b", seconds(7.5), reported=reported)
            lan.run_for(seconds(15))
            assert [change.station for change in lan.history.changes if change.new is State.MASTER] == ["a"]

    def test_frozen_master_gives_way(self):
        """A MASTER that was frozen finds its successor and leaves it alone for as long as it is the slower one."""
        lan = VirtualLan()
        lan.add("a", carp_interface())
        lan.add("b", carp_interface(advskew=100))
        lan.run_for(seconds(5))
        lan.freeze("a", seconds(7))
        lan.run_for(seconds(15))
        assert lan.masters() == {"b"}
        returned = [change for change in lan.history.changes if change.station == "a"][-1]
        assert (returned.new, returned.reason) == (State.BACKUP, Reason.STALLED)
