"""The kernel's objects that the configuration asks for: parents with their sockets, and the carp interfaces on them.

`settle` brings them to what is wanted, at the start, at a reload, and when a parent comes back; it changes only what differs.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address

from ..linux import carplink
from ..linux.bpf.fence import FenceUnavailable
from ..linux.carplink import CarpLink
from ..linux.claim_socket import ClaimSocket
from ..linux.journal import Journal
from ..linux.links import LinkTable
from ..linux.membership import Memberships
from ..linux.netlink import Netlink
from ..linux.packet_socket import PacketSocket
from ..linux.sysctl import CARP_LINK_SETTINGS, PARENT_SETTINGS, Keeper
from ..linux.worker import Urgency, Worker
from ..protocol.events import ParentChanged
from ..protocol.parameters import InterfaceParameters
from .fencing import Fencing
from .ownership import Ownership


@dataclass(slots=True)
class Port:
    """A parent that is present: its index and what is open on it."""

    index: int
    socket: PacketSocket
    claims: ClaimSocket
    memberships: Memberships

    def close(self) -> None:
        """Close the sockets and leave the groups."""
        self.socket.close()
        self.claims.close()
        self.memberships.close()


class Hardware:
    """Everything of ours in the kernel, and the table of what else is there.

    Args:
        watch: called with each new port, to have its sockets read.
        unwatch: called before a port is closed.
    """

    def __init__(
        self,
        worker: Worker,
        journal: Journal,
        ownership: Ownership,
        table: LinkTable,
        fencing: Fencing,
        keeper: Keeper,
        watch: Callable[[Port], None],
        unwatch: Callable[[Port], None],
    ) -> None:
        self.ports: dict[str, Port] = {}
        self.table = table
        self._placeholders: dict[str, int] = {}
        self._worker = worker
        self._journal = journal
        self._ownership = ownership
        self._fencing = fencing
        self._keeper = keeper
        self._watch = watch
        self._unwatch = unwatch

    async def settle(self, wanted: Iterable[InterfaceParameters], drafts: Iterable[str] = ()) -> list[str]:
        """Make parents and carp interfaces be as wanted, as far as the parents are there.

        `drafts` are the names of carp interfaces without a vhid. They, and those without a parent, have a placeholder.
        Returns what could not be done, as sentences.
        """
        wanted = tuple(wanted)
        await self._remove_unwanted(wanted)
        problems = []
        for name in dict.fromkeys(parameters.carpdev for parameters in wanted):
            link = self.table.by_name(name)
            if link is None:
                continue
            try:
                await self._open_port(name, link.index)
            except FenceUnavailable as error:
                problems.append(f"{name} cannot be fenced: {error}")
            except OSError as error:
                problems.append(f"{name} cannot be used: {error.strerror}")
        # An interface whose addresses live on the parent has no link of its own.
        homeless = [one.name for one in wanted if one.carpdev not in self.ports and one.mac is not None]
        problems += await self._hold_places([*drafts, *homeless])
        for parameters in wanted:
            if parameters.carpdev not in self.ports:
                continue
            try:
                if parameters.name not in self._ownership.links:
                    self._ownership.links[parameters.name] = await self._create(parameters)
                else:
                    await self._fence_addresses(parameters)
            except (carplink.LinkError, FenceUnavailable) as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(f"{parameters.name} cannot be made: {error.strerror}")
        for name, port in self.ports.items():
            addresses = [one.ip for parameters in wanted if parameters.carpdev == name for one in parameters.addresses]
            port.memberships.follow(address for address in addresses if isinstance(address, IPv6Address))
            port.claims.watch(addresses)
        return problems

    def placeholders_lost(self) -> bool:
        """Tell whether somebody else deleted a placeholder, and forget those."""
        lost = [name for name, index in self._placeholders.items() if self.table.by_index(index) is None]
        for name in lost:
            del self._placeholders[name]
        return bool(lost)

    def lose_parent(self, name: str) -> None:
        """The parent is gone, and with it the carp interfaces on it and whatever they held."""
        port = self.ports.pop(name, None)
        if port is None:
            return
        self._unwatch(port)
        port.close()
        for link in [link for link in self._ownership.links.values() if link.parent_index == port.index]:
            self._ownership.abandon(link.name)
            del self._ownership.links[link.name]
            self._fencing.forget(link)

    def describe_parent(self, name: str) -> ParentChanged:
        """Tell the engine what is known of a parent."""
        link = self.table.by_name(name)
        if link is None or name not in self.ports:
            return ParentChanged(name, present=False, up=False, mac=bytes(6))
        sources, addresses = self.table.sources(link.index), self.table.usable_addresses(link.index)
        return ParentChanged(name, True, link.up and link.running, link.mac, sources, addresses)

    async def undo(self) -> None:
        """Leave the host as it was found."""
        links = list(self._ownership.links.values())
        for link in links:
            self._ownership.abandon(link.name)
        ports = dict(self.ports)

        def job(netlink: Netlink) -> None:
            self._keeper.close()
            # The fence goes last: it keeps addresses silent that could not be released.
            carplink.remove_all(netlink, links, self._journal.link_group)
            for name, port in ports.items():
                self._fencing.unguard_parent(netlink, name, port.index)
            carplink.restore_all(self._journal)

        await self._worker.run(Urgency.SETUP, job)
        for port in ports.values():
            self._unwatch(port)
            port.close()
        self.ports.clear()
        self._placeholders.clear()
        self._fencing.stop()

    async def _open_port(self, name: str, index: int) -> None:
        port = self.ports.get(name)
        if port is not None and port.index == index:
            return
        self.lose_parent(name)

        def job(netlink: Netlink) -> None:
            carplink.prepare_parent(self._journal, name)
            self._keeper.keep(name, PARENT_SETTINGS)
            self._fencing.guard_parent(netlink, name, index)

        await self._worker.run(Urgency.SETUP, job)
        with ExitStack() as opened:
            socket = PacketSocket(name, index)
            opened.callback(socket.close)
            claims = ClaimSocket(name)
            opened.callback(claims.close)
            port = Port(index, socket, claims, Memberships(index))
            opened.pop_all()
        self.ports[name] = port
        self._watch(port)

    async def _create(self, parameters: InterfaceParameters) -> CarpLink:
        index = self.ports[parameters.carpdev].index
        mac = parameters.mac

        def job(netlink: Netlink) -> CarpLink:
            self._fencing.prepare(parameters, index)
            if mac is None:
                link = CarpLink(parameters.name, index, index)
                self._fencing.guard_link(netlink, link)
                return link
            link = carplink.create(netlink, parameters.name, parameters.carpdev, index, mac, self._journal.link_group)
            self._fencing.guard_link(netlink, link)
            self._keeper.keep(link.name, CARP_LINK_SETTINGS)
            return link

        link = await self._worker.run(Urgency.SETUP, job)
        assert isinstance(link, CarpLink)
        return link

    async def _fence_addresses(self, parameters: InterfaceParameters) -> None:
        index = self.ports[parameters.carpdev].index
        if not self._fencing.is_prepared(parameters, index):
            await self._worker.run(Urgency.SETUP, lambda _: self._fencing.prepare(parameters, index))

    async def _remove_unwanted(self, wanted: tuple[InterfaceParameters, ...]) -> None:
        names = {parameters.name for parameters in wanted}
        for name in [name for name in self._ownership.links if name not in names]:
            link = self._ownership.links.pop(name)
            self._ownership.abandon(name)
            await self._worker.run(Urgency.SETUP, link.remove)
            self._fencing.forget(link)
        parents = {parameters.carpdev for parameters in wanted}
        for name in [name for name in self.ports if name not in parents]:
            index = self.ports[name].index
            self.lose_parent(name)
            await self._worker.run(Urgency.SETUP, partial(self._restore_parent, name, index))

    async def _hold_places(self, names: list[str]) -> list[str]:
        """Have a placeholder for each of these carp interfaces and for no other."""
        obsolete = [self._placeholders.pop(name) for name in self._placeholders.keys() - names]
        if obsolete:
            await self._worker.run(Urgency.SETUP, partial(carplink.delete_placeholders, indexes=obsolete))
        problems = []
        for name in names:
            if name in self._placeholders:
                continue
            create = partial(carplink.create_placeholder, journal=self._journal, name=name, group=self._journal.link_group)
            try:
                index = await self._worker.run(Urgency.SETUP, create)
            except (carplink.LinkError, OSError) as error:
                problems.append(str(error))
                continue
            assert isinstance(index, int)
            self._placeholders[name] = index
        return problems

    def _restore_parent(self, name: str, index: int, netlink: Netlink) -> None:
        self._keeper.drop(name)
        self._fencing.unguard_parent(netlink, name, index)
        carplink.restore_parent(self._journal, name)
