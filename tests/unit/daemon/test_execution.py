"""Carrying out what the engine asks for: who is asked, in which order, and what comes of it."""

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from carp.config.load import Configuration
from carp.daemon.execution import Execution
from carp.linux.clock import boottime
from carp.protocol.actions import (
    Action,
    Announce,
    CloseFence,
    Drop,
    Note,
    Notice,
    Prepare,
    Probe,
    Reason,
    Release,
    Send,
    SetMask,
    Take,
    Transition,
)
from carp.protocol.engine import Engine
from carp.protocol.events import Configured, Forced, Sent, Shutdown, Stalled, Taken
from carp.protocol.packet import DropReason
from carp.protocol.parameters import HostParameters
from carp.protocol.values import NANOSECONDS_PER_MILLISECOND, Family, Instant, State
from carp.testing.hosts import VIP4, carp_interface, parent_up

CARP0 = carp_interface("carp0", 1)
CARP1 = carp_interface("carp1", 2)
SEND = Send("carp0", 1, Family.IPV4, (b"packet",), 3_000_000_000)
TRANSITION = Transition("carp0", 1, State.BACKUP, State.MASTER, Reason.FORCED)
NOTICE = Notice("carp0", 1, Note.RIVAL)


@dataclass(frozen=True)
class Ask:
    """An event that makes the engine ask for these actions."""

    actions: tuple[Action, ...]


class TellingEngine(Engine):
    """An engine that asks for what it is told to ask for; everything else is its own."""

    def handle(self, event: Any, now: Instant) -> list[Action]:
        """Answer an event."""
        return list(event.actions) if isinstance(event, Ask) else super().handle(event, now)


class House:
    """An execution whose hands write down what they were asked to do; two carp interfaces, both BACKUP."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.sent: tuple[int | None, tuple[bytes, ...]] | None = (None, ())
        self.volleys: list[int] = []
        self.probed: int | None = None
        self.closed_ns: int | None = None
        self.configuration: Configuration | None = Configuration(HostParameters((CARP0, CARP1)))
        self.now = boottime()
        self.sending_takes_ns = 0
        self.engine = TellingEngine(1, Random(1))
        for event in (parent_up(), Configured(self.configuration.host)):
            self.engine.handle(event, self.now)
        hands: Any = {
            "sender": SimpleNamespace(advertise=self.advertise, probe=self.probe, announce=self.note("announce")),
            "ownership": SimpleNamespace(take=self.note("take"), release=self.note("release")),
            "fencing": SimpleNamespace(close=self.note("close"), sent=self.open),
            "balancers": SimpleNamespace(set_mask=self.note("mask")),
            "chronicle": SimpleNamespace(
                say=self.note("say"),
                transition=self.note("transition"),
                notice=lambda notice, _: self.done.append(("notice", notice)),
                drop=lambda drop, _: self.done.append(("drop", drop)),
            ),
            "errands": SimpleNamespace(
                prepare=self.note("prepare"), transition=self.note("errand"), notice=self.note("errand")
            ),
            "state_sync": SimpleNamespace(prepare=self.note("sync"), transition=self.note("sync")),
        }
        self.execution = Execution(self.engine, running=lambda: self.configuration, **hands)

    def note(self, word: str) -> Any:
        """Make a hand that writes down what it is given."""
        return lambda *arguments: self.done.append((word, *arguments))

    def advertise(
        self, volley: list[Send], parameters_of: Callable[[str], object]
    ) -> tuple[list[Send], list[tuple[Send, Sent]]]:
        """Send, as it is to come out."""
        known = [(send, parameters) for send in volley if (parameters := parameters_of(send.interface)) is not None]
        self.done += [("advertise", *one) for one in known]
        self.now = Instant(self.now + self.sending_takes_ns)
        self.volleys.append(len(volley))
        if self.sent == (None, ()):
            return [send for send, _ in known], []
        if self.sent is None:
            return [], []
        return [], [(send, Sent(send.interface, send.vhid, send.family, *self.sent)) for send, _ in known]

    def probe(self, probe: Probe, parameters: object) -> int | None:
        """Probe, as it is to come out."""
        self.done.append(("probe", probe, parameters))
        return self.probed

    def open(
        self, name: str, vhid: int, families: Iterable[Family], family: Family, until: Instant, now: Instant
    ) -> int | None:
        """Open the fence."""
        self.done.append(("open", name, vhid, tuple(families), family, until, now))
        return self.closed_ns

    def handle(self, event: Any) -> list[tuple[Any, ...]]:
        """Give the engine an event; return what was done."""
        self.done.clear()
        self.execution.handle(event)
        return list(self.done)

    def carry_out(self, *actions: Action) -> list[tuple[Any, ...]]:
        """Let the engine ask for actions; return what was done."""
        return self.handle(Ask(actions))

    def become_master(self, *names: str) -> None:
        """Let carp interfaces be MASTER with live addresses."""
        for name in names:
            self.handle(Forced(name, State.MASTER))
            self.handle(Taken(name))

    def words(self, *actions: Action) -> list[str]:
        """Carry out actions; return the words of what was done."""
        return [word for word, *_ in self.carry_out(*actions)]


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """Make one, whose clock stands still unless it is told to go on."""
    made = House()
    monkeypatch.setattr("carp.daemon.execution.boottime", lambda: made.now)
    return made


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no advertisements be sent together."""
    monkeypatch.setattr("carp.daemon.execution._MOST_AT_ONCE", 1)


def test_each_is_done_by_whose_it_is(house: House) -> None:
    """With what it has to know."""
    probe = Probe("carp0", VIP4.ip, bytes(4))
    announce = Announce("carp0", (VIP4,))
    drop = Drop("lan0", DropReason.ECHO, b"")
    expected: list[tuple[Action, tuple[Any, ...]]] = [
        (probe, ("probe", probe, CARP0)),
        (announce, ("announce", announce, CARP0)),
        (Take("carp0", (VIP4,)), ("take", "carp0", (VIP4,))),
        (CloseFence("carp0", 3), ("close", "carp0", 3)),
        (SetMask("carp0", 0b10), ("mask", "carp0", 0b10)),
        (drop, ("drop", drop)),
    ]
    for action, done in expected:
        assert house.carry_out(action) == [done, ("release", [])]


def test_a_stage_waits_for_the_states_and_for_its_hook(house: House) -> None:
    """The former first: a stage without a hook is over as soon as the latter are asked."""
    prepare = Prepare("carp0", 3, 7)
    assert house.carry_out(prepare) == [("sync", prepare), ("prepare", prepare), ("release", [])]


def test_the_order_is_that_of_the_engine(house: House) -> None:
    """Nothing overtakes anything."""
    actions = (CloseFence("carp0", 1), SetMask("carp0", 1), Take("carp0", (VIP4,)), SEND, Announce("carp0", (VIP4,)))
    assert house.words(*actions) == ["close", "mask", "take", "advertise", "open", "announce", "release"]


def test_what_is_taken_again_is_not_released(house: House) -> None:
    """A carp interface that is made anew in one go keeps its addresses."""
    done = house.carry_out(Release("carp0"), Release("carp1"), Take("carp0", (VIP4,)))
    assert done == [("take", "carp0", (VIP4,)), ("release", ["carp1"])]


def test_links_are_torn_down_last(house: House) -> None:
    """All at once, when everybody has bowed out."""
    farewell = replace(SEND, holds_ns=0)
    other = replace(farewell, interface="carp1", vhid=2)
    done = house.carry_out(farewell, Release("carp0"), other, Release("carp1"))
    assert [one[0] for one in done] == ["advertise", "advertise", "release"]
    assert done[-1] == ("release", ["carp0", "carp1"])


def test_an_advertisement_opens_the_fence(house: House) -> None:
    """That of its virtual host, from before it was sent, for as long as it holds; the engine counts it."""
    before = house.now
    house.sending_takes_ns = NANOSECONDS_PER_MILLISECOND
    send = replace(SEND, vhid=3)
    opened = ("open", "carp0", 3, CARP0.families, Family.IPV4, before + SEND.holds_ns, before)
    assert house.carry_out(send) == [("advertise", send, CARP0), opened, ("release", [])]
    assert house.engine.statistics.sent[Family.IPV4] == 1


def test_a_farewell_opens_no_fence(house: House) -> None:
    """It holds for no time; it is counted."""
    assert house.words(replace(SEND, holds_ns=0)) == ["advertise", "release"]
    assert house.engine.statistics.sent[Family.IPV4] == 1


def test_an_advertisement_that_was_not_sent_opens_no_fence(house: House) -> None:
    """The engine hears of it, and what it says to that is carried out too."""
    house.sent = (errno.ENETDOWN, ())
    done = house.carry_out(SEND)
    notice = Notice("carp0", 1, Note.SEND_FAILED, f"ipv4, errno {errno.ENETDOWN}")
    assert [one[0] for one in done] == ["advertise", "notice", "errand", "release"]
    assert done[1][1].note is notice.note
    assert str(errno.ENETDOWN) in done[1][1].detail
    assert (house.engine.statistics.send_errors, house.engine.statistics.sent[Family.IPV4]) == (1, 0)


def test_peers_that_were_not_reached_are_told(house: House) -> None:
    """The fence opens all the same: another one heard it."""
    house.sent = (None, (bytes((192, 0, 2, 9)),))
    done = house.carry_out(SEND)
    assert [one[0] for one in done] == ["advertise", "open", "notice", "errand", "release"]
    assert done[2][1].detail == "to 192.0.2.9"


def test_a_fence_that_was_closed_is_told(house: House) -> None:
    """With its time: the advertisement came too late."""
    house.closed_ns = 12 * NANOSECONDS_PER_MILLISECOND
    said = [one for one in house.carry_out(SEND) if one[0] == "say"]
    assert said == [("say", 2, "carp0: the fence was closed for 12 ms: an advertisement came too late")]


def test_without_a_parent_nothing_came_of_it(house: House) -> None:
    """Neither a success nor a failure."""
    house.sent = None
    assert house.words(SEND) == ["advertise", "release"]
    statistics = house.engine.statistics
    assert (statistics.sent[Family.IPV4], statistics.send_errors) == (0, 0)


def test_what_follows_comes_after_what_was_asked(house: House) -> None:
    """The engine's answer to a failure does not overtake the rest of the round."""
    house.sent = (errno.ENETDOWN, ())
    assert house.words(SEND, SetMask("carp0", 1))[:3] == ["advertise", "mask", "notice"]


@pytest.mark.parametrize(("error", "failures"), [(None, 0), (errno.ENETDOWN, 3)])
def test_the_engine_learns_what_a_probe_found(house: House, error: int | None, failures: int) -> None:
    """Three that fail in a row demote, as advertisements that fail."""
    house.probed = error
    for _ in range(10):
        house.carry_out(Probe("carp0", VIP4.ip, bytes(4)))
    assert bool(list(house.engine.host.demotions)) is bool(failures)


def test_who_is_told_of_a_change(house: House) -> None:
    """The log, the errands with the parameters, who keeps the states alike, and each observer."""
    seen: list[Transition] = []
    house.execution.observers.add(seen.append)
    told = [("transition", TRANSITION), ("errand", TRANSITION, CARP0), ("sync", TRANSITION)]
    assert house.carry_out(TRANSITION) == [*told, ("release", [])]
    assert seen == [TRANSITION]


def test_observers_may_come_and_go(house: House) -> None:
    """In the middle of a change; those who are gone hear no more."""
    seen: list[str] = []
    observers = house.execution.observers

    def once(_: Transition) -> None:
        seen.append("once")
        observers.discard(once)

    def another(_: Transition) -> None:
        seen.append("another")
        observers.update((lambda _: seen.append("later"), lambda _: seen.append("later")))

    observers.add(once)
    house.carry_out(TRANSITION)
    assert (seen, observers) == (["once"], set())
    observers.add(another)
    house.carry_out(TRANSITION)
    assert seen == ["once", "another"]
    observers.discard(another)
    house.carry_out(TRANSITION)
    assert seen == ["once", "another", "later", "later"]


def test_who_is_told_of_a_notice(house: House) -> None:
    """The log and the errands, and no observer."""
    house.execution.observers.add(lambda _: pytest.fail("an observer was told"))
    assert house.carry_out(NOTICE) == [("notice", NOTICE), ("errand", NOTICE), ("release", [])]


def test_an_interface_that_is_removed_bows_out(house: House) -> None:
    """With its former parameters, which are those that still run; its hooks are told."""
    house.become_master("carp0")
    done = house.handle(Configured(HostParameters((CARP1,))))
    assert house.engine.interface("carp0") is None
    assert [one[2] for one in done if one[0] in ("advertise", "errand")] == [CARP0, CARP0]
    assert done[-1] == ("release", ["carp0"])


@pytest.mark.parametrize("configuration", [None, Configuration(HostParameters((CARP1,)))])
def test_an_interface_that_nobody_knows(house: House, configuration: Configuration | None) -> None:
    """Sends nothing, and does not disturb the others."""
    house.handle(Configured(HostParameters((CARP1,))))
    house.configuration = configuration
    other = replace(SEND, interface="carp1", vhid=2)
    gone = (SEND, Probe("carp0", VIP4.ip, bytes(4)), Announce("carp0", (VIP4,)), TRANSITION)
    done = house.carry_out(*gone, other)
    assert [one[:2] for one in done if one[0] != "open"] == [
        ("transition", TRANSITION),
        ("errand", TRANSITION),
        ("sync", TRANSITION),
        ("advertise", other),
        ("release", []),
    ]
    assert next(one[2] for one in done if one[0] == "errand") is None


def test_a_whole_host_stops(house: House) -> None:
    """Every MASTER bows out, and then all are torn down together."""
    house.become_master("carp0", "carp1")
    done = house.handle(Shutdown())
    words = [one[0] for one in done]
    assert words.count("advertise") == 2
    assert (words.index("release"), done[-1]) == (len(done) - 1, ("release", ["carp0", "carp1"]))


@pytest.mark.usefixtures("one_by_one")
def test_a_pause_that_harms_nobody(house: House) -> None:
    """Is none: everything is sent in its order."""
    house.become_master("carp0", "carp1")
    house.sending_takes_ns = 500 * NANOSECONDS_PER_MILLISECOND
    other = replace(SEND, interface="carp1", vhid=2)
    words = house.words(SEND, other, Announce("carp1", (VIP4,)))
    assert words == ["advertise", "open", "advertise", "open", "announce", "release"]


@pytest.mark.usefixtures("one_by_one")
def test_a_pause_within_the_patience_of_peers_is_not_asked_about(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """All virtual hosts would be asked, each time; one that holds for no time is asked about after a few milliseconds."""
    house.become_master("carp0", "carp1")
    asked: list[Any] = []
    handle = house.engine.handle

    def note(event: Any, now: Instant) -> list[Action]:
        if isinstance(event, Stalled):
            asked.append(event.gap_ns)
        return handle(event, now)

    monkeypatch.setattr(house.engine, "handle", note)
    house.sending_takes_ns = SEND.holds_ns // 2 - 1
    house.carry_out(SEND, SEND, SEND)
    assert asked == []
    house.carry_out(SEND, SEND, SEND, SEND)
    assert asked == [3 * house.sending_takes_ns]
    asked.clear()
    house.sending_takes_ns = 6 * NANOSECONDS_PER_MILLISECOND
    house.carry_out(SEND, replace(SEND, holds_ns=0))
    assert asked == [house.sending_takes_ns]


def test_a_batch_of_events_has_one_moment(house: House) -> None:
    """What was stopped after it is noticed all the same."""
    house.become_master("carp0")
    moment = house.now
    house.now = Instant(house.now + 10_000 * NANOSECONDS_PER_MILLISECOND)
    house.done.clear()
    house.execution.handle(Ask((SEND,)), moment)
    assert [one[0] for one in house.done if one[0] in ("advertise", "transition")] == ["transition"]


def test_each_of_a_batch_is_carried_out_before_the_next(house: House) -> None:
    """A takeover does not wait for all that was read with what brought it."""
    house.done.clear()
    house.execution.handle_all([Ask((SEND,)), Ask(()), Ask((NOTICE,))], house.now)
    assert [one[0] for one in house.done] == ["advertise", "open", "release", "notice", "errand", "release"]


@pytest.mark.usefixtures("one_by_one")
def test_who_steps_back_for_a_pause_advertises_no_more(house: House) -> None:
    """A peer may have taken over meanwhile: what was to be sent is not, the fence is closed, the addresses are released."""
    house.become_master("carp0", "carp1")
    house.sending_takes_ns = 10_000 * NANOSECONDS_PER_MILLISECOND
    other = replace(SEND, interface="carp1", vhid=2)
    done = house.carry_out(SEND, other, other, NOTICE)
    assert [one[1] for one in done if one[0] == "advertise"] == [SEND]
    assert [one[1].interface for one in done if one[0] == "transition"] == ["carp0", "carp1"]
    assert {one[1] for one in done if one[0] == "close"} == {"carp0", "carp1"}
    assert done[-1] == ("release", ["carp0", "carp1"])
    assert ("notice", NOTICE) in done
    assert [one.leader.state for one in house.engine.interfaces] == [State.BACKUP, State.BACKUP]


def test_the_time_between_events_is_no_pause(house: House) -> None:
    """Nothing was to be sent then."""
    house.become_master("carp0")
    house.now = Instant(house.now + 10_000 * NANOSECONDS_PER_MILLISECOND)
    assert house.words(SEND) == ["advertise", "open", "release"]


def test_what_comes_in_a_row_is_sent_together(house: House) -> None:
    """As much as a peer reads together; what comes between ends a row, and the fence opens for each."""
    house.become_master("carp0")
    house.volleys.clear()
    done = house.carry_out(*[SEND] * 150, CloseFence("carp1", 2), SEND, SEND)
    assert house.volleys == [64, 64, 22, 2]
    words = [one[0] for one in done]
    assert (words.count("advertise"), words.count("open")) == (152, 152)
    assert words.index("close") == 300
    assert house.engine.statistics.sent[Family.IPV4] == 152 + 2


def test_a_volley_that_comes_too_late_is_not_sent(house: House) -> None:
    """Nobody of it: who of them steps back is asked before."""
    house.become_master("carp0", "carp1")
    house.volleys.clear()
    house.sending_takes_ns = 10_000 * NANOSECONDS_PER_MILLISECOND
    other = replace(SEND, interface="carp1", vhid=2)
    house.carry_out(SEND, other, CloseFence("carp1", 7), other, SEND)
    assert house.volleys == [2]
    assert [one.leader.state for one in house.engine.interfaces] == [State.BACKUP, State.BACKUP]


def test_the_shortest_patience_of_a_volley_counts(house: House) -> None:
    """A bow-out among advertisements is asked about as if it came alone."""
    house.become_master("carp0", "carp1")
    house.sending_takes_ns = 6 * NANOSECONDS_PER_MILLISECOND
    other = replace(SEND, interface="carp1", vhid=2, holds_ns=0)
    asked: list[Any] = []
    handle = house.engine.handle
    house.engine.handle = lambda event, now: asked.append(type(event)) or handle(event, now)  # type: ignore[method-assign,func-returns-value]
    house.carry_out(SEND, CloseFence("carp1", 7), SEND, other)
    assert asked.count(Stalled) == 1


def test_takeovers_of_many_are_told_together(house: House) -> None:
    """Their first advertisements leave as one, before what has to come after them; so do those that follow the takes."""
    other = replace(SEND, interface="carp1", vhid=2)
    taking = (TRANSITION, SEND, Take("carp0", (VIP4,)), TRANSITION, other, Take("carp1", (VIP4,)))
    words = [word for word in house.words(*taking, SetMask("carp0", 1)) if word in ("take", "advertise", "mask")]
    assert (house.volleys, words) == ([2], ["take", "advertise", "advertise", "take", "mask"])
    # Nobody waits for nothing.
    assert house.words(*taking[:3])[-4:] == ["advertise", "open", "take", "release"]
    house.volleys.clear()
    house.done.clear()
    live = [Ask((Announce("carp0", (VIP4,)), SEND)), Ask((Announce("carp1", (VIP4,)), other, Announce("carp1", (VIP4,))))]
    house.execution.handle_together(live, house.now)
    words = [one[0] for one in house.done if one[0] in ("announce", "advertise")]
    assert (house.volleys, words) == ([2], ["announce", "announce", "advertise", "advertise", "announce"])


def test_what_is_caused_in_the_middle_leaves_after_what_was_wanted(house: House) -> None:
    """The newest word is the last one that peers hear."""
    house.become_master("carp0", "carp1")
    newer = replace(SEND, holds_ns=SEND.holds_ns + 1)
    house.execution.observers.add(lambda _: house.execution.handle(Ask((newer,))))
    other = replace(SEND, interface="carp1", vhid=2)
    done = house.carry_out(SEND, TRANSITION, other)
    assert [one[1] for one in done if one[0] == "advertise"] == [SEND, newer, other]


def test_an_advertisement_does_not_wait_for_one_that_is_far_away(house: House) -> None:
    """Of thousands of carp interfaces whose demotion has changed only a few may be MASTER here."""
    words = house.words(SEND, *[NOTICE] * 1000, replace(SEND, interface="carp1", vhid=2))
    assert words[:2] == ["advertise", "open"]
    assert house.volleys == [1, 1]


def test_an_announcement_follows_the_advertisement_that_it_comes_with(house: House) -> None:
    """Whatever else is near."""
    other = replace(SEND, interface="carp1", vhid=2)
    words = house.words(SEND, Announce("carp0", (VIP4,)), other)
    assert [word for word in words if word in ("advertise", "announce")] == ["advertise", "announce", "advertise"]


def test_what_an_error_left_is_not_sent_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next round this host may have been replaced."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(house.execution._ownership, "take", fail)
    with pytest.raises(ZeroDivisionError):
        house.carry_out(SEND, Take("carp0", (VIP4,)), replace(SEND, interface="carp1", vhid=2))
    assert house.words(NOTICE) == ["notice", "errand", "release"]
