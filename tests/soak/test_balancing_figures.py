"""Load balancing over a long time and many tries: what it costs, and that each flow always has one owner."""

import statistics
from collections.abc import Callable

import pytest

from lab.flows import Flows
from lab.host import Carp, Host
from lab.pairs import SLACK_S, USUAL, patience_s
from lab.sharing import IP, IP_STEALTH, QUICK_STEPS, USUAL_STEPS, balanced, crossed, is_shared_out, start_sharing
from lab.stage import SHARED, Stage, bare
from lab.throughput import tcp_bytes_per_second
from lab.wait import until

pytestmark = [pytest.mark.usefixtures("carpd"), pytest.mark.timeout(1800)]

Note = Callable[[str], None]
PLAIN = ("192.0.2.101/24", "2001:db8::101/64")
PAIRS, EACH_S = 10, 1.5
LEAST_RATIO = 0.95
QUIET_S = 120.0
CUTS = 20


@pytest.mark.parametrize("mode", [IP, IP_STEALTH])
def test_throughput_of_a_share(stage: Stage, note: Note, mode: str) -> None:
    """TCP to a balanced address carries at least 0.95 of what it does to a plain one of the same host: median of ten pairs."""
    host = stage.host(
        "a",
        balanced([(1, 0), (2, 0)], mode, USUAL_STEPS),
        Carp("carp1", 9, addresses=PLAIN),
        preempt=True,
    )
    host.start()
    assert stage.client.carrier()
    for name in ("carp0", "carp1"):
        host.wait_for_state("MASTER", patience_s(USUAL), name)
    for family, number in (("IPv4", 0), ("IPv6", 1)):
        balanced_one, plain_one = bare(SHARED)[number], bare(PLAIN)[number]
        ratios = []
        for turn in range(PAIRS):
            rates = {}
            # The order alternates: whoever goes second finds a warmer machine.
            for address in (balanced_one, plain_one) if turn % 2 else (plain_one, balanced_one):
                rates[address] = tcp_bytes_per_second(stage.client, host.port, address, EACH_S)
            ratios.append(rates[balanced_one] / rates[plain_one])
        note(
            f"TCP over {family}, balancing {mode} against none: median {statistics.median(ratios):.3f} of {PAIRS} pairs "
            f"({', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}), "
            f"last {rates[balanced_one] * 8 / 1e9:.1f} against {rates[plain_one] * 8 / 1e9:.1f} Gbit/s"
        )
        assert statistics.median(ratios) >= LEAST_RATIO


def trio(stage: Stage) -> list[Host]:
    """Start three quick hosts that share the usual addresses."""
    hosts = [stage.host(label, balanced(crossed(index, 3)), preempt=True) for index, label in enumerate("abc")]
    start_sharing(hosts)
    return hosts


def test_nothing_is_lost_in_quiet(stage: Stage, note: Note) -> None:
    """For two minutes every question of 1,000 flows of both families is answered once, by the same host."""
    hosts = trio(stage)
    with Flows([host.port for host in hosts], stage.client, bare(SHARED)) as flows:
        flows.resolve()
        flows.run()
        flows.wait_for_time(QUIET_S)
        found = flows.halt()
    for record in found.values():
        asked = sum(map(len, record.asked))
        note(f"{record.address}: {asked} questions, {len(record.losers())} flows lost one, {len(record.repeated())} doubled")
        assert (record.losers(), record.repeated()) == (set(), set())
        assert {len(record.owners(flow)) for flow in record.flows} == {1}


def test_kills_never_make_two_owners(stage: Stage, note: Note) -> None:
    """Twenty times a host is killed and started again: no question is answered by two, and no other flow loses one."""
    hosts = trio(stage)
    doubled = others = 0
    silences = []
    with Flows([host.port for host in hosts], stage.client, bare(SHARED)) as flows:
        flows.resolve()
        for turn in range(CUTS):
            struck = hosts[turn % 3]
            left = [host for host in hosts if host is not struck]
            flows.run()
            flows.wait_for_time(0.5)
            at = struck.kill()
            until(lambda left=left: is_shared_out(left), SLACK_S, "the share to be taken over", 0.05)  # type: ignore[misc]
            flows.wait_for_time(0.5)
            start_sharing(hosts)
            flows.wait_for_time(0.5)
            for record in flows.halt().values():
                moved = record.of([struck.label], end=at)
                doubled += len(record.doubled())
                others += len(record.losers() - moved)
                silences.append(record.longest_silence_ns(moved) / 1e6)
    advbase, best, step = QUICK_STEPS
    note(
        f"kill -9 of one of three, advbase {advbase}, advskew {best} and {best + step}: {doubled} flows answered by two, "
        f"{others} others lost an answer; the share paused for {statistics.median(silences):.0f} ms (max {max(silences):.0f})"
    )
    assert (doubled, others) == (0, 0)
