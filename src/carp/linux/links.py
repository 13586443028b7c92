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
    Link,
    LinkAddress,
    get_addresses,
    get_links,
    parse_address,
    parse_link,
)

_AF_BRIDGE = 7


class LinkTable:
    """What is known of links and addresses.

    Messages are applied in the order of arrival; after a lost one the caller loads everything again.
    """

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}
        self._addresses: dict[int, dict[InterfaceAddress, LinkAddress]] = {}

    def load(self, netlink: Netlink) -> None:
        """Read everything from the kernel."""
        links = {link.index: link for link in map(parse_link, netlink.dump(get_links()))}
        addresses: dict[int, dict[InterfaceAddress, LinkAddress]] = {}
        for entry in map(parse_address, netlink.dump(get_addresses())):
            addresses.setdefault(entry.index, {})[entry.address] = entry
        self._links, self._addresses = links, addresses

    def apply(self, kind: int, body: bytes) -> int | None:
        """Apply one message; return the index of the link it concerns, None for a message of another kind."""
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            if body[0] == _AF_BRIDGE:
                return None  # a port joins or leaves a bridge; the link itself stays
            link = parse_link(body)
            if kind == RTM_NEWLINK:
                self._links[link.index] = link
            else:
                self._links.pop(link.index, None)
                self._addresses.pop(link.index, None)
            return link.index
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            entry = parse_address(body)
            present = self._addresses.setdefault(entry.index, {})
            if kind == RTM_NEWADDR:
                present[entry.address] = entry
            else:
                present.pop(entry.address, None)
            return entry.index
        return None

    def by_index(self, index: int) -> Link | None:
        """Find a link by its index."""
        return self._links.get(index)

    def by_name(self, name: str) -> Link | None:
        """Find a link by its name."""
        return next((link for link in self._links.values() if link.name == name), None)

    def all(self) -> Iterable[Link]:
        """Walk all links."""
        return self._links.values()

    def addresses(self, index: int) -> list[LinkAddress]:
        """List the addresses of a link in the kernel's order."""
        return list(self._addresses.get(index, {}).values())

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
            entry
            for entry in self.addresses(index)
            if entry.protocol != CARP_ADDRESS_PROTOCOL and not entry.flags & IFA_F_DADFAILED
        ]

    def own_addresses(self, index: int) -> frozenset[Address]:
        """Return the addresses of a link that somebody else has set, and that are not carpd's to delete."""
        return frozenset(entry.address.ip for entry in self.addresses(index) if entry.protocol != CARP_ADDRESS_PROTOCOL)

    def has_on_link(self, address: InterfaceAddress, except_index: int | None) -> bool:
        """Tell whether another link already has the address's prefix on-link, through an address of its own."""
        network = address.network
        if network.prefixlen == network.max_prefixlen:
            return False
        for index, entries in self._addresses.items():
            if index == except_index:
                continue
            for entry in entries.values():
                other = entry.address.network
                if (
                    entry.protocol != CARP_ADDRESS_PROTOCOL
                    and other.version == network.version
                    and other.prefixlen <= network.prefixlen
                    and network.network_address in other
                ):
                    return True
        return False
