"""A takeover waits for the peer's states, and never for long: addresses go live when hook and commit are both over."""

import asyncio
from dataclasses import replace

import pytest
from sync_kit import CARP0, CARP1, OTHER, SYNC, House, housed

from carp.linux.conntrackd import Request
from carp.protocol.events import Event, Prepared
from carp.protocol.parameters import InterfaceParameters, Node
from carp.protocol.values import State
from carp.testing.clock import seconds
from carp.testing.hosts import carp_interface, configured, station_sources
from carp.testing.packets import Peer

BEFORE = ["COMMIT", "FLUSH", "RESYNC"]
AFTER = ["COMMIT", "RESYNC", "BULK_UPDATE"]
CARP2 = carp_interface("carp2", 3, pre_master=True)
SLOW = {Request.COMMIT: 0.5, Request.FLUSH: 0.0, Request.RESYNC: 0.1}


async def takes_over(house: House, *names: str) -> int:
    """Let carp interfaces be MASTER; return how many ms it takes until the last addresses are live."""
    house.taken.clear()
    began = house.conntrackd.now_ms()
    house.force(State.MASTER, *names)
    await house.wait_for(lambda: len(house.taken) == max(1, len(names)))
    return max(house.taken.values()) - began


def follow_up_is_over(house: House) -> bool:
    """Tell whether the peer has got its copy."""
    return "BULK_UPDATE" in {word for _, word in house.conntrackd.asked}


async def has_committed(house: House) -> None:
    """Let carp0 begin to preempt, and wait until it is ready to."""
    house.hear(Peer(advskew=100))
    await house.wait_for(lambda: [word for _, word in house.conntrackd.asked] == BEFORE)


@pytest.mark.parametrize(("hook_s", "takes_ms"), [(0, 600), (0.3, 600), (0.9, 900)])
def test_a_stage_waits_for_both(monkeypatch: pytest.MonkeyPatch, hook_s: float, takes_ms: int) -> None:
    """For the hook and for the states, whichever is later."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.hook_takes_s, house.conntrackd.takes_s = hook_s, SLOW
        assert await takes_over(house) == pytest.approx(takes_ms, abs=2)

    housed(monkeypatch, scenario)


def test_the_states_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """When addresses go live they are in the kernel; the peer gets its copy after that."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        await takes_over(house)
        assert house.conntrackd.words() == BEFORE
        assert house.demotions == []
        await house.wait_for(lambda: follow_up_is_over(house))
        assert house.conntrackd.words() == AFTER

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("step", [Request.COMMIT, Request.FLUSH, Request.RESYNC])
def test_one_that_hangs(monkeypatch: pytest.MonkeyPatch, step: Request) -> None:
    """Costs the deadline, and not more."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {step: 3600}
        assert await takes_over(house) == pytest.approx(2000, abs=5)

    housed(monkeypatch, scenario)


def test_one_that_is_known_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs a fifth of a second."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.hangs = True
        await house.wait_for(lambda: house.demotion)
        assert await takes_over(house) == pytest.approx(200, abs=5)

    housed(monkeypatch, scenario)


def test_one_that_is_well_again_gets_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The former trouble is forgotten."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.dead = True
        await house.wait_for(lambda: house.demotion)
        house.conntrackd.restart()
        await house.wait_for(lambda: house.synchronised)
        house.conntrackd.takes_s = SLOW
        assert await takes_over(house) == pytest.approx(600, abs=2)
        assert house.sync.describe()["last_takeover"]["committed"]

    housed(monkeypatch, scenario)


def test_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs nothing, and what came of it is told."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.dead = True
        assert await takes_over(house) <= 2
        told = house.sync.describe()["last_takeover"]
        assert (told["committed"], told["problem"]) == (False, f"cannot be asked at {SYNC.socket}: Connection refused")

    housed(monkeypatch, scenario)


def test_who_has_no_states_takes_over_from_nobody_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A takeover before the states are here waits for nothing but the commit."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        assert await takes_over(house) <= 2
        await house.wait_for(lambda: not house.demotion)

    housed(monkeypatch, scenario)


def test_others_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A carp interface outside of the groups asks nothing of conntrackd."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.hangs = True
        house.hook_takes_s = 0.1
        assert await takes_over(house, "carp9") == pytest.approx(100, abs=2)
        assert house.conntrackd.words() == []

    housed(monkeypatch, scenario, CARP0, OTHER)


def test_without_the_table_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the hook counts."""

    async def scenario(house: House) -> None:
        house.sync.adopt(None)
        house.conntrackd.hangs = True
        house.hook_takes_s = 0.1
        assert await takes_over(house) == pytest.approx(100, abs=2)

    housed(monkeypatch, scenario)


def test_what_begins_meanwhile_gets_what_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for all at once, and once more for those that came meanwhile; the peer gets one copy."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = SLOW
        house.force(State.MASTER)
        await house.wait_for(lambda: house.conntrackd.asked)
        began = house.conntrackd.now_ms()
        house.force(State.MASTER, "carp1", "carp2")
        await house.wait_for(lambda: len(house.taken) == 3)
        assert house.taken == pytest.approx({"carp0": began + 600, "carp1": began + 1100, "carp2": began + 1100}, abs=5)
        await house.wait_for(lambda: follow_up_is_over(house))
        await house.pass_time(5)
        assert house.conntrackd.words() == [*BEFORE, "COMMIT", *AFTER]

    housed(monkeypatch, scenario, CARP0, CARP1, CARP2)


def test_many_in_one_round_wait_for_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses go live with it."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = SLOW
        assert await takes_over(house, "carp0", "carp1") == pytest.approx(600, abs=2)
        assert house.conntrackd.words() == BEFORE
        assert len(set(house.taken.values())) == 1

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_a_stage_that_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of its hook does not end the newer one, which waits for its own commit, and for the one that is under way."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 0.3}
        house.hook_takes_s = 1.0
        house.force(State.MASTER)
        await house.pass_time(0.8)
        house.force(State.BACKUP)
        house.hook_takes_s = 0.1
        assert await takes_over(house) == pytest.approx(100 + 300, abs=5)

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("changed", [None, replace(SYNC, timeout_ns=seconds(60)), replace(SYNC, groups=frozenset({"dmz"}))])
@pytest.mark.parametrize("hook_s", [0.1, 3])
def test_a_reload_in_the_middle(monkeypatch: pytest.MonkeyPatch, changed: object, hook_s: float) -> None:
    """What has begun goes on to its end, whatever the new table says."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 3600}
        house.hook_takes_s = hook_s
        began = house.conntrackd.now_ms()
        house.force(State.MASTER)
        await house.wait_for(lambda: house.conntrackd.asked)
        house.sync.adopt(changed)  # type: ignore[arg-type]
        await house.wait_for(lambda: house.taken)
        assert house.taken["carp0"] - began == pytest.approx(max(2000, hook_s * 1000), abs=5)

    housed(monkeypatch, scenario)


def test_an_interface_that_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins to count its stages anew, and does not wait for what the one before it waited for."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 3600}
        house.force(State.MASTER)
        await house.wait_for(lambda: house.conntrackd.asked)
        house.sync.adopt(None)
        house.handle(configured())
        house.handle(configured(CARP0))
        assert await takes_over(house) <= 2

    housed(monkeypatch, scenario)


def test_takeovers_to_and_fro(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is whole, and in between this host gets the states of the other."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        for _ in range(3):
            await takes_over(house)
            await house.wait_for(lambda: follow_up_is_over(house))
            house.force(State.BACKUP)
            await house.wait_for(lambda: house.reason == "the peer's states are here")
            assert house.conntrackd.words() == [*BEFORE, *AFTER, "ASK_PEER"]
            assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("later_s", [0.05, 0.9])
def test_who_preempts_commits_again_when_it_serves(monkeypatch: pytest.MonkeyPatch, later_s: float) -> None:
    """The old MASTER serves until then: what it has sent is committed, too, and then the peer gets its copy."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        await has_committed(house)
        await house.pass_time(later_s)
        house.hear(Peer(advskew=100, counter=1 << 40))
        live = house.conntrackd.now_ms()
        await house.wait_for(lambda: follow_up_is_over(house))
        assert [at >= live + 299 for at, _ in house.conntrackd.asked[3:]] == [True] * 3
        await house.pass_time(5)
        assert house.conntrackd.words() == [*BEFORE, *AFTER]

    housed(monkeypatch, scenario, preempt=True)


def test_who_was_about_to_preempt_and_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has committed is old, and nothing is left to commit: it asks for everything, and sends nothing to the MASTER."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        await has_committed(house)
        assert house.conntrackd.external == 0
        await house.pass_time(3)
        assert house.conntrackd.words() == BEFORE
        house.hear(Peer(advskew=0, counter=1 << 40, sources=station_sources(200)))
        await house.wait_for(lambda: house.conntrackd.external == house.conntrackd.peer_states)
        await house.pass_time(5)
        assert house.conntrackd.words() == ["ASK_PEER"]
        assert (house.demotions, house.synchronised) == ([1, 0], True)
        await takes_over(house)
        assert house.conntrackd.words() == BEFORE

    interface = replace(CARP0, nodes=(Node(1, 50),))
    housed(monkeypatch, scenario, interface, preempt=True)


@pytest.mark.parametrize("reign_s", [0, 0.1, 0.4])
def test_a_short_reign(monkeypatch: pytest.MonkeyPatch, reign_s: float) -> None:
    """However short it was: nothing follows it, and this host asks for what it has no longer."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 0.05}
        await takes_over(house)
        await house.pass_time(reign_s)
        house.force(State.BACKUP)
        await house.wait_for(lambda: house.conntrackd.external == house.conntrackd.peer_states)
        await house.pass_time(5)
        words = house.conntrackd.words()
        assert words[-1] == "ASK_PEER"
        assert "BULK_UPDATE" not in words

    housed(monkeypatch, scenario)


def test_a_reign_that_ends_in_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit goes on to its end, and after it this host asks for everything."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 1.5}
        house.force(State.MASTER)
        await house.pass_time(0.2)
        house.force(State.BACKUP)
        await house.pass_time(10)
        assert house.taken == {}
        assert house.conntrackd.external == house.conntrackd.peer_states
        words = house.conntrackd.words()
        assert words[-1] == "ASK_PEER"
        assert words.index("RESYNC") < len(words) - 1
        assert "BULK_UPDATE" not in words
        assert house.synchronised

    housed(monkeypatch, scenario)


def test_the_last_one_to_go_live_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of carp interfaces that were prepared together and preempt one after the other; the peer gets one copy."""

    async def scenario(house: House) -> None:
        peers = [Peer.of(one) for one in (CARP0, CARP1)]
        await house.synchronise()
        for peer in peers:
            peer.advskew = 100
            house.hear(peer)
        await house.wait_for(lambda: len(house.conntrackd.asked) == 3)
        await house.pass_time(0.5)
        house.hear(peers[0])
        await house.pass_time(0.2)
        house.hear(peers[1])
        live = house.conntrackd.now_ms()
        await house.wait_for(lambda: follow_up_is_over(house))
        assert house.conntrackd.asked[3][0] >= live + 299
        await house.pass_time(5)
        assert house.conntrackd.words() == [*BEFORE, *AFTER]

    housed(monkeypatch, scenario, CARP0, CARP1, preempt=True)


class Rival:
    """A MASTER that lives and advertises every 1.4 s, until this host replaces it."""

    def __init__(self, house: House, interface: InterfaceParameters = CARP0) -> None:
        self._house, self._name = house, interface.name
        self._peer = Peer.of(interface)
        self._peer.advskew = 100
        self._steps = 0

    async def serve(self, duration_s: float) -> None:
        """Advertise for a while, at once for the first time."""
        for _ in range(round(duration_s / 0.1)):
            if self._house.state(self._name) is State.BACKUP and self._steps % 14 == 0:
                self._house.hear(self._peer)
            self._steps += 1
            await self._house.pass_time(0.1)


@pytest.mark.parametrize("kind", ["dead", "hangs", "slow"])
def test_nobody_is_replaced_without_the_states(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Whatever becomes of the commit, a MASTER that lives stays until the states are in the kernel here, and then goes."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 20 if kind == "slow" else 0.01}
        if kind != "slow":
            setattr(house.conntrackd, kind, True)
        rival = Rival(house)
        await rival.serve(15)
        assert (house.state("carp0"), house.demotion) == (State.BACKUP, 0 if kind == "slow" else 32)
        assert "takes over without" not in caplog.text
        told = "stays BACKUP without the peer's states: conntrackd cannot be asked"
        assert (told in caplog.text) == (kind == "dead")
        if kind == "dead":
            house.conntrackd.restart()
        house.conntrackd.hangs = False
        await rival.serve(20)
        assert house.state("carp0") is State.MASTER
        assert house.conntrackd.kernel == house.conntrackd.peer_states
        assert house.sync.describe()["last_takeover"]["committed"]

    housed(monkeypatch, scenario, preempt=True)


def test_a_conntrackd_that_began_anew_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no states to commit: this host is demoted at once, and takes its place when it has them."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        looks = len(house.conntrackd.looks)
        await house.wait_for(lambda: len(house.conntrackd.looks) > looks)
        await house.pass_time(0.01)
        house.conntrackd.restart()
        rival = Rival(house)
        await rival.serve(0.1)
        assert (len(house.conntrackd.looks), house.demotion) == (looks + 2, 32)
        assert not house.sync.describe()["last_takeover"]["committed"]
        await rival.serve(10)
        assert house.state("carp0") is State.MASTER
        assert house.conntrackd.kernel == house.conntrackd.peer_states

    housed(monkeypatch, scenario, preempt=True)


def test_the_commit_of_one_who_preempts_ends_some_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute: it has no states, and begins anew when it has them."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 3600}
        rival = Rival(house)
        await rival.serve(59)
        assert house.sync.describe()["last_takeover"] is None
        await rival.serve(4)
        assert house.sync.describe()["last_takeover"]["problem"] == "does not answer within the timeout of 60 s"
        assert house.state("carp0") is State.BACKUP
        assert 32 in house.demotions

    housed(monkeypatch, scenario, preempt=True)


def test_a_master_that_dies_while_this_host_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on the stage waits no longer than any other."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: 3600}
        await Rival(house).serve(10)
        assert await takes_over(house) == pytest.approx(2000, abs=5)

    housed(monkeypatch, scenario, preempt=True)


@pytest.mark.parametrize("takes_s", [3600, 1.9])
def test_each_waits_as_long_as_it_may(monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
    """Counted from its own beginning, also where another one was under way then."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.takes_s = {Request.COMMIT: takes_s}
        began = house.conntrackd.now_ms()
        house.force(State.MASTER, "carp0")
        await house.pass_time(0.3)
        house.force(State.MASTER, "carp1")
        await house.wait_for(lambda: len(house.taken) == 2)
        assert house.taken == pytest.approx({"carp0": began + min(takes_s, 2) * 1000, "carp1": began + 2300}, abs=5)

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_an_error_of_ours_stops_no_takeover(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and the addresses go live; so does the next one."""

    async def scenario(house: House) -> None:
        await house.synchronise()

        async def fail(*_: object) -> None:
            raise ZeroDivisionError("an error of ours")

        with monkeypatch.context() as patch:
            patch.setattr("carp.linux.conntrackd.ask", fail)
            assert await takes_over(house) <= 2
        assert "takes over without the peer's states" in caplog.text
        assert [one.exc_info is not None for one in caplog.records if "not made" in one.message] == [True]
        house.force(State.BACKUP)
        await house.wait_for(lambda: house.synchronised)
        await takes_over(house)
        assert house.sync.describe()["last_takeover"]["committed"]

    housed(monkeypatch, scenario)


def test_a_stage_that_nobody_wants_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in whoever is told of its end is not the next takeover's."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        def fail(event: Event) -> None:
            assert not isinstance(event, Prepared)
            house.handle(event)

        with monkeypatch.context() as patch:
            patch.setattr(house.sync._stages, "_handle", fail)
            house.hook_takes_s = 0.0
            house.conntrackd.takes_s = {Request.COMMIT: 0.1}
            house.force(State.MASTER)
            await house.pass_time(1)
        assert house.taken == {}
        house.force(State.BACKUP)
        await house.wait_for(lambda: house.reason == "the peer's states are here")
        assert await takes_over(house) <= 110

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("slow", [Request.COMMIT, Request.FLUSH, Request.RESYNC, Request.BULK_UPDATE])
def test_what_follows_is_made_up_for(monkeypatch: pytest.MonkeyPatch, slow: Request) -> None:
    """A conntrackd that hangs when the addresses are live gets the same requests when it goes on: the peer has its copy."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        await takes_over(house)
        house.conntrackd.takes_s = {slow: 20}
        await house.pass_time(40)
        house.conntrackd.takes_s = {}
        await house.wait_for(lambda: house.conntrackd.asked[-1][1] == "BULK_UPDATE" and house.synchronised)
        await house.pass_time(30)
        assert house.conntrackd.words()[-2:] == ["RESYNC", "BULK_UPDATE"]

    housed(monkeypatch, scenario)


def test_a_takeover_while_conntrackd_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it goes on the commit is made, and all that follows, once."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.hangs = True
        await takes_over(house)
        await house.pass_time(30)
        assert house.conntrackd.words() == ["COMMIT"]
        house.conntrackd.hangs = False
        await house.wait_for(lambda: follow_up_is_over(house))
        await house.pass_time(30)
        assert house.conntrackd.kernel == house.conntrackd.peer_states
        words = [word for word in house.conntrackd.words() if word != "BULK_UPDATE"]
        assert words == ["COMMIT", "FLUSH", "RESYNC"]

    housed(monkeypatch, scenario)


def test_one_goes_live_long_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the old MASTER has sent between is committed, too, and the peer gets its copy once more."""

    async def scenario(house: House) -> None:
        peers = [Peer.of(one) for one in (CARP0, CARP1)]
        await house.synchronise()
        for peer in peers:
            peer.advskew = 100
            house.hear(peer)
        await house.wait_for(lambda: len(house.conntrackd.asked) == 3)
        house.hear(peers[0])
        await house.wait_for(lambda: follow_up_is_over(house))
        await house.pass_time(1)
        house.conntrackd.words()
        house.hear(peers[1])
        live = house.conntrackd.now_ms()
        await house.wait_for(lambda: follow_up_is_over(house))
        await house.pass_time(5)
        assert house.conntrackd.asked[0][0] >= live + 299
        assert house.conntrackd.words() == AFTER

    housed(monkeypatch, scenario, CARP0, CARP1, preempt=True)


def test_a_commit_under_way_is_not_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two were about to preempt and do not: the states are asked for when the last commit is over."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        await has_committed(house)
        house.conntrackd.takes_s = {Request.COMMIT: 4}
        await Rival(house, CARP1).serve(0.1)
        for one in (CARP0, CARP1):
            better = Peer.of(one)
            better.advskew, better.counter, better.sources = 0, 1 << 40, station_sources(200)
            house.hear(better)
        await house.pass_time(15)
        assert house.conntrackd.words() == [*BEFORE, "COMMIT", "ASK_PEER"]
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario, *(replace(one, nodes=(Node(one.nodes[0].vhid, 50),)) for one in (CARP0, CARP1)), preempt=True)
