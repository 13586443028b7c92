"""Load balancing over a long time and many tries: what it costs, and that each flow always has one owner."""

import statistics
from collections import Counter
from collections.abc import Callable

import pytest

from lab.flows import Flows
from lab.host import Carp, Host
from lab.pairs import SLACK_S, USUAL, patience_s
from lab.sharing import ARP, IP, IP_STEALTH, QUICK_STEPS, USUAL_STEPS, balanced, crossed, is_shared_out, start_sharing
from lab.stage import SHARED, Stage, bare
from lab.throughput import tcp_bytes_per_second
from lab.wait import now_ns, until

pytestmark = [pytest.mark.usefixtures("carpd"), pytest.mark.timeout(1800)]

Note = Callable[[str], None]
BALANCED = ("198.51.100.100/24", "2001:db8:5::100/64")
PLAIN = ("198.51.100.101/24", "2001:db8:5::101/64")
PAIRS, EACH_S = 10, 1.5
LEAST_RATIO = 0.95
QUIET_S = 120.0
CUTS = 20


def on_a_cable(stage: Stage, mode: str) -> Host:
    """Configure a host with a balanced and a plain address on an interface whose cable ends at the client.

    A bridge in the same kernel copies multicast frames, which would be most of what is measured.
    """
    port, client = stage.port("a"), stage.client
    ends = [(port, "1"), (client, "9")]
    port.namespace.ip(f"link add eth1 type veth peer name eth1 netns {client.namespace.name}")
    for end, number in ends:
        end.namespace.sysctl("ipv6/conf/eth1/accept_dad", 0)
        addresses = (f"198.51.100.{number}/24", f"2001:db8:5::{number}/64")
        end.namespace.ip("link set eth1 up", *(f"addr add {one} dev eth1" for one in addresses))
    return stage.host(
        "a",
        balanced([(1, 0), (2, 0)], mode, USUAL_STEPS, Carp(carpdev="eth1", addresses=BALANCED)),
        Carp("carp1", 9, carpdev="eth1", addresses=PLAIN),
        preempt=True,
    )


@pytest.mark.parametrize("mode", [IP, IP_STEALTH, ARP])
def test_throughput_of_a_share(stage: Stage, note: Note, mode: str) -> None:
    """TCP to a balanced address carries at least 0.95 of what it does to a plain one of the same host: median of ten pairs."""
    host = on_a_cable(stage, mode)
    host.start()
    for name in ("carp0", "carp1"):
        host.wait_for_state("MASTER", patience_s(USUAL), name)
    for family, number in (("IPv4", 0), ("IPv6", 1)):
        balanced_one, plain_one = bare(BALANCED)[number], bare(PLAIN)[number]
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
    doubled, others = Counter[str](), Counter[str]()
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
            returned = now_ns()
            start_sharing(hosts)
            flows.wait_for_time(0.5)
            for record in flows.halt().values():
                moved = record.of([struck.label], end=at)
                for phase, start, end in (("kill", 0, returned), ("return", returned, None)):
                    doubled[phase] += len(record.doubled(start, end))
                    others[phase] += len(record.losers(start, end) - moved)
                silences.append(record.longest_silence_ns(moved, end=returned) / 1e6)
    advbase, best, step = QUICK_STEPS
    note(f"kill -9 of one of three, advbase {advbase}, advskew {best} and {best + step}, {CUTS} times:")
    note(f"  flows answered by two {dict(doubled)}, others that lost an answer {dict(others)}")
    note(f"  the share paused for {statistics.median(silences):.0f} ms (at most {max(silences):.0f})")
    assert (doubled.total(), others.total()) == (0, 0)
