"""Two owners that can be seen are shown: another MASTER that is heard, another host that claims an address."""

import socket
import struct
from ipaddress import ip_address
from typing import Any

import pytest

from lab.capture import Capture, packet_socket
from lab.faults import Direction, Traffic
from lab.host import Host
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, patience_s, settle, transitions, wait_settled
from lab.ping import ping
from lab.stage import SHARED, Stage, bare
from lab.wait import holds_for, now_ns, until
from lab.wire import checksum

pytestmark = pytest.mark.usefixtures("carpd")

VIP4, VIP6 = bare(SHARED)
DEFENCE_S = 10.0
MS = 1_000_000


def node(host: Host) -> dict[str, Any]:
    """Return the status of the only virtual host."""
    return dict(host.interface()["nodes"][0])


def own_sources(host: Host) -> set[str]:
    """Return the addresses that a host's advertisements may come from."""
    rows = host.namespace.query("addr show dev eth0")
    return {entry["local"] for row in rows for entry in row.get("addr_info", [])}


def test_a_healed_split_shows_who_stayed(stage: Stage) -> None:
    """Two MASTERs that hear each other after a heal: the stayer shows its rival and says once that it stays; so the other.

    The stayer's advertisements are held back for a while, so that it is the first to hear.
    """
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    assert (node(a)["rival"], node(b)["rival"]) == (None, None)
    stage.lan.partition(b.port)
    b.wait_for_state("MASTER", patience_s(QUICK))
    # What is still on its way right after a takeover is no rival.
    assert holds_for(lambda: a.state_of() == b.state_of() == "MASTER", 0.5)
    a.port.block(Traffic.ADVERTISEMENTS, [Direction.FROM_HOST])
    healed = now_ns()
    stage.lan.rejoin()
    until(lambda: node(a)["rival"], SLACK_S, "the rival to be shown")
    assert holds_for(lambda: a.state_of() == b.state_of() == "MASTER", 0.5)
    rival = node(a)["rival"]
    assert rival["this_host_stayed"] is True
    assert rival["source"] in own_sources(b)
    assert 0 <= rival["heard_s_ago"] <= (now_ns() - healed) / 1e9
    assert a.interface()["statistics"]["rivals_heard"] >= 1
    lines = [line for line in a.log_text().splitlines() if "another host is MASTER too" in line]
    assert len(lines) == 1
    assert "this host stays" in lines[0]
    a.port.unblock()
    wait_settled(QUICK, a, b)
    # Who yields says so by its transition.
    yielded = node(b)["rival"]
    assert yielded["this_host_stayed"] is False
    assert yielded["source"] in own_sources(a)
    assert "MASTER -> BACKUP" in b.log_text()


def gratuitous_arp(mac: bytes, address: str, operation: int) -> bytes:
    """Make an ARP frame that claims an address: a request (1) or an answer (2) that nobody asked for."""
    packed = ip_address(address).packed
    target = bytes(6) if operation == 1 else b"\xff" * 6
    head = bytes.fromhex("000108000604") + struct.pack("!H", operation)
    return b"\xff" * 6 + mac + b"\x08\x06" + head + mac + packed + target + packed


def neighbour_advertisement(mac: bytes, address: str) -> bytes:
    """Make an unsolicited neighbour advertisement that claims an address, overriding."""
    source, group = ip_address("fe80::66").packed, ip_address("ff02::1").packed
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + ip_address(address).packed + b"\x02\x01" + mac
    total = checksum(source + group + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), socket.IPPROTO_ICMPV6, 255)
    return b"\x33\x33\x00\x00\x00\x01" + mac + b"\x86\xdd" + head + source + group + body


def is_gratuitous(frame: bytes) -> bool:
    """Tell a host's own announcement of the shared IPv4 address."""
    return frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == ip_address(VIP4).packed


def is_unsolicited(frame: bytes) -> bool:
    """Tell a host's own announcement of the shared IPv6 address to all nodes."""
    return frame[12:14] == b"\x86\xdd" and frame[54] == 136 and frame[62:78] == ip_address(VIP6).packed and frame[0] == 0x33


@pytest.mark.parametrize("way", ["ARP request", "ARP answer", "neighbour advertisement"])
def test_a_claim_is_shown_logged_and_defended_rarely(stage: Stage, way: str) -> None:
    """A foreign host that claims an address again and again is shown with its MAC; one line, one defence in ten seconds."""
    a, b = make_pair(stage, USUAL)
    intruder = stage.port("c")
    mac = bytes.fromhex(intruder.mac.replace(":", ""))
    settle(USUAL, a, b)
    assert a.interface()["claim"] is None
    address = VIP6 if way == "neighbour advertisement" else VIP4
    frame = neighbour_advertisement(mac, VIP6) if address == VIP6 else gratuitous_arp(mac, VIP4, 1 if "request" in way else 2)
    is_defence = is_unsolicited if address == VIP6 else is_gratuitous
    # Announcements go on for a moment after a takeover; a claim right then would be a straggler's.
    until(lambda: node(a)["for_s"] > 2.5, SLACK_S, "the first announcements to be over")
    before = transitions(a), transitions(b)
    heard = a.interface()["statistics"]["claims_heard"]
    with Capture(a.port) as capture, packet_socket(intruder) as raw:
        capture.frames()
        begin = now_ns()
        for _ in range(20):
            raw.send(frame)
        a.wait_for(lambda status: status["interfaces"][0]["claim"], SLACK_S, "the claim to be shown")
        until(lambda: raw.send(frame) and now_ns() - begin > 3 * 10**9, SLACK_S, "three seconds of claims", 0.1)
        assert now_ns() - begin < DEFENCE_S * 1e9, "too slow a machine"
        announced = [at for at, _ in capture.stamped(is_defence)]
    claim = a.interface()["claim"]
    assert (claim["address"], claim["mac"]) == (address, intruder.mac)
    assert 0 <= claim["heard_s_ago"] < (now_ns() - begin) / 1e9
    assert a.interface()["statistics"]["claims_heard"] - heard >= 40
    lines = [line for line in a.log_text().splitlines() if "another host claims an address" in line]
    assert len(lines) == 1
    assert address in lines[0]
    assert intruder.mac in lines[0]
    # A defence is one announcement, a frame or two at one moment.
    assert 1 <= len(announced) <= 2
    assert announced[-1] - announced[0] < 500 * MS, "more than one defence in three seconds"
    # Who is BACKUP has nothing to defend, and nobody's state depends on it.
    assert b.interface()["claim"] is None
    assert (transitions(a), transitions(b)) == before


def test_a_host_that_sets_the_address_by_hand_is_shown(stage: Stage) -> None:
    """A third host whose admin has set the shared addresses speaks as one of them: the MASTER shows it and stays MASTER."""
    a = make_pair(stage, USUAL)[0]
    intruder = stage.port("c")
    settle(USUAL, a)
    until(lambda: node(a)["for_s"] > 0.5, SLACK_S, "the takeover to be over")
    intruder.namespace.ip(*(f"addr add {address} dev eth0 nodad" for address in SHARED))
    # Whoever speaks as an address asks for its peer's MAC as that address.
    ping(intruder.namespace, "192.0.2.9", source=VIP4)
    a.wait_for(lambda status: status["interfaces"][0]["claim"], SLACK_S, "the claim to be shown")
    claim = a.interface()["claim"]
    assert claim["mac"] == intruder.mac
    assert claim["address"] == VIP4
    assert a.state_of() == "MASTER"
