"""The redundant pair of firewalls: connections go on when the first is struck, and when it comes back."""

import pytest

from lab.axe import play_axe
from lab.firewalls import QUICK, SERVER, FirewallPair
from lab.pairs import SLACK_S
from lab.stage import Stage
from lab.transfers import Transfers
from lab.wait import now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

SOME = 20


@pytest.mark.slow
def test_an_axe_and_the_return(stage: Stage) -> None:
    """100 transfers live on without a reset, pauses stay within their bounds, and fw1 comes back only with all states."""
    pair = FirewallPair(stage)
    pair.settle()
    outcome = play_axe(pair)
    print(*outcome.rows, sep="\n")
    assert outcome.faults == []


@pytest.mark.slow
def test_a_second_axe_right_after_the_return(stage: Stage) -> None:
    """What the returned firewall took over has been sent to its peer: connections survive the next axe as well."""
    pair = FirewallPair(stage, QUICK)
    pair.settle()
    with Transfers(pair.client, pair.server, SERVER, SOME, calls=0) as traffic:
        for _ in range(2):
            pair.fw1.axe()
            traffic.wait_until_flowing(SLACK_S, pair.wait_settled(pair.fw2))
            pair.fw1.recover()
            traffic.wait_until_flowing(SLACK_S, pair.wait_settled(pair.fw1, pair.fw2))
        assert traffic.stop().incomplete == []


@pytest.mark.slow
def test_handing_over_by_hand(stage: Stage) -> None:
    """Maintenance and its end cost no connection, not even one that was opened a moment before."""
    pair = FirewallPair(stage)
    pair.settle()
    with Transfers(pair.client, pair.server, SERVER, SOME) as traffic:
        for word, master, backup in (("on", pair.fw2, pair.fw1), ("off", pair.fw1, pair.fw2)):
            done = pair.fw1.carp("maintenance", word)
            assert done.returncode == 0, done.stderr
            traffic.wait_until_flowing(SLACK_S, pair.wait_settled(master, backup))
        traffic.wait_for_calls(now_ns())
        account = traffic.stop()
    assert account.incomplete == []
    assert account.part(0, now_ns()).broken == {}


def test_the_laboratory_sees_lost_states(stage: Stage) -> None:
    """Without state sync an axe costs every connection: what the other tests see is not the laboratory's leniency."""
    pair = FirewallPair(stage, QUICK)
    for firewall in pair.both:
        firewall.sync = {}
        firewall.configure(firewall.carps, **firewall.global_keys)
        firewall.boot(with_conntrackd=False)
    until(lambda: pair.fw1.is_settled("MASTER") and pair.fw2.is_settled("BACKUP"), SLACK_S, "fw1 to be MASTER")
    with Transfers(pair.client, pair.server, SERVER, SOME) as traffic:
        pair.fw1.axe()
        until(lambda: pair.fw2.is_settled("MASTER"), SLACK_S, "fw2 to be MASTER")
        until(lambda: traffic.lost == SOME // 2, SLACK_S, "the server's transfers to be reset")
        account = traffic.stop()
    assert len(account.incomplete) == SOME
