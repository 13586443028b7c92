"""`carp sysctl`: shows and sets net.inet.carp as OpenBSD's sysctl does."""

from typing import Any

import pytest

VALUES = {
    "allow": True,
    "preempt": False,
    "log": 2,
    "arpbalance": False,
    "suppress-preempt": 1,
    "demotion": 50,
    "dscp": 56,
    "ifdown-demotion-factor": 1,
    "senderr-demotion-factor": 1,
}


class Globals:
    """The values of a daemon."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = dict(VALUES)

    def set(self, body: dict[str, Any]) -> dict[str, Any]:
        """Set values as PATCH /v1/global does."""
        old = {key: self.values[key] for key in body}
        self.values |= {key: old[key] + value if key == "demotion" else value for key, value in body.items()}
        return {"old": old, "new": {key: self.values[key] for key in body}}


@pytest.fixture(autouse=True)
def running(daemon: Any) -> Globals:
    """Let a daemon hold values."""
    held = Globals()
    daemon.answers["GET /v1/global"] = lambda _: held.values
    daemon.answers["PATCH /v1/global"] = held.set
    return held


def test_one_value(carp: Any) -> None:
    """With its name; truths are 0 and 1."""
    assert carp("sysctl net.inet.carp.allow").out == "net.inet.carp.allow=1\n"
    assert carp("sysctl net.inet.carp.preempt net.inet.carp.log").out == "net.inet.carp.preempt=0\nnet.inet.carp.log=2\n"


@pytest.mark.parametrize("line", ["sysctl net.inet.carp", "sysctl -a", "sysctl"])
def test_all_values(carp: Any, line: str) -> None:
    """In the order of the documentation, under the BSDs' names."""
    assert carp(line).out.splitlines() == [
        "net.inet.carp.allow=1",
        "net.inet.carp.preempt=0",
        "net.inet.carp.log=2",
        "net.inet.carp.arpbalance=0",
        "net.inet.carp.suppress_preempt=1",
        "net.inet.carp.demotion=50",
        "net.inet.carp.dscp=56",
        "net.inet.carp.ifdown_demotion_factor=1",
        "net.inet.carp.senderr_demotion_factor=1",
    ]


@pytest.mark.parametrize("option", ["", "-w "])
def test_setting_prints_the_old_and_the_new_value(daemon: Any, carp: Any, option: str) -> None:
    """With -w or without."""
    done = carp(f"sysctl {option}net.inet.carp.preempt=1")
    assert (done.status, done.out, done.err) == (0, "net.inet.carp.preempt: 0 -> 1\n", "")
    assert daemon.changes == [("PATCH /v1/global", {"preempt": True})]


def test_n_prints_values_alone(carp: Any) -> None:
    """For scripts."""
    assert carp("sysctl -n net.inet.carp.log").out == "2\n"
    assert carp("sysctl -n net.inet.carp.log=4").out == "4\n"


def test_q_says_nothing_about_what_was_set(carp: Any, running: Globals) -> None:
    """It is set all the same."""
    assert carp("sysctl -q net.inet.carp.log=4").out == ""
    assert running.values["log"] == 4


def test_several_are_set_with_one_request(daemon: Any, carp: Any) -> None:
    """All or none, and told in the order of the line."""
    done = carp("sysctl net.inet.carp.preempt=1 net.inet.carp.log=3")
    assert done.out == "net.inet.carp.preempt: 0 -> 1\nnet.inet.carp.log: 2 -> 3\n"
    assert daemon.changes == [("PATCH /v1/global", {"preempt": True, "log": 3})]


def test_a_line_is_carried_out_from_left_to_right(carp: Any) -> None:
    """A value that is set twice is set twice, and one that is shown in between is shown as it is then."""
    done = carp("sysctl net.inet.carp.demotion=5 net.inet.carp.demotion=-3 net.inet.carp.demotion net.inet.carp.demotion=1")
    assert done.out.splitlines() == [
        "net.inet.carp.demotion: 50 -> 55",
        "net.inet.carp.demotion: 55 -> 52",
        "net.inet.carp.demotion=52",
        "net.inet.carp.demotion: 52 -> 53",
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("net.inet.carp.suppress_preempt=0", "net.inet.carp.suppress_preempt: it is read only: leave out = and what follows"),
        ("net.inet.carp.log=8", "net.inet.carp.log: 8: an integer 0..7"),
        ("net.inet.carp.prempt=1", "net.inet.carp.prempt: unknown name; did you mean net.inet.carp.preempt?"),
    ],
)
def test_a_wrong_word_anywhere_changes_nothing(daemon: Any, carp: Any, line: str, sentence: str) -> None:
    """One sentence, status 1; also behind a word that is right."""
    done = carp(f"sysctl net.inet.carp.preempt=1 {line}")
    assert (done.status, done.out, done.err) == (1, "", f"carp: {sentence}\n")
    assert daemon.changes == []


def test_a_refusal(daemon: Any, carp: Any) -> None:
    """Is status 1, with the daemon's sentence."""
    daemon.answers["PATCH /v1/global"] = (403, {"error": "changes are for root only"})
    done = carp("sysctl net.inet.carp.preempt=1")
    assert (done.status, done.out, done.err) == (1, "", "carp: changes are for root only\n")


def test_a_value_that_the_daemon_does_not_know(carp: Any, running: Globals) -> None:
    """As of an older daemon."""
    del running.values["dscp"]
    done = carp("sysctl net.inet.carp.dscp")
    assert (done.status, done.err) == (1, "carp: net.inet.carp.dscp: this carpd does not know it\n")


def test_help(carp: Any) -> None:
    """Says whose style it is."""
    done = carp("sysctl --help")
    assert done.status == 0
    assert "Printed as OpenBSD does" in done.out
