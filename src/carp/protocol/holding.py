"""Who holds the addresses of a carp interface, and when.

With one virtual host its state decides: a MASTER takes the addresses and announces them, and nobody else has them. With
several, every host has them as long as any of its virtual hosts runs; what a MASTER opens is its share of the traffic, and
nothing is announced: the addresses stay behind the same MAC (PROTOCOL.md 7.2).
"""

from collections.abc import Sequence
from ipaddress import ip_address

from .actions import Announce, Probe, Release, SetMask, Take
from .host import Host, Parent, Round
from .parameters import Balancing, InterfaceParameters
from .values import Address, InterfaceAddress, State, family_of, virtual_mac
from .vhost import KnownMaster, VirtualHost


class Holding:
    """The addresses of a carp interface with one virtual host."""

    def __init__(self, parameters: InterfaceParameters, host: Host) -> None:
        self._parameters = parameters
        self._host = host

    def follow(self, parameters: InterfaceParameters) -> None:
        """Go by these parameters from now on."""
        self._parameters = parameters

    def serves(self, vhosts: Sequence[VirtualHost]) -> bool:
        """Tell whether the addresses are live here, or on the way."""
        return vhosts[0].serves

    def take(self, round_: Round) -> None:
        """A virtual host is MASTER and nothing is in its way any more."""
        round_.actions.append(Take(self._parameters.name, self._parameters.addresses))

    def release(self, round_: Round) -> None:
        """A virtual host is MASTER no longer."""
        round_.actions.append(Release(self._parameters.name))

    def announce(self, round_: Round, at_most: int | None = None) -> None:
        """Tell the LAN where the addresses are, but for those that other carp interfaces answer for, too."""
        addresses = self._parameters.addresses
        if self._host.shared:
            addresses = tuple(one for one in addresses if not self._is_shared(one))
        if addresses:
            round_.actions.append(Announce(self._parameters.name, addresses[:at_most]))

    def claims_rightfully(self, address: Address, mac: bytes) -> bool:
        """Tell whether this MAC may stand for an address although it is not that of the carp interface."""
        shared = self._host.shared.get((self._parameters.carpdev, address))
        return shared is not None and mac in shared.macs

    def note_taken(self, *, live: bool) -> None:
        """The addresses are live, or could not be taken."""

    def note_change(self, vhosts: Sequence[VirtualHost], round_: Round) -> None:
        """A virtual host has changed its state."""

    def _is_shared(self, address: InterfaceAddress) -> bool:
        return (self._parameters.carpdev, address.ip) in self._host.shared


class BalancedHolding(Holding):
    """The addresses of a carp interface with several virtual hosts."""

    def __init__(self, parameters: InterfaceParameters, host: Host) -> None:
        super().__init__(parameters, host)
        self._runs = False
        self._live = False
        self._mask = 0

    def serves(self, _vhosts: Sequence[VirtualHost]) -> bool:
        """Tell whether the addresses are live here, or on the way."""
        return self._runs

    def take(self, round_: Round) -> None:
        """Take them again if they could not be taken before."""
        if not self._live:
            super().take(round_)

    def release(self, _round: Round) -> None:
        """Keep them: others of the virtual hosts run."""

    def announce(self, _round: Round, _at_most: int | None = None) -> None:
        """Announce nothing."""

    def claims_rightfully(self, _address: Address, mac: bytes) -> bool:
        """Tell whether this is the MAC of one of the virtual hosts, where each has its own."""
        if self._parameters.balancing is not Balancing.ARP:
            return False
        return mac in {virtual_mac(node.vhid) for node in self._parameters.nodes}

    def note_taken(self, *, live: bool) -> None:
        """Remember whether the addresses have to be taken again."""
        self._live = live

    def note_change(self, vhosts: Sequence[VirtualHost], round_: Round) -> None:
        """Say which virtual hosts are MASTER; take the addresses with the first one that runs, release them with the last."""
        mask = sum(1 << rank for rank, one in enumerate(vhosts) if one.state is State.MASTER)
        if mask != self._mask:
            self._mask = mask
            round_.actions.append(SetMask(self._parameters.name, mask))
        runs = any(one.state is not State.INIT for one in vhosts)
        if runs == self._runs:
            return
        self._runs, self._live = runs, False
        if runs:
            super().take(round_)
        else:
            super().release(round_)


def inquiry(parameters: InterfaceParameters, parent: Parent, round_: Round, known: KnownMaster | None = None) -> None:
    """Ask for the MASTER that is known, else for the first shared address, which tells whether somebody else answers for it."""
    target = ip_address(known.source) if known is not None and any(known.source) else None
    if target is None and parameters.addresses:
        target = parameters.addresses[0].ip
    if target is not None:
        source = parent.sources.get(family_of(target), bytes(len(target.packed)))
        round_.actions.append(Probe(parameters.name, target, source))
