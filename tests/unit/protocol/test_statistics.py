"""Counters, and interfaces of several virtual hosts."""

import pytest

from carp.protocol.actions import Announce, Release, Send, SetMask, Take, Transition
from carp.protocol.packet import DropReason
from carp.protocol.parameters import MAX_NODES, Node
from carp.protocol.statistics import Statistics
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import seconds
from carp.testing.hosts import DUAL_STACK, VIP4, carp_interface, parent_down
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

IPV4, IPV6 = Family
NODES = (Node(3, 0), Node(4, 100), Node(7, 200))


class TestStatistics:
    def test_everything_received_is_counted_before_any_check(self):
        """A packet counts as received by its family, whatever becomes of it; on an interface once it is known to be its."""
        bench = Bench(carp_interface(addresses=DUAL_STACK))
        peer = Peer(addresses=DUAL_STACK)
        bench.hear(peer.advertisement())
        bench.hear(peer.wrong(DropReason.BAD_TTL))
        bench.hear(peer.advertisement(IPV6), IPV6)
        assert bench.engine.statistics.received == {IPV4: 2, IPV6: 1}
        assert bench.interface().statistics.received == {IPV4: 1, IPV6: 1}

    def test_what_was_sent_is_counted_when_it_was(self):
        """An advertisement counts as sent once it is reported as sent."""
        bench = Bench(carp_interface(addresses=DUAL_STACK), answers=False)
        bench.wait_for(State.MASTER)
        assert bench.engine.statistics.sent == {IPV4: 0, IPV6: 0}
        bench = Bench(carp_interface(addresses=DUAL_STACK))
        bench.wait_for(State.MASTER)
        assert bench.engine.statistics.sent == bench.interface().statistics.sent == {IPV4: 2, IPV6: 2}

    def test_becoming_master_is_counted(self):
        """Each transition to MASTER counts, for whatever reason, on the host and on the interface."""
        bench = Bench(carp_interface(), carp_interface("carp1", 2))
        bench.hear(Peer(2).bow_out())
        bench.run_for(seconds(4))
        assert bench.engine.statistics.became_master == 2
        assert [interface.statistics.became_master for interface in bench.engine.interfaces] == [1, 1]

    def test_drops_sum_up_under_the_bsds_names(self):
        """Our finer reasons sum up to the counters that netstat shows."""
        statistics = Statistics()
        for number, reason in enumerate(DropReason, 1):
            statistics.dropped[reason] = number
        total = statistics.dropped_as_bsd()
        assert sum(total.values()) == sum(statistics.dropped.values())
        assert total["badauth"] == statistics.dropped[DropReason.BAD_DIGEST] + statistics.dropped[DropReason.ECHO]


class TestNodes:
    def nodes(self, **settings):
        return Bench(carp_interface(nodes=NODES, **settings))

    def states(self, bench):
        return [bench.state(node.vhid) for node in NODES]

    def test_each_has_its_own_election(self):
        """Each virtual host of an interface is elected by itself."""
        bench = self.nodes()
        for _ in range(5):
            bench.run_for(seconds(1))
            bench.hear(Peer(4).advertisement())
        assert self.states(bench) == [State.MASTER, State.BACKUP, State.MASTER]

    def test_mask_follows_the_ranks(self):
        """Bit i of the mask is the virtual host of rank i, by ascending vhid."""
        masks = [action.mask for action in only(SetMask, self.nodes().run_for(seconds(5)))]
        assert masks == [0b001, 0b011, 0b111]

    def test_single_node_has_no_mask(self):
        """An interface of one virtual host balances nothing."""
        assert only(SetMask, Bench(carp_interface()).run_for(seconds(5))) == []

    def test_no_election_moves_the_addresses(self):
        """Whoever of several is MASTER or yields: the addresses are taken once, and neither announced nor released."""
        bench = self.nodes()
        for vhid in (4, 3):
            bench.hear(Peer(vhid).bow_out())
        bench.hear(Peer(4).advertisement(advskew=0))
        assert self.states(bench) == [State.MASTER, State.BACKUP, State.BACKUP]
        assert [len(only(kind, bench.actions)) for kind in (Take, Announce, Release)] == [1, 0, 0]

    def test_each_advertises_its_own_vhid(self):
        """Every MASTER node advertises its vhid and advskew."""
        bench = self.nodes()
        bench.run_for(seconds(5))
        sent = {(one.vhid, one.advskew) for one in advertisements(bench.actions)}
        assert sent == {(node.vhid, node.advskew) for node in NODES}

    def test_parent_down_stops_all(self):
        """All virtual hosts of an interface go to INIT with its parent, and the mask is empty."""
        bench = self.nodes()
        bench.run_for(seconds(5))
        actions = bench.feed(parent_down())
        assert len(only(Transition, actions)) == 3
        assert only(SetMask, actions)[-1].mask == 0
        assert only(Send, actions) == []

    def test_thirty_two(self):
        """An interface may have 32 virtual hosts; all become MASTER when alone."""
        nodes = tuple(Node(vhid) for vhid in range(1, MAX_NODES + 1))
        bench = Bench(carp_interface(nodes=nodes))
        bench.run_for(seconds(4))
        assert only(SetMask, bench.actions)[-1].mask == 2**32 - 1

    @pytest.mark.parametrize("advskews", [((0, 100), (100, 0)), ((100, 0), (0, 100))])
    def test_two_hosts_share(self, advskews):
        """Two hosts that prefer one virtual host each share: each serves its own, and the leader's answers for the address."""
        lan = VirtualLan()
        for name, skews in zip("ab", advskews, strict=True):
            lan.add(name, carp_interface(nodes=(Node(1, skews[0]), Node(2, skews[1]))), preempt=True)
        lan.run_for(seconds(8))
        first = "a" if advskews[0][0] == 0 else "b"
        assert (lan.masters(1), lan.masters(2)) == ({first}, {"a", "b"} - {first})
        assert (lan.servers(1), lan.servers(2)) == ({first}, {"a", "b"} - {first})
        assert lan.holders(VIP4) == {first}
