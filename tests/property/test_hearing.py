"""Whatever the kernel's filter refuses, the engine refuses for the same reason: it never keeps anything from it."""

import socket
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carp.linux.bpf.hearing import Hearing
from carp.protocol.actions import Drop
from carp.protocol.events import PacketArrived
from carp.protocol.values import Family
from carp.testing.bench import Bench, only
from carp.testing.hosts import DUAL_STACK, PARENT, carp_interface
from lab.wire import Forgery

TIMES = 3
VHIDS = (7, 77)
GOOD = {
    Family.IPV4: Forgery(vhid=7),
    Family.IPV6: replace(Forgery(vhid=7), source="2001:db8::66"),
}
CHANGES = st.lists(st.tuples(st.integers(0, 89), st.integers(0, 255)), max_size=4)
FAULTS = st.fixed_dictionaries(
    {},
    optional={
        "vhid": st.sampled_from((7, 8, 77, 255)),
        "version": st.sampled_from((1, 2, 3)),
        "ttl": st.sampled_from((64, 254, 255)),
        "spoil_checksum": st.booleans(),
        "fragment": st.sampled_from((0, 0x2000, 0x4000, 0x8000)),
        "payload": st.one_of(st.none(), st.binary(max_size=60)),
    },
)


class Filtered:
    """A socket with the filter, and the one that sends to it."""

    def __init__(self):
        self.filter = Hearing.load()
        self.receiver, self.sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.receiver.setblocking(False)
        self.filter.attach(self.receiver)
        self.filter.admit(VHIDS)

    def refused_for(self, frame):
        """Send a frame a few times, since the first one may pass; return what it was refused for."""
        for _ in range(TIMES):
            self.sender.send(frame)
            try:
                self.receiver.recv(2048)
            except BlockingIOError:
                continue
        return {(family, reason) for family, reason, _ in self.filter.refused()}


@pytest.fixture(scope="module")
def filtered():
    """Make one for all examples."""
    made = Filtered()
    yield made
    made.receiver.close()
    made.sender.close()
    made.filter.close()


@pytest.fixture(scope="module")
def bench():
    """Put a host on the bench that has the admitted virtual hosts."""
    return Bench(*(carp_interface(f"carp{vhid}", vhid, addresses=DUAL_STACK) for vhid in VHIDS))


@given(st.sampled_from(Family), FAULTS, CHANGES)
@example(Family.IPV4, {"vhid": 8}, [])
@example(Family.IPV6, {"version": 3}, [])
def test_what_is_refused_in_the_kernel(filtered, bench, family, faults, changes):
    """Any field may be wrong, and any byte behind the Ethernet header another one."""
    frame = bytearray(replace(GOOD[family], **faults).frame())
    for place, value in changes:
        if 14 + place < len(frame):
            frame[14 + place] = value
    refused = filtered.refused_for(bytes(frame))
    if refused:
        drops = only(Drop, bench.feed(PacketArrived(PARENT, family, bytes(frame[14:]), bench.now)))
        assert refused == {(family, drop.reason) for drop in drops}
