"""Advertisements to the group through AF_PACKET on a parent: received before netfilter, sent from the virtual MAC.

The kernel filter passes protocol 112 to groups only, whole or fragmented, tagged or not: what is wrong with such a packet is
for the parser to count. It never looks at the source MAC, which a whole group shares. Advertisements to one host go another
way (`raw_socket`).
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator

from ..protocol.events import PacketArrived
from ..protocol.packet import GROUP_MAC
from ..protocol.values import Family, Instant
from . import bpf_filter
from .bpf_filter import ETHERNET_HEADER_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, SNAP_BYTES
from .clock import StampConverter

_ETH_P_ALL = 0x0003
_ETHERTYPE = {Family.IPV4: ETHERTYPE_IPV4, Family.IPV6: ETHERTYPE_IPV6}
_FAMILY = {ethertype: family for family, ethertype in _ETHERTYPE.items()}

_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_DROP_MEMBERSHIP = 1, 2
_PACKET_MR_MULTICAST, _PACKET_MR_UNICAST = 0, 3
_PACKET_AUXDATA = 8
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TP_STATUS_VLAN_VALID = 1 << 4
_AUXDATA = struct.Struct("=IIIHHHH")
_TIMESPEC = struct.Struct("=qq")
_MEMBERSHIP = struct.Struct("=iHH8s")
_GROUP_BIT = 0x01
_ANCILLARY_BYTES = 128
_RECEIVE_BUFFER_BYTES = 1 << 20


class PacketSocket:
    """The one socket of a parent."""

    def __init__(self, parent: str, index: int) -> None:
        """Open it; raises OSError, EPERM without CAP_NET_RAW."""
        self.parent = parent
        self.index = index
        self._stamps = StampConverter()
        self._received_macs: frozenset[bytes] = frozenset()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._set_up()
        except OSError:
            self._socket.close()
            raise

    def _set_up(self) -> None:
        bpf_filter.attach(self._socket, bpf_filter.advertisements())
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        # Only bound now, so that no packet came in before the filter stood.
        self._socket.bind((self.parent, _ETH_P_ALL))

    def fileno(self) -> int:
        """Return the descriptor for a reader."""
        return self._socket.fileno()

    def begin_drain(self) -> Instant:
        """Start a round of reading; return the moment up to which everything is read once the socket is empty."""
        return self._stamps.begin_drain()

    def drain(self, at_most: int) -> Iterator[PacketArrived]:
        """Read packets until the socket is empty or `at_most` were read."""
        for _ in range(at_most):
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(SNAP_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENETDOWN, errno.EINTR):
                    continue  # said once when the parent goes down; its link event tells the rest
                raise
            event = self._event(frame, ancillary)
            if event is not None:
                yield event

    def _event(self, frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> PacketArrived | None:
        if len(frame) < ETHERNET_HEADER_BYTES:
            return None
        family = _FAMILY.get(int.from_bytes(frame[12:14]))
        if family is None:
            return None
        arrival = self._stamps.convert(2**63)
        tagged = False
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                arrival = self._stamps.convert(seconds * 1_000_000_000 + nanoseconds)
            elif level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                tagged = bool(_AUXDATA.unpack_from(data)[0] & _TP_STATUS_VLAN_VALID)
        return PacketArrived(self.parent, family, frame[ETHERNET_HEADER_BYTES:], arrival, tagged)

    def send(self, frame: bytes) -> int | None:
        """Send a whole Ethernet frame; return None, or the errno if it could not be sent."""
        try:
            self._socket.send(frame)
        except OSError as error:
            return error.errno or errno.EIO
        return None

    def receive_macs(self, macs: Iterable[bytes]) -> None:
        """Have the parent's own filter let frames to exactly these MACs, 6 bytes each, in; without promiscuous mode.

        It lasts as long as the socket (LINUX.md section 5). Raises OSError where the parent takes one of them not; then all is
        as before.
        """
        wanted = frozenset(macs)
        added: list[bytes] = []
        try:
            for mac in wanted - self._received_macs:
                self._change_membership(_PACKET_ADD_MEMBERSHIP, mac)
                added.append(mac)
        except OSError:
            for mac in added:
                self._change_membership(_PACKET_DROP_MEMBERSHIP, mac)
            raise
        for mac in self._received_macs - wanted:
            self._change_membership(_PACKET_DROP_MEMBERSHIP, mac)
        self._received_macs = wanted

    def _change_membership(self, option: int, mac: bytes) -> None:
        kind = _PACKET_MR_MULTICAST if mac[0] & _GROUP_BIT else _PACKET_MR_UNICAST
        self._socket.setsockopt(_SOL_PACKET, option, _MEMBERSHIP.pack(self.index, kind, len(mac), mac))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def ethernet_header(source_mac: bytes, family: Family) -> bytes:
    """Return the 14 bytes before an advertisement to the CARP group (PROTOCOL.md 1.2)."""
    return GROUP_MAC[family] + source_mac + struct.pack("!H", _ETHERTYPE[family])
