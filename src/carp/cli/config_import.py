"""`carp config import`: files of the BSDs, or a command line of ucarp, as one carp.toml on standard output.

Nothing of this host is looked at: the files may be another host's. So a prefix that no file names is that of its class, and
a parent that none names has to be given.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from carp.config.bsd_files import OWN_SYSTEM, BootFiles, read_files, read_sysctl_conf
from carp.config.change import Change
from carp.config.edit import EditError, HostView, apply, set_global
from carp.config.errors import ConfigError, KeyPath, key_text
from carp.config.load import Configuration, Source, load_document
from carp.config.secrets import SECRET_KEYS
from carp.config.ucarp import parse_ucarp
from carp.config.write import to_toml
from carp.protocol.sharing import shared_addresses

from .errors import WRONG_CONFIGURATION, CommandError

_UCARP = "ucarp"
_NETBSD = "netbsd"
_NETBSD_RULE = 'NetBSD answers for a shared address by the MAC of the asker: dialect = "netbsd" does so, too'
_NAMED = ("hostname.", "ifconfig.", "rc.conf", "sysctl")
_SYSCTL_LINE = re.compile(rb"^\s*net\.inet\.carp\.", re.MULTILINE)


def config_import(words: Sequence[str], carpdev: str) -> int:
    """Print the carp.toml; return the exit status. `carpdev` is the parent of interfaces that name none, or "".

    Warnings go to standard error. The text holds the pass phrases of the files.

    Raises:
        CommandError: with everything that is wrong with the files, or missing in them; exit status 2.
    """
    try:
        is_ucarp = words[0].rpartition("/")[2] == _UCARP
        document, warnings = _of_ucarp(words, carpdev) if is_ucarp else _of_files([Path(word) for word in words], carpdev)
    except ConfigError as error:
        raise _wrong(map(str, error.problems)) from None
    except EditError as error:
        raise _wrong((str(error),)) from None
    if any(SECRET_KEYS & table.keys() for table in document.values()):
        warnings.append("the text holds pass phrases: keep it in a file of mode 0600")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(to_toml(document, with_keys=True), end="")
    return 0


def _of_ucarp(words: Sequence[str], carpdev: str) -> tuple[dict[str, Any], list[str]]:
    program, *options = words
    # Of an option that is there twice ucarp takes the last.
    imported = parse_ucarp([program, *(["-i", carpdev] if carpdev else []), *options])
    if any("pass-file" in table for table in imported.document.values()):
        # The file may be on another host, and its values are checked already.
        return imported.document, list(imported.warnings)
    configuration = _checked(imported.document)
    return configuration.document, [*imported.warnings, *configuration.warnings]


def _of_files(paths: Sequence[Path], carpdev: str) -> tuple[dict[str, Any], list[str]]:
    boot = _read(paths)
    document = set_global({}, boot.settings)
    for change in _with_parents(boot.changes, carpdev):
        document = apply(document, change, HostView())
    if not document:
        raise _wrong((f"{', '.join(map(str, paths))}: nothing in it is about carp",))
    configuration = _checked(document)
    warnings = [*boot.warnings, *_doubts(boot.changes), *configuration.warnings]
    if boot.system == _NETBSD and shared_addresses(configuration.host.interfaces):
        warnings.append(_NETBSD_RULE)
    return configuration.document, warnings


def _doubts(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        for address in change.add_addresses:
            if address.prefix_length is None:
                yield f"{change.interface}: {address}: no file tells its prefix length: it is guessed"
        if change.state:
            yield f"{change.interface}: state {change.state}: left out: a file forces no state"


def _read(paths: Sequence[Path]) -> BootFiles:
    """Read files by their names; of any other name, one with lines of sysctl.conf is one, and the rest are rc.conf."""
    sysctls = [path for path in paths if not path.name.startswith(_NAMED) and _SYSCTL_LINE.search(_bytes(path))]
    boot = read_files([path for path in paths if path not in sysctls])
    settings = dict(boot.settings)
    for path in sysctls:
        settings |= read_sysctl_conf(path, boot.system or OWN_SYSTEM).settings
    return replace(boot, settings=settings)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # its reader says why


def _with_parents(changes: Sequence[Change], carpdev: str) -> Iterator[Change]:
    """Let each interface's first change name the parent, wherever a file names it.

    Raises:
        CommandError: neither a file nor the option names it.
    """
    parents = {change.interface: carpdev for change in changes}
    parents |= {change.interface: str(change.set["carpdev"]) for change in changes if "carpdev" in change.set}
    lacking = [name for name, parent in parents.items() if not parent]
    if lacking:
        raise _wrong(f"{name}: carpdev: no file names its parent: --carpdev IF does" for name in lacking)
    for change in changes:
        parent = parents.pop(change.interface, None)
        yield change if parent is None else replace(change, set={**change.set, "carpdev": parent})


def _checked(document: dict[str, Any]) -> Configuration:
    """Check a whole document as carpd would; settings alone are fine, to be put beside interfaces."""
    source = Source(_place, Path(), incomplete_ok=document.keys() == {"global"})
    return load_document(document, source)


def _place(path: KeyPath) -> str:
    return key_text(path) or "the files"


def _wrong(sentences: Iterable[str]) -> CommandError:
    return CommandError(sentences, exit_status=WRONG_CONFIGURATION)
