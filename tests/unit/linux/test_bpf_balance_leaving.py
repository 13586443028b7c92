"""What leaves from an address that packets' addresses balance: this host's share, and no MAC but the shared one."""

import pytest
from bpf_balance_kit import (
    CARP,
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DROP,
    FIRST_SLOT,
    ICMP,
    ICMPV6,
    OUT,
    PARENT_MAC,
    PASS,
    PLAIN4,
    PLAIN_SLOT,
    PRIORITY_TAG,
    SHARED_MAC,
    UDP,
    VIP4,
    VIP6,
    Balanced,
    arp,
    balanced,
    error,
    ethernet,
    ipv4,
    ipv6,
    link_layer,
    loaded,
    neighbour,
    peer_of,
)

from carp.linux.bpf.balancer import Decision

__all__ = ["balanced", "loaded"]

NODES = 5
EVERY = set(range(NODES))
PEER4, PEER6 = peer_of(3, VIP4, NODES), peer_of(3, VIP6, NODES)
GROUP6 = "ff02::1:ff00:9"


def leaving(kind: int, payload: bytes, **options: object) -> bytes:
    """Return a frame of the parent."""
    return ethernet(kind, payload, CLIENT_MAC, source=PARENT_MAC, **options)  # type: ignore[arg-type]


def leaving_arp(mac: bytes, operation: int, sender: str = VIP4, **options: object) -> bytes:
    """Return an ARP packet of a balanced address."""
    return leaving(0x0806, arp(mac, sender, CLIENT4, operation), **options)


def discovery(kind: int, options: bytes, source: str = VIP6) -> bytes:
    """Return a message of neighbour discovery about a client, from a balanced address."""
    return leaving(0x86DD, ipv6(source, GROUP6, ICMPV6, neighbour(kind, CLIENT6, options)))


def claim(options: bytes, source: str = VIP6, destination: str = CLIENT6) -> bytes:
    """Return a neighbour advertisement of a balanced address."""
    return leaving(0x86DD, ipv6(source, destination, ICMPV6, neighbour(136, VIP6, options)))


SHARE = {
    "UDP": leaving(0x0800, ipv4(VIP4, PEER4)),
    "UDP over IPv6": leaving(0x86DD, ipv6(VIP6, PEER6)),
    "fragment": leaving(0x0800, ipv4(VIP4, PEER4, fragment=100)),
    "echo reply": leaving(0x0800, ipv4(VIP4, PEER4, ICMP, bytes(16))),
    "echo reply over IPv6": leaving(0x86DD, ipv6(VIP6, PEER6, ICMPV6, bytes((129,)) + bytes(15))),
    "with a priority tag": leaving(0x0800, ipv4(VIP4, PEER4), tags=PRIORITY_TAG),
    "with a priority tag over IPv6": leaving(0x86DD, ipv6(VIP6, PEER6), tags=PRIORITY_TAG),
}
INNER4, INNER6 = ipv4(PEER4, VIP4), ipv6(PEER6, VIP6)
ANY = {
    "unreachable": leaving(0x0800, error(3, VIP4, PEER4, INNER4)),
    "redirect": leaving(0x0800, error(5, VIP4, PEER4, INNER4)),
    "time exceeded": leaving(0x0800, error(11, VIP4, PEER4, INNER4)),
    "unreachable over IPv6": leaving(0x86DD, error(1, VIP6, PEER6, INNER6)),
    "too big over IPv6": leaving(0x86DD, error(2, VIP6, PEER6, INNER6)),
    "router solicitation without options": leaving(0x86DD, ipv6(VIP6, "ff02::2", ICMPV6, bytes((133,)) + bytes(7))),
    "solicitation without options": discovery(135, b""),
    "advertisement of another address": leaving(0x86DD, ipv6(VIP6, CLIENT6, ICMPV6, neighbour(136, CLIENT6))),
    "ARP request with the shared MAC": leaving_arp(SHARED_MAC, 1),
}


@pytest.mark.parametrize("frame", SHARE.values(), ids=SHARE)
def test_the_two_directions_of_a_flow_have_one_node(balanced: Balanced, frame: bytes) -> None:
    """What leaves is split as what arrives."""
    assert balanced.put(count=NODES).deciders(OUT, frame) == {3}


@pytest.mark.parametrize("frame", ANY.values(), ids=ANY)
def test_errors_and_discovery_leave_from_any_host_that_serves(balanced: Balanced, frame: bytes) -> None:
    """One open node will do, and none is too few; its deadline counts too."""
    balanced.put(count=NODES)
    assert balanced.open().verdict(OUT, frame) == DROP
    assert balanced.deciders(OUT, frame) == EVERY
    balanced.open(4)
    balanced.deadline(FIRST_SLOT + 4, -1)
    assert balanced.verdict(OUT, frame) == DROP


def test_advertisements_leave_while_closed(balanced: Balanced) -> None:
    """Protocol 112 from a balanced address passes."""
    balanced.put(count=NODES).open()
    assert balanced.verdict(OUT, leaving(0x0800, ipv4(VIP4, "224.0.0.18", CARP))) == PASS
    assert balanced.verdict(OUT, leaving(0x86DD, ipv6(VIP6, "ff02::12", CARP))) == PASS


def test_what_is_not_from_a_balanced_address_leaves(balanced: Balanced) -> None:
    """Own addresses are untouched; a plain virtual address keeps its own fence."""
    balanced.put(count=NODES).open()
    for frame in (
        leaving(0x0800, ipv4(CLIENT4, VIP4)),
        leaving(0x86DD, ipv6(CLIENT6, VIP6)),
        leaving_arp(PARENT_MAC, 1, CLIENT4),
        leaving(0x86DD, ipv6("fe80::1", GROUP6, ICMPV6, neighbour(135, VIP6, link_layer(1, PARENT_MAC)))),
        leaving(0x0800, ipv4(VIP4, PEER4), tags=((0x8100, 7),)),
    ):
        assert balanced.verdict(OUT, frame) == PASS
    plain = leaving(0x0800, ipv4(PLAIN4, PEER4, UDP))
    assert balanced.all_but().verdict(OUT, plain) == DROP
    balanced.deadline(PLAIN_SLOT)
    assert balanced.verdict(OUT, plain) == PASS


@pytest.mark.parametrize("tags", [(), PRIORITY_TAG], ids=["untagged", "priority"])
def test_an_arp_request_gives_the_shared_mac(balanced: Balanced, tags: tuple[tuple[int, int], ...]) -> None:
    """A kernel without an address of its own asks from the shared one; nobody learns the parent's MAC for it."""
    balanced.put(count=NODES)
    frame = leaving_arp(PARENT_MAC, 1, tags=tags)
    assert balanced.open().verdict(OUT, frame) == DROP
    done = balanced.open(4).run(OUT, frame)
    assert (done.verdict, done.packet) == (PASS, leaving_arp(SHARED_MAC, 1, tags=tags))


def test_an_arp_request_gives_the_mac_of_an_open_node(balanced: Balanced) -> None:
    """Where each node has a MAC of its own and no macvlan has it; the first one that is open here."""
    balanced.put(Decision.ASKER_MAC, NODES, delivers=True)
    frame = leaving_arp(PARENT_MAC, 1)
    assert balanced.open().verdict(OUT, frame) == DROP
    done = balanced.open(2, 4).run(OUT, frame)
    assert (done.verdict, done.packet) == (PASS, leaving_arp(balanced.balance.nodes[2].mac, 1))
    assert balanced.verdict(OUT, leaving_arp(PARENT_MAC, 2)) == DROP
    balanced.put(Decision.ASKER_MAC, NODES, delivers=False).open(2)
    assert balanced.verdict(OUT, frame) == DROP


def test_an_arp_reply_is_the_leaders_with_the_shared_mac(balanced: Balanced) -> None:
    """Of the kernel's own answers none leaves."""
    balanced.put(count=NODES)
    assert balanced.deciders(OUT, leaving_arp(SHARED_MAC, 2)) == {0}
    assert balanced.deciders(OUT, leaving_arp(PARENT_MAC, 2)) == set()


@pytest.mark.parametrize("source", [VIP6, "fe80::1"])
@pytest.mark.parametrize("destination", [CLIENT6, "ff02::1"])
def test_a_neighbour_advertisement_is_the_leaders_with_the_shared_mac(
    balanced: Balanced, source: str, destination: str
) -> None:
    """Of the kernel's own answers none leaves, whatever source they have, nor one that gives no MAC."""
    balanced.put(count=NODES)
    assert balanced.deciders(OUT, claim(link_layer(2, SHARED_MAC), source, destination)) == {0}
    for options in (b"", link_layer(2, PARENT_MAC), link_layer(1, SHARED_MAC), link_layer(2, SHARED_MAC)[:7], bytes(8)):
        assert balanced.deciders(OUT, claim(options, source, destination)) == set()


@pytest.mark.parametrize(("kind", "head_bytes"), [(133, 8), (134, 16), (135, 24)])
def test_a_solicitation_does_not_give_the_parents_mac(balanced: Balanced, kind: int, head_bytes: int) -> None:
    """From a balanced address it may give the shared MAC, where the leader is, or none."""
    balanced.put(count=NODES)
    head = bytes((kind,)) + bytes(head_bytes - 1)
    for options, expected in (
        (link_layer(1, PARENT_MAC), set()),
        (link_layer(1, SHARED_MAC), {0}),
        (link_layer(1, SHARED_MAC)[:7], set()),
        (link_layer(2, PARENT_MAC), EVERY),
        (b"", EVERY),
    ):
        assert balanced.deciders(OUT, leaving(0x86DD, ipv6(VIP6, GROUP6, ICMPV6, head + options))) == expected


def test_nothing_that_leaves_is_counted(balanced: Balanced) -> None:
    """The counters are of what comes in."""
    balanced.put(count=NODES).open(1)
    for frame in SHARE.values():
        balanced.run(OUT, frame)
    assert {one.kept_packets + one.dropped_packets for one in balanced.counts()} == {0}
