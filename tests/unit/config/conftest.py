"""Files in an empty folder, and what carpd says about them."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carp.config.errors import ConfigError
from carp.config.load import load_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, so that messages name files without one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write() -> Callable[..., Path]:
    """Write a file; by default one that only its owner may read."""

    def _write(text: str, name: str = "carp.toml", mode: int = 0o600) -> Path:
        path = Path(name)
        path.write_text(text)
        path.chmod(mode)
        return path

    return _write


@pytest.fixture
def refused(write: Callable[..., Path]) -> Callable[..., list[str]]:
    """Load a text as carp.toml and return the lines of its problems; none where it is accepted."""

    def _refused(text: str, mode: int = 0o600) -> list[str]:
        try:
            load_file(write(text, mode=mode))
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return _refused


@pytest.fixture
def complaint(refused: Callable[..., list[str]]) -> Callable[[str], str]:
    """Return the one problem of a good [carp0] in which the given lines replace or join its own."""

    def _complaint(lines: str) -> str:
        given = {line.split("=")[0].strip() for line in lines.splitlines()}
        base = {"carpdev": '"eth0"', "vhid": "1", "pass": '"secret"', "addresses": '["192.0.2.100/24"]'}
        if "carpnodes" in given:
            del base["vhid"]
        if given & {"pass-file", "key-hex", "pass-credential"}:
            del base["pass"]
        kept = "\n".join(f"{key} = {value}" for key, value in base.items() if key not in given)
        return "\n".join(refused(f"[carp0]\n{kept}\n{lines}\n"))

    return _complaint


@pytest.fixture
def trusted() -> Iterator[Path]:
    """Make a folder that only who runs this could exchange, on a way of which that is true as well: /tmp is none."""
    parent = Path("/run") if os.geteuid() == 0 else Path.home()
    made = Path(tempfile.mkdtemp(dir=parent, prefix="carp-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def program(trusted: Path) -> Callable[..., Path]:
    """Make a program that does nothing, where carpd would run it."""

    def _program(name: str = "hook", mode: int = 0o755) -> Path:
        path = trusted / name
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
        return path

    return _program
