"""Real joins on a parent, so that IGMP and MLD tell snooping switches which ports want the groups.

A packet socket's own membership sends no report. Besides 224.0.0.18 and ff02::12 every virtual IPv6 address's solicited-node
group is joined in every state: its first report goes out up to 320 ms late, too late for a takeover. So is the group whose MAC
is that of a balanced interface, for switches that snoop by MAC (LINUX.md section 5).
"""

import contextlib
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from ..protocol.packet import IPV4_GROUP, IPV6_GROUP

_SOLICITED_NODE_PREFIX = bytes.fromhex("ff0200000000000000000001ff")


def solicited_node_group(address: IPv6Address) -> bytes:
    """Return the solicited-node group of an address, 16 bytes (RFC 4291 section 2.7.1)."""
    return _SOLICITED_NODE_PREFIX + address.packed[13:]


class Memberships:
    """The groups joined on one parent; closing leaves them all."""

    def __init__(self, index: int) -> None:
        """Join the CARP groups of both families on the interface of this index; raises OSError."""
        self._index = index
        self._joined: set[bytes] = set()
        self._groups: dict[IPv4Address, socket.socket] = {}
        self._v4 = self._open_ipv4(IPV4_GROUP)
        self._v6 = self._open_ipv6() if socket.has_ipv6 else None

    def _open_ipv4(self, group: bytes) -> socket.socket:
        joining = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            request = struct.pack("=4s4si", group, bytes(4), self._index)
            joining.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError:
            joining.close()
            raise
        return joining

    def _open_ipv6(self) -> socket.socket | None:
        try:
            return self._join_first(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        except OSError:
            return None  # IPv6 is disabled on this parent: its advertisements still come through the packet socket

    def _join_first(self, joining: socket.socket) -> socket.socket:
        try:
            joining.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, IPV6_GROUP + struct.pack("=I", self._index))
        except OSError:
            joining.close()
            raise
        return joining

    def follow(self, addresses: Iterable[IPv6Address]) -> None:
        """Be joined to the solicited-node groups of exactly these addresses."""
        if self._v6 is None:
            return
        wanted = {solicited_node_group(address) for address in addresses}
        for option, groups in (
            (socket.IPV6_JOIN_GROUP, wanted - self._joined),
            (socket.IPV6_LEAVE_GROUP, self._joined - wanted),
        ):
            for group in groups:
                try:
                    self._v6.setsockopt(socket.IPPROTO_IPV6, option, group + struct.pack("=I", self._index))
                except OSError:
                    continue  # a snooping switch may be a moment late then; the address still works
        self._joined = wanted

    def follow_groups(self, groups: Iterable[IPv4Address]) -> None:
        """Be joined to exactly these groups besides 224.0.0.18; one that the kernel refuses is tried again at the next call."""
        wanted = set(groups)
        for group in self._groups.keys() - wanted:
            self._groups.pop(group).close()
        for group in wanted - self._groups.keys():
            # A socket each, as one may join 20 groups only (net.ipv4.igmp_max_memberships).
            with contextlib.suppress(OSError):  # only switches that snoop by MAC need it
                self._groups[group] = self._open_ipv4(group.packed)

    def close(self) -> None:
        """Leave all groups."""
        self.follow_groups(())
        self._v4.close()
        if self._v6 is not None:
            self._v6.close()
