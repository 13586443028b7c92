"""One wake for many: advertisements that are nearly due go out with one that is due, and their times do not drift."""

from itertools import pairwise

import pytest

from carp.protocol.actions import Send, Transition
from carp.protocol.events import Due
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import carp_interface, configured
from carp.testing.packets import Peer

IPV4 = Family.IPV4


def wakes(bench, duration_ns):
    """Let time pass; return each wake after which something was sent, with the vhids."""
    end, found = bench.now + duration_ns, []
    while (due := bench.engine.next_deadline()) <= end:
        sends = only(Send, bench.run_until(due))
        if sends:
            found.append((bench.now, [send.vhid for send in sends]))
    bench.run_until(end)
    return found


def masters(gaps_ns, **settings):
    """Make a host become MASTER of virtual hosts one after another, with these gaps between."""
    interfaces = [carp_interface(f"carp{vhid}", vhid, **settings) for vhid in range(1, len(gaps_ns) + 2)]
    bench = Bench(interfaces[0])
    for number, gap_ns in enumerate(gaps_ns):
        bench.run_for(gap_ns)
        bench.reconfigure(*interfaces[: number + 2])
    bench.run_for(seconds(16))
    assert {bench.state(one.leader.vhid) for one in interfaces} == {State.MASTER}
    return bench


def test_nearly_due_goes_along():
    """Who is due within a 32nd of its interval after another one is sent with it: one wake a second for both."""
    bench = masters([milliseconds(31)])
    assert [vhids for _, vhids in wakes(bench, seconds(5))] == [[1, 2]] * 5


def test_later_ones_keep_their_time():
    """Who is due later than that keeps its own time."""
    bench = masters([milliseconds(32)])
    found = wakes(bench, seconds(5))
    assert [vhids for _, vhids in found] == [[1], [2]] * 5
    assert found[1][0] - found[0][0] == milliseconds(32)


def test_at_most_32_ms():
    """However long the interval, nobody is earlier than 32 ms."""
    assert [vhids for _, vhids in wakes(masters([milliseconds(32)], advbase=2), seconds(6))] == [[1, 2]] * 3
    assert [vhids for _, vhids in wakes(masters([milliseconds(33)], advbase=2), seconds(6))] == [[1], [2]] * 3


def test_times_do_not_drift():
    """The one that goes along still has its own time: after hundreds of intervals it is back there once it is alone."""
    bench = masters([milliseconds(31)])
    (first, _), *_ = wakes(bench, seconds(1))
    bench.run_for(seconds(300))
    bench.reconfigure(carp_interface("carp2", 2))
    (at, vhids), *_ = wakes(bench, seconds(2))
    assert vhids == [2]
    assert (at - first) % seconds(1) == milliseconds(31)


def test_a_lone_one_keeps_its_exact_times():
    """Nothing is ever early for its own sake."""
    bench = masters([])
    times = [at for at, _ in wakes(bench, seconds(20))]
    assert {later - earlier for earlier, later in pairwise(times)} == {seconds(1)}
    before = bench.engine.next_deadline()
    bench.now = before - 1
    assert bench.feed(Due(bench.now)) == []
    assert bench.engine.next_deadline() == before


def test_few_wakes_for_many():
    """Virtual hosts that became MASTER at any moments cost at most 33 wakes a second, and each advertises once."""
    bench = masters([milliseconds(7 * number % 40) for number in range(120)])
    found = wakes(bench, seconds(4))
    assert len(found) <= 4 * 33
    counts = [vhid for _, vhids in found for vhid in vhids]
    assert {counts.count(vhid) for vhid in range(1, 122)} <= {4, 5}


def test_master_down_is_never_early():
    """A BACKUP does not take over early because another virtual host advertises."""
    bench = masters([])
    other = carp_interface("carp2", 2, advskew=100)
    bench.feed(configured(carp_interface("carp1", 1), other))
    deadline = bench.vhost(2).expected_master_down()
    while deadline - bench.now > milliseconds(20):
        bench.run_until(min(deadline - milliseconds(20), bench.engine.next_deadline()))
    bench.hear(Peer.of(other, 2).advertisement())
    assert bench.vhost(2).expected_master_down() > deadline
    assert only(Transition, bench.run_until(bench.vhost(2).expected_master_down() - 1)) == []


def test_an_answer_to_a_rival_is_not_early():
    """What answers a rival a little later keeps its distance, whoever advertises before."""
    bench = masters([milliseconds(500)])
    rival = Peer.of(carp_interface("carp2", 2))
    rival.advskew = 200
    at = bench.vhost(1)._advertise_due - milliseconds(10)
    bench.run_until(at)
    bench.hear(rival.advertisement())
    bench.hear(rival.advertisement())
    found = wakes(bench, milliseconds(40))
    assert found == [(at + milliseconds(10), [1]), (at + milliseconds(25), [2])]


@pytest.mark.parametrize("late_ns", [0, milliseconds(400)])
def test_early_is_not_stalled(late_ns):
    """Whoever goes along early is no more late than it is: both stay MASTER."""
    bench = masters([milliseconds(20)])
    bench.now = bench.engine.next_deadline() + late_ns
    actions = bench.feed(Due(bench.now))
    assert [send.vhid for send in only(Send, actions)] == [1, 2]
    assert only(Transition, actions) == []
