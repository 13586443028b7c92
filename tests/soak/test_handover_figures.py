"""The figures of handing over by hand and of demotion, as medians over enough tries."""

import statistics
from collections.abc import Callable

import pytest
from test_figures import Note, summary

from lab.events import Events
from lab.host import Host
from lab.measure import both_answered, longest_gap_ns, owners, takeover_ns
from lab.pairs import SLACK_S, USUAL, make_pair, patience_s, settle, wait_settled
from lab.parents import SECOND_SHARED, mend, with_two_parents
from lab.stage import SHARED, Stage, bare
from lab.wait import now_ns

pytestmark = [pytest.mark.usefixtures("carpd"), pytest.mark.timeout(900)]

MS = 1_000_000
TRIES = 10
GAP_NS = 20 * MS
KNOWN_NS = 50 * MS


def carp(host: Host, *words: str) -> None:
    """Run `carp`, which has to succeed."""
    done = host.carp(*words)
    assert done.returncode == 0, done.stderr


WAYS: dict[str, tuple[Callable[[Host], None], Callable[[Host, Host], None]]] = {
    "switch": (lambda a: carp(a, "switch", "carp0"), lambda _a, b: carp(b, "switch", "carp0")),
    "maintenance": (lambda a: carp(a, "maintenance", "on"), lambda a, _b: carp(a, "maintenance", "off")),
}
"""How it is handed over, and how it is brought back."""


@pytest.mark.parametrize("way", WAYS)
def test_handing_over(stage: Stage, note: Note, way: str) -> None:
    """The longest gap is under 20 ms, in the median of ten, for each family; nobody is answered by both."""
    there, back = WAYS[way]
    a, b = make_pair(stage, USUAL)
    gaps: dict[str, list[int]] = {}
    for _ in range(TRIES):
        settle(USUAL, a, b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            prober.wait_for_time(0.2)
            event = now_ns()
            there(a)
            prober.wait_for_owner("b", SLACK_S)
            # Longer than b's interval: whatever the switch has learned wrong shows until then.
            prober.wait_for_time(1.6)
            traces = prober.stop()
        for address, trace in traces.items():
            assert owners(trace, trace.start, trace.end) == ["a", "b"]
            assert both_answered(trace) == 0
            gaps.setdefault(address, []).append(longest_gap_ns(trace, event))
        back(a, b)
    for address, times in gaps.items():
        note(summary(f"{way}, longest gap, {address}", times))
    assert [statistics.median(times) < GAP_NS for times in gaps.values()] == [True, True]


def test_two_parents(stage: Stage, note: Note) -> None:
    """When one of the MASTER's parents fails, the other address follows within 50 ms of the demotion, in the median of ten."""
    a, b = make_pair(stage, USUAL)
    with_two_parents(stage, a, b)
    followed: dict[str, list[int]] = {}
    gaps: dict[str, list[int]] = {}
    for _ in range(TRIES):
        settle(USUAL, a, b)
        with Events(a) as from_a, stage.prober([*SHARED, *SECOND_SHARED]) as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.port.cut()
            known = from_a.demoted("carp1", SLACK_S, event)
            prober.wait_for_owner("b", patience_s(USUAL))
            traces = prober.stop()
        for address in bare(SECOND_SHARED):
            took = takeover_ns(traces[address], known, "b")
            assert took is not None
            followed.setdefault(address, []).append(took)
            gaps.setdefault(address, []).append(longest_gap_ns(traces[address], event))
        mend(a.port)
        wait_settled(USUAL, a, b)
    for address, times in followed.items():
        note(summary(f"two parents, from the demotion to the answer of the other host, {address}", times))
        note(summary(f"two parents, longest gap of the other LAN, {address}", gaps[address]))
    assert [statistics.median(times) < KNOWN_NS for times in followed.values()] == [True, True]


@pytest.mark.parametrize("peers", [False, True], ids=["multicast", "peers"])
def test_demotion(stage: Stage, note: Note, peers: bool) -> None:
    """Without preempt, the other host is MASTER within 100 ms of the demotion, ten times of ten."""
    a, b = make_pair(stage, USUAL, preempt=False)
    if peers:
        for host, other in ((a, "192.0.2.2"), (b, "192.0.2.1")):
            host.configure([host.carps[0].but(extra={"carppeer": [other]})], **host.global_keys)
    settle(USUAL, a)
    settle(USUAL, a, b)
    took: list[int] = []
    with Events(a) as from_a, Events(b) as from_b:
        listeners = {"a": from_a, "b": from_b}
        for number in range(TRIES):
            source, target = ((a, b), (b, a))[number % 2]
            asked = now_ns()
            carp(source, "demote", "add", "figures", "1")
            demoted = listeners[source.label].demoted("carp0", SLACK_S, asked)
            took.append(listeners[target.label].became("carp0", "MASTER", SLACK_S, asked) - demoted)
            wait_settled(USUAL, target, source)
            carp(source, "demote", "remove", "figures")
    note(summary(f"demotion, until the other host is MASTER, {'peers' if peers else 'multicast'}", took))
    assert max(took) < 100 * MS
