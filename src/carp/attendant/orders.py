"""What carpd and its attendant tell each other: one JSON object in each message of a SOCK_SEQPACKET pair.

Durations are in nanoseconds on the wire as in the values.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..protocol.values import NANOSECONDS_PER_SECOND

MAX_MESSAGE_BYTES = 65536
DEFAULT_INTERVAL_NS = 1 * NANOSECONDS_PER_SECOND
DEFAULT_TIMEOUT_NS = 1 * NANOSECONDS_PER_SECOND
DEFAULT_RISE = 2
DEFAULT_FALL = 3


class CheckKind(Enum):
    """What is looked at; the value is the key of carp.toml that names the target."""

    INTERFACE = "interface"
    """An interface exists and is up with a carrier, an unknown one counting as up; told by the kernel, at once."""
    ADDRESS = "address"
    """An address, without prefix, is set on this host (on `device` if that is set); told by the kernel, at once."""
    ROUTE = "route"
    """A unicast route to exactly this prefix, or to either family's default one for "default", is in the main table, through
    `device` if that is set."""
    PROCESS = "process"
    """A process of this name (its comm, at most 15 bytes, or the last part of its argv[0]) is alive."""
    PID_FILE = "pid-file"
    """The process whose number is in this file is alive."""
    FILE = "file"
    """The file exists."""
    SCRIPT = "script"
    """The program `argv` ends with status 0 in time."""
    TCP = "tcp"
    """A connection to "HOST:PORT" or "[V6]:PORT" comes about in time."""
    HTTP = "http"
    """A GET of the URL, http or https, is answered with one of `status`, or 200..399 if that is empty, in time."""
    PING = "ping"
    """The address answers an ICMP or ICMPv6 echo request in time."""
    BOOT = "boot"
    """systemd says that the start of this host is over; without systemd it is."""


AT_ONCE = frozenset({CheckKind.INTERFACE, CheckKind.ADDRESS, CheckKind.ROUTE})
"""These are told by the kernel when they change: they have no interval, and rise and fall of 1."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to be watched. It fails after `fall` bad results in a row and holds again after `rise` good ones.

    Until there is a first result it counts as holding; a first bad result fails it at once, so that a fresh start does not
    take what it should not. `target` is the word of the configuration, `argv` for SCRIPT only. `timeout_ns` may be longer
    than the interval: the next run begins when the former is over, at the earliest after `interval_ns` from its start.
    """

    name: str
    kind: CheckKind
    target: str
    argv: tuple[str, ...] = ()
    device: str = ""
    status: tuple[int, ...] = ()
    verify_tls: bool = True
    interval_ns: int = DEFAULT_INTERVAL_NS
    timeout_ns: int = DEFAULT_TIMEOUT_NS
    rise: int = DEFAULT_RISE
    fall: int = DEFAULT_FALL


class HookKind(Enum):
    """When a hook runs; the value is its key in carp.toml and its CARP_HOOK."""

    PRE_MASTER = "pre-master"
    MASTER = "master"
    BACKUP = "backup"
    INIT = "init"
    REASSERTED = "reasserted"
    CHANGE = "change"
    """After each change of state, beside the hook of the new state and after it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """To the attendant: run this check from now on, in the place of one of the same name."""

    check: Check


@dataclass(frozen=True, slots=True)
class Forget:
    """To the attendant: run the check of this name no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class Hook:
    """To the attendant: run a program.

    Hooks of one `queue` (a carp interface) run one after another in the order given, never two at once. What waits is
    overtaken by what is newer: of the waiting ones only those of the newest `serial` are run. Orders that arrive together
    all wait, so of a burst perhaps only the newest is ever begun. `context` goes to the program as JSON on standard input,
    and its members as CARP_* environment variables. A hook that wants an answer (`answer`, for pre-master) is reported even
    if it was overtaken. The time runs from the moment when the order arrives if `answer` is set, else from the program's
    start.
    """

    queue: str
    serial: int
    kind: HookKind
    argv: tuple[str, ...]
    timeout_ns: int
    answer: bool = False
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """From the attendant: the first result of a check, and each change of whether it holds. `detail` is a few words."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class HookEnded:
    """From the attendant: a hook is over. `problem` is "" or a few words such as "exit status 3" or "took over 10 s"."""

    queue: str
    serial: int
    kind: HookKind
    problem: str


Message = Watch | Forget | Hook | Checked | HookEnded
_MESSAGES: dict[str, type[Any]] = {one.__name__: one for one in (Watch, Forget, Hook, Checked, HookEnded)}


def encode(message: Message) -> bytes:
    """Write a message."""
    document = {"message": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(document, default=_plain).encode()


def decode(raw: bytes) -> Message:
    """Read a message.

    Raises:
        ValueError: it is none.
    """
    try:
        document = json.loads(raw)
        kind = _MESSAGES[document.pop("message")]
        if kind is Watch:
            return Watch(_check(document["check"]))
        if "kind" in document:
            document["kind"] = HookKind(document["kind"])
        if "argv" in document:
            document["argv"] = tuple(document["argv"])
        message: Message = kind(**document)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no message: {error!r}") from None
    return message


def _check(fields: dict[str, Any]) -> Check:
    tuples = {key: tuple(fields[key]) for key in ("argv", "status")}
    return Check(**{**fields, **tuples, "kind": CheckKind(fields["kind"])})


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{value!r} cannot be written")
