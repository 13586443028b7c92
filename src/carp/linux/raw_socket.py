"""Advertisements to one host through a raw IP socket of protocol 112: routed, and protected by IPsec where that is set up.

The kernel makes the IP header, from the packet's own where that matters: with a header of ours it would choose route and IPsec
policy without knowing source and protocol. While such a socket is open the kernel answers nobody that the protocol is
unreachable.
"""

import errno
import socket
import struct
from collections.abc import Callable

from ..protocol.events import PacketArrived
from ..protocol.packet import IP_PROTOCOL_CARP, TTL, DropReason, ipv6_packet, parse_ip
from ..protocol.values import NANOSECONDS_PER_SECOND, Family, Instant
from . import batch
from .clock import StampConverter

_ADDRESS_FAMILY = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2
_IP_PKTINFO = 8
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_IPV4_PACKET_INFO = struct.Struct("=i4s4s")
_IPV6_PACKET_INFO = struct.Struct("=16si")
_NUMBER = struct.Struct("=i")
_TIMESPEC = struct.Struct("=qq")
_RECEIVE_BUFFER_BYTES = 4 << 20
_IPV4_DESTINATION = 16
_IPV4_MULTICAST = range(0xE0, 0xF0)
_IPV6_MULTICAST = 0xFF
_LINK_LOCAL = bytes.fromhex("fe80")

_IPV6_NAME_ADDRESS = 8
"""Offset in a sockaddr_in6."""

_Controls = dict[tuple[int, int], bytes]
"""The data of control messages by level and kind."""


class RawSocket:
    """The socket of one family, for all parents.

    Args:
        family: IPv4 or IPv6.
        name_of: tells the name of the interface of an index, "" for an unknown one.
    """

    def __init__(self, family: Family, name_of: Callable[[int], str]) -> None:
        """Open it; raises OSError: EPERM without CAP_NET_RAW, EAFNOSUPPORT on a host without the family."""
        self._family = family
        self._name_of = name_of
        self._stamps = StampConverter()
        self._socket = socket.socket(_ADDRESS_FAMILY[family], socket.SOCK_RAW | socket.SOCK_NONBLOCK, IP_PROTOCOL_CARP)
        try:
            self._set_up()
        except OSError:
            self._socket.close()
            raise

    def _set_up(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # What goes to the group is heard by packet sockets, once.
        if self._family is Family.IPV4:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)

    def fileno(self) -> int:
        """Return the descriptor for a reader."""
        return self._socket.fileno()

    def read(self) -> tuple[list[PacketArrived], Instant]:
        """Read a batch of packets to this host alone; return them with the moment up to which all that arrived have been read.

        Raises OSError.
        """
        read_until = self._stamps.begin_drain()
        read = batch.shared()
        count = read.receive(self._socket.fileno())
        packets = []
        lengths = zip(read.lengths(count), read.control_lengths(count), strict=True)
        for place, (length, control_length) in enumerate(lengths):
            start = read.data_at[place]
            data = read.memory[start : start + length]
            controls = {(level, kind): value for level, kind, value in read.controls(place, control_length)}
            seconds, nanoseconds = _TIMESPEC.unpack(controls[socket.SOL_SOCKET, _SO_TIMESTAMPNS])
            arrival = self._stamps.convert(seconds * NANOSECONDS_PER_SECOND + nanoseconds)
            if self._family is Family.IPV4:
                packet, index = data, self._ipv4_index(data, controls)
            else:
                source = read.name_at[place] + _IPV6_NAME_ADDRESS
                packet, index = self._ipv6(data, controls, read.memory[source : source + 16])
            if index is not None:
                packets.append(PacketArrived(self._name_of(index), self._family, packet, arrival))
        if count < batch.PACKETS:
            return packets, read_until
        self._stamps.stop_at(arrival)
        return packets, arrival

    @staticmethod
    def _ipv4_index(packet: bytes, controls: _Controls) -> int | None:
        """Return the index of the interface; None for what came to a group before the socket was set up."""
        if packet[_IPV4_DESTINATION] in _IPV4_MULTICAST:
            return None
        index, _, _ = _IPV4_PACKET_INFO.unpack(controls[socket.IPPROTO_IP, _IP_PKTINFO])
        return int(index)

    @staticmethod
    def _ipv6(payload: bytes, controls: _Controls, source: bytes) -> tuple[bytes, int | None]:
        """Put the header together again that the kernel has taken off; return the packet and the index as above."""
        destination, index = _IPV6_PACKET_INFO.unpack(controls[socket.IPPROTO_IPV6, socket.IPV6_PKTINFO])
        (hop_limit,) = _NUMBER.unpack(controls[socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT])
        packet = ipv6_packet(source, destination, payload, traffic_class=0, hop_limit=hop_limit)
        return packet, None if destination[0] == _IPV6_MULTICAST else index

    def send(self, packet: bytes, parent_index: int) -> int | None:
        """Send a packet where its header says; return None, or the errno if it could not be sent.

        `parent_index` is where a link-local destination is looked for.
        """
        datagram = parse_ip(self._family, packet)
        assert not isinstance(datagram, DropReason)
        source, destination = datagram.source, datagram.destination
        address: tuple[str, int] | tuple[str, int, int, int]
        if self._family is Family.IPV4:
            options = [(socket.IPPROTO_IP, socket.IP_TOS, _NUMBER.pack(packet[1]))]
            if any(source):
                options.append((socket.IPPROTO_IP, _IP_PKTINFO, _IPV4_PACKET_INFO.pack(0, source, bytes(4))))
            address = (socket.inet_ntop(socket.AF_INET, destination), 0)
        else:
            traffic_class = int.from_bytes(packet[:4]) >> 20 & 0xFF
            options = [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _NUMBER.pack(traffic_class))]
            scope = parent_index if destination[:2] == _LINK_LOCAL else 0
            if any(source):
                options.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _IPV6_PACKET_INFO.pack(source, scope)))
            address = (socket.inet_ntop(socket.AF_INET6, destination), 0, 0, scope)
        try:
            self._socket.sendmsg([datagram.payload], options, 0, address)
        except OSError as error:
            return error.errno or errno.EIO
        return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
