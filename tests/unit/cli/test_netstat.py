"""`carp netstat -s -p carp`: the numbers where scripts for the BSDs look for them."""

import json
import re
from typing import Any

import pytest

from carp.cli.netstat import bsd_counters
from carp.protocol.packet import DropReason

STATISTICS: dict[str, Any] = {
    "received": {"IPv4": 101, "IPv6": 1},
    "sent": {"IPv4": 103, "IPv6": 104},
    "dropped": {"bad-ttl": 5, "bad-digest": 6, "echo": 7, "too-short": 8, "bad-vhid": 9, "vlan-tagged": 1, "fragment": 2},
    "send_errors": 15,
    "no_memory": 4,
    "became_master": 2,
    "rivals_heard": 1,
    "claims_heard": 0,
}


@pytest.fixture(autouse=True)
def counted(daemon: Any) -> None:
    """Let the daemon have counted something."""
    daemon.answers["GET /v1/status"] = {"statistics": STATISTICS}


def test_every_counter_has_a_line(carp: Any) -> None:
    """In the words and the order of the BSDs; one thing is not many things."""
    done = carp("netstat -s -p carp")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "carp:",
        "\t101 packets received (IPv4)",
        "\t1 packet received (IPv6)",
        "\t\t1 packet discarded for bad interface",
        "\t\t5 packets discarded for wrong TTL",
        "\t\t2 packets shorter than header",
        "\t\t0 discarded for bad checksums",
        "\t\t0 discarded packets with a bad version",
        "\t\t8 discarded because packet too short",
        "\t\t13 discarded for bad authentication",
        "\t\t9 discarded for bad vhid",
        "\t\t0 discarded because of a bad address list",
        "\t103 packets sent (IPv4)",
        "\t104 packets sent (IPv6)",
        "\t\t4 send failed due to mbuf memory error",
        "\t\t11 sends failed for another reason",
        "\t2 transitions to master",
        "\t1 advertisement of another master heard while master",
        "\t0 claims of an address heard from another host",
    ]


def test_a_script_of_the_bsds_finds_its_numbers(carp: Any) -> None:
    """By the words beside them, as awk and grep look for them."""
    out = carp("netstat -s -p carp").out
    wanted = {
        r"packets? received \(IPv4\)": "101",
        r"discarded because packet too short": "8",
        r"discarded for bad authentication": "13",
        r"discarded for bad vhid": "9",
        r"packets? sent \(IPv4\)": "103",
        r"send failed due to mbuf memory error": "4",
        r"transitions? to master": "2",
    }
    assert {words: re.findall(rf"^\s*(\d+) {words}$", out, re.MULTILINE) for words in wanted} == {
        words: [number] for words, number in wanted.items()
    }


@pytest.mark.parametrize("reason", DropReason, ids=lambda reason: reason.value)
def test_every_reason_to_drop_is_counted_as_the_bsds_count_it(reason: DropReason) -> None:
    """In exactly one counter of struct carpstats."""
    counters = bsd_counters({**STATISTICS, "dropped": {reason.value: 3}})
    raised = {name for name in counters if name.startswith(("bad", "hdrops")) and counters[name]}
    assert (raised, counters[reason.bsd]) == ({reason.bsd}, 3)


def test_a_reason_of_a_newer_daemon_keeps_its_name(daemon: Any, carp: Any) -> None:
    """No number is lost."""
    daemon.answers["GET /v1/status"] = {"statistics": {**STATISTICS, "dropped": {"too-loud": 12}}}
    assert carp("netstat -s -p carp").out.splitlines()[-1] == "\t12 discarded: too-loud"


def test_json_has_the_names_of_the_bsds(carp: Any) -> None:
    """Those of struct carpstats."""
    counters = json.loads(carp("netstat -s -p carp --json").out)["carp"]
    assert (counters["ipackets"], counters["badauth"], counters["opackets6"], counters["preempt"]) == (101, 13, 104, 2)


@pytest.mark.parametrize("line", ["netstat -sp carp", "netstat -p carp -s"])
def test_options_in_any_order_and_together(carp: Any, line: str) -> None:
    """As people type them."""
    assert carp(line).out.startswith("carp:\n\t101 ")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("netstat", "netstat shows the counters only: netstat -s -p carp"),
        ("netstat -p carp", "netstat shows the counters only: netstat -s -p carp"),
        ("netstat -s", "netstat shows the counters only: netstat -s -p carp"),
        ("netstat -s -p tcp", "netstat -p tcp: only the protocol carp is known"),
        ("netstat -s -p", "netstat -p: the name of a protocol is missing: carp"),
        ("netstat -rn", "netstat: -rn is not known: only -s -p carp and --json are"),
    ],
)
def test_anything_else_is_refused(carp: Any, line: str, sentence: str) -> None:
    """With one sentence and status 1."""
    done = carp(line)
    assert (done.status, done.out, done.err) == (1, "", f"carp: {sentence}\n")


def test_help(carp: Any) -> None:
    """A short usage."""
    done = carp("netstat --help")
    assert (done.status, done.out.splitlines()[0]) == (0, "usage: carp netstat -s -p carp [--json]")
