"""The checks that the kernel tells of at once: INTERFACE and ADDRESS here, ROUTE in `routes`."""

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import ip_address

from ..linux.netlink import Netlink, OverflowedError
from ..linux.rtnetlink import (
    IFA_F_DADFAILED,
    IFA_F_TENTATIVE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    Link,
    LinkAddress,
    get_addresses,
    get_links,
    parse_address,
    parse_link,
)
from ..protocol.values import Address
from .judgement import Finding, failure
from .orders import Check, CheckKind
from .routes import Report, RouteWatch
from .subscription import Group, Subscription

logger = logging.getLogger(__name__)

_AF_BRIDGE = 7
_RETRY_S = 1.0
_NOT_SET = IFA_F_TENTATIVE | IFA_F_DADFAILED

_Place = tuple[int, int]
"""Index of the link and length of the prefix: an address can be set more than once."""


@dataclass(slots=True)
class _Facts:
    """The links of this host, and where the wanted addresses are set."""

    wanted: frozenset[Address]
    links: dict[int, Link] = field(default_factory=dict)
    addresses: dict[Address, dict[_Place, bool]] = field(default_factory=dict)

    def apply(self, kind: int, body: bytes) -> None:
        """Follow one message of the kernel."""
        if kind in (RTM_NEWLINK, RTM_DELLINK) and body[0] != _AF_BRIDGE:
            link = parse_link(body)
            if kind == RTM_NEWLINK:
                self.links[link.index] = link
            else:
                self.links.pop(link.index, None)
                for places in self.addresses.values():
                    for place in [place for place in places if place[0] == link.index]:
                        del places[place]
        elif kind in (RTM_NEWADDR, RTM_DELADDR) and self.wanted:
            self._apply_address(kind, parse_address(body))

    def _apply_address(self, kind: int, entry: LinkAddress) -> None:
        if entry.address.ip not in self.wanted:
            return
        places = self.addresses.setdefault(entry.address.ip, {})
        place = (entry.index, entry.address.network.prefixlen)
        if kind == RTM_NEWADDR:
            places[place] = not entry.flags & _NOT_SET
        else:
            places.pop(place, None)

    def link(self, name: str) -> Link | None:
        """Find a link by its name."""
        return next((link for link in self.links.values() if link.name == name), None)


class Kernel:
    """All checks of the three kinds. `report` is called for each whenever it may have changed."""

    def __init__(self, report: Report, executor: Executor) -> None:
        self._report = report
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._checks: dict[str, Check] = {}
        self._facts = _Facts(frozenset())
        self._stale = True
        self._wakened = asyncio.Event()
        self._subscription = Subscription(self._wakened.set)
        self._routes = RouteWatch(report, executor, self._index_of)
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, check: Check) -> None:
        """Report on this check from now on."""
        if check.kind is CheckKind.ADDRESS:
            try:
                ip_address(check.target)
            except ValueError as error:
                self._report(check.name, Finding(good=False, detail=str(error)))
                return
        if check.kind is CheckKind.ROUTE:
            self._routes.watch(check)
        else:
            self._checks[check.name] = check
        self._read_anew()

    def forget(self, name: str) -> None:
        """Report on it no longer."""
        self._routes.forget(name)
        if self._checks.pop(name, None) is not None:
            self._read_anew()

    def close(self) -> None:
        """Stop, and close the sockets."""
        for task in self._tasks:
            task.cancel()
        self._subscription.close()
        self._routes.close()

    def _read_anew(self) -> None:
        """Read everything once more; checks that come together are served together."""
        self._stale = True
        self._wakened.set()
        if not self._tasks:
            self._tasks = [self._loop.create_task(self._run()), self._loop.create_task(self._routes.run())]

    async def _run(self) -> None:
        while True:
            await self._wakened.wait()
            self._wakened.clear()
            try:
                await self._follow()
            except Exception as error:
                logger.warning("the kernel cannot be asked: %s", failure(error))
                for name in self._checks:
                    self._report(name, Finding(good=False, detail=failure(error)))
                self._stale = True
                await asyncio.sleep(_RETRY_S)
                self._wakened.set()

    async def _follow(self) -> None:
        if self._stale:
            self._stale = False
            await self._load()
        try:
            changes = self._subscription.drain()
        except OverflowedError:
            self._stale = True
            self._wakened.set()
            return
        before = self._facts.links.copy()
        for kind, body in changes:
            self._facts.apply(kind, body)
        if self._routes.wanted and (self._facts.links != before or any(kind == RTM_DELADDR for kind, _ in changes)):
            self._routes.links_changed()
        self._tell()

    async def _load(self) -> None:
        wanted = frozenset(ip_address(one.target) for one in self._checks.values() if one.kind is CheckKind.ADDRESS)
        groups = {Group.LINK} if self._checks or self._routes.wanted else set()
        if wanted:
            groups |= {Group.IPV4_IFADDR, Group.IPV6_IFADDR}
        if self._routes.wanted:
            groups.add(Group.IPV4_IFADDR)
        # Joined first: what changes while it is read is applied afterwards.
        self._subscription.join(groups)
        facts = await self._loop.run_in_executor(self._executor, _read, wanted) if groups else _Facts(wanted)
        self._facts = facts
        if self._routes.wanted and not self._stale:
            self._routes.links_changed()

    def _tell(self) -> None:
        if self._stale:
            return
        for name, check in list(self._checks.items()):
            self._report(name, self._interface(check) if check.kind is CheckKind.INTERFACE else self._address(check))

    def _interface(self, check: Check) -> Finding:
        link = self._facts.link(check.target)
        if link is None:
            return Finding(good=False, detail="does not exist")
        if not link.up:
            return Finding(good=False, detail="is down")
        # The kernel itself sets IFF_RUNNING where the operational state is up or unknown.
        return Finding(good=True) if link.running else Finding(good=False, detail="has no carrier")

    def _address(self, check: Check) -> Finding:
        places = self._facts.addresses.get(ip_address(check.target), {})
        if check.device:
            index = self._index_of(check.device)
            places = {place: usable for place, usable in places.items() if place[0] == index}
        if not places:
            return Finding(good=False, detail="is not set")
        if not any(places.values()):
            return Finding(good=False, detail="is not usable yet, or a duplicate")
        return Finding(good=True)

    def _index_of(self, name: str) -> int | None:
        link = self._facts.link(name)
        return None if link is None else link.index


def _read(wanted: Iterable[Address]) -> _Facts:
    """Read the facts from the kernel; blocks."""
    facts = _Facts(frozenset(wanted))
    with closing(Netlink()) as netlink:
        for body in netlink.dump(get_links()):
            facts.apply(RTM_NEWLINK, body)
        if wanted:
            for body in netlink.dump(get_addresses()):
                facts.apply(RTM_NEWADDR, body)
    return facts
