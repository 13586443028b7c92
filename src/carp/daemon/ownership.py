"""Who owns which addresses on this host: takes and releases, on the worker thread, the newest wish only."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from ..linux.carplink import CarpLink, address_flags, prefix_routes
from ..linux.links import LinkTable
from ..linux.netlink import Netlink
from ..linux.worker import Urgency, Worker
from ..protocol.events import Event, TakeFailed, Taken
from ..protocol.values import InterfaceAddress

LINK_DOWN_AFTER_S = 0.1
_OVERTAKEN = object()


class Ownership:
    """Carries out Take and Release.

    `report` gets the results; `fenced` tells whether nothing passes through an interface that is not MASTER.

    A wish that a newer one has overtaken before the thread came to it is not carried out, and its result is not reported.
    """

    def __init__(
        self, worker: Worker, table: LinkTable, report: Callable[[Event], None], fenced: Callable[[str], bool]
    ) -> None:
        self.links: dict[str, CarpLink] = {}
        """The interfaces that exist now, by name."""
        self._worker = worker
        self._table = table
        self._report = report
        self._fenced = fenced
        self._loop = asyncio.get_running_loop()
        self._generations: dict[str, int] = {}
        self._wanted: dict[str, tuple[InterfaceAddress, ...]] = {}
        self._pending: Counter[str] = Counter()

    def wanted(self, name: str) -> tuple[InterfaceAddress, ...]:
        """Return the addresses that are to be live."""
        return self._wanted.get(name, ())

    def is_settled(self, name: str) -> bool:
        """Tell whether nothing is on its way for this interface: what the kernel shows is what was asked for."""
        return not self._pending[name]

    def take(self, name: str, addresses: Sequence[InterfaceAddress]) -> None:
        """Make exactly these addresses live, and report Taken or TakeFailed."""
        generation = self._next(name)
        self._wanted[name] = tuple(addresses)
        link = self.links.get(name)
        if link is None:
            self._report(TakeFailed(name, f"{name} does not exist on this host"))
            return
        if link.is_parent:
            # Those that the parent has anyway stay whose they are.
            own = self._table.own_addresses(link.index)
            addresses = [address for address in addresses if address.ip not in own]
        flags = address_flags(self._table, link, addresses)
        routes = prefix_routes(self._table, link, addresses)

        def job(netlink: Netlink) -> object:
            if self._generations[name] != generation:
                return _OVERTAKEN
            link.take(netlink, addresses, flags, routes)
            return None

        def done(result: object) -> None:
            self._pending[name] -= 1
            if result is _OVERTAKEN or self._generations[name] != generation:
                return
            if isinstance(result, BaseException):
                self._report(TakeFailed(name, str(result)))
            else:
                self._report(Taken(name))

        self._pending[name] += 1
        self._worker.submit(Urgency.TAKE, job, done)

    def release(self, names: Sequence[str]) -> None:
        """Make no address of these interfaces live; links go down after all addresses are gone."""
        for name in names:
            self._wanted.pop(name, None)
            link = self.links.get(name)
            if link is None:
                continue
            generation = self._next(name)
            self._submit(name, generation, Urgency.RELEASE, link.release)
            # It holds the kernel's lock for 15 ms, in which nobody on this host can take anything; but an unfenced link
            # would go on to send MLD reports from the shared MAC.
            delay_s = LINK_DOWN_AFTER_S if self._fenced(name) else 0
            self._pending[name] += 1
            self._loop.call_later(delay_s, self._link_down, name, generation, link)

    def abandon(self, name: str) -> None:
        """Do nothing more for this interface: it is going away."""
        self._next(name)

    def _link_down(self, name: str, generation: int, link: CarpLink) -> None:
        self._pending[name] -= 1
        self._submit(name, generation, Urgency.LINK_DOWN, link.down)

    def _submit(self, name: str, generation: int, urgency: Urgency, job: Callable[[Netlink], None]) -> None:
        self._pending[name] += 1
        self._worker.submit(urgency, self._unless_overtaken(name, generation, job), partial(self._released, name))

    def _released(self, name: str, _result: object) -> None:
        self._pending[name] -= 1

    def _next(self, name: str) -> int:
        generation = self._generations[name] = self._generations.get(name, 0) + 1
        return generation

    def _unless_overtaken(self, name: str, generation: int, job: Callable[[Netlink], None]) -> Callable[[Netlink], object]:
        return lambda netlink: job(netlink) if self._generations[name] == generation else _OVERTAKEN
