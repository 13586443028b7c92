"""The sysctls net.inet.carp.NAME: their keys in [global] of carp.toml, their kinds, and the words of a `sysctl` line.

FreeBSD's names stand beside OpenBSD's and NetBSD's (PROTOCOL.md 8.1 to 8.4, 5.2 and 5.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .bsd_words import WordError, integer, written, wrong
from .hints import nearest

PREFIX = "net.inet.carp"

_STATISTICS = "stats"
_OPTIONS = frozenset("anqw")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One sysctl.

    `name` is its last part. A value is a bool (shown as 0 or 1) where `is_boolean`, else an integer `low`..`high`. Writing to
    one that `adds` adds to it instead of setting it; such and `read_only` ones count what is going on and are no keys of a
    file.
    """

    name: str
    low: int = 0
    high: int = 1
    is_boolean: bool = False
    read_only: bool = False
    adds: bool = False

    @property
    def key(self) -> str:
        """The key in [global] of carp.toml, and in the control API."""
        return self.name.replace("_", "-")

    @property
    def sysctl(self) -> str:
        """The whole name."""
        return f"{PREFIX}.{self.name}"

    @property
    def is_setting(self) -> bool:
        """Whether it is a key of carp.toml."""
        return not self.read_only and not self.adds

    def read(self, word: str) -> bool | int:
        """Read a value to be written.

        Raises:
            WordError: it is out of range, or nobody can write this one.
        """
        if self.read_only:
            raise WordError(f"{self.sysctl}: it is read only: leave out = and what follows")
        if not word:
            raise WordError(f"{self.sysctl}: its value is missing: an integer {self.low}..{self.high}")
        value = integer(self.sysctl, word, self.low, self.high)
        return bool(value) if self.is_boolean else value

    def show(self, value: object) -> str:
        """Write a value as sysctl(8) does: true and false are 1 and 0."""
        return str(int(value)) if isinstance(value, bool | int) else str(value)


PARAMETERS = (
    Parameter("allow", is_boolean=True),
    Parameter("preempt", is_boolean=True),
    Parameter("log", high=7),
    Parameter("arpbalance", is_boolean=True),
    Parameter("suppress_preempt", high=255, read_only=True),
    Parameter("demotion", low=-255, high=255, adds=True),
    Parameter("dscp", high=63),
    Parameter("ifdown_demotion_factor", high=255),
    Parameter("senderr_demotion_factor", high=255),
)
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
BY_KEY = {parameter.key: parameter for parameter in PARAMETERS}

_NAMES = ", ".join(BY_NAME)


@dataclass(frozen=True, slots=True)
class Step:
    """One word of a `sysctl` line: show a parameter, or write `value` to it where that is not None."""

    parameter: Parameter
    value: bool | int | None = None


@dataclass(frozen=True, slots=True)
class SysctlLine:
    """A `sysctl` line: its steps in order; values alone with `bare` (-n), nothing about what was written with `quiet` (-q)."""

    steps: tuple[Step, ...]
    bare: bool = False
    quiet: bool = False


def parse(line: Sequence[str]) -> SysctlLine:
    """Read everything that stands after `sysctl`; net.inet.carp, -a and nothing at all mean every parameter.

    -w is accepted and means nothing, as on OpenBSD: a value says already that it is to be written.

    Raises:
        WordError: with one sentence about the first word that is wrong.
    """
    options: set[str] = set()
    steps: list[Step] = []
    for word in line:
        if word.startswith("-"):
            options |= _options(word)
        else:
            steps += _steps(word)
    if not steps:
        if "w" in options:
            raise WordError(f"-w: its value is missing: an assignment such as {PREFIX}.preempt=1")
        steps = [Step(parameter) for parameter in PARAMETERS]
    return SysctlLine(tuple(steps), bare="n" in options, quiet="q" in options)


def parse_assignment(word: str) -> tuple[str, bool | int]:
    """Read NAME=VALUE into the key of [global] and its value.

    Raises:
        WordError: the name is unknown, nobody can write it, or the value is out of range.
    """
    name, equals, value = word.partition("=")
    parameter = find(name.strip())
    if not equals:
        raise WordError(f"{parameter.sysctl}: = and its value are missing: an integer {parameter.low}..{parameter.high}")
    return parameter.key, parameter.read(value.strip())


def find(name: str) -> Parameter:
    """Look a parameter up by its whole name.

    Raises:
        WordError: there is none of that name.
    """
    last = name.removeprefix(f"{PREFIX}.")
    if last != name and last in BY_NAME:
        return BY_NAME[last]
    if last == _STATISTICS:
        raise wrong("sysctl", name, "the counters are shown by carp netstat -s -p carp")
    close = nearest(last.rpartition(".")[2].replace("_", "-"), BY_KEY)
    if close is not None:
        raise WordError(f"{written(name)}: unknown name; did you mean {BY_KEY[close].sysctl}?")
    raise WordError(f"{written(name)}: unknown name: {PREFIX}. and one of {_NAMES}")


def _options(word: str) -> set[str]:
    letters = set(word[1:])
    if not letters or letters - _OPTIONS:
        raise wrong("sysctl", word, "one of -a, -n, -q, -w, or a name such as net.inet.carp.preempt")
    return letters


def _steps(word: str) -> list[Step]:
    name, equals, value = word.partition("=")
    if name == PREFIX and not equals:
        return [Step(parameter) for parameter in PARAMETERS]
    parameter = find(name)
    return [Step(parameter, parameter.read(value) if equals else None)]
