"""The laboratory itself: what it breaks is broken, what it measures is so, and it leaves nothing behind."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.capture import Capture, is_advertisement, packet_socket
from lab.faults import Direction, Traffic
from lab.figures import Bound, Pair, Result, result, tally
from lab.lan import Lan
from lab.measure import Answer, Trace, both_answered, longest_gap_ns, lost, owners, takeover_ns
from lab.netns import Namespace, left_by, sweep
from lab.ping import ping
from lab.scenes import strip
from lab.stage import SHARED, Stage, bare
from lab.tables import addresses, neighbours, portrait
from lab.wait import now_ns
from lab.wire import Forgery, digest, inject

MS = 1_000_000
VIP4, VIP6 = bare(SHARED)


def give(stage: Stage, label: str, *shared: str) -> None:
    """Let a host take addresses by hand."""
    stage.port(label).namespace.ip(*(f"addr add {address} dev eth0 nodad" for address in shared))


def take(stage: Stage, label: str, *shared: str) -> None:
    """Let a host drop addresses by hand."""
    stage.port(label).namespace.ip(*(f"addr del {address} dev eth0" for address in shared))


def own_namespace() -> int:
    """Return the inode of the calling thread's namespace."""
    return Path("/proc/thread-self/ns/net").stat().st_ino


def test_a_namespace_is_entered_by_one_thread_and_left_again() -> None:
    """Inside `entered` the thread sees the namespace's interfaces only; afterwards it is home again."""
    home = own_namespace()
    namespace = Namespace("x")
    try:
        with namespace.entered():
            assert own_namespace() == namespace.path.stat().st_ino != home
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
        assert own_namespace() == home
        assert namespace.name in left_by(os.getpid())
    finally:
        namespace.delete()
    assert namespace.name not in left_by(os.getpid())


def test_sweep_removes_only_what_dead_processes_left() -> None:
    """A namespace goes when the process in its name is gone, and stays while it lives."""
    ours = Namespace("x")
    gone = subprocess.Popen(["true"])
    gone.wait()
    name = f"carp-{gone.pid}-0-x"
    try:
        subprocess.run(["ip", "netns", "add", name], check=True)
        sweep()
        assert ours.path.exists()
        assert left_by(gone.pid) == []
    finally:
        ours.delete()


@pytest.mark.parametrize("target", ["192.0.2.1", "2001:db8::1"])
def test_a_blocked_port_loses_pings_but_not_the_carrier(stage: Stage, target: str) -> None:
    """A blocked port is silent in both directions and looks whole to the host."""
    a, client = stage.port("a"), stage.client
    assert ping(client.namespace, target, count=20) == 20
    a.block()
    assert ping(client.namespace, target, count=5, patience_s=0.1) == 0
    assert a.carrier()
    a.unblock()
    assert ping(client.namespace, target, count=20) == 20


def test_a_port_can_be_blocked_in_one_direction(stage: Stage) -> None:
    """What is blocked from the host still reaches it."""
    a, client = stage.port("a"), stage.client
    a.block(directions=[Direction.FROM_HOST])
    with Capture(client, inside=True) as at_client, Capture(a, inside=True) as at_a:
        with packet_socket(client) as raw:
            inject(raw, [Forgery(vhid=7).frame()])
        with packet_socket(a) as raw:
            inject(raw, [Forgery(vhid=8).frame()])
        assert len(at_a.frames(is_advertisement)) == 1
        assert at_client.frames(is_advertisement) == []


@pytest.mark.parametrize(
    ("traffic", "passing"),
    [(Traffic.IPV4_ADVERTISEMENTS, 1), (Traffic.IPV6_ADVERTISEMENTS, 1), (Traffic.ADVERTISEMENTS, 0)],
)
def test_only_advertisements_can_be_blocked(stage: Stage, traffic: Traffic, passing: int) -> None:
    """Blocking advertisements of one family, or of both, leaves everything else alone."""
    a, client = stage.port("a"), stage.client
    a.block(traffic)
    with Capture(a, inside=True) as capture, packet_socket(client) as raw:
        inject(raw, [Forgery().frame(), Forgery(source="2001:db8::66").frame()])
        assert len(capture.frames(is_advertisement)) == passing
    assert ping(client.namespace, "192.0.2.1", count=5) == 5


def test_a_lossy_port_loses_its_share(stage: Stage) -> None:
    """A loss of one half drops about one half."""
    a, client = stage.port("a"), stage.client
    a.block(Traffic.IPV4_ADVERTISEMENTS, [Direction.FROM_HOST], loss=0.5)
    with Capture(client, inside=True) as capture, packet_socket(a) as raw:
        inject(raw, [Forgery().frame()] * 400)
        assert 120 < len(capture.frames(is_advertisement)) < 280


def test_cut_and_unplug_take_the_carrier(stage: Stage) -> None:
    """The two loud faults are seen by the host and can be undone."""
    a, client = stage.port("a"), stage.client
    a.cut()
    assert not a.carrier()
    a.mend()
    assert a.carrier()
    a.unplug()
    assert not a.carrier()
    a.plug()
    assert ping(client.namespace, "192.0.2.1", count=5) == 5


def test_a_partition_separates_without_losing_a_carrier(stage: Stage) -> None:
    """Hosts on two islands cannot reach each other although every link is up."""
    a, b = stage.port("a"), stage.port("b")
    stage.lan.partition(b)
    assert ping(a.namespace, "192.0.2.2", count=3, patience_s=0.1) == 0
    assert b.carrier()
    stage.lan.rejoin()
    assert ping(a.namespace, "192.0.2.2", count=3) == 3


def test_a_switch_learns_and_a_hub_does_not(build_stage: Callable[..., Stage]) -> None:
    """After one answer a switch knows the port of a host; a hub sends everything everywhere."""
    for flooding in (False, True):
        stage = build_stage(flooding=flooding)
        a, b, client = stage.port("a"), stage.port("b"), stage.client
        assert ping(client.namespace, "192.0.2.1", count=1) == 1
        assert stage.lan.port_of(a.mac) == (None if flooding else "a")
        assert neighbours(client.namespace)["192.0.2.1"].mac == a.mac
        with Capture(b, inside=True) as capture:
            assert ping(client.namespace, "192.0.2.1", count=20) == 20
            assert len(capture.frames()) >= (20 if flooding else 0)
            assert flooding or len(capture.frames()) < 20


def test_a_querier_asks() -> None:
    """A LAN with a querier sends IGMP queries."""
    with Lan(querier=True) as lan, Capture(lan.attach("a"), inside=True) as capture:
        deadline = now_ns() + 8_000 * MS
        queries = 0
        while not queries and now_ns() < deadline:
            queries += len(capture.frames(lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 2))
            time.sleep(0.02)
        assert queries


def test_a_portrait_shows_every_kind_of_change(stage: Stage) -> None:
    """Settings, addresses, traffic control and links are compared; an untouched host shows no difference."""
    a = stage.port("a").namespace
    before = portrait(a)
    assert before.differences(portrait(a)) == []
    a.sysctl("ipv4/conf/eth0/arp_ignore", 1)
    a.ip("addr add 192.0.2.50/24 dev eth0")
    a.tc("qdisc add dev eth0 clsact")
    a.ip("link add link eth0 name m0 type macvlan")
    told = "\n".join(before.differences(portrait(a)))
    assert all(word in told for word in ("arp_ignore", "192.0.2.50", "clsact", "link m0"))
    assert "192.0.2.50/24" in addresses(a, "eth0")


def test_the_probe_measures_a_known_gap(stage: Stage) -> None:
    """An address taken away for a while is a gap of that length, in that family only."""
    stage.port("a")
    give(stage, "a", *SHARED)
    with stage.prober(hosts=["a"]) as prober:
        prober.wait_for_owner("a", 5)
        begin = now_ns()
        take(stage, "a", SHARED[0])
        time.sleep(0.3)
        give(stage, "a", SHARED[0])
        known = now_ns() - begin
        prober.wait_for_owner("a", 5)
        prober.wait_for_time(0.3)
        traces = prober.stop()
    broken, whole = traces[VIP4], traces[VIP6]
    assert 0.75 * known < longest_gap_ns(broken) < known + 250 * MS
    assert 100 <= lost(broken) <= known / MS + 20
    assert lost(whole) <= 5
    assert owners(broken, begin, broken.end) == ["a"]
    assert both_answered(broken) == 0
    assert len(whole.sent) > 250


def test_the_probe_tells_who_answers_and_when_another_takes_over(stage: Stage) -> None:
    """The takeover is the first answer of the other host after the event."""
    stage.port("a")
    stage.port("b")
    give(stage, "a", *SHARED)
    with stage.prober(hosts=["a", "b"]) as prober:
        prober.wait_for_owner("a", 5)
        event = now_ns()
        take(stage, "a", *SHARED)
        prober.wait_for_owner(None, 5)
        give(stage, "b", *SHARED)
        # The client has to learn b's MAC address, as there is no virtual one here.
        stage.client.namespace.ip("neigh flush all")
        prober.wait_for_owner("b", 10)
        prober.wait_for_time(0.4)
        traces = prober.stop()
    for address in (VIP4, VIP6):
        one = result("by hand", Bound(0, 0), traces[address], event, "b")
        assert owners(traces[address], event + 250 * MS, traces[address].end) == ["b"]
        assert one.takeover_ns is not None
        assert one.gap_ns > 50 * MS
        assert one.faults == ()
        assert strip(traces[address], event).strip(".|ab#") == ""


def test_two_hosts_that_answer_are_seen(build_stage: Callable[..., Stage]) -> None:
    """On a hub, two hosts with one MAC address and one shared address both answer every probe."""
    stage = build_stage(flooding=True)
    for label in ("a", "b"):
        stage.port(label).namespace.ip("link add link eth0 name m0 address 00:00:5e:00:01:01 type macvlan", "link set m0 up")
        stage.port(label).namespace.ip(f"addr add {SHARED[0]} dev m0")
    stage.client.namespace.ip(f"neigh replace {VIP4} lladdr 00:00:5e:00:01:01 dev eth0 nud permanent")
    with stage.prober(addresses=SHARED[:1], hosts=["a", "b"]) as prober:
        prober.wait_for_time(0.5)
        trace = prober.stop()[VIP4]
    assert both_answered(trace) > 200


def trace_of(hosts: str) -> Trace:
    """Make a trace of one probe a millisecond: a letter is the host that answered at once, a dot nobody, `2` both."""
    pairs = [(number, host) for number, sign in enumerate(hosts) for host in ("ab" if sign == "2" else sign) if host != "."]
    sent = [number * MS for number in range(len(hosts))]
    return Trace(VIP4, sent, [Answer(number, host, number * MS + 100) for number, host in pairs])


@pytest.mark.parametrize(
    ("hosts", "both"),
    [("aaaabbbb", 0), ("aaabab" + "b" * 20, 2), ("aa22bb", 2), ("aa...bb", 0), ("a" * 20 + "b" * 20 + "a" * 20, 0)],
)
def test_a_handover_is_not_two_hosts_answering(hosts: str, both: int) -> None:
    """Only answers to and fro, or two to one probe, count as two hosts answering."""
    assert both_answered(trace_of(hosts)) == both


def test_the_figures_of_a_trace() -> None:
    """Loss, gap and takeover follow from a trace, and the prober's own stalls are no gap."""
    trace = trace_of("aaaa.....bbbb")
    assert lost(trace) == 5
    assert longest_gap_ns(trace, 0, 12 * MS) == 6 * MS
    assert takeover_ns(trace, 4 * MS, "b") == 5 * MS + 100
    assert takeover_ns(trace, 4 * MS, "c") is None
    assert owners(trace, 0, trace.end + MS) == ["a", "b"]
    stalled = Trace(trace.address, trace.sent, trace.answers, [(4 * MS, 8 * MS)])
    assert longest_gap_ns(stalled, 0, 12 * MS) == 2 * MS


def test_the_bounds_of_a_pair() -> None:
    """Master-down is 3 * advbase + skew, and three skews where advbase is 0."""
    assert Pair().crash == Bound(2_390_625_000, 3_390_625_000)
    assert Pair(0, 5, 6).crash.latest_ns == pytest.approx(70_312_500, abs=10)
    assert Pair().preemption.latest_ns == 1_390_625_000


def test_a_tally_takes_medians_and_keeps_faults() -> None:
    """Repetitions become one result: medians of the figures, all of the faults."""
    times = [10 * MS, 30 * MS, 500 * MS]
    results = [Result("x", VIP4, Bound(0, 0), time_ns, 0, 0, 0, faults=(f"fault {time_ns}",)) for time_ns in times]
    (one,) = tally(results)
    assert one.takeover_ns == 30 * MS
    assert one.slow
    assert len(one.faults) == 3


def test_a_forged_digest_is_the_published_one() -> None:
    """The vector computed from the rules: pass phrase foobar, vhid 1, 192.0.2.1."""
    counter = bytes.fromhex("0123456789abcdef")
    assert digest("foobar", 1, ["192.0.2.1"], counter).hex() == "0dfbb78df92ae15f6766260cb37e40aa27c5e542"
    forged = Forgery(password="foobar", addresses=("192.0.2.1",), counter=counter)
    assert forged.header().hex() == "210100070001121a0123456789abcdef0dfbb78df92ae15f6766260cb37e40aa27c5e542"
