"""Who speaks for the shared addresses, frame by frame.

A thread asks in every way that a client has (ARP, ND, ping, TCP, and packets to the virtual MAC that are to be forwarded),
and every frame that leaves a host in answer, or unasked, is recorded with its instant as the switch saw it. On a hub the
questions reach every host, whatever a switch has learned, so silence is the host's own doing.
"""

import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from .capture import Capture, packet_socket
from .lan import Port
from .wire import PROTOCOL, Forgery, checksum

BEYOND = ("203.0.113.1", "2001:db8:ffff::1")
"""Addresses that only a router reaches."""
KINDS = frozenset(
    f"{what} over {family}"
    for family, names in (("IPv4", ("ARP", "ping", "TCP", "forwarding")), ("IPv6", ("ND", "ping", "TCP", "forwarding")))
    for what in names
)
"""Every kind of answer that is asked for; UDP comes from a prober beside."""

_EVERY_S = 0.004
_SORT_EVERY = 12
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58
_NAMES = {_ICMP: "ping", _TCP: "TCP", _UDP: "UDP", _ICMPV6: "ping"}
_CHECKSUM_AT = {_TCP: 16, _UDP: 6, _ICMPV6: 2, _ICMP: 2}
_SYN = 0x02
_SOLICITATION, _ADVERTISEMENT = 135, 136
_CLOSED_PORT, _OWN_PORT = 7999, 40000


@dataclass(frozen=True, slots=True)
class Word:
    """One frame in which a host spoke for a shared address or forwarded for the virtual MAC."""

    at: int
    host: str
    kind: str


class Witness:
    """Asks and records while its block lasts; a context manager. `stop` gives the words in order."""

    def __init__(self, client: Port, hosts: Iterable[Port], addresses: Iterable[str], virtual_mac: str) -> None:
        """Prepare the questions.

        Args:
            client: the host that asks.
            hosts: those that may answer.
            addresses: the shared addresses, without prefix length.
            virtual_mac: where IP packets are sent to.
        """
        self._client = client
        self._hosts = list(hosts)
        self._shared = {ip_address(address).packed for address in addresses}
        self._beyond = {ip_address(address).packed for address in BEYOND}
        self._questions = _questions(client.mac, list(addresses), virtual_mac)
        self._words: list[Word] = []
        self._captures: dict[str, Capture] = {}
        self._stack = ExitStack()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        for host in self._hosts:
            self._captures[host.label] = self._stack.enter_context(Capture(host))
        self._raw = self._stack.enter_context(packet_socket(self._client))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        self._stack.close()

    def stop(self) -> list[Word]:
        """Ask no more and return all words in the order in which the switch saw them."""
        self._end()
        if self._error is not None:
            raise self._error
        self._hear()
        return sorted(self._words, key=lambda word: word.at)

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            rounds = 0
            while not self._ended.wait(_EVERY_S):
                for question in self._questions:
                    self._raw.send(question)
                rounds += 1
                if rounds % _SORT_EVERY == 0:
                    self._hear()
        except BaseException as error:  # the test is told by `stop`
            self._error = error

    def _hear(self) -> None:
        for label, capture in self._captures.items():
            for at, frame in capture.stamped():
                if (kind := self._kind(frame)) is not None:
                    self._words.append(Word(at, label, kind))

    def _kind(self, frame: bytes) -> str | None:
        """Name what a frame of a host says for the shared addresses; None if nothing, or if it is an advertisement."""
        ether_type = frame[12:14]
        if ether_type == b"\x08\x06":
            return "ARP over IPv4" if frame[28:32] in self._shared else None
        if ether_type == b"\x08\x00":
            family, protocol, source, target = "IPv4", frame[23], frame[26:30], frame[30:34]
        elif ether_type == b"\x86\xdd":
            family, protocol, source, target = "IPv6", frame[20], frame[22:38], frame[38:54]
        else:
            return None
        if protocol == PROTOCOL:
            return None
        if protocol == _ICMPV6 and frame[54] == _ADVERTISEMENT and frame[62:78] in self._shared:
            return "ND over IPv6"
        if target in self._beyond:
            return f"forwarding over {family}"
        if source not in self._shared:
            return None
        if protocol == _ICMPV6 and frame[54] == _SOLICITATION:
            return "ND over IPv6"
        return f"{_NAMES.get(protocol, f'protocol {protocol}')} over {family}"


def route_beyond(hosts: Iterable[Port], by: Port) -> None:
    """Make hosts route to what lies beyond by way of another host, which throws it away."""
    for host in hosts:
        host.namespace.sysctl("ipv4/ip_forward", 1)
        host.namespace.sysctl("ipv6/conf/all/forwarding", 1)
        for target in BEYOND:
            version = ip_address(target).version
            host.namespace.ip(f"route add {target} via {_address_of(by, version)}")


def before_and_after(words: Iterable[Word], former: str, later: str) -> tuple[int, int]:
    """Return the last instant at which the former owner spoke and the first one of the later; LookupError if one did not."""
    spoke: dict[str, list[int]] = {former: [], later: []}
    for word in words:
        spoke.setdefault(word.host, []).append(word.at)
    if not spoke[former] or not spoke[later]:
        raise LookupError(f"words of {former}: {len(spoke[former])}, of {later}: {len(spoke[later])}")
    return max(spoke[former]), min(spoke[later])


def _address_of(port: Port, version: int) -> str:
    for row in port.namespace.query(f"-{version} addr show dev {port.interface}"):
        for entry in row.get("addr_info", []):
            if entry["scope"] == "global":
                return str(entry["local"])
    raise LookupError(f"{port.label} has no IPv{version} address")


def _questions(own_mac: str, addresses: list[str], virtual_mac: str) -> list[bytes]:
    """Make one frame of each question."""
    own, shared_mac = bytes.fromhex(own_mac.replace(":", "")), bytes.fromhex(virtual_mac.replace(":", ""))
    frames = []
    for address in addresses:
        target = ip_address(address).packed
        version = 4 if len(target) == 4 else 6
        source = "192.0.2.9" if version == 4 else "2001:db8::9"
        kind = b"\x08\x00" if version == 4 else b"\x86\xdd"
        packet = _packets(source)
        echo = (_ICMP, 8) if version == 4 else (_ICMPV6, 128)
        syn = struct.pack("!HHIIBBHHH", _OWN_PORT, _CLOSED_PORT, 1, 0, 5 << 4, _SYN, 1024, 0, 0)
        datagram = struct.pack("!HHHH", _OWN_PORT, _CLOSED_PORT, 8, 0)
        beyond = BEYOND[0] if version == 4 else BEYOND[1]
        packets = [
            packet(address, echo[0], struct.pack("!BBHHH", echo[1], 0, 0, 0x5157, 1)),
            packet(address, _TCP, syn),
            packet(beyond, _UDP, datagram),
        ]
        frames += [shared_mac + own + kind + one for one in packets]
        if version == 4:
            head = bytes.fromhex("0001080006040001")
            frames.append(b"\xff" * 6 + own + b"\x08\x06" + head + own + ip_address(source).packed + bytes(6) + target)
        else:
            asked = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + target + b"\x01\x01" + own
            group = ip_address(bytes.fromhex("ff0200000000000000000001ff") + target[-3:])
            frames.append(b"\x33\x33\xff" + target[-3:] + own + kind + packet(str(group), _ICMPV6, asked))
    return frames


def _packets(source: str) -> Callable[[str, int, bytes], bytes]:
    """Return a maker of IP packets from a source: destination, protocol and payload without its checksum."""

    def make(destination: str, protocol: int, payload: bytes) -> bytes:
        ends = ip_address(source).packed + ip_address(destination).packed
        pseudo = b"" if protocol == _ICMP else ends + struct.pack("!II", len(payload), protocol)
        at = _CHECKSUM_AT[protocol]
        whole = payload[:at] + struct.pack("!H", checksum(pseudo + payload)) + payload[at + 2 :]
        return Forgery(source=source, destination=destination, protocol=protocol, payload=whole).packet()

    return make
