"""Making, changing and removing balances; the kernel's programs show what is in force."""

from collections.abc import Callable
from dataclasses import astuple, replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from bpf_balance_kit import (
    AWAY4,
    CLIENT4,
    CLIENT6,
    DROP,
    FIRST_SLOT,
    IN,
    INDEX,
    LOOPBACK,
    OUT,
    PARENT_MAC,
    PASS,
    PLAIN_SLOT,
    REDIRECT,
    VIP4,
    VIP6,
    Balanced,
    addresses,
    arp_frame,
    balanced,
    loaded,
    make_balance,
    node_mac,
    packet,
)

from carp.linux.bpf.balancer import BALANCES, Balance, BalancedNode, Decision
from carp.linux.bpf.fence import Fence, FenceUnavailable
from carp.protocol.balance import AskerHash

__all__ = ["balanced", "loaded"]

NEW4 = "192.0.2.77"
HASH = AskerHash(1, 2, 3)
TO_VIP = packet(CLIENT4, VIP4)
TO_NEW = packet(CLIENT4, NEW4, PARENT_MAC)


def split(**changes: Any) -> Balance:
    """Make a balance by packets, changed."""
    return make_balance(Decision.PACKETS, **changes)


def asked(**changes: Any) -> Balance:
    """Make a balance by askers' addresses, changed."""
    return make_balance(Decision.ASKER_ADDRESS, **changes)


def node(slot: int = 1, mac: bytes = node_mac(0), asker_hash: AskerHash = HASH) -> BalancedNode:
    """Make a node."""
    return BalancedNode(slot, mac, asker_hash)


WRONG: dict[str, tuple[Callable[[], Balance], str]] = {
    "no nodes": (lambda: split(nodes=()), "0 nodes are not 1..32"),
    "33 nodes": (lambda: split(count=33), "33 nodes are not 1..32"),
    "no interface": (lambda: split(parent_ifindex=0), "interface 0 is none"),
    "no shared MAC": (lambda: split(shared_mac=b""), "shared_mac: nothing is not 6 bytes long"),
    "long shared MAC": (lambda: split(shared_mac=bytes(7)), "shared_mac: 00:00:00:00:00:00:00 is not 6 bytes"),
    "no reply MAC": (lambda: split(reply_mac=b""), "reply_mac: nothing is not 6 bytes long"),
    "short node MAC": (lambda: split(nodes=(node(mac=bytes(5)),)), "mac of node 0: .* is not 6 bytes long"),
    "no node MAC": (lambda: asked(nodes=(node(), node(mac=b""))), "mac of node 1: nothing is not 6 bytes long"),
    "one MAC twice": (lambda: asked(nodes=(node(), node(2))), "two nodes have one MAC: 00:00:5e:00:01:01"),
    "shared MAC of askers": (lambda: asked(shared_mac=PARENT_MAC), "shared_mac 02:.* is only for PACKETS"),
    "slot": (lambda: split(nodes=(node(8192),)), r"slot 8192 is not in 0\.\.8191"),
    "negative slot": (lambda: split(nodes=(node(-1),)), r"slot -1 is not in 0\.\.8191"),
    "hash": (lambda: split(nodes=(node(asker_hash=AskerHash(0, 1 << 32, 0)),)), "hash word 0x100000000 is not of 32 bits"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_balance_is_refused_and_changes_nothing(balanced: Balanced, make: Callable[[], Balance], message: str) -> None:
    """The error names the value and what is allowed."""
    balanced.put().all_but()
    with pytest.raises(ValueError, match=message):
        balanced.balancer.put(INDEX, make())
    assert balanced.verdict(IN, TO_VIP) == PASS
    assert balanced.balancer.mask(INDEX) == 0b1111


@pytest.mark.parametrize("index", [-1, BALANCES])
def test_an_index_that_is_none_is_refused(balanced: Balanced, index: int) -> None:
    """By every call."""
    balancer = balanced.balancer
    for call in (
        lambda: balancer.put(index, split()),
        lambda: balancer.remove(index),
        lambda: balancer.set_mask(index, 0),
        lambda: balancer.mask(index),
        lambda: balancer.counts(index, 1),
    ):
        with pytest.raises(ValueError, match=rf"balance {index} is not in 0\.\.127"):
            call()


@pytest.mark.parametrize("mask", [-1, 1 << 32])
def test_a_mask_that_is_none_is_refused(balanced: Balanced, mask: int) -> None:
    """It has 32 bits."""
    balanced.put().open(1)
    with pytest.raises(ValueError, match=r"is not in 0\.\.0xffffffff"):
        balanced.balancer.set_mask(INDEX, mask)
    assert balanced.balancer.mask(INDEX) == 0b10


@pytest.mark.parametrize("nodes", [-1, 33])
def test_a_number_of_nodes_that_is_none_is_refused(balanced: Balanced, nodes: int) -> None:
    """There are counters for 32."""
    with pytest.raises(ValueError, match=r"nodes are not 0\.\.32"):
        balanced.balancer.counts(INDEX, nodes)


def test_the_first_and_the_last_balance_are_apart(balanced: Balanced) -> None:
    """Masks, addresses and counters of 0 and 127 do not touch each other."""
    balancer = balanced.balancer
    for index, vip in ((0, NEW4), (BALANCES - 1, AWAY4)):
        balancer.put(index, split(count=32, addresses=addresses(vip), shared_mac=bytes((1, 0, 0, 0, 0, index))))
    for slot in range(FIRST_SLOT, FIRST_SLOT + 32):
        balanced.deadline(slot)
    balancer.set_mask(BALANCES - 1, 0xFFFFFFFF)
    frames = [packet(CLIENT4, vip, PARENT_MAC) for vip in (NEW4, AWAY4)]
    assert [balanced.verdict(IN, frame) for frame in frames] == [DROP, PASS]
    assert (balancer.mask(0), balancer.mask(BALANCES - 1)) == (0, 0xFFFFFFFF)
    assert sum(one.dropped_packets for one in balancer.counts(0, 32)) == 1
    assert sum(one.kept_packets for one in balancer.counts(BALANCES - 1, 32)) == 1
    for index in (0, BALANCES - 1):
        balancer.remove(index)


def test_a_new_balance_is_closed(balanced: Balanced) -> None:
    """Whatever mask its index had before."""
    balanced.balancer.set_mask(INDEX, 0xF)
    balanced.balancer.put(INDEX, split())
    assert balanced.balancer.mask(INDEX) == 0
    assert balanced.verdict(IN, TO_VIP) == DROP


def test_addresses_can_be_exchanged(balanced: Balanced) -> None:
    """New ones are balanced, old ones are let go, mask and counters stay."""
    balanced.put().all_but()
    balanced.run(IN, TO_VIP)
    before = balanced.counts()
    assert balanced.open().verdict(IN, TO_NEW) == PASS
    balanced.all_but().balancer.put(INDEX, replace(balanced.balance, addresses=addresses(NEW4, VIP6)))
    assert balanced.balancer.mask(INDEX) == 0b1111
    assert balanced.counts() == before
    balanced.open()
    assert balanced.verdict(IN, TO_NEW) == DROP
    assert balanced.verdict(IN, packet(CLIENT6, VIP6, PARENT_MAC)) == DROP
    assert balanced.verdict(IN, packet(CLIENT4, VIP4, PARENT_MAC)) == PASS
    assert balanced.run(IN, arp_frame(bytes.fromhex("020000000009"), CLIENT4, VIP4)).verdict == PASS


def test_the_shared_mac_can_be_exchanged(balanced: Balanced) -> None:
    """The former one is nobody's any more, the parent may move too, and the mask stays."""
    balanced.put().open()
    other = bytes.fromhex("01005e000155")
    forwarded = [packet(CLIENT4, AWAY4, mac) for mac in (balanced.balance.shared_mac, other)]
    assert [balanced.verdict(IN, frame) for frame in forwarded] == [DROP, PASS]
    balanced.balancer.put(INDEX, replace(balanced.balance, shared_mac=other))
    assert [balanced.verdict(IN, frame) for frame in forwarded] == [PASS, DROP]
    balanced.balancer.put(INDEX, replace(balanced.balance, shared_mac=other, parent_ifindex=99))
    assert [balanced.verdict(IN, frame) for frame in (*forwarded, TO_VIP)] == [PASS, PASS, PASS]


def test_other_nodes_close_the_balance(balanced: Balanced) -> None:
    """The bits of the former ones do not open them, nor are their packets theirs."""
    balanced.put().all_but()
    balanced.run(IN, TO_VIP)
    balanced.balancer.put(INDEX, split(count=5))
    assert balanced.balancer.mask(INDEX) == 0
    assert balanced.verdict(IN, TO_VIP) == DROP
    counts = balanced.balancer.counts(INDEX, 5)
    assert (sum(one.kept_packets for one in counts), sum(one.dropped_packets for one in counts)) == (0, 1)


def test_another_key_or_mac_of_the_same_nodes_keeps_them_open(balanced: Balanced) -> None:
    """Nodes are told by their slots."""
    balanced.put(Decision.ASKER_ADDRESS).all_but()
    nodes = tuple(replace(one, hash=HASH, mac=bytes.fromhex("0200000001") + one.mac[-1:]) for one in balanced.balance.nodes)
    balanced.balancer.put(INDEX, replace(balanced.balance, nodes=nodes))
    assert balanced.balancer.mask(INDEX) == 0b1111
    done = balanced.run(IN, arp_frame(bytes.fromhex("020000000009"), CLIENT4, VIP4))
    assert (done.verdict, done.packet[6:12]) == (REDIRECT, nodes[1].mac)
    assert balanced.open().verdict(IN, packet(CLIENT4, AWAY4, node_mac(1))) == PASS


def test_changing_again_and_again_changes_every_time(balanced: Balanced) -> None:
    """Each put is in force at once."""
    balanced.put(Decision.ASKER_ADDRESS).all_but()
    for step in range(5):
        macs = [bytes((2, 0, 0, 0, step, number)) for number in range(4)]
        nodes = tuple(replace(one, mac=mac) for one, mac in zip(balanced.balance.nodes, macs, strict=True))
        balanced.balancer.put(INDEX, replace(balanced.balance, nodes=nodes))
        assert balanced.run(IN, arp_frame(bytes.fromhex("020000000009"), CLIENT4, VIP4)).packet[6:12] == macs[1]


@pytest.mark.parametrize("other_nodes", [False, True], ids=["same nodes", "other nodes"])
def test_packets_follow_the_former_balance_until_the_new_one_is_there(
    balanced: Balanced, monkeypatch: pytest.MonkeyPatch, other_nodes: bool
) -> None:
    """Half of a change is never in force: they are answered as before, or, where the nodes change, not at all."""
    balanced.put(Decision.FIRST).open(0)
    question = arp_frame(bytes.fromhex("020000000009"), CLIENT4, VIP4)
    balances, answered = balanced.balancer._balances_map, []
    write = balances.update

    def spy(key: bytes, value: bytes) -> None:
        write(key, value)
        done = balanced.run(IN, question)
        answered.append(done.packet[6:12] if done.verdict == REDIRECT else None)

    monkeypatch.setattr(balances, "update", spy)
    new = (node(FIRST_SLOT + other_nodes, mac=PARENT_MAC), *balanced.balance.nodes[1:])
    balanced.balancer.put(INDEX, replace(balanced.balance, nodes=new))
    assert answered == [None if other_nodes else node_mac(0)]
    assert balanced.open(0).run(IN, question).packet[6:12] == PARENT_MAC


def test_removing_leaves_nothing(balanced: Balanced) -> None:
    """Addresses, MACs, mask and counters are gone; again is no error."""
    balanced.put().all_but()
    balanced.run(IN, TO_VIP)
    for _ in range(2):
        balanced.balancer.remove(INDEX)
        assert balanced.balancer.mask(INDEX) == 0
        assert {astuple(one) for one in balanced.balancer.counts(INDEX, 32)} == {(0, 0, 0, 0)}
        for frame in (TO_VIP, packet(CLIENT4, AWAY4), packet(CLIENT6, VIP6)):
            assert balanced.verdict(IN, frame) == PASS
        assert balanced.verdict(OUT, packet(VIP4, CLIENT4)) == PASS


def test_the_others_go_on_when_one_is_removed(balanced: Balanced) -> None:
    """The number of balances is right: what is left is still answered for."""
    balanced.put().all_but()
    balanced.balancer.put(0, split(addresses=addresses(NEW4), shared_mac=bytes.fromhex("01005e000109")))
    balanced.balancer.remove(0)
    assert balanced.run(IN, arp_frame(bytes.fromhex("020000000009"), CLIENT4, VIP4)).verdict == REDIRECT


def test_set_vips_and_balances_share_the_addresses(balanced: Balanced) -> None:
    """A balanced address is its balance's, whoever came first, and its carp interface's when the balance ends."""
    fence, vip = balanced.fence, ip_address(VIP4)
    slot = PLAIN_SLOT + 1
    to_parent = packet(CLIENT4, VIP4, PARENT_MAC)
    fence.set_vips(LOOPBACK, slot, [vip])
    balanced.put().all_but()
    assert balanced.verdict(IN, to_parent) == PASS
    fence.set_vips(LOOPBACK, slot, [])
    fence.set_vips(LOOPBACK, slot, [vip])
    assert balanced.verdict(IN, to_parent) == PASS
    balanced.balancer.remove(INDEX)
    assert balanced.verdict(IN, to_parent) == DROP
    balanced.deadline(slot)
    assert balanced.verdict(IN, to_parent) == PASS
    fence.deadlines.close_slot(slot)
    fence.set_vips(LOOPBACK, slot, [])
    assert balanced.verdict(IN, to_parent) == PASS


def test_what_two_balances_name_is_the_newer_ones(balanced: Balanced) -> None:
    """Of an address or MAC that moves, either may be told first."""
    balancer = balanced.balancer
    balanced.put(Decision.FIRST)
    balancer.put(0, make_balance(Decision.FIRST, 1))  # the same first node and addresses
    frame = packet(CLIENT4, VIP4, node_mac(0))
    balanced.open(0)
    assert balanced.verdict(IN, frame) == DROP
    balancer.set_mask(0, 1)
    assert balanced.open().verdict(IN, frame) == PASS
    balancer.remove(0)
    assert balanced.verdict(IN, frame) == DROP
    assert balanced.open(0).verdict(IN, frame) == PASS


def test_too_many_addresses_are_refused() -> None:
    """A new balance leaves nothing behind; of a former one the addresses stay balanced."""
    fence = Fence.load()
    first = int(IPv4Address("10.0.0.0"))
    full = tuple(IPv4Address(first + number) for number in range(65537))
    try:
        with pytest.raises(FenceUnavailable, match="takes no more entries"):
            fence.balancer.put(0, split(addresses=full))
        fence.set_vips(1, 0, full[:65535])
        fence.balancer.put(0, split(addresses=addresses(VIP4)))
        with pytest.raises(FenceUnavailable, match="takes no more entries"):
            fence.balancer.put(0, split(addresses=addresses(VIP4, VIP6)))
        assert fence.test_run(IN, TO_VIP).verdict == DROP
    finally:
        fence.close()


def test_a_closed_fence_balances_nothing() -> None:
    """The memory is gone; a late call fails loudly instead of writing anywhere."""
    fence = Fence.load()
    fence.close()
    with pytest.raises(ValueError, match="released"):
        fence.balancer.set_mask(0, 1)
