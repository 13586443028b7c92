"""`carp switch` and `carp maintenance`."""

from pathlib import Path
from typing import Any

import pytest

from carp.cli import client

SWITCH = "POST /v1/switch/carp0"
MAINTENANCE = "POST /v1/maintenance"
OFF = {"on": False, "reason": "", "by": "", "since": "", "serves": ["carp0"]}
ON = {"on": True, "reason": "new disks", "by": "ann", "since": "2026-01-02T03:04:05+00:00", "serves": []}
ON_LINE = "maintenance: on since 2026-01-02T03:04:05+00:00 by ann: new disks\n"


@pytest.fixture(autouse=True)
def _ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ann give the commands."""
    monkeypatch.setenv("SUDO_USER", "ann")


def test_an_interface_is_handed_over(daemon: Any, carp: Any) -> None:
    """Who is MASTER now is printed, and how long that took."""
    daemon.answers[SWITCH] = {"took_ms": 12.3, "master": "192.0.2.2"}
    done = carp("switch carp0")
    assert (done.status, done.out, done.err) == (0, "carp0: 192.0.2.2 is MASTER after 12.3 ms\n", "")
    assert daemon.changes == [(SWITCH, {"to_backup": False, "timeout_s": 5})]


@pytest.mark.parametrize("line", ["switch carp0", "maintenance on"])
def test_warnings(daemon: Any, carp: Any, line: str) -> None:
    """Are on standard error; it was done all the same."""
    daemon.answers[SWITCH] = {"took_ms": 12.3, "master": None, "warnings": ["one", "two"]}
    daemon.answers[MAINTENANCE] = {**ON, "took_ms": {"carp0": 12.3}, "kept": [], "hint": "", "warnings": ["one", "two"]}
    done = carp(line)
    assert (done.status, done.err) == (0, "warning: one\nwarning: two\n")


def test_a_peer_without_an_address(daemon: Any, carp: Any) -> None:
    """Is a peer all the same."""
    daemon.answers[SWITCH] = {"took_ms": 12.3, "master": None}
    assert carp("switch carp0").out == "carp0: a peer is MASTER after 12.3 ms\n"


@pytest.mark.parametrize(("master", "told"), [("192.0.2.2", "192.0.2.2"), (None, "not known")])
def test_a_backup_is_success_if_that_is_wanted(daemon: Any, carp: Any, master: str | None, told: str) -> None:
    """And it is said that nothing was done."""
    daemon.answers[SWITCH] = {"took_ms": None, "master": master}
    done = carp("switch carp0 --to-backup")
    assert (done.status, done.out) == (0, f"carp0: is BACKUP already; MASTER is {told}\n")
    assert daemon.changes[0][1]["to_backup"] is True


def test_an_interface_that_nobody_takes(daemon: Any, carp: Any) -> None:
    """Status 1, with the daemon's words."""
    daemon.answers[SWITCH] = (422, {"error": "carp0: no peer took it", "problems": ["carp0: no peer took it"]})
    done = carp("switch carp0")
    assert (done.status, done.out, done.err) == (1, "", "carp: carp0: no peer took it\n")


@pytest.mark.parametrize(
    "line", ["switch", "switch carp0 --timeout 0", "switch carp0 --timeout 301", "switch carp0 --timeout x"]
)
def test_a_wrong_switch(daemon: Any, carp: Any, line: str) -> None:
    """Is wrong usage, and nothing is asked of the daemon."""
    done = carp(line)
    assert (done.status, done.out, daemon.changes) == (2, "", [])


def test_a_maintenance_begins(daemon: Any, carp: Any) -> None:
    """What was handed over is printed, a line each, and how it stands now."""
    daemon.answers[MAINTENANCE] = {**ON, "took_ms": {"carp0": 3.1, "carp1": 25.0}, "kept": [], "hint": ""}
    done = carp("maintenance", "on", "--reason", "new disks")
    assert (done.status, done.err) == (0, "")
    assert done.out == f"carp0: handed over after 3.1 ms\ncarp1: handed over after 25.0 ms\n{ON_LINE}"
    assert daemon.changes == [(MAINTENANCE, {"on": True, "reason": "new disks", "by": "ann", "timeout_s": 5})]


def test_what_nobody_takes_is_told(daemon: Any, carp: Any) -> None:
    """On standard error, with what may be the cause; status 1, though the maintenance is on."""
    daemon.answers[MAINTENANCE] = {**ON, "took_ms": {"carp0": 3.1}, "kept": ["carp1", "carp2"], "hint": "it may be this"}
    done = carp("maintenance on")
    assert (done.status, done.out) == (1, f"carp0: handed over after 3.1 ms\n{ON_LINE}")
    assert done.err.splitlines() == [
        "carp1: no peer took over: this host goes on as MASTER",
        "carp2: no peer took over: this host goes on as MASTER",
        "it may be this",
    ]


def test_a_maintenance_ends(daemon: Any, carp: Any) -> None:
    """With a line that says so."""
    daemon.answers[MAINTENANCE] = OFF
    done = carp("maintenance off")
    assert (done.status, done.out, done.err) == (0, "maintenance: off\n", "")
    assert daemon.changes == [(MAINTENANCE, {"on": False, "reason": "", "by": "ann", "timeout_s": 5})]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (OFF, "maintenance: off\n"),
        (ON, ON_LINE),
        ({**ON, "reason": "", "by": "", "since": ""}, "maintenance: on\n"),
        ({**ON, "by": "", "since": ""}, "maintenance: on: new disks\n"),
    ],
)
def test_a_maintenance_is_shown(daemon: Any, carp: Any, answer: dict[str, Any], line: str) -> None:
    """Without a word after it; what is not known is left out, and nothing is changed."""
    daemon.answers["GET /v1/maintenance"] = answer
    done = carp("maintenance")
    assert (done.status, done.out, done.err, daemon.changes) == (0, line, "", [])


@pytest.mark.parametrize(("word", "sentence"), [("of", "of: on or off"), ("ON", "ON: on or off")])
def test_another_word(daemon: Any, carp: Any, word: str, sentence: str) -> None:
    """Is wrong usage: nothing begins and nothing ends."""
    done = carp(f"maintenance {word}")
    assert (done.status, done.out, done.err, daemon.changes) == (2, "", f"carp: {sentence}\n", [])


def test_a_maintenance_that_is_refused(daemon: Any, carp: Any) -> None:
    """Status 1, with the daemon's words."""
    daemon.answers[MAINTENANCE] = (422, {"error": "the flag cannot be written", "problems": ["the flag cannot be written"]})
    done = carp("maintenance on")
    assert (done.status, done.out, done.err) == (1, "", "carp: the flag cannot be written\n")


@pytest.mark.parametrize(("line", "asked"), [("switch carp0", SWITCH), ("maintenance on", MAINTENANCE)])
def test_the_daemon_is_waited_for(daemon: Any, carp: Any, monkeypatch: pytest.MonkeyPatch, line: str, asked: str) -> None:
    """As long as the peers are given, and as any other change besides."""
    patiences: list[float | None] = []
    connect = client._UnixConnection.__init__

    def watched(self: Any, path: Path, patience_s: float | None) -> None:
        patiences.append(patience_s)
        connect(self, path, patience_s)

    monkeypatch.setattr(client._UnixConnection, "__init__", watched)
    daemon.answers[asked] = (
        {**ON, "took_ms": {}, "kept": [], "master": None} if "on" in line.split() else {"took_ms": 1, "master": None}
    )
    assert carp(f"{line} --timeout 60").status == 0
    assert daemon.changes[0][1]["timeout_s"] == 60
    assert patiences == [90]


@pytest.mark.parametrize("line", ["switch carp0", "maintenance on", "maintenance off", "maintenance"])
def test_without_a_daemon(carp: Any, line: str, tmp_path: Path) -> None:
    """Status 1, and a question."""
    done = carp(line)
    assert (done.status, done.out, done.err) == (1, "", f"carp: {tmp_path}/carpd.sock does not exist: is carpd running?\n")
