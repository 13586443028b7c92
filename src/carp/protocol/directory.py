"""Finds the virtual host that an advertisement is for: by parent and vhid, or by vhid and peer."""

from collections import Counter

from .interface import CarpInterface
from .packet import Datagram
from .paths import is_link_local, is_unicast
from .values import State
from .vhost import VirtualHost

Entry = tuple[CarpInterface, VirtualHost]


class Directory:
    """All virtual hosts of one host that have a parent."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, int], Entry] = {}
        self._by_vhid: dict[int, list[Entry]] = {}
        self._interfaces: Counter[str] = Counter()

    def add(self, interface: CarpInterface) -> None:
        """Let the virtual hosts of an interface be found."""
        if not interface.parameters.carpdev:
            return
        self._interfaces[interface.parameters.carpdev] += 1
        for vhost in interface.vhosts:
            self._by_place[interface.parameters.carpdev, vhost.vhid] = (interface, vhost)
            self._by_vhid.setdefault(vhost.vhid, []).append((interface, vhost))

    def remove(self, interface: CarpInterface) -> None:
        """Let them be found no longer."""
        if not interface.parameters.carpdev:
            return
        self._interfaces[interface.parameters.carpdev] -= 1
        for vhost in interface.vhosts:
            self._by_place.pop((interface.parameters.carpdev, vhost.vhid), None)
            self._by_vhid[vhost.vhid].remove((interface, vhost))

    def has(self, parent: str) -> bool:
        """Tell whether any carp interface is on this parent."""
        return self._interfaces[parent] > 0

    def to_group(self, arrived_on: str, vhid: int) -> Entry | None:
        """Find who an advertisement to the group is for."""
        return self._by_place.get((arrived_on, vhid))

    def find(self, arrived_on: str, datagram: Datagram, vhid: int) -> Entry | None:
        """Find who an advertisement is for.

        One from a peer to this host alone may have come by any interface, as the routes were: of several interfaces with
        that vhid and peer it is for the one whose parent has the address that it was sent to, else for the one it came by.
        """
        if is_unicast(datagram):
            elsewhere = not is_link_local(datagram.source)
            entries = [
                (interface, vhost)
                for interface, vhost in self._by_vhid.get(vhid, ())
                if interface.paths.is_peer(datagram.source) and (elsewhere or interface.parameters.carpdev == arrived_on)
            ]
            if entries:
                return max(entries, key=lambda entry: _closeness(entry, arrived_on, datagram))
        return self.to_group(arrived_on, vhid)


def _closeness(entry: Entry, arrived_on: str, datagram: Datagram) -> tuple[bool, bool, bool]:
    interface, vhost = entry
    runs = vhost.state is not State.INIT
    return runs, interface.paths.is_parents(datagram.destination), interface.parameters.carpdev == arrived_on
