"""The kernel's objects that the configuration asks for: parents with their sockets, and the carp interfaces on them.

`settle` brings them to what is wanted, at the start, at a reload, and when a parent comes back; it changes only what differs.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from ..linux import carplink
from ..linux.bpf.fence import FenceUnavailable
from ..linux.bpf.hearing import Hearing
from ..linux.carplink import CarpLink, NewLink
from ..linux.claim_socket import ClaimSocket
from ..linux.journal import Journal
from ..linux.links import LinkTable
from ..linux.membership import Memberships
from ..linux.netlink import Netlink
from ..linux.packet_socket import PacketSocket
from ..linux.sysctl import CARP_LINK_SETTINGS, PARENT_SETTINGS, Keeper
from ..linux.worker import Urgency, Worker
from ..protocol.events import ParentChanged
from ..protocol.parameters import Balancing, HostParameters, InterfaceParameters
from ..protocol.sharing import shared_addresses
from ..protocol.values import mac_text
from .balancing import Balancers, ParentPort
from .fencing import Fencing
from .ownership import Ownership
from .snooping import RouterAnnouncer

_LINKS_AT_ONCE = 32
"""So many links are made in one go: a takeover waits for the worker thread meanwhile."""
_MAC_GROUPS = int(IPv4Address("224.0.1.0"))
"""Its groups have the MACs 01:00:5e:00:01:00 and on, for switches that snoop by MAC."""


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
        self.balancers = Balancers(fencing)
        self._snooped: set[str] = set()
        """The parents on which snooping switches must not keep from us what all hosts are to receive."""
        self._announcer = RouterAnnouncer(asyncio.get_running_loop().call_later, self._send_frames)
        self._placeholders: dict[str, int] = {}
        self._worker = worker
        self._journal = journal
        self._ownership = ownership
        self._fencing = fencing
        self._keeper = keeper
        self._watch = watch
        self._unwatch = unwatch

    async def settle(self, host: HostParameters, drafts: Iterable[str] = ()) -> list[str]:
        """Make parents and carp interfaces be as wanted, as far as the parents are there.

        `drafts` are the names of carp interfaces without a vhid. They, and those without a parent, have a placeholder.
        Returns what could not be done, as sentences.
        """
        wanted = host.interfaces
        self._snooped = {one.carpdev for one in wanted if one.balancing is Balancing.IP and one.announces_router}
        self.follow_snooping()  # a parent that goes takes its leave of the switch first
        await self._remove_unwanted(wanted)
        problems = self.balancers.problems(host)
        if problems:
            return problems
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
        missing = [one for one in wanted if one.carpdev in self.ports and one.name not in self._ownership.links]
        for first in range(0, len(missing), _LINKS_AT_ONCE):
            problems += await self._create(missing[first : first + _LINKS_AT_ONCE])
        problems += await self._guard_addresses(host)
        on_it: dict[str, list[InterfaceParameters]] = {name: [] for name in self.ports}
        for parameters in wanted:
            on_it.get(parameters.carpdev, []).append(parameters)
        for name, port in self.ports.items():
            problems += self._listen(name, port, on_it[name])
        self.follow_snooping()
        return problems

    def admit(self, host: HostParameters) -> None:
        """Let the kernel refuse what is for none of these virtual hosts: just before the engine is told of them.

        A new parent refuses nothing until then. Where CARP is not allowed everything is counted and nothing judged.
        """
        for name, port in self.ports.items():
            vhids = [node.vhid for one in host.interfaces if one.carpdev == name for node in one.nodes]
            port.socket.admit(vhids if host.allow else None)

    def is_current(self) -> bool:
        """Tell whether what is shared out on the parents still fits them."""
        return self.balancers.is_current(self._parent_ports())

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
        self._announcer.stop()
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

    def _send_frames(self, parent: str, frames: Iterable[bytes]) -> None:
        port = self.ports.get(parent)
        if port is not None:
            for frame in frames:
                port.socket.send(frame)

    async def _open_port(self, name: str, index: int) -> None:
        port = self.ports.get(name)
        if port is not None and port.index == index:
            return
        self.lose_parent(name)

        def job(netlink: Netlink) -> Hearing | None:
            carplink.prepare_parent(self._journal, name)
            self._keeper.keep(index, PARENT_SETTINGS)
            self._fencing.guard_parent(netlink, name, index)
            try:
                return Hearing.load()
            except FenceUnavailable:
                return None  # everything comes, as it does without the filter

        hearing = await self._worker.run(Urgency.SETUP, job)
        assert hearing is None or isinstance(hearing, Hearing)
        with ExitStack() as opened:
            socket = PacketSocket(name, index, hearing)
            opened.callback(socket.close)
            claims = ClaimSocket(name)
            opened.callback(claims.close)
            port = Port(index, socket, claims, Memberships(index))
            opened.pop_all()
        self.ports[name] = port
        self._watch(port)

    async def _create(self, wanted: Sequence[InterfaceParameters]) -> list[str]:
        """Make the links of some carp interfaces, with their fence; return what could not be done."""
        indexes = {name: port.index for name, port in self.ports.items()}
        try:
            result = await self._worker.run(Urgency.SETUP, partial(self._make, wanted, indexes))
        except OSError as error:
            return [f"{one.name} cannot be made: {error.strerror}" for one in wanted]
        assert isinstance(result, tuple)
        links: list[CarpLink]
        problems: list[str]
        links, problems = result
        self._ownership.links.update({link.name: link for link in links})
        return problems

    def _make(
        self, wanted: Sequence[InterfaceParameters], parents: Mapping[str, int], netlink: Netlink
    ) -> tuple[list[CarpLink], list[str]]:
        """Make links on these parents, named with their indexes; return them and what could not be done; worker thread."""
        for one in wanted:
            # Its addresses follow, when it is known who else has them.
            self._fencing.prepare(one, parents[one.carpdev], ())
        new = [
            NewLink(one.name, one.carpdev, parents[one.carpdev], None if one.is_balanced else one.mac)
            for one in wanted
            if one.mac is not None
        ]
        made = carplink.create(netlink, new, self._journal.link_group)
        problems = [str(one) for one in made if not isinstance(one, CarpLink)]
        links = [one for one in made if isinstance(one, CarpLink)]
        links += [CarpLink(one.name, parents[one.carpdev], parents[one.carpdev]) for one in wanted if one.mac is None]
        unfenced = self._fencing.guard_new_links(netlink, links)
        for name, error in unfenced.items():
            problems.append(str(error))
            next(link for link in links if link.name == name).remove(netlink)
        links = [link for link in links if link.name not in unfenced]
        for link in links:
            if not link.is_parent:
                self._keeper.keep(link.index, CARP_LINK_SETTINGS)
        return links, problems

    async def _guard_addresses(self, host: HostParameters) -> list[str]:
        """Fence every address, by its carp interface or by those that share it; return what could not be done."""
        ports = self._parent_ports()
        shared = {(one.carpdev, one.address) for one in shared_addresses(host.interfaces)}
        # What is down would keep an address closed for one that is up.
        up = {(one.carpdev, address.ip) for one in host.interfaces if one.up for address in one.addresses}
        unfenced = []
        for parameters in host.interfaces:
            if parameters.name in self._ownership.links:
                not_own = shared if parameters.up else up
                own = tuple(one for one in parameters.addresses if (parameters.carpdev, one.ip) not in not_own)
                entry = (parameters, ports[parameters.carpdev].index, () if parameters.is_balanced else own)
                if not self._fencing.is_prepared(parameters.name, *entry[1:]):
                    unfenced.append(entry)

        def job(_netlink: Netlink) -> list[str]:
            # In this order no address is without a guard at any moment.
            problems = self.balancers.follow(host, ports)
            for entry in unfenced:
                try:
                    self._fencing.prepare(*entry)
                except FenceUnavailable as error:
                    problems.append(f"{entry[0].name} cannot be fenced: {error}")
            self.balancers.trim(host, ports)
            return problems

        problems = await self._worker.run(Urgency.SETUP, job)
        assert isinstance(problems, list)
        return problems

    def _parent_ports(self) -> dict[str, ParentPort]:
        """Return the parents that are there."""
        found = {}
        for name, port in self.ports.items():
            link = self.table.by_index(port.index)
            found[name] = ParentPort(port.index, link.mac if link is not None else bytes(6))
        return found

    def _listen(self, name: str, port: Port, on_it: Sequence[InterfaceParameters]) -> list[str]:
        """Let a parent receive what is for the carp interfaces on it; return what it refuses."""
        addresses = [one.ip for parameters in on_it for one in parameters.addresses]
        port.memberships.follow(address for address in addresses if isinstance(address, IPv6Address))
        groups = [one.leader.vhid for one in on_it if one.balancing is Balancing.IP]
        port.memberships.follow_groups(IPv4Address(_MAC_GROUPS + vhid) for vhid in groups)
        port.claims.watch(addresses)
        macs = [mac for parameters in on_it for mac in parameters.received_macs]
        try:
            port.socket.receive_macs(macs)
        except OSError as error:
            text = ", ".join(map(mac_text, macs))
            return [f"{name} cannot receive frames to {text}, which balancing needs: {error.strerror}"]
        return []

    def follow_snooping(self) -> None:
        """Tell snooping switches what MAC and addresses the parents have now, those that are up."""
        links = [link for name in self._snooped & self.ports.keys() if (link := self.table.by_name(name)) is not None]
        self._announcer.follow(
            {link.name: (link.mac, dict(self.table.sources(link.index))) for link in links if link.up and link.running}
        )

    async def _remove_unwanted(self, wanted: tuple[InterfaceParameters, ...]) -> None:
        names = {parameters.name for parameters in wanted}
        for name in [name for name in self._ownership.links if name not in names]:
            link = self._ownership.links.pop(name)
            self._ownership.abandon(name)
            await self._worker.run(Urgency.SETUP, partial(self._remove, link))
            self._fencing.forget(link)
        parents = {parameters.carpdev for parameters in wanted}
        for name in [name for name in self.ports if name not in parents]:
            index = self.ports[name].index
            self.lose_parent(name)
            await self._worker.run(Urgency.SETUP, partial(self._restore_parent, name, index))

    def _remove(self, link: CarpLink, netlink: Netlink) -> None:
        if not link.is_parent:
            self._keeper.drop(link.index)
        link.remove(netlink)

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
        self._keeper.drop(index)
        self._fencing.unguard_parent(netlink, name, index)
        carplink.restore_parent(self._journal, name)
