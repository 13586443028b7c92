"""The groups that are joined on a parent, and which of them a neighbour asks for an IPv6 address."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest

from carp.linux.membership import Memberships, solicited_node_group
from lab.lan import Lan
from lab.netns import Namespace
from lab.tables import socket_groups
from lab.wait import until

CARP_GROUP = "224.0.0.18"
BALANCED = [IPv4Address(f"224.0.1.{vhid}") for vhid in range(1, 41)]


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("4037::1:800:200e:8c6c", "ff02::1:ff0e:8c6c"),
        ("2001:db8::100", "ff02::1:ff00:100"),
        ("fe80::ffff:ffff", "ff02::1:ffff:ffff"),
    ],
)
def test_solicited_node_group(address: str, group: str) -> None:
    """The last three bytes behind ff02::1:ff (RFC 4291, whose own example goes first)."""
    assert IPv6Address(solicited_node_group(IPv6Address(address))) == IPv6Address(group)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Live in a namespace with an interface eth0."""
    made = Namespace("groups")
    try:
        with made.entered():
            made.ip("link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
            yield made
    finally:
        made.delete()


@pytest.fixture
def memberships(namespace: Namespace) -> Iterator[Memberships]:
    """Join the groups of CARP on eth0."""
    joined = Memberships(socket.if_nametoindex("eth0"))
    yield joined
    joined.close()


def joined(namespace: Namespace) -> set[str]:
    """List the IPv4 groups joined on eth0, without that of all hosts."""
    return {group for group in socket_groups(namespace, "eth0") if "." in group} - {"224.0.0.1"}


def switch_groups(lan: Lan) -> set[str]:
    """List the groups that a port of the switch wants."""
    return {entry["grp"] for row in lan.switch.query("mdb show", program="bridge") for entry in row.get("mdb", [])}


def test_the_groups_of_balanced_interfaces(namespace: Namespace, memberships: Memberships) -> None:
    """Exactly those besides CARP's own, and on an interface without addresses, too."""
    assert joined(namespace) == {CARP_GROUP}
    memberships.follow_groups(BALANCED[:2])
    assert joined(namespace) == {CARP_GROUP, "224.0.1.1", "224.0.1.2"}
    memberships.follow_groups(BALANCED[1:3])
    assert joined(namespace) == {CARP_GROUP, "224.0.1.2", "224.0.1.3"}
    memberships.follow_groups(())
    assert joined(namespace) == {CARP_GROUP}


def test_there_may_be_many_groups(namespace: Namespace, memberships: Memberships) -> None:
    """More than the kernel lets one socket join."""
    memberships.follow_groups(BALANCED)
    assert joined(namespace) == {CARP_GROUP, *map(str, BALANCED)}


def test_all_groups_are_left_at_the_end(namespace: Namespace, memberships: Memberships) -> None:
    """Those of balanced interfaces, too; closing again does no harm."""
    memberships.follow_groups(BALANCED[:2])
    memberships.close()
    assert joined(namespace) == set()


def test_a_refused_group_is_passed_over(namespace: Namespace, memberships: Memberships) -> None:
    """What is no group cannot be joined; the others are."""
    memberships.follow_groups([IPv4Address("192.0.2.1"), *BALANCED[:2]])
    assert joined(namespace) == {CARP_GROUP, "224.0.1.1", "224.0.1.2"}


def test_switches_hear_of_it() -> None:
    """A snooping switch knows the port by a real report."""
    with Lan(querier=True) as lan:
        port = lan.attach("a", ["192.0.2.1/24"])
        with port.namespace.entered():
            memberships = Memberships(socket.if_nametoindex("eth0"))
            memberships.follow_groups(BALANCED[:1])
        until(lambda: "224.0.1.1" in switch_groups(lan), 5, "the switch to hear of the group")
        memberships.close()
