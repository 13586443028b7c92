"""A flood of wrong advertisements at one of two hosts: what it costs, and whether it makes anybody take over or be late.

It comes from the victim's own switch port, so that the other host and the switch have no part in it. On a machine of two
processors the sender takes up to half of one.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from lab.wait import now_ns

from . import frames
from .arena import Arena
from .sample import Sample, Value
from .subject import Router, Shape, Subject, own_address

MEASURE = "flood"
_START_S = 0.35
_END_TIMEOUT_S = 30.0


def play(subject: Subject, cells: Iterable[tuple[str, int]], seconds: float) -> Iterator[Sample]:
    """Flood first the BACKUP and then the MASTER.

    Args:
        subject: the pair.
        cells: kinds and rates in frames a second.
        seconds: how long each flood lasts.
    """
    with Arena(subject, Shape()) as arena:
        for (kind, rate), victim in itertools.product(cells, ("backup", "master")):
            case = f"{kind}, {rate:,}/s at {victim.upper()}"
            try:
                arena.settle()
                yield Sample(MEASURE, case, subject.name, _flood(arena, kind, rate, victim, seconds))
            except (TimeoutError, RuntimeError, OSError) as error:
                yield Sample(MEASURE, case, subject.name, fault=str(error)[:500])


def _flood(arena: Arena, kind: str, rate: int, victim: str, seconds: float) -> dict[str, Value]:
    subject, router = arena.subject, arena.a if victim == "master" else arena.b
    with ExitStack() as stack:
        recordings = arena.captures(stack, arena.a, arena.b)
        arena.breathe(1.2 * subject.interval_ns / 1e9)
        mac = next(frame[6:12] for _, frame in recordings["a"].stamped() if frames.is_advertisement(frame))
        sender = _sender(arena, router, mac, kind, rate, seconds)
        arena.breathe(_START_S)
        cpu, log, began = router.cpu_ns(), router.log_bytes(), now_ns()
        printed = sender.communicate(timeout=seconds + _END_TIMEOUT_S)[0]
        ended = now_ns()
        # Before the end of the process is noticed nothing was missed, and what waits in a queue is worked off soon.
        used = router.cpu_ns() - cpu
        heard, spoken = recordings["a"].stamped(), recordings["b"].stamped()
    sent = json.loads(printed)
    pause = frames.longest_pause_ns(frames.advertisements(heard), began, ended)
    return {
        "rate_reached": sent["sent"] / sent["seconds"],
        "cpu_percent": 100 * used / (ended - began),
        "log_bytes_per_s": (router.log_bytes() - log) / ((ended - began) / 1e9),
        "false_takeovers": frames.runs(frames.advertisements(spoken), 3 * subject.interval_ns),
        "advertisement_late_ms": max(0.0, (pause - subject.interval_ns) / 1e6),
        "missed_by_master": max(0, pause // subject.interval_ns - 1),
    }


def _sender(arena: Arena, victim: Router, mac: bytes, kind: str, rate: int, seconds: float) -> "subprocess.Popen[str]":
    subject = arena.subject
    options = {
        "namespace": arena.stage.lan.switch.path,
        "interface": victim.port.switch_port,
        "family": "vrrp" if subject.program == "keepalived" else "carp",
        "version": subject.version,
        "kind": kind,
        "address": arena.addresses[0],
        "master": own_address(0, 1),
        "master-mac": mac.hex(":"),
        "rate": rate,
        "seconds": seconds,
    }
    line = [sys.executable, "-m", "bench.flood_sender", *(f"--{name}={value}" for name, value in options.items())]
    here = Path(__file__).resolve().parent.parent
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *line], stdout=subprocess.PIPE, text=True, cwd=here)
