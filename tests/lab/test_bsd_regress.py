"""What the BSDs' own suites ask of demotion, with real daemons: OpenBSD's carp_1 to carp_4, FreeBSD's negative demotion."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from bsd_hosts import set_up, typed, typed_here

from lab.events import Events
from lab.host import Carp, Host
from lab.lan import Port
from lab.measure import both_answered, owners
from lab.pairs import SLACK_S, USUAL, make_pair, patience_s, settle, virtual_mac, wait_settled
from lab.ping import ping
from lab.stage import Stage
from lab.tables import neighbours
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
VHID, SHARED = 251, "192.168.0.1"
NAMES = {"a": "carp1", "b": "carp2"}
PEERS = {"a": "192.168.0.3", "b": "192.168.0.2"}
ELECTION_NS = 3000 * MS
"""Three times advbase, with advskew 0."""
HAND_OVER_NS = 100 * MS
"""The protocol's claim; carpd needs some 5 ms."""
AFTER_S = 0.3


@dataclass(frozen=True)
class Scenario:
    """How advertisements go, and what `lladdr` is given; `lladdr` None is the virtual MAC."""

    peers: bool
    lladdr: Callable[[Port], str] | None

    def words(self, label: str, port: Port) -> str:
        """Return what is added to the command line."""
        peer = f" carppeer {PEERS[label]}" if self.peers else ""
        return peer + (f" lladdr {self.lladdr(port)}" if self.lladdr else "")

    def mac_of(self, port: Port) -> str:
        """Return the MAC at which a host is known as the shared address."""
        return port.mac if self.lladdr else virtual_mac(VHID)


SCENARIOS = {
    "multicast, virtual MAC": Scenario(False, None),
    "multicast, the parent's MAC": Scenario(False, lambda port: port.mac),
    "multicast, the parent's MAC by name": Scenario(False, lambda _port: "parent"),
    "peers, virtual MAC": Scenario(True, None),
    "peers, the parent's MAC": Scenario(True, lambda port: port.mac),
    "peers, the parent's MAC by name": Scenario(True, lambda _port: "parent"),
}


@pytest.fixture
def hosts(stage: Stage) -> tuple[Host, Host]:
    """Start carpd on two hosts, with preempt at its default and nothing else configured."""
    for label, number in (("a", 2), ("b", 3), ("client", 9)):
        stage.port(label, [f"192.168.0.{number}/24"])
    a, b = stage.host("a"), stage.host("b")
    for host in (a, b):
        host.start()
    return a, b


def make(host: Host, words: str = "", *, vhid: int = VHID, name: str = "", group: str = "", shared: str = SHARED) -> None:
    """Make a carp interface that is in a group of its own instead of carp."""
    label = host.label
    name, group = name or NAMES[label], group or label
    advskew = {"a": 0, "b": 100}[label]
    lines = [
        f"ifconfig {name} create",
        f"ifconfig {name} -group carp",
        f"ifconfig {name} group {group}",
        f"ifconfig {name} vhid {vhid} carpdev eth0 advskew {advskew} {shared}/24{words}",
    ]
    set_up(host, lines[:1] + (lines[1:3] if group != "carp" else []) + lines[3:])


def displays(*hosts: Host) -> list[str]:
    """Return what `carp ifconfig` of each says of the status, which `carp status` must say too."""
    found = []
    for host in hosts:
        name = NAMES[host.label]
        lines = typed_here(host, f"ifconfig {name}").stdout.splitlines()
        status = next(line.strip().removeprefix("status: ") for line in lines if "status: " in line)
        rows = [line.split() for line in typed_here(host, "status").stdout.splitlines()]
        assert [row[3].lower() for row in rows if row[:1] == [name]] == [status]
        found.append(status)
    return found


def answered_at(stage: Stage) -> str | None:
    """Return the MAC at which the client knows the shared address, after a ping."""
    assert ping(stage.client.namespace, SHARED, count=5) == 5
    return neighbours(stage.client.namespace)[SHARED].mac


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_demoted_group_hands_over_without_preempt(stage: Stage, hosts: tuple[Host, Host], scenario: Scenario) -> None:
    """The better host wins the first election in time; demoting its group by 1 makes the other MASTER within 100 ms.

    There is no pass phrase, and the two hosts' private groups have different names.
    """
    a, b = hosts
    with Events(a) as from_a, Events(b) as from_b:
        for host in hosts:
            make(host, scenario.words(host.label, host.port))
        listening = from_a.became("carp1", "BACKUP", SLACK_S)
        elected = from_a.became("carp1", "MASTER", patience_s(USUAL)) - listening
        assert elected < ELECTION_NS + STALL_NS
        a.wait_for_state("MASTER", SLACK_S, "carp1")
        assert (from_a.states("carp1"), from_b.states("carp2")) == (["BACKUP", "MASTER"], ["BACKUP"])
        assert displays(a, b) == ["master", "backup"]
        assert answered_at(stage) == scenario.mac_of(a.port)

        with stage.prober([SHARED]) as prober:
            prober.wait_for_owner("a", SLACK_S)
            asked = now_ns()
            set_up(a, ["ifconfig -g a carpdemote 1"])
            effect = from_a.demoted("carp1", SLACK_S, asked)
            took = from_b.became("carp2", "MASTER", SLACK_S, asked) - effect
            from_a.became("carp1", "BACKUP", SLACK_S, asked)
            prober.wait_for_owner("b", SLACK_S)
            prober.wait_for_time(AFTER_S)
            (trace,) = prober.stop().values()
        print(f"elected after {elected / MS:.1f} ms, handed over within {took / MS:.1f} ms")
        assert took < HAND_OVER_NS + STALL_NS
        assert displays(a, b) == ["backup", "master"]
        assert owners(trace, trace.start, trace.end) == ["a", "b"]
        assert both_answered(trace) == 0
        assert answered_at(stage) == scenario.mac_of(b.port)
        # Each has changed once, and nobody goes back.
        assert (from_a.states("carp1", asked), from_b.states("carp2", asked)) == (["BACKUP"], ["MASTER"])


def test_a_private_group_demotes_its_member_alone(hosts: tuple[Host, Host]) -> None:
    """Another carp interface of the same host, in the group carp, is not demoted and stays MASTER."""
    a, b = hosts
    for host in hosts:
        make(host)
        make(host, vhid=252, name="carp9", group="carp", shared="192.168.0.11")
    for name in ("carp1", "carp9"):
        a.wait_for_state("MASTER", patience_s(USUAL), name)
    before = a.interface("carp9")["nodes"][0]["transitions"]
    set_up(a, ["ifconfig -g a carpdemote 1"])
    b.wait_for_state("MASTER", SLACK_S, "carp2")
    assert holds_for(lambda: (a.state_of("carp9"), b.state_of("carp9")) == ("MASTER", "BACKUP"), 1.5)
    assert a.interface("carp9")["nodes"][0]["transitions"] == before
    assert (a.interface("carp1")["demote"], a.interface("carp9")["demote"]) == (1, 0)
    assert typed_here(a, "ifconfig -g a").stdout == "a: carp demote count 1\n"
    assert typed_here(a, "ifconfig -g carp").stdout == "carp: carp demote count 0\n"


def test_a_negative_demotion(stage: Stage) -> None:
    """Below 0 is refused in words and changes nothing: never two MASTERs; 240 hands over, -240 brings it back."""
    a, b = make_pair(stage, USUAL, Carp(addresses=("192.0.2.254/24",), password="foobar"))
    settle(USUAL, a, b)
    with Events(a) as from_a, Events(b) as from_b:
        done = typed(a, "sysctl net.inet.carp.demotion=-1")
        assert (done.returncode, done.stdout) == (1, "")
        assert "-1" in done.stderr
        assert "0..255" in done.stderr
        assert holds_for(lambda: (a.state_of(), b.state_of()) == ("MASTER", "BACKUP"), 3.0)
        assert (from_a.states("carp0"), from_b.states("carp0")) == ([], [])
        assert a.interface()["demote"] == 0
        with stage.prober(["192.0.2.254"]) as prober:
            prober.wait_for_owner("a", SLACK_S)
            for amount, master, backup in ((240, b, a), (-240, a, b)):
                set_up(a, [f"sysctl net.inet.carp.demotion={amount}"])
                prober.wait_for_owner(master.label, patience_s(USUAL))
                wait_settled(USUAL, master, backup)
            prober.wait_for_time(AFTER_S)
            (trace,) = prober.stop().values()
    assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
    assert both_answered(trace) == 0
    assert (from_a.states("carp0"), from_b.states("carp0")) == (["BACKUP", "MASTER"], ["MASTER", "BACKUP"])
    until(lambda: a.interface()["demote"] == 0, SLACK_S, "no demotion to be left")
