"""Hosts a and b and a client on two LANs, with interfaces named as in the BSD manuals: em0 on the first, em1 on the second.

The hosts have addresses in every network that the manuals' command lines name.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any
from unittest.mock import patch

from carp.cli import main as carp_program
from carp.cli.client import get
from lab.host import Host
from lab.lan import Port
from lab.stage import Stage

NUMBERS = {"a": 1, "b": 2, "client": 9}


def first_lan(number: int) -> list[str]:
    """Return the addresses of em0; the number of the host is their last part."""
    return [
        *(f"{network}.{number}/24" for network in ("172.16.0", "192.168.1", "10.0.0", "198.51.100")),
        f"2001:db8::{number}/64",
    ]


def second_lan(number: int) -> list[str]:
    """Return the addresses of em1."""
    return [f"{network}.{number}/24" for network in ("192.0.2", "172.16.240", "172.16.250")]


class BsdHosts:
    """The two LANs; carpd is started on a host with no carp interface when the host is first named."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._second = stage.another_lan()
        self._ports = {label: self._attach(label, number) for label, number in NUMBERS.items()}

    def _attach(self, label: str, number: int) -> Port:
        port = self._stage.lan.attach(label, first_lan(number), interface="em0")
        self._second.join(port, "em1", second_lan(number))
        return port

    def port(self, label: str) -> Port:
        """Return a host by its place on the first LAN, with or without carpd."""
        return self._ports[label]

    @property
    def client(self) -> Port:
        """Who uses the shared addresses."""
        return self.port("client")

    def __getitem__(self, label: str) -> Host:
        """Return a host on which carpd runs."""
        if label not in self._stage.hosts:
            self._stage.host(label).start()
        return self._stage.hosts[label]


def typed(host: Host, line: str) -> subprocess.CompletedProcess[str]:
    """Run `carp LINE` on a host, in words as a shell would make of the line."""
    return host.carp(*shlex.split(line))


def typed_here(host: Host, line: str) -> subprocess.CompletedProcess[str]:
    """Do the same in this process: to start one for each line takes a third of a second, and some tests have many."""
    words = ["carp", "--socket", str(host.socket), *shlex.split(line)]
    out, err, status = StringIO(), StringIO(), 0
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            carp_program.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def set_up(host: Host, lines: Iterable[str]) -> None:
    """Type lines that have to succeed."""
    for line in lines:
        done = typed_here(host, line)
        assert done.returncode == 0, f"carp {line}: {done.stderr}"


def document(host: Host) -> dict[str, Any]:
    """Return the running configuration, as `carp config show` gets it."""
    answer: dict[str, Any] = get(host.socket, "/v1/config")["document"]
    return answer
