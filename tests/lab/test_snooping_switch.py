"""A switch that snoops withholds a balanced interface's frames, until the host says that it wants every multicast frame."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from carp.linux.links import LinkTable
from carp.linux.netlink import Netlink
from carp.linux.packet_socket import PacketSocket
from carp.linux.router_advertisement import advertisements
from carp.protocol.values import Family, multicast_mac
from lab.capture import Capture, packet_socket
from lab.lan import Lan, Port
from lab.wait import holds_for, until
from lab.wire import checksum

IPV4, IPV6 = Family
SHARED_MAC = multicast_mac(3)
VIPS = {IPV4: ip_address("192.0.2.100"), IPV6: ip_address("2001:db8::100")}
CLIENT = {IPV4: ip_address("192.0.2.9"), IPV6: ip_address("2001:db8::9")}
ETHERTYPE = {IPV4: 0x0800, IPV6: 0x86DD}
EXPERIMENT = 253
SLACK_S = 10.0
WATCHED_S = 0.3


def frame(family: Family) -> bytes:
    """Return a packet to the shared address in a frame to the MAC that all hosts of `balancing ip` receive."""
    source, destination = CLIENT[family].packed, VIPS[family].packed
    if family is IPV4:
        # A switch that snoops drops what has a wrong checksum.
        bare = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, EXPERIMENT, 0) + source + destination
        packet = bare[:10] + struct.pack("!H", checksum(bare)) + bare[12:] + bytes(8)
    else:
        packet = struct.pack("!IHBB", 6 << 28, 8, EXPERIMENT, 64) + source + destination + bytes(8)
    return SHARED_MAC + bytes.fromhex("020000000009") + struct.pack("!H", ETHERTYPE[family]) + packet


class Switched:
    """Hosts a and b and a client on a switch that snoops."""

    def __init__(self, stack: ExitStack, *, querier: bool) -> None:
        self.lan = stack.enter_context(Lan(querier=querier))
        self.hosts = {label: self.lan.attach(label, [f"192.0.2.{number}/24"]) for number, label in enumerate("ab", 1)}
        self.captures = {label: stack.enter_context(Capture(port, inside=True)) for label, port in self.hosts.items()}
        client = self.lan.attach("client", [f"{CLIENT[IPV4]}/24"])
        self._client = stack.enter_context(packet_socket(client))
        self._stack = stack

    def reached(self, family: Family) -> set[str]:
        """Send a frame from the client and tell whom it reaches: a switch in software has forwarded it when it is sent."""
        sent = frame(family)
        self._client.send(sent)
        return {label for label, capture in self.captures.items() if sent in capture.frames()}

    def open(self, label: str) -> tuple[PacketSocket, bytes, dict[Family, bytes]]:
        """Open the packet socket of a host; return it with the MAC and the sources of the host's parent."""
        port = self.hosts[label]
        with port.namespace.entered():
            parent = PacketSocket(port.interface, socket.if_nametoindex(port.interface))
        self._stack.callback(parent.close)
        return parent, bytes.fromhex(port.mac.replace(":", "")), sources(port, parent.index)


def sources(port: Port, index: int) -> dict[Family, bytes]:
    """Tell where a host's own packets come from."""
    with port.namespace.entered():
        netlink = Netlink()
    table = LinkTable()
    table.load(netlink)
    netlink.close()
    return dict(table.sources(index))


@pytest.fixture
def switched() -> Iterator[Switched]:
    """Wait until the querier counts: until then everything is flooded."""
    with ExitStack() as stack:
        made = Switched(stack, querier=True)
        for family in Family:
            until(lambda family=family: not made.reached(family), SLACK_S, f"the switch to withhold {family} frames")
        yield made


def test_without_a_querier_nothing_is_withheld() -> None:
    """A switch that knows of no querier floods all multicast."""
    with ExitStack() as stack:
        switched = Switched(stack, querier=False)
        for family in Family:
            assert holds_for(lambda family=family: switched.reached(family) == {"a", "b"}, WATCHED_S, 0.05)


def test_frames_to_the_shared_mac_are_withheld(switched: Switched) -> None:
    """Neither IGMP nor MLD can ask for them, as their IP destination is no group."""
    assert holds_for(lambda: not switched.reached(IPV4) and not switched.reached(IPV6), WATCHED_S, 0.05)


@pytest.mark.parametrize("family", list(Family), ids=str)
def test_an_advertisement_brings_the_frames_of_its_family(switched: Switched, family: Family) -> None:
    """To the host that advertises, and to no other one."""
    parent, mac, ends = switched.open("a")
    for sent in advertisements(mac, {family: ends[family]}, 20):
        assert parent.send(sent) is None
    until(lambda: switched.reached(family) == {"a"}, SLACK_S, "the frames to come")
    other = IPV6 if family is IPV4 else IPV4
    assert holds_for(lambda: switched.reached(family) == {"a"} and not switched.reached(other), WATCHED_S, 0.05)


def test_every_host_that_advertises_gets_every_frame(switched: Switched) -> None:
    """Of both families, all hosts of a balanced group."""
    for label in ("a", "b"):
        parent, mac, ends = switched.open(label)
        for sent in advertisements(mac, ends, 20):
            assert parent.send(sent) is None
    for family in Family:
        until(lambda family=family: switched.reached(family) == {"a", "b"}, SLACK_S, f"{family} frames to come to both")
