"""Frames, and a balance over which the kernel runs them (BPF_PROG_TEST_RUN); nothing is attached anywhere.

The kernel lends the loopback interface (index 1), which plays the parent.
"""

import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from carp.linux.bpf.balancer import Balance, BalancedNode, Decision, NodeCount
from carp.linux.bpf.fence import Fence
from carp.linux.bpf.libbpf import TestRun
from carp.protocol.balance import AskerHash, node_of
from carp.protocol.values import Address, Instant, multicast_mac, virtual_mac

PASS, DROP, REDIRECT = -1, 2, 7
IN, OUT = "carp_parent_in", "carp_parent_out"
LOOPBACK = 1
INDEX = 7
PLAIN_SLOT = 200
FIRST_SLOT = 100
VIP4, VIP6 = "192.0.2.100", "2001:db8::100"
PLAIN4, PLAIN6 = "192.0.2.55", "2001:db8::55"
CLIENT4, CLIENT6 = "192.0.2.9", "2001:db8::9"
AWAY4, AWAY6 = "198.51.100.77", "2001:db8:9::77"
CLIENT_MAC = bytes.fromhex("020000000009")
PARENT_MAC = bytes.fromhex("020000000001")
SHARED_MAC = multicast_mac(1)
UDP, TCP, CARP, ICMP, ICMPV6, FRAGMENT = 17, 6, 112, 1, 58, 44
ARP_KIND = (1, 0x0800, 6, 4)
PRIORITY_TAG = ((0x8100, 0xE000),)
SECOND_NS = 10**9


def boottime() -> int:
    """Return the fence's clock in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def ethernet(
    kind: int, payload: bytes, to: bytes = SHARED_MAC, *, source: bytes = CLIENT_MAC, tags: tuple[tuple[int, int], ...] = ()
) -> bytes:
    """Return a frame; tags are pairs of EtherType and tag control information."""
    tagged = b"".join(struct.pack("!HH", tag, tci) for tag, tci in tags)
    return to + source + tagged + struct.pack("!H", kind) + payload


def ipv4(
    source: str, destination: str, protocol: int = UDP, payload: bytes = bytes(8), *, fragment: int = 0, options: bytes = b""
) -> bytes:
    """Return an IPv4 packet; `fragment` is the field with flags and offset."""
    length = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | length // 4, 0, length + len(payload), 1, fragment, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + options + payload


def ipv6(source: str, destination: str, following: int = UDP, payload: bytes = bytes(8), hop_limit: int = 255) -> bytes:
    """Return an IPv6 packet."""
    head = struct.pack("!IHBB", 0x60000000, len(payload), following, hop_limit)
    return head + ip_address(source).packed + ip_address(destination).packed + payload


def packet(source: str, destination: str, to: bytes = SHARED_MAC, **options: object) -> bytes:
    """Return a UDP packet of either family in a frame."""
    kind, build = (0x86DD, ipv6) if ":" in source else (0x0800, ipv4)
    return ethernet(kind, build(source, destination), to, **options)  # type: ignore[operator, arg-type]


def error(kind: int, source: str, destination: str, inner: bytes) -> bytes:
    """Return an ICMP error of a family about a packet that was sent to somebody else."""
    if ":" in source:
        return ipv6(source, destination, ICMPV6, struct.pack("!BBHI", kind, 0, 0, 0) + inner)
    return ipv4(source, destination, ICMP, struct.pack("!BBHI", kind, 0, 0, 0) + inner)


def arp(sender_mac: bytes, sender: str, target: str, operation: int = 1, kind: tuple[int, int, int, int] = ARP_KIND) -> bytes:
    """Return an ARP packet; `kind` is hardware type, protocol type and both address lengths."""
    head = struct.pack("!HHBBH", *kind, operation)
    return head + sender_mac + ip_address(sender).packed + bytes(6) + ip_address(target).packed


def arp_frame(*arguments: object, to: bytes = b"\xff" * 6, **options: object) -> bytes:
    """Return an ARP packet in a frame."""
    return ethernet(0x0806, arp(*arguments, **options), to)  # type: ignore[arg-type]


def link_layer(kind: int, mac: bytes) -> bytes:
    """Return a source (1) or target (2) link-layer option."""
    return bytes((kind, 1)) + mac


def neighbour(kind: int, target: str, options: bytes = b"", code: int = 0) -> bytes:
    """Return a neighbour solicitation (135) or advertisement (136), without checksum."""
    return struct.pack("!BBHI", kind, code, 0, 0) + ip_address(target).packed + options


def solicitation(
    target: str = VIP6, options: bytes = link_layer(1, CLIENT_MAC), *, source: str = CLIENT6, **fields: int
) -> bytes:
    """Return a solicitation in a frame to the target's group."""
    message = neighbour(135, target, options, fields.get("code", 0))
    group = "ff02::1:ff" + ip_address(target).exploded[-7:]
    to = b"\x33\x33" + ip_address(group).packed[-4:]
    return ethernet(0x86DD, ipv6(source, group, ICMPV6, message, fields.get("hop_limit", 255)), to)


def node_for(source: str, destination: str, count: int) -> int:
    """Return whose share a packet is."""
    return node_of(ip_address(source).packed, ip_address(destination).packed, count)


def peer_of(node: int, vip: str, count: int, network: str = "") -> str:
    """Find an address whose packets to a virtual address are a node's share."""
    first = int(ip_address(network or ("2001:db8:5::1" if ":" in vip else "203.0.113.1")))
    wide = ip_address(vip).max_prefixlen
    candidates = (str(ip_address((first + step).to_bytes(wide // 8, "big"))) for step in range(4 * count + 64))
    return next(one for one in candidates if node_for(one, vip, count) == node)


def node_mac(number: int) -> bytes:
    """Return the MAC of a node, by its index."""
    return virtual_mac(number + 1)


class Balanced:
    """A balance of a fence whose nodes a test opens; 4 nodes unless told."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self.balancer = fence.balancer
        self.balance = make_balance(Decision.PACKETS)

    def put(self, decision: Decision = Decision.PACKETS, count: int = 4, **changes: object) -> "Balanced":
        """Make the balance, all nodes closed by their mask, all deadlines in the future."""
        self.balancer.remove(INDEX)
        self.balance = make_balance(decision, count, **changes)
        self.balancer.put(INDEX, self.balance)
        for node in self.balance.nodes:
            self.deadline(node.slot)
        return self

    def deadline(self, slot: int, for_ns: int = 1000 * SECOND_NS) -> None:
        """Move the deadline of a slot that far from now."""
        self.fence.deadlines.extend(slot, Instant(boottime() + for_ns))

    def open(self, *nodes: int) -> "Balanced":
        """Open exactly these nodes."""
        self.balancer.set_mask(INDEX, sum(1 << node for node in nodes))
        return self

    def all_but(self, *nodes: int) -> "Balanced":
        """Open all other nodes."""
        return self.open(*(set(range(len(self.balance.nodes))) - set(nodes)))

    def run(self, program: str, frame: bytes) -> TestRun:
        """Run a program over a frame."""
        return self.fence.test_run(program, frame)

    def verdict(self, program: str, frame: bytes) -> int:
        """Return the verdict on a frame that is let alone."""
        done = self.run(program, frame)
        # A share that came to the shared multicast MAC goes on to the parent's own.
        changed = {frame, PARENT_MAC + frame[len(PARENT_MAC) :]} if frame.startswith(SHARED_MAC) and program == IN else {frame}
        assert done.packet in changed
        return done.verdict

    def deciders(self, program: str, frame: bytes) -> set[int]:
        """Find the nodes on each of which alone a frame passes; none may change it."""
        nodes = range(len(self.balance.nodes))
        return {node for node in nodes if self.open(node).verdict(program, frame) == PASS}

    def counts(self) -> tuple[NodeCount, ...]:
        """Return the counters of all nodes."""
        return self.balancer.counts(INDEX, len(self.balance.nodes))


def make_balance(decision: Decision, count: int = 4, **changes: object) -> Balance:
    """Make a balance of the usual addresses; each node's hash has a key of its own."""
    is_split = decision is Decision.PACKETS
    made = Balance(
        parent_ifindex=LOOPBACK,
        decision=decision,
        nodes=tuple(
            BalancedNode(FIRST_SLOT + number, node_mac(number), AskerHash.prepare(bytes((number,)) * 20))  # type: ignore[arg-type]
            for number in range(count)
        ),
        addresses=(ip_address(VIP4), ip_address(VIP6)),
        shared_mac=SHARED_MAC if is_split else b"",
        reply_mac=PARENT_MAC if is_split else b"",
        delivers=False,
        router=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def same_hash(balance: Balance, asker_hash: AskerHash) -> Balance:
    """Give all nodes one hash."""
    return replace(balance, nodes=tuple(replace(node, hash=asker_hash) for node in balance.nodes))


def addresses(*texts: str) -> tuple[Address, ...]:
    """Parse addresses."""
    return tuple(ip_address(text) for text in texts)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Fence]:
    """A fence with plain virtual addresses beside the balanced ones, loaded once for all tests of a module."""
    fence = Fence.load()
    fence.set_vips(LOOPBACK, PLAIN_SLOT, [ip_address(PLAIN4), ip_address(PLAIN6)])
    yield fence
    fence.close()


@pytest.fixture
def balanced(loaded: Fence) -> Iterator[Balanced]:
    """No balance yet; it is removed after the test."""
    loaded.deadlines.close_slot(PLAIN_SLOT)
    made = Balanced(loaded)
    yield made
    loaded.balancer.remove(INDEX)
