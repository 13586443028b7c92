"""carp.toml, or a document made elsewhere, into the parameters that the engine takes: checked whole, or refused whole."""

import copy
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carp.protocol.auth import ZERO_KEY, Key
from carp.protocol.parameters import HostParameters, InterfaceParameters
from carp.protocol.values import NANOSECONDS_PER_SECOND, family_of

from . import secrets, words
from .errors import Collector, ConfigError, KeyPath, Problem, RefusedError, key_text, shown
from .hints import did_you_mean
from .model import GlobalTable, InterfaceTable, RunningTable, keys_of, read_table
from .relations import Tables, check_keys, check_shared

DEFAULT_PATH = Path("/etc/carp/carp.toml")

_GLOBAL = "global"
_MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_NUMBER_DIGITS = 4
_SYNTAX_ERROR = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A whole configuration that passed every check.

    `log` is the level 0..7 of net.inet.carp.log, `fence` one of words.FENCE_WORDS. `warnings` are sentences about what is
    legal and unwise. `path` is the file it came from, or None. `drafts` are carp interfaces without a vhid: known by name and
    not among those of `host`. `document` is what was checked, in values that TOML can hold and with absolute paths; it holds
    pass phrases.
    """

    host: HostParameters = field(repr=False)
    log: int = 2
    fence: str = "auto"
    realtime: bool = False
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    arpbalance: bool = False
    drafts: tuple[str, ...] = ()
    document: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document came from: how its places are named, and where relative files are looked for.

    `mode` holds the permission bits of the file that the document is, or None when it is none. With `incomplete_ok` carp
    interfaces may be without vhid, carpdev and addresses, and there may be none at all.
    """

    place: Callable[[KeyPath], str]
    folder: Path
    path: Path | None = None
    mode: int | None = None
    incomplete_ok: bool = False


def load_file(path: Path) -> Configuration:
    """Read and check one carp.toml.

    Raises:
        ConfigError: with every problem of the file.
    """
    raw, mode = _read(path)
    document = _parse(path, raw)

    def place(key_path: KeyPath) -> str:
        return f"{path}: {key_text(key_path)}" if key_path else str(path)

    return load_document(document, Source(place, path.parent, path, mode))


def load_document(document: Mapping[str, object], source: Source) -> Configuration:
    """Check a document of the shape of carp.toml and turn it into parameters.

    Raises:
        ConfigError: with every problem, in the order of the document.
    """
    problems = Collector(document, source.place)
    tables = _carp_tables(document, problems, none_ok=source.incomplete_ok)
    written = document.get(_GLOBAL)
    host_table = read_table(GlobalTable, _GLOBAL, written if isinstance(written, Mapping) else {}, problems)
    model = RunningTable if source.incomplete_ok else InterfaceTable
    read = {name: read_table(model, name, table, problems) for name, table in tables.items()}
    for name, table in tables.items():
        check_keys(name, table, problems, incomplete_ok=source.incomplete_ok)
    check_shared(tables, problems)
    _check_secrecy(tables, source, problems)
    file_keys = _read_key_files(tables, source, problems)
    found = problems.ordered()
    if found or host_table is None:
        raise ConfigError(found)
    names = sorted(read, key=lambda name: words.carp_number(name) or 0)
    whole = {name: checked for name in names if (checked := read[name]) is not None}
    interfaces = tuple(
        interface_parameters(name, checked, file_keys.get(name)) for name, checked in whole.items() if not checked.is_draft
    )
    return Configuration(
        _host_parameters(interfaces, host_table),
        host_table.log,
        host_table.fence,
        host_table.realtime,
        tuple(_warnings(interfaces, source)),
        source.path,
        host_table.arpbalance,
        tuple(name for name, checked in whole.items() if checked.is_draft),
        _kept(_in_order(document), source.folder, file_keys),
    )


def _read(path: Path) -> tuple[bytes, int]:
    """Return the bytes of a file and the permission bits that it had while it was read."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not the name of a file"
        raise ConfigError((Problem(str(path), fault=f"cannot be read: {reason}"),)) from None
    if len(raw) > _MAX_FILE_BYTES:
        raise ConfigError((Problem(str(path), fault=f"larger than {_MAX_FILE_BYTES} bytes"),))
    return raw, mode


def _parse(path: Path, raw: bytes) -> dict[str, object]:
    """Read TOML; what tomllib says comes out as file, line and column."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError((Problem(f"{path}: line {line}", fault="not UTF-8 text"),)) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_syntax_problem(path, text, str(error)),)) from None
    except (ValueError, RecursionError):
        # A number with thousands of digits, or brackets nested as deep.
        raise ConfigError((Problem(str(path), fault="not a configuration: a number too long or brackets too deep"),)) from None


def _syntax_problem(path: Path, text: str, message: str) -> Problem:
    match = _SYNTAX_ERROR.fullmatch(message)
    if match is None:
        return Problem(str(path), fault=message)
    line, column = match["line"], match["column"]
    if line is None:
        line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
    return Problem(f"{path}: line {line}, column {column}", fault=match["what"])


def _carp_tables(document: Mapping[str, object], problems: Collector, *, none_ok: bool) -> Tables:
    """Pick the carp interfaces out of a document; whatever is neither one nor [global] is a problem."""
    tables: dict[str, Mapping[str, object]] = {}
    for name, table in document.items():
        is_carp = words.carp_number(name) is not None
        if is_carp and isinstance(table, Mapping):
            tables[name] = table
        elif is_carp or name == _GLOBAL:
            if not isinstance(table, Mapping):
                problems.add((name,), RefusedError(f"a table [{name}]"), shown(table))
        else:
            problems.add((name,), _stranger(name, table))
    if not document and not none_ok:
        problems.add((), RefusedError("a table such as [carp0], or an empty [global]", fault="no carp interface"))
    return tables


def _stranger(name: str, value: object) -> RefusedError:
    """Say what to do with something at the top of a document that does not belong there."""
    if not isinstance(value, Mapping):
        if name in keys_of(InterfaceTable):
            return RefusedError(fault="stands outside of a table", hint="put it below a line such as [carp0]")
        if name in keys_of(GlobalTable):
            return RefusedError(fault="stands outside of a table", hint=f"put it below a line [{_GLOBAL}]")
        return RefusedError(fault="unknown key outside of a table")
    number = name[len(name.rstrip("0123456789")) :].lstrip("0") or "0"
    known = (_GLOBAL, f"carp{number}") if len(number) <= _MAX_NUMBER_DIGITS else (_GLOBAL,)
    return RefusedError(f"[{_GLOBAL}] or {words.CARP_NAME}", fault="unknown table", hint=did_you_mean(name, known))


def _check_secrecy(tables: Tables, source: Source, problems: Collector) -> None:
    """Refuse a document that holds a key in a file which others may read or change."""
    if source.path is None or source.mode is None or not any(secrets.SECRET_KEYS & table.keys() for table in tables.values()):
        return
    try:
        secrets.check_mode(source.path, source.mode)
    except RefusedError as refused:
        problems.add((), refused)


def _read_key_files(tables: Tables, source: Source, problems: Collector) -> dict[str, Key]:
    """Read the pass-file of every table that names one."""
    keys: dict[str, Key] = {}
    for name, table in tables.items():
        try:
            word = words.file_name(table.get("pass-file"))
        except RefusedError:
            continue
        try:
            keys[name] = secrets.read_key_file(source.folder / word)
        except RefusedError as refused:
            problems.add((name, "pass-file"), refused)
    return keys


def _in_order(document: Mapping[str, object]) -> dict[str, object]:
    """Put the tables into the order of their numbers, [global] first."""
    return dict(sorted(document.items(), key=lambda item: -1 if (number := words.carp_number(item[0])) is None else number))


def _kept(document: Mapping[str, object], folder: Path, file_keys: Mapping[str, Key]) -> dict[str, Any]:
    """Copy a checked document so that it means the same in any folder, and as UTF-8.

    What is not UTF-8 comes from the bytes of a command line; a key then stands for the pass phrase or for the file.
    """
    kept: dict[str, Any] = {name: copy.deepcopy(dict(table)) for name, table in document.items() if isinstance(table, Mapping)}
    for name, key in file_keys.items():
        table = kept[name]
        table["pass-file"] = str((folder / table["pass-file"]).absolute())
        if not _is_utf8(table["pass-file"]):
            del table["pass-file"]
            table["key-hex"] = key.hex()
    for table in kept.values():
        if "pass" in table and not _is_utf8(table["pass"]):
            table["key-hex"] = secrets.passphrase(table.pop("pass")).hex()
    return kept


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _warnings(interfaces: Sequence[InterfaceParameters], source: Source) -> Iterator[str]:
    if not interfaces and not source.incomplete_ok:
        yield f"{source.place(())}: no carp interface: carp ifconfig can make one"
    for one in interfaces:
        if one.key == ZERO_KEY:
            yield f"{source.place((one.name,))}: no pass: every host on the network can take part"
        for peer in one.peers:
            if one.families and family_of(peer) not in one.families:
                place = source.place((one.name, "carppeer"))
                yield f"{place}: {peer} hears nothing: {one.name} has no {family_of(peer)} address to advertise"


def _host_parameters(interfaces: tuple[InterfaceParameters, ...], table: GlobalTable) -> HostParameters:
    return HostParameters(
        interfaces,
        allow=table.allow,
        preempt=table.preempt,
        dscp=table.dscp,
        ifdown_demotion=table.ifdown_demotion_factor,
        senderr_demotion=table.senderr_demotion_factor,
    )


def interface_parameters(name: str, table: InterfaceTable, file_key: Key | None = None) -> InterfaceParameters:
    """Turn a checked table into parameters; `file_key` is what its pass-file holds. The vhid of a draft is 0."""
    return InterfaceParameters(
        name=name,
        carpdev=table.carpdev,
        nodes=table.nodes,
        key=table.passphrase or table.key_hex or file_key or ZERO_KEY,
        addresses=tuple(table.addresses),
        advbase=table.advbase,
        dialect=table.dialect,
        preempt=table.preempt,
        up=table.up,
        peers=tuple(table.carppeer),
        groups=tuple(table.groups),
        lladdr=table.lladdr,
        demote_skew=table.demote_skew,
        digest_grace_ns=round(table.digest_grace * NANOSECONDS_PER_SECOND),
        peer_master_down_ns=None if table.peer_master_down is None else round(table.peer_master_down * NANOSECONDS_PER_SECOND),
    )
