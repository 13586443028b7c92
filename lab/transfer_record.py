"""What the process that sends traffic through firewalls is told and tells, and what its record says of a span of time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

TICK_NS = 10_000_000
"""The UDP flow asks once a tick: 100 Hz."""
Gap = tuple[int, int]


class Order(TypedDict):
    """The namespaces' files of client and server, the server's address, how many transfers, and calls a second."""

    client: str
    server: str
    address: str
    transfers: int
    calls: int


class Progress(TypedDict):
    """What arrived since the line before; how long the most silent transfer, and the UDP flow, has waited; counts so far."""

    at: int
    bytes: int
    lost: int
    silent: int
    udp_silent: int
    calls: int
    broken: int


class TransferRecord(TypedDict):
    """One transfer; `ended` is 0 unless it broke."""

    sent: int
    received: int
    gaps: list[Gap]
    ended: int
    error: str


class CallRecord(TypedDict):
    """One call: opened, first answered (0 for never), ended (0 for not yet)."""

    opened: int
    answered: int
    ended: int
    error: str


class Record(TypedDict):
    """Everything."""

    transfers: list[TransferRecord]
    calls: list[CallRecord]
    udp_sent: int
    udp_answered: int
    udp_gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class Part:
    """What the traffic felt from one instant to another. Pauses are nanoseconds; `broken` counts calls by what ended them."""

    transfers: int
    lost: tuple[str, ...]
    tcp_pause_ns: int
    udp_pause_ns: int
    calls: int
    broken: Counter[str]
    slowest_call_ns: int


class Account:
    """The record of traffic that is over."""

    def __init__(self, record: Record) -> None:
        self.transfers: Sequence[TransferRecord] = record["transfers"]
        self.calls: Sequence[CallRecord] = record["calls"]
        self.udp_sent = record["udp_sent"]
        self.udp_answered = record["udp_answered"]
        self._udp_gaps: Sequence[Gap] = [tuple(gap) for gap in record["udp_gaps"]]  # type: ignore[misc]

    @property
    def incomplete(self) -> list[str]:
        """What was wrong with transfers: the error, or how many bytes sent never arrived."""
        return [
            one["error"] or f"{one['received']} of {one['sent']} bytes arrived"
            for one in self.transfers
            if one["error"] or one["received"] != one["sent"]
        ]

    def part(self, start: int, end: int) -> Part:
        """Return what happened between two instants: gaps, transfers that broke, calls that were opened."""
        calls = [one for one in self.calls if start <= one["opened"] < end]
        answers = [one["answered"] - one["opened"] for one in calls if one["answered"]]
        gaps = [gap for one in self.transfers for gap in one["gaps"]]
        return Part(
            transfers=len(self.transfers),
            lost=tuple(one["error"] for one in self.transfers if one["error"] and start <= one["ended"] < end),
            tcp_pause_ns=_longest(gaps, start, end),
            # Without a gap on record, answers came as often as questions.
            udp_pause_ns=_longest(self._udp_gaps, start, end) or TICK_NS,
            calls=len(calls),
            broken=Counter(one["error"] for one in calls if one["error"]),
            slowest_call_ns=max(answers, default=0),
        )


def _longest(gaps: Sequence[Gap], start: int, end: int) -> int:
    """Return the longest gap of which a part lies between two instants: what is cut now was heard last a moment before."""
    return max((stop - begin for begin, stop in gaps if begin < end and stop > start), default=0)
