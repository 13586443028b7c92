"""ICMP echo from inside a namespace: a count of requests at a steady pace, and how many were answered."""

import contextlib
import ipaddress
import os
import select
import socket
import struct

from .netns import Namespace, bind_freely
from .wait import now_ns

_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}


def ping(
    namespace: Namespace,
    target: str,
    *,
    count: int = 1,
    source: str | None = None,
    interval_s: float = 0.002,
    patience_s: float = 1.0,
) -> int:
    """Send echo requests and return how many distinct ones were answered within `patience_s` of the last.

    Args:
        namespace: where the requests start.
        target: an address without prefix length.
        count: how many are sent.
        source: the address they come from, where it is not the kernel's choice.
        interval_s: the time between two requests.
        patience_s: how long to wait for the last answers; less is waited when all have come.
    """
    return len(echo(namespace, target, count=count, source=source, interval_s=interval_s, patience_s=patience_s))


def echo(
    namespace: Namespace,
    target: str,
    *,
    count: int = 1,
    source: str | None = None,
    interval_s: float = 0.002,
    patience_s: float = 1.0,
    linger_s: float = 0.0,
    size: int = 0,
) -> dict[int, int]:
    """Send echo requests with `size` bytes of data; return how many answers each one had, by its number, if it had any.

    When each has an answer the call is over, but for `linger_s` in which second ones are waited for.
    """
    version = ipaddress.ip_address(target).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    identifier = int.from_bytes(os.urandom(2), "big")
    answered: dict[int, int] = {}
    with namespace.socket(family, socket.SOCK_RAW, protocol) as raw:
        if source is not None:
            bind_freely(raw, source, 0)
        raw.setblocking(False)
        for sequence in range(count):
            # No route, no neighbour: a request that nobody answers.
            with contextlib.suppress(OSError):
                raw.sendto(_request(version, identifier, sequence, size), (target, 0))
            _listen(raw, version, identifier, answered, now_ns() + int(interval_s * 1e9), count)
        _listen(raw, version, identifier, answered, now_ns() + int(patience_s * 1e9), count)
        _listen(raw, version, identifier, answered, now_ns() + int(linger_s * 1e9), count + 1)
    return answered


def _listen(raw: socket.socket, version: int, identifier: int, answered: dict[int, int], deadline_ns: int, enough: int) -> None:
    while len(answered) < enough and (left := deadline_ns - now_ns()) > 0:
        readable, _, _ = select.select([raw], [], [], left / 1e9)
        if not readable:
            return
        try:
            packet = raw.recv(1 << 16)
        except OSError:
            continue
        if version == 4:
            packet = packet[(packet[0] & 0x0F) * 4 :]
        kind, _, _, its_identifier, sequence = struct.unpack_from("!BBHHH", packet)
        if kind == _REPLY[version] and its_identifier == identifier:
            answered[sequence] = answered.get(sequence, 0) + 1


def _request(version: int, identifier: int, sequence: int, size: int) -> bytes:
    # The kernel fills in the checksum of ICMPv6; zeroes do not change that of ICMP.
    data = bytes(size)
    bare = struct.pack("!BBHHH", _REQUEST[version], 0, 0, identifier, sequence)
    if version == 6:
        return bare + data
    total = sum(struct.unpack("!4H", bare))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", _REQUEST[version], 0, ~total & 0xFFFF, identifier, sequence) + data
