"""Which tables a document has and in which order they stand: [global], [sync], [track.NAME], [carpN], and hooks in some.

A document is a carp.toml as plain values: tables by their names. `track` holds one table for each track; `hooks` in [global] or
[carpN] is a table inside of theirs. Whoever walks a document asks here what it has before them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from . import words

GLOBAL = "global"
SYNC = "sync"
TRACK = "track"
HOOKS = "hooks"

TRACK_EXAMPLE = f"[{TRACK}.uplink]"

Tables = Mapping[str, Mapping[str, object]]
"""Tables by name, in the order of the document."""


def carp_tables(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the tables of the carp interfaces by name; what is called one and is no table is left out."""
    return {name: table for name, table in document.items() if is_carp(name) and isinstance(table, Mapping)}


def track_tables(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the tables of the tracks by NAME; what is no table is left out."""
    tracks = document.get(TRACK)
    return {name: one for name, one in tracks.items() if isinstance(one, Mapping)} if isinstance(tracks, Mapping) else {}


def global_table(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return [global], empty where it is not there or no table."""
    table = document.get(GLOBAL)
    return table if isinstance(table, Mapping) else {}


def sync_table(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return [sync], or None where it is not there or no table."""
    table = document.get(SYNC)
    return table if isinstance(table, Mapping) else None


def hook_tables(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every table `hooks` with the name of the table that it is in: global or carpN."""
    for name, table in {GLOBAL: global_table(document), **carp_tables(document)}.items():
        hooks = table.get(HOOKS)
        if isinstance(hooks, Mapping):
            yield name, hooks


def is_carp(name: str) -> bool:
    """Tell whether a table of this name is that of a carp interface."""
    return words.carp_number(name) is not None


def rank(name: str) -> tuple[int, str]:
    """Sort key of a table by its name: [global], [sync], the tracks, as their names have it, then carp interfaces by number."""
    number = words.carp_number(name)
    return (-1 if number is None else number, name)


def in_order(document: Mapping[str, object]) -> dict[str, object]:
    """Put the tables of a document into their order."""
    return dict(sorted(document.items(), key=lambda item: rank(item[0])))
