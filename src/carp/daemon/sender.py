"""What leaves this host: advertisements, to the group through a parent or to peers as the routes go, and announcements."""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest

from ..linux import sysctl
from ..linux.announce import announcements
from ..linux.inquiry import inquiry
from ..linux.links import LinkTable
from ..linux.packet_socket import PacketSocket, ethernet_header
from ..linux.raw_socket import RawSocket
from ..protocol.actions import Announce, Probe, Send
from ..protocol.events import Sent
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
        self._ways: dict[tuple[str, int, Family], tuple[str, bytes]] = {}
        self._announcements: dict[tuple[str, int], tuple[_Basis, tuple[bytes, ...]]] = {}
        """The frames of so many addresses of a carp interface, with what they were made of."""

    def forget_ways(self) -> None:
        """A MAC or a parent may have changed."""
        self._ways.clear()

    def advertise(
        self, advertisements: Sequence[Send], parameters_of: Callable[[str], InterfaceParameters | None]
    ) -> tuple[list[Send], list[tuple[Send, Sent]]]:
        """Send advertisements; return those that left, for all of their peers, and the others with what became of them.

        Of what has no parent any more nothing is returned.
        """
        sent: list[Send] = []
        others: list[tuple[Send, Sent]] = []
        socket: PacketSocket | None = None
        waiting: list[Send] = []
        frames: list[bytes] = []
        for send in advertisements:
            way = self._ways.get((send.interface, send.vhid, send.family)) or self._find_way(send, parameters_of)
            port = self._ports.get(way[0])
            if port is None:
                continue
            if send.unicast:
                result = self._send_to_peers(send, port)
                if result.error is None and not result.unreached:
                    sent.append(send)
                else:
                    others.append((send, result))
                continue
            if port.socket is not socket:
                _send_to_group(socket, frames, waiting, sent, others)
                socket, waiting, frames = port.socket, [], []
            waiting.append(send)
            frames.append(way[1] + send.packet)
        _send_to_group(socket, frames, waiting, sent, others)
        return sent, others

    def _send_to_peers(self, send: Send, port: Port) -> Sent:
        """Send an advertisement to each peer: a peer without a route must not silence a MASTER that the others hear."""
        raw = self._raw.get(send.family)
        if raw is None:
            return Sent(send.interface, send.vhid, send.family, errno.EAFNOSUPPORT)
        results = {destination_of(send.family, packet): raw.send(packet, port.index) for packet in send.packets}
        failed = tuple(peer for peer, error in results.items() if error is not None)
        if len(failed) == len(results):
            return Sent(send.interface, send.vhid, send.family, next(iter(results.values())))
        return Sent(send.interface, send.vhid, send.family, None, failed)

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

    def _find_way(self, send: Send, parameters_of: Callable[[str], InterfaceParameters | None]) -> tuple[str, bytes]:
        """Return the parent of an advertisement and the Ethernet header before it; a parent "" is none."""
        parameters = parameters_of(send.interface)
        if parameters is None:
            return "", b""
        way = parameters.carpdev, ethernet_header(self._source_mac(parameters, send.vhid), send.family)
        self._ways[send.interface, send.vhid, send.family] = way
        return way

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


def _send_to_group(
    socket: PacketSocket | None, frames: list[bytes], waiting: list[Send], sent: list[Send], others: list[tuple[Send, Sent]]
) -> None:
    """Send frames of one parent, which are advertisements that wait; add each to those that were sent or to the others."""
    errors = socket.send_all(frames) if socket is not None else {}
    if errors:
        failed = [(waiting[at], error) for at, error in errors.items()]
        others += [(send, Sent(send.interface, send.vhid, send.family, error)) for send, error in failed]
        waiting = [send for at, send in enumerate(waiting) if at not in errors]
    sent += waiting
