"""Hosts with two parents: eth0 on the stage's LAN, eth1 on another, a carp interface on each, and a client on both."""

from collections.abc import Iterable

from .host import Carp, Host
from .lan import Lan, Port
from .stage import SHARED, Stage, own_addresses

SECOND_SHARED = ("198.51.100.100/24", "2001:db8:5::100/64")
SECOND_VHID = 2


def second_addresses(label: str) -> list[str]:
    """Return a host's own addresses on the second LAN; their last part is that of its first ones."""
    number = own_addresses(label)[0].partition("/")[0].rpartition(".")[2]
    return [f"198.51.100.{number}/24", f"2001:db8:5::{number}/64"]


def second_lan(stage: Stage, labels: Iterable[str] = ("a", "b", "client")) -> Lan:
    """Put hosts of the stage on a second LAN too."""
    lan = stage.another_lan()
    for label in labels:
        lan.join(stage.port(label), "eth1", second_addresses(label))
    return lan


def both_carps(carp: Carp | None = None) -> tuple[Carp, Carp]:
    """Return carp0 on the first parent and carp1 on the second one."""
    first = carp or Carp(addresses=SHARED)
    return first, first.but(name="carp1", vhid=SECOND_VHID, carpdev="eth1", addresses=SECOND_SHARED)


def with_two_parents(stage: Stage, *hosts: Host) -> Lan:
    """Give configured hosts, and the client, a second parent with a second carp interface; return its LAN."""
    lan = second_lan(stage, [host.label for host in hosts] + ["client"])
    for host in hosts:
        host.configure(both_carps(host.carps[0]), **host.global_keys)
    return lan


def mend(port: Port) -> None:
    """Take a cut link up again, with the IPv6 addresses that Linux dropped with it."""
    addresses = own_addresses(port.label) if port.interface == "eth0" else second_addresses(port.label)
    port.mend()
    port.namespace.ip(*(f"addr replace {address} dev {port.interface}" for address in addresses if ":" in address))
