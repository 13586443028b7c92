"""Rules between the keys of one table, and between the tables of one file.

They look at what was written rather than at checked models, so that a wrong value in one place hides no fault in another.
Values that are wrong by themselves are passed over here.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from carp.protocol.demotion import EVERY_INTERFACE
from carp.protocol.interval import advertisement_interval_ns
from carp.protocol.values import NANOSECONDS_PER_SECOND, Address

from . import words
from .errors import Collector, KeyPath, RefusedError, shown
from .hints import did_you_mean
from .layout import SYNC, TRACK, Tables, carp_tables, sync_table, track_tables

KEY_SOURCES = ("pass", "pass-file", "key-hex", "pass-credential")

DEFAULT_GROUPS = ("carp",)
"""Of a table that names none."""

_Value = TypeVar("_Value")


def check_keys(name: str, table: Mapping[str, object], problems: Collector, *, incomplete_ok: bool) -> None:
    """Check the rules between the keys of one carp interface; with `incomplete_ok` it may be without a vhid."""
    sources = [key for key in table if key in KEY_SOURCES]
    for extra in sources[1:]:
        fault = f"{sources[0]} is given already"
        problems.add((name, extra), RefusedError(f"only one of {', '.join(KEY_SOURCES)}", fault=fault))
    nodes = table.get("carpnodes")
    if nodes is None and "vhid" not in table and not incomplete_ok:
        problems.add((name, "vhid"), RefusedError("an integer 1..255", fault="missing"))
    if nodes is not None:
        for key in ("vhid", "advskew"):
            if key in table:
                problems.add((name, key), RefusedError("carpnodes holds it", fault="not together with carpnodes"))
    advbase = table.get("advbase", 1)
    if table.get("demote-skew") is True and type(advbase) is int and advbase == 0:
        problems.add(
            (name, "demote-skew"), RefusedError("false, or advbase 1..254", fault="true needs an advbase of 1 or more")
        )
    _check_patience(name, table, problems)
    _check_peers(name, table, problems)


def _check_peers(name: str, table: Mapping[str, object], problems: Collector) -> None:
    """No host is told twice, and none through an address that moves between them."""
    shared = {address for _, address in addresses_of(table)}
    listed = words.as_list(table.get("carppeer"))
    seen = set()
    for word in listed if isinstance(listed, list) else []:
        peer = lenient(words.peer, word)
        if peer is None:
            continue
        if peer in shared:
            fault = f"{shown(word)} is a shared address of {name} itself"
            problems.add((name, "carppeer"), RefusedError("an address that the peer has for itself", fault=fault))
        elif peer in seen:
            problems.add((name, "carppeer"), RefusedError("each address once", fault=f"{shown(word)} is listed twice"))
        seen.add(peer)


def _check_patience(name: str, table: Mapping[str, object], problems: Collector) -> None:
    """A peer that gives this host up between two of its advertisements cannot be meant."""
    patience_s, advbase, advskew = table.get("peer-master-down"), table.get("advbase", 1), table.get("advskew", 0)
    if not isinstance(patience_s, int | float) or type(advbase) is not int or type(advskew) is not int:
        return
    interval_s = advertisement_interval_ns(advbase, advskew) / NANOSECONDS_PER_SECOND
    if patience_s <= interval_s:
        fault = "not longer than the interval of this host's advertisements"
        problems.add((name, "peer-master-down"), RefusedError(f"more than {interval_s:g} s", fault=fault))


def check_vhids(tables: Tables, problems: Collector) -> None:
    """Check that no two carp interfaces of one parent claim the same vhid, nor one of them twice."""
    owners: dict[tuple[str, int], str] = {}
    for name, table in tables.items():
        parent = parent_of(name, table)
        for key, vhid in vhids_of(table):
            owner = owners.get((parent, vhid))
            if owner is None:
                owners[parent, vhid] = name
            else:
                _refuse_vhid((name, key), vhid, owner, parent, problems)


def parent_of(name: str, table: Mapping[str, object]) -> str:
    """Return the parent of a carp interface, or its own name: without a usable parent it still must not contradict itself."""
    carpdev = lenient(words.carpdev, table.get("carpdev"))
    return name if carpdev is None else carpdev


def _refuse_vhid(path: tuple[str, str], vhid: int, owner: str, parent: str, problems: Collector) -> None:
    where = "is listed twice" if owner == path[0] else f"is also the vhid of {owner} on {parent}"
    problems.add(path, RefusedError("each vhid once on a carpdev", fault=f"{vhid} {where}"))


def unknown_groups(document: Mapping[str, Any]) -> Iterator[tuple[KeyPath, RefusedError]]:
    """Yield each group of [sync] and of a track that no carp interface is in, with its place."""
    interfaces = carp_tables(document)
    groups = {group: None for table in interfaces.values() for group in listed_groups(table)}
    known = (*groups, EVERY_INTERFACE, *interfaces)
    sync = sync_table(document)
    naming: dict[KeyPath, Mapping[str, Any]] = {} if sync is None else {(SYNC,): sync}
    naming |= {(TRACK, name): table for name, table in track_tables(document).items()}
    for path, table in naming.items():
        for group in listed_groups(table):
            if group in known or lenient(words.track_group, group) is None:
                continue
            there_are = ", ".join((*groups, EVERY_INTERFACE, "or a carp interface"))
            fault = f"no carp interface is in {shown(group)}"
            yield (*path, "groups"), RefusedError(f"one of {there_are}", fault=fault, hint=did_you_mean(group, known))


def listed_groups(table: Mapping[str, object]) -> list[str]:
    """Return the groups that a table names, or the default ones, without those that are wrong by themselves."""
    listed = table.get("groups", DEFAULT_GROUPS)
    return [group for group in listed if isinstance(group, str)] if isinstance(listed, list | tuple) else []


def vhids_of(table: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """Yield every usable vhid of a table with the key that it stands in; beside carpnodes the key vhid is a fault already."""
    nodes = table.get("carpnodes")
    if isinstance(nodes, list):
        for word in nodes:
            node = lenient(words.node, word)
            if node is not None:
                yield "carpnodes", node.vhid
        return
    vhid = table.get("vhid")
    if type(vhid) is int and 1 <= vhid <= 255:
        yield "vhid", vhid


def addresses_of(table: Mapping[str, object]) -> Iterator[tuple[str, Address]]:
    """Yield every usable address of a table, as written and without its prefix."""
    listed = table.get("addresses")
    for word in listed if isinstance(listed, list) else []:
        address = lenient(words.address, word)
        if address is not None:
            yield str(word), address.ip


def lenient(read: Callable[[object], _Value], word: object) -> _Value | None:
    """Read a word; None where it is refused, which is for somebody else to say."""
    try:
        return read(word)
    except RefusedError:
        return None
