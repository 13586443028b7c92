"""What arrives for an address that packets' addresses balance (OpenBSD's `balancing ip`): each host keeps its share."""

import struct
from dataclasses import astuple, replace

import pytest
from bpf_balance_kit import (
    AWAY4,
    AWAY6,
    CARP,
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DROP,
    FIRST_SLOT,
    FRAGMENT,
    ICMP,
    ICMPV6,
    IN,
    PARENT_MAC,
    PASS,
    PLAIN4,
    PLAIN_SLOT,
    PRIORITY_TAG,
    SHARED_MAC,
    TCP,
    UDP,
    VIP4,
    VIP6,
    Balanced,
    addresses,
    balanced,
    error,
    ethernet,
    ipv4,
    ipv6,
    loaded,
    neighbour,
    node_for,
    packet,
    peer_of,
)

__all__ = ["balanced", "loaded"]

NODES = 5
EVERY = set(range(NODES))
ECHO = bytes((8,)) + bytes(39)
ECHO6 = bytes((128,)) + bytes(60)
ROUTER4, ROUTER6 = peer_of(2, VIP4, NODES), peer_of(2, VIP6, NODES)
BEYOND4, BEYOND6 = peer_of(4, VIP4, NODES), peer_of(4, VIP6, NODES)
SENT4, SENT6 = ipv4(VIP4, BEYOND4), ipv6(VIP6, BEYOND6)
"""Packets of ours that a router complains about: the router is node 2's peer, who they went to node 4's."""

OTHERS = {
    "UDP": packet(ROUTER4, VIP4),
    "UDP over IPv6": packet(ROUTER6, VIP6),
    "to the parent's MAC": packet(ROUTER4, VIP4, PARENT_MAC),
    "to the parent's MAC over IPv6": packet(ROUTER6, VIP6, PARENT_MAC),
    "with a priority tag": packet(ROUTER4, VIP4, tags=PRIORITY_TAG),
    "with a priority tag over IPv6": packet(ROUTER6, VIP6, tags=PRIORITY_TAG),
    "with IP options": ethernet(0x0800, ipv4(ROUTER4, VIP4, TCP, options=bytes(40))),
    "echo request": ethernet(0x0800, ipv4(ROUTER4, VIP4, ICMP, ECHO + SENT4)),
    "echo request over IPv6": ethernet(0x86DD, ipv6(ROUTER6, VIP6, ICMPV6, ECHO6)),
    "multicast listener report": ethernet(0x86DD, ipv6(ROUTER6, VIP6, ICMPV6, bytes((131,)) + bytes(60))),
    "node information": ethernet(0x86DD, ipv6(ROUTER6, VIP6, ICMPV6, bytes((139,)) + bytes(60))),
    "first fragment": ethernet(0x0800, ipv4(ROUTER4, VIP4, fragment=0x2000)),
    "later fragment": ethernet(0x0800, ipv4(ROUTER4, VIP4, fragment=100)),
    "fragment of an error": ethernet(0x0800, ipv4(ROUTER4, VIP4, ICMP, bytes((3,)) + bytes(7) + SENT4, fragment=0x2000)),
    "fragment over IPv6": ethernet(0x86DD, ipv6(ROUTER6, VIP6, FRAGMENT, bytes((UDP, 0, 0, 1, 0, 0, 0, 1)) + bytes(8))),
    "fragment of an error over IPv6": ethernet(
        0x86DD, ipv6(ROUTER6, VIP6, FRAGMENT, bytes((ICMPV6, 0, 0, 1, 0, 0, 0, 1, 1)) + bytes(7) + SENT6)
    ),
    "error that is cut short": ethernet(0x0800, error(3, ROUTER4, VIP4, SENT4[:19])),
    "error that is cut short over IPv6": ethernet(0x86DD, error(1, ROUTER6, VIP6, SENT6[:39])),
    "ICMP without a type": ethernet(0x0800, ipv4(ROUTER4, VIP4, ICMP, b"")),
    "IPv6 header alone": ethernet(0x86DD, ipv6(ROUTER6, VIP6, payload=b"")),
}


@pytest.mark.parametrize("frame", OTHERS.values(), ids=OTHERS)
def test_a_packet_is_its_addresses_share(balanced: Balanced, frame: bytes) -> None:
    """Source and destination of the IP header choose; fragments stay together; all unchanged."""
    assert balanced.put(count=NODES).deciders(IN, frame) == {2}


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
@pytest.mark.parametrize("options", [b"", bytes(8)], ids=["plain", "options"])
def test_an_icmp_error_follows_the_packet_in_it(balanced: Balanced, kind: int, options: bytes) -> None:
    """Whoever sent the packet that a router complains about gets the complaint, whichever router it is."""
    about = ipv4(ROUTER4, VIP4, ICMP, struct.pack("!BBHI", kind, 0, 0, 0) + SENT4, options=options)
    assert balanced.put(count=NODES).deciders(IN, ethernet(0x0800, about)) == {4}
    assert balanced.deciders(IN, ethernet(0x0800, about, PARENT_MAC, tags=PRIORITY_TAG)) == {4}


@pytest.mark.parametrize("kind", [0, 8, 9, 10, 13, 14])
def test_other_icmp_follows_its_own_addresses(balanced: Balanced, kind: int) -> None:
    """Only errors hold a packet."""
    assert balanced.put(count=NODES).deciders(IN, ethernet(0x0800, error(kind, ROUTER4, VIP4, SENT4))) == {2}


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 127])
def test_an_icmpv6_error_follows_the_packet_in_it(balanced: Balanced, kind: int) -> None:
    """As over IPv4; types below 128 are errors."""
    assert balanced.put(count=NODES).deciders(IN, ethernet(0x86DD, error(kind, ROUTER6, VIP6, SENT6))) == {4}


@pytest.mark.parametrize("kind", [133, 134, 135, 136, 137])
@pytest.mark.parametrize("to", [SHARED_MAC, PARENT_MAC], ids=["shared", "parent"])
def test_neighbour_discovery_is_for_every_host(balanced: Balanced, kind: int, to: bytes) -> None:
    """What it says about the link concerns all, open or not, unless it asks for a balanced address."""
    frame = ethernet(0x86DD, ipv6(CLIENT6, VIP6, ICMPV6, neighbour(kind, CLIENT6)), to)
    balanced.put(count=NODES)
    assert balanced.open().verdict(IN, frame) == PASS
    assert balanced.deciders(IN, frame) == EVERY


@pytest.mark.parametrize(("source", "destination"), [(CLIENT4, AWAY4), (CLIENT6, AWAY6)], ids=["IPv4", "IPv6"])
def test_what_a_gateway_forwards_is_split_too(balanced: Balanced, source: str, destination: str) -> None:
    """By the shared MAC come packets to anywhere; those to another MAC and another address are nobody's share."""
    balanced.put(count=NODES)
    for tags in ((), PRIORITY_TAG):
        frame = packet(source, destination, tags=tags)
        assert balanced.deciders(IN, frame) == {node_for(source, destination, NODES)}
    assert balanced.open().verdict(IN, packet(source, destination, PARENT_MAC)) == PASS


GROUPS = ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1", "ff0e::5"]


@pytest.mark.parametrize("group", GROUPS)
def test_groups_and_broadcast_reach_every_host(balanced: Balanced, group: str) -> None:
    """A layer-3 group passes untouched by whatever MAC it came, also while all is closed."""
    balanced.put(count=NODES)
    source = CLIENT6 if ":" in group else CLIENT4
    for to in (SHARED_MAC, PARENT_MAC):
        assert balanced.open().verdict(IN, packet(source, group, to)) == PASS


@pytest.mark.parametrize("last", ["223.255.255.255", "240.0.0.1", "fe80::5"])
def test_what_is_next_to_a_group_is_none(balanced: Balanced, last: str) -> None:
    """It is split."""
    source = CLIENT6 if ":" in last else CLIENT4
    assert balanced.put(count=NODES).deciders(IN, packet(source, last)) == {node_for(source, last, NODES)}


def test_advertisements_reach_every_host(balanced: Balanced) -> None:
    """Protocol 112 passes while all is closed: elections go on."""
    balanced.put(count=NODES).open()
    for to in (SHARED_MAC, PARENT_MAC):
        assert balanced.verdict(IN, ethernet(0x0800, ipv4(CLIENT4, VIP4, CARP), to)) == PASS
        assert balanced.verdict(IN, ethernet(0x86DD, ipv6(CLIENT6, VIP6, CARP), to)) == PASS


def test_a_frame_that_is_no_ip_comes_by_no_shared_mac(balanced: Balanced) -> None:
    """Nobody could say whose share it is: it drops; to another MAC it passes; ARP is everybody's."""
    balanced.put(count=NODES).all_but()
    assert balanced.verdict(IN, ethernet(0x88B5, bytes(60))) == DROP
    assert balanced.verdict(IN, ethernet(0x88B5, bytes(60), PARENT_MAC)) == PASS


def test_other_vlans_are_not_balanced(balanced: Balanced) -> None:
    """Their frames pass: the same addresses are others there."""
    balanced.put(count=NODES).open()
    assert balanced.verdict(IN, packet(ROUTER4, VIP4, tags=((0x8100, 7),))) == PASS
    assert balanced.verdict(IN, packet(ROUTER6, VIP6, tags=((0x88A8, 7),))) == PASS


def test_a_node_is_open_by_its_mask_and_its_deadline(balanced: Balanced) -> None:
    """Its bit is set and its slot's deadline lies in the future: nothing less opens it, and no other node's does."""
    frame = packet(ROUTER4, VIP4)
    balanced.put(count=NODES).open(2)
    assert balanced.verdict(IN, frame) == PASS
    balanced.deadline(FIRST_SLOT + 2, -1)
    assert balanced.verdict(IN, frame) == DROP
    balanced.fence.deadlines.close_slot(FIRST_SLOT + 2)
    assert balanced.verdict(IN, frame) == DROP
    balanced.deadline(FIRST_SLOT + 2)
    assert balanced.verdict(IN, frame) == PASS
    assert balanced.open().verdict(IN, frame) == DROP
    balanced.open(0, 1, 3, 4)
    assert balanced.verdict(IN, frame) == DROP


def test_a_plain_address_is_fenced_by_the_shared_mac_too(balanced: Balanced) -> None:
    """A packet to the address of a plain carp interface needs that one's fence open and its share of the balance."""
    frame = packet(CLIENT4, PLAIN4)
    balanced.put(count=NODES)
    assert balanced.deciders(IN, frame) == set()
    balanced.deadline(PLAIN_SLOT)
    assert balanced.deciders(IN, frame) == {node_for(CLIENT4, PLAIN4, NODES)}
    assert balanced.open().verdict(IN, packet(CLIENT4, PLAIN4, PARENT_MAC)) == PASS


def test_two_balances_on_one_parent(balanced: Balanced) -> None:
    """A packet by the MAC of one to an address of the other needs its share of both."""
    balanced.put(count=NODES)
    other = replace(balanced.balance, shared_mac=bytes.fromhex("01005e000109"), addresses=addresses(AWAY4))
    balanced.balancer.put(0, other)
    try:
        frame = packet(CLIENT4, AWAY4)
        node = node_for(CLIENT4, AWAY4, NODES)
        for mask, expected in ((0, set()), (1 << node, {node}), (0x1F ^ 1 << node, set())):
            balanced.balancer.set_mask(0, mask)
            assert balanced.deciders(IN, frame) == expected
    finally:
        balanced.balancer.remove(0)


def test_another_parent_is_not_balanced(balanced: Balanced) -> None:
    """The same address and MAC on another interface are others."""
    balanced.put(count=NODES, parent_ifindex=2).open()
    for frame in (packet(ROUTER4, VIP4), packet(ROUTER6, VIP6), packet(CLIENT4, AWAY4), ethernet(0x88B5, bytes(60))):
        assert balanced.verdict(IN, frame) == PASS


def test_each_packet_is_counted_where_it_was_decided(balanced: Balanced) -> None:
    """By node, kept and dropped, packets and bytes of the whole frame; what no node decides on is not counted."""
    balanced.put(count=NODES)
    frames = [packet(ROUTER4, VIP4), packet(ROUTER6, VIP6), packet(ROUTER4, VIP4, PARENT_MAC)]
    for node, times in ((2, 3), (4, 2)):
        balanced.open(node)
        for _ in range(times):
            for frame in frames:
                balanced.run(IN, frame)
    for frame in (packet(CLIENT4, "224.0.0.1"), ethernet(0x86DD, ipv6(CLIENT6, VIP6, ICMPV6, neighbour(136, CLIENT6)))):
        balanced.run(IN, frame)
    counts = balanced.counts()
    size = sum(map(len, frames))
    assert astuple(counts[2]) == (9, 3 * size, 6, 2 * size)
    assert all(astuple(one) == (0, 0, 0, 0) for node, one in enumerate(counts) if node != 2)


def test_truncated_packets_upset_nothing(balanced: Balanced) -> None:
    """Whatever is missing, there is a verdict."""
    balanced.put(count=NODES).all_but()
    for whole in (*OTHERS.values(), ethernet(0x86DD, error(1, ROUTER6, VIP6, SENT6), source=CLIENT_MAC)):
        for length in range(15, len(whole)):
            try:
                assert balanced.verdict(IN, whole[:length]) in (PASS, DROP)
            except OSError:
                continue  # newer kernels run no program over half a header


@pytest.mark.parametrize("destination", [VIP4, "203.0.113.9"], ids=["to the address", "through a gateway"])
def test_a_share_goes_on_to_the_parents_own_mac(balanced: Balanced, destination: str) -> None:
    """From the shared multicast one, of which the parent's macvlans would be given a copy each; what is no group's stays."""
    frame = ethernet(0x0800, ipv4(CLIENT4, destination, UDP), SHARED_MAC)
    assert balanced.put(count=1).open(0).run(IN, frame).packet == PARENT_MAC + frame[6:]
    stealthy = bytes((0,)) + SHARED_MAC[1:]
    frame = ethernet(0x0800, ipv4(CLIENT4, destination, UDP), stealthy)
    assert balanced.put(count=1, shared_mac=stealthy).open(0).run(IN, frame).packet == frame
