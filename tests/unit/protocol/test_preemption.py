"""When and how a better host takes its place: the delay, the pre-master stage before it, and being held back by hand."""

import pytest

from carp.protocol.actions import Prepare, Reason, Send, Take, Transition
from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionEnded, DemotionStarted, Forced, HeldBack, Prepared, TakeFailed
from carp.protocol.parameters import Node
from carp.protocol.values import State
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import VIP4, address, carp_interface
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

DELAY_NS = seconds(30)


def backup(*, preempt=True, answers=True, **settings):
    """Put a BACKUP on the bench that is better than its MASTER, and that MASTER on paper."""
    interface = carp_interface(**settings)
    bench = Bench(interface, preempt=preempt)
    bench.answers = answers
    bench.run_for(milliseconds(10))
    peer = Peer.of(interface)
    peer.advskew = 100
    return bench, peer


def listen(bench, peer, duration_ns, **changes):
    """Let the MASTER advertise twice a second for a time; return all actions."""
    actions = []
    for _ in range(duration_ns // milliseconds(500)):
        actions += bench.run_for(milliseconds(500))
        actions += bench.hear(peer.advertisement(**changes))
    return actions


class TestDelay:
    def test_waits(self):
        """A better host preempts once it has heard the slower MASTER for the whole delay."""
        bench, peer = backup(preempt_delay_ns=DELAY_NS)
        bench.hear(peer.advertisement())
        listen(bench, peer, DELAY_NS - milliseconds(500))
        assert bench.state() is State.BACKUP
        (change,) = only(Transition, listen(bench, peer, milliseconds(500)))
        assert change.reason is Reason.PREEMPTED_SLOWER

    def test_starts_over(self):
        """One advertisement of a MASTER that is not slower starts the delay over."""
        bench, peer = backup(preempt_delay_ns=DELAY_NS, advskew=50)
        listen(bench, peer, DELAY_NS - seconds(1))
        bench.hear(peer.advertisement(advskew=1))
        listen(bench, peer, DELAY_NS - seconds(1))
        assert bench.state() is State.BACKUP

    def test_each_time_anew(self):
        """Who has been MASTER meanwhile waits again the next time."""
        bench, peer = backup(preempt_delay_ns=DELAY_NS)
        listen(bench, peer, DELAY_NS + seconds(1))
        bench.feed(Forced("carp0", State.BACKUP))
        listen(bench, peer, DELAY_NS - seconds(1))
        assert bench.state() is State.BACKUP

    @pytest.mark.parametrize("how", ["dead", "bows out", "demoted"])
    def test_does_not_delay_a_rescue(self, how):
        """A MASTER that is gone, goes, or is demoted is replaced without any delay."""
        bench, peer = backup(preempt_delay_ns=DELAY_NS)
        listen(bench, peer, seconds(1))
        if how == "dead":
            bench.run_for(seconds(3))
        elif how == "bows out":
            bench.hear(peer.bow_out())
        else:
            bench.hear(peer.advertisement(demote=1))
        assert bench.state() is State.MASTER

    def test_follows_the_configuration(self):
        """A delay that is taken away while it runs lets the host preempt at the next advertisement."""
        bench, peer = backup(preempt_delay_ns=DELAY_NS)
        listen(bench, peer, seconds(1))
        bench.reconfigure(carp_interface(), preempt=True)
        bench.hear(peer.advertisement())
        assert bench.state() is State.MASTER


class TestHeldBack:
    def test_does_not_preempt(self):
        """A host that was handed over by hand preempts no slower MASTER, however long."""
        bench, peer = backup()
        bench.feed(HeldBack("carp0"))
        assert only(Transition, listen(bench, peer, seconds(60))) == []

    @pytest.mark.parametrize("how", ["dead", "demoted"])
    def test_still_rescues(self, how):
        """It takes over from a MASTER that is gone or demoted, and is held back no longer."""
        bench, peer = backup()
        bench.feed(HeldBack("carp0"))
        bench.hear(peer.advertisement(demote=1 if how == "demoted" else 0))
        bench.run_for(seconds(4))
        assert bench.state() is State.MASTER
        assert not bench.interface().held_back

    def test_is_let_go(self):
        """Let go, it preempts at the next advertisement."""
        bench, peer = backup()
        bench.feed(HeldBack("carp0"))
        listen(bench, peer, seconds(2))
        bench.feed(HeldBack("carp0", held=False))
        bench.hear(peer.advertisement())
        assert bench.state() is State.MASTER

    def test_handed_over_and_back(self):
        """The way of a hand-over: demoted until the peer took it, then held back; the peer does the same, and it is back."""
        lan = VirtualLan()
        for name, skew in (("a", 0), ("b", 100)):
            lan.add(name, carp_interface(advskew=skew, preempt=True))
        lan.run_for(seconds(5) + milliseconds(300))
        for old, new in (("a", "b"), ("b", "a")):
            station = lan.stations[old]
            station.feed(DemotionStarted(Demotion("switch", 255, frozenset({"carp0"}), "test", lan.clock.now)))
            lan.run_for(milliseconds(50))
            assert (lan.masters(), lan.holders(VIP4)) == ({new}, {new})
            station.feed(HeldBack("carp0"))
            station.feed(DemotionEnded("switch"))
            lan.run_for(seconds(10) + milliseconds(100))
            assert (lan.masters(), lan.holders(VIP4)) == ({new}, {new})


class TestStage:
    def test_runs_before_a_preemption(self):
        """The stage runs while the old MASTER serves; when it is over the next advertisement is preempted, without another."""
        bench, peer = backup(pre_master=True, answers=False)
        (stage,) = only(Prepare, listen(bench, peer, seconds(5)))
        assert bench.state() is State.BACKUP
        bench.feed(Prepared("carp0", 1, stage.serial))
        actions = bench.hear(peer.advertisement()) + bench.run_for(milliseconds(20))
        assert [change.new for change in only(Transition, actions)] == [State.MASTER]
        assert (only(Prepare, actions), len(only(Take, actions))) == ([], 1)

    @pytest.mark.parametrize("how", ["dead", "bows out", "forced"])
    def test_runs_before_the_addresses(self, how):
        """Without an old MASTER this host says at once that it is MASTER, and takes the addresses after the stage."""
        bench, peer = backup(preempt=False, pre_master=True, answers=False)
        bench.hear(peer.advertisement())
        if how == "dead":
            actions = bench.run_for(seconds(4))
        else:
            actions = bench.hear(peer.bow_out()) if how == "bows out" else bench.feed(Forced("carp0", State.MASTER))
        assert bench.state() is State.MASTER
        assert only(Send, actions) != []
        (stage,) = only(Prepare, actions)
        assert only(Take, actions + bench.run_for(milliseconds(900))) == []
        assert len(only(Take, bench.feed(Prepared("carp0", 1, stage.serial)))) == 1

    def test_goes_on_if_the_master_dies(self):
        """A stage that ran before a preemption is not run again when the old MASTER goes meanwhile."""
        bench, peer = backup(pre_master=True, answers=False)
        (stage,) = only(Prepare, bench.hear(peer.advertisement()))
        actions = bench.hear(peer.bow_out())
        assert (only(Prepare, actions), only(Take, actions), bench.state()) == ([], [], State.MASTER)
        assert len(only(Take, bench.feed(Prepared("carp0", 1, stage.serial)))) == 1

    def test_over_before_the_master_dies(self):
        """A stage that is over already lets the addresses be taken at once."""
        bench, peer = backup(pre_master=True, answers=False)
        (stage,) = only(Prepare, bench.hear(peer.advertisement()))
        bench.feed(Prepared("carp0", 1, stage.serial))
        actions = bench.hear(peer.bow_out())
        assert (only(Prepare, actions), len(only(Take, actions))) == ([], 1)

    def test_is_for_one_takeover(self):
        """When there is nothing to preempt any more what was prepared is forgotten; so is it when the state was left."""
        bench, peer = backup(pre_master=True)
        bench.answers = False
        (stage,) = only(Prepare, bench.hear(peer.advertisement()))
        bench.feed(Prepared("carp0", 1, stage.serial))
        bench.hear(peer.advertisement(advbase=1, advskew=0))
        assert len(only(Prepare, bench.hear(peer.advertisement()))) == 1

    def test_late_answer_of_another_stage(self):
        """What an older stage says does not end a newer one."""
        bench, peer = backup(preempt=False, pre_master=True, answers=False)
        (old,) = only(Prepare, bench.hear(peer.bow_out()))
        bench.hear(peer.advertisement(advskew=0, demote=0, advbase=0))
        assert bench.state() is State.BACKUP
        (new,) = only(Prepare, bench.hear(peer.bow_out()))
        assert only(Take, bench.feed(Prepared("carp0", 1, old.serial))) == []
        assert len(only(Take, bench.feed(Prepared("carp0", 1, new.serial)))) == 1

    def test_answer_in_another_state(self):
        """An answer that comes when the host has yielded or stopped does nothing."""
        bench, peer = backup(preempt=False, pre_master=True, answers=False)
        (stage,) = only(Prepare, bench.hear(peer.bow_out()))
        bench.hear(peer.advertisement(advbase=0, advskew=0))
        assert bench.feed(Prepared("carp0", 1, stage.serial)) == []

    def test_addresses_that_change_meanwhile(self):
        """What is taken in the end is what is configured then, and nothing before."""
        bench, peer = backup(preempt=False, pre_master=True, answers=False)
        (stage,) = only(Prepare, bench.hear(peer.bow_out()))
        both = (VIP4, address("192.0.2.101/24"))
        assert only(Take, bench.reconfigure(carp_interface(addresses=both, pre_master=True))) == []
        (take,) = only(Take, bench.feed(Prepared("carp0", 1, stage.serial)))
        assert take.addresses == both

    def test_failed_take_runs_it_again(self):
        """After a take that failed the next one is prepared anew."""
        bench, peer = backup(preempt=False, pre_master=True)
        bench.answers = False
        (stage,) = only(Prepare, bench.hear(peer.bow_out()))
        bench.feed(Prepared("carp0", 1, stage.serial))
        bench.feed(TakeFailed("carp0", "no"))
        assert len(only(Prepare, bench.run_for(seconds(4)))) == 1

    def test_each_virtual_host_runs_its_own(self):
        """Of several virtual hosts each runs a stage when it becomes MASTER, whatever the others do."""
        bench = Bench(carp_interface(nodes=(Node(1, 100), Node(2)), pre_master=True), answers=False)
        assert [stage.vhid for stage in only(Prepare, bench.wait_for(State.MASTER, vhid=2))] == [2]
        assert [stage.vhid for stage in only(Prepare, bench.wait_for(State.MASTER))] == [1]

    def test_on_a_lan_nobody_is_left_out(self):
        """A better host with a slow stage comes back: the other one serves until then, and the address has one owner always."""
        lan = VirtualLan()
        lan.add("b", carp_interface(advskew=100, preempt=True))
        lan.run_for(seconds(5))
        slow = lan.add("a", carp_interface(preempt=True, pre_master=True))
        slow.hardware.stage_ns = seconds(3)
        lan.run_for(seconds(2.5))
        assert lan.holders(VIP4) == {"b"}
        lan.run_for(seconds(4))
        assert (lan.masters(), lan.holders(VIP4)) == ({"a"}, {"a"})
