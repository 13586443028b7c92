"""`carp sysctl`: the values net.inet.carp.NAME, printed as OpenBSD's sysctl does."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from carp.config.bsd_words import WordError
from carp.config.globals import PARAMETERS, PREFIX, Parameter, Step, SysctlLine, parse

from .client import get, send
from .errors import CommandError

USAGE = f"""\
usage: carp sysctl [-n] [-q] [{PREFIX}.NAME ...]
       carp sysctl [-n] [-q] [-w] {PREFIX}.NAME=VALUE ...

Show one value or more, all of {PREFIX}, or set them; -w may be left out. -n prints values without names, -q nothing about
what was set. Printed as OpenBSD does: {PREFIX}.log=2, where FreeBSD has ": " in place of "=".

{PREFIX}. and one of
  {", ".join(parameter.name for parameter in PARAMETERS)}
suppress_preempt is read only. A value written to demotion is added to it, as on FreeBSD."""


def sysctl(socket: Path, words: Sequence[str]) -> int:
    """Carry out one line, from left to right; return the exit status.

    What is set without a word to show in between is set together or not at all.

    Raises:
        CommandError: a word is wrong, and nothing was changed; or the daemon refuses.
    """
    try:
        line = parse(words)
    except WordError as error:
        raise CommandError(str(error)) from None
    for together in _runs(line.steps):
        if together[0].value is None:
            _show(socket, together, line)
        else:
            _set(socket, together, line)
    return 0


def _runs(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Split a line into runs that one request answers: all to be shown, or all to be set and none of them twice."""
    run: list[Step] = []
    for step in steps:
        shows = step.value is None
        again = not shows and any(step.parameter is one.parameter for one in run)
        if run and (again or shows != (run[0].value is None)):
            yield run
            run = []
        run.append(step)
    yield run


def _show(socket: Path, steps: Sequence[Step], line: SysctlLine) -> None:
    values = get(socket, "/v1/global")
    for step in steps:
        name = "" if line.bare else f"{step.parameter.sysctl}="
        print(name + _text(step.parameter, values))


def _set(socket: Path, steps: Sequence[Step], line: SysctlLine) -> None:
    answer = send(socket, "PATCH", "/v1/global", {step.parameter.key: step.value for step in steps})
    if line.quiet:
        return
    for step in steps:
        old = "" if line.bare else f"{step.parameter.sysctl}: {_text(step.parameter, answer['old'])} -> "
        print(old + _text(step.parameter, answer["new"]))


def _text(parameter: Parameter, values: dict[str, Any]) -> str:
    if parameter.key not in values:
        raise CommandError(f"{parameter.sysctl}: this carpd does not know it")
    return parameter.show(values[parameter.key])
