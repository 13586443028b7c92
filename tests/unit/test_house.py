"""The rooms of the house: who may import whom, and how big a room may be."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "carp"
MODULES = sorted(ROOT.rglob("*.py"))
LONGEST = 400

MAY_IMPORT = {
    "protocol": set(),
    "linux": {"protocol"},
    "attendant": {"protocol", "linux"},
    "config": {"protocol", "attendant"},
    "daemon": {"protocol", "linux", "attendant", "config"},
    "cli": {"protocol", "linux", "attendant", "config", "daemon"},
    "testing": {"protocol"},
}
"""An arrow goes down, never up, and a room may always import itself."""

NOT_IN_THE_PROTOCOL = {
    *("socket", "asyncio", "time", "threading", "logging", "os", "subprocess", "select", "selectors", "signal"),
    *("datetime", "pathlib", "io", "multiprocessing", "concurrent", "pyroute2", "pydantic", "h11", "typer", "rich"),
}
NOT_BELOW_THE_CLI = {"typer", "rich"}


def name_of(path):
    """Write a module's path as tests are named."""
    return str(path.relative_to(ROOT))


def room_of(path):
    """Tell the room of a module; "" is the package itself."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def imports_of(path):
    """List every module that a module imports anywhere in it, as full names."""
    package = ["carp", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            if (node.level and not node.module) or origin == "carp":
                yield from (f"{origin}.{alias.name}" for alias in node.names)
            else:
                yield origin


def rooms_imported(path):
    """Tell which rooms a module imports."""
    names = [name.split(".") for name in imports_of(path)]
    return {parts[1] for parts in names if parts[0] == "carp" and len(parts) > 1 and (ROOT / parts[1]).is_dir()}


def test_every_room_is_known():
    """There is no room that the rules do not name."""
    assert {room_of(path) for path in MODULES} - {""} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_go_down(path):
    """A room imports only what lies below it: cli, daemon, config, attendant, linux, protocol; testing lies beside them."""
    room = room_of(path)
    assert rooms_imported(path) - {room} <= MAY_IMPORT.get(room, set())


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) == "protocol"], ids=name_of)
def test_protocol_touches_nothing(path):
    """The protocol knows no socket, file, clock, thread or log, and no package but the standard library."""
    assert {name.split(".")[0] for name in imports_of(path)} & NOT_IN_THE_PROTOCOL == set()


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) != "cli"], ids=name_of)
def test_terminals_are_the_clis(path):
    """Only the command line knows about terminals."""
    assert {name.split(".")[0] for name in imports_of(path)} & NOT_BELOW_THE_CLI == set()


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) == "protocol"], ids=name_of)
def test_protocol_calls_no_builtin_io(path):
    """The protocol neither prints nor opens nor asks."""
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"print", "open", "input", "exec", "eval", "__import__"} == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_small(path):
    """No module is longer than can be read in one go."""
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_are(path):
    """Every module begins with what it is for."""
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_rules_are_enforced(tmp_path):
    """The reader of imports sees relative, absolute and hidden ones."""
    module = ROOT / "protocol" / "imagined.py"
    source = tmp_path / "imagined.py"
    source.write_text("from ..linux import x\nfrom .. import daemon\nimport carp.cli.a\ndef f():\n    import socket\n")

    class Imagined(type(module)):
        def read_text(self):
            return source.read_text()

    imagined = Imagined(module)
    assert rooms_imported(imagined) >= {"linux", "daemon", "cli"} - {room for room in MAY_IMPORT if not (ROOT / room).is_dir()}
    assert "socket" in set(imports_of(imagined))
