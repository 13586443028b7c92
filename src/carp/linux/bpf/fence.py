"""The fence of one daemon: its programs on the interfaces, its virtual addresses, and the deadlines that keep it open.

A slot is a number that the caller gives to a carp interface; it has one deadline, nanoseconds on CLOCK_BOOTTIME. While it
lies in the future the slot's carp interface and virtual addresses work; 0, the start value, is closed. The programs stay
attached when the process ends, however that happens, and go on with the last deadline.

Methods that take a `Netlink` or say so block and belong to one thread, the worker's. Those of `deadlines` may be called from
any thread at any time: each is one aligned load or store of 8 bytes in memory shared with the kernel.
"""

import struct
from collections.abc import Collection, Iterable, Mapping
from importlib import resources
from mmap import mmap

from ...protocol.values import Address, Instant
from ..netlink import Netlink
from . import tc
from .balancer import Balancer
from .claims import SLOTS, Claimant, Claims, address_key, checked_slot, slot_entry
from .libbpf import BpfObject, FenceUnavailable, Program, TestRun
from .tc import Filter, Hook

__all__ = ["SLOTS", "Deadlines", "Fence", "FenceUnavailable", "TestRun", "remove_leftovers"]

_OBJECT = "carp.bpf.o"
_PREFIX = "carp_"
_ENTRY_BYTES = 8
_NUMBER = struct.Struct("=I")


class Deadlines:
    """The deadlines and the counters of dropped packets, by slot, as the programs see them."""

    def __init__(self, deadlines: mmap, dropped: mmap) -> None:
        self._memory = (deadlines, dropped)
        self._deadlines = memoryview(deadlines).cast("Q")
        self._dropped = memoryview(dropped).cast("Q")

    def extend(self, slot: int, until_ns: Instant) -> int:
        """Keep a slot open until then, which may shorten; return until when it was, 0 if it was closed."""
        former: int = self._deadlines[slot]
        self._deadlines[slot] = until_ns
        return former

    def close_slot(self, slot: int) -> None:
        """Close a slot: the next packet drops."""
        self._deadlines[slot] = 0

    def deadline(self, slot: int) -> Instant:
        """Return until when a slot is open; 0 if it was closed."""
        return Instant(self._deadlines[slot])

    def dropped(self, slot: int) -> int:
        """Return how many packets were dropped on account of a slot."""
        return int(self._dropped[slot])

    def release(self) -> None:
        """Let go of the memory; the other methods raise ValueError from now on."""
        self._deadlines.release()
        self._dropped.release()
        for memory in self._memory:
            memory.close()


class Fence:
    """The loaded programs and maps of one daemon."""

    def __init__(self, loaded: BpfObject, owner: str) -> None:
        """Use `load` instead."""
        self._object = loaded
        self._owner = owner
        link = loaded.program("carp_link")
        self._on_link = {Hook.INGRESS: link, Hook.EGRESS: link}
        self._on_parent = {
            Hook.INGRESS: loaded.program("carp_parent_in"),
            Hook.EGRESS: loaded.program("carp_parent_out"),
        }
        self._ids = {program.id for program in (link, *self._on_parent.values())}
        self._links_map = loaded.map("carp_links")
        self._links: set[int] = set()
        self._vips = Claims(loaded.map("carp_vips"))
        self.deadlines = Deadlines(
            loaded.map("carp_deadlines").mapping(SLOTS * _ENTRY_BYTES, writable=True),
            loaded.map("carp_dropped").mapping(SLOTS * _ENTRY_BYTES, writable=False),
        )
        self.balancer = Balancer(loaded, self._vips)

    @classmethod
    def load(cls, owner: str = "", *, data: bytes | None = None) -> "Fence":
        """Load the programs into the kernel; nothing is attached yet. Takes some tens of milliseconds.

        Args:
            owner: marks this daemon's filters beside those of other daemons on the same host; the same at its next start.
            data: another object file than the package's.

        Raises:
            FenceUnavailable: no libbpf, no privilege, no BPF in the kernel, or a refused object.
        """
        loaded = BpfObject(_read_object() if data is None else data, _OBJECT)
        try:
            return cls(loaded, owner)
        except FenceUnavailable:
            loaded.close()
            raise
        except OSError as error:
            loaded.close()
            raise FenceUnavailable(f"{_OBJECT} is loaded but cannot be used: {error.strerror}") from None

    def close(self) -> None:
        """Let go of programs and maps. What is attached stays attached, with the deadlines as they are."""
        self.deadlines.release()
        self.balancer.release()
        self._object.close()

    def guard_link(self, netlink: Netlink, ifindex: int, slot: int) -> None:
        """Put the fence on a carp interface of its own, both directions; again on one that has it changes nothing.

        Raises:
            FenceUnavailable: the interface is gone or refuses.
        """
        try:
            self._links_map.update(_NUMBER.pack(ifindex), _NUMBER.pack(checked_slot(slot)))
        except OSError as error:
            raise FenceUnavailable(f"the kernel takes no more entries for the fence: {error.strerror}") from None
        self._links.add(ifindex)
        self._guard(netlink, ifindex, self._on_link)

    def guard_new_links(self, netlink: Netlink, slots: Mapping[int, int]) -> set[int]:
        """Put the fence on carp interfaces that were just made and have no filters yet, with one write.

        `slots` are those of the interfaces by index. Returns which of these need `guard_link`.
        """
        doubtful = set()
        batch: list[tuple[int, bytes]] = []
        for ifindex, slot in slots.items():
            try:
                self._links_map.update(_NUMBER.pack(ifindex), _NUMBER.pack(checked_slot(slot)))
            except OSError:
                doubtful.add(ifindex)
                continue
            self._links.add(ifindex)
            batch.append((ifindex, tc.new_clsact(ifindex)))
            batch += [
                (ifindex, tc.new_filter(ifindex, hook, tc.PREFERENCE, program, self._name(program)))
                for hook, program in self._on_link.items()
            ]
        refused = netlink.execute([request for _, request in batch])
        return doubtful.union(batch[error.position][0] for error in refused)

    def forget_link(self, ifindex: int) -> None:
        """Forget a carp interface that was deleted; its filters went with it. On one that still has them all drops."""
        self._links.discard(ifindex)
        self._links_map.delete(_NUMBER.pack(ifindex))

    def guard_parent(self, netlink: Netlink, ifindex: int) -> bool:
        """Put the fence on a parent; True if its clsact was made here, so that `unguard_parent` may remove it.

        Filters that a crashed run of this owner left there are replaced: call `set_vips` before.

        Raises:
            FenceUnavailable: the interface is gone or refuses.
        """
        return self._guard(netlink, ifindex, self._on_parent)

    def unguard_parent(self, netlink: Netlink, ifindex: int, *, remove_qdisc: bool) -> None:
        """Take the fence off a parent; clsact too if told, unless it holds filters of somebody else."""
        _remove(
            netlink, ifindex, [one for one in tc.filters(netlink, ifindex) if self._is_ours(one)], remove_qdisc=remove_qdisc
        )

    def is_guarded(self, netlink: Netlink, ifindex: int) -> bool:
        """Ask the kernel whether our filters are still on an interface."""
        programs = self._on_link if ifindex in self._links else self._on_parent
        attached = {(one.hook, one.program_id) for one in tc.filters(netlink, ifindex)}
        return all((hook, program.id) in attached for hook, program in programs.items())

    def ahead(self, netlink: Netlink, ifindex: int) -> list[str]:
        """Name the filters of others that run before ours; one that accepts a packet keeps it from the fence."""
        found: list[str] = []
        for hook in Hook:
            others: list[str] = []
            for one in tc.filters(netlink, ifindex, [hook]):
                if one.program_id in self._ids:
                    found += others
                    break
                if one.chain == 0:
                    others.append(f"{one.name or one.kind} at preference {one.preference} on {hook}")
        return found

    def set_vips(self, parent_ifindex: int, slot: int, addresses: Iterable[Address]) -> None:
        """Fence exactly these addresses on a parent by a slot; blocks for some microseconds an address.

        New ones are fenced before old ones are let go, and one that stays, or comes from another slot, at no moment is not.
        One that is balanced belongs to its balance as long as there is one.

        Raises:
            FenceUnavailable: there are too many addresses in all; those that were fenced stay so.
        """
        entry = slot_entry(slot)
        self._vips.claim(Claimant(slot, parent_ifindex), {address_key(parent_ifindex, one): entry for one in addresses})

    def test_run(self, program: str, packet: bytes, repeat: int = 1) -> TestRun:
        """Run a program over a frame as if it were on the loopback interface; for tests.

        Raises:
            OSError: the kernel finds the frame too short (fewer than 15 bytes).
        """
        return self._object.test_run(self._object.program(program), packet, repeat)

    def _is_ours(self, one: Filter) -> bool:
        return one.program_id in self._ids or _is_of(one, self._owner)

    def _guard(self, netlink: Netlink, ifindex: int, programs: Mapping[Hook, Program]) -> bool:
        made = tc.make_clsact(netlink, ifindex)
        before = tc.filters(netlink, ifindex)
        others = [one for one in before if not self._is_ours(one)]
        attached = {(one.hook, one.program_id) for one in before}
        batch = [
            tc.new_filter(ifindex, hook, tc.place(one for one in others if one.hook is hook), program, self._name(program))
            for hook, program in programs.items()
            if (hook, program.id) not in attached
        ]
        refused = netlink.execute(batch)
        if refused:
            added = [one for one in tc.filters(netlink, ifindex) if one.program_id in self._ids and one not in before]
            _remove(netlink, ifindex, added, remove_qdisc=made)
            raise FenceUnavailable(
                f"{tc.interface_name(ifindex)} takes no BPF filter (CONFIG_NET_CLS_BPF): {refused[0].strerror}"
            )
        stale = [one for one in before if _is_of(one, self._owner) and one.program_id not in self._ids]
        netlink.execute([tc.delete_filter(ifindex, one) for one in stale])
        return made

    def _name(self, program: Program) -> str:
        return f"{program.name}:{self._owner}" if self._owner else program.name


def remove_leftovers(
    netlink: Netlink, ifindexes: Iterable[int], owner: str | None = None, *, qdiscs: Collection[int] = ()
) -> list[str]:
    """Remove the filters that a crashed run has left on these interfaces; filters of others are not touched.

    The caller releases the virtual addresses first: this takes away what kept them silent.

    Args:
        netlink: the socket; the call blocks.
        ifindexes: interfaces to look at; those that are gone are passed over.
        owner: whose filters, as given to `Fence.load`; None means every daemon's.
        qdiscs: those of the interfaces whose clsact goes too, once it is empty.

    Returns:
        What was removed, each as "FILTER on INTERFACE".
    """
    removed = []
    for ifindex in ifindexes:
        ours = [one for one in tc.filters(netlink, ifindex) if _is_of(one, owner)]
        name = tc.interface_name(ifindex)
        removed += [f"{one.name} on {name}" for one in ours]
        _remove(netlink, ifindex, ours, remove_qdisc=ifindex in qdiscs)
    return removed


def _remove(netlink: Netlink, ifindex: int, ours: Iterable[Filter], *, remove_qdisc: bool) -> None:
    netlink.execute([tc.delete_filter(ifindex, one) for one in ours])
    if remove_qdisc and not tc.filters(netlink, ifindex):
        netlink.execute([tc.delete_clsact(ifindex)])


def _is_of(one: Filter, owner: str | None) -> bool:
    program, _, its_owner = one.name.partition(":")
    return one.kind == "bpf" and program.startswith(_PREFIX) and owner in (None, its_owner)


def _read_object() -> bytes:
    try:
        return (resources.files(__package__) / _OBJECT).read_bytes()
    except OSError as error:
        raise FenceUnavailable(f"{_OBJECT} is missing from the package: {error.strerror}") from None
