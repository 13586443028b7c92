"""Carp interfaces that lack something, or that an administrator put down: in INIT, and no reason to demote anybody."""

import pytest

from carp.protocol.actions import Drop, Reason, Release, Send, Take, Transition
from carp.protocol.packet import DropReason
from carp.protocol.values import State
from carp.testing.bench import Bench, advertisements, only, read
from carp.testing.clock import seconds
from carp.testing.hosts import PARENT, carp_interface, parent_down, parent_gone, parent_up
from carp.testing.packets import Peer

LACKING = {"carpdev": carp_interface(carpdev=""), "addresses": carp_interface(addresses=()), "wish": carp_interface(up=False)}
lacking = pytest.mark.parametrize("interface", LACKING.values(), ids=LACKING.keys())


def bench_with(*interfaces, **switches):
    """Configure a host whose parent is there and up."""
    bench = Bench()
    bench.feed(parent_up())
    bench.reconfigure(*interfaces, **switches)
    return bench


def why(bench):
    """Tell why the first carp interface does not run."""
    return bench.interface().not_ready()


@lacking
class TestAnyLack:
    def test_it_is_in_init(self, interface):
        """It waits for nothing and sends nothing."""
        bench = bench_with(interface)
        assert bench.state() is State.INIT
        assert bench.run_for(seconds(10)) == []
        assert bench.engine.next_deadline() is None

    def test_nobody_is_demoted(self, interface):
        """Neither itself nor another of its group."""
        bench = bench_with(interface, carp_interface("carp1", 2))
        assert [one.demote for one in bench.engine.interfaces] == [0, 0]

    def test_others_do_not_notice(self, interface):
        """A MASTER beside it stays MASTER while it comes and goes."""
        bench = bench_with(carp_interface("carp1", 2))
        bench.wait_for(State.MASTER, 2)
        bench.reconfigure(interface, carp_interface("carp1", 2))
        bench.reconfigure(carp_interface("carp1", 2))
        assert bench.state(2) is State.MASTER

    def test_it_hears_nothing(self, interface):
        """An advertisement for it is one for nobody."""
        bench = bench_with(interface, carp_interface("carp1", 2))
        event = Peer(addresses=interface.addresses).arrives(Peer(addresses=interface.addresses).advertisement(), bench.now)
        assert [drop.reason for drop in only(Drop, bench.hear(event))] == [DropReason.BAD_VHID]

    def test_it_begins_when_it_is_whole(self, interface):
        """With what was missing it becomes BACKUP at once."""
        bench = bench_with(interface)
        (change,) = only(Transition, bench.reconfigure(carp_interface()))
        assert (change.new, change.reason) == (State.BACKUP, Reason.INITIALIZED)

    def test_it_ends_when_it_is_not(self, interface):
        """A MASTER that loses it is in INIT and releases its addresses."""
        bench = bench_with(carp_interface())
        bench.wait_for(State.MASTER)
        actions = bench.reconfigure(interface)
        assert bench.state() is State.INIT
        assert len(only(Release, actions)) == 1
        assert bench.engine.next_deadline() is None

    def test_with_the_parent_down(self, interface):
        """Then too nobody is demoted for one that has no parent or is not to run; for one without addresses it counts."""
        bench = bench_with(interface)
        bench.feed(parent_down())
        assert bench.interface().demote == (1 if interface is LACKING["addresses"] else 0)


class TestReasons:
    def test_each_lack_has_its_name(self):
        """What is said is what to do something about first."""
        assert why(bench_with(carp_interface(up=False, carpdev="", addresses=()))) == "down"
        assert why(bench_with(carp_interface(carpdev="", addresses=()))) == "no carpdev"
        assert why(bench_with(carp_interface(addresses=()))) == "no address"
        assert why(bench_with(carp_interface(carpdev="lan7"))) == "lan7 does not exist"
        assert why(bench_with(carp_interface(up=False), allow=False)).startswith("carp is not allowed")


class TestUpAndDown:
    def test_a_master_bows_out(self):
        """Put down, a MASTER hands over as at a clean stop."""
        bench = bench_with(carp_interface())
        bench.wait_for(State.MASTER)
        actions = bench.reconfigure(carp_interface(up=False))
        assert [read(send).is_bow_out for send in only(Send, actions)] == [True]
        (change,) = only(Transition, actions)
        assert (change.reason, change.detail) == (Reason.STOPPED, "down")

    def test_a_backup_says_nothing(self):
        """Put down, a BACKUP just stops."""
        bench = bench_with(carp_interface())
        actions = bench.reconfigure(carp_interface(up=False))
        assert only(Send, actions) == []
        assert bench.state() is State.INIT

    def test_the_same_virtual_host(self):
        """Put up again it is the same one: what it counted is not lost."""
        bench = bench_with(carp_interface())
        bench.wait_for(State.MASTER)
        counted = bench.interface().statistics
        bench.reconfigure(carp_interface(up=False))
        bench.reconfigure(carp_interface())
        assert bench.state() is State.BACKUP
        assert bench.interface().statistics is counted
        assert bench.vhost().transitions == 4

    def test_the_parent_does_not_wake_it(self):
        """A parent that goes and comes does not make it run."""
        bench = bench_with(carp_interface(up=False))
        for event in (parent_down(), parent_gone(), parent_up()):
            assert only(Transition, bench.feed(event)) == []
        assert bench.interface().demote == 0

    def test_put_down_it_demotes_no_longer(self):
        """With its parent down it demoted its group; put down it does not, and put up again it does."""
        bench = bench_with(carp_interface(), carp_interface("carp1", 2, carpdev="lan1"))
        bench.feed(parent_up(parent="lan1"))
        bench.feed(parent_down())
        counts = []
        for up in (True, False, True):
            bench.reconfigure(carp_interface(up=up), carp_interface("carp1", 2, carpdev="lan1"))
            counts.append(bench.interface("carp1").demote)
        assert counts == [1, 0, 1]


class TestWithoutParent:
    def test_two_of_one_vhid(self):
        """Two without a parent do not get into each other's way, whichever goes first."""
        first, second = carp_interface("carp0", carpdev=""), carp_interface("carp1", carpdev="")
        bench = bench_with(first, second)
        bench.reconfigure(second)
        bench.reconfigure(carp_interface("carp1"))
        bench.hear(Peer().advertisement())
        assert bench.interface("carp1").leader.known_masters

    def test_given_a_parent_it_is_made_anew(self):
        """A carp interface that moves to another parent starts over there."""
        bench = bench_with(carp_interface(carpdev=""))
        former = bench.vhost()
        bench.reconfigure(carp_interface(carpdev=PARENT))
        assert bench.vhost() is not former

    def test_taken_from_its_parent(self):
        """A MASTER whose parent is taken from the configuration bows out there."""
        bench = bench_with(carp_interface())
        bench.wait_for(State.MASTER)
        actions = bench.reconfigure(carp_interface(carpdev=""))
        assert [sent.is_bow_out for sent in advertisements(actions)] == [True]
        assert bench.state() is State.INIT


class TestWithoutAddresses:
    def test_the_last_one_removed_while_it_is_put_down(self):
        """Both at once is one stop: nothing is left to be taken."""
        bench = bench_with(carp_interface())
        bench.wait_for(State.MASTER)
        actions = bench.reconfigure(carp_interface(addresses=(), up=False))
        assert (bench.state(), len(only(Release, actions)), only(Take, actions)) == (State.INIT, 1, [])
