"""Puts back what another tool changes on our interfaces: networkd, NetworkManager, udev's sysctl replay, an admin's mistake.

Links, addresses and filters are looked at when the kernel reports a change. It does not report changes of settings: every half
second those of a few interfaces are looked at in turn, and of those on which anything else has changed. Only what carpd made is
put back; addresses that somebody else adds are left alone.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from ..linux.carplink import CarpLink
from ..linux.links import LinkTable
from ..linux.netlink import Netlink
from ..linux.rtnetlink import CARP_ADDRESS_PROTOCOL, set_link_mac
from ..linux.sysctl import Keeper
from ..linux.worker import Urgency, Worker
from ..protocol.values import mac_text
from .chronicle import Chronicle
from .fencing import Fencing
from .ownership import Ownership

_SETTINGS_EVERY_S = 1.0
_LINKS_AT_A_TIME = 32
"""A takeover of hundreds of virtual hosts touches all their links, and looking at one takes some 50 us."""
_LOOK_AFTER_S = 0.05
"""A tool that changes several things is left to finish first."""
_LOG_LEVEL = 2


class Reconciler:
    """Compares what is with what was asked for.

    Args:
        catch_up: reads the kernel's messages that are waiting, so that the table is as new as the last finished job.
        remake: makes links again that were deleted.
    """

    def __init__(
        self,
        worker: Worker,
        table: LinkTable,
        ownership: Ownership,
        fencing: Fencing,
        keeper: Keeper,
        chronicle: Chronicle,
        catch_up: Callable[[], None],
        remake: Callable[[list[CarpLink]], None],
    ) -> None:
        self._worker = worker
        self._table = table
        self._ownership = ownership
        self._fencing = fencing
        self._keeper = keeper
        self._chronicle = chronicle
        self._catch_up = catch_up
        self._remake = remake
        self._touched: set[int] = set()
        self._filtered: set[int] = set()
        self._suspects: set[int] = set()
        self._look: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin to look; what was reported until now was made just now."""
        self._filtered.clear()
        self._sweep = self._loop.call_later(_SETTINGS_EVERY_S, self._check_settings)

    def stop(self) -> None:
        """Look at nothing any more."""
        for handle in (self._look, self._sweep):
            if handle is not None:
                handle.cancel()
        self._look = self._sweep = None

    def touched(self, indexes: Iterable[int], filtered: Iterable[int]) -> None:
        """The kernel reported changes of these links, and of filters on those; look at ours among them soon."""
        self._touched.update(indexes)
        self._suspects.update(indexes)
        self._filtered.update(filtered)
        self._look_soon()

    def _look_soon(self) -> None:
        if (self._touched or self._filtered) and self._look is None and self._sweep is not None:
            self._look = self._loop.call_later(_LOOK_AFTER_S, self._check_links)

    def _check_links(self) -> None:
        self._look = None
        self._catch_up()
        filtered, self._filtered = self._filtered, set()
        deleted = []
        links = list(self._ownership.links.values())
        mine = [link for link in links if link.index in self._touched]
        now_looked_at = mine[:_LINKS_AT_A_TIME]
        self._touched = {link.index for link in mine[_LINKS_AT_A_TIME:]}
        for link in now_looked_at:
            if not self._ownership.is_settled(link.name):
                self._touched.add(link.index)
            elif self._table.by_index(link.index) is None:
                deleted.append(link)
            else:
                self._check_link(link)
        if deleted:
            names = ", ".join(link.name for link in deleted)
            self._chronicle.say(_LOG_LEVEL, f"{names}: deleted by somebody else, made again")
            self._remake(deleted)
        if filtered:
            present = [link for link in links if self._table.by_index(link.index) is not None]
            parents = {link.parent_index for link in links} & filtered
            if parents or not filtered.isdisjoint(link.index for link in present):
                job = partial(self._check_filters, present, parents, filtered)
                self._worker.submit(Urgency.SETUP, job, self._report_filters)
        self._look_soon()

    def _check_link(self, link: CarpLink) -> None:
        state = self._table.by_index(link.index)
        wanted = self._ownership.wanted(link.name)
        present = {entry.address for entry in self._table.addresses(link.index)}
        missing = [str(address) for address in wanted if address not in present]
        wrong = [f"{address} is gone" for address in missing]
        if state is not None and not link.is_parent:
            if (mac := link.mac) is not None and state.mac != mac:
                wrong.append(f"its MAC is {mac_text(state.mac)}")
                self._worker.submit(Urgency.TAKE, lambda netlink: netlink.execute([set_link_mac(link.index, mac)]))
            if state.up != bool(wanted):
                wrong.append("it is up" if state.up else "it is down")
        if not wrong:
            return
        self._chronicle.say(_LOG_LEVEL, f"{link.name}: put back what somebody else changed: {', '.join(wrong)}")
        if wanted:
            self._ownership.take(link.name, wanted)
        else:
            link.live = {
                entry.address for entry in self._table.addresses(link.index) if entry.protocol == CARP_ADDRESS_PROTOCOL
            }
            self._ownership.release([link.name])

    def _check_filters(self, links: list[CarpLink], parents: set[int], touched: set[int], netlink: Netlink) -> list[str]:
        """Put the fence on again where it was taken off; worker thread."""
        restored = []
        for link in links:
            if link.index in touched and not link.is_parent and not self._fencing.is_guarded(netlink, link.index):
                self._fencing.guard_link(netlink, link)
                restored.append(link.name)
        for index in parents:
            parent = self._table.by_index(index)
            if parent is not None and not self._fencing.is_guarded(netlink, index):
                self._fencing.guard_parent(netlink, parent.name, index)
                restored.append(parent.name)
        return restored

    def _report_filters(self, result: object) -> None:
        if isinstance(result, BaseException):
            self._chronicle.say(1, f"the fence could not be put back: {result}")
        elif isinstance(result, list) and result:
            self._chronicle.say(_LOG_LEVEL, f"{', '.join(result)}: put the fence back, somebody else had removed it")

    def _check_settings(self) -> None:
        suspects, self._suspects = self._suspects, set()
        self._worker.submit(Urgency.SETUP, lambda netlink: self._keeper.put_back(netlink, suspects), self._report_settings)

    def _report_settings(self, result: object) -> None:
        if isinstance(result, list):
            for text in result:
                self._chronicle.say(_LOG_LEVEL, f"put back what somebody else changed: {text}")
        if self._sweep is not None:
            self._sweep = self._loop.call_later(_SETTINGS_EVERY_S, self._check_settings)
