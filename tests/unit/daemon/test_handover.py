"""Handing over by hand: `carp switch` and `carp maintenance`, with a peer that takes over or does not."""

import asyncio
import errno
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import PATIENCE_S, FakeRuntime, configured, play

from carp.daemon import maintenance
from carp.daemon.chronicle import logger
from carp.daemon.handover import _NO_DEMOTE_BYTE, HandOver
from carp.daemon.maintenance import Maintenance
from carp.daemon.refusals import ChangeRefusedError, UnknownNameError
from carp.linux.clock import boottime
from carp.protocol.actions import Send
from carp.protocol.demotion import Demotion
from carp.protocol.events import Configured, Event, Forced, Shutdown, Taken
from carp.protocol.interface import CarpInterface
from carp.protocol.packet import Advertisement, Datagram, decode, parse_ip
from carp.protocol.parameters import Node
from carp.protocol.values import NANOSECONDS_PER_SECOND, State
from carp.testing.hosts import carp_interface, parent_down
from carp.testing.hosts import configured as with_interfaces
from carp.testing.packets import Peer

CARP0 = {"carpdev": "eth0", "vhid": 1, "pass": "opensesame", "addresses": ["192.0.2.100/24"]}
CARP1 = {"carpdev": "eth1", "vhid": 2, "pass": "opensesame", "addresses": ["198.51.100.100/24"]}
DOCUMENT: dict[str, Any] = {"global": {"preempt": True}, "carp0": CARP0, "carp1": CARP1}
SHORT = {"timeout_s": 0.05}
NOBODY = f"carp0: no peer took it within 0.05 s, so this host goes on as MASTER; {_NO_DEMOTE_BYTE}"


class House:
    """A daemon that can hand over, and the peers of its carp interfaces; each is MASTER here at first."""

    def __init__(self, folder: Path, document: Mapping[str, Any] = DOCUMENT) -> None:
        self.folder = folder
        self.document = dict(document)
        self.runtime = FakeRuntime()
        runtime: Any = self.runtime
        self.handover = HandOver(runtime, folder)
        self.peers: dict[str, Peer] = {}

    async def start(self) -> "House":
        """Become MASTER of everything."""
        configuration = configured(self.document)
        await self.runtime.reconfigure(configuration)
        for parameters in configuration.host.interfaces:
            self.peers[parameters.name] = Peer.of(parameters)
            self.runtime.handle(Forced(parameters.name, State.MASTER))
            self.runtime.handle(Taken(parameters.name))
        return self

    @property
    def flag(self) -> Path:
        """Name the file of the maintenance flag."""
        return self.folder / "maintenance.json"

    def interface(self, name: str = "carp0") -> CarpInterface:
        """Find a carp interface."""
        found = self.runtime.engine.interface(name)
        assert found is not None
        return found

    def states(self) -> list[State]:
        """Return the states of the carp interfaces."""
        return [one.leader.state for one in self.runtime.engine.interfaces]

    def facts(self) -> dict[str, Demotion]:
        """Return the reasons that hold."""
        return {fact.name: fact for fact in self.runtime.engine.host.demotions}

    def advertise(self, name: str = "carp0", **values: int) -> None:
        """Let the peer of a carp interface say that it is MASTER."""
        peer = self.peers[name]
        self.runtime.handle(peer.arrives(peer.advertisement(**values), boottime()))

    def backup(self, name: str = "carp0") -> None:
        """Let this host be BACKUP of a peer."""
        self.runtime.handle(Forced(name, State.BACKUP))
        self.advertise(name)

    def switch(self, name: str = "carp0", **values: object) -> "asyncio.Task[dict[str, Any]]":
        """Begin to hand an interface over."""
        return asyncio.create_task(self.handover.switch(name, values))

    def maintain(self, **values: object) -> "asyncio.Task[dict[str, Any]]":
        """Begin or end a maintenance."""
        return asyncio.create_task(self.handover.maintain(values))

    async def demoted(self, name: str) -> None:
        """Wait until a reason holds."""
        async with asyncio.timeout(PATIENCE_S):
            while name not in self.facts():
                await asyncio.sleep(0.001)

    def unchanged(self) -> bool:
        """Tell whether everything is as it was at the start."""
        untouched = not any(one.held_back or one.demote for one in self.runtime.engine.interfaces)
        return untouched and not self.facts() and not self.runtime.observers and set(self.states()) == {State.MASTER}


def housed(folder: Path, scenario: Callable[[House], Awaitable[None]], document: Mapping[str, Any] = DOCUMENT) -> None:
    """Play a scenario with a daemon that is MASTER of everything."""

    async def begin() -> None:
        await scenario(await House(folder, document).start())

    play(begin)


async def refused(work: Awaitable[object]) -> list[str]:
    """Return why something is refused."""
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ChangeRefusedError) as caught:
            await work
    return caught.value.problems


def demote_in(send: Send) -> int:
    """Return the demote byte of an advertisement."""
    datagram = parse_ip(send.family, send.packet)
    assert isinstance(datagram, Datagram)
    heard = decode(datagram)
    assert isinstance(heard, Advertisement)
    return heard.demote


def test_an_interface_is_demoted_alone_while_it_waits(tmp_path: Path) -> None:
    """As far as possible, and for little longer than it waits; it goes on as MASTER and tells its peers."""

    async def scenario(house: House) -> None:
        house.runtime.actions.clear()
        task = house.switch(timeout_s=30)
        await house.demoted("switch carp0")
        fact = house.facts()["switch carp0"]
        assert (fact.amount, fact.groups, fact.owner) == (255, frozenset({"carp0"}), "carp switch")
        assert fact.until is not None
        assert 30 <= (fact.until - boottime()) / NANOSECONDS_PER_SECOND <= 32
        assert [house.interface(name).demote for name in ("carp0", "carp1")] == [255, 0]
        assert house.states() == [State.MASTER, State.MASTER]
        sent = [action for action in house.runtime.actions if isinstance(action, Send)]
        assert [(action.interface, demote_in(action)) for action in sent] == [("carp0", 255)]
        house.advertise()
        await task

    housed(tmp_path, scenario)


def test_a_peer_takes_over(tmp_path: Path) -> None:
    """Its advertisement ends the hand-over: this host is BACKUP and held back, and the reason is gone."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        house.advertise()
        answer = await task
        assert answer["master"] == "192.0.2.200"
        assert 0 <= answer["took_ms"] < PATIENCE_S * 1000
        assert house.states() == [State.BACKUP, State.MASTER]
        assert (house.interface().held_back, house.interface("carp1").held_back) == (True, False)
        assert (house.facts(), house.runtime.observers) == ({}, set())

    housed(tmp_path, scenario)


def test_the_time_that_it_took_is_told(tmp_path: Path) -> None:
    """In milliseconds, from the demotion to the advertisement."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        await asyncio.sleep(0.05)
        house.advertise()
        assert 50 <= (await task)["took_ms"] <= PATIENCE_S * 1000

    housed(tmp_path, scenario)


def test_what_was_handed_over_is_not_taken_back(tmp_path: Path) -> None:
    """Though this host is the faster one and preempts."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        house.advertise(advskew=200)
        await task
        for _ in range(3):
            house.advertise(advskew=200)
        assert house.states()[0] is State.BACKUP

    housed(tmp_path, scenario)


def test_a_peer_that_is_demoted_as_far_may_take_over(tmp_path: Path) -> None:
    """If it is the faster one; a slower one leaves everything as it was."""

    async def scenario(house: House) -> None:
        task = house.switch(**SHORT)
        await house.demoted("switch carp0")
        house.advertise(demote=255, advskew=200)
        assert await refused(task) == [NOBODY]
        assert house.unchanged()

    housed(tmp_path, scenario)


def test_nobody_takes_over(tmp_path: Path) -> None:
    """Then it is refused with what may be the cause, and everything is as it was."""

    async def scenario(house: House) -> None:
        assert await refused(house.switch(**SHORT)) == [NOBODY]
        assert house.unchanged()

    housed(tmp_path, scenario)


def test_a_caller_who_gives_up_leaves_nothing(tmp_path: Path) -> None:
    """It goes on as if nothing had been asked, and can be asked again."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert house.unchanged()
        again = house.switch()
        await house.demoted("switch carp0")
        house.advertise()
        assert (await again)["master"] == "192.0.2.200"

    housed(tmp_path, scenario)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (parent_down(parent="eth0"), "carp0 became INIT before a peer took it: not ready: eth0 is down"),
        (Configured(configured({"carp1": CARP1}).host), "carp0 became INIT before a peer took it: interface stopped"),
        (Shutdown(), "carp0 became INIT before a peer took it: interface stopped"),
    ],
    ids=["parent", "removed", "shutdown"],
)
def test_one_that_stops_meanwhile_is_not_handed_over(tmp_path: Path, event: Event, sentence: str) -> None:
    """No peer was heard, so none is said to have taken it."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        house.runtime.handle(event)
        assert await refused(task) == [sentence]
        assert "switch carp0" not in house.facts()

    housed(tmp_path, scenario)


def test_one_that_is_forced_meanwhile_is_not_handed_over(tmp_path: Path) -> None:
    """Nor held back: the election goes on."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        house.runtime.handle(Forced("carp0", State.BACKUP))
        assert await refused(task) == ["carp0 became BACKUP before a peer took it: user request"]
        assert (house.facts(), house.interface().held_back) == ({}, False)

    housed(tmp_path, scenario)


def test_a_backup_cannot_be_handed_over(tmp_path: Path) -> None:
    """It is told where the MASTER is; unless being BACKUP was what was wanted."""

    async def scenario(house: House) -> None:
        house.backup()
        sentence = "carp0 is BACKUP here; its MASTER is 192.0.2.200: hand it over there"
        assert await refused(house.switch()) == [sentence]
        assert await refused(house.switch(to_backup=False)) == [sentence]
        assert await house.switch(to_backup=True) == {"took_ms": None, "master": "192.0.2.200", "warnings": []}
        assert (house.states()[0], house.facts(), house.interface().held_back) == (State.BACKUP, {}, False)

    housed(tmp_path, scenario)


def test_a_backup_that_knows_no_master(tmp_path: Path) -> None:
    """Says so."""

    async def scenario(house: House) -> None:
        house.runtime.handle(Forced("carp0", State.BACKUP))
        assert await refused(house.switch()) == ["carp0 is BACKUP here; its MASTER is not known: hand it over there"]
        assert await house.switch(to_backup=True) == {"took_ms": None, "master": None, "warnings": []}

    housed(tmp_path, scenario)


def test_a_master_is_handed_over_whatever_was_wanted(tmp_path: Path) -> None:
    """Whoever wants it to be BACKUP wants that."""

    async def scenario(house: House) -> None:
        task = house.switch(to_backup=True)
        await house.demoted("switch carp0")
        house.advertise()
        assert (await task)["master"] == "192.0.2.200"
        assert house.states()[0] is State.BACKUP

    housed(tmp_path, scenario)


def test_init_says_why(tmp_path: Path) -> None:
    """Also to those who want it to be BACKUP."""

    async def scenario(house: House) -> None:
        house.runtime.handle(parent_down(parent="eth0"))
        before = house.facts()
        for to_backup in (False, True):
            assert await refused(house.switch(to_backup=to_backup)) == ["carp0 is INIT: eth0 is down"]
        assert house.facts() == before

    housed(tmp_path, scenario)


def test_an_unknown_interface_is_refused(tmp_path: Path) -> None:
    """With those that there are."""

    async def scenario(house: House) -> None:
        with pytest.raises(UnknownNameError) as caught:
            await house.switch("carp9")
        assert caught.value.problems == ["carp9: there is no such carp interface with a vhid; there is carp0, carp1"]
        await house.runtime.reconfigure(configured({}))
        assert await refused(house.switch()) == ["carp0: there is no such carp interface with a vhid; there is none"]

    housed(tmp_path, scenario)


def test_one_is_not_handed_over_twice_at_once(tmp_path: Path) -> None:
    """The second is refused and the first goes on; another interface can be handed over meanwhile."""

    async def scenario(house: House) -> None:
        first = house.switch()
        await house.demoted("switch carp0")
        assert await refused(house.switch()) == ["carp0 is being handed over already"]
        other = house.switch("carp1")
        await house.demoted("switch carp1")
        house.advertise("carp1")
        await other
        assert (house.facts().keys(), house.states()) == ({"switch carp0"}, [State.MASTER, State.BACKUP])
        house.advertise()
        await first
        assert house.facts() == {}

    housed(tmp_path, scenario)


@pytest.mark.parametrize("timeout_s", [0, -1, 300.1, True, "5", [5], float("nan")])
def test_a_wrong_timeout_is_refused(tmp_path: Path, timeout_s: object) -> None:
    """By both ways to hand over; nothing is done."""

    async def scenario(house: House) -> None:
        for asked in (house.switch(timeout_s=timeout_s), house.maintain(on=True, timeout_s=timeout_s)):
            (problem,) = await refused(asked)
            assert problem.startswith("timeout: ")
            assert problem.endswith(" is not allowed: seconds, more than 0, at most 300")
        assert house.unchanged()
        assert not house.flag.exists()

    housed(tmp_path, scenario)


def test_the_timeout_is_kept(tmp_path: Path) -> None:
    """It is refused no sooner; a peer that comes before it is in time."""

    async def scenario(house: House) -> None:
        begin = boottime()
        assert len(await refused(house.switch(timeout_s=0.2))) == 1
        assert 0.2 <= (boottime() - begin) / NANOSECONDS_PER_SECOND < 2

    housed(tmp_path, scenario)


def test_a_wish_that_is_no_truth_value_is_refused(tmp_path: Path) -> None:
    """A word such as "false" would be taken for true."""

    async def scenario(house: House) -> None:
        house.backup()
        assert await refused(house.switch(to_backup="false")) == ['to_backup: "false" is not allowed: true or false']

    housed(tmp_path, scenario)


def test_all_virtual_hosts_are_handed_over(tmp_path: Path) -> None:
    """It is over when none of an interface's is MASTER any more."""
    parameters = carp_interface(nodes=(Node(1, 0), Node(2, 0)), carpdev="eth0")

    async def scenario(house: House) -> None:
        house.runtime.handle(with_interfaces(parameters))
        house.runtime.handle(Forced("carp0", State.MASTER))
        task = house.switch()
        await house.demoted("switch carp0")
        first, second = (Peer.of(parameters, vhid) for vhid in (1, 2))
        house.runtime.handle(first.arrives(first.advertisement(), boottime()))
        await asyncio.sleep(0.02)
        assert not task.done()
        house.runtime.handle(second.arrives(second.advertisement(), boottime()))
        assert (await task)["master"] == "192.0.2.200"

    housed(tmp_path, scenario, {})


def test_a_share_that_no_peer_takes(tmp_path: Path) -> None:
    """The hand-over has failed, and this host goes on with it; what was taken is the peer's, until this host preempts."""
    parameters = carp_interface(nodes=(Node(1, 0), Node(2, 0)), carpdev="eth0")

    async def scenario(house: House) -> None:
        house.runtime.handle(with_interfaces(parameters))
        house.runtime.handle(Forced("carp0", State.MASTER))
        task = house.switch(timeout_s=0.2)
        await house.demoted("switch carp0")
        peer = Peer.of(parameters, 1)
        house.runtime.handle(peer.arrives(peer.advertisement(), boottime()))
        (problem,) = await refused(task)
        assert problem.startswith("carp0: no peer took it within 0.2 s, so this host goes on as MASTER; ")
        interface = house.interface()
        assert [vhost.state for vhost in interface.vhosts] == [State.BACKUP, State.MASTER]
        assert (interface.held_back, interface.demote, house.facts()) == (False, 0, {})
        assert house.handover.describe()["serves"] == ["carp0"]

    housed(tmp_path, scenario, {})


def test_a_maintenance_hands_everything_over(tmp_path: Path) -> None:
    """Each peer's time is told; this host stays demoted after it, and says why."""

    async def scenario(house: House) -> None:
        task = house.maintain(on=True, reason="new disks", by="ann")
        await house.demoted("maintenance")
        house.advertise("carp1")
        await asyncio.sleep(0.02)
        assert not task.done()
        house.advertise("carp0")
        answer = await task
        assert list(answer["took_ms"]) == ["carp1", "carp0"]
        assert 0 <= answer["took_ms"]["carp1"] <= answer["took_ms"]["carp0"] - 20 < PATIENCE_S * 1000
        told = {key: answer[key] for key in ("on", "reason", "by", "kept", "hint", "serves")}
        assert told == {"on": True, "reason": "new disks", "by": "ann", "kept": [], "hint": "", "serves": []}
        (fact,) = house.facts().values()
        assert (fact.name, fact.amount, fact.groups, fact.until) == ("maintenance", 255, frozenset({"all"}), None)
        assert (fact.owner, fact.detail) == ("ann", "new disks")
        assert [one.demote for one in house.runtime.engine.interfaces] == [255, 255]
        assert house.runtime.observers == set()

    housed(tmp_path, scenario)


def test_what_nobody_takes_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named, with what may be the cause, and served; the maintenance holds all the same."""

    async def scenario(house: House) -> None:
        task = house.maintain(on=True, timeout_s=0.3)
        await house.demoted("maintenance")
        house.advertise("carp1")
        answer = await task
        assert (list(answer["took_ms"]), answer["kept"], answer["serves"]) == (["carp1"], ["carp0"], ["carp0"])
        assert (answer["on"], answer["hint"]) == (True, _NO_DEMOTE_BYTE)
        assert house.states() == [State.MASTER, State.BACKUP]
        assert list(house.facts()) == ["maintenance"]
        assert caplog.messages == ["carp0: no peer took over: this host goes on as MASTER"]
        house.advertise("carp0")
        assert (house.states()[0], house.handover.describe()["serves"]) == (State.BACKUP, [])

    housed(tmp_path, scenario)


def test_one_that_stops_in_a_maintenance(tmp_path: Path) -> None:
    """Is neither taken nor kept."""

    async def scenario(house: House) -> None:
        task = house.maintain(on=True)
        await house.demoted("maintenance")
        house.runtime.handle(parent_down(parent="eth0"))
        house.advertise("carp1")
        answer = await task
        assert (list(answer["took_ms"]), answer["kept"]) == (["carp1"], [])

    housed(tmp_path, scenario)


def test_a_maintenance_of_a_backup_is_at_once(tmp_path: Path) -> None:
    """There is nobody to wait for."""

    async def scenario(house: House) -> None:
        for name in ("carp0", "carp1"):
            house.backup(name)
        async with asyncio.timeout(PATIENCE_S):
            answer = await house.handover.maintain({"on": True, "timeout_s": 300})
        assert (answer["took_ms"], answer["kept"], answer["on"]) == ({}, [], True)
        assert list(house.facts()) == ["maintenance"]

    housed(tmp_path, scenario)


def test_the_flag_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the disk, for root's eyes only, before anything is handed over; nothing else is left beside it."""
    demoted_then: list[bool] = []
    write = maintenance.write

    async def scenario(house: House) -> None:
        def watched(folder: Path, flag: Maintenance) -> None:
            demoted_then.append("maintenance" in house.facts())
            write(folder, flag)

        monkeypatch.setattr(maintenance, "write", watched)
        task = house.maintain(on=True, reason="new disks", by="ann")
        await house.demoted("maintenance")
        fields = json.loads(house.flag.read_text())
        assert (fields["reason"], fields["by"]) == ("new disks", "ann")
        assert house.handover.describe()["since"] == fields["since"]
        assert house.flag.stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.iterdir()) == [house.flag]
        for name in ("carp0", "carp1"):
            house.advertise(name)
        await task
        assert demoted_then == [False]

    housed(tmp_path, scenario)


def test_a_maintenance_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The flag and the reason are gone, and this host takes part again; so it is if there was none."""
    caplog.set_level(logging.INFO, logger.name)
    off = {"on": False, "reason": "", "by": "", "since": "", "serves": ["carp0", "carp1"]}

    async def scenario(house: House) -> None:
        await house.handover.maintain({"on": True, "reason": "new disks", **SHORT})
        for _ in range(2):
            assert await house.handover.maintain({"on": False}) == off
            assert house.unchanged()
            assert list(tmp_path.iterdir()) == []
        assert [line for line in caplog.messages if "maint" in line] == [
            "maintenance begins: new disks",
            "maintenance is over",
            "maintenance is over",
        ]

    housed(tmp_path, scenario)


def test_a_maintenance_can_be_told_again(tmp_path: Path) -> None:
    """The newest reason is shown, here and after a restart."""

    async def scenario(house: House) -> None:
        await house.handover.maintain({"on": True, "reason": "new disks", **SHORT})
        await house.handover.maintain({"on": True, "reason": "new kernel", "by": "bob", **SHORT})
        (fact,) = house.facts().values()
        assert (fact.detail, fact.owner) == ("new kernel", "bob")
        again = House(tmp_path)
        again.handover.begin()
        assert again.handover.describe()["reason"] == "new kernel"

    housed(tmp_path, scenario)


def test_a_maintenance_that_is_only_tried_again(tmp_path: Path) -> None:
    """Without another reason it stays the same one, of the same person, since then; what a broken flag said is forgotten."""

    async def scenario(house: House) -> None:
        maintenance.write(tmp_path, maintenance.Maintenance("new disks", "ann", "2026-01-02T03:04:05+00:00"))
        house.handover.begin()
        await house.handover.maintain({"on": True, **SHORT})
        told = house.handover.describe()
        assert (told["reason"], told["by"], told["since"]) == ("new disks", "ann", "2026-01-02T03:04:05+00:00")
        (tmp_path / "maintenance.json").write_text("{")
        house.handover.begin()
        await house.handover.maintain({"on": True, **SHORT})
        told = house.handover.describe()
        assert told["reason"] == ""
        assert told["since"]

    housed(tmp_path, scenario)


def test_it_is_described(tmp_path: Path) -> None:
    """Whether it is on, why, who said so, since when; and what this host serves all the same."""

    async def scenario(house: House) -> None:
        none = {"on": False, "reason": "", "by": "", "since": ""}
        assert house.handover.describe() == {**none, "serves": ["carp0", "carp1"]}
        house.backup("carp1")
        await house.handover.maintain({"on": True, "reason": "r", "by": "ann", **SHORT})
        described = house.handover.describe()
        assert described.pop("since").endswith("+00:00")
        assert described == {"on": True, "reason": "r", "by": "ann", "serves": ["carp0"]}

    housed(tmp_path, scenario)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "on: true or false is to be given"),
        ({"on": None}, "on: true or false is to be given"),
        ({"on": "off"}, 'on: "off" is not allowed: true or false'),
        ({"on": 1}, "on: 1 is not allowed: true or false"),
    ],
)
def test_what_is_no_maintenance_is_refused(tmp_path: Path, values: dict[str, Any], sentence: str) -> None:
    """Nothing begins and nothing ends."""

    async def scenario(house: House) -> None:
        assert await refused(house.handover.maintain(values)) == [sentence]
        assert (house.unchanged(), house.flag.exists()) == (True, False)

    housed(tmp_path, scenario)


def test_words_of_people_fit_into_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody writes lines of the log by a reason."""
    caplog.set_level(logging.INFO, logger.name)

    async def scenario(house: House) -> None:
        answer = await house.handover.maintain({"on": True, "reason": "a\nb\x1b[0m", "by": "x\ny", **SHORT})
        assert (answer["reason"], answer["by"]) == ("a b [0m", "x y")
        assert "maintenance begins: a b [0m" in caplog.messages

    housed(tmp_path, scenario)


def test_a_flag_that_cannot_be_written(tmp_path: Path) -> None:
    """Refuses the maintenance: it would be over with the next restart. Nothing is handed over."""

    async def scenario(house: House) -> None:
        (problem,) = await refused(house.handover.maintain({"on": True}))
        assert problem == "the maintenance flag cannot be written: No such file or directory"
        assert house.unchanged()
        assert house.handover.describe()["on"] is False

    housed(tmp_path / "absent", scenario)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Is named, when a maintenance begins and when it ends; what was on stays on, and what was off stays off."""

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    async def scenario(house: House) -> None:
        sentence = f"the maintenance flag cannot be written: {os.strerror(number)}"
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            assert await refused(house.handover.maintain({"on": True})) == [sentence]
            assert (house.unchanged(), house.flag.exists()) == (True, False)
        await house.handover.maintain({"on": True, **SHORT})
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            assert await refused(house.handover.maintain({"on": False})) == [sentence]
            assert (house.handover.describe()["on"], list(house.facts())) == (True, ["maintenance"])

    housed(tmp_path, scenario)


def test_a_maintenance_goes_on_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From the first moment, before anything is configured; the log says so."""

    async def scenario(house: House) -> None:
        await house.handover.maintain({"on": True, "reason": "new disks", "by": "ann", **SHORT})
        caplog.clear()
        again = House(tmp_path)
        again.handover.begin()
        (fact,) = again.facts().values()
        assert (fact.name, fact.amount, fact.groups) == ("maintenance", 255, frozenset({"all"}))
        assert (fact.owner, fact.detail, fact.until) == ("ann", "new disks", None)
        assert caplog.messages == ["in maintenance: new disks"]
        described = again.handover.describe()
        assert described == {**house.handover.describe(), "serves": []}
        await again.start()
        assert [one.demote for one in again.runtime.engine.interfaces] == [255, 255]
        await again.handover.maintain({"on": False})
        assert again.unchanged()

    housed(tmp_path, scenario)


def test_no_maintenance_begins_by_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a flag there is none, and no word of it."""

    async def scenario(house: House) -> None:
        house.handover.begin()
        assert (house.unchanged(), caplog.messages) == (True, [])

    housed(tmp_path, scenario)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"on"',
        b"7",
        b"{}",
        b'{"reason": "x"}',
        b"\xff\xfe",
        b"[" * 100000,
        b'{"reason": ' + b"[" * 100000,
    ],
)
def test_a_flag_that_cannot_be_read_counts(tmp_path: Path, content: bytes) -> None:
    """Somebody has set it: this host stays out of the way, says so, and can be brought back."""

    async def scenario(house: House) -> None:
        house.flag.write_bytes(content)
        house.handover.begin()
        described = house.handover.describe()
        assert described["on"] is True
        assert described["reason"].startswith(f"{house.flag} is there and cannot be read: ")
        assert (described["by"], described["since"]) == ("", "")
        (fact,) = house.facts().values()
        assert (fact.amount, fact.owner, fact.detail) == (255, "admin", described["reason"])
        await house.handover.maintain({"on": False})
        assert (house.flag.exists(), house.facts()) == (False, {})

    housed(tmp_path, scenario)


def test_an_entry_that_is_no_file_counts(tmp_path: Path) -> None:
    """And whoever wants to end the maintenance is told what is wrong with it."""

    async def scenario(house: House) -> None:
        house.flag.mkdir()
        house.handover.begin()
        reason = house.handover.describe()["reason"]
        assert reason.startswith(f"{house.flag} is there and cannot be read: ")
        assert reason.endswith(f"Is a directory: '{house.flag}'")
        assert await refused(house.handover.maintain({"on": False})) == [
            "the maintenance flag cannot be written: Is a directory"
        ]
        assert list(house.facts()) == ["maintenance"]

    housed(tmp_path, scenario)


def test_values_of_other_kinds_are_read_as_words(tmp_path: Path) -> None:
    """Whoever wrote the flag by hand means it."""

    async def scenario(house: House) -> None:
        house.flag.write_text('{"reason": 7, "by": null, "since": [], "more": 1}')
        house.handover.begin()
        assert house.handover.describe()["reason"] == "7"

    housed(tmp_path, scenario)


def test_the_newest_wish_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever the disk is quicker with: what holds here and what is on the disk are the same."""
    write = maintenance.write
    gate = asyncio.Event()

    async def scenario(house: House) -> None:
        loop = asyncio.get_running_loop()

        def slow(folder: Path, flag: Maintenance) -> None:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(PATIENCE_S)
            write(folder, flag)

        monkeypatch.setattr(maintenance, "write", slow)
        on = house.maintain(on=True, **SHORT)
        await asyncio.sleep(0.02)
        off = house.maintain(on=False)
        await asyncio.sleep(0.02)
        gate.set()
        await asyncio.gather(on, off)
        assert (house.flag.exists(), house.handover.describe()["on"], house.facts()) == (False, False, {})

    housed(tmp_path, scenario)


def test_a_caller_of_a_maintenance_who_gives_up(tmp_path: Path) -> None:
    """Has begun it: it goes on until it is ended."""

    async def scenario(house: House) -> None:
        task = house.maintain(on=True)
        await house.demoted("maintenance")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (house.flag.exists(), list(house.facts()), house.runtime.observers) == (True, ["maintenance"], set())

    housed(tmp_path, scenario)


SYNC: dict[str, Any] = {**DOCUMENT, "sync": {"interface": "eth9", "conntrackd": "/run/no-conntrackd.ctl"}}
DOUBT = (
    "the peer may lack the states of connections, which then break: conntrackd cannot be asked at /run/no-conntrackd.ctl: No"
    " such file or directory"
)


def test_connections_that_may_break(tmp_path: Path) -> None:
    """Both ways of handing over say so, and do it; the one that leaves a side here says how to hand that over, too."""

    async def scenario(house: House) -> None:
        house.runtime.state_sync.adopt(house.runtime.adopted[-1].sync)
        task = house.switch()
        await house.demoted("switch carp0")
        house.advertise()
        doubt, rest = (await task)["warnings"]
        assert doubt == DOUBT
        assert rest.startswith("carp1 is MASTER here still: packets between it and carp0 do not pass; hand it over, too: carp")
        task = house.maintain(on=True)
        await house.demoted("maintenance")
        house.advertise("carp1")
        answer = await task
        assert (answer["warnings"], answer["kept"]) == ([DOUBT], [])
        assert (await house.maintain(on=True))["warnings"] == []
        await house.runtime.state_sync.stop()

    housed(tmp_path, scenario, SYNC)


def test_without_sync_nothing_is_warned_of(tmp_path: Path) -> None:
    """Nobody knows of connections."""

    async def scenario(house: House) -> None:
        task = house.switch()
        await house.demoted("switch carp0")
        house.advertise()
        assert (await task)["warnings"] == []

    housed(tmp_path, scenario)
