"""Routes through a parent to the prefixes of addresses that lie on a balanced carp interface.

Nothing passes through such an interface: it is there to hold the addresses. Its neighbours are reached through the parent, and
where the parent has no address in their prefix, by a route of carpd's (LINUX.md section 5).
"""

import contextlib
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from ..protocol.values import Address
from .netlink import Netlink
from .rtnetlink import CARP_ADDRESS_PROTOCOL, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, attribute, attributes_of, message

RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26

_ROUTE = struct.Struct("=BBBBBBBBI")
_INDEX = struct.Struct("=i")
_METRIC = struct.Struct("=I")
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 6, 7
_RT_TABLE_MAIN = 254
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTN_UNICAST = 1
_ADDRESS_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL_OFFSET = 5
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_METRIC_BASE = 112_000
"""Above what the kernel and administrators give, so that a route of theirs to the same prefix is preferred."""


@dataclass(frozen=True, slots=True)
class PrefixRoute:
    """A prefix behind a parent; packets that this host begins have `source`, where it is not None.

    The metric is another for each carp interface: several on one parent may have the same prefix.
    """

    network: IPv4Network | IPv6Network
    parent_index: int
    source: Address | None
    metric: int


def metric_of(link_index: int) -> int:
    """Return the metric of the routes that belong to the carp interface of this index."""
    return _METRIC_BASE + link_index


@lru_cache(maxsize=4096)
def new_route(route: PrefixRoute) -> bytes:
    """Add a route or replace the one that is there; its source has to be an address of this host already."""
    source = b"" if route.source is None else attribute(_RTA_PREFSRC, route.source.packed)
    return message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _body(route) + source)


@lru_cache(maxsize=4096)
def delete_route(route: PrefixRoute) -> bytes:
    """Delete a route, whatever source it has."""
    return message(RTM_DELROUTE, 0, _body(route))


def _body(route: PrefixRoute) -> bytes:
    version = route.network.version
    # The kernel knows scopes of IPv4 routes only.
    scope = _RT_SCOPE_LINK if version == 4 else _RT_SCOPE_UNIVERSE
    length = route.network.prefixlen
    header = _ROUTE.pack(_ADDRESS_FAMILY[version], length, 0, 0, _RT_TABLE_MAIN, CARP_ADDRESS_PROTOCOL, scope, _RTN_UNICAST, 0)
    return (
        header
        + attribute(_RTA_DST, route.network.network_address.packed)
        + attribute(_RTA_OIF, _INDEX.pack(route.parent_index))
        + attribute(_RTA_PRIORITY, _METRIC.pack(route.metric))
    )


def own_routes(parent_index: int) -> list[PrefixRoute]:
    """Read from the kernel what routes of carpd's lead to a parent; of this thread's network namespace."""
    with contextlib.closing(_FilteringNetlink()) as netlink:
        found = [route for family in _ADDRESS_FAMILY.values() for route in _routes(netlink, family, parent_index)]
    return [route for route in found if route.parent_index == parent_index]


class _FilteringNetlink(Netlink):
    """Dumps only what matches the request, so that a router's million routes stay in the kernel."""

    def __init__(self) -> None:
        super().__init__()
        with contextlib.suppress(OSError):  # before Linux 4.20 everything comes
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)


def _routes(netlink: Netlink, family: int, parent_index: int) -> list[PrefixRoute]:
    header = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_MAIN, CARP_ADDRESS_PROTOCOL, 0, 0, 0)
    request = message(RTM_GETROUTE, NLM_F_DUMP, header + attribute(_RTA_OIF, _INDEX.pack(parent_index)))
    return [parse_route(body) for body in netlink.dump(request) if body[_PROTOCOL_OFFSET] == CARP_ADDRESS_PROTOCOL]


def parse_route(body: bytes) -> PrefixRoute:
    """Read the body of RTM_NEWROUTE."""
    family, length = body[:2]
    found = attributes_of(body, _ROUTE.size)
    destination = found.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    return PrefixRoute(
        network=ip_network((destination, length)),
        parent_index=_INDEX.unpack(found[_RTA_OIF])[0] if _RTA_OIF in found else 0,
        source=ip_address(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None,
        metric=_METRIC.unpack(found[_RTA_PRIORITY])[0] if _RTA_PRIORITY in found else 0,
    )
