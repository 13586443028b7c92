"""The reasons why a host should not be MASTER, and the number they add up to."""

import pytest

from carp.protocol.demotion import Demotion, Demotions
from carp.protocol.values import Instant

CARP = ("carp",)


def reason(name="link", amount=1, groups=CARP, until=None):
    """Make a reason."""
    return Demotion(name, amount, frozenset(groups), "test", Instant(0), None if until is None else Instant(until))


def holding(*reasons):
    """Make demotions in which these reasons hold."""
    demotions = Demotions()
    for one in reasons:
        demotions.add(one)
    return demotions


def test_no_reason_is_no_demotion():
    """Without a reason the demote count is 0."""
    assert Demotions().count(CARP) == 0


def test_reasons_add_up():
    """The demote count is the sum of the amounts."""
    assert holding(reason("a", 1), reason("b", 32)).count(CARP) == 33


@pytest.mark.parametrize(("amounts", "count"), [((200, 100), 255), ((255, 1), 255), ((-5,), 0), ((10, -3), 7)])
def test_count_stays_in_the_byte(amounts, count):
    """The count is 0..255 whatever the reasons add up to."""
    assert holding(*(reason(str(number), amount) for number, amount in enumerate(amounts))).count(CARP) == count


def test_same_name_is_one_reason():
    """A reason that begins again replaces itself; its two ends cannot be lost apart."""
    assert holding(reason("a", 1), reason("a", 5)).count(CARP) == 5


def test_reason_ends_once():
    """Ending a reason takes its whole amount away; ending what does not hold does nothing."""
    demotions = holding(reason("a", 7))
    assert demotions.remove("a") is True
    assert demotions.remove("a") is False
    assert demotions.count(CARP) == 0


def test_reason_demotes_its_groups_only():
    """An interface is demoted by the groups it is in, and no others."""
    demotions = holding(reason("a", 2, ("web",)), reason("b", 3, ("carp",)))
    assert demotions.count(("web",)) == 2
    assert demotions.count(("mail",)) == 0
    assert [one.name for one in demotions.walk(("web",))] == ["a"]


def test_each_group_counts():
    """The count sums over all groups of the interface, so a reason that demotes two of them counts twice."""
    demotions = holding(reason("a", 2, ("carp", "web")), reason("b", 1, ("carp",)))
    assert demotions.count(("carp", "web")) == 5


def test_reason_expires():
    """A reason with an end is over at that moment; others stay."""
    demotions = holding(reason("a", 1, until=10), reason("b", 2))
    assert demotions.next_expiry() == 10
    assert demotions.expire(Instant(9)) is False
    assert demotions.expire(Instant(10)) is True
    assert (demotions.count(CARP), demotions.next_expiry()) == (2, None)


def test_next_expiry_is_the_earliest():
    """The next moment to look is when the first reason ends."""
    assert holding(reason("a", 1, until=30), reason("b", 1, until=20), reason("c")).next_expiry() == 20


def test_changes_are_counted():
    """Who remembers `changes` can tell whether to count again."""
    demotions = holding(reason("a"))
    before = demotions.changes
    demotions.remove("nothing")
    assert demotions.changes == before
    demotions.remove("a")
    assert demotions.changes != before


def test_reasons_are_listed_in_order():
    """Reasons are walked in the order in which they began."""
    assert [one.name for one in holding(reason("b"), reason("a"))] == ["b", "a"]
