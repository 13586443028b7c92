"""What happens to the parent, and what an administrator forces."""

import pytest

from carp.protocol.actions import Note, Notice, Reason, Release, Send, Transition
from carp.protocol.events import Forced, ParentChanged, Shutdown
from carp.protocol.packet import parse_ip
from carp.protocol.parameters import Node
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only, read
from carp.testing.clock import seconds
from carp.testing.hosts import (
    DUAL_STACK,
    PARENT,
    VIP4,
    VIP6,
    carp_interface,
    configured,
    parent_down,
    parent_gone,
    parent_up,
    station_sources,
)
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

IPV4, IPV6 = Family
DOWN, GONE = parent_down(), parent_gone()


def master(*interfaces, **settings):
    """Put a MASTER on the bench."""
    bench = Bench(*(interfaces or (carp_interface(),)), **settings)
    bench.wait_for(State.MASTER)
    return bench


def reasons(actions):
    """Tell why states changed."""
    return [change.reason for change in only(Transition, actions)]


class TestParent:
    @pytest.mark.parametrize("event", [DOWN, GONE], ids=["down", "gone"])
    def test_master_without_a_parent(self, event):
        """A MASTER whose parent goes down or away is in INIT at once, releases, and sends nothing into the void."""
        bench = master()
        actions = bench.feed(event)
        assert (bench.state(), reasons(actions)) == (State.INIT, [Reason.NOT_READY])
        assert only(Send, actions) == []
        assert len(only(Release, actions)) == 1
        assert bench.engine.next_deadline() is None

    @pytest.mark.parametrize("event", [DOWN, GONE], ids=["down", "gone"])
    def test_backup_without_a_parent(self, event):
        """A BACKUP whose parent goes down or away is in INIT and waits for nothing."""
        bench = Bench(carp_interface())
        bench.feed(event)
        assert bench.state() is State.INIT
        assert bench.engine.next_deadline() is None

    def test_reason_names_the_parent(self):
        """The transition says which parent is the matter."""
        for event, text in ((DOWN, f"{PARENT} is down"), (GONE, f"{PARENT} does not exist")):
            assert only(Transition, master().feed(event))[0].detail == text

    @pytest.mark.parametrize("event", [DOWN, GONE], ids=["down", "gone"])
    def test_parent_comes_back(self, event):
        """With its parent back, or created again, a virtual host begins as BACKUP."""
        bench = master()
        bench.feed(event)
        assert reasons(bench.feed(parent_up())) == [Reason.INITIALIZED]
        assert bench.engine.next_deadline() == bench.now + seconds(3)

    def test_missing_parent_demotes_its_groups(self):
        """While a parent is down every interface of its groups is demoted by one, and MASTERs among them say so."""
        bench = master(carp_interface(), carp_interface("carp1", 2, carpdev="lan1"))
        actions = bench.feed(parent_down(parent="lan1"))
        assert [(sent.vhid, sent.demote) for sent in advertisements(actions)] == [(1, 1)]
        assert {notice.note for notice in only(Notice, actions)} == {Note.DEMOTED}
        actions = bench.feed(parent_up(parent="lan1"))
        assert [(sent.vhid, sent.demote) for sent in advertisements(actions)] == [(1, 0)]

    def test_groups_keep_to_themselves(self):
        """A parent that is down does not demote interfaces of other groups."""
        bench = master(carp_interface(groups=("left",)), carp_interface("carp1", 2, carpdev="lan1", groups=("right",)))
        bench.feed(parent_down(parent="lan1"))
        assert (bench.interface("carp0").demote, bench.interface("carp1").demote) == (0, 1)

    def test_same_parent_again_does_nothing(self):
        """Hearing once more what is known changes nothing."""
        bench = master()
        before = bench.snapshot()
        assert bench.feed(parent_up()) == []
        assert bench.snapshot() == before

    def test_unknown_parent(self):
        """A carp interface whose parent nobody has reported yet is in INIT."""
        bench = Bench()
        bench.reconfigure(carp_interface())
        assert bench.state() is State.INIT
        bench.feed(parent_up())
        assert bench.state() is State.BACKUP

    def test_another_parent_is_no_matter(self):
        """What happens to other links does nothing."""
        bench = master()
        assert bench.feed(ParentChanged("other", False, False, bytes(6))) == []

    def test_two_vhids_move_together(self):
        """With preempt, hosts with vhids on two wires move both when one wire is pulled, and back when it is plugged in."""
        lan = VirtualLan()
        for name, advskew in (("a", 0), ("b", 100)):
            inside, outside = (carp_interface(f"carp{n}", n, advskew=advskew, carpdev=f"lan{n}") for n in (1, 2))
            lan.add(name, inside, outside, preempt=True)
        lan.run_for(seconds(5))
        assert (lan.masters(1), lan.masters(2)) == ({"a"}, {"a"})
        lan.link("a", up=False, parent="lan2")
        lan.run_for(seconds(5))
        assert (lan.masters(1), lan.masters(2)) == ({"b"}, {"b"})
        lan.link("a", up=True, parent="lan2")
        lan.run_for(seconds(5))
        assert (lan.masters(1), lan.masters(2)) == ({"a"}, {"a"})


class TestSources:
    def sources(self, actions):
        return [parse_ip(send.family, send.packet).source for send in only(Send, actions)]

    def test_parents_address(self):
        """Advertisements come from the parent's address of each family."""
        bench = Bench(carp_interface(addresses=DUAL_STACK))
        assert self.sources(bench.wait_for(State.MASTER))[:2] == list(station_sources(1).values())

    def test_virtual_address_without_one(self):
        """From a parent without an address of a family they come from the first virtual one of it."""
        bench = Bench(carp_interface(addresses=DUAL_STACK), sources={IPV6: station_sources(1)[IPV6]})
        assert self.sources(bench.wait_for(State.MASTER))[:2] == [VIP4.ip.packed, station_sources(1)[IPV6]]
        bench = Bench(carp_interface(addresses=DUAL_STACK), sources={})
        assert self.sources(bench.wait_for(State.MASTER))[:2] == [VIP4.ip.packed, VIP6.ip.packed]

    def test_new_address_of_the_parent(self):
        """A changed address of the parent is used from the next advertisement on, and changes no state."""
        bench = master()
        assert bench.feed(parent_up(station_sources(77))) == []
        assert self.sources(bench.run_for(seconds(1)))[0] == station_sources(77)[IPV4]


class TestAllow:
    def test_off_puts_everything_in_init(self):
        """With allow off every virtual host is in INIT, whatever its state was, and nothing is sent."""
        bench = Bench(carp_interface(), carp_interface("carp1", 2))
        bench.wait_for(State.MASTER)
        bench.hear(Peer(2).advertisement())
        actions = bench.reconfigure(carp_interface(), carp_interface("carp1", 2), allow=False)
        assert (bench.state(1), bench.state(2)) == (State.INIT, State.INIT)
        assert "not allowed" in only(Transition, actions)[0].detail
        assert bench.run_for(seconds(10)) == []

    def test_off_bows_out(self):
        """A MASTER that is not allowed any more hands over: its parent works."""
        bench = master()
        actions = bench.reconfigure(carp_interface(), allow=False)
        assert [read(send).is_bow_out for send in only(Send, actions)] == [True]

    def test_on_again(self):
        """With allow on again they begin as BACKUP."""
        bench = master()
        bench.reconfigure(carp_interface(), allow=False)
        bench.reconfigure(carp_interface(), allow=True)
        assert bench.state() is State.BACKUP

    def test_off_does_not_demote(self):
        """Not being allowed is no reason for demotion, also with the parent down."""
        bench = Bench(carp_interface(), allow=False)
        bench.feed(DOWN)
        assert bench.interface().demote == 0


class TestForced:
    def test_backup_made_master(self):
        """A BACKUP that is forced to be MASTER takes over at once."""
        bench = Bench(carp_interface())
        assert reasons(bench.feed(Forced("carp0", State.MASTER))) == [Reason.FORCED]
        assert len(advertisements(bench.actions)) == 2

    def test_master_made_backup(self):
        """A MASTER that is forced to be BACKUP releases, and waits for a successor like any BACKUP."""
        bench = master()
        actions = bench.feed(Forced("carp0", State.BACKUP))
        assert (bench.state(), reasons(actions)) == (State.BACKUP, [Reason.FORCED])
        assert only(Send, actions) == []
        assert bench.engine.next_deadline() == bench.now + seconds(3)

    @pytest.mark.parametrize("state", list(State))
    def test_forcing_what_is_does_nothing(self, state):
        """Forcing the state that a host is in does nothing; and forcing INIT never does anything."""
        bench = master() if state is State.MASTER else Bench(carp_interface())
        assert bench.feed(Forced("carp0", State.INIT)) == []
        if state is not State.INIT:
            assert bench.feed(Forced("carp0", state)) == []

    @pytest.mark.parametrize("state", list(State))
    def test_init_cannot_be_forced(self, state):
        """What does not run cannot be forced to run."""
        bench = Bench(carp_interface(), allow=False)
        assert bench.feed(Forced("carp0", state)) == []
        assert bench.state() is State.INIT

    def test_the_leader_is_compared(self):
        """The state asked for is compared with the leader's; then all of its virtual hosts go there, or none."""
        interface = carp_interface(nodes=(Node(1), Node(2, 100)))
        bench = Bench(interface)
        bench.feed(Forced("carp0", State.MASTER))
        assert (bench.state(1), bench.state(2)) == (State.MASTER, State.MASTER)
        bench.hear(Peer(2, advbase=0, advskew=1).advertisement())
        assert (bench.state(1), bench.state(2)) == (State.MASTER, State.BACKUP)
        assert bench.feed(Forced("carp0", State.MASTER)) == []
        bench.feed(Forced("carp0", State.BACKUP))
        assert (bench.state(1), bench.state(2)) == (State.BACKUP, State.BACKUP)

    def test_unknown_interface(self):
        """Forcing an interface that does not exist does nothing."""
        assert master().feed(Forced("carp9", State.BACKUP)) == []

    def test_better_host_comes_back(self):
        """With preempt a better host that was forced to be BACKUP takes over again at the next advertisement."""
        lan = VirtualLan()
        for name, advskew in (("a", 0), ("b", 100)):
            lan.add(name, carp_interface(advskew=advskew), preempt=True)
        lan.run_for(seconds(4))
        lan.stations["b"].feed(Forced("carp0", State.MASTER))
        lan.stations["a"].feed(Forced("carp0", State.BACKUP))
        lan.run_for(seconds(3))
        assert lan.masters() == {"a"}


class TestShutdown:
    def test_all_bow_out(self):
        """A host that stops bows out of everything, releases, and is in INIT; nothing is due any more."""
        interfaces = [carp_interface(f"carp{n}", n) for n in range(1, 256)]
        bench = Bench(*interfaces)
        bench.run_for(seconds(4))
        assert {bench.state(n) for n in range(1, 256)} == {State.MASTER}
        actions = bench.feed(Shutdown())
        assert sorted(sent.vhid for sent in advertisements(actions) if sent.is_bow_out) == list(range(1, 256))
        assert len(only(Release, actions)) == 255
        assert bench.engine.next_deadline() is None

    def test_backup_stops_silently(self):
        """A BACKUP that stops says nothing."""
        assert only(Send, Bench(carp_interface()).feed(Shutdown())) == []

    def test_successor_within_a_packets_time(self):
        """On a LAN the best of the others is MASTER within milliseconds after a clean stop."""
        lan = VirtualLan()
        for number, name in enumerate("abc"):
            lan.add(name, carp_interface(advskew=number * 50))
        lan.run_for(seconds(5.5))
        lan.stop("a")
        lan.run_for(5_000_000)
        assert (lan.masters(), lan.holders(VIP4)) == ({"b"}, {"b"})

    def test_stopped_means_stopped(self):
        """After the stop nothing starts again, whatever is still reported while the host is cleaned up."""
        bench = master()
        bench.feed(Shutdown())
        for event in (DOWN, parent_up(), configured(carp_interface())):
            bench.feed(event)
            assert bench.state() is State.INIT
