"""Who owns which addresses on this host: takes and releases, on the worker thread, the newest wish only."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ..linux.carplink import CarpLink, Taking
from ..linux.links import LinkTable
from ..linux.netlink import Netlink, Write
from ..linux.worker import Done, Urgency, Worker
from ..protocol.events import Event, TakeFailed, Taken
from ..protocol.parameters import InterfaceParameters
from ..protocol.values import InterfaceAddress

LINK_DOWN_AFTER_S = 0.1


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
        self._prepared: dict[str, tuple[tuple[int, int, tuple[InterfaceAddress, ...]], Taking]] = {}
        """The takes to come, each with what it depends on."""

    def wanted(self, name: str) -> tuple[InterfaceAddress, ...]:
        """Return the addresses that are to be live."""
        return self._wanted.get(name, ())

    def live_addresses(self, name: str) -> list[str]:
        """List the addresses of a carp interface that are set on this host now."""
        link = self.links.get(name)
        if link is None:
            return []
        live = link.live.copy()
        if link.is_parent:
            own = self._table.own_addresses(link.index)
            live.update(address for address in self.wanted(name) if address.ip in own)
        return sorted(map(str, live))

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

        def done(result: object) -> None:
            self._pending[name] -= 1
            if self._generations[name] != generation:
                return
            if isinstance(result, BaseException):
                self._report(TakeFailed(name, str(result)))
            else:
                self._report(Taken(name))

        self._write(name, generation, Urgency.TAKE, link.take(self._taking(link, self._wanted[name])), done)

    def prepare(self, interfaces: Iterable[InterfaceParameters]) -> None:
        """Prepare what the takes of these carp interfaces will need, those whose links exist."""
        for parameters in interfaces:
            link = self.links.get(parameters.name)
            if link is not None:
                self._taking(link, parameters.addresses)

    def _taking(self, link: CarpLink, addresses: tuple[InterfaceAddress, ...]) -> Taking:
        # What somebody else has on another link, or on the parent, decides about flags and routes.
        depends_on = (link.index, self._table.foreign_version, addresses)
        prepared = self._prepared.get(link.name)
        if prepared is None or prepared[0] != depends_on:
            prepared = self._prepared[link.name] = (depends_on, Taking.prepare(self._table, link, addresses))
        return prepared[1]

    def release(self, names: Sequence[str]) -> None:
        """Make no address of these interfaces live; links go down after all addresses are gone."""
        for name in names:
            self._wanted.pop(name, None)
            link = self.links.get(name)
            if link is None:
                continue
            generation = self._next(name)
            self._write(name, generation, Urgency.RELEASE, link.release(), partial(self._released, name))
            # It holds the kernel's lock for 15 ms, in which nobody on this host can take anything; but an unfenced link
            # would go on to send MLD reports from the shared MAC.
            delay_s = LINK_DOWN_AFTER_S if self._fenced(name) else 0
            self._pending[name] += 1
            self._loop.call_later(delay_s, self._link_down, name, generation, link)

    def abandon(self, name: str) -> None:
        """Do nothing more for this interface: it is going away."""
        self._next(name)
        self._prepared.pop(name, None)

    def _link_down(self, name: str, generation: int, link: CarpLink) -> None:
        def job(netlink: Netlink) -> None:
            if self._generations[name] == generation:
                link.down(netlink)

        # Its count stays for the job.
        self._worker.submit(Urgency.LINK_DOWN, job, partial(self._released, name))

    def _write(self, name: str, generation: int, urgency: Urgency, write: Write, done: Done) -> None:
        def unless_overtaken() -> Write:
            if self._generations[name] == generation:
                yield from write

        self._pending[name] += 1
        self._worker.write(urgency, unless_overtaken(), done)

    def _released(self, name: str, _result: object) -> None:
        self._pending[name] -= 1

    def _next(self, name: str) -> int:
        generation = self._generations[name] = self._generations.get(name, 0) + 1
        return generation
