"""Thousands of flows to shared addresses, seen from a test: who answers each, now or over a time.

The stations that send them are frames only ([stations](stations.py)); the hosts answer to the client's own address, which they
get as gateway to the stations' networks.
"""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_interface
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .flow_probe import PATIENCE_NS, PROGRESS_EVERY_NS, FlowOrder, Tally
from .flow_record import FlowRecord, records
from .lan import Port
from .stations import Station, networks, stations
from .tables import addresses as addresses_of
from .wait import now_ns, until

DEFAULT_FLOWS = 1_000
_TIMEOUT_S = 120.0
_REMEMBERED = 400
_WHOLE = 0.98
"""Which part of the questions of a line of progress has its answer in the same line when none is lost."""

Told = Mapping[int, list[tuple[str, str]]]
"""By flow: the MAC that each answer to a station told, and the Ethernet source it came from."""


def silence_stations(client: Port, lan: int = 0) -> None:
    """Keep the client's kernel from complaining to the hosts about stations that it does not know."""
    client.namespace.ip(*(f"route replace blackhole {network}" for network in networks(lan)))


def route_stations(client: Port, hosts: Iterable[Port], lan: int = 0) -> None:
    """Give hosts the client's addresses on its LAN as gateway to the stations; again after their links were down."""
    for own in map(ip_interface, sorted(addresses_of(client.namespace, client.interface))):
        network = networks(lan)[own.version == 6]
        for host in hosts:
            host.namespace.ip(f"route replace {network} via {own.ip} dev {host.interface}")


class Flows:
    """A process that sends flows; a context manager. `round` asks each flow once; `run` and `halt` enclose a time."""

    def __init__(
        self,
        hosts: Iterable[Port],
        client: Port,
        addresses: Iterable[str],
        count: int = DEFAULT_FLOWS,
        lan: int = 0,
        watch: Callable[[Tally], None] | None = None,
    ) -> None:
        """Open the sockets; nothing is sent before `resolve`.

        Args:
            hosts: those that may answer, on the client's LAN.
            client: the host behind whose interface the stations are.
            addresses: the shared addresses, without prefix length.
            count: flows to each address, 1..10,000.
            lan: 0..3, another for each LAN that the hosts are on.
            watch: called for each line of progress while flows run, in a thread of its own.
        """
        self.addresses = list(addresses)
        self.stations: list[Station] = stations(count, lan)
        self.tallies: deque[Tally] = deque(maxlen=_REMEMBERED)
        ports = list(hosts)
        self.labels = [port.label for port in ports]
        self._watch = watch
        self._answers: deque[Any] = deque()
        silence_stations(client, lan)
        route_stations(client, ports, lan)
        order: FlowOrder = {
            "hosts": {port.label: str(port.namespace.path) for port in ports},
            "client": str(client.namespace.path),
            "interface": client.interface,
            "addresses": self.addresses,
            "flows": count,
            "lan": lan,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.flow_probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self._reader = threading.Thread(target=self._read, name="flows", daemon=True)
        self._reader.start()
        try:
            self._say(json.dumps(order))
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def resolve(self) -> Mapping[str, Told]:
        """Let each station ask for the MAC of each address; return what it was told, by address.

        Who is told nothing sends nothing until the next `resolve`; of several answers the first is used.
        """
        self._say("resolve")
        told = self._answer()["told"]
        return {
            address: {int(flow): [(mac, source) for mac, source in seen] for flow, seen in one.items()}
            for address, one in told.items()
        }

    def round(self) -> Mapping[str, FlowRecord]:
        """Ask one question of each flow, as fast as they are answered; return the records by address."""
        self._say("round")
        return records(self._answer(), self.labels, len(self.stations))

    def run(self, period_s: float = 0.25) -> int:
        """Begin to ask a question of each flow each `period_s`, flow after flow; return the instant of the first answers."""
        self.tallies.clear()
        self._say(f"run {round(period_s * 1000)}")
        return until(lambda: self.tallies, _TIMEOUT_S, "the first answers")

    def halt(self) -> Mapping[str, FlowRecord]:
        """End the run; return its records by address. The last questions are waited for, so it takes a second."""
        self._say("halt")
        return records(self._answer(), self.labels, len(self.stations))

    def shares(self) -> Mapping[str, Mapping[str, float]]:
        """Return which part of the flows each host answers now, 0..1, by address and host."""
        newest = self.tallies[-1]
        asked = max(newest["asked"], 1)
        return {
            address: {label: newest["answered"][address].get(label, 0) / asked for label in self.labels}
            for address in self.addresses
        }

    def whole(self, since: int) -> bool:
        """Tell whether after an instant all flows are answered again."""
        newest = self.tallies[-1]
        if newest["at"] - PROGRESS_EVERY_NS < since:
            return False
        return all(sum(one.values()) >= _WHOLE for one in self.shares().values())

    def wait_for_time(self, duration_s: float) -> None:
        """Let the run go on for a while."""
        end = now_ns() + int(duration_s * 1e9)
        until(lambda: self.tallies[-1]["at"] >= end, duration_s + _TIMEOUT_S, "flows to go on")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe and not pipe.closed:
                pipe.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        until(lambda: self._answers or self._process.poll() is not None, _TIMEOUT_S + PATIENCE_NS / 1e9, "the flows' answers")
        if not self._answers:
            raise RuntimeError(f"the process that sends flows ended with {self._process.returncode}")
        return self._answers.popleft()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if "answered" in message:
                self.tallies.append(message)
                if self._watch:
                    self._watch(message)
            else:
                self._answers.append(message)
