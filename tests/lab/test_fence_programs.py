"""The fence on real interfaces: what a closed host is silent about, and what goes on.

There is no daemon here: the carp interface and its addresses are set by hand, and the test moves the deadlines.
"""

import select
import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from fence_host import (
    BEYOND,
    SECOND_NS,
    SLOT,
    UDP_PORT,
    VIP4,
    VIP6,
    VIPS,
    VIRTUAL_MAC,
    Guarded,
    answers_ping,
    forget,
    guard,
    in_ns,
    is_claim,
    learn,
    packed,
    receives,
    resolves,
)

from lab.capture import Capture, is_advertisement, packet_socket
from lab.ping import ping
from lab.stage import Stage
from lab.wait import until
from lab.wire import Forgery, inject

__all__ = ["guard"]


def test_a_closed_host_owns_nothing_and_an_open_one_everything(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """Closed: no ARP, ND, echo or UDP, by the virtual MAC or the parent's; open: all of it; closed again: nothing."""
    port, client = stage.port("a"), stage.client
    host = guard(port)
    for opened in (False, True, False):
        (host.open if opened else host.shut)()
        with Capture(port) as capture:
            for address in VIPS:
                assert resolves(client, address) is opened
                for mac in (VIRTUAL_MAC, port.mac):
                    learn(client, mac)
                    assert answers_ping(client, address) is opened
                    assert receives(port, client, address) == (opened, opened)
            assert bool(capture.frames(is_claim)) is opened
        forget(client)
        for own, clients in (("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")):
            assert ping(client.namespace, own, count=20) == 20
            assert ping(port.namespace, clients, count=20, source=own) == 20
    assert host.fence.deadlines.dropped(SLOT) > 10


def test_a_closed_host_does_not_forward_for_the_virtual_mac(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """Packets through a gateway's virtual MAC carry foreign destinations; they pass only while open."""
    port, behind, client = stage.port("a"), stage.port("b"), stage.client
    host = guard(port)
    behind.namespace.ip(f"addr add {BEYOND}/32 dev lo")
    port.namespace.sysctl("ipv4/ip_forward", 1)
    port.namespace.ip(f"route add {BEYOND} via 192.0.2.2")
    client.namespace.ip(f"route add {BEYOND} via {VIP4}")
    learn(client, VIRTUAL_MAC)
    for opened in (False, True, False):
        (host.open if opened else host.shut)()
        assert answers_ping(client, BEYOND) is opened


@pytest.mark.parametrize("on_parent", [False, True], ids=["macvlan", "parent"])
def test_the_deadline_silences_without_any_process(stage: Stage, guard: Callable[..., Guarded], *, on_parent: bool) -> None:
    """Once the deadline has passed nothing is answered, although nobody did anything at that time."""
    port, client = stage.port("a"), stage.client
    host = guard(port, on_parent=on_parent)
    host.open(SECOND_NS)
    deadline = host.fence.deadlines.deadline(SLOT)
    assert answers_ping(client, VIP4)
    assert answers_ping(client, VIP6)
    host.close()  # as at the end of a process: the mapping and every descriptor are gone
    assert in_ns(0) < deadline, "too slow a machine"
    until(lambda: in_ns(0) > deadline, 5, "the deadline")
    with Capture(port) as capture:
        assert not answers_ping(client, VIP4)
        assert not answers_ping(client, VIP6)
        assert capture.frames(is_claim) == []
    assert ping(client.namespace, "192.0.2.1", count=5) == 5


def test_addresses_on_the_parent_are_fenced_too(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """Where the parent carries the addresses (lladdr = parent), ARP and ND for them are answered only while open."""
    port, client = stage.port("a"), stage.client
    host = guard(port, on_parent=True)
    for opened in (False, True, False):
        (host.open if opened else host.shut)()
        with Capture(port) as capture:
            for address in VIPS:
                assert resolves(client, address) is opened
                learn(client, port.mac)
                assert answers_ping(client, address) is opened
                assert receives(port, client, address) == (opened, opened)
            assert bool(capture.frames(is_claim)) is opened


def test_a_backup_reaches_the_address_that_another_holds(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """A closed host resolves the virtual addresses and talks to their owner like any client."""
    guard(stage.port("a")).open()
    backup = stage.port("b")
    guard(backup, addresses=False)
    for address in VIPS:
        assert resolves(backup, address)
        assert ping(backup.namespace, address, count=20) == 20
    assert ping(stage.port("a").namespace, "192.0.2.2", count=5, source=VIP4) == 5


def test_elections_go_on_while_closed(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """Advertisements pass both ways, also those from a virtual address and those to one."""
    port, client = stage.port("a"), stage.client
    guard(port)
    sent = [Forgery(), Forgery(source=VIP4), Forgery(source="2001:db8::66"), Forgery(source=VIP6)]
    with Capture(port) as leaving, packet_socket(port) as raw:
        inject(raw, [forgery.frame() for forgery in sent])
        assert len(leaving.frames(is_advertisement)) == len(sent)
    with port.namespace.socket(socket.AF_INET, socket.SOCK_RAW, 112) as listening, packet_socket(client) as raw:
        to_vip = Forgery(source="192.0.2.66", destination=VIP4).packet()
        inject(raw, [packed(port.mac) + bytes.fromhex("020000000009") + b"\x08\x00" + to_vip])
        assert select.select([listening], [], [], 1)[0]


def test_an_announcement_leaves_only_while_open(stage: Stage, guard: Callable[..., Guarded]) -> None:
    """A gratuitous ARP from a packet socket is refused while closed, with ENOBUFS; open, it leaves."""
    port = stage.port("a")
    host = guard(port)
    vip = ip_address(VIP4).packed
    mac = packed(VIRTUAL_MAC)
    request = b"\xff" * 6 + mac + bytes.fromhex("08060001080006040001") + mac + vip + bytes(6) + vip
    with Capture(port) as capture, packet_socket(port) as raw:
        with pytest.raises(OSError, match="No buffer space"):
            raw.send(request)
        assert capture.frames(is_claim) == []
        host.open()
        raw.send(request)
        assert len(capture.frames(is_claim)) == 1


@pytest.mark.parametrize("tag", [None, 0xE000], ids=["untagged", "priority"])
def test_a_priority_tag_does_not_evade_the_fence(stage: Stage, guard: Callable[..., Guarded], tag: int | None) -> None:
    """Linux takes a frame with VLAN ID 0 as its own network's; so does the fence."""
    port, client = stage.port("a"), stage.client
    host = guard(port)
    payload = UDP_PORT.to_bytes(2, "big") * 2 + bytes.fromhex("000c00004d4f4f21")
    datagram = Forgery(source="192.0.2.9", destination=VIP4, protocol=17, payload=payload)
    frame = packed(port.mac) + datagram.frame(packed(client.mac), tag)[6:]
    with port.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening, packet_socket(client) as raw:
        listening.bind(("0.0.0.0", UDP_PORT))
        inject(raw, [frame])
        assert not select.select([listening], [], [], 0.2)[0]
        host.open()
        inject(raw, [frame])
        assert select.select([listening], [], [], 1)[0]
