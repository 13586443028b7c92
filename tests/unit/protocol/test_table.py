"""The state machine is a closed table: every pair is there, and every row of an election is reached."""

import itertools

import pytest

from carp.protocol.actions import Reason
from carp.protocol.packet import BOW_OUT
from carp.protocol.table import GUARDS, TABLE, Effect, Guard, Heard, Input, Preference, Standing, choose
from carp.protocol.values import State

PAIRS = list(itertools.product(State, Input))
ROWS = [(pair, row) for pair, rows in TABLE.items() for row in rows]


def standing(advbase=1, interval=1000, patience=3000, demote=0, *, preempt=False, hears_bow_out=True, reasserts=True):
    """Describe this host."""
    return Standing(advbase, interval, patience, demote, preempt, hears_bow_out, reasserts)


def heard(interval=1000, demote=0, *, bow_out=False, preference=Preference.HERE):
    """Describe the other host."""
    return Heard(interval, demote, bow_out, preference)


def test_every_pair_is_present():
    """All pairs of state and input have rows, and nothing else has."""
    assert set(TABLE) == set(PAIRS)


@pytest.mark.parametrize(("state", "input_"), PAIRS, ids=str)
def test_last_row_is_unconditional(state, input_):
    """The last row of each pair always holds, so that something is always chosen; no earlier one does."""
    *before, last = TABLE[state, input_]
    assert last.guard is Guard.ALWAYS
    assert all(row.guard is not Guard.ALWAYS for row in before)


@pytest.mark.parametrize(("pair", "row"), ROWS, ids=lambda value: getattr(getattr(value, "guard", None), "name", ""))
def test_a_reason_goes_with_each_change(pair, row):
    """A row that changes the state says why; one that does not has no reason."""
    state, _ = pair
    assert (row.next is not state) == (row.reason is not None)


@pytest.mark.parametrize(("pair", "row"), ROWS, ids=lambda value: getattr(getattr(value, "guard", None), "name", ""))
def test_addresses_follow_the_state(pair, row):
    """Becoming MASTER advertises, takes the addresses and arms the timer; leaving it stops the timers and releases.

    From a MASTER that lives they are taken once it had time to yield, and no advertisement opens the fence before.
    """
    state, input_ = pair
    if row.next is State.MASTER and state is not State.MASTER:
        lives = input_ is Input.ADVERTISEMENT and row.guard is not Guard.BOWS_OUT
        first = (Effect.WAIT_FOR_YIELD, Effect.ADVERTISE) if lives else (Effect.ADVERTISE, Effect.PREPARE_AND_TAKE)
        assert row.effects == (Effect.DISARM, *first, Effect.ARM_ADVERTISE)
    if state is State.MASTER and row.next is not State.MASTER:
        assert row.effects[0] is Effect.DISARM
        assert Effect.RELEASE in row.effects
    if row.next is State.BACKUP and state is not State.BACKUP:
        assert {Effect.ARM_MASTER_DOWN, Effect.ARM_MASTER_DOWN_WITH_JITTER} & set(row.effects)


def test_init_is_left_for_backup_only():
    """From INIT the only way leads to BACKUP."""
    ways = {row.next for (state, _), row in ROWS if state is State.INIT}
    assert ways == {State.INIT, State.BACKUP}


def test_every_guard_and_effect_is_used():
    """The table has no word that it does not use."""
    assert {row.guard for _, row in ROWS} == set(Guard) == set(GUARDS)
    assert {effect for _, row in ROWS for effect in row.effects} == set(Effect)
    assert {row.reason for _, row in ROWS if row.reason is not None} == set(Reason)


OFFERS = [
    Standing(advbase, advbase * 1000 + skew, 3 * advbase * 1000 + skew, demote, *switches)
    for advbase, skew in ((0, 0), (0, 5), (1, 0), (1, 100))
    for demote in (0, 1)
    for switches in itertools.product((False, True), repeat=5)
]
ANSWERS = [
    Heard(interval, demote, bow_out, preference)
    for interval, bow_out in ((0, False), (5, False), (1000, False), (1100, False), (9000, False), (BOW_OUT * 1001, True))
    for demote in (0, 1, 255)
    for preference in Preference
]


@pytest.mark.parametrize("state", [State.BACKUP, State.MASTER])
def test_every_row_of_an_election_can_be_reached(state):
    """No row stands behind another that always holds first."""
    chosen = {choose(state, Input.ADVERTISEMENT, own, other) for own in OFFERS for other in ANSWERS}
    assert chosen == set(TABLE[state, Input.ADVERTISEMENT])


def test_two_masters_never_both_stay_nor_both_yield():
    """Of two MASTERs that hear each other exactly one yields, if the tie between them can be told."""
    opposite = {Preference.HERE: Preference.THERE, Preference.THERE: Preference.HERE}
    for (one, two), preference in itertools.product(itertools.product(OFFERS, repeat=2), opposite):
        first = choose(State.MASTER, Input.ADVERTISEMENT, one, heard(two.interval_ns, two.demote, preference=preference))
        second = choose(
            State.MASTER, Input.ADVERTISEMENT, two, heard(one.interval_ns, one.demote, preference=opposite[preference])
        )
        assert {first.next, second.next} == {State.MASTER, State.BACKUP}


def test_a_host_that_yields_does_not_promote_at_the_same_advertisement():
    """What makes a MASTER yield does not make a BACKUP with the same settings take over, unless the sender is too slow."""
    for own, other in itertools.product(OFFERS, ANSWERS):
        if own.advbase and own.patience_ns < other.interval_ns:
            continue
        yields = choose(State.MASTER, Input.ADVERTISEMENT, own, other).next is State.BACKUP
        promotes = choose(State.BACKUP, Input.ADVERTISEMENT, own, other).next is State.MASTER
        assert not (yields and promotes)


class TestGuards:
    def test_bow_out_needs_an_ear(self):
        """A bow-out counts as one only for a host whose dialect hears it at its advbase."""
        assert GUARDS[Guard.BOWS_OUT](standing(), heard(bow_out=True))
        assert not GUARDS[Guard.BOWS_OUT](standing(hears_bow_out=False), heard(bow_out=True))

    def test_will_time_out_needs_advbase(self):
        """With advbase 0 no MASTER is too slow to wait for."""
        assert GUARDS[Guard.MASTER_WILL_TIME_OUT](standing(), heard(3001))
        assert not GUARDS[Guard.MASTER_WILL_TIME_OUT](standing(), heard(3000))
        assert not GUARDS[Guard.MASTER_WILL_TIME_OUT](standing(advbase=0), heard(3001))

    @pytest.mark.parametrize("demote", [0, 1, 2])
    def test_preempting_respects_demotion(self, demote):
        """A faster host preempts a MASTER that is demoted as much or more."""
        assert GUARDS[Guard.PREEMPTS](standing(preempt=True, demote=1), heard(1001, demote)) == (demote >= 1)

    def test_an_equal_is_never_preempted(self):
        """Preempting needs a strictly shorter interval."""
        assert not GUARDS[Guard.PREEMPTS](standing(preempt=True), heard(1000))
