"""The axe through a firewall, again and again: every connection survives it and the return, every time."""

import pytest
from test_figures import Note

from lab.axe import play_axe
from lab.firewalls import FirewallPair
from lab.stage import Stage

pytestmark = [pytest.mark.usefixtures("carpd"), pytest.mark.timeout(900)]

TRIES = 5


def test_five_axes(stage: Stage, note: Note) -> None:
    """100 of 100 transfers live on, with no reset and within the bounds, in five runs of five on one pair."""
    pair = FirewallPair(stage)
    faults = []
    for number in range(1, TRIES + 1):
        pair.settle()
        outcome = play_axe(pair)
        for row in outcome.rows:
            note(f"run {number}: {row.what}: {row.measured} ({row.allowed}) {row.verdict}")
        faults += [f"run {number}: {fault}" for fault in outcome.faults]
    assert faults == []
