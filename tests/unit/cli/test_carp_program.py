"""The program `carp` as a whole: its verbs, and how fast it starts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import carp as package

HEAVY = {"pydantic", "asyncio", "scapy", "carp.daemon"}


@pytest.mark.parametrize("verb", ["status", "ifconfig", "sysctl", "netstat"])
def test_a_verb_starts_fast(verb: str) -> None:
    """What people type every minute imports neither the model of the configuration nor the daemon."""
    code = f"import sys, carp.cli.main, carp.cli.{verb}; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, env=environment)
    assert set(done.stdout.split()) & HEAVY == set()
    assert f"carp.cli.{verb}" in done.stdout.split()


def test_the_help_names_every_verb(carp: Any) -> None:
    """Each with what it is for."""
    out = carp("--help").out
    for verb in ("status", "check", "ifconfig", "sysctl", "netstat", "reload", "events", "config"):
        assert f" {verb} " in out


def test_the_help_of_config_names_every_verb(carp: Any) -> None:
    """Each with what it is for."""
    out = carp("config --help").out
    for verb in ("show", "save", "diff", "import"):
        assert f" {verb} " in out


@pytest.mark.parametrize("line", ["nonsense", "config nonsense", "reload now", "--nonsense ifconfig"])
def test_wrong_usage_is_status_2(carp: Any, line: str) -> None:
    """Of the verbs that are carpd's own; those of the BSDs have status 1."""
    assert carp(line).status == 2
