"""Advertisements to peers instead of to the group: where they go, who is heard, and what keeps the virtual MAC known."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from carp.protocol.actions import Announce, Drop, Note, Notice, Send, Transition
from carp.protocol.dialect import DIALECTS
from carp.protocol.events import PacketArrived, Sent
from carp.protocol.interface import ANNOUNCE_EVERY_NS
from carp.protocol.packet import GROUP, DropReason, destination_of, parse_ip
from carp.protocol.parameters import LinkAddress
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, only, read
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import (
    DUAL_STACK,
    PARENT,
    VIP4,
    VIP6,
    carp_interface,
    configured,
    parent_up,
    station_peers,
    station_sources,
)
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer, change_byte, repair_carp_header, repair_ipv4_header

IPV4, IPV6 = Family
PEER = ip_address("192.0.2.2")
PEERS = (PEER, ip_address("192.0.2.3"))
ROUTED = ip_address("198.51.100.7")
STRANGER = ip_address("192.0.2.99")
GLOBAL6 = ip_interface("2001:db8::1/64")
LINK_LOCAL = ip_interface("fe80::1/64")
OWN = (ip_interface("192.0.2.1/24"), ip_interface("203.0.113.1/24"), LINK_LOCAL, GLOBAL6)


def bench_in(state=State.MASTER, *, addresses=OWN, **keys):
    """Put a host whose parent has `addresses` in a state; `keys` are those of its carp interface."""
    bench = Bench(carp_interface(**{"peers": (PEER,)} | keys))
    bench.feed(replace(parent_up(station_sources(1)), addresses=addresses))
    if state is not State.BACKUP:
        bench.wait_for(state)
    return bench


def sends(actions, family=IPV4):
    """Pick what is sent in a family."""
    return [send for send in only(Send, actions) if send.family is family]


def ends(send):
    """Tell sources and destinations of what is sent."""
    parsed = [parse_ip(send.family, packet) for packet in send.packets]
    return [(ip_address(one.source), ip_address(one.destination)) for one in parsed]


def sent_to(packet, source, destination="192.0.2.1", ttl=255):
    """Give an advertisement other ends and another TTL; the digest does not cover them."""
    source, destination = ip_address(source).packed, ip_address(destination).packed
    if len(source) == 4:
        return repair_ipv4_header(packet[:8] + bytes((ttl,)) + packet[9:12] + source + destination + packet[20:])
    return packet[:7] + bytes((ttl,)) + source + destination + packet[40:]


def arrive(bench, packet, family=IPV4, parent=PARENT):
    """Let a packet arrive; return the reason if it was refused."""
    drops = only(Drop, bench.feed(PacketArrived(parent, family, packet, bench.now)))
    return drops[0].reason if drops else None


class TestSending:
    def test_each_peer_gets_one(self):
        """One advertisement goes to every peer, with one counter, and none to the group."""
        bench = bench_in(peers=PEERS)
        (send,) = sends(bench.run_for(seconds(1)))
        assert send.unicast
        assert [destination for _, destination in ends(send)] == list(PEERS)
        assert len({packet[-36:] for packet in send.packets}) == 1

    def test_ttl_is_255(self):
        """As the BSDs send it, whatever the way."""
        (send,) = sends(bench_in(peers=(ROUTED,)).run_for(seconds(1)))
        assert parse_ip(IPV4, send.packet).ttl == 255

    def test_a_family_without_a_peer_goes_to_the_group(self):
        """Peers of one family say nothing about the other."""
        bench = Bench(carp_interface(addresses=DUAL_STACK, peers=(PEER,)))
        actions = bench.wait_for(State.MASTER)
        assert {send.unicast for send in sends(actions, IPV4)} == {True}
        assert {destination_of(IPV6, send.packet) for send in sends(actions, IPV6)} == {GROUP[IPV6]}

    def test_a_list_for_all_hosts(self):
        """A host that finds itself among the peers does not send to itself."""
        (send,) = sends(bench_in(peers=(ip_address("192.0.2.1"), *PEERS)).run_for(seconds(1)))
        assert [destination for _, destination in ends(send)] == list(PEERS)

    def test_only_itself(self):
        """With nobody left the group is told: an advertisement that goes nowhere would hold nothing."""
        (send,) = sends(bench_in(peers=(ip_address("192.0.2.1"),)).run_for(seconds(1)))
        assert (send.unicast, destination_of(IPV4, send.packet)) == (False, GROUP[IPV4])

    def test_a_peer_named_twice(self):
        """It gets one."""
        (send,) = sends(bench_in(peers=(PEER, PEER)).run_for(seconds(1)))
        assert len(send.packets) == 1

    def test_bow_out(self):
        """The peers hear of a clean stop too, and nothing holds the fence open."""
        bench = bench_in(peers=PEERS)
        (send,) = sends(bench.reconfigure())
        assert (read(send).is_bow_out, len(send.packets), send.holds_ns) == (True, 2, 0)

    def test_new_peers_hear_at_once(self):
        """A MASTER that gets other peers tells them without a change of state; a BACKUP says nothing."""
        bench = bench_in(peers=())
        actions = bench.reconfigure(carp_interface(peers=(PEER,)))
        assert [destination for send in sends(actions) for _, destination in ends(send)] == [PEER]
        assert only(Transition, actions) == []
        assert bench_in(State.BACKUP).reconfigure(carp_interface(peers=PEERS)) == []

    def test_peers_taken_away(self):
        """Without peers the group is told again."""
        actions = bench_in().reconfigure(carp_interface())
        assert [destination_of(IPV4, send.packet) for send in sends(actions)] == [GROUP[IPV4]]


class TestSources:
    @pytest.mark.parametrize(
        ("peer", "source"),
        [
            ("192.0.2.2", "192.0.2.1"),
            ("203.0.113.9", "203.0.113.1"),
            ("198.51.100.7", "192.0.2.1"),
            ("fe80::2", "fe80::1"),
            ("2001:db8::2", "2001:db8::1"),
            ("2001:db8:5::2", "2001:db8::1"),
        ],
    )
    def test_the_parents_address_that_suits(self, peer, source):
        """In the peer's subnet if there is one, else the first that is valid beyond the link."""
        family = Family(ip_address(peer).version)
        shared = (VIP4,) if family is IPV4 else (VIP6,)
        bench = Bench(carp_interface(addresses=shared, peers=(ip_address(peer),)))
        bench.feed(replace(parent_up(), addresses=OWN))
        send = sends(bench.wait_for(State.MASTER), family)[0]
        assert ends(send) == [(ip_address(source), ip_address(peer))]

    @pytest.mark.parametrize(("peer", "source"), [("192.0.2.2", "192.0.2.1"), ("fe80::2", "fe80::1"), ("2001:db8::2", "::")])
    def test_where_only_the_usual_source_is_known(self, peer, source):
        """It serves, unless it is link-local and the peer is not: then the kernel chooses."""
        family = Family(ip_address(peer).version)
        shared = (VIP4,) if family is IPV4 else (VIP6,)
        bench = Bench(carp_interface(addresses=shared, peers=(ip_address(peer),)))
        assert ends(sends(bench.wait_for(State.MASTER), family)[0])[0][0] == ip_address(source)

    def test_nothing_is_known(self):
        """From a parent without addresses the kernel chooses."""
        bench = Bench(carp_interface(peers=(PEER,)), sources={})
        assert ends(sends(bench.wait_for(State.MASTER))[0])[0][0] == ip_address("0.0.0.0")


class TestHearing:
    def test_a_peer(self):
        """An advertisement of a peer to this host is heard."""
        bench = bench_in(State.BACKUP)
        assert arrive(bench, sent_to(Peer().advertisement(), PEER)) is None
        assert bench.vhost().known_masters[IPV4].source == PEER.packed

    @pytest.mark.parametrize("ttl", [254, 253, 1])
    def test_a_peer_behind_routers(self, ttl):
        """The TTL of a peer's advertisement does not matter."""
        bench = bench_in(State.BACKUP, peers=(ROUTED,))
        assert arrive(bench, sent_to(Peer().advertisement(), ROUTED, ttl=ttl)) is None

    def test_a_peer_behind_routers_over_ipv6(self):
        """The hop limit neither."""
        peer = ip_address("2001:db8:5::2")
        bench = bench_in(State.BACKUP, addresses=(GLOBAL6,), peers=(peer,))
        bench.reconfigure(carp_interface(addresses=DUAL_STACK, peers=(peer,)))
        packet = sent_to(Peer(addresses=DUAL_STACK).advertisement(IPV6), peer, "2001:db8::1", ttl=60)
        assert arrive(bench, packet, IPV6) is None

    def test_a_stranger_next_door(self):
        """Who is no peer is heard from this LAN only: a peer may have several addresses there."""
        bench = bench_in(State.BACKUP)
        assert arrive(bench, sent_to(Peer().advertisement(), STRANGER)) is None
        assert arrive(bench, sent_to(Peer().advertisement(), STRANGER, ttl=254)) is DropReason.BAD_TTL

    @pytest.mark.parametrize("ttl", [255, 254])
    def test_the_group_is_heard_from_the_lan_only(self, ttl):
        """An advertisement to the group is taken with peers too, never from beyond a router, be it a peer's."""
        bench = bench_in(State.BACKUP)
        refused = arrive(bench, sent_to(Peer().advertisement(), PEER, "224.0.0.18", ttl))
        assert refused is (None if ttl == 255 else DropReason.BAD_TTL)

    def test_without_peers(self):
        """A host without peers hears one that has it as a peer: the two can be changed one after the other."""
        bench = bench_in(State.BACKUP, peers=())
        assert arrive(bench, sent_to(Peer().advertisement(), PEER)) is None
        assert arrive(bench, sent_to(Peer().advertisement(), PEER, ttl=254)) is DropReason.BAD_TTL

    @pytest.mark.parametrize("name", list(DIALECTS))
    @pytest.mark.parametrize("peers", [(), (PEER,)], ids=["group", "peers"])
    def test_the_other_kind_by_dialect(self, name, peers):
        """FreeBSD and auto hear both kinds; the others only the kind that they send."""
        bench = bench_in(State.BACKUP, peers=peers, dialect=name)
        unicast = arrive(bench, sent_to(Peer().advertisement(), PEER))
        group = arrive(bench, Peer().advertisement())
        other = DropReason.BAD_DESTINATION if name not in ("auto", "freebsd") else None
        assert (unicast, group) == ((None, other) if peers else (other, None))

    @pytest.mark.parametrize("name", list(DIALECTS))
    def test_routed_peers_by_dialect(self, name):
        """OpenBSD wants TTL 255 of a peer too."""
        bench = bench_in(State.BACKUP, dialect=name)
        refused = arrive(bench, sent_to(Peer().advertisement(), PEER, ttl=254))
        assert refused is (None if name in ("auto", "freebsd") else DropReason.BAD_TTL)

    @pytest.mark.parametrize("destination", ["224.0.0.19", "239.1.2.3", "255.255.255.255"])
    def test_other_groups(self, destination):
        """What goes to another group, or to all, is no advertisement to this host."""
        assert arrive(bench_in(State.BACKUP), sent_to(Peer().advertisement(), PEER, destination)) is DropReason.BAD_DESTINATION

    def test_a_wrong_digest(self):
        """Being a peer is no proof of anything."""
        bench = bench_in(State.BACKUP)
        before = bench.snapshot()
        assert arrive(bench, sent_to(Peer().wrong(DropReason.BAD_DIGEST), PEER, ttl=9)) is DropReason.BAD_DIGEST
        assert bench.snapshot() == before

    @pytest.mark.parametrize("source", ["192.0.2.1", "203.0.113.1"])
    def test_an_echo(self, source):
        """What was sent to a peer and comes back from any address of this host is an echo."""
        bench = bench_in()
        (send,) = sends(bench.run_for(seconds(1)))
        assert arrive(bench, sent_to(send.packet, source)) is DropReason.ECHO
        assert bench.state() is State.MASTER


class TestWhoItIsFor:
    def two(self, **keys):
        """Make two carp interfaces of one vhid on two parents, each with its peer."""
        one = carp_interface("carp0", peers=(PEER,), addresses=(VIP4,))
        two = carp_interface("carp1", peers=keys.get("peers", (ROUTED,)), addresses=(VIP4,), carpdev="lan1")
        bench = Bench(one, two)
        for number, parent in enumerate((PARENT, "lan1")):
            own = (ip_interface(f"192.0.2.{number + 1}/24"), ip_interface(f"fe80::{number + 1}/64"))
            bench.feed(replace(parent_up(parent=parent), addresses=own))
        return bench

    def heard_by(self, bench, family=IPV4):
        return [one.name for one in bench.engine.interfaces if one.leader.known_masters.get(family)]

    def test_the_one_whose_peer_it_is(self):
        """An advertisement that the routes brought by another interface is for the carp interface of that peer."""
        bench = self.two()
        assert arrive(bench, sent_to(Peer().advertisement(), ROUTED), parent=PARENT) is None
        assert self.heard_by(bench) == ["carp1"]

    def test_by_an_interface_that_carries_nothing(self):
        """It need not come by a parent at all."""
        bench = self.two()
        assert arrive(bench, sent_to(Peer().advertisement(), PEER, ttl=60), parent="wan") is None
        assert self.heard_by(bench) == ["carp0"]

    @pytest.mark.parametrize(("destination", "name"), [("192.0.2.1", "carp0"), ("192.0.2.2", "carp1")])
    def test_the_address_that_it_was_sent_to(self, destination, name):
        """Of two with the same vhid and peer the one whose parent has the address."""
        bench = self.two(peers=(PEER,))
        assert arrive(bench, sent_to(Peer().advertisement(), PEER, destination), parent="wan") is None
        assert self.heard_by(bench) == [name]

    @pytest.mark.parametrize(("parent", "name"), [(PARENT, "carp0"), ("lan1", "carp1")])
    def test_else_the_interface_that_it_came_by(self, parent, name):
        """With another destination."""
        bench = self.two(peers=(PEER,))
        assert arrive(bench, sent_to(Peer().advertisement(), PEER, "10.0.0.1"), parent=parent) is None
        assert self.heard_by(bench) == [name]

    def test_link_local_peers_are_those_of_the_link(self):
        """The same link-local address on another link is another host."""
        peer = ip_address("fe80::2")
        bench = Bench(
            carp_interface("carp0", addresses=(VIP6,), peers=(peer,)),
            carp_interface("carp1", addresses=(VIP6,), peers=(peer,), carpdev="lan1"),
        )
        packet = sent_to(Peer(addresses=(VIP6,)).advertisement(IPV6), peer, "fe80::1")
        assert arrive(bench, packet, IPV6, parent="lan1") is None
        assert self.heard_by(bench, IPV6) == ["carp1"]
        assert arrive(bench, packet, IPV6, parent="wan") is DropReason.BAD_INTERFACE

    def test_a_vhid_that_nobody_has(self):
        """It is refused as one to the group would be."""
        packet = repair_carp_header(change_byte(sent_to(Peer().advertisement(), PEER), 21, 9))
        assert arrive(bench_in(State.BACKUP), packet) is DropReason.BAD_VHID

    def test_removed_interfaces_are_not_found(self):
        """A destroyed carp interface hears nothing more."""
        bench = self.two()
        bench.reconfigure(carp_interface("carp0", peers=(PEER,)))
        assert arrive(bench, sent_to(Peer().advertisement(), ROUTED, ttl=60), parent="lan1") is DropReason.BAD_INTERFACE


class TestFailures:
    def test_some_peers_unreached(self):
        """A peer without a route is said, and is no send error while another one is reached."""
        bench = bench_in(peers=PEERS)
        for _ in range(10):
            (notice,) = only(Notice, bench.feed(Sent("carp0", 1, IPV4, None, (PEERS[1].packed,))))
        assert (notice.note, notice.detail) == (Note.SEND_FAILED, "to 192.0.2.3")
        assert (bench.engine.statistics.send_errors, bench.interface().demote) == (0, 0)

    def test_no_peer_reached(self):
        """If it left for nobody it was not sent."""
        bench = bench_in(peers=PEERS)
        for _ in range(3):
            bench.feed(Sent("carp0", 1, IPV4, 101))
        assert (bench.engine.statistics.send_errors, bench.interface().demote) == (3, 1)


class TestAnnouncing:
    def announced(self, actions):
        return [one.addresses for one in only(Announce, actions)]

    def test_a_master_with_peers_announces_now_and_then(self):
        """Its advertisements come from the parent's MAC, so once a minute one address is announced from the virtual one."""
        bench = bench_in(addresses=OWN, peers=PEERS)
        bench.run_for(seconds(5))
        assert self.announced(bench.run_for(10 * ANNOUNCE_EVERY_NS)) == [(VIP4,)] * 10

    def test_one_address_is_enough(self):
        """All of them are behind one MAC."""
        shared = (VIP4, ip_interface("192.0.2.101/24"))
        bench = Bench(carp_interface(addresses=shared, peers=PEERS))
        bench.wait_for(State.MASTER)
        bench.run_for(seconds(5))
        assert self.announced(bench.run_for(ANNOUNCE_EVERY_NS)) == [(VIP4,)]

    @pytest.mark.parametrize(
        "interface",
        [
            carp_interface(),
            carp_interface(addresses=DUAL_STACK, peers=(PEER,)),
            carp_interface(peers=(PEER,), lladdr=LinkAddress.PARENT),
        ],
        ids=["group", "one family to the group", "the parent's MAC"],
    )
    def test_not_where_advertisements_show_the_mac(self, interface):
        """Any family that goes to the group, and the parent's own MAC, keep the switches informed."""
        bench = Bench(interface)
        bench.wait_for(State.MASTER)
        bench.run_for(seconds(5))
        assert self.announced(bench.run_for(3 * ANNOUNCE_EVERY_NS)) == []

    def test_both_families_to_peers(self):
        """Only then nothing comes from the virtual MAC."""
        bench = Bench(carp_interface(addresses=DUAL_STACK, peers=(PEER, ip_address("fe80::2"))))
        bench.wait_for(State.MASTER)
        bench.run_for(seconds(5))
        assert len(self.announced(bench.run_for(2 * ANNOUNCE_EVERY_NS))) == 2

    def test_a_takeover_announces_as_usual(self):
        """At once, all addresses, and again with the third advertisement."""
        bench = bench_in()
        assert len(self.announced([*bench.actions, *bench.run_for(seconds(5))])) == 2

    def test_a_backup_is_silent(self):
        """It does not announce what another host has, also after having been MASTER."""
        bench = bench_in()
        bench.run_for(ANNOUNCE_EVERY_NS // 2)
        bench.feed(PacketArrived(PARENT, IPV4, Peer(demote=0, advbase=0).advertisement(), bench.now))
        assert bench.state() is State.BACKUP
        assert self.announced(bench.run_for(seconds(2))) == []
        assert bench.engine.next_deadline() == bench.engine.next_master_down()

    def test_begins_and_ends_with_the_peers(self):
        """A MASTER that gets its peers while it runs begins to announce, and ends when it loses them."""
        bench = bench_in(peers=())
        bench.run_for(seconds(5))
        bench.reconfigure(carp_interface(peers=PEERS))
        assert len(self.announced(bench.run_for(2 * ANNOUNCE_EVERY_NS))) == 2
        bench.reconfigure(carp_interface())
        assert self.announced(bench.run_for(2 * ANNOUNCE_EVERY_NS)) == []

    def test_another_change_does_not_put_it_off(self):
        """Changing advskew again and again does not keep a MASTER from announcing."""
        bench = bench_in()
        bench.run_for(seconds(5))
        announced = []
        for number in range(70):
            announced += self.announced(bench.reconfigure(carp_interface(peers=(PEER,), advskew=number)))
            announced += self.announced(bench.run_for(seconds(1)))
        assert announced == [(VIP4,)]


class TestOnALan:
    def lan(self, hosts, **keys):
        """Start hosts that all have each other as peers; a higher number is slower."""
        lan = VirtualLan()
        for number in range(1, hosts + 1):
            peers = station_peers(*range(1, hosts + 1), families=keys.get("families", (IPV4,)))
            shared = keys.get("addresses", (VIP4,))
            interface = carp_interface(advskew=50 * number, peers=peers, addresses=shared)
            lan.add("abcdef"[number - 1], interface, preempt=True)
        return lan

    @pytest.mark.parametrize("hosts", [2, 3, 5])
    def test_one_master(self, hosts):
        """The best of them is MASTER, and the next one follows a clean stop at once."""
        lan = self.lan(hosts)
        lan.run_for(seconds(6))
        assert lan.masters() == {"a"}
        lan.stop("a")
        lan.run_for(milliseconds(5))
        assert (lan.masters(), lan.holders(VIP4)) == ({"b"}, {"b"})

    @pytest.mark.parametrize("hosts", [2, 3])
    def test_a_silent_end(self, hosts):
        """A MASTER that vanishes is replaced after the master-down time, by one host."""
        lan = self.lan(hosts)
        lan.run_for(seconds(6))
        lan.kill("a")
        lan.run_for(seconds(4))
        assert lan.masters() == {"b"}

    def test_both_families(self):
        """Link-local peers of IPv6 beside those of IPv4."""
        lan = self.lan(3, families=Family, addresses=DUAL_STACK)
        lan.run_for(seconds(6))
        assert lan.masters() == {"a"}
        assert {one.family for one in lan.history.deliveries} == set(Family)

    def test_nobody_else_hears_it(self):
        """A host that is no peer gets nothing."""
        lan = self.lan(2)
        lan.add("x", carp_interface(advskew=200))
        lan.run_for(seconds(3))
        assert [one for one in lan.history.deliveries if one.receiver == "x"] == []

    def test_from_the_group_to_peers_one_after_the_other(self):
        """A running pair is given its peers, either host first, and back: nobody changes its state."""
        for order in ("ab", "ba"):
            lan = VirtualLan()
            for number, name in enumerate("ab", 1):
                lan.add(name, carp_interface(advskew=50 * number), preempt=True)
            lan.run_for(seconds(6))
            changes = len(lan.history.changes)
            for peers in (station_peers(1, 2, families=(IPV4,)), ()):
                for name in order:
                    number = "ab".index(name) + 1
                    interface = carp_interface(advskew=50 * number, peers=peers)
                    lan.stations[name].feed(configured(interface, preempt=True))
                    lan.run_for(seconds(5))
            assert len(lan.history.changes) == changes
            assert lan.masters() == {"a"}
