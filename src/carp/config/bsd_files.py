"""The boot files of the BSDs: hostname.carpN, rc.conf and sysctl.conf, read whole, with all errors of all files at once.

They are only read: nothing in them is run, and what is not about carp is passed over.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import boot_lines, rc_conf, secrets, words
from .boot_lines import Asked
from .bsd_words import WordError
from .change import Change
from .errors import ConfigError, Problem, RefusedError

OWN_SYSTEM = "openbsd"

_INTERFACE_FILE = re.compile(r"(?P<kind>hostname|ifconfig)\.(?P<interface>carp[0-9]+)")
_MAX_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What boot files ask for.

    `changes` are to be carried out in their order, `settings` are keys of [global] with their values. `warnings` are
    sentences about what is legal and unwise. `system` is whose files they are (a key of LOG_LEVELS), or "" where that did
    not show.
    """

    changes: tuple[Change, ...] = ()
    settings: Mapping[str, bool | int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    system: str = ""


def read_hostname_files(directory: Path) -> BootFiles:
    """Read every hostname.carpN of a directory, in the order of N; a directory without any asks for nothing.

    Raises:
        ConfigError: with every problem of every file.
    """
    return read_files(hostname_files(directory))


def read_rc_conf(path: Path) -> BootFiles:
    """Read the variables of an rc.conf that are about carp.

    Raises:
        ConfigError: with every problem of the file.
    """
    reading = _Reading()
    reading.rc_conf(path)
    return reading.result()


def read_sysctl_conf(path: Path, system: str = OWN_SYSTEM) -> BootFiles:
    """Read the lines net.inet.carp.NAME=value of a sysctl.conf; `system` is the key of LOG_LEVELS whose log level is meant.

    Raises:
        ConfigError: with every problem of the file.
    """
    reading = _Reading()
    reading.sysctl_conf(path, system)
    return reading.result()


def read_files(paths: Sequence[Path]) -> BootFiles:
    """Read boot files of one host, told apart by their names; what is neither hostname.carpN nor a sysctl.conf is an rc.conf.

    Where an rc.conf is about carp, the log level of a sysctl.conf is that of its system.

    Raises:
        ConfigError: with every problem of every file.
    """
    reading = _Reading()
    sysctl_confs = []
    for path in paths:
        if path.name.startswith(("hostname.", "ifconfig.")):
            reading.interface_file(path)
        elif "sysctl" in path.name:
            sysctl_confs.append(path)
        else:
            reading.rc_conf(path)
    for path in sysctl_confs:
        reading.sysctl_conf(path, reading.system or OWN_SYSTEM)
    return reading.result()


def hostname_files(directory: Path) -> list[Path]:
    """List the files hostname.carpN of a directory, in the order of N; copies such as hostname.carp0.bak are none.

    Raises:
        ConfigError: the directory cannot be read.
    """
    try:
        names = [path.name for path in directory.iterdir()]
    except OSError as error:
        raise ConfigError((Problem(str(directory), fault=f"cannot be read: {error.strerror}"),)) from None
    numbered = []
    for name in names:
        match = _INTERFACE_FILE.fullmatch(name)
        if match and match["kind"] == "hostname":
            numbered.append((int(match["interface"].removeprefix("carp")), name))
    return [directory / name for _, name in sorted(numbered)]


class _Reading:
    """Files read so far, and what is wrong with them."""

    def __init__(self) -> None:
        self.system = ""
        self._changes: list[Change] = []
        self._settings: dict[str, bool | int] = {}
        self._warnings: list[str] = []
        self._problems: list[Problem] = []

    def interface_file(self, path: Path) -> None:
        """Read one hostname.carpN or ifconfig.carpN."""
        match = _INTERFACE_FILE.fullmatch(path.name)
        interface = match["interface"] if match else path.name.partition(".")[2]
        if words.carp_number(interface) is None:
            self._problems.append(Problem(str(path), fault=f"not a file of a carp interface: hostname.{words.CARP_NAME}"))
            return
        if match and match["kind"] == "ifconfig":
            self.system = self.system or "netbsd"
        text = self._text(path)
        self._take(path, boot_lines.hostname_lines(interface, text))

    def rc_conf(self, path: Path) -> None:
        """Read one rc.conf."""
        text = self._text(path)
        self.system = rc_conf.system_of(text) or self.system
        self._take(path, rc_conf.lines(text))

    def sysctl_conf(self, path: Path, system: str) -> None:
        """Read one sysctl.conf; of a name that is there twice the last one holds."""
        for number, line in enumerate(self._text(path).split("\n"), start=1):
            try:
                setting = boot_lines.sysctl_setting(line, system)
            except WordError as error:
                self._problems.append(_problem(path, number, str(error)))
            else:
                self._settings.update([setting] if setting else [])

    def result(self) -> BootFiles:
        """Return what all files ask for.

        Raises:
            ConfigError: with every problem.
        """
        if self._problems:
            raise ConfigError(tuple(self._problems))
        return BootFiles(tuple(_settled(self._changes)), dict(self._settings), tuple(self._warnings), self.system)

    def _text(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not the name of a file"
            self._problems.append(Problem(str(path), fault=f"cannot be read: {reason}"))
            return ""
        if len(raw) > _MAX_FILE_BYTES:
            self._problems.append(Problem(str(path), fault=f"larger than {_MAX_FILE_BYTES} bytes"))
            return ""
        # A pass phrase is bytes that need not be UTF-8; they reach the key as they are.
        return raw.decode(errors="surrogateescape")

    def _take(self, path: Path, asked: Iterable[Asked]) -> None:
        has_key = False
        for one in asked:
            if one.change is None:
                self._problems.append(_problem(path, one.line, one.error))
            else:
                self._changes.append(one.change)
                has_key |= "pass" in one.change.set
        if has_key:
            self._warn_of_mode(path)

    def _warn_of_mode(self, path: Path) -> None:
        """Warn of a key that others may read; a carp.toml would be refused, but on the BSDs such files are in use."""
        try:
            secrets.check_mode(path, path.stat().st_mode)
        except RefusedError as refused:
            self._warnings.append(f"{path}: {refused.fault}: {refused.allowed}")


def _problem(path: Path, line: int, fault: str) -> Problem:
    return Problem(f"{path}: line {line}", fault=fault)


def _settled(changes: Sequence[Change]) -> Iterator[Change]:
    """Make the order of the files carry through.

    `create` is left out where a file asks for it once more, as rc.conf and a line `create` of NetBSD do together. A parent
    that only a later line names is known from the first line on, or else it would be searched for.
    """
    parents: dict[str, object] = {}
    for change in changes:
        if "carpdev" in change.set:
            parents.setdefault(change.interface, change.set["carpdev"])
    known: set[str] = set()
    for change in changes:
        name = change.interface
        if name in known:
            yield replace(change, create=False)
        else:
            yield replace(change, set={"carpdev": parents[name]} | dict(change.set)) if name in parents else change
        known.add(name)
