"""Changes of the running document: what one line of the BSD words asks for, carried out on a copy.

Only what needs the former document or this host is decided here: what exists, which prefix and which parent were meant.
Whether the values are right is for `load` to say, which checks the whole result. No text made here holds a value of `set`.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any

from carp.protocol.parameters import Balancing
from carp.protocol.values import Address, InterfaceAddress

from . import words
from .change import Change, WrittenAddress
from .errors import RefusedError, shown
from .hints import did_you_mean
from .layout import GLOBAL
from .model import InterfaceTable, keys_of
from .relations import KEY_SOURCES

Document = dict[str, Any]
"""A document of the shape of carp.toml, in plain values."""

STATES = ("init", "backup", "master")

_DEFAULT_GROUPS = ("carp",)
_IPV6_PREFIX_LENGTH = 64
_LOOPBACK = "lo"
_NO_BALANCING = Balancing.NONE.value
_REPLACED_BY = {"vhid": ("carpnodes", "balancing"), "carpnodes": ("vhid", "advskew")} | {
    source: tuple(other for other in KEY_SOURCES if other != source) for source in KEY_SOURCES
}


class EditError(ValueError):
    """A change cannot be carried out; the text is one sentence that names the interface, the word and what is allowed."""


@dataclass(frozen=True, slots=True)
class ParentView:
    """An interface of this host; `addresses` are its own, without those that carpd set there."""

    name: str
    up: bool
    addresses: tuple[InterfaceAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class HostView:
    """What a change has to know about this host: its interfaces in the kernel's order; of equal ones the first is meant."""

    parents: tuple[ParentView, ...] = ()


def apply(document: Mapping[str, Any], change: Change, host: HostView) -> Document:
    """Return the document after a change; the given one stays as it is. The result is yet to be checked by `load_document`.

    Raises:
        EditError: the change contradicts itself or the document, or this host does not tell what was left out.
    """
    name = change.interface
    if words.carp_number(name) is None:
        raise EditError(f"{shown(name)} is not the name of a carp interface: {words.CARP_NAME}")
    _check_alone(change)
    result = copy.deepcopy(dict(document))
    exists = name in result
    if change.create and exists:
        raise EditError(f"{name}: create: it exists already")
    if change.destroy:
        if not exists:
            raise EditError(f"{name}: destroy: there is no such carp interface")
        del result[name]
        return result
    if not exists and (change.remove_addresses or change.remove_groups):
        raise EditError(f"{name}: there is no such carp interface to remove something from")
    # Last, so that a conflict is blamed on it and not on what was there before.
    table = result[name] = result.pop(name, {})
    for key in change.unset:
        table.pop(key, None)
    _set(table, change)
    if change.up is not None:
        _set_up(table, up=change.up)
    _remove_addresses(name, table, change.remove_addresses)
    _add_addresses(name, table, change.add_addresses, host)
    _change_groups(name, table, change)
    return result


def set_global(document: Mapping[str, Any], values: Mapping[str, object]) -> Document:
    """Return the document with values of [global] set; None takes a key back to its default."""
    result = copy.deepcopy(dict(document))
    table = result.setdefault(GLOBAL, {})
    for key, value in values.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = copy.deepcopy(value)
    if not table:
        del result[GLOBAL]
    return result


def _check_alone(change: Change) -> None:
    """Refuse what no order of doing it would make sense of."""
    name = change.interface
    if change.destroy and change != Change(name, destroy=True):
        raise EditError(f"{name}: destroy: nothing else is allowed in the same change")
    if change.state is not None and change.state not in STATES:
        raise EditError(f"{name}: state: {shown(change.state)} is not allowed: one of {', '.join(STATES)}")
    allowed = keys_of(InterfaceTable)
    for key in change.unset:
        if key not in allowed:
            raise EditError(f"{name}: -{key}: unknown key; {did_you_mean(key, allowed) or 'allowed: ' + ', '.join(allowed)}")
        if key in change.set:
            raise EditError(f"{name}: {key}: either set or taken back in one change")
    for key, value in change.set.items():
        if _holds_null(value):
            raise EditError(f"{name}: {key}: null is not allowed: unset takes a key back to its default")
    twice = {
        "addresses": change.add_addresses or change.remove_addresses,
        "groups": change.add_groups or change.remove_groups,
        "up": change.up is not None,
    }
    for key, asked in twice.items():
        if asked and key in change.set:
            raise EditError(f"{name}: {key}: either set or changed in one change")
    for group in change.add_groups:
        if group in change.remove_groups:
            raise EditError(f"{name}: group: {shown(group)} is either added or removed in one change")


def _holds_null(value: object) -> bool:
    """Tell whether a value is null or a table with one: neither can be written to a file."""
    return value is None or (isinstance(value, Mapping) and any(_holds_null(one) for one in value.values()))


def _set(table: Document, change: Change) -> None:
    for key in change.set:
        for replaced in _REPLACED_BY.get(key, ()):
            if replaced not in change.set:
                table.pop(replaced, None)
    # One node has none in any case; several that are given now end what was said before them.
    if "carpnodes" in change.set and table.get("balancing") == _NO_BALANCING:
        del table["balancing"]
    for key, value in change.set.items():
        table[key] = copy.deepcopy(value)


def _set_up(table: Document, *, up: bool) -> None:
    table.pop("up", None)
    if not up:
        table["up"] = False


def _change_groups(name: str, table: Document, change: Change) -> None:
    if not (change.add_groups or change.remove_groups):
        return
    groups = list(table.get("groups", _DEFAULT_GROUPS))
    for group in change.remove_groups:
        if group not in groups:
            raise EditError(f"{name}: -group: {shown(group)} is not one of its groups: {', '.join(groups) or 'it has none'}")
        groups = [one for one in groups if one != group]
    groups += [group for group in dict.fromkeys(change.add_groups) if group not in groups]
    table["groups"] = groups


def _remove_addresses(name: str, table: Document, removed: Iterable[WrittenAddress]) -> None:
    for one in removed:
        ip = _ip(name, one)
        listed = table.get("addresses", [])
        kept = [word for word in listed if _ip_of(word) != ip]
        if len(kept) == len(listed):
            raise EditError(f"{name}: delete: {ip} is not one of its addresses: {', '.join(listed) or 'it has none'}")
        table["addresses"] = kept
        if not kept:
            del table["addresses"]


def _add_addresses(name: str, table: Document, added: tuple[WrittenAddress, ...], host: HostView) -> None:
    if not added:
        return
    found = [(_ip(name, one), one.prefix_length) for one in added]
    if "carpdev" not in table:
        table["carpdev"] = _find_parent(name, [ip for ip, _ in found], host)
    listed = list(table.get("addresses", []))
    for ip, length in found:
        at = next((number for number, word in enumerate(listed) if _ip_of(word) == ip), None)
        if at is None:
            listed.append(f"{ip}/{_likely_length(ip, table['carpdev'], host) if length is None else length}")
        elif length is not None and ip_interface(listed[at]).network.prefixlen != length:
            listed[at] = f"{ip}/{length}"
    table["addresses"] = listed


def _find_parent(name: str, ips: Iterable[Address], host: HostView) -> str:
    """Find the parent that is up and has the smallest network with one of the addresses, the first address first."""
    for ip in ips:
        # Every interface has the link-local network: it tells nothing.
        if ip.is_link_local and ip.version == 6:
            continue
        lengths = {
            parent.name: length for parent in host.parents if parent.up and (length := _matching_length(ip, parent)) is not None
        }
        if lengths:
            return max(lengths, key=lambda parent: lengths[parent])
    first = next(iter(ips))
    raise EditError(f"{name}: carpdev: missing, and no interface that is up has a network with {first}: name the parent")


def _likely_length(ip: Address, carpdev: object, host: HostView) -> int:
    """Return the length of the prefix that the parent has for an address, else that of its class, or 64."""
    matching = [_matching_length(ip, parent) for parent in host.parents if parent.name == carpdev]
    if matching and matching[0] is not None:
        return matching[0]
    if ip.version == 6:
        return _IPV6_PREFIX_LENGTH
    first_byte = ip.packed[0]
    return 8 if first_byte < 128 else 16 if first_byte < 192 else 24


def _matching_length(ip: Address, parent: ParentView) -> int | None:
    """Return the length of the parent's longest prefix that an address is in; of what cannot be a parent it is None."""
    if parent.name == _LOOPBACK or words.carp_number(parent.name) is not None:
        return None
    lengths = [own.network.prefixlen for own in parent.addresses if own.version == ip.version and ip in own.network]
    return max(lengths, default=None)


def _ip(name: str, written: WrittenAddress) -> Address:
    """Read a written address, and refuse what `load` would, so that the address is blamed and not the search for its parent."""
    try:
        ip = ip_address(written.address)
    except ValueError:
        ip = None
    if ip is None or "%" in written.address:
        raise EditError(f"{name}: {shown(written.address)} is not allowed: an IPv4 or IPv6 address")
    length = ip.max_prefixlen if written.prefix_length is None else written.prefix_length
    if not 1 <= length <= ip.max_prefixlen:
        raise EditError(f"{name}: {ip}: prefix length {length} is not allowed: 1..{ip.max_prefixlen}")
    try:
        return words.address(f"{ip}/{length}").ip
    except RefusedError as refused:
        raise EditError(f"{name}: {ip} is not allowed: {refused.allowed}") from None


def _ip_of(word: str) -> Address:
    return ip_interface(word).ip
