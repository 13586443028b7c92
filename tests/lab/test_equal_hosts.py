"""Two hosts with the same advbase and advskew, started at the same moment."""

import pytest

from lab.equals import ARRANGEMENTS, EqualHosts, elect
from lab.figures import Pair
from lab.stage import Stage

pytestmark = pytest.mark.usefixtures("carpd")

TRIES = 2


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_equal_hosts_agree_on_one_master(stage: Stage, arrangement: EqualHosts) -> None:
    """Within two master-down times exactly one of them is MASTER, and stays it."""
    for _ in range(TRIES):
        elect(stage, arrangement, Pair(0, 60, 60))


def test_equal_hosts_of_the_default_timing_agree(stage: Stage) -> None:
    """The same with advbase 1 and advskew 0, which is what everybody begins with."""
    elect(stage, ARRANGEMENTS["ordered alike"], Pair(1, 0, 0))
