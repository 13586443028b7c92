"""Checks that connect to a server: TCP, and HTTP with or without TLS."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from ..protocol.values import NANOSECONDS_PER_SECOND
from .judgement import Finding, Tell, failure
from .local import Aside
from .orders import Check
from .process import took_over

MOST_AT_ONCE = 256
"""Each needs a descriptor; the usual limit is 1024."""

_MOST_HEADER_BYTES = 16384
_MOST_INTERIM_ANSWERS = 10
_READ_BYTES = 4096
_GOOD_STATUS = range(200, 400)
_PORTS = {"http": 80, "https": 443}

_Place = tuple[socket.AddressFamily, tuple[Any, ...]]


class Connector:
    """Connects to one host; a name is looked up anew each time."""

    def __init__(self, executor: Executor) -> None:
        self._lookup = Aside(executor)

    async def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """Try the addresses of the host one after another, each for its share of the time; raises OSError."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        places = await self._resolve(host, port)
        problem: OSError = OSError("the name has no address")
        for position, place in enumerate(places):
            left_s = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(left_s / (len(places) - position)):
                    return await _connect(place)
            except OSError as error:
                problem = error
        raise problem

    async def _resolve(self, host: str, port: int) -> list[_Place]:
        try:
            # Numbers are not looked up, and need no thread.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await self._lookup.call(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        return [(family, place) for family, _, _, _, place in found]


class TcpProbe:
    """A check that holds while a server accepts connections."""

    def __init__(self, check: Check, slots: asyncio.Semaphore, executor: Executor) -> None:
        self.slots = slots
        self._target = check.target
        self._timeout_s = check.timeout_ns / NANOSECONDS_PER_SECOND
        self._connector = Connector(executor)

    async def run(self, tell: Tell) -> None:
        """Connect once, and close the connection."""
        with _told(tell, self._timeout_s):
            host, port = split_place(self._target)
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connector.connect(host, port, self._timeout_s)
            connection.close()
            tell(Finding(good=True))


class HttpProbe:
    """A check that holds while a server answers a GET with one of the wanted statuses."""

    def __init__(self, check: Check, slots: asyncio.Semaphore, executor: Executor) -> None:
        self.slots = slots
        self._url = check.target
        self._wanted = frozenset(check.status) or _GOOD_STATUS
        self._verify = check.verify_tls
        self._timeout_s = check.timeout_ns / NANOSECONDS_PER_SECOND
        self._connector = Connector(executor)

    async def run(self, tell: Tell) -> None:
        """Ask once; of the answer nothing but the head is read, and no redirect is followed."""
        with _told(tell, self._timeout_s):
            async with asyncio.timeout(self._timeout_s):
                status = await self._get()
            tell(Finding(good=status in self._wanted, detail=f"status {status}"))

    async def _get(self) -> int:
        url = urlsplit(self._url)
        if url.scheme not in _PORTS or not url.hostname or "@" in url.netloc:
            raise ValueError("not a URL that can be checked")
        connection = await self._connector.connect(url.hostname, url.port or _PORTS[url.scheme], self._timeout_s)
        context = _tls(verify=self._verify) if url.scheme == "https" else None
        try:
            name = url.hostname if context else None
            reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname=name)
        except BaseException:
            connection.close()
            raise
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            return await _status_of(reader, writer, url.netloc, target)
        finally:
            writer.transport.abort()


def split_place(target: str) -> tuple[str, int]:
    """Split "HOST:PORT" or "[V6]:PORT"; raises ValueError."""
    host, colon, port = target.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{target!r} is no HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def _connect(place: _Place) -> socket.socket:
    family, address = place
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(connection, address)
        met_itself = connection.getsockname() == connection.getpeername()
    except OSError as error:
        connection.close()
        # asyncio puts the address in the place of the system's words.
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None
    except BaseException:
        connection.close()
        raise
    if met_itself:
        # On this host that happens to a connection to a port that nobody listens on.
        connection.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return connection


async def _status_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, target: str) -> int:
    import h11

    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEADER_BYTES)
    headers = [("Host", host), ("User-Agent", "carpd"), ("Accept", "*/*"), ("Connection", "close")]
    writer.write(client.send(h11.Request(method="GET", target=target, headers=headers)) or b"")
    writer.write(client.send(h11.EndOfMessage()) or b"")
    interim = 0
    while interim <= _MOST_INTERIM_ANSWERS:
        event = client.next_event()
        if event is h11.NEED_DATA:
            client.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            return event.status_code
        else:
            interim += 1
    raise ValueError("no final answer")


@lru_cache
def _tls(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _told(tell: Tell, timeout_s: float) -> Iterator[None]:
    """Tell what became of a connection that came to nothing."""
    try:
        yield
    except TimeoutError as error:
        tell(Finding(good=False, detail=failure(error) if error.errno else took_over(timeout_s)))
    except ssl.SSLCertVerificationError as error:
        tell(Finding(good=False, detail=f"certificate: {error.verify_message}"))
    except ssl.SSLError as error:
        tell(Finding(good=False, detail=f"TLS: {error.reason or failure(error)}"))
    except OSError as error:
        tell(Finding(good=False, detail=failure(error)))
