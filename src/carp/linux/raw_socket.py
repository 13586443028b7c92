"""Advertisements to one host through a raw IP socket of protocol 112: routed, and protected by IPsec where that is set up.

The kernel makes the IP header, from the packet's own where that matters: with a header of ours it would choose route and IPsec
policy without knowing source and protocol. While such a socket is open the kernel answers nobody that the protocol is
unreachable.
"""

import errno
import socket
import struct
from collections.abc import Callable, Iterator

from ..protocol.events import PacketArrived
from ..protocol.packet import IP_PROTOCOL_CARP, TTL, DropReason, ipv6_packet, parse_ip
from ..protocol.values import Family, Instant
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
_MOST_BYTES = 512
_ANCILLARY_BYTES = 160
_RECEIVE_BUFFER_BYTES = 1 << 20
_IPV4_DESTINATION = 16
_IPV4_MULTICAST = range(0xE0, 0xF0)
_IPV6_MULTICAST = 0xFF
_LINK_LOCAL = bytes.fromhex("fe80")

_Ancillary = list[tuple[int, int, bytes]]


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

    def begin_drain(self) -> Instant:
        """Start a round of reading; return the moment up to which everything is read once the socket is empty."""
        return self._stamps.begin_drain()

    def drain(self, at_most: int) -> Iterator[PacketArrived]:
        """Read packets to this host alone until the socket is empty or `at_most` were read."""
        for _ in range(at_most):
            try:
                data, ancillary, _, sender = self._socket.recvmsg(_MOST_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, errno.EINTR):
                    continue
                raise
            event = self._ipv4(data, ancillary) if self._family is Family.IPV4 else self._ipv6(data, ancillary, sender[0])
            if event is not None:
                yield event

    def _ipv4(self, packet: bytes, ancillary: _Ancillary) -> PacketArrived | None:
        if packet[_IPV4_DESTINATION] in _IPV4_MULTICAST:
            return None  # it came before the socket was set up
        index, _, _ = _IPV4_PACKET_INFO.unpack(_find(ancillary, socket.IPPROTO_IP, _IP_PKTINFO))
        return PacketArrived(self._name_of(index), self._family, packet, self._arrival(ancillary))

    def _ipv6(self, payload: bytes, ancillary: _Ancillary, sender: str) -> PacketArrived | None:
        """Put the header together again that the kernel has taken off."""
        destination, index = _IPV6_PACKET_INFO.unpack(_find(ancillary, socket.IPPROTO_IPV6, socket.IPV6_PKTINFO))
        if destination[0] == _IPV6_MULTICAST:
            return None
        (hop_limit,) = _NUMBER.unpack(_find(ancillary, socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT))
        source = socket.inet_pton(socket.AF_INET6, sender.partition("%")[0])
        packet = ipv6_packet(source, destination, payload, traffic_class=0, hop_limit=hop_limit)
        return PacketArrived(self._name_of(index), self._family, packet, self._arrival(ancillary))

    def _arrival(self, ancillary: _Ancillary) -> Instant:
        seconds, nanoseconds = _TIMESPEC.unpack(_find(ancillary, socket.SOL_SOCKET, _SO_TIMESTAMPNS))
        return self._stamps.convert(seconds * 1_000_000_000 + nanoseconds)

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


def _find(ancillary: _Ancillary, level: int, kind: int) -> bytes:
    """Return the data of a control message that was asked for when the socket was set up."""
    return next(data for its_level, its_kind, data in ancillary if (its_level, its_kind) == (level, kind))
