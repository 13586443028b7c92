"""The boot files of the BSD manuals: turned into a carp.toml, and read by carpd at its start."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bsd_hosts import BsdHosts, document

from lab.host import Host, program
from lab.lan import Port
from lab.pairs import SLACK_S
from lab.ping import ping
from lab.stage import Stage
from lab.tables import addresses, links

pytestmark = pytest.mark.usefixtures("carpd")

MASTER_DOWN_S = 3.0

HOSTNAME_CARP0 = """\
inet 172.16.0.202 255.255.255.0 172.16.0.255 vhid 1 pass password1 advbase 1 advskew 0
inet6 2001:db8::100 64
"""
HOSTNAME_BALANCED = "inet 172.16.240.102 255.255.255.0 172.16.240.255 balancing ip carpnodes 3:0,4:100 pass password3\n"
SYSCTL_CONF = "net.inet.carp.preempt=1\n"
RC_CONF = """\
cloned_interfaces="carp0 carp1"
ifconfig_carp0="vhid 1 pass mekmitasdigoat 192.0.2.10/24"
ifconfig_carp0_alias0="192.0.2.11/32"
"""
OPENBSD = {"hostname.carp0": HOSTNAME_CARP0, "sysctl.conf": SYSCTL_CONF}
OPENBSD_AS_TOML = """\
[global]
preempt = true

[carp0]
carpdev = "em0"
vhid = 1
advbase = 1
advskew = 0
pass = "password1"
addresses = ["172.16.0.202/24", "2001:db8::100/64"]
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files that only root may read, as they hold pass phrases."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    return folder


def run(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run carp or carpd to its end."""
    return subprocess.run([str(program(name)), *map(str, words)], capture_output=True, text=True, timeout=30)


class Booted(Host):
    """A host whose carpd reads boot files; `options` say which."""

    def __init__(self, port: Port, directory: Path, *options: object) -> None:
        super().__init__(port, directory, ())
        self._options = map(str, options)

    def arguments(self) -> tuple[str, ...]:
        """Return the daemon's command line, without carp.toml."""
        line = super().arguments()
        at = line.index("--config")
        return (*line[:at], *line[at + 2 :], *self._options)


@contextmanager
def booted(stage: Stage, *options: object) -> Iterator[Host]:
    """Start carpd with boot files on host a."""
    host = Booted(BsdHosts(stage).port("a"), stage.directory / "a", *options)
    try:
        host.start()
        yield host
    finally:
        print(host.log_text())
        host.close()


class TestImport:
    def imported(self, tmp_path: Path, files: dict[str, str], interfaces: int) -> str:
        """Turn files into a carp.toml that carpd accepts; return it."""
        folder = write(tmp_path / "boot", files)
        done = run("carp", "config", "import", *(folder / name for name in files), "--carpdev", "em0")
        assert done.returncode == 0, done.stderr
        assert done.stderr == "warning: the text holds pass phrases: keep it in a file of mode 0600\n"
        made = write(tmp_path, {"carp.toml": done.stdout}) / "carp.toml"
        checked = run("carpd", "-n", "--config", made)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert checked.stdout == f"carpd: configuration ok, {interfaces} interface(s)\n"
        return done.stdout

    def test_hostname_carp0(self, tmp_path: Path) -> None:
        """OpenBSD's files become one carp.toml, with the values of its sysctl.conf."""
        assert self.imported(tmp_path, OPENBSD, 1) == OPENBSD_AS_TOML

    def test_rc_conf(self, tmp_path: Path) -> None:
        """The rc.conf of the others becomes a carp.toml too."""
        files = {"rc.conf": RC_CONF.replace("carp0 carp1", "carp0"), "sysctl.conf": SYSCTL_CONF}
        text = self.imported(tmp_path, files, 1)
        for line in (
            "preempt = true",
            "vhid = 1",
            'pass = "mekmitasdigoat"',
            'carpdev = "em0"',
            'addresses = ["192.0.2.10/24", "192.0.2.11/32"]',
        ):
            assert line in text.splitlines()

    def test_a_balanced_one(self, tmp_path: Path) -> None:
        """Its mode and its virtual hosts become keys of carp.toml."""
        folder = write(tmp_path / "boot", {"hostname.carp0": HOSTNAME_BALANCED})
        text = run("carp", "config", "import", folder / "hostname.carp0", "--carpdev", "em0").stdout
        assert {'balancing = "ip"', 'carpnodes = ["3:0", "4:100"]'} <= set(text.splitlines())


class TestStart:
    def test_openbsd(self, stage: Stage, tmp_path: Path) -> None:
        """hostname.carp0 and sysctl.conf make a MASTER on the parent with the subnet; a reload reads them again."""
        folder = write(tmp_path, OPENBSD)
        with booted(stage, "--hostname-if", folder, "--sysctl-conf", folder / "sysctl.conf") as host:
            host.wait_for_state("MASTER", MASTER_DOWN_S + SLACK_S)
            assert links(host.namespace)["carp0"]["link"] == "em0"
            assert addresses(host.namespace, "carp0") == {"172.16.0.202/24", "2001:db8::100/64"}
            client = stage.lan.ports["client"].namespace
            assert [ping(client, target, count=5) for target in ("172.16.0.202", "2001:db8::100")] == [5, 5]
            assert host.status()["preempt"]
            before = host.interface()["nodes"][0]["transitions"]
            write(folder, {"hostname.carp0": HOSTNAME_CARP0.replace("advskew 0", "advskew 20")})
            done = host.carp("reload")
            assert (done.returncode, done.stdout) == (0, "carp0: advskew 0 -> 20\n")
            assert host.interface()["nodes"][0]["transitions"] == before

    def test_rc_conf(self, stage: Stage, tmp_path: Path) -> None:
        """rc.conf creates both interfaces; the one without a word is there by name."""
        folder = write(tmp_path, {"rc.conf": RC_CONF, "sysctl.conf": SYSCTL_CONF})
        with booted(stage, "--rc-conf", folder / "rc.conf", "--sysctl-conf", folder / "sysctl.conf") as host:
            host.wait_for_state("MASTER", MASTER_DOWN_S + SLACK_S)
            assert links(host.namespace)["carp0"]["link"] == "em1"
            assert addresses(host.namespace, "carp0") == {"192.0.2.10/24", "192.0.2.11/32"}
            client = stage.lan.ports["client"].namespace
            assert [ping(client, target, count=5) for target in ("192.0.2.10", "192.0.2.11")] == [5, 5]
            assert host.status()["preempt"]
            assert document(host)["carp1"] == {}
            assert "UP" not in links(host.namespace)["carp1"]["flags"]

    def test_a_wrong_line(self, stage: Stage, tmp_path: Path) -> None:
        """The file, the line and the word are named, nothing is made, and carpd ends with 2."""
        folder = write(tmp_path, {"hostname.carp0": HOSTNAME_CARP0 + "advskew 255\n"})
        port = BsdHosts(stage).port("a")
        line = (program("carpd"), "--hostname-if", folder, "--socket", tmp_path / "s", "--state-dir", tmp_path / "state")
        done = subprocess.run(port.namespace.wrap(*map(str, line)), capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"carpd: {folder}/hostname.carp0: line 3: advskew: 255: an integer 0..254\n"
        assert "carp0" not in links(port.namespace)
