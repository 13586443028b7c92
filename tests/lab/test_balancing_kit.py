"""The tools that measure load balancing see what they should: who answers, twice, not at all, from where, for how long."""

from collections.abc import Callable

import pytest
from balancing_hosts import VIP4, VIP6

from lab.figures import Bound
from lab.flow_record import FlowRecord, Reply
from lab.flows import Flows
from lab.shares import MARGIN_NS, measure
from lab.stage import SHARED, Stage
from lab.stations import answer, node_of, number, question, request, stations, wanted_nodes
from lab.wait import now_ns
from lab.wire import checksum

MS = 1_000_000
FLOWS = 200
SAME_MAC = "02:00:00:00:00:77"


def twins(stage: Stage) -> list[str]:
    """Put hosts a and b with one MAC and both shared addresses on a hub: both answer everything."""
    for label in "ab":
        namespace = stage.port(label).namespace
        namespace.ip(f"link set dev eth0 address {SAME_MAC}", *(f"addr add {one} dev eth0 nodad" for one in SHARED))
    return ["a", "b"]


def test_two_answers_are_seen(build_stage: Callable[..., Stage]) -> None:
    """Where two hosts answer everything, each station is told twice and each flow is doubled, of both families."""
    stage = build_stage(flooding=True)
    labels = twins(stage)
    with Flows([stage.port(label) for label in labels], stage.client, [VIP4, VIP6], FLOWS) as flows:
        told, found = flows.resolve(), flows.round()
    for address in (VIP4, VIP6):
        assert {tuple(seen) for seen in told[address].values()} == {((SAME_MAC, SAME_MAC),) * 2}
        record = found[address]
        assert record.doubled() == record.repeated() == set(range(FLOWS))
        assert {record.owners(flow) for flow in record.flows} == {frozenset("ab")}
        assert record.shares() == {}
        assert record.macs("a") == {SAME_MAC}


def test_silence_is_seen(stage: Stage) -> None:
    """Flows that run while their host is cut off lose questions until it is back, and nobody loses one before or after."""
    stage.port("a").namespace.ip(*(f"addr add {one} dev eth0 nodad" for one in SHARED))
    with Flows([stage.port("a")], stage.client, [VIP4, VIP6], FLOWS) as flows:
        flows.resolve()
        flows.run()
        flows.wait_for_time(0.5)
        blocking, blocked = now_ns(), stage.port("a").block()
        flows.wait_for_time(1.0)
        unblocked = stage.port("a").unblock()
        flows.wait_for_time(0.5)
        found = flows.halt()
    for record in found.values():
        assert record.losers(end=blocking - MS) == record.losers(start=unblocked + MS) == set()
        assert record.losers() == set(record.flows)
        assert unblocked - blocked - 300 * MS < record.longest_silence_ns(record.flows) < unblocked - blocked + 400 * MS


def test_flows_are_spread_over_the_nodes() -> None:
    """Every station has addresses of its own; of any number of nodes each gets about the same of them."""
    flows = stations(2_000)
    assert len({one.ipv4 for one in flows}) == len({one.ipv6 for one in flows}) == len({one.mac for one in flows}) == 2_000
    for address in (VIP4, VIP6):
        for count in (2, 3, 4, 32):
            nodes = wanted_nodes(flows, address, count)
            sizes = [nodes.count(node) for node in range(count)]
            assert min(sizes) > 0.5 * 2_000 / count, (address, count)
    assert not {one.ipv4 for one in flows} & {one.ipv4 for one in stations(2_000, 1)}


def test_the_rule_of_an_example() -> None:
    """Of two nodes 192.0.2.9 has the second and 192.0.2.10 the first one of 192.0.2.100; the order of both does not matter."""
    shared = bytes((192, 0, 2, 100))
    for last, node in ((9, 1), (10, 0)):
        asker = bytes((192, 0, 2, last))
        assert node_of(asker, shared, 2) == node_of(shared, asker, 2) == node


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_frames_are_right(address: str) -> None:
    """Checksums hold for every number of a question; an answer is read back with its flow and number."""
    (station,) = stations(1)
    frame = bytes(number(question(station, address, bytes(6)), 77))
    if ":" in address:
        pseudo = frame[22:54] + (20).to_bytes(4, "big") + (17).to_bytes(4, "big")
        assert checksum(pseudo + frame[54:]) == 0
        asked = request(station, address)
        pseudo = asked[22:54] + (32).to_bytes(4, "big") + (58).to_bytes(4, "big")
        assert checksum(pseudo + asked[54:]) == 0
    else:
        assert checksum(frame[14:34]) == 0
    head = 54 if ":" in address else 34
    assert answer(frame[: head + 8] + b"\x05" + frame[head + 8 :]) == (5, 0, 77)


def record_of(*flows: list[tuple[int, str]]) -> FlowRecord:
    """Make a record: of each flow the instants, in ms, at which it asked, each with who answered 1 ms later."""
    return FlowRecord(
        VIP4,
        [[at * MS for at, _ in flow] for flow in flows],
        [[[Reply(host, "", (at + 1) * MS) for host in hosts] for at, hosts in flow] for flow in flows],
    )


def test_what_counts_as_wrong() -> None:
    """A flow that moved may pause; one that did not must lose nothing, change nothing, and none is answered by two."""
    gap, quiet = MARGIN_NS // MS, Bound(0, 5_000 * MS)
    at = 1_000
    moved = [(0, "b"), (at + 10, ""), (at + 260, "a"), (at + 2 * gap + 300, "a")]
    stays = [(0, "a"), (at + 20, "a"), (at + 270, "a"), (at + 2 * gap + 310, "a")]
    loses = [(0, "a"), (at + 20, ""), (at + 270, "a"), (at + 2 * gap + 310, "a")]
    doubled = [(0, "a"), (at + 20, "ab"), (at + 270, "a"), (at + 2 * gap + 310, "a")]

    def result(*flows: list[tuple[int, str]]) -> tuple[int, int, int, bool]:
        one = measure(record_of(*flows), "s", "e", at * MS, (at + 260) * MS, quiet, leaving="b")
        return one.by_two, one.by_none, one.others_pause_ns // MS, bool(one.faults)

    good = measure(record_of(moved, stays), "s", "e", at * MS, (at + 260) * MS, quiet, leaving="b")
    assert (good.takeover_ns, good.pause_ns) == (261 * MS, 251 * MS)
    assert (good.before, good.after, good.faults) == ({"a": 0.5, "b": 0.5}, {"a": 1.0}, ())
    assert result(moved, stays) == (0, 0, 0, False)
    assert result(moved, loses) == (0, 1, 251, True)
    assert result(moved, doubled) == (1, 0, 0, True)
    assert result(stays) == (0, 0, 0, True)
