"""The configurations of the BSDs' own guides, typed word for word into hosts that start with an empty carpd.

Each class is one guide, with the guide's addresses. What came of it is looked at with ip, ping and the displays.
docs/guides.md says of each statement of these guides whether it holds here.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
from guide_hosts import BootedHost, Network, Shared, make_networks, put, share, start, start_empty, type_in

from lab.figures import Pair
from lab.host import Host
from lab.pairs import SLACK_S, patience_s, transitions, virtual_mac, wait_settled
from lab.ping import ping
from lab.stage import Stage
from lab.tables import addresses, links, neighbours
from lab.wait import holds_for, until

pytestmark = pytest.mark.usefixtures("carpd")

TWO_INTERVALS_S = 2.2
PACKETS = 20


def check_shown(shared: tuple[Shared, ...], states: dict[Host, str]) -> None:
    """Look at the displays of hosts, each of which has one state in all carp interfaces, such as "MASTER advskew 0"."""
    for host, state in states.items():
        word, _, skew = state.partition(" ")
        shown = re.split(r"\n(?=\S)", type_in(host, "ifconfig carp").rstrip())
        assert [block.partition(":")[0] for block in shown] == [one.carp for one in shared]
        for one, block in zip(shared, shown, strict=True):
            lines = [line.strip() for line in block.splitlines()]
            assert f"lladdr {virtual_mac(one.vhid)}" in lines
            assert f"carp: {word} carpdev {one.network.interface} vhid {one.vhid} advbase 1 {skew}" in lines
            assert f"status: {word.lower()}" in lines
            assert f"inet {one.address} netmask 0xffffff00 broadcast {one.network.address(255)}" in lines
            held = {f"{one.address}/24"} if word == "MASTER" else set()
            assert addresses(host.namespace, one.carp) == held


def check_serves(shared: tuple[Shared, ...], master: Host) -> None:
    """Look at what clients see: every packet is answered, from the virtual MAC, which the switch has on the MASTER's port."""
    for one in shared:
        assert ping(one.client.namespace, one.address, count=PACKETS) == PACKETS
        assert neighbours(one.client.namespace)[one.address].mac == virtual_mac(one.vhid)
        assert one.network.lan.port_of(virtual_mac(one.vhid)) == master.label
    if len(shared) > 1:
        check_passage(*shared)


def check_passage(one: Shared, other: Shared) -> None:
    """Ping from each client through whoever holds the shared addresses to the other client."""
    for client, target in ((one.client, other.network.address(9)), (other.client, one.network.address(9))):
        assert ping(client.namespace, target, count=PACKETS) == PACKETS


class TestNetBsdAnnouncement:
    """Two firewalls between a LAN and the Internet, both with preempt."""

    PAIR = Pair(1, 0, 128)
    FIREWALL_1 = """\
sysctl -w net.inet.carp.preempt=1
ifconfig carp1 create
ifconfig carp1 vhid 1 carpdev em0 pass lanpasswd 172.16.0.100 255.255.255.0
ifconfig carp2 create
ifconfig carp2 vhid 2 carpdev em1 pass netpasswd 192.0.2.100 255.255.255.0"""
    FIREWALL_2 = """\
sysctl -w net.inet.carp.preempt=1
ifconfig carp1 create
ifconfig carp1 vhid 1 carpdev em0 pass lanpasswd advskew 128 172.16.0.100 255.255.255.0
ifconfig carp2 create
ifconfig carp2 vhid 2 carpdev em1 pass netpasswd advskew 128 192.0.2.100 255.255.255.0"""

    @pytest.fixture
    def networks(self, stage: Stage) -> list[Network]:
        """Make the LAN and the Internet."""
        return make_networks(stage, em0="172.16.0", em1="192.0.2")

    @pytest.fixture
    def shared(self, networks: list[Network]) -> tuple[Shared, Shared]:
        """Describe both shared addresses, each the gateway of a client."""
        lan, internet = networks
        return share("carp1", 1, lan, 100), share("carp2", 2, internet, 100)

    @pytest.fixture
    def firewalls(self, stage: Stage, networks: list[Network]) -> tuple[Host, Host]:
        """Type the guide into both; wait until firewall 1 is MASTER of both addresses."""
        first, second = start_empty(stage, networks, fw1=1, fw2=2)
        type_in(first, self.FIREWALL_1)
        type_in(second, self.FIREWALL_2)
        wait_settled(self.PAIR, first, second)
        return first, second

    def test_an_axe_through_firewall_1(
        self, firewalls: tuple[Host, Host], networks: list[Network], shared: tuple[Shared, Shared]
    ) -> None:
        """Firewall 2 handles the traffic, transparently to the users; firewall 1 resumes its position when it recovers."""
        first, second = firewalls
        check_shown(shared, {first: "MASTER advskew 0", second: "BACKUP advskew 128"})
        check_serves(shared, first)
        first.kill()
        for network in networks:
            network.lan.ports["fw1"].unplug()
        wait_settled(self.PAIR, second)
        check_serves(shared, second)
        check_shown(shared, {second: "MASTER advskew 128"})
        for network in networks:
            network.lan.ports["fw1"].plug()
        first.start()
        type_in(first, self.FIREWALL_1)
        wait_settled(self.PAIR, first, second)
        check_serves(shared, first)

    def test_one_physical_interface_fails(
        self, firewalls: tuple[Host, Host], networks: list[Network], shared: tuple[Shared, Shared]
    ) -> None:
        """Both carp interfaces of firewall 1 fail over together, and come back together."""
        first, second = firewalls
        broken = networks[1].lan.ports["fw1"]
        broken.cut()
        wait_settled(self.PAIR, second)
        first.wait_for_state("BACKUP", SLACK_S, "carp1")
        assert first.state_of("carp2") == "INIT"
        check_serves(shared, second)
        assert holds_for(lambda: first.state_of("carp1") == "BACKUP", TWO_INTERVALS_S)
        broken.mend()
        wait_settled(self.PAIR, first, second)
        check_serves(shared, first)


class TestOpenBsdAnnouncement:
    """One line on each of two hosts, and one more that slows a host down."""

    PAIR = Pair(1, 0, 100)

    def test_the_shortest_form(self, stage: Stage) -> None:
        """One becomes MASTER and answers; with advskew 100 it goes on until it is let to be preempted."""
        networks = make_networks(stage, eth0="192.168.1")
        shared = (share("carp0", 1, networks[0], 10),)
        hosts = start_empty(stage, networks, one=1, two=2)
        for host in hosts:
            type_in(host, "ifconfig carp0 vhid 1 192.168.1.10")
        until(lambda: self.masters(hosts) and self.backups(hosts), patience_s(self.PAIR), "one MASTER and one BACKUP")
        (master,), (backup,) = self.masters(hosts), self.backups(hosts)
        check_shown(shared, {master: "MASTER advskew 0", backup: "BACKUP advskew 0"})
        check_serves(shared, master)
        before = [transitions(host) for host in hosts]
        assert type_in(master, "ifconfig carp0 advskew 100") == ""
        assert holds_for(lambda: master.is_settled("MASTER"), TWO_INTERVALS_S)
        assert [transitions(host) for host in hosts] == before
        type_in(backup, "sysctl net.inet.carp.preempt=1")
        wait_settled(self.PAIR, backup, master)
        check_shown(shared, {backup: "MASTER advskew 0", master: "BACKUP advskew 100"})
        check_serves(shared, backup)
        # Three times advbase, and the BACKUP's own advskew once.
        assert master.interface()["nodes"][0]["master_down_s"] == pytest.approx(3 + 100 / 256)

    @staticmethod
    def masters(hosts: list[Host]) -> list[Host]:
        """Return the hosts that are MASTER."""
        return [host for host in hosts if host.is_settled("MASTER")]

    @staticmethod
    def backups(hosts: list[Host]) -> list[Host]:
        """Return the hosts that are BACKUP."""
        return [host for host in hosts if host.is_settled("BACKUP")]


class TestDragonFlyManual:
    """Interfaces that are created, then get a vhid and a pass phrase, and their addresses later."""

    PAIR = Pair(1, 0, 100)
    HOST_A = """\
sysctl net.inet.carp.preempt=1
ifconfig carp0 create
ifconfig carp0 vhid 1 pass mekmitasdigoat
ifconfig carp1 create
ifconfig carp1 vhid 2 pass mekmitasdigoat"""
    HOST_B = """\
sysctl net.inet.carp.preempt=1
ifconfig carp0 create
ifconfig carp0 vhid 1 advskew 100 pass mekmitasdigoat
ifconfig carp1 create
ifconfig carp1 vhid 2 advskew 100 pass mekmitasdigoat"""
    ADDRESSES = """\
ifconfig carp0 192.168.1.10
ifconfig carp1 192.168.2.10"""

    def test_failover_of_all_interfaces_together(self, stage: Stage) -> None:
        """When an interface of host A fails, host B preempts on both; suppress_preempt counts the problem."""
        networks = make_networks(stage, eth0="192.168.1", eth1="192.168.2")
        shared = share("carp0", 1, networks[0], 10), share("carp1", 2, networks[1], 10)
        a, b = start_empty(stage, networks, a=1, b=2)
        type_in(a, self.HOST_A)
        type_in(b, self.HOST_B)
        assert "carp: INIT vhid 2 advbase 1 advskew 0" in type_in(a, "ifconfig carp1")
        assert "UP" not in links(a.namespace)["carp1"]["flags"]
        for host in (a, b):
            type_in(host, self.ADDRESSES)
        wait_settled(self.PAIR, a, b)
        check_shown(shared, {a: "MASTER advskew 0", b: "BACKUP advskew 100"})
        check_serves(shared, a)
        broken = networks[1].lan.ports["a"]
        broken.unplug()
        wait_settled(self.PAIR, b)
        a.wait_for_state("BACKUP", SLACK_S)
        assert self.suppress_preempt(a) == "1"
        # DragonFly would use advskew 240; here the demote count says it.
        assert "carp: BACKUP carpdev eth0 vhid 1 advbase 1 advskew 0" in type_in(a, "ifconfig carp0")
        check_serves(shared, b)
        broken.plug()
        wait_settled(self.PAIR, a, b)
        assert self.suppress_preempt(a) == "0"
        check_serves(shared, a)

    @staticmethod
    def suppress_preempt(host: Host) -> str:
        """Ask for the read-only value."""
        return type_in(host, "sysctl -n net.inet.carp.suppress_preempt").strip()


class TestOpenBsdGuide:
    """The active/standby pair Mickey and Minnie between LAN and DMZ; only Mickey has preempt."""

    PAIR = Pair(1, 0, 100)
    MICKEY = """\
ifconfig carp0 172.16.0.202/24 vhid 1 pass password1 advbase 1 advskew 0
ifconfig carp1 172.16.240.202/24 vhid 2 pass password2 advbase 1 advskew 0"""
    MINNIE = """\
ifconfig carp0 172.16.0.202/24 vhid 1 pass password1 advbase 1 advskew 100
ifconfig carp1 172.16.240.202/24 vhid 2 pass password2 advbase 1 advskew 100"""
    BOOT_FILES: ClassVar = {
        "hostname.carp0": "inet 172.16.0.202 255.255.255.0 172.16.0.255 vhid 1 pass password1 advbase 1 advskew {}\n",
        "hostname.carp1": "inet 172.16.240.202 255.255.255.0 172.16.240.255 vhid 2 pass password2 advbase 1 advskew {}\n",
    }

    @pytest.fixture
    def networks(self, stage: Stage) -> list[Network]:
        """Make the LAN and the DMZ."""
        return make_networks(stage, rl0="172.16.0", rl1="172.16.240")

    @pytest.fixture
    def shared(self, networks: list[Network]) -> tuple[Shared, Shared]:
        """Describe both shared addresses, each the gateway of a client."""
        lan, dmz = networks
        return share("carp0", 1, lan, 202), share("carp1", 2, dmz, 202)

    def test_active_and_standby(self, stage: Stage, networks: list[Network], shared: tuple[Shared, Shared]) -> None:
        """Mickey is MASTER whenever possible; a failed interface demotes all of his, and Minnie needs no preempt for that."""
        mickey, minnie = start_empty(stage, networks, mickey=200, minnie=201)
        type_in(mickey, self.MICKEY)
        type_in(minnie, self.MINNIE)
        assert type_in(mickey, "sysctl net.inet.carp.preempt=1") == "net.inet.carp.preempt: 0 -> 1\n"
        wait_settled(self.PAIR, mickey, minnie)
        check_shown(shared, {mickey: "MASTER advskew 0", minnie: "BACKUP advskew 100"})
        check_serves(shared, mickey)
        assert type_in(mickey, "ifconfig -g carp") == "carp: carp demote count 0\n"
        broken = networks[0].lan.ports["mickey"]
        broken.unplug()
        wait_settled(self.PAIR, minnie)
        assert type_in(mickey, "ifconfig -g carp") == "carp: carp demote count 1\n"
        check_serves(shared, minnie)
        broken.plug()
        wait_settled(self.PAIR, mickey, minnie)
        check_serves(shared, mickey)

    @pytest.fixture
    def booted(self, stage: Stage, networks: list[Network], tmp_path: Path) -> Iterator[tuple[Host, Host]]:
        """Start both from the boot files of the guide."""
        mickey = BootedHost(put("mickey", 200, networks), stage.directory / "mickey")
        minnie = BootedHost(put("minnie", 201, networks), stage.directory / "minnie")
        with closing(mickey), closing(minnie):
            for host, skew in ((mickey, 0), (minnie, 100)):
                stage.hosts[host.label] = host
                for name, line in self.BOOT_FILES.items():
                    host.boot_file(name, line.format(skew))
            mickey.boot_file("sysctl.conf", "net.inet.carp.preempt=1\n")
            start([mickey, minnie])
            yield mickey, minnie

    def test_the_files_read_at_boot(self, booted: tuple[Host, Host], shared: tuple[Shared, Shared]) -> None:
        """Each file of the guide does what its commands do."""
        mickey, minnie = booted
        wait_settled(self.PAIR, mickey, minnie)
        check_shown(shared, {mickey: "MASTER advskew 0", minnie: "BACKUP advskew 100"})
        check_serves(shared, mickey)
        preempt = [type_in(host, "sysctl net.inet.carp.preempt") for host in (mickey, minnie)]
        assert preempt == ["net.inet.carp.preempt=1\n", "net.inet.carp.preempt=0\n"]


class TestPhysicalAddress:
    """The guide to the firewalls: a host's own address is that of the group."""

    PAIR = Pair(1, 0, 100)

    def test_it_goes_on_without_its_host(self, stage: Stage) -> None:
        """The other host serves it when the first one is cut off."""
        networks = make_networks(stage, rl0="172.16.240")
        donald, daisy = start_empty(stage, networks, donald=100, daisy=101)
        client = networks[0].lan.attach("client", [f"{networks[0].address(9)}/24"]).namespace
        for host, skew in ((donald, 0), (daisy, 100)):
            type_in(host, f"ifconfig carp0 vhid 1 advskew {skew} 172.16.240.100/24 pass password1")
        wait_settled(self.PAIR, donald, daisy)
        assert ping(client, "172.16.240.100", count=PACKETS) == PACKETS
        stage.lan.ports["donald"].block()
        daisy.wait_for_state("MASTER", patience_s(self.PAIR))
        until(lambda: ping(client, "172.16.240.100", count=1) == 1, SLACK_S, "an answer")
        assert neighbours(client)["172.16.240.100"].mac == virtual_mac(1)
