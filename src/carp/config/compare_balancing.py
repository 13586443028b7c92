"""What would keep several hosts from taking each its share of the load, and all of it together.

Hosts agree on who takes a packet, or who answers an asker, only if they count the same virtual hosts in the same order.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from carp.protocol.parameters import Balancing
from carp.protocol.sharing import shared_addresses
from carp.protocol.values import Address, mac_text

from .errors import joined
from .load import Configuration
from .pairing import Group, Member, differ, listed, numbers, values

Preempting = Mapping[tuple[str, str], bool]
"""Whether a carp interface preempts, by the label of its host and its name."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Virtual hosts that load is spread over: the nodes of a carp interface, or all that share `addresses`.

    Of a host that is down by its administrator's wish, or has none of them, there are no members.
    """

    what: str
    members: Group
    addresses: tuple[Address, ...] = ()

    @property
    def vhids(self) -> frozenset[int]:
        """The vhids of all hosts."""
        return frozenset(vhid for member in self.members for vhid in member.vhids)

    def by_host(self) -> dict[str, Group]:
        """Tell what each host has of it, in ascending order of the vhids."""
        found: dict[str, Group] = {}
        for member in sorted(self.members, key=lambda member: member.vhids):
            found.setdefault(member.label, []).append(member)
        return found


def pool_of(group: Group) -> Pool | None:
    """Return the nodes of a carp interface that is balanced on some host."""
    balanced = [member for member in group if member.interface.is_balanced]
    return Pool(balanced[0].interface.name, group) if balanced else None


def pools_of(configurations: Sequence[tuple[str, Configuration]]) -> list[Pool]:
    """Find what carp interfaces of one parent share on some host; addresses that the same ones share are one pool."""
    holders: dict[Address, Group] = {}
    shared: set[Address] = set()
    for label, one in configurations:
        shared |= {found.address for found in shared_addresses(one.host.interfaces)}
        for interface in one.host.interfaces:
            for address in dict.fromkeys(written.ip for written in interface.addresses if interface.up):
                holders.setdefault(address, []).append(Member(label, interface))
    pools: dict[tuple[Member, ...], list[Address]] = {}
    for address, members in holders.items():
        if address in shared:
            pools.setdefault(tuple(members), []).append(address)
    return [Pool(joined([str(one) for one in found]), list(members), tuple(found)) for members, found in pools.items()]


def mode_errors(group: Group) -> Iterator[str]:
    """Compare how the hosts balance one carp interface. Lists of vhids that differ are told elsewhere."""
    balanced = [member for member in group if member.interface.is_balanced]
    if differ(balanced, lambda member: member.interface.balancing):
        found = values(balanced, lambda member: member.interface.balancing.value)
        yield f"balancing differs: {found}: a packet is taken by more than one host, or by none"
    elif differ(balanced, lambda member: member.interface.mac) and not differ(group, lambda member: member.vhids):
        found = values(balanced, lambda member: mac_text(member.interface.mac or b""))
        yield f"lladdr differs: {found}: with load balancing every host receives the same MAC"
    if _asker_counts(balanced) and differ(balanced, _rule):
        yield _rules_differ(balanced)


def sharing_errors(pool: Pool, configurations: Sequence[tuple[str, Configuration]]) -> Iterator[str]:
    """Compare who answers for addresses that several carp interfaces share."""
    hosts = pool.by_host()
    counted = {label: numbers(vhid for member in members for vhid in member.vhids) for label, members in hosts.items()}
    if len(set(counted.values())) > 1:
        found = _by_value(counted)
        yield f"{pool.what}: shared by vhid {found}: hosts that count different vhids disagree on who answers whom"
    sharing = [members[0] for members in hosts.values() if len(members) > 1]
    if differ(sharing, _rule):
        yield _rules_differ(sharing)
    switches = {label: str(one.host.arpbalance).lower() for label, one in configurations if len(hosts.get(label, ())) > 1}
    if len(set(switches.values())) > 1:
        found = _by_value(switches)
        yield f"arpbalance differs: {found}: an asker of {pool.what} is answered by more than one host, or by none"


def spread_warnings(pool: Pool, preempting: Preempting) -> Iterator[str]:
    """Say why one host would take all of the load."""
    if len(pool.by_host()) < 2:
        return
    favourites = {_favourite(vhid, pool.members) for vhid in pool.vhids}
    if len(favourites) == 1 and None not in favourites:
        (label,) = favourites
        yield (
            f"advskew of vhid {numbers(sorted(pool.vhids))} is lowest in {label} each time: while it is up it takes all of"
            f" {pool.what}; another host should have the lowest one of some"
        )
    if not any(preempting[member.label, member.interface.name] for member in pool.members):
        yield (
            f"preempt is false for {pool.what}: the host that starts first takes all of it, and one that comes back nothing;"
            " with preempt = true each has its share"
        )


def _favourite(vhid: int, members: Iterable[Member]) -> str | None:
    """Return the host whose interval of a virtual host is the shortest; None where several have the same."""
    intervals = [
        (member.interface.advbase, node.advskew, member.label)
        for member in members
        for node in member.interface.nodes
        if node.vhid == vhid
    ]
    shortest = min(interval[:2] for interval in intervals)
    labels = [label for *interval, label in intervals if tuple(interval) == shortest]
    return labels[0] if len(labels) == 1 else None


def _asker_counts(members: Iterable[Member]) -> bool:
    return any(member.interface.balancing is Balancing.ARP for member in members)


def _rule(member: Member) -> tuple[object, ...]:
    """Return what decides which virtual host an asker falls to."""
    dialect = member.interface.dialect
    return dialect.asker, dialect.newest_first


def _rules_differ(members: Group) -> str:
    found = values(members, lambda member: member.interface.dialect.name)
    return f"dialect differs: {found}: their rules differ as to who answers whom"


def _by_value(values: Mapping[str, str]) -> str:
    """Write 1,2 in a, 1 in b and c for values by host."""
    labels: dict[str, list[str]] = {}
    for label, value in values.items():
        labels.setdefault(value, []).append(label)
    return ", ".join(f"{value} in {listed(found)}" for value, found in labels.items())
