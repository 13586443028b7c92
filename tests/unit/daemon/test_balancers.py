"""What the programs on the parents are told to share out, and what the status says of it."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from daemon_kit import FakeFence, fencing_of

from carp.daemon.balancing import Balancers, ParentPort
from carp.linux.bpf.balancer import Balance, Decision, NodeCount
from carp.linux.bpf.fence import FenceUnavailable
from carp.protocol.auth import key_from_passphrase
from carp.protocol.balance import AskerHash
from carp.protocol.parameters import Balancing, HostParameters, InterfaceParameters, Node
from carp.protocol.values import Family, Instant, multicast_mac, virtual_mac
from carp.testing.hosts import DUAL_STACK, KEY, address, carp_interface

ETH0, ETH1 = ParentPort(2, bytes.fromhex("020000000001")), ParentPort(3, bytes.fromhex("020000000002"))
PORTS = {"eth0": ETH0, "eth1": ETH1}
OTHER_KEY = key_from_passphrase("another")
OWN_MAC = bytes.fromhex("021122334455")
NOW = Instant(1_000)
EVERY_NODE = 0xFFFFFFFF


def balanced(name: str = "carp0", *vhids: int, **values: Any) -> InterfaceParameters:
    """Describe a carp interface with several virtual hosts, 3 and 4 unless told, and addresses that nobody else has."""
    nodes = tuple(Node(vhid) for vhid in vhids or (3, 4))
    addresses = [address(f"198.51.100.{vhids[0]}/24")] if vhids else DUAL_STACK
    return carp_interface(name, nodes=nodes, **{"carpdev": "eth0", "addresses": addresses, **values})


def plain(name: str, vhid: int, **values: Any) -> InterfaceParameters:
    """Describe a carp interface with one."""
    return carp_interface(name, vhid, **{"carpdev": "eth0", **values})


class House:
    """Balancers over a fence without a kernel."""

    def __init__(self) -> None:
        self.fence = FakeFence()
        self.balancer = self.fence.balancer
        self.fencing = fencing_of(self.fence)
        self.balancers = Balancers(self.fencing)
        self.ports: Mapping[str, ParentPort] = PORTS

    def host(self, *interfaces: InterfaceParameters, arpbalance: bool = False) -> HostParameters:
        """Describe a host."""
        return HostParameters(interfaces, arpbalance=arpbalance)

    def follow(self, *interfaces: InterfaceParameters, arpbalance: bool = False) -> list[Balance]:
        """Share out what these want; return everything that is shared out."""
        self.balancers.follow(self.host(*interfaces, arpbalance=arpbalance), self.ports)
        return list(self.balancer.wanted.values())

    def settle(self, *interfaces: InterfaceParameters, arpbalance: bool = False) -> list[Balance]:
        """Share out what these want, and nothing else."""
        self.follow(*interfaces, arpbalance=arpbalance)
        self.balancers.trim(self.host(*interfaces, arpbalance=arpbalance), self.ports)
        return list(self.balancer.wanted.values())


@pytest.fixture
def house() -> House:
    """Make one."""
    return House()


# Several virtual hosts on one carp interface


@pytest.mark.parametrize(
    ("balancing", "shared_mac", "reply_mac"),
    [
        (Balancing.IP, multicast_mac(3), ETH0.mac),
        (Balancing.IP_STEALTH, virtual_mac(3), ETH0.mac),
        (Balancing.IP_UNICAST, virtual_mac(3), virtual_mac(3)),
    ],
)
def test_packets_are_split(house: House, balancing: Balancing, shared_mac: bytes, reply_mac: bytes) -> None:
    """Among the virtual hosts in ascending order; askers get the shared MAC, which a switch is to learn in ip-unicast only."""
    (found,) = house.follow(balanced(balancing=balancing))
    assert (found.decision, found.parent_ifindex, found.delivers) == (Decision.PACKETS, ETH0.index, True)
    assert (found.shared_mac, found.reply_mac) == (shared_mac, reply_mac)
    assert found.addresses == (ip_address("192.0.2.100"), ip_address("2001:db8::100"))
    assert [node.slot for node in found.nodes] == [house.fencing.slot("carp0", 3), house.fencing.slot("carp0", 4)]


@pytest.mark.parametrize("balancing", [Balancing.IP_STEALTH, Balancing.IP_UNICAST])
def test_a_shared_mac_of_ones_own(house: House, balancing: Balancing) -> None:
    """It stands for the leader's."""
    (found,) = house.follow(balanced(balancing=balancing, lladdr=OWN_MAC))
    assert found.shared_mac == OWN_MAC
    assert found.reply_mac == (OWN_MAC if balancing is Balancing.IP_UNICAST else ETH0.mac)


def test_askers_are_split(house: House) -> None:
    """By the keyed hash of their MAC; each virtual host answers with its own MAC, whatever the dialect."""
    for dialect in ("auto", "freebsd", "openbsd"):
        (found,) = house.follow(balanced(balancing=Balancing.ARP, dialect=dialect, key=OTHER_KEY))
        assert (found.decision, found.shared_mac, found.delivers) == (Decision.ASKER_MAC, b"", True)
        assert [node.mac for node in found.nodes] == [virtual_mac(3), virtual_mac(4)]
        assert {node.hash for node in found.nodes} == {AskerHash.prepare(OTHER_KEY)}


@pytest.mark.parametrize("forwards", [False, True])
def test_a_router_says_so(house: House, monkeypatch: pytest.MonkeyPatch, forwards: bool) -> None:
    """In its neighbour advertisements: it is a router where IPv6 is forwarded."""
    monkeypatch.setattr("carp.daemon.balancing.sysctl.forwards", lambda family: forwards and family == 6)
    shared = [plain("carp1", 6, carpdev="eth1"), plain("carp2", 7, carpdev="eth1")]
    assert [one.router for one in house.follow(balanced(), *shared)] == [forwards] * 2


def test_who_is_alone_shares_nothing(house: House) -> None:
    """Neither do two with different addresses, nor those of two parents."""
    interfaces = (
        plain("carp0", 1),
        plain("carp1", 2, addresses=[address("192.0.2.101/24")]),
        plain("carp2", 3, carpdev="eth1"),
    )
    assert house.follow(*interfaces, arpbalance=True) == []
    assert house.balancer.taken() == []


def test_a_parent_that_is_not_there(house: House) -> None:
    """What is on it waits until it is; the others do not."""
    house.ports = {"eth0": ETH0}
    interfaces = (balanced("carp0", 3, 4, carpdev="eth1"), balanced("carp1", 5, 6))
    shared = [plain("carp2", 7, carpdev="eth1"), plain("carp3", 8, carpdev="eth1")]
    assert [one.parent_ifindex for one in house.follow(*interfaces, *shared)] == [ETH0.index]
    house.ports = PORTS
    assert sorted(one.parent_ifindex for one in house.follow(*interfaces, *shared)) == [2, 3, 3]


# Several carp interfaces with one address


@pytest.mark.parametrize(
    ("dialect", "decision"),
    [
        ("auto", Decision.ASKER_ADDRESS),
        ("freebsd9", Decision.ASKER_ADDRESS),
        ("dragonfly", Decision.ASKER_ADDRESS),
        ("netbsd", Decision.ASKER_MAC),
        ("openbsd", Decision.ASKER_MAC),
    ],
)
def test_a_shared_address(house: House, dialect: str, decision: Decision) -> None:
    """Each has its own MAC, which its own link receives, and its own key; the dialect says what of an asker chooses."""
    interfaces = (plain("carp1", 2, dialect=dialect, key=OTHER_KEY), plain("carp0", 1, dialect=dialect, lladdr=OWN_MAC))
    (found,) = house.follow(*interfaces, arpbalance=True)
    assert (found.decision, found.parent_ifindex, found.delivers) == (decision, ETH0.index, False)
    assert (found.addresses, found.shared_mac) == ((ip_address("192.0.2.100"),), b"")
    nodes = {node.mac: node for node in found.nodes}
    assert {mac: node.hash for mac, node in nodes.items()} == {
        OWN_MAC: AskerHash.prepare(KEY),
        virtual_mac(2): AskerHash.prepare(OTHER_KEY),
    }
    assert nodes[OWN_MAC].slot == house.fencing.slot("carp0", 1)
    assert nodes[virtual_mac(2)].slot == house.fencing.slot("carp1", 2)


@pytest.mark.parametrize(("dialect", "order"), [("auto", [1, 2, 9]), ("openbsd", [1, 2, 9]), ("netbsd", [9, 2, 1])])
def test_the_order_of_a_shared_address(house: House, dialect: str, order: list[int]) -> None:
    """Ascending by vhid, on NetBSD descending, however they are listed."""
    interfaces = (plain("carp0", 9), plain("carp1", 1), plain("carp2", 2))
    (found,) = house.follow(*(plain(one.name, one.leader.vhid, dialect=dialect) for one in interfaces), arpbalance=True)
    assert [node.mac for node in found.nodes] == list(map(virtual_mac, order))


@pytest.mark.parametrize("dialect", ["auto", "netbsd", "openbsd"])
def test_without_arpbalance_one_answers_everybody(house: House, dialect: str) -> None:
    """The first one, whatever the rule would be."""
    interfaces = (plain("carp0", 1, dialect=dialect), plain("carp1", 2, dialect=dialect))
    (found,) = house.follow(*interfaces)
    assert found.decision is Decision.FIRST
    (changed,) = house.follow(*interfaces, arpbalance=True)
    assert changed.decision is not Decision.FIRST


def test_the_fence_of_each_decides_over_a_shared_address(house: House) -> None:
    """It has no mask: who is not MASTER has a closed fence."""
    house.follow(plain("carp0", 1), plain("carp1", 2), arpbalance=True)
    assert house.balancer.masks == {0: EVERY_NODE}
    house.balancers.set_mask("carp0", 0)
    assert house.balancer.masks == {0: EVERY_NODE}


def test_addresses_of_the_same_carp_interfaces_are_shared_out_together(house: House) -> None:
    """Those of others apart."""
    interfaces = (
        plain("carp0", 1, addresses=DUAL_STACK),
        plain("carp1", 2, addresses=(*DUAL_STACK, address("192.0.2.7/24"))),
        plain("carp2", 3, addresses=[address("192.0.2.7/24"), address("192.0.2.8/24")]),
    )
    found = house.follow(*interfaces, arpbalance=True)
    assert {one.addresses: [node.mac for node in one.nodes] for one in found} == {
        (ip_address("192.0.2.100"), ip_address("2001:db8::100")): [virtual_mac(1), virtual_mac(2)],
        (ip_address("192.0.2.7"),): [virtual_mac(2), virtual_mac(3)],
    }


def test_who_is_down_does_not_count(house: House) -> None:
    """As on the BSDs: the askers are those of the others."""
    down = plain("carp1", 2, up=False)
    (found,) = house.follow(plain("carp0", 1), down, plain("carp2", 3), arpbalance=True)
    assert [node.mac for node in found.nodes] == [virtual_mac(1), virtual_mac(3)]
    assert house.settle(plain("carp0", 1), down, arpbalance=True) == []


# Which of them are MASTER here


def test_the_mask_follows_the_engine(house: House) -> None:
    """At once; each carp interface has its own."""
    house.follow(balanced("carp0", 3, 4), balanced("carp1", 5, 6))
    assert house.balancer.masks == {0: 0, 1: 0}
    house.balancers.set_mask("carp1", 0b10)
    house.balancers.set_mask("carp0", 0b11)
    assert house.balancer.masks == {0: 0b11, 1: 0b10}


def test_a_mask_that_was_said_before(house: House) -> None:
    """Is what it begins with."""
    house.balancers.set_mask("carp0", 0b01)
    house.follow(balanced())
    assert house.balancer.masks == {0: 0b01}


@pytest.mark.parametrize("changed", [{"addresses": [address("192.0.2.9/24")]}, {"nodes": (Node(3), Node(4), Node(9))}])
def test_a_mask_outlives_a_change(house: House, changed: dict[str, Any]) -> None:
    """Also where the programs forget it, as with other virtual hosts."""
    house.follow(balanced())
    house.balancers.set_mask("carp0", 0b10)
    house.follow(replace(balanced(), **changed))
    assert house.balancer.masks == {0: 0b10}


def test_a_mask_that_is_said_meanwhile_holds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does not wait for the thread that shares out, and is not overruled by it."""
    write = house.balancer.set_mask

    def interrupted(index: int, mask: int) -> None:
        monkeypatch.setattr(house.balancer, "set_mask", write)
        house.balancers.set_mask("carp0", 0b11)
        write(index, mask)

    monkeypatch.setattr(house.balancer, "set_mask", interrupted)
    house.balancers.set_mask("carp0", 0b01)
    house.follow(balanced())
    assert house.balancer.masks == {0: 0b11}


# What is told, and when


def test_nothing_is_told_twice(house: House) -> None:
    """Only what differs."""
    interfaces = (balanced("carp0", 3, 4), plain("carp1", 5, carpdev="eth1"), plain("carp2", 6, carpdev="eth1"))
    house.settle(*interfaces)
    assert [call for call in house.balancer.taken() if call[0] == "put"] == [("put", 0), ("put", 1)]
    house.settle(*interfaces)
    assert house.balancer.taken() == []
    changed = replace(interfaces[0], addresses=(address("192.0.2.9/24"),))
    house.settle(changed, *interfaces[1:])
    assert [call for call in house.balancer.taken() if call[0] != "mask"] == [("put", 0)]


def test_what_is_not_wanted_any_more_stays_until_it_is_trimmed(house: House) -> None:
    """So that its addresses can be guarded otherwise before; what is wanted stays."""
    one, other = balanced("carp0", 3, 4), balanced("carp1", 5, 6)
    house.settle(one, other)
    house.balancer.taken()
    house.follow(other)
    assert house.balancer.taken() == []
    house.balancers.trim(house.host(other), PORTS)
    assert house.balancer.taken() == [("remove", 0)]
    house.balancers.trim(house.host(other), PORTS)
    assert house.balancer.taken() == []


def test_an_address_that_one_has_again_is_shared_no_more(house: House) -> None:
    """With those that are left it is, in the place of what was."""
    three = (plain("carp0", 1), plain("carp1", 2), plain("carp2", 3))
    house.settle(*three, arpbalance=True)
    (found,) = house.settle(*three[:2], arpbalance=True)
    assert [node.mac for node in found.nodes] == [virtual_mac(1), virtual_mac(2)]
    assert house.settle(three[0], arpbalance=True) == []


def test_a_parent_that_went_away(house: House) -> None:
    """Takes what was shared out on it along; when it is back, as another one, that is shared out there, with its mask."""
    house.settle(balanced())
    house.balancers.set_mask("carp0", 0b11)
    house.ports = {"eth1": ETH1}
    assert house.settle(balanced()) == []
    house.ports = {"eth0": ParentPort(17, ETH0.mac)}
    assert [one.parent_ifindex for one in house.settle(balanced())] == [17]
    assert list(house.balancer.masks.values()) == [0b11]


def test_numbers_are_used_again(house: House) -> None:
    """The lowest that is free; nobody shares one."""
    first = [balanced(f"carp{number}", 2 * number + 1, 2 * number + 2) for number in range(3)]
    house.settle(*first)
    assert sorted(house.balancer.wanted) == [0, 1, 2]
    house.settle(first[0], first[2])
    assert sorted(house.balancer.wanted) == [0, 2]
    shared = (plain("carp5", 9), plain("carp6", 10))
    house.settle(first[0], first[2], *shared)
    assert sorted(house.balancer.wanted) == [0, 1, 2]
    house.settle(*first, *shared)
    assert sorted(house.balancer.wanted) == [0, 1, 2, 3]
    assert len({one.nodes for one in house.balancer.wanted.values()}) == 4


def test_another_mac_of_a_parent(house: House) -> None:
    """Is noticed where something is shared out, and then answers come from it."""
    house.settle(balanced())
    assert house.balancers.is_current(PORTS)
    assert house.balancers.is_current({**PORTS, "eth1": replace(ETH1, mac=OWN_MAC), "eth2": ETH1})
    house.ports = {**PORTS, "eth0": replace(ETH0, mac=OWN_MAC)}
    assert not house.balancers.is_current(house.ports)
    (found,) = house.settle(balanced())
    assert found.reply_mac == OWN_MAC
    assert house.balancers.is_current(house.ports)
    assert not house.balancers.is_current({})
    house.settle(plain("carp0", 1))
    assert house.balancers.is_current({})


# What cannot be


def test_there_is_nothing_to_refuse_where_there_is_a_fence(house: House) -> None:
    """Whatever is to be balanced."""
    host = house.host(balanced(), plain("carp1", 5, carpdev="eth1"), plain("carp2", 6, carpdev="eth1"))
    assert house.balancers.problems(host) == []


def test_without_a_fence_nothing_is_balanced() -> None:
    """Each is refused, with its name and the reason; what shares nothing is not."""
    balancers = Balancers(fencing_of(None))
    assert balancers.problems(HostParameters((plain("carp0", 1),))) == []
    host = HostParameters(
        (
            balanced("carp0", 3, 4, balancing=Balancing.IP_STEALTH),
            plain("carp1", 5, carpdev="eth1"),
            plain("carp2", 6, carpdev="eth1"),
            plain("carp3", 7, addresses=[address("192.0.2.9/24")]),
        )
    )
    why = "needs the kernel's BPF, and there is none: switched off by the configuration"
    assert balancers.problems(host) == [
        f"carp0: balancing ip-stealth {why}",
        f"carp1 and carp2: sharing the address 192.0.2.100 {why}",
    ]


def test_without_a_fence_nothing_is_told() -> None:
    """And nothing fails."""
    balancers = Balancers(fencing_of(None))
    host = HostParameters((balanced(),))
    balancers.follow(host, PORTS)
    balancers.set_mask("carp0", 1)
    balancers.trim(HostParameters(), PORTS)
    assert balancers.is_current({})
    assert balancers.describe(balanced(), NOW) == [None, None]


def test_more_than_the_programs_can_hold(house: House) -> None:
    """Is refused before anything is touched."""
    many = [balanced(f"carp{number}", 2 * number + 1, 2 * number + 2) for number in range(127)]
    shared = [plain("carp127", 1, carpdev="eth1"), plain("carp128", 2, carpdev="eth1")]
    assert house.balancers.problems(house.host(*many, *shared)) == []
    (problem,) = house.balancers.problems(house.host(*many, *shared, balanced("carp129", 3, 4, carpdev="eth2")))
    assert problem == (
        "129 carp interfaces with several virtual hosts, or sets of them with one address: at most 128 can be balanced"
    )


@pytest.mark.parametrize(
    ("interfaces", "who"),
    [((balanced(),), "carp0"), ((plain("carp0", 1), plain("carp1", 2)), "carp0 and carp1")],
)
def test_a_parent_without_programs_balances_nothing(house: House, interfaces: Any, who: str) -> None:
    """It is refused with the reason: who answered there would answer everybody."""
    house.fence.refusing = {ETH0.index}
    netlink: Any = None
    house.fencing.guard_parent(netlink, "eth0", ETH0.index)
    other = balanced("carp2", 5, 6, carpdev="eth1")
    problems = house.balancers.follow(house.host(*interfaces, other), PORTS)
    assert problems == [f"{who} cannot be balanced: interface 2 takes no BPF filter"]
    assert [one.parent_ifindex for one in house.balancer.wanted.values()] == [ETH1.index]
    house.fence.refusing.clear()
    house.fencing.guard_parent(netlink, "eth0", ETH0.index)
    assert house.balancers.follow(house.host(*interfaces, other), PORTS) == []
    assert len(house.balancer.wanted) == 2


def test_what_the_programs_do_not_take(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told and tried again; what they have stays, and nobody else waits for it."""
    put = house.balancer.put

    def full(index: int, balance: Balance) -> None:
        if ip_address("198.51.100.5") in balance.addresses:
            raise FenceUnavailable("the kernel takes no more entries")
        put(index, balance)

    monkeypatch.setattr(house.balancer, "put", full)
    interfaces = (balanced("carp1", 5, 6), balanced("carp2", 7, 8))
    assert house.balancers.follow(house.host(*interfaces), PORTS) == [
        "carp1 cannot be balanced: the kernel takes no more entries"
    ]
    assert [one.addresses for one in house.balancer.wanted.values()] == [(ip_address("198.51.100.7"),)]
    assert house.balancers.describe(interfaces[0], NOW) == [None, None]
    monkeypatch.setattr(house.balancer, "put", put)
    assert house.balancers.follow(house.host(*interfaces), PORTS) == []
    assert len(house.balancer.wanted) == 2


# The status


def test_each_virtual_host_tells_what_it_keeps(house: House) -> None:
    """Its share is open while it is in the mask and its fence is open."""
    parameters = balanced()
    house.follow(parameters)
    house.balancer.counted[0] = (NodeCount(1, 100, 2, 200), NodeCount(3, 300, 4, 400))
    counted = [
        {"index": 0, "kept_packets": 1, "kept_bytes": 100, "dropped_packets": 2, "dropped_bytes": 200},
        {"index": 1, "kept_packets": 3, "kept_bytes": 300, "dropped_packets": 4, "dropped_bytes": 400},
    ]

    def described() -> list[bool]:
        found = [one for one in house.balancers.describe(parameters, NOW) if one is not None]
        assert [{key: value for key, value in one.items() if key != "open"} for one in found] == counted
        return [one["open"] for one in found]

    assert described() == [False, False]
    house.balancers.set_mask("carp0", 0b10)
    assert described() == [False, False]
    for vhid in (3, 4):
        for family in parameters.families:
            house.fencing.sent("carp0", vhid, parameters.families, family, Instant(NOW + 1), Instant(1))
    assert described() == [False, True]
    house.fencing.close("carp0", 4)
    assert described() == [False, False]


def test_who_has_an_address_in_common_with_others_tells_what_came_to_it(house: House) -> None:
    """By its place among them; who balances nothing has nothing to tell."""
    interfaces = (plain("carp0", 1), plain("carp1", 2))
    house.follow(*interfaces)
    found = [house.balancers.describe(one, NOW)[0] for one in interfaces]
    assert [one["index"] for one in found if one is not None] == [0, 1]
    assert house.balancers.describe(plain("carp9", 9), NOW) == [None]


def test_an_advertisement_opens_the_share_that_the_programs_look_at(house: House) -> None:
    """That of its virtual host, and no other."""
    (found,) = house.follow(balanced(addresses=[address("192.0.2.100/24")]))
    house.fencing.sent("carp0", 4, (Family.IPV4,), Family.IPV4, Instant(77), NOW)
    assert [house.fence.deadlines.deadline(node.slot) for node in found.nodes] == [0, 77]
