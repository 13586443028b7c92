"""What holds for all bytes: round trips, and that no packet from outside breaks or moves anything."""

from ipaddress import IPv4Interface, IPv6Interface

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from carp.protocol.actions import Drop
from carp.protocol.auth import Authenticator, DigestSet, Key
from carp.protocol.dialect import AUTO, DIALECTS
from carp.protocol.events import PacketArrived
from carp.protocol.packet import (
    GROUP,
    Advertisement,
    Datagram,
    DropReason,
    decode,
    encode,
    ipv4_packet,
    ipv6_packet,
    parse_ip,
)
from carp.protocol.values import Family, Instant, State
from carp.testing.bench import Bench
from carp.testing.hosts import DUAL_STACK, PARENT, carp_interface
from carp.testing.packets import Peer, digest_of, repair_carp_header, repair_ipv4_header

BYTE = st.integers(0, 255)
FAMILY = st.sampled_from(list(Family))
ADVERTISEMENT = st.builds(
    Advertisement, BYTE, BYTE, BYTE, BYTE, st.binary(min_size=8, max_size=8), st.binary(min_size=20, max_size=20)
)
ADDRESS = st.one_of(st.integers(1, 2**32 - 2).map(IPv4Interface), st.integers(1, 2**128 - 2).map(IPv6Interface))
KEY = st.binary(min_size=20, max_size=20).map(Key)
SOURCE = {Family.IPV4: st.binary(min_size=4, max_size=4), Family.IPV6: st.binary(min_size=16, max_size=16)}
INTERFACE = carp_interface(addresses=DUAL_STACK, advskew=50)


def host(state, dialect="auto"):
    """Put a host in a state on the bench."""
    bench = Bench(carp_interface(addresses=DUAL_STACK, advskew=50, dialect=dialect), preempt=True)
    if state is State.MASTER:
        bench.wait_for(State.MASTER)
    bench.run_for(10_000_000)
    return bench


HOSTS = {state: host(state) for state in (State.BACKUP, State.MASTER)}


@given(ADVERTISEMENT, FAMILY, st.data())
def test_round_trip(advertisement, family, data):
    """Every advertisement comes out of an IP packet as it went in."""
    source = data.draw(SOURCE[family])
    payload = encode(advertisement)
    if family is Family.IPV4:
        packet = ipv4_packet(source, GROUP[family], payload, tos=data.draw(BYTE), identification=data.draw(BYTE))
    else:
        packet = ipv6_packet(source, GROUP[family], payload, traffic_class=data.draw(BYTE))
    datagram = parse_ip(family, packet + data.draw(st.binary(max_size=20)))
    assert datagram == Datagram(family, source, GROUP[family], 255, payload)
    assert decode(datagram) == advertisement


@given(FAMILY, st.binary(max_size=200))
def test_random_bytes_never_raise(family, packet):
    """Whatever arrives is read or refused, never an error."""
    datagram = parse_ip(family, packet)
    if isinstance(datagram, Datagram):
        assert isinstance(decode(datagram), (Advertisement, DropReason))


@given(FAMILY, st.binary(max_size=120))
@example(Family.IPV4, b"")
@example(Family.IPV6, bytes.fromhex("2101") + bytes(34))
def test_random_payloads_never_raise(family, payload):
    """Whatever stands in a good IP packet is read or refused, never an error."""
    decoded = decode(Datagram(family, bytes(4), bytes(4), 255, payload))
    assert isinstance(decoded, (Advertisement, DropReason))


@pytest.mark.parametrize("state", list(HOSTS))
@given(FAMILY, st.binary(max_size=120), st.booleans(), st.integers(-(10**9), 10**9))
def test_random_bytes_move_nothing(state, family, packet, vlan_tagged, since):
    """Random bytes are one drop, and neither a timer nor a state moves."""
    bench = HOSTS[state]
    before, dropped = bench.snapshot(), bench.engine.statistics.dropped.total()
    event = PacketArrived(PARENT, family, packet, Instant(bench.now + since), vlan_tagged)
    (action,) = bench.hear(event)
    assert isinstance(action, Drop)
    assert bench.snapshot() == before
    assert bench.engine.statistics.dropped.total() == dropped + 1


@pytest.mark.parametrize("state", list(HOSTS))
@given(FAMILY, st.data())
def test_damaged_advertisements_move_nothing(state, family, data):
    """An advertisement with random damage where the digest looks, under good checksums, is one drop and moves nothing."""
    bench = HOSTS[state]
    packet = bytearray(Peer.of(INTERFACE).advertisement(family))
    start = 20 if family is Family.IPV4 else 40
    covered = [start, start + 1, *range(start + 8, start + 36)]
    flips = data.draw(st.dictionaries(st.sampled_from(covered), st.integers(1, 255), min_size=1, max_size=4))
    for offset, mask in flips.items():
        packet[offset] ^= mask
    assume(packet[start] >> 4 != 2 or any(offset != start for offset in flips))
    damaged = repair_carp_header(bytes(packet), family)
    before = bench.snapshot()
    (action,) = bench.hear(repair_ipv4_header(damaged) if family is Family.IPV4 else damaged, family)
    assert isinstance(action, Drop)
    assert action.reason in (DropReason.BAD_VERSION, DropReason.BAD_VHID, DropReason.BAD_DIGEST, DropReason.FOREIGN_VRRP)
    assert bench.snapshot() == before


@given(KEY, BYTE, st.lists(ADDRESS, max_size=40), st.binary(min_size=8, max_size=8))
def test_digest_is_the_specified_one(key, vhid, addresses, counter):
    """For every key, vhid, address list and counter the digest is HMAC-SHA1 of the specified text."""
    listed = [address.ip for address in addresses]
    # Scoped multicast and scope bytes are no matter of the packet factory.
    assume(not any(one.version == 6 and (one.is_link_local or one.is_multicast) for one in listed))
    assume(not any(one.version == 6 and one.packed[0] == 0xFE for one in listed))
    prepared = DigestSet.prepare(AUTO, key, vhid, listed)
    assert prepared.send.of(counter) == digest_of(key, vhid, listed, counter)


@given(KEY, BYTE, st.lists(ADDRESS, max_size=10), st.randoms(use_true_random=False), st.binary(min_size=8, max_size=8))
def test_order_of_addresses_does_not_matter(key, vhid, addresses, rng, counter):
    """Hosts that list the same addresses in different order, or twice, authenticate each other."""
    listed = [address.ip for address in addresses]
    shuffled = listed + listed[:1]
    rng.shuffle(shuffled)
    for name in ("auto", "openbsd", "freebsd", "netbsd"):
        digest = DigestSet.prepare(DIALECTS[name], key, vhid, shuffled).send.of(counter)
        authenticator = Authenticator(DigestSet.prepare(DIALECTS[name], key, vhid, listed))
        assert authenticator.verify(counter, digest, Instant(0))


@given(KEY, KEY, BYTE, BYTE, st.lists(ADDRESS, unique=True, max_size=5), st.lists(ADDRESS, unique=True, max_size=5))
def test_different_settings_do_not_authenticate(key, other_key, vhid, other_vhid, addresses, others):
    """Another key, vhid or address set makes another digest."""
    first = [address.ip for address in addresses]
    second = [address.ip for address in others]
    same = (key, vhid, set(first)) == (other_key, other_vhid, set(second))
    assume(same or key.rstrip(b"\0") != other_key.rstrip(b"\0") or vhid != other_vhid or not any(
        one.version == 6 and one.packed[0] in (0xFE, 0xFF) for one in first + second
    ))  # fmt: skip
    netbsd = DIALECTS["netbsd"]
    digest = DigestSet.prepare(netbsd, key, vhid, first).send.of(bytes(8))
    authenticator = Authenticator(DigestSet.prepare(netbsd, other_key, other_vhid, second))
    assert authenticator.verify(bytes(8), digest, Instant(0)) == same


@given(FAMILY, BYTE, BYTE, BYTE, st.sampled_from(sorted(DIALECTS)), st.sampled_from([State.BACKUP, State.MASTER]))
def test_valid_advertisements_are_never_refused(family, advbase, advskew, demote, dialect, state):
    """A packet with a good digest is heard in every dialect and state, whatever intervals and demotion it claims."""
    bench = host(state, dialect)
    peer = Peer.of(INTERFACE)
    bench.hear(peer.advertisement(family, advbase=advbase, advskew=advskew, demote=demote), family)
    assert bench.engine.statistics.dropped.total() == 0
    assert bench.state() in (State.BACKUP, State.MASTER)
    assert bench.engine.next_deadline() > bench.now
