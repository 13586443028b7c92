"""Takes and releases in the order of their urgency; only the newest wish counts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from carp.daemon import ownership
from carp.daemon.ownership import Ownership
from carp.linux.links import LinkTable
from carp.linux.prefix_route import PrefixRoute
from carp.linux.worker import Urgency
from carp.protocol.events import Event, TakeFailed, Taken
from carp.protocol.values import InterfaceAddress

ONE = (ip_interface("192.0.2.100/24"),)
TWO = (*ONE, ip_interface("2001:db8::100/64"))
NETLINK: Any = object()


class FakeWorker:
    """Runs jobs when it is told to, in the order that the real one keeps."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Urgency, int, Any, Any]] = []
        self._number = 0

    def submit(self, urgency: Urgency, job: Any, done: Any = None) -> None:
        """Put a job into the queue."""
        self._number += 1
        self.jobs.append((urgency, self._number, job, done))

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

    def take(
        self,
        _netlink: object,
        addresses: tuple[InterfaceAddress, ...],
        flags: list[int],
        routes: tuple[PrefixRoute, ...],
    ) -> None:
        """Take addresses, and routes if there are any."""
        assert len(addresses) == len(flags)
        self.log.append(f"{self.name} takes {len(addresses)}")
        self.log += [f"{self.name} reaches {route.network} through {route.parent_index}" for route in routes]
        if self.refuses is not None:
            raise self.refuses

    def release(self, _netlink: object) -> None:
        """Release all."""
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
        self.ownership = Ownership(fake_worker, LinkTable(), self.reports.append, lambda _: fenced)
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
