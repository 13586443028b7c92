"""Which carp interfaces of several hosts are meant to be the same one, and how findings about them name them."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import Address

from .errors import joined


@dataclass(frozen=True, slots=True)
class Member:
    """The carp interface of one host; `label` names the host's configuration."""

    label: str
    interface: InterfaceParameters

    def __str__(self) -> str:
        """Name it as the findings do."""
        return f"{self.label} ({self.interface.name})"

    @property
    def vhids(self) -> tuple[int, ...]:
        """The vhids of all its nodes, ascending."""
        return tuple(node.vhid for node in self.interface.nodes)

    @property
    def addresses(self) -> dict[Address, int]:
        """The length of the prefix of each of its addresses."""
        return {address.ip: address.network.prefixlen for address in self.interface.addresses}


Group = list[Member]
"""Members that are meant to share their addresses, at most one of each host."""


def _shares_address(one: Member, other: Member) -> bool:
    return not one.addresses.keys().isdisjoint(other.addresses)


def _same_name(one: Member, other: Member) -> bool:
    return one.interface.name == other.interface.name


def _same_carpdev(one: Member, other: Member) -> bool:
    return one.interface.carpdev == other.interface.carpdev


def _same_vhids(one: Member, other: Member) -> bool:
    return one.vhids == other.vhids


_RULES: tuple[Callable[[Member, Member], bool], ...] = (
    lambda one, other: _same_vhids(one, other) and _shares_address(one, other),
    _shares_address,
    lambda one, other: _same_vhids(one, other) and _same_name(one, other),
    lambda one, other: _same_vhids(one, other) and _same_carpdev(one, other),
    _same_vhids,
    _same_name,
)
"""From the surest sign to the weakest; neither the parent nor the number of carpN has to be the same on all hosts."""


def pair(hosts: Sequence[Sequence[Member]]) -> list[Group]:
    """Put the carp interfaces of all hosts into groups, in the order of the first host that has each."""
    groups: list[Group] = []
    for members in hosts:
        # Groups of this host's own are not open to it: two of its interfaces never belong together.
        open_groups = list(groups)
        waiting = list(members)
        for rule in _RULES:
            for member in list(waiting):
                group = next((group for group in open_groups if any(rule(member, other) for other in group)), None)
                if group is not None:
                    group.append(member)
                    open_groups.remove(group)
                    waiting.remove(member)
        groups.extend([member] for member in waiting)
    return groups


def differ(group: Group, value: Callable[[Member], Hashable]) -> bool:
    """Tell whether members have different values."""
    return len({value(member) for member in group}) > 1


def values(group: Group, text: Callable[[Member], str]) -> str:
    """Write who has which value: 1 in a.toml (carp0), 2 in b.toml (carp0) and c.toml (carp0)."""
    holders: dict[str, list[Member]] = {}
    for member in group:
        holders.setdefault(text(member), []).append(member)
    return ", ".join(f"{value} in {listed(members)}" for value, members in holders.items())


def listed(things: Iterable[object]) -> str:
    """Write members, or the names of hosts, as a list."""
    return joined([str(thing) for thing in things])


def numbers(numbers: Iterable[int]) -> str:
    """Write vhids as carpnodes does, without blanks."""
    return ",".join(str(number) for number in numbers)
