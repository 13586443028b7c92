"""The ROUTE checks: routes are read anew whenever the kernel tells of a change that may concern them.

The kernel does not tell of everything: IPv4 routes go silently when their link goes down, and only after the word about the
link. So routes are also read some time after such a word, and now and then without any.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from ..linux.bpf_filter import attach
from ..linux.netlink import OverflowedError
from . import route_dump
from .judgement import Finding, failure
from .orders import Check
from .route_dump import ANY_LINK, Prefix
from .subscription import Group, Subscription

logger = logging.getLogger(__name__)

_SETTLED_AFTER_S = (0.1, 1.0)
_SELDOM_S = 10.0
_PAUSE_FACTOR = 9
"""Reading takes at most a tenth of the time, however big the table is."""
_SELDOM_FACTOR = 99
_NEVER = float("inf")

Report = Callable[[str, Finding], None]


class RouteWatch:
    """All ROUTE checks. `index_of` tells the index of a link of this name, None if there is none."""

    def __init__(self, report: Report, executor: Executor, index_of: Callable[[str], int | None]) -> None:
        self._report = report
        self._executor = executor
        self._index_of = index_of
        self._loop = asyncio.get_running_loop()
        self._checks: dict[str, tuple[Check, tuple[Prefix, ...]]] = {}
        self._wakened = asyncio.Event()
        self._moments: set[float] = set()
        self._not_before = 0.0
        self._knows_links = False
        self._subscription = Subscription(self._on_change)

    def watch(self, check: Check) -> None:
        """Report on this check from now on."""
        try:
            self._checks[check.name] = (check, route_dump.prefixes(check.target))
        except ValueError as error:
            self._report(check.name, Finding(good=False, detail=str(error)))
            return
        self._knows_links = False
        self._subscribe()

    def forget(self, name: str) -> None:
        """Report on it no longer."""
        if self._checks.pop(name, None) is not None:
            self._subscribe()

    @property
    def wanted(self) -> bool:
        """Whether there is any check."""
        return bool(self._checks)

    def links_changed(self) -> None:
        """Take note that a link or an address came, changed or went: routes may follow soon.

        After `watch` nothing is reported before this was called.
        """
        self._knows_links = True
        now = self._loop.time()
        self._read_at(now, *(now + later for later in _SETTLED_AFTER_S))

    async def run(self) -> None:
        """Read and report whenever it is due, for ever."""
        while True:
            await self._until_due()
            begun = self._loop.time()
            self._moments = {moment for moment in self._moments if moment > begun}
            await self._look()
            ended = self._loop.time()
            self._not_before = ended + _PAUSE_FACTOR * (ended - begun)
            if self._checks:
                self._moments.add(ended + max(_SELDOM_S, _SELDOM_FACTOR * (ended - begun)))

    def close(self) -> None:
        """Close the socket."""
        self._subscription.close()

    def _subscribe(self) -> None:
        wanted = {prefix for _, prefixes in self._checks.values() for prefix in prefixes}
        attach(self._subscription.socket, route_dump.notification_filter(wanted))
        self._subscription.join([Group.IPV4_ROUTE, Group.IPV6_ROUTE] if wanted else [])
        self._read_at(self._loop.time())

    def _on_change(self) -> None:
        self._read_at(self._loop.time())

    def _read_at(self, *moments: float) -> None:
        self._moments.update(moments)
        self._wakened.set()

    async def _until_due(self) -> None:
        while True:
            due = max(min(self._moments, default=_NEVER), self._not_before) if self._knows_links else _NEVER
            left_s = due - self._loop.time()
            if left_s <= 0:
                return
            self._wakened.clear()
            try:
                async with asyncio.timeout(None if due == _NEVER else left_s):
                    await self._wakened.wait()
            except TimeoutError:
                return

    async def _look(self) -> None:
        # What is in the queue happened before the table is read; what happens meanwhile is read of afterwards.
        try:
            while self._subscription.drain():
                pass
        except OverflowedError:
            self._read_at(self._loop.time())
        checks = dict(self._checks)
        wanted = {name: self._wanted(*entry) for name, entry in checks.items()}
        try:
            found = await self._loop.run_in_executor(self._executor, route_dump.find, set().union(*wanted.values()))
        except Exception as error:
            logger.warning("routes cannot be read: %s", failure(error))
            self._read_at(self._loop.time() + _SETTLED_AFTER_S[-1])
            findings = dict.fromkeys(checks, Finding(good=False, detail=failure(error)))
        else:
            findings = self._findings(wanted, found)
        for name, finding in findings.items():
            if self._checks.get(name) is checks[name]:
                self._report(name, finding)

    def _wanted(self, check: Check, prefixes: tuple[Prefix, ...]) -> set[tuple[Prefix, int]]:
        index = self._index_of(check.device) if check.device else ANY_LINK
        return set() if index is None else {(prefix, index) for prefix in prefixes}

    def _findings(self, wanted: Mapping[str, set[tuple[Prefix, int]]], found: set[tuple[Prefix, int]]) -> dict[str, Finding]:
        return {
            name: Finding(good=True) if ones & found else Finding(good=False, detail="no such route")
            for name, ones in wanted.items()
        }
