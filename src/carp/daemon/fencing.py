"""The fence as the daemon uses it: which slot belongs to whom, when it opens, and what to do without it.

Only a successful send of an advertisement moves a deadline, to the moment before that send plus the time for which no peer
takes over. With two families it is the earlier of both that counts: a BSD peer takes over when either falls silent.

Each virtual host has a slot. Where several share the traffic of a carp interface, nothing passes through the interface's own
link, which has a slot that never opens; their shares are guarded on the parent (`balancing`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from ..linux.bpf.balancer import Balancer
from ..linux.bpf.fence import Fence, FenceUnavailable, remove_leftovers
from ..linux.carplink import CarpLink
from ..linux.journal import Journal, Leftovers
from ..linux.links import LinkTable
from ..linux.netlink import Netlink
from ..protocol.parameters import InterfaceParameters
from ..protocol.values import NANOSECONDS_PER_SECOND, Family, Instant, InterfaceAddress

_NOBODY = 0
"""Stands for a vhid: a slot that never opens."""
_SWITCHED_OFF = "switched off by the configuration"


def owner_of(journal: Journal) -> str:
    """Return what marks this daemon's filters: the same at its next start."""
    return f"{journal.link_group:x}"


class Fencing:
    """The fence of this daemon, or the reason why there is none.

    Args:
        wanted: "auto", "required" or "off"; with "auto" an interface that takes no fence works without.
        journal: where it is written down which clsact was made here.
        warn: called, on the worker thread, with a sentence for each interface that takes no fence.
    """

    def __init__(self, wanted: str, journal: Journal, warn: Callable[[str], None]) -> None:
        self.unavailable = ""
        """Why there is no fence; empty while there is one."""
        self.late_closings: Counter[str] = Counter()
        """How often the fence of a MASTER closed because its advertisement came too late, by carp interface."""
        self._wanted = wanted
        self._warn = warn
        self._incomplete: dict[int, str] = {}
        self._journal = journal
        self._fence: Fence | None = None
        self._slots: dict[tuple[str, int], int] = {}
        self._vhids: dict[str, list[int]] = {}
        self._free_slots: list[int] = []
        self._link_slots: dict[str, int] = {}
        self._links: dict[str, CarpLink] = {}
        self._fenced: dict[str, tuple[int, tuple[InterfaceAddress, ...]]] = {}
        self._holds: dict[tuple[str, int], dict[Family, Instant]] = {}
        if wanted == "off":
            self.unavailable = _SWITCHED_OFF
            return
        try:
            self._fence = Fence.load(owner_of(journal))
        except FenceUnavailable as error:
            self.unavailable = str(error)

    @property
    def balancer(self) -> Balancer | None:
        """What shares traffic out on the parents, None without the fence."""
        return None if self._fence is None else self._fence.balancer

    def slot(self, name: str, vhid: int) -> int:
        """Return the slot of a virtual host, a new one at the first time; worker thread."""
        slot = self._slots.get((name, vhid))
        if slot is None:
            # Those that were given out and those that are free again are all numbers from 0 on.
            slot = heappop(self._free_slots) if self._free_slots else len(self._slots)
            self._slots[name, vhid] = slot
            self._vhids.setdefault(name, []).append(vhid)
        return slot

    def sent(
        self, name: str, vhid: int, families: Sequence[Family], family: Family, until: Instant, now: Instant
    ) -> int | None:
        """An advertisement was sent; return for how many ns the fence had closed before, None if it had not."""
        slot = self._slots.get((name, vhid))
        if self._fence is None or slot is None:
            return None
        deadlines = self._fence.deadlines
        if len(families) == 1:
            former = deadlines.extend(slot, until)
        else:
            former = deadlines.deadline(slot)
            if 0 < former <= now:
                # It opens again when every family has been sent; until then it counts as closed on purpose.
                deadlines.close_slot(slot)
                self._holds.pop((name, vhid), None)
            holds = self._holds.setdefault((name, vhid), {})
            holds[family] = until
            if all(one in holds for one in families):
                deadlines.extend(slot, min(holds[one] for one in families))
        if not 0 < former <= now:
            return None
        self.late_closings[name] += 1
        return now - former

    def close(self, name: str, vhid: int) -> None:
        """Let nothing pass any more on behalf of a virtual host."""
        self._holds.pop((name, vhid), None)
        slot = self._slots.get((name, vhid))
        if self._fence is not None and slot is not None:
            self._fence.deadlines.close_slot(slot)

    def is_open(self, name: str, vhid: int, now: Instant) -> bool:
        """Tell whether the deadline of a virtual host lies in the future."""
        slot = self._slots.get((name, vhid))
        return self._fence is not None and slot is not None and self._fence.deadlines.deadline(slot) > now

    def is_fenced(self, name: str) -> bool:
        """Tell whether the fence is on a carp interface of its own."""
        link = self._links.get(name)
        return self._fence is not None and link is not None and link.index not in self._incomplete

    def describe(self, parameters: InterfaceParameters, now: Instant) -> dict[str, Any]:
        """Return the state for the status document; of several virtual hosts the one that stays open longest counts."""
        name = parameters.name
        slots = [slot for node in parameters.nodes if (slot := self._slots.get((name, node.vhid))) is not None]
        if self._fence is None or not slots:
            return {"state": "unavailable", "reason": self.unavailable or "not set up yet"}
        link = self._links.get(name)
        missing = [self._incomplete[index] for index in self._indexes(link) if index in self._incomplete]
        deadline = max(self._fence.deadlines.deadline(slot) for slot in slots)
        is_open = deadline > now
        return {
            "state": "open" if is_open else "closed",
            "reason": "; ".join(missing) or None,
            "closes_in_s": round((deadline - now) / NANOSECONDS_PER_SECOND, 6) if is_open else None,
            "dropped": sum(self._fence.deadlines.dropped(slot) for slot in slots),
            "late_closings": self.late_closings[name],
        }

    def prepare(self, parameters: InterfaceParameters, parent_index: int, addresses: tuple[InterfaceAddress, ...]) -> None:
        """Fence exactly these addresses of a carp interface on its parent, those that it shares with nobody; worker thread."""
        if self._fence is not None:
            for node in parameters.nodes:
                slot = self.slot(parameters.name, node.vhid)
            if parameters.is_balanced:
                slot = self.slot(parameters.name, _NOBODY)
            self._link_slots[parameters.name] = slot
            self._fenced.pop(parameters.name, None)
            self._fence.set_vips(parent_index, slot, [address.ip for address in addresses])
            self._fenced[parameters.name] = (parent_index, addresses)

    def is_prepared(self, name: str, parent_index: int, addresses: tuple[InterfaceAddress, ...]) -> bool:
        """Tell whether `prepare` would change nothing."""
        return self._fence is None or self._fenced.get(name) == (parent_index, addresses)

    def guard_parent(self, netlink: Netlink, name: str, index: int) -> None:
        """Put the fence on a parent; worker thread. Raises FenceUnavailable."""
        if self._fence is None:
            return
        try:
            made = self._fence.guard_parent(netlink, index)
        except FenceUnavailable as error:
            self._do_without(name, index, error)
            return
        self._incomplete.pop(index, None)
        if made and name not in self._journal.qdiscs:
            self._journal.qdiscs.append(name)
            self._journal.save()
        for foreign in self._fence.ahead(netlink, index):
            self._warn(f"{name}: the filter {foreign} runs before the fence: what it accepts is not fenced")

    def guard_link(self, netlink: Netlink, link: CarpLink) -> None:
        """Put the fence on a macvlan that is still down; worker thread. Raises FenceUnavailable."""
        self._links[link.name] = link
        if self._fence is None or link.is_parent:
            return
        try:
            self._fence.guard_link(netlink, link.index, self._link_slots[link.name])
        except FenceUnavailable as error:
            self._do_without(link.name, link.index, error)
        else:
            self._incomplete.pop(link.index, None)

    def guard_new_links(self, netlink: Netlink, links: Sequence[CarpLink]) -> dict[str, FenceUnavailable]:
        """Put the fence on links that were just made and are down, on all at once; worker thread.

        Returns, by name, why some have none, where it is required.
        """
        slots = {link.index: self._link_slots[link.name] for link in links if self._fence is not None and not link.is_parent}
        doubtful = self._fence.guard_new_links(netlink, slots) if self._fence is not None else set()
        refused = {}
        for link in links:
            self._links[link.name] = link
            if link.index not in doubtful:
                self._incomplete.pop(link.index, None)
                continue
            try:
                self.guard_link(netlink, link)
            except FenceUnavailable as error:
                refused[link.name] = error
        return refused

    def why_not_guarded(self, index: int) -> str:
        """Say why an interface works without the fence, or return ""."""
        return self.unavailable or self._incomplete.get(index, "")

    def is_guarded(self, netlink: Netlink, index: int) -> bool:
        """Ask the kernel whether our filters are still on an interface; worker thread."""
        return self._fence is None or index in self._incomplete or self._fence.is_guarded(netlink, index)

    def lose_link(self, link: CarpLink) -> None:
        """The macvlan is gone but will be made again: its slot stays, and with it the deadline."""
        if self._fence is not None and not link.is_parent:
            self._fence.forget_link(link.index)

    def forget(self, link: CarpLink) -> None:
        """A carp interface is gone, its addresses released; nothing shares out by its slots any more."""
        self._links.pop(link.name, None)
        self._fenced.pop(link.name, None)
        self._link_slots.pop(link.name, None)
        for vhid in self._vhids.pop(link.name, ()):
            self.close(link.name, vhid)
            slot = self._slots.pop((link.name, vhid))
            heappush(self._free_slots, slot)
            if self._fence is not None:
                self._fence.set_vips(link.parent_index, slot, ())
        if self._fence is not None and not link.is_parent:
            self._fence.forget_link(link.index)

    def unguard_parent(self, netlink: Netlink, name: str, index: int) -> None:
        """Take the fence off a parent whose carp interfaces are gone; worker thread."""
        if self._fence is not None:
            self._fence.unguard_parent(netlink, index, remove_qdisc=name in self._journal.qdiscs)

    def stop(self) -> None:
        """Let go of programs and maps, after they are off every interface."""
        if self._fence is not None:
            self._fence.close()
            self._fence = None

    def _do_without(self, name: str, index: int, error: FenceUnavailable) -> None:
        """Let an interface work without the fence, unless it is required."""
        if self._wanted == "required":
            raise error
        if index not in self._incomplete:
            self._warn(f"{name} is not fenced: {error}")
        self._incomplete[index] = str(error)

    @staticmethod
    def _indexes(link: CarpLink | None) -> tuple[int, ...]:
        return () if link is None else (link.index, link.parent_index)


def remove_left_filters(netlink: Netlink, journal: Journal, leftovers: Leftovers) -> list[str]:
    """Take off what a crashed run left on its parents, after its addresses are released; name what was removed."""
    table = LinkTable()
    table.load(netlink)
    indexes = {name: link.index for name in leftovers.parents if (link := table.by_name(name)) is not None}
    qdiscs = [index for name, index in indexes.items() if name in leftovers.qdiscs]
    return remove_leftovers(netlink, indexes.values(), owner_of(journal), qdiscs=qdiscs)
