"""Every reason to refuse a packet: it is counted once, named, and changes nothing else."""

import random

import pytest

from carp.protocol.actions import Drop, Send
from carp.protocol.packet import DropReason
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds
from carp.testing.hosts import DUAL_STACK, carp_interface, parent_up
from carp.testing.packets import WRONG, Peer, change_byte, repair_carp_header

IPV4, IPV6 = Family
INTERFACE = carp_interface(addresses=DUAL_STACK, advskew=50)
ELSEWHERE = "lan1"


def bench_in(state):
    """Put a host in a state on the bench, with a peer that would make it change."""
    bench = Bench(INTERFACE, preempt=True)
    bench.feed(parent_up(parent=ELSEWHERE))
    if state is State.MASTER:
        bench.wait_for(State.MASTER)
    bench.run_for(milliseconds(700))
    peer = Peer.of(INTERFACE)
    peer.advskew = 0 if state is State.MASTER else 200
    return bench, peer


def wrong_by_its_bytes(reason):
    """Make the case of a packet that is wrong in itself."""
    return lambda _bench, peer, family: peer.arrives(peer.wrong(reason, family), 0, family)


def echo(bench, peer, family):
    """Bring a packet back that the host sent itself."""
    sent = next(send for send in reversed(only(Send, bench.actions)) if send.family is family)
    return peer.arrives(sent.packet, 0, family)


CASES = {reason: wrong_by_its_bytes(reason) for reason in WRONG} | {
    DropReason.VLAN_TAGGED: lambda _bench, peer, family: peer.arrives(peer.advertisement(family), 0, family, vlan_tagged=True),
    DropReason.BAD_INTERFACE: lambda _bench, peer, family: peer.arrives(
        peer.advertisement(family), 0, family, parent=ELSEWHERE
    ),
    DropReason.ECHO: echo,
}
STANDINGS = [(State.MASTER, reason) for reason in CASES] + [
    (State.BACKUP, reason) for reason in CASES if reason is not DropReason.ECHO
]
"""A BACKUP sent nothing that could come back."""
COUNTED_ON_INTERFACE = (DropReason.BAD_DIGEST, DropReason.ECHO)


def refuse(reason, family, state=State.MASTER):
    """Let the packet of a case arrive; return the bench, what was before, and the actions."""
    bench, peer = bench_in(state)
    event = CASES[reason](bench, peer, family)
    before = bench.snapshot()
    return bench, before, bench.hear(event)


def test_every_reason_has_its_case():
    """Each member of DropReason has a packet below that is refused for it."""
    assert set(CASES) == set(DropReason)


@pytest.mark.parametrize("family", list(Family), ids=str)
@pytest.mark.parametrize("reason", CASES)
def test_refused_for_its_reason(reason, family):
    """A wrong packet is refused for its reason, and asks for nothing but that to be told."""
    _, _, actions = refuse(reason, family)
    (drop,) = actions
    assert isinstance(drop, Drop)
    assert drop.reason is reason


@pytest.mark.parametrize("family", list(Family), ids=str)
@pytest.mark.parametrize("reason", CASES)
def test_counted_once(reason, family):
    """One refused packet is one received and one dropped, under its reason and under the BSDs' name for it."""
    bench, _, _ = refuse(reason, family)
    statistics = bench.engine.statistics
    assert dict(statistics.dropped) == {reason: 1}
    assert dict(statistics.dropped_as_bsd()) == {reason.bsd: 1}
    assert statistics.received[family] == 1
    assert dict(bench.interface().statistics.dropped) == ({reason: 1} if reason in COUNTED_ON_INTERFACE else {})


@pytest.mark.parametrize(("state", "reason"), STANDINGS)
@pytest.mark.parametrize("family", list(Family), ids=str)
def test_nothing_moves(reason, family, state):
    """No refused packet moves a timer, a state or a counter to follow."""
    bench, before, _ = refuse(reason, family, state)
    assert bench.snapshot() == before


@pytest.mark.parametrize(
    "reason", [reason for reason in WRONG if reason not in (DropReason.BAD_IP_HEADER, DropReason.FRAGMENT)]
)
def test_drop_names_the_source(reason):
    """Where the IP header could be read the drop tells who sent it."""
    _, _, (drop,) = refuse(reason, IPV4)
    assert drop.source == Peer().sources[IPV4]
    assert drop.vhid == {DropReason.BAD_DIGEST: 1, DropReason.BAD_VHID: 2}.get(reason)


def test_own_advertisement_back_in_backup_is_an_echo():
    """An advertisement that comes back after this host yielded is an echo still, not a MASTER."""
    bench, peer = bench_in(State.MASTER)
    event = echo(bench, peer, IPV4)
    bench.hear(peer.advertisement(IPV4))
    assert bench.state() is State.BACKUP
    before = bench.snapshot()
    (drop,) = bench.hear(event)
    assert drop.reason is DropReason.ECHO
    assert bench.snapshot() == before


@pytest.mark.parametrize("dialect", ["auto", "openbsd", "freebsd", "netbsd", "ucarp"])
def test_every_dialect_knows_its_echo(dialect):
    """A MASTER whose advertisements come back stays MASTER in every dialect; the BSDs but OpenBSD would yield to themselves."""
    bench = Bench(carp_interface(dialect=dialect))
    bench.wait_for(State.MASTER)
    for send in only(Send, bench.actions):
        bench.hear(send.packet, send.family)
    assert bench.state() is State.MASTER
    assert bench.engine.statistics.dropped[DropReason.ECHO] == len(only(Send, bench.actions)) > 0


def test_zero_counter_is_no_echo_before_the_first_advertisement():
    """A received counter of zero is a counter like any other."""
    bench, peer = bench_in(State.BACKUP)
    peer.counter = 0
    bench.hear(peer.advertisement(IPV4, advskew=0))
    assert bench.vhost().known_masters[IPV4].source == peer.sources[IPV4]


def test_repaired_flips():
    """With the checksum repaired: the version, vhid, counter and digest are checked; all else is not covered by the digest."""
    good = Peer.of(INTERFACE).advertisement(IPV4)
    expected = {0: DropReason.BAD_VERSION, 1: DropReason.BAD_VHID} | dict.fromkeys(range(8, 36), DropReason.BAD_DIGEST)
    for offset in set(range(36)) - {6, 7}:
        bench, _ = bench_in(State.BACKUP)
        flipped = change_byte(good, 20 + offset, good[20 + offset] ^ 0x80)
        bench.hear(repair_carp_header(flipped), IPV4)
        assert dict(bench.engine.statistics.dropped) == ({expected[offset]: 1} if offset in expected else {}), offset


def test_vhid_0_belongs_to_nobody():
    """A packet of vhid 0 is refused like one of any unknown vhid."""
    bench, peer = bench_in(State.BACKUP)
    peer.vhid = 0
    (drop,) = bench.hear(peer.advertisement(IPV4), IPV4)
    assert (drop.reason, drop.vhid) == (DropReason.BAD_VHID, 0)


def test_vhid_in_init_is_unknown():
    """A virtual host that does not run takes no advertisement."""
    bench, _ = bench_in(State.BACKUP)
    bench.reconfigure(INTERFACE, carp_interface("carp1", 9, carpdev="lan9"))
    (drop,) = bench.hear(Peer(9, parent="lan9").arrives(Peer(9).advertisement(), 0))
    assert drop.reason is DropReason.BAD_VHID


def test_vhid_counts_on_its_parent_only():
    """The same vhid on another parent is another virtual host."""
    here, there = carp_interface(), carp_interface("carp1", 2, carpdev=ELSEWHERE)
    bench = Bench(here, there)
    event = Peer.of(there).arrives(Peer.of(there).advertisement(), bench.now, parent=here.carpdev)
    (drop,) = bench.hear(event)
    assert drop.reason is DropReason.BAD_VHID


def test_nothing_is_read_when_not_allowed():
    """With net.inet.carp.allow off a packet is counted as received and silently dropped."""
    bench, peer = bench_in(State.BACKUP)
    bench.reconfigure(INTERFACE, allow=False)
    assert bench.hear(peer.wrong(DropReason.BAD_TTL)) == []
    assert bench.engine.statistics.dropped.total() == 0
    assert bench.engine.statistics.received[IPV4] == 1


def test_a_flood_of_wrong_packets_changes_nothing():
    """However many wrong packets arrive, the next deadline is where it was and every one is counted."""
    rng = random.Random(3)
    bench, peer = bench_in(State.BACKUP)
    before = bench.snapshot()
    reasons = [rng.choice(list(WRONG)) for _ in range(2000)]
    for reason in reasons:
        bench.hear(peer.wrong(reason, IPV4), IPV4)
    assert bench.snapshot() == before
    assert bench.engine.statistics.dropped.total() == len(reasons)


def test_copy_in_a_family_without_addresses():
    """The digest does not cover the IP header: an IPv6 copy of an IPv4 advertisement moves nothing on an IPv4-only host."""
    interface = carp_interface(dialect="netbsd")
    bench, peer = Bench(interface), Peer.of(interface)
    bench.hear(peer.advertisement())
    waits = bench.vhost().expected_master_down()
    bench.run_for(milliseconds(100))
    (drop,) = only(Drop, bench.hear(peer.advertisement(IPV6), IPV6))
    assert drop.reason is DropReason.BAD_VHID
    assert bench.vhost().expected_master_down() == waits


def test_a_wrong_digest_is_remembered_with_its_sender():
    """Who sends with another pass phrase is named in the status; a valid advertisement names nobody."""
    bench, peer = bench_in(State.BACKUP)
    bench.hear(peer.advertisement())
    assert bench.interface().vigilance.last_refused is None
    bench.hear(peer.wrong(DropReason.BAD_DIGEST))
    refused = bench.interface().vigilance.last_refused
    assert refused is not None
    assert (refused.vhid, refused.source) == (1, peer.sources[IPV4])
