"""Which of a few wanted prefixes have a route, read from a table that may hold a million others.

The kernel is asked for the main table alone where it can do that (Linux 4.20), and reading stops as soon as everything was
found. Of its notifications a filter lets only those through that may be about a wanted prefix.

    struct rtmsg: u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags
    struct rtnexthop: u16 length; u8 flags, hops; s32 ifindex; attributes
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from ..linux.rtnetlink import NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, message, messages

Prefix = tuple[int, int, bytes]
"""Address family, length in bits, packed address."""

DEFAULT = "default"
ANY_LINK = 0
"""In the place of an index of a link."""

_RTM_GETROUTE = 26
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")
_ATTRIBUTE = struct.Struct("=HH")
_RT_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200
_RTNH_F_DEAD = 1
_RTA_DST, _RTA_OIF, _RTA_MULTIPATH = 1, 4, 9
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
_CHUNK_BYTES = 1 << 16
_NO_TABLE = (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
_TIMEOUT_S = 30
_TRIES = 5

_INSTRUCTION = struct.Struct("=HBBI")
_MOST_INSTRUCTIONS = 4096
_LOAD_BYTE, _LOAD_WORD, _LOAD_WORD_AT_X, _LOAD, _LOAD_X, _TO_X = 0x30, 0x20, 0x40, 0x00, 0x01, 0x07
_JUMP_IF_EQUAL, _RETURN = 0x15, 0x06
_ALL_BYTES = 0xFFFFFFFF
_FIND_ATTRIBUTE = 0xFFFFF000 + 12
"""Loading from here finds the attribute of type X at or after offset A (SKF_AD_NLATTR)."""
_HEADER_BYTES = 16

Route = tuple[Prefix, frozenset[int]]


def prefixes(target: str) -> tuple[Prefix, ...]:
    """Return the prefix of a word of the configuration, both families' for "default"; raises ValueError."""
    if target == DEFAULT:
        return prefixes("0.0.0.0/0") + prefixes("::/0")
    network = ip_network(target)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    return ((int(family), network.prefixlen, network.network_address.packed),)


def find(wanted: Iterable[tuple[Prefix, int]]) -> set[tuple[Prefix, int]]:
    """Tell which of these have a unicast route in the main table, each through the link of this index, or ANY_LINK.

    Blocks; raises OSError.
    """
    found: set[tuple[Prefix, int]] = set()
    missing = set(wanted)
    for family in {prefix[0] for prefix, _ in missing}:
        of_family = {one for one in missing if one[0][0] == family}
        found |= _find_in_family(family, of_family)
    return found


def _find_in_family(family: int, wanted: set[tuple[Prefix, int]]) -> set[tuple[Prefix, int]]:
    """Read the family's table; one that changed under our hands is read again if something was not found."""
    looked_for = {prefix for prefix, _ in wanted}
    # Parsing costs several times as much as this look at the bytes, which leaves almost nothing of a big table.
    by_length: dict[int, set[bytes]] = {}
    for _, length, destination in looked_for:
        by_length.setdefault(length, set()).add(destination if length else b"")
    for _ in range(_TRIES):
        found: set[tuple[Prefix, int]] = set()
        interrupted = False
        with contextlib.closing(_open()) as opened:
            for flags, body in _dump(opened, family):
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if not any(destination in body for destination in by_length.get(body[1], ())):
                    continue
                route = parse(body, looked_for)
                if route is not None:
                    prefix, links = route
                    found |= {(prefix, index) for index in links | {ANY_LINK}} & wanted
                    if found == wanted:
                        return found
        if not interrupted:
            break
    return found


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.settimeout(_TIMEOUT_S)
    with contextlib.suppress(OSError):  # an older kernel dumps all tables, which parse() sorts out
        opened.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
    return opened


def _dump(opened: socket.socket, family: int) -> Iterator[tuple[int, bytes]]:
    opened.send(message(_RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0)))
    while True:
        for kind, flags, _, body in messages(opened.recv(_CHUNK_BYTES)):
            if kind not in (NLMSG_DONE, NLMSG_ERROR):
                yield flags, body
                continue
            number = -struct.unpack_from("=i", body)[0]
            if number > 0 and number not in _NO_TABLE:
                raise OSError(number, f"routes cannot be read: {os.strerror(number)}")
            return


def parse(body: bytes, wanted: set[Prefix]) -> Route | None:
    """Read a route: its prefix and the links it goes through. None unless it is unicast, in the main table and wanted."""
    family, length, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(body)
    if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or flags & _RTM_F_CLONED:
        return None
    attributes = dict(_attributes(body, _RTMSG.size))
    destination = attributes.get(_RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
    prefix = (family, length, destination)
    if prefix not in wanted:
        return None
    links = set(_next_hops(attributes.get(_RTA_MULTIPATH, b"")))
    if _RTA_OIF in attributes and not flags & _RTNH_F_DEAD:
        links.add(struct.unpack("=i", attributes[_RTA_OIF])[0])
    return prefix, frozenset(links)


def _next_hops(data: bytes) -> Iterator[int]:
    offset = 0
    while offset + _NEXT_HOP.size <= len(data):
        length, flags, _, index = _NEXT_HOP.unpack_from(data, offset)
        if length < _NEXT_HOP.size:
            return
        if not flags & _RTNH_F_DEAD:
            yield index
        offset += (length + 3) & ~3


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def notification_filter(wanted: Iterable[Prefix]) -> bytes:
    """Build a socket filter that passes notifications of the main table about these prefixes.

    An IPv6 one is compared in its first four bytes only, and everything passes if there are more than fit.
    """
    program = [(_LOAD_BYTE, 0, 0, _HEADER_BYTES + 4), (_JUMP_IF_EQUAL, 1, 0, _RT_TABLE_MAIN), (_RETURN, 0, 0, 0)]
    for family, length, destination in sorted(set(wanted)):
        program += [(_LOAD_BYTE, 0, 0, _HEADER_BYTES), (_JUMP_IF_EQUAL, 0, 9 if length else 3, family)]
        program += [(_LOAD_BYTE, 0, 0, _HEADER_BYTES + 1), (_JUMP_IF_EQUAL, 0, 7 if length else 1, length)]
        if length:
            program += [
                (_LOAD_X, 0, 0, _RTA_DST),
                (_LOAD, 0, 0, _HEADER_BYTES + _RTMSG.size),
                (_LOAD_WORD, 0, 0, _FIND_ATTRIBUTE),
                (_TO_X, 0, 0, 0),
                (_LOAD_WORD_AT_X, 0, 0, _ATTRIBUTE.size),
                (_JUMP_IF_EQUAL, 0, 1, int.from_bytes(destination[:4])),
            ]
        program.append((_RETURN, 0, 0, _ALL_BYTES))
    program.append((_RETURN, 0, 0, 0))
    if len(program) > _MOST_INSTRUCTIONS:
        program = [(_RETURN, 0, 0, _ALL_BYTES)]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
