"""What is sent where, and what counts as sent."""

import errno
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address, ip_interface
from types import SimpleNamespace
from typing import Any

import pytest

from carp.daemon.sender import Sender
from carp.linux.links import LinkTable
from carp.linux.rtnetlink import Link
from carp.protocol.actions import Announce, Send
from carp.protocol.events import Sent
from carp.protocol.packet import GROUP_MAC, destination_of
from carp.protocol.parameters import Balancing, InterfaceParameters, LinkAddress, Node
from carp.protocol.values import Family, InterfaceAddress, State, virtual_mac
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
        self.refused: dict[bytes, int] = {}
        self.raw = {family: FakeRaw() for family in families}
        port = SimpleNamespace(index=7, socket=SimpleNamespace(send=self.frames.append, send_all=self.send_all))
        self.ports: Any = {parameters.carpdev: port}
        raw: Any = self.raw
        self.mac = mac
        table: Any = LinkTable() if mac is None else SimpleNamespace(by_name=self.by_name)
        self.holds = True
        self.later: list[Callable[[], object]] = []
        self.sender = Sender(table, self.ports, raw, lambda _: self.holds, self.call_soon)

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        """Remember what is to go on in the next round."""
        self.later.append(partial(callback, *arguments))

    def next_round(self) -> None:
        """Let it go on."""
        calls, self.later = self.later, []
        for call in calls:
            call()

    def announced(self, *addresses: InterfaceAddress) -> list[bytes]:
        """Announce addresses; return the frames that leave at once."""
        begin = len(self.frames)
        self.sender.announce(Announce("carp0", addresses), self.parameters)
        return self.frames[begin:]

    def by_name(self, name: str) -> Link | None:
        """Find the parent."""
        return Link(7, name, True, True, self.mac, "", 0, 0) if name == PARENT and self.mac is not None else None

    def advertise(self, family: Family = IPV4) -> object:
        """Send what the engine wants to be sent in a family."""
        actions = Bench(self.parameters).wait_for(State.MASTER)
        return self.send(next(send for send in only(Send, actions) if send.family is family))

    def send(self, advertisement: Send) -> tuple[int | None, tuple[bytes, ...]] | None:
        """Send an advertisement; return the errno if it could not be sent and who was not reached, or None without a parent."""
        sent, others = self.sender.advertise([advertisement], lambda _: self.parameters)
        assert len(sent) + len(others) <= 1
        for one, result in others:
            assert one is advertisement
            return result.error, result.unreached
        return (None, ()) if sent == [advertisement] else None

    def send_all(self, frames: Sequence[bytes]) -> dict[int, int]:
        """Let frames leave, but for those that are refused."""
        self.frames += [frame for frame in frames if frame not in self.refused]
        return {place: self.refused[frame] for place, frame in enumerate(frames) if frame in self.refused}


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
    scene.send(only(Send, actions)[0])
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
        scene.send(Send("carp0", vhid, family, (b"packet",), 1))
    assert [frame[6:12] for frame in scene.frames] == macs
    assert {frame[:6] for frame in scene.frames} == {GROUP_MAC[family]}


def test_another_mac_of_the_parent() -> None:
    """Is the source from then on, once the sender is told."""
    parameters = carp_interface(nodes=(Node(3), Node(4)), balancing=Balancing.IP)
    scene = Scene(parameters, mac=PARENT_MAC)
    send = Send("carp0", 3, IPV4, (b"packet",), 1)
    scene.send(send)
    scene.mac = OWN_MAC
    scene.sender.forget_ways()
    scene.send(send)
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


MANY = tuple(ip_interface(f"10.0.{number >> 8}.{number & 255}/16") for number in range(1, 301))


def test_every_address_is_announced_once_before_any_is_again() -> None:
    """Most clients heed the first frame; the replies, which nobody answers, still come last."""
    scene = Scene(carp_interface(addresses=DUAL_STACK))
    first, second = ip_interface("192.0.2.100/24"), ip_interface("192.0.2.101/24")
    frames = scene.announced(first, ip_interface("2001:db8::100/64"), second)
    kinds = [(frame[12:14].hex(), frame[28:32] if frame[12] == 8 else b"", frame[21]) for frame in frames]
    assert kinds == [
        ("0806", first.ip.packed, 1),
        ("86dd", b"", 255),
        ("0806", second.ip.packed, 1),
        ("0806", first.ip.packed, 2),
        ("0806", second.ip.packed, 2),
    ]


def test_many_announcements_let_others_go_first() -> None:
    """An advertisement that becomes due does not wait for hundreds of frames; all leave in the end, and none twice."""
    scene = Scene(carp_interface(addresses=MANY))
    at_once = scene.announced(*MANY)
    assert 0 < len(at_once) <= 256
    while scene.later:
        before = len(scene.frames)
        scene.next_round()
        assert len(scene.frames) - before <= 256
    assert len(scene.frames) == len(set(scene.frames)) == 2 * len(MANY)


@pytest.mark.parametrize("lost", ["the addresses", "the parent"])
def test_nothing_is_announced_that_is_to_be_released(lost: str) -> None:
    """Somebody else has it by then."""
    scene = Scene(carp_interface(addresses=MANY))
    at_once = scene.announced(*MANY)
    if lost == "the addresses":
        scene.holds = False
    else:
        scene.ports.clear()
    scene.next_round()
    assert (scene.frames, scene.later) == (at_once, [])


def test_announcements_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is made in a takeover; with those of an interface that is gone or balanced nobody bothers."""
    parameters = carp_interface(addresses=DUAL_STACK)
    scene = Scene(parameters)
    expected = scene.announced(*DUAL_STACK)
    first = scene.announced(DUAL_STACK[0])
    balanced = carp_interface("carp1", nodes=(Node(3), Node(4)), balancing=Balancing.IP)
    scene.sender.prepare([balanced])
    assert scene.sender._announcements == {}
    scene.sender.prepare([parameters, balanced])
    assert scene.announced(DUAL_STACK[0]) == first
    monkeypatch.delattr("carp.daemon.sender.announcements")
    scene.sender.prepare([parameters])
    for _ in range(2):
        assert scene.announced(*DUAL_STACK) == expected
        assert scene.announced(DUAL_STACK[0]) == first


def test_what_was_prepared_is_made_anew_when_it_is_no_longer_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another MAC, other addresses, a host that forwards by now."""
    parameters = carp_interface(addresses=DUAL_STACK, lladdr=LinkAddress.PARENT)
    scene = Scene(parameters, mac=PARENT_MAC)
    monkeypatch.setattr("carp.daemon.sender.sysctl.forwards", lambda _: False)
    scene.sender.prepare([parameters])
    v4, v6 = (address for address in DUAL_STACK if address.version == 4), (one for one in DUAL_STACK if one.version == 6)
    former = scene.announced(*DUAL_STACK)
    assert {frame[6:12] for frame in former} == {PARENT_MAC}
    scene.mac = OWN_MAC
    assert {frame[6:12] for frame in scene.announced(*DUAL_STACK)} == {OWN_MAC}
    monkeypatch.setattr("carp.daemon.sender.sysctl.forwards", lambda family: family == 6)
    (advertised,) = (frame for frame in scene.announced(*v6) if frame[12:14] == b"\x86\xdd")
    assert advertised[58] & 0x80
    assert advertised in scene.announced(*DUAL_STACK)
    (_, reply) = scene.announced(*v4)
    assert reply in scene.announced(*DUAL_STACK)
    other = ip_interface("192.0.2.177/24")
    (_, reply) = scene.announced(other)
    assert reply[28:32] == other.ip.packed


def test_the_parent_is_the_one_of_the_interface() -> None:
    """Not another one."""
    scene = Scene(carp_interface(carpdev=PARENT))
    scene.ports["other"] = scene.ports.pop(PARENT)
    assert scene.advertise() is None


def test_one_call_for_each_parent_in_a_row() -> None:
    """All advertisements of a parent leave together, in their order, whatever goes to peers in between."""
    near = carp_interface("carp0", vhid=3)
    far = carp_interface("carp1", vhid=4, carpdev="other")
    peers = carp_interface("carp2", vhid=5, peers=(NEAR,))
    scene = Scene(near)
    calls: list[tuple[str, int]] = []
    for name in (PARENT, "other"):
        send_all: Any = lambda frames, name=name: calls.append((name, len(frames))) or {}  # noqa: E731
        scene.ports[name] = SimpleNamespace(index=7, socket=SimpleNamespace(send_all=send_all))
    known = {one.name: one for one in (near, far, peers)}
    to_peer = next(send for send in only(Send, Bench(peers).wait_for(State.MASTER, 5)) if send.unicast)
    volley = [Send("carp0", 3, IPV4, (b"1",), 1)] * 2 + [to_peer] + [Send("carp0", 3, IPV4, (b"2",), 1)]
    volley += [Send("carp1", 4, IPV4, (b"3",), 1), Send("gone", 4, IPV4, (b"4",), 1)]
    sent, others = scene.sender.advertise(volley, known.get)
    assert calls == [(PARENT, 3), ("other", 1)]
    assert sorted(map(id, sent)) == sorted(map(id, volley[:-1]))
    assert others == []


def test_the_kernel_refuses_some() -> None:
    """What it says of one is told of that one."""
    scene = Scene(carp_interface())
    volley = [Send("carp0", 1, IPV4, (bytes((number,)),), 1) for number in range(5)]
    scene.send(volley[1])
    scene.refused[scene.frames[0]] = errno.ENOBUFS
    sent, others = scene.sender.advertise(volley, lambda _: scene.parameters)
    assert sent == [volley[0], *volley[2:]]
    assert others == [(volley[1], Sent("carp0", 1, IPV4, errno.ENOBUFS))]
