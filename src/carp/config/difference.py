"""What changes from one configuration to the next, in sentences for an operator; keys are compared and never shown."""

from collections.abc import Callable, Container, Iterator, Sequence

from carp.protocol.auth import ZERO_KEY, digest_addresses
from carp.protocol.parameters import InterfaceParameters, LinkAddress
from carp.protocol.values import NANOSECONDS_PER_SECOND, mac_text

from . import words
from .load import Configuration, interface_parameters
from .model import RunningTable

_NONE = "none"
_ANEW = " (made anew)"
_AT_START = " (from the next start of carpd)"

_GLOBAL: dict[str, Callable[[Configuration], object]] = {
    "allow": lambda one: one.host.allow,
    "preempt": lambda one: one.host.preempt,
    "log": lambda one: one.log,
    "arpbalance": lambda one: one.arpbalance,
    "dscp": lambda one: "as the dialect" if one.host.dscp is None else one.host.dscp,
    "ifdown-demotion-factor": lambda one: one.host.ifdown_demotion,
    "senderr-demotion-factor": lambda one: one.host.senderr_demotion,
}
_GLOBAL_AT_START: dict[str, Callable[[Configuration], object]] = {
    "fence": lambda one: one.fence,
    "realtime": lambda one: one.realtime,
}


def differences(old: Configuration, new: Configuration) -> list[str]:
    """List what differs, the host's values first and then each carp interface, in the order of their numbers.

    What takes an interface down and makes it anew, so that it loses mastership, says so.
    """
    before, after = _interfaces(old), _interfaces(new)
    found = list(_host_differences(old, new))
    for name in sorted(before.keys() | after.keys(), key=lambda name: words.carp_number(name) or 0):
        if name not in after:
            found.append(f"{name}: removed")
        elif name not in before:
            found.append(f"{name}: new")
        else:
            found += [f"{name}: {change}" for change in _interface_differences(before[name], after[name])]
    return found


def order_warnings(old: Configuration, new: Configuration, masters: Container[str]) -> list[str]:
    """Warn of each interface that is MASTER on this host, by name, whose peers would refuse it after the change."""
    before = {one.name: one for one in old.host.interfaces}
    warnings = []
    for after in new.host.interfaces:
        former = before.get(after.name)
        if former is None or after.name not in masters or not after.up or _digested(former) == _digested(after):
            continue
        grace_s = after.digest_grace_ns / NANOSECONDS_PER_SECOND
        within = f"within digest-grace ({grace_s:g} s)" if grace_s else "at the same moment, as digest-grace is 0"
        warnings.append(f"{after.name}: this host is MASTER: change the BACKUPs first and the MASTER last, {within}")
    return warnings


def _interfaces(configuration: Configuration) -> dict[str, InterfaceParameters]:
    """Return the parameters of every interface, of drafts too; a file that holds the key of a draft is not looked into."""
    drafts = {
        name: interface_parameters(name, RunningTable.model_validate(configuration.document.get(name, {})))
        for name in configuration.drafts
    }
    return drafts | {one.name: one for one in configuration.host.interfaces}


def _host_differences(old: Configuration, new: Configuration) -> Iterator[str]:
    for values, remark in ((_GLOBAL, ""), (_GLOBAL_AT_START, _AT_START)):
        for key, value in values.items():
            if value(old) != value(new):
                yield f"{key} {_text(value(old))} -> {_text(value(new))}{remark}"


def _interface_differences(old: InterfaceParameters, new: InterfaceParameters) -> Iterator[str]:
    anew = _ANEW if _is_whole(old) and _is_whole(new) else ""
    for key, value in _VALUES.items():
        before, after = value(old), value(new)
        if before != after:
            yield f"{key} {before} -> {after}{anew if key in _IDENTITY else ''}"
    yield from _node_differences(old, new, anew)
    if old.key != new.key:
        yield "pass phrase " + ("removed" if new.key == ZERO_KEY else "set" if old.key == ZERO_KEY else "changed")
    yield from _address_differences(old, new)
    yield from _list_differences("carppeer", [str(one) for one in old.peers], [str(one) for one in new.peers])
    yield from _list_differences("group", old.groups, new.groups)


def _is_whole(one: InterfaceParameters) -> bool:
    """Tell whether there is something to lose: without any of these an interface is in INIT."""
    return bool(one.carpdev and one.addresses and one.leader.vhid)


def _node_differences(old: InterfaceParameters, new: InterfaceParameters, anew: str) -> Iterator[str]:
    """Compare vhid and advskew; several nodes, on either side, are compared as a whole."""
    vhids_differ = [node.vhid for node in old.nodes] != [node.vhid for node in new.nodes]
    if len(old.nodes) == len(new.nodes) == 1:
        if vhids_differ:
            yield f"vhid {old.leader.vhid or _NONE} -> {new.leader.vhid or _NONE}{anew}"
        if old.leader.advskew != new.leader.advskew:
            yield f"advskew {old.leader.advskew} -> {new.leader.advskew}"
    elif old.nodes != new.nodes:
        yield f"carpnodes {_nodes(old)} -> {_nodes(new)}{anew if vhids_differ else ''}"


def _address_differences(old: InterfaceParameters, new: InterfaceParameters) -> Iterator[str]:
    before = {address.ip: address for address in old.addresses}
    after = {address.ip: address for address in new.addresses}
    for ip, address in before.items():
        if ip not in after:
            yield f"address {address} removed"
        elif address != after[ip]:
            yield f"address {address} -> {after[ip]}"
    yield from (f"address {address} added" for ip, address in after.items() if ip not in before)
    if list(before) != list(after) and before.keys() == after.keys():
        yield "order of addresses changed"


def _list_differences(word: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    yield from (f"{word} {one} removed" for one in old if one not in new)
    yield from (f"{word} {one} added" for one in new if one not in old)


def _digested(one: InterfaceParameters) -> tuple[bytes, bytes]:
    """Return what the digest covers that can change without making the interface anew."""
    ips = [address.ip for address in one.addresses]
    return one.key, digest_addresses(ips, one.dialect.address_order, link_local=one.dialect.sends_link_local)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / NANOSECONDS_PER_SECOND:g} s"


def _preempt(one: InterfaceParameters) -> str:
    return "as [global]" if one.preempt is None else _text(one.preempt)


def _link_address(one: InterfaceParameters) -> str:
    return one.lladdr.value if isinstance(one.lladdr, LinkAddress) else mac_text(one.lladdr)


def _peer_master_down(one: InterfaceParameters) -> str:
    return "worked out" if one.peer_master_down_ns is None else _seconds(one.peer_master_down_ns)


def _nodes(one: InterfaceParameters) -> str:
    return ",".join(f"{node.vhid}:{node.advskew}" for node in one.nodes if node.vhid) or _NONE


_VALUES: dict[str, Callable[[InterfaceParameters], str]] = {
    "up": lambda one: _text(one.up),
    "carpdev": lambda one: one.carpdev or _NONE,
    "lladdr": _link_address,
    "dialect": lambda one: one.dialect.name,
    "advbase": lambda one: str(one.advbase),
    "preempt": _preempt,
    "demote-skew": lambda one: _text(one.demote_skew),
    "digest-grace": lambda one: _seconds(one.digest_grace_ns),
    "peer-master-down": _peer_master_down,
}
_IDENTITY = frozenset({"carpdev", "lladdr", "dialect"})
"""What an interface cannot change and stay the same; so are the vhids of its nodes."""
