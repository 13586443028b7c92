"""A host that runs carpd: its configuration and keys on disk, its process, its status, its log."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .lan import Port
from .wait import now_ns, until

STOP_TIMEOUT_S = 40.0
START_TIMEOUT_S = 60.0
LOG_TAIL_LINES = 25

Status = dict[str, Any]


@dataclass(frozen=True)
class Carp:
    """The configuration of one carp interface; `extra` holds further keys of its table."""

    name: str = "carp0"
    vhid: int | None = 1
    advbase: int = 1
    advskew: int = 0
    addresses: tuple[str, ...] = ("192.0.2.100/24", "2001:db8::100/64")
    carpdev: str = "eth0"
    password: str | None = "opensesame"
    extra: Mapping[str, object] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Carp":
        """Return a copy with changes."""
        return replace(self, **changes)

    def table(self, key_directory: Path) -> dict[str, object]:
        """Return the keys of the TOML table; the pass phrase goes to a file that only its owner can read."""
        table: dict[str, object] = {"carpdev": self.carpdev, "advbase": self.advbase}
        if self.vhid is not None:
            table |= {"vhid": self.vhid, "advskew": self.advskew}
        table["addresses"] = list(self.addresses)
        if self.password is not None:
            key_file = key_directory / f"{self.name}.key"
            key_file.unlink(missing_ok=True)
            key_file.touch(mode=0o600)
            key_file.write_text(self.password + "\n")
            table["pass-file"] = str(key_file)
        return table | dict(self.extra)


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Write tables of strings, numbers, truth values and lists of them; their JSON is their TOML."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def program(name: str) -> Path:
    """Return the path of carpd or carp: that of the environment the laboratory runs in, unless CARP_BIN names a directory."""
    directory = os.environ.get("CARP_BIN")
    return (Path(directory) if directory else Path(sys.executable).parent) / name


class Host:
    """A host on a LAN with its carpd, which can be started, hurt and asked; end it by `close`."""

    def __init__(self, port: Port, directory: Path, carps: Iterable[Carp] = (Carp(),), **global_keys: object) -> None:
        """Write the configuration; nothing is started.

        Args:
            port: where the host is.
            directory: for configuration, state, socket and log; a socket's path must stay below 108 bytes.
            carps: the carp interfaces.
            global_keys: the keys of the table `global`.
        """
        self.port = port
        self.label = port.label
        self.namespace = port.namespace
        self.directory = directory
        self.config = directory / "carp.toml"
        self.socket = directory / "carpd.sock"
        self.state = directory / "state"
        self.log = directory / "carpd.log"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(exist_ok=True)
        self.configure(carps, **global_keys)

    def __repr__(self) -> str:
        return f"Host({self.label})"

    def configure(self, carps: Iterable[Carp], **global_keys: object) -> None:
        """Write carp.toml anew; a running daemon learns of it by `reload`."""
        self.carps = tuple(carps)
        self.global_keys = global_keys
        tables: dict[str, Mapping[str, object]] = {"global": global_keys}
        tables |= {carp.name: carp.table(self.directory) for carp in self.carps}
        self.config.write_text(toml(tables))

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        if self._process is None:
            raise RuntimeError(f"carpd on {self.label} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the daemon has been started and not ended."""
        return self._process is not None and self._process.poll() is None

    def arguments(self) -> tuple[str, ...]:
        """Return the daemon's command line."""
        line = (program("carpd"), "--config", self.config, "--socket", self.socket, "--state-dir", self.state)
        return tuple(map(str, line))

    def start(self, *, wait: bool = True) -> int:
        """Start carpd and, unless told otherwise, wait until it answers; return the instant of the start."""
        if self.running:
            raise RuntimeError(f"carpd on {self.label} runs already")
        at = now_ns()
        with self.log.open("ab") as log:
            self._process = self.namespace.popen(*self.arguments(), stdout=log, stderr=log)
        if wait:
            self.wait_until_up()
        return at

    def wait_until_up(self) -> None:
        """Wait until the daemon answers and shows what it was given; its log is in the error when it does not."""

        def up() -> bool:
            status = self.try_status()
            return status is not None and len(status["interfaces"]) >= len(self.carps)

        until(lambda: not self.running or up(), START_TIMEOUT_S, f"carpd on {self.label} to answer")
        if not self.running:
            assert self._process
            raise RuntimeError(f"carpd on {self.label} ended with {self._process.returncode}:\n{self.log_tail()}")

    def signal(self, number: signal.Signals) -> int:
        """Send a signal to the daemon; return the instant right before."""
        at = now_ns()
        os.kill(self.pid, number)
        return at

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop the daemon cleanly and wait for its end; return the instant of the signal."""
        at = self.signal(signal.SIGTERM)
        self.wait_for_end(timeout_s)
        return at

    def wait_for_end(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end of the daemon; return its exit status."""
        assert self._process
        return self._process.wait(timeout_s)

    def kill(self) -> int:
        """Kill the daemon as a crash would; return the instant right before."""
        at = self.signal(signal.SIGKILL)
        self.wait_for_end()
        return at

    def reload(self) -> int:
        """Tell the daemon to read its configuration again; return the instant right before."""
        return self.signal(signal.SIGHUP)

    def close(self) -> None:
        """End the daemon, cleanly if it still can."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def status(self) -> Status:
        """Return what `carp status --json` prints, asked over the daemon's socket directly."""
        return self.get("/v1/status")

    def get(self, path: str) -> Status:
        """Return a document of the daemon's API."""
        connection = _UnixConnection(str(self.socket))
        try:
            connection.request("GET", path, headers={"Host": "carp", "Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path} of {self.label}: {response.status} {body.decode(errors='replace')}")
        document: Status = json.loads(body)
        return document

    def try_status(self) -> Status | None:
        """Return the status, or None while the daemon does not answer."""
        try:
            return self.status()
        except (OSError, http.client.HTTPException):
            return None

    def interface(self, name: str = "carp0") -> Status:
        """Return the status of one carp interface."""
        for interface in self.status()["interfaces"]:
            if interface["name"] == name:
                return dict(interface)
        raise LookupError(f"{self.label} has no {name}")

    def state_of(self, name: str = "carp0", vhid: int | None = None) -> str | None:
        """Return MASTER, BACKUP or INIT of a virtual host, the first by default; None while the daemon does not answer."""
        status = self.try_status()
        for interface in status["interfaces"] if status else ():
            for node in interface["nodes"]:
                if interface["name"] == name and vhid in (None, node["vhid"]):
                    return str(node["state"])
        return None

    def wait_for(self, predicate: Callable[[Status], object], timeout_s: float, what: str) -> int:
        """Poll the status until a predicate of it holds and return that instant; the log is in the error."""

        def holds() -> bool:
            status = self.try_status()
            return status is not None and bool(predicate(status))

        try:
            return until(holds, timeout_s, f"{self.label}: {what}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\nstatus: {json.dumps(self.try_status())}\nlog:\n{self.log_tail()}") from None

    def wait_for_state(self, state: str, timeout_s: float, name: str = "carp0") -> int:
        """Wait until every virtual host of an interface is in a state, a MASTER with its addresses; return that instant."""

        def all_there(status: Status) -> bool:
            return any(interface["name"] == name and _is_settled(interface, state) for interface in status["interfaces"])

        return self.wait_for(all_there, timeout_s, f"{name} to be {state}")

    def is_settled(self, state: str) -> bool:
        """Tell whether every virtual host of every interface is in a state, a MASTER with its addresses."""
        status = self.try_status()
        return status is not None and all(_is_settled(interface, state) for interface in status["interfaces"])

    def wait_until_listening(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Wait until no virtual host is in INIT; return that instant."""

        def listening(status: Status) -> bool:
            states = [node["state"] for interface in status["interfaces"] for node in interface["nodes"]]
            return bool(states) and "INIT" not in states

        return self.wait_for(listening, timeout_s, "to listen")

    def log_text(self) -> str:
        """Return all that the daemon has logged, over all its runs."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log_text().splitlines()[-LOG_TAIL_LINES:])

    def carp(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `carp --socket ...` with arguments, to its end."""
        line = [str(program("carp")), "--socket", str(self.socket), *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=STOP_TIMEOUT_S, check=False)


def _is_settled(interface: Status, state: str) -> bool:
    # A MASTER that preempts leaves the old one a moment before it takes the addresses.
    serves = state != "MASTER" or set(interface["live"]) == set(interface["addresses"])
    return serves and bool(interface["nodes"]) and all(node["state"] == state for node in interface["nodes"])


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("carp", timeout=5)
        self._path = path

    def connect(self) -> None:
        """Connect to the unix socket in place of a host and port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


class Program:
    """Any other daemon in a host's namespace, such as ucarp, with its output in a file."""

    def __init__(self, port: Port, log: Path, *command: str) -> None:
        self.port = port
        self.log = log
        with log.open("ab") as output:
            self._process = port.namespace.popen(*command, stdout=output, stderr=output)

    def signal(self, number: signal.Signals) -> int:
        """Send a signal; return the instant right before."""
        at = now_ns()
        self._process.send_signal(number)
        return at

    def close(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the program, by force if it does not listen."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
