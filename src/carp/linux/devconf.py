"""Settings of interfaces as rtnetlink carries them (rtnetlink(7), IFLA_AF_SPEC): asked for, read and set without a file.

One message of 1.2 kB holds all settings of an interface; asking for it costs 6 us, of all interfaces in one dump 3 us each.
Settings are named by their files under /proc/sys/net, with {name} for the interface. Host byte order.
"""

import struct
import sys
from collections.abc import Iterable, Mapping

from .rtnetlink import NLM_F_DUMP, RTM_GETLINK, RTM_NEWLINK, attribute, attributes_of, message

# The kernel's numbers of IPv4 settings (IPV4_DEVCONF_*), from 1; they are their places in the array of IFLA_INET_CONF.
_IPV4_NUMBERS = {
    "ipv4/conf/{name}/rp_filter": 8,
    "ipv4/conf/{name}/arp_filter": 13,
    "ipv4/conf/{name}/arp_announce": 18,
    "ipv4/conf/{name}/arp_ignore": 19,
    "ipv4/conf/{name}/accept_local": 23,
}
# Those of IPv6 (DEVCONF_*), from 0; the kernel tells them, but lets them be set by their files only.
_IPV6_PLACES = {"ipv6/conf/{name}/accept_ra": 3}
_ADDR_GEN_MODE = "ipv6/conf/{name}/addr_gen_mode"
SETTABLE = frozenset({*_IPV4_NUMBERS, _ADDR_GEN_MODE})
"""What `set_settings` can set."""

_IFLA_IFNAME, _IFLA_AF_SPEC, _IFLA_EXT_MASK = 3, 26, 29
_IFLA_INET_CONF, _IFLA_INET6_CONF, _IFLA_INET6_ADDR_GEN_MODE = 1, 2, 8
_RTEXT_FILTER_SKIP_STATS = 8
_AF_INET, _AF_INET6 = 2, 10
_NESTED = 0x8000
_LINK = struct.Struct("=BxHiII")
_NUMBER = struct.Struct("=i")
_ENTRY_BYTES = _NUMBER.size


def get_settings(index: int) -> bytes:
    """Ask for the settings of one interface; the answer is one message."""
    return message(RTM_GETLINK, 0, _request(index))


def get_all_settings() -> bytes:
    """Ask for the settings of all interfaces: a dump."""
    return message(RTM_GETLINK, NLM_F_DUMP, _request(0))


def _request(index: int) -> bytes:
    return _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_EXT_MASK, _NUMBER.pack(_RTEXT_FILTER_SKIP_STATS))


def set_settings(index: int, settings: Mapping[str, str]) -> list[bytes]:
    """Set those settings of an interface that are SETTABLE, one message for each family.

    The kernel refuses the message of a family that the interface does not have with EAFNOSUPPORT.
    """
    ipv4 = b"".join(
        attribute(number, _NUMBER.pack(int(settings[key]))) for key, number in _IPV4_NUMBERS.items() if key in settings
    )
    requests = []
    if ipv4:
        requests.append(_new_link(index, _AF_INET, attribute(_IFLA_INET_CONF | _NESTED, ipv4)))
    if _ADDR_GEN_MODE in settings:
        mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((int(settings[_ADDR_GEN_MODE]),)))
        requests.append(_new_link(index, _AF_INET6, mode))
    return requests


def _new_link(index: int, family: int, settings: bytes) -> bytes:
    specification = attribute(_IFLA_AF_SPEC | _NESTED, attribute(family | _NESTED, settings))
    return message(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + specification)


def index_of(body: bytes) -> int:
    """Return which interface an answer is about."""
    index: int = _LINK.unpack_from(body)[2]
    return index


def read_settings(body: bytes, keys: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Read an answer: the interface's name now, and the values of these settings, without those that it does not have."""
    attributes = attributes_of(body, _LINK.size)
    families = attributes_of(attributes.get(_IFLA_AF_SPEC, b""), 0)
    ipv4 = attributes_of(families.get(_AF_INET, b""), 0).get(_IFLA_INET_CONF, b"")
    ipv6 = attributes_of(families.get(_AF_INET6, b""), 0)
    found = {}
    for key in keys:
        if key == _ADDR_GEN_MODE:
            value = ipv6.get(_IFLA_INET6_ADDR_GEN_MODE, b"")
        elif key in _IPV4_NUMBERS:
            value = _entry(ipv4, _IPV4_NUMBERS[key] - 1)
        else:
            value = _entry(ipv6.get(_IFLA_INET6_CONF, b""), _IPV6_PLACES[key])
        if value:
            found[key] = str(int.from_bytes(value, sys.byteorder, signed=True))
    return attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"), found


def _entry(array: bytes, place: int) -> bytes:
    return array[_ENTRY_BYTES * place : _ENTRY_BYTES * (place + 1)]
