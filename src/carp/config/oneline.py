"""The form without a file, after ucarp: carpd --interface eth0 --vhid 1 --pass-file KEY 192.0.2.100/24.

The options become a document of the shape of carp.toml, so every check and every message is the same; only the places are
named after the options.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

from . import words
from .errors import ConfigError, KeyPath, Problem, key_text, shown
from .load import Configuration, Source, load_document

DEFAULT_NAME = "carp0"

_OPTIONS = {
    "carpdev": "--interface",
    "vhid": "--vhid",
    "pass": "--pass",
    "pass-file": "--pass-file",
    "advbase": "--advbase",
    "advskew": "--advskew",
    "lladdr": "--lladdr",
    "dialect": "--dialect",
    "addresses": "ADDRESS",
}
_NUMBERS = ("vhid", "advbase", "advskew")
_PREFIX = "oneline_"
_NUMBER = re.compile(r"-?[0-9]{1,9}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the one-line form; values stay text until `from_arguments` checks them all together."""
    group = parser.add_argument_group("one interface without a file")
    add = group.add_argument
    add("-i", "--interface", dest=f"{_PREFIX}carpdev", metavar="IF", help="the parent interface, such as eth0")
    add("-v", "--vhid", dest=f"{_PREFIX}vhid", metavar="N", help="the virtual host, 1..255")
    add("-o", "--pass-file", dest=f"{_PREFIX}pass-file", metavar="FILE", help="a file with the pass phrase, of mode 0600")
    add("-p", "--pass", dest=f"{_PREFIX}pass", metavar="PASS", help="the pass phrase itself; anyone can see it in ps")
    add("-b", "--advbase", dest=f"{_PREFIX}advbase", metavar="N", help="seconds between advertisements, 0..254 (1)")
    add("-k", "--advskew", dest=f"{_PREFIX}advskew", metavar="N", help="1/256 s added to advbase, 0..254 (0)")
    add("-P", "--preempt", dest=f"{_PREFIX}preempt", action="store_true", help="take over from a slower MASTER")
    add("--lladdr", dest=f"{_PREFIX}lladdr", metavar="MAC", help="virtual (the default), parent, or a MAC")
    add("--dialect", dest=f"{_PREFIX}dialect", metavar="D", help=words.DIALECT)
    add("--name", dest=f"{_PREFIX}name", metavar="carpN", help=f"the name of the carp interface ({DEFAULT_NAME})")
    add(dest=f"{_PREFIX}addresses", nargs="*", metavar="ADDRESS", help="a shared address with its prefix length")


def is_given(namespace: argparse.Namespace) -> bool:
    """Tell whether any part of the one-line form was used; without any, carpd reads its file."""
    return any(value not in (None, False, []) for name, value in vars(namespace).items() if name.startswith(_PREFIX))


def from_arguments(namespace: argparse.Namespace) -> Configuration:
    """Check the options and make a configuration of one carp interface; --pass-file is relative to the current folder.

    Raises:
        ConfigError: with every problem; its places are the names of the options.
    """
    given = {name.removeprefix(_PREFIX): value for name, value in vars(namespace).items() if name.startswith(_PREFIX)}
    table: dict[str, object] = {}
    for key in _OPTIONS:
        value = given.get(key)
        if value not in (None, []):
            table[key] = _number(value) if key in _NUMBERS else value
    name = DEFAULT_NAME if given.get("name") is None else given["name"]
    wrong_name: tuple[Problem, ...] = ()
    if words.carp_number(name) is None:
        wrong_name = (Problem("--name", shown(name), words.CARP_NAME),)
        name = DEFAULT_NAME
    document = {"global": {"preempt": given.get("preempt", False)}, name: table}
    try:
        configuration = load_document(document, Source(_place, Path()))
    except ConfigError as error:
        raise ConfigError(wrong_name + error.problems) from None
    if wrong_name:
        raise ConfigError(wrong_name)
    if "pass" in table:
        warning = "--pass: anyone on this host can see the pass phrase in the process list; --pass-file hides it"
        configuration = replace(configuration, warnings=(*configuration.warnings, warning))
    return configuration


def _place(path: KeyPath) -> str:
    return _OPTIONS.get(path[-1], key_text(path)) if path else "carpd"


def _number(text: str) -> int | str:
    """Turn a number into an int; anything else is left for the checks, which show it."""
    return int(text) if _NUMBER.fullmatch(text) else text
