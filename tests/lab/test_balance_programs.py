"""Balancing on real interfaces: who answers whom, what the LAN learns, what TCP thinks of it. There is no daemon here."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from balance_host import (
    CLIENTS4,
    CLIENTS6,
    MULTICAST,
    STEALTH,
    VIP4,
    VIP6,
    VIPS,
    Plan,
    Sharing,
    entry_of,
    give_addresses,
    share,
    wait_past,
)
from fence_host import SECOND_NS, forget, in_ns

from carp.linux.bpf.balancer import Decision
from carp.protocol.balance import asker_by_address, node_of
from lab.capture import Capture
from lab.ping import echo, ping
from lab.stage import Stage
from lab.wait import until
from lab.wire import Forgery

__all__ = ["share"]

PORT = 4712
Share = Callable[..., Sharing]
shared_macs = pytest.mark.parametrize("mac", [MULTICAST, STEALTH], ids=["ip", "ip-stealth"])
CLIENTS = [*((one, VIP4) for one in CLIENTS4), *((one, VIP6) for one in CLIENTS6)]


def answers(stage: Stage, client: str, vip: str) -> list[int]:
    """Return how many answers each of a few echo requests has."""
    return list(echo(stage.client.namespace, vip, count=3, source=client, patience_s=0.3, linger_s=0.02).values())


@shared_macs
def test_each_flow_is_answered_once_by_its_node(stage: Stage, share: Share, mac: bytes) -> None:
    """With two hosts every client has one answer to each request; a host without nodes is silent, and so is its share."""
    hosts = [share(stage.port(label), Plan(shared_mac=mac)) for label in ("a", "b")]
    give_addresses(stage.client)
    for rank, host in enumerate(hosts):
        host.open(rank)
    for client, vip in CLIENTS:
        before = [host.kept() for host in hosts]
        assert answers(stage, client, vip) == [1, 1, 1]
        owner = node_of(ip_address(client).packed, ip_address(vip).packed, 2)
        assert [host.kept() - then for host, then in zip(hosts, before, strict=True)] == [3 * (owner == 0), 3 * (owner == 1)]
    hosts[1].open()
    for client, vip in CLIENTS[::5]:
        owner = node_of(ip_address(client).packed, ip_address(vip).packed, 2)
        assert answers(stage, client, vip) == ([1, 1, 1] if owner == 0 else [])
    hosts[0].open(0, 1)
    for client, vip in CLIENTS[::5]:
        assert answers(stage, client, vip) == [1, 1, 1]


@shared_macs
def test_clients_learn_the_shared_mac_and_switches_never_do(stage: Stage, share: Share, mac: bytes) -> None:
    """By ARP and ND, from the leader alone; no frame leaves with the shared MAC as its source, nor an answer of the kernel."""
    hosts = [share(stage.port(label), Plan(shared_mac=mac)) for label in ("a", "b")]
    for rank, host in enumerate(hosts):
        host.open(rank)
    with Capture(stage.port("a")) as first, Capture(stage.port("b")) as second:
        for vip in VIPS:
            forget(stage.client)
            assert ping(stage.client.namespace, vip, count=3) == 3
            assert entry_of(stage.client, vip) == mac.hex(":")
        frames = [first.frames(), second.frames()]
    assert [mac in {frame[6:12] for frame in sent} for sent in frames] == [False, False]
    assert [any(map(is_answer, sent)) for sent in frames] == [True, False]
    assert mac.hex(":") not in stage.lan.forwarding()


def is_answer(frame: bytes) -> bool:
    """Tell ARP packets and neighbour advertisements that speak for a balanced address."""
    if frame[12:14] == b"\x08\x06":
        return frame[28:32] == ip_address(VIP4).packed
    return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 136 and frame[62:78] == ip_address(VIP6).packed


@shared_macs
@pytest.mark.parametrize("vip", VIPS)
def test_tcp_works_with_the_shared_mac(stage: Stage, share: Share, mac: bytes, vip: str) -> None:
    """Linux' TCP takes no frame that came by a multicast MAC, unless the programs make it the host's."""
    host = share(stage.port("a"), Plan(shared_mac=mac))
    host.open(0, 1)
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    with (
        host.namespace.socket(family, socket.SOCK_STREAM) as listening,
        stage.client.namespace.socket(family, socket.SOCK_STREAM) as client,
    ):
        listening.bind((vip, PORT))
        listening.listen()
        client.settimeout(5)
        client.connect((vip, PORT))
        served, _ = listening.accept()
        with served:
            data = os.urandom(1 << 16)
            client.sendall(data)
            assert served.recv(len(data), socket.MSG_WAITALL) == data
        # Segments, and not the few large packets that they arrive as.
        assert host.kept() > len(data) / 1500


def test_a_share_ends_with_its_deadline(stage: Stage, share: Share) -> None:
    """Although nobody moves the mask, and the process that could is gone."""
    host = share(stage.port("a"))
    host.open(0, 1)
    give_addresses(stage.client)
    assert answers(stage, *CLIENTS[0]) == [1, 1, 1]
    deadline = in_ns(SECOND_NS)
    host.extend(SECOND_NS)
    host.close()
    wait_past(deadline + SECOND_NS // 10)
    for client, vip in CLIENTS[::5]:
        assert answers(stage, client, vip) == []
    forget(stage.client)
    assert ping(stage.client.namespace, VIP4, patience_s=0.2) == 0
    assert entry_of(stage.client, VIP4) is None


def test_a_thief_finds_the_address_taken(stage: Stage, share: Share) -> None:
    """Duplicate address detection fails on a host that wants a balanced address for itself."""
    share(stage.port("a")).open(0)
    thief = stage.port("b")
    thief.namespace.sysctl("ipv6/conf/eth0/accept_dad", 1)
    thief.namespace.ip(f"addr add {VIP6}/64 dev eth0")

    def failed() -> bool:
        rows = thief.namespace.query("addr show dev eth0")
        return any(one["local"] == VIP6 and one.get("dadfailed") for row in rows for one in row["addr_info"])

    until(failed, 5, "the detection of the duplicate")


def test_a_parent_without_an_address_asks_with_the_shared_mac(stage: Stage, share: Share) -> None:
    """Its kernel asks from the shared address; the client goes on with the shared MAC for it."""
    port = stage.port("a", [])
    host = share(port)
    host.open(0, 1)
    port.namespace.ip("route add 192.0.2.0/24 dev eth0 src 192.0.2.100")
    with Capture(port) as capture:
        assert ping(stage.client.namespace, VIP4, count=3) == 3
        asked = [frame for frame in capture.frames() if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\x01"]
    assert asked
    assert {frame[22:28] for frame in asked} == {MULTICAST}
    assert entry_of(stage.client, VIP4) == MULTICAST.hex(":")


@pytest.mark.parametrize("delivers", [False, True], ids=["macvlan", "parent"])
def test_an_asker_has_the_mac_of_its_node_and_its_host(stage: Stage, share: Share, delivers: bool) -> None:
    """ARP balancing: by the asker's address one of two MACs, whose MASTER alone serves it."""
    plan = Plan(Decision.ASKER_ADDRESS, delivers=delivers)
    hosts = [share(stage.port(label), plan) for label in ("a", "b")]
    for rank, host in enumerate(hosts):
        host.open(rank)
    for label, address in (("c", "192.0.2.40"), ("d", "192.0.2.41")):
        client = stage.port(label, [f"{address}/24"])
        node = asker_by_address(ip_address(address).packed, 2)
        before = [host.kept() for host in hosts]
        assert list(echo(client.namespace, VIP4, count=3, patience_s=0.5, linger_s=0.02).values()) == [1, 1, 1]
        assert entry_of(client, VIP4) == f"00:00:5e:00:01:0{node + 1}"
        assert [host.kept() - then for host, then in zip(hosts, before, strict=True)] == [3 * (node == 0), 3 * (node == 1)]
    hosts[1].open()
    assert ping(stage.port("c").namespace, VIP4, count=2, patience_s=0.3) == 2
    assert ping(stage.port("d").namespace, VIP4, count=2, patience_s=0.3) == 0


_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_NAPI, _IFF_NAPI_FRAGS = 0x2, 0x1000, 0x10, 0x20
_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C


@pytest.mark.parametrize("family", [4, 6])
def test_headers_in_a_page_of_their_own_are_read(stage: Stage, share: Share, family: int) -> None:
    """Some drivers leave all but the Ethernet header outside of the packet's linear part."""
    port = stage.port("a")
    with port.namespace.entered():
        tap = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI | _IFF_NAPI | _IFF_NAPI_FRAGS))
        off = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_SGRO, 0))
        with port.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sQ16x", b"tap0", ctypes.addressof(off)))
        port.namespace.ip("link set dev tap0 up")
        port.interface = "tap0"
        host = share(port)
        host.open(0, 1)
        source, vip = (CLIENTS4[0], VIP4) if family == 4 else (CLIENTS6[0], VIP6)
        frame = MULTICAST + Forgery(source=source, destination=vip, protocol=17, payload=bytes(64)).frame()[6:]
        for _ in range(3):
            os.writev(tap, [frame[:14], frame[14:]])
        until(lambda: host.kept() == 3, 2, "three packets")
        host.open()
        os.writev(tap, [frame[:14], frame[14:]])
        counts = host.fence.balancer.counts(1, 2)
        assert sum(one.dropped_packets for one in counts) == 1
    finally:
        port.interface = "eth0"
        os.close(tap)
