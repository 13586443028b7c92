"""`carp switch` and `carp maintenance`: this host hands over, without a gap."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .client import get, segment, send
from .demote import who

DONE, FAILED = 0, 1


def switch(socket: Path, interface: str, *, to_backup: bool, timeout_s: float) -> int:
    """Hand one carp interface over to a peer and say how long it took; return the exit status.

    Raises:
        DaemonError: no peer took it, and everything is as it was; or it is not MASTER here.
    """
    body = {"to_backup": to_backup, "timeout_s": timeout_s}
    answer = send(socket, "POST", f"/v1/switch/{segment(interface)}", body, timeout_s)
    master = answer["master"]
    if answer["took_ms"] is None:
        print(f"{interface}: is BACKUP already; MASTER is {master or 'not known'}")
    else:
        print(f"{interface}: {master or 'a peer'} is MASTER after {answer['took_ms']} ms")
    _warn(answer)
    return DONE


def maintain(socket: Path, *, on: bool, reason: str, timeout_s: float) -> int:
    """Begin or end the maintenance of this host; return the exit status, FAILED if there is a MASTER here still.

    Raises:
        DaemonError: it could not be done.
    """
    body = {"on": on, "reason": reason, "by": who(), "timeout_s": timeout_s}
    answer = send(socket, "POST", "/v1/maintenance", body, timeout_s)
    for name, took_ms in answer.get("took_ms", {}).items():
        print(f"{name}: handed over after {took_ms} ms")
    for name in answer.get("kept", ()):
        print(f"{name}: no peer took over: this host goes on as MASTER", file=sys.stderr)
    if answer.get("hint"):
        print(answer["hint"], file=sys.stderr)
    _warn(answer)
    _print(answer)
    return FAILED if answer.get("kept") else DONE


def show_maintenance(socket: Path) -> int:
    """Print whether this host is in maintenance; return the exit status. Raises DaemonError."""
    _print(get(socket, "/v1/maintenance"))
    return DONE


def _warn(answer: Mapping[str, Any]) -> None:
    for warning in answer.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)


def _print(answer: Mapping[str, Any]) -> None:
    if not answer["on"]:
        print("maintenance: off")
        return
    since = f" since {answer['since']}" if answer["since"] else ""
    by = f" by {answer['by']}" if answer["by"] else ""
    reason = f": {answer['reason']}" if answer["reason"] else ""
    print(f"maintenance: on{since}{by}{reason}")
