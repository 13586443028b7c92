"""The raw sockets, on the loopback interface: what goes out, and what of it comes in."""

import errno
import os
import select
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from carp.linux.clock import boottime
from carp.linux.raw_socket import RawSocket
from carp.protocol.events import PacketArrived
from carp.protocol.packet import GROUP, IP_PROTOCOL_CARP, Datagram, ipv4_packet, ipv6_packet, parse_ip
from carp.protocol.values import Family

IPV4, IPV6 = Family
ENDS = {IPV4: ("127.3.1.2", "127.3.1.3"), IPV6: ("::1", "::1")}
PATIENCE_S = 2.0
LOOPBACK_INDEX = socket.if_nametoindex("lo")


@pytest.fixture(params=list(Family), ids=str)
def raw(request: pytest.FixtureRequest) -> Iterator[RawSocket]:
    """Open the socket of a family."""
    opened = RawSocket(request.param, lambda index: {LOOPBACK_INDEX: "lo"}.get(index, ""))
    yield opened
    opened.close()


def family_of(raw: RawSocket) -> Family:
    """Tell the family that a socket was opened for."""
    return raw._family


def packet(family: Family, *, source: bytes | None = None, destination: bytes | None = None, tos: int = 0x10) -> bytes:
    """Make an IP packet with 36 bytes that no other has."""
    ends = [ip_address(end).packed for end in ENDS[family]]
    source, destination = source if source is not None else ends[0], destination or ends[1]
    if family is IPV4:
        return ipv4_packet(source, destination, os.urandom(36), tos=tos, identification=7)
    return ipv6_packet(source, destination, os.urandom(36), traffic_class=tos)


def received(raw: RawSocket, sent: bytes, patience_s: float = PATIENCE_S) -> PacketArrived | None:
    """Wait for a packet with the payload of one that was sent, and return it; those of others pass by."""
    while select.select([raw], [], [], patience_s)[0]:
        for event in raw.read()[0]:
            if event.packet.endswith(sent[-36:]):
                return event
    return None


def parsed(event: PacketArrived | None) -> Datagram:
    """Read the packet of an event."""
    assert event is not None
    datagram = parse_ip(event.family, event.packet)
    assert isinstance(datagram, Datagram)
    return datagram


def test_a_packet_goes_out_and_comes_in(raw: RawSocket) -> None:
    """With source, destination, TTL 255 and payload as they were, on the interface that it came by, at a moment in between."""
    sent = packet(family_of(raw))
    before = boottime()
    assert raw.send(sent, LOOPBACK_INDEX) is None
    event = received(raw, sent)
    assert parsed(event) == parse_ip(family_of(raw), sent)
    assert event is not None
    assert (event.parent, event.family, event.vlan_tagged) == ("lo", family_of(raw), False)
    assert before <= event.arrival <= boottime()


def test_the_type_of_service_is_the_packets(raw: RawSocket) -> None:
    """IPv4 shows it; the header of IPv6 is not handed over, so only that it can be sent is seen."""
    sent = packet(family_of(raw), tos=0xE0)
    assert raw.send(sent, LOOPBACK_INDEX) is None
    event = received(raw, sent)
    assert event is not None
    assert event.packet[1] == (0xE0 if event.family is IPV4 else 0)


def test_ipv4_is_not_fragmented() -> None:
    """DF is set, as the BSDs do."""
    raw = RawSocket(IPV4, lambda _: "")
    sent = packet(IPV4)
    raw.send(sent, 0)
    event = received(raw, sent)
    assert event is not None
    assert event.packet[6] & 0x40
    assert event.parent == ""
    raw.close()


def test_a_source_of_zero_is_for_the_kernel_to_choose(raw: RawSocket) -> None:
    """It takes the one that the route says."""
    family = family_of(raw)
    sent = packet(family, source=bytes(len(ip_address(ENDS[family][0]).packed)))
    assert raw.send(sent, LOOPBACK_INDEX) is None
    assert any(parsed(received(raw, sent)).source)


def test_a_source_that_this_host_has_not(raw: RawSocket) -> None:
    """The kernel refuses, and the errno tells."""
    source = ip_address("192.0.2.77" if family_of(raw) is IPV4 else "2001:db8::77").packed
    assert raw.send(packet(family_of(raw), source=source), LOOPBACK_INDEX) in (errno.EINVAL, errno.ENETUNREACH)


def test_what_goes_to_the_group_is_left_to_others() -> None:
    """A host that has joined the group does not hear it twice: an ordinary raw socket does, this one does not."""
    raw = RawSocket(IPV4, lambda _: "")
    payload, loopback = os.urandom(36), ip_address("127.0.0.1").packed
    joining = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other = socket.socket(socket.AF_INET, socket.SOCK_RAW, IP_PROTOCOL_CARP)
    with joining, other:
        joining.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, GROUP[IPV4] + loopback)
        other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        other.settimeout(PATIENCE_S)
        other.sendto(payload, (str(ip_address(GROUP[IPV4])), 0))
        while not other.recv(512).endswith(payload):
            pass
    assert received(raw, payload, 0.1) is None
    raw.close()
