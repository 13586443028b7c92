"""`carp sync status` and `carp sync config`."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SYNCHRONISED: dict[str, Any] = {
    "configured": True,
    "conntrackd": {"answers": True, "problem": "", "pid": 123},
    "link": {"interface": "eth2", "present": True, "up": True},
    "role": "BACKUP",
    "synchronised": True,
    "reason": "",
    "since": "2026-01-02T03:04:05+00:00",
    "states": {"kernel": 12, "internal": 11, "external": 10},
    "demote": 0,
    "held_back": False,
    "apart": "",
    "last_takeover": None,
}
LACKING = SYNCHRONISED | {
    "conntrackd": {"answers": False, "problem": "does not answer within 1 s", "pid": None},
    "link": {"interface": "eth2", "present": True, "up": False},
    "role": "MASTER",
    "synchronised": False,
    "reason": "conntrackd does not answer within 1 s",
    "states": None,
    "demote": 32,
}
TAKEN = {
    "at": "2026-01-02T03:00:00+00:00",
    "took_ms": 12.345,
    "committed": True,
    "problem": "",
    "states": 645,
    "late_at": None,
}
CARP_TOML = """\
[sync]
interface = "eth2"
address = "10.9.9.1"
peer = "10.9.9.2"

[carp0]
carpdev = "eth0"
vhid = 1
addresses = ["192.0.2.100/24"]
"""
CONNTRACKD = shutil.which("conntrackd", path="/usr/sbin:/usr/bin:/sbin:/bin")


@pytest.fixture
def status(daemon: Any, carp: Any) -> Callable[..., Any]:
    """Run `carp sync status` against a daemon with this answer."""

    def _status(document: dict[str, Any], *options: str) -> Any:
        daemon.answers["GET /v1/sync"] = document
        return carp(" ".join(("sync status", *options)))

    return _status


def test_synchronised(status: Any) -> None:
    """Status 0, and a line for each thing to know."""
    done = status(SYNCHRONISED)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "synchronised since 2026-01-02T03:04:05+00:00",
        "this host is BACKUP",
        "conntrackd: answers (pid 123); link eth2: up",
        "states: 12 in the kernel, 11 of this host, 10 of the peer",
    ]


def test_lacking_states(status: Any) -> None:
    """Status 3; why is told, and what it costs."""
    done = status(LACKING)
    assert (done.status, done.err) == (3, "")
    assert done.out.splitlines() == [
        "not synchronised since 2026-01-02T03:04:05+00:00: conntrackd does not answer within 1 s",
        "this host is MASTER, demoted by 32",
        "conntrackd: does not answer within 1 s; link eth2: down",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "last takeover: 2026-01-02T03:00:00+00:00, 645 states committed within 12.3 ms"),
        ({"states": 0}, "last takeover: 2026-01-02T03:00:00+00:00, 0 states committed within 12.3 ms"),
        (
            {"committed": False, "took_ms": 2000, "problem": "no answer within 2 s", "states": None},
            "last takeover: 2026-01-02T03:00:00+00:00, states not committed within 2000.0 ms: no answer within 2 s",
        ),
        (
            {"at": "T1", "committed": False, "took_ms": 1, "problem": "not there", "late_at": "T2"},
            "last takeover: T1, states not committed within 1.0 ms: not there; 645 committed late, T2",
        ),
    ],
)
def test_the_last_takeover(status: Any, changed: dict[str, Any], said: str) -> None:
    """How long it took, and whether the states were there, is the last line."""
    assert status(SYNCHRONISED | {"last_takeover": TAKEN | changed}).out.splitlines()[-1] == said


def test_who_is_held_back(status: Any) -> None:
    """Is told that it waits, and for what."""
    done = status(LACKING | {"role": "BACKUP", "demote": 1, "held_back": True})
    assert done.out.splitlines()[1] == "this host is BACKUP, demoted by 1, and preempts nobody until it has the peer's states"


def test_a_link_that_does_not_exist(status: Any) -> None:
    """Is not down."""
    done = status(LACKING | {"link": {"interface": "em9", "present": False, "up": False}})
    assert done.out.splitlines()[-1].endswith("; link em9: there is none")


def test_carp_interfaces_that_are_apart(status: Any) -> None:
    """Status 3, though all states are here: packets do not pass."""
    sentence = "carp1 is MASTER here, carp2 is not: packets between them do not pass"
    done = status(SYNCHRONISED | {"apart": sentence})
    assert (done.status, done.err) == (3, "")
    assert done.out.splitlines()[:3] == ["synchronised since 2026-01-02T03:04:05+00:00", "this host is BACKUP", sentence]


def test_a_kernel_that_tracks_nothing(status: Any) -> None:
    """It has no number of states to be shown."""
    done = status(SYNCHRONISED | {"states": {"kernel": None, "internal": 0, "external": 10}})
    assert done.out.splitlines()[-1] == "states: 0 of this host, 10 of the peer"


def test_without_a_table(status: Any) -> None:
    """Status 4, as systemctl has it for what does not exist."""
    done = status({"configured": False})
    assert (done.status, done.out) == (4, "not configured: carp.toml has no table [sync]\n")


@pytest.mark.parametrize(("document", "ended"), [(SYNCHRONISED, 0), (LACKING, 3), ({"configured": False}, 4)])
def test_as_json(status: Any, document: dict[str, Any], ended: int) -> None:
    """Everything is printed; the exit status is the same."""
    done = status(document, "--json")
    assert json.loads(done.out) == document
    assert done.status == ended


def test_no_daemon(carp: Any) -> None:
    """Status 1: nothing is known."""
    done = carp("sync status")
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith("is carpd running?\n")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let this host have these addresses for itself, by the names of its links."""

    def _host(**links: Iterable[str]) -> None:
        names = list(links)
        table = SimpleNamespace(
            load=lambda _: None,
            all=lambda: [SimpleNamespace(name=name, index=index) for index, name in enumerate(names)],
            own_addresses=lambda index: frozenset(map(ip_address, links[names[index]])),
        )
        monkeypatch.setattr("carp.linux.links.LinkTable", lambda: table)
        monkeypatch.setattr("carp.linux.netlink.Netlink", lambda: SimpleNamespace(close=lambda: None))

    return _host


@pytest.fixture
def config(tmp_path: Path, carp: Any) -> Callable[..., Any]:
    """Run `carp sync config` for a file with this text."""

    def _config(text: str = CARP_TOML) -> Any:
        file = tmp_path / "carp.toml"
        file.write_text(text)
        return carp("sync", "config", "--file", str(file))

    return _config


def test_the_own_addresses_are_listed(host: Any, config: Any) -> None:
    """Those of the parents of carp interfaces, as this host has them; those of other links are not."""
    host(eth2=["10.9.9.1"], eth0=["192.0.2.1", "2001:db8::1"], eth1=["198.51.100.1"])
    done = config()
    assert (done.status, done.err) == (0, "")
    assert "IPv4_address 192.0.2.1 " in done.out
    assert "IPv6_address 2001:db8::1 " in done.out
    assert "198.51.100.1" not in done.out
    assert "Made elsewhere" not in done.out


@pytest.mark.parametrize("links", [{"eth2": ["10.9.9.2"], "eth0": ["192.0.2.2"]}, {"eth0": ["192.0.2.2", "10.9.9.1"]}])
def test_another_hosts_file(host: Any, config: Any, links: dict[str, list[str]]) -> None:
    """Where the address of the file is not on its link, this is not the host, and its addresses are not those meant."""
    host(**links)
    done = config()
    assert "192.0.2.2" not in done.out
    assert "Made elsewhere than on the host: add the own addresses of both firewalls on eth0." in done.out


def test_links_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    """The text is made without them."""

    def refuse() -> None:
        raise PermissionError

    monkeypatch.setattr("carp.linux.netlink.Netlink", refuse)
    done = config()
    assert done.status == 0
    assert "Made elsewhere" in done.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CARP_TOML.replace('peer = "10.9.9.2"\n', ""), "sync.peer: missing"),
        (CARP_TOML.replace('address = "10.9.9.1"\n', ""), "sync.address: missing"),
        (CARP_TOML.partition("\n\n")[2], "sync: missing: a table [sync]"),
        (CARP_TOML.replace("vhid = 1", "vhid = 0"), "carp0.vhid: 0 is not allowed"),
    ],
)
def test_what_the_file_lacks(config: Any, text: str, said: str) -> None:
    """The key is named, status 2, and nothing is printed that could be taken for a file."""
    done = config(text)
    assert (done.status, done.out) == (2, "")
    assert f"carp.toml: {said}" in done.err


def test_there_is_no_file(carp: Any, tmp_path: Path) -> None:
    """Status 2, and its name."""
    done = carp("sync", "config", "--file", str(tmp_path / "none.toml"))
    assert (done.status, done.out) == (2, "")
    assert "none.toml: cannot be read" in done.err


@pytest.mark.parametrize(("address", "peer"), [("10.9.9.1", "10.9.9.2"), ("fd00::1", "fd00::2")])
def test_conntrackd_reads_it(config: Any, tmp_path: Path, address: str, peer: str) -> None:
    """Its client reads the whole file before it finds that no daemon is there."""
    socket = tmp_path / "ct.ctl"
    text = CARP_TOML.replace("10.9.9.1", address).replace("10.9.9.2", peer)
    file = tmp_path / "conntrackd.conf"
    file.write_text(config(text.replace("[sync]\n", f'[sync]\nconntrackd = "{socket}"\n')).out)
    assert CONNTRACKD is not None
    asked = [CONNTRACKD, "-C", str(file), "-s"]
    assert "parsing config" not in (said := subprocess.run(asked, capture_output=True, text=True, timeout=10).stderr)
    assert "can't connect" in said
    file.write_text(file.read_text().replace("Port 3780", "Prot 3780"))
    assert "parsing config" in subprocess.run(asked, capture_output=True, text=True, timeout=10).stderr
