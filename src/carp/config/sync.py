"""[sync]: conntrackd, which keeps the states of connections alike on two firewalls, and what waits for it."""

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carp.protocol.demotion import groups_of
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import NANOSECONDS_PER_SECOND, Address

from . import targets, words
from .errors import Collector, KeyPath, RefusedError, joined, shown
from .layout import SYNC, carp_tables
from .model import SyncTable, read_table
from .relations import addresses_of, lenient

_OF_PROGRAMS = frozenset({"bin", "sbin"})


@dataclass(frozen=True, slots=True)
class Sync:
    """What carpd has to know of conntrackd and of its link.

    `socket` is the path of conntrackd's control socket, `interface` the dedicated link; `address` is this host's own on it and
    `peer` the other host's, both of one family. A takeover waits for the states `timeout_ns` at most (more than 0). `demote`,
    1..255, is what the groups, which may be `all` or a carp interface's name, are demoted by while this host lacks states,
    until the peer did not send those that it was asked for within `bulk_timeout_ns` (0: not at all).
    """

    socket: str
    interface: str
    address: Address | None
    peer: Address | None
    timeout_ns: int
    bulk_timeout_ns: int
    demote: int
    groups: frozenset[str]

    def covers(self, name: str, groups: Iterable[str]) -> bool:
        """Tell whether a carp interface of this name and in these groups passes the connections."""
        return not self.groups.isdisjoint(groups_of(name, groups))


def read_sync(document: Mapping[str, Any], problems: Collector) -> Sync | None:
    """Read [sync] of a document, None where there is none; without a problem it is in the result."""
    if SYNC not in document:
        return None
    table = document[SYNC]
    if not isinstance(table, Mapping):
        problems.add((SYNC,), RefusedError(f"a table [{SYNC}]"), shown(table))
        return None
    _check_addresses(table, carp_tables(document), problems)
    _check_socket(table, problems)
    checked = read_table(SyncTable, (SYNC,), table, problems)
    if checked is None:
        return None
    return Sync(
        checked.conntrackd,
        checked.interface,
        checked.address,
        checked.peer,
        timeout_ns=round(checked.timeout * NANOSECONDS_PER_SECOND),
        bulk_timeout_ns=round(checked.bulk_timeout * NANOSECONDS_PER_SECOND),
        demote=checked.demote,
        groups=frozenset(checked.groups),
    )


def sync_warnings(sync: Sync | None, interfaces: Iterable[InterfaceParameters]) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is legal and unwise about [sync], with its place."""
    if sync is None:
        return
    on_link = [one.name for one in interfaces if one.carpdev == sync.interface and sync.covers(one.name, one.groups)]
    if on_link:
        remark = f"{sync.interface} is the carpdev of {joined(on_link)}: states want a link of their own between the two hosts"
        yield (SYNC, "interface"), remark


def _check_socket(table: Mapping[str, object], problems: Collector) -> None:
    """What is there already is a socket, and where programs are there will be none: conntrackd deletes it when it starts."""
    path = lenient(targets.socket, table.get("conntrackd"))
    if path is None:
        return
    try:
        is_none = not stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        is_none = Path(path).parent.name in _OF_PROGRAMS
    if is_none:
        problems.add((SYNC, "conntrackd"), RefusedError(targets.SOCKET, fault=f"{shown(path)} is not a socket"))


def _check_addresses(table: Mapping[str, object], interfaces: Mapping[str, Mapping[str, Any]], problems: Collector) -> None:
    """Two different addresses of one family, which stay where they are."""
    shared = {ip: name for name, one in interfaces.items() for _, ip in addresses_of(one)}
    found = {key: ip for key in ("address", "peer") if (ip := lenient(words.peer, table.get(key))) is not None}
    for key, ip in found.items():
        if ip in shared:
            fault = f"{shown(str(ip))} is a shared address of {shared[ip]}"
            problems.add((SYNC, key), RefusedError("an address that a host has for itself", fault=fault))
    if len(found) < len(("address", "peer")):
        return
    address, peer = found["address"], found["peer"]
    if address == peer:
        problems.add((SYNC, "peer"), RefusedError("the other host's own", fault=f"{shown(str(peer))} is this host's address"))
    elif address.version != peer.version:
        fault = f"{shown(str(peer))} is of another family than {address}"
        problems.add((SYNC, "peer"), RefusedError(f"an IPv{address.version} address", fault=fault))
