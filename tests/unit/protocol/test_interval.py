"""advbase and advskew as time."""

import pytest

from carp.protocol.interval import advertisement_interval_ns, election_interval_ns, master_down_ns, skew_ns
from carp.testing.clock import seconds

SHORTEST = 3_906_000


@pytest.mark.parametrize(
    ("advskew", "microseconds"), [(0, 0), (1, 3906), (2, 7812), (100, 390625), (240, 937500), (255, 996093)]
)
def test_skew_is_in_256ths_of_a_second(advskew, microseconds):
    """Advskew is 1/256 s each, cut to whole microseconds as every BSD does."""
    assert skew_ns(advskew) == microseconds * 1000


@pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 100), (2, 254), (0, 1), (255, 255)])
def test_interval_is_advbase_plus_skew(advbase, advskew):
    """The time between advertisements is advbase seconds plus the skew."""
    assert advertisement_interval_ns(advbase, advskew) == seconds(advbase) + skew_ns(advskew)
    assert election_interval_ns(advbase, advskew) == advertisement_interval_ns(advbase, advskew)


def test_interval_is_never_zero():
    """With both 0 a MASTER advertises each 1/256 s, while elections compare 0."""
    assert advertisement_interval_ns(0, 0) == SHORTEST
    assert election_interval_ns(0, 0) == 0


@pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 100), (3, 254)])
def test_master_down_takes_the_skew_once(advbase, advskew):
    """Everybody but OpenBSD of 2025 waits 3 * advbase + skew."""
    assert master_down_ns(advbase, advskew, triples_skew=False) == seconds(3 * advbase) + skew_ns(advskew)


@pytest.mark.parametrize(("advbase", "advskew"), [(1, 0), (1, 100), (3, 254)])
def test_openbsd_takes_the_skew_three_times(advbase, advskew):
    """OpenBSD of 2025 waits 3 * (advbase + skew)."""
    assert master_down_ns(advbase, advskew, triples_skew=True) == 3 * (seconds(advbase) + skew_ns(advskew))


@pytest.mark.parametrize("triples_skew", [False, True])
def test_master_down_with_advbase_0(triples_skew):
    """With advbase 0 everybody waits 3 * skew; with both 0, three of the shortest intervals."""
    assert master_down_ns(0, 5, triples_skew=triples_skew) == 3 * skew_ns(5)
    assert master_down_ns(0, 0, triples_skew=triples_skew) == 3 * SHORTEST


def test_sub_second_takeover_fits_in_80_ms():
    """Advbase 0 and advskew 6 give up a silent MASTER after less than 80 ms."""
    assert master_down_ns(0, 6, triples_skew=False) < 80_000_000
