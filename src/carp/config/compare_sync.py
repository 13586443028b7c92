"""What would keep two firewalls with [sync] from exchanging states, or from serving all their sides on one host."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from carp.protocol.values import Address

from .errors import joined
from .load import Configuration
from .pairing import Group, listed


def sync_errors(configurations: Sequence[tuple[str, Configuration]]) -> Iterator[str]:
    """Find hosts that could not exchange states: each sends them to the address of another one."""
    syncs = {label: one.sync for label, one in configurations if one.sync is not None}
    holders: dict[Address, list[str]] = {}
    for label, sync in syncs.items():
        if sync.address is not None:
            holders.setdefault(sync.address, []).append(label)
    for address, labels in holders.items():
        if len(labels) > 1:
            yield f"address of [sync] is {address} in {listed(labels)} alike: it is each host's own on the link"
    for label, sync in syncs.items():
        others = {other.address: name for name, other in syncs.items() if name != label}
        if sync.peer is not None and others and None not in others and sync.peer not in others:
            found = ", ".join(f"{address} in {name}" for address, name in others.items())
            yield f"peer of [sync] is {sync.peer} in {label}, and nobody's address ({found}): its states reach no other host"


def sync_warnings(configurations: Sequence[tuple[str, Configuration]]) -> Iterator[str]:
    """Find a host that has no [sync] beside one that has."""
    present = [label for label, one in configurations if one.sync is not None]
    absent = [label for label, one in configurations if one.sync is None]
    if present and absent:
        yield f"[sync] is in {listed(present)} and missing in {listed(absent)}: connections break when that host takes over"


def side_warnings(
    groups: Iterable[Group], configurations: Sequence[tuple[str, Configuration]], preempting: Mapping[tuple[str, str], bool]
) -> Iterator[str]:
    """Find carp interfaces that are in the same groups and would be MASTER on different hosts."""
    syncs = {label: one.sync for label, one in configurations if one.sync is not None}
    kinds: dict[frozenset[str], list[Group]] = {}
    for group in groups:
        first = group[0].interface
        covered = any(
            (sync := syncs.get(member.label)) is not None and sync.covers(member.interface.name, member.interface.groups)
            for member in group
        )
        if covered and not first.is_balanced:
            kinds.setdefault(frozenset(first.groups), []).append(group)
    for kind in kinds.values():
        yield from _orders(kind)
        yield from _preempts(kind, preempting)


def _orders(kind: Iterable[Group]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for group in kind:
        favourite = _favourite(group)
        if favourite:
            names.setdefault(favourite, []).append(group[0].interface.name)
    if len(names) > 1:
        found = ", ".join(f"{label} in {joined(held)}" for label, held in names.items())
        yield (
            f"advskew and advbase prefer {found}: packets between them pass no host while both live; with [sync], what belongs"
            " together prefers the same host, and what does not is in different groups"
        )


def _favourite(group: Group) -> str:
    """Return the host with the shortest interval, "" where several have it or there is but one."""
    intervals = sorted((one.interface.advbase, one.interface.leader.advskew, one.label) for one in group)
    return intervals[0][2] if len(group) > 1 and intervals[0][:2] != intervals[1][:2] else ""


def _preempts(kind: Iterable[Group], preempting: Mapping[tuple[str, str], bool]) -> Iterator[str]:
    found: dict[str, dict[bool, list[str]]] = {}
    for member in (member for group in kind for member in group):
        name = member.interface.name
        found.setdefault(member.label, {}).setdefault(preempting[member.label, name], []).append(name)
    for label, names in found.items():
        if len(names) > 1:
            yield (
                f"preempt in {label} is true for {joined(names[True])} and false for {joined(names[False])}: when that host"
                " comes back it takes only a part, and packets between the two pass no host"
            )
