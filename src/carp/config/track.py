"""The tracks: what a host checks, and the groups that a failing check demotes.

The keys of one table are read by its model; here are the rules between them.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carp.attendant.orders import AT_ONCE, Check, CheckKind
from carp.protocol.values import NANOSECONDS_PER_SECOND

from . import words
from .errors import Collector, KeyPath, RefusedError, shown
from .layout import TRACK, TRACK_EXAMPLE
from .model import TrackTable, keys_of, read_table

KINDS: Mapping[str, CheckKind] = {kind.value: kind for kind in CheckKind if kind is not CheckKind.BOOT}
"""The keys that name what is checked. The start of the host is not one of them: [global] start-demote is about it."""

_REPEATED = frozenset(KINDS.values()) - AT_ONCE
_GOES_WITH: Mapping[str, frozenset[CheckKind]] = {
    "device": frozenset({CheckKind.ADDRESS, CheckKind.ROUTE}),
    "status": frozenset({CheckKind.HTTP}),
    "verify-tls": frozenset({CheckKind.HTTP}),
    **dict.fromkeys(("interval", "timeout", "rise", "fall"), _REPEATED),
}


@dataclass(frozen=True, slots=True)
class Track:
    """One check, and what it demotes by (1..255) while it fails: the groups, which may be `all` or a carp interface's name."""

    check: Check
    demote: int
    groups: frozenset[str]


def read_tracks(document: Mapping[str, Any], problems: Collector) -> tuple[Track, ...]:
    """Read the tracks of a document in its order; without a problem all of them are in the result."""
    tracks = document.get(TRACK, {})
    if not isinstance(tracks, Mapping):
        problems.add((TRACK,), RefusedError(f"tables such as {TRACK_EXAMPLE}"), shown(tracks))
        return ()
    found = []
    for name, table in tracks.items():
        path = (TRACK, name)
        if not isinstance(table, Mapping):
            problems.add(path, _stray(name), shown(table))
            continue
        try:
            words.track_name(name)
        except RefusedError as refused:
            problems.add(path, RefusedError(refused.allowed, fault="not the name of a track"))
        _check_kind(path, table, problems)
        checked = read_table(TrackTable, path, table, problems)
        kind = next((KINDS[key] for key in table if key in KINDS), None)
        if checked is not None and kind is not None:
            found.append(_track(name, kind, checked))
    return tuple(found)


def _stray(name: str) -> RefusedError:
    if name in keys_of(TrackTable):
        return RefusedError(fault=f"stands in [{TRACK}] itself", hint=f"put it below a line such as {TRACK_EXAMPLE}")
    return RefusedError(f"a table [{TRACK}.NAME]")


def _check_kind(path: KeyPath, table: Mapping[str, object], problems: Collector) -> None:
    """Exactly one thing is checked, and what else is written goes with it."""
    kinds = [key for key in table if key in KINDS]
    if not kinds:
        problems.add(path, RefusedError(f"one of {', '.join(KINDS)}", fault="it checks nothing"))
        return
    for extra in kinds[1:]:
        problems.add((*path, extra), RefusedError("one check in each track", fault=f"{kinds[0]} is given already"))
    kind = KINDS[kinds[0]]
    for key in table:
        goes_with = _GOES_WITH.get(key)
        if goes_with is None or kind in goes_with:
            continue
        allowed = f"it goes with {' and '.join(one.value for one in CheckKind if one in goes_with)}"
        if goes_with is _REPEATED:
            allowed = "the kernel tells of it at once"
        problems.add((*path, key), RefusedError(allowed, fault=f"not together with {kind.value}"))


def _track(name: str, kind: CheckKind, table: TrackTable) -> Track:
    argv = table.script or ()
    at_once = kind in AT_ONCE
    check = Check(
        name,
        kind,
        target=shlex.join(argv) if kind is CheckKind.SCRIPT else getattr(table, kind.value.replace("-", "_")),
        argv=argv,
        device=table.device or "",
        status=tuple(sorted(set(table.status or ()))),
        verify_tls=table.verify_tls,
        interval_ns=round(table.interval * NANOSECONDS_PER_SECOND),
        timeout_ns=round(table.timeout * NANOSECONDS_PER_SECOND),
        rise=1 if at_once else table.rise,
        fall=1 if at_once else table.fall,
    )
    return Track(check, table.demote, frozenset(table.groups))
