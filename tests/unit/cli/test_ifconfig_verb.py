"""`carp ifconfig`: its words reach the daemon as they were typed, and it is as silent as the BSDs'."""

from typing import Any

import pytest

CARP0: dict[str, Any] = {
    "name": "carp0",
    "carpdev": "em0",
    "lladdr": "00:00:5e:00:01:01",
    "advbase": 1,
    "groups": ["carp", "lan"],
    "addresses": ["172.16.0.100/24"],
    "nodes": [{"vhid": 1, "advskew": 0, "state": "MASTER"}],
}
CARP1 = {**CARP0, "name": "carp1", "groups": ["carp"]}
PATCH = "PATCH /v1/interfaces/carp0"


@pytest.fixture
def patched(daemon: Any, carp: Any) -> Any:
    """Run a line that changes carp0 without a word, and return what the daemon was asked for."""

    def _patched(*words: str) -> dict[str, Any]:
        daemon.answers[PATCH] = {"warnings": [], "changes": ["carp0: something"]}
        done = carp(*words)
        assert (done.status, done.out, done.err) == (0, "", "")
        ((asked, body),) = daemon.changes
        assert asked == PATCH
        return dict(body)

    return _patched


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("ifconfig carp0 create", {"create": True}),
        ("ifconfig carp0 destroy", {"destroy": True}),
        ("ifconfig carp0 down", {"up": False}),
        ("ifconfig carp0 state backup", {"state": "backup"}),
        ("ifconfig carp0 carppeer 10.0.0.2", {"set": {"carppeer": ["10.0.0.2"]}}),
        ("ifconfig carp0 -carppeer", {"unset": ["carppeer"]}),
        ("ifconfig carp0 group lan", {"add-groups": ["lan"]}),
        ("ifconfig carp0 -group lan", {"remove-groups": ["lan"]}),
        ("ifconfig carp0 192.0.2.101 delete", {"remove-addresses": ["192.0.2.101"]}),
        ("ifconfig carp0 inet6 2001:db8::100/64", {"add-addresses": ["2001:db8::100/64"]}),
    ],
)
def test_a_line_is_a_change(patched: Any, line: str, body: dict[str, Any]) -> None:
    """Words with a hyphen in front of them too."""
    assert patched(line) == body


@pytest.mark.parametrize("phrase", ["-g", "--help", "--", "--socket", "two words"])
def test_a_pass_phrase_may_look_like_anything(patched: Any, phrase: str) -> None:
    """It reaches the daemon as it is."""
    assert patched("ifconfig", "carp0", "pass", phrase)["set"] == {"pass": phrase}


def test_warnings_go_to_standard_error(daemon: Any, carp: Any) -> None:
    """The change was made all the same."""
    daemon.answers[PATCH] = {"warnings": ["carp0: pass: the MASTER comes last"], "changes": []}
    done = carp("ifconfig carp0 pass new")
    assert (done.status, done.out, done.err) == (0, "", "warning: carp0: pass: the MASTER comes last\n")


def test_a_wrong_word_does_not_reach_the_daemon(daemon: Any, carp: Any) -> None:
    """One sentence that names it and what is allowed, status 1."""
    done = carp("ifconfig carp0 vhid 256")
    assert (done.status, done.out, done.err) == (1, "", "carp: vhid: 256: an integer 1..255\n")
    assert daemon.changes == []


def test_a_refusal_is_status_1(daemon: Any, carp: Any) -> None:
    """As ifconfig's own, with the daemon's sentence."""
    daemon.answers[PATCH] = (422, {"error": "carp0: vhid 1 is carp1's on em0"})
    done = carp("ifconfig carp0 vhid 1")
    assert (done.status, done.out, done.err) == (1, "", "carp: carp0: vhid 1 is carp1's on em0\n")


def test_one_interface_is_shown(daemon: Any, carp: Any) -> None:
    """In the shape of OpenBSD."""
    daemon.answers["GET /v1/interfaces/carp0"] = CARP0
    done = carp("ifconfig carp0")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("carp0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500\n\tlladdr ")
    assert done.out.endswith("\n\tinet 172.16.0.100 netmask 0xffffff00 broadcast 172.16.0.255\n")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ifconfig", ["carp0", "carp1"]),
        ("ifconfig -a", ["carp0", "carp1"]),
        ("ifconfig carp", ["carp0", "carp1"]),
        ("ifconfig lan", ["carp0"]),
    ],
)
def test_several_interfaces_are_shown(daemon: Any, carp: Any, line: str, names: list[str]) -> None:
    """All, or those of a group."""
    daemon.answers["GET /v1/status"] = {"interfaces": [CARP0, CARP1]}
    shown = carp(line).out.splitlines()
    assert [line.partition(":")[0] for line in shown if not line.startswith("\t")] == names


def test_no_interface_at_all(daemon: Any, carp: Any) -> None:
    """Nothing to show is no failure."""
    daemon.answers["GET /v1/status"] = {"interfaces": []}
    done = carp("ifconfig -a")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_an_unknown_interface(daemon: Any, carp: Any) -> None:
    """Is the daemon's to say."""
    daemon.answers["GET /v1/interfaces/carp9"] = (404, {"error": "carp9: there is no such carp interface"})
    done = carp("ifconfig carp9")
    assert (done.status, done.err) == (1, "carp: carp9: there is no such carp interface\n")


def test_a_group_that_nobody_is_in(daemon: Any, carp: Any) -> None:
    """Cannot be shown."""
    daemon.answers["GET /v1/status"] = {"interfaces": [CARP0]}
    done = carp("ifconfig wan")
    assert (done.status, done.err) == (1, "carp: wan: no carp interface is in this group\n")


def test_the_demotion_of_a_group(daemon: Any, carp: Any) -> None:
    """As OpenBSD prints it."""
    daemon.answers["GET /v1/groups"] = {"carp": {"demote": 50, "members": ["carp0"]}}
    assert carp("ifconfig -g carp").out == "carp: carp demote count 50\n"


def test_the_demotion_of_an_unknown_group(daemon: Any, carp: Any) -> None:
    """Names those that there are."""
    daemon.answers["GET /v1/groups"] = {"lan": {"demote": 0}, "carp": {"demote": 0}}
    done = carp("ifconfig -g wan")
    assert (done.status, done.err) == (1, "carp: wan: no such group; there is carp, lan\n")


@pytest.mark.parametrize(("words", "amount"), [("carpdemote 50", 50), ("-carpdemote 50", -50), ("carpdemote", 1)])
def test_demoting_a_group(daemon: Any, carp: Any, words: str, amount: int) -> None:
    """Raises or lowers its counter."""
    daemon.answers["POST /v1/groups/carp"] = {"demote": 50}
    done = carp(f"ifconfig -g carp {words}")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert daemon.changes == [("POST /v1/groups/carp", {"carpdemote": amount})]


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(carp: Any, option: str) -> None:
    """A short usage."""
    done = carp(f"ifconfig {option}")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("usage: carp ifconfig [-a | carpN | GROUP]")
