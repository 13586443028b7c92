"""What an event does to the shares of hosts: which flows moved, how long they paused, and what the others noticed (nothing)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .figures import ALLOWED_LATE_NS, Bound
from .flow_record import FlowRecord

MARGIN_NS = 150_000_000
"""Shares are those of the time up to this before the event, and from this after the moment at which all are answered again."""


@dataclass(frozen=True, slots=True)
class ShareResult:
    """One event for one address. Times are nanoseconds; `faults` are sentences about behaviour that is wrong, not slow."""

    scene: str
    event: str
    address: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    bound: Bound
    takeover_ns: int | None
    """From the event to the first answer of a host that took flows over."""
    pause_ns: int
    """The longest time in which a flow that moved had no answers."""
    others_pause_ns: int
    """The same of the flows that did not move."""
    by_two: int
    """Flows of which two hosts answered one question."""
    by_none: int
    """Flows that did not move and lost a question."""
    faults: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        return "IPv6" if ":" in self.address else "IPv4"

    @property
    def verdict(self) -> str:
        """One word."""
        if self.faults:
            return "WRONG"
        late = self.takeover_ns is not None and self.takeover_ns > self.bound.latest_ns + ALLOWED_LATE_NS
        return "slow" if late else "ok"

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values, times in nanoseconds, shares 0..1."""
        return asdict(self) | {"family": self.family, "verdict": self.verdict}


def fractions(shares: Counter[str], flows: int) -> dict[str, float]:
    """Return the part of all flows that each host has, 0..1."""
    return {label: count / flows for label, count in sorted(shares.items())}


def measure(
    record: FlowRecord, scene: str, event: str, at: int, whole_at: int, bound: Bound, *, leaving: str = "", coming: str = ""
) -> ShareResult:
    """Measure one address around an event at which a host left or came; whatever breaks the promise is a fault.

    Args:
        record: the flows from some time before the event to some time after it.
        scene: the name of the scene.
        event: what happened, in a few words.
        at: the instant of the event.
        whole_at: when all flows were answered again.
        bound: when the protocol itself makes the flows move.
        leaving: the host whose share moved away.
        coming: the host whose share came back.
    """
    before_end, after_start = at - MARGIN_NS, whole_at + MARGIN_NS
    moved = record.of([leaving], end=before_end) if leaving else record.of([coming], start=after_start)
    others = set(record.flows) - moved
    before, after = record.shares(end=before_end), record.shares(start=after_start)
    takers = [coming] if coming else [label for label in after if label != leaving]
    first = record.first_answer(moved, takers, at)
    doubled, losers = record.doubled(), {flow for flow in others if record.lost(flow)}
    faults = []
    if not moved:
        faults.append(f"{leaving or coming} had no share of {record.address}")
    if first is None:
        faults.append(f"nobody took over the share of {leaving}" if leaving else f"{coming} did not get its share back")
    if doubled:
        faults.append(f"two hosts answered {len(doubled)} flows to {record.address}")
    if losers:
        faults.append(f"{len(losers)} flows to {record.address} lost answers without being moved")
    changed = [flow for flow in others if record.owners(flow, end=before_end) != record.owners(flow, start=after_start)]
    if changed:
        faults.append(f"{len(changed)} flows to {record.address} changed their host without need")
    return ShareResult(
        scene,
        event,
        record.address,
        fractions(before, len(record.flows)),
        fractions(after, len(record.flows)),
        bound,
        None if first is None else first - at,
        record.longest_silence_ns(moved),
        record.longest_silence_ns(others),
        len(doubled),
        len(losers),
        tuple(faults),
    )


def wanted_owners(nodes: list[int], vhids: list[int], masters: Mapping[int, list[str]]) -> list[frozenset[str]]:
    """Return for each flow the hosts that are MASTER of its node.

    Args:
        nodes: the node of each flow, 0 being the lowest vhid.
        vhids: the vhids of the address, ascending.
        masters: who is MASTER, by vhid.
    """
    return [frozenset(masters.get(vhids[node], [])) for node in nodes]


def strangers(record: FlowRecord, wanted: list[frozenset[str]], start: int = 0) -> dict[int, tuple[set[str], set[str]]]:
    """Return the flows that others than the wanted hosts answered, or nobody: what is and what should be."""
    found = {flow: (record.owners(flow, start), wanted[flow]) for flow in record.flows}
    return {flow: (set(seen), set(should)) for flow, (seen, should) in found.items() if seen != should}
