"""One value of one carp interface changes while 254 others serve on the same parent."""

from pathlib import Path
from typing import Any

import pytest

from lab import crowd
from lab.capture import Capture, is_advertisement
from lab.host import Host
from lab.stage import Stage
from lab.tables import links
from lab.wait import now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
CHANGED = "carp77"
LATE_NS = 2_000 * MS
"""Advertisements leave each second; a peer waits for three of them."""
WATCHED_NS = 2_500 * MS


def packet_sockets(host: Host) -> set[str]:
    """Return the packet sockets of a host by their inodes: what carpd listens and sends with."""
    lines = Path(f"/proc/{host.pid}/net/packet").read_text().splitlines()[1:]
    return {line.split()[-1] for line in lines}


def kernel_objects(host: Host) -> dict[str, Any]:
    """Return each link with its index and MAC, and its addresses as the kernel tells them."""
    shown = {row["ifname"]: row["addr_info"] for row in host.namespace.query("addr show")}
    return {name: (link["ifindex"], link["address"], shown[name]) for name, link in links(host.namespace).items()}


def transitions(host: Host) -> dict[str, int]:
    """Return how often each interface changed its state."""
    return {one["name"]: one["nodes"][0]["transitions"] for one in host.status()["interfaces"]}


def longest_gaps(capture: Capture) -> dict[tuple[int, bytes], int]:
    """Return the longest time between two advertisements of each virtual host, for each family."""
    former: dict[tuple[int, bytes], int] = {}
    gaps: dict[tuple[int, bytes], int] = {}
    for at, frame in capture.stamped(is_advertisement):
        kind = frame[12:14]
        sender = frame[35 if kind == b"\x08\x00" else 55], kind
        if sender in former:
            gaps[sender] = max(gaps.get(sender, 0), at - former[sender])
        former[sender] = at
    return gaps


@pytest.mark.timeout(480)
def test_only_the_changed_one_is_touched(stage: Stage) -> None:
    """A reload and a command line that change one value leave every other link, address, socket and timer as it was."""
    a = crowd.crowd(stage, "a", 0)
    a.start()
    crowd.wait_for_all(a, "MASTER")
    before = kernel_objects(a), transitions(a), packet_sockets(a)
    said, late_before = len(a.log_text()), a.status()["timer_lateness"]["max_ms"]
    with Capture(a.port) as capture:
        a.configure([carp.but(advskew=10) if carp.name == CHANGED else carp for carp in a.carps], **a.global_keys)
        start = now_ns()
        done = a.carp("reload")
        print(f"a reload of {crowd.COUNT} interfaces, one of them changed: {(now_ns() - start) / MS:.0f} ms")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{CHANGED}: advskew 0 -> 10\n", "")
        start = now_ns()
        done = a.carp("ifconfig", CHANGED, "advskew", "20")
        print(f"a command line: {(now_ns() - start) / MS:.0f} ms")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        until(lambda: now_ns() - start > WATCHED_NS, 20, "some advertisements more")
        gaps = longest_gaps(capture)
    late = a.status()["timer_lateness"]["max_ms"]
    print(f"longest gap between two advertisements: {max(gaps.values()) / MS:.0f} ms; timers: {late_before} -> {late} ms late")
    assert a.log_text()[said:].splitlines() == [
        f"carpd: changed: {CHANGED}: advskew 0 -> 10",
        "carpd: configuration reloaded",
        f"carpd: changed: {CHANGED}: advskew 10 -> 20",
    ]
    assert (kernel_objects(a), transitions(a), packet_sockets(a)) == before
    assert a.interface(CHANGED)["nodes"][0]["advskew"] == 20
    assert crowd.states(a) == ["MASTER"] * crowd.COUNT
    assert len(gaps) == 2 * crowd.COUNT
    assert max(gaps.values()) < LATE_NS
    assert late < max(late_before, (LATE_NS - 1_000 * MS) / MS)
