"""LAN and WAN of a firewall on different hosts: told on both, for as long as it lasts, unless it is meant."""

import logging
from dataclasses import replace

import pytest
from sync_kit import CARP0, CARP1, OTHER, SYNC, House, housed

from carp.daemon.chronicle import logger
from carp.protocol.parameters import Balancing, InterfaceParameters, Node
from carp.protocol.values import State
from carp.testing.clock import seconds
from carp.testing.hosts import carp_interface

APART = "carp0 is MASTER here, carp1 is not: packets between them do not pass"
BALANCED = replace(CARP1, balancing=Balancing.IP, nodes=(Node(2, 0), Node(3, 0)))


def test_it_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """When a takeover would be over, once in the log, and in the status until it ends; it demotes nobody."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER)
        with caplog.at_level(logging.INFO, logger.name):
            took_s = await house.wait_for(lambda: house.sync.apart)
            assert 3 < took_s < 9
            assert house.sync.describe()["apart"] == house.sync.apart == APART
            await house.pass_time(60)
            assert [one.getMessage() for one in caplog.records].count(f"state sync: {APART}") == 1
            house.force(State.MASTER, "carp1")
            await house.wait_for(lambda: not house.sync.apart)
            assert "state sync: what belongs together is on one host again" in [one.getMessage() for one in caplog.records]
        assert house.demotions == []

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_several_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on its side."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER, "carp0", "carp3")
        await house.wait_for(lambda: house.sync.apart)
        assert house.sync.apart == "carp0, carp3 are MASTER here, carp1, carp2 are not: packets between them do not pass"

    others = [carp_interface(f"carp{number}", number + 1, pre_master=True) for number in (2, 3)]
    housed(monkeypatch, scenario, CARP0, CARP1, *others)


@pytest.mark.parametrize(
    "other",
    [
        OTHER,
        replace(CARP1, groups=("carp", "dmz")),
        replace(CARP1, nodes=(Node(2, 100),)),
        replace(CARP1, advbase=2),
        BALANCED,
    ],
    ids=["not of sync", "groups", "advskew", "advbase", "balanced"],
)
def test_where_it_may_be_meant(monkeypatch: pytest.MonkeyPatch, other: InterfaceParameters) -> None:
    """Carp interfaces that this host prefers differently, or that others are in other groups, are apart on purpose."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER)
        await house.pass_time(60)
        assert house.sync.apart == ""
        assert house.sync.left_behind(other.name) == []

    housed(monkeypatch, scenario, CARP0, other)


def test_a_delay_of_preemption_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a host that comes back waits for it on purpose."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER)
        assert await house.wait_for(lambda: house.sync.apart, 90) > 60

    housed(monkeypatch, scenario, CARP0, replace(CARP1, preempt_delay_ns=seconds(60)))


def test_a_short_time_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other is how a host takes its places."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        for _ in range(10):
            house.force(State.MASTER)
            await house.pass_time(3)
            house.force(State.MASTER, "carp1")
            await house.pass_time(3)
            assert house.sync.apart == ""
            house.force(State.BACKUP, "carp0", "carp1")

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_without_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that the hosts pass packets; and what was said before is over with it."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER)
        await house.wait_for(lambda: house.sync.apart)
        house.sync.adopt(None)
        assert (house.sync.apart, house.sync.left_behind("carp1"), house.sync.doubts({"carp0"})) == ("", [], [])

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_what_a_hand_over_leaves_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are MASTER here still, whose packets do not pass."""

    async def scenario(house: House) -> None:
        await house.synchronise()
        house.force(State.MASTER, "carp0", "carp1")
        house.force(State.BACKUP, "carp1")
        (told,) = house.sync.left_behind("carp1")
        what, _, how = told.partition("; ")
        assert what == "carp0 is MASTER here still: packets between it and carp1 do not pass"
        assert how == "hand it over, too: carp switch carp0, or carp maintenance on for all"
        house.force(State.BACKUP, "carp0")
        assert house.sync.left_behind("carp1") == []

    housed(monkeypatch, scenario, CARP0, CARP1)


def test_doubts_about_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told why the peer may lack states, of carp interfaces whose connections are in question."""

    async def scenario(house: House) -> None:
        await house.begin_as_master()
        assert house.sync.doubts({"carp0"}) == []
        house.link_is_up = False
        await house.wait_for(lambda: not house.synchronised)
        told = ["the peer may lack the states of connections, which then break: sync0 is down"]
        assert (house.sync.doubts({"carp0", "carp9"}), house.sync.doubts({"carp9"}), house.sync.doubts(())) == (told, [], [])

    housed(monkeypatch, scenario, CARP0, OTHER)


def test_groups_of_the_table_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what [sync] is about is looked at."""

    async def scenario(house: House) -> None:
        house.sync.adopt(replace(SYNC, groups=frozenset({"carp0"})))
        house.force(State.MASTER)
        await house.pass_time(60)
        assert house.sync.apart == ""

    housed(monkeypatch, scenario, CARP0, CARP1)
