"""The kernel's objects that the configuration asks for: parents with their sockets, and the carp interfaces on them.

`settle` brings them to what is wanted, at the start, at a reload, and when a parent comes back; it changes only what differs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address

from ..linux import carplink
from ..linux.carplink import CarpLink
from ..linux.journal import Journal
from ..linux.links import LinkTable
from ..linux.membership import Memberships
from ..linux.netlink import Netlink
from ..linux.packet_socket import PacketSocket
from ..linux.worker import Urgency, Worker
from ..protocol.events import ParentChanged
from ..protocol.parameters import InterfaceParameters
from .ownership import Ownership


@dataclass(slots=True)
class Port:
    """A parent that is present: its index and what is open on it."""

    index: int
    socket: PacketSocket
    memberships: Memberships

    def close(self) -> None:
        """Close the sockets and leave the groups."""
        self.socket.close()
        self.memberships.close()


class Hardware:
    """Everything of ours in the kernel, and the table of what else is there.

    Args:
        watch: called with each new packet socket, to have it read.
        unwatch: called before a packet socket is closed.
    """

    def __init__(
        self,
        worker: Worker,
        journal: Journal,
        ownership: Ownership,
        table: LinkTable,
        watch: Callable[[PacketSocket], None],
        unwatch: Callable[[PacketSocket], None],
    ) -> None:
        self.ports: dict[str, Port] = {}
        self.table = table
        self._worker = worker
        self._journal = journal
        self._ownership = ownership
        self._watch = watch
        self._unwatch = unwatch

    async def settle(self, wanted: Iterable[InterfaceParameters]) -> list[str]:
        """Make parents and carp interfaces be as wanted, as far as the parents are there.

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
            except OSError as error:
                problems.append(f"{name} cannot be used: {error.strerror}")
        for parameters in wanted:
            if parameters.name not in self._ownership.links and parameters.carpdev in self.ports:
                try:
                    self._ownership.links[parameters.name] = await self._create(parameters)
                except (carplink.LinkError, OSError) as error:
                    problems.append(str(error))
        for name, port in self.ports.items():
            port.memberships.follow(
                address.ip
                for parameters in wanted
                for address in parameters.addresses
                if parameters.carpdev == name and isinstance(address.ip, IPv6Address)
            )
        return problems

    def lose_parent(self, name: str) -> None:
        """The parent is gone, and with it the carp interfaces on it and whatever they held."""
        port = self.ports.pop(name, None)
        if port is None:
            return
        self._unwatch(port.socket)
        port.close()
        for link in [link for link in self._ownership.links.values() if link.parent_index == port.index]:
            self._ownership.abandon(link.name)
            del self._ownership.links[link.name]

    def describe_parent(self, name: str) -> ParentChanged:
        """Tell the engine what is known of a parent."""
        link = self.table.by_name(name)
        if link is None or name not in self.ports:
            return ParentChanged(name, present=False, up=False, mac=bytes(6))
        return ParentChanged(name, True, link.up and link.running, link.mac, self.table.sources(link.index))

    async def undo(self) -> None:
        """Leave the host as it was found."""
        links = list(self._ownership.links.values())
        for link in links:
            self._ownership.abandon(link.name)
        group = self._journal.link_group
        await self._worker.run(Urgency.SETUP, lambda netlink: carplink.undo(netlink, self._journal, links, group))
        for port in self.ports.values():
            self._unwatch(port.socket)
            port.close()
        self.ports.clear()

    async def _open_port(self, name: str, index: int) -> None:
        port = self.ports.get(name)
        if port is not None and port.index == index:
            return
        self.lose_parent(name)
        await self._worker.run(Urgency.SETUP, lambda _: carplink.prepare_parent(self._journal, name))
        socket = PacketSocket(name, index)
        try:
            memberships = Memberships(index)
        except OSError:
            socket.close()
            raise
        self.ports[name] = Port(index, socket, memberships)
        self._watch(socket)

    async def _create(self, parameters: InterfaceParameters) -> CarpLink:
        index = self.ports[parameters.carpdev].index
        mac = parameters.mac
        if mac is None:
            return CarpLink(parameters.name, index, index, is_parent=True)
        group = self._journal.link_group

        def job(netlink: Netlink) -> CarpLink:
            return carplink.create(netlink, parameters.name, parameters.carpdev, index, mac, group)

        link = await self._worker.run(Urgency.SETUP, job)
        assert isinstance(link, CarpLink)
        return link

    async def _remove_unwanted(self, wanted: tuple[InterfaceParameters, ...]) -> None:
        names = {parameters.name for parameters in wanted}
        for name in [name for name in self._ownership.links if name not in names]:
            link = self._ownership.links.pop(name)
            self._ownership.abandon(name)
            await self._worker.run(Urgency.SETUP, link.remove)
        parents = {parameters.carpdev for parameters in wanted}
        for name in [name for name in self.ports if name not in parents]:
            self.lose_parent(name)
            await self._worker.run(Urgency.SETUP, partial(self._restore_parent, name))

    def _restore_parent(self, name: str, _netlink: Netlink) -> None:
        carplink.restore_parent(self._journal, name)
