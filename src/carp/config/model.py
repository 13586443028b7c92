"""The tables of carp.toml as they are written: types, ranges and defaults of every key.

Rules between keys and between tables are in `relations`. The description of a field says what is allowed; it goes into the
messages and into the JSON schema.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError, WithJsonSchema

from carp.attendant.orders import DEFAULT_FALL, DEFAULT_INTERVAL_NS, DEFAULT_RISE, DEFAULT_TIMEOUT_NS
from carp.protocol.auth import Key
from carp.protocol.dialect import AUTO, DIALECTS, Dialect
from carp.protocol.parameters import MAX_NODES, Balancing, LinkAddress, Node
from carp.protocol.values import NANOSECONDS_PER_SECOND, Address, InterfaceAddress

from . import programs, secrets, targets, words
from .errors import Collector, KeyPath, RefusedError, shown
from .hints import did_you_mean
from .layout import HOOKS

DEFAULT_CONNTRACKD = "/run/conntrackd.ctl"

_TableT = TypeVar("_TableT", bound=BaseModel)

_BOOLEAN = "true or false"
_STRING = {"type": "string"}
_DURATION = "a number of seconds, 0..3600"
_TIMEOUT = "a number of seconds, more than 0, at most 3600"
_HOOKS = "a table of hooks, such as the lines below [carp0.hooks]"

_CarpDev = Annotated[str, BeforeValidator(words.carpdev)]
_Group = Annotated[str, BeforeValidator(words.own_group)]
_TrackGroup = Annotated[str, BeforeValidator(words.track_group)]
_Address = Annotated[InterfaceAddress, BeforeValidator(words.address), WithJsonSchema(_STRING)]
_Host = Annotated[Address, BeforeValidator(words.peer), WithJsonSchema(_STRING)]
_Peers = Annotated[list[_Host], BeforeValidator(words.as_list)]
_Node = Annotated[InstanceOf[Node], BeforeValidator(words.node), WithJsonSchema(_STRING)]
_LinkAddress = Annotated[LinkAddress | bytes, BeforeValidator(words.lladdr), WithJsonSchema(_STRING)]
_Dialect = Annotated[InstanceOf[Dialect], BeforeValidator(words.dialect), WithJsonSchema({"enum": list(DIALECTS)})]
_Balancing = Annotated[
    InstanceOf[Balancing], BeforeValidator(words.balancing), WithJsonSchema({"enum": list(words.BALANCING_WORDS)})
]
_Snooping = Annotated[str, BeforeValidator(words.snooping)]
_Fence = Annotated[str, BeforeValidator(words.fence)]
_Passphrase = Annotated[Key, BeforeValidator(secrets.passphrase), WithJsonSchema(_STRING)]
_KeyHex = Annotated[Key, BeforeValidator(words.key_hex), WithJsonSchema(_STRING)]
_FileName = Annotated[str, BeforeValidator(words.file_name)]
_Credential = Annotated[str, BeforeValidator(words.credential)]
_User = Annotated[str, BeforeValidator(programs.user)]
_Program = Annotated[tuple[str, ...], BeforeValidator(programs.program)]
_Status = Annotated[int, Field(ge=100, le=599)]


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, alias_generator=_kebab)


class HooksTable(_Table):
    """A table [global.hooks] or [carpN.hooks]: programs with their arguments, and times in seconds, None as not written."""

    pre_master: _Program | None = Field(None, description=programs.PROGRAM)
    master: _Program | None = Field(None, description=programs.PROGRAM)
    backup: _Program | None = Field(None, description=programs.PROGRAM)
    init: _Program | None = Field(None, description=programs.PROGRAM)
    reasserted: _Program | None = Field(None, description=programs.PROGRAM)
    change: _Program | None = Field(None, description=programs.PROGRAM)
    timeout: float | None = Field(None, gt=0, le=3600, allow_inf_nan=False, description=_TIMEOUT)
    pre_master_deadline: float | None = Field(
        None, gt=0, le=60, allow_inf_nan=False, description="a number of seconds, more than 0, at most 60"
    )


class GlobalTable(_Table):
    """The table [global]: net.inet.carp.* of one host, and what all its carp interfaces share. Durations are in seconds."""

    allow: bool = Field(True, description=_BOOLEAN)
    preempt: bool = Field(False, description=_BOOLEAN)
    log: int = Field(2, ge=0, le=7, description="an integer 0..7")
    arpbalance: bool = Field(False, description=_BOOLEAN)
    dscp: int | None = Field(None, ge=0, le=63, description="an integer 0..63")
    ifdown_demotion_factor: int = Field(1, ge=0, le=255, description="an integer 0..255")
    senderr_demotion_factor: int = Field(1, ge=0, le=255, description="an integer 0..255")
    fence: _Fence = Field("auto", description=words.FENCE)
    realtime: bool = Field(False, description=_BOOLEAN)
    preempt_delay: float = Field(0, ge=0, le=3600, allow_inf_nan=False, description=_DURATION)
    start_demote: int = Field(0, ge=0, le=255, description="an integer 0..255")
    start_demote_time: float = Field(60, ge=0, le=3600, allow_inf_nan=False, description=_DURATION)
    script_user: _User = Field(programs.DEFAULT_USER, description=programs.USER)
    hooks: HooksTable | None = Field(None, description=_HOOKS)


class InterfaceTable(_Table):
    """A table [carpN]: one carp interface.

    advbase, digest-grace, peer-master-down and preempt-delay are in seconds, advskew in 1/256 s. `passphrase` and `key_hex`
    hold whole keys already; the file that `pass_file` or `pass_credential` names has not been read.
    """

    carpdev: _CarpDev = Field(description=words.CARPDEV)
    vhid: int | None = Field(None, ge=1, le=255, description="an integer 1..255")
    advbase: int = Field(1, ge=0, le=254, description="an integer 0..254")
    advskew: int = Field(0, ge=0, le=254, description="an integer 0..254")
    passphrase: _Passphrase | None = Field(None, alias="pass", repr=False, description=secrets.PASSPHRASE)
    pass_file: _FileName | None = Field(None, description=words.FILE_NAME)
    key_hex: _KeyHex | None = Field(None, repr=False, description=words.KEY_HEX)
    pass_credential: _Credential | None = Field(None, description=words.CREDENTIAL)
    addresses: list[_Address] = Field(min_length=1, description='a list such as ["192.0.2.100/24", "2001:db8::100/64"]')
    carppeer: _Peers = Field([], description=words.PEERS)
    groups: list[_Group] = Field(["carp"], description='a list of group names, such as ["carp"]')
    lladdr: _LinkAddress = Field(LinkAddress.VIRTUAL, description=words.LLADDR)
    preempt: bool | None = Field(None, description=_BOOLEAN)
    preempt_delay: float | None = Field(None, ge=0, le=3600, allow_inf_nan=False, description=_DURATION)
    up: bool = Field(True, description=_BOOLEAN)
    dialect: _Dialect = Field(AUTO, description=words.DIALECT)
    demote_skew: bool = Field(False, description=_BOOLEAN)
    digest_grace: float = Field(60, ge=0, le=3600, allow_inf_nan=False, description=_DURATION)
    peer_master_down: float | None = Field(
        None, gt=0, le=1024, allow_inf_nan=False, description="a number of seconds, more than 0, at most 1024"
    )
    asked_balancing: _Balancing | None = Field(None, alias="balancing", description=words.BALANCING)
    carpnodes: list[_Node] | None = Field(
        None, min_length=1, max_length=MAX_NODES, description=f"a list of 1..{MAX_NODES} words {words.NODE}"
    )
    snooping: _Snooping = Field("mrd", description=words.SNOOPING)
    hooks: HooksTable | None = Field(None, description=_HOOKS)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The virtual hosts in ascending vhid order, from vhid and advskew or from carpnodes."""
        if self.carpnodes is not None:
            return tuple(sorted(self.carpnodes, key=lambda node: node.vhid))
        return (Node(self.vhid or 0, self.advskew),)

    @property
    def balancing(self) -> Balancing:
        """How the nodes share the traffic: `ip` where several nodes do not say, none with one node (PROTOCOL.md 7.2)."""
        if len(self.nodes) == 1:
            return Balancing.NONE
        return Balancing.IP if self.asked_balancing is None else self.asked_balancing

    @property
    def is_draft(self) -> bool:
        """Whether the interface has a name and no virtual host."""
        return self.vhid is None and self.carpnodes is None


class RunningTable(InterfaceTable):
    """A table [carpN] of a running daemon: the BSD words may still have to name the parent and the addresses.

    `carpdev` is "" and `addresses` is empty where they do.
    """

    carpdev: _CarpDev = Field("", description=words.CARPDEV)
    addresses: list[_Address] = Field([], description=InterfaceTable.model_fields["addresses"].description)


class TrackTable(_Table):
    """A table [track.NAME]: one check and what it demotes. `interval` and `timeout` are in seconds.

    Of the keys that name what is checked exactly one is set; that, and which of the others go with it, is for `track` to see.
    """

    interface: Annotated[str, BeforeValidator(targets.interface)] | None = Field(None, description=targets.INTERFACE)
    address: Annotated[str, BeforeValidator(targets.address)] | None = Field(None, description=targets.ADDRESS)
    route: Annotated[str, BeforeValidator(targets.route)] | None = Field(None, description=targets.ROUTE)
    device: Annotated[str, BeforeValidator(targets.interface)] | None = Field(None, description=targets.INTERFACE)
    process: Annotated[str, BeforeValidator(targets.process)] | None = Field(None, description=targets.PROCESS)
    pid_file: Annotated[str, BeforeValidator(targets.path)] | None = Field(None, description=targets.PATH)
    file: Annotated[str, BeforeValidator(targets.path)] | None = Field(None, description=targets.PATH)
    script: _Program | None = Field(None, description=programs.PROGRAM)
    tcp: Annotated[str, BeforeValidator(targets.tcp)] | None = Field(None, description=targets.TCP)
    http: Annotated[str, BeforeValidator(targets.http)] | None = Field(None, description=targets.HTTP)
    status: list[_Status] | None = Field(
        None, min_length=1, max_length=500, description="a list of 1..500 status codes 100..599, such as [200, 204]"
    )
    verify_tls: bool = Field(True, description=_BOOLEAN)
    ping: Annotated[str, BeforeValidator(targets.ping)] | None = Field(None, description=targets.PING)
    demote: int = Field(1, ge=1, le=255, description="an integer 1..255")
    groups: list[_TrackGroup] = Field(["carp"], min_length=1, description='a list of groups, such as ["carp"]')
    interval: float = Field(
        DEFAULT_INTERVAL_NS / NANOSECONDS_PER_SECOND,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="a number of seconds, 0.1..3600",
    )
    timeout: float = Field(
        DEFAULT_TIMEOUT_NS / NANOSECONDS_PER_SECOND, gt=0, le=3600, allow_inf_nan=False, description=_TIMEOUT
    )
    rise: int = Field(DEFAULT_RISE, ge=1, le=100, description="an integer 1..100")
    fall: int = Field(DEFAULT_FALL, ge=1, le=100, description="an integer 1..100")


class SyncTable(_Table):
    """The table [sync]: conntrackd, and the link over which it exchanges states. Times are in seconds."""

    conntrackd: Annotated[str, BeforeValidator(targets.socket)] = Field(DEFAULT_CONNTRACKD, description=targets.SOCKET)
    interface: Annotated[str, BeforeValidator(targets.interface)] = Field(description=targets.INTERFACE)
    address: _Host | None = Field(None, description=words.PEER)
    peer: _Host | None = Field(None, description=words.PEER)
    timeout: float = Field(2, ge=0.1, le=60, allow_inf_nan=False, description="a number of seconds, 0.1..60")
    bulk_timeout: float = Field(60, ge=0, le=3600, allow_inf_nan=False, description=_DURATION)
    demote: int = Field(32, ge=1, le=255, description="an integer 1..255")
    groups: list[_TrackGroup] = Field(["carp"], min_length=1, description='a list of groups, such as ["carp"]')


_SUBTABLES: Mapping[str, type[BaseModel]] = {HOOKS: HooksTable}
"""Tables inside of tables, by their keys."""


def keys_of(model: type[BaseModel]) -> dict[str, str]:
    """Return every key of a table as it is written, with what it allows."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def read_table(model: type[_TableT], path: KeyPath, table: object, problems: Collector) -> _TableT | None:
    """Check the table at a path against its model; without a result every reason is among the problems."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            _note(model, path, one["loc"], one, problems)
        return None


def _note(model: type[BaseModel], path: KeyPath, place: tuple[int | str, ...], error: Any, problems: Collector) -> None:
    """Turn one of pydantic's errors into a problem, without the value where that is a secret or nobody's key."""
    key = str(place[0]) if place else ""
    if key in _SUBTABLES and len(place) > 1:
        _note(_SUBTABLES[key], (*path, key), place[1:], error, problems)
        return
    allowed = keys_of(model)
    path = (*path, key) if key else path
    match error["type"]:
        case "missing":
            problems.add(path, RefusedError(allowed[key], fault="missing"))
        case "extra_forbidden":
            problems.add(path, RefusedError(fault="unknown key", hint=did_you_mean(key, allowed)))
        case kind:
            refused = error["ctx"]["error"] if kind == "value_error" else RefusedError(allowed[key])
            problems.add(path, refused, "" if key in secrets.SECRET_KEYS else shown(error["input"]))
