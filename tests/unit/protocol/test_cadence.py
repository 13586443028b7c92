"""Virtual hosts of one parent come to advertise at the same moment, and never later than they would alone."""

import itertools
import random

from carp.protocol.cadence import LARGEST_STEP, Cadence
from carp.protocol.values import Instant

SECOND = 1_000_000_000


def advertise(cadence, starts, rounds, intervals=None):
    """Let virtual hosts advertise on time from their starts on; return the moments of each."""
    intervals = intervals or dict.fromkeys(starts, SECOND)
    due = dict(starts)
    moments = {vhid: [] for vhid in starts}
    for _ in range(rounds * len(starts)):
        vhid = min(due, key=due.get)
        moments[vhid].append(due[vhid])
        due[vhid] = cadence.place(vhid, Instant(due[vhid] + intervals[vhid]), intervals[vhid])
    return moments


def test_a_lone_virtual_host_keeps_its_moments():
    """With nobody beside it there is nothing to follow."""
    moments = advertise(Cadence(), {7: 123_456_789}, 100)[7]
    assert [later - earlier for earlier, later in itertools.pairwise(moments)] == [SECOND] * 99


def test_all_advertise_together_after_a_few_intervals():
    """However 255 of them are spread over the second: after eight advertisements each there is one moment for all."""
    rng = random.Random(1)
    moments = advertise(Cadence(), {vhid: rng.randrange(SECOND) for vhid in range(1, 256)}, 12)
    assert {vhid: times[LARGEST_STEP + 1] % SECOND for vhid, times in moments.items()} == dict.fromkeys(
        moments, moments[min(moments, key=lambda vhid: moments[vhid][0])][0] % SECOND
    )


def test_nobody_waits_longer_than_the_interval_or_is_hurried_by_more_than_an_eighth():
    """Peers count on the interval; a shorter one costs only packets."""
    rng = random.Random(2)
    for times in advertise(Cadence(), {vhid: rng.randrange(SECOND) for vhid in range(1, 50)}, 20).values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(gaps) <= SECOND
        assert min(gaps) >= SECOND - SECOND // LARGEST_STEP


def test_other_intervals_have_other_beats():
    """What advertises more slowly is not hurried by what is faster."""
    slower = SECOND + 100 * 3_906_000
    moments = advertise(Cadence(), {1: 0, 2: 300_000_000}, 20, {1: SECOND, 2: slower})
    assert [later - earlier for earlier, later in zip(moments[2], moments[2][1:], strict=False)] == [slower] * (
        len(moments[2]) - 1
    )


def test_the_beat_outlives_the_one_that_gave_it():
    """Those who are in step stay so when the first of them is MASTER no more."""
    cadence = Cadence()
    first = advertise(cadence, {1: 0, 2: 400_000_000, 3: 700_000_000}, 12)
    at = max(times[-1] for times in first.values())
    left = {vhid: cadence.place(vhid, Instant(at + SECOND), SECOND) for vhid in (2, 3)}
    later = advertise(cadence, left, 12)
    assert later[2] == later[3]
    assert {later[2][index + 1] - later[2][index] for index in range(11)} == {SECOND}


def test_a_beat_that_nobody_keeps_any_more_is_forgotten():
    """Who starts long after the last one stopped has its own moments."""
    cadence = Cadence()
    advertise(cadence, {1: 0}, 3)
    assert cadence.place(2, Instant(60 * SECOND + 1), SECOND) == 60 * SECOND + 1
