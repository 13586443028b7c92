"""Multicast Router Advertisements, read back by somebody else's parser."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6MRD_Advertisement,
    ICMPv6MRD_Termination,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from carp.linux.router_advertisement import advertisements, routes_multicast, terminations
from carp.protocol.values import Family
from lab.netns import Namespace

IPV4, IPV6 = Family
MAC = bytes.fromhex("020000000007")
SOURCES = {IPV4: ip_address("192.0.2.1").packed, IPV6: ip_address("fe80::1").packed}
MRT_INIT, MRT_ADD_VIF, VIFF_USE_IFINDEX = 200, 202, 8
GLOBAL = ip_address("2001:db8::1").packed


def advertised() -> list[Packet]:
    """Parse the advertisements of both families."""
    return [Ether(frame) for frame in advertisements(MAC, SOURCES, 20)]


def terminated() -> list[Packet]:
    """Parse the terminations of both families."""
    return [Ether(frame) for frame in terminations(MAC, SOURCES)]


@pytest.mark.parametrize("parse", [advertised, terminated])
def test_they_go_to_all_snoopers_and_no_further(parse) -> None:
    """From the parent to 224.0.0.106 and ff02::6a, one hop, with the option by which routers and switches look inside."""
    four, six = parse()
    assert (four.src, four.dst, four.type) == ("02:00:00:00:00:07", "01:00:5e:00:00:6a", 0x0800)
    assert (four[IP].src, four[IP].dst, four[IP].ttl, four[IP].proto) == ("192.0.2.1", "224.0.0.106", 1, 2)
    assert four[IP].options == [IPOption_Router_Alert()]
    assert (six.src, six.dst, six.type) == ("02:00:00:00:00:07", "33:33:00:00:00:6a", 0x86DD)
    assert (six[IPv6].src, six[IPv6].dst, six[IPv6].hlim) == ("fe80::1", "ff02::6a", 1)
    assert six[IPv6ExtHdrHopByHop].options[0] == RouterAlert(value=0)
    assert six[IPv6ExtHdrHopByHop].nh == 58


def test_an_advertisement_over_ipv4() -> None:
    """IGMP of type 0x30 with the interval in seconds, and the query interval and robustness of IGMP."""
    message = bytes(advertised()[0][IP].payload)
    assert len(message) == 8
    assert struct.unpack("!BBxxHH", message) == (0x30, 20, 125, 2)


def test_an_advertisement_over_ipv6() -> None:
    """ICMPv6 of type 151 with the same."""
    message = advertised()[1][ICMPv6MRD_Advertisement]
    assert (message.type, message.advinter, message.queryint, message.robustness) == (151, 20, 125, 2)


def test_terminations() -> None:
    """IGMP of type 0x32 and ICMPv6 of type 153, four bytes each."""
    four, six = terminated()
    assert bytes(four[IP].payload)[:2] == bytes((0x32, 0))
    assert len(bytes(four[IP].payload)) == 4
    assert six[ICMPv6MRD_Termination].type == 153
    assert six[IPv6].plen == 8 + 4


@pytest.mark.parametrize("frame", [*advertisements(MAC, SOURCES, 20), *terminations(MAC, SOURCES)])
def test_lengths_and_checksums_are_what_a_receiver_computes(frame: bytes) -> None:
    """A wrong one would be dropped by every switch."""
    again = Ether(frame)
    if IP in again:
        header, message = frame[14:38], frame[38:]
        assert [ones_complement_sum(part) for part in (header, message)] == [0xFFFF, 0xFFFF]
        assert again[IP].len == len(frame) - 14
    else:
        message = frame[14 + 40 + 8 :]
        pseudo = frame[22:54] + struct.pack("!II", len(message), 58)
        assert ones_complement_sum(pseudo + message) == 0xFFFF
        assert again[IPv6].plen == len(frame) - 14 - 40


def ones_complement_sum(data: bytes) -> int:
    """Add up 16-bit words with end-around carry; 0xFFFF over correct data."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.parametrize(
    "frames", [lambda sources: advertisements(MAC, sources, 20), lambda sources: terminations(MAC, sources)]
)
def test_a_parent_speaks_in_the_families_it_has(frames) -> None:
    """Over IPv6 from a link-local address only, as receivers drop everything else."""
    assert [Ether(frame).type for frame in frames({IPV4: SOURCES[IPV4]})] == [0x0800]
    assert [Ether(frame).type for frame in frames({IPV6: SOURCES[IPV6]})] == [0x86DD]
    assert [Ether(frame).type for frame in frames({IPV4: SOURCES[IPV4], IPV6: GLOBAL})] == [0x0800]
    assert frames({}) == []
    assert len(frames({IPV6: ip_address("febf::1").packed})) == 1
    assert frames({IPV6: ip_address("fec0::1").packed}) == []


@pytest.mark.parametrize("interval_s", [3, 181, 0, 256])
def test_intervals_that_the_standard_does_not_know(interval_s: int) -> None:
    """From 4 to 180 seconds."""
    with pytest.raises(ValueError, match=f"{interval_s} s; allowed are 4..180 s"):
        advertisements(MAC, SOURCES, interval_s)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Live in a namespace with an interface eth0."""
    made = Namespace("mroute")
    try:
        with made.entered():
            made.ip("link add eth0 type veth peer name far")
            yield made
    finally:
        made.delete()


def test_a_host_that_routes_no_multicast(namespace: Namespace) -> None:
    """As most; also for an interface that is not there."""
    assert [routes_multicast(name, family) for name in ("eth0", "eth7") for family in Family] == [False] * 4


def test_a_host_that_routes_multicast(namespace: Namespace) -> None:
    """As long as a routing daemon has the interface, in the family in which it routes."""
    index = socket.if_nametoindex("eth0")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as daemon:
        daemon.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
        interface = struct.pack("=HBBIi4s", 0, VIFF_USE_IFINDEX, 1, 0, index, bytes(4))
        daemon.setsockopt(socket.IPPROTO_IP, MRT_ADD_VIF, interface)
        assert [routes_multicast("eth0", family) for family in Family] == [True, False]
    assert not routes_multicast("eth0", IPV4)
