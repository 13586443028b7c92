"""Being MASTER: taking the addresses, announcing them, speaking up against a worse one, and failing at it."""

import errno

from carp.protocol.actions import Announce, Note, Notice, Reason, Release, Send, Take, Transition
from carp.protocol.events import Sent, TakeFailed, Taken
from carp.protocol.health import TAKE_FAILED_DEMOTION_NS
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP4, carp_interface
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

IPV4 = Family.IPV4


def kinds(actions, *wanted):
    """Name the actions of these kinds, in order."""
    return [type(action) for action in actions if isinstance(action, wanted)]


def unanswered(**settings):
    """Put a host on the bench whose takes and sends are answered by the test."""
    return Bench(carp_interface(**settings), answers=False)


def master(**settings):
    """Put a MASTER on the bench and a peer on paper."""
    interface = carp_interface(**settings)
    bench = Bench(interface)
    bench.wait_for(State.MASTER)
    return bench, Peer.of(interface)


class TestTaking:
    def test_advertises_before_it_takes(self):
        """At a takeover the peers hear it first, then the addresses are taken; nothing is announced before they are live."""
        actions = unanswered(addresses=DUAL_STACK).wait_for(State.MASTER)
        assert kinds(actions, Send, Take, Announce) == [Send, Send, Take]
        assert only(Take, actions)[0].addresses == DUAL_STACK

    def test_announces_when_the_addresses_are_live(self):
        """When the addresses are live they are announced, and an advertisement follows: it teaches the switches last."""
        bench = unanswered(addresses=DUAL_STACK)
        bench.wait_for(State.MASTER)
        actions = bench.feed(Taken("carp0"))
        assert kinds(actions, Send, Take, Announce) == [Announce, Send, Send]
        assert only(Announce, actions)[0].addresses == DUAL_STACK

    def test_announces_again_with_the_third_advertisement(self):
        """The addresses are announced once more two intervals after the promotion, and then no more."""
        bench, _ = master()
        promoted = bench.now
        rounds = [(bench.run_until(bench.engine.next_deadline()), bench.now - promoted) for _ in range(8)]
        said = [waited for actions, waited in rounds if only(Announce, actions)]
        assert said == [seconds(2)]

    def test_yielding_cancels_the_second_announcement(self):
        """A host that yields in between does not announce, and a later promotion counts anew."""
        bench, peer = master(advskew=100)
        bench.run_for(seconds(1.5))
        bench.hear(peer.advertisement(advskew=0))
        assert only(Announce, bench.run_for(seconds(3))) == []
        bench.wait_for(State.MASTER)
        assert len(only(Announce, bench.run_for(seconds(5)))) == 1

    def test_taken_too_late_is_ignored(self):
        """Addresses that come live after this host yielded are not announced."""
        bench = unanswered(advskew=100)
        peer = Peer.of(carp_interface())
        bench.wait_for(State.MASTER)
        bench.hear(peer.advertisement(advskew=0))
        assert bench.feed(Taken("carp0")) == []

    def test_answers_for_an_unknown_interface_are_ignored(self):
        """An answer for a carp interface that was removed meanwhile does nothing."""
        bench, _ = master()
        for event in (Taken("gone"), TakeFailed("gone", "no"), Sent("gone", 1, IPV4), Sent("gone", 1, IPV4, errno.ENOBUFS)):
            assert bench.feed(event) == []


class TestTakeFailure:
    def failed(self):
        bench = unanswered(addresses=DUAL_STACK)
        bench.wait_for(State.MASTER)
        return bench, bench.feed(TakeFailed("carp0", "no such device"))

    def test_yields_with_a_bow_out(self):
        """A host that cannot take the addresses bows out in both families, releases, and is BACKUP."""
        bench, actions = self.failed()
        assert bench.state() is State.BACKUP
        assert [sent.is_bow_out for sent in advertisements(actions)] == [True, True]
        assert kinds(actions, Send, Release) == [Send, Send, Release]
        (change,) = only(Transition, actions)
        assert (change.reason, change.detail) == (Reason.TAKE_FAILED, "no such device")

    def test_demotes(self):
        """The failure demotes the interface by one for a minute, so that another host stays MASTER."""
        bench, actions = self.failed()
        assert bench.interface().demote == 1
        assert [notice.note for notice in only(Notice, actions)] == [Note.DEMOTED]
        bench.run_for(TAKE_FAILED_DEMOTION_NS)
        assert bench.interface().demote == 0

    def test_success_ends_the_demotion(self):
        """Once the addresses could be taken the demotion ends at once."""
        bench, _ = self.failed()
        bench.wait_for(State.MASTER)
        bench.feed(Taken("carp0"))
        assert bench.interface().demote == 0

    def test_waits_before_it_tries_again(self):
        """A host alone on the wire tries again after a master-down time, not before."""
        bench, _ = self.failed()
        began = bench.now
        bench.wait_for(State.MASTER)
        assert bench.now - began == seconds(3)

    def test_failure_in_backup_demotes_only(self):
        """A failure that is reported after this host yielded demotes and changes no state."""
        bench = unanswered()
        actions = bench.feed(TakeFailed("carp0", "late"))
        assert kinds(actions, Send, Transition) == []
        assert bench.interface().demote == 1

    def test_another_host_takes_over(self):
        """On a LAN the addresses end at the host that can take them, however much better the other one is."""
        lan = VirtualLan()
        lan.add("broken", carp_interface(), preempt=True).hardware.take_error = "no such device"
        lan.add("good", carp_interface(advskew=200), preempt=True)
        lan.run_for(seconds(20))
        assert (lan.masters(), lan.holders(VIP4)) == ({"good"}, {"good"})
        assert len([change for change in lan.history.changes if change.reason is Reason.TAKE_FAILED]) == 1


class TestSpeakingUp:
    def test_not_for_each_packet_of_a_flood(self):
        """However many worse advertisements arrive, a MASTER speaks up at most every 25 ms."""
        bench, peer = master()
        bench.run_for(milliseconds(100))
        said = 0
        for _ in range(1000):
            bench.run_for(milliseconds(1))
            said += len(only(Announce, bench.hear(peer.advertisement(advskew=9))))
        assert 4 <= said <= 42

    def test_first_one_is_answered_at_once(self):
        """The first worse advertisement after a quiet time is answered without delay."""
        bench, peer = master()
        for _ in range(3):
            bench.run_for(milliseconds(500))
            assert kinds(bench.hear(peer.advertisement(advskew=9)), Announce, Send) == [Announce, Send]

    def test_regular_advertisements_go_on(self):
        """Speaking up does not move the timer of the regular advertisements."""
        bench, peer = master()
        due = bench.engine.next_deadline()
        bench.run_for(milliseconds(300))
        bench.hear(peer.advertisement(advskew=9))
        assert bench.engine.next_deadline() == due

    def test_rival_is_counted_and_told(self):
        """A worse MASTER that goes on is counted and noticed with its settings and source."""
        bench, peer = master()
        bench.run_for(milliseconds(500))
        again, notice = only(Notice, bench.hear(peer.advertisement(advskew=9)))
        assert again.note is Note.REASSERTED
        assert (notice.note, notice.source) == (Note.RIVAL, peer.sources[IPV4])
        assert notice.detail.startswith("advbase 1 advskew 9 demote 0")
        assert bench.engine.statistics.rivals_heard == bench.interface().statistics.rivals_heard == 1

    def test_after_a_healed_partition(self):
        """When a partition heals the better MASTER is heard and speaks up within the other's interval."""
        lan = VirtualLan()
        lan.add("a", carp_interface())
        lan.add("b", carp_interface(advskew=100))
        lan.partition("a", "b")
        lan.run_for(seconds(10))
        assert lan.masters() == {"a", "b"}
        lan.stations["a"].noted.announced.clear()
        lan.heal()
        lan.run_for(seconds(1.5))
        assert (lan.masters(), lan.holders(VIP4)) == ({"a"}, {"a"})
