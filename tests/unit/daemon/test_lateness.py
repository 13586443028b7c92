"""How late timers fired, in milliseconds."""

import json

from carp.daemon.lateness import Lateness
from carp.protocol.values import NANOSECONDS_PER_MILLISECOND


def lateness_of(*milliseconds: float) -> dict[str, object]:
    """Describe timers that fired this late."""
    lateness = Lateness()
    for late in milliseconds:
        lateness.note(round(late * NANOSECONDS_PER_MILLISECOND))
    return lateness.describe()


def test_before_the_first_timer_nothing_is_known() -> None:
    """Not even that it was 0."""
    assert lateness_of() == {"timers": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}


def test_one_timer() -> None:
    """It is everything."""
    assert lateness_of(0.25) == {"timers": 1, "p50_ms": 0.25, "p99_ms": 0.25, "max_ms": 0.25}


def test_a_single_outlier_is_the_worst_and_nothing_else() -> None:
    """The middle and the 99th percentile of a thousand do not know it."""
    described = lateness_of(*[0.1] * 500, 80.0, *[0.1] * 499)
    assert described == {"timers": 1000, "p50_ms": 0.1, "p99_ms": 0.1, "max_ms": 80.0}


def test_one_in_fifty_shows_in_the_99th_percentile() -> None:
    """Whatever the order in which they came."""
    described = lateness_of(*[5.0, *[1.0] * 49] * 10)
    assert (described["p50_ms"], described["p99_ms"]) == (1.0, 5.0)


def test_old_timers_are_forgotten_but_for_the_worst() -> None:
    """The percentiles are of the last 4096, the maximum and the number of all."""
    described = lateness_of(*[50.0] * 100, *[1.0] * 4096)
    assert described == {"timers": 4196, "p50_ms": 1.0, "p99_ms": 1.0, "max_ms": 50.0}


def test_it_can_be_shown_as_json() -> None:
    """Three digits: microseconds."""
    assert json.loads(json.dumps(lateness_of(0.1234567)))["p50_ms"] == 0.123
