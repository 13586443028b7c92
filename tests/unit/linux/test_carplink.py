"""The links of carp interfaces, their addresses and the routes to their neighbours, on the real kernel."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from pathlib import Path
from socket import if_nametoindex

import pytest

from carp.linux import carplink, prefix_route
from carp.linux.carplink import CarpLink, LinkError, NewLink, Taking, address_flags, prefix_routes
from carp.linux.journal import Leftovers
from carp.linux.links import LinkTable
from carp.linux.netlink import Netlink, NetlinkError, perform
from carp.linux.prefix_route import PrefixRoute, new_route, own_routes
from carp.linux.rtnetlink import IFA_F_NODAD, IFA_F_NOPREFIXROUTE, set_link
from carp.linux.sysctl import CARP_LINK_SETTINGS
from carp.protocol.values import InterfaceAddress
from lab.netns import Namespace

GROUP = 0x63000001
MAC = bytes.fromhex("00005e000107")
VIPS = tuple(map(ip_interface, ("192.0.2.100/24", "2001:db8::100/64")))
PEERS = ("192.0.2.9", "2001:db8::9")


class Writes(Netlink):
    """Counts how often it is asked."""

    count = 0

    def execute(self, batch: Iterable[bytes]) -> list[NetlinkError]:
        """Carry out a batch."""
        self.count += 1
        return super().execute(batch)


class Kernel:
    """A namespace with a parent eth0, and what the daemon would know of it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        namespace.ip("link add eth0 type veth peer name cable", "link set eth0 up", "link set cable up")
        self.parent_index = if_nametoindex("eth0")
        self.netlink = Writes()

    def table(self) -> LinkTable:
        """Read what is there."""
        table = LinkTable()
        table.load(self.netlink)
        return table

    def create(self, name: str = "carp0", mac: bytes | None = None) -> CarpLink:
        """Make a carp interface, a balanced one unless a MAC is given."""
        (made,) = self.create_all((name, mac))
        if isinstance(made, LinkError):
            raise made
        return made

    def create_all(self, *wanted: tuple[str, bytes | None]) -> list[CarpLink | LinkError]:
        """Make several at once, by name and MAC."""
        return carplink.create(self.netlink, [NewLink(name, "eth0", self.parent_index, mac) for name, mac in wanted], GROUP)

    def take(self, link: CarpLink, *addresses: InterfaceAddress) -> None:
        """Take addresses as the daemon does."""
        perform(self.netlink, link.take(Taking.prepare(self.table(), link, addresses)))

    def addresses(self, name: str = "carp0") -> set[str]:
        """List the addresses on a link."""
        (row,) = self.namespace.query(f"addr show dev {name}")
        return {f"{one['local']}/{one['prefixlen']}" for one in row["addr_info"]}

    def routes(self) -> dict[str, str | None]:
        """List carpd's routes through eth0 with their sources."""
        rows = self.namespace.query("-4 route show dev eth0 proto 112") + self.namespace.query(
            "-6 route show dev eth0 proto 112"
        )
        return {row["dst"]: row.get("prefsrc") for row in rows}

    def remove(self, routes: Iterable[str], name: str) -> None:
        """Remove routes through eth0, and all addresses of a link, as somebody else might."""
        self.namespace.ip(*(f"route del {route} dev eth0 proto 112" for route in routes), f"addr flush dev {name}")

    def way(self, peer: str) -> tuple[str, str]:
        """Tell by which link and from which address this host speaks to a neighbour."""
        (row,) = self.namespace.query(f"route get {peer}")
        return row["dev"], row["prefsrc"]


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """Live in a namespace of the test's own."""
    namespace = Namespace("links")
    try:
        with namespace.entered():
            made = Kernel(namespace)
            yield made
            made.netlink.close()
    finally:
        namespace.delete()


def test_a_link_with_the_virtual_mac(kernel: Kernel) -> None:
    """A macvlan in bridge mode, down, in the group, that answers for its own addresses only."""
    link = kernel.create(mac=MAC)
    (row,) = kernel.namespace.query("-d link show dev carp0")
    assert (row["address"], row["link"], row["linkinfo"]["info_data"]["mode"]) == ("00:00:5e:00:01:07", "eth0", "bridge")
    assert (row["group"], "UP" in row["flags"]) == (str(GROUP), False)
    assert kernel.namespace.sysctl("ipv4/conf/carp0/arp_ignore") == "1"
    assert link == CarpLink("carp0", row["ifindex"], kernel.parent_index, MAC)
    assert not link.is_parent


def test_a_new_link_has_all_its_settings(kernel: Kernel) -> None:
    """Whatever an interface has by default on this host, for each of several that are made at once."""
    for key, value in CARP_LINK_SETTINGS.items():
        kernel.namespace.sysctl(key.format(name="default"), {"0": "1", "1": "0", "2": "1"}[value])
    names = ("carp0", "carp1", "carp2")
    made = kernel.create_all(*((name, None) for name in names))
    assert [one.name for one in made if isinstance(one, CarpLink)] == list(names)
    for name in names:
        assert {key: kernel.namespace.sysctl(key.format(name=name)) for key in CARP_LINK_SETTINGS} == CARP_LINK_SETTINGS


def test_links_are_made_without_a_write_for_each(kernel: Kernel) -> None:
    """Of 40 no less than of one."""
    kernel.create()
    before, kernel.netlink.count = kernel.netlink.count, 0
    made = kernel.create_all(*((f"carp{number}", None) for number in range(1, 41)))
    assert all(isinstance(one, CarpLink) for one in made)
    assert kernel.netlink.count == before


def test_one_that_cannot_be_made_does_not_stop_the_others(kernel: Kernel) -> None:
    """What was made and why others were not is told in the order of the question."""
    kernel.namespace.ip("link add carp1 type bridge")
    first, second, third = kernel.create_all(("carp0", MAC), ("carp1", None), ("carp2", None))
    assert isinstance(first, CarpLink)
    assert first.index == if_nametoindex("carp0")
    assert isinstance(second, LinkError)
    assert str(second).startswith("carp1 exists already")
    assert isinstance(third, CarpLink)
    assert third.index == if_nametoindex("carp2")
    assert kernel.namespace.sysctl("ipv4/conf/carp1/arp_ignore") == "0"


def test_a_parent_without_ipv6(kernel: Kernel) -> None:
    """Its carp interfaces have none either, and their other settings."""
    kernel.namespace.ip("link set eth0 mtu 1000")
    kernel.create()
    assert kernel.namespace.sysctl("ipv4/conf/carp0/arp_announce") == "2"
    assert not Path("/proc/sys/net/ipv6/conf/carp0").exists()


def test_a_link_without_its_settings_is_none(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken away again: it would answer for others. The others stay."""

    def set_nothing(index: int, _settings: object) -> list[bytes]:
        return [set_link(index if index == if_nametoindex("carp1") else 4711, up=False)]

    monkeypatch.setattr(carplink, "set_settings", set_nothing)
    refused, made = kernel.create_all(("carp0", MAC), ("carp1", None))
    assert str(refused) == "carp0 cannot be made: No such device"
    assert isinstance(made, CarpLink)
    assert [row["ifname"] for row in kernel.namespace.query("link show type macvlan")] == ["carp1"]


def test_a_balanced_link_has_a_mac_of_its_own(kernel: Kernel) -> None:
    """Locally administered, no group's, and another one for each: all hosts share the shared one."""
    links = [kernel.create(name) for name in ("carp0", "carp1")]
    macs = [bytes.fromhex(row["address"].replace(":", "")) for row in kernel.namespace.query("link show type macvlan")]
    assert [mac[0] & 3 for mac in macs] == [2, 2]
    assert macs[0] != macs[1]
    assert all(link.through_parent and not link.is_parent and link.mac is None for link in links)


def test_addresses_on_the_parent() -> None:
    """Then there is no link of its own, and nothing special about its neighbours."""
    link = CarpLink("carp0", 2, 2)
    assert (link.is_parent, link.through_parent) == (True, False)


def test_a_name_that_is_taken(kernel: Kernel) -> None:
    """The refusal names it."""
    kernel.create()
    with pytest.raises(LinkError, match="carp0 exists already"):
        kernel.create()


def test_a_parent_that_carries_no_macvlan(kernel: Kernel) -> None:
    """A bridge port takes none, whoever chooses the MAC."""
    kernel.namespace.ip("link add br0 type bridge", "link set eth0 master br0")
    for mac in (None, MAC):
        with pytest.raises(LinkError, match="eth0 carries no macvlan"):
            kernel.create(mac=mac)


@pytest.mark.parametrize("numbered", [False, True])
def test_balanced_addresses_make_no_prefix_route_of_the_kernels(kernel: Kernel, numbered: bool) -> None:
    """Never, as it would lead into the carp interface."""
    if numbered:
        kernel.namespace.ip("addr add 192.0.2.1/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad")
    link = kernel.create()
    assert address_flags(kernel.table(), link, VIPS) == [IFA_F_NOPREFIXROUTE, IFA_F_NOPREFIXROUTE | IFA_F_NODAD]
    kernel.take(link, *VIPS)
    assert kernel.addresses() == set(map(str, VIPS))
    assert "carp0" not in kernel.namespace.run("ip", "route", "show", "table", "main")
    assert "2001:db8" not in kernel.namespace.run("ip", "-6", "route", "show", "dev", "carp0")


def test_an_ordinary_link_keeps_its_prefix_route(kernel: Kernel) -> None:
    """The kernel's, through the carp interface, and none of ours."""
    link = kernel.create(mac=MAC)
    assert address_flags(kernel.table(), link, VIPS) == [0, IFA_F_NODAD]
    kernel.take(link, *VIPS)
    assert kernel.routes() == {}
    assert [kernel.way(peer) for peer in PEERS] == [("carp0", "192.0.2.100"), ("carp0", "2001:db8::100")]


def test_neighbours_of_a_balanced_link_are_behind_the_parent(kernel: Kernel) -> None:
    """On a parent without addresses a route is made for each prefix, with the shared address as source."""
    kernel.take(kernel.create(), *VIPS)
    assert kernel.routes() == {"192.0.2.0/24": "192.0.2.100", "2001:db8::/64": "2001:db8::100"}
    assert [kernel.way(peer) for peer in PEERS] == [("eth0", "192.0.2.100"), ("eth0", "2001:db8::100")]


def test_everything_is_one_write(kernel: Kernel) -> None:
    """Link, addresses and routes, also when others go at the same time; and so is the release."""
    link = kernel.create()
    table = kernel.table()
    for addresses in (VIPS, (ip_interface("198.51.100.1/24"),)):
        before = kernel.netlink.count
        perform(kernel.netlink, link.take(Taking.prepare(table, link, addresses)))
        assert kernel.netlink.count == before + 1
    assert kernel.routes() == {"198.51.100.0/24": "198.51.100.1"}
    perform(kernel.netlink, link.release())
    assert kernel.netlink.count == before + 2
    assert (kernel.routes(), kernel.addresses()) == ({}, set())


def test_a_prefix_that_the_parent_has_needs_no_route(kernel: Kernel) -> None:
    """The host speaks from its own address there."""
    kernel.namespace.ip("addr add 192.0.2.1/24 dev eth0")
    kernel.take(kernel.create(), *VIPS)
    assert kernel.routes() == {"2001:db8::/64": "2001:db8::100"}
    assert kernel.way(PEERS[0]) == ("eth0", "192.0.2.1")


def test_a_single_address_needs_no_route(kernel: Kernel) -> None:
    """There are no neighbours in a /32 or /128."""
    kernel.take(kernel.create(), ip_interface("192.0.2.100/32"), ip_interface("2001:db8::100/128"))
    assert kernel.routes() == {}


def test_one_route_for_one_prefix(kernel: Kernel) -> None:
    """Its source is the first address, and when that one goes, the next."""
    link = kernel.create()
    several = tuple(map(ip_interface, ("192.0.2.100/24", "192.0.2.101/24", "2001:db8::100/64", "2001:db8::101/64")))
    kernel.take(link, *several)
    assert kernel.routes() == {"192.0.2.0/24": "192.0.2.100", "2001:db8::/64": "2001:db8::100"}
    kernel.take(link, several[1], several[3])
    assert kernel.routes() == {"192.0.2.0/24": "192.0.2.101", "2001:db8::/64": "2001:db8::101"}
    assert kernel.addresses() == {"192.0.2.101/24", "2001:db8::101/64"}


def test_routes_of_others_go_first(kernel: Kernel) -> None:
    """An address that the parent gets later, or an administrator's route, is preferred to ours."""
    kernel.take(kernel.create(), *VIPS)
    kernel.namespace.ip(
        "addr add 192.0.2.1/24 dev eth0",
        "addr add 2001:db8::1/64 dev eth0 nodad noprefixroute",
        "route add 2001:db8::/64 dev eth0 src 2001:db8::1",
    )
    assert [kernel.way(peer) for peer in PEERS] == [("eth0", "192.0.2.1"), ("eth0", "2001:db8::1")]


def test_balanced_links_with_one_prefix_do_not_disturb_each_other(kernel: Kernel) -> None:
    """When one releases, the other one's neighbours are still there."""
    first, second = kernel.create("carp0"), kernel.create("carp1")
    kernel.take(first, *VIPS)
    kernel.take(second, *map(ip_interface, ("192.0.2.200/24", "2001:db8::200/64")))
    perform(kernel.netlink, first.release())
    assert [kernel.way(peer) for peer in PEERS] == [("eth0", "192.0.2.200"), ("eth0", "2001:db8::200")]
    second.remove(kernel.netlink)
    assert kernel.routes() == {}
    assert "carp1" not in kernel.namespace.run("ip", "link")


def test_the_same_take_again(kernel: Kernel) -> None:
    """Changes nothing."""
    link = kernel.create()
    for _ in range(2):
        kernel.take(link, *VIPS)
        assert kernel.routes() == {"192.0.2.0/24": "192.0.2.100", "2001:db8::/64": "2001:db8::100"}
        assert kernel.addresses() == set(map(str, VIPS))


def test_a_neighbour_can_be_the_gateway(kernel: Kernel) -> None:
    """To whatever lies beyond the prefix."""
    kernel.take(kernel.create(), *VIPS)
    kernel.namespace.ip(*(f"route add default via {peer}" for peer in PEERS))
    assert [kernel.way(peer)[0] for peer in ("203.0.113.9", "2001:db8:7::9")] == ["eth0", "eth0"]


def test_what_others_removed_is_made_again(kernel: Kernel) -> None:
    """The same take again puts routes and addresses back."""
    link = kernel.create()
    kernel.take(link, *VIPS)
    wanted = kernel.routes()
    kernel.remove(wanted, "carp0")
    assert kernel.routes() == {}
    kernel.take(link, *VIPS)
    assert (kernel.routes(), kernel.addresses()) == (wanted, set(map(str, VIPS)))


@pytest.mark.parametrize("balanced", [True, False])
def test_what_is_gone_already_cannot_be_removed(kernel: Kernel, balanced: bool) -> None:
    """Somebody else deleted the addresses and routes: neither the next take nor the release minds."""
    link = kernel.create() if balanced else CarpLink("carp0", kernel.parent_index, kernel.parent_index)
    name = "carp0" if balanced else "eth0"
    kernel.take(link, *VIPS)
    kernel.remove(kernel.routes(), name)
    other = ip_interface("198.51.100.1/24")
    kernel.take(link, other)
    assert kernel.addresses(name) == {str(other)}
    kernel.namespace.ip(f"addr flush dev {name}")
    perform(kernel.netlink, link.release())
    assert kernel.addresses(name) == set()


def test_an_address_that_is_refused_fails_the_take(kernel: Kernel) -> None:
    """IPv6 is switched off on the carp interface; what was taken can be released."""
    link = kernel.create()
    kernel.namespace.sysctl("ipv6/conf/carp0/disable_ipv6", 1)
    with pytest.raises(NetlinkError, match="Permission denied"):
        kernel.take(link, *VIPS)
    perform(kernel.netlink, link.release())
    assert (kernel.routes(), kernel.addresses()) == ({}, set())


def test_a_link_that_is_gone_fails_the_take(kernel: Kernel) -> None:
    """Somebody else deleted it: what is gone already may only be missing where it is to be removed."""
    link = kernel.create(mac=MAC)
    taking = Taking.prepare(kernel.table(), link, VIPS)
    kernel.namespace.ip("link del carp0")
    with pytest.raises(NetlinkError, match="No such device"):
        perform(kernel.netlink, link.take(taking))


def test_a_route_that_is_refused_fails_the_take(kernel: Kernel) -> None:
    """Neighbours would not be reached: the parent is down here. A release then removes what was taken all the same."""
    link = kernel.create()
    taking = Taking.prepare(kernel.table(), link, VIPS)
    kernel.namespace.ip("link set eth0 down")
    with pytest.raises(NetlinkError, match="Network is down"):
        perform(kernel.netlink, link.take(taking))
    perform(kernel.netlink, link.release())
    assert (kernel.routes(), kernel.addresses()) == ({}, set())


def test_a_link_local_address_is_no_source(kernel: Kernel) -> None:
    """It is another interface's than the one by which its neighbours are reached."""
    link = kernel.create()
    kernel.namespace.ip("addr flush dev eth0", "addr flush dev cable")
    assert [
        (str(route.network), route.source) for route in prefix_routes(kernel.table(), link, [ip_interface("fe80::7/64")])
    ] == [("fe80::/64", None)]
    kernel.take(link, ip_interface("fe80::7/64"))
    assert kernel.routes() == {"fe80::/64": None}


@pytest.mark.parametrize("filtering", [True, False], ids=["the kernel filters", "an old kernel"])
def test_what_a_crash_has_left_is_removed(kernel: Kernel, filtering: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links with their addresses, and the routes through the parents: no others, whoever made them."""
    if not filtering:
        monkeypatch.setattr(prefix_route, "_GET_STRICT_CHK", 0x7FFF)
    kernel.namespace.ip("link add eth1 type veth peer name cable1", "link set eth1 up", "link set cable1 up")
    kernel.take(kernel.create(), *VIPS)
    kernel.namespace.ip(
        "route add 198.51.100.0/24 dev eth0 proto static metric 112007",
        "route add 2001:db8:5::/64 dev eth0 proto static metric 112007",
        "route add 203.0.113.0/24 dev eth1 proto 112",
    )
    removed = carplink.clean_up(kernel.netlink, Leftovers({}, ["eth0", "eth7"], []), GROUP)
    assert sorted(removed) == [
        "carp0",
        "the route to 192.0.2.0/24 through eth0",
        "the route to 2001:db8::/64 through eth0",
    ]
    assert kernel.routes() == {}
    assert "carp0" not in kernel.namespace.run("ip", "link")
    for kept in (("-4", "198.51.100.0/24"), ("-4", "203.0.113.0/24"), ("-6", "2001:db8:5::/64")):
        assert kernel.namespace.run("ip", kept[0], "route", "show", kept[1])


def test_routes_are_found_when_the_link_is_gone(kernel: Kernel) -> None:
    """The kernel removes IPv4 routes with their source, but IPv6 ones stay: those are removed, too."""
    kernel.take(kernel.create(), *VIPS)
    kernel.namespace.ip("link del carp0")
    assert list(kernel.routes()) == ["2001:db8::/64"]
    carplink.clean_up(kernel.netlink, Leftovers({}, ["eth0"], []), GROUP)
    assert kernel.routes() == {}


def test_a_host_without_routes(kernel: Kernel) -> None:
    """Nothing is found where there is nothing: no route, no such link, no IPv6."""
    assert own_routes(kernel.parent_index) == []
    assert own_routes(4711) == []
    kernel.namespace.sysctl("ipv6/conf/all/disable_ipv6", 1)
    assert own_routes(kernel.parent_index) == []


def test_a_route_is_read_as_it_was_written(kernel: Kernel) -> None:
    """With a default route, too."""
    written = [
        PrefixRoute(ip_interface("192.0.2.0/24").network, kernel.parent_index, None, 112_001),
        PrefixRoute(ip_interface("0.0.0.0/0").network, kernel.parent_index, None, 112_001),
        PrefixRoute(ip_interface("2001:db8::/64").network, kernel.parent_index, None, 112_002),
    ]
    assert kernel.netlink.execute([new_route(route) for route in written]) == []
    assert set(own_routes(kernel.parent_index)) == set(written)


def test_settings_go_back(kernel: Kernel) -> None:
    """What the crashed run had changed has its original value again."""
    file = "/proc/sys/net/ipv4/conf/eth0/arp_ignore"
    kernel.namespace.sysctl("ipv4/conf/eth0/arp_ignore", 1)
    carplink.clean_up(kernel.netlink, Leftovers({file: "2"}, ["eth0"], []), GROUP)
    assert Path(file).read_text().strip() == "2"
