"""Which frames the network card of a parent lets in for its packet socket."""

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from carp.linux.packet_socket import PacketSocket
from lab.netns import Namespace

GROUP_MAC = bytes.fromhex("01005e000103")
OTHER_GROUP_MAC = bytes.fromhex("01005e000104")
UNICAST_MAC = bytes.fromhex("00005e000103")
PATIENCE_S = 0.2


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """Live in a namespace with a cable from eth0 to far."""
    made = Namespace("macs")
    try:
        with made.entered():
            made.ip("link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
            yield made
    finally:
        made.delete()


@pytest.fixture
def parent(namespace: Namespace) -> Iterator[PacketSocket]:
    """Open the socket of eth0."""
    opened = PacketSocket("eth0", socket.if_nametoindex("eth0"))
    yield opened
    opened.close()


def filtered(namespace: Namespace) -> set[bytes]:
    """List the unicast and multicast MACs that the card of eth0 is told to let in, without those of the kernel's own groups."""
    rows = namespace.query("fdb show dev eth0", program="bridge")
    macs = {bytes.fromhex(row["mac"].replace(":", "")) for row in rows if "self" in row.get("flags", [])}
    return {mac for mac in macs if mac in (GROUP_MAC, OTHER_GROUP_MAC, UNICAST_MAC)}


def test_exactly_the_wanted_macs_are_let_in(namespace: Namespace, parent: PacketSocket) -> None:
    """Groups and others alike; those no longer wanted are refused again."""
    assert filtered(namespace) == set()
    parent.receive_macs([GROUP_MAC, UNICAST_MAC])
    assert filtered(namespace) == {GROUP_MAC, UNICAST_MAC}
    parent.receive_macs([UNICAST_MAC, OTHER_GROUP_MAC])
    assert filtered(namespace) == {UNICAST_MAC, OTHER_GROUP_MAC}
    parent.receive_macs([])
    assert filtered(namespace) == set()


def test_only_groups_are_groups(namespace: Namespace, parent: PacketSocket) -> None:
    """A card has a list for groups and one for the others."""
    parent.receive_macs([GROUP_MAC, UNICAST_MAC])
    (row,) = namespace.query("maddr show dev eth0")
    groups = {entry.get("link") for entry in row["maddr"]}
    assert GROUP_MAC.hex(":") in groups
    assert UNICAST_MAC.hex(":") not in groups


def test_a_mac_is_wanted_once(namespace: Namespace, parent: PacketSocket) -> None:
    """However often it is named, one call without it refuses it."""
    parent.receive_macs([GROUP_MAC, GROUP_MAC])
    parent.receive_macs([GROUP_MAC])
    parent.receive_macs([])
    assert filtered(namespace) == set()


def test_it_lasts_as_long_as_the_socket(namespace: Namespace, parent: PacketSocket) -> None:
    """A daemon that dies leaves nothing."""
    parent.receive_macs([GROUP_MAC, UNICAST_MAC])
    parent.close()
    assert filtered(namespace) == set()


def test_no_promiscuous_mode(namespace: Namespace, parent: PacketSocket) -> None:
    """Neither it nor that of all groups; only where a card cannot filter a second unicast MAC the kernel itself turns to it."""
    parent.receive_macs([GROUP_MAC])
    (row,) = namespace.query("-d link show dev eth0")
    assert (row["promiscuity"], row["allmulti"]) == (0, 0)
    assert not {"PROMISC", "ALLMULTI"} & set(row["flags"])


def test_a_card_that_filters_lets_the_group_in(namespace: Namespace) -> None:
    """A macvlan drops groups that nobody wants, as a real card does."""
    namespace.ip("link add card0 link eth0 type macvlan mode bridge", "link set card0 up")
    parent = PacketSocket("card0", socket.if_nametoindex("card0"))
    frame = GROUP_MAC + bytes.fromhex("020000000001") + b"\x88\xb5" + bytes(46)
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as listener,
    ):
        sender.bind(("far", 0))
        listener.bind(("card0", 0x88B5))
        sender.send(frame)
        assert not select.select([listener], [], [], PATIENCE_S)[0]
        parent.receive_macs([GROUP_MAC])
        sender.send(frame)
        assert select.select([listener], [], [], 5)[0]
    parent.close()


def test_what_is_refused_changes_nothing(namespace: Namespace) -> None:
    """An interface without MACs takes none; the former set stays, and the error is told."""
    namespace.ip("link add card0 type veth peer name far0", "link set card0 up")
    parent = PacketSocket("card0", socket.if_nametoindex("card0"))
    parent.receive_macs([GROUP_MAC])
    namespace.ip("link del card0")
    with pytest.raises(OSError, match="No such device"):
        parent.receive_macs([UNICAST_MAC])
    assert parent._received_macs == {GROUP_MAC}
    parent.close()


def test_what_is_refused_in_part_changes_nothing(
    namespace: Namespace, parent: PacketSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was let in before the refusal is refused again."""
    parent.receive_macs([GROUP_MAC])
    change = parent._change_membership

    def refusing(option: int, mac: bytes) -> None:
        if option == 1 and filtered(namespace) - {GROUP_MAC}:
            raise OSError(22, "Invalid argument")
        change(option, mac)

    monkeypatch.setattr(parent, "_change_membership", refusing)
    with pytest.raises(OSError, match="Invalid argument"):
        parent.receive_macs([UNICAST_MAC, OTHER_GROUP_MAC])
    assert filtered(namespace) == {GROUP_MAC}


def test_an_interface_without_macs(namespace: Namespace) -> None:
    """A point-to-point link has no filter to change."""
    namespace.ip("tuntap add tun0 mode tun", "link set tun0 up")
    parent = PacketSocket("tun0", socket.if_nametoindex("tun0"))
    with pytest.raises(OSError, match="Invalid argument"):
        parent.receive_macs([GROUP_MAC])
    parent.receive_macs([])
    parent.close()


def test_many_frames_leave_in_their_order(namespace: Namespace, parent: PacketSocket) -> None:
    """One that is refused keeps none of the others back."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as far:
        far.bind(("far", 0x88B5))
        far.settimeout(PATIENCE_S)
        frames = [b"\xff" * 6 + UNICAST_MAC + b"\x88\xb5" + bytes((number,)) * 46 for number in range(3)]
        assert parent.send_all([frames[0], b"short", *frames[1:]]) == {1: errno.EINVAL}
        assert [far.recv(100) for _ in frames] == frames
