"""What comes through a parent's packet socket, on a cable between two interfaces: packets, stamps, tags, batches, refusals."""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from carp.linux import batch
from carp.linux.bpf.hearing import Hearing
from carp.linux.clock import boottime
from carp.linux.packet_socket import PacketSocket
from carp.protocol.events import PacketArrived
from carp.protocol.packet import DropReason
from carp.protocol.values import Family
from lab.netns import Namespace
from lab.wait import until
from lab.wire import Forgery

PATIENCE_S = 5
GOOD = Forgery()
GOOD6 = replace(GOOD, source="2001:db8::66")
_SO_TIMESTAMPNS, _SO_RCVMARK = 35, 75


class Cable:
    """A parent with its packet socket, and whoever sends at the other end."""

    def __init__(self, namespace: Namespace, parent: PacketSocket, far: socket.socket) -> None:
        self.namespace = namespace
        self.parent = parent
        self.send: Callable[[bytes], int] = far.send

    def read(self, count: int) -> list[PacketArrived]:
        """Read until so many packets have come."""
        packets: list[PacketArrived] = []
        while len(packets) < count:
            assert select.select([self.parent], [], [], PATIENCE_S)[0]
            packets += self.parent.read()[0]
        return packets


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Lay one, with the filter that refuses in the kernel."""
    made = Namespace("reading")
    try:
        with made.entered():
            made.ip("link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
            parent = PacketSocket("eth0", socket.if_nametoindex("eth0"), Hearing.load())
            far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            far.bind(("far", 0))
            yield Cable(made, parent, far)
            far.close()
            parent.close()
    finally:
        made.delete()


def test_what_arrives(cable: Cable) -> None:
    """The IP packets, in their order, with their families and the moments at which they came."""
    frames = [GOOD.frame(), GOOD6.frame(), GOOD.frame(), bytes(60), GOOD6.frame()]
    before = boottime()
    for frame in frames:
        cable.send(frame)
    after = boottime()
    packets = cable.read(4)
    assert [one.packet for one in packets] == [frame[14:] for frame in frames if any(frame)]
    assert [one.family for one in packets] == [Family.IPV4, Family.IPV6, Family.IPV4, Family.IPV6]
    assert {(one.parent, one.vlan_tagged) for one in packets} == {("eth0", False)}
    arrivals = [one.arrival for one in packets]
    # Both clocks are read one after the other, so that packets look a little younger.
    assert before <= arrivals[0] <= arrivals[-1] <= after + 1_000_000_000
    assert arrivals == sorted(arrivals)


def test_a_tag_is_told(cable: Cable) -> None:
    """It is taken off and stands beside the packet."""
    for vlan in (None, 5, 0):
        cable.send(GOOD.frame(vlan=vlan))
    packets = cable.read(3)
    assert [one.vlan_tagged for one in packets] == [False, True, True]
    assert all(len(one.packet) == 56 for one in packets)


@pytest.mark.parametrize(("option", "value"), [(_SO_TIMESTAMPNS, 0), (_SO_RCVMARK, 1)], ids=["no stamp", "a mark between"])
def test_other_control_messages(cable: Cable, option: int, value: int) -> None:
    """Tag and stamp are found wherever they are; what has no stamp has just come."""
    cable.parent._socket.setsockopt(socket.SOL_SOCKET, option, value)
    before = boottime()
    cable.send(GOOD.frame())
    cable.send(GOOD.frame(vlan=5))
    packets = cable.read(2)
    assert [one.vlan_tagged for one in packets] == [False, True]
    assert all(before <= one.arrival <= boottime() for one in packets)


def test_a_reading_that_empties_the_socket(cable: Cable) -> None:
    """It covers the time up to its beginning."""
    cable.send(GOOD.frame())
    assert select.select([cable.parent], [], [], PATIENCE_S)[0]
    before = boottime()
    packets, read_until = cable.parent.read()
    assert len(packets) == 1
    assert before <= read_until <= boottime()
    before = boottime()
    packets, read_until = cable.parent.read()
    assert (packets, before <= read_until) == ([], True)


def test_a_reading_that_leaves_something(cable: Cable) -> None:
    """It covers the time up to its last packet, and the next one goes on from there."""
    frames = [GOOD.frame() for _ in range(batch.PACKETS + 3)]
    for frame in frames:
        cable.send(frame)
    first, read_until = cable.parent.read()
    assert len(first) == batch.PACKETS
    assert read_until == first[-1].arrival
    second, later = cable.parent.read()
    assert later > read_until
    assert [one.packet for one in first + second] == [frame[14:] for frame in frames]


def test_what_waits_keeps_its_age(cable: Cable) -> None:
    """A reading may be long after the last one, which left it: it does not cover the time between."""
    count = 3 * batch.PACKETS
    for _ in range(count):
        cable.send(GOOD.frame())
    sent = boottime()
    packets: list[PacketArrived] = []
    while len(packets) < count:
        time.sleep(0.1)
        read, read_until = cable.parent.read()
        assert read_until <= sent + 50_000_000
        packets += read
    assert packets[-1].arrival <= sent + 50_000_000


def test_a_batch_that_is_exactly_full_promises_nothing(cable: Cable) -> None:
    """Nobody knows whether there was one more."""
    for _ in range(batch.PACKETS):
        cable.send(GOOD.frame())
    packets, read_until = cable.parent.read()
    assert read_until == packets[-1].arrival
    assert cable.parent.read()[0] == []


def test_what_is_long_is_cut(cable: Cable) -> None:
    """The parser sees that it is; the next one has nothing of it."""
    long = replace(GOOD, payload=os.urandom(900))
    cable.send(long.frame())
    cable.send(GOOD.frame())
    first, second = cable.read(2)
    assert first.packet == long.packet()[: batch.DATA_BYTES - 14]
    assert len(second.packet) == 56


def test_a_pause_of_the_machine_loses_nothing(cable: Cable) -> None:
    """At 100,000 a second for 50 ms."""
    count = 5000
    frame = GOOD.frame()
    for _ in range(count):
        cable.send(frame)
    assert len(cable.read(count)) == count


def test_a_parent_that_goes_down_is_no_error(cable: Cable) -> None:
    """What came before is read, and what comes after it is up again."""
    cable.send(GOOD.frame())
    cable.namespace.ip("link set eth0 down")
    assert len(cable.parent.read()[0]) == 1
    cable.namespace.ip("link set eth0 up")

    def heard() -> bool:
        with suppress(OSError):  # not yet
            cable.send(GOOD.frame())
        return bool(cable.parent.read()[0])

    until(heard, PATIENCE_S, "a packet", every_s=0.01)


def test_any_other_error_is_raised() -> None:
    """A descriptor that is none does not look like an empty socket."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        batch.Batch().receive(-1)


def test_what_others_want_is_refused_and_counted(cable: Cable) -> None:
    """From the moment at which it is known who is here; until then everything comes."""
    stranger = replace(GOOD, vhid=77).frame()
    cable.send(stranger)
    assert cable.read(1)[0].packet == stranger[14:]
    cable.parent.admit([1])
    for _ in range(20):
        cable.send(stranger)
    cable.send(GOOD.frame())
    packets = cable.read(2)
    assert packets[-1].packet[21] == 1
    ((family, reason, count),) = cable.parent.refused()
    assert (family, reason) == (Family.IPV4, DropReason.BAD_VHID)
    assert count + len(packets) == 21
    assert cable.parent.refused() == []
    cable.parent.admit(None)
    for _ in range(20):
        cable.send(stranger)
    assert len(cable.read(20)) == 20
    assert cable.parent.refused() == []


def test_one_in_a_while_passes(cable: Cable) -> None:
    """So that somebody tells of it."""
    cable.parent.admit([1])
    stranger = replace(GOOD, vhid=77).frame()
    cable.send(stranger)
    cable.send(stranger)
    assert cable.read(1)[0].packet == stranger[14:]

    def heard() -> bool:
        cable.send(stranger)
        return bool(cable.parent.read()[0])

    until(heard, PATIENCE_S, "another one", every_s=0.005)


def test_a_tag_is_not_judged(cable: Cable) -> None:
    """Whoever sent it was not on this network."""
    cable.parent.admit([1])
    for _ in range(20):
        cable.send(replace(GOOD, vhid=77).frame(vlan=5))
    assert len(cable.read(20)) == 20


def test_without_the_filter_everything_comes() -> None:
    """The classic one only knows groups and the protocol."""
    made = Namespace("reading")
    try:
        with made.entered():
            made.ip("link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
            parent = PacketSocket("eth0", socket.if_nametoindex("eth0"))
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as far:
                far.bind(("far", 0))
                parent.admit([1])
                far.send(bytes(60))
                for _ in range(20):
                    far.send(replace(GOOD, vhid=77).frame())
                assert len(parent.read()[0]) == 20
                assert parent.refused() == []
            parent.close()
    finally:
        made.delete()
