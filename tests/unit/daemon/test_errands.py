"""What the attendant is told to do and what comes of its answers; a list stands in its place."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import FakeRuntime, play

from carp.attendant.orders import Check, Checked, CheckKind, Forget, Hook, HookEnded, HookKind, Message, Watch
from carp.config.hooks import Hooks
from carp.config.load import Configuration
from carp.config.track import Track
from carp.daemon import errands as errands_module
from carp.daemon.chronicle import logger
from carp.daemon.errands import Errands
from carp.linux.clock import boottime
from carp.protocol.actions import Note, Notice, Prepare, Reason, Transition
from carp.protocol.demotion import Demotion
from carp.protocol.events import Configured, Due, Event, Forced, Prepared
from carp.protocol.health import OWNER
from carp.protocol.parameters import HostParameters, Node
from carp.protocol.values import NANOSECONDS_PER_SECOND, Family, Instant, State
from carp.testing.hosts import address, carp_interface
from carp.testing.packets import Peer

ADDRESSES = (address("192.0.2.100/24"), address("2001:db8::100/64"))
CARP0 = carp_interface("carp0", 1, carpdev="eth0", addresses=ADDRESSES, pre_master=True)
CARP1 = carp_interface("carp1", 2, carpdev="eth0", groups=("lan",))
CARP2 = carp_interface("carp2", nodes=(Node(3), Node(4, 100)), carpdev="eth0", addresses=ADDRESSES, pre_master=True)
ALL = Hooks({kind: (f"/etc/carp/{kind.value}", "x") for kind in HookKind})
SOURCE = bytes((192, 0, 2, 200))


def track(name: str, demote: int = 10, groups: Iterable[str] = ("carp",), **check: Any) -> Track:
    """Describe a track of a file."""
    return Track(Check(name, CheckKind.FILE, f"/run/{name}", **check), demote, frozenset(groups))


@pytest.fixture(autouse=True)
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this be a host with systemd, which the returned directory says."""
    monkeypatch.setattr(errands_module, "_SYSTEMD", tmp_path)
    return tmp_path


def configuration(*tracks: Track, hooks: Hooks = ALL, **values: Any) -> Configuration:
    """Describe carp0 and carp1, and what is to be done for them."""
    return Configuration(HostParameters((CARP0, CARP1)), tracks=tracks, hooks={"carp0": hooks, "carp1": hooks}, **values)


BARE = replace(configuration(), hooks={})


class FakeAttendance:
    """Keeps what it is told; it has no process."""

    def __init__(
        self,
        user: str,
        received: Callable[[Message], None],
        began: Callable[[], Iterable[Message]],
        lost: Callable[[], None],
    ) -> None:
        self.user = user
        self.received = received
        self.began = began
        self.lost = lost
        self.sent: list[Message] = []
        self.starts: list[str] = []
        self.stopped = False
        self.listens = True

    def start(self) -> None:
        """Begin, and take note of what is told at once."""
        self.starts.append(self.user)
        for message in self.began():
            self.send(message)

    restart = start

    def send(self, message: Message) -> bool:
        """Take an order."""
        if self.listens:
            self.sent.append(message)
        return self.listens

    async def stop(self) -> None:
        """End."""
        self.stopped = True

    def hooks(self) -> list[str]:
        """Return the hooks that were ordered since the last look, with their queues and serials."""
        orders = [one for one in self.sent if isinstance(one, Hook)]
        self.sent.clear()
        return [f"{one.queue} {one.kind.value} {one.serial}" for one in orders]

    def taken(self) -> list[Message]:
        """Return everything that was ordered since the last look."""
        sent = list(self.sent)
        self.sent.clear()
        return sent


class House:
    """The errands of an engine, with a clock that stands still."""

    def __init__(self, configured: Configuration = BARE) -> None:
        self.runtime = FakeRuntime()
        self.engine = self.runtime.engine
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []
        self.attendances: list[FakeAttendance] = []
        self.events: list[Event] = []
        self.within = False
        make: Any = self.make
        self.errands = Errands(self.engine, self.handle, self.call_later, make)
        self.errands.begin(configured)
        self.runtime.handle(Configured(configured.host))
        self.events.clear()
        self.adopt(configured)

    def adopt(self, configuration: Configuration) -> None:
        """Let the errands adopt a configuration as the runtime does."""
        self.errands.expect(configuration)
        self.errands.adopt(configuration)

    def make(self, *arguments: Any) -> FakeAttendance:
        """Make an attendance."""
        self.attendances.append(FakeAttendance(*arguments))
        return self.attendances[-1]

    @property
    def attendance(self) -> FakeAttendance:
        """The only one that was made."""
        (one,) = self.attendances
        return one

    def handle(self, event: Event) -> None:
        """Give the engine an event, as the runtime does; never from within the handling of another."""
        assert not self.within
        self.events.append(event)
        self.runtime.handle(event)

    def call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        """Keep what is to be called."""
        self.timers.append((delay, call, arguments))

    def pass_by(self, seconds: float) -> None:
        """Call what is due within so much time."""
        due = [one for one in self.timers if one[0] <= seconds]
        self.timers = [one for one in self.timers if one[0] > seconds]
        for _, call, arguments in due:
            call(*arguments)

    def change(self, old: State, new: State, **more: Any) -> None:
        """Tell the errands of a change of carp0, or of another."""
        values = {"interface": "carp0", "vhid": 1, "reason": Reason.MASTER_TIMED_OUT, **more}
        parameters = {"carp0": CARP0, "carp1": CARP1, "carp2": CARP2}[values["interface"]]
        self.within = True
        self.errands.transition(Transition(old=old, new=new, **values), parameters)
        self.within = False

    def prepare(self, serial: int, name: str = "carp0", vhid: int = 1) -> None:
        """Let the engine ask for a pre-master stage."""
        self.within = True
        self.errands.prepare(Prepare(name, vhid, serial))
        self.within = False

    def reassert(self, name: str = "carp0", vhid: int = 1) -> None:
        """Let carp0, or another, say again that it is MASTER."""
        self.within = True
        self.errands.notice(Notice(name, vhid, Note.REASSERTED))
        self.within = False

    def checked(self, name: str, *, holds: bool, detail: str = "gone") -> None:
        """Let the attendant tell the result of a check."""
        self.attendance.received(Checked(name, holds, detail))

    def ended(self, kind: HookKind, serial: int = 1, problem: str = "", queue: str = "carp0") -> None:
        """Let the attendant tell the end of a hook."""
        self.attendance.received(HookEnded(queue, serial, kind, problem))

    def facts(self) -> dict[str, Demotion]:
        """Return the reasons that hold."""
        return {fact.name: fact for fact in self.engine.host.demotions}

    def counts(self) -> list[int]:
        """Return what carp0 and carp1 are demoted by."""
        return [one.demote for one in self.engine.interfaces]

    def answered(self) -> list[Prepared]:
        """Return the stages that were answered."""
        return [event for event in self.events if isinstance(event, Prepared)]

    def prepared(self) -> list[int]:
        """Return the serials of the stages of carp0 that were answered."""
        return [event.serial for event in self.events if isinstance(event, Prepared) and event.interface == "carp0"]


@pytest.fixture
def house() -> House:
    """Run carp0 and carp1 with every hook."""
    return House(configuration())


@pytest.fixture
def tracked() -> House:
    """Run with two tracks, and without hooks."""
    return House(replace(configuration(track("uplink"), track("disk", 5, ["lan"])), hooks={}))


# The attendant


def test_there_is_no_attendant_without_need() -> None:
    """It comes when a reload brings it something to do, and then it stays."""
    house = House()
    assert house.attendances == []
    house.adopt(configuration(track("uplink")))
    assert house.attendance.starts == ["nobody"]
    house.adopt(BARE)
    assert (house.attendance.starts, house.attendance.stopped) == (["nobody"], False)


@pytest.mark.parametrize(
    "configured",
    [
        replace(configuration(track("uplink")), hooks={}),
        configuration(hooks=Hooks({HookKind.CHANGE: ("/etc/carp/x",)})),
        replace(BARE, start_demote=10),
    ],
    ids=["track", "hook", "start"],
)
def test_there_is_an_attendant_for_each_need(configured: Configuration) -> None:
    """A track, a hook, or the start of the host."""
    assert House(replace(configured, script_user="carp")).attendance.starts == ["carp"]


def test_hooks_that_are_none_need_no_attendant() -> None:
    """A timeout alone runs nothing."""
    assert House(configuration(hooks=Hooks(timeout_ns=1))).attendances == []


def test_another_user_is_another_attendant() -> None:
    """It is started as that user and told of every check; what was asked of the former one is answered."""
    house = House(configuration(track("uplink")))
    house.prepare(1)
    house.attendance.taken()
    other = configuration(track("uplink"), track("disk"), script_user="carp")
    house.adopt(other)
    assert house.attendance.starts == ["nobody", "carp"]
    assert house.attendance.taken() == [Watch(one.check) for one in other.tracks]
    house.pass_by(0)
    assert house.prepared() == [1]


def test_the_attendant_ends_with_the_daemon(house: House) -> None:
    """And where there is none nothing is ended."""
    play(house.errands.stop)
    assert house.attendance.stopped
    play(House().errands.stop)


def test_the_last_hooks_are_waited_for(house: House) -> None:
    """Those of the newest change, each of them; what is older is not."""

    async def scenario() -> None:
        house.change(State.MASTER, State.BACKUP)
        house.change(State.BACKUP, State.INIT)
        stopping = asyncio.create_task(house.errands.stop())
        for kind, serial in ((HookKind.BACKUP, 1), (HookKind.CHANGE, 1), (HookKind.INIT, 2)):
            house.ended(kind, serial)
            await asyncio.sleep(0.01)
            assert not house.attendance.stopped
        house.ended(HookKind.CHANGE, 2, problem="exit status 1")
        async with asyncio.timeout(2):
            await stopping
        assert house.attendance.stopped

    play(scenario)


def test_the_last_hooks_are_not_waited_for_long(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is to stop stops."""
    monkeypatch.setattr("carp.daemon.errands._LAST_HOOKS_S", 0.05)
    house.change(State.MASTER, State.INIT)
    play(house.errands.stop)
    assert house.attendance.stopped


def test_hooks_of_a_lost_attendant_are_not_waited_for(house: House) -> None:
    """Nobody would tell their end."""

    async def scenario() -> None:
        house.change(State.MASTER, State.INIT)
        stopping = asyncio.create_task(house.errands.stop())
        await asyncio.sleep(0.01)
        assert not house.attendance.stopped
        house.attendance.lost()
        async with asyncio.timeout(2):
            await stopping

    play(scenario)


def test_hooks_that_nobody_runs_are_not_waited_for(house: House) -> None:
    """They were refused."""
    house.attendance.listens = False
    house.change(State.MASTER, State.INIT)

    async def scenario() -> None:
        async with asyncio.timeout(2):
            await house.errands.stop()

    play(scenario)


# The start of the host


def starting() -> House:
    """Run with a start that demotes by 100 for a minute at most."""
    return House(replace(BARE, start_demote=100, start_demote_time_ns=60 * NANOSECONDS_PER_SECOND))


def test_a_start_demotes_every_interface() -> None:
    """Until a moment that is known; it is carpd's own reason."""
    before = boottime()
    house = starting()
    (fact,) = house.facts().values()
    assert (fact.name, fact.amount, fact.groups, fact.owner) == ("start", 100, frozenset({"all"}), OWNER)
    assert fact.detail == "until this host has started"
    assert fact.until is not None
    assert before <= fact.until - 60 * NANOSECONDS_PER_SECOND <= boottime()
    assert house.counts() == [100, 100]
    (order,) = house.attendance.sent
    assert isinstance(order, Watch)
    assert order.check.kind is CheckKind.BOOT


def test_a_start_is_over_when_the_host_has_started() -> None:
    """Not while it has not; then the attendant that comes after is not asked about it any more."""
    house = starting()
    (order,) = house.attendance.sent
    assert isinstance(order, Watch)
    name = order.check.name
    house.checked(name, holds=False, detail="starting")
    assert house.counts() == [100, 100]
    house.attendance.taken()
    house.attendance.start()
    assert house.attendance.taken() == [order]
    house.checked(name, holds=True)
    assert (house.facts(), house.errands.describe()) == ({}, [])
    house.attendance.start()
    assert house.attendance.taken() == []


def test_a_start_is_over_after_its_time() -> None:
    """Whatever the host says; what it says later changes nothing."""
    house = starting()
    (order,) = house.attendance.sent
    assert isinstance(order, Watch)
    house.engine.handle(Due(Instant(0)), Instant(boottime() + 61 * NANOSECONDS_PER_SECOND))
    assert house.counts() == [0, 0]
    house.checked(order.check.name, holds=True)
    assert house.counts() == [0, 0]


def test_a_start_does_not_demote_unless_it_is_wanted() -> None:
    """Nor does a reload that wants it: the start was before."""
    house = House(BARE)
    house.adopt(replace(BARE, start_demote=100))
    assert (house.facts(), house.attendances) == ({}, [])


# Tracks


def test_the_attendant_is_told_what_to_watch(tracked: House) -> None:
    """Every check, whenever it starts."""
    watched = [Watch(track("uplink").check), Watch(track("disk").check)]
    assert tracked.attendance.taken() == watched
    tracked.attendance.start()
    assert tracked.attendance.taken() == watched


def test_only_what_changes_is_told() -> None:
    """What is new or checked otherwise is watched, what is gone forgotten; what demotes otherwise is no other check."""
    house = House(configuration(track("same"), track("other"), track("gone"), track("heavier")))
    house.attendance.taken()
    changed = track("other", fall=7)
    house.adopt(configuration(track("same"), changed, track("heavier", 99, ["lan"]), track("new")))
    assert house.attendance.taken() == [Forget("gone"), Watch(changed.check), Watch(track("new").check)]
    assert house.attendance.starts == ["nobody"]


def test_a_check_that_fails_demotes(tracked: House, caplog: pytest.LogCaptureFixture) -> None:
    """Its groups by its amount, under its name, with what the attendant says; the log tells."""
    tracked.checked("disk", holds=False, detail="no such file")
    (fact,) = tracked.facts().values()
    assert (fact.name, fact.amount, fact.groups) == ("track disk", 5, frozenset({"lan"}))
    assert (fact.owner, fact.detail, fact.until) == ("track", "no such file", None)
    assert tracked.counts() == [0, 5]
    assert caplog.messages == ["track disk fails: no such file"]


def test_a_check_that_holds_again_demotes_no_more(tracked: House, caplog: pytest.LogCaptureFixture) -> None:
    """The others go on to; the log tells."""
    caplog.set_level(logging.INFO, logger.name)
    tracked.checked("disk", holds=False)
    tracked.checked("uplink", holds=False)
    caplog.clear()
    tracked.checked("disk", holds=True, detail="there")
    assert (list(tracked.facts()), tracked.counts()) == (["track uplink"], [10, 0])
    assert caplog.messages == ["track disk holds again"]


def test_a_check_that_never_failed_is_not_told(tracked: House, caplog: pytest.LogCaptureFixture) -> None:
    """A first good result is no news."""
    caplog.set_level(logging.INFO, logger.name)
    tracked.checked("disk", holds=True)
    assert (tracked.facts(), caplog.messages) == ({}, [])


def test_another_detail_is_taken_over(tracked: House, caplog: pytest.LogCaptureFixture) -> None:
    """It fails since then; the log does not tell it a second time."""
    tracked.checked("disk", holds=False, detail="no such file")
    since = tracked.facts()["track disk"].since
    caplog.clear()
    tracked.checked("disk", holds=False, detail="not permitted")
    fact = tracked.facts()["track disk"]
    assert (fact.detail, fact.since, caplog.messages) == ("not permitted", since, [])


def test_the_result_of_an_unknown_check_is_ignored(tracked: House) -> None:
    """It may come after the track was taken away."""
    tracked.adopt(replace(configuration(track("uplink")), hooks={}))
    for name in ("disk", "", "start"):
        tracked.checked(name, holds=False)
        tracked.checked(name, holds=True)
    assert tracked.facts() == {}


def test_a_track_that_is_taken_away_demotes_no_more(tracked: House) -> None:
    """At once; if it comes again it begins anew."""
    tracked.checked("disk", holds=False)
    both = [track("uplink"), track("disk", 5, ["lan"])]
    tracked.adopt(replace(configuration(both[0]), hooks={}))
    assert tracked.facts() == {}
    tracked.adopt(replace(configuration(*both), hooks={}))
    assert tracked.facts() == {}
    assert [one["holds"] for one in tracked.errands.describe()] == [True, True]


def test_a_failing_track_that_changes_demotes_otherwise_at_once(tracked: House) -> None:
    """By its new amount and its new groups, since when it failed; nothing is asked anew."""
    tracked.checked("disk", holds=False, detail="no such file")
    former = tracked.facts()["track disk"]
    tracked.attendance.taken()
    tracked.adopt(replace(configuration(track("uplink"), track("disk", 70, ["all"])), hooks={}))
    assert tracked.facts() == {"track disk": replace(former, amount=70, groups=frozenset({"all"}))}
    assert tracked.counts() == [70, 70]
    assert tracked.attendance.taken() == []


def test_a_reload_without_a_change_touches_nothing(tracked: House) -> None:
    """Neither the engine nor the attendant hears of it."""
    tracked.checked("disk", holds=False)
    tracked.attendance.taken()
    tracked.events.clear()
    tracked.adopt(replace(configuration(track("uplink"), track("disk", 5, ["lan"])), hooks={}))
    assert (tracked.attendance.taken(), tracked.events) == ([], [])


def test_what_checks_said_outlives_the_attendant(tracked: House) -> None:
    """A check that failed goes on to demote until a new attendant says otherwise."""
    tracked.checked("disk", holds=False)
    tracked.attendance.lost()
    tracked.pass_by(3600)
    assert tracked.counts() == [0, 5]


def test_tracks_are_described(tracked: House) -> None:
    """Each with what it checks, whether it holds, why not, and what it demotes."""
    tracked.checked("disk", holds=False, detail="no such file")
    uplink, disk = tracked.errands.describe()
    assert uplink == {
        "name": "uplink",
        "kind": "file",
        "target": "/run/uplink",
        "holds": True,
        "detail": "",
        "demote": 10,
        "groups": ["carp"],
    }
    told = (disk["name"], disk["holds"], disk["detail"], disk["demote"], disk["groups"])
    assert told == ("disk", False, "no such file", 5, ["lan"])


# Hooks


@pytest.mark.parametrize(("state", "kind"), [(State.BACKUP, "backup"), (State.INIT, "init")])
def test_the_hooks_of_other_states_run_at_once(house: House, state: State, kind: str) -> None:
    """That of the state, and `change` after it."""
    house.change(State.MASTER, state)
    assert house.attendance.hooks() == [f"carp0 {kind} 1", "carp0 change 1"]


def test_the_hooks_of_a_master_wait_for_the_addresses(house: House) -> None:
    """Whoever is called finds them set; once for each time that it becomes MASTER."""
    house.change(State.BACKUP, State.MASTER)
    assert house.attendance.hooks() == []
    house.errands.addresses_live("carp1")
    assert house.attendance.hooks() == []
    house.errands.addresses_live("carp0")
    assert house.attendance.hooks() == ["carp0 master 1", "carp0 change 1"]
    house.errands.addresses_live("carp0")
    assert house.attendance.hooks() == []


def test_a_master_that_never_had_its_addresses_runs_no_hook(house: House) -> None:
    """What it became instead has its own; addresses that come too late change nothing."""
    house.change(State.BACKUP, State.MASTER)
    house.change(State.MASTER, State.BACKUP)
    assert house.attendance.hooks() == ["carp0 backup 2", "carp0 change 2"]
    house.errands.addresses_live("carp0")
    assert house.attendance.hooks() == []


def test_the_serial_rises_with_each_change(house: House) -> None:
    """Each interface counts for itself; that is how the attendant knows what is overtaken."""
    house.change(State.INIT, State.BACKUP)
    house.change(State.BACKUP, State.INIT)
    house.change(State.INIT, State.BACKUP, interface="carp1", vhid=2)
    serials = [
        (one.queue, one.serial) for one in house.attendance.sent if isinstance(one, Hook) and one.kind is not HookKind.CHANGE
    ]
    assert serials == [("carp0", 1), ("carp0", 2), ("carp1", 1)]


def test_an_interface_that_nobody_knows_has_no_hook(house: House) -> None:
    """Nor does its change disturb the others."""
    house.errands.transition(Transition("carp9", 1, State.BACKUP, State.INIT, Reason.STOPPED), None)
    assert house.attendance.hooks() == []


def test_a_hook_is_told_what_happened(house: House) -> None:
    """Its program, its time, and each field that the documentation names; nobody waits for its answer."""
    house.change(State.BACKUP, State.INIT, reason=Reason.NOT_READY, detail="eth0 is down", source=SOURCE)
    order = house.attendance.sent[0]
    assert isinstance(order, Hook)
    assert (order.argv, order.timeout_ns, order.answer) == (("/etc/carp/init", "x"), ALL.timeout_ns, False)
    assert order.context == {
        "hook": "init",
        "interface": "carp0",
        "vhid": 1,
        "old_state": "BACKUP",
        "state": "INIT",
        "reason": "not ready: eth0 is down",
        "peer": "192.0.2.200",
        "addresses": ["192.0.2.100/24", "2001:db8::100/64"],
        "carpdev": "eth0",
    }
    change = house.attendance.sent[1]
    assert isinstance(change, Hook)
    assert change.context == {**order.context, "hook": "change"}


def test_a_change_that_nobody_caused_has_no_peer(house: House) -> None:
    """The field is there and empty, and the reason stands alone."""
    house.change(State.INIT, State.BACKUP, reason=Reason.INITIALIZED)
    order = house.attendance.sent[0]
    assert isinstance(order, Hook)
    assert (order.context["peer"], order.context["reason"]) == ("", "initialization complete")


def test_a_hook_that_is_not_there_is_not_run() -> None:
    """`change` alone is run after each; an interface without hooks runs none."""
    change = Hooks({HookKind.CHANGE: ("/etc/carp/change",)})
    house = House(replace(configuration(), hooks={"carp0": change}))
    house.change(State.BACKUP, State.MASTER)
    house.errands.addresses_live("carp0")
    house.change(State.MASTER, State.INIT)
    house.change(State.BACKUP, State.INIT, interface="carp1", vhid=2)
    assert house.attendance.hooks() == ["carp0 change 1", "carp0 change 2"]


def test_new_hooks_are_used_from_the_next_change(house: House) -> None:
    """And none runs because of the reload."""
    house.adopt(configuration(hooks=Hooks({HookKind.INIT: ("/new",)}, timeout_ns=7)))
    assert house.attendance.taken() == []
    house.change(State.BACKUP, State.INIT)
    (order,) = house.attendance.sent
    assert isinstance(order, Hook)
    assert (order.kind, order.argv, order.timeout_ns) == (HookKind.INIT, ("/new",), 7)


@pytest.mark.parametrize("problem", ["", "overtaken"])
def test_a_hook_that_ends_well_is_not_told(house: House, caplog: pytest.LogCaptureFixture, problem: str) -> None:
    """Nor is one that was overtaken."""
    house.ended(HookKind.MASTER, problem=problem)
    assert caplog.messages == []


def test_a_hook_that_fails_is_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, and nothing else comes of it; one of an interface that is gone too."""
    house.events.clear()
    for queue in ("carp0", "carp9"):
        house.ended(HookKind.MASTER, problem="exit status 3", queue=queue)
    assert caplog.messages == [f"{name}: the hook master failed: exit status 3" for name in ("carp0", "carp9")]
    assert house.events == []


def test_a_hook_that_nobody_hears_of_is_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """In the log."""
    house.attendance.listens = False
    house.change(State.BACKUP, State.INIT)
    assert caplog.messages == [
        f"carp0: the hook {kind} was not run: the attendant does not listen" for kind in ("init", "change")
    ]


# Reasserted


def test_a_reassertion_has_a_hook(house: House) -> None:
    """As the MASTER that it is, with what is known of how it became one."""
    house.change(State.BACKUP, State.MASTER)
    house.errands.addresses_live("carp0")
    house.attendance.taken()
    house.reassert()
    (order,) = house.attendance.sent
    assert isinstance(order, Hook)
    assert (order.kind, order.serial, order.answer) == (HookKind.REASSERTED, 1, False)
    told = {key: order.context[key] for key in ("hook", "interface", "vhid", "old_state", "state", "reason", "carpdev")}
    assert told == {
        "hook": "reasserted",
        "interface": "carp0",
        "vhid": 1,
        "carpdev": "eth0",
        "old_state": "MASTER",
        "state": "MASTER",
        "reason": Note.REASSERTED.value,
    }


def test_reassertions_are_no_flood(house: House) -> None:
    """The next hook runs after the end of the last."""
    house.change(State.BACKUP, State.MASTER)
    for _ in range(100):
        house.reassert()
    assert house.attendance.hooks() == ["carp0 reasserted 1"]
    house.ended(HookKind.MASTER)
    house.reassert()
    assert house.attendance.hooks() == []
    house.ended(HookKind.REASSERTED, problem="exit status 1")
    house.reassert()
    assert house.attendance.hooks() == ["carp0 reasserted 1"]


def test_a_reassertion_after_another_change(house: House) -> None:
    """Has its hook again: one that was overtaken by the change is never reported, and one that ends late is another's."""
    house.change(State.BACKUP, State.MASTER)
    house.reassert()
    house.change(State.MASTER, State.BACKUP)
    house.change(State.BACKUP, State.MASTER)
    house.attendance.taken()
    house.reassert()
    assert house.attendance.hooks() == ["carp0 reasserted 3"]
    house.ended(HookKind.REASSERTED, serial=1)
    house.reassert()
    assert house.attendance.hooks() == []
    house.ended(HookKind.REASSERTED, serial=3)
    house.reassert()
    assert house.attendance.hooks() == ["carp0 reasserted 3"]


def test_a_reassertion_after_the_attendant_was_lost(house: House) -> None:
    """Has its hook again, as soon as there is somebody to run it."""
    house.change(State.BACKUP, State.MASTER)
    house.reassert()
    house.attendance.lost()
    house.attendance.taken()
    house.attendance.listens = False
    house.reassert()
    house.attendance.listens = True
    house.reassert()
    assert house.attendance.hooks() == ["carp0 reasserted 1"]


def test_hooks_that_come_with_a_reload_know_what_was_before() -> None:
    """An interface that became MASTER without any is told of as a whole."""
    house = House()
    house.change(State.BACKUP, State.MASTER)
    house.errands.addresses_live("carp0")
    house.adopt(configuration())
    house.reassert()
    (order,) = house.attendance.sent
    assert isinstance(order, Hook)
    assert (order.context["interface"], order.context["addresses"]) == ("carp0", ["192.0.2.100/24", "2001:db8::100/64"])
    house.attendance.taken()
    house.errands.addresses_live("carp0")
    assert house.attendance.hooks() == []


def test_other_notices_have_no_hook(house: House) -> None:
    """Only a reassertion."""
    for note in Note:
        if note is not Note.REASSERTED:
            house.errands.notice(Notice("carp0", 1, note))
    assert house.attendance.hooks() == []


# Several virtual hosts on one carp interface


@pytest.fixture
def balanced() -> House:
    """Run carp2, whose virtual hosts are 3 and 4, with every hook."""
    return House(Configuration(HostParameters((CARP2,)), hooks={"carp2": ALL}))


def test_each_virtual_host_has_hooks(balanced: House) -> None:
    """The hook is told which one; the hooks of one wait for each other, and for none of another."""
    balanced.change(State.INIT, State.BACKUP, interface="carp2", vhid=3)
    balanced.change(State.INIT, State.BACKUP, interface="carp2", vhid=4)
    balanced.change(State.BACKUP, State.MASTER, interface="carp2", vhid=4)
    orders = [one for one in balanced.attendance.sent if isinstance(one, Hook)]
    assert [one.context["vhid"] for one in orders] == [3, 3, 4, 4, 4, 4]
    assert {one.context["interface"] for one in orders} == {"carp2"}
    assert balanced.attendance.hooks() == [
        "carp2 vhid 3 backup 1",
        "carp2 vhid 3 change 1",
        "carp2 vhid 4 backup 1",
        "carp2 vhid 4 change 1",
        "carp2 vhid 4 master 2",
        "carp2 vhid 4 change 2",
    ]


def test_a_share_needs_no_new_addresses(balanced: House) -> None:
    """They were set before, so its MASTER has its hook at once, and when they are taken none again."""
    balanced.change(State.BACKUP, State.MASTER, interface="carp2", vhid=3)
    assert balanced.attendance.hooks() == ["carp2 vhid 3 master 1", "carp2 vhid 3 change 1"]
    balanced.errands.addresses_live("carp2")
    assert balanced.attendance.hooks() == []


def test_each_virtual_host_reasserts_for_itself(balanced: House) -> None:
    """One that is still at it does not keep the other from it."""
    for vhid in (3, 4):
        balanced.change(State.BACKUP, State.MASTER, interface="carp2", vhid=vhid)
    balanced.attendance.taken()
    balanced.reassert("carp2", 3)
    balanced.reassert("carp2", 3)
    balanced.reassert("carp2", 4)
    orders = [one for one in balanced.attendance.sent if isinstance(one, Hook)]
    assert [(one.queue, one.context["vhid"]) for one in orders] == [("carp2 vhid 3", 3), ("carp2 vhid 4", 4)]
    balanced.attendance.taken()
    balanced.ended(HookKind.REASSERTED, queue="carp2 vhid 4")
    balanced.reassert("carp2", 3)
    balanced.reassert("carp2", 4)
    assert balanced.attendance.hooks() == ["carp2 vhid 4 reasserted 1"]


def test_each_virtual_host_has_a_stage(balanced: House) -> None:
    """It is told which one, and what ends answers for that one alone."""
    balanced.prepare(1, "carp2", 3)
    balanced.prepare(1, "carp2", 4)
    orders = [one for one in balanced.attendance.sent if isinstance(one, Hook)]
    assert [(one.queue, one.kind, one.context["vhid"]) for one in orders] == [
        ("carp2 vhid 3", HookKind.PRE_MASTER, 3),
        ("carp2 vhid 4", HookKind.PRE_MASTER, 4),
    ]
    balanced.ended(HookKind.PRE_MASTER, queue="carp2 vhid 4")
    assert balanced.answered() == [Prepared("carp2", 4, 1)]
    balanced.pass_by(3600)
    assert balanced.answered() == [Prepared("carp2", 4, 1), Prepared("carp2", 3, 1)]


def test_a_stage_is_told_whom_its_virtual_host_replaces(balanced: House) -> None:
    """Not whom another one replaces."""
    peer = Peer.of(CARP2, 4)
    balanced.engine.handle(peer.arrives(peer.advertisement(), boottime()), boottime())
    balanced.prepare(1, "carp2", 3)
    balanced.prepare(1, "carp2", 4)
    told = [one.context["peer"] for one in balanced.attendance.sent if isinstance(one, Hook)]
    assert told == ["", str(ip_address(peer.sources[Family.IPV4]))]


def test_a_lost_attendant_answers_for_all(balanced: House) -> None:
    """The stage of every virtual host goes on, once."""
    balanced.prepare(1, "carp2", 3)
    balanced.prepare(1, "carp2", 4)
    balanced.attendance.lost()
    balanced.pass_by(3600)
    assert balanced.answered() == [Prepared("carp2", 3, 1), Prepared("carp2", 4, 1)]


def test_the_last_hooks_of_every_virtual_host_are_waited_for(balanced: House) -> None:
    """Not only of the first one."""

    async def scenario() -> None:
        for vhid in (3, 4):
            balanced.change(State.BACKUP, State.INIT, interface="carp2", vhid=vhid)
        stopping = asyncio.create_task(balanced.errands.stop())
        for kind in (HookKind.INIT, HookKind.CHANGE):
            balanced.ended(kind, queue="carp2 vhid 3")
        balanced.ended(HookKind.INIT, queue="carp2 vhid 4")
        await asyncio.sleep(0.01)
        assert not balanced.attendance.stopped
        balanced.ended(HookKind.CHANGE, queue="carp2 vhid 4")
        async with asyncio.timeout(2):
            await stopping

    play(scenario)


# Before becoming MASTER


def test_the_stage_before_master_is_ordered(house: House) -> None:
    """Its end is asked for and has a deadline; it is told what is and what is wanted."""
    house.change(State.INIT, State.BACKUP)
    house.attendance.taken()
    house.prepare(1)
    (order,) = house.attendance.sent
    assert isinstance(order, Hook)
    assert (order.queue, order.serial, order.kind, order.answer) == ("carp0", 1, HookKind.PRE_MASTER, True)
    assert (order.argv, order.timeout_ns) == (("/etc/carp/pre-master", "x"), ALL.pre_master_deadline_ns)
    assert order.context == {
        "hook": "pre-master",
        "interface": "carp0",
        "vhid": 1,
        "old_state": "BACKUP",
        "state": "MASTER",
        "reason": "before replacing the master",
        "peer": "",
        "addresses": ["192.0.2.100/24", "2001:db8::100/64"],
        "carpdev": "eth0",
    }
    assert house.prepared() == []


def test_the_stage_is_told_whom_it_replaces(house: House) -> None:
    """The MASTER that was heard, as it still serves."""
    peer = Peer.of(CARP0)
    house.engine.handle(peer.arrives(peer.advertisement(), boottime()), boottime())
    house.prepare(1)
    (order,) = house.attendance.sent
    assert isinstance(order, Hook)
    assert order.context["peer"] == str(ip_address(peer.sources[Family.IPV4]))


@pytest.mark.parametrize("problem", ["", "exit status 1", "overtaken", "took over 2 s"])
def test_the_stage_is_over_with_its_hook(house: House, problem: str) -> None:
    """However it ended; and once: what would have answered in its place comes too late."""
    house.prepare(1)
    house.ended(HookKind.PRE_MASTER, 0, problem)
    assert house.prepared() == [1]
    house.pass_by(3600)
    house.attendance.lost()
    house.pass_by(3600)
    house.ended(HookKind.PRE_MASTER, 0)
    assert house.prepared() == [1]


def test_the_end_of_another_hook_answers_nothing(house: House) -> None:
    """Nor does that of another interface."""
    house.prepare(1)
    house.ended(HookKind.MASTER)
    house.ended(HookKind.PRE_MASTER, queue="carp1")
    assert house.prepared() == []


def test_the_stage_is_over_after_its_deadline(house: House) -> None:
    """Though the attendant says nothing: it was given a second more than the hook has. And once."""
    house.prepare(1)
    deadline_s = ALL.pre_master_deadline_ns / NANOSECONDS_PER_SECOND
    house.pass_by(deadline_s + 0.9)
    assert house.prepared() == []
    house.pass_by(deadline_s + 1)
    assert house.prepared() == [1]
    house.ended(HookKind.PRE_MASTER)
    assert house.prepared() == [1]


def test_the_stage_is_over_when_the_attendant_is_lost(house: House) -> None:
    """At once, and once."""
    house.prepare(1)
    house.attendance.lost()
    assert house.prepared() == []
    house.pass_by(0)
    assert house.prepared() == [1]
    house.pass_by(3600)
    assert house.prepared() == [1]


def no_hook() -> House:
    """Run without a hook for it."""
    return House(configuration(hooks=Hooks({HookKind.MASTER: ("/x",)})))


def nobody() -> House:
    """Run with an attendant that does not listen."""
    house = House(configuration())
    house.attendance.listens = False
    return house


@pytest.mark.parametrize("make", [House, no_hook, nobody])
def test_the_stage_is_over_at_once(make: Callable[[], House]) -> None:
    """Where there is no hook, no attendant, or none that listens; but not within the engine's own call."""
    house = make()
    house.prepare(1)
    assert house.prepared() == []
    house.pass_by(0)
    assert house.prepared() == [1]


def test_the_stage_of_an_interface_that_is_gone_is_over_at_once(house: House) -> None:
    """Nothing runs for it."""
    house.prepare(1, "carp9")
    house.pass_by(0)
    assert [event for event in house.events if isinstance(event, Prepared)] == [Prepared("carp9", 1, 1)]
    assert house.attendance.hooks() == []


def test_an_old_answer_does_not_answer_a_newer_stage(house: House) -> None:
    """The attendant answers in order: the second one is the newer stage's."""
    house.prepare(1)
    house.prepare(2)
    house.ended(HookKind.PRE_MASTER, problem="overtaken")
    assert house.prepared() == []
    house.ended(HookKind.PRE_MASTER)
    assert house.prepared() == [2]


def test_a_late_answer_does_not_answer_a_newer_stage(house: House) -> None:
    """Nor does the deadline of the old one."""
    house.prepare(1)
    old, house.timers = house.timers, []
    house.prepare(2)
    house.timers, new = old, house.timers
    house.pass_by(3600)
    house.ended(HookKind.PRE_MASTER)
    assert house.prepared() == []
    house.timers = new
    house.pass_by(3600)
    assert house.prepared() == [2]


def test_the_stage_of_an_interface_that_was_made_anew(house: House) -> None:
    """Is another one, though its serial is the same."""
    house.prepare(1)
    house.prepare(1)
    house.ended(HookKind.PRE_MASTER, problem="overtaken")
    assert house.prepared() == []
    house.ended(HookKind.PRE_MASTER)
    assert house.prepared() == [1]


def test_what_a_lost_attendant_was_asked_is_asked_no_more(house: House) -> None:
    """The first answer of the next one is that to its own first stage."""
    house.prepare(1)
    house.attendance.lost()
    house.pass_by(0)
    house.prepare(2)
    house.ended(HookKind.PRE_MASTER)
    assert house.prepared() == [1, 2]


def test_a_host_becomes_master_through_its_hooks(house: House) -> None:
    """The engine's own way: prepared, the addresses are taken; then the hook of the MASTER runs."""
    done = 0

    def carry_out() -> None:
        nonlocal done
        while done < len(house.runtime.actions):
            action = house.runtime.actions[done]
            done += 1
            if isinstance(action, Transition) and action.interface == "carp0":
                house.errands.transition(action, CARP0)
            elif isinstance(action, Prepare):
                house.errands.prepare(action)

    carry_out()
    house.attendance.taken()
    house.handle(Forced("carp0", State.MASTER))
    carry_out()
    assert house.attendance.hooks() == ["carp0 pre-master 2"]
    leader = next(house.engine.interfaces).leader
    assert (leader.state, leader.serves) == (State.MASTER, False)
    house.ended(HookKind.PRE_MASTER, 2)
    assert leader.serves
    assert house.attendance.hooks() == []
    house.errands.addresses_live("carp0")
    assert house.attendance.hooks() == ["carp0 master 2", "carp0 change 2"]


def test_the_first_and_the_last_change_have_hooks() -> None:
    """What a configuration brings about is told by its hooks; what goes with it, by those that it had."""
    house = House(BARE)
    house.errands.expect(configuration())
    house.change(State.INIT, State.BACKUP)
    assert house.attendance.hooks() == ["carp0 backup 1", "carp0 change 1"]
    house.adopt(configuration())
    house.errands.expect(BARE)
    house.change(State.BACKUP, State.INIT)
    assert house.attendance.hooks() == ["carp0 init 2", "carp0 change 2"]


def test_a_start_without_systemd(systemd: Path) -> None:
    """Nobody tells when it is over: the time does."""
    systemd.rmdir()
    house = House(replace(BARE, start_demote=100))
    assert list(house.facts()) == ["start"]
    assert house.attendances == []
