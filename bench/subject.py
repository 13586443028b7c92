"""What is compared: a program with a timing, and how two hosts of it are configured, started, hurt and read.

An adapter is a `Router`. The adapters differ in how they write a configuration; everything that is measured is read in one way
for all, from the kernel and from the wire.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from lab.lan import Port
from lab.netns import run
from lab.wait import now_ns, until

from . import processes

VHIDS = 255
PREFIX_LENGTH = 16
ADDRESSES_A_ROW = 250
END_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class VirtualHost:
    """A group number, its parent 0.., and the addresses, without prefix length."""

    parent: int
    vhid: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """How much is shared: `virtual_hosts` in all on `parents` interfaces, each with `addresses_each` IPv4 addresses."""

    virtual_hosts: int = 1
    addresses_each: int = 1
    parents: int = 1
    realtime: bool = False
    """Whether the programs run with real-time scheduling."""

    def groups(self) -> Iterator[VirtualHost]:
        """Yield every virtual host, parent by parent."""
        for number in range(self.virtual_hosts):
            parent, place = divmod(number, -(-self.virtual_hosts // self.parents))
            first = place * self.addresses_each
            addresses = (shared_address(parent, first + one) for one in range(self.addresses_each))
            yield VirtualHost(parent, place + 1, tuple(addresses))

    def addresses(self) -> list[str]:
        """Return all shared addresses."""
        return [address for group in self.groups() for address in group.addresses]


def shared_address(parent: int, number: int) -> str:
    """Return a shared address of a parent's subnet."""
    row, place = divmod(number, ADDRESSES_A_ROW)
    return str(IPv4Address(f"10.{112 + parent}.{row + 1}.{place + 1}"))


def own_address(parent: int, number: int) -> str:
    """Return a host's own address on a parent: number 1 for a, 2 for b, 9 for the client."""
    return f"10.{112 + parent}.255.{number}"


def interface(parent: int) -> str:
    """Return the name of a parent."""
    return f"eth{parent}"


@dataclass(frozen=True)
class Subject:
    """A program with a timing; `rank` 0 is the host that is preferred.

    Attributes:
        name: as tables show it.
        program: carpd, ucarp or keepalived.
        klass: the interval it is compared at: 1 s, 100 ms or 10 ms.
        router: the adapter.
        interval_ns: between the advertisements of host a.
        master_down_ns: how long host b waits in silence, by the protocol.
        most: how many virtual hosts it can have on one parent.
    """

    name: str
    program: str
    klass: str
    router: type[Router]
    interval_ns: int
    master_down_ns: int
    most: int = VHIDS
    version: int = 2
    """Of VRRP, or of CARP."""
    advskews: tuple[int, int] = (0, 1)
    virtual_mac: bool = True

    @property
    def key(self) -> str:
        """The name as part of a path."""
        return self.name.replace(" ", "-").replace(",", "")


class Router(ABC):
    """One host of a pair with the program on it; end it by `close`."""

    def __init__(self, subject: Subject, port: Port, directory: Path, rank: int, shape: Shape) -> None:
        """Write the configuration; nothing is started.

        Args:
            subject: what runs.
            port: the host's port on the first LAN.
            directory: for its files; made if it is missing.
            rank: 0 for the host that is preferred, 1 for the other.
            shape: what is shared.
        """
        self.subject, self.port, self.directory, self.rank, self.shape = subject, port, directory, rank, shape
        self.label, self.namespace = port.label, port.namespace
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.configure()

    @abstractmethod
    def configure(self) -> None:
        """Write the configuration."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the command line, in the foreground with its log on standard error."""

    @staticmethod
    @abstractmethod
    def version() -> str:
        """Return what the program says of its version."""

    def clean(self) -> None:  # noqa: B027 - most need nothing
        """Do by hand what is needed after kill -9, as an administrator would; nothing where the program does it itself."""

    def wait_until_ready(self) -> None:  # noqa: B027
        """Wait until the program hears advertisements, where it can tell."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> int:
        """Start it without waiting; return the instant right before."""
        at = now_ns()
        with self.log.open("ab") as log:
            self._process = self.namespace.popen(*self.command(), stdout=log, stderr=log)
        return at

    def pids(self) -> list[int]:
        """Return every process of it."""
        return processes.family(self._process.pid) if self._process is not None and self.running else []

    def kill(self) -> int:
        """End all its processes as a crash would; return the instant right before."""
        # Children first: one that sees its parent die may still say farewell.
        pids = self.pids()[::-1]
        at = now_ns()
        processes.signal_all(pids, signal.SIGKILL)
        self._wait_for_end()
        return at

    def stop(self) -> int:
        """Ask it to end and return the instant right before; `close` waits."""
        at = now_ns()
        processes.signal_all(self.pids()[:1], signal.SIGTERM)
        return at

    def close(self) -> None:
        """End it, cleanly where it can."""
        if self.running:
            self.stop()
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            processes.signal_all(self.pids(), signal.SIGKILL)
            self._process.wait(END_TIMEOUT_S)

    def held(self) -> set[str]:
        """Return the shared addresses that its kernel has now."""
        shown = self.namespace.run("ip", "-4", "-o", "addr", "show")
        return {line.split()[3].partition("/")[0] for line in shown.splitlines()} & set(self.shape.addresses())

    def wait_until_holding(self, count: int, timeout_s: float) -> int:
        """Wait until it has that many shared addresses; return the instant."""
        every_s = 0.02 if self.shape.virtual_hosts <= VHIDS else 0.5
        what = f"{self.subject.name} on {self.label} to have {count} addresses"
        try:
            at = until(lambda: not self.running or len(self.held()) == count, timeout_s, what, every_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it has {len(self.held())}; its log ends: {self.log_tail()}") from None
        if not self.running:
            raise RuntimeError(f"{self.subject.name} on {self.label} has ended; its log ends: {self.log_tail()}")
        return at

    def cpu_ns(self) -> int:
        """Return the CPU time of all its processes so far, in ns."""
        return processes.cpu_ns(self.pids())

    def pss_bytes(self) -> int:
        """Return its proportional set size: memory shared by several processes counts once."""
        return processes.pss_bytes(self.pids())

    def log_bytes(self) -> int:
        """Return how much it has logged over all its runs."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_tail(self) -> str:
        """Return the end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return " | ".join(text.splitlines()[-6:])


def first_line(*command: str) -> str:
    """Return the first line that a program prints, on whichever stream; "missing" where there is no such program."""
    if shutil.which(command[0]) is None:
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def delete_leftovers(router: Router) -> None:
    """Delete the shared addresses and the virtual-MAC interfaces that a killed program left."""
    namespace = router.namespace
    for row in namespace.query("-d link show"):
        if row.get("linkinfo", {}).get("info_kind") == "macvlan":
            namespace.ip(f"link del dev {row['ifname']}")
    shared = set(router.shape.addresses())
    lines = [
        f"addr del {entry['local']}/{entry['prefixlen']} dev {row['ifname']}"
        for row in namespace.query("-4 addr show")
        for entry in row.get("addr_info", [])
        if entry["local"] in shared
    ]
    if lines:
        run("ip", "-n", namespace.name, "-force", "-batch", "-", text="\n".join(lines) + "\n")
