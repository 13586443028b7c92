"""A new configuration is a difference: only what differs changes, and mastership is not lost for it."""

import pytest

from carp.protocol.actions import Announce, Reason, Release, Send, Take, Transition
from carp.protocol.auth import key_from_passphrase
from carp.protocol.dialect import DIALECTS
from carp.protocol.parameters import Node
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import (
    DUAL_STACK,
    VIP4,
    VIP6,
    address,
    carp_interface,
    configured,
    parent_down,
    parent_up,
    station_peers,
)
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

EXTRA = address("192.0.2.101/24")
OTHER_KEY = key_from_passphrase("other")
STATES = [State.BACKUP, State.MASTER]
IPV4, IPV6 = Family


def bench_in(state, *interfaces, **settings):
    """Put a host in a state on the bench."""
    bench = Bench(*(interfaces or (carp_interface(),)), **settings)
    if state is State.MASTER:
        bench.wait_for(State.MASTER)
    bench.run_for(milliseconds(500))
    return bench


@pytest.mark.parametrize("state", STATES)
class TestInEveryState:
    def test_same_configuration_does_nothing(self, state):
        """The same configuration again asks for nothing and moves no timer."""
        bench = bench_in(state)
        before = bench.snapshot()
        assert bench.reconfigure(carp_interface()) == []
        assert bench.snapshot() == before

    @pytest.mark.parametrize(
        "changed",
        [
            carp_interface(addresses=(VIP4, EXTRA)),
            carp_interface(addresses=(EXTRA,)),
            carp_interface(addresses=DUAL_STACK),
            carp_interface(key=OTHER_KEY),
            carp_interface(advskew=100),
            carp_interface(advbase=2),
            carp_interface(preempt=True),
            carp_interface(groups=("carp", "web")),
            carp_interface(demote_skew=True),
            carp_interface(digest_grace_ns=seconds(1)),
            carp_interface(peers=station_peers(2)),
        ],
        ids=[
            "add",
            "replace",
            "add a family",
            "pass",
            "advskew",
            "advbase",
            "preempt",
            "groups",
            "demote_skew",
            "grace",
            "peers",
        ],
    )
    def test_state_stays(self, state, changed):
        """No change of addresses, pass phrase, intervals, groups or switches changes the state."""
        bench = bench_in(state)
        actions = bench.reconfigure(changed)
        assert only(Transition, actions) == []
        assert bench.state() is state

    def test_removing_an_address_stays(self, state):
        """Removing one of several addresses changes no state."""
        bench = bench_in(state, carp_interface(addresses=(VIP4, EXTRA)))
        assert only(Transition, bench.reconfigure(carp_interface())) == []

    @pytest.mark.parametrize(
        "changed",
        [
            carp_interface(vhid=9),
            carp_interface(nodes=(Node(1), Node(2))),
            carp_interface(carpdev="lan1"),
            carp_interface(dialect="netbsd"),
            carp_interface(lladdr=bytes.fromhex("021122334455")),
        ],
        ids=["vhid", "nodes", "carpdev", "dialect", "lladdr"],
    )
    def test_another_identity_starts_over(self, state, changed):
        """With another vhid, parent, dialect or MAC it is another virtual host: the old one stops, a new one begins."""
        bench = bench_in(state)
        bench.feed(parent_up(parent="lan1"))
        actions = bench.reconfigure(changed)
        reasons = [change.reason for change in only(Transition, actions) if change.vhid != 2]
        assert reasons == [Reason.STOPPED, Reason.INITIALIZED]
        assert [sent.is_bow_out for sent in advertisements(actions)] == ([True] if state is State.MASTER else [])


class TestAddresses:
    def test_master_takes_the_new_list(self):
        """A MASTER takes the whole new list, and announces it when it is live."""
        actions = bench_in(State.MASTER).reconfigure(carp_interface(addresses=(VIP4, EXTRA)))
        assert [take.addresses for take in only(Take, actions)] == [(VIP4, EXTRA)]
        assert [said.addresses for said in only(Announce, actions)] == [(VIP4, EXTRA)]

    def test_backup_takes_nothing(self):
        """A BACKUP only remembers the new list."""
        assert bench_in(State.BACKUP).reconfigure(carp_interface(addresses=(VIP4, EXTRA))) == []

    def test_a_new_family_is_advertised(self):
        """With the first IPv6 address a MASTER advertises over IPv6 too."""
        bench = bench_in(State.MASTER)
        bench.reconfigure(carp_interface(addresses=DUAL_STACK))
        assert {send.family for send in only(Send, bench.run_for(seconds(1)))} == {IPV4, IPV6}

    def test_last_address_removed(self):
        """Without any address a virtual host cannot run: it goes to INIT and releases."""
        bench = bench_in(State.MASTER)
        actions = bench.reconfigure(carp_interface(addresses=()))
        assert bench.state() is State.INIT
        assert only(Release, actions)

    def test_first_address_added(self):
        """With its first address a virtual host begins."""
        bench = bench_in(State.BACKUP, carp_interface(addresses=()))
        assert bench.state() is State.INIT
        bench.reconfigure(carp_interface())
        assert bench.state() is State.BACKUP

    @pytest.mark.parametrize("dialect", list(DIALECTS))
    def test_removing_a_family_on_a_backup(self, dialect):
        """A BACKUP that loses its last IPv6 address no longer waits for IPv6: it stays BACKUP while IPv4 is heard."""
        bench = bench_in(State.BACKUP, carp_interface(addresses=DUAL_STACK, dialect=dialect))
        peer = Peer(addresses=DUAL_STACK)
        for family in Family:
            bench.hear(peer.advertisement(family), family)
        bench.reconfigure(carp_interface(dialect=dialect))
        peer.addresses = (VIP4,)
        for _ in range(6):
            bench.run_for(seconds(1))
            bench.hear(peer.advertisement())
        assert bench.vhost().transitions == 1

    @pytest.mark.parametrize("dialect", list(DIALECTS))
    def test_adding_a_family_on_a_backup(self, dialect):
        """A BACKUP that gets its first IPv6 address stays BACKUP while its MASTER speaks both."""
        bench = bench_in(State.BACKUP, carp_interface(dialect=dialect))
        bench.hear(Peer().advertisement())
        bench.reconfigure(carp_interface(addresses=DUAL_STACK, dialect=dialect))
        peer = Peer(addresses=DUAL_STACK)
        for _ in range(6):
            bench.run_for(milliseconds(900))
            for family in Family:
                bench.hear(peer.advertisement(family), family)
        assert bench.vhost().transitions == 1


class TestIntervals:
    def test_new_advskew_is_advertised_at_once(self):
        """A MASTER whose advskew changes tells it at once."""
        (sent,) = advertisements(bench_in(State.MASTER).reconfigure(carp_interface(advskew=77)))
        assert sent.advskew == 77

    def test_better_backup_preempts_after_it(self):
        """A MASTER that is made slower gives way to a preempting BACKUP within a packet's time."""
        lan = VirtualLan()
        lan.add("a", carp_interface(), preempt=True)
        lan.add("b", carp_interface(advskew=100), preempt=True)
        lan.run_for(seconds(5.3))
        lan.stations["a"].feed(configured(carp_interface(advskew=200), preempt=True))
        lan.run_for(milliseconds(5))
        assert lan.masters() == {"b"}

    @pytest.mark.parametrize(("former", "later"), [(1, 2), (2, 1), (5, 1), (1, 5), (10, 1)])
    def test_next_advertisement_is_one_new_interval_away(self, former, later):
        """After an advbase change the next advertisement follows one new interval after the one that told it."""
        bench = bench_in(State.MASTER, carp_interface(advbase=former))
        bench.reconfigure(carp_interface(advbase=later))
        assert bench.engine.next_deadline() - bench.now <= seconds(later)

    def test_backup_waits_the_new_time(self):
        """A BACKUP waits the new master-down time from when it heard its MASTER last."""
        bench = bench_in(State.BACKUP)
        bench.hear(Peer().advertisement())
        heard = bench.now
        bench.run_for(milliseconds(700))
        bench.reconfigure(carp_interface(advbase=2))
        assert bench.engine.next_master_down() == heard + seconds(6)

    def test_advbase_changed_on_a_lan(self):
        """Advbase 5 made 1 on the MASTER first, then on the BACKUP: nobody takes over from a living MASTER."""
        lan = VirtualLan()
        for name, advskew in (("a", 0), ("b", 100)):
            lan.add(name, carp_interface(advbase=5, advskew=advskew))
        lan.run_for(seconds(16))
        for name, advskew in (("a", 0), ("b", 100)):
            lan.stations[name].feed(configured(carp_interface(advskew=advskew)))
            lan.run_for(milliseconds(100))
        lan.run_for(seconds(12))
        assert [change.station for change in lan.history.changes if change.new is State.MASTER] == ["a"]


class TestInterfaces:
    def test_removed_interface_bows_out(self):
        """A MASTER whose interface is removed bows out and releases; the others do not notice."""
        bench = bench_in(State.MASTER, carp_interface(), carp_interface("carp1", 2))
        actions = bench.reconfigure(carp_interface("carp1", 2))
        assert [(sent.vhid, sent.is_bow_out) for sent in advertisements(actions)] == [(1, True)]
        assert [one.interface for one in only(Release, actions)] == ["carp0"]
        assert bench.state(2) is State.MASTER
        assert all(sent.vhid == 2 for sent in advertisements(bench.run_for(seconds(5))))

    def test_removed_backup_is_silent(self):
        """A BACKUP whose interface is removed sends nothing, and nothing is due any more."""
        bench = bench_in(State.BACKUP)
        assert only(Send, bench.reconfigure()) == []
        assert bench.engine.next_deadline() is None

    def test_added_interface_begins(self):
        """A new interface begins as BACKUP; the others do not notice."""
        bench = bench_in(State.MASTER)
        due = bench.engine.next_deadline()
        (change,) = only(Transition, bench.reconfigure(carp_interface(), carp_interface("carp1", 2)))
        assert (change.interface, change.reason) == ("carp1", Reason.INITIALIZED)
        assert bench.engine.next_deadline() == due

    def test_vhid_moves_between_interfaces(self):
        """Two interfaces may exchange their vhids in one reload."""
        bench = bench_in(State.MASTER, carp_interface("carp0", 1), carp_interface("carp1", 2))
        bench.reconfigure(carp_interface("carp0", 2), carp_interface("carp1", 1))
        assert [interface.leader.vhid for interface in bench.engine.interfaces] == [2, 1]
        assert (bench.state(1), bench.state(2)) == (State.BACKUP, State.BACKUP)
        bench.hear(Peer(2).bow_out())
        assert bench.interface("carp0").leader.state is State.MASTER

    def test_order_follows_the_configuration(self):
        """Interfaces are listed in the order of the configuration."""
        bench = bench_in(State.BACKUP, carp_interface(), carp_interface("carp1", 2))
        bench.reconfigure(carp_interface("carp1", 2), carp_interface())
        assert [interface.name for interface in bench.engine.interfaces] == ["carp1", "carp0"]

    def test_removed_interface_takes_its_demotion_along(self):
        """What an interface was demoted for ends with it."""
        bench = Bench(carp_interface(), carp_interface("carp1", 2, carpdev="lan1"))
        bench.feed(parent_down(parent="lan1"))
        assert bench.interface("carp0").demote == 1
        bench.reconfigure(carp_interface())
        assert bench.interface("carp0").demote == 0


def test_addresses_of_ipv6_only():
    """A virtual host with IPv6 addresses alone sends no IPv4."""
    bench = bench_in(State.BACKUP, carp_interface(addresses=(VIP6,)))
    assert {send.family for send in only(Send, bench.wait_for(State.MASTER))} == {IPV6}
