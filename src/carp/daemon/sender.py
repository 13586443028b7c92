"""What leaves this host: advertisements, to the group through a parent or to peers as the routes go, and announcements."""

import errno
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest

from ..linux import sysctl
from ..linux.announce import announcements
from ..linux.inquiry import inquiry
from ..linux.links import LinkTable
from ..linux.packet_socket import ethernet_header
from ..linux.raw_socket import RawSocket
from ..protocol.actions import Announce, Probe, Send
from ..protocol.packet import destination_of
from ..protocol.parameters import Balancing, InterfaceParameters, LinkAddress
from ..protocol.values import Family, InterfaceAddress, virtual_mac
from .hardware import Port

_FRAMES_AT_ONCE = 256
"""A frame takes microseconds, and advertisements wait meanwhile."""

_Basis = tuple[tuple[InterfaceAddress, ...], bytes, bool]
"""What announcements are made of: addresses, MAC, whether this host is a router."""


class Sender:
    """Sends for all carp interfaces.

    Args:
        table: the links of this host.
        ports: the parents that are present.
        raw: the raw sockets of the families that this host has.
        holds: tells whether a carp interface is to have addresses on this host now.
        call_soon: as asyncio's.
    """

    def __init__(
        self,
        table: LinkTable,
        ports: Mapping[str, Port],
        raw: Mapping[Family, RawSocket],
        holds: Callable[[str], object],
        call_soon: Callable[..., object],
    ) -> None:
        self._table = table
        self._ports = ports
        self._raw = raw
        self._holds = holds
        self._call_soon = call_soon
        self._headers: dict[tuple[str, int, Family], bytes] = {}
        self._announcements: dict[tuple[str, int], tuple[_Basis, tuple[bytes, ...]]] = {}
        """The frames of so many addresses of a carp interface, with what they were made of."""

    def forget_headers(self) -> None:
        """A MAC may have changed."""
        self._headers.clear()

    def advertise(self, send: Send, parameters: InterfaceParameters) -> tuple[int | None, tuple[bytes, ...]] | None:
        """Send an advertisement; return the errno if it could not be sent, and the peers that it did not leave for.

        Returns None while the parent is gone. With several peers the advertisement is sent when it left for one of them: a
        peer without a route must not silence a MASTER that the others hear.
        """
        port = self._ports.get(parameters.carpdev)
        if port is None:
            return None
        if not send.unicast:
            return port.socket.send(self._header(send, parameters) + send.packet), ()
        raw = self._raw.get(send.family)
        if raw is None:
            return errno.EAFNOSUPPORT, ()
        results = {destination_of(send.family, packet): raw.send(packet, port.index) for packet in send.packets}
        failed = tuple(peer for peer, error in results.items() if error is not None)
        return (next(iter(results.values())), ()) if len(failed) == len(results) else (None, failed)

    def announce(self, action: Announce, parameters: InterfaceParameters) -> None:
        """Tell the LAN where the addresses are."""
        self._send_on(action.interface, parameters.carpdev, self._announcing(action.addresses, parameters))

    def _send_on(self, interface: str, parent: str, frames: tuple[bytes, ...]) -> None:
        """Send some frames now and the others later, unless the addresses are to be released by then."""
        port = self._ports.get(parent)
        if port is None or not self._holds(interface):
            return
        port.socket.send_all(frames[:_FRAMES_AT_ONCE])
        if len(frames) > _FRAMES_AT_ONCE:
            self._call_soon(self._send_on, interface, parent, frames[_FRAMES_AT_ONCE:])

    def prepare(self, interfaces: Iterable[InterfaceParameters]) -> None:
        """Prepare what will announce the addresses of these carp interfaces."""
        announced = {parameters.name: parameters for parameters in interfaces if not parameters.is_balanced}
        self._announcements = {key: made for key, made in self._announcements.items() if key[0] in announced}
        for parameters in announced.values():
            self._announcing(parameters.addresses, parameters)

    def _announcing(self, addresses: tuple[InterfaceAddress, ...], parameters: InterfaceParameters) -> tuple[bytes, ...]:
        # Whether a host forwards is said of IPv6 addresses alone.
        router = any(address.version == 6 for address in addresses) and sysctl.forwards(6)
        depends_on = (addresses, self._mac(parameters), router)
        # Now and then the first address is announced alone.
        key = parameters.name, len(addresses)
        prepared = self._announcements.get(key)
        if prepared is None or prepared[0] != depends_on:
            each = [announcements(address.ip, depends_on[1], router=router) for address in addresses]
            # The first frames of all addresses before the second ones: either suffices for most clients.
            frames = tuple(frame for turn in zip_longest(*each) for frame in turn if frame is not None)
            prepared = self._announcements[key] = (depends_on, frames)
        return prepared[1]

    def probe(self, action: Probe, parameters: InterfaceParameters) -> int | None:
        """Ask for a neighbour from the parent's own MAC; return the errno if it could not be sent."""
        port, link = self._ports.get(parameters.carpdev), self._table.by_name(parameters.carpdev)
        if port is None or link is None:
            return errno.ENODEV
        return port.socket.send(inquiry(action.target, link.mac, action.source))

    def _header(self, send: Send, parameters: InterfaceParameters) -> bytes:
        key = (send.interface, send.vhid, send.family)
        header = self._headers.get(key)
        if header is None:
            header = self._headers[key] = ethernet_header(self._source_mac(parameters, send.vhid), send.family)
        return header

    def _source_mac(self, parameters: InterfaceParameters, vhid: int) -> bytes:
        if parameters.balancing in (Balancing.IP, Balancing.IP_STEALTH):
            return self._parent_mac(parameters)  # a switch must not learn where the shared MAC is
        if parameters.balancing is Balancing.ARP:
            return virtual_mac(vhid)
        if parameters.lladdr is LinkAddress.VIRTUAL and parameters.dialect.source_mac_byte != 0x01:
            return virtual_mac(vhid, parameters.dialect.source_mac_byte)
        return self._mac(parameters)

    def _mac(self, parameters: InterfaceParameters) -> bytes:
        return self._parent_mac(parameters) if parameters.mac is None else parameters.mac

    def _parent_mac(self, parameters: InterfaceParameters) -> bytes:
        link = self._table.by_name(parameters.carpdev)
        return link.mac if link is not None else bytes(6)
