"""Load balancing as the daemon uses it: which packets and askers on a parent fall to which virtual host (PROTOCOL.md 7).

The programs on the parents do the work; they are told who shares what, and which virtual hosts are MASTER here. A share passes
only while its virtual host's part of the fence is open, so a dead daemon serves nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count as count_from
from typing import Any

from ..linux import sysctl
from ..linux.bpf.balancer import BALANCES, Balance, BalancedNode, Balancer, Decision
from ..linux.bpf.fence import FenceUnavailable
from ..protocol.balance import AskerHash
from ..protocol.dialect import AskerRule
from ..protocol.parameters import Balancing, HostParameters, InterfaceParameters
from ..protocol.sharing import SharedAddress, shared_addresses
from ..protocol.values import Address, Instant, virtual_mac
from .fencing import Fencing

_EVERYBODY = (1 << 32) - 1
"""The mask where each carp interface's own part of the fence decides."""
_DECISION_OF = {AskerRule.ADDRESS: Decision.ASKER_ADDRESS, AskerRule.MAC: Decision.ASKER_MAC}

Key = str | tuple[str, ...]
"""A carp interface with several virtual hosts, or the carp interfaces that share an address."""


@dataclass(frozen=True, slots=True)
class ParentPort:
    """A parent that is there: its index and its own MAC."""

    index: int
    mac: bytes


class Balancers:
    """What is shared out on this host.

    `follow` and `trim` belong to the worker thread, the rest to the loop.
    """

    def __init__(self, fencing: Fencing) -> None:
        self._fencing = fencing
        self._indexes: dict[Key, int] = {}
        self._put: dict[Key, Balance] = {}
        self._masks: dict[str, int] = {}
        self._ports: dict[str, ParentPort] = {}
        """The parents on which something is shared out."""

    def problems(self, host: HostParameters) -> list[str]:
        """Say what cannot be balanced because this host has no fence, or too much to balance."""
        balanced = [one for one in host.interfaces if one.is_balanced]
        shared = shared_addresses(host.interfaces)
        if not self._fencing.unavailable:
            count = len(balanced) + len(_by_members(shared))
            what = "carp interfaces with several virtual hosts, or sets of them with one address"
            return [f"{count} {what}: at most {BALANCES} can be balanced"] if count > BALANCES else []
        why = f"needs the kernel's BPF, and there is none: {self._fencing.unavailable}"
        found = [f"{one.name}: balancing {one.balancing.value} {why}" for one in balanced]
        found += [f"{_text(_key_of(one.members))}: sharing the address {one.address} {why}" for one in shared]
        return found

    def is_current(self, ports: Mapping[str, ParentPort]) -> bool:
        """Tell whether the parents are still as they were."""
        return all(ports.get(name) == port for name, port in self._ports.items())

    def follow(self, host: HostParameters, ports: Mapping[str, ParentPort]) -> list[str]:
        """Share out what this configuration wants; what it does not want any more is left for `trim`.

        Returns what cannot be balanced, as sentences: a parent takes no programs, or there are too many addresses.
        """
        balancer = self._fencing.balancer
        if balancer is None:
            return []
        wanted = self._wanted(host, ports)
        indexes = {balance.parent_ifindex for balance in wanted.values()}
        self._ports = {name: port for name, port in ports.items() if port.index in indexes}
        problems = []
        for key, balance in wanted.items():
            why_not = self._fencing.why_not_guarded(balance.parent_ifindex)
            if not why_not and self._put.get(key) != balance:
                why_not = self._share_out(balancer, key, balance)
            if why_not:
                problems.append(f"{_text(key)} cannot be balanced: {why_not}")
        return problems

    def _share_out(self, balancer: Balancer, key: Key, balance: Balance) -> str:
        """Tell the programs of a balance; return why they do not take it, or ""."""
        index = self._indexes.setdefault(key, self._free_index())
        try:
            balancer.put(index, balance)
        except FenceUnavailable as error:
            if key not in self._put:
                del self._indexes[key]
            return str(error)
        self._put[key] = balance
        self._write_mask(balancer, index, key)
        return ""

    def trim(self, host: HostParameters, ports: Mapping[str, ParentPort]) -> None:
        """Forget what is not wanted any more."""
        balancer = self._fencing.balancer
        for key in self._put.keys() - self._wanted(host, ports).keys():
            del self._put[key]
            index = self._indexes.pop(key)
            if balancer is not None:
                balancer.remove(index)

    def set_mask(self, name: str, mask: int) -> None:
        """Bit i tells whether the virtual host of rank i is MASTER here."""
        self._masks[name] = mask
        index = self._indexes.get(name)
        if index is not None and self._fencing.balancer is not None:
            self._fencing.balancer.set_mask(index, mask)

    def _write_mask(self, balancer: Balancer, index: int, key: Key) -> None:
        mask = None
        # Again if the loop, which does not wait for this thread, has said another one meanwhile.
        while mask != (mask := self._masks.get(key, 0) if isinstance(key, str) else _EVERYBODY):
            balancer.set_mask(index, mask)

    def describe(self, parameters: InterfaceParameters, now: Instant) -> list[dict[str, Any] | None]:
        """Describe, for the status, what each virtual host of a carp interface keeps; None where nothing is balanced."""
        key, first = self._place_of(parameters)
        index, balancer = self._indexes.get(key), self._fencing.balancer
        if index is None or balancer is None:
            return [None] * len(parameters.nodes)
        mask = self._masks.get(key, 0) if isinstance(key, str) else _EVERYBODY
        counts = balancer.counts(index, len(parameters.nodes if isinstance(key, str) else key))[first:]
        return [
            {
                "index": rank,
                "open": bool(mask >> rank & 1) and self._fencing.is_open(parameters.name, node.vhid, now),
                "kept_packets": count.kept_packets,
                "kept_bytes": count.kept_bytes,
                "dropped_packets": count.dropped_packets,
                "dropped_bytes": count.dropped_bytes,
            }
            for rank, node, count in zip(count_from(first), parameters.nodes, counts, strict=False)
        ]

    def _place_of(self, parameters: InterfaceParameters) -> tuple[Key, int]:
        """Find where a carp interface is counted, by itself or among those with one address, and from what number."""
        if not parameters.is_balanced:
            for key in self._put:
                if not isinstance(key, str) and parameters.name in key:
                    return key, key.index(parameters.name)
        return parameters.name, 0

    def _wanted(self, host: HostParameters, ports: Mapping[str, ParentPort]) -> dict[Key, Balance]:
        wanted: dict[Key, Balance] = {}
        router = sysctl.forwards(6)
        for parameters in host.interfaces:
            port = ports.get(parameters.carpdev)
            if parameters.is_balanced and port is not None:
                wanted[parameters.name] = self._balance_of(parameters, port, router=router)
        for members, addresses in _by_members(shared_addresses(host.interfaces)).items():
            port = ports.get(members[0].carpdev)
            if port is not None:
                rule = _DECISION_OF[members[0].dialect.asker] if host.arpbalance else Decision.FIRST
                wanted[_key_of(members)] = self._shared(members, addresses, port, rule, router=router)
        return wanted

    def _balance_of(self, parameters: InterfaceParameters, port: ParentPort, *, router: bool) -> Balance:
        splits = parameters.balancing.splits_packets
        asker = AskerHash.prepare(parameters.key)
        nodes = tuple(
            BalancedNode(self._fencing.slot(parameters.name, node.vhid), virtual_mac(node.vhid), asker)
            for node in parameters.nodes
        )
        shared_mac = parameters.mac or b""
        return Balance(
            parent_ifindex=port.index,
            decision=Decision.PACKETS if splits else Decision.ASKER_MAC,
            nodes=nodes,
            addresses=tuple(one.ip for one in parameters.addresses),
            shared_mac=shared_mac if splits else b"",
            # A switch must not learn where the shared MAC is; with ip-unicast it is to, and somebody copies the frames.
            reply_mac=shared_mac if parameters.balancing is Balancing.IP_UNICAST else port.mac,
            delivers=True,
            router=router,
        )

    def _shared(
        self,
        members: tuple[InterfaceParameters, ...],
        addresses: tuple[Address, ...],
        port: ParentPort,
        rule: Decision,
        *,
        router: bool,
    ) -> Balance:
        nodes = tuple(
            BalancedNode(self._fencing.slot(one.name, one.leader.vhid), one.mac or port.mac, AskerHash.prepare(one.key))
            for one in members
        )
        return Balance(port.index, rule, nodes, addresses, b"", port.mac, delivers=False, router=router)

    def _free_index(self) -> int:
        taken = set(self._indexes.values())
        return next(index for index in range(len(taken) + 1) if index not in taken)


def _by_members(found: Iterable[SharedAddress]) -> dict[tuple[InterfaceParameters, ...], tuple[Address, ...]]:
    groups: dict[tuple[InterfaceParameters, ...], tuple[Address, ...]] = {}
    for one in found:
        groups[one.members] = (*groups.get(one.members, ()), one.address)
    return groups


def _key_of(members: Iterable[InterfaceParameters]) -> Key:
    return tuple(one.name for one in members)


def _text(key: Key) -> str:
    return key if isinstance(key, str) else " and ".join(key)
