"""What a valid advertisement does: each row of the table's two elections, reached from outside."""

import pytest

from carp.protocol.actions import Announce, CloseFence, Notice, Prepare, Reason, Release, Send, Take, Transition
from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionStarted, TakeFailed
from carp.protocol.table import TABLE, Guard, Input
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, carp_interface
from carp.testing.packets import Peer

IPV4, IPV6 = Family
REACHED = set()
RULED = [(state, row.guard) for state in (State.BACKUP, State.MASTER) for row in TABLE[state, Input.ADVERTISEMENT]]


def reaches(state, guard):
    """Mark a test as the one that reaches a row."""
    REACHED.add((state, guard))
    return lambda function: function


def backup(*, demoted=0, preempt=False, **settings):
    """Put a BACKUP on the bench, and its MASTER's twin on paper."""
    interface = carp_interface(**settings)
    bench = Bench(interface, preempt=preempt)
    demote(bench, demoted)
    bench.run_for(milliseconds(10))
    return bench, Peer.of(interface)


def master(*, demoted=0, **settings):
    """Put a MASTER on the bench, and a rival on paper."""
    bench, peer = backup(**settings)
    bench.wait_for(State.MASTER)
    demote(bench, demoted)
    bench.run_for(milliseconds(500))
    return bench, peer


def demote(bench, amount):
    """Demote the host on the bench."""
    if amount:
        bench.feed(DemotionStarted(Demotion("test", amount, frozenset({"carp"}), "test", bench.now)))


def reason(actions):
    """Tell why the state changed, if it did."""
    changes = only(Transition, actions)
    return changes[0].reason if changes else None


class TestBackupHears:
    @reaches(State.BACKUP, Guard.BOWS_OUT)
    def test_bow_out(self):
        """A MASTER that bows out is replaced at once, preempt or not."""
        bench, peer = backup(advskew=200)
        actions = bench.hear(peer.bow_out())
        assert reason(actions) is Reason.MASTER_BOWED_OUT
        assert bench.state() is State.MASTER

    @reaches(State.BACKUP, Guard.CANNOT_TAKE)
    @pytest.mark.parametrize("how", ["bow-out", "more demoted", "slower"])
    def test_who_could_not_take_waits(self, how):
        """A host whose last take failed within its master-down time waits for its timer, whatever it hears."""
        bench, peer = backup(preempt=True, advskew=10)
        bench.answers = False
        bench.hear(peer.bow_out())
        bench.feed(TakeFailed("carp0", "no"))
        said = {"bow-out": peer.bow_out, "more demoted": lambda: peer.advertisement(demote=9), "slower": peer.advertisement}
        peer.advskew = 200
        assert reason(bench.hear(said[how]())) is None
        assert reason(bench.run_for(seconds(4))) is Reason.MASTER_TIMED_OUT

    @reaches(State.BACKUP, Guard.BOWS_OUT)
    def test_bow_out_at_advbase_0(self):
        """A bow-out is heard at advbase 0 as well."""
        bench, peer = backup(advbase=0, advskew=50)
        assert reason(bench.hear(peer.bow_out())) is Reason.MASTER_BOWED_OUT

    @reaches(State.BACKUP, Guard.PREEMPTS)
    def test_slower_master_with_preempt(self):
        """With preempt on, a host with the shorter interval takes over."""
        bench, peer = backup(preempt=True, advskew=10)
        assert reason(bench.hear(peer.advertisement(advskew=11))) is Reason.PREEMPTED_SLOWER

    def test_slower_master_without_preempt(self):
        """With preempt off, a slower MASTER is left alone."""
        bench, peer = backup(advskew=10)
        assert reason(bench.hear(peer.advertisement(advskew=200))) is None

    def test_preempt_of_the_interface_beats_the_hosts(self):
        """An interface's own preempt switch counts more than the host's."""
        for host, own in ((False, True), (True, False)):
            bench, peer = backup(preempt=host, advskew=10)
            bench.reconfigure(carp_interface(advskew=10, preempt=own))
            changed = reason(bench.hear(peer.advertisement(advskew=200)))
            assert changed is (Reason.PREEMPTED_SLOWER if own else None)

    def test_equal_master_is_not_preempted(self):
        """A BACKUP never preempts an equal."""
        bench, peer = backup(preempt=True, advskew=10)
        assert reason(bench.hear(peer.advertisement(advskew=10))) is None

    def test_slower_but_less_demoted_master_is_not_preempted(self):
        """A host that is more demoted than the MASTER does not preempt it."""
        bench, peer = backup(preempt=True, demoted=1)
        assert reason(bench.hear(peer.advertisement(advskew=200))) is None

    @reaches(State.BACKUP, Guard.PREPARES)
    def test_slower_master_with_a_stage(self):
        """A host with a pre-master stage begins it instead, and stays BACKUP meanwhile."""
        bench, peer = backup(preempt=True, advskew=10, pre_master=True)
        bench.answers = False
        actions = bench.hear(peer.advertisement(advskew=11))
        assert [type(action) for action in actions] == [Prepare]
        assert bench.state() is State.BACKUP

    @reaches(State.BACKUP, Guard.LESS_DEMOTED_HERE)
    def test_more_demoted_master(self):
        """A more demoted MASTER is replaced even with preempt off and by a slower host."""
        bench, peer = backup(advskew=200, demoted=1)
        assert reason(bench.hear(peer.advertisement(advskew=0, demote=2))) is Reason.LESS_DEMOTED_HERE

    def test_equally_demoted_master_stays(self):
        """Equal demotion decides nothing."""
        bench, peer = backup(advskew=200, demoted=2)
        assert reason(bench.hear(peer.advertisement(advskew=0, demote=2))) is None

    @reaches(State.BACKUP, Guard.MASTER_WILL_TIME_OUT)
    def test_master_slower_than_our_patience(self):
        """A MASTER whose interval is longer than three advbase plus skew would time out anyway: it is replaced at once."""
        bench, peer = backup(advskew=100)
        assert reason(bench.hear(peer.advertisement(advbase=3, advskew=100))) is None
        assert reason(bench.hear(peer.advertisement(advbase=3, advskew=101))) is Reason.MASTER_WILL_TIME_OUT

    def test_no_master_is_too_slow_at_advbase_0(self):
        """At advbase 0 the rule of the slow MASTER is off."""
        bench, peer = backup(advbase=0, advskew=50)
        assert reason(bench.hear(peer.advertisement(advbase=200))) is None

    @reaches(State.BACKUP, Guard.ALWAYS)
    def test_any_other_master(self):
        """Any other advertisement restarts the master-down timer and does nothing else."""
        bench, peer = backup()
        assert bench.hear(peer.advertisement(advskew=100)) == []
        assert bench.vhost().expected_master_down() == bench.now + seconds(3)

    def test_promotion(self):
        """Promotion advertises, takes the addresses, and when they are live announces them and advertises again."""
        bench, peer = backup()
        actions = [action for action in bench.hear(peer.bow_out()) if not isinstance(action, Transition)]
        assert [type(action) for action in actions] == [Send, Take, Announce, Send]
        assert bench.engine.next_deadline() == bench.now + seconds(1)


class TestMasterHears:
    @reaches(State.MASTER, Guard.BOWS_OUT)
    def test_bow_out(self):
        """A leaver's last frame moved the virtual MAC to its port: the MASTER announces and advertises at once."""
        bench, peer = master()
        actions = bench.hear(peer.bow_out())
        assert reason(actions) is None
        assert (len(only(Announce, actions)), len(only(Send, actions))) == (1, 1)

    def test_bow_out_of_a_less_demoted_host(self):
        """A host that leaves with demote 0 leaves nevertheless: even a demoted MASTER stays."""
        bench, peer = master(demoted=3)
        assert reason(bench.hear(peer.bow_out(demote=0))) is None
        assert bench.state() is State.MASTER

    @reaches(State.MASTER, Guard.LESS_DEMOTED_THERE)
    def test_less_demoted_master(self):
        """A MASTER yields to one that is less demoted, however slow that is."""
        bench, peer = master(demoted=2)
        assert reason(bench.hear(peer.advertisement(advskew=254, demote=1))) is Reason.LESS_DEMOTED_THERE

    @reaches(State.MASTER, Guard.FASTER_THERE)
    def test_faster_master(self):
        """A MASTER yields to one that advertises more often, preempt or not."""
        bench, peer = master(advskew=100)
        assert reason(bench.hear(peer.advertisement(advskew=99))) is Reason.FASTER_MASTER

    def test_faster_but_more_demoted_master(self):
        """A MASTER stays against a faster one that is more demoted."""
        bench, peer = master(advskew=100)
        assert reason(bench.hear(peer.advertisement(advskew=0, demote=1))) is None

    @reaches(State.MASTER, Guard.LOSES_TIE)
    def test_equal_master_of_lower_source(self):
        """On equal intervals the MASTER of the lower source address stays."""
        bench, peer = master()
        peer.sources = {family: bytes(len(source) - 1) + b"\x01" for family, source in peer.sources.items()}
        assert reason(bench.hear(peer.advertisement())) is Reason.LOST_TIE
        assert bench.vhost().expected_master_down() == bench.now + seconds(3)

    @reaches(State.MASTER, Guard.CANNOT_TELL)
    def test_equal_master_that_cannot_be_told_apart(self):
        """Where nothing tells two equal MASTERs apart, this one yields and waits up to a quarter interval longer.

        That is so for ucarp with equal sources: its counters follow each other and tell nothing.
        """
        extras = set()
        for seed in range(20):
            bench = Bench(carp_interface(dialect="ucarp"), seed=seed)
            bench.wait_for(State.MASTER)
            bench.run_for(milliseconds(500))
            peer = Peer(sources=bench.sources)
            assert reason(bench.hear(peer.advertisement())) is Reason.LOST_TIE
            extras.add(bench.vhost().expected_master_down() - bench.now - seconds(3))
        assert len(extras) > 10
        assert min(extras) >= 0
        assert max(extras) < seconds(0.25)

    @reaches(State.MASTER, Guard.TIE_DECIDED_LATER)
    def test_equal_master_in_the_other_family(self):
        """With both families the first one decides ties: an equal advertisement of the other is let pass."""
        bench, peer = master(addresses=DUAL_STACK)
        peer.sources = {family: bytes(len(source) - 1) + b"\x01" for family, source in peer.sources.items()}
        assert reason(bench.hear(peer.advertisement(IPV6), IPV6)) is None
        assert reason(bench.hear(peer.advertisement(IPV4), IPV4)) is Reason.LOST_TIE

    @reaches(State.MASTER, Guard.REASSERTS)
    def test_worse_master(self):
        """A MASTER that hears a worse one announces and advertises at once: clients and switches follow the last to speak."""
        bench, peer = master()
        actions = bench.hear(peer.advertisement(advskew=1))
        assert reason(actions) is None
        assert (len(only(Announce, actions)), len(advertisements(actions))) == (1, 1)

    @reaches(State.MASTER, Guard.ALWAYS)
    def test_worse_master_in_a_dialect_that_keeps_silent(self):
        """The BSDs' MASTERs ignore a worse one and go on as before."""
        bench, peer = master(dialect="freebsd")
        due = bench.engine.next_deadline()
        actions = bench.hear(peer.advertisement(advskew=1))
        assert only(Send, actions) + only(Announce, actions) + only(Transition, actions) == []
        assert bench.engine.next_deadline() == due

    def test_yielding(self):
        """Yielding sends nothing, closes the fence, releases the addresses and waits for the other as a BACKUP does."""
        bench, peer = master(advskew=100)
        actions = bench.hear(peer.advertisement(advskew=0))
        kinds = [type(action) for action in actions if not isinstance(action, Notice)]
        assert kinds == [Transition, CloseFence, Release]
        assert bench.engine.next_deadline() == bench.vhost().expected_master_down()

    def test_transition_names_the_sender(self):
        """The transition carries the source of the advertisement that caused it."""
        bench, peer = master(advskew=100)
        (change,) = only(Transition, bench.hear(peer.advertisement(advskew=0)))
        assert change.source == peer.sources[IPV4]
        assert (change.old, change.new, change.interface, change.vhid) == (State.MASTER, State.BACKUP, "carp0", 1)


@pytest.mark.parametrize(("state", "guard"), RULED, ids=str)
def test_every_row_has_its_test(state, guard):
    """Each row of the two elections is reached by a test above."""
    assert (state, guard) in REACHED
