"""Boot files that are read line by line: hostname.carpN of OpenBSD, ifconfig.carpN of NetBSD, and sysctl.conf of them all.

What a line asks for, and every reason why one is refused, comes out with the number of its line. Nothing is ever run.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import globals as sysctls
from .bsd_words import WordError, integer
from .change import Change
from .ifconfig import parse_change
from .ifconfig_address import is_like_one
from .shell_words import split_words

_NUMBER = re.compile(r"[0-9]+")
_LARGEST_LEVEL = 2**31 - 1

LOG_LEVELS: Mapping[str, tuple[int, ...]] = {
    "openbsd": (0, 1, 2, 3, 4, 5, 6, 7),
    "freebsd": (0, 4, 6),
    "dragonfly": (0, 6, 6),
    "netbsd": (0, 6),
}
"""What net.inet.carp.log means on each BSD, as OpenBSD's level 0..7 at the place of theirs; beyond the end the last one holds.

It is the lowest level that shows all that theirs shows (PROTOCOL.md 8.1 to 8.4). FreeBSD: 1 changes of state, 2 refused
packets too. DragonFly, and FreeBSD up to 9: 1 refused packets, 2 changes of state too; ours cannot show the former alone.
NetBSD: 0 or 1, all or nothing.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one line asks for: a change, or why there is none."""

    line: int
    change: Change | None = None
    error: str = ""


def hostname_lines(interface: str, text: str) -> Iterator[Asked]:
    """Read hostname.carpN of OpenBSD, or ifconfig.carpN of NetBSD: each line is one call of ifconfig."""
    for line, command in _joined(text):
        try:
            unpacked = _unpack(command_words(command))
            if unpacked:
                yield Asked(line, parse_change(interface, unpacked))
        except WordError as error:
            yield Asked(line, error=str(error))


def sysctl_setting(line: str, system: str) -> tuple[str, bool | int] | None:
    """Read one line of sysctl.conf into a key of [global] and its value; None where it is not about carp.

    `system` is the key of LOG_LEVELS whose level is meant.

    Raises:
        WordError: the name is unknown or no setting, or the value is not allowed.
    """
    name, equals, value = line.partition("#")[0].partition("=")
    # NetBSD's ?= only says that a failure is to be passed over.
    name, value = name.strip().removesuffix("?").rstrip(), value.strip()
    if not name.startswith(f"{sysctls.PREFIX}."):
        return None
    parameter = sysctls.find(name)
    if parameter.adds:
        raise WordError(f"{name}: it counts what is wrong now and is no setting: carp sysctl {name}=N adds to it")
    if parameter.name == "log" and equals and value and system != "openbsd":
        levels = LOG_LEVELS[system]
        return parameter.key, levels[min(integer(name, value, 0, _LARGEST_LEVEL), len(levels) - 1)]
    return sysctls.parse_assignment(f"{name}={value}" if equals else name)


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; a backslash at its end joins the next one to it."""
    first = 1
    parts: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not parts:
            first = number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield first, "".join(parts)
            parts = []
    if parts:
        yield first, "".join(parts)


def command_words(command: str) -> list[str]:
    """Split one line into the words of ifconfig.

    Raises:
        WordError: it is a command to be run, or only a shell could say what the words are.
    """
    if command.lstrip().startswith("!"):
        raise WordError("!: a command is never run: take the line out")
    return split_words(command)


def _unpack(line: list[str]) -> list[str]:
    """Name the values that OpenBSD's boot files tell by their place: inet ADDRESS MASK BROADCAST, inet6 ADDRESS LENGTH."""
    if line[:1] not in (["inet"], ["inet6"]):
        return line
    start = 3 if line[1:2] == ["alias"] else 2
    head, rest = line[:start], line[start:]
    if line[0] == "inet6":
        return [*head, "prefixlen", *rest] if rest and _NUMBER.fullmatch(rest[0]) else line
    if rest and (is_like_one(rest[0]) or _NUMBER.match(rest[0])):
        head += ["netmask", rest.pop(0)]
        if rest and is_like_one(rest[0]):
            head += ["broadcast", rest.pop(0)]
        elif rest[:1] == ["NONE"]:
            rest.pop(0)
    return head + rest
