"""A balanced address has one MAC on all hosts: the leader asks for it, and so sees whoever answers with another."""

from ipaddress import ip_address

import pytest

from carp.protocol.actions import Note, Notice, Prepare, Probe, Send, Transition
from carp.protocol.events import AddressClaimed, Prepared, Probed
from carp.protocol.parameters import Balancing, Node
from carp.protocol.values import Family, State, multicast_mac, virtual_mac
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, PARENT, VIP4, VIP6, address, carp_interface, station_sources
from carp.testing.packets import Peer

EVERY = seconds(60)
NODES = (Node(1), Node(2, 100))
STRANGER = bytes.fromhex("02aabbccddee")
SPLITTING = [Balancing.IP, Balancing.IP_STEALTH, Balancing.IP_UNICAST]
OWN_MAC = {Balancing.IP: multicast_mac(1), Balancing.IP_STEALTH: virtual_mac(1), Balancing.IP_UNICAST: virtual_mac(1)}


def balanced(**settings):
    """Make the carp interface of this file."""
    return carp_interface(nodes=NODES, **settings)


def leading(**settings):
    """Put a host on the bench on which the leader has just become MASTER; return the actions of that, too."""
    bench = Bench(balanced(**settings))
    return bench, bench.hear(Peer.of(balanced(**settings), 1).bow_out())


def claims(actions):
    """Pick the notices that somebody claims an address."""
    return [one for one in only(Notice, actions) if one.note is Note.CLAIMED]


class TestAsking:
    @pytest.mark.parametrize("mode", SPLITTING)
    def test_when_it_becomes_master(self, mode):
        """The leader asks for the first address, from the parent's own, when it becomes MASTER."""
        _, actions = leading(balancing=mode, addresses=(VIP4, address("192.0.2.101/24")))
        assert only(Probe, actions) == [Probe("carp0", VIP4.ip, station_sources(1)[Family.IPV4])]

    def test_again_and_again(self):
        """It asks again every 60 s."""
        bench, _ = leading()
        begun, asked = bench.now, []
        while bench.now - begun < 5 * EVERY:
            if only(Probe, bench.run_until(bench.engine.next_deadline())):
                asked.append(bench.now - begun)
        assert asked == [EVERY * turn for turn in range(1, 6)]

    def test_over_ipv6(self):
        """An interface of IPv6 addresses alone asks for the first of them."""
        _, actions = leading(addresses=(VIP6,))
        assert only(Probe, actions) == []  # a bow-out over IPv4 is for nobody here
        bench = Bench(balanced(addresses=(VIP6,)))
        assert [one.target for one in only(Probe, bench.wait_for(State.MASTER))] == [VIP6.ip]

    def test_followers_do_not(self):
        """Another virtual host answers for nothing, and asks for nothing."""
        bench = Bench(balanced())
        assert only(Probe, bench.hear(Peer(2).bow_out())) == []
        for _ in range(100):
            bench.run_for(seconds(1))
            bench.hear(Peer(1).advertisement())
        assert (bench.state(1), bench.state(2), only(Probe, bench.actions)) == (State.BACKUP, State.MASTER, [])

    @pytest.mark.parametrize(
        "settings", [{"nodes": NODES, "balancing": Balancing.ARP}, {"nodes": NODES[:1]}], ids=["arp", "none"]
    )
    def test_where_macs_differ_nobody_does(self, settings):
        """With ARP balancing, and without any, an answer tells nothing, and nobody asks."""
        bench = Bench(carp_interface(**settings))
        bench.wait_for(State.MASTER)
        assert only(Probe, bench.actions + bench.run_for(2 * EVERY)) == []

    def test_until_it_yields(self):
        """Who yields asks no more, and begins again when it is MASTER again."""
        bench, _ = leading()
        bench.run_for(seconds(1))
        peer = Peer(1, advskew=0)
        bench.sources = {}
        bench.hear(Peer(1, sources=station_sources(0)).advertisement())
        assert bench.state() is State.BACKUP
        for _ in range(100):
            assert only(Probe, bench.run_for(seconds(1)) + bench.hear(peer.advertisement())) == []
        assert len(only(Probe, bench.hear(peer.bow_out()))) == 1

    def test_not_while_another_yields(self):
        """Who replaces a MASTER that lives asks when that one had its time to yield."""
        bench = Bench(balanced(), preempt=True)
        assert only(Probe, bench.hear(Peer(1, advskew=100).advertisement())) == []
        assert bench.state() is State.MASTER
        assert len(only(Probe, bench.run_for(milliseconds(20)))) == 1

    def test_after_its_stage(self):
        """Who runs a pre-master stage asks when that is over."""
        bench = Bench(balanced(pre_master=True), answers=False)
        actions = bench.hear(Peer(1).bow_out())
        (stage,) = only(Prepare, actions)
        assert only(Probe, actions + bench.run_for(seconds(1))) == []
        assert len(only(Probe, bench.feed(Prepared("carp0", 1, stage.serial)))) == 1

    def test_an_answer_that_is_not_there_is_nothing(self):
        """That nobody answers is as it should be: nothing follows from it."""
        bench, _ = leading()
        before = bench.snapshot()
        assert bench.feed(Probed("carp0")) == []
        assert bench.snapshot() == before

    def test_other_addresses(self):
        """After the addresses have changed it asks for the first of the new ones."""
        bench, _ = leading()
        other = address("192.0.2.7/24")
        bench.reconfigure(balanced(addresses=(other, VIP4)))
        assert {one.target for one in only(Probe, bench.run_for(2 * EVERY))} == {other.ip}


class TestAnswers:
    @pytest.mark.parametrize("claimed", [VIP4, VIP6], ids=str)
    @pytest.mark.parametrize("mode", SPLITTING)
    def test_another_mac_is_told(self, mode, claimed):
        """Another host that answers with another MAC, such as one with another leader, is told at once; no state changes."""
        bench, _ = leading(balancing=mode, addresses=DUAL_STACK)
        bench.wait_for(State.MASTER)
        actions = bench.feed(AddressClaimed(PARENT, claimed.ip, virtual_mac(2)))
        (notice,) = claims(actions)
        assert (str(claimed.ip) in notice.detail, virtual_mac(2).hex(":") in notice.detail) == (True, True)
        assert only(Transition, actions) == []

    @pytest.mark.parametrize("mode", SPLITTING)
    def test_the_former_masters_answer(self, mode):
        """Just after a takeover the same MAC is the former MASTER's, who answers no more."""
        bench, _ = leading(balancing=mode)
        assert bench.feed(AddressClaimed(PARENT, VIP4.ip, OWN_MAC[mode])) == []

    def test_it_answers_by_advertising(self):
        """Told of another MAC it says that it is MASTER, once in ten seconds."""
        bench, _ = leading()
        bench.run_for(milliseconds(500))
        said = [only(Send, bench.feed(AddressClaimed(PARENT, VIP4.ip, STRANGER))) for _ in range(20)]
        assert [{one.vhid for one in sends} for sends in said] == [{1}] + [set()] * 19

    def test_only_the_leader_minds(self):
        """Where the leader is not MASTER another host answers for the address, and that is no matter here."""
        bench = Bench(balanced())
        bench.hear(Peer(2).bow_out())
        bench.run_for(milliseconds(500))
        assert bench.feed(AddressClaimed(PARENT, VIP4.ip, STRANGER)) == []

    @pytest.mark.parametrize("vhid", [1, 2])
    def test_each_virtual_host_may_claim_with_arp_balancing(self, vhid):
        """With ARP balancing the virtual MAC of any of them stands for the address rightfully, wherever that one is MASTER."""
        bench, _ = leading(balancing=Balancing.ARP)
        bench.run_for(seconds(1))
        assert bench.feed(AddressClaimed(PARENT, VIP4.ip, virtual_mac(vhid))) == []

    @pytest.mark.parametrize("mac", [STRANGER, virtual_mac(3), multicast_mac(1)], ids=lambda mac: mac.hex(":"))
    def test_strangers_may_not(self, mac):
        """Any other MAC is told with ARP balancing, too."""
        bench, _ = leading(balancing=Balancing.ARP)
        bench.run_for(seconds(1))
        assert len(claims(bench.feed(AddressClaimed(PARENT, VIP4.ip, mac)))) == 1

    def test_what_is_not_ours(self):
        """Another address is no matter."""
        bench, _ = leading()
        assert bench.feed(AddressClaimed(PARENT, ip_address("192.0.2.7"), STRANGER)) == []
