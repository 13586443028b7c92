"""conntrackd, the daemon that carries the state of connections between firewalls, and the kernel's table of a namespace."""

import os
import re
import signal
import socket
import struct
import subprocess
from pathlib import Path

from .netns import Namespace
from .wait import now_ns, until

TIMEOUT_S = 20.0
_STATISTICS = struct.Struct("=i").pack(21)
_NETLINK_NETFILTER = 12
_FLUSH = struct.Struct("=IHHIIBBH").pack(20, 0x102, 0x1 | 0x4, 1, 0, 0, 0, 0)
"""A netlink message: delete of conntrack without naming one, with acknowledgement."""


def flush_states(namespace: Namespace) -> None:
    """Empty the kernel's table of connections, as a boot does."""
    with namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.send(_FLUSH)
        error = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
        if error:
            raise OSError(-error, f"emptying the table of connections: {os.strerror(-error)}")


def count_states(namespace: Namespace) -> int:
    """Return how many connections the kernel's table holds."""
    return int(namespace.sysctl("netfilter/nf_conntrack_count"))


class Conntrackd:
    """A conntrackd in a namespace, which can be started, hurt and asked; end it by `close`."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        """Name its files; nothing is started.

        Args:
            namespace: of the firewall.
            directory: for configuration, socket, lock and log.
        """
        self.namespace = namespace
        self.config = directory / "conntrackd.conf"
        self.socket = directory / "conntrackd.ctl"
        self.lock = directory / "conntrackd.lock"
        self.log = directory / "conntrackd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, text: str) -> None:
        """Write its configuration; the lock, of which a machine has one, moves to this one's directory."""
        line = re.compile(r"^(\s*LockFile\s).*$", re.MULTILINE)
        self.config.write_text(line.sub(rf"\g<1>{self.lock}", text))

    @property
    def running(self) -> bool:
        """Whether it has been started and not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it and, unless told otherwise, wait until it answers."""
        if self.running:
            raise RuntimeError(f"conntrackd on {self.namespace.label} runs already")
        # After a kill it would refuse to start.
        self.lock.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = self.namespace.popen("conntrackd", "-C", str(self.config), stdout=log, stderr=log)
        if wait:
            until(lambda: not self.running or self.answers(), TIMEOUT_S, f"conntrackd on {self.namespace.label} to answer")
            if not self.running:
                raise RuntimeError(f"conntrackd on {self.namespace.label} ended:\n{self.log.read_text(errors='replace')}")

    def signal(self, number: signal.Signals) -> int:
        """Send it a signal; return the instant right before."""
        assert self._process
        at = now_ns()
        self._process.send_signal(number)
        return at

    def kill(self) -> int:
        """Kill it as a crash would; return the instant right before."""
        at = self.signal(signal.SIGKILL)
        assert self._process
        self._process.wait()
        return at

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self.running:
            self.kill()

    def statistics(self) -> str:
        """Return what it says of itself; OSError where it does not answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            connection.connect(str(self.socket))
            connection.sendall(_STATISTICS)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")

    def answers(self) -> bool:
        """Tell whether it answers."""
        try:
            return bool(self.statistics())
        except OSError:
            return False

    def external(self) -> int:
        """Return how many states of the peer it holds."""
        found = re.search(r"active connections:\s+(\d+)", self.statistics().partition("cache external:")[2])
        return int(found[1]) if found else 0
