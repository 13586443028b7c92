"""What a BACKUP has judged once takes a short way, until anything that the judgement rests on has changed."""

import pytest

from carp.protocol.actions import Drop, Note, Notice, Reason, Send, Transition
from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionEnded, DemotionStarted, HeldBack
from carp.protocol.packet import DropReason
from carp.protocol.table import NOTHING_NEW, TABLE, Effect, Guard, Input
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, only, read
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP4, VIP6, carp_interface, configured, parent_up, station_peers, station_sources
from carp.testing.packets import SOURCE, Peer

IPV4, IPV6 = Family
INTERFACE = carp_interface(advskew=100)
DEMOTED = DemotionStarted(Demotion("test", 1, frozenset({"carp"}), "test", 0))


def settled(interface=INTERFACE, *, preempt=False, family=IPV4, times=3, **changes):
    """Put a BACKUP on the bench that has heard its MASTER a few times; return both."""
    bench = Bench(interface, preempt=preempt)
    peer = Peer.of(interface)
    for _ in range(times):
        bench.run_for(milliseconds(900))
        assert not only(Transition, bench.hear(peer.advertisement(family, **changes), family))
    return bench, peer


def test_the_row_does_what_the_short_way_does():
    """The short way stands for this row and no other: it restarts the master-down timer, and nothing is left of a stage."""
    assert TABLE[State.BACKUP, Input.ADVERTISEMENT][-1] is NOTHING_NEW
    assert NOTHING_NEW.guard is Guard.ALWAYS
    assert NOTHING_NEW.effects == (Effect.HEARD_MASTER, Effect.FORGET_PREPARED)
    assert (NOTHING_NEW.next, NOTHING_NEW.reason) == (State.BACKUP, None)


@pytest.mark.parametrize("family", list(Family), ids=str)
def test_unchanged_advertisements_keep_a_backup(family):
    """Each one restarts the master-down timer, is counted, and is the last that is known of the MASTER."""
    interface = carp_interface(advskew=100, addresses=(VIP4 if family is IPV4 else VIP6,))
    bench, peer = settled(interface, family=family, times=1)
    assert bench.vhost().familiar
    for _ in range(5):
        actions = bench.run_for(seconds(3))
        assert actions + bench.hear(peer.advertisement(family), family) == []
        assert bench.vhost().expected_master_down() == bench.now + bench.vhost().timing.master_down_ns
        assert bench.vhost().known_master(bench.now).arrival == bench.now
    assert bench.interface().statistics.received[family] == bench.engine.statistics.received[family] == 6
    (change,) = only(Transition, bench.run_for(seconds(4)))
    assert change.reason is Reason.MASTER_TIMED_OUT


def test_a_forged_one_is_refused_as_ever():
    """What looks like the MASTER's but has a wrong digest is dropped and moves nothing."""
    bench, peer = settled()
    bench.run_for(seconds(1))
    before = bench.snapshot()
    (drop,) = bench.hear(peer.wrong(DropReason.BAD_DIGEST))
    assert drop == Drop("lan0", DropReason.BAD_DIGEST, SOURCE[IPV4], 1)
    assert bench.snapshot() == before


def test_preempt_switched_on():
    """A MASTER that was let be is replaced once this host preempts."""
    bench, peer = settled(advskew=200)
    bench.reconfigure(INTERFACE, preempt=True)
    (change,) = only(Transition, bench.hear(peer.advertisement(advskew=200)))
    assert change.reason is Reason.PREEMPTED_SLOWER


def test_held_back_no_longer():
    """A host that was held back preempts the MASTER that it knows."""
    bench, peer = settled(times=0, preempt=True)
    bench.feed(HeldBack("carp0"))
    for _ in range(2):
        bench.hear(peer.advertisement(advskew=200))
    assert bench.state() is State.BACKUP
    bench.feed(HeldBack("carp0", False))
    (change,) = only(Transition, bench.hear(peer.advertisement(advskew=200)))
    assert change.reason is Reason.PREEMPTED_SLOWER


def test_a_demotion_that_ends():
    """A MASTER that was as demoted as this host is replaced once it is the more demoted one."""
    bench, peer = settled(times=0)
    bench.feed(DEMOTED)
    for _ in range(2):
        bench.hear(peer.advertisement(demote=1))
    assert bench.state() is State.BACKUP
    bench.feed(DemotionEnded("test"))
    (change,) = only(Transition, bench.hear(peer.advertisement(demote=1)))
    assert change.reason is Reason.LESS_DEMOTED_HERE


def test_other_parameters():
    """A MASTER that is slower than the new patience is not waited for."""
    bench, peer = settled(carp_interface(advskew=100, advbase=2), advbase=6)
    bench.reconfigure(INTERFACE)
    (change,) = only(Transition, bench.hear(peer.advertisement(advbase=6)))
    assert change.reason is Reason.MASTER_WILL_TIME_OUT


@pytest.mark.parametrize("what", ["advbase", "advskew", "demote"])
def test_another_advertisement_is_judged(what):
    """An advertisement that says anything else is a new one."""
    bench, peer = settled(preempt=True)
    changes = {"advbase": 3, "advskew": 200, "demote": 1}
    (change,) = only(Transition, bench.hear(peer.advertisement(**{what: changes[what]})))
    assert change.new is State.MASTER


def test_another_source_is_another_master():
    """Who sends the same from elsewhere is another MASTER, and the last one that was heard is known."""
    bench, peer = settled()
    other = Peer.of(INTERFACE)
    other.sources = station_sources(201)
    for _ in range(3):
        for one in (peer, other):
            bench.hear(one.advertisement())
            assert bench.vhost().known_master(bench.now).source == one.sources[IPV4]


def test_a_faster_master_starts_the_delay_over():
    """A MASTER that is known and not slower starts the delay of a preemption over, as on the long way."""
    interface = carp_interface(advskew=100, preempt_delay_ns=seconds(10))
    bench, peer = settled(interface, preempt=True, advskew=1)
    slower = Peer.of(interface)
    slower.sources = station_sources(201)
    bench.hear(slower.advertisement(advskew=200))
    assert bench.vhost().preemptable_since == bench.now
    bench.hear(peer.advertisement(advskew=1))
    assert bench.vhost().preemptable_since is None


def test_a_preemption_that_waits_is_not_forgotten():
    """A slower MASTER is judged each time while the delay lasts."""
    interface = carp_interface(advskew=100, preempt_delay_ns=seconds(2))
    bench, peer = settled(interface, preempt=True, times=2, advskew=200)
    bench.run_for(seconds(2))
    (change,) = only(Transition, bench.hear(peer.advertisement(advskew=200)))
    assert change.reason is Reason.PREEMPTED_SLOWER


def test_echoes_are_told_from_a_peer_without_an_address():
    """Where all send from the shared address, what this host sent itself stays an echo, however familiar it looks."""
    interface = carp_interface()
    bench = Bench(interface, sources={})
    bench.wait_for(State.MASTER)
    own = only(Send, bench.run_for(seconds(2)))[-1]
    peer = Peer.of(interface)
    peer.sources = {IPV4: VIP4.ip.packed}
    peer.counter = 1 << 32
    bench.hear(peer.advertisement())
    assert bench.state() is State.BACKUP
    for _ in range(2):
        assert bench.hear(peer.advertisement()) == []
    (drop,) = bench.hear(own.packet)
    assert drop.reason is DropReason.ECHO


def test_an_address_that_became_our_own():
    """A source that was another's is this host's once its parent has it: then its counters tell an echo."""
    interface = carp_interface()
    bench = Bench(interface)
    bench.wait_for(State.MASTER)
    own = only(Send, bench.run_for(seconds(2)))[-1]
    bench.feed(parent_up(station_sources(9)))
    peer = Peer.of(interface)
    peer.sources = station_sources(1)
    bench.hear(peer.advertisement())
    assert bench.state() is State.BACKUP
    for _ in range(2):
        assert bench.hear(peer.advertisement()) == []
    bench.feed(parent_up(station_sources(1)))
    (drop,) = bench.hear(own.packet)
    assert drop.reason is DropReason.ECHO


def test_many_kinds_are_not_all_remembered():
    """A LAN on which everybody sends something else does not fill the memory."""
    bench, peer = settled()
    for number in range(1, 200):
        peer.sources = station_sources(number)
        bench.hear(peer.advertisement())
    assert len(bench.vhost().familiar) <= 8


def test_both_families_are_familiar_at_once():
    """Hearing one family does not make the other a new one, and a family that falls silent is still told."""
    interface = carp_interface(advskew=100, addresses=DUAL_STACK)
    bench, peer = settled(interface, times=1)
    bench.hear(peer.advertisement(IPV6), IPV6)
    assert len(bench.vhost().familiar) == 2
    actions = []
    for _ in range(8):
        bench.run_for(seconds(1))
        actions += bench.hear(peer.advertisement(IPV4), IPV4)
    (notice,) = only(Notice, actions)
    assert (notice.note, notice.detail) == (Note.FAMILY_SILENT, "IPv6")
    (notice,) = bench.hear(peer.advertisement(IPV6), IPV6)
    assert notice.note is Note.FAMILY_HEARD


@pytest.mark.parametrize("dialect", ["openbsd", "netbsd"])
def test_the_group_is_not_heard_with_peers(dialect):
    """Where only one kind is heard, advertisements to the group are refused once a peer is named."""
    interface = carp_interface(advskew=100, dialect=dialect)
    bench, peer = settled(interface)
    bench.reconfigure(carp_interface(advskew=100, dialect=dialect, peers=station_peers(200, families=(IPV4,))))
    (drop,) = bench.hear(peer.advertisement())
    assert drop.reason is DropReason.BAD_DESTINATION


def test_the_counter_is_followed():
    """A dialect that goes on from the last counter it heard does so after any number of equal advertisements."""
    interface = carp_interface(advskew=100, dialect="netbsd")
    bench, peer = settled(interface, times=5)
    (send,) = only(Send, bench.wait_for(State.MASTER))[:1]
    assert int.from_bytes(read(send).counter) == peer.counter


class TestPrepared:
    def advertised(self, bench):
        """Return the next advertisement and its packet."""
        send = only(Send, bench.run_for(seconds(1)))[-1]
        return read(send), send.packet

    def test_dscp(self):
        """A new DSCP shows in the next advertisement."""
        bench = Bench(carp_interface())
        bench.wait_for(State.MASTER)
        assert self.advertised(bench)[1][1] == 0x10
        bench.feed(configured(carp_interface(), dscp=48))
        assert self.advertised(bench)[1][1] == 48 << 2

    def test_source(self):
        """A new address of the parent is the source of the next advertisement."""
        bench = Bench(carp_interface())
        bench.wait_for(State.MASTER)
        bench.feed(parent_up(station_sources(9)))
        assert self.advertised(bench)[1][12:16] == station_sources(9)[IPV4]

    def test_demotion(self):
        """A demotion shows at once, and when it is over."""
        bench = Bench(carp_interface())
        bench.wait_for(State.MASTER)
        bench.feed(DEMOTED)
        assert self.advertised(bench)[0].demote == 1
        bench.feed(DemotionEnded("test"))
        assert self.advertised(bench)[0].demote == 0

    def test_bow_out(self):
        """A bow-out is another advertisement, and the next ones are none."""
        bench = Bench(carp_interface())
        bench.wait_for(State.MASTER)
        bench.run_for(seconds(2))
        (send,) = only(Send, bench.reconfigure(carp_interface(), allow=False))
        assert read(send).is_bow_out
        bench.reconfigure(carp_interface())
        bench.wait_for(State.MASTER)
        assert not self.advertised(bench)[0].is_bow_out
