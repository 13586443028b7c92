"""The interface of a carp interface: a macvlan on its parent, or the parent itself.

The macvlan carries the virtual MAC and is up only while this host is MASTER: a BACKUP whose link were up would forward what a
switch floods, and send MLD reports from the shared MAC. That of a balanced carp interface has a MAC of its own and only holds
the addresses: nothing passes through it, and their traffic takes the parent. Functions here block and run on the worker thread
or before the loop.
"""

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..protocol.values import InterfaceAddress
from . import sysctl
from .devconf import SETTABLE, set_settings
from .journal import Journal, Leftovers
from .links import LinkTable
from .netlink import Netlink, Write, perform
from .prefix_route import PrefixRoute, delete_route, metric_of, new_route, own_routes
from .rtnetlink import (
    CARP_ADDRESS_PROTOCOL,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    delete_address,
    delete_group,
    delete_link,
    new_address,
    new_bridge,
    new_macvlan,
    set_link,
)

_GONE = frozenset({errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENOENT, errno.ESRCH})


class LinkError(Exception):
    """A carp interface could not be made; the text is a sentence."""


@dataclass(slots=True)
class CarpLink:
    """Where the addresses of one carp interface live.

    `index` is that of the macvlan, or of the parent where the addresses live on that. `mac` is None there, and where the kernel
    chose one. With `through_parent` neighbours in the addresses' prefixes are reached through the parent. `live` and `routes`
    are the addresses and the routes that are set now; they belong to the worker thread.
    """

    name: str
    index: int
    parent_index: int
    mac: bytes | None = None
    through_parent: bool = False
    live: set[InterfaceAddress] = field(default_factory=set)
    routes: set[PrefixRoute] = field(default_factory=set)

    @property
    def is_parent(self) -> bool:
        """Whether the addresses live on the parent itself."""
        return self.index == self.parent_index

    def take(self, taking: "Taking") -> Write:
        """Make exactly these addresses and routes live; raises NetlinkError."""
        removals = [delete_route(route) for route in self.routes - taking.routes]
        removals += [delete_address(self.index, address) for address in self.live - taking.addresses]
        errors = yield [*removals, *taking.requests]
        self.live, self.routes = set(taking.addresses), set(taking.routes)
        for error in errors:
            if error.position >= len(removals) or error.errno not in _GONE:
                raise error

    def release(self) -> Write:
        """Let no address be live; the link stays up until `down`."""
        removals = [delete_route(route) for route in self.routes]
        yield removals + [delete_address(self.index, address) for address in self.live]
        self.live, self.routes = set(), set()

    def down(self, netlink: Netlink) -> None:
        """Take the link down; the kernel makes us wait about 15 ms."""
        if not self.is_parent:
            netlink.execute([set_link(self.index, up=False)])

    def remove(self, netlink: Netlink) -> None:
        """Release the addresses and delete the link."""
        perform(netlink, self.release())
        if not self.is_parent:
            netlink.execute([delete_link(self.index)])


@dataclass(frozen=True, slots=True)
class Taking:
    """What makes addresses live, worked out before it is needed: that takes longer than the kernel does."""

    addresses: frozenset[InterfaceAddress]
    routes: frozenset[PrefixRoute]
    requests: tuple[bytes, ...]

    @classmethod
    def prepare(cls, table: LinkTable, link: CarpLink, addresses: Iterable[InterfaceAddress]) -> Self:
        """Prepare it for a link; it holds as long as the table's `foreign_version` stays."""
        if link.is_parent:
            # Those that the parent has anyway stay whose they are.
            own = table.own_addresses(link.index)
            addresses = [address for address in addresses if address.ip not in own]
        addresses = tuple(addresses)
        routes = prefix_routes(table, link, addresses)
        flags = address_flags(table, link, addresses)
        requests = [] if link.is_parent else [set_link(link.index, up=True)]
        requests += [new_address(link.index, address, flag) for address, flag in zip(addresses, flags, strict=True)]
        # A route's source has to be there before it.
        requests += [new_route(route) for route in routes]
        return cls(frozenset(addresses), frozenset(routes), tuple(requests))


def address_flags(table: LinkTable, link: CarpLink, addresses: Iterable[InterfaceAddress]) -> list[int]:
    """Return the IFA_F_* of each address: no duplicate detection, no second prefix route (LINUX.md section 1)."""
    own = None if link.is_parent else link.index
    return [
        (IFA_F_NODAD if address.version == 6 else 0)
        | (IFA_F_NOPREFIXROUTE if link.through_parent or table.has_on_link(address, own) else 0)
        for address in addresses
    ]


def prefix_routes(table: LinkTable, link: CarpLink, addresses: Iterable[InterfaceAddress]) -> tuple[PrefixRoute, ...]:
    """Return the routes by which the neighbours of these addresses are reached, for prefixes that nobody has on-link.

    None for single addresses (/32 and /128), nor unless neighbours are reached through the parent.
    """
    if not link.through_parent:
        return ()
    routes = {}
    for address in addresses:
        network = address.network
        if network in routes or network.prefixlen == network.max_prefixlen or table.has_on_link(address, link.index):
            continue
        # A link-local address is none of the parent's, and so no source for what leaves by it.
        source = None if network.version == 6 and address.ip.is_link_local else address.ip
        routes[network] = PrefixRoute(network, link.parent_index, source, metric_of(link.index))
    return tuple(routes.values())


@dataclass(frozen=True, slots=True)
class NewLink:
    """A macvlan that is to be made; with `mac` None it is a balanced one's: the kernel makes up a MAC."""

    name: str
    parent: str
    parent_index: int
    mac: bytes | None


def create(netlink: Netlink, wanted: Sequence[NewLink], group: int) -> list[CarpLink | LinkError]:
    """Make the macvlans of carp interfaces, link down, with their settings, in a few writes for all of them.

    Returns, in the same order, what was made or why it was not: the name is taken, or the parent refuses. Neighbours of
    balanced ones are reached through the parent.
    """
    refused = {error.position: error for error in netlink.execute([_macvlan(one, group) for one in wanted])}
    made: list[CarpLink | LinkError] = []
    for position, one in enumerate(wanted):
        try:
            if position in refused:
                raise refused[position]
            made.append(CarpLink(one.name, socket.if_nametoindex(one.name), one.parent_index, one.mac, one.mac is None))
        except OSError as error:
            made.append(LinkError(_why_not_created(error, one.name, one.parent)))
    failed = _set_up(netlink, [one for one in made if isinstance(one, CarpLink)])
    netlink.execute([delete_link(index) for index in failed])
    return [failed.get(one.index, one) if isinstance(one, CarpLink) else one for one in made]


def _macvlan(one: NewLink, group: int) -> bytes:
    return new_macvlan(one.name, one.parent_index, one.mac, group)


def _set_up(netlink: Netlink, links: Sequence[CarpLink]) -> dict[int, LinkError]:
    """Give new links their settings; return, by index, why some could not be given them."""
    requests = [(link, request) for link in links for request in set_settings(link.index, sysctl.CARP_LINK_SETTINGS)]
    failed: dict[int, LinkError] = {}
    for error in netlink.execute([request for _, request in requests]):
        link = requests[error.position][0]
        if error.errno != errno.EAFNOSUPPORT:
            failed[link.index] = LinkError(f"{link.name} cannot be made: {error.strerror}")
    for link in links:
        try:
            for key in sysctl.CARP_LINK_SETTINGS.keys() - SETTABLE:
                sysctl.write(sysctl.path_of(key, link.name), sysctl.CARP_LINK_SETTINGS[key])
        except OSError as error:
            failed[link.index] = LinkError(f"{link.name} cannot be made: {error.strerror}")
    return failed


def create_placeholder(netlink: Netlink, journal: Journal, name: str, group: int) -> int:
    """Make a link that carries nothing, for a carp interface without vhid or parent; return its index.

    A bridge without ports that stays down: every kernel has it, and it leads nowhere. What is left of the interface's own link
    serves as well: a macvlan outlives a parent that is moved to another namespace.

    Raises:
        LinkError: the name is taken.
    """
    # Even without a parent there is something to undo after a crash.
    journal.save()
    for refused in netlink.execute([new_bridge(name, group)]):
        table = LinkTable()
        table.load(netlink)
        existing = table.by_name(name)
        if existing is not None and existing.group == group:
            return existing.index
        raise LinkError(_why_not_created(refused, name, ""))
    return socket.if_nametoindex(name)


def delete_placeholders(netlink: Netlink, indexes: Iterable[int]) -> None:
    """Delete placeholders; those that are gone are passed over."""
    netlink.execute([delete_link(index) for index in indexes])


def _why_not_created(error: OSError, name: str, parent: str) -> str:
    if error.errno == errno.EEXIST:
        return f"{name} exists already and is not carpd's: remove it or choose another name"
    if error.errno == errno.EBUSY:
        return f"{parent} carries no macvlan: it is a port of a bridge, bond or team"
    if error.errno == errno.EADDRINUSE:
        return f"{parent} already carries an interface with the MAC of {name}"
    where = f" on {parent}" if parent else ""
    return f"{name} could not be made{where}: {error.strerror}"


def prepare_parent(journal: Journal, parent: str) -> None:
    """Set what the parent needs, after writing down what was there."""
    if parent not in journal.parents:
        journal.parents.append(parent)
    for key in sysctl.PARENT_SETTINGS:
        path = sysctl.path_of(key, parent)
        original = sysctl.read(path)
        if original is not None and str(path) not in journal.settings:
            journal.settings[str(path)] = original
    journal.save()
    for key, value in sysctl.PARENT_SETTINGS.items():
        sysctl.write(sysctl.path_of(key, parent), value)


def restore_parent(journal: Journal, parent: str) -> None:
    """Put the parent's settings back: no carp interface is on it any more."""
    files = {str(sysctl.path_of(key, parent)) for key in sysctl.PARENT_SETTINGS}
    _restore({file: original for file, original in journal.settings.items() if file in files})
    journal.settings = {file: original for file, original in journal.settings.items() if file not in files}
    journal.parents = [name for name in journal.parents if name != parent]
    journal.qdiscs = [name for name in journal.qdiscs if name != parent]
    journal.save()


def remove_all(netlink: Netlink, links: Iterable[CarpLink], group: int) -> None:
    """Release all addresses, then delete all links of the group."""
    for link in links:
        perform(netlink, link.release())
    netlink.execute([delete_group(group)])


def restore_all(journal: Journal) -> None:
    """Put all settings back: nothing of ours is left on this host."""
    _restore(journal.settings)
    journal.forget()


def clean_up(netlink: Netlink, leftovers: Leftovers, group: int) -> list[str]:
    """Undo what a crashed run has left; return the names of what was removed."""
    table = LinkTable()
    table.load(netlink)
    removed = []
    addresses, routes = [], []
    for parent in leftovers.parents:
        link = table.by_name(parent)
        if link is None:
            continue
        on_parent = [one for one in table.addresses(link.index) if one.protocol == CARP_ADDRESS_PROTOCOL]
        to_parent = own_routes(link.index)
        addresses += on_parent
        routes += to_parent
        removed += [f"{one.address} on {parent}" for one in on_parent]
        removed += [f"the route to {route.network} through {parent}" for route in to_parent]
    for link in table.all():
        if link.group == group and link.kind in ("macvlan", "bridge"):
            addresses += table.addresses(link.index)
            removed.append(link.name)
    netlink.execute([delete_route(route) for route in routes])
    netlink.execute([delete_address(one.index, one.address) for one in addresses])
    netlink.execute([delete_group(group)])
    _restore(leftovers.settings)
    return removed


def _restore(settings: Mapping[str, str]) -> None:
    for file, original in settings.items():
        sysctl.write(Path(file), original)
