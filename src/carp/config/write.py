"""A document as the text of a carp.toml, and that text into a file."""

import copy
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import words
from .model import GlobalTable, InterfaceTable, keys_of
from .secrets import SECRET_KEYS

FILE_MODE = 0o600

_GLOBAL = "global"
_KEY_LEFT_OUT = "# A pass phrase or key is not shown here."
_DELETE = "\x7f"


def to_toml(document: Mapping[str, Any], *, with_keys: bool) -> str:
    """Write a checked document as carp.toml: [global] first, interfaces by number, keys in the order of the model.

    Without keys a comment stands where one may be; read back, such a text has none.
    """
    return "\n".join(_table(name, document[name], with_keys=with_keys) for name in sorted(document, key=_rank))


def public(document: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a document without pass phrases and keys; the names of files that hold them stay."""
    kept = copy.deepcopy(dict(document))
    for table in kept.values():
        for key in SECRET_KEYS:
            table.pop(key, None)
    return kept


def complete(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Copy a running document without the interfaces that a file could not hold, and say of each what it lacks."""
    kept, left_out = copy.deepcopy(dict(document)), []
    for name in sorted(document, key=_rank):
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


def _rank(name: str) -> tuple[int, str]:
    number = words.carp_number(name)
    return (-1 if number is None else number, name)


def _table(name: str, table: Mapping[str, Any], *, with_keys: bool) -> str:
    return "".join(f"{line}\n" for line in (f"[{name}]", *_lines(name, table, with_keys=with_keys)))


def _lines(name: str, table: Mapping[str, Any], *, with_keys: bool) -> Iterator[str]:
    known = keys_of(GlobalTable if name == _GLOBAL else InterfaceTable)
    may_hide = not with_keys and "pass-file" not in table
    for key in known:
        if key == "pass" and may_hide:
            yield _KEY_LEFT_OUT
        if key in table and (with_keys or key not in SECRET_KEYS):
            yield f"{key} = {_value(table[key])}"


def _value(value: object) -> str:
    if isinstance(value, str):
        # What JSON escapes TOML reads, and TOML wants one character more to be escaped.
        return json.dumps(value, ensure_ascii=False).replace(_DELETE, "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return json.dumps(value)


def _lacking(name: str, table: Mapping[str, Any]) -> list[str]:
    if name == _GLOBAL:
        return []
    lacking = [] if "vhid" in table or "carpnodes" in table else ["vhid"]
    return lacking + [key for key in ("carpdev", "addresses") if not table.get(key)]


def _joined(lacking: Sequence[str]) -> str:
    most, last = ", ".join(f"no {key}" for key in lacking[:-1]), f"no {lacking[-1]}"
    return f"{most} and {last}" if most else last
