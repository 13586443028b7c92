"""Multicast Router Advertisements (RFC 4286): frames that ask a snooping switch for every multicast frame.

A switch that snoops by IP address, as a Linux bridge does, withholds frames to a multicast MAC whose IP destination is no
group: nobody can ask for those by IGMP or MLD. Ports with a multicast router behind them get them all the same (LINUX.md
section 5).
"""

import struct
from collections.abc import Mapping

from ..protocol.packet import internet_checksum, pseudo_header
from ..protocol.values import Family
from . import sysctl
from .bpf_filter import ETHERTYPE_IPV4, ETHERTYPE_IPV6

LONGEST_INTERVAL_S = 180
SHORTEST_INTERVAL_S = 4

_ALL_SNOOPERS = {Family.IPV4: bytes((224, 0, 0, 106)), Family.IPV6: bytes.fromhex("ff02000000000000000000000000006a")}
_ALL_SNOOPERS_MAC = {Family.IPV4: bytes.fromhex("01005e00006a"), Family.IPV6: bytes.fromhex("33330000006a")}
_ETHERTYPE = {Family.IPV4: struct.pack("!H", ETHERTYPE_IPV4), Family.IPV6: struct.pack("!H", ETHERTYPE_IPV6)}
_ADVERTISEMENT = {Family.IPV4: 0x30, Family.IPV6: 151}
_TERMINATION = {Family.IPV4: 0x32, Family.IPV6: 153}

# What the parent's IGMP and MLD have in use: the defaults of RFC 3376 and RFC 3810.
_QUERY_INTERVAL_S = 125
_ROBUSTNESS = 2

_IGMP, _HOP_BY_HOP, _ICMPV6 = 2, 0, 58
_ONE_HOP = 1
_INTERNETWORK_CONTROL = 0xC0
_IPV4 = struct.Struct("!BBHHHBBH4s4s4s")
_IPV4_WORDS_WITH_OPTION = 6
_IPV4_ROUTER_ALERT = bytes.fromhex("94040000")
_IPV6_ROUTER_ALERT = bytes((_ICMPV6, 0)) + bytes.fromhex("050200000100")


def advertisements(mac: bytes, sources: Mapping[Family, bytes], interval_s: int) -> list[bytes]:
    """Return a whole Ethernet frame for each family in which a parent can speak.

    Args:
        mac: the parent's, 6 bytes.
        sources: packed addresses of the parent; over IPv6 only a link-local one will do.
        interval_s: the time until the next one, 4..180.

    Raises:
        ValueError: the interval is none.
    """
    if not SHORTEST_INTERVAL_S <= interval_s <= LONGEST_INTERVAL_S:
        raise ValueError(f"an interval of {interval_s} s; allowed are {SHORTEST_INTERVAL_S}..{LONGEST_INTERVAL_S} s")
    rest = struct.pack("!HH", _QUERY_INTERVAL_S, _ROBUSTNESS)
    return [
        _frame(mac, family, source, _ADVERTISEMENT[family], interval_s, rest) for family, source in _usable(sources).items()
    ]


def terminations(mac: bytes, sources: Mapping[Family, bytes]) -> list[bytes]:
    """Return the frames that take advertisements back; arguments as there."""
    return [_frame(mac, family, source, _TERMINATION[family], 0, b"") for family, source in _usable(sources).items()]


def routes_multicast(parent: str, family: Family) -> bool:
    """Tell whether this host is a multicast router behind a parent, by somebody else's will."""
    key = "ipv4/conf/{name}/mc_forwarding" if family is Family.IPV4 else "ipv6/conf/{name}/mc_forwarding"
    return sysctl.read(sysctl.path_of(key, parent)) == "1"


def _usable(sources: Mapping[Family, bytes]) -> dict[Family, bytes]:
    return {family: source for family, source in sources.items() if family is Family.IPV4 or _is_link_local(source)}


def _is_link_local(source: bytes) -> bool:
    return source[0] == 0xFE and source[1] & 0xC0 == 0x80


def _frame(mac: bytes, family: Family, source: bytes, kind: int, second_byte: int, rest: bytes) -> bytes:
    bare = bytes((kind, second_byte, 0, 0)) + rest
    packet = _ipv4(source, bare) if family is Family.IPV4 else _ipv6(source, bare)
    return _ALL_SNOOPERS_MAC[family] + mac + _ETHERTYPE[family] + packet


def _ipv4(source: bytes, bare: bytes) -> bytes:
    destination = _ALL_SNOOPERS[Family.IPV4]
    first = 4 << 4 | _IPV4_WORDS_WITH_OPTION
    length = _IPV4.size + len(bare)
    fields = (first, _INTERNETWORK_CONTROL, length, 0, 0, _ONE_HOP, _IGMP)
    addresses = (source, destination, _IPV4_ROUTER_ALERT)
    checksum = internet_checksum(_IPV4.pack(*fields, 0, *addresses))
    return _IPV4.pack(*fields, checksum, *addresses) + _with_checksum(bare, internet_checksum(bare))


def _ipv6(source: bytes, bare: bytes) -> bytes:
    destination = _ALL_SNOOPERS[Family.IPV6]
    checksum = internet_checksum(pseudo_header(source, destination, len(bare), _ICMPV6) + bare)
    payload = _IPV6_ROUTER_ALERT + _with_checksum(bare, checksum)
    header = struct.pack("!IHBB16s16s", 6 << 28, len(payload), _HOP_BY_HOP, _ONE_HOP, source, destination)
    return header + payload


def _with_checksum(bare: bytes, checksum: int) -> bytes:
    return bare[:2] + struct.pack("!H", checksum) + bare[4:]
