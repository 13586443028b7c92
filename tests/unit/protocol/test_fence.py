"""The fence: who may not be MASTER any more owns nothing, whether it knows or not."""

import errno
import itertools
from ipaddress import ip_interface

import pytest

from carp.protocol.actions import Announce, CloseFence, Reason, Release, Send, Take, Transition
from carp.protocol.events import Due, Forced, Shutdown, Stalled, TakeFailed
from carp.protocol.interval import master_down_ns
from carp.protocol.parameters import Node
from carp.protocol.values import Instant, State
from carp.testing.bench import Bench, only, read
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import VIP4, carp_interface, parent_down
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

VIP4B = ip_interface("192.0.2.101/24")


def master(**settings):
    """Put a MASTER on the bench and a peer on paper."""
    interface = carp_interface(**settings)
    bench = Bench(interface)
    bench.wait_for(State.MASTER)
    return bench, Peer.of(interface)


def holds(**settings):
    """Tell how long a MASTER's advertisement holds."""
    bench, _ = master(**settings)
    return only(Send, bench.actions)[-1].holds_ns


class TestHowLong:
    @pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 100), (1, 254), (2, 7), (10, 0), (0, 5), (0, 254), (0, 0)])
    def test_shorter_than_any_peers_patience(self, advbase, advskew):
        """An advertisement holds for less than the master-down time of the fastest peer that may be there."""
        fastest = master_down_ns(advbase, 0 if advbase else advskew, triples_skew=False)
        assert fastest * 0.8 < holds(advbase=advbase, advskew=advskew) < fastest

    @pytest.mark.parametrize(("advbase", "advskew"), [(1, 254), (2, 254), (0, 5), (0, 254), (0, 0)])
    def test_longer_than_the_interval(self, advbase, advskew):
        """It holds until well after the next advertisement, so that the fence of a healthy MASTER never closes."""
        bench, _ = master(advbase=advbase, advskew=advskew)
        assert bench.interface().leader.patience.holds_ns > 1.2 * bench.vhost().timing.advertisement_ns

    def test_configured(self):
        """The administrator's word about the peers counts more."""
        assert seconds(0.9) < holds(peer_master_down_ns=seconds(1)) < seconds(1)

    def test_faster_peer_that_was_heard(self):
        """A peer that was heard and is faster shortens it; a slower one does not lengthen it."""
        bench, peer = master(advbase=2)
        before = bench.interface().leader.patience.holds_ns
        bench.hear(peer.advertisement(advbase=3))
        assert bench.interface().leader.patience.holds_ns == before
        bench.hear(peer.advertisement(advbase=1))
        assert seconds(2.5) < bench.interface().leader.patience.holds_ns < seconds(3)

    def test_bow_out_of_a_peer_says_nothing(self):
        """A bow-out does not tell how patient its sender was."""
        bench, peer = master()
        before = bench.interface().leader.patience.holds_ns
        bench.hear(peer.bow_out())
        assert bench.interface().leader.patience.holds_ns == before

    def test_bow_out_holds_nothing(self):
        """A bow-out keeps no fence open."""
        bench, _ = master()
        (sent,) = only(Send, bench.feed(Shutdown()))
        assert (read(sent).is_bow_out, sent.holds_ns) == (True, 0)


class TestClosing:
    @pytest.mark.parametrize(
        "event",
        [Shutdown(), parent_down(), Forced("carp0", State.BACKUP), Stalled(seconds(10)), TakeFailed("carp0", "no")],
        ids=lambda event: type(event).__name__,
    )
    def test_before_anything_else(self, event):
        """Whoever stops being MASTER closes the fence first, then bows out if it does, then releases."""
        bench, _ = master()
        kinds = [type(action) for action in bench.feed(event) if isinstance(action, (CloseFence, Send, Release))]
        assert kinds[0] is CloseFence
        assert kinds[-1] is Release
        assert kinds[1:-1] in ([], [Send])

    def test_yielding_closes(self):
        """A MASTER that yields to a better one closes the fence."""
        bench, peer = master(advskew=100)
        assert only(CloseFence, bench.hear(peer.advertisement(advskew=0))) == [CloseFence("carp0", 1)]

    def test_taking_comes_after_the_first_advertisement(self):
        """The advertisement that opens the fence is sent before the addresses are taken."""
        bench, _ = master()
        kinds = [type(action) for action in bench.actions if isinstance(action, (Send, Take))]
        assert kinds[:2] == [Send, Take]

    @pytest.mark.parametrize("vhid", [1, 2])
    def test_each_virtual_host_has_its_own(self, vhid):
        """Of several virtual hosts the one that yields closes its own fence; the others' stay as they are."""
        bench = Bench(carp_interface(nodes=(Node(1, 100), Node(2, 100))))
        bench.run_for(seconds(5))
        actions = bench.hear(Peer(vhid).advertisement())
        assert only(CloseFence, actions) == [CloseFence("carp0", vhid)]
        assert {sent.vhid for sent in only(Send, bench.run_for(seconds(1.5))) if sent.holds_ns} == {3 - vhid}


class TestPreemption:
    """The former MASTER lives and answers until it has heard that it is replaced."""

    def preempting(self):
        bench = Bench(carp_interface(addresses=(VIP4,)), preempt=True)
        peer = Peer.of(carp_interface(addresses=(VIP4,)))
        return bench, peer, bench.hear(peer.advertisement(advskew=100))

    def test_the_fence_stays_closed_for_a_moment(self):
        """The advertisement that replaces a living MASTER opens no fence, and no address is taken at once."""
        bench, _, actions = self.preempting()
        assert bench.state() is State.MASTER
        assert [sent.holds_ns for sent in only(Send, actions)] == [0]
        assert only(Take, actions) == []

    def test_then_it_opens_and_the_addresses_are_taken(self):
        """A few milliseconds later an advertisement opens it, and the addresses are taken."""
        bench, _, _ = self.preempting()
        actions = bench.run_for(milliseconds(20))
        kinds = [type(action) for action in actions if isinstance(action, (Send, Take))]
        assert kinds[:2] == [Send, Take]
        assert only(Send, actions)[0].holds_ns > 0

    def test_words_of_the_former_master_on_their_way_open_nothing(self):
        """What it sent before it heard of its end is answered, but neither opens the fence nor announces addresses."""
        bench, peer, _ = self.preempting()
        actions = bench.hear(peer.advertisement(advskew=100))
        assert [sent.holds_ns for sent in only(Send, actions)] == [0]
        assert only(Announce, actions) == []

    def test_other_addresses_meanwhile(self):
        """Addresses that change within that moment are taken at its end, not earlier."""
        bench, _, _ = self.preempting()
        changed = carp_interface(addresses=(VIP4, VIP4B))
        assert only(Take, bench.reconfigure(changed, preempt=True)) == []
        assert only(Take, bench.run_for(milliseconds(20))) == [Take("carp0", (VIP4, VIP4B))]

    def test_a_better_one_meanwhile(self):
        """Who is replaced within that moment takes nothing."""
        bench, peer, _ = self.preempting()
        bench.hear(peer.advertisement(advbase=0, advskew=1))
        assert bench.state() is State.BACKUP
        assert only(Take, bench.run_for(milliseconds(20))) == []

    def test_a_dead_masters_place_is_taken_at_once(self):
        """Nobody answers after a timeout or a bow-out: there is nobody to wait for."""
        bench = Bench(carp_interface())
        bench.run_for(seconds(1))
        actions = bench.hear(Peer.of(carp_interface()).bow_out())
        assert only(Send, actions)[0].holds_ns > 0
        assert only(Take, actions)


class TestStallGuard:
    def late(self, lateness_ns, **settings):
        bench, _ = master(**settings)
        bench.now = Instant(bench.engine.next_deadline() + lateness_ns)
        return bench, bench.feed(Due(bench.now))

    def test_master_that_comes_a_little_late(self):
        """A MASTER whose advertisement is late by less than its peers' patience goes on."""
        bench, actions = self.late(seconds(1.8))
        assert bench.state() is State.MASTER
        assert len(only(Send, actions)) == 1

    def test_master_that_comes_too_late(self):
        """A MASTER that finds its last advertisement too old steps back before it says a word, told of the gap or not."""
        bench, actions = self.late(seconds(2))
        assert bench.state() is State.BACKUP
        assert only(Transition, actions)[0].reason is Reason.STALLED
        assert only(Send, actions) == []

    def test_backup_that_comes_much_too_late(self):
        """A BACKUP that is later than its master-down time is long may have lost packets: it waits once more."""
        bench = Bench(carp_interface())
        bench.now = Instant(bench.engine.next_deadline() + seconds(3))
        actions = bench.feed(Due(bench.now))
        assert only(Transition, actions) == []
        assert bench.engine.next_deadline() == bench.now + seconds(3)

    def test_short_gap_is_nothing(self):
        """A gap that is shorter than a peer's patience changes nothing."""
        bench, _ = master()
        assert bench.feed(Stalled(milliseconds(900))) == []
        assert bench.state() is State.MASTER

    @pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 254), (2, 254), (0, 1), (0, 5), (0, 254), (0, 0)])
    def test_healthy_master_stays(self, advbase, advskew):
        """A MASTER that advertises in time is never taken for stalled."""
        bench, _ = master(advbase=advbase, advskew=advskew)
        for _ in range(50):
            bench.run_until(bench.engine.next_deadline())
        assert bench.vhost().transitions == 2

    def test_healthy_slow_node_beside_a_fast_one(self):
        """Virtual hosts of one interface with different advskews are each judged by their own peers' patience."""
        bench = Bench(carp_interface(advbase=0, nodes=(Node(1, 10), Node(2, 200))))
        bench.run_for(seconds(20))
        assert [bench.vhost(vhid).transitions for vhid in (1, 2)] == [2, 2]

    @pytest.mark.parametrize(
        ("own", "heard"), [((0, 254), (0, 86)), ((2, 254), (1, 0)), ((0, 100), (0, 34))], ids=["0/254", "2/254", "0/100"]
    )
    def test_healthy_master_that_once_heard_a_fast_peer(self, own, heard):
        """However fast a peer was that is gone, a MASTER that advertises in time is never taken for stalled."""
        interface = carp_interface(advbase=own[0], advskew=own[1])
        bench, peer = Bench(interface), Peer.of(interface)
        bench.hear(peer.advertisement(advbase=heard[0], advskew=heard[1]))
        bench.wait_for(State.MASTER)
        bench.run_for(seconds(60))
        assert bench.vhost().transitions == 2


class TestOnALan:
    def lan(self, *advskews):
        lan = VirtualLan()
        for name, advskew in zip("abc", advskews, strict=False):
            lan.add(name, carp_interface(advskew=advskew))
        lan.run_for(seconds(5.5))
        assert lan.holders(VIP4) == {"a"}
        return lan

    def tenures_apart(self, lan):
        tenures = sorted(lan.history.tenures, key=lambda one: one.begin)
        return all(former.end <= later.begin for former, later in itertools.pairwise(tenures))

    @pytest.mark.parametrize("advskews", [(0, 0), (0, 1), (0, 200), (100, 100)])
    def test_killed_daemon_owns_nothing_when_its_peer_takes_over(self, advskews):
        """A killed daemon's kernel goes silent before its peer takes over."""
        lan = self.lan(*advskews)
        lan.kill("a")
        lan.run_for(seconds(6))
        assert lan.holders(VIP4) == {"b"}
        assert self.tenures_apart(lan)

    def test_frozen_daemon_owns_nothing_when_its_peer_takes_over(self):
        """A stopped daemon's kernel goes silent before its peer takes over, and stays so when the daemon runs again."""
        lan = self.lan(0, 1)
        lan.freeze("a", seconds(8))
        lan.run_for(seconds(7))
        assert lan.holders(VIP4) == {"b"}
        assert self.tenures_apart(lan)
        lan.run_for(seconds(10))
        assert self.tenures_apart(lan)

    def test_mute_host_owns_nothing_when_its_peer_takes_over(self):
        """A host that cannot send goes silent before its peer takes over."""
        lan = self.lan(0, 1)
        lan.stations["a"].hardware.send_errno = errno.ENETDOWN
        lan.run_for(seconds(10))
        assert lan.holders(VIP4) == {"b"}
        assert self.tenures_apart(lan)

    def test_clean_stop(self):
        """At a clean stop the address is nowhere twice, and nowhere at all for milliseconds only."""
        lan = self.lan(0, 1)
        lan.stop("a")
        lan.run_for(seconds(1))
        former, later = lan.history.tenures
        assert 0 <= later.begin - former.end < milliseconds(5)
