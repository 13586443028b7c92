"""From the record of the probing process to figures.

A probe is the question of one millisecond. It is lost when no answer came within a second. The longest gap is the longest
time without any answer, less the time in which the probing process itself stood still: what a stalled machine adds is not
the protocol's. Two hosts answer at once where one probe is answered by both, or where the answers go to and fro: an answer
of one host between two of another within a few probes. A handover, however quick, is not that.
"""

import base64
import itertools
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from .probe import PATIENCE_NS, Record

TO_AND_FRO_PROBES = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: to which question, by whom, and when it reached the client."""

    sequence: int
    host: str
    at: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What was seen of one address. `sent` holds the instant of each question; `answers` are in order of arrival."""

    address: str
    sent: Sequence[int]
    answers: Sequence[Answer]
    stalls: Sequence[tuple[int, int]] = ()
    _arrivals: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Index the arrivals."""
        self._arrivals.extend(answer.at for answer in self.answers)

    @property
    def start(self) -> int:
        """The instant of the first question."""
        return self.sent[0]

    @property
    def end(self) -> int:
        """The instant of the last question."""
        return self.sent[-1]

    def between(self, start: int, end: int) -> Sequence[Answer]:
        """Return the answers that arrived within [start, end]."""
        return self.answers[bisect_left(self._arrivals, start) : bisect_right(self._arrivals, end)]

    def asked(self, start: int, end: int) -> range:
        """Return the numbers of the questions sent within [start, end]."""
        return range(bisect_left(self.sent, start), bisect_right(self.sent, end))


def traces(record: Record) -> dict[str, Trace]:
    """Unpack a record, by address."""
    hosts = record["hosts"]
    found = {}
    for address in record["sent"]:
        numbers = zip(_array("q", record["sequence"][address]), _array("b", record["host"][address]), strict=True)
        instants = _array("q", record["at"][address])
        answers = [Answer(sequence, hosts[host], at) for (sequence, host), at in zip(numbers, instants, strict=True)]
        stalls = [(start, end) for start, end in record["stalls"]]
        found[address] = Trace(address, _array("q", record["sent"][address]), answers, stalls)
    return found


def lost(trace: Trace, start: int | None = None, end: int | None = None) -> int:
    """Count the questions sent within [start, end] that nobody answered within a second."""
    asked = trace.asked(trace.start if start is None else start, trace.end if end is None else end)
    in_time = {answer.sequence for answer in trace.answers if answer.at - trace.sent[answer.sequence] <= PATIENCE_NS}
    return sum(1 for sequence in asked if sequence not in in_time)


def longest_gap_ns(trace: Trace, start: int | None = None, end: int | None = None) -> int:
    """Return the longest time without an answer that began and ended within [start, end], less our own stalls.

    The bounds count as answers, so silence up to `end` is a gap too.
    """
    start = trace.start if start is None else start
    end = trace.end if end is None else end
    arrivals = [start, *(answer.at for answer in trace.between(start, end)), end]
    longest = 0
    for before, after in itertools.pairwise(arrivals):
        # Most pairs are a tick apart; only a candidate is worth a look at the stalls.
        if after - before > longest:
            longest = max(longest, after - before - stalled_ns(trace, before, after))
    return longest


def stalled_ns(trace: Trace, start: int, end: int) -> int:
    """Return how long the probing process stood still within [start, end]."""
    return sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in trace.stalls)


def takeover_ns(trace: Trace, event: int, host: str) -> int | None:
    """Return the time from an event to the first answer of a host to a question asked after it; None if there was none."""
    for answer in trace.between(event, trace.end + PATIENCE_NS):
        if answer.host == host and trace.sent[answer.sequence] >= event:
            return answer.at - event
    return None


def both_answered(trace: Trace, start: int | None = None, end: int | None = None) -> int:
    """Count the probes sent within [start, end] for which two hosts were answering at once; one probe is a millisecond."""
    asked = trace.asked(trace.start if start is None else start, trace.end if end is None else end)
    by_probe: dict[int, set[str]] = {}
    for answer in trace.answers:
        by_probe.setdefault(answer.sequence, set()).add(answer.host)
    single = {sequence: next(iter(hosts)) for sequence, hosts in by_probe.items() if len(hosts) == 1}
    count = 0
    for sequence in asked:
        hosts = by_probe.get(sequence, set())
        if len(hosts) > 1 or (sequence in single and _between_others(single, sequence)):
            count += 1
    return count


def owners(trace: Trace, start: int, end: int) -> list[str]:
    """Return the hosts that answered within [start, end], in order, each run of answers once."""
    found: list[str] = []
    for answer in trace.between(start, end):
        if not found or found[-1] != answer.host:
            found.append(answer.host)
    return found


def _between_others(single: dict[int, str], sequence: int) -> bool:
    """Tell whether the same other host answered shortly before and shortly after a probe."""
    mine = single[sequence]
    # Nearly every probe lies between two of its own and is done here.
    if single.get(sequence - 1) == mine == single.get(sequence + 1):
        return False
    around = range(1, TO_AND_FRO_PROBES + 1)
    before = {single[sequence - step] for step in around if sequence - step in single} - {mine}
    after = {single[sequence + step] for step in around if sequence + step in single} - {mine}
    return bool(before & after)


def milliseconds(nanoseconds: int | None) -> float | None:
    """Turn nanoseconds into milliseconds for people, to a tenth."""
    return None if nanoseconds is None else round(nanoseconds / 1e6, 1)


def _array(kind: str, text: str) -> "array[int]":
    numbers: array[int] = array(kind)
    numbers.frombytes(base64.b64decode(text))
    return numbers
