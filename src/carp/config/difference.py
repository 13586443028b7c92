"""What changes from one configuration to the next, in sentences for an operator; keys are compared and never shown."""

import shlex
from collections.abc import Callable, Container, Iterator, Sequence

from carp.attendant.orders import HookKind
from carp.protocol.auth import ZERO_KEY, digest_addresses
from carp.protocol.parameters import InterfaceParameters, LinkAddress
from carp.protocol.values import NANOSECONDS_PER_SECOND, mac_text

from .hooks import NO_HOOKS, Hooks
from .layout import rank
from .load import Configuration, draft_parameters
from .sync import Sync
from .track import Track

_NONE = "none"
_ANEW = " (made anew)"
_AT_START = " (from the next start of carpd)"

_GLOBAL: dict[str, Callable[[Configuration], object]] = {
    "allow": lambda one: one.host.allow,
    "preempt": lambda one: one.host.preempt,
    "log": lambda one: one.log,
    "arpbalance": lambda one: one.host.arpbalance,
    "dscp": lambda one: "as the dialect" if one.host.dscp is None else one.host.dscp,
    "ifdown-demotion-factor": lambda one: one.host.ifdown_demotion,
    "senderr-demotion-factor": lambda one: one.host.senderr_demotion,
    "script-user": lambda one: one.script_user,
}
_GLOBAL_AT_START: dict[str, Callable[[Configuration], object]] = {
    "fence": lambda one: one.fence,
    "realtime": lambda one: one.realtime,
    "start-demote": lambda one: one.start_demote,
    "start-demote-time": lambda one: _seconds(one.start_demote_time_ns),
}


def differences(old: Configuration, new: Configuration) -> list[str]:
    """List what differs: the host's values, [sync], then each track, then each carp interface, in the order of their numbers.

    What takes an interface down and makes it anew, so that it loses mastership, says so.
    """
    before, after = _interfaces(old), _interfaces(new)
    found = [*_host_differences(old, new), *_sync_differences(old.sync, new.sync), *_track_differences(old, new)]
    for name in sorted(before.keys() | after.keys(), key=rank):
        if name not in after:
            found.append(f"{name}: removed")
        elif name not in before:
            found.append(f"{name}: new")
        else:
            found += [f"{name}: {change}" for change in _interface_differences(before[name], after[name])]
            hooks = (one.hooks.get(name, NO_HOOKS) for one in (old, new))
            found += [f"{name}: {change}" for change in _hook_differences(*hooks)]
    return found


def order_warnings(old: Configuration, new: Configuration, masters: Container[str]) -> list[str]:
    """Warn of each interface that is MASTER on this host, by name, whose peers would refuse it after the change.

    Where several hosts are MASTER of shares there is no order, but an end to the change. What shares no load any more is told.
    """
    before = {one.name: one for one in old.host.interfaces}
    warnings = []
    for after in new.host.interfaces:
        former = before.get(after.name)
        if former is None or after.name not in masters or not after.up or _digested(former) == _digested(after):
            continue
        grace_s = after.digest_grace_ns / NANOSECONDS_PER_SECOND
        within = f"within digest-grace ({grace_s:g} s)" if grace_s else "at the same moment, as digest-grace is 0"
        order = "the BACKUPs are to be changed before it, all"
        if after.is_balanced:
            order = "and so are others of its load: change them too,"
        warnings.append(f"{after.name}: this host is MASTER: {order} {within}")
    for name, former in before.items():
        now = next((one for one in new.host.interfaces if one.name == name), None)
        if now is not None and former.is_balanced and not now.is_balanced:
            warnings.append(f"{name}: balancing {former.balancing.value} has ended: it has one virtual host now")
    return warnings


def _interfaces(configuration: Configuration) -> dict[str, InterfaceParameters]:
    """Return the parameters of every interface, of drafts too."""
    drafts = {name: draft_parameters(configuration, name) for name in configuration.drafts}
    return drafts | {one.name: one for one in configuration.host.interfaces}


def _host_differences(old: Configuration, new: Configuration) -> Iterator[str]:
    for values, remark in ((_GLOBAL, ""), (_GLOBAL_AT_START, _AT_START)):
        for key, value in values.items():
            if value(old) != value(new):
                yield f"{key} {_text(value(old))} -> {_text(value(new))}{remark}"


def _sync_differences(old: Sync | None, new: Sync | None) -> Iterator[str]:
    if old is None and new is None:
        return
    if old is None or new is None:
        yield "sync: new" if old is None else "sync: removed"
        return
    for key, value in _SYNC_VALUES.items():
        if value(old) != value(new):
            yield f"sync: {key} {value(old)} -> {value(new)}"


def _track_differences(old: Configuration, new: Configuration) -> Iterator[str]:
    before, after = ({track.check.name: track for track in one.tracks} for one in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"track {name}: removed"
        elif name not in before:
            yield f"track {name}: new"
        else:
            yield from (f"track {name}: {change}" for change in _changes_of_track(before[name], after[name]))


def _changes_of_track(old: Track, new: Track) -> Iterator[str]:
    before, after = (f"{one.check.kind.value} {one.check.target}" for one in (old, new))
    if before != after:
        yield f"{before} -> {after}"
    for key, value in _TRACK_VALUES.items():
        if value(old) != value(new) and (key not in _TIMING or old.check.kind is new.check.kind):
            yield f"{key} {value(old)} -> {value(new)}"


def _hook_differences(old: Hooks, new: Hooks) -> Iterator[str]:
    for kind in HookKind:
        before, after = (shlex.join(one.programs.get(kind, ())) or _NONE for one in (old, new))
        if before != after:
            yield f"hook {kind.value} {before} -> {after}"
    if old.programs and new.programs:
        for key, value in _HOOK_TIMES.items():
            if value(old) != value(new):
                yield f"hook {key} {_seconds(value(old))} -> {_seconds(value(new))}"


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
    "balancing": lambda one: one.balancing.value,
    "snooping": lambda one: "mrd" if one.announces_router else "off",
    "advbase": lambda one: str(one.advbase),
    "preempt": _preempt,
    "preempt-delay": lambda one: _seconds(one.preempt_delay_ns),
    "demote-skew": lambda one: _text(one.demote_skew),
    "digest-grace": lambda one: _seconds(one.digest_grace_ns),
    "peer-master-down": _peer_master_down,
}
_TRACK_VALUES: dict[str, Callable[[Track], str]] = {
    "device": lambda one: one.check.device or _NONE,
    "status": lambda one: ",".join(map(str, one.check.status)) or "200..399",
    "verify-tls": lambda one: _text(one.check.verify_tls),
    "demote": lambda one: str(one.demote),
    "groups": lambda one: ",".join(sorted(one.groups)),
    "interval": lambda one: _seconds(one.check.interval_ns),
    "timeout": lambda one: _seconds(one.check.timeout_ns),
    "rise": lambda one: str(one.check.rise),
    "fall": lambda one: str(one.check.fall),
}
_TIMING = frozenset({"interval", "timeout", "rise", "fall"})
"""Of a track. Between two kinds of check they are not compared: not every kind has them."""

_SYNC_VALUES: dict[str, Callable[[Sync], str]] = {
    "conntrackd": lambda one: one.socket,
    "interface": lambda one: one.interface,
    "address": lambda one: str(one.address or _NONE),
    "peer": lambda one: str(one.peer or _NONE),
    "timeout": lambda one: _seconds(one.timeout_ns),
    "bulk-timeout": lambda one: _seconds(one.bulk_timeout_ns),
    "demote": lambda one: str(one.demote),
    "groups": lambda one: ",".join(sorted(one.groups)),
}
_HOOK_TIMES: dict[str, Callable[[Hooks], int]] = {
    "timeout": lambda one: one.timeout_ns,
    "pre-master-deadline": lambda one: one.pre_master_deadline_ns,
}
_IDENTITY = frozenset({"carpdev", "lladdr", "dialect", "balancing"})
"""What an interface cannot change and stay the same; so are the vhids of its nodes."""
