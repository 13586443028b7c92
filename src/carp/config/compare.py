"""What would keep the hosts of several configurations from agreeing on one MASTER.

An error means that hosts refuse each other's advertisements, so that more than one becomes MASTER, that they balance load by
different rules, or that their conntrackds do not reach each other. A warning means that they agree, but perhaps not as their
owner thinks. Keys are compared and never shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

from carp.protocol.auth import ZERO_KEY, digest_addresses
from carp.protocol.dialect import AddressOrder
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import Address, virtual_mac

from .compare_balancing import mode_errors, pool_of, pools_of, sharing_errors, spread_warnings
from .compare_sync import side_warnings, sync_errors, sync_warnings
from .errors import joined
from .load import Configuration
from .pairing import Group, Member, differ, listed, numbers, pair, values


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found: one sentence each, naming the files and the keys."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def compare(configurations: Sequence[tuple[str, Configuration]]) -> Comparison:
    """Compare the configurations of two or more hosts; each comes with the name that the findings use for it."""
    hosts = [[Member(label, interface) for interface in one.host.interfaces] for label, one in configurations]
    preempting = {
        (label, interface.name): one.host.preempt if interface.preempt is None else interface.preempt
        for label, one in configurations
        for interface in one.host.interfaces
    }
    errors: list[str] = []
    warnings: list[str] = []
    pools = pools_of(configurations)
    groups = pair(hosts)
    for group in groups:
        pool = pool_of(group)
        warnings += _absent(group, [label for label, _ in configurations])
        errors += _vhids(group)
        errors += mode_errors(group)
        errors += _keys(group)
        lists_differ = _address_lists(group)
        if any(_refuses(one, other) for one, other in combinations(group, 2)):
            errors += lists_differ or _dialects(group)
        else:
            warnings += lists_differ
        warnings += _prefixes(group)
        warnings += _advbases(group)
        warnings += _ties(group, first_alone=pool is not None or any(group[0] in shared.members for shared in pools))
        warnings += _preempts(group, preempting)
        warnings += [] if pool is None else spread_warnings(pool, preempting)
    for pool in pools:
        errors += sharing_errors(pool, configurations)
        warnings += spread_warnings(pool, preempting)
    errors += sync_errors(configurations)
    warnings += sync_warnings(configurations)
    warnings += side_warnings(groups, configurations, preempting)
    return Comparison(tuple(errors), tuple(warnings))


def _absent(group: Group, labels: Sequence[str]) -> Iterator[str]:
    present = [member.label for member in group]
    absent = [label for label in labels if label not in present]
    vhids = numbers(group[0].vhids)
    if len(group) == 1 and absent:
        yield f"{group[0].interface.name} (vhid {vhids}) is in {group[0].label} only: no other host takes its addresses over"
    elif absent:
        yield f"vhid {vhids} of {listed(group)} is missing in {listed(absent)}: that host never takes its addresses over"


def _vhids(group: Group) -> Iterator[str]:
    if differ(group, lambda member: member.vhids):
        found = values(group, lambda member: numbers(member.vhids))
        balanced = any(member.interface.is_balanced for member in group)
        why = (
            "that count different vhids disagree on who takes what"
            if balanced
            else "with different vhids do not hear each other"
        )
        yield f"vhid differs: {found}: hosts {why}"


def _keys(group: Group) -> Iterator[str]:
    if differ(group, lambda member: member.interface.key):
        keys = list(dict.fromkeys(member.interface.key for member in group if member.interface.key != ZERO_KEY))
        # A key is named by its number among the different ones: enough to see who shares it.
        names = {ZERO_KEY: "none"} | {key: f"key {number}" for number, key in enumerate(keys, 1)}
        found = values(group, lambda member: names[member.interface.key])
        yield f"pass differs: {found}: each host refuses the advertisements of the others"


def _address_lists(group: Group) -> list[str]:
    everywhere = dict.fromkeys(address for member in group for address in member.addresses)
    lacking = []
    for member in group:
        missing = [str(address) for address in everywhere if address not in member.addresses]
        if missing:
            lacking.append(f"{joined(missing)} missing in {member}")
    if not lacking:
        return []
    return [f"addresses differ: {', '.join(lacking)}: the digest covers the whole list"]


def _dialects(group: Group) -> Iterator[str]:
    """Explain, for each two members with equal address lists, why one refuses what the other sends."""
    for one, other in combinations(group, 2):
        if not _refuses(one, other):
            continue
        dialects = list(dict.fromkeys((one.interface.dialect, other.interface.dialect)))
        names = joined([dialect.name for dialect in dialects])
        if _hashed_mac(one.interface) != _hashed_mac(other.interface):
            reason = "lladdr differs, and the openbsd dialect puts it into the digest"
        elif len(dialects) > 1 and any(address.is_link_local for address in one.addresses):
            reason = "they disagree on whether link-local addresses go into the digest"
        elif any(dialect.address_order is not AddressOrder.SORTED for dialect in dialects):
            reason = "the order of addresses goes into the digest, and it differs"
        else:
            reason = "their digests differ"
        yield f"dialect {names} of {one} and {other} cannot authenticate each other: {reason}"


def _prefixes(group: Group) -> Iterator[str]:
    for address in dict.fromkeys(address for member in group for address in member.addresses):
        holders = [member for member in group if address in member.addresses]
        length = partial(_length, address)
        if differ(holders, length):
            found = values(holders, length)
            yield f"prefix of {address} differs: {found}: the digest does not cover it, but routes change with the MASTER"


def _length(address: Address, member: Member) -> str:
    return f"/{member.addresses[address]}"


def _advbases(group: Group) -> Iterator[str]:
    if differ(group, lambda member: member.interface.advbase):
        found = values(group, lambda member: str(member.interface.advbase))
        yield f"advbase differs: {found}: the host with the lower one always wins, and advskew decides nothing between them"


def _ties(group: Group, *, first_alone: bool) -> Iterator[str]:
    """Find virtual hosts with equal intervals; a difference of advbase alone is told elsewhere.

    With `first_alone` only of those that would be MASTER: where load is balanced the others are alike on most hosts.
    """
    alike: dict[tuple[int, tuple[Member, ...]], list[int]] = {}
    for vhid in dict.fromkeys(vhid for member in group for vhid in member.vhids):
        intervals: dict[tuple[int, int], list[Member]] = {}
        for member in group:
            for node in member.interface.nodes:
                if node.vhid == vhid:
                    intervals.setdefault((member.interface.advbase, node.advskew), []).append(member)
        for interval, members in intervals.items():
            if len(members) > 1 and (not first_alone or interval == min(intervals)):
                alike.setdefault((interval[1], tuple(members)), []).append(vhid)
    for (advskew, holders), vhids in alike.items():
        yield (
            f"advskew of vhid {numbers(vhids)} is {advskew} in {listed(holders)} alike: the source addresses of the hosts "
            "decide which of them is MASTER; give the preferred one the lowest advskew"
        )


def _preempts(group: Group, preempting: dict[tuple[str, str], bool]) -> Iterator[str]:
    def effective(member: Member) -> bool:
        return preempting[member.label, member.interface.name]

    if differ(group, effective):
        found = values(group, lambda member: "true" if effective(member) else "false")
        yield (
            f"preempt differs: {found}: with it a host takes over from a slower MASTER as soon as it is back, "
            "without it only when the MASTER is gone"
        )


def _hashed_mac(interface: InterfaceParameters) -> bytes:
    """Return the MAC that is part of the leader's digest, or nothing."""
    mac = interface.lladdr
    if not interface.dialect.hashes_custom_lladdr or not isinstance(mac, bytes):
        return b""
    return b"" if mac == virtual_mac(interface.leader.vhid) else mac


def _refuses(one: Member, other: Member) -> bool:
    """Tell whether either of two would refuse the other's digests, keys and vhids aside."""
    return _sent(one.interface) not in _accepted(other.interface) or _sent(other.interface) not in _accepted(one.interface)


def _sent(interface: InterfaceParameters) -> bytes:
    """Return what the digest covers in what this one sends, without the vhid."""
    return _covered(interface, link_local=interface.dialect.sends_link_local)


def _accepted(interface: InterfaceParameters) -> set[bytes]:
    forms = {_sent(interface)}
    if interface.dialect.accepts_both_link_local_forms:
        forms.add(_covered(interface, link_local=not interface.dialect.sends_link_local))
    return forms


def _covered(interface: InterfaceParameters, *, link_local: bool) -> bytes:
    addresses = [address.ip for address in interface.addresses]
    listed = digest_addresses(addresses, interface.dialect.address_order, link_local=link_local)
    return _hashed_mac(interface) + listed
