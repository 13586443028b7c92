"""A table of this host's links and addresses, kept up to date from the kernel's messages."""

from collections.abc import Iterable

from ..protocol.values import Address, Family, InterfaceAddress
from .netlink import Netlink
from .rtnetlink import (
    CARP_ADDRESS_PROTOCOL,
    IFA_F_DADFAILED,
    IFA_F_TENTATIVE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    AddressReport,
    Link,
    LinkAddress,
    address_index,
    get_addresses,
    get_links,
    link_name,
    parse_link,
    read_address,
)

_AF_BRIDGE = 7
_MOST_UNREAD = 256
"""Messages: on a host whose addresses change all the time they are read without being asked for."""

_Place = tuple[bytes, int]
"""A packed address and the length of its prefix: one address of a link."""
_Addresses = dict[int, dict[_Place, AddressReport]]
"""By the index of the link."""
_Prefixes = dict[tuple[int, int], dict[int, set[int]]]
"""The links on which a prefix is, by the bits of an address of its family and its length, and then by its own bits."""


class LinkTable:
    """What is known of links and addresses.

    Messages are applied in the order of arrival; after a lost one the caller loads everything again. A takeover brings
    hundreds of them, all about what was just asked for: they are put away as they are, and read when somebody asks.
    """

    def __init__(self) -> None:
        self._foreign_version = 0
        self._links: dict[int, Link | bytes] = {}
        self._names: dict[int, str] = {}
        self._indexes: dict[str, int] = {}
        self._addresses: _Addresses = {}
        self._unread: list[tuple[int, bytes]] = []
        self._prefixes: _Prefixes | None = None

    def load(self, netlink: Netlink) -> None:
        """Read everything from the kernel."""
        self._unread.clear()
        links = {link.index: link for link in map(parse_link, netlink.dump(get_links()))}
        addresses: _Addresses = {}
        for report in map(read_address, netlink.dump(get_addresses())):
            addresses.setdefault(report.link_index, {})[_place(report)] = report
        self._links, self._addresses = dict(links), addresses
        self._names = {link.index: link.name for link in links.values()}
        self._indexes = {link.name: link.index for link in links.values()}
        self._foreign_changed()

    def apply(self, kind: int, body: bytes) -> int | None:
        """Apply one message; return the index of the link it concerns, None for a message of another kind."""
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            self._unread.append((kind, body))
            if len(self._unread) >= _MOST_UNREAD:
                self._read()
            return address_index(body)
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            if body[0] == _AF_BRIDGE:
                return None  # a port joins or leaves a bridge; the link itself stays
            index, name = link_name(body)
            former = self._names.pop(index, None)
            if former is not None and self._indexes.get(former) == index:
                del self._indexes[former]
            if kind == RTM_NEWLINK:
                self._links[index], self._names[index], self._indexes[name] = body, name, index
            else:
                self._links.pop(index, None)
                if self._read().pop(index, None):
                    self._foreign_changed()
            return index
        return None

    def _read(self) -> _Addresses:
        """Read what was put away; return the addresses of every link, in the kernel's order."""
        for kind, body in self._unread:
            report = read_address(body)
            present = self._addresses.setdefault(report.link_index, {})
            place = _place(report)
            former = present.get(place)
            if kind == RTM_NEWADDR:
                present[place] = report
            else:
                present.pop(place, None)
            was_foreign = former is not None and former.protocol != CARP_ADDRESS_PROTOCOL
            is_foreign = kind == RTM_NEWADDR and report.protocol != CARP_ADDRESS_PROTOCOL
            if was_foreign != is_foreign:
                self._foreign_changed()
        self._unread.clear()
        return self._addresses

    @property
    def foreign_version(self) -> int:
        """Another number after each change of the addresses that are not carpd's own."""
        self._read()
        return self._foreign_version

    def _foreign_changed(self) -> None:
        self._foreign_version += 1
        self._prefixes = None

    def by_index(self, index: int) -> Link | None:
        """Find a link by its index."""
        link = self._links.get(index)
        if isinstance(link, bytes):
            link = self._links[index] = parse_link(link)
        return link

    def by_name(self, name: str) -> Link | None:
        """Find a link by its name."""
        index = self._indexes.get(name)
        return None if index is None else self.by_index(index)

    def all(self) -> Iterable[Link]:
        """Walk all links."""
        return [link for index in list(self._links) if (link := self.by_index(index)) is not None]

    def addresses(self, index: int) -> list[LinkAddress]:
        """List the addresses of a link in the kernel's order."""
        return [report.parsed() for report in self._reports(index)]

    def _reports(self, index: int) -> Iterable[AddressReport]:
        return self._read().get(index, {}).values()

    def sources(self, index: int) -> tuple[tuple[Family, bytes], ...]:
        """Return the packed address of each family that advertisements come from: the first one that is not carpd's own.

        Over IPv6 a link-local one goes first, as on OpenBSD (WIRE.md section 5).
        """
        own = [entry.address.ip for entry in self._own(index)]
        found = []
        for family in Family:
            candidates = [address for address in own if address.version == family]
            candidates.sort(key=lambda address: not address.is_link_local if family is Family.IPV6 else False)
            if candidates:
                found.append((family, candidates[0].packed))
        return tuple(found)

    def usable_addresses(self, index: int) -> tuple[InterfaceAddress, ...]:
        """List the addresses of a link that are not carpd's own and can be the source of a packet now."""
        return tuple(entry.address for entry in self._own(index) if not entry.flags & IFA_F_TENTATIVE)

    def _own(self, index: int) -> list[LinkAddress]:
        return [
            report.parsed()
            for report in self._reports(index)
            if report.protocol != CARP_ADDRESS_PROTOCOL and not report.flags & IFA_F_DADFAILED
        ]

    def own_addresses(self, index: int) -> frozenset[Address]:
        """Return the addresses of a link that somebody else has set, and that are not carpd's to delete."""
        return frozenset(
            report.parsed().address.ip for report in self._reports(index) if report.protocol != CARP_ADDRESS_PROTOCOL
        )

    def has_on_link(self, address: InterfaceAddress, except_index: int | None) -> bool:
        """Tell whether another link already has the address's prefix on-link, through an address of its own."""
        network = address.network
        if network.prefixlen == network.max_prefixlen:
            return False
        addresses = self._read()
        known = self._prefixes
        if known is None:
            known = self._prefixes = _foreign_prefixes(addresses)
        bits, size = int(network.network_address), network.max_prefixlen
        for (other_size, length), prefixes in known.items():
            if other_size == size and length <= network.prefixlen:
                links = prefixes.get(bits >> (size - length))
                if links is not None and (len(links) > 1 or except_index not in links):
                    return True
        return False


def _place(report: AddressReport) -> _Place:
    return report.packed, report.prefix_length


def _foreign_prefixes(addresses: _Addresses) -> _Prefixes:
    found: _Prefixes = {}
    for index, reports in addresses.items():
        for report in reports.values():
            if report.protocol != CARP_ADDRESS_PROTOCOL:
                size = 8 * len(report.packed)
                prefixes = found.setdefault((size, report.prefix_length), {})
                prefixes.setdefault(int.from_bytes(report.packed) >> (size - report.prefix_length), set()).add(index)
    return found
