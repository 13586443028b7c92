"""The probing process seen from a test: start it, ask who answers now, stop it and take its record."""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from .lan import Port
from .measure import Trace, traces
from .probe import PATIENCE_NS, PROGRESS_EVERY_NS, Order, Progress, Record
from .wait import now_ns, until

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = PATIENCE_NS / 1e9 + 20.0
_REMEMBERED = 2000


class Prober:
    """A running probe; a context manager. `stop` gives the traces, leaving the block without it throws them away."""

    def __init__(
        self,
        hosts: Iterable[Port],
        client: Port,
        addresses: Iterable[str],
        watch: Callable[[Progress], None] | None = None,
    ) -> None:
        """Start probing.

        Args:
            hosts: those that may answer.
            client: the host that asks.
            addresses: the shared addresses, without prefix length.
            watch: called for each line of progress, in a thread of its own.
        """
        self.addresses = list(addresses)
        self.progress: deque[Progress] = deque(maxlen=_REMEMBERED)
        self._watch = watch
        self._record: Record | None = None
        order: Order = {
            "hosts": {host.label: str(host.namespace.path) for host in hosts},
            "client": str(client.namespace.path),
            "addresses": self.addresses,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self._reader = threading.Thread(target=self._read, name="prober", daemon=True)
        self._reader.start()
        try:
            assert self._process.stdin
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            until(lambda: self.progress, _START_TIMEOUT_S, "the first probes")
        except BaseException:
            self.abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abandon()

    def answering(self, address: str, over_s: float = 0.1) -> dict[str, int]:
        """Return how many answers each host has given for an address in the last `over_s`."""
        since = now_ns() - int(over_s * 1e9)
        counts: dict[str, int] = {}
        for line in list(self.progress):
            if line["at"] - PROGRESS_EVERY_NS >= since:
                for host, number in line["answers"].get(address, {}).items():
                    counts[host] = counts.get(host, 0) + number
        return counts

    def owner(self, address: str) -> str | None:
        """Return the host that alone answers for an address, judged by the last two lines of progress."""
        lines = list(self.progress)[-2:]
        hosts = {host for line in lines for host in line["answers"].get(address, {})}
        fresh = lines and now_ns() - lines[-1]["at"] < 10 * PROGRESS_EVERY_NS
        return hosts.pop() if fresh and len(hosts) == 1 else None

    def wait_for_owner(self, label: str | None, timeout_s: float, addresses: Iterable[str] | None = None) -> int:
        """Wait until one host, or None, alone answers for the addresses (all by default); return that instant."""
        wanted = list(self.addresses if addresses is None else addresses)
        who = f"{label} to answer for" if label else "nobody to answer for"
        if label is None:
            return until(lambda: not any(self.answering(address) for address in wanted), timeout_s, f"{who} {wanted}")
        return until(lambda: all(self.owner(address) == label for address in wanted), timeout_s, f"{who} {wanted}")

    def wait_for_time(self, duration_s: float) -> None:
        """Let probing go on for a while, so that what follows an event is on record too."""
        end = now_ns() + int(duration_s * 1e9)
        until(lambda: self.progress[-1]["at"] >= end, duration_s + _START_TIMEOUT_S, "probing to go on")

    def stop(self) -> Mapping[str, Trace]:
        """Stop probing and return what was recorded, by address; takes up to a second where answers are outstanding."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(_STOP_TIMEOUT_S)
        self._reader.join(_STOP_TIMEOUT_S)
        if self._record is None:
            raise RuntimeError(f"the probing process left no record (exit status {self._process.returncode})")
        return traces(self._record)

    def abandon(self) -> None:
        """End the process, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(_STOP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe and not pipe.closed:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if "record" in message:
                self._record = message["record"]
                return
            self.progress.append(message)
            if self._watch:
                self._watch(message)
