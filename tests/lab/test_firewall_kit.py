"""The laboratory's own parts for firewalls: what it sends, counts and empties is what it says."""

from lab.conntrackd import count_states, flush_states
from lab.pairs import SLACK_S
from lab.stage import Stage
from lab.transfer_record import Account, CallRecord, TransferRecord
from lab.transfers import Transfers
from lab.wait import now_ns

SECOND_NS = 1_000_000_000
SOME = 6


def transfer(*gaps: tuple[int, int], ended: int = 0, error: str = "") -> TransferRecord:
    """Return the record of a transfer, of which all arrived."""
    return {"sent": 1, "received": 1, "gaps": list(gaps), "ended": ended, "error": error}


def call(opened: int, error: str = "") -> CallRecord:
    """Return the record of a call that was answered a nanosecond later."""
    return {"opened": opened, "answered": opened + 1, "ended": opened + 2, "error": error}


def test_a_part_of_an_account() -> None:
    """A pause counts from what was heard before the event, and only where it was; so do broken transfers and calls."""
    account = Account(
        {
            "transfers": [transfer((95, 150), (300, 310)), transfer((400, 900)), transfer(ended=120, error="reset")],
            "calls": [call(50, "reset"), call(110), call(130, "reset")],
            "udp_sent": 5,
            "udp_answered": 4,
            "udp_gaps": [(99, 101)],
        }
    )
    part = account.part(100, 350)
    assert (part.tcp_pause_ns, part.udp_pause_ns, part.lost) == (55, 2, ("reset",))
    assert (part.calls, dict(part.broken)) == (2, {"reset": 1})
    assert account.incomplete == ["reset"]


def test_traffic_and_a_cut(stage: Stage) -> None:
    """Both directions arrive whole; a cut of half a second is a pause of that length, for TCP and UDP, and breaks nothing."""
    client, server = stage.client, stage.port("a")
    with Transfers(client, server, "192.0.2.1", SOME) as traffic:
        start = client.block()
        traffic.wait_for_time(0.5)
        end = client.unblock()
        traffic.wait_until_flowing(SLACK_S, end)
        account = traffic.stop()
    part = account.part(start, now_ns())
    assert account.incomplete == []
    assert min(one["received"] for one in account.transfers) > 0
    assert end - start - 0.05 * SECOND_NS <= part.udp_pause_ns <= end - start + SECOND_NS
    assert part.tcp_pause_ns >= end - start - 0.05 * SECOND_NS


def test_an_emptied_table(stage: Stage) -> None:
    """What the kernel knows of connections is gone after it."""
    client, server = stage.client, stage.port("a")
    server.namespace.run(
        "nft", "-f", "-", text="table ip x { chain y { type filter hook input priority 0; ct state new accept; }; }"
    )
    with Transfers(client, server, "192.0.2.1", SOME, calls=0):
        assert count_states(server.namespace) > SOME
        server.block()
        flush_states(server.namespace)
        assert count_states(server.namespace) == 0
