"""The kernel's programs choose as the BSDs and as `carp.protocol.balance` do: vectors of the BSDs, and random flows."""

import json
import random
from ipaddress import ip_address
from pathlib import Path

import pytest
from bpf_balance_kit import (
    CLIENT4,
    DROP,
    FIRST_SLOT,
    IN,
    INDEX,
    OUT,
    PASS,
    REDIRECT,
    VIP4,
    VIP6,
    Balanced,
    arp_frame,
    balanced,
    link_layer,
    loaded,
    make_balance,
    node_mac,
    packet,
    peer_of,
    same_hash,
    solicitation,
)

from carp.linux.bpf.balancer import Decision
from carp.protocol.auth import Key
from carp.protocol.balance import AskerHash, asker_by_address, node_of

__all__ = ["balanced", "loaded"]

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bsd-derived.json").read_text())
LSDROP = VECTORS["lsdrop"]
BY_ADDRESS = [one for one in VECTORS["arpbalance"] if "src_ip" in one]
BY_MAC = [one for one in VECTORS["arpbalance"] if "src_mac" in one]
PAIRS = 100_000
IS_GROUP = 0x01


def answerer(frame: bytes) -> bytes:
    """Return the MAC that an ARP reply gives."""
    return frame[22:28]


@pytest.mark.parametrize("count", sorted({one["lscount"] for one in LSDROP}))
@pytest.mark.parametrize("program", [IN, OUT])
def test_a_packet_is_the_share_of_openbsds_slot(balanced: Balanced, program: str, count: int) -> None:
    """It passes with that node alone, and drops with all the others; the address may be on either side."""
    for vector in (one for one in LSDROP if one["lscount"] == count):
        source, destination = vector["src"], vector["dst"]
        if program == IN and ip_address(destination).is_multicast:
            source, destination = destination, source  # packets to a group are everybody's
        address = destination if program == IN else source
        balanced.put(count=count, addresses=(ip_address(address),))
        frame = packet(source, destination)
        assert balanced.open(vector["slot"]).verdict(program, frame) == PASS, vector
        assert balanced.all_but(vector["slot"]).verdict(program, frame) == DROP, vector


@pytest.mark.parametrize("count", sorted({one["count"] for one in BY_ADDRESS}))
def test_an_asker_is_answered_by_freebsds_index_of_its_address(balanced: Balanced, count: int) -> None:
    """The node with that index answers, with its MAC; no other one does."""
    balanced.put(Decision.ASKER_ADDRESS, count)
    for vector in (one for one in BY_ADDRESS if one["count"] == count):
        frame = arp_frame(bytes.fromhex("020000000009"), vector["src_ip"], VIP4)
        done = balanced.all_but().run(IN, frame)
        assert (done.verdict, answerer(done.packet)) == (REDIRECT, node_mac(vector["index"])), vector
        assert balanced.all_but(vector["index"]).verdict(IN, frame) == DROP, vector


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 16])
def test_an_asker_is_answered_by_netbsds_hash_of_its_mac(balanced: Balanced, count: int) -> None:
    """The node whose index the hash gives answers, ARP and ND; a MAC that can be no host's is not answered."""
    answered = 0
    for vector in BY_MAC:
        mac = bytes.fromhex(vector["src_mac"].replace(":", ""))
        index = vector["index_by_count"][str(count)]
        asker_hash = AskerHash.prepare(Key(bytes.fromhex(vector["key_hex"])))
        balanced.put(Decision.ASKER_MAC, count, nodes=same_hash(make_balance(Decision.ASKER_MAC, count), asker_hash).nodes)
        for frame in (arp_frame(mac, CLIENT4, VIP4), solicitation(VIP6, link_layer(1, mac))):
            done = balanced.all_but().run(IN, frame)
            if mac[0] & IS_GROUP or not any(mac):
                assert done.verdict == DROP
                continue
            answered += 1
            assert (done.verdict, done.packet[6:12]) == (REDIRECT, node_mac(index)), vector
            assert balanced.all_but(index).verdict(IN, frame) == DROP, vector
    assert answered > len(BY_MAC)


@pytest.mark.parametrize("family", [4, 6])
def test_kernel_and_python_agree_on_random_pairs(balanced: Balanced, family: int) -> None:
    """Half of 100,000 pairs of addresses of each family, over 1..32 nodes: the packet passes exactly with that node."""
    source = random.Random(family)
    size = 4 if family == 4 else 16
    kind = b"\x08\x00E" + bytes(8) + b"\x11\0\0" if family == 4 else b"\x86\xdd`" + bytes(5) + b"\x11\x40"
    head = balanced.balance.shared_mac + bytes.fromhex("020000000009") + kind
    set_mask, run = balanced.balancer.set_mask, balanced.fence.test_run
    for count in range(1, 33):
        balanced.put(count=count)
        every = (1 << count) - 1
        for _ in range(PAIRS // 64):
            pair = source.randbytes(2 * size)
            if pair[size] >= 224:  # no group: those have no node
                pair = pair[:size] + b"\x40" + pair[size + 1 :]
            bit = 1 << node_of(pair[:size], pair[size:], count)
            opens = source.random() < 0.75
            set_mask(INDEX, bit if opens else every ^ bit)
            assert run(IN, head + pair + bytes(8)).verdict == (PASS if opens else DROP), (count, pair.hex())


def test_kernel_and_python_agree_on_random_askers(balanced: Balanced) -> None:
    """Of nodes with keys of their own each answers those who belong to it by its own hash, the first one of several."""
    source = random.Random(9)
    for count in (1, 2, 3, 5, 8, 13, 31, 32):
        balanced.put(Decision.ASKER_MAC, count)
        answered = 0
        for _ in range(200):
            mac = bytes((source.randrange(128) * 2,)) + source.randbytes(5)
            mask = source.randrange(1 << count)
            balanced.balancer.set_mask(INDEX, mask)
            nodes = enumerate(balanced.balance.nodes)
            expected = [number for number, node in nodes if node.hash.choose(mac, count) == number and mask >> number & 1]
            done = balanced.run(IN, arp_frame(mac, CLIENT4, VIP4))
            assert done.verdict == (REDIRECT if expected else DROP)
            if expected:
                answered += 1
                assert answerer(done.packet) == node_mac(expected[0])
        assert answered or count == 1


def test_askers_over_ipv6_by_their_address(balanced: Balanced) -> None:
    """Their addresses are folded as those of packets are."""
    source = random.Random(6)
    balanced.put(Decision.ASKER_ADDRESS, 11)
    for _ in range(200):
        asker = ip_address(b"\x20" + source.randbytes(15))
        expected = asker_by_address(asker.packed, 11)
        frame = solicitation(source=str(asker))
        assert balanced.all_but().run(IN, frame).packet[6:12] == node_mac(expected)
        assert balanced.all_but(expected).verdict(IN, frame) == DROP


def test_the_slots_of_the_nodes_are_used(balanced: Balanced) -> None:
    """A node follows its own slot's deadline, wherever that slot is."""
    assert balanced.put(count=32).balance.nodes[31].slot == FIRST_SLOT + 31
    for node in (0, 17, 31):
        frame = packet(peer_of(node, VIP4, 32), VIP4)
        assert balanced.all_but().verdict(IN, frame) == PASS
        balanced.fence.deadlines.close_slot(FIRST_SLOT + node)
        assert balanced.verdict(IN, frame) == DROP
        balanced.deadline(FIRST_SLOT + node)
