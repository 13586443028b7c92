"""Another host claims an address of ours: a MASTER says so and speaks up, but does not shout."""

import pytest

from carp.protocol.actions import Announce, Note, Notice, Send, Transition
from carp.protocol.events import AddressClaimed
from carp.protocol.parameters import LinkAddress
from carp.protocol.values import State, virtual_mac
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, PARENT, VIP4, VIP6, address, carp_interface, parent_mac

STRANGER = bytes.fromhex("02aabbccddee")
CLAIM = AddressClaimed(PARENT, VIP4.ip, STRANGER)
OTHER = address("192.0.2.7/24")


def master(**settings):
    """Put a MASTER on the bench that has been so for a while."""
    bench = Bench(carp_interface(addresses=DUAL_STACK, **settings))
    bench.wait_for(State.MASTER)
    bench.run_for(milliseconds(500))
    return bench


@pytest.mark.parametrize("claimed", [VIP4, VIP6], ids=str)
def test_master_speaks_up(claimed):
    """A MASTER whose address is claimed tells who claims it, announces and advertises at once."""
    bench = master()
    actions = bench.feed(AddressClaimed(PARENT, claimed.ip, STRANGER))
    notice, again = only(Notice, actions)
    assert again.note is Note.REASSERTED
    assert notice.note is Note.CLAIMED
    assert str(claimed.ip) in notice.detail
    assert STRANGER.hex(":") in notice.detail
    assert len(only(Announce, actions)) == 1
    assert len(only(Send, actions)) == 2


def test_it_stays_master():
    """A claim is no advertisement: it costs no mastership and moves no timer."""
    bench = master()
    due = bench.engine.next_deadline()
    assert only(Transition, bench.feed(CLAIM)) == []
    assert (bench.state(), bench.engine.next_deadline()) == (State.MASTER, due)


def test_it_does_not_shout():
    """With the other insisting, a MASTER defends its address once in ten seconds, and counts every claim."""
    bench = master()
    defended = 0
    for _ in range(200):
        defended += len(only(Announce, bench.feed(CLAIM)))
        bench.now += milliseconds(1)
    assert defended == 1
    assert bench.engine.statistics.claims_heard == bench.interface().statistics.claims_heard == 200
    bench.run_for(seconds(10))
    assert len(only(Announce, bench.feed(CLAIM))) == 1


@pytest.mark.parametrize(("lladdr", "mac"), [(LinkAddress.VIRTUAL, virtual_mac(1)), (LinkAddress.PARENT, parent_mac(1))])
def test_same_mac_is_left_to_the_election(lladdr, mac):
    """A claim from the MAC of the group is another host of it: it is told, and the election decides."""
    actions = master(lladdr=lladdr).feed(AddressClaimed(PARENT, VIP4.ip, mac))
    assert [type(action) for action in actions] == [Notice]


def test_backup_does_not_mind():
    """Claims are a MASTER's matter: to a BACKUP its MASTER's announcements look the same."""
    bench = Bench(carp_interface())
    before = bench.snapshot()
    assert bench.feed(CLAIM) == []
    assert bench.snapshot() == before


def test_new_master_does_not_mind():
    """What the former MASTER said is still on its way for a moment after a takeover."""
    bench = Bench(carp_interface())
    bench.wait_for(State.MASTER)
    assert bench.feed(CLAIM) == []


@pytest.mark.parametrize(
    "event", [AddressClaimed(PARENT, OTHER.ip, STRANGER), AddressClaimed("lan9", VIP4.ip, STRANGER)], ids=["address", "parent"]
)
def test_what_is_not_ours(event):
    """Other addresses, and other links, are no matter."""
    assert master().feed(event) == []
