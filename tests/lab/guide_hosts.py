"""The networks of the BSDs' guides, hosts on them whose carpd starts empty or from boot files, and what is typed there."""

import shlex
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest import mock

import pytest

from carp.cli import main as program
from lab.host import Host
from lab.lan import Lan, Port
from lab.stage import Stage


@dataclass(frozen=True)
class Network:
    """A network of a guide: the switch, what every host calls its interface there, and the first bytes of its addresses."""

    lan: Lan
    interface: str
    prefix: str

    def address(self, number: int) -> str:
        """Return an address by its last byte."""
        return f"{self.prefix}.{number}"


def make_networks(stage: Stage, **prefixes: str) -> list[Network]:
    """Make the networks of a guide, each by the name of the hosts' interface there."""
    lans = [stage.lan, *(stage.another_lan() for _ in range(len(prefixes) - 1))]
    return [Network(lan, name, prefix) for lan, (name, prefix) in zip(lans, prefixes.items(), strict=True)]


def put(label: str, number: int, networks: list[Network]) -> Port:
    """Put a router on networks; its own addresses all end with one number."""
    first, *others = networks
    port = first.lan.attach(label, [f"{first.address(number)}/24"], interface=first.interface)
    for network in others:
        network.lan.join(port, network.interface, [f"{network.address(number)}/24"])
    port.namespace.sysctl("ipv4/ip_forward", 1)
    return port


def start_empty(stage: Stage, networks: list[Network], **numbers: int) -> list[Host]:
    """Put hosts on networks, by label and last byte, and start a carpd on each that has no carp interface yet."""
    for label, number in numbers.items():
        put(label, number, networks)
    return start([stage.host(label) for label in numbers])


def start(hosts: list[Host]) -> list[Host]:
    """Start hosts at the same time; return them when they answer."""
    for host in hosts:
        host.start(wait=False)
    for host in hosts:
        host.wait_until_up()
    return hosts


def carp(host: Host, line: str) -> subprocess.CompletedProcess[str]:
    """Run `carp` with a line of a guide; in this process, since a hundred starts would take longer than all the rest."""
    words = ["carp", "--socket", str(host.socket), *shlex.split(line)]
    with (
        mock.patch("sys.argv", words),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as errors,
        pytest.raises(SystemExit) as end,
    ):
        program.main()
    return subprocess.CompletedProcess(words, end.value.code, out.getvalue(), errors.getvalue())


def type_in(host: Host, text: str) -> str:
    """Type the lines of a guide, each after the word carp; return all that they print."""
    printed = []
    for line in text.splitlines():
        done = carp(host, line)
        assert done.returncode == 0, f"{host.label}: {line}: {done.stderr}"
        printed.append(done.stdout)
    return "".join(printed)


@dataclass(frozen=True)
class Shared:
    """An address that a guide shares, by its carp interface, in one of its networks, with a client there."""

    carp: str
    vhid: int
    network: Network
    number: int
    client: Port

    @property
    def address(self) -> str:
        """The address without its prefix length."""
        return self.network.address(self.number)


def share(carp: str, vhid: int, network: Network, number: int) -> Shared:
    """Describe a shared address, and put a client on its network that has it as its default gateway."""
    client = network.lan.attach(f"client{vhid}", [f"{network.address(9)}/24"])
    client.namespace.ip(f"route add default via {network.address(number)}")
    return Shared(carp, vhid, network, number, client)


class BootedHost(Host):
    """A host whose carpd reads the boot files of its directory."""

    def boot_file(self, name: str, text: str) -> None:
        """Write one, as only root may read it."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)

    def arguments(self) -> tuple[str, ...]:
        """Return the command line with the boot files in place of carp.toml."""
        line = super().arguments()
        at = line.index("--config")
        sysctl = self.directory / "sysctl.conf"
        files = ["--hostname-if", str(self.directory), *(["--sysctl-conf", str(sysctl)] if sysctl.exists() else [])]
        return (*line[:at], *files, *line[at + 2 :])
