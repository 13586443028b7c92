"""Addresses that several carp interfaces share, each with its own MAC: what the asker is chooses, or the first answers."""

from dataclasses import astuple

import pytest
from bpf_balance_kit import (
    AWAY4,
    AWAY6,
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DROP,
    FIRST_SLOT,
    ICMPV6,
    IN,
    OUT,
    PARENT_MAC,
    PASS,
    REDIRECT,
    VIP4,
    VIP6,
    Balanced,
    arp,
    arp_frame,
    balanced,
    ethernet,
    ipv6,
    link_layer,
    loaded,
    neighbour,
    node_mac,
    packet,
    solicitation,
)

from carp.linux.bpf.balancer import Decision

__all__ = ["balanced", "loaded"]

NODES = 4
EVERY = set(range(NODES))
BY_MAC = [Decision.ASKER_ADDRESS, Decision.ASKER_MAC, Decision.FIRST]
"""Those in which a node is known by its MAC."""
by_mac = pytest.mark.parametrize("decision", BY_MAC)
PACKETS = {
    "IPv4": (CLIENT4, VIP4),
    "IPv6": (CLIENT6, VIP6),
    "IPv4 through a gateway": (CLIENT4, AWAY4),
    "IPv6 through a gateway": (CLIENT6, AWAY6),
}
both_ways = pytest.mark.parametrize(("source", "destination"), PACKETS.values(), ids=PACKETS)


def answering(balanced: Balanced, frame: bytes) -> set[int]:
    """Find the nodes on each of which alone a question is answered, each with its own MAC as source and as answer."""
    found = set()
    for node in range(len(balanced.balance.nodes)):
        done = balanced.open(node).run(IN, frame)
        if done.verdict != REDIRECT:
            assert (done.verdict, done.packet) == (DROP, frame)
            continue
        found.add(node)
        given = done.packet[22:28] if frame[12:14] == b"\x08\x06" else done.packet[-6:]
        assert (done.packet[:6], done.packet[6:12], given) == (CLIENT_MAC, node_mac(node), node_mac(node))
        assert balanced.verdict(OUT, done.packet) == PASS
    return found


@by_mac
@both_ways
def test_the_node_of_a_mac_takes_what_comes_by_it(
    balanced: Balanced, decision: Decision, source: str, destination: str
) -> None:
    """Whoever sent it and to whatever address; a closed node takes nothing."""
    balanced.put(decision)
    for node in range(NODES):
        assert balanced.deciders(IN, packet(source, destination, node_mac(node))) == {node}
    balanced.all_but()
    balanced.deadline(FIRST_SLOT + 1, -1)
    assert balanced.verdict(IN, packet(source, destination, node_mac(1))) == DROP


@by_mac
@pytest.mark.parametrize("delivers", [False, True])
def test_packets_are_unchanged_whoever_takes_them(balanced: Balanced, decision: Decision, delivers: bool) -> None:
    """By a macvlan or by the parent itself."""
    balanced.put(decision, delivers=delivers).open(2)
    assert balanced.verdict(IN, packet(CLIENT4, VIP4, node_mac(2))) == PASS
    assert balanced.verdict(IN, packet(CLIENT4, VIP4, node_mac(1))) == DROP


@by_mac
def test_what_comes_to_the_parents_mac_needs_any_open_node(balanced: Balanced, decision: Decision) -> None:
    """Nobody can say whose it is."""
    balanced.put(decision)
    for source, destination in ((CLIENT4, VIP4), (CLIENT6, VIP6)):
        frame = packet(source, destination, PARENT_MAC)
        assert balanced.open().verdict(IN, frame) == DROP
        assert balanced.deciders(IN, frame) == EVERY
    assert balanced.open().verdict(IN, packet(CLIENT4, AWAY4, PARENT_MAC)) == PASS


@by_mac
def test_groups_and_other_protocols_pass_by_a_nodes_mac(balanced: Balanced, decision: Decision) -> None:
    """The macvlan, which has a fence of its own, takes them."""
    balanced.put(decision).open()
    for frame in (
        packet(CLIENT4, "224.0.0.1", node_mac(1)),
        packet(CLIENT6, "ff02::1", node_mac(1)),
        ethernet(0x88B5, bytes(60), node_mac(1)),
        arp_frame(CLIENT_MAC, CLIENT4, VIP4, operation=2, to=node_mac(1)),
    ):
        assert balanced.verdict(IN, frame) == PASS


@by_mac
def test_packets_from_the_address_need_any_open_node(balanced: Balanced, decision: Decision) -> None:
    """They leave while one is open."""
    balanced.put(decision)
    for frame in (packet(VIP4, CLIENT4, CLIENT_MAC), packet(VIP6, CLIENT6, CLIENT_MAC)):
        assert balanced.open().verdict(OUT, frame) == DROP
        assert balanced.deciders(OUT, frame) == EVERY


@by_mac
@pytest.mark.parametrize("operation", [1, 2])
def test_arp_from_the_address_gives_an_open_nodes_mac(balanced: Balanced, decision: Decision, operation: int) -> None:
    """Requests and replies alike; that of a closed node, or the parent's, does not leave."""
    balanced.put(decision)
    for node in range(NODES):
        assert balanced.deciders(OUT, ethernet(0x0806, arp(node_mac(node), VIP4, CLIENT4, operation), CLIENT_MAC)) == {node}
    assert balanced.deciders(OUT, ethernet(0x0806, arp(PARENT_MAC, VIP4, CLIENT4, operation), CLIENT_MAC)) == set()


@by_mac
@pytest.mark.parametrize("kind", [135, 136])
def test_discovery_from_the_address_gives_an_open_nodes_mac(balanced: Balanced, decision: Decision, kind: int) -> None:
    """Advertisements and solicitations alike."""
    balanced.put(decision)
    option = 1 if kind == 135 else 2
    for mac, expected in [*((node_mac(node), {node}) for node in range(NODES)), (PARENT_MAC, set())]:
        message = neighbour(kind, VIP6, link_layer(option, mac))
        assert balanced.deciders(OUT, ethernet(0x86DD, ipv6(VIP6, CLIENT6, ICMPV6, message), CLIENT_MAC)) == expected


def test_a_mac_beyond_the_nodes_is_nobodys(balanced: Balanced) -> None:
    """The unused rest of 32 places, whose MACs are zero, claims nothing."""
    balanced.put(Decision.FIRST)
    balanced.balancer.set_mask(7, 0xFFFFFFFF)
    for slot in range(FIRST_SLOT + NODES, FIRST_SLOT + 32):
        balanced.deadline(slot)
    balanced.deadline(0)
    assert balanced.verdict(OUT, ethernet(0x0806, arp(bytes(6), VIP4, CLIENT4, 2), CLIENT_MAC)) == DROP
    balanced.fence.deadlines.close_slot(0)


@pytest.mark.parametrize(
    ("asker", "node"), [("192.0.2.8", 0), ("192.0.2.9", 1), ("192.0.2.10", 2), ("10.0.0.7", 3), ("0.0.0.0", 0)]
)
def test_an_asker_by_arp_is_answered_by_its_addresss_node(balanced: Balanced, asker: str, node: int) -> None:
    """Also one that probes and has no address yet."""
    assert answering(balanced.put(Decision.ASKER_ADDRESS), arp_frame(CLIENT_MAC, asker, VIP4)) == {node}


@pytest.mark.parametrize(("asker", "node"), [("fe80::8", 0), ("fe80::b", 3), ("2001:db8::1", 1), ("::", 0)])
def test_an_asker_by_discovery_is_answered_by_its_addresss_node(balanced: Balanced, asker: str, node: int) -> None:
    """Its address is folded; one that probes has none."""
    balanced.put(Decision.ASKER_ADDRESS)
    options = b"" if asker == "::" else link_layer(1, CLIENT_MAC)
    assert answering(balanced, solicitation(source=asker, options=options)) == {node}


def test_an_asker_is_answered_by_the_nodes_to_whose_hash_it_belongs(balanced: Balanced) -> None:
    """Each node has a key of its own: an asker can belong to several, to one, or to none."""
    balanced.put(Decision.ASKER_MAC, 3)
    sizes = set()
    for last in range(64):
        mac = bytes.fromhex("0200000000") + bytes((last,))
        expected = {rank for rank, node in enumerate(balanced.balance.nodes) if node.hash.choose(mac, 3) == rank}
        for frame in (arp_frame(mac, CLIENT4, VIP4), solicitation(options=link_layer(1, mac))):
            answered = {rank for rank in range(3) if balanced.open(rank).run(IN, frame).verdict == REDIRECT}
            assert answered == expected
        sizes.add(len(expected))
    assert sizes >= {0, 1, 2}


def test_an_asker_without_a_mac_is_not_answered(balanced: Balanced) -> None:
    """By a hash of MACs there is no node for it; who looks for duplicates hears from the first."""
    balanced.put(Decision.ASKER_MAC)
    assert answering(balanced, solicitation(options=b"")) == set()
    assert answering(balanced, solicitation(source="::", options=b"")) == {0}


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(arp_frame(CLIENT_MAC, "192.0.2.11", VIP4), id="ARP"),
        pytest.param(solicitation(source="fe80::9"), id="ND"),
        pytest.param(solicitation(source="fe80::9", options=b""), id="ND without MAC"),
        pytest.param(solicitation(source="::", options=b""), id="probe"),
    ],
)
def test_the_first_node_answers_everybody(balanced: Balanced, frame: bytes) -> None:
    """With its own MAC."""
    assert answering(balanced.put(Decision.FIRST), frame) == {0}


@by_mac
def test_each_packet_is_counted_by_the_node_of_its_mac(balanced: Balanced, decision: Decision) -> None:
    """Kept and dropped; what came to the parent's MAC is nobody's."""
    balanced.put(decision).open(1)
    frame = packet(CLIENT4, VIP4, node_mac(1))
    for to in (1, 1, 2):
        balanced.run(IN, packet(CLIENT4, VIP4, node_mac(to)))
    balanced.run(IN, packet(CLIENT4, VIP4, PARENT_MAC))
    expected = [(0,) * 4, (2, 2 * len(frame), 0, 0), (0, 0, 1, len(frame)), (0,) * 4]
    assert [astuple(one) for one in balanced.counts()] == expected
