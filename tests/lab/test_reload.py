"""Changes by SIGHUP: BACKUPs first, the MASTER last, and no user notices."""

from collections.abc import Callable

import pytest

from lab.host import Carp, Host
from lab.measure import lost, owners
from lab.pairs import SLACK_S, USUAL, make_pair, settle, transitions
from lab.ping import ping
from lab.prober import Prober
from lab.stage import SHARED, Stage
from lab.tables import addresses
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

NEW = ("192.0.2.101/24", "2001:db8::101/64")
TWO_INTERVALS_S = 2.2


def reload(host: Host, prober: Prober, change: Callable[[Carp], Carp]) -> None:
    """Change a host's carp interface and let some advertisements pass afterwards."""
    before = host.log_text().count("configuration reloaded")
    host.configure([change(carp) for carp in host.carps], **host.global_keys)
    host.reload()
    until(lambda: host.log_text().count("configuration reloaded") > before, SLACK_S, f"{host.label} to reload")
    prober.wait_for_time(TWO_INTERVALS_S)


@pytest.mark.parametrize(
    "change",
    [
        lambda carp: carp.but(addresses=(*SHARED, *NEW)),
        lambda carp: carp.but(addresses=(*SHARED, NEW[0])),
        lambda carp: carp.but(password="closesesame"),
    ],
    ids=["both families added", "one address added", "pass phrase changed"],
)
def test_a_change_within_the_grace_loses_nothing(stage: Stage, change: Callable[[Carp], Carp]) -> None:
    """An address added or a pass phrase changed, BACKUP first: no probe lost, no transition, and the change is in force."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = transitions(a), transitions(b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        reload(b, prober, change)
        reload(a, prober, change)
        traces = prober.stop()
    for trace in traces.values():
        assert lost(trace) == 0
        assert owners(trace, trace.start, trace.end) == ["a"]
    assert (transitions(a), transitions(b)) == before
    wanted = change(Carp()).addresses
    assert addresses(a.namespace, "carp0") == set(wanted)
    assert set(b.interface()["addresses"]) == set(wanted)
    for address in wanted:
        assert ping(stage.client.namespace, address.split("/")[0], count=5) == 5
    # With the grace over, the pair still agrees: the MASTER now sends what the BACKUP expects.
    a.stop()
    b.wait_for_state("MASTER", SLACK_S)


def test_an_address_is_taken_away_without_a_loss_of_the_others(stage: Stage) -> None:
    """Removing an address on the BACKUP and then on the MASTER leaves the other addresses alone."""
    a, b = make_pair(stage, USUAL, Carp(addresses=(*SHARED, *NEW)))
    settle(USUAL, a, b)
    before = transitions(a), transitions(b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        reload(b, prober, lambda carp: carp.but(addresses=SHARED))
        reload(a, prober, lambda carp: carp.but(addresses=SHARED))
        traces = prober.stop()
    assert [lost(trace) for trace in traces.values()] == [0, 0]
    assert (transitions(a), transitions(b)) == before
    assert addresses(a.namespace, "carp0") == set(SHARED)


def test_a_wrong_configuration_changes_nothing(stage: Stage) -> None:
    """A reload of a file with errors is refused whole; the daemon goes on with what it had and names every error."""
    (a,) = make_pair(stage, USUAL)[:1]
    settle(USUAL, a)
    before = a.interface()
    a.config.write_text(a.config.read_text().replace("vhid = 1", "vhid = 256") + "advskeww = 3\n")
    a.reload()
    until(lambda: "256" in a.log_text() and "advskeww" in a.log_text(), SLACK_S, "both errors in the log")
    after = a.interface()
    assert [after[key] for key in ("addresses", "live", "lladdr")] == [before[key] for key in ("addresses", "live", "lladdr")]
    assert a.state_of() == "MASTER"


def test_carp_interfaces_come_and_go_by_reload(stage: Stage) -> None:
    """A second carp interface is added and removed again while the first one serves."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    second = Carp("carp1", 2, addresses=(NEW[0],))
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        for host in (b, a):
            host.configure([*host.carps, second.but(advskew=host.carps[0].advskew)], **host.global_keys)
            host.reload()
        a.wait_for_state("MASTER", SLACK_S, name="carp1")
        b.wait_for_state("BACKUP", SLACK_S, name="carp1")
        assert ping(stage.client.namespace, NEW[0].split("/")[0], count=5) == 5
        for host in (b, a):
            host.configure(host.carps[:1], **host.global_keys)
            host.reload()
        a.wait_for(lambda status: len(status["interfaces"]) == 1, SLACK_S, "carp1 to go")
        until(lambda: "carp1" not in a.namespace.run("ip", "link"), SLACK_S, "the interface carp1 to go")
        traces = prober.stop()
    assert [lost(trace) for trace in traces.values()] == [0, 0]
