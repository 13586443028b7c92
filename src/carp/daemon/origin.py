"""What carpd is started from, and reads again at a reload: carp.toml, the options of one interface, or the BSDs' boot files."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import bsd_files, edit, oneline
from ..config.bsd_files import BootFiles
from ..config.errors import ConfigError, KeyPath, Problem, key_text
from ..config.load import DEFAULT_PATH, Configuration, Source, load_document, load_file

_BOOT_FOLDER = Path("/etc")
_RC_CONF, _SYSCTL_CONF = _BOOT_FOLDER / "rc.conf", _BOOT_FOLDER / "sysctl.conf"

View = Callable[[], edit.HostView]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the configuration is."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration, carp.toml")
    parser.add_argument("--hostname-if", type=Path, metavar="DIR", help="read the files hostname.carpN of a directory")
    parser.add_argument("--rc-conf", type=Path, metavar="FILE", help="read the lines of an rc.conf that are about carp")
    parser.add_argument("--sysctl-conf", type=Path, metavar="FILE", help="read the lines net.inet.carp.NAME=VALUE of a file")
    oneline.add_arguments(parser)


def conflict(arguments: argparse.Namespace) -> str:
    """Say which options exclude each other, "" where none do."""
    kinds = {
        "--config": arguments.config is not None,
        "the options of one interface": oneline.is_given(arguments),
        "boot files": _has_boot_files(arguments),
    }
    given = [kind for kind, is_given in kinds.items() if is_given]
    return f"{' and '.join(given)} exclude each other" if len(given) > 1 else ""


def load(arguments: argparse.Namespace, view: View) -> Configuration:
    """Read and check it all.

    Without any option it is /etc/carp/carp.toml, and where there is none, the boot files in /etc that are about carp. `view`
    is asked for the host's interfaces, which boot files need not name.

    Raises:
        ConfigError: with every problem.
    """
    if oneline.is_given(arguments):
        return oneline.from_arguments(arguments)
    if arguments.config is not None:
        return load_file(arguments.config)
    if _has_boot_files(arguments):
        return from_boot_files(bsd_files.read_files(_boot_files_given(arguments)), view)
    if not DEFAULT_PATH.exists():
        files = bsd_files.read_files(_boot_files_of_the_host())
        if files.changes:
            return from_boot_files(files, view)
        what = "does not exist, and no boot file in /etc is about carp"
        hint = "to begin with nothing, and to use carp ifconfig, a file with an empty table [global] is enough"
        raise ConfigError((Problem(str(DEFAULT_PATH), fault=what, hint=hint),))
    return load_file(DEFAULT_PATH)


def describe(arguments: argparse.Namespace, configuration: Configuration) -> str:
    """Name what was read, for people."""
    if configuration.path is not None:
        return str(configuration.path)
    if oneline.is_given(arguments):
        return "the command line"
    paths = _boot_files_given(arguments) if _has_boot_files(arguments) else _boot_files_of_the_host()
    return ", ".join(map(str, paths)) or "nothing"


def from_boot_files(files: BootFiles, view: View) -> Configuration:
    """Carry out what boot files ask for, on nothing.

    Raises:
        ConfigError: with every problem.
    """
    document: dict[str, Any] = {}
    problems = []
    host = view()
    for change in files.changes:
        try:
            document = edit.apply(document, change, host)
        except edit.EditError as error:
            problems.append(Problem("boot files", fault=str(error)))
    if problems:
        raise ConfigError(tuple(problems))
    configuration = load_document(edit.set_global(document, files.settings), Source(_place, Path("/"), incomplete_ok=True))
    return replace(configuration, warnings=(*files.warnings, *configuration.warnings))


def _place(path: KeyPath) -> str:
    return f"boot files: {key_text(path)}" if path else "boot files"


def _has_boot_files(arguments: argparse.Namespace) -> bool:
    return any(path is not None for path in (arguments.hostname_if, arguments.rc_conf, arguments.sysctl_conf))


def _boot_files_given(arguments: argparse.Namespace) -> Sequence[Path]:
    found = list(bsd_files.hostname_files(arguments.hostname_if)) if arguments.hostname_if is not None else []
    return [*found, *(path for path in (arguments.rc_conf, arguments.sysctl_conf) if path is not None)]


def _boot_files_of_the_host() -> Sequence[Path]:
    return [*bsd_files.hostname_files(_BOOT_FOLDER), *(path for path in (_RC_CONF, _SYSCTL_CONF) if path.exists())]
