"""Who owns which addresses on this host: takes and releases, on the worker thread, the newest wish only."""

from collections.abc import Callable, Sequence

from ..linux.carplink import CarpLink, address_flags
from ..linux.links import LinkTable
from ..linux.netlink import Netlink
from ..linux.worker import Urgency, Worker
from ..protocol.events import Event, TakeFailed, Taken
from ..protocol.values import InterfaceAddress

_OVERTAKEN = object()


class Ownership:
    """Carries out Take and Release.

    A wish that a newer one has overtaken before the thread came to it is not carried out, and its result is not reported.
    """

    def __init__(self, worker: Worker, table: LinkTable, report: Callable[[Event], None]) -> None:
        self.links: dict[str, CarpLink] = {}
        """The interfaces that exist now, by name."""
        self._worker = worker
        self._table = table
        self._report = report
        self._generations: dict[str, int] = {}

    def take(self, name: str, addresses: Sequence[InterfaceAddress]) -> None:
        """Make exactly these addresses live and report Taken or TakeFailed."""
        generation = self._next(name)
        link = self.links.get(name)
        if link is None:
            self._report(TakeFailed(name, f"{name} does not exist on this host"))
            return
        flags = address_flags(self._table, link, addresses)

        def job(netlink: Netlink) -> object:
            if self._generations[name] != generation:
                return _OVERTAKEN
            link.take(netlink, addresses, flags)
            return None

        def done(result: object) -> None:
            if result is _OVERTAKEN or self._generations[name] != generation:
                return
            if isinstance(result, BaseException):
                self._report(TakeFailed(name, str(result)))
            else:
                self._report(Taken(name))

        self._worker.submit(Urgency.TAKE, job, done)

    def release(self, names: Sequence[str]) -> None:
        """Make no address of these interfaces live; links go down after all addresses are gone."""
        for name in names:
            link = self.links.get(name)
            if link is None:
                continue
            generation = self._next(name)
            self._worker.submit(Urgency.RELEASE, self._unless_overtaken(name, generation, link.release))
            self._worker.submit(Urgency.LINK_DOWN, self._unless_overtaken(name, generation, link.down))

    def abandon(self, name: str) -> None:
        """Do nothing more for this interface: it is going away."""
        self._next(name)

    def _next(self, name: str) -> int:
        generation = self._generations[name] = self._generations.get(name, 0) + 1
        return generation

    def _unless_overtaken(self, name: str, generation: int, job: Callable[[Netlink], None]) -> Callable[[Netlink], object]:
        return lambda netlink: job(netlink) if self._generations[name] == generation else _OVERTAKEN
