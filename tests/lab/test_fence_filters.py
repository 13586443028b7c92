"""The fence among other users of traffic control: filters of others, leftovers of crashed runs, other daemons."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from fence_host import (
    SLOT,
    VIP4,
    VIP6,
    VIPS,
    VIRTUAL_MAC,
    Guarded,
    answers_ping,
    forget,
    guard,
    index_of,
    learn,
    receives,
)

from carp.linux.bpf.fence import Fence, FenceUnavailable, remove_leftovers
from carp.linux.netlink import Netlink
from lab.lan import Port
from lab.stage import SHARED, Stage
from lab.tables import portrait

__all__ = ["guard"]

# Classic BPF: EtherType IPv4 and protocol ICMP drop (2), everything else goes on to the next filter.
DROP_ECHO = "6,40 0 0 12,21 0 3 2048,48 0 0 23,21 0 1 1,6 0 0 2,6 0 0 4294967295"


def foreign(stage: Stage, port: Port, preference: int | None) -> None:
    """Let somebody else have filters on the parent, both directions, that drop IPv4 echo requests and pass the rest."""
    for hook in ("ingress", "egress"):
        line = (
            f"filter add dev eth0 {hook} protocol all {f'pref {preference}' if preference else ''} bpf direct-action bytecode"
        )
        port.namespace.run("tc", *line.split(), DROP_ECHO)


@pytest.mark.parametrize("preference", [None, 200, 50, 1], ids=["auto", "late", "early", "first"])
@pytest.mark.parametrize("before", [True, False], ids=["before-us", "after-us"])
def test_filters_of_others_run_as_before(
    stage: Stage, guard: Callable[..., Guarded], preference: int | None, *, before: bool
) -> None:
    """Those on the same hook still decide about what passes the fence, and stay when the fence goes."""
    port, client = stage.port("a"), stage.client
    if before:
        port.namespace.tc("qdisc add dev eth0 clsact")
        foreign(stage, port, preference)
    original = portrait(port.namespace).traffic_control
    host = guard(port)
    assert host.made_clsact is not before
    if not before:
        foreign(stage, port, preference)
    theirs = [line for line in portrait(port.namespace).traffic_control if "carp" not in line and "pref 112 " not in line]
    learn(client, VIRTUAL_MAC)
    for opened in (False, True):
        (host.open if opened else host.shut)()
        assert not answers_ping(client, VIP4)  # by the fence, or by the others
        assert not answers_ping(client, "192.0.2.1")
        assert answers_ping(client, VIP6) is opened
        assert receives(port, client, VIP4) == (opened, opened)
    assert host.fence.is_guarded(host.netlink, host.parent_index)
    # Only who comes later and asks for an early place gets before the fence.
    assert bool(host.fence.ahead(host.netlink, host.parent_index)) is (not before and preference in (1, 50))
    port.namespace.ip("link del dev carp0")
    host.fence.unguard_parent(host.netlink, host.parent_index, remove_qdisc=host.made_clsact)
    assert not host.fence.is_guarded(host.netlink, host.parent_index)
    now = portrait(port.namespace).traffic_control
    assert now == (original if before else theirs)
    assert any("direct-action" in line for line in now)


def test_an_ingress_discipline_of_another_program_is_named(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """It has no egress hook, and would run the egress program on ingress: the fence refuses and changes nothing."""
    port = stage.port("a")
    port.namespace.tc("qdisc add dev eth0 handle ffff: ingress")
    before = portrait(port.namespace).traffic_control
    fence = Fence.load()
    refusal = pytest.raises(FenceUnavailable, match="eth0 has the discipline ingress of another program")
    with port.namespace.entered(), closing(Netlink()) as netlink, closing(fence), refusal:
        fence.guard_parent(netlink, index_of(port, "eth0"))
    assert portrait(port.namespace).traffic_control == before


@pytest.mark.parametrize("damage", ["qdisc del dev eth0 clsact", "filter del dev eth0 egress", "filter del dev eth0 ingress"])
def test_removed_filters_are_noticed_and_put_back(stage: Stage, guard: Callable[..., Guarded], damage: str) -> None:
    """is_guarded asks the kernel; guarding again attaches what is missing, and nothing twice."""
    port = stage.port("a")
    host = guard(port)
    whole = portrait(port.namespace).traffic_control
    for index in (host.parent_index, host.link_index):
        assert host.fence.is_guarded(host.netlink, index)
    for line in (damage, damage.replace("eth0", "carp0")):
        port.namespace.tc(line)
    for index in (host.parent_index, host.link_index):
        assert not host.fence.is_guarded(host.netlink, index)
    for again in (False, True):
        host.fence.guard_link(host.netlink, host.link_index, SLOT)
        assert host.fence.guard_parent(host.netlink, host.parent_index) is (damage.startswith("qdisc") and not again)
        assert len(portrait(port.namespace).traffic_control) == len(whole)
        assert host.fence.is_guarded(host.netlink, host.link_index)
    assert not answers_ping(stage.client, VIP4)


def test_new_links_are_fenced_together(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """All with one write; one that is gone, or has clsact already, is named, and has the usual fence after a closer look."""
    port = stage.port("a")
    host = guard(port)
    names = [f"carp{number}" for number in range(1, 6)]
    port.namespace.ip(*(f"link add {name} link eth0 type macvlan mode bridge" for name in names))
    indexes = {name: index_of(port, name) for name in names}
    port.namespace.ip("link del carp2")
    port.namespace.tc("qdisc add dev carp4 clsact")
    slots = {index: SLOT + 1 + number for number, index in enumerate(indexes.values())}
    doubtful = host.fence.guard_new_links(host.netlink, slots)
    assert doubtful == {indexes["carp2"], indexes["carp4"]}
    for name in ("carp1", "carp3", "carp5"):
        assert host.fence.is_guarded(host.netlink, indexes[name])
    with pytest.raises(FenceUnavailable, match="is gone"):
        host.fence.guard_link(host.netlink, indexes["carp2"], SLOT)
    host.fence.guard_link(host.netlink, indexes["carp4"], slots[indexes["carp4"]])
    assert host.fence.is_guarded(host.netlink, indexes["carp4"])
    shown = portrait(port.namespace).traffic_control
    assert sum("carp_link" in line for line in shown if line.startswith("carp4")) == 2
    port.namespace.ip("addr add 203.0.113.1/24 dev carp3", "link set carp3 up")
    dropped = host.fence.deadlines.dropped(slots[indexes["carp3"]])
    port.namespace.run("sh", "-c", "ping -c 1 -W 0.2 203.0.113.2 || true")
    assert host.fence.deadlines.dropped(slots[indexes["carp3"]]) > dropped


CRASH = """
import signal, socket, sys
from ipaddress import ip_address
from carp.linux.bpf.fence import Fence
from carp.linux.netlink import Netlink
fence, netlink, parent = Fence.load(sys.argv[1]), Netlink(), socket.if_nametoindex("eth0")
fence.set_vips(parent, 0, map(ip_address, sys.argv[2:]))
print(fence.guard_parent(netlink, parent))
print("ready", flush=True)
signal.pause()
"""


def crash(port: Port, owner: str) -> None:
    """Let a process fence the virtual addresses on a host's parent, and kill it."""
    line = port.namespace.wrap(sys.executable, "-c", CRASH, owner, *VIPS)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert [process.stdout.readline(), process.stdout.readline()] == ["True\n", "ready\n"]
        finally:
            process.send_signal(signal.SIGKILL)


def test_what_a_killed_process_left_is_found_and_removed(stage: Stage) -> None:
    """Its fence holds after SIGKILL; remove_leftovers takes it away and leaves the host as it was."""
    port, client = stage.port("a"), stage.client
    before = portrait(port.namespace)
    crash(port, "one")
    port.namespace.ip(*(f"addr add {address} dev eth0 nodad" for address in SHARED))
    assert not answers_ping(client, VIP4)
    assert not answers_ping(client, VIP6)
    index = index_of(port, "eth0")
    with port.namespace.entered(), closing(Netlink()) as netlink:
        assert remove_leftovers(netlink, [index], "two", qdiscs=[index]) == []
        assert not answers_ping(client, VIP4)
        removed = remove_leftovers(netlink, [index, index + 1000], "one", qdiscs=[index])
        assert removed == ["carp_parent_in:one on eth0", "carp_parent_out:one on eth0"]
        assert remove_leftovers(netlink, [index]) == []
    forget(client)
    assert answers_ping(client, VIP4)
    assert answers_ping(client, VIP6)
    port.namespace.ip(*(f"addr del {address} dev eth0" for address in SHARED))
    assert before.differences(portrait(port.namespace)) == []


def test_leftovers_are_replaced_by_the_next_start(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """Guarding a parent removes what the same owner left there, and that alone."""
    port, client = stage.port("a"), stage.client
    crash(port, "test")
    host = guard(port, owner="test")
    assert not host.made_clsact
    assert sum("carp_parent" in line for line in portrait(port.namespace).traffic_control) == 2
    host.open()
    assert answers_ping(client, VIP4)


def test_two_daemons_on_one_parent_leave_each_other_alone(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """Filters are told apart by their owner; the last one out removes clsact."""
    port = stage.port("a")
    before = portrait(port.namespace).traffic_control
    first = guard(port, on_parent=True, addresses=False, owner="one")
    second = guard(port, on_parent=True, addresses=False, owner="two")
    assert (first.made_clsact, second.made_clsact) == (True, False)
    assert remove_leftovers(first.netlink, [first.parent_index], "three") == []
    first.fence.unguard_parent(first.netlink, first.parent_index, remove_qdisc=True)
    assert second.fence.is_guarded(second.netlink, second.parent_index)
    second.fence.unguard_parent(second.netlink, second.parent_index, remove_qdisc=True)
    assert portrait(port.namespace).traffic_control == before


def test_guarding_is_quick(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """The time of each step is printed; a fence on many interfaces is set within a second or two."""
    port = stage.port("a")
    host = guard(port, addresses=False)
    names = [f"carp{number}" for number in range(1, 65)]
    port.namespace.ip(*(f"link add {name} link eth0 type macvlan mode bridge" for name in names))
    indexes = [index_of(port, name) for name in names]
    fence, netlink = host.fence, host.netlink
    steps: dict[str, Callable[[int], object]] = {
        "guard": lambda index: fence.guard_link(netlink, index, SLOT),
        "look": lambda index: fence.is_guarded(netlink, index),
        "forget": fence.forget_link,
    }
    for name, step in steps.items():
        begin = time.monotonic()
        for index in indexes:
            step(index)
        each_ms = (time.monotonic() - begin) * 1e3 / len(indexes)
        print(f"{name}: {each_ms:.3f} ms an interface")
        assert each_ms < 30
