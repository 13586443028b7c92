"""The socket filters, run by the kernel on whole frames: one end of a socket pair has the program, the other one sends."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether

from carp.linux import bpf_filter
from carp.linux.announce import announcements
from carp.protocol.values import Address

MAC = bytes.fromhex("00005e000107")
CARP = 112
ADVERTISEMENT = bytes(36)
LAST_INSTRUCTION = 4096


def ethernet(kind: int | None = None) -> Ether:
    """Begin a frame; with both MACs, or the parser's author would ask the LAN for them."""
    macs = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
    return Ether(**macs) if kind is None else Ether(**macs, type=kind)


def ip4(**fields: Any) -> IP:
    """Make an IPv4 header with a source and a destination, which is the group unless another is given."""
    return IP(**{"src": "192.0.2.7", "dst": "224.0.0.18", **fields})


class Filtered:
    """A socket with a filter."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)

    def attach(self, program: bytes) -> "Filtered":
        """Put a program in the place of the former one."""
        bpf_filter.attach(self._receiver, program)
        return self

    def passes(self, frame: object) -> bool:
        """Tell whether a frame comes through."""
        self._sender.setblocking(False)
        self._sender.send(bytes(frame))  # type: ignore[call-overload]
        try:
            self._receiver.recv(4096)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close both ends."""
        self._receiver.close()
        self._sender.close()


@pytest.fixture
def filtered() -> Iterator[Filtered]:
    """Make a pair of sockets."""
    made = Filtered()
    yield made
    made.close()


def many(count: int) -> tuple[list[Address], list[Address]]:
    """Make that many addresses of each family, no two alike in their last four bytes."""
    v4 = [ip_address(0x0A000001 + number) for number in range(count)]
    v6 = [ip_address((0x20010DB8 << 96) + (number << 64) + 0x1000 + number) for number in range(count)]
    return v4, v6


def arp_from(address: Address) -> bytes:
    """Make what a host sends that has this address."""
    return announcements(address, MAC)[0]


@pytest.mark.parametrize(
    "frame",
    [
        ethernet() / ip4(proto=CARP) / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, dst="224.0.0.99", ttl=3) / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, dst="239.255.255.255") / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, flags="MF") / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, frag=100) / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, options=[b"\x94\x04\x00\x00"]) / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", nh=CARP, dst="ff02::12") / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", nh=CARP, dst="ff05::13", hlim=1) / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", dst="ff02::12") / IPv6ExtHdrFragment(nh=CARP, m=1) / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", dst="ff02::12") / IPv6ExtHdrFragment(nh=CARP, offset=10) / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP),
    ],
    ids=["v4", "v4 group", "v4 last", "v4 first", "v4 later", "v4 options", "v6", "v6 group", "v6 first", "v6 later", "empty"],
)
def test_advertisements_and_what_is_wrong_with_them_pass(filtered: Filtered, frame: Ether) -> None:
    """All of protocol 112 that goes to a group goes to the parser, which counts what is wrong with it."""
    assert filtered.attach(bpf_filter.advertisements()).passes(frame)


@pytest.mark.parametrize(
    "frame",
    [
        ethernet() / ip4(proto=CARP, dst="192.0.2.1") / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, dst="223.255.255.255") / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, dst="255.255.255.255") / ADVERTISEMENT,
        ethernet() / ip4(proto=CARP, dst="192.0.2.1", flags="MF") / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", nh=CARP, dst="2001:db8::1") / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", dst="fe80::2") / IPv6ExtHdrFragment(nh=CARP, m=1) / ADVERTISEMENT,
        ethernet() / ip4() / TCP(),
        ethernet() / ip4() / UDP() / ADVERTISEMENT,
        ethernet() / ip4() / ICMP(),
        ethernet() / IPv6(src="fe80::1", dst="ff02::2") / UDP() / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", dst="ff02::2") / IPv6ExtHdrFragment(nh=17, m=1) / ADVERTISEMENT,
        ethernet() / IPv6(src="fe80::1", dst="ff02::1") / ICMPv6ND_NA(),
        ethernet() / ARP(hwsrc="02:00:00:00:00:01", psrc="192.0.2.7"),
        ethernet() / Dot1Q(vlan=5) / ip4(proto=CARP) / ADVERTISEMENT,
        ethernet(kind=0x88CC) / (bytes(9) + bytes((CARP,)) + bytes(40)),
        ethernet(kind=0x0800) / b"",
        bytes(13),
    ],
    ids=[
        *("v4 host", "v4 highest host", "v4 all", "v4 host, first", "v6 host", "v6 host, first", "tcp", "udp", "icmp"),
        *("v6 udp", "v6 udp fragment", "na", "arp", "tag in the frame", "lldp", "header only", "runt"),
    ],
)
def test_nothing_else_is_read(filtered: Filtered, frame: object) -> None:
    """A busy parent does not wake the daemon."""
    assert not filtered.attach(bpf_filter.advertisements()).passes(frame)


def test_a_packet_is_cut_but_not_below_an_advertisement(filtered: Filtered) -> None:
    """What passes is long enough for any advertisement with any header."""
    assert bpf_filter.SNAP_BYTES >= 14 + 60 + 36
    assert filtered.attach(bpf_filter.advertisements()).passes(ethernet() / ip4(proto=CARP) / bytes(1400))


@pytest.mark.parametrize("count", [0, 1, 2, 300, 750])
def test_claims_of_every_watched_address_pass(filtered: Filtered, count: int) -> None:
    """The first, one in the middle and the last of each family, also behind hundreds of others."""
    v4, v6 = many(count)
    filtered.attach(bpf_filter.claims([*v4, *v6]))
    picked = {0, count // 2, count - 1} if count else set()
    for place in picked:
        assert all(filtered.passes(frame) for frame in announcements(v4[place], MAC))


@pytest.mark.parametrize("count", [1, 2, 300, 750])
@pytest.mark.parametrize("with_ipv4", [False, True])
def test_claims_of_every_watched_ipv6_address_pass(filtered: Filtered, count: int, with_ipv4: bool) -> None:
    """A neighbour advertisement is heard wherever its target stands in the list."""
    v4, v6 = many(count)
    filtered.attach(bpf_filter.claims([*(v4 if with_ipv4 else ()), *v6]))
    for place in {0, count // 2, count - 1}:
        (frame,) = announcements(v6[place], MAC)
        assert filtered.passes(frame), v6[place]
        assert filtered.passes(announcements(v6[place], MAC, router=True)[0])


@pytest.mark.parametrize("family", [4, 6])
def test_as_many_addresses_as_a_parent_can_have(filtered: Filtered, family: int) -> None:
    """1500 addresses of one family are watched, and one more does not make the kernel refuse the program."""
    watched = many(bpf_filter.MOST_ADDRESSES + 1)[0 if family == 4 else 1]
    program = bpf_filter.claims(watched)
    assert len(program) // 8 <= LAST_INSTRUCTION
    filtered.attach(program)
    assert filtered.passes(announcements(watched[0], MAC)[0])
    assert filtered.passes(announcements(watched[bpf_filter.MOST_ADDRESSES - 1], MAC)[0])


@pytest.mark.parametrize("count", [0, 1, 300, 750, 1500])
def test_nothing_but_claims_of_watched_addresses_passes(filtered: Filtered, count: int) -> None:
    """Not the LAN's other ARP, questions about our addresses, other neighbour messages, nor traffic."""
    v4, v6 = many(count)
    filtered.attach(bpf_filter.claims([*v4, *v6]))
    asked4, asked6 = (v4[0], v6[0]) if count else (ip_address("10.0.0.1"), ip_address("2001:db8::1000"))
    refused = {
        "another host's ARP": arp_from(ip_address("172.16.0.1")),
        "a question about ours": ethernet() / ARP(hwsrc="02:00:00:00:00:01", psrc="172.16.0.1", pdst=str(asked4)),
        "an ARP probe of ours": ethernet() / ARP(hwsrc="02:00:00:00:00:01", psrc="0.0.0.0", pdst=str(asked4)),
        "another host's NA": announcements(ip_address("2001:db8::ffff:1"), MAC)[0],
        "a solicitation of ours": ethernet() / IPv6(src="fe80::1", dst="fe80::2") / ICMPv6ND_NS(tgt=str(asked6)),
        "IPv4 traffic of ours": ethernet() / ip4(src=str(asked4)) / UDP() / bytes(60),
        "IPv6 traffic of ours": ethernet() / IPv6(src=str(asked6), dst="fe80::2") / UDP() / bytes(60),
        "an advertisement": ethernet() / ip4(proto=CARP) / ADVERTISEMENT,
        "another protocol": ethernet(kind=0x88CC) / bytes(80),
        "a truncated ARP": arp_from(asked4)[:28],
        "a truncated NA": announcements(asked6, MAC)[0][:70],
        "a runt": bytes(13),
    }
    if not count:
        refused |= {"ARP with nothing watched": arp_from(asked4), "NA with nothing watched": announcements(asked6, MAC)[0]}
    assert [what for what, frame in refused.items() if filtered.passes(frame)] == []


def test_the_answer_to_a_question_is_a_claim(filtered: Filtered) -> None:
    """A host that answers for our address claims it, and so does one that only asks with it as the sender."""
    filtered.attach(bpf_filter.claims([ip_address("10.0.0.1"), ip_address("2001:db8::1")]))
    assert filtered.passes(ethernet() / ARP(op=2, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="172.16.0.1"))
    assert filtered.passes(ethernet() / ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="172.16.0.1"))


def test_a_solicited_advertisement_is_a_claim(filtered: Filtered) -> None:
    """A host that answers for our IPv6 address claims it, from whatever source."""
    filtered.attach(bpf_filter.claims([ip_address("10.0.0.1"), ip_address("2001:db8::1")]))
    answer = ICMPv6ND_NA(tgt="2001:db8::1", S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:01")
    assert filtered.passes(ethernet() / IPv6(src="fe80::1", dst="fe80::2") / answer)


def test_an_address_given_twice_is_watched_once() -> None:
    """Two carp interfaces of one list do not use up the places of others."""
    one = ip_address("10.0.0.1")
    assert bpf_filter.claims([one, one]) == bpf_filter.claims([one])


def test_no_jump_leaves_its_program() -> None:
    """Every jump of every program lands inside it, and every program ends with a verdict."""
    v4, v6 = many(300)
    for program in (bpf_filter.advertisements(), bpf_filter.claims(()), bpf_filter.claims([*v4, *v6])):
        instructions = list(struct.iter_unpack("=HBBI", program))
        for place, (code, equal, unequal, operand) in enumerate(instructions):
            if code == 0x15:
                assert place + 1 + max(equal, unequal) < len(instructions)
            elif code == 0x05:
                assert place + 1 + operand < len(instructions)
        assert instructions[-1][0] == 0x06
