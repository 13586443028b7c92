"""Echo requests of ICMP and ICMPv6 (RFC 792, RFC 4443 section 4) on raw sockets that somebody with the privilege has opened.

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   |     type      |     code      |           checksum            |
   |          identifier           |        sequence number        |
   |                             data

A reply counts if identifier, sequence number and source are those of a request that waits; nothing else of it is read.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from ..linux.bpf_filter import attach
from ..protocol.values import NANOSECONDS_PER_SECOND
from .judgement import Finding, Tell, failure
from .orders import Check

MOST_AT_ONCE = 1024

_ECHO = struct.Struct("!BBHHH")
_INSTRUCTION = struct.Struct("=HBBI")
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_DATA = bytes(range(48))
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1
_MOST_BYTES = 1500
_MOST_READ_AT_ONCE = 64
_IPV4_HEADER_BYTES = 20

_Address = IPv4Address | IPv6Address
_Place = tuple[str, int] | tuple[str, int, int, int]
_Key = tuple[int, bytes, int]
"""Sequence number, packed address, and the index of the interface that a link-local one belongs to."""


class Echo:
    """The socket of one family, for all checks; it is closed with this.

    Raises:
        OSError: the descriptor is no raw ICMP socket.
    """

    def __init__(self, version: int, descriptor: int) -> None:
        self._version = version
        self._identifier = _random()
        self._waiting: dict[_Key, asyncio.Future[None]] = {}
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)
        self._filter()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._on_readable)

    def _filter(self) -> None:
        """Let nothing but replies to this process wake it: a raw socket hears all ICMP of the host."""
        if self._version == 4:
            self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << _REPLY[4])))
        else:
            blocked = [0xFFFFFFFF] * 8
            blocked[_REPLY[6] // 32] &= ~(1 << _REPLY[6] % 32)
            self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *blocked))
        attach(self._socket, _only(self._version, self._identifier))

    async def ask(self, address: _Address) -> None:
        """Send a request and wait until it is answered, for ever if it is not; raises OSError if it cannot be sent."""
        place = _place(address)
        key = self._key(_random(), place)
        while key in self._waiting:
            key = self._key(_random(), place)
        self._waiting[key] = self._loop.create_future()
        try:
            self._socket.sendto(self._request(key[0]), place)
            await self._waiting[key]
        finally:
            del self._waiting[key]

    def _request(self, sequence: int) -> bytes:
        kind = _REQUEST[self._version]
        bare = _ECHO.pack(kind, 0, 0, self._identifier, sequence) + _DATA
        # The kernel itself computes the checksum of ICMPv6, which covers addresses too.
        return _ECHO.pack(kind, 0, _checksum(bare) if self._version == 4 else 0, self._identifier, sequence) + _DATA

    def _on_readable(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(_MOST_READ_AT_ONCE):
                data, sender = self._socket.recvfrom(_MOST_BYTES)
                self._take(data, sender)

    def _key(self, sequence: int, place: _Place) -> _Key:
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        return sequence, socket.inet_pton(family, place[0]), place[3] if len(place) == 4 else 0

    def _take(self, data: bytes, sender: _Place) -> None:
        offset = (data[0] & 0xF) * 4 if self._version == 4 and len(data) >= _IPV4_HEADER_BYTES else 0
        if len(data) < offset + _ECHO.size:
            return
        kind, code, _, identifier, sequence = _ECHO.unpack_from(data, offset)
        if (kind, code, identifier) != (_REPLY[self._version], 0, self._identifier):
            return
        future = self._waiting.get(self._key(sequence, sender))
        if future is not None and not future.done():
            future.set_result(None)

    def close(self) -> None:
        """Close the socket."""
        self._loop.remove_reader(self._socket)
        self._socket.close()


def icmp_sockets() -> Iterator[tuple[int, socket.socket]]:
    """Open the raw sockets that pings need, by IP version, as far as this process may and the host has the family."""
    for version, family, protocol in ((4, socket.AF_INET, socket.IPPROTO_ICMP), (6, socket.AF_INET6, socket.IPPROTO_ICMPV6)):
        with contextlib.suppress(OSError):
            yield version, socket.socket(family, socket.SOCK_RAW, protocol)


class PingProbe:
    """A check that holds while an address answers."""

    def __init__(self, check: Check, slots: asyncio.Semaphore, echoes: dict[int, Echo]) -> None:
        self.slots = slots
        self._target = check.target
        self._timeout_s = check.timeout_ns / NANOSECONDS_PER_SECOND
        self._echoes = echoes

    async def run(self, tell: Tell) -> None:
        """Ask once."""
        address = ip_address(self._target)
        echo = self._echoes.get(address.version)
        if echo is None:
            tell(Finding(good=False, detail=f"carpd has no socket for pings over IPv{address.version}"))
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await echo.ask(address)
        except TimeoutError:
            tell(Finding(good=False, detail=f"no answer in {self._timeout_s:g} s"))
        except OSError as error:
            tell(Finding(good=False, detail=failure(error)))
        else:
            tell(Finding(good=True))


def _random() -> int:
    return int.from_bytes(os.urandom(2), "big")


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _only(version: int, identifier: int) -> bytes:
    """Pass messages with this identifier; over IPv4 a raw socket sees the IP header too."""
    begin = [(0xB1, 0, 0, 0), (0x48, 0, 0, 4)] if version == 4 else [(0x28, 0, 0, 4)]
    program = [*begin, (0x15, 0, 1, identifier), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def _place(address: _Address) -> _Place:
    if isinstance(address, IPv4Address):
        return str(address), 0
    bare = str(address).partition("%")[0]
    return bare, 0, 0, _index(address.scope_id)


def _index(scope: str | None) -> int:
    if scope is None:
        return 0
    try:
        return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {scope}") from None
