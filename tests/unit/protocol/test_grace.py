"""Digest grace on a LAN: key and address list change host by host, and nobody loses anybody."""

import itertools

import pytest

from carp.protocol.auth import key_from_passphrase
from carp.protocol.packet import DropReason
from carp.protocol.values import State
from carp.testing.bench import Bench
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP4, address, carp_interface, configured
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

GRACE = seconds(60)
EXTRA = address("192.0.2.101/24")
KEY = key_from_passphrase("another")
SKEWS = {"a": 0, "b": 100, "c": 200}
CHANGES = {
    "pass phrase": ({}, {"key": KEY}),
    "address added": ({}, {"addresses": (VIP4, EXTRA)}),
    "address removed": ({"addresses": (VIP4, EXTRA)}, {}),
    "address replaced": ({}, {"addresses": (EXTRA,)}),
    "family added": ({}, {"addresses": DUAL_STACK}),
    "family removed": ({"addresses": DUAL_STACK}, {}),
    "both": ({}, {"key": KEY, "addresses": (VIP4, EXTRA)}),
}


def settled(before, *, preempt=True, grace=GRACE):
    """Start three hosts, the first of them MASTER."""
    lan = VirtualLan()
    for name, advskew in SKEWS.items():
        lan.add(name, carp_interface(advskew=advskew, digest_grace_ns=grace, **before), preempt=preempt)
    lan.run_for(seconds(5))
    return lan


def change(lan, name, after, *, grace=GRACE):
    """Reload one host."""
    lan.stations[name].feed(configured(carp_interface(advskew=SKEWS[name], digest_grace_ns=grace, **after), preempt=True))


def transitions(lan):
    """List who became MASTER."""
    return [one.station for one in lan.history.changes if one.new is State.MASTER]


def refused(lan):
    """Count the packets that did not authenticate, on all hosts."""
    return sum(host.engine.statistics.dropped[DropReason.BAD_DIGEST] for host in lan.stations.values())


def test_a_mistyped_pass_phrase_is_mended_within_the_grace():
    """A MASTER that had a wrong pass phrase for a moment, and then the right one, is lost by nobody."""
    lan = settled({})
    for name in ("c", "b"):
        change(lan, name, {"key": KEY})
    change(lan, "a", {"key": key_from_passphrase("mistyped")})
    lan.run_for(seconds(7))
    change(lan, "a", {"key": KEY})
    lan.run_for(3 * GRACE)
    assert transitions(lan) == ["a"]
    assert refused(lan) == 0


@pytest.mark.parametrize("order", list(itertools.permutations(SKEWS)), ids="".join)
@pytest.mark.parametrize("what", CHANGES)
def test_any_order_within_the_grace(what, order):
    """Hosts that change one after the other within the grace never refuse each other, BACKUPs first or MASTER first."""
    before, after = CHANGES[what]
    lan = settled(before)
    for name in order:
        change(lan, name, after)
        lan.run_for(seconds(25))
    lan.run_for(3 * GRACE)
    assert transitions(lan) == ["a"]
    assert refused(lan) == 0


@pytest.mark.parametrize("order", ["cba", "abc"])
def test_takeover_within_the_grace(order):
    """Hosts take over from each other in the middle of a change as at any other time."""
    lan = settled({})
    for name in order[:2]:
        change(lan, name, {"key": KEY})
        lan.run_for(seconds(2))
    lan.kill("a")
    lan.run_for(seconds(6))
    change(lan, order[2], {"key": KEY})
    lan.run_for(3 * GRACE)
    assert transitions(lan) == ["a", "b"]
    assert lan.masters() == {"b"}


def test_without_grace_the_hosts_part():
    """Without a grace a host that changes alone is alone: both are MASTER until the other follows."""
    lan = settled({}, grace=0)
    change(lan, "b", {"key": KEY}, grace=0)
    lan.run_for(seconds(5))
    assert lan.masters() == {"a", "b"}
    assert refused(lan) > 0
    for name in "ac":
        change(lan, name, {"key": KEY}, grace=0)
    lan.run_for(seconds(5))
    assert lan.masters() == {"a"}


def test_a_host_that_never_follows():
    """A host that is forgotten hears nobody any more once two graces are over, and no sooner."""
    lan = settled({})
    changed_at = lan.now
    for name in "ab":
        change(lan, name, {"key": KEY})
    lan.run_until(changed_at + GRACE - milliseconds(1))
    assert refused(lan) == 0
    lan.run_for(seconds(10))
    assert "c" in lan.masters()


def test_a_host_that_restarts_in_the_grace():
    """A host that starts with the new key in the grace knows no old one: it is alone until the MASTER sends the new."""
    lan = settled({})
    change(lan, "a", {"key": KEY})
    started_at = lan.now
    lan.add("d", carp_interface(advskew=250, digest_grace_ns=GRACE, key=KEY))
    lan.run_for(seconds(10))
    assert lan.masters() == {"a", "d"}
    lan.run_until(started_at + GRACE + seconds(2))
    assert "d" not in lan.masters()


def test_grace_does_not_accept_a_foreign_key():
    """In the grace two digests are accepted and no third."""
    bench = Bench(carp_interface(digest_grace_ns=GRACE))
    bench.reconfigure(carp_interface(digest_grace_ns=GRACE, key=KEY))
    for key, accepted in ((carp_interface().key, True), (KEY, True), (key_from_passphrase("third"), False)):
        peer = Peer(key=key)
        assert (bench.hear(peer.advertisement()) == []) == accepted
