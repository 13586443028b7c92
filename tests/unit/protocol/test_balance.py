"""Who takes a packet and who answers an asker: every vector that BSD code made, and the rules behind them."""

import json
import random
from ipaddress import ip_address
from pathlib import Path

import pytest

from carp.protocol.auth import Key, key_from_passphrase
from carp.protocol.balance import AskerHash, asker_by_address, node_of

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bsd-derived.json").read_text())
BY_ADDRESS = [one for one in VECTORS["arpbalance"] if "src_ip" in one]
BY_MAC = [one for one in VECTORS["arpbalance"] if "src_mac" in one]
SEED = 7


def test_packets_go_to_openbsds_slot() -> None:
    """Every vector of carp_lsdrop, IPv4 and IPv6, 1..32 nodes."""
    for vector in VECTORS["lsdrop"]:
        source, destination = (ip_address(vector[end]).packed for end in ("src", "dst"))
        assert node_of(source, destination, vector["lscount"]) == vector["slot"], vector
    assert {one["af"] for one in VECTORS["lsdrop"]} == {4, 6}


def test_askers_go_to_freebsds_index_of_their_address() -> None:
    """Every vector of FreeBSD and DragonFly."""
    for vector in BY_ADDRESS:
        assert asker_by_address(ip_address(vector["src_ip"]).packed, vector["count"]) == vector["index"], vector
    assert len(BY_ADDRESS) == 152


def test_askers_go_to_netbsds_hash_of_their_mac() -> None:
    """Every vector of NetBSD and OpenBSD: the hash itself, and the index for each count."""
    for vector in BY_MAC:
        prepared = AskerHash.prepare(Key(bytes.fromhex(vector["key_hex"])))
        mac = bytes.fromhex(vector["src_mac"].replace(":", ""))
        assert prepared.hash(mac) == vector["hash"], vector
        for count, index in vector["index_by_count"].items():
            assert prepared.choose(mac, int(count)) == index, vector
    assert len(BY_MAC) == 48


@pytest.mark.parametrize("size", [4, 16])
def test_both_directions_of_a_flow_have_one_node(size: int) -> None:
    """Source and destination may be exchanged."""
    source = random.Random(SEED)
    for count in range(1, 33):
        one, other = source.randbytes(size), source.randbytes(size)
        assert node_of(one, other, count) == node_of(other, one, count)


@pytest.mark.parametrize("size", [4, 16])
def test_a_node_is_one_of_the_nodes_and_all_are_used(size: int) -> None:
    """Flows spread over every node of any number."""
    source = random.Random(SEED)
    for count in range(1, 33):
        peers = [source.randbytes(size) for _ in range(40 * count)]
        assert {node_of(peer, bytes(size), count) for peer in peers} == set(range(count))
        assert {asker_by_address(peer, count) for peer in peers} == set(range(count))


def test_an_ipv6_asker_is_folded() -> None:
    """Its four words by XOR, modulo the count; one without an address has node 0."""
    assert asker_by_address(ip_address("2001:db8::5").packed, 1000) == (0x20010DB8 ^ 5) % 1000
    assert asker_by_address(bytes(16), 32) == 0


def test_hosts_with_one_key_agree() -> None:
    """The hash depends on the key and the MAC alone, on every bit of the MAC."""
    key = key_from_passphrase("secret")
    mac = bytes.fromhex("0200c0ffee01")
    hashed = AskerHash.prepare(key).hash(mac)
    assert AskerHash.prepare(key) == AskerHash.prepare(key)
    assert AskerHash.prepare(key_from_passphrase("secrets")).hash(mac) != hashed
    flipped = {AskerHash.prepare(key).hash((int.from_bytes(mac, "big") ^ 1 << bit).to_bytes(6, "big")) for bit in range(48)}
    assert len(flipped | {hashed}) == 49
