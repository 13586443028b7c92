"""One wake for many: the virtual hosts of a parent come to advertise at the same moment."""

from itertools import pairwise

from carp.protocol.actions import Send
from carp.protocol.values import State
from carp.testing.bench import Bench, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import carp_interface
from carp.testing.packets import Peer


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


def test_one_wake_for_all():
    """Virtual hosts that became MASTER at any moments advertise together a few intervals later, each once a second."""
    bench = masters([milliseconds(7 * number % 40) for number in range(120)])
    found = wakes(bench, seconds(4))
    assert [sorted(vhids) for _, vhids in found] == [list(range(1, 122))] * 4
    assert {later - earlier for (earlier, _), (later, _) in pairwise(found)} == {seconds(1)}


def test_nobody_is_late():
    """While they come together nobody lets its peers wait for longer than its interval."""
    interfaces = [carp_interface(f"carp{vhid}", vhid) for vhid in (1, 2)]
    bench = Bench(interfaces[0])
    bench.run_for(milliseconds(300))
    bench.reconfigure(*interfaces)
    found = wakes(bench, seconds(16))
    for vhid in (1, 2):
        times = [at for at, vhids in found if vhid in vhids]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) == seconds(1)
        assert min(gaps) >= seconds(1) - seconds(1) // 8


def test_a_lone_one_keeps_its_exact_times():
    """There is nobody to be together with."""
    times = [at for at, _ in wakes(masters([]), seconds(20))]
    assert {later - earlier for earlier, later in pairwise(times)} == {seconds(1)}


def test_an_answer_to_a_rival_keeps_its_distance():
    """It is not drawn to the beat of the others."""
    bench = masters([milliseconds(500)])
    rival = Peer.of(carp_interface("carp2", 2))
    rival.advskew = 200
    at = bench.vhost(1)._advertise_due - milliseconds(100)
    bench.run_until(at)
    bench.hear(rival.advertisement())
    bench.hear(rival.advertisement())
    assert wakes(bench, milliseconds(60)) == [(at + milliseconds(25), [2])]
