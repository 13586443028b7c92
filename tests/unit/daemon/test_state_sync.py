"""Who lacks states is demoted, and what ends the exchange of states decides nothing; conntrackd is played."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from sync_kit import CARP0, CARP1, OTHER, SYNC, House, housed

from carp.config.sync import Sync
from carp.daemon.chronicle import logger
from carp.daemon.state_sync import FACT
from carp.linux.conntrackd import Request
from carp.protocol.events import Due, HeldBack
from carp.protocol.health import OWNER
from carp.protocol.values import State
from carp.testing.clock import seconds
from carp.testing.hosts import carp_interface
from carp.testing.packets import Peer

API_PAGE = Path(__file__).parents[3] / "docs" / "api.md"
TROUBLES = ("killed", "hangs", "link", "silent")


def make_trouble(house: House, kind: str) -> None:
    """End the exchange of states in one of four ways."""
    match kind:
        case "killed":
            house.conntrackd.dead = True
        case "hangs":
            house.conntrackd.hangs = True
        case "link":
            house.link_is_up = False
        case "silent":
            house.conntrackd.peer = False


def heal(house: House, kind: str) -> None:
    """Bring it back: a killed conntrackd begins anew, one that hung goes on."""
    if kind == "killed":
        house.conntrackd.restart()
    house.conntrackd.hangs = False
    house.link_is_up = house.conntrackd.peer = True


def test_demoted_until_the_states_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first moment on, before anything is asked; it takes a second and a half."""

    async def scenario(house: House) -> None:
        house.sync.adopt(SYNC)
        assert (house.demotion, house.demote_of("carp0"), house.conntrackd.looks) == (32, 32, [])
        took_s = await house.wait_for(lambda: not house.demotion)
        assert 1 < took_s < 2
        assert house.conntrackd.external == house.conntrackd.peer_states
        assert house.conntrackd.words() == ["ASK_PEER"]
        assert (house.demotions, house.synchronised) == ([32, 32, 0], True)
        assert house.reason == "the peer's states are here"

    housed(monkeypatch, scenario)


def test_the_reason_is_told_where_all_reasons_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its groups and what is the matter; others are not demoted."""

    async def scenario(house: House) -> None:
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.conntrackd.asked)
        await house.wait_for(lambda: len(house.demotions) > 1)
        (fact,) = house.engine.host.demotions
        assert (fact.name, fact.owner, fact.groups, fact.until) == (FACT, OWNER, SYNC.groups, None)
        assert fact.detail == "the peer's states are on their way"
        assert (house.demote_of("carp0"), house.demote_of("carp9")) == (32, 0)

    housed(monkeypatch, scenario, CARP0, OTHER)


def test_its_beginning_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the reason changes meanwhile."""

    async def scenario(house: House) -> None:
        house.conntrackd.sends_states = house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        (first,) = house.engine.host.demotions
        await house.wait_for(lambda: house.demotion == 1)
        (fact,) = house.engine.host.demotions
        assert fact.since == first.since

    housed(monkeypatch, scenario)


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a peer the start is over after bulk-timeout; it stays demoted by one until the peer comes."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        took_s = await house.wait_for(lambda: house.demotion < 32)
        assert took_s == pytest.approx(10, abs=0.3)
        assert (house.demotion, house.synchronised) == (1, False)
        house.conntrackd.peer = True
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


def test_a_peer_that_does_not_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives, and loses states for ever: told with the time that was waited; it is asked again every five seconds."""

    async def scenario(house: House) -> None:
        def lose() -> bool:
            house.conntrackd.lost += 1
            return house.demotion < 32

        house.sync.adopt(SYNC)
        assert await house.wait_for(lose) == pytest.approx(10, abs=0.3)
        assert (house.demotion, house.reason) == (1, "the peer did not send its states within 10 s")
        assert house.conntrackd.words()[:2] == ["ASK_PEER", "ASK_PEER"]
        await house.wait_for(lambda: house.synchronised)
        assert house.demotion == 0

    housed(monkeypatch, scenario)


def test_a_start_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """With bulk-timeout 0 it is demoted by one from the first look on, and by nothing when the states are here."""

    async def scenario(house: House) -> None:
        house.sync.adopt(replace(SYNC, bulk_timeout_ns=0))
        assert await house.wait_for(lambda: house.demotion == 1) < 0.1
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.external == house.conntrackd.peer_states
        assert house.demotions[1:] == [1, 0]

    housed(monkeypatch, scenario)


def test_less_than_usual_is_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """With demote = 1 everything counts one."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(replace(SYNC, demote=1))
        await house.wait_for(lambda: "silent" in house.reason)
        assert set(house.demotions) == {1}

    housed(monkeypatch, scenario)


async def hear(house: House, master: Peer, times: int) -> None:
    """Let a MASTER advertise once a second."""
    for _ in range(times):
        house.hear(master)
        await house.pass_time(1)


@pytest.mark.parametrize("demote", [1, 32])
@pytest.mark.parametrize("bulk_timeout_s", [0, 10])
def test_who_has_no_states_preempts_no_living_master(
    monkeypatch: pytest.MonkeyPatch, demote: int, bulk_timeout_s: float
) -> None:
    """Though it is preferred, and the MASTER is demoted by the same trouble; it does when it has them."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(replace(SYNC, demote=demote, bulk_timeout_ns=seconds(bulk_timeout_s)))
        master = Peer(advskew=100, demote=1)
        for _ in range(60):
            await hear(house, master, 1)
            assert house.state() is State.BACKUP
        assert house.sync.describe()["held_back"] is house.sync.holds("carp0") is True
        house.conntrackd.peer = True
        await hear(house, master, 10)
        assert house.state() is State.MASTER
        assert house.sync.describe()["held_back"] is house.sync.holds("carp0") is False

    housed(monkeypatch, scenario, preempt=True)


def test_a_master_that_is_gone_is_replaced_without_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the usual time; what was handed over after that is held back by that alone."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        await hear(house, Peer(advskew=100), 20)
        for _ in range(50):
            house.handle(Due(house.now()))
            await house.pass_time(0.1)
        assert house.state() is State.MASTER
        assert not house.sync.holds("carp0")
        house.force(State.BACKUP)
        house.handle(HeldBack("carp0"))
        house.conntrackd.peer = True
        await house.wait_for(lambda: house.synchronised)
        await hear(house, Peer(advskew=100, counter=1 << 40), 10)
        assert (house.state(), house.held_back()) == (State.BACKUP, True)

    housed(monkeypatch, scenario, preempt=True)


def test_a_hand_over_right_after_a_takeover_without_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds the carp interface back from then on, whatever held it before."""

    async def scenario(house: House) -> None:
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.sync.holds("carp0"))
        house.force(State.MASTER)
        house.force(State.BACKUP)
        house.handle(HeldBack("carp0"))
        await house.wait_for(lambda: house.synchronised)
        assert house.held_back()

    housed(monkeypatch, scenario)


def test_reasons_to_hold_back_do_not_undo_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was handed over by hand stays so when states come; another one preempts then."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.handle(HeldBack("carp0"))
        house.conntrackd.restart()
        await house.wait_for(lambda: house.demotion == 32)
        assert (house.held_back("carp0"), house.held_back("carp1")) == (True, True)
        assert (house.sync.holds("carp0"), house.sync.holds("carp1")) == (False, True)
        await house.wait_for(lambda: house.synchronised)
        assert (house.held_back("carp0"), house.held_back("carp1")) == (True, False)

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_only_what_passes_connections_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By [sync], and no longer than there is one."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        await house.pass_time(20)
        assert (house.held_back("carp0"), house.held_back("carp9")) == (True, False)
        house.sync.adopt(None)
        assert not house.held_back("carp0")

    housed(monkeypatch, scenario, CARP0, OTHER)


def test_what_weighs_more_than_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MASTER with worse trouble than a lack of states is replaced; a bad parent counts one when they do not come."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        master = Peer(advskew=100, demote=32)
        await hear(house, master, 5)
        master.demote = 1
        await hear(house, master, 15)
        assert house.state() is State.BACKUP
        master.demote = 2
        await hear(house, master, 3)
        assert house.state() is State.MASTER

    housed(monkeypatch, scenario)


def test_a_master_is_never_demoted_by_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload brings [sync] to one who serves: it has the states by itself, and sends them."""

    async def scenario(house: House) -> None:
        house.force(State.MASTER)
        await house.synchronise()
        house.sync.adopt(None)
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.conntrackd.asked)
        assert house.conntrackd.words() == ["BULK_UPDATE"]
        await house.wait_for(lambda: house.synchronised)
        assert set(house.demotions) <= {0}
        assert house.reason == "this host is MASTER, and the peer gets its states"

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_master_is_demoted_late(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """By one, when trouble lasts for six seconds: a BACKUP has noticed by then. It ends with the trouble."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        make_trouble(house, kind)
        seen_after_s = await house.wait_for(lambda: not house.synchronised)
        assert seen_after_s < 4.2
        lasts_s = await house.wait_for(lambda: house.demotion)
        assert lasts_s == pytest.approx(6, abs=3.1 if kind == "hangs" else 1.1)
        assert lasts_s >= 5.99
        assert house.demotion == 1
        heal(house, kind)
        assert await house.wait_for(lambda: not house.demotion) < 3
        assert house.demotions == [1, 0]

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("kind", TROUBLES)
def test_short_trouble_costs_a_master_nothing(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Twice four seconds are not eight."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        for _ in range(2):
            make_trouble(house, kind)
            await house.wait_for(lambda: not house.synchronised)
            await house.pass_time(3)
            heal(house, kind)
            await house.wait_for(lambda: house.synchronised)
        assert house.demotions == []

    housed(monkeypatch, scenario)


@pytest.mark.parametrize(
    ("kind", "amount", "within_s"), [("link", 1, 1.1), ("silent", 1, 4.2), ("killed", 32, 1.1), ("hangs", 32, 3.1)]
)
def test_a_backup_is_demoted_at_once(monkeypatch: pytest.MonkeyPatch, kind: str, amount: int, within_s: float) -> None:
    """By one while it has states; by all with conntrackd, which kept them. It ends when they are here again."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        make_trouble(house, kind)
        assert await house.wait_for(lambda: house.demotion) < within_s
        assert house.demotion == amount
        await house.pass_time(20)
        assert set(house.demotions) == {amount}
        heal(house, kind)
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("kind", TROUBLES)
def test_the_end_of_the_exchange_decides_nothing(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A MASTER is at no moment more demoted than a BACKUP with the same trouble from the same moment on."""
    seen: dict[State, dict[int, int]] = {State.MASTER: {}, State.BACKUP: {}}

    def scenario_of(state: State) -> None:
        async def scenario(house: House) -> None:
            await (house.begin_as_master() if state is State.MASTER else house.synchronise())
            make_trouble(house, kind)
            for tenth in range(200):
                await house.pass_time(0.1)
                seen[state][tenth] = house.demotion

        housed(monkeypatch, scenario)

    for state in seen:
        scenario_of(state)
    assert [tenth for tenth in range(200) if seen[State.MASTER][tenth] > seen[State.BACKUP][tenth]] == []
    assert seen[State.MASTER][199] == 1


@pytest.mark.parametrize("kind", ["killed", "hangs", "link"])
def test_trouble_before_anything_came(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Who has no states yet is demoted by all of it, as long as he may still get them."""

    async def scenario(house: House) -> None:
        make_trouble(house, kind)
        house.sync.adopt(SYNC)
        await house.pass_time(30)
        assert set(house.demotions) == {32}
        heal(house, kind)
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("killed", "conntrackd cannot be asked at /run/conntrackd.sock: Connection refused"),
        ("hangs", "conntrackd does not answer within 2 s"),
        ("link", "sync0 is down"),
        ("silent", "the peer is silent"),
    ],
)
def test_what_is_the_matter_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, reason: str
) -> None:
    """Once, when it begins, as a warning; and once when it is over."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        with caplog.at_level(logging.INFO, logger.name):
            caplog.clear()
            make_trouble(house, kind)
            await house.wait_for(lambda: house.demotion)
            await house.pass_time(20)
            assert [(one.levelno, one.getMessage()) for one in caplog.records] == [(logging.WARNING, f"state sync: {reason}")]
            assert house.reason == reason
            caplog.clear()
            heal(house, kind)
            await house.wait_for(lambda: not house.demotion)
            assert [one.getMessage() for one in caplog.records if one.levelno == logging.INFO] == [
                "state sync: the peer's states are here"
            ]

    housed(monkeypatch, scenario)


def test_a_link_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one whose name is misspelt, is told from one that is down."""

    async def scenario(house: House) -> None:
        house.link_exists = house.link_is_up = False
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.reason == "there is no sync0")
        assert house.sync.describe()["link"] == {"interface": "sync0", "present": False, "up": False}
        house.link_exists = True
        await house.wait_for(lambda: house.reason == "sync0 is down")

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("as_master", [True, False])
def test_a_conntrackd_that_hears_itself(monkeypatch: pytest.MonkeyPatch, as_master: bool, is_new: bool) -> None:
    """Such as one of a copied file: told when states were sent and exactly those came, until anything else does, or it ends."""

    async def scenario(house: House) -> None:
        await (house.begin_as_master() if as_master else house.synchronise())
        conntrackd = house.conntrackd
        conntrackd.sent_bytes = conntrackd.received_bytes = 48
        for _ in range(20):
            await house.pass_time(1)
            conntrackd.sent_bytes = conntrackd.received_bytes = conntrackd.sent_bytes + 16
            assert house.synchronised  # an idle pair may look like that
        conntrackd.sent_bytes = conntrackd.received_bytes = 9000
        await house.pass_time(20)
        assert house.reason == "conntrackd hears itself alone: its destination is this host's own address"
        assert (house.synchronised, house.demotion) == (False, 1)
        if is_new:
            conntrackd.restart()
            conntrackd.sent_bytes = conntrackd.received_bytes = 48
        else:
            conntrackd.received_bytes = 10_000
        await house.wait_for(lambda: house.synchronised)

    housed(monkeypatch, scenario)


def test_a_conntrackd_that_began_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nothing of the peer, however fast it was: this host is demoted until it has asked and got it."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.restart()
        await house.wait_for(lambda: house.demotion == 32, 1.1)
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.words() == ["ASK_PEER"]
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


def test_the_conntrackd_of_a_master_that_began_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends everything to the peer, and asks for nothing."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        await house.pass_time(5)
        house.conntrackd.words()
        house.conntrackd.restart()
        await house.wait_for(lambda: house.conntrackd.asked, 1.1)
        await house.pass_time(5)
        assert house.conntrackd.words() == ["BULK_UPDATE"]
        assert house.demotions == []

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("kind", ["link", "silent"])
def test_after_a_long_cut_everything_is_asked_for(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """More may have been lost than conntrackd repeats."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        make_trouble(house, kind)
        house.conntrackd.peer = False
        await house.pass_time(10)
        assert house.conntrackd.words() == []
        heal(house, kind)
        await house.wait_for(lambda: house.synchronised)
        assert house.conntrackd.words() == ["ASK_PEER"]

    housed(monkeypatch, scenario)


def test_a_new_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks at once for the states of the new MASTER, and lets its old ones go; it has states meanwhile, if old ones."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        await house.pass_time(5)
        house.conntrackd.words()
        house.force(State.BACKUP)
        assert await house.wait_for(lambda: house.demotion) < 0.1
        assert house.conntrackd.words() == ["ASK_PEER"]
        await house.wait_for(lambda: not house.demotion)
        assert house.demotions == [1, 0]
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


async def leave(house: House) -> int:
    """Let carp0 be MASTER for a while, and BACKUP; return when that was, in ms."""
    await house.begin_as_master()
    await house.pass_time(6)
    house.force(State.BACKUP)
    left = house.conntrackd.now_ms()
    await house.wait_for(lambda: house.reason == "the peer's states are here")
    house.conntrackd.words()
    return left


def test_what_is_left_of_a_reign_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after its end, once."""

    async def scenario(house: House) -> None:
        left = await leave(house)
        await house.pass_time(300)
        assert house.conntrackd.asked == [(pytest.approx(left + 60_000, abs=20), "PURGE")]

    housed(monkeypatch, scenario)


def test_the_last_reign_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute begins anew with the end of another one."""

    async def scenario(house: House) -> None:
        await leave(house)
        await house.pass_time(40)
        house.force(State.MASTER)
        await house.pass_time(10)
        house.force(State.BACKUP)
        await house.pass_time(59)
        assert "PURGE" not in house.conntrackd.words()
        await house.pass_time(5)
        assert house.conntrackd.words() == ["PURGE"]

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("name", ["carp0", "carp1", "carp9"])
def test_a_host_that_is_master_of_something_keeps_its_states(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """There is one table of states for all carp interfaces, also for those outside of the groups."""

    async def scenario(house: House) -> None:
        await leave(house)
        await house.pass_time(30)
        house.force(State.MASTER, name)
        await house.pass_time(60)
        assert "PURGE" not in house.conntrackd.words()

    housed(monkeypatch, scenario, CARP0, CARP1, OTHER)


def test_who_is_master_of_half_keeps_its_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks nobody for any; only who is MASTER of nothing does."""

    async def scenario(house: House) -> None:
        house.force(State.MASTER, "carp0", "carp1")
        await house.wait_for(lambda: len(house.taken) == 2)
        await house.synchronise()
        house.force(State.BACKUP, "carp0")
        await house.pass_time(65)
        assert (house.conntrackd.words(), house.synchronised, house.demotions) == ([], True, [])
        house.force(State.BACKUP, "carp1")
        await house.wait_for(lambda: house.conntrackd.asked)
        assert house.conntrackd.words() == ["ASK_PEER"]

    housed(monkeypatch, scenario, CARP0, CARP1)


@pytest.mark.parametrize("changed", [None, replace(SYNC, socket="/run/other.sock")])
def test_nothing_goes_after_a_reload(monkeypatch: pytest.MonkeyPatch, changed: Sync | None) -> None:
    """Without the table, or with another conntrackd, nobody knows any more what is left of a former reign."""

    async def scenario(house: House) -> None:
        await leave(house)
        house.sync.adopt(changed)
        await house.pass_time(70)
        assert "PURGE" not in house.conntrackd.words()

    housed(monkeypatch, scenario)


def test_one_that_hangs_is_not_told_to_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do so when it goes on, and this host may be MASTER then."""

    async def scenario(house: House) -> None:
        await leave(house)
        house.conntrackd.hangs = True
        await house.pass_time(70)
        assert "PURGE" not in house.conntrackd.words()

    housed(monkeypatch, scenario)


def test_a_former_master_whose_conntrackd_began_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was replaced while it had none: what it has is old, and nothing of the new MASTER."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        house.conntrackd.dead = True
        await house.wait_for(lambda: not house.synchronised)
        house.force(State.BACKUP)
        await house.wait_for(lambda: house.demotion == 32)
        await house.pass_time(60)
        house.conntrackd.restart()
        await house.wait_for(lambda: house.synchronised)
        assert house.demotions == [32, 32, 0]
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


def test_trouble_of_a_former_reign_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The six seconds of a MASTER begin anew, in a new reign and after a reload."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        make_trouble(house, "link")
        await house.wait_for(lambda: house.demotion)
        house.force(State.BACKUP)
        await house.pass_time(60)
        house.force(State.MASTER)
        await house.wait_for(lambda: not house.demotion)
        assert await house.wait_for(lambda: house.demotion) > 5.9
        house.sync.adopt(None)
        house.sync.adopt(SYNC)
        assert house.demotion == 0
        assert await house.wait_for(lambda: house.demotion) > 5.9

    housed(monkeypatch, scenario)


def test_without_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked, and nobody demoted."""

    async def scenario(house: House) -> None:
        house.sync.adopt(None)
        house.force(State.MASTER)
        house.force(State.BACKUP)
        await house.pass_time(5)
        assert (house.conntrackd.looks, house.conntrackd.asked, house.demotion) == ([], [], 0)
        assert house.sync.describe() == {"configured": False}

    housed(monkeypatch, scenario)


def test_a_reload_that_brings_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a start: who is BACKUP is demoted until the states are here."""

    async def scenario(house: House) -> None:
        house.sync.adopt(None)
        await house.pass_time(5)
        house.sync.adopt(SYNC)
        assert house.demotion == 32
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


def test_a_reload_that_takes_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the demotion, and nothing is asked any more."""

    async def scenario(house: House) -> None:
        make_trouble(house, "link")
        house.sync.adopt(SYNC)
        await house.pass_time(5)
        house.sync.adopt(None)
        assert house.demotion == 0
        looks = len(house.conntrackd.looks)
        await house.pass_time(5)
        assert (len(house.conntrackd.looks), house.demotion) == (looks, 0)
        assert house.sync.describe() == {"configured": False}

    housed(monkeypatch, scenario)


def test_a_reload_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an equal table nobody takes notice."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.sync.adopt(replace(SYNC))
        await house.pass_time(5)
        assert (house.demotions, house.conntrackd.asked) == ([], [])

    housed(monkeypatch, scenario)


@pytest.mark.parametrize(
    ("changed", "carp0", "carp9"),
    [
        (replace(SYNC, demote=7), 7, 0),
        (replace(SYNC, groups=frozenset({"dmz"})), 0, 32),
        (replace(SYNC, groups=frozenset({"carp0"})), 32, 0),
        (replace(SYNC, groups=frozenset({"all"})), 32, 32),
        (replace(SYNC, socket="/run/other.sock"), 32, 0),
    ],
    ids=["demote", "groups", "one interface", "all", "socket"],
)
def test_a_reload_that_changes_the_table(monkeypatch: pytest.MonkeyPatch, changed: Sync, carp0: int, carp9: int) -> None:
    """What it says holds at once, and it begins anew; only the new conntrackd is asked."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.conntrackd.paths.clear()
        house.sync.adopt(changed)
        assert (house.demote_of("carp0"), house.demote_of("carp9")) == (carp0, carp9)
        await house.wait_for(lambda: house.synchronised and not house.demotion)
        assert house.conntrackd.words() == ["ASK_PEER"]
        assert house.conntrackd.paths == {changed.socket}

    housed(monkeypatch, scenario, CARP0, OTHER)


def test_the_time_that_is_waited_may_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a reload, while it is waited."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(replace(SYNC, bulk_timeout_ns=seconds(3600)))
        await house.pass_time(20)
        assert house.demotion == 32
        house.sync.adopt(replace(SYNC, bulk_timeout_ns=seconds(5)))
        assert await house.wait_for(lambda: house.demotion == 1) == pytest.approx(5, abs=0.3)

    housed(monkeypatch, scenario)


def test_the_status_of_a_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is known, first and when the states are here."""

    async def scenario(house: House) -> None:
        monkeypatch.setattr("carp.linux.conntrackd.kernel_states", lambda: 4711)
        house.sync.adopt(SYNC)
        first = house.sync.describe()
        assert (first["synchronised"], first["demote"], first["states"]) == (False, 32, None)
        assert first["reason"] == "the peer's states are not here yet"
        await house.wait_for(lambda: house.synchronised)
        told = house.sync.describe()
        assert told.pop("since") > first["since"]
        assert told == {
            "configured": True,
            "conntrackd": {"answers": True, "problem": "", "pid": 100},
            "link": {"interface": "sync0", "present": True, "up": True},
            "role": "BACKUP",
            "synchronised": True,
            "reason": "the peer's states are here",
            "states": {"kernel": 4711, "internal": 7, "external": 500},
            "demote": 0,
            "held_back": False,
            "apart": "",
            "last_takeover": None,
        }

    housed(monkeypatch, scenario)


def test_the_status_of_a_master_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer is told, with what came of the last takeover."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER)
        await house.wait_for(lambda: house.reason.startswith("this host is MASTER"))
        house.conntrackd.dead = True
        house.link_is_up = False
        await house.wait_for(lambda: house.demotion)
        told = house.sync.describe()
        problem = "cannot be asked at /run/conntrackd.sock: Connection refused"
        assert told["conntrackd"] == {"answers": False, "problem": problem, "pid": None}
        assert told["link"] == {"interface": "sync0", "present": True, "up": False}
        assert (told["role"], told["synchronised"], told["demote"], told["states"]) == ("MASTER", False, 1, None)
        assert told["last_takeover"]["committed"]

    housed(monkeypatch, scenario)


def test_every_field_of_the_status_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the section of its route, also what is in others."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER)
        await house.wait_for(lambda: house.taken)
        told = house.sync.describe()
        parts = [told, *(part for part in told.values() if isinstance(part, dict))]
        assert len(parts) == 5
        section = API_PAGE.read_text().partition("\n## GET /v1/sync\n")[2].partition("\n## ")[0]
        described = set(re.findall(r"`([a-z_]+)`", section))
        assert {key for part in parts for key in part} - described == set()

    housed(monkeypatch, scenario)


def test_others_are_not_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """MASTER of a carp interface outside of the groups is BACKUP here."""

    async def scenario(house: House) -> None:
        house.force(State.MASTER, "carp9")
        house.sync.adopt(SYNC)
        assert (house.demotion, house.sync.describe()["role"]) == (32, "BACKUP")
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.words() == ["ASK_PEER"]

    housed(monkeypatch, scenario, CARP0, OTHER)


def test_how_often_it_looks_when_it_has_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second: a peer that comes back at last is not in a hurry."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(SYNC)
        await house.pass_time(30)
        house.conntrackd.looks.clear()
        await house.pass_time(60)
        assert 55 <= len(house.conntrackd.looks) <= 61
        house.conntrackd.peer = True
        await house.wait_for(lambda: house.synchronised)

    housed(monkeypatch, scenario)


def test_a_reload_of_the_takeovers_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds for the next one, and costs nothing: states stay here."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.sync.adopt(replace(SYNC, timeout_ns=seconds(1)))
        await house.pass_time(3)
        assert (house.demotions, house.synchronised, house.conntrackd.words()) == ([], True, [])
        house.conntrackd.takes_s = {Request.COMMIT: 3600}
        began = house.conntrackd.now_ms()
        house.force(State.MASTER)
        await house.wait_for(lambda: house.taken)
        assert house.taken["carp0"] - began == pytest.approx(1000, abs=2)

    housed(monkeypatch, scenario)


def test_an_error_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, with where it was, and over with its cause."""

    async def scenario(house: House) -> None:
        await house.synchronise()

        async def fail(*_: object) -> None:
            raise ZeroDivisionError("an error of ours")

        with monkeypatch.context() as patch:
            patch.setattr("carp.linux.conntrackd.statistics", fail)
            await house.wait_for(lambda: house.demotion == 32)
            await house.pass_time(5)
            assert house.reason == "conntrackd cannot be watched: ZeroDivisionError('an error of ours')"
            assert [one.exc_info is not None for one in caplog.records if one.levelno == logging.ERROR] == [True]
        await house.wait_for(lambda: house.synchronised and not house.demotion)

    housed(monkeypatch, scenario)


@pytest.mark.parametrize("link", [True, False])
def test_a_conntrackd_that_began_anew_with_its_old_id(monkeypatch: pytest.MonkeyPatch, link: bool) -> None:
    """As one in a namespace of its own does: its counters tell, also while the link is down."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.link_is_up = link
        house.conntrackd.restart()
        house.conntrackd.pid -= 1
        await house.wait_for(lambda: house.demotion == 32, 1.1)
        house.link_is_up = True
        await house.wait_for(lambda: not house.demotion)
        assert house.conntrackd.external == house.conntrackd.peer_states

    housed(monkeypatch, scenario)


def test_what_a_former_conntrackd_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not come any more, and is not looked for closely; the one that follows it is asked anew."""

    async def scenario(house: House) -> None:
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.conntrackd.external)
        house.conntrackd.dead = True
        await house.wait_for(lambda: not house.sync.describe()["conntrackd"]["answers"])
        house.conntrackd.looks.clear()
        await house.pass_time(10)
        assert len(house.conntrackd.looks) <= 11
        house.conntrackd.restart()
        await house.wait_for(lambda: house.synchronised)
        assert house.conntrackd.external == house.conntrackd.peer_states
        assert [word for _, word in house.conntrackd.asked] == ["ASK_PEER"] * 2

    housed(monkeypatch, scenario)


def test_a_restart_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer has three seconds to be heard by the new conntrackd."""

    async def scenario(house: House) -> None:
        house.conntrackd.peer = False
        house.sync.adopt(replace(SYNC, bulk_timeout_ns=0))
        await house.pass_time(2.5)
        house.conntrackd.restart()
        await house.pass_time(1.6)
        assert "silent" not in house.reason
        await house.pass_time(3)
        assert "silent" in house.reason

    housed(monkeypatch, scenario)


def test_how_often_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times a second while states are on their way, else once."""

    async def scenario(house: House) -> None:
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.synchronised)
        assert 12 <= len(house.conntrackd.looks) <= 18
        house.conntrackd.looks.clear()
        await house.pass_time(10)
        assert 9 <= len(house.conntrackd.looks) <= 11

    housed(monkeypatch, scenario)


def test_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked any more, also where something was under way; carpd leaves with its demotion."""

    async def scenario(house: House) -> None:
        house.sync.adopt(SYNC)
        await house.wait_for(lambda: house.conntrackd.asked)
        house.conntrackd.hangs = True
        house.force(State.MASTER)
        await house.pass_time(0.5)
        await house.sync.stop()
        house.conntrackd.hangs = False
        looks, asked = len(house.conntrackd.looks), len(house.conntrackd.asked)
        await house.pass_time(20)
        assert (len(house.conntrackd.looks), len(house.conntrackd.asked)) == (looks, asked)

    housed(monkeypatch, scenario, carp_interface("carp0", 1, pre_master=True))


def test_nothing_begins_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that comes while carpd leaves."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        await house.sync.stop()
        looks = len(house.conntrackd.looks)
        house.sync.adopt(replace(SYNC, demote=7))
        await house.pass_time(5)
        assert (len(house.conntrackd.looks), house.demotions) == (looks, [])

    housed(monkeypatch, scenario)
