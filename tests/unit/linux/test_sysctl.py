"""Kernel settings, on a folder in the place of /proc/sys/net."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carp.linux import sysctl
from carp.linux.sysctl import PARENT_SETTINGS, Keeper

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


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """Make a keeper that watches nothing."""
    made = Keeper()
    yield made
    made.close()


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


def test_what_somebody_changes_is_put_back_and_told(put: Put, keeper: Keeper) -> None:
    """The setting is what carpd made it again; the text names it, with both values."""
    ignore, announce = put("ipv4/conf/eth0/arp_ignore", "1"), put("ipv4/conf/eth0/arp_announce", "2")
    keeper.keep("eth0", PARENT_SETTINGS)
    assert keeper.put_back() == []
    put("ipv4/conf/eth0/arp_ignore", "0")
    assert keeper.put_back() == ["ipv4/conf/eth0/arp_ignore was 0, is 1 again"]
    assert (ignore.read_text().strip(), announce.read_text().strip()) == ("1", "2")
    assert keeper.put_back() == []


def test_settings_that_do_not_exist_are_not_watched(put: Put, keeper: Keeper) -> None:
    """What there is of an interface is watched all the same."""
    put("ipv4/conf/eth0/arp_ignore", "0")
    keeper.keep("eth0", PARENT_SETTINGS)
    assert keeper.put_back() == ["ipv4/conf/eth0/arp_ignore was 0, is 1 again"]


def test_an_interface_that_is_dropped_is_left_alone(put: Put, keeper: Keeper) -> None:
    """After the last carp interface has left a parent, its settings belong to the administrator again."""
    put("ipv4/conf/eth0/arp_ignore", "0")
    put("ipv4/conf/eth1/arp_ignore", "0")
    keeper.keep("eth0", PARENT_SETTINGS)
    keeper.keep("eth1", PARENT_SETTINGS)
    keeper.drop("eth0")
    keeper.drop("eth0")
    assert keeper.put_back() == ["ipv4/conf/eth1/arp_ignore was 0, is 1 again"]
    keeper.close()
    put("ipv4/conf/eth1/arp_ignore", "0")
    assert keeper.put_back() == []


def test_an_interface_that_is_gone_does_not_stop_the_others(put: Put, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a deleted interface cannot be read any more; those of the others are looked at."""
    gone = put("ipv4/conf/eth0/arp_ignore", "1")
    put("ipv4/conf/eth1/arp_ignore", "1")
    keeper.keep("eth0", PARENT_SETTINGS)
    keeper.keep("eth1", PARENT_SETTINGS)
    put("ipv4/conf/eth1/arp_ignore", "0")
    gone.unlink()
    read = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith("(deleted)"):
            raise OSError(errno.EINVAL, "Invalid argument")
        return read(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    for _ in range(2):
        assert keeper.put_back() == ["ipv4/conf/eth1/arp_ignore was 0, is 1 again"]
        put("ipv4/conf/eth1/arp_ignore", "0")
    assert not gone.exists()
