"""How ifconfig shows a carp interface."""

from typing import Any

import pytest

from carp.cli.interface_text import interface_text

MASTER = {"vhid": 1, "advskew": 0, "state": "MASTER"}
INIT = {"vhid": 1, "advskew": 0, "state": "INIT"}
PLAIN: dict[str, Any] = {
    "name": "carp0",
    "carpdev": "em0",
    "lladdr": "00:00:5e:00:01:01",
    "advbase": 1,
    "groups": ["carp", "lan"],
    "addresses": ["172.16.0.100/24"],
    "nodes": [MASTER],
}
BALANCED: dict[str, Any] = {
    **PLAIN,
    "carpdev": "rl1",
    "lladdr": "01:00:5e:00:01:03",
    "balancing": "ip",
    "groups": ["carp"],
    "addresses": ["172.16.240.102/24"],
    "nodes": [{"vhid": 3, "advskew": 0, "state": "MASTER"}, {"vhid": 4, "advskew": 100, "state": "BACKUP"}],
}


def lines(interface: dict[str, Any], **changed: Any) -> list[str]:
    """Show an interface with some fields changed."""
    return interface_text({**interface, **changed}).splitlines()


def carp_line(interface: dict[str, Any], **changed: Any) -> str:
    """Return what stands behind `carp: `."""
    (line,) = [line for line in lines(interface, **changed) if line.startswith("\tcarp: ")]
    return line.removeprefix("\tcarp: ")


def test_one_virtual_host() -> None:
    """The lines of OpenBSD, with tabs."""
    assert lines(PLAIN) == [
        "carp0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500",
        "\tlladdr 00:00:5e:00:01:01",
        "\tcarp: MASTER carpdev em0 vhid 1 advbase 1 advskew 0",
        "\tgroups: carp lan",
        "\tstatus: master",
        "\tinet 172.16.0.100 netmask 0xffffff00 broadcast 172.16.0.255",
    ]


def test_several_virtual_hosts() -> None:
    """One line each below the mode, as in OpenBSD's guide; the MAC is the one in use."""
    assert lines(BALANCED) == [
        "carp0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500",
        "\tlladdr 01:00:5e:00:01:03",
        "\tcarp: carpdev rl1 advbase 1 balancing ip",
        "\t\tstate MASTER vhid 3 advskew 0",
        "\t\tstate BACKUP vhid 4 advskew 100",
        "\tgroups: carp",
        "\tstatus: master",
        "\tinet 172.16.240.102 netmask 0xffffff00 broadcast 172.16.240.255",
    ]


@pytest.mark.parametrize("mode", ["ip-stealth", "ip-unicast", "arp"])
def test_the_mode_and_its_mac(mode: str) -> None:
    """Both are those of the daemon."""
    shown = lines(BALANCED, balancing=mode, lladdr="00:00:5e:00:01:03")
    assert shown[1:3] == ["\tlladdr 00:00:5e:00:01:03", f"\tcarp: carpdev rl1 advbase 1 balancing {mode}"]


def test_32_virtual_hosts() -> None:
    """A line for each, in the daemon's order, and nothing else more than once."""
    nodes = [{"vhid": vhid, "advskew": 0 if vhid == 7 else 100, "state": "BACKUP"} for vhid in range(1, 33)]
    shown = lines(BALANCED, nodes=nodes)
    assert shown[3:35] == [f"\t\tstate BACKUP vhid {vhid} advskew {0 if vhid == 7 else 100}" for vhid in range(1, 33)]
    assert len(shown) == len(lines(BALANCED)) + 30


def test_a_mac_that_somebody_chose() -> None:
    """Is shown as it is, whatever the mode."""
    assert lines(BALANCED, lladdr="02:00:00:00:00:09")[1] == "\tlladdr 02:00:00:00:00:09"


@pytest.mark.parametrize(
    ("up", "state", "flags"),
    [
        (True, "BACKUP", "flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST>"),
        (True, "INIT", "flags=8803<UP,BROADCAST,SIMPLEX,MULTICAST>"),
        (False, "INIT", "flags=8802<BROADCAST,SIMPLEX,MULTICAST>"),
    ],
)
def test_flags_are_names_and_their_sum(up: bool, state: str, flags: str) -> None:
    """UP as the administrator wishes, RUNNING outside of INIT."""
    assert flags in lines(PLAIN, up=up, nodes=[{**MASTER, "state": state}])[0]


def test_the_mtu_is_the_parents() -> None:
    """Where it is known."""
    assert lines(PLAIN, mtu=9000)[0].endswith(" mtu 9000")


@pytest.mark.parametrize(
    ("states", "status"),
    [(["BACKUP", "MASTER"], "master"), (["INIT", "BACKUP"], "backup"), (["INIT", "INIT"], "invalid")],
)
def test_the_status_is_that_of_the_best_virtual_host(states: list[str], status: str) -> None:
    """As routing daemons see it."""
    nodes = [{**MASTER, "vhid": vhid, "state": state} for vhid, state in enumerate(states, 1)]
    assert f"\tstatus: {status}" in lines(PLAIN, nodes=nodes)


def test_unicast_peers() -> None:
    """At the end of the line, each with its word; with several virtual hosts too."""
    peers = ["10.0.0.2", "2001:db8::2"]
    assert carp_line(PLAIN, carppeer=peers).endswith(" advskew 0 carppeer 10.0.0.2 carppeer 2001:db8::2")
    assert carp_line(BALANCED, carppeer=["10.0.0.2"]) == "carpdev rl1 advbase 1 balancing ip carppeer 10.0.0.2"


def test_addresses_of_both_families() -> None:
    """In the order of the configuration; a host's own /32 has no broadcast address."""
    shown = lines(PLAIN, addresses=["192.0.2.101/32", "2001:db8::100/64", "10.0.0.1/8", "10.9.9.0/31"])
    assert shown[-4:] == [
        "\tinet 192.0.2.101 netmask 0xffffffff",
        "\tinet6 2001:db8::100 prefixlen 64",
        "\tinet 10.0.0.1 netmask 0xff000000 broadcast 10.255.255.255",
        "\tinet 10.9.9.0 netmask 0xfffffffe",
    ]


@pytest.mark.parametrize("nodes", [[], [{**INIT, "vhid": None}], [{**INIT, "vhid": 0}]], ids=["none", "null", "zero"])
def test_an_interface_that_is_only_created(nodes: list[Any]) -> None:
    """Shows what it has: no number, no parent, no MAC."""
    assert lines(PLAIN, nodes=nodes, carpdev="", lladdr="00:00:5e:00:01:00", addresses=[], groups=["carp"]) == [
        "carp0: flags=8803<UP,BROADCAST,SIMPLEX,MULTICAST> mtu 1500",
        "\tcarp: INIT advbase 1 advskew 0",
        "\tgroups: carp",
        "\tstatus: invalid",
    ]


def test_an_interface_without_its_number_yet() -> None:
    """A parent that was named is shown."""
    assert carp_line(PLAIN, nodes=[]) == "INIT carpdev em0 advbase 1 advskew 0"
