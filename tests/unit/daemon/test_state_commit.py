"""The peer's states are written into the kernel: in which order, how long that may take, and what is done after it."""

import asyncio
import logging
import re
from dataclasses import replace

import pytest
from sync_kit import SYNC, House, housed

from carp.daemon.chronicle import logger
from carp.daemon.state_commit import Commit
from carp.linux.conntrackd import Request
from carp.testing.clock import milliseconds, seconds

BEFORE = ["COMMIT", "FLUSH", "RESYNC"]
AFTER = ["COMMIT", "RESYNC", "BULK_UPDATE"]


def test_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit, flush, resync, each when the one before it is over."""

    async def scenario(house: House) -> None:
        house.conntrackd.takes_s = {Request.COMMIT: 0.4, Request.FLUSH: 0.03, Request.RESYNC: 0.2}
        began = house.conntrackd.now_ms()
        await Commit().run(SYNC, is_broken=False)
        assert house.conntrackd.asked == [(0, "COMMIT"), (400, "FLUSH"), (430, "RESYNC")]
        assert house.conntrackd.now_ms() - began == 630
        assert house.conntrackd.paths == {SYNC.socket}

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("slow", [Request.COMMIT, Request.FLUSH, Request.RESYNC])
def test_all_of_it_has_one_deadline(monkeypatch: pytest.MonkeyPatch, slow: Request) -> None:
    """Whichever takes too long, and what came before it is taken off."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.takes_s = dict.fromkeys((Request.COMMIT, Request.FLUSH, Request.RESYNC), 0.4) | {slow: 9}
        await commit.run(replace(SYNC, timeout_ns=milliseconds(1500)), is_broken=False)
        assert 1500 <= house.conntrackd.now_ms() <= 1502
        told = commit.describe()
        assert told is not None
        assert not told["committed"]
        assert "does not answer within" in told["problem"]

    housed(monkeypatch, scenario)


@pytest.mark.parametrize(("timeout_ms", "takes_ms"), [(2000, 200), (100, 100)])
def test_one_that_did_not_answer_gets_little_time(monkeypatch: pytest.MonkeyPatch, timeout_ms: int, takes_ms: int) -> None:
    """200 ms, or less if that is all there is."""

    async def scenario(house: House) -> None:
        house.conntrackd.hangs = True
        await Commit().run(replace(SYNC, timeout_ns=milliseconds(timeout_ms)), is_broken=True)
        assert takes_ms <= house.conntrackd.now_ms() <= takes_ms + 2

    housed(monkeypatch, scenario)


def test_one_that_answers_again_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What did not answer a moment ago may do so now."""

    async def scenario(house: House) -> None:
        await Commit().run(SYNC, is_broken=True)
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_a_failure_ends_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """At once, and it is told loudly: connections may break."""

    async def scenario(house: House) -> None:
        house.conntrackd.dead = True
        commit = Commit()
        with caplog.at_level(logging.INFO, logger.name):
            await commit.run(SYNC, is_broken=False)
        assert house.conntrackd.asked == [(0, "COMMIT")]
        assert house.conntrackd.now_ms() == 0
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage() == (
            "state sync: this host takes over without the peer's states: "
            f"conntrackd cannot be asked at {SYNC.socket}: Connection refused"
        )
        told = commit.describe()
        assert told is not None
        assert (told["committed"], told["problem"]) == (False, f"cannot be asked at {SYNC.socket}: Connection refused")

    housed(monkeypatch, scenario)


def test_what_came_of_the_last_one(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When, how long it took, and that it was done; nothing before the first."""

    async def scenario(house: House) -> None:
        house.conntrackd.takes_s = {Request.COMMIT: 0.25, Request.FLUSH: 0.0, Request.RESYNC: 0.05}
        commit = Commit()
        assert commit.describe() is None
        with caplog.at_level(logging.INFO, logger.name):
            await commit.run(SYNC, is_broken=False)
        told = commit.describe()
        assert told is not None
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("at"))
        assert told == {"took_ms": 300.0, "committed": True, "problem": ""}
        assert [one.getMessage() for one in caplog.records] == [
            "state sync: the peer's states are in the kernel after 300.0 ms"
        ]

    housed(monkeypatch, scenario)


def test_right_after_another_only_what_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush and a resync in the middle of what the first one began would lose states."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, is_broken=False)
        await commit.run(SYNC, is_broken=False)
        assert house.conntrackd.words() == [*BEFORE, "COMMIT"]

    housed(monkeypatch, scenario)


def test_after_one_that_failed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next takeover begins anew."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.dead = True
        await commit.run(SYNC, is_broken=False)
        house.conntrackd.dead = False
        house.conntrackd.words()
        await commit.run(SYNC, is_broken=False)
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the addresses are live: what came since, and a copy of everything for the peer, after the kernel's events."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, is_broken=False)
        house.conntrackd.asked.clear()
        house.conntrackd.events = [100, 4000, 9000, 9000, 9001]
        began = house.conntrackd.now_ms()
        await commit.follow_up(SYNC)
        times, words = zip(*house.conntrackd.asked, strict=True)
        assert list(words) == AFTER
        assert times[0] - began == pytest.approx(300, abs=2)
        assert times[1] - times[0] == pytest.approx(4 * 250, abs=2)
        assert house.conntrackd.events == [9001]

    housed(monkeypatch, scenario)


def test_events_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy firewall has always new ones: the peer gets its copy all the same, after ten seconds."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, is_broken=False)
        house.conntrackd.words()
        house.conntrackd.events = list(range(1000))
        began = house.conntrackd.now_ms()
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == AFTER
        assert house.conntrackd.now_ms() - began == pytest.approx(300 + 10_000, abs=20)

    housed(monkeypatch, scenario)


def test_a_takeover_after_that_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything."""

    async def scenario(house: House) -> None:
        commit = Commit()
        for _ in range(2):
            await commit.run(SYNC, is_broken=False)
            await commit.follow_up(SYNC)
            assert house.conntrackd.words() == [*BEFORE, *AFTER]

    housed(monkeypatch, scenario)


def test_only_the_last_of_several_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they are one takeover, with one copy for the peer."""

    async def scenario(house: House) -> None:
        commit = Commit()
        follow_ups = []
        for _ in range(3):
            await commit.run(SYNC, is_broken=False)
            follow_ups.append(asyncio.ensure_future(commit.follow_up(SYNC)))
            await asyncio.sleep(0.2)
        await asyncio.gather(*follow_ups)
        assert house.conntrackd.words() == [*BEFORE, "COMMIT", "COMMIT", *AFTER]

    housed(monkeypatch, scenario)


def test_a_takeover_in_the_middle_of_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came since is committed, and the peer's last copy is made after it."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, is_broken=False)
        first = asyncio.ensure_future(commit.follow_up(SYNC))
        await asyncio.sleep(0.6)  # COMMIT was asked, and events are waited for
        house.conntrackd.words()
        await commit.run(SYNC, is_broken=False)
        assert house.conntrackd.words() == ["COMMIT"]
        await asyncio.gather(first, commit.follow_up(SYNC))
        assert house.conntrackd.words()[-3:] == AFTER
        await commit.run(SYNC, is_broken=False)
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_nothing_follows_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to copy."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.dead = True
        await commit.run(SYNC, is_broken=False)
        house.conntrackd.dead = False
        house.conntrackd.words()
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == []

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("slow", BEFORE)
def test_what_takes_too_long_is_completed(monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    """As conntrackd ends it by itself: without the flush old copies would stay, and the peer would have none."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.takes_s = {Request[slow]: 9}
        await commit.run(SYNC, is_broken=False)
        assert commit.is_unfinished
        house.conntrackd.takes_s = {}
        await commit.run(SYNC, is_broken=False)
        house.conntrackd.words()
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == ["COMMIT", "FLUSH", "RESYNC", "BULK_UPDATE"]
        await commit.run(SYNC, is_broken=False)
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == [*BEFORE, *AFTER]

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("broken", [Request.COMMIT, Request.RUNTIME, Request.RESYNC, Request.BULK_UPDATE])
def test_one_that_hangs_while_it_follows(monkeypatch: pytest.MonkeyPatch, broken: Request) -> None:
    """Disturbs nobody, and the next takeover begins anew."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, is_broken=False)
        house.conntrackd.takes_s = {broken: 3600}
        began = house.conntrackd.now_ms()
        await commit.follow_up(SYNC)
        assert house.conntrackd.now_ms() - began < 7000
        house.conntrackd.takes_s = {}
        house.conntrackd.words()
        await commit.run(replace(SYNC, timeout_ns=seconds(1)), is_broken=False)
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)
