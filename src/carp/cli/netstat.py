"""`carp netstat -s -p carp`: the counters under the names and in the words of the BSDs.

The words around the numbers are those that scripts for the BSDs look for. What the BSDs do not count has lines of its own
at the end.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carp.protocol.packet import DropReason

from .client import get
from .errors import CommandError

USAGE = """\
usage: carp netstat -s -p carp [--json]

Show the counters of all carp interfaces together. --json prints them under the names of the BSDs' struct carpstats.
What each of them counts is described with the fields of `carp status --json`."""

_PROTOCOL = "carp"
_BSD_COUNTERS = {reason.value: reason.bsd for reason in DropReason}

# (depth, counter, words for one, words for any other number)
_LINES = (
    (1, "ipackets", "packet received (IPv4)", "packets received (IPv4)"),
    (1, "ipackets6", "packet received (IPv6)", "packets received (IPv6)"),
    (2, "badif", "packet discarded for bad interface", "packets discarded for bad interface"),
    (2, "badttl", "packet discarded for wrong TTL", "packets discarded for wrong TTL"),
    (2, "hdrops", "packet shorter than header", "packets shorter than header"),
    (2, "badsum", "discarded for bad checksum", "discarded for bad checksums"),
    (2, "badver", "discarded packet with a bad version", "discarded packets with a bad version"),
    (2, "badlen", "discarded because packet too short", "discarded because packet too short"),
    (2, "badauth", "discarded for bad authentication", "discarded for bad authentication"),
    (2, "badvhid", "discarded for bad vhid", "discarded for bad vhid"),
    (2, "badaddrs", "discarded because of a bad address list", "discarded because of a bad address list"),
    (1, "opackets", "packet sent (IPv4)", "packets sent (IPv4)"),
    (1, "opackets6", "packet sent (IPv6)", "packets sent (IPv6)"),
    (2, "onomem", "send failed due to mbuf memory error", "send failed due to mbuf memory error"),
    (2, "senderrors", "send failed for another reason", "sends failed for another reason"),
    (1, "preempt", "transition to master", "transitions to master"),
    (1, "rivals", "advertisement of another master heard while master", "advertisements of another master heard while master"),
    (1, "claims", "claim of an address heard from another host", "claims of an address heard from another host"),
)


def netstat(socket: Path, words: Sequence[str]) -> int:
    """Print the counters of the daemon behind a socket; return the exit status.

    Raises:
        CommandError: other words than -s -p carp, or a daemon that does not answer.
    """
    as_json = _read(words)
    counters = bsd_counters(get(socket, "/v1/status")["statistics"])
    if as_json:
        print(json.dumps({_PROTOCOL: counters}, indent=2))
        return 0
    print(f"{_PROTOCOL}:")
    for depth, counter, one, many in _LINES:
        count = counters.pop(counter)
        print("\t" * depth + f"{count} {one if count == 1 else many}")
    for reason, count in counters.items():
        print(f"\t{count} discarded: {reason}")
    return 0


def _read(words: Sequence[str]) -> bool:
    """Check the words; tell whether JSON is wanted."""
    as_json = False
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--json":
            as_json = True
        elif word in ("-s", "-ss"):
            given["s"] = ""
        elif word in ("-p", "-sp"):
            if not rest:
                raise CommandError(f"netstat {word}: the name of a protocol is missing: {_PROTOCOL}")
            given |= {"s": "", "p": rest.pop(0)} if word == "-sp" else {"p": rest.pop(0)}
        else:
            raise CommandError(f"netstat: {word} is not known: only -s -p {_PROTOCOL} and --json are")
    if given.get("p", _PROTOCOL) != _PROTOCOL:
        raise CommandError(f"netstat -p {given['p']}: only the protocol {_PROTOCOL} is known")
    if given.keys() != {"s", "p"}:
        raise CommandError(f"netstat shows the counters only: netstat -s -p {_PROTOCOL}")
    return as_json


def bsd_counters(statistics: dict[str, Any]) -> dict[str, int]:
    """Sum the statistics of a status document under the names of struct carpstats (PROTOCOL.md 1.5), then under ours.

    A reason to drop that this version does not know keeps its own name.
    """
    dropped: Counter[str] = Counter()
    for reason, count in statistics["dropped"].items():
        dropped[_BSD_COUNTERS.get(reason, reason)] += count
    known = {
        "ipackets": statistics["received"]["IPv4"],
        "ipackets6": statistics["received"]["IPv6"],
        "opackets": statistics["sent"]["IPv4"],
        "opackets6": statistics["sent"]["IPv6"],
        "onomem": statistics.get("no_memory", 0),
        "senderrors": statistics["send_errors"] - statistics.get("no_memory", 0),
        "preempt": statistics.get("became_master", 0),
        "rivals": statistics.get("rivals_heard", 0),
        "claims": statistics.get("claims_heard", 0),
    }
    return {counter: known.get(counter, dropped.pop(counter, 0)) for _, counter, *_ in _LINES} | dict(dropped)
