"""What is looked at when the kernel reports something, and how often; the kernel is a list of what it was asked."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from daemon_kit import FakeFence, fencing_of, play

from carp.daemon import reconcile as module
from carp.daemon.chronicle import Chronicle
from carp.daemon.reconcile import Reconciler
from carp.linux.carplink import CarpLink
from carp.linux.rtnetlink import Link
from carp.linux.worker import Urgency

ETH0, ETH1, FOREIGN = 2, 3, 7
PATIENCE_S = 5


class House:
    """A reconciler of two carp interfaces on eth0, both BACKUP, with a worker that works at once."""

    def __init__(self) -> None:
        self.links = {name: CarpLink(name, index, ETH0, bytes(6)) for name, index in (("carp0", 10), ("carp1", 11))}
        self.present = {10, 11, ETH0, ETH1, FOREIGN}
        self.suspects: list[set[int]] = []
        self.looked_at: list[int] = []
        self.looks: list[int] = []
        """How many were looked at when each look began."""
        self.guarded: list[int] = []
        self.jobs = 0
        self.remade: list[str] = []
        self.fence = FakeFence()
        self.loop = asyncio.get_running_loop()
        fencing: Any = fencing_of(self.fence)
        fencing.is_guarded = self._is_guarded
        worker: Any = SimpleNamespace(submit=self._submit)
        table: Any = SimpleNamespace(by_index=self._by_index, addresses=lambda _index: [])
        ownership: Any = SimpleNamespace(
            links=self.links,
            wanted=self._wanted,
            is_settled=lambda _name: True,
            release=lambda _names: None,
        )
        keeper: Any = SimpleNamespace(put_back=self._put_back)
        self.reconciler = Reconciler(worker, table, ownership, fencing, keeper, Chronicle(2), self._begin_look, self._remake)

    def _begin_look(self) -> None:
        self.looks.append(len(self.looked_at))

    def _submit(self, _urgency: Urgency, job: Callable[[Any], object], done: Callable[[object], None]) -> None:
        self.jobs += 1
        self.loop.call_soon(done, job(None))

    def _by_index(self, index: int) -> Link | None:
        return Link(index, f"link{index}", False, False, bytes(6), "", 0, 0) if index in self.present else None

    def _wanted(self, name: str) -> tuple[()]:
        self.looked_at.append(self.links[name].index)
        return ()

    def _is_guarded(self, _netlink: object, index: int) -> bool:
        self.guarded.append(index)
        return True

    def _put_back(self, _netlink: object, suspects: Collection[int]) -> list[str]:
        self.suspects.append(set(suspects))
        return []

    def _remake(self, links: list[CarpLink]) -> None:
        self.remade += [link.name for link in links]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look sooner than in life."""
    monkeypatch.setattr(module, "_SETTINGS_EVERY_S", 0.02)
    monkeypatch.setattr(module, "_LOOK_AFTER_S", 0.001)


def housed(scenario: Callable[[House], Awaitable[None]]) -> None:
    """Play with a reconciler that runs."""

    async def played() -> None:
        house = House()
        house.reconciler.start()
        try:
            await scenario(house)
        finally:
            house.reconciler.stop()

    play(played)


def test_what_is_reported_is_suspected_once() -> None:
    """The settings of a link on which something else changed are looked at with the next look, and then in their turn."""

    async def scenario(house: House) -> None:
        house.reconciler.touched([10, ETH0], [])
        await house.until(lambda: len(house.suspects) >= 2)
        assert house.suspects[:2] == [{10, ETH0}, set()]

    housed(scenario)


def test_only_links_of_ours_are_looked_at() -> None:
    """And of those the ones that were reported; deleted ones are made again."""

    async def scenario(house: House) -> None:
        house.present.discard(11)
        house.reconciler.touched([10, 11, FOREIGN], [])
        await house.until(lambda: house.remade)
        assert (house.looked_at, house.remade, house.guarded) == ([10], ["carp1"], [])

    housed(scenario)


def test_only_filters_on_links_and_parents_of_ours_are_looked_at() -> None:
    """Those of another interface cost no job of the worker's."""

    async def scenario(house: House) -> None:
        house.reconciler.touched([], [FOREIGN, ETH1])
        await house.until(lambda: len(house.suspects) >= 3)
        assert house.jobs == len(house.suspects)
        house.reconciler.touched([], [FOREIGN, 11])
        await house.until(lambda: house.guarded)
        assert house.guarded == [11]
        house.reconciler.touched([], [ETH0])
        await house.until(lambda: len(house.guarded) >= 2)
        assert house.guarded == [11, ETH0]

    housed(scenario)


def test_filters_that_were_put_on_before_the_start_are_not_looked_at() -> None:
    """They are ours; that something was deleted meanwhile is seen all the same."""

    async def scenario() -> None:
        house = House()
        house.present.discard(11)
        house.reconciler.touched([10, 11], [10, 11, ETH0])
        house.reconciler.start()
        house.reconciler.touched([FOREIGN], [])
        await house.until(lambda: house.remade)
        house.reconciler.stop()
        assert (house.remade, house.guarded) == (["carp1"], [])

    play(scenario)


def test_hundreds_of_links_are_looked_at_a_few_at_a_time() -> None:
    """A takeover touches all of them, and advertisements are due meanwhile; in the end each was looked at, once."""

    async def scenario(house: House) -> None:
        house.links.update({f"many{index}": CarpLink(f"many{index}", index, ETH0, bytes(6)) for index in range(100, 400)})
        house.present.update(range(100, 400))
        house.present.discard(399)
        house.reconciler.touched(range(100, 400), [])
        await house.until(lambda: house.remade)
        assert max(after - before for before, after in pairwise([*house.looks, len(house.looked_at)])) <= 32
        assert (sorted(house.looked_at), house.remade) == (list(range(100, 399)), ["many399"])

    housed(scenario)


def test_filters_of_a_link_that_is_gone_are_not_looked_at() -> None:
    """Also while its turn to be made again has not come."""

    async def scenario(house: House) -> None:
        house.links.update({f"many{index}": CarpLink(f"many{index}", index, ETH0, bytes(6)) for index in range(100, 200)})
        house.present.update(range(100, 199))
        house.reconciler.touched(range(100, 200), range(100, 200))
        await house.until(lambda: house.guarded and house.remade)
        assert house.guarded == list(range(100, 199))

    housed(scenario)
