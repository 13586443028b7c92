"""What is made in the kernel for load balancing, in which order, and what the parents listen to; without a kernel."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from daemon_kit import FakeBalancer, FakeFence, fencing_of

from carp.daemon import hardware as module
from carp.daemon.hardware import Hardware
from carp.linux.bpf.hearing import Hearing
from carp.linux.carplink import CarpLink, LinkError, NewLink
from carp.linux.rtnetlink import Link, delete_link
from carp.linux.sysctl import CARP_LINK_SETTINGS, PARENT_SETTINGS
from carp.protocol.parameters import Balancing, HostParameters, InterfaceParameters, LinkAddress, Node
from carp.protocol.values import Address, Family, multicast_mac, virtual_mac
from carp.testing.hosts import DUAL_STACK, VIP4, address, carp_interface

ETH0, ETH1 = 2, 3
MACS = {ETH0: bytes.fromhex("020000000001"), ETH1: bytes.fromhex("020000000002")}
SOURCES = ((Family.IPV4, bytes((192, 0, 2, 1))),)
OTHER = address("192.0.2.101/24")
NO_MEMORY = 12
HEARING = Hearing.__new__(Hearing)
"""A filter that nobody looks into."""


@dataclass
class FakeSocket:
    """A parent's packet socket; `refuses` is what it says to the MACs."""

    name: str
    index: int
    hearing: object = None
    macs: list[bytes] = field(default_factory=list)
    admitted: set[int] | None = None
    sent: list[bytes] = field(default_factory=list)
    refuses: OSError | None = None
    closed: bool = False

    def admit(self, vhids: Iterable[int] | None) -> None:
        """Let what is for these vhids come."""
        self.admitted = None if vhids is None else set(vhids)

    def receive_macs(self, macs: Iterable[bytes]) -> None:
        """Let frames to exactly these MACs in."""
        if self.refuses is not None:
            raise self.refuses
        self.macs = list(macs)

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self.sent.append(frame)

    def close(self) -> None:
        """Close."""
        self.closed = True


@dataclass
class FakeClaims:
    """Who listens to claims of addresses."""

    name: str
    watched: set[Address] = field(default_factory=set)

    def watch(self, addresses: Iterable[Address]) -> None:
        """Listen to these."""
        self.watched = set(addresses)

    def close(self) -> None:
        """Close."""


@dataclass
class FakeMemberships:
    """The groups of a parent."""

    index: int
    groups: set[IPv4Address] = field(default_factory=set)

    def follow(self, addresses: Iterable[Address]) -> None:
        """Join the groups of these addresses."""
        list(addresses)

    def follow_groups(self, groups: Iterable[IPv4Address]) -> None:
        """Be joined to exactly these."""
        self.groups = set(groups)

    def close(self) -> None:
        """Leave all."""


class FakeAnnouncer:
    """Keeps which parents are announced, and with what."""

    def __init__(self, _call_later: object, send: Callable[[str, list[bytes]], None]) -> None:
        self.send = send
        self.followed: dict[str, tuple[bytes, Mapping[Family, bytes]]] = {}
        self.stopped = False

    def follow(self, parents: Mapping[str, tuple[bytes, Mapping[Family, bytes]]]) -> None:
        """Advertise on exactly these parents."""
        for name in self.followed.keys() - parents.keys():
            self.send(name, [b"no router"])
        self.followed = dict(parents)

    def stop(self) -> None:
        """Take everything back."""
        self.follow({})
        self.stopped = True


class FakeTable:
    """The links of a host, by index, and the sources of advertisements on all of them."""

    def __init__(self) -> None:
        self.links = {index: Link(index, f"eth{index - ETH0}", True, True, mac, "", 0, 0) for index, mac in MACS.items()}
        self.own = SOURCES

    def by_index(self, index: int) -> Link | None:
        """Find a link."""
        return self.links.get(index)

    def by_name(self, name: str) -> Link | None:
        """Find a link by its name."""
        return next((link for link in self.links.values() if link.name == name), None)

    def sources(self, _index: int) -> tuple[tuple[Family, bytes], ...]:
        """Return where advertisements come from."""
        return self.own

    def change(self, index: int, **values: Any) -> None:
        """Let a link be another one."""
        self.links[index] = replace(self.links[index], **values)


class WatchedFence(FakeFence):
    """A fence that notes, at each of its changes, which of some addresses it guards at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: set[str] = set()
        self.unguarded: list[set[str]] = []
        balancer = self.balancer
        for holder, name in ((self, "set_vips"), (balancer, "put"), (balancer, "remove")):
            setattr(holder, name, self._watching(getattr(holder, name)))

    def guarded(self) -> set[str]:
        """Return the addresses that a slot or a balance guards."""
        balanced = {str(one) for balance in self.balancer.wanted.values() for one in balance.addresses}
        return balanced.union(*self.vips.values())

    def _watching(self, change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: Any) -> None:
            change(*arguments)
            self.unguarded.append(self.watched - self.guarded())

        return changed


class House:
    """Hardware over fakes; two parents."""

    def __init__(self, fence: FakeFence | None) -> None:
        self.fence = fence or FakeFence()
        self.table = FakeTable()
        self.made: dict[str, bytes | None] = {}
        self.removed: list[str] = []
        self.batches: list[int] = []
        self.taken: set[str] = set()
        self.kept: dict[int, Mapping[str, str]] = {}
        self.requests: list[bytes] = []
        links: dict[str, CarpLink] = {}
        worker: Any = SimpleNamespace(run=self.run)
        journal: Any = SimpleNamespace(link_group=1)
        ownership: Any = SimpleNamespace(links=links, abandon=lambda _name: None)
        table: Any = self.table
        keeper: Any = SimpleNamespace(keep=self.kept.__setitem__, drop=self.kept.__delitem__, close=self.kept.clear)
        self.fencing = fencing_of(fence)
        self.hardware = Hardware(
            worker, journal, ownership, table, self.fencing, keeper, lambda _port: None, lambda _port: None
        )
        self.links = links
        announcer: Any = self.hardware._announcer
        self.announcer: FakeAnnouncer = announcer

    async def run(self, _urgency: object, job: Callable[[Any], object]) -> object:
        """Do a job of the worker's."""
        return job(SimpleNamespace(execute=self._execute))

    def _execute(self, batch: Iterable[bytes]) -> list[OSError]:
        self.requests += batch
        return []

    def create(self, _netlink: object, wanted: Sequence[NewLink], _group: int) -> list[CarpLink | LinkError]:
        """Make links, except those whose names are taken."""
        self.batches.append(len(wanted))
        return [self._create(one) for one in wanted]

    def _create(self, one: NewLink) -> CarpLink | LinkError:
        if one.name in self.taken:
            return LinkError(f"{one.name} exists already")
        self.made[one.name] = one.mac
        return CarpLink(one.name, 10 + len(self.made), one.parent_index, one.mac, through_parent=one.mac is None)

    async def settle(self, *interfaces: InterfaceParameters, arpbalance: bool = False) -> list[str]:
        """Make what these want."""
        return await self.hardware.settle(HostParameters(interfaces, arpbalance=arpbalance))

    def socket(self, name: str = "eth0") -> FakeSocket:
        """Return a parent's packet socket."""
        socket: Any = self.hardware.ports[name].socket
        return socket  # type: ignore[no-any-return]

    def groups(self, name: str = "eth0") -> list[str]:
        """Return the groups that a parent is in for its MACs."""
        memberships: Any = self.hardware.ports[name].memberships
        return sorted(map(str, memberships.groups))

    @property
    def balancer(self) -> FakeBalancer:
        """What shares out."""
        return self.fence.balancer


Play = Callable[[Callable[[House], Awaitable[None]]], None]


@pytest.fixture
def housed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Play a scenario with fakes in the place of the kernel; without a fence if it is None."""

    def play(scenario: Callable[[House], Awaitable[None]], **fence: FakeFence | None) -> None:
        async def played() -> None:
            monkeypatch.setattr(module, "PacketSocket", FakeSocket)
            monkeypatch.setattr(module, "ClaimSocket", FakeClaims)
            monkeypatch.setattr(module, "Memberships", FakeMemberships)
            monkeypatch.setattr(module, "RouterAnnouncer", FakeAnnouncer)
            monkeypatch.setattr(module.Hearing, "load", lambda: HEARING)
            house = House(fence.get("fence", FakeFence()))
            for name in ("prepare_parent", "restore_parent", "remove_all", "restore_all"):
                monkeypatch.setattr(module.carplink, name, lambda *_: None)
            monkeypatch.setattr(module.carplink, "create", house.create)
            await scenario(house)

        asyncio.run(played())

    return play


def balanced(name: str = "carp0", *vhids: int, **values: Any) -> InterfaceParameters:
    """Describe a carp interface with several virtual hosts, 3 and 4 unless told."""
    nodes = tuple(Node(vhid) for vhid in vhids or (3, 4))
    return carp_interface(name, nodes=nodes, **{"carpdev": "eth0", "addresses": DUAL_STACK, **values})


def plain(name: str, vhid: int, **values: Any) -> InterfaceParameters:
    """Describe a carp interface with one."""
    return carp_interface(name, vhid, **{"carpdev": "eth0", **values})


# Links


def test_a_balanced_link_has_a_mac_of_its_own(housed: Play) -> None:
    """Whatever they balance; all others have the shared one."""

    async def scenario(house: House) -> None:
        modes = [mode for mode in Balancing if mode is not Balancing.NONE]
        several = [
            balanced(
                f"carp{number}", 2 * number + 3, 2 * number + 4, balancing=mode, addresses=[address(f"192.0.2.{number}/24")]
            )
            for number, mode in enumerate(modes)
        ]
        assert await house.settle(*several, plain("carp8", 20), plain("carp9", 21, lladdr=LinkAddress.PARENT)) == []
        assert house.made == {**dict.fromkeys(["carp0", "carp1", "carp2", "carp3"]), "carp8": virtual_mac(20)}
        assert [link.name for link in house.links.values() if link.is_parent] == ["carp9"]

    housed(scenario)


def test_nothing_passes_through_a_balanced_link(housed: Play) -> None:
    """The slot of its fence is no virtual host's."""

    async def scenario(house: House) -> None:
        await house.settle(balanced(), plain("carp1", 9, addresses=[OTHER]))
        slots = house.fence.links
        assert slots[house.links["carp1"].index] == house.fencing.slot("carp1", 9)
        assert slots[house.links["carp0"].index] not in {house.fencing.slot("carp0", vhid) for vhid in (3, 4)}

    housed(scenario)


def test_many_links_are_made_a_few_at_a_time(housed: Play) -> None:
    """Not one by one, nor so many that a takeover waits for long; each is there in the end, watched and fenced."""

    async def scenario(house: House) -> None:
        wanted = [plain(f"carp{vhid}", vhid, addresses=[address(f"10.0.0.{vhid}/24")]) for vhid in range(1, 101)]
        assert await house.settle(*wanted) == []
        assert list(house.links) == [one.name for one in wanted]
        assert sum(house.batches) == 100
        assert 1 < max(house.batches) <= 50
        indexes = {link.index for link in house.links.values()}
        assert house.fence.links.keys() == indexes
        assert house.kept == {ETH0: PARENT_SETTINGS, **dict.fromkeys(indexes, CARP_LINK_SETTINGS)}

    housed(scenario)


def test_a_link_that_cannot_be_made_is_told(housed: Play) -> None:
    """The others are made; when it can be, it alone is."""

    async def scenario(house: House) -> None:
        wanted = [plain(f"carp{vhid}", vhid, addresses=[address(f"10.0.0.{vhid}/24")]) for vhid in (1, 2, 3)]
        house.taken = {"carp2"}
        assert await house.settle(*wanted) == ["carp2 exists already"]
        assert list(house.links) == ["carp1", "carp3"]
        house.taken.clear()
        house.made.clear()
        assert await house.settle(*wanted) == []
        assert list(house.made) == ["carp2"]

    housed(scenario)


def test_a_kernel_that_makes_no_links_is_told_of(housed: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each of them; the parents are there."""

    async def scenario(house: House) -> None:
        def fails(*_: object) -> None:
            raise OSError(NO_MEMORY, "Cannot allocate memory")

        monkeypatch.setattr(module.carplink, "create", fails)
        assert await house.settle(plain("carp1", 1), plain("carp2", 2, addresses=[OTHER])) == [
            "carp1 cannot be made: Cannot allocate memory",
            "carp2 cannot be made: Cannot allocate memory",
        ]
        assert house.links == {}

    housed(scenario)


def test_a_link_that_takes_no_required_fence_is_taken_away(housed: Play) -> None:
    """It would answer for a daemon that is dead; the next try makes it anew."""

    async def scenario(house: House) -> None:
        house.fencing._wanted = "required"
        house.fence.refusing = {12}
        wanted = [plain(f"carp{vhid}", vhid, addresses=[address(f"10.0.0.{vhid}/24")]) for vhid in (1, 2, 3)]
        assert await house.settle(*wanted) == ["interface 12 takes no BPF filter"]
        assert list(house.links) == ["carp1", "carp3"]
        assert house.requests == [delete_link(12)]
        assert house.kept.keys() == {ETH0, 11, 13}
        assert await house.settle(*wanted) == []
        assert list(house.links) == ["carp1", "carp3", "carp2"]

    housed(scenario)


def test_what_is_removed_is_watched_no_more(housed: Play) -> None:
    """Nor is a parent without carp interfaces."""

    async def scenario(house: House) -> None:
        stays = plain("carp1", 1)
        await house.settle(stays, plain("carp2", 2, addresses=[OTHER]), plain("carp3", 3, carpdev="eth1"))
        assert house.kept.keys() == {ETH0, ETH1, *(link.index for link in house.links.values())}
        await house.settle(stays)
        assert house.kept.keys() == {ETH0, house.links["carp1"].index}
        await house.settle(stays, plain("carp4", 4, lladdr=LinkAddress.PARENT, addresses=[OTHER]))
        assert house.kept.keys() == {ETH0, house.links["carp1"].index}

    housed(scenario)


# What parents receive


def test_what_the_kernel_lets_through(housed: Play) -> None:
    """Each parent hears the vhids that are on it; of a new one everything comes until that is said."""

    async def scenario(house: House) -> None:
        here, there = balanced(), plain("carp1", 9, carpdev="eth1", addresses=[OTHER], up=False)
        await house.settle(here, there)
        assert (house.socket().admitted, house.socket("eth1").admitted) == (None, None)
        assert house.socket().hearing is HEARING
        house.hardware.admit(HostParameters((here, there)))
        assert (house.socket().admitted, house.socket("eth1").admitted) == ({3, 4}, {9})
        await house.settle(there, plain("carp2", 5))
        assert (house.socket().admitted, house.socket("eth1").admitted) == ({3, 4}, {9})
        house.hardware.admit(HostParameters((there,)))
        assert (house.socket().admitted, house.socket("eth1").admitted) == (set(), {9})

    housed(scenario)


def test_where_carp_is_not_allowed_the_kernel_judges_nothing(housed: Play) -> None:
    """What comes is counted as received and not as wrong."""

    async def scenario(house: House) -> None:
        await house.settle(balanced())
        house.hardware.admit(HostParameters((balanced(),)))
        house.hardware.admit(HostParameters((balanced(),), allow=False))
        assert house.socket().admitted is None

    housed(scenario)


def test_a_kernel_without_filters(housed: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is served by the classic one."""

    def refuse() -> None:
        raise module.FenceUnavailable("no BPF here")

    async def scenario(house: House) -> None:
        monkeypatch.setattr(module.Hearing, "load", refuse)
        assert await house.settle(balanced()) == []
        assert house.socket().hearing is None

    housed(scenario)


@pytest.mark.parametrize(
    ("balancing", "macs"),
    [
        (Balancing.IP, [multicast_mac(3)]),
        (Balancing.IP_STEALTH, [virtual_mac(3)]),
        (Balancing.IP_UNICAST, [virtual_mac(3)]),
        (Balancing.ARP, [virtual_mac(3), virtual_mac(4)]),
    ],
)
def test_the_parent_receives_what_is_for_all(housed: Play, balancing: Balancing, macs: list[bytes]) -> None:
    """Frames to MACs that no link has; when nobody wants them any more it does not."""

    async def scenario(house: House) -> None:
        other = plain("carp1", 9, addresses=[OTHER])
        await house.settle(balanced(balancing=balancing), other, plain("carp2", 8, carpdev="eth1"))
        assert (house.socket().macs, house.socket("eth1").macs) == (macs, [])
        await house.settle(other)
        assert house.socket().macs == []

    housed(scenario)


def test_the_parent_receives_for_all_of_its_interfaces(housed: Play) -> None:
    """For each of them, and none of another parent's."""

    async def scenario(house: House) -> None:
        second = balanced("carp1", 5, 6, balancing=Balancing.IP_STEALTH, addresses=[OTHER])
        await house.settle(balanced(), second, balanced("carp2", 7, 8, carpdev="eth1"))
        assert house.socket().macs == [multicast_mac(3), virtual_mac(5)]
        assert house.socket("eth1").macs == [multicast_mac(7)]

    housed(scenario)


def test_a_parent_that_takes_no_mac(housed: Play) -> None:
    """Is named, with the MACs and the reason; with none to take nothing is said."""

    async def scenario(house: House) -> None:
        only = plain("carp1", 9, addresses=[OTHER])
        assert await house.settle(only) == []
        house.socket().refuses = OSError(NO_MEMORY, "Cannot allocate memory")
        (problem,) = await house.settle(only, balanced(balancing=Balancing.ARP))
        assert problem == (
            "eth0 cannot receive frames to 00:00:5e:00:01:03, 00:00:5e:00:01:04, which balancing needs: Cannot allocate memory"
        )

    housed(scenario)


def test_switches_that_snoop_by_mac_are_told_of_the_group(housed: Play) -> None:
    """224.0.1.LEADER has the multicast MAC of the interface; the other modes have no such MAC."""

    async def scenario(house: House) -> None:
        second = balanced("carp1", 5, 6, addresses=[OTHER])
        third = balanced("carp2", 7, 8, balancing=Balancing.IP_UNICAST, addresses=[address("192.0.2.102/24")])
        fourth = balanced("carp3", 200, 201, carpdev="eth1")
        await house.settle(balanced(), second, third, fourth)
        assert (house.groups(), house.groups("eth1")) == (["224.0.1.3", "224.0.1.5"], ["224.0.1.200"])
        await house.settle(second, third, fourth)
        assert house.groups() == ["224.0.1.5"]

    housed(scenario)


def test_claims_of_balanced_addresses_are_heard(housed: Play) -> None:
    """By all of them."""

    async def scenario(house: House) -> None:
        await house.settle(balanced(), plain("carp1", 9, addresses=[OTHER]))
        claims: Any = house.hardware.ports["eth0"].claims
        assert claims.watched == {ip_address(text) for text in ("192.0.2.100", "2001:db8::100", "192.0.2.101")}

    housed(scenario)


# Snooping switches


def test_switches_that_snoop_by_address_are_told_of_a_router(housed: Play) -> None:
    """On the parents of balancing ip: of the parent's MAC and addresses; nowhere when nobody wants it any more."""

    async def scenario(house: House) -> None:
        stealthy = balanced("carp1", 5, 6, balancing=Balancing.IP_STEALTH, carpdev="eth1")
        await house.settle(balanced(), stealthy)
        assert house.announcer.followed == {"eth0": (MACS[ETH0], dict(SOURCES))}
        await house.settle(stealthy)
        assert house.announcer.followed == {}

    housed(scenario)


def test_who_does_not_want_to_be_announced_is_not(housed: Play) -> None:
    """Unless another one on its parent does."""

    async def scenario(house: House) -> None:
        quiet = replace(balanced(), announces_router=False)
        await house.settle(quiet)
        assert house.announcer.followed == {}
        await house.settle(quiet, balanced("carp1", 5, 6, addresses=[OTHER]))
        assert list(house.announcer.followed) == ["eth0"]

    housed(scenario)


def test_switches_are_told_of_changes(housed: Play) -> None:
    """Of the parent's MAC and addresses; while it is down they forget, and are told of nothing."""

    async def scenario(house: House) -> None:
        await house.settle(balanced())
        mac, source = bytes.fromhex("0200000000ff"), ((Family.IPV4, bytes((192, 0, 2, 9))),)
        house.table.change(ETH0, mac=mac)
        house.table.own = source
        house.hardware.follow_snooping()
        assert house.announcer.followed == {"eth0": (mac, dict(source))}
        for down in ({"up": False}, {"running": False}):
            house.table.change(ETH0, **down)
            house.hardware.follow_snooping()
            assert house.announcer.followed == {}
            house.table.change(ETH0, up=True, running=True)
            house.hardware.follow_snooping()
            assert list(house.announcer.followed) == ["eth0"]

    housed(scenario)


def test_a_parent_that_goes_takes_its_leave(housed: Play) -> None:
    """While there is still a way to its switch; the others do not."""

    async def scenario(house: House) -> None:
        stays = balanced("carp1", 5, 6, carpdev="eth1")
        await house.settle(balanced(), stays)
        socket = house.socket()
        await house.settle(stays)
        assert (socket.sent, socket.closed, house.socket("eth1").sent) == ([b"no router"], True, [])

    housed(scenario)


def test_what_is_announced_leaves_by_its_parent(housed: Play) -> None:
    """And nowhere when that is gone; all is taken back at the end, while there is still a way."""

    async def scenario(house: House) -> None:
        await house.settle(balanced(), plain("carp1", 9, carpdev="eth1"))
        house.announcer.send("eth0", [b"frame", b"another"])
        house.announcer.send("eth7", [b"frame"])
        assert (house.socket().sent, house.socket("eth1").sent) == ([b"frame", b"another"], [])
        socket = house.socket()
        await house.hardware.undo()
        assert (house.announcer.stopped, socket.sent[-1], socket.closed) == (True, b"no router", True)

    housed(scenario)


# Who guards the addresses


def test_addresses_are_guarded_by_whom_they_belong_to(housed: Play) -> None:
    """Those that nobody else has by the slot of their virtual host, all others by what shares them out, and by that alone."""

    async def scenario(house: House) -> None:
        alone, balanced_one = plain("carp1", 9, addresses=[OTHER]), balanced()
        shared = [
            plain(f"carp{vhid}", vhid, addresses=[VIP4, address(f"192.0.2.{vhid}/24")], carpdev="eth1") for vhid in (6, 7)
        ]
        assert await house.settle(alone, balanced_one, *shared, arpbalance=True) == []
        slots = {slot: addresses for (_, slot), addresses in house.fence.vips.items() if addresses}
        assert slots == {
            house.fencing.slot("carp1", 9): ("192.0.2.101",),
            house.fencing.slot("carp6", 6): ("192.0.2.6",),
            house.fencing.slot("carp7", 7): ("192.0.2.7",),
        }
        shared_out = {one.parent_ifindex: tuple(map(str, one.addresses)) for one in house.balancer.wanted.values()}
        assert shared_out == {ETH0: ("192.0.2.100", "2001:db8::100"), ETH1: ("192.0.2.100",)}

    housed(scenario)


def test_who_is_down_guards_no_address_of_another(housed: Play) -> None:
    """Its part of the fence stays closed, and would close the address for the one that serves it now."""

    async def scenario(house: House) -> None:
        first, second = plain("carp1", 1, addresses=[VIP4]), plain("carp2", 2, addresses=[VIP4, OTHER])
        await house.settle(first, second)
        await house.settle(first, replace(second, up=False))
        slots = {slot: addresses for (_, slot), addresses in house.fence.vips.items() if addresses}
        assert slots == {
            house.fencing.slot("carp1", 1): ("192.0.2.100",),
            house.fencing.slot("carp2", 2): ("192.0.2.101",),
        }
        assert house.balancer.wanted == {}
        await house.settle(replace(first, up=False), replace(second, up=False))
        assert house.fence.vips[ETH0, house.fencing.slot("carp1", 1)] == ("192.0.2.100",)

    housed(scenario)


@pytest.mark.parametrize("back", [False, True], ids=["from one to several", "from several to one"])
def test_no_address_is_without_a_guard_at_any_moment(housed: Callable[..., None], back: bool) -> None:
    """Also while it goes over from a slot to what shares it out, or back."""
    fence = WatchedFence()
    one = plain("carp0", 1, addresses=[VIP4, OTHER])
    several = (one, plain("carp1", 2, addresses=[VIP4]))

    async def scenario(house: House) -> None:
        before, after = (several, (one,)) if back else ((one,), several)
        await house.settle(*before, arpbalance=True)
        fence.watched = {"192.0.2.100", "192.0.2.101"}
        fence.unguarded.clear()
        await house.settle(*after, arpbalance=True)
        assert len(fence.unguarded) >= 2
        assert fence.unguarded == [set()] * len(fence.unguarded)
        assert bool(house.balancer.wanted) is not back

    housed(scenario, fence=fence)


def test_what_is_guarded_is_left_alone(housed: Play) -> None:
    """A reload without a change touches nothing."""

    async def scenario(house: House) -> None:
        interfaces = (balanced(), plain("carp1", 9, addresses=[OTHER]), plain("carp2", 10, addresses=[OTHER]))
        await house.settle(*interfaces)
        house.fence.calls.clear()
        house.balancer.taken()
        await house.settle(*interfaces)
        assert (house.fence.calls, house.balancer.taken()) == ([], [])

    housed(scenario)


def test_another_mac_of_the_parent_is_taken_over(housed: Play) -> None:
    """It is noticed, and answers come from it after the next settling."""

    async def scenario(house: House) -> None:
        await house.settle(balanced())
        assert house.hardware.is_current()
        mac = bytes.fromhex("0200000000ff")
        house.table.change(ETH0, mac=mac)
        assert not house.hardware.is_current()
        await house.settle(balanced())
        assert house.hardware.is_current()
        assert [one.reply_mac for one in house.balancer.wanted.values()] == [mac]

    housed(scenario)


def test_a_parent_that_comes_back_as_another_one(housed: Play) -> None:
    """Has everything again, and nothing of the old one is left; the masks are those of the engine."""

    async def scenario(house: House) -> None:
        await house.settle(balanced(), plain("carp1", 9, addresses=[OTHER]))
        house.hardware.balancers.set_mask("carp0", 0b11)
        del house.table.links[ETH0]
        house.hardware.lose_parent("eth0")
        assert not house.hardware.is_current()
        house.table.links[17] = Link(17, "eth0", True, True, MACS[ETH0], "", 0, 0)
        assert await house.settle(balanced(), plain("carp1", 9, addresses=[OTHER])) == []
        ((index, found),) = house.balancer.wanted.items()
        assert (found.parent_ifindex, house.balancer.masks[index]) == (17, 0b11)
        assert [node.slot for node in found.nodes] == [house.fencing.slot("carp0", vhid) for vhid in (3, 4)]
        assert (house.socket().index, house.socket().macs) == (17, [multicast_mac(3)])
        assert house.hardware.is_current()

    housed(scenario)


# What cannot be


def test_without_bpf_nothing_is_made(housed: Callable[..., None]) -> None:
    """Neither of what is balanced nor of what is not: the whole is refused, with the reason."""

    async def scenario(house: House) -> None:
        why = "needs the kernel's BPF, and there is none: switched off by the configuration"
        problems = await house.settle(balanced(), plain("carp1", 9, addresses=[OTHER]))
        assert problems == [f"carp0: balancing ip {why}"]
        assert (house.made, house.hardware.ports) == ({}, {})
        assert await house.settle(plain("carp1", 9, addresses=[OTHER])) == []
        assert house.made == {"carp1": virtual_mac(9)}

    housed(scenario, fence=None)


def test_a_parent_that_takes_no_programs(housed: Play) -> None:
    """Balances nothing, which is told with the reason; on others everything is guarded."""

    async def scenario(house: House) -> None:
        house.fence.refusing = {ETH0}
        assert await house.settle(plain("carp1", 9)) == []
        other = plain("carp2", 8, carpdev="eth1")
        problems = await house.settle(balanced(), other)
        assert problems == ["carp0 cannot be balanced: interface 2 takes no BPF filter"]
        assert ("192.0.2.100",) in [addresses for (parent, _), addresses in house.fence.vips.items() if parent == ETH1]

    housed(scenario)
