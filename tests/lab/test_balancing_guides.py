"""The load balancing of the BSDs' guides, typed word for word into running daemons, and what comes of it.

Each class is one guide. Its displays are compared whole, white space apart; docs/guides.md says where they differ and why.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from guide_hosts import BootedHost, Network, carp, make_networks, put, start, start_empty, type_in

from lab.flows import Flows, Told
from lab.host import Host
from lab.lan import Port
from lab.pairs import SLACK_S, virtual_mac
from lab.ping import echo
from lab.sharing import masters, wait_until_shared_out
from lab.stage import Stage
from lab.stations import wanted_nodes
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

FLOWS = 500
PATIENCE_S = 3 * SLACK_S


def words(text: str) -> list[str]:
    """Return the lines of a display without their white space."""
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def client_on(network: Network) -> Port:
    """Put a client on a network of a guide."""
    return network.lan.attach(f"client{network.interface}", [f"{network.address(9)}/24"])


def check_split(hosts: list[Host], networks: list[Network], number: int, vhids: dict[str, list[int]]) -> None:
    """Demand that of flows to the shared address of each network each has the one owner that the rule says."""
    for lan, network in enumerate(networks):
        address = network.address(number)
        ports = [network.lan.ports[host.label] for host in hosts]
        with Flows(ports, client_on(network), [address], FLOWS, lan) as flows:
            flows.resolve()
            (record,) = flows.round().values()
            now = masters(hosts)
            nodes = wanted_nodes(flows.stations, address, len(hosts))
            owners = [set(now[vhids[network.interface][node]]) for node in nodes]
        assert [set(record.owners(flow)) for flow in record.flows] == owners
        assert (len(record.shares()), record.repeated()) == (len(hosts), set())


class TestOpenBsdGuide:
    """Donald and Daisy, between the DMZ and the Internet, share the load of both sides."""

    DONALD = """\
ifconfig carp0 172.16.240.102/24 balancing ip carpnodes 3:0,4:100 pass password3
sysctl net.inet.carp.preempt=1
ifconfig carp1 172.16.250.102/24 balancing ip carpnodes 5:0,6:100 pass password5"""
    DAISY = """\
ifconfig carp0 172.16.240.102/24 balancing ip carpnodes 3:100,4:0 pass password3
sysctl net.inet.carp.preempt=1
ifconfig carp1 172.16.250.102/24 balancing ip carpnodes 5:100,6:0 pass password5"""
    DISPLAY = """\
carp0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500
        lladdr 01:00:5e:00:01:03
        carp: carpdev rl1 advbase 1 balancing ip
                state {} vhid 3 advskew {}
                state {} vhid 4 advskew {}
        groups: carp
        status: master
        inet 172.16.240.102 netmask 0xffffff00 broadcast 172.16.240.255"""
    FILES = {  # noqa: RUF012
        "hostname.carp0": "inet 172.16.240.102 255.255.255.0 172.16.240.255 balancing ip carpnodes {},{} pass password3\n",
        "hostname.carp1": "inet 172.16.250.102 255.255.255.0 172.16.250.255 balancing ip carpnodes {},{} pass password5\n",
        "sysctl.conf": "net.inet.carp.preempt=1\n",
    }
    VHIDS = {"rl1": [3, 4], "rl0": [5, 6]}  # noqa: RUF012

    @pytest.fixture
    def networks(self, stage: Stage) -> list[Network]:
        """Make the DMZ and the Internet."""
        return make_networks(stage, rl1="172.16.240", rl0="172.16.250")

    def check(self, donald: Host, daisy: Host, networks: list[Network]) -> None:
        """Look at the displays of the guide and at the traffic."""
        wait_until_shared_out([donald, daisy], PATIENCE_S)
        assert words(type_in(donald, "ifconfig carp0")) == words(self.DISPLAY.format("MASTER", 0, "BACKUP", 100))
        assert words(type_in(daisy, "ifconfig carp0")) == words(self.DISPLAY.format("BACKUP", 100, "MASTER", 0))
        check_split([donald, daisy], networks, 102, self.VHIDS)

    def test_active_and_active(self, stage: Stage, networks: list[Network]) -> None:
        """The guide's lines make two groups with one address, each with another MASTER, and print what it prints."""
        donald, daisy = start_empty(stage, networks, donald=100, daisy=101)
        assert type_in(donald, self.DONALD) == "net.inet.carp.preempt: 0 -> 1\n"
        assert type_in(daisy, self.DAISY) == "net.inet.carp.preempt: 0 -> 1\n"
        self.check(donald, daisy, networks)

    def test_the_firewalls_forward_each_packet_once(self, stage: Stage, networks: list[Network]) -> None:
        """What passes from the DMZ to the Internet is forwarded by one host, and its answer by the same one; both have work."""
        donald, daisy = start_empty(stage, networks, donald=100, daisy=101)
        for host, lines in ((donald, self.DONALD), (daisy, self.DAISY)):
            type_in(host, lines)
        wait_until_shared_out([donald, daisy], PATIENCE_S)
        dmz, internet = networks
        inside, outside = client_on(dmz), client_on(internet)
        sources = [dmz.address(number) for number in range(20, 40)]
        inside.namespace.ip(*(f"addr add {source}/24 dev eth0" for source in sources))
        for client, gateway in ((inside, dmz), (outside, internet)):
            client.namespace.ip(f"route add default via {gateway.address(102)}")
        for source in sources:
            answers = echo(inside.namespace, internet.address(9), count=2, source=source, linger_s=0.01)
            assert answers == {0: 1, 1: 1}, source
        kept = {
            host.label: [
                node["balance"]["kept_packets"] for name in ("carp0", "carp1") for node in host.interface(name)["nodes"]
            ]
            for host in (donald, daisy)
        }
        # As many answers as requests passed each host: the rule is the same in both directions.
        assert kept["donald"][0] >= len(sources)
        assert kept["donald"][0] == kept["donald"][2]
        assert kept["daisy"][1] >= len(sources)
        assert kept["daisy"][1] == kept["daisy"][3]

    @pytest.fixture
    def booted(self, stage: Stage, networks: list[Network]) -> Iterator[list[Host]]:
        """Start both from the guide's files."""
        donald = BootedHost(put("donald", 100, networks), stage.directory / "donald")
        daisy = BootedHost(put("daisy", 101, networks), stage.directory / "daisy")
        with closing(donald), closing(daisy):
            for host, skews in ((donald, (0, 100)), (daisy, (100, 0))):
                stage.hosts[host.label] = host
                for name, text in self.FILES.items():
                    first = 3 if name.endswith("carp0") else 5
                    host.boot_file(name, text.format(*(f"{first + place}:{skew}" for place, skew in enumerate(skews))))
            yield start([donald, daisy])

    def test_the_files_read_at_boot(self, booted: list[Host], networks: list[Network]) -> None:
        """Each file of the guide does what its commands do."""
        donald, daisy = booted
        self.check(donald, daisy, networks)

    def test_a_running_interface_becomes_balanced(self, stage: Stage) -> None:
        """`ifconfig carp0 balancing ip carpnodes 1:0,2:100` makes a plain carp interface one of two nodes, and back again."""
        networks = make_networks(stage, rl1="172.16.240")
        hosts = start_empty(stage, networks, donald=100, daisy=101)
        for host, skew in zip(hosts, (0, 100), strict=True):
            type_in(host, f"ifconfig carp0 172.16.240.102/24 vhid 1 advskew {skew} pass password3")
        wait_until_shared_out(hosts, PATIENCE_S)
        for host, line in zip(hosts, ("1:0,2:100", "1:100,2:0"), strict=True):
            type_in(host, f"sysctl net.inet.carp.preempt=1\nifconfig carp0 balancing ip carpnodes {line}")
        wait_until_shared_out(hosts, PATIENCE_S)
        check_split(hosts, networks, 102, {"rl1": [1, 2]})
        for mode in ("ip-stealth", "ip-unicast"):
            for host in hosts:
                type_in(host, f"ifconfig carp0 balancing {mode}")
                assert f"carp: carpdev rl1 advbase 1 balancing {mode}" in words(type_in(host, "ifconfig carp0"))
        wait_until_shared_out(hosts, PATIENCE_S)
        for host in hosts:
            assert carp(host, "ifconfig carp0 balancing none").returncode == 1
            type_in(host, f"ifconfig carp0 balancing none vhid 1 advskew {hosts.index(host) * 100}")
        wait_until_shared_out(hosts, PATIENCE_S)
        assert "carp: MASTER carpdev rl1 vhid 1 advbase 1 advskew 0" in words(type_in(hosts[0], "ifconfig carp0"))


class TestDragonFlyManual:
    """ARP balancing: a virtual host for each physical one, all with one address."""

    HOST_A = """\
ifconfig carp0 create
ifconfig carp0 vhid 1 pass mekmitasdigoat
ifconfig carp1 create
ifconfig carp1 vhid 2 advskew 100 pass mekmitasdigoat"""
    HOST_B = """\
ifconfig carp0 create
ifconfig carp0 vhid 1 advskew 100 pass mekmitasdigoat
ifconfig carp1 create
ifconfig carp1 vhid 2 pass mekmitasdigoat"""
    ADDRESSES = """\
ifconfig carp0 192.168.1.10
ifconfig carp1 192.168.1.10"""
    DISPLAY = """\
carp{0}: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500
        lladdr 00:00:5e:00:01:0{1}
        carp: {2} carpdev eth0 vhid {1} advbase 1 advskew {3}
        groups: carp
        status: {4}
        inet 192.168.1.10 netmask 0xffffff00 broadcast 192.168.1.255"""

    def test_arp_balancing(self, stage: Stage) -> None:
        """Who asks decides which host answers; if one fails, the other takes over its virtual MAC and answers for it."""
        (network,) = networks = make_networks(stage, eth0="192.168.1")
        hosts = start_empty(stage, networks, a=1, b=2)
        a, b = hosts
        for host, lines in ((a, self.HOST_A), (b, self.HOST_B)):
            # The guide's interfaces would stay where they came first; the crossed skews are to decide.
            type_in(host, "sysctl net.inet.carp.preempt=1")
            type_in(host, f"{lines}\n{self.ADDRESSES}")
            assert type_in(host, "sysctl net.inet.carp.arpbalance=1") == "net.inet.carp.arpbalance: 0 -> 1\n"
        wait_until_shared_out(hosts, PATIENCE_S)
        self.check_shown(a, ("MASTER", 0), ("BACKUP", 100))
        self.check_shown(b, ("BACKUP", 100), ("MASTER", 0))
        address = network.address(10)
        with Flows([host.port for host in hosts], client_on(network), [address], FLOWS) as flows:
            told = flows.resolve()[address]
            assert self.macs(told) == [virtual_mac(1 + self.chosen(station.ipv4)) for station in flows.stations]
            (record,) = flows.round().values()
            assert record.shares() == {label: self.macs(told).count(virtual_mac(vhid)) for label, vhid in (("a", 1), ("b", 2))}
            b.kill()
            until(lambda: a.is_settled("MASTER"), PATIENCE_S, "a to be MASTER of both")
            assert self.macs(flows.resolve()[address]) == self.macs(told)
            (record,) = flows.round().values()
            assert record.shares() == {"a": FLOWS}

    def check_shown(self, host: Host, *states: tuple[str, int]) -> None:
        """Compare the displays of both interfaces."""
        wanted = [
            self.DISPLAY.format(number, number + 1, state, skew, state.lower()) for number, (state, skew) in enumerate(states)
        ]
        assert words(type_in(host, "ifconfig carp")) == words("\n".join(wanted))

    @staticmethod
    def macs(told: Told) -> list[str]:
        """Return the one MAC that each station was told."""
        assert {len(seen) for seen in told.values()} == {1}
        return [told[flow][0][0] for flow in sorted(told)]

    @staticmethod
    def chosen(asker: bytes) -> int:
        """Return which of two carp interfaces an asker's address chooses."""
        return int.from_bytes(asker, "big") % 2

    def test_without_the_sysctl(self, stage: Stage) -> None:
        """Until arpbalance is 1 the MASTER of the lowest vhid answers everybody; the second interface's line warns of it."""
        (network,) = networks = make_networks(stage, eth0="192.168.1")
        hosts = start_empty(stage, networks, a=1, b=2)
        for host, lines in zip(hosts, (self.HOST_A, self.HOST_B), strict=True):
            type_in(host, f"sysctl net.inet.carp.preempt=1\n{lines}\nifconfig carp0 192.168.1.10")
            done = carp(host, "ifconfig carp1 192.168.1.10")
            assert done.returncode == 0
            assert "arpbalance" in done.stderr
        wait_until_shared_out(hosts, PATIENCE_S)
        address = network.address(10)
        with Flows([host.port for host in hosts], client_on(network), [address], FLOWS) as flows:
            assert set(self.macs(flows.resolve()[address])) == {virtual_mac(1)}
            (record,) = flows.round().values()
            assert record.shares() == {"a": FLOWS}
            for host in hosts:
                type_in(host, "sysctl net.inet.carp.arpbalance=1")
            assert set(self.macs(flows.resolve()[address])) == {virtual_mac(1), virtual_mac(2)}


class TestNetBsdPort:
    """The first port's pair of lines, with vhids 10 and 20."""

    LINES = """\
ifconfig carp0 create
ifconfig carp1 create
ifconfig carp0 vhid 10 {}pass asdfasdf
ifconfig carp1 vhid 20 {}pass asdfasdf
ifconfig carp0 192.168.1.10
ifconfig carp1 192.168.1.10
sysctl -w net.inet.carp.arpbalance=1"""

    def test_one_address_with_two_vhids(self, stage: Stage) -> None:
        """Either host answers its part of the askers; both parts together are everybody."""
        (network,) = networks = make_networks(stage, eth0="192.168.1")
        hosts = start_empty(stage, networks, a=1, b=2)
        for host, skews in zip(hosts, (("", "advskew 100 "), ("advskew 100 ", "")), strict=True):
            type_in(host, "sysctl -w net.inet.carp.preempt=1\n" + self.LINES.format(*skews))
        wait_until_shared_out(hosts, PATIENCE_S)
        assert masters(hosts) == {10: ["a"], 20: ["b"]}
        with Flows([host.port for host in hosts], client_on(network), [network.address(10)], FLOWS) as flows:
            (told,) = flows.resolve().values()
            assert {len(seen) for seen in told.values()} == {1}
            (record,) = flows.round().values()
        assert (set(record.shares()), record.losers(), record.repeated()) == ({"a", "b"}, set(), set())
