"""Which changes of a carp interface its link survives; who takes the events of errands; whether a link is up; a round."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from carp.daemon import runtime as module
from carp.daemon.runtime import Runtime, _same_link
from carp.linux.rtnetlink import Link
from carp.protocol.events import DemotionEnded, Due, Event, PacketArrived, Prepared, TakeFailed, Taken
from carp.protocol.parameters import Balancing, LinkAddress, Node
from carp.protocol.values import Family, Instant
from carp.testing.hosts import DUAL_STACK, VIP4, carp_interface

ALONE = carp_interface(vhid=3)
SEVERAL = carp_interface(nodes=(Node(3), Node(4, 100)))


@pytest.mark.parametrize(
    "changed",
    [
        {"addresses": DUAL_STACK},
        {"advbase": 2, "preempt": True, "groups": ("lan",)},
        {"nodes": (Node(3, 200), Node(4))},
        {"up": False},
        {"announces_router": False},
    ],
    ids=str,
)
def test_a_balanced_link_stays(changed: dict[str, Any]) -> None:
    """With its virtual hosts MASTER of what they are."""
    assert _same_link(SEVERAL, replace(SEVERAL, **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"carpdev": "eth9"},
        {"nodes": (Node(3), Node(5))},
        {"nodes": (Node(3), Node(4), Node(5))},
        {"nodes": (Node(3),), "balancing": Balancing.NONE},
        *({"balancing": one} for one in (Balancing.IP_STEALTH, Balancing.IP_UNICAST, Balancing.ARP)),
    ],
    ids=str,
)
def test_a_balanced_link_is_made_anew(changed: dict[str, Any]) -> None:
    """Whatever is shared out otherwise or among others begins anew."""
    assert not _same_link(SEVERAL, replace(SEVERAL, **changed))
    assert not _same_link(replace(SEVERAL, **changed), SEVERAL)


def test_a_mode_with_the_same_mac_is_another_one() -> None:
    """What came from the parent's MAC comes from the shared one then."""
    assert not _same_link(replace(SEVERAL, balancing=Balancing.IP_STEALTH), replace(SEVERAL, balancing=Balancing.IP_UNICAST))


def test_another_mac_is_another_link() -> None:
    """Also one that no link has, but every host receives."""
    unicast = replace(SEVERAL, balancing=Balancing.IP_UNICAST)
    for mac in (bytes.fromhex("021122334455"), bytes.fromhex("021122334466")):
        assert not _same_link(unicast, replace(unicast, lladdr=mac))
        assert not _same_link(ALONE, replace(ALONE, lladdr=mac))
    assert not _same_link(ALONE, replace(ALONE, lladdr=LinkAddress.PARENT))
    assert _same_link(ALONE, replace(ALONE, addresses=(VIP4,), nodes=(Node(3, 7),)))


def test_the_end_of_a_hook_goes_to_who_waits_for_the_states() -> None:
    """Whatever else errands have to say goes to the engine."""
    took: list[tuple[str, Event]] = []
    runtime: Any = SimpleNamespace(
        handle=lambda event: took.append(("engine", event)),
        state_sync=SimpleNamespace(prepared=lambda event: took.append(("state sync", event))),
    )
    prepared, ended = Prepared("carp0", 1, 1), DemotionEnded("track a")
    for event in (prepared, ended):
        Runtime._on_errand(runtime, event)
    assert took == [("state sync", prepared), ("engine", ended)]


@pytest.mark.parametrize(
    ("link", "is_up"),
    [
        (Link(2, "sync0", True, True, bytes(6), "", 0, 0), True),
        (Link(2, "sync0", True, False, bytes(6), "", 0, 0), False),
        (Link(2, "sync0", False, True, bytes(6), "", 0, 0), False),
        (None, False),
    ],
    ids=["up", "no carrier", "down", "gone"],
)
def test_a_link_is_up_where_it_carries(link: Link | None, is_up: bool) -> None:
    """Up, with a carrier, and there at all."""
    runtime: Any = SimpleNamespace(_table=SimpleNamespace(by_name={"sync0": link}.get))
    assert Runtime._is_up(runtime, "sync0") is is_up


NOTHING_READ = Due(Instant(0))


class Rounds:
    """A runtime at the moment 1000 whose engine has these deadlines, with two parents and a raw socket.

    What happens is written down in `done`; each socket has a packet.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, due_at: int | None, master_down: int | None) -> None:
        self.done: list[Any] = []
        self.deadline = due_at
        sockets = [self.socket(name, until) for name, until in (("eth0", 950), ("eth1", 900), ("raw", 990))]
        self.eth0 = sockets[0]
        self.runtime: Any = SimpleNamespace(
            _due_at=due_at,
            _due_set_at=0,
            _feed_at=None,
            _raw={Family.IPV4: sockets[2]},
            _timer=SimpleNamespace(set=lambda at: self.done.append(("timer", at))),
            _execution=SimpleNamespace(
                handle=lambda event, now=None: self.done.append(event), handle_all=lambda events, now: self.done.extend(events)
            ),
            engine=SimpleNamespace(next_deadline=lambda: self.deadline, next_master_down=lambda: master_down),
            hardware=SimpleNamespace(ports={"a": SimpleNamespace(socket=self.eth0), "b": SimpleNamespace(socket=sockets[1])}),
        )
        self.runtime._drain = lambda socket: Runtime._drain(self.runtime, socket)
        self.runtime._set_timer = lambda: Runtime._set_timer(self.runtime)
        monkeypatch.setattr(module, "boottime", lambda: Instant(1000))

    def socket(self, name: str, until: int) -> Any:
        """Make a socket in which one packet waits, everything being read up to a moment then."""
        packet = PacketArrived(name, Family.IPV4, b"", Instant(until))
        return SimpleNamespace(packet=packet, read=lambda: ([packet], Instant(until)))

    def play(self, readable: Any) -> list[Any]:
        """Play a round."""
        Runtime._round(self.runtime, readable)
        return self.done

    def packets(self) -> list[str]:
        """Return where packets were read, in their order."""
        return [one.parent for one in self.done if isinstance(one, PacketArrived)]


@pytest.mark.parametrize("due_at", [None, 1001])
def test_a_round_in_which_nothing_is_due(monkeypatch: pytest.MonkeyPatch, due_at: int | None) -> None:
    """Reads the socket that became readable and no other, and sets the timer."""
    rounds = Rounds(monkeypatch, due_at, due_at)
    assert rounds.play(rounds.eth0) == [rounds.eth0.packet, ("timer", due_at)]


def test_what_is_due_comes_before_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """An advertisement does not wait for a queue."""
    rounds = Rounds(monkeypatch, 1000, 1001)
    assert rounds.play(rounds.eth0) == [NOTHING_READ, rounds.eth0.packet, ("timer", 1000)]


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_master_is_given_up_after_reading(monkeypatch: pytest.MonkeyPatch, is_readable: bool) -> None:
    """Every socket is read once, and the timers fire for the time up to which all of them were."""
    rounds = Rounds(monkeypatch, 800, 1000)
    done = rounds.play(rounds.eth0 if is_readable else None)
    assert done[0] == NOTHING_READ
    assert rounds.packets() == ["eth0", "eth1", "raw"]
    assert done[-2:] == [Due(Instant(900), 200), ("timer", 800)]


def test_own_work_is_no_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only for how long nothing was done about what was due counts: what was so when the timer was set is late from then on,
    and so is what waited for a round of reading.
    """
    rounds = Rounds(monkeypatch, 800, 1000)
    rounds.runtime._due_set_at = 970
    assert Due(Instant(900), 30) in rounds.play(None)
    rounds.done.clear()
    assert Due(Instant(900), 0) in rounds.play(None)
    rounds = Rounds(monkeypatch, 800, None)
    rounds.runtime._due_set_at = 970
    Runtime._set_timer(rounds.runtime)
    assert rounds.runtime._due_set_at == 970
    rounds.deadline = 900
    Runtime._set_timer(rounds.runtime)
    assert (rounds.runtime._due_at, rounds.runtime._due_set_at) == (900, 1000)


@pytest.mark.parametrize(("feed_at", "deadline", "at"), [(5, 7, 5), (9, 7, 7), (5, None, 5), (None, 7, 7), (None, None, None)])
def test_the_timer_is_set_to_what_comes_first(
    monkeypatch: pytest.MonkeyPatch, feed_at: int | None, deadline: int | None, at: int | None
) -> None:
    """The engine's next deadline or the service manager's; what is due is the engine's alone."""
    rounds = Rounds(monkeypatch, 3, None)
    rounds.deadline, rounds.runtime._feed_at = deadline, feed_at
    Runtime._set_timer(rounds.runtime)
    assert rounds.done == [("timer", at)]
    assert rounds.runtime._due_at == deadline


@pytest.mark.parametrize(("touched", "forgets"), [({2}, True), ({9}, False), (None, True)])
def test_a_parent_that_changed_has_other_headers(touched: set[int] | None, forgets: bool) -> None:
    """Its MAC may be another one; a change of any other link costs nothing."""
    forgotten: list[str] = []
    eth0 = SimpleNamespace(index=2)
    runtime: Any = SimpleNamespace(
        configuration="any",
        handle=lambda _event: None,
        _parents=("eth0", "gone"),
        _sender=SimpleNamespace(forget_ways=lambda: forgotten.append("all")),
        _table=SimpleNamespace(by_name={"eth0": eth0}.get),
        hardware=SimpleNamespace(
            ports={"eth0": eth0},
            placeholders_lost=lambda: False,
            describe_parent=lambda _name: None,
            follow_snooping=lambda: None,
            is_current=lambda: True,
        ),
    )
    Runtime._parents_changed(runtime, touched)
    assert bool(forgotten) is forgets


def test_what_came_of_takes_is_handled_together() -> None:
    """When the worker has told of some; what is told outside of that is handled at once. Hooks learn what is live."""
    handled: list[list[Any]] = []
    live: list[str] = []
    runtime: Any = SimpleNamespace(
        _reports=[],
        worker=SimpleNamespace(is_telling=True),
        _execution=SimpleNamespace(handle_together=lambda events, _now: handled.append(list(events))),
        _set_timer=lambda: None,
        errands=SimpleNamespace(addresses_live=live.append),
    )
    runtime._handle_reports = lambda: Runtime._handle_reports(runtime)
    taken, failed = Taken("carp0"), TakeFailed("carp1", "no")
    Runtime._on_ownership(runtime, taken)
    Runtime._on_ownership(runtime, failed)
    assert (handled, live) == ([], [])
    for _ in range(2):
        Runtime._handle_reports(runtime)
    assert (handled, live) == ([[taken, failed]], ["carp0"])
    runtime.worker.is_telling = False
    Runtime._on_ownership(runtime, failed)
    assert handled[1:] == [[failed]]
