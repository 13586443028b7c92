"""`carp targets`: lets systemd's targets follow the state of each carp interface.

carp-master@carp0.target is active while the leader of carp0 is MASTER here, carp-backup@carp0.target while it is BACKUP, none
of them in INIT, and none when carpd is gone: its addresses are gone then too. One thread listens to carpd and only remembers
the newest state of each interface; another one tells systemd, so that a slow systemd never has a queue of bygone states.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from carp.protocol.values import State

from .client import DaemonError, stream
from .errors import CommandError

_SYSTEMCTL = "systemctl"
_TARGETS = {State.MASTER: "carp-master@{}.target", State.BACKUP: "carp-backup@{}.target"}
_TARGET = re.compile(r"carp-(?:master|backup)@(\S+)\.target")
_UNESCAPED = re.compile(r"[A-Za-z0-9:_.]")
_SYSTEMCTL_PATIENCE_S = 30.0
_TRY_AGAIN_AFTER_S = 5.0
_RECONNECT_AFTER_S = 1.0
# What ends right after it began, again and again, must not take a whole CPU.
_BREATH_S = 0.05


def targets(socket: Path) -> NoReturn:
    """Follow the daemon behind a socket, over its restarts, until this process is ended.

    Raises:
        CommandError: there is no systemctl.
        DaemonError: the daemon refuses; one that cannot be reached is waited for.
    """
    if shutil.which(_SYSTEMCTL) is None:
        raise CommandError(f"there is no {_SYSTEMCTL}: carp targets is for hosts that run systemd")
    roles = Roles(_left_active())
    threading.Thread(target=roles.run, name="systemctl", daemon=True).start()
    leaders: dict[str, int | None] = {}
    told = ""
    while True:
        first = True
        try:
            for line in stream(socket, "/v1/events"):
                document = json.loads(line)
                if first:
                    leaders, told, first = _take_states(document, roles), "", False
                elif document["event"] == "transition":
                    _take_transition(document, leaders, roles)
                elif document["event"] == "changed":
                    break  # interfaces may have come, gone or got another leader: a new stream begins with all of them
        except DaemonError as error:
            if error.status is not None:
                raise
            if first:
                roles.want_only({})
                if str(error) != told:
                    told = _say(str(error))
                time.sleep(_RECONNECT_AFTER_S)
                continue
            # A stream can end while carpd lives, if this process was too slow for it. Whether carpd does is seen at once.
        time.sleep(_BREATH_S)


def escape(name: str) -> str:
    """Write a name as the instance of a unit, as systemd-escape(1) does; the name of a carp interface stays as it is."""
    escaped = []
    for byte in name.encode():
        character = chr(byte)
        if character == "/":
            escaped.append("-")
        elif _UNESCAPED.match(character) and (escaped or character != "."):
            escaped.append(character)
        else:
            escaped.append(f"\\x{byte:02x}")
    return "".join(escaped)


class Roles:
    """The wanted state of each instance, and what lets systemd bring it about; `left` are instances that may be active."""

    def __init__(self, left: Iterable[str] = ()) -> None:
        self._left = tuple(left)
        self._wanted: dict[str, State] = {}
        self._reached: dict[str, State] = {}
        self._due: dict[str, float] = {}
        """When to tell systemd about an instance, in seconds of time.monotonic; the longest waiting one first."""
        self._news = threading.Condition()
        self._said: dict[str, str] = {}

    def want(self, states: Mapping[str, State]) -> None:
        """Remember the newest states of some instances."""
        with self._news:
            for instance, state in states.items():
                if self._wanted.get(instance) is not state:
                    self._wanted[instance] = state
                    self._due[instance] = 0.0  # whatever failed before, this is another try
            self._news.notify()

    def want_only(self, states: Mapping[str, State]) -> None:
        """Remember the newest states of all instances: one that is not among them is in INIT."""
        self.want({**dict.fromkeys((*self._left, *self._wanted), State.INIT), **states})

    def run(self) -> NoReturn:
        """Tell systemd what is wanted, an instance at a time; what fails is said and tried again."""
        while True:
            instance, state = self._next()
            problem = "" if self._reached.get(instance) is state else _bring_about(instance, state)
            with self._news:
                if problem:
                    self._reached.pop(instance, None)
                    if self._wanted[instance] is state:
                        self._due[instance] = time.monotonic() + _TRY_AGAIN_AFTER_S
                else:
                    self._reached[instance] = state
                    if self._wanted[instance] is state:
                        del self._due[instance]
            if problem and problem != self._said.get(instance):
                _say(problem)
            self._said[instance] = problem

    def _next(self) -> tuple[str, State]:
        """Wait for an instance that is due; return it with the newest state that is wanted of it."""
        with self._news:
            while True:
                now = time.monotonic()
                for instance, due in self._due.items():
                    if due <= now:
                        return instance, self._wanted[instance]
                self._news.wait(min(self._due.values()) - now if self._due else None)


def _take_states(document: Mapping[str, Any], roles: Roles) -> dict[str, int | None]:
    """Read the first event of a stream, the states of everything; return the leader of each interface, its first node."""
    leaders = {interface["name"]: interface["nodes"][0] for interface in document["interfaces"] if interface["nodes"]}
    roles.want_only({escape(name): State(node["state"]) for name, node in leaders.items()})
    return {name: node["vhid"] for name, node in leaders.items()}


def _take_transition(document: Mapping[str, Any], leaders: Mapping[str, int | None], roles: Roles) -> None:
    name = document["interface"]
    if name in leaders and leaders[name] == document["vhid"]:
        roles.want({escape(name): State(document["new"])})


def _bring_about(instance: str, state: State) -> str:
    """Let systemd begin with a state; return what went wrong, or ""."""
    units = [target.format(instance) for target in _TARGETS.values()]
    verb = "stop"
    if state in _TARGETS:
        # The targets conflict: starting one stops the other, in one transaction.
        verb, units = "start", [_TARGETS[state].format(instance)]
    problem, _ = _systemctl(verb, "--no-block", "--", *units)
    if not problem:
        print(f"{instance} is {state.value}: {verb} {' '.join(units)}", flush=True)
    return problem


def _left_active() -> list[str]:
    """List the instances whose targets are active, from an earlier run of this program."""
    patterns = [target.format("*") for target in _TARGETS.values()]
    problem, printed = _systemctl("list-units", "--plain", "--no-legend", "--no-pager", "--", *patterns)
    if problem:
        _say(problem)
    return _TARGET.findall(printed)


def _systemctl(*words: str) -> tuple[str, str]:
    """Run systemctl to its end; return what went wrong, or "", and what it printed."""
    line = (_SYSTEMCTL, *words)
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SYSTEMCTL_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{' '.join(line)}: no answer within {_SYSTEMCTL_PATIENCE_S:.0f} s", ""
    except OSError as error:
        return f"{' '.join(line)}: {error.strerror}", ""
    if done.returncode == 0:
        return "", done.stdout
    why = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    return f"{' '.join(line)}: {why}", done.stdout


def _say(sentence: str) -> str:
    print(f"carp: {sentence}", file=sys.stderr, flush=True)
    return sentence
