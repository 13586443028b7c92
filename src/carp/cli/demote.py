"""`carp demote`: named reasons why this host should not be MASTER, given and taken back by hand."""

import getpass
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .client import get, segment, send
from .errors import WRONG_CONFIGURATION, CommandError
from .status import line

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def add(socket: Path, name: str, amount: int, groups: Iterable[str], span: str | None) -> int:
    """Let a reason demote groups, for a while if `span` says how long; return the exit status. Raises CommandError."""
    body = {"amount": amount, "by": who(), "for_s": None if span is None else seconds(span)}
    answer = send(socket, "POST", f"/v1/demotions/{segment(name)}", {**body, "groups": list(groups) or None})
    _print(one for one in answer["demotions"] if one["name"] == name)
    return 0


def remove(socket: Path, name: str) -> int:
    """End a reason; return the exit status. Raises DaemonError."""
    send(socket, "DELETE", f"/v1/demotions/{segment(name)}", {})
    print(f"{name}: demotes no more")
    return 0


def show(socket: Path, *, as_json: bool) -> int:
    """Print every reason that holds; return the exit status. Raises DaemonError."""
    demotions = get(socket, "/v1/demotions")["demotions"]
    if as_json:
        print(json.dumps(demotions, indent=2))
    else:
        _print(demotions)
        if not demotions:
            print("nothing demotes this host")
    return 0


def who() -> str:
    """Name the person who gives a command, as far as can be known."""
    sudo = os.environ.get("SUDO_USER")
    try:
        return sudo or getpass.getuser()
    except (KeyError, OSError):
        return ""


def seconds(span: str) -> float:
    """Read a time such as 90, 90s, 15m, 1h or 2d.

    Raises:
        CommandError: it is none.
    """
    found = _DURATION.fullmatch(span)
    if found is None:
        sentence = f"{span}: no time; a number of seconds, or one with s, m, h or d, such as 1h"
        raise CommandError(sentence, exit_status=WRONG_CONFIGURATION)
    return float(found["number"]) * _UNITS_S[found["unit"]]


def _print(demotions: Iterable[Mapping[str, Any]]) -> None:
    for one in demotions:
        print(f"{', '.join(one['groups'])}: {line(one)}")
