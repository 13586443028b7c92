"""Real joins on a parent, so that IGMP and MLD tell snooping switches which ports want the groups.

A packet socket's own membership sends no report. Besides 224.0.0.18 and ff02::12 every virtual IPv6 address's solicited-node
group is joined in every state: its first report goes out up to 320 ms late, too late for a takeover.
"""

import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

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
        self._v4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._v6: socket.socket | None = None
        try:
            self._v4.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4si", IPV4_GROUP, bytes(4), index))
            if socket.has_ipv6:
                self._v6 = self._open_ipv6()
        except OSError:
            self.close()
            raise

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

    def close(self) -> None:
        """Leave all groups."""
        self._v4.close()
        if self._v6 is not None:
            self._v6.close()
