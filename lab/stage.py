"""The usual arrangement for one test or scene: a LAN, a client, hosts with carpd, probing; all ended and removed together."""

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from .host import Carp, Host, Program, program
from .lan import Lan, Port
from .prober import Prober

SHARED = ("192.0.2.100/24", "2001:db8::100/64")
_OWN_NUMBERS = {"client": 9}


def bare(addresses: Iterable[str]) -> list[str]:
    """Return addresses without their prefix lengths."""
    return [address.partition("/")[0] for address in addresses]


def own_addresses(label: str) -> list[str]:
    """Return a host's own addresses beside the usual shared ones: a has 192.0.2.1, b .2, ..., the client .9."""
    number = _OWN_NUMBERS.get(label) or ord(label[0]) - ord("a") + 1
    return [f"192.0.2.{number}/24", f"2001:db8::{number}/64"]


class Stage:
    """A LAN that is filled step by step; a context manager that leaves nothing behind."""

    def __init__(self, *, snooping: bool = True, querier: bool = False, flooding: bool = False) -> None:
        self._stack = ExitStack()
        # Below pytest's own directory a socket's path would become too long.
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="carp-lab-")))
        self.lan = self._stack.enter_context(Lan(snooping=snooping, querier=querier, flooding=flooding))
        self.hosts: dict[str, Host] = {}
        self.programs: dict[str, Program] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every program and remove the LAN."""
        self._stack.close()

    def port(self, label: str, addresses: Iterable[str] | None = None, *, link_local: bool = True) -> Port:
        """Return the host of that label, put on the LAN at its first mention; `addresses` None means the usual ones."""
        if label not in self.lan.ports:
            own = own_addresses(label) if addresses is None else addresses
            self.lan.attach(label, own, link_local=link_local)
        return self.lan.ports[label]

    def another_lan(self) -> Lan:
        """Return a further switch, with nobody on it; `Lan.join` puts hosts of this stage on it."""
        return self._stack.enter_context(Lan())

    @property
    def client(self) -> Port:
        """The host that uses the shared addresses."""
        return self.port("client")

    def host(self, label: str, *carps: Carp, **global_keys: object) -> Host:
        """Give the host of that label a configuration for carpd; nothing is started."""
        host = Host(self.port(label), self.directory / label, carps, **global_keys)
        self.adopt(host)
        return host

    def adopt(self, host: Host) -> None:
        """Take a host that was made elsewhere; it is ended with all others."""
        self.hosts[host.label] = host
        self._stack.callback(host.close)

    def program(self, label: str, *command: str) -> Program:
        """Start another program on the host of that label; its output is in `<label>.log` of the stage's directory."""
        started = Program(self.port(label), self.directory / f"{label}.log", *command)
        self.programs[label] = started
        self._stack.callback(started.close)
        return started

    def prober(self, addresses: Iterable[str] = SHARED, hosts: Iterable[str] | None = None) -> Prober:
        """Start to probe shared addresses from the client; a context manager.

        Args:
            addresses: with or without prefix lengths.
            hosts: labels of those that may answer; every host with a configuration by default.
        """
        labels = list(hosts if hosts is not None else self.hosts)
        return Prober([self.port(label) for label in labels], self.client, bare(addresses))

    def logs(self) -> str:
        """Return what every daemon has said."""
        texts = [f"--- carpd on {label}\n{host.log_text()}" for label, host in self.hosts.items()]
        texts += [f"--- program on {label}\n{one.log.read_text(errors='replace')}" for label, one in self.programs.items()]
        return "\n".join(texts)


def require_carpd() -> Path:
    """Return the path of carpd; FileNotFoundError says how to get it."""
    path = program("carpd")
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: install the project into the environment of this Python")
    return path
