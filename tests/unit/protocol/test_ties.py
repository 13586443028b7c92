"""Equal MASTERs: who stays, in each dialect that can tell."""

import pytest

from carp.protocol.actions import Reason, Transition
from carp.protocol.events import PacketArrived
from carp.protocol.values import Family, State
from carp.testing.bench import FIRST_COUNTER, Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP6, carp_interface, station_sources
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

IPV4, IPV6 = Family
LOW = {IPV4: bytes((192, 0, 2, 1)), IPV6: bytes.fromhex("fe80") + bytes(13) + b"\x01"}
HIGH = {IPV4: bytes((192, 0, 2, 2)), IPV6: bytes.fromhex("fe80") + bytes(13) + b"\x02"}
CROSSED = {IPV4: LOW[IPV4], IPV6: HIGH[IPV6]}
CROSSED_BACK = {IPV4: HIGH[IPV4], IPV6: LOW[IPV6]}
ZERO = {IPV4: bytes(4), IPV6: bytes(16)}
UCARP_FIRST = {IPV4: bytes((10, 0, 0, 2))}
UCARP_SECOND = {IPV4: bytes((10, 0, 1, 1))}


def equals(own, theirs, **settings):
    """Put a MASTER with sources `own` on the bench, and an equal one with `theirs` on paper."""
    interface = carp_interface(**settings)
    bench = Bench(interface, sources=own)
    bench.wait_for(State.MASTER)
    bench.run_for(milliseconds(200))
    peer = Peer.of(interface)
    peer.sources = dict(theirs)
    return bench, peer


def stays(bench, peer, *families):
    """Let equal advertisements arrive; tell whether the MASTER stays."""
    for family in families:
        bench.hear(peer.advertisement(family), family)
    return bench.state() is State.MASTER


class TestAuto:
    def test_lower_source_stays(self):
        """Of two equal MASTERs the one of the lower source address stays."""
        assert stays(*equals(LOW, HIGH), IPV4)
        assert not stays(*equals(HIGH, LOW), IPV4)

    def test_lower_ipv6_source_stays(self):
        """Without IPv4 addresses the IPv6 source decides."""
        assert stays(*equals(LOW, HIGH, addresses=(VIP6,)), IPV6)
        assert not stays(*equals(HIGH, LOW, addresses=(VIP6,)), IPV6)

    @pytest.mark.parametrize("order", [(IPV4, IPV6), (IPV6, IPV4)])
    def test_opposite_orders_in_the_two_families(self, order):
        """With both families IPv4 decides for both, in whatever order the packets come: one stays, one yields."""
        assert stays(*equals(CROSSED, CROSSED_BACK, addresses=DUAL_STACK), *order)
        assert not stays(*equals(CROSSED_BACK, CROSSED, addresses=DUAL_STACK), *order)

    def test_the_other_family_decides_when_it_is_alone(self):
        """If IPv4 is filtered, IPv6 decides in the end: not at once, but within a few intervals."""
        bench, peer = equals(HIGH, LOW, addresses=DUAL_STACK)
        assert stays(bench, peer, IPV6)
        for _ in range(5):
            bench.run_for(seconds(1))
            stays(bench, peer, IPV6)
        assert bench.state() is State.BACKUP

    @pytest.mark.parametrize("hosts", [2, 3, 5, 8])
    def test_the_other_family_of_many_hosts_decides_nothing(self, hosts):
        """However many equal hosts speak at one tick, all of IPv4 first and then all of IPv6: IPv4 decides."""
        bench, _ = equals(CROSSED, CROSSED_BACK, addresses=DUAL_STACK)
        peers = [Peer(addresses=DUAL_STACK, sources=station_sources(9 + number)) for number in range(hosts)]
        for peer in peers:
            peer.sources[IPV6] = LOW[IPV6]
        for family in Family:
            for peer in peers:
                bench.hear(peer.advertisement(family), family)
        assert bench.state() is State.MASTER

    def test_a_heard_first_family_keeps_deciding(self):
        """As long as IPv4 is heard between them, no number of IPv6 advertisements decides."""
        bench, peer = equals(CROSSED, CROSSED_BACK, addresses=DUAL_STACK)
        assert stays(bench, peer, *[IPV6, IPV6, IPV4] * 5)

    def test_equal_sources_are_decided_by_the_counter(self):
        """Un-numbered parents send from the virtual address: the lower counter stays then."""
        bench, peer = equals({}, {IPV4: bytes((192, 0, 2, 100))})
        peer.counter = FIRST_COUNTER + 1_000_000
        assert stays(bench, peer, IPV4)
        peer.counter = FIRST_COUNTER - 1_000_000
        assert not stays(bench, peer, IPV4)

    @pytest.mark.parametrize(("own", "theirs"), [(LOW, ZERO), (ZERO, LOW), (ZERO, ZERO)])
    def test_zero_source_tells_nothing(self, own, theirs):
        """A source of 0.0.0.0, which NetBSD and FreeBSD send without an address, tells nothing: the counter decides."""
        bench, peer = equals(own, theirs)
        peer.counter = FIRST_COUNTER + 1_000_000
        assert stays(bench, peer, IPV4)
        peer.counter = FIRST_COUNTER - 1_000_000
        assert not stays(bench, peer, IPV4)

    def test_a_tie_is_only_one_at_equal_demotion(self):
        """Between equal intervals the less demoted MASTER stays, whatever the sources."""
        bench, peer = equals(HIGH, LOW)
        bench.hear(peer.advertisement(demote=1))
        assert bench.state() is State.MASTER


class TestDialectsThatYield:
    @pytest.mark.parametrize("dialect", ["openbsd", "freebsd", "freebsd9", "netbsd", "dragonfly"])
    @pytest.mark.parametrize(("own", "theirs"), [(LOW, HIGH), (HIGH, LOW)])
    def test_a_master_always_yields_to_an_equal(self, dialect, own, theirs):
        """The BSDs compare no addresses: whoever hears an equal MASTER yields."""
        bench, peer = equals(own, theirs, dialect=dialect)
        (change,) = only(Transition, bench.hear(peer.advertisement()))
        assert change.reason is Reason.LOST_TIE
        assert bench.vhost().expected_master_down() == bench.now + bench.vhost().timing.master_down_ns


class TestUcarp:
    def test_lower_source_read_backwards_stays(self):
        """The program ucarp compares addresses as little-endian words: 10.0.1.1 is lower than 10.0.0.2."""
        assert not stays(*equals(UCARP_FIRST, UCARP_SECOND, dialect="ucarp"), IPV4)
        assert stays(*equals(UCARP_SECOND, UCARP_FIRST, dialect="ucarp"), IPV4)

    def test_equal_sources_are_not_decided_by_the_counter(self):
        """A counter that follows its peer's tells nothing: with equal sources this MASTER yields after a random extra."""
        bench, peer = equals({}, {IPV4: bytes((192, 0, 2, 100))}, dialect="ucarp")
        assert not stays(bench, peer, IPV4)
        assert seconds(3) <= bench.vhost().expected_master_down() - bench.now < seconds(3.25)

    def test_random_extra_ends_with_the_next_master(self):
        """Once a MASTER is heard, the master-down time is the plain one again."""
        bench, peer = equals({}, {IPV4: bytes((192, 0, 2, 100))}, dialect="ucarp")
        assert not stays(bench, peer, IPV4)
        bench.run_for(seconds(1))
        bench.hear(peer.advertisement())
        assert bench.vhost().expected_master_down() == bench.now + seconds(3)

    def test_random_extra_outlives_the_same_tick(self):
        """The other family's advertisement of the tick at which this host yielded does not take the random extra away."""
        bench, peer = equals({}, {IPV4: bytes((192, 0, 2, 100)), IPV6: VIP6.ip.packed}, dialect="ucarp", addresses=DUAL_STACK)
        assert not stays(bench, peer, IPV4)
        waits = bench.vhost().expected_master_down()
        bench.hear(peer.advertisement(IPV6), IPV6)
        assert bench.vhost().expected_master_down() == waits


SOURCES = {
    "numbered alike": (LOW, HIGH),
    "crossed": (CROSSED, CROSSED_BACK),
    "un-numbered": ({}, {}),
    "one numbered": (LOW, {}),
    "IPv4 only": ({IPV4: LOW[IPV4]}, {IPV4: HIGH[IPV4]}),
    "IPv6 only": ({IPV6: LOW[IPV6]}, {IPV6: HIGH[IPV6]}),
    "zero": (ZERO, ZERO),
    "one zero": (ZERO, HIGH),
}


@pytest.mark.parametrize("advbase_advskew", [(1, 0), (1, 254), (2, 7), (0, 52)], ids=str)
@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
@pytest.mark.parametrize("name", SOURCES)
def test_two_equal_hosts_started_together(name, swapped, advbase_advskew):
    """Two equal hosts that start at one instant: exactly one is MASTER within two master-down times, and for good."""
    advbase, advskew = advbase_advskew
    interface = carp_interface(advbase=advbase, advskew=advskew, addresses=DUAL_STACK)
    for seed in range(10):
        lan = VirtualLan(seed)
        for host, sources in zip("ab", SOURCES[name][:: -1 if swapped else 1], strict=True):
            lan.add(host, interface, sources=sources)
        master_down = lan.stations["a"].engine.next_master_down() - lan.now
        lan.run_for(2 * master_down)
        masters = lan.masters()
        assert len(masters) == 1
        changes = len(lan.history.changes)
        lan.run_for(4 * master_down)
        assert (lan.masters(), len(lan.history.changes)) == (masters, changes)


def test_arrival_stamp_decides_nothing_between_masters():
    """An advertisement that waited in the socket counts when it is read."""
    bench, peer = equals(HIGH, LOW)
    bench.hear(PacketArrived("lan0", IPV4, peer.advertisement(), bench.now - milliseconds(100)))
    assert bench.state() is State.BACKUP
    assert bench.vhost().expected_master_down() == bench.now + seconds(3)
