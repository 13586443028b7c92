"""The interface of a carp interface: a macvlan on its parent, or the parent itself.

The macvlan carries the virtual MAC and is up only while this host is MASTER: a BACKUP whose link were up would forward what a
switch floods, and send MLD reports from the shared MAC. Functions here block and run on the worker thread or before the loop.
"""

import errno
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..protocol.values import InterfaceAddress
from . import sysctl
from .journal import Journal, Leftovers
from .links import LinkTable
from .netlink import Netlink
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

_GONE = frozenset({errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENOENT})


class LinkError(Exception):
    """A carp interface could not be made; the text is a sentence."""


@dataclass(slots=True)
class CarpLink:
    """Where the addresses of one carp interface live.

    `index` is that of the macvlan, or of the parent where `mac` is None. `live` are the addresses that are set now; it belongs
    to the worker thread.
    """

    name: str
    index: int
    parent_index: int
    mac: bytes | None = None
    live: set[InterfaceAddress] = field(default_factory=set)

    @property
    def is_parent(self) -> bool:
        """Whether the addresses live on the parent itself."""
        return self.mac is None

    def take(self, netlink: Netlink, addresses: Sequence[InterfaceAddress], flags: Sequence[int]) -> None:
        """Make exactly these addresses live, with one write; raises NetlinkError."""
        obsolete = self.live.difference(addresses)
        batch = [] if self.is_parent else [set_link(self.index, up=True)]
        batch += [delete_address(self.index, address) for address in obsolete]
        batch += [new_address(self.index, address, flag) for address, flag in zip(addresses, flags, strict=True)]
        refused = [error for error in netlink.execute(batch) if error.errno not in _GONE or error.position == 0]
        self.live = set(addresses)
        if refused:
            raise refused[0]

    def release(self, netlink: Netlink) -> None:
        """Let no address be live; the link stays up until `down`."""
        netlink.execute([delete_address(self.index, address) for address in self.live])
        self.live = set()

    def down(self, netlink: Netlink) -> None:
        """Take the link down; the kernel makes us wait about 15 ms."""
        if not self.is_parent:
            netlink.execute([set_link(self.index, up=False)])

    def remove(self, netlink: Netlink) -> None:
        """Release the addresses and delete the link."""
        self.release(netlink)
        if not self.is_parent:
            netlink.execute([delete_link(self.index)])


def address_flags(table: LinkTable, link: CarpLink, addresses: Iterable[InterfaceAddress]) -> list[int]:
    """Return the IFA_F_* of each address: no duplicate detection, no second prefix route (LINUX.md section 1)."""
    own = None if link.is_parent else link.index
    return [
        (IFA_F_NODAD if address.version == 6 else 0) | (IFA_F_NOPREFIXROUTE if table.has_on_link(address, own) else 0)
        for address in addresses
    ]


def create(netlink: Netlink, name: str, parent: str, parent_index: int, mac: bytes, group: int) -> CarpLink:
    """Make the macvlan of a carp interface, link down, with its settings.

    Raises:
        LinkError: the name is taken, or the parent refuses.
    """
    for refused in netlink.execute([new_macvlan(name, parent_index, mac, group)]):
        raise LinkError(_why_not_created(refused, name, parent))
    for key, value in sysctl.CARP_LINK_SETTINGS.items():
        sysctl.write(sysctl.path_of(key, name), value)
    return CarpLink(name, socket.if_nametoindex(name), parent_index, mac)


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
        link.release(netlink)
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
    addresses = []
    for parent in leftovers.parents:
        link = table.by_name(parent)
        own = [] if link is None else [one for one in table.addresses(link.index) if one.protocol == CARP_ADDRESS_PROTOCOL]
        addresses += own
        removed += [f"{one.address} on {parent}" for one in own]
    for link in table.all():
        if link.group == group and link.kind in ("macvlan", "bridge"):
            addresses += table.addresses(link.index)
            removed.append(link.name)
    netlink.execute([delete_address(one.index, one.address) for one in addresses])
    netlink.execute([delete_group(group)])
    _restore(leftovers.settings)
    return removed


def _restore(settings: Mapping[str, str]) -> None:
    for file, original in settings.items():
        sysctl.write(Path(file), original)
