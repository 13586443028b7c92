"""One address on several carp interfaces of a parent: which of them answers whom (PROTOCOL.md 7.1, WIRE.md section 9).

Each host configures the same carp interfaces with different advskews, so that each host is MASTER of another one. An asker is
given the MAC of one of them, always of the same one, whoever is its MASTER.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .parameters import InterfaceParameters
from .values import Address


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """An address with the carp interfaces that have it, in the order in which they are counted: the first has index 0."""

    carpdev: str
    address: Address
    members: tuple[InterfaceParameters, ...]

    @property
    def macs(self) -> frozenset[bytes]:
        """The MACs that rightfully claim the address."""
        return frozenset(member.mac for member in self.members if member.mac is not None)


def shared_addresses(interfaces: Iterable[InterfaceParameters]) -> list[SharedAddress]:
    """Find the addresses that several carp interfaces of one parent have.

    Only interfaces that are up count. They stand in ascending order of their vhids, which is the one in which the BSDs' guides
    create them; a dialect that counts the newest first has the reverse.
    """
    found: dict[tuple[str, Address], list[InterfaceParameters]] = {}
    for interface in interfaces:
        if interface.up and interface.carpdev:
            for address in dict.fromkeys(one.ip for one in interface.addresses):
                found.setdefault((interface.carpdev, address), []).append(interface)
    return [
        SharedAddress(carpdev, address, tuple(sorted(members, key=_rank, reverse=members[0].dialect.newest_first)))
        for (carpdev, address), members in found.items()
        if len(members) > 1
    ]


def _rank(interface: InterfaceParameters) -> int:
    return interface.leader.vhid
