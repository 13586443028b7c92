"""What another tool changes on carpd's interfaces is put back within a second; what is not carpd's is left alone."""

import signal
from collections.abc import Callable

import pytest

from lab.host import Host
from lab.measure import lost, owners
from lab.pairs import SLACK_S, USUAL, check_caches, make_pair, patience_s, settle, transitions, virtual_mac, wait_settled
from lab.stage import SHARED, Stage
from lab.tables import Portrait, addresses, links, portrait
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

SECOND_NS = 10**9
VMAC = virtual_mac(1)
FOREIGN, FOREIGN_MAC = "198.51.100.77/32", "02:00:00:00:00:77"
TAKE_FAILED_DEMOTION_S = 60.0


def is_up(host: Host) -> bool:
    """Tell whether carp0 exists and is up."""
    link = links(host.namespace).get("carp0")
    return link is not None and "UP" in link["flags"]


def has_mac(host: Host) -> bool:
    """Tell whether carp0 has the virtual MAC."""
    link = links(host.namespace).get("carp0")
    return link is not None and link["address"] == VMAC


def is_whole(host: Host) -> bool:
    """Tell whether carp0 is as a MASTER's must be: up, with its MAC and all shared addresses."""
    if not (is_up(host) and has_mac(host)):
        return False
    return set(SHARED) <= addresses(host.namespace, "carp0")


def is_fenced(host: Host) -> bool:
    """Tell whether the fence's programs are on the parent and on carp0, in both directions."""
    return all("carp_" in filters_of(host, name, hook) for name in ("eth0", "carp0") for hook in ("ingress", "egress"))


def filters_of(host: Host, interface: str, hook: str) -> str:
    """Return what tc(8) shows of a hook; nothing where the interface or the discipline is missing."""
    if interface not in links(host.namespace):
        return ""
    return host.namespace.tc(f"filter show dev {interface} {hook}")


def setting(key: str, value: str) -> tuple[Callable[[Host], object], Callable[[Host], bool], str]:
    """Return how to spoil a setting, how to see that it is back, and what the log says."""

    def spoil(host: Host) -> None:
        originals[key] = host.namespace.sysctl(key)
        assert originals[key] != value
        host.namespace.sysctl(key, value)

    originals: dict[str, str] = {}
    return spoil, lambda host: host.namespace.sysctl(key) == originals[key], "put back"


def by_ip(line: str) -> Callable[[Host], object]:
    """Return what carries out a line of ip(8)."""
    return lambda host: host.namespace.ip(line)


def by_tc(line: str) -> Callable[[Host], object]:
    """Return what carries out a line of tc(8)."""
    return lambda host: host.namespace.tc(line)


CHANGES: dict[str, tuple[Callable[[Host], object], Callable[[Host], bool], str]] = {
    "link set down": (by_ip("link set dev carp0 down"), is_whole, "put back"),
    "IPv4 address removed": (by_ip(f"addr del {SHARED[0]} dev carp0"), is_whole, "put back"),
    "IPv6 address removed": (by_ip(f"addr del {SHARED[1]} dev carp0"), is_whole, "put back"),
    "MAC changed": (by_ip("link set dev carp0 address 02:00:00:00:00:77"), is_whole, "put back"),
    "link deleted": (by_ip("link del dev carp0"), is_whole, "made again"),
    "filter of carp0 removed": (by_tc("filter del dev carp0 egress"), is_fenced, "put the fence back"),
    "filter of the parent removed": (by_tc("filter del dev eth0 ingress"), is_fenced, "put the fence back"),
    "clsact of carp0 removed": (by_tc("qdisc del dev carp0 clsact"), is_fenced, "put the fence back"),
    "clsact of the parent removed": (by_tc("qdisc del dev eth0 clsact"), is_fenced, "put the fence back"),
    "arp_ignore of carp0": setting("ipv4/conf/carp0/arp_ignore", "0"),
    "rp_filter of carp0": setting("ipv4/conf/carp0/rp_filter", "1"),
    "accept_ra of carp0": setting("ipv6/conf/carp0/accept_ra", "2"),
    "arp_ignore of the parent": setting("ipv4/conf/eth0/arp_ignore", "0"),
    "arp_announce of the parent": setting("ipv4/conf/eth0/arp_announce", "0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_master_puts_back_what_somebody_changes(stage: Stage, change: str) -> None:
    """It is back within a second and logged; the MASTER stays MASTER and answers again, with the fence in place."""
    spoil, is_back, told = CHANGES[change]
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    assert is_whole(a)
    assert is_fenced(a)
    before = transitions(a), transitions(b)
    said = len(a.log_text())
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        at = now_ns()
        spoil(a)
        until(lambda: is_back(a) and told in a.log_text()[said:], SLACK_S, f"after {change!r} {told!r}", 0.02)
        took_ns = now_ns() - at
        prober.wait_for_owner("a", SLACK_S)
        answered = now_ns()
        prober.wait_for_time(0.5)
        traces = prober.stop()
    # A second is the promise, and a stalled machine may add to it.
    assert took_ns < 1.5 * SECOND_NS
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["a"]
        assert lost(trace, answered) == 0
    assert (transitions(a), transitions(b)) == before
    assert is_whole(a)
    assert is_fenced(a)


@pytest.mark.parametrize("at_once", [False, True], ids=["one after another", "at once"])
def test_a_fence_that_is_put_back_still_works(stage: Stage, *, at_once: bool) -> None:
    """After clsact was removed from the parent and carp0 was deleted, a killed MASTER is silent all the same."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    a.namespace.tc("qdisc del dev eth0 clsact")
    if not at_once:
        until(lambda: is_fenced(a), SLACK_S, "the parent's fence to be back")
    a.namespace.ip("link del dev carp0")
    until(lambda: is_fenced(a) and is_whole(a), SLACK_S, "everything to be back")
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        # Nobody takes over, so only the fence can silence the host.
        b.stop()
        a.kill()
        prober.wait_for_owner(None, USUAL.master_down_ns(0) / 1e9 + 1.0)
        prober.stop()
    assert set(SHARED) <= addresses(a.namespace, "carp0")


def test_a_backup_whose_link_is_taken_up_takes_it_down(stage: Stage) -> None:
    """The link of a BACKUP is down again within a second, it never had an address, and nobody changed state."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    until(lambda: not is_up(b), SLACK_S, "the BACKUP's link to be down")
    before = transitions(a), transitions(b)
    at = now_ns()
    b.namespace.ip("link set dev carp0 up")
    until(lambda: not is_up(b) and "put back" in b.log_text(), SLACK_S, "the link to be down again", 0.02)
    assert now_ns() - at < 1.5 * SECOND_NS
    assert not addresses(b.namespace, "carp0")
    assert (transitions(a), transitions(b)) == before


def test_a_shared_address_given_to_a_backup_by_hand_is_not_answered(stage: Stage) -> None:
    """An admin who sets the shared address on the BACKUP's link makes no second owner."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        b.namespace.ip("link set dev carp0 up", *(f"addr add {address} dev carp0 nodad" for address in SHARED))
        until(lambda: not is_up(b) and "put back" in b.log_text(), SLACK_S, "the link to be down again")
        prober.wait_for_time(0.5)
        traces = prober.stop()
    assert all(owners(trace, trace.start, trace.end) == ["a"] for trace in traces.values())
    assert all(lost(trace) == 0 for trace in traces.values())


def test_foreign_addresses_are_left_alone(stage: Stage) -> None:
    """An address that somebody else adds to carp0 or to the parent stays, and nothing is said of it."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    said = len(a.log_text())
    a.namespace.ip(f"addr add {FOREIGN} dev carp0", "addr add 198.51.100.78/32 dev eth0")

    def stays() -> bool:
        return FOREIGN in addresses(a.namespace, "carp0") and "198.51.100.78/32" in addresses(a.namespace, "eth0")

    assert holds_for(stays, 1.5, 0.1)
    assert "put back" not in a.log_text()[said:]
    # Nor does it go when something of carpd's own is put back beside it.
    a.namespace.ip(f"addr del {SHARED[1]} dev carp0")
    until(lambda: is_whole(a), SLACK_S, "the shared address to be back")
    assert stays()
    assert sorted(a.interface()["live"]) == sorted(SHARED)


def take_the_name(host: Host) -> None:
    """Delete carp0 and give its name to somebody else's interface before carpd can look.

    Between the two a stalled machine would let carpd make its link again, so it is stopped, for much less than its peer waits.
    """
    host.signal(signal.SIGSTOP)
    host.namespace.ip(
        "link del dev carp0",
        f"link add name carp0 address {FOREIGN_MAC} type veth peer name other0",
        f"addr add {FOREIGN} dev carp0",
    )
    host.signal(signal.SIGCONT)


def traits(shown: Portrait, name: str) -> tuple[dict[str, object], dict[str, str], list[str]]:
    """Return what a portrait shows of an interface beside its names and addresses: link, settings, traffic control."""
    link = {key: value for key, value in shown.links[name].items() if key not in ("ifname", "link", "address")}
    settings = {key.replace(f"/{name}/", "/"): value for key, value in shown.settings.items() if f"/{name}/" in key}
    return link, settings, [line.removeprefix(name) for line in shown.traffic_control if line.startswith(name)]


def test_a_name_that_somebody_else_takes_is_waited_for(stage: Stage) -> None:
    """The MASTER yields, says why once, leaves the foreign link alone, and can serve again soon after that is gone."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    said = len(a.log_text())
    with stage.prober() as prober:
        prober.wait_for_owner("a", SLACK_S)
        take_the_name(a)
        prober.wait_for_owner("b", SLACK_S)
        traces = prober.stop()
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["a", "b"]
    wait_settled(USUAL, b, a)
    assert "master bowed out" in b.log_text()
    # It is tried again every second.
    assert holds_for(lambda: a.is_settled("BACKUP") and b.is_settled("MASTER"), 2.5, 0.1)
    shown = portrait(a.namespace)
    assert (shown.links["carp0"]["address"], addresses(a.namespace, "carp0")) == (FOREIGN_MAC, {FOREIGN})
    # Nobody has touched the other end of the pair.
    assert traits(shown, "carp0") == traits(shown, "other0")
    yielded, reported = [line for line in a.log_text()[said:].splitlines() if "carp0 exists already and is not carpd's" in line]
    assert "MASTER -> BACKUP (addresses could not be taken: " in yielded
    assert reported.startswith("carpd: carp0 exists already")
    a.namespace.ip("link del dev carp0")
    until(lambda: has_mac(a) and is_fenced(a), SLACK_S, "carp0 to be carpd's again, with its fence")
    assert not is_up(a)
    assert not addresses(a.namespace, "carp0")
    b.stop()
    a.wait_for_state("MASTER", patience_s(USUAL))
    settle(USUAL, a, b)
    assert is_whole(a)
    assert a.interface()["demotions"] == []
    check_caches(stage, a, packets=20)


def test_a_host_that_had_lost_its_name_preempts_when_its_demotion_is_over(stage: Stage) -> None:
    """The better host, demoted for a minute since it could not take its addresses, then is MASTER with them again."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    take_the_name(a)
    wait_settled(USUAL, b, a)
    a.namespace.ip("link del dev carp0")
    until(lambda: has_mac(a), SLACK_S, "carp0 to be carpd's again")
    (demotion,) = a.interface()["demotions"]
    assert demotion["name"] == "carp0 addresses"
    assert demotion["for_s"] + demotion["ends_in_s"] == pytest.approx(TAKE_FAILED_DEMOTION_S)
    assert b.is_settled("MASTER")
    a.wait_for_state("MASTER", TAKE_FAILED_DEMOTION_S + patience_s(USUAL))
    wait_settled(USUAL, a, b)
    assert "preempting a slower master" in a.log_text()
    assert is_whole(a)
    assert a.interface()["demotions"] == []
