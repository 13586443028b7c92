"""Packets that are wrong, from a third host: each is counted once and touches nothing else."""

import os
from dataclasses import replace

import pytest

from lab.capture import Capture, is_advertisement, packet_socket
from lab.host import Host
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, settle, transitions
from lab.stage import Stage
from lab.wait import holds_for, until
from lab.wire import Forgery, inject

pytestmark = pytest.mark.usefixtures("carpd")

# Better than everybody, so that taking it seriously would show.
GOOD = Forgery(advbase=0, advskew=0)
GOOD6 = replace(GOOD, source="2001:db8::66")
VRRP = bytes.fromhex("31 01 64 02 00 01 0000 c0000264 c0000265".replace(" ", ""))
COPIES = 5

WRONG = {
    "truncated": ([replace(GOOD, payload=GOOD.header()[:20]).frame()], "too-short"),
    "truncated, IPv6": ([replace(GOOD6, payload=GOOD6.header()[:35]).frame()], "too-short"),
    "corrupted": ([replace(GOOD, spoil_checksum=True).frame()], "bad-checksum"),
    "corrupted, IPv6": ([replace(GOOD6, spoil_checksum=True).frame()], "bad-checksum"),
    "wrong version": ([replace(GOOD, version=3).frame()], "bad-version"),
    "wrong TTL": ([replace(GOOD, ttl=254).frame()], "bad-ttl"),
    "wrong hop limit": ([replace(GOOD6, ttl=64).frame()], "bad-ttl"),
    "wrong vhid": ([replace(GOOD, vhid=77).frame(source_mac=bytes.fromhex("00005e000101"))], "bad-vhid"),
    "wrong digest": ([replace(GOOD, spoil_digest=True).frame()], "bad-digest"),
    "wrong pass phrase": ([replace(GOOD6, password="guessed").frame()], "bad-digest"),
    "wrong addresses": ([replace(GOOD, addresses=("192.0.2.100",)).frame()], "bad-digest"),
    "fragmented": ([replace(GOOD, fragment=0x2000).frame()], "fragment"),
    "VLAN-tagged": ([GOOD.frame(vlan=5)], "vlan-tagged"),
    "VLAN-tagged, priority only": ([GOOD.frame(vlan=0)], "vlan-tagged"),
    "VRRP": ([replace(GOOD, payload=VRRP).frame()], "foreign-vrrp"),
    "to an unknown group": ([replace(GOOD, destination="224.0.0.99").frame()], "bad-destination"),
    "random": ([replace(GOOD, payload=b"\x00" * 7 + bytes(range(60))).frame()], "bad-checksum"),
}


def dropped(host: Host) -> dict[str, int]:
    """Return all counters of dropped packets, of the host and of its interfaces together."""
    status = host.status()
    counts: dict[str, int] = {}
    for statistics in (status["statistics"], *(interface["statistics"] for interface in status["interfaces"])):
        for reason, count in statistics["dropped"].items():
            counts[reason] = max(count, counts.get(reason, 0))
    return counts


@pytest.mark.parametrize(("frames", "reason"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_packet_is_counted_once_and_touches_nothing(stage: Stage, frames: list[bytes], reason: str) -> None:
    """One counter for each, and a MASTER stays MASTER."""
    a = make_pair(stage)[0]
    stage.port("x")
    settle(QUICK, a)
    before, changes = dropped(a), transitions(a)
    with packet_socket(stage.port("x")) as raw:
        inject(raw, frames * COPIES)
        # A packet that is certainly counted, last: when it shows, the others have been read.
        inject(raw, [replace(GOOD, spoil_digest=True).frame()])
    until(lambda: dropped(a).get("bad-digest", 0) > before.get("bad-digest", 0), SLACK_S, "the last packet to be counted")
    gained = {key: count - before.get(key, 0) for key, count in dropped(a).items() if count > before.get(key, 0)}
    gained["bad-digest"] -= 1
    counted = {key: count for key, count in gained.items() if count}
    assert counted == {reason: COPIES}
    assert a.state_of() == "MASTER"
    assert transitions(a) == changes
    assert "Traceback" not in a.log_text()


def test_wrong_packets_do_not_keep_a_backup_waiting(stage: Stage) -> None:
    """A flood of refused advertisements postpones no takeover: the BACKUP alone on its LAN becomes MASTER in time."""
    a = make_pair(stage, USUAL)[0]
    x = stage.port("x")
    a.start()
    listening = a.wait_until_listening()
    frames = [frame for frames, _ in WRONG.values() for frame in frames]
    with packet_socket(x) as raw:

        def master_under_fire() -> bool:
            inject(raw, frames)
            return a.state_of() == "MASTER"

        became = until(master_under_fire, 3.0 + SLACK_S, "MASTER", every_s=0.02)
    assert became - listening < 3_600_000_000


def test_a_flood_fills_neither_log_nor_processor(stage: Stage) -> None:
    """Thousands of wrong packets leave few lines, and the daemon answers meanwhile."""
    a, b = make_pair(stage, USUAL)
    x = stage.port("x")
    settle(USUAL, a, b)
    changes = transitions(a) + transitions(b)
    lines = len(a.log_text().splitlines())
    with packet_socket(x) as raw:
        for _ in range(100):
            inject(raw, [replace(GOOD, password=os.urandom(4).hex()).frame() for _ in range(20)])
            assert a.state_of() == "MASTER"
    until(lambda: dropped(a).get("bad-digest", 0) >= 1000, SLACK_S, "the flood to be counted")
    assert len(a.log_text().splitlines()) - lines < 100
    assert holds_for(lambda: (a.state_of(), b.state_of()) == ("MASTER", "BACKUP"), 1.0)
    assert transitions(a) + transitions(b) == changes


def test_an_authentic_better_advertisement_is_obeyed(stage: Stage) -> None:
    """The counter-proof: the same packet without a fault makes the MASTER yield."""
    a = make_pair(stage, USUAL)[0]
    x = stage.port("x")
    settle(USUAL, a)
    with packet_socket(x) as raw:
        inject(raw, [replace(GOOD, advbase=0, advskew=1).frame()])
        a.wait_for_state("BACKUP", SLACK_S)


def test_an_own_advertisement_that_comes_back_is_an_echo(stage: Stage) -> None:
    """A network that reflects frames makes no MASTER yield; it is counted and told."""
    a = make_pair(stage)[0]
    x = stage.port("x")
    settle(QUICK, a)
    changes = transitions(a)
    with Capture(x, inside=True) as capture, packet_socket(x) as raw:
        for _ in range(3):
            frames: list[bytes] = []
            until(lambda frames=frames: frames.extend(capture.frames(is_advertisement)) or frames, SLACK_S, "advertisements")
            inject(raw, frames)
    until(lambda: dropped(a).get("echo", 0) >= 3, SLACK_S, "echoes to be counted")
    assert a.state_of() == "MASTER"
    assert transitions(a) == changes
