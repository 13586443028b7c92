"""What the benchmark reads from frames."""

import struct
from ipaddress import IPv4Address

from bench import frames
from bench.flood_sender import vrrp_frame
from lab.wire import Forgery

VIP, OTHER = "10.112.1.1", "10.112.1.2"
MAC = bytes.fromhex("02000000000a")


def arp(operation, sender, target):
    """Return an ARP frame with these addresses."""
    ends = MAC + IPv4Address(sender).packed + bytes(6) + IPv4Address(target).packed
    return b"\xff" * 6 + MAC + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends


def carp(**fields):
    """Return an advertisement of CARP in a frame."""
    return Forgery(addresses=(VIP,), **fields).frame()


def test_advertisements_of_both_protocols_are_found():
    """CARP and VRRP of either version count; ARP and other IP do not."""
    seen = [
        (1, carp()),
        (2, vrrp_frame(2, 1, (VIP,), OTHER, MAC)),
        (3, vrrp_frame(3, 1, (VIP,), OTHER, MAC)),
        (4, arp(1, VIP, VIP)),
    ]
    seen.append((5, carp(protocol=17)))
    assert frames.advertisements(seen) == [1, 2, 3]


def test_a_farewell_is_no_advertisement():
    """A bow-out of CARP and a priority of 0 of VRRP say that a MASTER leaves, not that one is there."""
    leaving = bytearray(vrrp_frame(2, 1, (VIP,), OTHER, MAC))
    leaving[14 + 20 + 2] = 0
    assert frames.advertisements([(1, carp(advbase=255, advskew=255)), (2, bytes(leaving))]) == []


def test_advskew_0_is_no_farewell():
    """What is VRRP's priority is CARP's advskew, where 0 is usual."""
    assert frames.advertisements([(1, carp(advskew=0)), (2, carp(advskew=255, advbase=1))]) == [1, 2]


def test_the_first_announcement_counts():
    """An address counts from its first announcement after the instant; others and questions do not count."""
    seen = [
        (1, arp(1, VIP, VIP)),
        (5, arp(1, VIP, OTHER)),
        (6, arp(1, VIP, VIP)),
        (7, arp(2, VIP, VIP)),
        (8, arp(2, OTHER, OTHER)),
    ]
    assert frames.announced(seen, [VIP], since=2) == {VIP: 6}


def test_a_burst_ends_with_a_pause():
    """What is announced again later is no part of the takeover."""
    seen = [(at, arp(1, VIP, VIP)) for at in (1, 10, 12, 13, 50)]
    assert frames.end_of_burst(seen, since=5, quiet_ns=20) == 13
    assert frames.end_of_burst(seen, since=60, quiet_ns=20) is None


def test_answers_are_replies_to_others():
    """A reply to a question is an answer; an announcement in the form of a reply is not."""
    assert frames.answers(
        [(1, arp(2, VIP, OTHER)), (2, arp(2, VIP, VIP)), (3, arp(1, VIP, OTHER)), (4, arp(2, OTHER, VIP))], VIP
    ) == [1]


def test_both_answer_where_one_question_has_two_answers():
    """Answers in turn, to different questions, are not at once."""
    assert frames.both_ns([0, 10, 20], [1, 21, 30], every_ns=10) == 20
    assert frames.both_ns([0, 10, 20], [106, 116], every_ns=10) == 0
    assert frames.both_ns([], [1], every_ns=10) == 0


def test_the_bounds_of_a_pause_count():
    """Silence up to the end is a pause, too, and what lies outside is not looked at."""
    assert frames.longest_pause_ns([5, 10, 12], 8, 40) == 28
    assert frames.longest_pause_ns([], 0, 7) == 7


def test_runs_are_told_apart_by_quiet():
    """Advertisements one interval apart are one takeover."""
    assert frames.runs([1, 2, 3, 50, 51], quiet_ns=10) == 2
    assert frames.runs([], quiet_ns=10) == 0


def test_each_group_has_its_own_last_advertisement():
    """By vhid or VRID; a farewell is none."""
    seen = [
        (1, carp(vhid=7)),
        (2, vrrp_frame(2, 9, (VIP,), OTHER, MAC)),
        (3, carp(vhid=7)),
        (4, carp(vhid=7, advbase=255, advskew=255)),
    ]
    assert frames.last_of_each(seen) == {7: 3, 9: 2}
