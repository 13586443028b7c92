"""`carp config show`, `save` and `diff`, and `carp reload`: what runs, and what the file would make of it."""

import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from .client import DaemonError, get, send
from .errors import WRONG_CONFIGURATION, CommandError

DONE = 0


def show(socket: Path) -> int:
    """Print the running configuration as carp.toml without keys; return the exit status. Raises DaemonError."""
    from carp.config.write import to_toml

    print(to_toml(get(socket, "/v1/config")["document"], with_keys=False), end="")
    return DONE


def save(socket: Path, file: Path | None) -> int:
    """Let the daemon write its configuration, to the file it was read from if none is given; return the exit status.

    A relative path is meant from here, not from where the daemon runs.

    Raises:
        DaemonError: it refuses, or cannot write.
    """
    answer = send(socket, "POST", "/v1/config/save", {"path": None if file is None else str(file.absolute())})
    for sentence in answer.get("left_out", ()):
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"{answer['path']}: written")
    return DONE


def diff(socket: Path) -> int:
    """Print what a reload would change; return the exit status.

    Raises:
        CommandError: the file would be refused, with every problem; exit status 2.
    """
    try:
        answer = get(socket, "/v1/reload")
    except DaemonError as error:
        raise _as_wrong_configuration(error) from None
    return _tell(answer, "nothing would change")


def reload(socket: Path) -> int:
    """Let the daemon read its file again and print what it changed; return the exit status.

    Raises:
        CommandError: the file was refused, with every problem, and nothing changed; exit status 2.
    """
    try:
        answer = send(socket, "POST", "/v1/reload", {})
    except DaemonError as error:
        raise _as_wrong_configuration(error) from None
    return _tell(answer, "nothing changed")


def _tell(answer: Mapping[str, Any], nothing: str) -> int:
    for warning in answer.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    for change in answer["changes"] or (nothing,):
        print(change)
    return DONE


def _as_wrong_configuration(error: DaemonError) -> CommandError:
    """Give a refusal of the file the exit status of a wrong configuration; what else went wrong stays as it is."""
    if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
        return error
    return CommandError(error.sentences, exit_status=WRONG_CONFIGURATION)
