"""A host that balanced is left as it was found: links, addresses, routes, settings, filters; and so is one that crashed."""

import contextlib

import pytest
from balancing_hosts import VIP4, VIP6, prepare, prepare_arp, shared_mac

from lab.host import Carp, Host
from lab.pairs import SLACK_S, virtual_mac
from lab.ping import ping
from lab.sharing import ARP, IP, IP_STEALTH, IP_UNICAST, start_sharing
from lab.stage import Stage
from lab.tables import Portrait, neighbours, portrait, socket_groups
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

SHARED_ADDRESS = "shared address"
MODES = [IP, IP_STEALTH, IP_UNICAST, ARP, SHARED_ADDRESS]
UNNUMBERED_ON = ("198.51.100.100/24", "2001:db8:5::100/64")
"""Addresses of a subnet that the parent has none of: there a route is set, too."""


def prepared(stage: Stage, mode: str) -> list[Host]:
    """Configure two hosts in a mode."""
    return prepare_arp(stage, 2) if mode == SHARED_ADDRESS else prepare(stage, 2, mode)


def check_as_found(host: Host, before: Portrait) -> None:
    """Compare, waiting a little for what the kernel removes in its own time."""
    with contextlib.suppress(TimeoutError):
        until(lambda: not before.differences(portrait(host.namespace)), 3.0, "the host to be as it was found", 0.1)
    assert before.differences(portrait(host.namespace)) == []


@pytest.mark.parametrize("mode", MODES)
def test_after_a_clean_stop(stage: Stage, mode: str) -> None:
    """SIGTERM leaves no trace, nor do the groups stay joined, nor the parent promiscuous."""
    a, b = prepared(stage, mode)
    before, groups = portrait(a.namespace), socket_groups(a.namespace, "eth0")
    start_sharing([a, b])
    assert before.differences(portrait(a.namespace))
    a.stop()
    check_as_found(a, before)
    until(lambda: socket_groups(a.namespace, "eth0") == groups, SLACK_S, "the groups to be left")


@pytest.mark.parametrize("mode", [IP, IP_UNICAST, SHARED_ADDRESS])
def test_after_a_crash_a_start_and_a_stop(stage: Stage, mode: str) -> None:
    """A killed daemon leaves what it had; the next start and stop remove all of it."""
    a, b = prepared(stage, mode)
    before = portrait(a.namespace)
    start_sharing([a, b])
    a.kill()
    assert before.differences(portrait(a.namespace))
    start_sharing([a, b])
    a.stop()
    check_as_found(a, before)


def test_after_a_crash_a_start_without_balancing(stage: Stage) -> None:
    """What a crashed run balanced is gone although the next configuration no longer does, and serves as any other."""
    a = prepare(stage, 2)[0]
    before = portrait(a.namespace)
    start_sharing([a])
    a.kill()
    a.configure([Carp("carp0", 7, advbase=0, advskew=40, addresses=("192.0.2.107/24",))], preempt=True)
    a.start()
    a.wait_for_state("MASTER", SLACK_S)
    a.stop()
    check_as_found(a, before)


def test_routes_of_a_subnet_that_the_parent_has_not(stage: Stage) -> None:
    """Where the shared addresses are of another subnet, routes through the parent lead there, and go with the daemon."""
    hosts = prepare(stage, 2, IP, Carp(addresses=UNNUMBERED_ON))
    a, b = hosts
    before = portrait(a.namespace)
    start_sharing(hosts)
    assert "198.51.100.0/24 dev eth0" in a.namespace.run("ip", "route")
    a.kill()
    start_sharing(hosts)
    a.stop()
    check_as_found(a, before)
    assert b.running


def test_from_one_mode_to_another_by_reload(stage: Stage) -> None:
    """A reload that changes the mode, or ends balancing, serves in the new way and leaves nothing of the former one."""
    a = prepare(stage, 2)[0]
    before = portrait(a.namespace)
    start_sharing([a])
    for mode in (IP_STEALTH, IP_UNICAST, ARP):
        become(a, a.carps[0].but(extra={**a.carps[0].extra, "balancing": mode}), mode)
        assert served_at(stage) & {shared_mac(mode), virtual_mac(2)}
    become(a, Carp(advbase=0, advskew=40), "none")
    assert served_at(stage) == {virtual_mac(1)}
    a.stop()
    check_as_found(a, before)


def served_at(stage: Stage) -> set[str | None]:
    """Return the MACs at which a client that knows nothing finds the usual addresses, which answer every ping."""
    client = stage.client.namespace
    client.ip("neigh flush dev eth0")
    assert [ping(client, address, count=10) for address in (VIP4, VIP6)] == [10, 10]
    known = neighbours(client)
    return {known[address].mac for address in (VIP4, VIP6)}


def become(host: Host, carp: Carp, mode: str) -> None:
    """Reload with another carp interface, and wait until it serves."""
    host.configure([carp], **host.global_keys)
    host.reload()
    host.wait_for(lambda status: [one["balancing"] for one in status["interfaces"]] == [mode], SLACK_S, f"balancing {mode}")
    host.wait_for_state("MASTER", SLACK_S)
