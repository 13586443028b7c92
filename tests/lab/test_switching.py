"""What clients, switches and BACKUPs see of the virtual MAC address."""

from collections.abc import Callable

import pytest

from lab.capture import Capture, is_advertisement, packet_socket, source_mac
from lab.measure import both_answered, lost, owners
from lab.pairs import QUICK, SLACK_S, USUAL, check_caches, make_pair, settle, virtual_mac, wait_settled
from lab.ping import ping
from lab.stage import SHARED, Stage, bare
from lab.tables import neighbours
from lab.wait import holds_for, now_ns, until
from lab.wire import Forgery, inject

pytestmark = pytest.mark.usefixtures("carpd")

VMAC = virtual_mac(1)
VMAC_BYTES = bytes.fromhex(VMAC.replace(":", ""))


@pytest.mark.parametrize("snooping", [True, False], ids=["snooping", "no snooping"])
def test_caches_point_to_the_master_after_every_takeover(build_stage: Callable[..., Stage], snooping: bool) -> None:
    """First start, clean stop, return, silent cut: after 100 packets in each direction every cache is right."""
    stage = build_stage(snooping=snooping, querier=snooping)
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    check_caches(stage, a)
    a.stop()
    b.wait_for_state("MASTER", SLACK_S)
    check_caches(stage, b)
    settle(QUICK, a, b)
    check_caches(stage, a)
    a.port.block()
    b.wait_for_state("MASTER", SLACK_S)
    check_caches(stage, b)
    a.port.unblock()
    wait_settled(QUICK, a, b)
    check_caches(stage, a)


def test_a_takeover_corrects_what_the_client_has_just_learned(stage: Stage) -> None:
    """The announcement counts within the second in which the client learned otherwise, with no packet from the client."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    for address in bare(SHARED):
        assert ping(stage.client.namespace, address) == 1
    a.stop()
    b.wait_for_state("MASTER", SLACK_S)
    assert stage.lan.port_of(VMAC) == "b"
    known = neighbours(stage.client.namespace)
    assert [known[address].mac for address in bare(SHARED)] == [VMAC, VMAC]


def test_a_backup_reaches_the_shared_addresses(stage: Stage) -> None:
    """For a BACKUP the addresses are somebody else's, as for any client; its own addresses stay its own."""
    a, b = make_pair(stage)
    assert stage.client.carrier()
    settle(QUICK, a, b)
    for address in bare(SHARED):
        assert ping(b.namespace, address, count=100) == 100
        assert neighbours(b.namespace)[address].mac == VMAC
    for target in ("192.0.2.1", "2001:db8::1", "192.0.2.9", "2001:db8::9"):
        assert ping(b.namespace, target, count=20) == 20
    # The MASTER in turn reaches the BACKUP.
    for target in ("192.0.2.2", "2001:db8::2"):
        assert ping(a.namespace, target, count=20) == 20


def test_on_a_hub_the_backup_is_silent(build_stage: Callable[..., Stage]) -> None:
    """Where every frame reaches every host, one host answers, and no frame from the virtual MAC leaves the BACKUP."""
    stage = build_stage(flooding=True)
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    with Capture(b.port) as from_backup:
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            prober.wait_for_time(1.5)
            traces = prober.stop()
        for address in bare(SHARED):
            assert ping(stage.client.namespace, address, count=100) == 100
        left = from_backup.frames(lambda frame: source_mac(frame) == VMAC)
    assert left == []
    for trace in traces.values():
        assert lost(trace) == 0
        assert both_answered(trace) == 0
        assert owners(trace, trace.start, trace.end) == ["a"]


def test_on_a_hub_only_the_master_forwards(build_stage: Callable[..., Stage]) -> None:
    """Two routers share a gateway address: of frames to the virtual MAC for elsewhere the BACKUP forwards none."""
    stage = build_stage(flooding=True)
    a, b = make_pair(stage)
    for host in (a, b):
        host.namespace.sysctl("ipv4/ip_forward", 1)
        host.namespace.sysctl("ipv6/conf/all/forwarding", 1)
        host.namespace.ip("route add 203.0.113.0/24 via 192.0.2.3", "route add 2001:db8:ffff::/64 via 2001:db8::3")
    beyond = stage.port("c")
    settle(QUICK, a, b)
    beyond.namespace.ip("addr add 203.0.113.1/32 dev lo", "addr add 2001:db8:ffff::1/128 dev lo")
    stage.client.namespace.ip(
        f"route add 203.0.113.0/24 via {bare(SHARED)[0]}", f"route add 2001:db8:ffff::/64 via {bare(SHARED)[1]}"
    )
    with Capture(a.port) as from_master, Capture(b.port) as from_backup:
        for target in ("203.0.113.1", "2001:db8:ffff::1"):
            # The answers come straight from beyond, which knows the client.
            assert ping(stage.client.namespace, target, count=50) == 50
        target4, target6 = bytes((203, 0, 113, 1)), bytes.fromhex("20010db8ffff00000000000000000001")

        def forwarded(frame: bytes) -> bool:
            return frame[30:34] == target4 or frame[38:54] == target6

        assert len(from_master.frames(forwarded)) >= 100
        assert from_backup.frames(forwarded) == []


def test_a_backup_ignores_frames_made_for_the_virtual_mac(stage: Stage) -> None:
    """Frames to the virtual MAC that reach a BACKUP all the same get no answer of any kind."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    with Capture(b.port) as from_backup, packet_socket(stage.client) as raw:
        client_mac = bytes.fromhex(stage.client.mac.replace(":", ""))
        from_backup.frames()
        # An ARP request sent to the virtual MAC itself; the switch is made to send it to b by a static entry.
        stage.lan.switch.run("bridge", "fdb", "replace", VMAC, "dev", b.port.switch_port, "master", "static", "sticky")
        request = bytes.fromhex("0806" + "0001" + "0800" + "0604" + "0001")
        payload = client_mac + bytes((192, 0, 2, 9)) + bytes(6) + bytes((192, 0, 2, 100))
        for _attempt in range(20):
            raw.send(VMAC_BYTES + client_mac + request + payload)
        assert ping(stage.client.namespace, bare(SHARED)[0], count=20, patience_s=0.2) == 0
        answers = from_backup.frames(lambda frame: source_mac(frame) == VMAC or frame[0:6] == client_mac)
    assert answers == []


def test_after_a_release_nothing_leaves_from_the_virtual_mac(build_stage: Callable[..., Stage]) -> None:
    """One late frame would pull the virtual MAC to the wrong switch port until the MASTER's next advertisement."""
    stage = build_stage(querier=True)
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    late = []
    for _ in range(3):
        for loser, winner in ((a, b), (b, a)):
            with Capture(loser.port) as capture:
                if loser is a:
                    a.stop()
                else:
                    a.start()
                winner.wait_for_state("MASTER", SLACK_S)
                with stage.prober() as prober:
                    prober.wait_for_owner(winner.label, SLACK_S)
                    prober.wait_for_time(0.5)
                sent = capture.frames(lambda frame: source_mac(frame) == VMAC)
            # What a MASTER sends until it gives up is its right; afterwards only silence is.
            last = max((number for number, frame in enumerate(sent) if is_advertisement(frame)), default=-1)
            late += [frame.hex() for frame in sent[last + 1 :]]
    assert late == []


def test_a_rivals_last_frame_does_not_keep_the_switch_wrong(stage: Stage) -> None:
    """A rival sends for one family, is answered, and sends for the other before it yields: the last word is the MASTER's.

    Two hosts whose split heals do this to each other; without an answer to the second frame the addresses are dark until
    the MASTER's next advertisement is due.
    """
    a = make_pair(stage, USUAL)[0]
    rival = stage.port("x")
    settle(USUAL, a)
    dark_s = []
    for _ in range(4):
        with packet_socket(rival) as raw, Capture(a.port) as from_master:
            from_master.frames()
            inject(raw, [Forgery(advskew=200).frame()])
            until(lambda: from_master.frames(is_advertisement), SLACK_S, "an answer to the rival", every_s=0.0005)
            inject(raw, [Forgery(advskew=200, source="2001:db8::66").frame()])
            began = now_ns()
            dark_s.append((until(lambda: stage.lan.port_of(VMAC) == "a", SLACK_S, "the switch to find a again") - began) / 1e9)
        # Another phase of the interval each time.
        assert holds_for(lambda: a.state_of() == "MASTER", 1.3)
    assert max(dark_s) < 0.5 * USUAL.interval_ns(USUAL.skew_a) / 1e9, dark_s
