"""Balanced addresses: several nodes share them, and the programs on the parent let each host serve the nodes it is MASTER of.

A balance has an index that the caller gives. Its mask says which of its nodes are MASTER here, bit i for node i; a node is open
while its bit is set and the deadline of its slot lies in the future. `put` and `remove` block for some microseconds an address
or node and belong to one thread, the worker's. `set_mask` and `mask` may be called from any thread at any time: each is one
aligned store or load of 8 bytes in memory shared with the kernel; and so may `counts`, which asks the kernel node by node.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from mmap import mmap

from ...protocol.balance import AskerHash
from ...protocol.parameters import MAX_NODES
from ...protocol.values import Address
from .claims import Claimant, Claims, address_key, balance_entry, checked_slot
from .libbpf import BpfObject, FenceUnavailable

BALANCES = 128
"""How many balances one daemon can have; as in maps.h."""

_ENTRY_BYTES = 8
_MASK_LIMIT = 1 << MAX_NODES
_MAC_BYTES = 6
_ANY_NODE = 0xFFFF
_NUMBER = struct.Struct("=I")
_HEAD = struct.Struct("=III6s6s??H")
_NODE = struct.Struct("=IIII6sH")
_PORT = struct.Struct("=I6sH")
_RECEIVER = struct.Struct("=HH")
_COUNT = struct.Struct("=QQQQ")


class Decision(IntEnum):
    """Who takes a packet or answers an asker; the numbers are those of maps.h.

    PACKETS: a packet's addresses choose the node that takes it, and the first node answers (OpenBSD's `balancing ip`).
    ASKER_ADDRESS, ASKER_MAC: what the asker is chooses the node that answers it, with its own MAC. FIRST: the first node
    answers everybody, with its own MAC.
    """

    PACKETS = 0
    ASKER_ADDRESS = 1
    ASKER_MAC = 2
    FIRST = 3


@dataclass(frozen=True, slots=True)
class BalancedNode:
    """A virtual host: the slot of its deadline, its MAC (b"" will do for PACKETS), and its hash of askers for ASKER_MAC."""

    slot: int
    mac: bytes
    hash: AskerHash


@dataclass(frozen=True, slots=True)
class Balance:
    """What several nodes share on a parent.

    Attributes:
        parent_ifindex: where the packets come and go.
        decision: who takes what.
        nodes: 1..32, in the order in which they are counted; the first one is the leader.
        addresses: those that are balanced; of two balances that name one the newest has it.
        shared_mac: PACKETS: the MAC that all hosts receive, 6 bytes; else b"".
        reply_mac: PACKETS: the Ethernet source of answers to ARP and ND, 6 bytes; else of no concern, as it is the node's MAC.
        delivers: frames to a node's MAC are handed to the parent itself; without, its macvlan takes them. PACKETS always do.
        router: answers to ND say that this host forwards.
    """

    parent_ifindex: int
    decision: Decision
    nodes: tuple[BalancedNode, ...]
    addresses: tuple[Address, ...]
    shared_mac: bytes
    reply_mac: bytes
    delivers: bool
    router: bool


@dataclass(frozen=True, slots=True)
class NodeCount:
    """What came in for one node since it was put; a large packet of segmentation offload counts as what it is made of."""

    kept_packets: int
    kept_bytes: int
    dropped_packets: int
    dropped_bytes: int


class Balancer:
    """The balances of one daemon."""

    def __init__(self, loaded: BpfObject, vips: Claims) -> None:
        """Use `Fence.balancer` instead."""
        self._balances_map = loaded.map("carp_balances")
        self._counts_map = loaded.map("carp_counts")
        self._vips = vips
        self._macs = Claims(loaded.map("carp_macs"))
        self._memory: tuple[mmap, ...] = (
            loaded.map("carp_masks").mapping(BALANCES * _ENTRY_BYTES, writable=True),
            loaded.map("carp_balanced").mapping(_ENTRY_BYTES, writable=True),
        )
        self._masks, self._balanced = (memoryview(one).cast("Q") for one in self._memory)
        self._balances: dict[int, Balance] = {}
        self._second: dict[int, bool] = {}

    def put(self, index: int, balance: Balance) -> None:
        """Make or change the balance with an index, 0..127.

        At no moment is a packet taken for another node than before or after. Mask and counters stay if the nodes are the same
        ones, told by their slots; else they are 0, and `set_mask` opens the new ones.

        Raises:
            ValueError: the index or a value of the balance is none; nothing was changed.
            FenceUnavailable: there are too many addresses in all; a new balance is gone, of a former one those that it had
                stay.
        """
        _checked(index)
        _check(balance)
        former = self._balances.get(index)
        is_same = former is not None and _slots(former) == _slots(balance)
        if not is_same:
            self._masks[index] = 0
            self._clear_counts(index)
        # The place that no entry leads to.
        second = not self._second.get(index, True)
        place = 2 * index + second
        self._balances_map.update(_NUMBER.pack(place), _pack(index, balance))
        self._second[index] = second
        self._balances[index] = balance
        self._balanced[0] = len(self._balances)
        claimant = Claimant(index, is_balance=True)
        entry = balance_entry(place)
        try:
            self._vips.claim(claimant, {address_key(balance.parent_ifindex, one): entry for one in balance.addresses})
            self._macs.claim(claimant, _ports(place, balance))
        except FenceUnavailable:
            if former is None:
                self.remove(index)
            raise

    def remove(self, index: int) -> None:
        """End a balance, with its mask and counters; one that is not there is no error. Raises ValueError for no index."""
        _checked(index)
        if index not in self._balances:
            return
        self._masks[index] = 0
        claimant = Claimant(index, is_balance=True)
        self._vips.claim(claimant, {})
        self._macs.claim(claimant, {})
        del self._balances[index]
        self._balanced[0] = len(self._balances)
        self._clear_counts(index)

    def set_mask(self, index: int, mask: int) -> None:
        """Say which nodes are MASTER here: the next packet follows it. Raises ValueError for no index or no mask."""
        if not 0 <= mask < _MASK_LIMIT:
            raise ValueError(f"mask {mask:#x} is not in 0..{_MASK_LIMIT - 1:#x}")
        self._masks[_checked(index)] = mask

    def mask(self, index: int) -> int:
        """Return what was said last; 0 at first. Raises ValueError for no index."""
        return self._masks[_checked(index)]

    def counts(self, index: int, nodes: int) -> tuple[NodeCount, ...]:
        """Count what came in for each of the first nodes; raises ValueError for no index or no number of nodes."""
        if not 0 <= nodes <= MAX_NODES:
            raise ValueError(f"{nodes} nodes are not 0..{MAX_NODES}")
        first = _checked(index) * MAX_NODES
        found = []
        for key in range(first, first + nodes):
            values = map(_COUNT.unpack, self._counts_map.lookup_each_cpu(_NUMBER.pack(key), _COUNT.size))
            found.append(NodeCount(*map(sum, zip(*values, strict=True))))
        return tuple(found)

    def release(self) -> None:
        """Let go of the memory; the other methods raise ValueError from now on."""
        self._masks.release()
        self._balanced.release()
        for memory in self._memory:
            memory.close()

    def _clear_counts(self, index: int) -> None:
        for key in range(index * MAX_NODES, (index + 1) * MAX_NODES):
            self._counts_map.update_each_cpu(_NUMBER.pack(key), bytes(_COUNT.size))


def _slots(balance: Balance) -> tuple[int, ...]:
    return tuple(node.slot for node in balance.nodes)


def _checked(index: int) -> int:
    if not 0 <= index < BALANCES:
        raise ValueError(f"balance {index} is not in 0..{BALANCES - 1}")
    return index


def _check(balance: Balance) -> None:
    if not 1 <= len(balance.nodes) <= MAX_NODES:
        raise ValueError(f"{len(balance.nodes)} nodes are not 1..{MAX_NODES}")
    if not 1 <= balance.parent_ifindex < 1 << 31:
        raise ValueError(f"interface {balance.parent_ifindex} is none")
    if balance.decision is Decision.PACKETS:
        macs = {"shared_mac": balance.shared_mac, "reply_mac": balance.reply_mac}
        macs |= {f"mac of node {number}": node.mac for number, node in enumerate(balance.nodes) if node.mac}
    else:
        macs = {f"mac of node {number}": node.mac for number, node in enumerate(balance.nodes)}
        if balance.shared_mac:
            raise ValueError(f"shared_mac {balance.shared_mac.hex(':')} is only for {Decision.PACKETS.name}")
        if len(set(macs.values())) < len(macs):
            raise ValueError(f"two nodes have one MAC: {', '.join(mac.hex(':') for mac in macs.values())}")
    for what, mac in macs.items():
        if len(mac) != _MAC_BYTES:
            raise ValueError(f"{what}: {mac.hex(':') or 'nothing'} is not {_MAC_BYTES} bytes long")
    for node in balance.nodes:
        checked_slot(node.slot)
        for word in (node.hash.h0, node.hash.h1, node.hash.key_word):
            if not 0 <= word < 1 << 32:
                raise ValueError(f"hash word {word:#x} is not of 32 bits")


def _pack(index: int, balance: Balance) -> bytes:
    macs = (balance.shared_mac, balance.reply_mac if balance.decision is Decision.PACKETS else b"")
    head = _HEAD.pack(index, balance.decision, len(balance.nodes), *macs, balance.delivers, balance.router, 0)
    nodes = (_NODE.pack(one.slot, one.hash.h0, one.hash.h1, one.hash.key_word, one.mac, 0) for one in balance.nodes)
    return (head + b"".join(nodes)).ljust(_HEAD.size + MAX_NODES * _NODE.size, b"\0")


def _ports(place: int, balance: Balance) -> dict[bytes, bytes]:
    if balance.decision is Decision.PACKETS:
        return {_PORT.pack(balance.parent_ifindex, balance.shared_mac, 0): _RECEIVER.pack(place, _ANY_NODE)}
    return {
        _PORT.pack(balance.parent_ifindex, node.mac, 0): _RECEIVER.pack(place, number)
        for number, node in enumerate(balance.nodes)
    }
