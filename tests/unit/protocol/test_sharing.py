"""One address on several carp interfaces of a parent: who stands for it, and that nobody announces it."""

from ipaddress import ip_address

import pytest

from carp.protocol.actions import Announce, Note, Notice, Send, Take, Transition
from carp.protocol.events import AddressClaimed
from carp.protocol.parameters import LinkAddress
from carp.protocol.sharing import shared_addresses
from carp.protocol.values import State, virtual_mac
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import PARENT, VIP4, VIP6, address, carp_interface, parent_up, station_peers
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

OWN = address("192.0.2.7/24")
STRANGER = bytes.fromhex("02aabbccddee")


def sharers(*vhids, **settings):
    """Make carp interfaces that all have the same address, in this order."""
    return [carp_interface(f"carp{vhid}", vhid, **settings) for vhid in vhids]


def masters(*interfaces, **settings):
    """Put a host on the bench that has been MASTER of all of these for a while."""
    bench = Bench(*interfaces, **settings)
    bench.run_for(seconds(5))
    assert {interface.leader.state for interface in bench.engine.interfaces} == {State.MASTER}
    return bench


def claims(actions):
    """Pick the notices that somebody claims an address."""
    return [one for one in only(Notice, actions) if one.note is Note.CLAIMED]


class TestWhoShares:
    def vhids(self, *interfaces):
        """Tell the vhids that share each address, in their order."""
        return {str(one.address): [member.leader.vhid for member in one.members] for one in shared_addresses(interfaces)}

    def test_in_ascending_order(self):
        """Those that share an address are counted by ascending vhid, however they are configured."""
        assert self.vhids(*sharers(7, 2, 200)) == {str(VIP4.ip): [2, 7, 200]}

    @pytest.mark.parametrize("dialect", ["netbsd", "netbsd10"])
    def test_newest_first(self, dialect):
        """A dialect that counts the newest first has the reverse order."""
        assert self.vhids(*sharers(7, 2, 200, dialect=dialect)) == {str(VIP4.ip): [200, 7, 2]}

    def test_only_what_is_shared(self):
        """An address on one carp interface alone is not shared, and one that is named twice on one is not either."""
        assert self.vhids(carp_interface(addresses=(VIP4, VIP4)), carp_interface("carp1", 2, addresses=(OWN,))) == {}

    def test_each_address_by_itself(self):
        """Each address has its own sharers, in both families; the prefix is no part of it."""
        found = self.vhids(
            carp_interface("carp1", 1, addresses=(VIP4, VIP6)),
            carp_interface("carp2", 2, addresses=(VIP6, OWN)),
            carp_interface("carp3", 3, addresses=(address("192.0.2.100/32"),)),
        )
        assert found == {str(VIP4.ip): [1, 3], str(VIP6.ip): [1, 2]}

    def test_of_one_parent(self):
        """The same address on another parent is another one; without a parent it counts nowhere."""
        assert self.vhids(carp_interface(), carp_interface("carp1", 2, carpdev="lan1")) == {}
        assert self.vhids(*sharers(1, 2, carpdev="")) == {}

    def test_only_who_is_up(self):
        """A carp interface that the administrator took down does not count."""
        assert self.vhids(*sharers(1, 2), carp_interface("carp3", 3, up=False)) == {str(VIP4.ip): [1, 2]}

    def test_macs(self):
        """The MACs that stand for an address are those of all sharers that have one of their own."""
        (shared,) = shared_addresses([*sharers(1, 2), *sharers(3, lladdr=LinkAddress.PARENT), *sharers(4, lladdr=STRANGER)])
        assert shared.macs == {virtual_mac(1), virtual_mac(2), STRANGER}


class TestAnnouncing:
    def test_shared_addresses_are_not(self):
        """An address that several have is announced by none, so that each asker keeps the MAC that it was given."""
        bench = masters(*sharers(1, 2))
        bench.run_for(seconds(120))
        assert only(Announce, bench.actions) == []

    def test_others_are(self):
        """What a carp interface has alone is announced as ever, at the takeover and two intervals later."""
        bench = masters(carp_interface(addresses=(VIP4, OWN)), carp_interface("carp1", 2))
        assert only(Announce, bench.actions) == [Announce("carp0", (OWN,))] * 2

    def test_nor_to_the_switches(self):
        """Where advertisements go to peers the switches are told every minute by an address that is not shared."""
        mine = carp_interface(addresses=(VIP4, OWN), peers=station_peers(2))
        bench = masters(mine, carp_interface("carp1", 2, peers=station_peers(2)))
        said = only(Announce, bench.run_for(seconds(120)))
        assert said == [Announce("carp0", (OWN,))] * 2

    def test_nor_against_a_rival(self):
        """A worse MASTER is told by an advertisement alone."""
        bench = masters(*sharers(1, 2))
        actions = bench.hear(Peer(1).advertisement(advskew=200))
        assert (len(only(Send, actions)), only(Announce, actions)) == (1, [])

    def test_on_another_parent(self):
        """The same address on another parent is announced there."""
        bench = Bench(*sharers(1, 2), carp_interface("carp9", 9, carpdev="lan1"))
        assert {one.interface for one in only(Announce, bench.run_for(seconds(5)))} == {"carp9"}

    def test_each_is_taken(self):
        """All that are MASTER have the address."""
        bench = masters(*sharers(1, 2))
        assert {one.interface: one.addresses for one in only(Take, bench.actions)} == {"carp1": (VIP4,), "carp2": (VIP4,)}

    def test_reload(self):
        """Whether an address is shared follows the configuration, without any change of state."""
        bench = masters(*sharers(1))
        actions = bench.reconfigure(*sharers(1, 2)) + bench.hear(Peer(1).advertisement(advskew=200))
        assert (only(Announce, actions), [one.vhid for one in only(Transition, actions)]) == ([], [2])
        bench.reconfigure(*sharers(1))
        bench.run_for(seconds(1))
        assert only(Announce, bench.hear(Peer(1).advertisement(advskew=200))) == [Announce("carp1", (VIP4,))]


class TestClaims:
    def claim(self, mac, target=VIP4.ip, parent=PARENT):
        return AddressClaimed(parent, target, mac)

    @pytest.mark.parametrize("vhid", [1, 2, 3])
    def test_a_sharers_mac(self, vhid):
        """The MAC of any sharer stands for the address rightfully, whoever is its MASTER."""
        assert masters(*sharers(1, 2, 3)).feed(self.claim(virtual_mac(vhid))) == []

    @pytest.mark.parametrize("mac", [STRANGER, virtual_mac(4)], ids=lambda mac: mac.hex(":"))
    def test_any_other_mac(self, mac):
        """Any other MAC is told by each MASTER of it, which says that it is MASTER and announces nothing."""
        actions = masters(*sharers(1, 2)).feed(self.claim(mac))
        assert {one.interface for one in claims(actions)} == {"carp1", "carp2"}
        assert {one.vhid for one in only(Send, actions)} == {1, 2}
        assert only(Announce, actions) == []

    def test_of_an_address_that_is_not_shared(self):
        """For an address that one has alone another's MAC does not stand."""
        bench = masters(carp_interface(addresses=(VIP4, OWN)), carp_interface("carp1", 2))
        assert [one.interface for one in claims(bench.feed(self.claim(virtual_mac(2), OWN.ip)))] == ["carp0"]

    def test_on_another_parent(self):
        """On another parent the sharers' MACs mean nothing."""
        bench = masters(*sharers(1, 2), carp_interface("carp9", 9, carpdev="lan1"))
        assert [one.interface for one in claims(bench.feed(self.claim(virtual_mac(2), parent="lan1")))] == ["carp9"]

    def test_of_one_that_was_taken_down(self):
        """Who was taken down here stands for nothing here any more."""
        bench = masters(*sharers(1, 2, 3))
        bench.reconfigure(*sharers(1, 2), carp_interface("carp3", 3, up=False))
        bench.run_for(milliseconds(500))
        assert claims(bench.feed(self.claim(virtual_mac(3))))


def test_two_hosts():
    """Two hosts that prefer one of two carp interfaces each are MASTER of one each; without the other one is of both."""
    lan = VirtualLan()
    for name, skews in (("a", (0, 100)), ("b", (100, 0))):
        lan.add(name, carp_interface("carp0", 1, advskew=skews[0]), carp_interface("carp1", 2, advskew=skews[1]), preempt=True)
    lan.run_for(seconds(8.3))
    assert (lan.servers(1), lan.servers(2), lan.holders(VIP4)) == ({"a"}, {"b"}, {"a", "b"})
    lan.stop("b")
    lan.run_for(seconds(1))
    assert (lan.servers(1), lan.servers(2), lan.holders(VIP4)) == ({"a"}, {"a"}, {"a"})
    assert all(station.noted.announced == [] for station in lan.stations.values())


def test_parent_that_comes_later():
    """Sharers whose parent comes later begin with it, and nothing is announced then either."""
    bench = Bench()
    bench.reconfigure(*sharers(1, 2))
    bench.feed(parent_up())
    bench.run_for(seconds(5))
    assert (bench.state(1), bench.state(2), only(Announce, bench.actions)) == (State.MASTER, State.MASTER, [])
    assert bench.feed(AddressClaimed(PARENT, ip_address("192.0.2.8"), STRANGER)) == []
