"""Announcements, read back by somebody else's parser."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from carp.linux.announce import announcements

MAC = bytes.fromhex("00005e000107")
MAC_TEXT = "00:00:5e:00:01:07"
V4 = ip_address("192.0.2.100")
V6 = ip_address("2001:db8::100")


def test_ipv4_is_announced_by_request_and_then_by_reply() -> None:
    """Some clients heed one form, some the other; the reply, which nobody answers, comes last."""
    assert [Ether(frame)[ARP].op for frame in announcements(V4, MAC)] == [1, 2]


def test_every_arp_frame_claims_the_address_for_the_mac() -> None:
    """Sender and target are the address; switches learn the MAC from the Ethernet source."""
    for frame in announcements(V4, MAC):
        parsed = Ether(frame)
        assert (parsed.src, parsed.dst, parsed.type) == (MAC_TEXT, "ff:ff:ff:ff:ff:ff", 0x0806)
        arp = parsed[ARP]
        assert (arp.hwtype, arp.ptype, arp.hwlen, arp.plen) == (1, 0x0800, 6, 4)
        assert (arp.hwsrc, arp.psrc, arp.pdst) == (MAC_TEXT, str(V4), str(V4))
        assert len(frame) == 42


def test_the_reply_names_the_announced_mac_as_its_target() -> None:
    """The request leaves the target MAC empty, the reply holds the announced one."""
    request, reply = (Ether(frame)[ARP] for frame in announcements(V4, MAC))
    assert request.hwdst == "00:00:00:00:00:00"
    assert reply.hwdst == MAC_TEXT


@pytest.mark.parametrize("router", [False, True])
def test_ipv6_is_announced_by_an_unsolicited_advertisement(router: bool) -> None:
    """It overrides what neighbours remember, carries the MAC, and tells whether this host forwards."""
    (frame,) = announcements(V6, MAC, router=router)
    parsed = Ether(frame)
    assert (parsed.src, parsed.dst, parsed.type) == (MAC_TEXT, "33:33:00:00:00:01", 0x86DD)
    ip = parsed[IPv6]
    assert (ip.version, ip.src, ip.dst, ip.hlim, ip.nh) == (6, str(V6), "ff02::1", 255, 58)
    assert ip.plen == len(frame) - 14 - 40
    advertisement = parsed[ICMPv6ND_NA]
    assert (advertisement.tgt, advertisement.O, advertisement.S, advertisement.R) == (str(V6), 1, 0, int(router))
    assert parsed[ICMPv6NDOptDstLLAddr].lladdr == MAC_TEXT


@pytest.mark.parametrize("address", ["2001:db8::100", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "::2"])
def test_the_checksum_is_what_a_receiver_computes(address: str) -> None:
    """A wrong one would be dropped by every neighbour."""
    (frame,) = announcements(ip_address(address), MAC, router=True)
    sent = Ether(frame)
    again = Ether(frame)
    del again[ICMPv6ND_NA].cksum
    assert Ether(bytes(again))[ICMPv6ND_NA].cksum == sent[ICMPv6ND_NA].cksum
