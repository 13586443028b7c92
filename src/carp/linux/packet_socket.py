"""Advertisements to the group through AF_PACKET on a parent: received before netfilter, sent from the virtual MAC.

The kernel filter passes protocol 112 to groups only, whole or fragmented, tagged or not: what is wrong with such a packet is
for the parser to count, or, where there is BPF, for the filter itself (`bpf/hearing`). It never looks at the source MAC, which
a whole group shares. Advertisements to one host go another way (`raw_socket`).
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from ..protocol.events import PacketArrived
from ..protocol.packet import GROUP_MAC
from ..protocol.values import NANOSECONDS_PER_SECOND, Family, Instant
from . import batch, bpf_filter
from .bpf.hearing import Hearing, Refused
from .bpf_filter import ETHERNET_HEADER_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6
from .clock import StampConverter

_ETH_P_ALL = 0x0003
_ETHERTYPE = {Family.IPV4: ETHERTYPE_IPV4, Family.IPV6: ETHERTYPE_IPV6}
_FAMILY = {struct.pack("!H", ethertype): family for family, ethertype in _ETHERTYPE.items()}

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
_USUAL_CONTROL = struct.Struct(f"=16xqq16xI{batch.CONTROL_BYTES - 52}x")
"""A stamp and then the auxiliary data, of which the first word is the status."""
_STAMP_HEADER = struct.pack("=Qii", 16 + _TIMESPEC.size, socket.SOL_SOCKET, _SO_TIMESTAMPNS)
_AUXDATA_HEADER = struct.pack("=Qii", 16 + _AUXDATA.size, _SOL_PACKET, _PACKET_AUXDATA)
_USUAL_CONTROL_BYTES = 72
_MEMBERSHIP = struct.Struct("=iHH8s")
_GROUP_BIT = 0x01
_RECEIVE_BUFFER_BYTES = 4 << 20
"""The kernel doubles it and needs 832 bytes for a small frame: room for a pause of 100 ms at 100,000 a second."""


class PacketSocket:
    """The one socket of a parent.

    Args:
        parent: the name of the interface.
        index: its index.
        hearing: the filter that refuses what is not for this host, None to see everything; closed with the socket.
    """

    def __init__(self, parent: str, index: int, hearing: Hearing | None = None) -> None:
        """Open it; raises OSError, EPERM without CAP_NET_RAW."""
        self.parent = parent
        self.index = index
        self._hearing = hearing
        self._stamps = StampConverter()
        self._received_macs: frozenset[bytes] = frozenset()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._set_up()
        except OSError:
            self.close()
            raise

    def _set_up(self) -> None:
        if self._hearing is not None:
            self._hearing.attach(self._socket)
        else:
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

    def read(self) -> tuple[list[PacketArrived], Instant]:
        """Read a batch of packets; return them with the moment up to which everything that arrived has been read.

        Raises OSError; that the parent is down is none.
        """
        read_until = self._stamps.begin_drain()
        read = batch.shared()
        count = read.receive(self._socket.fileno())
        memory, convert, parent = read.memory, self._stamps.convert, self.parent
        packets = []
        control_lengths = read.control_lengths(count)
        # The kernel writes them in one order, so one look is enough for all.
        is_usual = _has_usual_controls(read) and control_lengths.count(_USUAL_CONTROL_BYTES) == count
        controls = _USUAL_CONTROL.iter_unpack(read.all_controls(count)) if is_usual else _search(read, control_lengths)
        for start, length, (seconds, nanoseconds, status) in zip(read.data_at, read.lengths(count), controls, strict=False):
            arrival = convert(seconds * NANOSECONDS_PER_SECOND + nanoseconds)
            family = _FAMILY.get(memory[start + 12 : start + ETHERNET_HEADER_BYTES])
            if length >= ETHERNET_HEADER_BYTES and family is not None:
                packet = memory[start + ETHERNET_HEADER_BYTES : start + length]
                packets.append(PacketArrived(parent, family, packet, arrival, status & _TP_STATUS_VLAN_VALID != 0))
        if count < batch.PACKETS:
            return packets, read_until
        self._stamps.stop_at(arrival)
        return packets, arrival

    def send(self, frame: bytes) -> int | None:
        """Send a whole Ethernet frame; return None, or the errno if it could not be sent."""
        try:
            self._socket.send(frame)
        except OSError as error:
            return error.errno or errno.EIO
        return None

    def admit(self, vhids: Iterable[int] | None) -> None:
        """Let the kernel refuse what is not for these vhids, if it can; None: let everything come, as at first."""
        if self._hearing is not None:
            self._hearing.admit(vhids)

    def refused(self) -> list[Refused]:
        """Return what the kernel has refused since this was asked last."""
        return [] if self._hearing is None else self._hearing.refused()

    def send_all(self, frames: Sequence[bytes]) -> dict[int, int]:
        """Send whole Ethernet frames of at most `batch.DATA_BYTES`; return the errno of each that was not sent, by its place.

        One that could not be sent keeps none of the others back.
        """
        descriptor, volley, errors = self._socket.fileno(), batch.volley(), {}
        for start in range(0, len(frames), batch.PACKETS):
            for place, number in volley.send(descriptor, frames[start : start + batch.PACKETS]).items():
                errors[start + place] = number
        return errors

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
        if self._hearing is not None:
            self._hearing.close()


def _has_usual_controls(read: batch.Batch) -> bool:
    """Tell whether the first packet has a stamp and then the auxiliary data."""
    stamp, auxdata = read.control_at[0], read.control_at[0] + len(_STAMP_HEADER) + _TIMESPEC.size
    return (
        read.memory[stamp : stamp + len(_STAMP_HEADER)] == _STAMP_HEADER
        and read.memory[auxdata : auxdata + len(_AUXDATA_HEADER)] == _AUXDATA_HEADER
    )


def _search(read: batch.Batch, lengths: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Look for the stamp and the status in control messages of another order; without a stamp a packet has just come."""
    for place, length in enumerate(lengths):
        seconds, nanoseconds, status = 2**33, 0, 0
        for level, kind, data in read.controls(place, length):
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            elif (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status = _AUXDATA.unpack_from(data)[0]
        yield seconds, nanoseconds, status


def ethernet_header(source_mac: bytes, family: Family) -> bytes:
    """Return the 14 bytes before an advertisement to the CARP group (PROTOCOL.md 1.2)."""
    return GROUP_MAC[family] + source_mac + struct.pack("!H", _ETHERTYPE[family])
