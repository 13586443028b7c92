"""Advertisements to peers: on one LAN, through routers, among three, and what a wrong or missing route does."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_interface

import pytest

from lab.capture import Capture, is_advertisement, packet_socket, source_mac
from lab.host import Carp, Host
from lab.lan import ISLAND, Port
from lab.measure import longest_gap_ns, lost, owners
from lab.netns import Namespace
from lab.pairs import (
    QUICK,
    SLACK_S,
    USUAL,
    check_caches,
    make_pair,
    patience_s,
    settle,
    transitions,
    virtual_mac,
    wait_settled,
)
from lab.ping import ping
from lab.stage import SHARED, Stage
from lab.wait import holds_for, until
from lab.wire import Forgery, inject

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
TWO_INTERVALS_S = 2.2
OWN = {"a": ("192.0.2.1", "2001:db8::1"), "b": ("192.0.2.2", "2001:db8::2"), "c": ("192.0.2.3", "2001:db8::3")}
ETHERNET = 14
TTL = {0x0800: ETHERNET + 8, 0x86DD: ETHERNET + 7}
ICMP, ICMPV6 = 1, 58


def with_peers(*peers: str, **changes: object) -> Callable[[Carp], Carp]:
    """Return a change that gives a carp interface these peers."""
    return lambda carp: carp.but(extra={**carp.extra, "carppeer": list(peers)}, **changes)


def peers_of(*labels: str) -> list[str]:
    """List the addresses of hosts in both families."""
    return [address for label in labels for address in OWN[label]]


def pair_with_peers(stage: Stage, **changes: object) -> tuple[Host, Host]:
    """Configure a and b with each other as peers in both families."""
    a, b = make_pair(stage, QUICK, Carp().but(**changes) if changes else None)
    for host, other in ((a, "b"), (b, "a")):
        host.configure([with_peers(*OWN[other])(carp) for carp in host.carps], **host.global_keys)
    return a, b


def reload(host: Host, change: Callable[[Carp], Carp]) -> None:
    """Change a host's carp interface while it runs."""
    before = host.log_text().count("configuration reloaded")
    host.configure([change(carp) for carp in host.carps], **host.global_keys)
    host.reload()
    until(lambda: host.log_text().count("configuration reloaded") > before, SLACK_S, f"{host.label} to reload")


def ethertype(frame: bytes) -> int:
    """Return the protocol of a frame."""
    return int.from_bytes(frame[12:14])


def ttl(frame: bytes) -> int:
    """Return the TTL or hop limit of an IP packet in a frame."""
    return frame[TTL[ethertype(frame)]]


def is_icmp_error(frame: bytes) -> bool:
    """Tell messages of ICMP that something is unreachable or not understood."""
    if ethertype(frame) == 0x0800:
        return frame[23] == ICMP and frame[34] in (3, 12)
    return ethertype(frame) == 0x86DD and frame[20] == ICMPV6 and frame[54] in (1, 4)


class TestOnOneLan:
    def test_it_works_as_with_the_group(self, stage: Stage) -> None:
        """A clean stop, a return, a silent cut: the shared addresses move, and the switch follows the virtual MAC."""
        a, b = pair_with_peers(stage)
        settle(QUICK, a, b)
        check_caches(stage, a, packets=30)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.stop()
            prober.wait_for_owner("b", SLACK_S)
            prober.wait_for_time(0.2)
            traces = prober.stop()
        for trace in traces.values():
            assert longest_gap_ns(trace, event) < 120 * MS, trace.address
        check_caches(stage, b, packets=30)
        settle(QUICK, a, b)
        a.port.block()
        b.wait_for_state("MASTER", patience_s(QUICK))
        check_caches(stage, b, packets=30)
        a.port.unblock()
        wait_settled(QUICK, a, b)

    def test_a_killed_master_is_replaced(self, stage: Stage) -> None:
        """After the master-down time, with nobody answering twice."""
        a, b = pair_with_peers(stage)
        settle(QUICK, a, b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.kill()
            prober.wait_for_owner("b", patience_s(QUICK))
            traces = prober.stop()
        for trace in traces.values():
            assert owners(trace, event, trace.end)[-1] == "b"

    def test_a_backup_reads_before_it_takes_over(self, stage: Stage) -> None:
        """A BACKUP that did not run for almost its master-down time finds the advertisements that waited for it."""
        a, b = pair_with_peers(stage)
        settle(QUICK, a, b)
        before = transitions(b)
        for _ in range(8):
            b.signal(signal.SIGSTOP)
            time.sleep(0.9 * QUICK.master_down_ns(QUICK.skew_b) / 1e9)
            b.signal(signal.SIGCONT)
            time.sleep(0.2)
        assert transitions(b) == before

    def test_what_is_on_the_wire(self, stage: Stage) -> None:
        """Frames from the host's own MAC to the peer's, TTL 255; none to a group."""
        a, b = pair_with_peers(stage)
        client = stage.client
        with Capture(a.port) as from_a, Capture(client, inside=True) as at_client:
            settle(QUICK, a, b)
            frames: list[bytes] = []
            until(lambda: frames.extend(from_a.frames(is_advertisement)) or len(frames) > 10, SLACK_S, "advertisements")
            assert {frame[:6].hex(":") for frame in frames} == {b.port.mac}
            assert {source_mac(frame) for frame in frames} == {a.port.mac}
            assert {ttl(frame) for frame in frames} == {255}
            assert {ethertype(frame) for frame in frames} == {0x0800, 0x86DD}
            assert [frame for frame in at_client.frames(is_advertisement) if frame[0] & 1] == []

    def test_the_switch_knows_the_virtual_mac(self, stage: Stage) -> None:
        """Announcements alone show it, from the takeover on."""
        a, b = pair_with_peers(stage)
        settle(QUICK, a, b)
        until(lambda: stage.lan.port_of(virtual_mac(1)) == "a", SLACK_S, "the virtual MAC behind a")
        a.stop()
        b.wait_for_state("MASTER", SLACK_S)
        until(lambda: stage.lan.port_of(virtual_mac(1)) == "b", SLACK_S, "the virtual MAC behind b")

    def test_another_pass_phrase(self, stage: Stage) -> None:
        """The two do not hear each other: both are MASTER, and both count it."""
        a, b = pair_with_peers(stage)
        b.configure([carp.but(password="closesesame") for carp in b.carps], **b.global_keys)
        for host in (a, b):
            host.start()
        for host in (a, b):
            host.wait_for_state("MASTER", patience_s(QUICK))
            host.wait_for(lambda status: status["statistics"]["dropped"].get("bad-digest", 0) >= 2, SLACK_S, "refusals")

    def test_each_is_counted_once(self, stage: Stage) -> None:
        """What comes to this host alone is received once, by family, and is of no harm to the sender."""
        a = pair_with_peers(stage)[0]
        x = stage.port("x")
        settle(QUICK, a)
        before, changes = a.status()["statistics"], transitions(a)
        forgeries = [
            Forgery(spoil_digest=True, source="192.0.2.66", destination="192.0.2.1", ttl=9),
            Forgery(spoil_digest=True, source="2001:db8::66", destination="2001:db8::1"),
            Forgery(source="192.0.2.66", destination="192.0.2.1", ttl=254, advbase=0),
        ]
        with packet_socket(x) as raw, Capture(a.port) as from_a:
            inject(raw, [bytes.fromhex(a.port.mac.replace(":", "")) + one.frame()[6:] for one in forgeries])
            a.wait_for(lambda status: sum(status["statistics"]["dropped"].values()) >= 3, SLACK_S, "three drops")
            assert from_a.frames(is_icmp_error) == []
        after = a.status()["statistics"]
        assert {key: after["received"][key] - before["received"][key] for key in after["received"]} == {"IPv4": 2, "IPv6": 1}
        assert after["dropped"] == {"bad-digest": 1, "bad-ttl": 2}
        assert transitions(a) == changes

    def test_without_peers_no_icmp_either(self, stage: Stage) -> None:
        """A host that sends to the group tells nobody that the protocol is unreachable."""
        (a,) = make_pair(stage)[:1]
        x = stage.port("x")
        settle(QUICK, a)
        wrong = Forgery(spoil_digest=True, destination="192.0.2.1")
        with packet_socket(x) as raw, Capture(a.port) as from_a:
            inject(raw, [bytes.fromhex(a.port.mac.replace(":", "")) + wrong.frame()[6:]])
            a.wait_for(lambda status: status["statistics"]["dropped"].get("bad-digest", 0) == 1, SLACK_S, "a refusal")
            assert from_a.frames(is_icmp_error) == []

    def test_from_the_group_to_peers_and_back(self, stage: Stage) -> None:
        """A running pair changes one host after the other, the MASTER first or last: no probe lost, no transition."""
        a, b = make_pair(stage, USUAL)
        settle(USUAL, a, b)
        before = transitions(a), transitions(b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            for order, peers in (((b, a), {"a": "b", "b": "a"}), ((a, b), {})):
                for host in order:
                    named = OWN[peers[host.label]] if peers else ()
                    reload(host, with_peers(*named))
                    prober.wait_for_time(TWO_INTERVALS_S)
            traces = prober.stop()
        assert [lost(trace) for trace in traces.values()] == [0, 0]
        assert (transitions(a), transitions(b)) == before


class TestThree:
    def hosts(self, stage: Stage) -> list[Host]:
        """Configure a, b and c with one list of peers that names all three."""
        made = []
        for number, label in enumerate("abc"):
            carp = with_peers(*peers_of("a", "b", "c"))(Carp(advbase=0, advskew=40 + 20 * number))
            made.append(stage.host(label, carp, preempt=True, log=6))
        return made

    def test_one_master_after_the_other(self, stage: Stage) -> None:
        """Each clean stop makes the next best host MASTER."""
        a, b, c = self.hosts(stage)
        settle(QUICK, a, b, c)
        check_caches(stage, a, packets=10)
        for leaving, following in ((a, b), (b, c)):
            leaving.stop()
            following.wait_for_state("MASTER", SLACK_S)
            check_caches(stage, following, packets=10)

    def test_a_peer_that_is_cut_off_harms_nobody(self, stage: Stage) -> None:
        """The MASTER goes on serving while one of its peers is gone, for longer than the kernel looks for that."""
        a, b, c = self.hosts(stage)
        settle(QUICK, a, b, c)
        with stage.prober(hosts=["a", "b"]) as prober:
            prober.wait_for_owner("a", SLACK_S)
            c.port.cut()
            prober.wait_for_time(5.0)
            traces = prober.stop()
        assert [lost(trace) for trace in traces.values()] == [0, 0]
        assert (a.state_of(), b.state_of()) == ("MASTER", "BACKUP")


class TestRoutes:
    NOWHERE = "203.0.113.9"

    def host(self, stage: Stage, *peers: str) -> Host:
        """Configure host a with IPv4 peers."""
        return make_pair(stage, QUICK, with_peers(*peers)(Carp(addresses=SHARED[:1])))[0]

    def test_one_peer_without_a_route(self, stage: Stage) -> None:
        """The MASTER serves while it reaches another one; the log names the one that it does not reach."""
        a = self.host(stage, "192.0.2.2", self.NOWHERE)
        settle(QUICK, a)
        assert ping(stage.client.namespace, "192.0.2.100", count=200, interval_s=0.01) == 200
        assert a.interface()["statistics"]["send_errors"] == 0
        assert f"could not be sent: to {self.NOWHERE}" in a.log_text()

    def test_no_peer_with_a_route(self, stage: Stage) -> None:
        """Who can tell nobody serves nobody: the fence stays closed, and the host is demoted."""
        a = self.host(stage, self.NOWHERE)
        a.start()
        a.wait_for(lambda status: status["interfaces"][0]["demote"] > 0, patience_s(QUICK), "send errors to demote")
        assert ping(stage.client.namespace, "192.0.2.100", count=20, patience_s=0.3) == 0

    def test_ipsec_policies_apply(self, stage: Stage) -> None:
        """A policy for protocol 112 between the hosts' own addresses is asked: one that blocks stops the advertisements."""
        a, b = pair_with_peers(stage)
        settle(QUICK, a, b)
        a.namespace.ip("xfrm policy add dir out src 192.0.2.1 dst 192.0.2.2 proto 112 action block")
        a.namespace.ip("xfrm policy add dir out src 2001:db8::1 dst 2001:db8::2 proto 112 action block")
        b.wait_for_state("MASTER", patience_s(QUICK))
        assert "advertisement could not be sent" in a.log_text()
        assert a.state_of() == "BACKUP"


@dataclass(frozen=True)
class Network:
    """Two subnets: the hosts' addresses in them, the routers', and a shared address outside of both."""

    a: str
    b: str
    gateway_a: str
    gateway_b: str
    between: tuple[str, str]
    shared: str
    everywhere: str


NETWORKS = {
    4: Network(
        "198.51.100.2/25",
        "198.51.100.224/25",
        "198.51.100.1/25",
        "198.51.100.129/25",
        ("203.0.113.1/30", "203.0.113.2/30"),
        "192.0.2.1/32",
        "0.0.0.0/0",
    ),
    6: Network(
        "2001:db8:1::2/64",
        "2001:db8:2::2/64",
        "2001:db8:1::1/64",
        "2001:db8:2::1/64",
        ("2001:db8:3::1/64", "2001:db8:3::2/64"),
        "2001:db8::1/128",
        "::/0",
    ),
}


def bare(address: str) -> str:
    """Take the prefix length off."""
    return address.partition("/")[0]


class Routed:
    """Hosts a and b in two subnets, with one or two routers between them."""

    def __init__(self, stage: Stage, network: Network, routers: int) -> None:
        self.network = network
        self.a, self.b = stage.port("a", (network.a,)), stage.port("b", (network.b,))
        self.near = stage.port("r", (network.gateway_a,)).namespace
        switch = stage.lan.switch
        stage.lan.partition(self.b)
        if routers == 1:
            far = self.near
        else:
            far = stage.port("s", ()).namespace
            self.near.ip(f"link add name mid0 type veth peer name mid0 netns {far.name}")
            for namespace, address, route in (
                (self.near, network.between[0], f"{network.b} via {bare(network.between[1])}"),
                (far, network.between[1], f"{network.a} via {bare(network.between[0])}"),
            ):
                namespace.sysctl("ipv6/conf/mid0/accept_dad", 0)
                namespace.ip(f"addr add {address} dev mid0", "link set dev mid0 up")
                self._route(namespace, route)
        switch.ip(
            f"link add name to-far type veth peer name far0 netns {far.name}",
            f"link set dev to-far master {ISLAND}",
            "link set dev to-far up",
        )
        far.sysctl("ipv6/conf/far0/accept_dad", 0)
        far.ip(f"addr add {network.gateway_b} dev far0", "link set dev far0 up")
        for namespace in {self.near, far}:
            namespace.sysctl("ipv4/ip_forward", 1)
            namespace.sysctl("ipv6/conf/all/forwarding", 1)
        self._route(self.a.namespace, f"{network.everywhere} via {bare(network.gateway_a)}")
        self._route(self.b.namespace, f"{network.everywhere} via {bare(network.gateway_b)}")

    @staticmethod
    def _route(namespace: Namespace, route: str) -> None:
        destination, _, gateway = route.partition(" via ")
        # ip(8) wants the network's own address.
        network = destination if destination.startswith(("0", "::/")) else _network_of(destination)
        namespace.ip(f"route add {network} via {gateway}")

    def lead(self, master: Port) -> None:
        """Route the shared address to a host."""
        via = {self.a: self.network.a, self.b: self.network.b}[master]
        if master is self.b and "far0" not in self.near.run("ip", "link"):
            via = self.network.between[1]
        self.near.ip(f"route replace {self.network.shared} via {bare(via)}")


def _network_of(address: str) -> str:
    return str(ip_interface(address).network)


@pytest.mark.parametrize("routers", [1, 2])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=[f"IPv{version}" for version in NETWORKS])
def test_peers_behind_routers(stage: Stage, network: Network, routers: int) -> None:
    """Hosts in two subnets have one MASTER; the shared address is routed to it and answers; a stop and a return move it."""
    routed = Routed(stage, network, routers)
    a, b = make_pair(stage, QUICK, Carp(addresses=(network.shared,)))
    for host, other in ((a, network.b), (b, network.a)):
        host.configure([with_peers(bare(other))(carp) for carp in host.carps], **host.global_keys)
    until(lambda: ping(a.namespace, bare(network.b)), SLACK_S, "a way from a to b")
    with Capture(b.port, inside=True) as at_b:
        settle(QUICK, a, b)
        until(lambda: at_b.frames(lambda frame: is_advertisement(frame) and ttl(frame) == 255 - routers), SLACK_S, "the TTL")
    if routers == 1:
        routed.lead(a.port)
        assert ping(routed.near, bare(network.shared), count=3) == 3
    a.stop()
    b.wait_for_state("MASTER", SLACK_S)
    if routers == 1:
        routed.lead(b.port)
        assert ping(routed.near, bare(network.shared), count=3) == 3
    settle(QUICK, a, b)
    assert holds_for(lambda: (a.state_of(), b.state_of()) == ("MASTER", "BACKUP"), 1.0)


def test_a_stranger_behind_a_router_is_not_heard(stage: Stage) -> None:
    """An authentic advertisement with TTL 254 counts from a peer, and from nobody else."""
    a = make_pair(stage, QUICK, with_peers("192.0.2.2")(Carp()))[0]
    x = stage.port("x")
    settle(QUICK, a)
    changes = transitions(a)
    better = Forgery(advbase=0, advskew=0, ttl=254, destination="192.0.2.1")
    mac = bytes.fromhex(a.port.mac.replace(":", ""))
    with packet_socket(x) as raw:
        inject(raw, [mac + replace(better, source="192.0.2.66").frame()[6:]])
        a.wait_for(lambda status: status["statistics"]["dropped"].get("bad-ttl", 0) == 1, SLACK_S, "a refusal")
        assert (a.state_of(), transitions(a)) == ("MASTER", changes)
        inject(raw, [mac + replace(better, source="192.0.2.2").frame()[6:]])
        a.wait_for_state("BACKUP", SLACK_S)


def test_link_local_peers(stage: Stage) -> None:
    """Peers may be link-local addresses without a zone: the parent is it."""
    ports = {label: stage.port(label) for label in "ab"}
    local = {
        label: next(
            entry["local"]
            for row in port.namespace.query("-6 addr show dev eth0")
            for entry in row["addr_info"]
            if entry["scope"] == "link"
        )
        for label, port in ports.items()
    }
    a, b = make_pair(stage, QUICK, Carp(addresses=SHARED[1:]))
    for host, other in ((a, "b"), (b, "a")):
        host.configure([with_peers(local[other])(carp) for carp in host.carps], **host.global_keys)
    settle(QUICK, a, b)
    check_caches(stage, a, SHARED[1:], packets=10)
    assert a.interface()["statistics"]["sent"]["IPv6"] > 0
