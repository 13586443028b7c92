"""What ordinary kernels do through mode ip: TCP, ping, fragments, and the errors that routers send back."""

import contextlib
import select
import socket
from collections import Counter
from ipaddress import ip_address
from pathlib import Path

import pytest
from balancing_hosts import VIP4, VIP6, flows_to, share

from lab.capture import Capture
from lab.connections import Connections, own_stations
from lab.flows import route_stations
from lab.host import Host
from lab.lan import Port
from lab.netns import bind_freely
from lab.ping import echo
from lab.stage import Stage
from lab.stations import Station, family_of, networks, node_of, stations, wanted_nodes
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

CONNECTIONS = 1_000
SIZE = 20_000
PORT = 7116
FEW = 40
HEARD_WITHIN_MS = 30
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 4 << 20


@pytest.fixture
def hosts(stage: Stage) -> list[Host]:
    """Share the addresses among three hosts; the client's kernel sends for all stations."""
    three = share(stage, 3)
    own_stations(stage.client)
    route_stations(stage.client, [host.port for host in three])
    return three


def owner(hosts: list[Host], station: Station, address: str) -> Host:
    """Return the host whose node the addresses choose; host i prefers node i."""
    return hosts[node_of(station.source(address), ip_address(address).packed, len(hosts))]


def source(station: Station, address: str) -> str:
    """Return the address of a station as text."""
    return str(ip_address(station.source(address)))


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_a_thousand_connections(stage: Stage, hosts: list[Host], address: str) -> None:
    """1,000 TCP connections at the same time are served, each by the host of its node, to the last byte, without a reset."""
    flows = stations(CONNECTIONS)
    done = Connections([host.port for host in hosts], stage.client, address, flows, SIZE).run(50.0)
    assert Counter(one.error for one in done) == {"": CONNECTIONS}
    labels = [hosts[node].label for node in wanted_nodes(flows, address, len(hosts))]
    assert [one.host for one in done] == labels
    assert {one.received for one in done} == {SIZE}


@pytest.mark.parametrize("size", [56, 3000], ids=["small", "in fragments"])
@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_ping(stage: Stage, hosts: list[Host], address: str, size: int) -> None:
    """Each echo request of each station is answered exactly once, in fragments as well."""
    answers = {
        station.flow: echo(stage.client.namespace, address, count=2, source=source(station, address), linger_s=0.01, size=size)
        for station in stations(FEW)
    }
    assert [one for one in answers.values() if one != {0: 1, 1: 1}] == []


@pytest.mark.parametrize("size", [1200, 3000, 9000], ids=["whole", "three pieces", "seven pieces"])
@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_fragments_stay_together(stage: Stage, hosts: list[Host], address: str, size: int) -> None:
    """All pieces of a datagram come to the host of the flow, whatever ports are in the first one; nobody else keeps one."""
    before = {host.label: reassembly_failures(host) for host in hosts}
    # The queue of a neighbour that is not known yet is short.
    assert echo(stage.client.namespace, address)
    listening = {host.label: listen(host.port, address) for host in hosts}
    try:
        for station in stations(FEW):
            with client_socket(stage.client, station, address) as asking:
                asking.sendto(bytes(size), (address, PORT))
        got: dict[str, list[int]] = {label: [] for label in listening}

        def all_came() -> bool:
            for label, one in listening.items():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        got[label].append(len(one.recv(1 << 16)))
            return sum(map(len, got.values())) >= FEW

        until(all_came, 5.0, "all datagrams")
    finally:
        for one in listening.values():
            one.close()
    wanted = Counter(owner(hosts, station, address).label for station in stations(FEW))
    assert {label: len(sizes) for label, sizes in got.items()} == {host.label: wanted[host.label] for host in hosts}
    assert {length for sizes in got.values() for length in sizes} == {size}
    assert {host.label: reassembly_failures(host) for host in hosts} == before


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_errors_of_routers_follow_the_flow(stage: Stage, hosts: list[Host], address: str) -> None:
    """What a router says of a packet comes to the host that sent it, although the router's address would choose another."""
    router = stage.client.namespace
    if ":" in address:
        router.sysctl("ipv6/conf/all/forwarding", 1)
        router.sysctl("ipv6/icmp/ratelimit", 0)
    else:
        router.sysctl("ipv4/ip_forward", 1)
        router.sysctl("ipv4/icmp_ratelimit", 0)
    # The stations are beyond the router, where the packets die.
    network = networks()[":" in address]
    router.ip(f"route del local {network} dev lo", f"route add {network} dev eth0")
    routers_own = ip_address("2001:db8::9" if ":" in address else "192.0.2.9").packed
    told_by_router = hosts[node_of(routers_own, ip_address(address).packed, len(hosts))]
    seen = Counter[str]()
    for station in stations(FEW):
        for host in hosts:
            seen[f"{host.label} {host is owner(hosts, station, address)}"] += hears_of_the_end(host.port, station, address)
    per_owner = Counter(owner(hosts, station, address).label for station in stations(FEW))
    assert {host.label: seen[f"{host.label} True"] for host in hosts} == {host.label: per_owner[host.label] for host in hosts}
    assert [seen[f"{host.label} False"] for host in hosts] == [0, 0, 0]
    # Else this would have proved nothing.
    assert per_owner[told_by_router.label] < FEW


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_a_host_sends_its_own_share_only(stage: Stage, hosts: list[Host], address: str) -> None:
    """From the shared address a datagram to a station leaves the host of its node, and no other."""
    gateway = "2001:db8::9" if ":" in address else "192.0.2.9"
    marker = b"whose share is this?"
    for host in hosts:
        assert echo(host.namespace, gateway)
        mine = [station.flow for station in stations(FEW) if owner(hosts, station, address) is host]
        seen: list[int] = []
        with Capture(host.port) as capture, listen(host.port, address) as one:
            for station in stations(FEW):
                # What is dropped may look like a full queue.
                with contextlib.suppress(OSError):
                    one.sendto(marker + station.flow.to_bytes(2, "big"), (source(station, address), 33434))

            def all_left(capture: Capture = capture, seen: list[int] = seen, mine: list[int] = mine) -> bool:
                seen += [int.from_bytes(frame[-2:], "big") for frame in capture.frames(lambda frame: marker in frame)]
                return len(seen) >= len(mine)

            until(all_left, 2.0, f"{host.label} to send its share")
        assert seen == mine


@pytest.mark.parametrize("address", [VIP4, VIP6])
def test_a_closed_port_is_refused_by_the_owner(stage: Stage, hosts: list[Host], address: str) -> None:
    """A datagram to a port that nobody serves is answered by one "port unreachable", which reaches the station."""
    for station in stations(FEW):
        with client_socket(stage.client, station, address) as asking:
            asking.connect((address, PORT + 1))
            asking.send(b"anybody there?")

            def refused(asking: socket.socket = asking) -> bool:
                try:
                    asking.recv(100)
                except BlockingIOError:
                    return False
                except ConnectionRefusedError:
                    return True
                return False

            until(refused, 2.0, f"{source(station, address)} to be told that the port is closed")


def test_hosts_reach_each_other_beside_the_shared_addresses(stage: Stage) -> None:
    """Own addresses serve as ever, from clients and between the hosts, while the shared ones are balanced."""
    three = share(stage, 3)
    for number, host in enumerate(three, start=1):
        for own in (f"192.0.2.{number}", f"2001:db8::{number}"):
            for other in [stage.client, *(one.port for one in three if one is not host)]:
                assert echo(other.namespace, own, count=3) == {0: 1, 1: 1, 2: 1}, (host.label, own)
    with flows_to(stage, three, 200) as flows:
        flows.resolve()
        assert all(record.losers() == set() for record in flows.round().values())


def reassembly_failures(host: Host) -> tuple[int, int]:
    """Return how many datagrams the host's kernel could not put together, of both families."""
    with host.namespace.entered():
        ipv4 = (line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if line.startswith("Ip:"))
        names, values = ipv4
        ipv6 = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
    return int(dict(zip(names, values, strict=True))["ReasmFails"]), int(ipv6["Ip6ReasmFails"])


def listen(port: Port, address: str) -> socket.socket:
    """Open a socket for datagrams to a shared address on a host."""
    one = port.namespace.socket(family_of(address), socket.SOCK_DGRAM)
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    one.bind((address, PORT))
    return one


def client_socket(client: Port, station: Station, address: str) -> socket.socket:
    """Open a socket for datagrams of a station."""
    one = client.namespace.socket(family_of(address), socket.SOCK_DGRAM)
    one.setblocking(False)
    bind_freely(one, source(station, address), 0)
    return one


def hears_of_the_end(port: Port, station: Station, address: str) -> bool:
    """Send from a shared address to a station with a TTL of 1; tell whether the router's answer comes within a while."""
    with port.namespace.socket(family_of(address), socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        one.bind((address, 0))
        if ":" in address:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
            one.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            one.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        one.connect((source(station, address), 33434))
        # A host whose share this is not may not even send it.
        with contextlib.suppress(OSError):
            one.send(b"how far is it?")
        waiting = select.poll()
        waiting.register(one, select.POLLERR)
        return bool(waiting.poll(HEARD_WITHIN_MS))
