"""Where carpd's configuration comes from."""

import argparse
from ipaddress import ip_interface
from pathlib import Path

import pytest

from carp.config.edit import HostView, ParentView
from carp.config.errors import ConfigError
from carp.config.load import Configuration
from carp.daemon import origin

HOST = HostView((ParentView("em0", True, (ip_interface("172.16.0.200/24"),)),))
LINE = "inet 172.16.0.202 255.255.255.0 172.16.0.255 vhid 1 pass password1 advbase 1 advskew 0\n"
TOML = '[carp0]\ncarpdev = "em1"\nvhid = 7\npass = "x"\naddresses = ["192.0.2.100/24"]\n'


@pytest.fixture(autouse=True)
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty directory for /etc."""
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(origin, "_BOOT_FOLDER", folder)
    monkeypatch.setattr(origin, "_RC_CONF", folder / "rc.conf")
    monkeypatch.setattr(origin, "_SYSCTL_CONF", folder / "sysctl.conf")
    monkeypatch.setattr(origin, "DEFAULT_PATH", folder / "carp.toml")
    return folder


def arguments(*words: object) -> argparse.Namespace:
    """Read a command line."""
    parser = argparse.ArgumentParser()
    origin.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def loaded(*words: object) -> Configuration:
    """Load what a command line names."""
    return origin.load(arguments(*words), lambda: HOST)


def private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def vhids(configuration: Configuration) -> list[tuple[str, str, int]]:
    """Return name, parent and first vhid of each carp interface."""
    return [(one.name, one.carpdev, one.leader.vhid) for one in configuration.host.interfaces]


def test_the_usual_file_comes_first(etc: Path) -> None:
    """With /etc/carp/carp.toml the BSDs' files are not looked at."""
    private(etc / "carp.toml", TOML)
    private(etc / "hostname.carp0", LINE)
    assert vhids(loaded()) == [("carp0", "em1", 7)]
    assert origin.describe(arguments(), loaded()) == str(etc / "carp.toml")


def test_boot_files_where_there_is_none(etc: Path) -> None:
    """Without it the boot files in /etc are read, and the parent is found by its subnet."""
    path = private(etc / "hostname.carp0", LINE)
    (etc / "sysctl.conf").write_text("net.ipv4.ip_forward=1\nnet.inet.carp.preempt=1\n")
    configuration = loaded()
    assert vhids(configuration) == [("carp0", "em0", 1)]
    assert configuration.host.preempt
    assert str(path) in origin.describe(arguments(), configuration)


def test_nothing_at_all(etc: Path) -> None:
    """Where no file is about carp, it is carp.toml that is missing."""
    (etc / "rc.conf").write_text('hostname="host"\n')
    with pytest.raises(
        ConfigError,
        match=r"carp\.toml: does not exist, .* an empty table \[global\] is enough",
    ):
        loaded()


def test_named_boot_files(tmp_path: Path) -> None:
    """Those that are named are read and no others; together with another kind they are refused."""
    rc_conf = private(tmp_path / "rc.local.conf", 'cloned_interfaces="carp3"\nifconfig_carp3="vhid 3 pass p 172.16.0.3/24"\n')
    assert vhids(loaded("--rc-conf", rc_conf)) == [("carp3", "em0", 3)]
    assert loaded("--hostname-if", tmp_path / "etc").host.interfaces == ()
    assert origin.conflict(arguments("--rc-conf", rc_conf, "--hostname-if", tmp_path)) == ""
    refused = origin.conflict(arguments("--rc-conf", rc_conf, "--config", tmp_path / "carp.toml"))
    assert refused == "--config and boot files exclude each other"


def test_a_parent_that_cannot_be_found(etc: Path) -> None:
    """An address that no interface of the host is near is refused, with the interface's name."""
    private(etc / "hostname.carp2", "inet 203.0.113.1 255.255.255.0 vhid 2 pass p\n")
    with pytest.raises(ConfigError, match="carp2") as error:
        loaded()
    assert "carpdev" in str(error.value)
