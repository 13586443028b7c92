"""Whether a host can carry a configuration."""

from typing import Any

import pytest
from daemon_kit import LINK_GROUP, Table, configured

from carp.daemon.fitness import Stock, host_problems
from carp.linux.rtnetlink import CARP_ADDRESS_PROTOCOL, Link, LinkAddress
from carp.testing.hosts import address

CARP0 = {"carpdev": "eth0", "vhid": 1, "addresses": ["192.0.2.100/24"], "pass": "x"}


def stock(*more: Link) -> Stock:
    """Take stock of the usual host with some more links."""
    table: Any = Table()
    table.links += more
    return Stock.take(table, LINK_GROUP)


def problems(host: Stock, running: dict[str, Any] | None = None, **tables: dict[str, Any]) -> list[str]:
    """List what is wrong with a document."""
    return host_problems(configured(tables), host, None if running is None else configured(running))


def test_a_host_that_fits() -> None:
    """Nothing is wrong; links that this daemon made are none of others."""
    assert problems(stock(), carp0=CARP0, carp7={**CARP0, "vhid": 9, "addresses": ["192.0.2.107/24"]}, carp8={}) == []


def test_a_parent_that_is_not_there_is_named() -> None:
    """With the interfaces that there are, without carpd's own; one that has no parent yet misses none."""
    found = problems(stock(), carp0={**CARP0, "carpdev": "eth9"}, carp1={"vhid": 2})
    assert found == ["carp0.carpdev: there is no interface eth9 on this host; it has eth0, eth1, lo"]


def test_a_parent_needs_a_mac() -> None:
    """Loopback and tunnels carry no Ethernet."""
    found = problems(stock(), carp0={**CARP0, "carpdev": "lo"})
    assert found == ["carp0.carpdev: lo is no Ethernet interface: CARP needs one that has a MAC address"]


@pytest.mark.parametrize("table", [CARP0, {}], ids=["whole", "draft"])
def test_a_name_that_somebody_else_uses(table: dict[str, Any]) -> None:
    """An interface of that name that is not carpd's."""
    (found,) = problems(stock(Link(5, "carp0", False, False, bytes(6), "dummy", 0, 0)), carp0=table)
    assert found.startswith("carp0: an interface of this name exists already and is not of this carpd: remove it (ip link del")


def test_a_vhid_that_another_daemon_holds() -> None:
    """Its macvlan has the MAC."""
    other = Link(5, "vrrp1", True, True, bytes.fromhex("00005e000101"), "macvlan", 2, 0)
    assert problems(stock(other), carp0=CARP0) == ["carp0: vhid 1 on eth0 is held by vrrp1 already, of another daemon"]
    assert problems(stock(other), carp0={**CARP0, "carpdev": "eth1"}) == []


def test_the_hosts_own_address_cannot_be_shared() -> None:
    """Of another link than the parent, and no balanced one; what carpd set itself does not count."""
    table: Any = Table()
    assert problems(stock(), carp0={**CARP0, "addresses": ["198.51.100.1/24"]}) == [
        "carp0.addresses: 198.51.100.1 is this host's own address on eth1: share another one, or one of its carpdev"
    ]
    own = {**CARP0, "addresses": ["192.0.2.1/24"]}
    assert problems(stock(), carp0=own) == []
    balanced = {key: value for key, value in own.items() if key != "vhid"} | {"carpnodes": ["1:0", "2:0"]}
    refused = ["carp0.addresses: 192.0.2.1 is this host's own address on eth0: share another one"]
    assert problems(stock(), carp0=balanced) == problems(stock(), {"carp0": own}, carp0=balanced) == refused
    table.addresses = lambda index: [LinkAddress(index, address("192.0.2.100/24"), 0, CARP_ADDRESS_PROTOCOL)]
    assert problems(Stock.take(table, LINK_GROUP), carp0=CARP0) == []


def test_what_runs_already_is_not_asked_about_again() -> None:
    """A parent that is unplugged, or an address that appeared, is no reason to refuse a change of something else."""
    host = stock()
    gone = {**CARP0, "carpdev": "eth9", "addresses": ["192.0.2.1/24"]}
    running = {"carp0": gone}
    assert problems(host, running, carp0={**gone, "advskew": 100}, carp1={**CARP0, "vhid": 2}) == []
    assert len(problems(host, running, carp0={**gone, "addresses": ["192.0.2.1/24", "198.51.100.1/24"]})) == 1
    assert len(problems(host, running, carp0={**gone, "carpdev": "eth8"})) == 1
