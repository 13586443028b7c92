"""`carp config show`, `save`, `diff` and `carp reload`."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = {
    "global": {"preempt": True},
    "carp0": {"carpdev": "eth0", "vhid": 1, "addresses": ["192.0.2.100/24"]},
}


def test_the_running_configuration_is_a_carp_toml(daemon: Any, carp: Any) -> None:
    """That can be read again, with a comment where its key would be."""
    daemon.answers["GET /v1/config"] = {"document": DOCUMENT}
    done = carp("config show")
    assert (done.status, done.err, tomllib.loads(done.out)) == (0, "", DOCUMENT)
    assert done.out.endswith("\n")
    assert not done.out.endswith("\n\n")


def test_a_key_that_came_by_mistake_is_not_shown(daemon: Any, carp: Any) -> None:
    """Whatever the daemon answers."""
    daemon.answers["GET /v1/config"] = {"document": {"carp0": {**DOCUMENT["carp0"], "pass": "secret"}}}
    assert "secret" not in carp("config show").out


def test_saving_names_the_file_and_what_was_left_out(daemon: Any, carp: Any) -> None:
    """Without a name it is the file that was read."""
    daemon.answers["POST /v1/config/save"] = {"path": "/etc/carp/carp.toml", "left_out": ["carp1 is left out: it has no vhid"]}
    done = carp("config save")
    assert (done.status, done.out) == (0, "/etc/carp/carp.toml: written\n")
    assert done.err == "warning: carp1 is left out: it has no vhid\n"
    assert daemon.changes == [("POST /v1/config/save", {"path": None})]


def test_saving_to_a_relative_path(daemon: Any, carp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is meant from where the command runs."""
    monkeypatch.chdir(tmp_path)
    daemon.answers["POST /v1/config/save"] = {"path": "p", "left_out": []}
    assert carp("config save here.toml").status == 0
    assert daemon.changes[0][1] == {"path": str(tmp_path / "here.toml")}


@pytest.mark.parametrize(("line", "asked"), [("reload", "POST /v1/reload"), ("config diff", "GET /v1/reload")])
def test_changes_have_a_line_each(daemon: Any, carp: Any, line: str, asked: str) -> None:
    """Warnings go to standard error."""
    daemon.answers[asked] = {"changes": ["carp0: advskew: 0 -> 100", "carp1: new"], "warnings": ["carp0: unwise"]}
    done = carp(line)
    assert (done.status, done.out) == (0, "carp0: advskew: 0 -> 100\ncarp1: new\n")
    assert done.err == "warning: carp0: unwise\n"


@pytest.mark.parametrize(
    ("line", "asked", "said"),
    [("reload", "POST /v1/reload", "nothing changed\n"), ("config diff", "GET /v1/reload", "nothing would change\n")],
)
def test_no_change_is_said(daemon: Any, carp: Any, line: str, asked: str, said: str) -> None:
    """Rather than nothing."""
    daemon.answers[asked] = {"changes": [], "warnings": []}
    assert carp(line).out == said


@pytest.mark.parametrize(("line", "asked"), [("reload", "POST /v1/reload"), ("config diff", "GET /v1/reload")])
def test_a_refused_file_is_a_wrong_configuration(daemon: Any, carp: Any, line: str, asked: str) -> None:
    """Status 2, with every problem."""
    daemon.answers[asked] = (422, {"error": "one; two", "problems": ["one", "two"]})
    done = carp(line)
    assert (done.status, done.out, done.err) == (2, "", "carp: one\ncarp: two\n")


@pytest.mark.parametrize("line", ["reload", "config diff", "config show", "config save", "events"])
def test_other_failures(carp: Any, line: str, tmp_path: Path) -> None:
    """Status 1, as when no daemon runs."""
    done = carp(line)
    assert (done.status, done.err) == (1, f"carp: {tmp_path}/carpd.sock does not exist: is carpd running?\n")


def test_events_are_printed_as_they_come(daemon: Any, carp: Any) -> None:
    """One JSON object a line."""
    event = {"event": "transition", "interface": "carp0"}
    daemon.answers["GET /v1/events"] = f"data: {json.dumps(event)}\n\n".encode()
    done = carp("events")
    assert [json.loads(line) for line in done.out.splitlines()] == [event]
    assert (done.status, done.err) == (1, f"carp: carpd behind {daemon.path} ended the stream\n")
