"""Where advertisements go and where they come from: the group of a family, or the peers that an administrator named.

With peers an advertisement goes to each of them by an ordinary IP packet, which routers forward (PROTOCOL.md 9.1).
"""

from ipaddress import ip_address

from .host import Parent
from .packet import GROUP, TTL, Datagram, DropReason
from .parameters import InterfaceParameters
from .values import Family, family_of

_IPV4_MULTICAST = 0xE0
_IPV6_MULTICAST = 0xFF


class Paths:
    """The ways of one carp interface's advertisements, out and in; made anew when its parameters change."""

    def __init__(self, parameters: InterfaceParameters, parent: Parent) -> None:
        self._parent = parent
        self._dialect = parameters.dialect
        self._peers = {
            family: tuple(dict.fromkeys(peer.packed for peer in parameters.peers if family_of(peer) is family))
            for family in Family
        }
        self._first_shared = {
            family: next((one.ip.packed for one in parameters.addresses if family_of(one) is family), b"") for family in Family
        }
        either = parameters.dialect.hears_other_kind
        self._hears_unicast = frozenset(family for family in Family if either or self.has_peers(family))
        self.hears_group = frozenset(family for family in Family if either or not self.has_peers(family))
        """The families in which advertisements to the group are heard."""
        self.hides_mac = parameters.mac is not None and all(map(self.has_peers, parameters.families))
        """Whether no advertisement shows a MAC that is not the parent's to the switches."""

    def has_peers(self, family: Family) -> bool:
        """Tell whether advertisements of a family go to peers."""
        return bool(self._peers[family])

    def is_peer(self, packed: bytes) -> bool:
        """Tell whether an address is that of a peer."""
        return any(packed in peers for peers in self._peers.values())

    def destinations(self, family: Family) -> tuple[bytes, ...]:
        """Return the peers that advertisements of a family go to, () for the group.

        A list that is the same on all hosts names this one too: it does not send to itself.
        """
        return tuple(peer for peer in self._peers[family] if not self.is_parents(peer))

    def source(self, family: Family, other: bytes | None = None) -> bytes:
        """Return the packed source of advertisements: the parent's address, else the first shared one (PROTOCOL.md 1.2).

        Towards `other`, a peer, it is the parent's address in the same subnet, else one that is valid beyond the link; zero
        where there is neither, for the kernel to choose.
        """
        usual = self._parent.sources.get(family, b"")
        if other is None or not self.has_peers(family):
            return usual or self._first_shared[family]
        target = ip_address(other)
        own = [address for address in self._parent.addresses if family_of(address) is family]
        found = next((one for one in own if target in one.network), None)
        found = found or next((one for one in own if not one.is_link_local), None)
        if found is not None:
            return found.ip.packed
        return usual if usual and is_link_local(usual) == target.is_link_local else bytes(len(other))

    def is_own(self, family: Family, packed: bytes) -> bool:
        """Tell whether a source is this host's."""
        return packed == self.source(family) or self.is_parents(packed)

    def admits(self, datagram: Datagram) -> DropReason | None:
        """Check how an advertisement came here: to this host or to the group, and through routers only from a peer."""
        unicast = is_unicast(datagram)
        if datagram.family not in (self._hears_unicast if unicast else self.hears_group):
            return DropReason.BAD_DESTINATION
        may_be_routed = unicast and self._dialect.routed_peers and self.is_peer(datagram.source)
        if datagram.ttl != TTL and not may_be_routed:
            return DropReason.BAD_TTL
        return None

    def is_parents(self, packed: bytes) -> bool:
        """Tell whether an address is the parent's."""
        return any(packed == address.ip.packed for address in self._parent.addresses)


def is_to_group(datagram: Datagram) -> bool:
    """Tell an advertisement to the group of its family."""
    return datagram.destination == GROUP[datagram.family]


def is_unicast(datagram: Datagram) -> bool:
    """Tell a packet to one host."""
    first = datagram.destination[0]
    return first < _IPV4_MULTICAST if datagram.family is Family.IPV4 else first != _IPV6_MULTICAST


def is_link_local(packed: bytes) -> bool:
    """Tell an address that means something on its own link only."""
    return ip_address(packed).is_link_local
