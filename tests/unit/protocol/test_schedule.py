"""Deadlines of many keys."""

import random

from carp.protocol.schedule import Schedule
from carp.protocol.values import Instant


def due(schedule, until):
    """Take out the keys that are due."""
    return [key for key, _ in schedule.pop_due(at(until))]


def at(moment):
    """Name a moment."""
    return Instant(moment)


def test_empty_schedule_has_nothing_next():
    """Nothing is due where nothing was set."""
    schedule = Schedule()
    assert schedule.next() is None
    assert due(schedule, 10**18) == []
    assert schedule.get("a") is None


def test_earliest_comes_first():
    """The next deadline is the earliest, and due keys come out in the order of their deadlines."""
    schedule = Schedule()
    for key, moment in (("late", 30), ("early", 10), ("middle", 20)):
        schedule.set(key, at(moment))
    assert schedule.next() == 10
    assert due(schedule, 25) == ["early", "middle"]
    assert schedule.next() == 30


def test_due_includes_the_moment_itself():
    """A key is due at its deadline, not only after it."""
    schedule = Schedule()
    schedule.set("a", at(10))
    assert due(schedule, 9) == []
    assert due(schedule, 10) == ["a"]


def test_equal_deadlines_keep_their_order():
    """Keys that are due at one moment come out in the order in which they were set."""
    schedule = Schedule()
    for key in "dcba":
        schedule.set(key, at(5))
    assert due(schedule, 5) == ["d", "c", "b", "a"]


def test_due_keys_come_with_their_deadlines():
    """A key that is due comes with the moment when it was, so that one can tell how late it is."""
    schedule = Schedule()
    schedule.set("a", at(10))
    schedule.set("a", at(12))
    assert schedule.pop_due(at(100)) == [("a", 12)]


def test_a_key_has_one_deadline():
    """Setting a key again moves it, later or earlier."""
    schedule = Schedule()
    schedule.set("a", at(10))
    schedule.set("a", at(20))
    assert (schedule.next(), schedule.get("a")) == (20, 20)
    assert due(schedule, 10) == []
    schedule.set("a", at(5))
    assert due(schedule, 30) == ["a"]
    assert schedule.next() is None


def test_moving_away_and_back():
    """A key that was moved later and then to its first deadline again is due once."""
    schedule = Schedule()
    for moment in (10, 20, 10):
        schedule.set("a", at(moment))
    assert due(schedule, 100) == ["a"]
    assert due(schedule, 100) == []


def test_cleared_key_is_not_due():
    """A cleared key is not due, and clearing it twice is no error."""
    schedule = Schedule()
    schedule.set("a", at(10))
    schedule.clear("a")
    schedule.clear("a")
    assert schedule.next() is None
    assert due(schedule, 10) == []


def test_key_can_be_set_after_clearing():
    """A key that was cleared can be due again, earlier or later than before."""
    for again in (5, 10, 15):
        schedule = Schedule()
        schedule.set("a", at(10))
        schedule.clear("a")
        schedule.set("a", at(again))
        assert schedule.next() == again
        assert due(schedule, 20) == ["a"]
        assert due(schedule, 20) == []


def test_popped_key_can_be_set_again():
    """A key that was due can be set for another time."""
    schedule = Schedule()
    schedule.set("a", at(10))
    due(schedule, 10)
    schedule.set("a", at(20))
    assert schedule.next() == 20


def test_equals_a_plain_dictionary():
    """Whatever is set and cleared in whatever order, the schedule knows what a dictionary would."""
    rng = random.Random(7)
    schedule, model = Schedule(), {}
    for _ in range(5000):
        key, moment = rng.randrange(20), at(rng.randrange(1000))
        match rng.randrange(5):
            case 0:
                schedule.clear(key)
                model.pop(key, None)
            case 1:
                until = at(rng.randrange(1000))
                taken = schedule.pop_due(until)
                assert [deadline for _, deadline in taken] == sorted(deadline for _, deadline in taken)
                assert dict(taken) == {one: deadline for one, deadline in model.items() if deadline <= until}
                for one, _ in taken:
                    del model[one]
            case _:
                schedule.set(key, moment)
                model[key] = moment
        assert schedule.next() == min(model.values(), default=None)
