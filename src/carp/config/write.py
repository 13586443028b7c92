"""A document as the text of a carp.toml, and that text into a file."""

import copy
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .errors import KeyPath, key_text
from .layout import GLOBAL, HOOKS, SYNC, TRACK, is_carp, rank
from .model import GlobalTable, HooksTable, InterfaceTable, SyncTable, TrackTable, keys_of
from .secrets import SECRET_KEYS

FILE_MODE = 0o600

_KEY_LEFT_OUT = "# A pass phrase or key is not shown here."
_KEPT_ELSEWHERE = frozenset({"pass-file", "pass-credential"})
_DELETE = "\x7f"
_MODELS: Mapping[str, type[BaseModel]] = {GLOBAL: GlobalTable, SYNC: SyncTable}


def to_toml(document: Mapping[str, Any], *, with_keys: bool) -> str:
    """Write a checked document as carp.toml: tables in their order, tracks as they were, keys as in the models.

    Without keys a comment stands where one may be; read back, such a text has none.
    """
    tables: list[str] = []
    for name in sorted(document, key=rank):
        table = document[name]
        if name == TRACK:
            tables += (_table((TRACK, track), one, TrackTable) for track, one in table.items())
            continue
        model = InterfaceTable if is_carp(name) else _MODELS[name]
        tables.append(_table((name,), table, model, with_keys=with_keys))
        if HOOKS in table:
            tables.append(_table((name, HOOKS), table[HOOKS], HooksTable))
    return "\n".join(tables)


def public(document: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a document without pass phrases and keys; the names of files and credentials that hold them stay."""
    kept = copy.deepcopy(dict(document))
    for name, table in kept.items():
        # Anything may be the name of a track.
        for key in SECRET_KEYS if name != TRACK else ():
            table.pop(key, None)
    return kept


def complete(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Copy a running document without the interfaces that a file could not hold, and say of each what it lacks."""
    kept, left_out = copy.deepcopy(dict(document)), []
    for name in sorted(document, key=rank):
        lacking = _lacking(name, document[name])
        if lacking:
            del kept[name]
            left_out.append(f"{name} is left out: it has {_joined(lacking)}")
    return kept, left_out


def save(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all; a symbolic link stays one.

    It waits for the disk.

    Raises:
        OSError: it cannot be written; a former file is as it was.
    """
    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _table(path: KeyPath, table: Mapping[str, Any], model: type[BaseModel], *, with_keys: bool = True) -> str:
    return "".join(f"{line}\n" for line in (f"[{key_text(path)}]", *_lines(table, model, with_keys=with_keys)))


def _lines(table: Mapping[str, Any], model: type[BaseModel], *, with_keys: bool) -> Iterator[str]:
    may_hide = not with_keys and not _KEPT_ELSEWHERE & table.keys()
    for key in keys_of(model):
        if key == "pass" and may_hide:
            yield _KEY_LEFT_OUT
        if key in table and key != HOOKS and (with_keys or key not in SECRET_KEYS):
            yield f"{key} = {_value(table[key])}"


def _value(value: object) -> str:
    if isinstance(value, str):
        # What JSON escapes TOML reads, and TOML wants one character more to be escaped.
        return json.dumps(value, ensure_ascii=False).replace(_DELETE, "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return json.dumps(value)


def _lacking(name: str, table: Mapping[str, Any]) -> list[str]:
    if not is_carp(name):
        return []
    lacking = [] if "vhid" in table or "carpnodes" in table else ["vhid"]
    return lacking + [key for key in ("carpdev", "addresses") if not table.get(key)]


def _joined(lacking: Sequence[str]) -> str:
    most, last = ", ".join(f"no {key}" for key in lacking[:-1]), f"no {lacking[-1]}"
    return f"{most} and {last}" if most else last
