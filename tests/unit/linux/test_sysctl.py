"""Kernel settings: files on a folder in the place of /proc/sys/net, and those that are watched in a namespace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from socket import if_nametoindex

import pytest

from carp.linux import sysctl
from carp.linux.devconf import get_settings, read_settings
from carp.linux.netlink import Netlink
from carp.linux.sysctl import CARP_LINK_SETTINGS, INTERFACES_AT_A_TIME, PARENT_SETTINGS, Keeper
from lab.netns import Namespace

Put = Callable[[str, str], Path]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty folder."""
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def put(root: Path) -> Put:
    """Give a setting a value, as the kernel shows it."""

    def _put(key: str, value: str) -> Path:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
        return path

    return _put


def test_a_host_as_it_comes_is_not_warned_about(put: Put) -> None:
    """Neither with the kernel's defaults nor with an arp_ignore that keeps virtual addresses answering."""
    assert sysctl.host_warnings() == []
    put("ipv4/conf/all/arp_filter", "0")
    for value in ("0", "1"):
        put("ipv4/conf/all/arp_ignore", value)
        assert sysctl.host_warnings() == []


@pytest.mark.parametrize("value", ["2", "3", "8"])
def test_settings_that_silence_virtual_addresses_are_named(put: Put, value: str) -> None:
    """By name, with the value that is there and with what to do."""
    put("ipv4/conf/all/arp_filter", "1")
    put("ipv4/conf/all/arp_ignore", value)
    first, second = sysctl.host_warnings()
    assert first.startswith("net.ipv4.conf.all.arp_filter is 1: ")
    assert "set it to 0" in first
    assert second.startswith(f"net.ipv4.conf.all.arp_ignore is {value}: ")
    assert "set it to 0 or 1" in second


def test_an_interface_with_a_dot_in_its_name(root: Path) -> None:
    """The dot of a VLAN's name separates nothing."""
    assert sysctl.path_of("ipv4/conf/{name}/arp_ignore", "eth0.5") == root / "ipv4/conf/eth0.5/arp_ignore"


def test_forwarding_is_told_by_family(put: Put) -> None:
    """A host may route one family and not the other; without IPv6 it routes none."""
    assert not sysctl.forwards(6)
    put("ipv4/ip_forward", "1")
    put("ipv6/conf/all/forwarding", "0")
    assert (sysctl.forwards(4), sysctl.forwards(6)) == (True, False)
    put("ipv6/conf/all/forwarding", "1")
    assert sysctl.forwards(6)


def test_a_setting_that_the_kernel_does_not_have_is_not_made(root: Path) -> None:
    """With IPv6 switched off there is nothing to set."""
    sysctl.write(root / "absent", "1")
    assert list(root.iterdir()) == []
    assert sysctl.read(root / "absent") is None


# What carpd made is watched, on the real kernel


class Watched(Netlink):
    """Counts what it is asked: single interfaces, and all of them at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.dumps = 0

    def ask(self, requests: Sequence[bytes]) -> list[bytes | None]:
        """Ask for single interfaces."""
        self.asked += len(requests)
        return super().ask(requests)

    def dump(self, request: bytes) -> list[bytes]:
        """Ask for everything."""
        self.dumps += 1
        return super().dump(request)


class Host:
    """A namespace whose interfaces have carpd's settings and are watched."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.netlink = Watched()
        self.keeper = Keeper()

    def add(self, count: int, settings: Mapping[str, str] = CARP_LINK_SETTINGS) -> list[str]:
        """Make interfaces, set them, watch them; return their names."""
        first = len(self.namespace.query("link show type bridge"))
        names = [f"eth{number}" for number in range(first, first + count)]
        self.namespace.ip(*(f"link add {name} type bridge" for name in names))
        for name in names:
            for key, value in settings.items():
                sysctl.write(sysctl.path_of(key, name), value)
            self.keeper.keep(if_nametoindex(name), settings)
        return names

    def set(self, name: str, key: str, value: str) -> None:
        """Change a setting as somebody else."""
        self.namespace.sysctl(key.format(name=name), value)

    def look(self, *suspects: str) -> list[str]:
        """Look once."""
        return self.keeper.put_back(self.netlink, [if_nametoindex(name) for name in suspects])

    def is_right(self, *names: str) -> bool:
        """Tell whether all settings are carpd's."""
        wanted = {sysctl.path_of(key, name): value for name in names for key, value in CARP_LINK_SETTINGS.items()}
        return all(sysctl.read(path) == value for path, value in wanted.items())


@pytest.fixture
def host() -> Iterator[Host]:
    """Live in a namespace of the test's own."""
    namespace = Namespace("settings")
    try:
        with namespace.entered():
            made = Host(namespace)
            yield made
            made.netlink.close()
    finally:
        namespace.delete()


IGNORE, RA = "ipv4/conf/{name}/arp_ignore", "ipv6/conf/{name}/accept_ra"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ipv6/conf/{name}/addr_gen_mode", "0"),
        ("ipv6/conf/{name}/accept_ra", "2"),
        ("ipv4/conf/{name}/rp_filter", "1"),
        ("ipv4/conf/{name}/arp_ignore", "8"),
        ("ipv4/conf/{name}/arp_announce", "0"),
        ("ipv4/conf/{name}/arp_filter", "1"),
        ("ipv4/conf/{name}/accept_local", "1"),
    ],
)
def test_what_somebody_changes_is_put_back_and_told(host: Host, key: str, value: str) -> None:
    """Each setting is what carpd made it again, each time; the text names it, with both values."""
    host.add(2)
    assert host.look() == []
    assert host.look() == []
    path = key.format(name="eth1")
    for _ in range(2):
        host.set("eth1", key, value)
        assert host.look() == [f"{path} was {value}, is {CARP_LINK_SETTINGS[key]} again"]
        assert host.is_right("eth0", "eth1")
    assert host.look() == []


def test_every_setting_of_carpd_is_watched(host: Host) -> None:
    """Whatever it sets on an interface of its own or on a parent, the kernel tells."""
    (name,) = host.add(1, {})
    (answer,) = host.netlink.ask([get_settings(if_nametoindex(name))])
    assert answer is not None
    for settings in (CARP_LINK_SETTINGS, PARENT_SETTINGS):
        assert read_settings(answer, settings)[1].keys() == settings.keys()


def test_only_what_is_carpds_is_put_back(host: Host) -> None:
    """Of a parent two settings; the others are the administrator's."""
    (name,) = host.add(1, PARENT_SETTINGS)
    host.set(name, RA, "2")
    host.set(name, "ipv4/conf/{name}/rp_filter", "1")
    assert host.look() == []
    host.set(name, IGNORE, "0")
    assert host.look() == [f"ipv4/conf/{name}/arp_ignore was 0, is 1 again"]


def test_a_look_costs_the_same_however_many_there_are(host: Host) -> None:
    """It takes some in turn, and so every change is found after as many looks as are needed for one round."""
    names = host.add(2 * INTERFACES_AT_A_TIME + 3)
    for spoiled in (names[0], names[INTERFACES_AT_A_TIME], names[-1]):
        host.set(spoiled, IGNORE, "0")
        looks = 0
        host.netlink.asked = 0
        while not host.look():
            looks += 1
        assert looks < 3
        assert host.netlink.asked <= (looks + 1) * INTERFACES_AT_A_TIME
        assert host.is_right(spoiled)
    host.netlink.dumps = 0
    for _ in range(6):
        assert host.look() == []
    assert host.netlink.dumps == 0


def test_a_change_leads_to_a_look_at_all(host: Host) -> None:
    """Who sets all interfaces at once finds all put back at once."""
    names = host.add(3 * INTERFACES_AT_A_TIME)
    for name in names:
        host.set(name, RA, "1")
    assert sorted(host.look()) == sorted(f"ipv6/conf/{name}/accept_ra was 1, is 0 again" for name in names)
    assert host.is_right(*names)


def test_suspects_are_looked_at_at_once(host: Host) -> None:
    """One that was reported does not wait for its turn, wherever it stands; those of others are no concern."""
    names = host.add(3 * INTERFACES_AT_A_TIME)
    host.set(names[-1], IGNORE, "0")
    assert host.look(names[-1], "lo") == [f"ipv4/conf/{names[-1]}/arp_ignore was 0, is 1 again"]


def test_many_suspects_wait_for_each_other(host: Host) -> None:
    """As after the takeover of hundreds: no look takes long, and each is looked at soon."""
    names = host.add(8 * INTERFACES_AT_A_TIME)
    host.set(names[-1], IGNORE, "0")
    assert host.look(*names) == []
    assert host.netlink.asked <= 4 * INTERFACES_AT_A_TIME
    looks = 1
    while not host.look():
        looks += 1
    assert looks < 3
    assert host.is_right(names[-1])
    host.netlink.asked = 0
    for _ in range(2):
        host.look()
    assert host.netlink.asked == 2 * INTERFACES_AT_A_TIME


def test_settings_that_do_not_exist_are_not_watched(host: Host) -> None:
    """What there is of an interface is watched all the same: one with a small MTU has no IPv6."""
    (name,) = host.add(1)
    host.namespace.ip(f"link set {name} mtu 1000")
    assert host.look() == []
    host.set(name, IGNORE, "0")
    assert host.look() == [f"ipv4/conf/{name}/arp_ignore was 0, is 1 again"]


def test_an_interface_that_is_dropped_is_left_alone(host: Host) -> None:
    """After the last carp interface has left a parent, its settings belong to the administrator again."""
    host.add(2)
    host.keeper.drop(if_nametoindex("eth0"))
    host.keeper.drop(if_nametoindex("eth0"))
    for name in ("eth0", "eth1"):
        host.set(name, IGNORE, "0")
    assert host.look("eth0") == ["ipv4/conf/eth1/arp_ignore was 0, is 1 again"]
    host.keeper.close()
    host.set("eth1", IGNORE, "0")
    assert host.look("eth1") == []


def test_one_that_is_watched_anew_is_read_anew(host: Host) -> None:
    """With other settings than before."""
    (name,) = host.add(1, PARENT_SETTINGS)
    assert host.look() == []
    host.keeper.keep(if_nametoindex(name), CARP_LINK_SETTINGS)
    assert f"ipv6/conf/{name}/accept_ra was 1, is 0 again" in host.look()


def test_an_interface_that_is_gone_does_not_stop_the_others(host: Host) -> None:
    """It is asked for once more and then forgotten."""
    host.add(2)
    host.namespace.ip("link del eth0")
    host.set("eth1", IGNORE, "0")
    assert host.look() == ["ipv4/conf/eth1/arp_ignore was 0, is 1 again"]
    host.netlink.asked = 0
    assert host.look() == []
    assert host.netlink.asked == 1


def test_an_interface_has_its_settings_under_another_name_too(host: Host) -> None:
    """Whatever somebody calls it."""
    host.add(1)
    host.namespace.ip("link set eth0 name lan0.5")
    host.set("lan0.5", IGNORE, "0")
    assert host.look() == ["ipv4/conf/lan0.5/arp_ignore was 0, is 1 again"]
    assert host.is_right("lan0.5")


def test_nothing_is_asked_about_nothing(host: Host) -> None:
    """Nor waited for."""
    assert host.look() == []
    assert (host.netlink.asked, host.netlink.dumps) == (0, 0)
