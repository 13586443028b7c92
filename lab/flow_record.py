"""What became of the flows to one shared address: which hosts answered each question, and which flows went without.

A question is lost when nobody answered it within a second. A flow is silent from a question that was lost to the next answer
that it gets: a flow that loses nothing has never been silent, however slow its answers are.
"""

import base64
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .flow_probe import PATIENCE_NS, Answers


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to a question: by whom, from which Ethernet MAC, and when it came."""

    host: str
    mac: str
    at: int


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """The flows to one address. `asked[flow]` are the instants of its questions, `replies[flow]` the answers to each.

    Instants are nanoseconds on the laboratory's clock; start and end of a span default to all there is.
    """

    address: str
    asked: Sequence[Sequence[int]]
    replies: Sequence[Sequence[Sequence[Reply]]]

    @property
    def flows(self) -> range:
        """The numbers of the flows."""
        return range(len(self.asked))

    def questions(self, flow: int, start: int = 0, end: int | None = None) -> range:
        """Return the numbers of a flow's questions that were sent within [start, end]."""
        asked = self.asked[flow]
        return range(bisect_left(asked, start), len(asked) if end is None else bisect_right(asked, end))

    def owners(self, flow: int, start: int = 0, end: int | None = None) -> frozenset[str]:
        """Return the hosts that answered questions of a flow."""
        replies = self.replies[flow]
        return frozenset(reply.host for number in self.questions(flow, start, end) for reply in replies[number])

    def shares(self, start: int = 0, end: int | None = None) -> Counter[str]:
        """Count the flows of each host; one that two hosts answered counts for neither."""
        owners = (self.owners(flow, start, end) for flow in self.flows)
        return Counter(next(iter(hosts)) for hosts in owners if len(hosts) == 1)

    def of(self, hosts: Iterable[str], start: int = 0, end: int | None = None) -> set[int]:
        """Return the flows that one or more of these hosts answered."""
        wanted = set(hosts)
        return {flow for flow in self.flows if self.owners(flow, start, end) & wanted}

    def doubled(self, start: int = 0, end: int | None = None) -> set[int]:
        """Return the flows of which two hosts answered the same question."""
        return {
            flow
            for flow in self.flows
            if any(len({one.host for one in self.replies[flow][n]}) > 1 for n in self.questions(flow, start, end))
        }

    def repeated(self) -> set[int]:
        """Return the flows of which one question had more than one answer, by one host or by several."""
        return {flow for flow in self.flows if any(len(replies) > 1 for replies in self.replies[flow])}

    def lost(self, flow: int, start: int = 0, end: int | None = None) -> int:
        """Count the questions of a flow that nobody answered."""
        return sum(1 for number in self.questions(flow, start, end) if not self.replies[flow][number])

    def losers(self, start: int = 0, end: int | None = None) -> set[int]:
        """Return the flows that lost a question."""
        return {flow for flow in self.flows if self.lost(flow, start, end)}

    def silence_ns(self, flow: int, start: int = 0, end: int | None = None) -> int:
        """Return the longest time from a lost question to the next answer, or to the last question if none came."""
        longest, since = 0, None
        for number in self.questions(flow, start, end):
            replies = self.replies[flow][number]
            at = replies[0].at if replies else self.asked[flow][number]
            if since is not None:
                longest = max(longest, at - since)
            since = None if replies else at if since is None else since
        return longest

    def longest_silence_ns(self, flows: Iterable[int], start: int = 0, end: int | None = None) -> int:
        """Return the longest silence of several flows; 0 for none."""
        return max((self.silence_ns(flow, start, end) for flow in flows), default=0)

    def first_answer(self, flows: Iterable[int], hosts: Iterable[str], start: int) -> int | None:
        """Return when one of these hosts first answered one of these flows to a question sent after an instant."""
        wanted = set(hosts)
        instants = (
            reply.at
            for flow in flows
            for number in self.questions(flow, start)
            for reply in self.replies[flow][number]
            if reply.host in wanted
        )
        return min(instants, default=None)

    def macs(self, host: str) -> set[str]:
        """Return the Ethernet sources of a host's answers."""
        return {reply.mac for flow in self.replies for replies in flow for reply in replies if reply.host == host}


def records(answers: Answers, labels: Sequence[str], flows: int) -> Mapping[str, FlowRecord]:
    """Unpack what the probing process recorded, by address; answers later than the patience are left out."""
    found = {}
    for address in answers["addresses"]:
        asked: list[list[int]] = [[] for _ in range(flows)]
        for flow, at in zip(
            _array("I", answers["asked_flow"][address]), _array("q", answers["asked_at"][address]), strict=True
        ):
            asked[flow].append(at)
        replies: list[list[list[Reply]]] = [[[] for _ in one] for one in asked]
        columns = (_array(kind, answers[name][address]) for name, kind in _COLUMNS)  # type: ignore[literal-required]
        for flow, number, host, mac, at in zip(*columns, strict=True):
            if at - asked[flow][number] <= PATIENCE_NS:
                replies[flow][number].append(Reply(labels[host], answers["macs"][mac], at))
        found[address] = FlowRecord(address, asked, replies)
    return found


_COLUMNS = (("flow", "I"), ("number", "I"), ("host", "b"), ("mac", "I"), ("at", "q"))


def _array(kind: str, text: str) -> "array[int]":
    numbers: array[int] = array(kind)
    numbers.frombytes(base64.b64decode(text))
    return numbers
