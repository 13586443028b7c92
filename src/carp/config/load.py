"""carp.toml, or a document made elsewhere, into the parameters that the engine takes: checked whole, or refused whole."""

import copy
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carp.attendant.orders import HookKind
from carp.protocol.auth import ZERO_KEY, Key
from carp.protocol.parameters import HostParameters, InterfaceParameters
from carp.protocol.values import NANOSECONDS_PER_SECOND, family_of

from . import secrets, words
from .balancing import balancing_warnings, check_addresses, check_balancing, check_fence
from .errors import Collector, ConfigError, KeyPath, Problem, RefusedError, key_text, shown
from .hints import did_you_mean
from .hooks import Hooks, hooks_of
from .layout import GLOBAL, HOOKS, SYNC, TRACK, TRACK_EXAMPLE, Tables, carp_tables, global_table, in_order, is_carp
from .model import GlobalTable, InterfaceTable, RunningTable, SyncTable, TrackTable, keys_of, read_table
from .programs import DEFAULT_USER, check_programs
from .relations import check_keys, check_vhids, unknown_groups
from .sync import Sync, read_sync, sync_warnings
from .track import Track, read_tracks

DEFAULT_PATH = Path("/etc/carp/carp.toml")

DEFAULT_START_DEMOTE_TIME_NS = 60 * NANOSECONDS_PER_SECOND

_NO_GLOBAL = GlobalTable.model_validate({})
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

    `tracks` are in the order of the document. `hooks` holds what runs for each carp interface, by its name, if there is
    anything. `script_user` is the user that hooks and scripts run as. `start_demote` 0..255 is what a start demotes by, for
    `start_demote_time_ns` at most. `sync` is None without [sync].
    """

    host: HostParameters = field(repr=False)
    log: int = 2
    fence: str = "auto"
    realtime: bool = False
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    drafts: tuple[str, ...] = ()
    document: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    tracks: tuple[Track, ...] = ()
    hooks: Mapping[str, Hooks] = field(default_factory=dict, hash=False)
    script_user: str = DEFAULT_USER
    start_demote: int = 0
    start_demote_time_ns: int = DEFAULT_START_DEMOTE_TIME_NS
    sync: Sync | None = None


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
    _check_top(document, problems, none_ok=source.incomplete_ok)
    tables = carp_tables(document)
    host_table = read_table(GlobalTable, (GLOBAL,), global_table(document), problems)
    model = RunningTable if source.incomplete_ok else InterfaceTable
    read = {name: read_table(model, (name,), table, problems) for name, table in tables.items()}
    for name, table in tables.items():
        check_keys(name, table, problems, incomplete_ok=source.incomplete_ok)
        check_balancing(name, table, problems)
    check_vhids(tables, problems)
    check_addresses(tables, problems)
    check_fence(document, tables, problems)
    sync = read_sync(document, problems)
    tracks = read_tracks(document, problems)
    lost = list(unknown_groups(document))
    # A running daemon may lose a group and get it back by two lines of ifconfig.
    if tables and not source.incomplete_ok:
        for path, refused in lost:
            problems.add(path, refused)
    check_programs(document, problems)
    _check_secrecy(tables, source, problems)
    file_keys = _read_key_files(tables, source, problems)
    found = problems.ordered()
    if found or host_table is None:
        raise ConfigError(found)
    whole = {name: checked for name in in_order(tables) if (checked := read[name]) is not None}
    interfaces = tuple(
        interface_parameters(name, checked, file_keys.get(name), host_table, sync)
        for name, checked in whole.items()
        if not checked.is_draft
    )
    host = _host_parameters(interfaces, host_table)
    remarks = [
        *((path, refused.fault) for path, refused in lost),
        *sync_warnings(sync, interfaces),
        *balancing_warnings(whole, host),
    ]
    return Configuration(
        host,
        log=host_table.log,
        fence=host_table.fence,
        realtime=host_table.realtime,
        warnings=(*_warnings(interfaces, source), *(f"{source.place(path)}: {remark}" for path, remark in remarks)),
        path=source.path,
        drafts=tuple(name for name, checked in whole.items() if checked.is_draft),
        document=_kept(in_order(document), source.folder, file_keys),
        tracks=tracks,
        hooks={name: hooks for name, checked in whole.items() if (hooks := hooks_of(host_table, checked)).programs},
        script_user=host_table.script_user,
        start_demote=host_table.start_demote,
        start_demote_time_ns=_nanoseconds(host_table.start_demote_time),
        sync=sync,
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


def _check_top(document: Mapping[str, object], problems: Collector, *, none_ok: bool) -> None:
    """Refuse what stands at the top of a document and is neither a carp interface, nor [global], [sync] or the tracks."""
    for name, table in document.items():
        if is_carp(name) or name == GLOBAL:
            if not isinstance(table, Mapping):
                problems.add((name,), RefusedError(f"a table [{name}]"), shown(table))
        elif name not in (SYNC, TRACK):
            problems.add((name,), _stranger(name, table))
    if not document and not none_ok:
        problems.add((), RefusedError("a table such as [carp0], or an empty [global]", fault="no carp interface"))


def _stranger(name: str, value: object) -> RefusedError:
    """Say what to do with something at the top of a document that does not belong there."""
    if not isinstance(value, Mapping):
        for model, place in (
            (InterfaceTable, "such as [carp0]"),
            (GlobalTable, f"[{GLOBAL}]"),
            (TrackTable, f"such as {TRACK_EXAMPLE}"),
            (SyncTable, f"[{SYNC}]"),
        ):
            if name in keys_of(model):
                return RefusedError(fault="stands outside of a table", hint=f"put it below a line {place}")
        return RefusedError(fault="unknown key outside of a table")
    if name == HOOKS:
        return RefusedError(f"[{GLOBAL}.{HOOKS}] or one such as [carp0.{HOOKS}]", fault="hooks of nothing")
    number = name[len(name.rstrip("0123456789")) :].lstrip("0") or "0"
    known = (GLOBAL, SYNC, TRACK, *((f"carp{number}",) if len(number) <= _MAX_NUMBER_DIGITS else ()))
    return RefusedError(
        f"[{GLOBAL}], [{SYNC}], [{TRACK}.NAME] or {words.CARP_NAME}", fault="unknown table", hint=did_you_mean(name, known)
    )


def _check_secrecy(tables: Tables, source: Source, problems: Collector) -> None:
    """Refuse a document that holds a key in a file which others may read or change."""
    if source.path is None or source.mode is None or not any(secrets.SECRET_KEYS & table.keys() for table in tables.values()):
        return
    try:
        secrets.check_mode(source.path, source.mode)
    except RefusedError as refused:
        problems.add((), refused)


def _read_key_files(tables: Tables, source: Source, problems: Collector) -> dict[str, Key]:
    """Read the pass-file or the credential of every table that names one."""
    keys: dict[str, Key] = {}
    readers: tuple[tuple[str, Callable[[object], str], Callable[[str], Key]], ...] = (
        ("pass-file", words.file_name, lambda word: secrets.read_key_file(source.folder / word)),
        ("pass-credential", words.credential, secrets.read_credential),
    )
    for name, table in tables.items():
        for key, read_word, read_key in readers:
            try:
                word = read_word(table.get(key))
            except RefusedError:
                continue
            try:
                keys[name] = read_key(word)
            except RefusedError as refused:
                problems.add((name, key), refused)
    return keys


def _kept(document: Mapping[str, object], folder: Path, file_keys: Mapping[str, Key]) -> dict[str, Any]:
    """Copy a checked document so that it means the same in any folder, and as UTF-8.

    What is not UTF-8 comes from the bytes of a command line; a key then stands for the pass phrase or for the file.
    """
    kept: dict[str, Any] = {name: copy.deepcopy(dict(table)) for name, table in document.items() if isinstance(table, Mapping)}
    for name, key in file_keys.items():
        table = kept[name]
        if "pass-file" not in table:
            continue
        table["pass-file"] = str((folder / table["pass-file"]).absolute())
        if not _is_utf8(table["pass-file"]):
            del table["pass-file"]
            table["key-hex"] = key.hex()
    for name, table in kept.items():
        if is_carp(name) and "pass" in table and not _is_utf8(table["pass"]):
            table["key-hex"] = secrets.passphrase(table.pop("pass")).hex()
    if not kept.get(TRACK, True):
        # Without a track there is no line that could say so.
        del kept[TRACK]
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
        arpbalance=table.arpbalance,
    )


def interface_parameters(
    name: str,
    table: InterfaceTable,
    file_key: Key | None = None,
    host: GlobalTable = _NO_GLOBAL,
    sync: Sync | None = None,
) -> InterfaceParameters:
    """Turn a checked table into parameters, with what it leaves to [global]. The vhid of a draft is 0.

    `file_key` is what its pass-file or pass-credential holds.
    """
    waits_for_states = sync is not None and sync.covers(name, table.groups)
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
        digest_grace_ns=_nanoseconds(table.digest_grace),
        peer_master_down_ns=None if table.peer_master_down is None else _nanoseconds(table.peer_master_down),
        preempt_delay_ns=_nanoseconds(host.preempt_delay if table.preempt_delay is None else table.preempt_delay),
        pre_master=waits_for_states or HookKind.PRE_MASTER in hooks_of(host, table).programs,
        balancing=table.balancing,
        announces_router=table.snooping == "mrd",
    )


def draft_parameters(configuration: Configuration, name: str) -> InterfaceParameters:
    """Return the parameters of one of `drafts`; a file that holds its key is not looked into."""
    document = configuration.document
    host = GlobalTable.model_validate(global_table(document))
    return interface_parameters(name, RunningTable.model_validate(document.get(name, {})), None, host, configuration.sync)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS_PER_SECOND)
