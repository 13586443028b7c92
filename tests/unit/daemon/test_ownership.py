"""Takes and releases in the order of their urgency; only the newest wish counts."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

import pytest

from carp.daemon import ownership
from carp.daemon.ownership import Ownership
from carp.linux.carplink import Taking
from carp.linux.links import LinkTable
from carp.linux.netlink import Write
from carp.linux.rtnetlink import (
    CARP_ADDRESS_PROTOCOL,
    IFA_F_NOPREFIXROUTE,
    RTM_DELADDR,
    RTM_NEWADDR,
    attribute,
    new_address,
    set_link,
)
from carp.linux.worker import Urgency
from carp.protocol.events import Event, TakeFailed, Taken
from carp.protocol.values import InterfaceAddress
from carp.testing.hosts import carp_interface

ONE = (ip_interface("192.0.2.100/24"),)
TWO = (*ONE, ip_interface("2001:db8::100/64"))
NETLINK: Any = object()


class FakeWorker:
    """Runs jobs and writes when it is told to, in the order that the real one keeps."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Urgency, int, Any, Any]] = []
        self._number = 0

    def submit(self, urgency: Urgency, job: Any, done: Any = None) -> None:
        """Put a job into the queue."""
        self._number += 1
        self.jobs.append((urgency, self._number, job, done))

    def write(self, urgency: Urgency, write: Write, done: Any = None) -> None:
        """Put a write into the queue; the kernel refuses nothing."""

        def job(_netlink: object) -> None:
            for _ in write:
                pass

        self.submit(urgency, job, done)

    def run(self) -> list[Urgency]:
        """Run everything that is waiting."""
        ran = []
        while self.jobs:
            self.jobs.sort(key=lambda one: one[:2])
            urgency, _, job, done = self.jobs.pop(0)
            try:
                result = job(NETLINK)
            except OSError as error:
                result = error
            if done is not None:
                done(result)
            ran.append(urgency)
        return ran


@dataclass
class FakeLink:
    """Writes down what is done to it."""

    name: str
    index: int
    log: list[str]
    parent_index: int = 2
    is_parent: bool = False
    through_parent: bool = False
    refuses: OSError | None = None
    live: set[InterfaceAddress] = field(default_factory=set)
    taken: list[Taking] = field(default_factory=list)

    def take(self, taking: Taking) -> Write:
        """Take addresses, and routes if there are any."""
        yield taking.requests
        self.taken.append(taking)
        self.log.append(f"{self.name} takes {len(taking.addresses)}")
        routes = sorted(taking.routes, key=lambda route: route.network.version)
        self.log += [f"{self.name} reaches {route.network} through {route.parent_index}" for route in routes]
        if self.refuses is not None:
            raise self.refuses

    def release(self) -> Write:
        """Release all."""
        yield ()
        self.log.append(f"{self.name} releases")

    def down(self, _netlink: object) -> None:
        """Go down."""
        self.log.append(f"{self.name} down")


class Scene:
    """An ownership with fake links carp0 and carp1."""

    def __init__(self, *, fenced: bool) -> None:
        self.log: list[str] = []
        self.reports: list[Event] = []
        self.worker = FakeWorker()
        fake_worker: Any = self.worker
        self.table = LinkTable()
        self.ownership = Ownership(fake_worker, self.table, self.reports.append, lambda _: fenced)
        self.links = {name: FakeLink(name, index, self.log) for index, name in enumerate(("carp0", "carp1"), 10)}
        links: Any = self.links
        self.ownership.links = dict(links)


def played(scenario: Callable[[Scene], Awaitable[None]], *, fenced: bool = False) -> None:
    """Play a scenario on a loop."""

    async def play() -> None:
        await scenario(Scene(fenced=fenced))

    asyncio.run(play())


def test_a_take_is_reported_when_it_is_done() -> None:
    """Not before the kernel has the addresses."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp0", TWO)
        assert (scene.reports, scene.ownership.is_settled("carp0")) == ([], False)
        assert scene.ownership.wanted("carp0") == TWO
        assert scene.worker.run() == [Urgency.TAKE]
        assert (scene.reports, scene.log) == ([Taken("carp0")], ["carp0 takes 2"])
        assert scene.ownership.is_settled("carp0")

    played(scenario)


def test_neighbours_of_a_balanced_link_are_reached_through_the_parent() -> None:
    """Nothing passes through its own; the routes are set with the addresses."""

    async def scenario(scene: Scene) -> None:
        scene.links["carp0"].through_parent = True
        scene.ownership.take("carp0", TWO)
        scene.worker.run()
        assert scene.log == [
            "carp0 takes 2",
            "carp0 reaches 192.0.2.0/24 through 2",
            "carp0 reaches 2001:db8::/64 through 2",
        ]

    played(scenario)


def test_what_the_kernel_refuses_is_reported_with_its_reason() -> None:
    """The engine demotes itself by it."""

    async def scenario(scene: Scene) -> None:
        scene.links["carp0"].refuses = OSError(13, "Permission denied")
        scene.ownership.take("carp0", ONE)
        scene.worker.run()
        (failed,) = scene.reports
        assert isinstance(failed, TakeFailed)
        assert (failed.interface, "Permission denied" in failed.error) == ("carp0", True)
        assert scene.ownership.is_settled("carp0")

    played(scenario)


def test_an_interface_that_is_not_there_cannot_take() -> None:
    """That is known at once, and the wish is kept for when it comes back."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp7", ONE)
        assert scene.reports == [TakeFailed("carp7", "carp7 does not exist on this host")]
        assert scene.worker.jobs == []
        assert scene.ownership.wanted("carp7") == ONE
        assert scene.ownership.is_settled("carp7")
        scene.ownership.release(["carp7"])
        assert scene.ownership.wanted("carp7") == ()
        assert scene.worker.run() == []

    played(scenario)


def test_takes_go_before_releases() -> None:
    """The addresses that clients wait for come first, whatever was asked for first."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.release(["carp1"])
        scene.ownership.take("carp0", ONE)
        scene.worker.run()
        assert scene.log == ["carp0 takes 1", "carp1 releases"]

    played(scenario)


def test_every_address_is_released_before_the_first_link_goes_down() -> None:
    """Taking a link down holds the kernel's lock."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.release(["carp0", "carp1"])
        await asyncio.sleep(0.001)
        scene.worker.run()
        assert scene.log == ["carp0 releases", "carp1 releases", "carp0 down", "carp1 down"]
        assert scene.ownership.is_settled("carp0")
        assert scene.reports == []

    played(scenario)


def test_a_take_that_was_overtaken_is_neither_done_nor_reported() -> None:
    """Only the newest set of addresses is taken, and reported once."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp0", ONE)
        scene.ownership.take("carp0", TWO)
        scene.worker.run()
        assert (scene.log, scene.reports) == (["carp0 takes 2"], [Taken("carp0")])
        assert scene.ownership.is_settled("carp0")

    played(scenario)


def test_a_take_that_was_overtaken_while_it_ran_is_not_reported() -> None:
    """The engine is in another state by then."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp0", ONE)
        ((_, _, job, done),) = scene.worker.jobs
        scene.worker.jobs.clear()
        result = job(NETLINK)
        scene.ownership.release(["carp0"])
        done(result)
        assert scene.reports == []
        scene.worker.run()
        assert scene.log == ["carp0 takes 1", "carp0 releases"]

    played(scenario)


def test_a_release_overtakes_a_take() -> None:
    """Though takes go first: a host that yields at once takes nothing."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp0", ONE)
        scene.ownership.release(["carp0"])
        scene.worker.run()
        assert (scene.log, scene.reports) == (["carp0 releases"], [])
        assert scene.ownership.wanted("carp0") == ()

    played(scenario)


def test_a_take_overtakes_a_release_and_the_link_stays_up() -> None:
    """A link that is MASTER again before it went down does not go down."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.release(["carp0"])
        scene.worker.run()
        scene.ownership.take("carp0", ONE)
        await asyncio.sleep(0.001)
        scene.worker.run()
        assert scene.log == ["carp0 releases", "carp0 takes 1"]
        assert scene.reports == [Taken("carp0")]
        assert scene.ownership.is_settled("carp0")

    played(scenario)


def test_a_fenced_link_goes_down_later() -> None:
    """The successor has the kernel's lock first; until then it counts as on its way."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.release(["carp0"])
        await asyncio.sleep(ownership.LINK_DOWN_AFTER_S / 5)
        scene.worker.run()
        assert scene.log == ["carp0 releases"]
        assert not scene.ownership.is_settled("carp0")
        await asyncio.sleep(ownership.LINK_DOWN_AFTER_S)
        scene.worker.run()
        assert scene.log == ["carp0 releases", "carp0 down"]
        assert scene.ownership.is_settled("carp0")

    played(scenario, fenced=True)


def test_an_interface_that_goes_away_is_left_alone() -> None:
    """Whatever was still to be done for it is not done and not reported."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp0", ONE)
        scene.ownership.abandon("carp0")
        scene.worker.run()
        assert (scene.log, scene.reports) == ([], [])
        scene.ownership.release(["carp1"])
        scene.ownership.abandon("carp1")
        await asyncio.sleep(0.001)
        scene.worker.run()
        assert scene.log == []
        assert scene.ownership.is_settled("carp0")
        assert scene.ownership.is_settled("carp1")

    played(scenario)


def test_wishes_of_different_interfaces_do_not_overtake_each_other() -> None:
    """Each has its own newest wish."""

    async def scenario(scene: Scene) -> None:
        scene.ownership.take("carp0", ONE)
        scene.ownership.take("carp1", TWO)
        scene.worker.run()
        assert scene.reports == [Taken("carp0"), Taken("carp1")]
        assert scene.log == ["carp0 takes 1", "carp1 takes 2"]

    played(scenario)


def foreign_address(index: int, text: str, protocol: int = 0) -> bytes:
    """Write what the kernel says of an IPv4 address."""
    address = ip_interface(text)
    packed = address.ip.packed
    head = struct.pack("=BBBBi", 2, address.network.prefixlen, 0, 0, index)
    return head + attribute(1, packed) + attribute(2, packed) + attribute(11, bytes((protocol,)))


def test_a_take_is_prepared_before_it_is_needed() -> None:
    """The takeover itself works nothing out, and what happens to shared addresses meanwhile does not matter."""

    async def scenario(scene: Scene) -> None:
        carp0 = carp_interface(addresses=TWO)
        scene.ownership.prepare([carp0, carp_interface("carp7", 7)])
        scene.table.apply(RTM_NEWADDR, foreign_address(11, "192.0.2.200/24", CARP_ADDRESS_PROTOCOL))
        with pytest.MonkeyPatch.context() as patched:
            patched.delattr(Taking, "prepare")
            for _ in range(2):
                scene.ownership.take("carp0", TWO)
                scene.worker.run()
        assert scene.log == ["carp0 takes 2"] * 2

    played(scenario)


@pytest.mark.parametrize("change", ["the parent gets the prefix", "the parent loses it", "other addresses", "another link"])
def test_what_a_take_depends_on_is_looked_at_again(change: str) -> None:
    """The prepared messages are those of the former configuration, or of a parent without an address in the prefix."""
    own = foreign_address(2, "192.0.2.1/24")

    async def scenario(scene: Scene) -> None:
        if change == "the parent loses it":
            scene.table.apply(RTM_NEWADDR, own)
        scene.ownership.prepare([carp_interface(addresses=ONE)])
        wanted, index, flags = ONE, 10, 0
        if change == "the parent gets the prefix":
            scene.table.apply(RTM_NEWADDR, own)
            flags = IFA_F_NOPREFIXROUTE
        elif change == "the parent loses it":
            scene.table.apply(RTM_DELADDR, own)
        elif change == "other addresses":
            wanted = (ip_interface("198.51.100.1/24"),)
        else:
            scene.links["carp0"].index = index = 17
        scene.ownership.take("carp0", wanted)
        scene.worker.run()
        (taken,) = scene.links["carp0"].taken
        assert taken.requests == (set_link(index, up=True), new_address(index, wanted[0], flags))

    played(scenario)


def test_what_the_parent_has_anyway_is_not_taken() -> None:
    """Nor released with the rest: it is somebody else's."""

    async def scenario(scene: Scene) -> None:
        link = scene.links["carp0"]
        link.is_parent, link.index = True, 2
        scene.table.apply(RTM_NEWADDR, foreign_address(2, "192.0.2.100/32"))
        several = (*ONE, ip_interface("192.0.2.101/24"))
        scene.ownership.take("carp0", several)
        scene.worker.run()
        (taken,) = link.taken
        assert taken.addresses == {several[1]}
        assert taken.requests == (new_address(2, several[1], 0),)
        assert scene.ownership.wanted("carp0") == several

    played(scenario)
