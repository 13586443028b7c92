"""What is sent where, and what counts as sent."""

import errno
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from carp.daemon.sender import Sender
from carp.linux.links import LinkTable
from carp.linux.rtnetlink import Link
from carp.protocol.actions import Announce, Send
from carp.protocol.packet import GROUP_MAC, destination_of
from carp.protocol.parameters import Balancing, InterfaceParameters, LinkAddress, Node
from carp.protocol.values import Family, State, virtual_mac
from carp.testing.bench import Bench, only
from carp.testing.hosts import DUAL_STACK, PARENT, VIP4, carp_interface

IPV4, IPV6 = Family
PARENT_MAC, OWN_MAC = bytes.fromhex("020000000001"), bytes.fromhex("021122334455")
NEAR, FAR, GONE = (ip_address(f"192.0.2.{number}") for number in (2, 3, 4))


class FakeRaw:
    """A raw socket; `refused` holds the errno of each destination that cannot be reached."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.refused: dict[str, int] = {}

    def send(self, packet: bytes, parent_index: int) -> int | None:
        """Send, or not."""
        destination = str(ip_address(destination_of(IPV4 if packet[0] >> 4 == 4 else IPV6, packet)))
        self.sent.append((destination, parent_index))
        return self.refused.get(destination)


class Scene:
    """A sender on one parent with index 7."""

    def __init__(
        self, parameters: InterfaceParameters, *, families: tuple[Family, ...] = (IPV4, IPV6), mac: bytes | None = None
    ) -> None:
        self.parameters = parameters
        self.frames: list[bytes] = []
        self.raw = {family: FakeRaw() for family in families}
        port = SimpleNamespace(index=7, socket=SimpleNamespace(send=self.frames.append))
        self.ports: Any = {parameters.carpdev: port}
        raw: Any = self.raw
        self.mac = mac
        table: Any = LinkTable() if mac is None else SimpleNamespace(by_name=self.by_name)
        self.sender = Sender(table, self.ports, raw)

    def by_name(self, name: str) -> Link | None:
        """Find the parent."""
        return Link(7, name, True, True, self.mac, "", 0, 0) if name == PARENT and self.mac is not None else None

    def advertise(self, family: Family = IPV4) -> object:
        """Send what the engine wants to be sent in a family."""
        actions = Bench(self.parameters).wait_for(State.MASTER)
        return self.sender.advertise(next(send for send in only(Send, actions) if send.family is family), self.parameters)


@pytest.mark.parametrize("family", list(Family), ids=str)
def test_the_group_from_the_virtual_mac(family: Family) -> None:
    """One frame through the parent, none through the raw socket."""
    scene = Scene(carp_interface(addresses=DUAL_STACK))
    assert scene.advertise(family) == (None, ())
    (frame,) = scene.frames
    assert (frame[:6], frame[6:12]) == (GROUP_MAC[family], virtual_mac(1))
    assert scene.raw[family].sent == []


def test_every_peer_through_the_raw_socket() -> None:
    """With the parent's index, which link-local peers are looked for on; no frame on the parent itself."""
    scene = Scene(carp_interface(peers=(NEAR, FAR)))
    assert scene.advertise() == (None, ())
    assert scene.raw[IPV4].sent == [(str(NEAR), 7), (str(FAR), 7)]
    assert scene.frames == []


def test_one_peer_reached_is_sent() -> None:
    """The others are named."""
    scene = Scene(carp_interface(peers=(GONE, NEAR, FAR)))
    scene.raw[IPV4].refused = {str(GONE): errno.ENETUNREACH, str(FAR): errno.EPERM}
    assert scene.advertise() == (None, (GONE.packed, FAR.packed))
    assert len(scene.raw[IPV4].sent) == 3


def test_no_peer_reached_is_not_sent() -> None:
    """The first error tells why."""
    scene = Scene(carp_interface(peers=(GONE, NEAR)))
    scene.raw[IPV4].refused = {str(GONE): errno.ENETUNREACH, str(NEAR): errno.EPERM}
    assert scene.advertise() == (errno.ENETUNREACH, ())


def test_a_family_that_this_host_does_without() -> None:
    """An error like any other."""
    scene = Scene(carp_interface(addresses=DUAL_STACK, peers=(ip_address("2001:db8::2"),)), families=(IPV4,))
    assert scene.advertise(IPV6) == (errno.EAFNOSUPPORT, ())


@pytest.mark.parametrize("peers", [(), (NEAR,)], ids=["group", "peers"])
def test_the_parent_is_gone(peers: tuple[Any, ...]) -> None:
    """Nothing is sent, and that is no error."""
    scene = Scene(carp_interface(peers=peers))
    scene.ports.clear()
    assert scene.advertise() is None


@pytest.mark.parametrize(
    ("parameters", "mac"),
    [
        (carp_interface(vhid=9), virtual_mac(9)),
        (carp_interface(vhid=9, dialect="ucarp"), virtual_mac(9, 0)),
        (carp_interface(vhid=9, lladdr=bytes.fromhex("021122334455")), bytes.fromhex("021122334455")),
        (carp_interface(vhid=9, dialect="ucarp", lladdr=bytes.fromhex("021122334455")), bytes.fromhex("021122334455")),
        (carp_interface(vhid=9, lladdr=LinkAddress.PARENT), bytes(6)),
    ],
    ids=["virtual", "ucarp", "own", "ucarp with an own one", "parent"],
)
def test_the_source_of_advertisements(parameters: InterfaceParameters, mac: bytes) -> None:
    """As the interface and the dialect say; the parent's is read anew once it may have changed."""
    scene = Scene(parameters)
    actions = Bench(parameters).wait_for(State.MASTER, 9)
    scene.sender.advertise(only(Send, actions)[0], parameters)
    assert scene.frames[0][6:12] == mac


@pytest.mark.parametrize(
    ("balancing", "lladdr", "macs"),
    [
        (Balancing.IP, LinkAddress.VIRTUAL, [PARENT_MAC, PARENT_MAC]),
        (Balancing.IP_STEALTH, LinkAddress.VIRTUAL, [PARENT_MAC, PARENT_MAC]),
        (Balancing.IP_STEALTH, OWN_MAC, [PARENT_MAC, PARENT_MAC]),
        (Balancing.IP_UNICAST, LinkAddress.VIRTUAL, [virtual_mac(3), virtual_mac(3)]),
        (Balancing.IP_UNICAST, OWN_MAC, [OWN_MAC, OWN_MAC]),
        (Balancing.ARP, LinkAddress.VIRTUAL, [virtual_mac(3), virtual_mac(4)]),
    ],
    ids=["ip", "ip-stealth", "ip-stealth with an own one", "ip-unicast", "ip-unicast with an own one", "arp"],
)
@pytest.mark.parametrize("family", list(Family), ids=str)
def test_the_source_of_balanced_advertisements(
    balancing: Balancing, lladdr: LinkAddress | bytes, macs: list[bytes], family: Family
) -> None:
    """Where all hosts are to receive what is sent to the shared MAC no switch may learn it; each node's own MAC one may."""
    parameters = carp_interface(nodes=(Node(3), Node(4)), balancing=balancing, lladdr=lladdr, addresses=DUAL_STACK)
    scene = Scene(parameters, mac=PARENT_MAC)
    for vhid in (3, 4):
        scene.sender.advertise(Send("carp0", vhid, family, (b"packet",), 1), parameters)
    assert [frame[6:12] for frame in scene.frames] == macs
    assert {frame[:6] for frame in scene.frames} == {GROUP_MAC[family]}


def test_another_mac_of_the_parent() -> None:
    """Is the source from then on, once the sender is told."""
    parameters = carp_interface(nodes=(Node(3), Node(4)), balancing=Balancing.IP)
    scene = Scene(parameters, mac=PARENT_MAC)
    send = Send("carp0", 3, IPV4, (b"packet",), 1)
    scene.sender.advertise(send, parameters)
    scene.mac = OWN_MAC
    scene.sender.forget_headers()
    scene.sender.advertise(send, parameters)
    assert [frame[6:12] for frame in scene.frames] == [PARENT_MAC, OWN_MAC]


def test_announcements_come_from_the_virtual_mac() -> None:
    """Also those of an interface whose advertisements go to peers."""
    scene = Scene(carp_interface(peers=(NEAR,)))
    scene.sender.announce(Announce("carp0", (VIP4,)), scene.parameters)
    assert len(scene.frames) == 2
    assert {frame[6:12] for frame in scene.frames} == {virtual_mac(1)}
    scene.ports.clear()
    scene.sender.announce(Announce("carp0", (VIP4,)), scene.parameters)
    assert len(scene.frames) == 2


def test_the_parent_is_the_one_of_the_interface() -> None:
    """Not another one."""
    scene = Scene(carp_interface(carpdev=PARENT))
    scene.ports["other"] = scene.ports.pop(PARENT)
    assert scene.advertise() is None
