"""The peer's states are written into the kernel: in which order, how long that may take, and what is done after it."""

import asyncio
import logging
import re
from dataclasses import replace

import pytest
from sync_kit import SYNC, House, VirtualLoop, housed

from carp.daemon.chronicle import logger
from carp.daemon.state_commit import Commit
from carp.linux.conntrackd import ConntrackdLateError, Request
from carp.protocol.values import Instant
from carp.testing.clock import seconds

BEFORE = ["COMMIT", "FLUSH", "RESYNC"]
AFTER = ["COMMIT", "RESYNC", "BULK_UPDATE"]


def soon(timeout_s: float = 2.0) -> Instant:
    """Return the instant in so many seconds."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return Instant(loop.now_ns + seconds(timeout_s))


def test_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit, flush, resync, each when the one before it is over."""

    async def scenario(house: House) -> None:
        house.conntrackd.takes_s = {Request.COMMIT: 0.4, Request.FLUSH: 0.03, Request.RESYNC: 0.2}
        began = house.conntrackd.now_ms()
        await Commit().run(SYNC, soon())
        assert house.conntrackd.asked == [(0, "COMMIT"), (400, "FLUSH"), (430, "RESYNC")]
        assert house.conntrackd.now_ms() - began == 630
        assert house.conntrackd.paths == {SYNC.socket}

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("slow", [Request.COMMIT, Request.FLUSH, Request.RESYNC])
def test_all_of_it_has_one_deadline(monkeypatch: pytest.MonkeyPatch, slow: Request, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever takes too long, and what came before it is taken off; after the commit the states are in the kernel."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.takes_s = dict.fromkeys((Request.COMMIT, Request.FLUSH, Request.RESYNC), 0.4) | {slow: 9}
        problem = await commit.run(SYNC, soon(1.5))
        assert 1500 <= house.conntrackd.now_ms() <= 1502
        assert problem == ("does not answer within the timeout of 1.5 s" if slow is Request.COMMIT else "")
        told = commit.describe()
        assert told is not None
        assert (told["committed"], told["problem"]) == (not problem, problem)
        if slow is not Request.COMMIT:
            assert [one.levelname for one in caplog.records] == ["WARNING"]
            assert "does not answer within the timeout of 1.5 s" in caplog.text

    housed(monkeypatch, scenario)


@pytest.mark.parametrize(("timeout_ms", "takes_ms"), [(2000, 200), (100, 100)])
def test_one_that_did_not_answer_gets_little_time(monkeypatch: pytest.MonkeyPatch, timeout_ms: int, takes_ms: int) -> None:
    """200 ms, or less if that is all there is."""

    async def scenario(house: House) -> None:
        house.conntrackd.hangs = True
        await Commit().run(SYNC, soon(timeout_ms / 1000), is_broken=True)
        assert takes_ms <= house.conntrackd.now_ms() <= takes_ms + 2

    housed(monkeypatch, scenario)


def test_one_that_answers_again_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What did not answer a moment ago may do so now."""

    async def scenario(house: House) -> None:
        await Commit().run(SYNC, soon(), is_broken=True)
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_a_failure_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with what is the matter."""

    async def scenario(house: House) -> None:
        house.conntrackd.dead = True
        commit = Commit()
        problem = f"cannot be asked at {SYNC.socket}: Connection refused"
        assert await commit.run(SYNC, soon()) == problem
        assert house.conntrackd.asked == [(0, "COMMIT")]
        assert house.conntrackd.now_ms() == 0
        told = commit.describe()
        assert told is not None
        assert (told["committed"], told["problem"]) == (False, problem)

    housed(monkeypatch, scenario)


def test_one_that_was_killed_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end looks like the end of the commit, but nobody is there after it."""

    async def scenario(house: House) -> None:
        house.conntrackd.takes_s = {Request.COMMIT: 1.0}
        running = asyncio.ensure_future(Commit().run(SYNC, soon(), pid=house.conntrackd.pid))
        await asyncio.sleep(0.5)
        house.conntrackd.dead = True
        assert "Connection refused" in await running

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("pid", [None, 100])
def test_one_that_began_anew_has_nothing_to_commit(monkeypatch: pytest.MonkeyPatch, pid: int | None) -> None:
    """Its answer does not count, where another one was seen to have the states; it is brought in step with the kernel."""

    async def scenario(house: House) -> None:
        house.conntrackd.restart()
        problem = await Commit().run(SYNC, soon(), pid=pid)
        assert problem == ("" if pid is None else "has begun anew, and had no states of the peer")
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_one_that_only_counts_commits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it says yes to everything, as whatever only closes does."""

    async def scenario(house: House) -> None:
        async def say_yes(_path: str, _request: Request, _timeout_s: float | None) -> tuple[str, int]:
            return "", 1

        monkeypatch.setattr("carp.linux.conntrackd.ask", say_yes)
        commit = Commit()
        assert "does not synchronise" in await commit.run(SYNC, soon())
        assert not commit.is_unfinished

    housed(monkeypatch, scenario)


def test_a_commit_under_way_is_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one waits for it, or says that it is late; conntrackd itself would say at once that all is well."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.external = 500
        house.conntrackd.takes_s = {Request.COMMIT: 3.0}
        assert await commit.run(SYNC, soon(1)) == "does not answer within the timeout of 1 s"
        assert await commit.run(SYNC, soon(1)) == "does not answer within the timeout of 1 s"
        assert house.conntrackd.kernel == 0
        house.conntrackd.takes_s = {}
        assert await commit.run(SYNC, soon(2)) == ""
        assert (house.conntrackd.kernel, house.conntrackd.now_ms()) == (500, 3000)
        assert house.conntrackd.words() == ["COMMIT", "COMMIT"]

    housed(monkeypatch, scenario)


def test_what_follows_waits_for_a_commit_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: conntrackd refuses to flush meanwhile, and the peer would get a part."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.hangs = True
        await commit.run(SYNC, soon(1))
        following = asyncio.ensure_future(commit.follow_up(SYNC))
        await house.pass_time(100)
        assert house.conntrackd.words() == ["COMMIT"]
        house.conntrackd.hangs = False
        await following
        assert house.conntrackd.words() == ["COMMIT", "FLUSH", "RESYNC", "BULK_UPDATE"]
        assert not commit.is_unfinished

    housed(monkeypatch, scenario)


def test_another_conntrackd_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload may name one while the former is at work."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.hangs = True
        await commit.run(SYNC, soon(1))
        await commit.run(replace(SYNC, socket="/run/other.sock"), soon(1))
        assert house.conntrackd.paths == {SYNC.socket, "/run/other.sock"}

    housed(monkeypatch, scenario)


def test_one_that_takes_no_connection_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs, and may go on: the rest is made up for then."""

    async def scenario(house: House) -> None:
        async def full(_path: str, _request: Request, _timeout_s: float | None) -> tuple[str, int]:
            raise ConntrackdLateError("does not take connections any more")

        commit = Commit()
        with monkeypatch.context() as patch:
            patch.setattr("carp.linux.conntrackd.ask", full)
            assert await commit.run(SYNC, soon()) == "does not take connections any more"
        assert commit.is_unfinished
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == ["COMMIT", "FLUSH", "RESYNC", "BULK_UPDATE"]

    housed(monkeypatch, scenario)


def test_a_run_may_be_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """To an earlier end, and never to a later one; afterwards it means nothing."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.hangs = True
        running = asyncio.ensure_future(commit.run(SYNC, soon(60)))
        await asyncio.sleep(1)
        commit.hurry(soon(2))
        commit.hurry(soon(9))
        assert await running == "does not answer within the timeout of 3 s"
        commit.hurry(soon(1))

    housed(monkeypatch, scenario)


def test_what_came_of_the_last_one(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When, how long it took, and that it was done; nothing before the first."""

    async def scenario(house: House) -> None:
        house.conntrackd.takes_s = {Request.COMMIT: 0.25, Request.FLUSH: 0.0, Request.RESYNC: 0.05}
        house.conntrackd.external = 645
        commit = Commit()
        assert commit.describe() is None
        with caplog.at_level(logging.INFO, logger.name):
            await commit.run(SYNC, soon())
        told = commit.describe()
        assert told is not None
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("at"))
        assert told == {"took_ms": 300.1, "committed": True, "problem": "", "states": 645, "late_at": None}
        assert [one.getMessage() for one in caplog.records] == [
            "state sync: 645 states of the peer are in the kernel after 300.1 ms; the addresses follow"
        ]

    housed(monkeypatch, scenario)


def test_nothing_to_commit(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is not said that states are in the kernel when there are none."""

    async def scenario(house: House) -> None:
        commit = Commit()
        with caplog.at_level(logging.INFO, logger.name):
            await commit.run(SYNC, soon())
        (record,) = caplog.records
        assert record.getMessage() == (
            "state sync: no states of the peer were waiting to be written into the kernel; the addresses follow"
        )
        told = commit.describe()
        assert told is not None
        assert (told["committed"], told["states"]) == (True, 0)

    housed(monkeypatch, scenario)


def test_all_states_of_a_takeover_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came since are added to those of the commit before; a takeover after that counts anew."""

    async def scenario(house: House) -> None:
        commit = Commit()
        for external, states in ((600, 600), (45, 645), (0, 645)):
            house.conntrackd.external = external
            await commit.run(SYNC, soon())
            assert (commit.describe() or {})["states"] == states
        await commit.follow_up(SYNC)
        house.conntrackd.external = 7
        await commit.run(SYNC, soon())
        assert (commit.describe() or {})["states"] == 7

    housed(monkeypatch, scenario)


def test_right_after_another_only_what_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush and a resync in the middle of what the first one began would lose states."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, soon())
        await commit.run(SYNC, soon())
        assert house.conntrackd.words() == [*BEFORE, "COMMIT"]

    housed(monkeypatch, scenario)


def test_after_one_that_failed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next takeover begins anew."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.dead = True
        await commit.run(SYNC, soon())
        house.conntrackd.dead = False
        house.conntrackd.words()
        await commit.run(SYNC, soon())
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the addresses are live: what came since, and a copy of everything for the peer, after the kernel's events."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, soon())
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
        await commit.run(SYNC, soon())
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
            await commit.run(SYNC, soon())
            await commit.follow_up(SYNC)
            assert house.conntrackd.words() == [*BEFORE, *AFTER]

    housed(monkeypatch, scenario)


def test_only_the_last_of_several_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they are one takeover, with one copy for the peer."""

    async def scenario(house: House) -> None:
        commit = Commit()
        follow_ups = []
        for _ in range(3):
            await commit.run(SYNC, soon())
            follow_ups.append(asyncio.ensure_future(commit.follow_up(SYNC)))
            await asyncio.sleep(0.2)
        await asyncio.gather(*follow_ups)
        assert house.conntrackd.words() == [*BEFORE, "COMMIT", "COMMIT", *AFTER]

    housed(monkeypatch, scenario)


def test_a_takeover_in_the_middle_of_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came since is committed, and the peer's last copy is made after it."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, soon())
        first = asyncio.ensure_future(commit.follow_up(SYNC))
        await asyncio.sleep(0.6)  # COMMIT was asked, and events are waited for
        house.conntrackd.words()
        await commit.run(SYNC, soon())
        assert house.conntrackd.words() == ["COMMIT"]
        await asyncio.gather(first, commit.follow_up(SYNC))
        assert house.conntrackd.words() == AFTER
        await commit.run(SYNC, soon())
        assert house.conntrackd.words() == BEFORE

    housed(monkeypatch, scenario)


def test_nothing_follows_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to copy."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.dead = True
        await commit.run(SYNC, soon())
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
        await commit.run(SYNC, soon())
        assert commit.is_unfinished
        house.conntrackd.takes_s = {}
        await commit.run(SYNC, soon())
        house.conntrackd.words()
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == ["COMMIT", "FLUSH", "RESYNC", "BULK_UPDATE"]
        await commit.run(SYNC, soon())
        await commit.follow_up(SYNC)
        assert house.conntrackd.words() == [*BEFORE, *AFTER]

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("broken", [Request.RUNTIME, Request.RESYNC, Request.BULK_UPDATE])
def test_one_that_hangs_while_it_follows(monkeypatch: pytest.MonkeyPatch, broken: Request) -> None:
    """Gets the requests again until it has answered all of them."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, soon())
        house.conntrackd.takes_s = {broken: 3600}
        following = asyncio.ensure_future(commit.follow_up(SYNC))
        await house.pass_time(30)
        assert commit.is_unfinished
        assert not following.done()
        house.conntrackd.takes_s = {}
        await house.pass_time(6)
        house.conntrackd.words()
        await following
        assert not commit.is_unfinished
        assert [*house.conntrackd.words()][-3:] in (AFTER, [])

    housed(monkeypatch, scenario)


def test_a_second_one_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not told as late, though the one before it was, and is completed with it."""

    async def scenario(house: House) -> None:
        house.conntrackd.external = 645
        commit = Commit()
        house.conntrackd.takes_s = {Request.COMMIT: 9}
        await commit.run(SYNC, soon())
        house.conntrackd.takes_s = {}
        await commit.run(SYNC, soon(10))
        await commit.follow_up(SYNC)
        told = commit.describe() or {}
        assert (told["committed"], told["states"], told["late_at"]) == (True, 645, None)

    housed(monkeypatch, scenario)


def test_who_serves_no_more_owes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missed is the new MASTER's business."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.dead = True
        await commit.run(SYNC, soon())
        assert commit.is_owed
        commit.abandon()
        assert not commit.is_owed

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("late", [False, True])
def test_one_that_begins_anew_before_the_rest(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """Commits nothing by itself: the states are owed if they were not in the kernel in time, and are live there otherwise."""

    async def scenario(house: House) -> None:
        commit = Commit()
        house.conntrackd.takes_s = {Request.COMMIT: 9} if late else {}
        await commit.run(SYNC, soon(1), pid=house.conntrackd.pid)
        house.conntrackd.restart()
        house.conntrackd.words()
        await commit.follow_up(SYNC)
        assert (commit.is_unfinished, commit.is_owed) == (False, late)
        assert house.conntrackd.words() == []

    housed(monkeypatch, scenario)


def test_a_newer_run_is_not_ended_by_what_followed_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though conntrackd has begun anew between them."""

    async def scenario(house: House) -> None:
        commit = Commit()
        await commit.run(SYNC, soon(1), pid=house.conntrackd.pid)
        house.conntrackd.restart()
        house.conntrackd.takes_s = {Request.STATISTICS: 3}
        following = asyncio.ensure_future(commit.follow_up(SYNC))
        await house.wait_for(lambda: len(house.conntrackd.looks) > 1)
        house.conntrackd.takes_s = {}
        await commit.run(SYNC, soon(1))
        await following
        assert commit.is_unfinished

    housed(monkeypatch, scenario)
