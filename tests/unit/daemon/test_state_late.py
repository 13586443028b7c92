"""A takeover without conntrackd: the states that the peer has sent are committed when it is there, once, and that is told."""

import logging
import re

import pytest
from sync_kit import House, housed

from carp.daemon.chronicle import logger
from carp.protocol.values import State

AFTER = ["COMMIT", "FLUSH", "RESYNC", "BULK_UPDATE"]


async def take_over_without(house: House, *, hangs: bool = False) -> None:
    """Let carp0 be MASTER while conntrackd is dead, or hangs; forget what it was asked."""
    await house.synchronise()
    house.conntrackd.dead, house.conntrackd.hangs = not hangs, hangs
    house.force(State.MASTER)
    await house.wait_for(lambda: house.taken)
    await house.pass_time(20)
    assert house.sync.describe()["last_takeover"]["committed"] is False
    house.conntrackd.words()


def begin_anew(house: House, *, hangs: bool = False) -> None:
    """Start conntrackd, or let it go on."""
    if not hangs:
        house.conntrackd.restart()
    house.conntrackd.hangs = False


@pytest.mark.parametrize("hangs", [False, True])
def test_it_is_made_up_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool) -> None:
    """The states of the peer are committed, once, and asked for before by one that has none; log and status tell of it."""

    async def scenario(house: House) -> None:
        await take_over_without(house, hangs=hangs)
        with caplog.at_level(logging.INFO, logger.name):
            caplog.clear()
            begin_anew(house, hangs=hangs)
            assert await house.wait_for(lambda: house.sync.describe()["last_takeover"]["late_at"]) < 5
            await house.pass_time(5)
            assert house.conntrackd.words() == ["BULK_UPDATE", *([] if hangs else ["ASK_PEER"]), *AFTER]
            await house.pass_time(100)
        assert house.conntrackd.words() == []
        last = house.sync.describe()["last_takeover"]
        assert (last["committed"], last["states"], bool(last["problem"])) == (False, 500, True)
        told = [one.getMessage() for one in caplog.records if "late" in one.getMessage()]
        assert len(told) == 1
        assert re.fullmatch(r"state sync: 500 states of the peer are in the kernel late, 2\d\.\d s after the takeover", told[0])
        assert last["late_at"] >= last["at"]

    housed(monkeypatch, scenario)


def test_what_has_come_before_the_peer_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """An axe takes the carrier of the link, too: a conntrackd that hung and goes on has all that there is."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.hangs, house.link_is_up, house.conntrackd.peer = True, False, False
        house.force(State.MASTER)
        await house.wait_for(lambda: house.taken)
        await house.pass_time(20)
        house.conntrackd.words()
        house.conntrackd.hangs = False
        assert await house.wait_for(lambda: house.sync.describe()["last_takeover"]["late_at"]) < 3
        await house.pass_time(20)
        assert house.conntrackd.words() == AFTER
        assert house.sync.describe()["last_takeover"]["states"] == 500

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("peer", [True, False])
def test_nothing_to_make_up_for(monkeypatch: pytest.MonkeyPatch, peer: bool) -> None:
    """A peer that has none, or is gone, is asked no longer than bulk-timeout; nothing is committed and nothing said."""

    async def scenario(house: House) -> None:
        await take_over_without(house)
        house.conntrackd.peer, house.conntrackd.peer_states = peer, 0
        house.conntrackd.restart()
        await house.pass_time(15)
        assert set(house.conntrackd.words()) == {"BULK_UPDATE", "ASK_PEER"}
        await house.pass_time(100)
        assert house.conntrackd.words() == []
        last = house.sync.describe()["last_takeover"]
        assert (last["states"], last["late_at"]) == (None, None)

    housed(monkeypatch, scenario)


def test_who_serves_no_more_has_nothing_to_make_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its states are those of the new MASTER; and its next takeover is one of its own."""

    async def scenario(house: House) -> None:
        await take_over_without(house)
        house.force(State.BACKUP)
        house.conntrackd.restart()
        await house.wait_for(lambda: house.synchronised)
        await house.pass_time(10)
        assert "COMMIT" not in house.conntrackd.words()
        house.force(State.MASTER)
        await house.pass_time(10)
        assert house.conntrackd.words().count("ASK_PEER") == 0
        last = house.sync.describe()["last_takeover"]
        assert (last["committed"], last["problem"], last["states"], last["late_at"]) == (True, "", 500, None)

    housed(monkeypatch, scenario)


def test_a_reign_that_ends_while_it_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The states that were on their way are not committed beside a new MASTER."""

    async def scenario(house: House) -> None:
        await take_over_without(house)
        house.conntrackd.restart()
        await house.wait_for(lambda: "ASK_PEER" in (word for _, word in house.conntrackd.asked))
        house.force(State.BACKUP)
        await house.pass_time(20)
        assert "COMMIT" not in house.conntrackd.words()
        assert house.synchronised

    housed(monkeypatch, scenario)


def test_an_answer_that_was_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that went on within a few seconds: told in the same way."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.hangs = True
        house.force(State.MASTER)
        await house.wait_for(lambda: house.taken)
        house.conntrackd.hangs = False
        await house.pass_time(20)
        last = house.sync.describe()["last_takeover"]
        assert (last["committed"], last["states"]) == (False, 500)
        assert last["problem"] == "does not answer within the timeout of 2 s"
        assert last["late_at"] >= last["at"]

    housed(monkeypatch, scenario)
