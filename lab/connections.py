"""Many TCP connections at once from addresses of a client to one shared address: who serves each, and whether it ends well."""

import resource
import selectors
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .lan import Port
from .netns import bind_freely
from .stations import Station, family_of, networks
from .wait import now_ns

PORT = 7115
_CHUNK = 1 << 16
_PER_CONNECTION = 2
_SPARE_DESCRIPTORS = 500


def own_stations(client: Port, lan: int = 0) -> None:
    """Make all addresses of the stations the client's own, so that its kernel sends and answers for them."""
    client.namespace.ip(*(f"route replace local {network} dev lo" for network in networks(lan)))


@dataclass
class Connection:
    """One connection of the client: what is still to be sent, how much came back, who answered, and how it ended."""

    source: str
    unsent: bytes
    host: str = ""
    received: int = 0
    error: str = ""
    done: bool = False


@dataclass
class _Served:
    label: bytes
    pending: bytearray = field(default_factory=bytearray)
    ended: bool = False


class Connections:
    """All of them, in one thread; what a host gets it sends back after its label and a line feed."""

    def __init__(self, hosts: Iterable[Port], client: Port, address: str, flows: Sequence[Station], size: int) -> None:
        """Open the hosts' listening sockets and all connections.

        Args:
            hosts: those that may be connected to.
            client: who connects; it owns the stations' addresses.
            address: the shared address, without prefix length.
            flows: the stations, each of which connects once.
            size: how many bytes go there and come back.
        """
        self._size = size
        self._address = address
        self._raise_limit(len(flows))
        self._selector = selectors.DefaultSelector()
        for host in hosts:
            self._selector.register(self._listen(host), selectors.EVENT_READ, host.label.encode())
        self.all: list[Connection] = []
        with client.namespace.entered():
            for station in flows:
                self._connect(station)

    def run(self, timeout_s: float) -> list[Connection]:
        """Let all go on until each has ended or the time is over; return them."""
        deadline = now_ns() + int(timeout_s * 1e9)
        while now_ns() < deadline and not all(one.done for one in self.all):
            for key, events in self._selector.select(0.2):
                self._go_on(key, events)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        for one in self.all:
            if not one.done:
                one.error = f"not over after {timeout_s:g} s"
        return self.all

    @staticmethod
    def _raise_limit(count: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _PER_CONNECTION * count + _SPARE_DESCRIPTORS
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))

    def _listen(self, host: Port) -> socket.socket:
        listening = host.namespace.socket(family_of(self._address), socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind_freely(listening, self._address, PORT)
        listening.listen(4096)
        listening.setblocking(False)
        return listening

    def _connect(self, station: Station) -> None:
        family = family_of(self._address)
        source = socket.inet_ntop(family, station.source(self._address))
        one = Connection(source, bytes(self._size))
        connecting = socket.socket(family, socket.SOCK_STREAM)
        connecting.setblocking(False)
        bind_freely(connecting, source, 0)
        connecting.connect_ex((self._address, PORT))
        self.all.append(one)
        self._selector.register(connecting, selectors.EVENT_READ | selectors.EVENT_WRITE, one)

    def _go_on(self, key: selectors.SelectorKey, events: int) -> None:
        stream = key.fileobj
        assert isinstance(stream, socket.socket)
        if isinstance(key.data, bytes):
            self._accept(stream, key.data)
        elif isinstance(key.data, _Served):
            self._serve(stream, key.data)
        else:
            self._talk(stream, key.data, events)

    def _accept(self, listening: socket.socket, label: bytes) -> None:
        stream, _ = listening.accept()
        stream.setblocking(False)
        self._selector.register(stream, selectors.EVENT_READ | selectors.EVENT_WRITE, _Served(label, bytearray(label + b"\n")))

    def _serve(self, stream: socket.socket, served: _Served) -> None:
        try:
            if not served.ended:
                got = stream.recv(_CHUNK)
                served.pending += got
                served.ended = not got
        except BlockingIOError:
            pass
        except OSError:
            self._end(stream)
            return
        try:
            while served.pending:
                del served.pending[: stream.send(served.pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._end(stream)
            return
        if served.ended and not served.pending:
            self._end(stream)
        else:
            wanted = selectors.EVENT_WRITE if served.pending else 0
            self._selector.modify(stream, selectors.EVENT_READ | wanted, served)

    def _talk(self, stream: socket.socket, one: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._send(stream, one)
            if events & selectors.EVENT_READ:
                self._receive(stream, one)
        except BlockingIOError:
            pass
        except OSError as error:
            one.error, one.done = error.strerror or str(error), True
        if one.done:
            self._end(stream)

    def _send(self, stream: socket.socket, one: Connection) -> None:
        one.unsent = one.unsent[stream.send(one.unsent) :]
        # The first is the greatest: from here on only what comes back is waited for.
        if not one.unsent:
            stream.shutdown(socket.SHUT_WR)
            self._selector.modify(stream, selectors.EVENT_READ, one)

    def _receive(self, stream: socket.socket, one: Connection) -> None:
        got = stream.recv(_CHUNK)
        if not got:
            one.done = True
            if one.received != self._size:
                one.error = f"ended after {one.received} of {self._size} bytes"
            return
        if not one.host:
            label, _, got = got.partition(b"\n")
            one.host = label.decode()
        one.received += len(got)

    def _end(self, stream: socket.socket) -> None:
        self._selector.unregister(stream)
        stream.close()
