"""`carp demote add`, `remove` and `list`."""

import json
from typing import Any

import pytest

BACKUP = {
    "name": "backup",
    "amount": 10,
    "groups": ["carp", "lan"],
    "owner": "ann",
    "detail": "",
    "for_s": 0.02,
    "ends_in_s": 3599.98,
}
UPLINK = {
    "name": "track uplink",
    "amount": 50,
    "groups": ["all"],
    "owner": "track",
    "detail": "no carrier",
    "for_s": 125.5,
    "ends_in_s": None,
}
ADD = "POST /v1/demotions/backup"


@pytest.fixture(autouse=True)
def _ann(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ann give the commands."""
    monkeypatch.setenv("SUDO_USER", "ann")


def test_a_reason_is_given(daemon: Any, carp: Any) -> None:
    """It is printed as it holds, and no other; by whom is told to the daemon."""
    daemon.answers[ADD] = {"demotions": [UPLINK, BACKUP]}
    done = carp("demote add backup 10")
    assert (done.status, done.err) == (0, "")
    assert done.out == "carp, lan: 10: backup (by ann, for 0.0 s, ends in 59 min 59 s)\n"
    assert daemon.changes == [(ADD, {"amount": 10, "by": "ann", "for_s": None, "groups": None})]


def test_groups_are_named_one_by_one(daemon: Any, carp: Any) -> None:
    """Each with its option."""
    daemon.answers[ADD] = {"demotions": []}
    assert carp("demote add backup 255 --group lan --group carp0").status == 0
    assert daemon.changes[0][1]["groups"] == ["lan", "carp0"]


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172800), ("0.5h", 1800), ("1.5", 1.5), ("0", 0)],
)
def test_a_time_is_given_with_its_unit(daemon: Any, carp: Any, span: str, seconds: float) -> None:
    """Seconds unless it says otherwise; what is too short is the daemon's to refuse."""
    daemon.answers[ADD] = {"demotions": []}
    assert carp(f"demote add backup 10 --for {span}").status == 0
    assert daemon.changes[0][1]["for_s"] == seconds


@pytest.mark.parametrize("span", ["", "h", "1w", "1h30m", "-1", "1.", ".5", "1 h", "1e3", "inf", "1H", "5s\n"])
def test_a_time_that_is_none(daemon: Any, carp: Any, span: str) -> None:
    """Is wrong usage, and nothing is asked of the daemon."""
    done = carp("demote", "add", "backup", "10", f"--for={span}")
    assert (done.status, done.out) == (2, "")
    sentence = "no time; a number of seconds, or one with s, m, h or d, such as 1h"
    assert done.err == f"carp: {span}: {sentence}\n"
    assert daemon.changes == []


@pytest.mark.parametrize("amount", ["ten", "1.5", ""])
def test_an_amount_that_is_no_number(daemon: Any, carp: Any, amount: str) -> None:
    """Is wrong usage; which numbers are allowed is the daemon's to say."""
    done = carp("demote", "add", "backup", amount)
    assert (done.status, done.out, daemon.changes) == (2, "", [])


@pytest.mark.parametrize(
    ("line", "words"), [("demote add", "NAME"), ("demote add backup", "AMOUNT"), ("demote remove", "NAME")]
)
def test_a_word_that_is_missing(daemon: Any, carp: Any, line: str, words: str) -> None:
    """Is wrong usage, and named."""
    done = carp(line)
    assert (done.status, daemon.changes) == (2, [])
    assert words.lower() in done.err.lower()


def test_a_reason_is_taken_back(daemon: Any, carp: Any) -> None:
    """With a line that says so."""
    daemon.answers["DELETE /v1/demotions/backup"] = {"demotions": [UPLINK]}
    done = carp("demote remove backup")
    assert (done.status, done.out, done.err) == (0, "backup: demotes no more\n", "")
    assert daemon.changes == [("DELETE /v1/demotions/backup", {})]


@pytest.mark.parametrize(("name", "path"), [("track uplink", "track%20uplink"), ("a/b", "a%2Fb"), ("ä?x", "%C3%A4%3Fx")])
def test_any_name_is_one_part_of_a_path(daemon: Any, carp: Any, name: str, path: str) -> None:
    """It is the daemon that refuses what is no name."""
    for method, line in (("POST", ["demote", "add", name, "1"]), ("DELETE", ["demote", "remove", name])):
        daemon.answers[f"{method} /v1/demotions/{path}"] = {"demotions": []}
        assert carp(*line).status == 0


@pytest.mark.parametrize(
    ("line", "asked"), [("demote add backup 256", ADD), ("demote remove backup", "DELETE /v1/demotions/backup")]
)
def test_every_problem_is_printed(daemon: Any, carp: Any, line: str, asked: str) -> None:
    """On standard error, a line each; status 1."""
    daemon.answers[asked] = (422, {"error": "one; two", "problems": ["one", "two"]})
    done = carp(line)
    assert (done.status, done.out, done.err) == (1, "", "carp: one\ncarp: two\n")


def test_reasons_are_listed(daemon: Any, carp: Any) -> None:
    """Each with its groups, its amount, who set it, since when, how long it lasts, and what else is known."""
    daemon.answers["GET /v1/demotions"] = {"demotions": [BACKUP, UPLINK]}
    done = carp("demote list")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "carp, lan: 10: backup (by ann, for 0.0 s, ends in 59 min 59 s)",
        "all: 50: track uplink (by track, for 2 min 5 s): no carrier",
    ]


def test_no_reason_is_said(daemon: Any, carp: Any) -> None:
    """Rather than nothing."""
    daemon.answers["GET /v1/demotions"] = {"demotions": []}
    done = carp("demote list")
    assert (done.status, done.out) == (0, "nothing demotes this host\n")


@pytest.mark.parametrize("demotions", [[], [BACKUP, UPLINK]])
def test_reasons_are_listed_as_json(daemon: Any, carp: Any, demotions: list[Any]) -> None:
    """As the daemon says them; an empty list if there are none."""
    daemon.answers["GET /v1/demotions"] = {"demotions": demotions}
    done = carp("demote list --json")
    assert (done.status, json.loads(done.out)) == (0, demotions)


def test_who_gives_a_command_is_known_without_sudo(daemon: Any, carp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the login name; nobody by name where there is none."""
    daemon.answers[ADD] = {"demotions": []}
    monkeypatch.delenv("SUDO_USER")
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LOGNAME", "bob")
    carp("demote add backup 10")
    monkeypatch.delenv("LOGNAME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    carp("demote add backup 10")
    assert [body["by"] for _, body in daemon.changes] == ["bob", ""]


@pytest.mark.parametrize("line", ["demote add backup 1", "demote remove backup", "demote list"])
def test_without_a_daemon(carp: Any, line: str, tmp_path: Any) -> None:
    """Status 1, and a question."""
    done = carp(line)
    assert (done.status, done.out, done.err) == (1, "", f"carp: {tmp_path}/carpd.sock does not exist: is carpd running?\n")
