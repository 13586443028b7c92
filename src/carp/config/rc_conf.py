"""The variables of rc.conf that are about carp, of FreeBSD, NetBSD and DragonFly, read as NAME="value" and never run."""

import re
from collections.abc import Iterator
from itertools import count

from . import words
from .boot_lines import Asked, command_words
from .bsd_words import WordError
from .change import Change
from .ifconfig import parse_change
from .shell_words import Assignment, assignments, split_commands

_INTERFACES = "cloned_interfaces"
_CARP_VARIABLE = re.compile(
    r"(?P<kind>ifconfig|create_args|ipv4_addrs|ipv6_ifconfig|ifaliases)_(?P<interface>carp[0-9]+)(?P<suffix>_\w+)?"
)
_PARENT_VARIABLE = re.compile(r"ifconfig_(?P<interface>[A-Za-z]\w*?)(?P<suffix>_alias[0-9]+|_aliases|_ipv6)?")
_ALIAS = re.compile(r"_alias(?P<number>[0-9]+)")
_KNOWN_SUFFIXES = {
    "ifconfig": (None, "_ipv6", "_aliases"),
    "create_args": (None,),
    "ipv4_addrs": (None,),
    "ipv6_ifconfig": (None,),
    "ifaliases": (None,),
}
_ORDER = ("create_args", "ifconfig", "ipv4_addrs", "ipv6_ifconfig", "ifaliases")


def system_of(text: str) -> str:
    """Tell whose rc.conf it is: a key of LOG_LEVELS, or "" where nothing in it is about carp.

    FreeBSD up to 9 counts as dragonfly: their carp is the same.
    """
    found = list(assignments(text))
    if any(one.name in ("rc_configured", "net_interfaces") for one in found):
        return "netbsd"
    if any(_is_of_parent(one) for one in found):
        return "freebsd"
    return "dragonfly" if any(_cloned(one) or _CARP_VARIABLE.fullmatch(one.name) for one in found) else ""


def lines(text: str) -> Iterator[Asked]:
    """Read the variables of rc.conf that are about carp: first what is created, then each interface, its aliases in order.

    A vhid on a parent itself, as FreeBSD has it since 10, becomes a carp interface of the lowest number that is free.
    """
    # As in a shell the last assignment of a variable holds.
    variables = {one.name: one for one in assignments(text)}
    for one in variables.values():
        yield from _created(one)
    ranked = [(_rank(match), one, match) for name, one in variables.items() if (match := _CARP_VARIABLE.fullmatch(name))]
    for _, one, match in sorted(ranked, key=lambda ranked: ranked[0]):
        yield from _variable(one, match)
    taken = {match["interface"] for _, _, match in ranked} | {name for one in variables.values() for name in _cloned(one)}
    yield from _on_parents([one for one in variables.values() if _is_of_parent(one)], taken)


def _cloned(variable: Assignment) -> list[str]:
    """List what may be meant for carp interfaces among the names in cloned_interfaces."""
    names = variable.value.split() if variable.name == _INTERFACES else []
    return [name for name in names if name.startswith("carp")]


def _created(variable: Assignment) -> Iterator[Asked]:
    names = _cloned(variable)
    if names and variable.error:
        yield Asked(variable.line, error=f"{variable.name}: {variable.error}")
        return
    for name in names:
        if words.carp_number(name) is None:
            yield Asked(variable.line, error=f"{variable.name}: {name}: {words.CARP_NAME}")
        else:
            yield Asked(variable.line, Change(name, create=True))


def _rank(match: re.Match[str]) -> tuple[int, int, int]:
    """Order the variables: by interface, then as the boot scripts go through them, then by the number of an alias."""
    alias = _ALIAS.fullmatch(match["suffix"] or "")
    number = int(match["interface"].removeprefix("carp"))
    return number, _ORDER.index(match["kind"]) + (len(_ORDER) if alias else 0), int(alias["number"]) if alias else 0


def _variable(one: Assignment, match: re.Match[str]) -> Iterator[Asked]:
    kind, suffix = match["kind"], match["suffix"]
    alias = _ALIAS.fullmatch(suffix or "")
    is_known = suffix in _KNOWN_SUFFIXES[kind] or (alias and kind in ("ifconfig", "ipv6_ifconfig"))
    if not is_known:
        allowed = f"ifconfig_{match['interface']}, or that with _alias0, _aliases or _ipv6"
        yield Asked(one.line, error=f"{one.name}: unknown variable of a carp interface: {allowed}")
        return
    if one.error:
        yield Asked(one.line, error=f"{one.name}: {one.error}")
        return
    for command in split_commands(one.value):
        try:
            line = command_words(command)
            if kind == "ifaliases":
                line = _pairs(line)
            elif kind == "ipv6_ifconfig" and line:
                line = ["inet6", *line]
            if alias and line and not {"alias", "-alias", "delete"} & set(line):
                line = [*line, "alias"]
            if line:
                yield Asked(one.line, parse_change(match["interface"], line))
        except WordError as error:
            yield Asked(one.line, error=f"{one.name}: {error}")


def _pairs(line: list[str]) -> list[str]:
    """Turn NetBSD's pairs of address and mask into words of ifconfig; a mask - is left to be found out."""
    if len(line) % 2:
        raise WordError("pairs of an address and a mask, which is - where it is to be found out")
    pairs = zip(line[::2], line[1::2], strict=True)
    return [word for address, mask in pairs for word in ((address,) if mask == "-" else (address, "netmask", mask))]


def _is_of_parent(one: Assignment) -> bool:
    """Whether it is a variable ifconfig_IF of an interface that is not carp's own, with a virtual host on it."""
    match = _PARENT_VARIABLE.fullmatch(one.name)
    return bool(match and words.carp_number(match["interface"]) is None and "vhid" in one.value.split())


def _on_parents(variables: list[Assignment], taken: set[str]) -> Iterator[Asked]:
    names: dict[tuple[str, str], str] = {}
    free = (name for number in count() if (name := f"carp{number}") not in taken)
    for one in variables:
        match = _PARENT_VARIABLE.fullmatch(one.name)
        if match is None:
            continue
        if one.error:
            yield Asked(one.line, error=f"{one.name}: {one.error}")
            continue
        try:
            line = command_words(one.value)
            for part in _each_address(line) if match["suffix"] == "_aliases" else [line]:
                if "vhid" in part:
                    vhid = "".join(part[part.index("vhid") + 1 :][:1])
                    group = (match["interface"], vhid)
                    names[group] = names.get(group) or next(free)
                    yield Asked(one.line, parse_change(names[group], ["carpdev", match["interface"], *part]))
        except WordError as error:
            yield Asked(one.line, error=f"{one.name}: {error}")


def _each_address(line: list[str]) -> Iterator[list[str]]:
    """Split the words of FreeBSD's ifconfig_IF_aliases, each part of which begins with inet or inet6."""
    starts = [number for number, word in enumerate(line) if word in ("inet", "inet6")]
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        yield line[start:end]
