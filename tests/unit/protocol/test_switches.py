"""The host's switches besides allow and preempt: DSCP, and what a trouble demotes by."""

import pytest

from carp.protocol.actions import Send
from carp.protocol.dialect import DIALECTS
from carp.protocol.events import Sent, TakeFailed
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import seconds
from carp.testing.hosts import DUAL_STACK, carp_interface, configured, parent_down, parent_gone, parent_up, station_peers

IPV4, IPV6 = Family


def classes(actions):
    """Tell the type of service and the traffic class of what is sent."""
    sends = only(Send, actions)
    tos = {packet[1] for send in sends if send.family is IPV4 for packet in send.packets}
    traffic = {int.from_bytes(packet[:2]) >> 4 & 0xFF for send in sends if send.family is IPV6 for packet in send.packets}
    return tos, traffic


class TestDscp:
    @pytest.mark.parametrize("peers", [(), station_peers(2, 3)], ids=["group", "peers"])
    @pytest.mark.parametrize(("dscp", "byte"), [(0, 0x00), (1, 0x04), (56, 0xE0), (63, 0xFC)])
    def test_both_families_carry_it(self, dscp, byte, peers):
        """In the upper six bits of the type of service and of the traffic class."""
        bench = Bench(carp_interface(addresses=DUAL_STACK, peers=peers))
        bench.reconfigure(carp_interface(addresses=DUAL_STACK, peers=peers), dscp=dscp)
        assert classes(bench.wait_for(State.MASTER)) == ({byte}, {byte})

    @pytest.mark.parametrize("name", list(DIALECTS))
    def test_unset_it_is_the_dialects(self, name):
        """Without a wish it is what that system sends."""
        bench = Bench(carp_interface(addresses=DUAL_STACK, dialect=name))
        dialect = DIALECTS[name]
        assert classes(bench.wait_for(State.MASTER)) == ({dialect.tos}, {dialect.traffic_class})

    def test_a_change_moves_nothing(self):
        """It counts from the next advertisement on."""
        bench = Bench(carp_interface())
        bench.wait_for(State.MASTER)
        before = bench.snapshot()
        assert bench.reconfigure(carp_interface(), dscp=10) == []
        assert bench.snapshot() == before
        assert classes(bench.run_for(seconds(1)))[0] == {40}


class TestDemotionFactors:
    @pytest.mark.parametrize("event", [parent_down(), parent_gone()], ids=["down", "gone"])
    @pytest.mark.parametrize("amount", [0, 1, 240])
    def test_a_parent_that_is_down(self, event, amount):
        """It demotes by what is set; 0 does not demote."""
        bench = Bench(carp_interface())
        bench.reconfigure(carp_interface(), ifdown_demotion=amount)
        bench.feed(event)
        assert bench.interface().demote == amount
        bench.feed(parent_up())
        assert bench.interface().demote == 0

    @pytest.mark.parametrize("amount", [0, 1, 240])
    def test_send_errors(self, amount):
        """They demote by what is set, and end as always."""
        bench = Bench(carp_interface())
        bench.reconfigure(carp_interface(), senderr_demotion=amount)
        for _ in range(3):
            bench.feed(Sent("carp0", 1, IPV4, 1))
        assert bench.interface().demote == amount
        for _ in range(3):
            bench.feed(Sent("carp0", 1, IPV4))
        assert bench.interface().demote == 0

    def test_refused_addresses(self):
        """What has no switch demotes by one."""
        bench = Bench(carp_interface(), answers=False)
        bench.reconfigure(carp_interface(), ifdown_demotion=0, senderr_demotion=0)
        bench.wait_for(State.MASTER)
        bench.feed(TakeFailed("carp0", "no"))
        assert bench.interface().demote == 1

    def test_changed_while_it_holds(self):
        """The count follows, both ways and over 0, and MASTERs tell it; nothing sticks (on the BSDs a rest does)."""
        interfaces = carp_interface(), carp_interface("carp1", 2, carpdev="lan1")
        bench = Bench(*interfaces)
        bench.wait_for(State.MASTER, 2)
        bench.feed(parent_down())
        shown = []
        for amount in (5, 0, 7, 2):
            actions = bench.reconfigure(*interfaces, ifdown_demotion=amount)
            shown += [sent.demote for sent in advertisements(actions)]
        assert shown == [5, 0, 7, 2]
        bench.feed(parent_up())
        assert bench.interface("carp1").demote == 0

    def test_send_errors_that_hold_follow_too(self):
        """With their end where it was."""
        bench = Bench(carp_interface())
        for _ in range(3):
            bench.feed(Sent("carp0", 1, IPV4, 1))
        (before,) = bench.engine.host.demotions
        bench.run_for(seconds(1))
        bench.reconfigure(carp_interface(), senderr_demotion=9)
        (after,) = bench.engine.host.demotions
        assert (after.amount, after.since, after.until) == (9, before.since, before.until)

    def test_groups_that_change_while_it_holds(self):
        """An interface that joins another group takes its demotion along, and out of the one that it leaves."""
        others = carp_interface("carp1", 2, carpdev="lan1"), carp_interface("carp2", 3, carpdev="lan1", groups=("web",))
        bench = Bench(carp_interface(), *others)
        bench.feed(parent_down())
        bench.feed(configured(carp_interface(groups=("web",)), *others))
        assert (bench.interface("carp1").demote, bench.interface("carp2").demote) == (0, 1)

    def test_the_same_again_is_no_change(self):
        """A configuration that says the same leaves every reason as it is."""
        bench = Bench(carp_interface())
        bench.feed(parent_down())
        before = bench.engine.host.demotions.changes
        bench.reconfigure(carp_interface())
        assert bench.engine.host.demotions.changes == before
