"""Lines that cannot be carried out, many at once, and from those who may not: nothing changes but what was asked for."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from bsd_hosts import BsdHosts, document, set_up, typed_here

from lab.host import Host, program
from lab.stage import Stage

NOBODY = 65534

SET_UP = (
    "ifconfig carp0 vhid 1 pass password1 172.16.0.202/24 down",
    "ifconfig carp1 vhid 9 pass password1 172.16.0.203/24 down",
    "ifconfig carp2 create",
    "ifconfig carp20 carpdev em0 balancing ip carpnodes 50:0,51:100 pass password1 172.16.0.205/24 down",
)

# What is typed | what the sentence names, | and what it says is allowed, or why not.
REFUSED = """
ifconfig carp0 vhid 0                               | vhid: 0            | 1..255
ifconfig carp0 vhid 256                             | vhid: 256          | 1..255
ifconfig carp0 vhid                                 | vhid               | its value is missing
ifconfig carp0 vhid 9                               | carp0.vhid: 9      | the vhid of carp1 on em0
ifconfig carp0 vhid 3 carpnodes 3:0                 | carpnodes          | not together with vhid
ifconfig carp0 advbase 255                          | advbase: 255       | 0..254
ifconfig carp0 advbase                              | advbase            | its value is missing
ifconfig carp0 advskew 255                          | advskew: 255       | 0..254
ifconfig carp0 advskew -1                           | advskew: -1        | 0..254
ifconfig carp0 advskew ten                          | advskew: ten       | 0..254
ifconfig carp0 advskew                              | advskew            | its value is missing
ifconfig carp0 advskew 3 advskew 3                  | advskew            | twice
ifconfig carp0 advskeww 3                           | advskeww           | did you mean advskew?
ifconfig carp0 pass                                 | pass               | its value is missing
ifconfig carp0 pass waytoolongapassphrase           | pass               | at most 19 bytes
ifconfig carp0 carpdev em7                          | carpdev            | em0, em1
ifconfig carp0 carpdev carp1                        | carpdev: carp1     | a parent that is not itself a carp interface
ifconfig carp0 carpdev                              | carpdev            | its value is missing
ifconfig carp0 carpdev em0 -carpdev                 | -carpdev           | not together with carpdev
ifconfig carp0 carppeer 10.0.0                      | carppeer: 10.0.0   | an IPv4 or IPv6 address
ifconfig carp0 carppeer 224.0.0.18                  | carppeer           | -carppeer goes back to multicast
ifconfig carp0 carppeer 172.16.0.202                | carppeer           | an address that the peer has for itself
ifconfig carp0 carppeer                             | carppeer           | its value is missing
ifconfig carp0 state                                | state              | its value is missing
ifconfig carp0 state primary                        | state: primary     | init, backup, master
ifconfig carp2 state backup                         | state backup       | no vhid yet
ifconfig carp0 up down                              | down               | not together with up
ifconfig carp0 lladdr 01:00:00:00:00:01             | lladdr             | a MAC of one host
ifconfig carp0 group lan1                           | group: lan1        | does not end in a digit
ifconfig carp0 group                                | group              | its value is missing
ifconfig carp0 -group dmz                           | -group: "dmz"      | one of its groups: carp
ifconfig carp0 172.16.0.300                         | 172.16.0.300       | an IPv4 or IPv6 address
ifconfig carp0 172.16.0.204/33                      | 172.16.0.204/33    | 1..32
ifconfig carp0 172.16.0.204 255.0.255.0             | 255.0.255.0        | a mask such as 255.255.255.0
ifconfig carp0 inet 2001:db8::1                     | inet: 2001:db8::1  | an IPv4 address
ifconfig carp0 inet6 172.16.0.204                   | inet6: 172.16.0.204| an IPv6 address
ifconfig carp0 2001:db8::100 netmask 255.255.255.0  | netmask            | prefixlen
ifconfig carp0 224.0.0.5                            | 224.0.0.5          | not unspecified, loopback, multicast
ifconfig carp0 172.16.0.205                         | carp0.addresses    | carp20 has balancing ip
ifconfig carp0 172.16.240.1                         | 172.16.240.1       | this host's own address on em1
ifconfig carp0 172.16.0.204 delete                  | delete             | one of its addresses: 172.16.0.202/24
ifconfig carp0 delete                               | delete             | needs an address
ifconfig carp3 vhid 3 203.0.113.1                   | carpdev            | name the parent
ifconfig carp0 balancing round-robin                | balancing          | none, ip, ip-stealth, ip-unicast, arp
ifconfig carp0 carpnodes 1:0,50:100                 | carp0.carpnodes: 50| the vhid of carp20 on em0
ifconfig carp0 carpnodes 1:0,2:100 balancing none   | carpnodes          | not together with balancing none
ifconfig carp20 balancing none                       | carp20.carpnodes    | a list of 2 with balancing none
ifconfig carp20 advskew 50                           | carp20.advskew      | not together with carpnodes
ifconfig carp20 lladdr 02:00:00:00:00:01             | carp20.lladdr       | with balancing ip virtual
ifconfig carp0 carpnodes 1:0,1:100                  | carpnodes          | 1 is listed twice
ifconfig carp0 carpnodes 1                          | carpnodes: 1       | "vhid:advskew"
ifconfig carp0 carpnodes {33 nodes}                 | carpnodes: 33 nodes| at most 32
ifconfig carp0 carpnodes                            | carpnodes          | its value is missing
ifconfig carp0 create                               | create             | it exists already
ifconfig carp3 destroy                              | destroy            | there is no such carp interface
ifconfig carp0 destroy advskew 3                    | destroy            | stands alone
ifconfig carp3                                      | carp3              | there is carp0, carp1, carp2, carp20
ifconfig carp10000 create                           | carp10000          | carp0..carp9999
ifconfig em0 advskew 3                              | em0                | carp0..carp9999
ifconfig -g dmz                                     | dmz                | there is carp
ifconfig -g dmz carpdemote 3                        | dmz                | there is carp
ifconfig -g carp carpdemote 129                     | carpdemote: 129    | 0..128
ifconfig -g carp -carpdemote 1                      | carpdemote         | 0..255
ifconfig -g carp carpdemoted                        | carpdemoted        | did you mean carpdemote?
sysctl net.inet.carp.preempt=2                      | preempt: 2         | 0..1
sysctl net.inet.carp.allow=yes                      | allow: yes         | 0..1
sysctl net.inet.carp.log=8                          | log: 8             | 0..7
sysctl net.inet.carp.arpbalance=-1                  | arpbalance: -1     | 0..1
sysctl net.inet.carp.dscp=64                        | dscp: 64           | 0..63
sysctl net.inet.carp.demotion=-1                    | demotion: -1       | 0..255
sysctl net.inet.carp.suppress_preempt=0             | suppress_preempt   | read only
sysctl net.inet.carp.premept=1                      | premept            | did you mean net.inet.carp.preempt?
sysctl -w                                           | -w                 | its value is missing
sysctl net.inet.tcp.keepidle                        | net.inet.tcp       | net.inet.carp.
netstat -s -p tcp                                   | tcp                | carp
netstat -r                                          | -r                 | -s -p carp
""".replace("{33 nodes}", ",".join(f"{vhid}:0" for vhid in range(1, 34)))


def rows() -> list[list[str]]:
    """Split the table."""
    return [[cell.strip() for cell in row.split("|")] for row in REFUSED.strip().splitlines()]


@pytest.fixture(scope="module")
def host(carpd: None) -> Iterator[Host]:
    """Run carpd with a few interfaces, for all tests that change nothing."""
    with Stage() as stage:
        running = BsdHosts(stage)["a"]
        set_up(running, SET_UP)
        yield running


def changes(host: Host) -> list[str]:
    """Return what the log says was changed: of keys it is the only sign."""
    return [line for line in host.log_text().splitlines() if "changed:" in line]


@pytest.mark.parametrize(("line", "named", "allowed"), rows(), ids=[row[0][:60] for row in rows()])
def test_refused(host: Host, line: str, named: str, allowed: str) -> None:
    """One sentence names the word and what is allowed, the exit status is 1, and nothing is changed."""
    before = document(host), host.status()["demotions"], changes(host)
    done = typed_here(host, line)
    assert (done.returncode, done.stdout) == (1, "")
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("carp: ")
    assert named in sentence.replace('"', "") or named in sentence
    assert allowed in sentence
    assert "password1" not in sentence
    assert "waytoolong" not in sentence
    assert (document(host), host.status()["demotions"], changes(host)) == before


def as_nobody(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `carp` as a user who may read every file, wherever this project lies, and nothing more."""
    rights = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    user = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *rights)
    line = [*user, str(program("carp")), "--socket", str(host.socket), *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=20)


class TestOtherUsers:
    @pytest.fixture
    def member(self, host: Host) -> Iterator[Host]:
        """Let the group of nobody use the socket, as the group carp may where there is one."""
        former = host.socket.stat().st_gid
        os.chown(host.socket, 0, NOBODY)
        yield host
        os.chown(host.socket, 0, former)

    @pytest.mark.parametrize("line", ["ifconfig carp0", "sysctl net.inet.carp", "netstat -s -p carp", "config show"])
    def test_members_read(self, member: Host, line: str) -> None:
        """The group may look at everything."""
        done = as_nobody(member, *line.split())
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout

    @pytest.mark.parametrize(
        "line",
        [
            "ifconfig carp0 advskew 7",
            "ifconfig -g carp carpdemote 1",
            "sysctl net.inet.carp.preempt=1",
            "config save",
            "reload",
        ],
    )
    def test_members_change_nothing(self, member: Host, line: str) -> None:
        """Changes are for root."""
        before = document(member), changes(member), member.config.read_bytes()
        done = as_nobody(member, *line.split())
        assert (done.returncode, done.stdout) == (1, "")
        (sentence,) = done.stderr.splitlines()
        assert "that is for root only" in sentence
        assert (document(member), changes(member), member.config.read_bytes()) == before

    def test_strangers_do_not_even_read(self, host: Host) -> None:
        """Whoever is neither root nor of the group cannot connect."""
        assert host.socket.stat().st_mode & 0o777 == 0o660
        done = as_nobody(host, "ifconfig", "carp0")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"carp: {host.socket} may be used by root and the group carp only\n"


def test_changes_at_once_all_arrive(stage: Stage) -> None:
    """Twenty processes that change twenty values at the same time: each of them is in force afterwards."""
    host = BsdHosts(stage)["a"]
    set_up(host, SET_UP)
    lines = [
        "ifconfig carp0 advskew 7",
        "ifconfig carp0 advbase 3",
        "ifconfig carp0 carppeer 10.0.0.2",
        "ifconfig carp1 vhid 9",
        "sysctl net.inet.carp.preempt=1",
        "sysctl net.inet.carp.log=5",
        "sysctl net.inet.carp.dscp=12",
        *(f"ifconfig carp0 172.16.0.{number}/24" for number in range(210, 215)),
        *(f"ifconfig carp1 group {name}" for name in ("lan", "wan", "dmz", "vpn")),
        *(f"ifconfig carp{number} create" for number in range(3, 7)),
    ]
    assert len(lines) == 20
    command = [str(program("carp")), "--socket", str(host.socket)]
    started = [subprocess.Popen([*command, *line.split()], stdout=subprocess.DEVNULL) for line in lines]
    assert [one.wait(60) for one in started] == [0] * len(lines)
    found = document(host)
    carp0, carp1 = found["carp0"], found["carp1"]
    assert found["global"] == {"preempt": True, "log": 5, "dscp": 12}
    assert (carp0["advskew"], carp0["advbase"], carp0["carppeer"]) == (7, 3, ["10.0.0.2"])
    assert set(carp0["addresses"]) == {"172.16.0.202/24", *(f"172.16.0.{number}/24" for number in range(210, 215))}
    assert carp1["vhid"] == 9
    assert set(carp1["groups"]) == {"carp", "lan", "wan", "dmz", "vpn"}
    assert found.keys() == {"global", "carp20", *(f"carp{number}" for number in range(7))}
