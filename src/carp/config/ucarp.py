"""A command line of ucarp as a carp.toml: what each of its options becomes, and what of it has no counterpart here.

The options are those of `ucarp --help` of version 1.5.2. Values are checked by the rules of carp.toml; only the places in the
messages are named after the options.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from getopt import GetoptError, gnu_getopt
from ipaddress import IPv4Address
from typing import Any

from .errors import Collector, ConfigError, KeyPath, Problem, shown
from .model import InterfaceTable, read_table

DEFAULT_NAME = "carp0"

_WITH_VALUE = {
    "i": "interface",
    "s": "srcip",
    "m": "mcast",
    "v": "vhid",
    "p": "pass",
    "o": "passfile",
    "a": "addr",
    "b": "advbase",
    "k": "advskew",
    "u": "upscript",
    "d": "downscript",
    "r": "deadratio",
    "f": "facility",
    "x": "xparam",
}
_FLAGS = {
    "P": "preempt",
    "n": "neutral",
    "h": "help",
    "D": "debug",
    "z": "shutdown",
    "B": "daemonize",
    "S": "ignoreifstate",
    "M": "nomcast",
}
_LONG = {f"-{letter}": f"--{name}" for letter, name in (_WITH_VALUE | _FLAGS).items()}
_REQUIRED = {
    "interface": "the name of the parent interface, where ucarp would take the first one that it finds",
    "vhid": "an integer 1..255",
    "addr": "an IPv4 address, such as 192.0.2.100",
}
_FILLED_IN = {"carpdev": "eth0", "vhid": 1, "addresses": ["192.0.2.100/32"]}
_OPTION_OF_KEY = {"carpdev": "interface", "pass-file": "passfile", "addresses": "addr"}
_MULTICAST = "224.0.0.18"
_USUAL_DEAD_RATIO = "3"

_SCRIPT = "carpd sets and removes the address itself and runs no script of ucarp"
_NO_COUNTERPART = {
    "upscript": _SCRIPT,
    "downscript": _SCRIPT,
    "neutral": _SCRIPT,
    "shutdown": "carpd removes the address itself when it stops",
    "xparam": _SCRIPT,
    "srcip": "carpd sends from the first address of the parent",
    "daemonize": "carpd stays in the foreground",
    "facility": "carpd logs to stderr",
    "debug": "write log = 7 in [global] instead",
    "ignoreifstate": "carpd goes to INIT while the parent has no link",
    "nomcast": "carpd sends to the multicast group or to carppeer, and does not hear a peer that sends by broadcast",
}
"""Options without a key in carp.toml, each with what carpd does instead."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A document of the shape of carp.toml, and a sentence about each thing that could not be taken over."""

    document: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...] = ()


def parse_ucarp(argv: Sequence[str], name: str = DEFAULT_NAME) -> Imported:
    """Read a command line of ucarp, with or without the name of the program, as the carp interface `name`.

    Raises:
        ConfigError: with every problem; its places are the long options. None shows a pass phrase.
    """
    options = _options(argv)
    problems = [Problem(f"--{key}", fault="missing", allowed=text) for key, text in _REQUIRED.items() if key not in options]
    table = _table(options)
    document = {name: table}
    if "addr" in options and "addresses" not in table:
        problems.append(Problem("--addr", shown(options["addr"]), _REQUIRED["addr"]))
    if "pass" in options and "passfile" in options:
        problems.append(Problem("--passfile", fault="--pass is given already", allowed="only one of them"))
    collector = Collector(document, _place)
    read_table(InterfaceTable, (name,), _FILLED_IN | table, collector)
    problems += collector.ordered()
    if problems:
        raise ConfigError(tuple(problems))
    return Imported(document, tuple(_warnings(options)))


def _options(argv: Sequence[str]) -> dict[str, str]:
    """Read options as ucarp does: in any order, long ones cut short where that is unique, of each the last one."""
    words = list(argv)
    if words and words[0].rpartition("/")[2] == "ucarp":
        words = words[1:]
    if words and words[-1] == "&":
        words = words[:-1]
    short = "".join(f"{letter}:" for letter in _WITH_VALUE) + "".join(_FLAGS)
    long = [*(f"{option}=" for option in _WITH_VALUE.values()), *_FLAGS.values()]
    try:
        found, rest = gnu_getopt(words, short, long)
    except GetoptError as error:
        raise ConfigError((Problem("ucarp", fault=f"{error.msg}: an option of ucarp 1.5.2, such as --vhid=1"),)) from None
    options = {_LONG.get(option, option).removeprefix("--"): value for option, value in found}
    if rest:
        # They are not shown: they may be the rest of a pass phrase that should have stood in quotes.
        fault = f"words that belong to no option: {len(rest)}"
        raise ConfigError((Problem("ucarp", fault=fault, allowed="a value with spaces stands in quotes"),))
    if "help" in options:
        raise ConfigError((Problem("--help", fault="it starts nothing", allowed="the options that ucarp is started with"),))
    return options


def _table(options: Mapping[str, str]) -> dict[str, Any]:
    """Make a table [carpN]; what is wrong with its values is for the rules of carp.toml to say."""
    table: dict[str, Any] = {}
    if "interface" in options:
        table["carpdev"] = options["interface"]
    for key in ("vhid", "advbase", "advskew"):
        if key in options:
            table[key] = _number(options[key])
    if "pass" in options:
        table["pass"] = options["pass"]
    if "passfile" in options:
        table["pass-file"] = options["passfile"]
    if "preempt" in options:
        table["preempt"] = True
    if "addr" in options:
        # The length 32 needs no route of its own where the parent is in the network of the address.
        with suppress(ValueError):
            table["addresses"] = [f"{IPv4Address(options['addr'])}/32"]
    return table


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _place(path: KeyPath) -> str:
    key = path[-1] if path else ""
    return f"--{_OPTION_OF_KEY.get(key, key)}"


def _warnings(options: Mapping[str, str]) -> list[str]:
    found = [f"--{option}: left out: {sentence}" for option, sentence in _NO_COUNTERPART.items() if option in options]
    found.append(
        f"--addr: {options['addr']} has become {options['addr']}/32: "
        "write the prefix length of its network if the parent has no address in it"
    )
    if "passfile" in options:
        found.append(
            f"--passfile: {options['passfile']}: it must have mode 0600 and one line; "
            "a name without / at its beginning is looked for beside carp.toml"
        )
    if options.get("mcast", _MULTICAST) != _MULTICAST:
        found.append(f"--mcast: left out: carpd uses {_MULTICAST} only, and hears no peer that uses another group")
    if options.get("deadratio", _USUAL_DEAD_RATIO) != _USUAL_DEAD_RATIO:
        found.append(
            "--deadratio: left out: carpd waits for 3 advertisements; "
            "where a peer runs ucarp with less than 3, write its time in peer-master-down"
        )
    return found
