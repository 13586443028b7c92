"""When Multicast Router Advertisements go out, on a clock that the test moves."""

import heapq
from collections.abc import Callable
from ipaddress import ip_address
from itertools import count, pairwise
from random import Random

import pytest

from carp.daemon.snooping import RouterAnnouncer
from carp.protocol.values import Family

IPV4, IPV6 = Family
MAC, OTHER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
SOURCES = {IPV4: ip_address("192.0.2.1").packed, IPV6: ip_address("fe80::1").packed}
ETH0 = {"eth0": (MAC, SOURCES)}
BOTH = {**ETH0, "eth1": (OTHER_MAC, SOURCES)}
ADVERTISED, TERMINATED = ["0x30", "151"], ["0x32", "153"]


class FakeTimer:
    """A call that is due, until it is cancelled."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Do not call any more."""
        self.function = None


class Clock:
    """Calls what is due, in order, while a test lets time pass."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._numbers = count()
        self._due: list[tuple[float, int, FakeTimer]] = []

    def call_later(self, delay_s: float, function: Callable[[], None]) -> FakeTimer:
        """Remember a call."""
        timer = FakeTimer(function)
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._numbers), timer))
        return timer

    def pass_time(self, duration_s: float) -> None:
        """Let time pass."""
        until_s = self.now_s + duration_s
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, timer = heapq.heappop(self._due)
            if timer.function is not None:
                timer.function()
        self.now_s = until_s


class Scene:
    """An announcer, its clock, and what it has sent: the instant, the parent, the source MAC, the kinds of messages."""

    def __init__(self, routers: tuple[tuple[str, Family], ...] = (), seed: int = 1) -> None:
        self.clock = Clock()
        self.sent: list[tuple[float, str, bytes, list[str]]] = []
        self.announcer = RouterAnnouncer(
            self.clock.call_later, self._send, lambda name, family: (name, family) in routers, Random(seed)
        )

    def _send(self, parent: str, frames: list[bytes]) -> None:
        kinds = [hex(frame[38]) if frame[12:14] == b"\x08\x00" else str(frame[62]) for frame in frames]
        self.sent.append((self.clock.now_s, parent, frames[0][6:12], kinds))

    def instants(self, parent: str = "eth0") -> list[float]:
        """Return when something was sent on a parent."""
        return [at_s for at_s, name, _, _ in self.sent if name == parent]

    def take(self) -> list[tuple[str, list[str]]]:
        """Return the parents and kinds of what was sent since the last call."""
        taken = [(name, kinds) for _, name, _, kinds in self.sent]
        self.sent.clear()
        return taken


def test_the_first_three_are_two_seconds_apart() -> None:
    """In both families, the first one at once."""
    scene = Scene()
    scene.announcer.follow(ETH0)
    assert scene.sent == [(0.0, "eth0", MAC, ADVERTISED)]
    scene.clock.pass_time(10)
    assert scene.instants() == [0, 2, 4]
    assert all(kinds == ADVERTISED for _, _, _, kinds in scene.sent)


def test_then_they_come_every_twenty_seconds() -> None:
    """Half a second more or less (RFC 4286: 0.025 of the interval), never in step."""
    scene = Scene()
    scene.announcer.follow(ETH0)
    scene.clock.pass_time(2000)
    gaps = [later - earlier for earlier, later in pairwise(scene.instants()[2:])]
    assert len(gaps) == pytest.approx(100, abs=2)
    assert 19.5 <= min(gaps) < 19.7
    assert 20.3 < max(gaps) <= 20.5
    assert sum(gaps) / len(gaps) == pytest.approx(20, abs=0.1)


def test_hosts_do_not_fall_into_step() -> None:
    """Each has its own jitter."""
    scenes = [Scene(seed=seed) for seed in (1, 2)]
    for scene in scenes:
        scene.announcer.follow(ETH0)
        scene.clock.pass_time(100)
    assert scenes[0].instants()[3:] != scenes[1].instants()[3:]


def test_the_interval_told_is_the_one_kept() -> None:
    """Switches work out from it when a router is dead."""
    frames: list[bytes] = []
    RouterAnnouncer(Clock().call_later, lambda _, sent: frames.extend(sent)).follow(ETH0)
    assert [frames[0][39], frames[1][63]] == [20, 20]


def test_following_the_same_again_changes_nothing() -> None:
    """Neither an advertisement more nor one less."""
    scene, undisturbed = Scene(), Scene()
    for each in (scene, undisturbed):
        each.announcer.follow(ETH0)
    for _ in range(100):
        scene.clock.pass_time(1)
        scene.announcer.follow({"eth0": (MAC, dict(SOURCES))})
    undisturbed.clock.pass_time(100)
    assert scene.sent == undisturbed.sent


def test_a_new_parent_starts_at_once() -> None:
    """And leaves the others in their rhythm."""
    scene = Scene()
    scene.announcer.follow(ETH0)
    scene.clock.pass_time(10)
    scene.announcer.follow(BOTH)
    assert scene.instants("eth1") == [10]
    scene.clock.pass_time(10)
    assert scene.instants("eth1") == [10, 12, 14]
    assert scene.instants("eth0") == [0, 2, 4]


def test_a_parent_that_leaves_is_terminated() -> None:
    """At once, in both families; nothing comes after it, and the others go on."""
    scene = Scene()
    scene.announcer.follow(BOTH)
    scene.clock.pass_time(10)
    scene.take()
    scene.announcer.follow(ETH0)
    assert scene.take() == [("eth1", TERMINATED)]
    scene.clock.pass_time(60)
    assert {name for name, _ in scene.take()} == {"eth0"}


def test_a_parent_that_comes_back_starts_from_the_beginning() -> None:
    """The switch forgot its port while the link was down."""
    scene = Scene()
    scene.announcer.follow(ETH0)
    scene.clock.pass_time(1)
    scene.announcer.follow({})
    scene.sent.clear()
    scene.announcer.follow(ETH0)
    scene.clock.pass_time(10)
    assert scene.instants() == [1, 3, 5]


@pytest.mark.parametrize(("router", "left"), [(IPV4, ["153"]), (IPV6, ["0x32"])])
def test_a_real_router_is_not_terminated(router: Family, left: list[str]) -> None:
    """The kernel routes multicast in that family behind the parent: its port goes on to want everything."""
    scene = Scene(routers=(("eth0", router),))
    scene.announcer.follow(BOTH)
    scene.take()
    scene.announcer.follow({})
    assert dict(scene.take()) == {"eth0": left, "eth1": TERMINATED}


def test_a_real_router_in_both_families() -> None:
    """Nothing is sent then."""
    scene = Scene(routers=(("eth0", IPV4), ("eth0", IPV6)))
    scene.announcer.follow(ETH0)
    scene.take()
    scene.announcer.follow({})
    assert scene.take() == []


def test_the_end() -> None:
    """All are terminated, and it is quiet."""
    scene = Scene()
    scene.announcer.follow(BOTH)
    scene.take()
    scene.announcer.stop()
    assert dict(scene.take()) == {"eth0": TERMINATED, "eth1": TERMINATED}
    scene.clock.pass_time(100)
    scene.announcer.stop()
    assert scene.take() == []


def test_a_family_that_comes_later_is_advertised_at_once() -> None:
    """A link-local address is a second or two late after a start."""
    scene = Scene()
    scene.announcer.follow({"eth0": (MAC, {IPV4: SOURCES[IPV4]})})
    assert scene.take() == [("eth0", ["0x30"])]
    scene.clock.pass_time(1)
    scene.announcer.follow(ETH0)
    assert scene.take() == [("eth0", ADVERTISED)]
    scene.clock.pass_time(10)
    assert scene.take() == [("eth0", ADVERTISED)] * 2


def test_a_mac_that_changed_is_advertised_at_once() -> None:
    """The switch has to see the port's new one."""
    scene = Scene()
    scene.announcer.follow(ETH0)
    scene.clock.pass_time(10)
    scene.announcer.follow({"eth0": (OTHER_MAC, SOURCES)})
    assert scene.sent[-1] == (10.0, "eth0", OTHER_MAC, ADVERTISED)


def test_a_parent_without_addresses_is_silent() -> None:
    """There is nothing to send from; an address that comes is used at once."""
    scene = Scene()
    scene.announcer.follow({"eth0": (MAC, {})})
    scene.clock.pass_time(100)
    assert scene.sent == []
    scene.announcer.follow(ETH0)
    assert scene.take() == [("eth0", ADVERTISED)]
    scene.announcer.follow({"eth0": (MAC, {})})
    scene.announcer.stop()
    assert scene.take() == []
