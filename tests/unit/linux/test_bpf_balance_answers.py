"""Who asks for a balanced address by ARP or neighbour discovery is answered by the programs and never by the kernel."""

import random
from ipaddress import ip_address

import pytest
from bpf_balance_kit import (
    AWAY4,
    AWAY6,
    CLIENT4,
    CLIENT6,
    CLIENT_MAC,
    DROP,
    FIRST_SLOT,
    ICMPV6,
    IN,
    OUT,
    PARENT_MAC,
    PASS,
    PLAIN4,
    PLAIN6,
    PRIORITY_TAG,
    REDIRECT,
    SHARED_MAC,
    VIP4,
    VIP6,
    Balanced,
    arp,
    arp_frame,
    balanced,
    ethernet,
    ipv6,
    link_layer,
    loaded,
    neighbour,
    solicitation,
)
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

from carp.linux.bpf.balancer import Decision

__all__ = ["balanced", "loaded"]

ALL_NODES = "ff02::1"
REQUEST = arp_frame(CLIENT_MAC, CLIENT4, VIP4)
BOTH = [pytest.param(REQUEST, id="ARP"), pytest.param(solicitation(), id="ND")]
NONCE = bytes((14, 1)) + b"nonce!"


def advertisement(
    destination: str, *, mac: bytes = SHARED_MAC, source: bytes = PARENT_MAC, to: bytes = CLIENT_MAC, **flags: int
) -> bytes:
    """Build the answer that is expected, by another implementation."""
    message = ICMPv6ND_NA(tgt=VIP6, **{"R": 0, "S": 1, "O": 1, **flags}) / ICMPv6NDOptDstLLAddr(lladdr=mac.hex(":"))
    return bytes(Ether(dst=to.hex(":"), src=source.hex(":")) / IPv6(src=VIP6, dst=destination, hlim=255) / message)


@pytest.mark.parametrize("padding", [b"", bytes(18)], ids=["bare", "padded"])
@pytest.mark.parametrize("to", [b"\xff" * 6, SHARED_MAC, PARENT_MAC], ids=["broadcast", "shared", "parent"])
def test_the_leader_answers_arp_with_the_shared_mac(balanced: Balanced, to: bytes, padding: bytes) -> None:
    """The answer comes from the reply MAC, so that no switch learns the shared one; it passes on its way out."""
    balanced.put().open(0)
    done = balanced.run(IN, arp_frame(CLIENT_MAC, CLIENT4, VIP4, to=to) + padding)
    reply = arp(SHARED_MAC, VIP4, CLIENT4, operation=2)
    expected = CLIENT_MAC + PARENT_MAC + b"\x08\x06" + reply[:18] + CLIENT_MAC + reply[24:] + padding
    assert (done.verdict, done.packet) == (REDIRECT, expected)
    assert balanced.verdict(OUT, done.packet) == PASS


@pytest.mark.parametrize("to", [None, SHARED_MAC, PARENT_MAC], ids=["group", "shared", "parent"])
@pytest.mark.parametrize("options", [link_layer(1, CLIENT_MAC), NONCE + link_layer(1, CLIENT_MAC), NONCE, b""])
def test_the_leader_answers_a_solicitation_with_the_shared_mac(balanced: Balanced, to: bytes | None, options: bytes) -> None:
    """Solicited and overriding, to the asker, also to one that says nothing of its MAC; it passes on its way out."""
    balanced.put().open(0)
    frame = solicitation(options=options)
    done = balanced.run(IN, (to or frame[:6]) + frame[6:])
    assert (done.verdict, done.packet) == (REDIRECT, advertisement(CLIENT6))
    assert balanced.verdict(OUT, done.packet) == PASS


def test_the_answer_goes_to_the_mac_that_the_asker_gave(balanced: Balanced) -> None:
    """And not to the one that the frame came from, if they differ."""
    given = bytes.fromhex("0200000000aa")
    done = balanced.put().open(0).run(IN, solicitation(options=link_layer(1, given)))
    assert done.packet == advertisement(CLIENT6, to=given)


def test_a_router_says_so(balanced: Balanced) -> None:
    """The flag in the answer follows the balance."""
    assert balanced.put(router=True).open(0).run(IN, solicitation()).packet == advertisement(CLIENT6, R=1)


@pytest.mark.parametrize("options", [b"", NONCE], ids=["bare", "nonce"])
def test_a_thief_hears_that_the_address_is_taken(balanced: Balanced, options: bytes) -> None:
    """Who looks for duplicates has no address yet: the answer goes to all nodes, unsolicited, by its MAC."""
    done = balanced.put().open(0).run(IN, solicitation(source="::", options=options))
    assert (done.verdict, done.packet) == (REDIRECT, advertisement(ALL_NODES, S=0))
    assert balanced.verdict(OUT, done.packet) == PASS


def test_a_prober_by_arp_hears_that_the_address_is_taken(balanced: Balanced) -> None:
    """It asks from 0.0.0.0 and is answered there."""
    done = balanced.put().open(0).run(IN, arp_frame(CLIENT_MAC, "0.0.0.0", VIP4))
    assert done.verdict == REDIRECT
    assert done.packet[38:42] == bytes(4)


def test_the_checksum_is_right_for_any_addresses(balanced: Balanced) -> None:
    """Against another implementation, for random askers and targets."""
    source = random.Random(136)
    for _ in range(200):
        asker, target = (str(ip_address(b"\x20" + source.randbytes(15))) for _ in range(2))
        balanced.put(addresses=(ip_address(target),)).open(0)
        done = balanced.run(IN, solicitation(target, source=asker))
        parsed = Ether(done.packet)
        given = parsed[ICMPv6ND_NA].cksum
        del parsed[ICMPv6ND_NA].cksum
        assert (parsed[ICMPv6ND_NA].tgt, Ether(bytes(parsed))[ICMPv6ND_NA].cksum) == (target, given)


@pytest.mark.parametrize("frame", BOTH)
def test_only_the_host_whose_leader_is_open_answers(balanced: Balanced, frame: bytes) -> None:
    """Whatever other nodes it has: without node 0, or past its deadline, it is silent, and so is its kernel."""
    balanced.put().open(1, 2, 3)
    assert balanced.verdict(IN, frame) == DROP
    balanced.open(0, 1)
    balanced.deadline(FIRST_SLOT, -1)
    assert balanced.verdict(IN, frame) == DROP


GROUP_MAC = bytes.fromhex("010000000009")
SILENCE = {
    "gratuitous ARP": arp_frame(CLIENT_MAC, VIP4, VIP4),
    "ARP of a group": arp_frame(GROUP_MAC, CLIENT4, VIP4),
    "ARP of nobody": arp_frame(bytes(6), CLIENT4, VIP4),
    "ARP of other hardware": arp_frame(CLIENT_MAC, CLIENT4, VIP4, kind=(6, 0x0800, 6, 4)),
    "ARP with a tag in the frame": ethernet(0x0806, arp(CLIENT_MAC, CLIENT4, VIP4), b"\xff" * 6, tags=PRIORITY_TAG),
    "hop limit": solicitation(hop_limit=254),
    "code": solicitation(code=1),
    "NS from a group": solicitation(source="ff02::5"),
    "NS of a group MAC": solicitation(options=link_layer(1, GROUP_MAC)),
    "NS of no MAC": solicitation(options=link_layer(1, bytes(6))),
    "NS from a group MAC": ethernet(0x86DD, ipv6(CLIENT6, VIP6, ICMPV6, neighbour(135, VIP6)), source=GROUP_MAC),
    "probe with a MAC": solicitation(source="::"),
    "option of no length": solicitation(options=bytes((1, 0)) + CLIENT_MAC),
    "option that is cut short": solicitation(options=link_layer(1, CLIENT_MAC)[:7]),
    "option behind the message": solicitation()[:18] + b"\0\x1c" + solicitation()[20:],
    "option of a wrong length": solicitation(options=bytes((1, 2)) + CLIENT_MAC + bytes(8)),
    "too many options": solicitation(options=NONCE * 9),
    "packet shorter than it says": solicitation(options=NONCE)[:-1],
    "message without room for its target": solicitation()[:18] + b"\0\x10" + solicitation()[20:],
    "NS with a tag in the frame": ethernet(0x86DD, ipv6(CLIENT6, VIP6, ICMPV6, neighbour(135, VIP6)), tags=PRIORITY_TAG),
}


@pytest.mark.parametrize("frame", SILENCE.values(), ids=SILENCE)
@pytest.mark.parametrize("decision", Decision)
def test_what_is_no_proper_question_is_dropped(balanced: Balanced, decision: Decision, frame: bytes) -> None:
    """The kernel does not see it either: it would answer with the parent's MAC."""
    assert balanced.put(decision).all_but().verdict(IN, frame) == DROP


OTHERS = {
    "ARP for another address": arp_frame(CLIENT_MAC, CLIENT4, AWAY4),
    "ARP reply": arp_frame(CLIENT_MAC, CLIENT4, VIP4, operation=2),
    "ARP reply to the shared MAC": arp_frame(CLIENT_MAC, CLIENT4, VIP4, operation=2, to=SHARED_MAC),
    "another host's claim": arp_frame(CLIENT_MAC, VIP4, VIP4, operation=2),
    "ARP of another protocol": arp_frame(CLIENT_MAC, CLIENT4, VIP4, kind=(1, 0x0806, 6, 4)),
    "ARP of another MAC length": arp_frame(CLIENT_MAC, CLIENT4, VIP4, kind=(1, 0x0800, 8, 4)),
    "ARP of another address length": arp_frame(CLIENT_MAC, CLIENT4, VIP4, kind=(1, 0x0800, 6, 16)),
    "ARP for a plain virtual address": arp_frame(CLIENT_MAC, CLIENT4, PLAIN4),
    "NS for a plain virtual address": solicitation(PLAIN6),
    "ARP that is cut short": REQUEST[:41],
    "NS for another address": solicitation(AWAY6),
    "NA": ethernet(0x86DD, ipv6(CLIENT6, ALL_NODES, ICMPV6, neighbour(136, VIP6)), bytes.fromhex("333300000001")),
    "NS that is cut short": solicitation(options=b"")[:-1],
    "ARP on another VLAN": ethernet(0x0806, arp(CLIENT_MAC, CLIENT4, VIP4), tags=((0x8100, 7),)),
}


@pytest.mark.parametrize("frame", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("mask", [0, 0xF])
def test_other_arp_and_discovery_is_the_kernels(balanced: Balanced, frame: bytes, mask: int) -> None:
    """It passes, whoever is open."""
    balanced.put()
    balanced.balancer.set_mask(7, mask)
    assert balanced.verdict(IN, frame) == PASS


@pytest.mark.parametrize("frame", BOTH)
def test_without_a_balance_the_kernel_answers(balanced: Balanced, frame: bytes) -> None:
    """Once it is removed, questions pass."""
    balanced.put().open(0)
    balanced.balancer.remove(7)
    assert balanced.verdict(IN, frame) == PASS
