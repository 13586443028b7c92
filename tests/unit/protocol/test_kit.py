"""The test kit itself: what it promises to the tests that stand on it."""

import pytest

from carp.protocol.packet import DropReason
from carp.protocol.parameters import Balancing, Node
from carp.protocol.values import NEVER, Family, State
from carp.testing.bench import Bench
from carp.testing.clock import START, Rank, VirtualClock, milliseconds, seconds
from carp.testing.history import History
from carp.testing.hosts import DUAL_STACK, VIP4, carp_interface
from carp.testing.kernel import Kernel
from carp.testing.lan import VirtualLan, Weather
from carp.testing.packets import WRONG, Peer


def lan_of(*advskews, **settings):
    """Start hosts a, b, ... with these advskews."""
    lan = VirtualLan(**settings)
    for name, advskew in zip("abcdefgh", advskews, strict=False):
        lan.add(name, carp_interface(advskew=advskew))
    return lan


class TestClock:
    def test_time_passes_only_when_told(self):
        """The clock stands still, and then goes exactly as far as it is told."""
        clock = VirtualClock()
        assert clock.now == START
        clock.run_for(seconds(2))
        assert clock.now == START + seconds(2)

    def test_calls_come_in_order(self):
        """Calls come by time, at one time by rank, at one rank as they were asked for; the clock shows their time."""
        clock, said = VirtualClock(), []
        for delay, rank, name in (
            (5, Rank.DEADLINE, "d"),
            (5, Rank.PACKET, "b"),
            (1, Rank.DEADLINE, "a"),
            (5, Rank.PACKET, "c"),
        ):
            clock.call_in(delay, lambda name=name: said.append((name, clock.now - START)), rank)
        clock.run_for(5)
        assert said == [("a", 1), ("b", 5), ("c", 5), ("d", 5)]
        assert clock.next_call() is None

    def test_calls_plan_calls(self):
        """What a call plans within the time that runs is still called."""
        clock, said = VirtualClock(), []
        clock.call_in(1, lambda: clock.call_in(1, lambda: said.append(clock.now - START)))
        clock.run_for(2)
        assert said == [2]

    def test_the_past_is_now(self):
        """A call for a moment that has passed comes now."""
        clock, said = VirtualClock(), []
        clock.call_at(0, lambda: said.append(clock.now))
        clock.run_for(1)
        assert said == [START]

    def test_endless_loop_is_an_error(self):
        """Calls that plan each other at one instant for ever are found out."""
        clock = VirtualClock()

        def again():
            clock.call_in(0, again)

        again()
        with pytest.raises(RuntimeError, match="time stands still"):
            clock.run_for(1)


class TestPeer:
    @pytest.mark.parametrize("family", list(Family), ids=str)
    def test_is_heard(self, family):
        """A peer of a carp interface makes advertisements that this takes."""
        interface = carp_interface(addresses=DUAL_STACK)
        bench = Bench(interface)
        assert bench.hear(Peer.of(interface).advertisement(family), family) == []

    def test_each_packet_has_its_counter(self):
        """Two packets of a peer never carry the same counter."""
        peer = Peer()
        assert peer.advertisement() != peer.advertisement()

    def test_wrong_packets_exist_for_all_that_bytes_can_show(self):
        """Only what lies outside the packet has no wrong one."""
        assert set(DropReason) - set(WRONG) == {DropReason.VLAN_TAGGED, DropReason.BAD_INTERFACE, DropReason.ECHO}
        with pytest.raises(KeyError):
            Peer().wrong(DropReason.ECHO)


class TestLan:
    def test_elects(self):
        """The best host is MASTER and answers."""
        lan = lan_of(0, 100, 200)
        lan.run_for(seconds(5))
        assert (lan.masters(), lan.holders(VIP4)) == ({"a"}, {"a"})

    def test_addresses_come_after_the_take(self):
        """Addresses answer when the take is done, not before."""
        lan = lan_of(0)
        lan.stations["a"].hardware.take_delay_ns = milliseconds(50)
        lan.run_for(seconds(3) + milliseconds(49))
        assert (lan.masters(), lan.holders(VIP4)) == ({"a"}, set())
        lan.run_for(milliseconds(1))
        assert lan.holders(VIP4) == {"a"}

    def test_one_way_block(self):
        """A block is for one direction, and for one family if that is said."""
        lan = lan_of(0, 100)
        lan.block("a", "b")
        lan.run_for(seconds(10))
        assert lan.masters() == {"a", "b"}
        lan.heal()
        lan.run_for(seconds(2))
        assert lan.masters() == {"a"}
        lan.block("a", "b", [Family.IPV6])
        lan.run_for(seconds(10))
        assert lan.masters() == {"a"}

    def test_mute(self):
        """A host behind a silently blocked port hears, and is not heard."""
        lan = lan_of(0, 100, 200)
        lan.run_for(seconds(5))
        lan.mute("a")
        lan.run_for(seconds(5))
        assert lan.masters() == {"a", "b"}

    def test_partition_and_heal(self):
        """Parts of a partition hear nothing of each other; a host that is not named is alone."""
        lan = lan_of(0, 50, 100, 150)
        lan.partition("ab", "c")
        lan.run_for(seconds(10))
        assert lan.masters() == {"a", "c", "d"}
        lan.heal()
        lan.run_for(seconds(3))
        assert lan.masters() == {"a"}

    def test_loss_and_duplication_are_shares(self):
        """Loss and duplication happen to about the share of packets that the weather says."""
        for weather, share in ((Weather(), 1.0), (Weather(loss=0.5), 0.5), (Weather(duplication=0.5), 1.5)):
            lan = lan_of(0, 200, weather=weather)
            lan.run_for(seconds(400))
            sent = lan.stations["a"].engine.statistics.sent[Family.IPV4]
            heard = sum(1 for one in lan.history.deliveries if one.sender == "a")
            assert heard / sent == pytest.approx(share, abs=0.12)

    def test_reorder(self):
        """A reordered packet arrives after one that was sent later."""
        weather = Weather(delay_ns=(0, milliseconds(1500)), reorder=0.5)
        lan = lan_of(0, 200, weather=weather)
        lan.run_for(seconds(60))
        sent = [one.sent for one in lan.history.deliveries if one.sender == "a"]
        assert sent != sorted(sent)

    def test_echo(self):
        """An echo brings a host its own packets."""
        lan = lan_of(0, weather=Weather(echo=1.0))
        lan.run_for(seconds(6))
        statistics = lan.stations["a"].engine.statistics
        assert statistics.dropped[DropReason.ECHO] > 0
        assert lan.masters() == {"a"}

    def test_link(self):
        """A host whose cable is pulled knows it; plugged in, it begins again."""
        lan = lan_of(0, 100)
        lan.run_for(seconds(5))
        lan.link("a", up=False)
        assert lan.stations["a"].state() is State.INIT
        lan.run_for(seconds(5))
        assert lan.masters() == {"b"}
        lan.link("a", up=True)
        assert lan.stations["a"].state() is State.BACKUP

    def test_overlaps_and_what_was_heard(self):
        """The history knows for how long two were MASTER, and how often each heard the other."""
        lan = lan_of(0, 100)
        lan.partition("a", "b")
        lan.run_for(seconds(6))
        (overlap,) = lan.history.overlaps(1)
        assert lan.history.heard(overlap, Family.IPV4) == (0, 0)
        lan.heal()
        lan.run_for(seconds(3))
        (overlap,) = lan.history.overlaps(1)
        assert overlap.duration_ns > seconds(2)
        assert 0 in lan.history.heard(overlap, Family.IPV4)

    def test_frozen_host_reads_later(self):
        """What arrives while a host is frozen it reads when it runs again, with the stamps of the arrivals."""
        lan = lan_of(0, 100)
        lan.run_for(seconds(5))
        lan.freeze("b", seconds(2), reported=False)
        lan.run_for(seconds(1.9))
        before = lan.stations["b"].engine.statistics.received[Family.IPV4]
        lan.run_for(seconds(0.2))
        assert lan.stations["b"].engine.statistics.received[Family.IPV4] >= before + 2


class TestKernel:
    """What a station's kernel serves, with two virtual hosts of which each has its own fence."""

    @pytest.fixture
    def kernel(self):
        """Have addresses set, both virtual hosts MASTER, and both fences open for a while."""
        self.clock, self.history = VirtualClock(), History()
        kernel = Kernel("a", self.clock, self.history)
        kernel.follow(carp_interface(nodes=(Node(3), Node(7))))
        kernel.hold("carp0", frozenset((VIP4,)))
        kernel.set_mask("carp0", 0b11)
        for vhid in (3, 7):
            kernel.open_until("carp0", vhid, START + seconds(vhid))
        assert self.served() == {3, 7}
        return kernel

    def served(self):
        return {vhid for vhid in (3, 7) if self.history.servers(vhid, self.clock.now) == {"a"}}

    def answers(self):
        return self.history.holders(VIP4, self.clock.now) == {"a"}

    def test_each_share_needs_its_bit(self, kernel):
        """A share is served while its virtual host's bit is in the mask, by rank."""
        kernel.set_mask("carp0", 0b10)
        assert self.served() == {7}
        kernel.set_mask("carp0", 0b11)
        assert self.served() == {3, 7}

    def test_each_share_ends_with_its_deadline(self, kernel):
        """A share ends by itself when the deadline of its virtual host has passed, and the history has the moment."""
        self.clock.run_for(seconds(5))
        assert self.served() == {7}
        self.clock.run_for(seconds(5))
        assert [(one.vhid, one.end - START) for one in self.history.shares] == [(3, seconds(3)), (7, seconds(7))]

    def test_a_later_deadline_keeps_it(self, kernel):
        """A deadline that is moved on in time leaves no gap."""
        self.clock.run_for(seconds(2))
        kernel.open_until("carp0", 3, START + seconds(9))
        self.clock.run_for(seconds(6))
        assert [one.end for one in self.history.shares if one.vhid == 3] == [NEVER]

    def test_a_share_that_is_closed(self, kernel):
        """A deadline that is now closes one share, and no other."""
        kernel.open_until("carp0", 7, self.clock.now)
        assert self.served() == {3}

    def test_no_share_without_addresses(self, kernel):
        """Without addresses nothing is served."""
        kernel.hold("carp0", frozenset())
        assert (self.served(), self.answers()) == (set(), False)

    @pytest.mark.parametrize("mode", [Balancing.IP, Balancing.ARP])
    def test_who_answers(self, kernel, mode):
        """For an address the leader's share answers, with ARP balancing any."""
        kernel.follow(carp_interface(nodes=(Node(3), Node(7)), balancing=mode))
        assert self.answers()
        kernel.set_mask("carp0", 0b10)
        assert self.answers() is (mode is Balancing.ARP)
        kernel.set_mask("carp0", 0)
        assert not self.answers()

    def test_one_virtual_host_alone(self, kernel):
        """One that is alone needs no mask: all is its share."""
        kernel.set_mask("carp0", 0)
        kernel.follow(carp_interface(vhid=7))
        assert (self.served(), self.answers()) == ({7}, True)


def test_shares_that_two_serve():
    """The history finds the times in which two stations serve one share, and no others."""
    history = History()
    for station, vhid, begin, end in (("a", 1, 0, 10), ("b", 1, 8, 20), ("b", 2, 0, 20), ("a", 1, 20, 30)):
        history.record_shares(station, frozenset(), frozenset((vhid,)), START + begin)
        history.record_shares(station, frozenset((vhid,)), frozenset(), START + end)
    assert [(one.first, one.second, one.duration_ns) for one in history.shared_twice(1)] == [("a", "b", 2)]
    assert list(history.shared_twice(2)) == []
