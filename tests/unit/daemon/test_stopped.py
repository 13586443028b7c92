"""A daemon that is stopped between what the engine wants and its doing: what it wakes up with may be wrong by then."""

from types import SimpleNamespace
from typing import Any

import pytest

from carp.daemon import execution as execution_module
from carp.daemon.chronicle import Chronicle
from carp.daemon.execution import Execution
from carp.protocol.actions import Send
from carp.protocol.events import Due, Event, Shutdown, Stalled
from carp.protocol.packet import BOW_OUT
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import Instant, State
from carp.testing.bench import Bench, read
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, carp_interface


class House:
    """An engine that is MASTER, and hands that note what they do; `stops` holds how long the daemon sleeps before its reads of
    the clock, in ns, each once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *interfaces: InterfaceParameters) -> None:
        self.bench = Bench(*interfaces)
        for interface in interfaces:
            self.bench.wait_for(State.MASTER, interface.leader.vhid)
        self.now = self.bench.now
        self.stops: list[int] = []
        self.sent: list[tuple[str, bool]] = []
        self.open_until: dict[str, int] = {}
        monkeypatch.setattr(execution_module, "boottime", self.read_clock)
        sender: Any = SimpleNamespace(advertise=self.advertise, announce=lambda *_: None)
        ownership: Any = SimpleNamespace(take=lambda *_: None, release=lambda _: None)
        fencing: Any = SimpleNamespace(sent=self.open_fence, close=lambda name, _vhid: self.open_until.pop(name, None))
        balancers: Any = SimpleNamespace()
        errands: Any = SimpleNamespace(transition=lambda *_: None, notice=lambda _: None)
        sync: Any = SimpleNamespace(transition=lambda _: None)
        self.execution = Execution(
            self.bench.engine, sender, ownership, fencing, balancers, Chronicle(0), errands, sync, lambda: None
        )

    def read_clock(self) -> Instant:
        """Read the clock, after a sleep if one is planned."""
        self.now = Instant(self.now + (self.stops.pop(0) if self.stops else 1000))
        return self.now

    def advertise(self, volley: list[Send], _parameters_of: object) -> tuple[list[Send], list[Any]]:
        """Note who says what."""
        self.sent += [(send.interface, read(send).advbase == BOW_OUT) for send in volley]
        return volley, []

    def open_fence(self, name: str, _vhid: int, _families: object, _family: object, until: Instant, _before: Instant) -> None:
        """Note until when the fence is open."""
        self.open_until[name] = until

    def give(self, event: Event, *stops: int) -> None:
        """Hand over an event while the daemon sleeps before these reads of the clock."""
        self.stops = [1000, *stops]
        self.execution.handle(event)

    def state(self, vhid: int = 1) -> State:
        """Tell the state of a virtual host."""
        return self.bench.state(vhid)

    def let_time_pass(self, duration_ns: int) -> None:
        """Let time pass without the daemon."""
        self.now = Instant(self.now + duration_ns)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """Make a MASTER of both families whose advertisements are due now."""
    house = House(monkeypatch, carp_interface(addresses=DUAL_STACK))
    house.let_time_pass(seconds(1))
    return house


def test_who_is_not_stopped_sends(house: House) -> None:
    """An advertisement that is due leaves in both families, and keeps the fence open."""
    house.give(Due(Instant(0)))
    assert house.sent == [("carp0", False)] * 2
    assert house.open_until["carp0"] > house.now
    assert house.state() is State.MASTER


def test_stopped_before_the_advertisement(house: House) -> None:
    """After a sleep longer than a peer waits nothing is sent, the fence is not opened, and this host steps back."""
    house.give(Due(Instant(0)), seconds(4))
    assert (house.sent, house.open_until, house.state()) == ([], {}, State.BACKUP)


def test_stopped_between_two_volleys(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is after the first of two: what has not been sent is not."""
    monkeypatch.setattr(execution_module, "_MOST_AT_ONCE", 1)
    house.give(Due(Instant(0)), 1000, seconds(4))
    assert (house.sent, house.state()) == ([("carp0", False)], State.BACKUP)


def test_a_short_sleep_does_no_harm(house: House) -> None:
    """A sleep that is shorter than any peer's patience delays the advertisement, and nothing else."""
    house.give(Due(Instant(0)), milliseconds(200))
    assert (house.sent, house.state()) == ([("carp0", False)] * 2, State.MASTER)


def test_a_bow_out_leaves_all_the_same(house: House) -> None:
    """Who goes says so, however late."""
    house.give(Shutdown(), seconds(4))
    assert house.sent == [("carp0", True)] * 2


def test_many_advertisements_are_no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long because there is much of it is not taken for a sleep: everybody stays MASTER."""
    monkeypatch.setattr(execution_module, "_MOST_AT_ONCE", 1)
    quick = [carp_interface(f"carp{vhid}", vhid, advbase=0, advskew=8, preempt=False) for vhid in range(1, 101)]
    house = House(monkeypatch, *quick)
    house.let_time_pass(milliseconds(40))
    house.give(Due(Instant(0)), *[milliseconds(2)] * 400)
    assert {house.state(vhid) for vhid in range(1, 101)} == {State.MASTER}
    assert len(house.sent) == 100


def test_asking_everybody_is_no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of virtual hosts it takes longer than a sleep that counts: they are asked once for one sleep."""
    monkeypatch.setattr(execution_module, "_MOST_AT_ONCE", 1)
    house = House(monkeypatch, *[carp_interface(f"carp{vhid}", vhid) for vhid in range(1, 11)])
    asked = []
    handle = house.bench.engine.handle

    def ask(event: Event, now: Instant) -> Any:
        if isinstance(event, Stalled):
            asked.append(event)
            house.let_time_pass(milliseconds(20))
        return handle(event, now)

    monkeypatch.setattr(house.bench.engine, "handle", ask)
    house.give(Shutdown(), milliseconds(20))
    assert (len(asked), len(house.sent)) == (1, 10)
