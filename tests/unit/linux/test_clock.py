"""The clock of the protocol: packet stamps on a wall clock that is stepped, and the timer."""

import itertools
import select
import time
from collections.abc import Iterator

import pytest

from carp.linux import clock as clock_module
from carp.linux.clock import StampConverter, Timer, boottime
from carp.protocol.values import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Instant

HOUR = 3600 * NANOSECONDS_PER_SECOND
TOLERANCE = 20 * NANOSECONDS_PER_MILLISECOND
"""The two clocks are read one after the other, on a busy host."""
PATIENCE_S = 5.0


class WallClock:
    """The wall clock, ahead of the true one by what it was stepped."""

    def __init__(self) -> None:
        self.stepped = 0
        self._true = time.time_ns

    def __call__(self) -> int:
        return self._true() + self.stepped

    def stamp(self) -> int:
        """Stamp a packet as the kernel would do it now."""
        return self()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """Put a wall clock in the place of the real one."""
    clock = WallClock()
    monkeypatch.setattr(time, "time_ns", clock)
    return clock


@pytest.fixture
def timer() -> Iterator[Timer]:
    """Make a timer that does not run."""
    made = Timer()
    yield made
    made.close()


def fires(timer: Timer, within_s: float) -> bool:
    """Wait for the timer."""
    return bool(select.select([timer], [], [], within_s)[0])


def test_a_stamp_is_placed_where_the_packet_arrived(wall: WallClock) -> None:
    """With a steady wall clock the arrival is known to the moment, though it is read later."""
    stamps = StampConverter()
    stamps.begin_drain()
    arrived, stamp = boottime(), wall.stamp()
    time.sleep(0.05)
    now = stamps.begin_drain()
    assert abs(stamps.convert(stamp) - arrived) < TOLERANCE
    assert stamps.convert(stamp) < now


def test_a_wall_clock_that_was_wrong_all_the_time_does_no_harm(wall: WallClock) -> None:
    """Only differences of the wall clock count."""
    wall.stepped = -30 * 365 * 24 * HOUR
    stamps = StampConverter()
    stamps.begin_drain()
    arrived, stamp = boottime(), wall.stamp()
    time.sleep(0.05)
    stamps.begin_drain()
    assert abs(stamps.convert(stamp) - arrived) < TOLERANCE


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_stepped_between_drains(wall: WallClock, step: int) -> None:
    """A packet that was stamped before the step stays within the time since the drain before; the next one is right again."""
    stamps = StampConverter()
    previous = stamps.begin_drain()
    stamp = wall.stamp()
    wall.stepped += step
    now = stamps.begin_drain()
    assert previous <= stamps.convert(stamp) <= now
    arrived, stamp = boottime(), wall.stamp()
    time.sleep(0.05)
    stamps.begin_drain()
    assert abs(stamps.convert(stamp) - arrived) < TOLERANCE


@pytest.mark.parametrize("step", [HOUR, -HOUR, HOUR // 36000], ids=["forward", "back", "a tenth of a second"])
def test_what_came_before_a_step_keeps_its_age(wall: WallClock, step: int) -> None:
    """A packet from before a step that is read after it is placed where it arrived: taken for older, its sender seems dead."""
    stamps = StampConverter()
    stamps.begin_drain()
    time.sleep(0.2)
    arrived, stamp = boottime(), wall.stamp()
    wall.stepped += step
    time.sleep(0.05)
    stamps.begin_drain()
    assert abs(stamps.convert(stamp) - arrived) < TOLERANCE


def test_a_pause_between_both_clocks_makes_packets_younger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never older: a living MASTER would be taken for dead."""
    moments = itertools.count(1000 * NANOSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND)
    monkeypatch.setattr(clock_module, "boottime", lambda: Instant(next(moments)))
    monkeypatch.setattr(time, "time_ns", lambda: next(moments) + HOUR)
    converter = StampConverter()
    arrived = next(moments)
    now = converter.begin_drain()
    assert arrived <= converter.convert(arrived + HOUR) <= now


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_stepped_within_a_drain(wall: WallClock, step: int) -> None:
    """A packet that arrives after the step while the socket is read stays in bounds."""
    stamps = StampConverter()
    previous = stamps.begin_drain()
    now = stamps.begin_drain()
    before = stamps.convert(wall.stamp())
    wall.stepped += step
    after = stamps.convert(wall.stamp())
    assert previous <= before <= now
    assert previous <= after <= now


def test_what_waits_over_several_drains_keeps_its_age(wall: WallClock) -> None:
    """Taken for younger, everything would seem to be read up to a moment at which a MASTER's advertisement still waits."""
    stamps = StampConverter()
    stamps.begin_drain()
    arrivals, marks = [], []
    for _ in range(4):
        time.sleep(0.05)
        arrivals.append(boottime())
        marks.append(wall.stamp())
    for arrived, stamp in zip(arrivals, marks, strict=True):
        stamps.begin_drain()
        assert abs(stamps.convert(stamp) - arrived) < TOLERANCE
        stamps.stop_at(stamps.convert(stamp))
        time.sleep(0.05)
    # Nothing can have come before what was read; and once nothing is left, nothing before that.
    stamps.begin_drain()
    assert abs(stamps.convert(marks[0]) - arrivals[-1]) < TOLERANCE
    now = stamps.begin_drain()
    assert stamps.convert(marks[0]) >= now - TOLERANCE


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_what_waits_over_a_step_keeps_its_age(wall: WallClock, step: int) -> None:
    """Also in the second drain after it."""
    stamps = StampConverter()
    stamps.begin_drain()
    arrivals, marks = [], []
    for _ in range(3):
        time.sleep(0.05)
        arrivals.append(boottime())
        marks.append(wall.stamp())
    wall.stepped += step
    for arrived, stamp in zip(arrivals, marks, strict=True):
        stamps.begin_drain()
        assert abs(stamps.convert(stamp) - arrived) < TOLERANCE
        stamps.stop_at(stamps.convert(stamp))


@pytest.mark.parametrize("stamp", [0, -1, 2**63, 2**80])
def test_no_stamp_leaves_the_drain(stamp: int) -> None:
    """Whatever the kernel says, an arrival lies in [previous drain, this drain]."""
    stamps = StampConverter()
    previous = stamps.begin_drain()
    now = stamps.begin_drain()
    assert previous <= stamps.convert(stamp) <= now


def test_a_deadline_in_the_past_fires_at_once(timer: Timer) -> None:
    """A moment that has passed, be it the beginning of time, does not switch the timer off."""
    for moment in (Instant(boottime() - 1), Instant(1), Instant(0), Instant(-5)):
        timer.set(moment)
        assert fires(timer, PATIENCE_S)
        assert timer.acknowledge() == moment
        assert not fires(timer, 0)


def test_a_deadline_in_the_future_fires_then(timer: Timer) -> None:
    """Not before its moment."""
    at = Instant(boottime() + 30 * NANOSECONDS_PER_MILLISECOND)
    timer.set(at)
    assert not fires(timer, 0)
    assert fires(timer, PATIENCE_S)
    assert boottime() >= at
    assert timer.acknowledge() == at


def test_a_timer_can_be_moved_both_ways(timer: Timer) -> None:
    """Only the last deadline counts."""
    far, near = Instant(boottime() + HOUR), Instant(boottime() + 30 * NANOSECONDS_PER_MILLISECOND)
    timer.set(far)
    timer.set(near)
    assert fires(timer, PATIENCE_S)
    assert timer.acknowledge() == near
    timer.set(Instant(boottime() + 30 * NANOSECONDS_PER_MILLISECOND))
    timer.set(far)
    assert not fires(timer, 0.08)


def test_the_same_deadline_again_after_it_fired(timer: Timer) -> None:
    """A deadline that was acknowledged can be set once more."""
    at = Instant(boottime() - 1)
    for _ in range(2):
        timer.set(at)
        assert fires(timer, PATIENCE_S)
        timer.acknowledge()


def test_a_stopped_timer_is_silent(timer: Timer) -> None:
    """None stops it; it can be started again."""
    timer.set(Instant(boottime() + 20 * NANOSECONDS_PER_MILLISECOND))
    timer.set(None)
    assert not fires(timer, 0.06)
    timer.set(Instant(boottime() + 20 * NANOSECONDS_PER_MILLISECOND))
    assert fires(timer, PATIENCE_S)


def test_a_timer_that_was_not_set_has_nothing_to_acknowledge(timer: Timer) -> None:
    """Looking at it does not block."""
    assert timer.acknowledge() is None
