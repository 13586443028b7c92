"""Inquiries, read back by somebody else's parser."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from carp.linux.inquiry import inquiry

MAC = bytes.fromhex("020000000001")
MAC_TEXT = "02:00:00:00:00:01"
V4 = ip_address("192.0.2.100")
V6 = ip_address("2001:db8::1:2:3456:789a")
SOURCE4 = ip_address("192.0.2.1").packed
SOURCE6 = ip_address("fe80::1").packed


def test_ipv4_is_asked_for_by_an_arp_request() -> None:
    """From this host's MAC and address, to all; whose MAC it is is what is asked."""
    frame = inquiry(V4, MAC, SOURCE4)
    parsed = Ether(frame)
    assert (parsed.src, parsed.dst, parsed.type, len(frame)) == (MAC_TEXT, "ff:ff:ff:ff:ff:ff", 0x0806, 42)
    arp = parsed[ARP]
    assert (arp.hwtype, arp.ptype, arp.hwlen, arp.plen, arp.op) == (1, 0x0800, 6, 4, 1)
    assert (arp.hwsrc, arp.psrc) == (MAC_TEXT, "192.0.2.1")
    assert (arp.hwdst, arp.pdst) == ("00:00:00:00:00:00", "192.0.2.100")


def test_ipv4_without_an_address_of_ones_own() -> None:
    """Is a probe, which changes no table of anybody."""
    arp = Ether(inquiry(V4, MAC, bytes(4)))[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc, arp.pdst) == (1, MAC_TEXT, "0.0.0.0", "192.0.2.100")


def test_ipv6_is_asked_for_by_a_solicitation() -> None:
    """To the solicited-node group of the address alone, with the MAC that the answer is to go to."""
    frame = inquiry(V6, MAC, SOURCE6)
    parsed = Ether(frame)
    assert (parsed.src, parsed.dst, parsed.type) == (MAC_TEXT, "33:33:ff:56:78:9a", 0x86DD)
    ip = parsed[IPv6]
    assert (ip.version, ip.tc, ip.fl, ip.nh, ip.hlim) == (6, 0, 0, 58, 255)
    assert (ip.src, ip.dst, ip.plen) == ("fe80::1", "ff02::1:ff56:789a", len(frame) - 14 - 40)
    solicitation = parsed[ICMPv6ND_NS]
    assert (solicitation.type, solicitation.code, solicitation.res, solicitation.tgt) == (135, 0, 0, str(V6))
    assert (parsed[ICMPv6NDOptSrcLLAddr].len, parsed[ICMPv6NDOptSrcLLAddr].lladdr) == (1, MAC_TEXT)


def test_ipv6_without_an_address_of_ones_own() -> None:
    """Names no MAC: a solicitation from nowhere must not."""
    parsed = Ether(inquiry(V6, MAC, bytes(16)))
    assert (parsed[IPv6].src, parsed[IPv6].plen, parsed[ICMPv6ND_NS].tgt) == ("::", 24, str(V6))
    assert ICMPv6NDOptSrcLLAddr not in parsed


@pytest.mark.parametrize("source", [SOURCE6, bytes(16), ip_address("2001:db8::ffff:ffff:ffff:fffe").packed])
@pytest.mark.parametrize("target", ["2001:db8::100", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "::2"])
def test_the_checksum_is_what_a_receiver_computes(source: bytes, target: str) -> None:
    """A wrong one would be dropped by every neighbour."""
    frame = inquiry(ip_address(target), MAC, source)
    again = Ether(frame)
    del again[ICMPv6ND_NS].cksum
    assert Ether(bytes(again))[ICMPv6ND_NS].cksum == Ether(frame)[ICMPv6ND_NS].cksum
