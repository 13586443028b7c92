"""Traffic through firewalls seen from a test: start it, watch it, take its record and look at parts of it.

Long TCP transfers, half of them in each direction, calls (new connections that live for a second), and a UDP flow of 100 Hz.
"""

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from .lan import Port
from .transfer_probe import CALL_PATIENCE_NS, FINISH_NS
from .transfer_record import Account, Order, Progress, Record
from .wait import now_ns, until

DEFAULT_TRANSFERS = 100
DEFAULT_CALLS = 50
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = FINISH_NS / 1e9 + 20.0
_REMEMBERED = 2000


class Transfers:
    """The process that sends; a context manager. `stop` gives the account, leaving the block without it throws it away."""

    def __init__(
        self,
        client: Port,
        server: Port,
        address: str,
        transfers: int = DEFAULT_TRANSFERS,
        calls: int = DEFAULT_CALLS,
        watch: Callable[[Progress], None] | None = None,
    ) -> None:
        """Open all transfers; return when data flows in each.

        Args:
            client: who opens them, on one side of the firewalls.
            server: who takes them, on the other.
            address: the server's.
            transfers: how many long ones.
            calls: how many new connections a second.
            watch: called for each line of progress, in a thread of its own.
        """
        self.progress: deque[Progress] = deque(maxlen=_REMEMBERED)
        self._watch = watch
        self._record: Record | None = None
        self._refused = ""
        order: Order = {
            "client": str(client.namespace.path),
            "server": str(server.namespace.path),
            "address": address,
            "transfers": transfers,
            "calls": calls,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.transfer_probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        self._reader = threading.Thread(target=self._read, name="transfers", daemon=True)
        self._reader.start()
        try:
            assert self._process.stdin
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            until(lambda: self.progress or self._process.poll() is not None, _START_TIMEOUT_S, "the first transfers")
        except BaseException:
            self.abandon()
            raise
        if not self.progress:
            self.abandon()
            raise RuntimeError(f"no transfers: {self._refused or 'the process ended'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abandon()

    @property
    def lost(self) -> int:
        """How many transfers have broken so far."""
        return self.progress[-1]["lost"]

    def flows_since(self, instant: int) -> bool:
        """Tell whether after an instant data has arrived in each transfer that is not broken, and in the UDP flow."""
        newest = self.progress[-1]
        return newest["at"] - max(newest["silent"], newest["udp_silent"]) >= instant

    def wait_until_flowing(self, timeout_s: float, since: int) -> int:
        """Wait for that; return the instant."""
        return until(lambda: self.flows_since(since), timeout_s, "data to arrive in each transfer")

    def wait_for_time(self, duration_s: float) -> None:
        """Let it go on for a while, so that what follows an event is on record too."""
        end = now_ns() + int(duration_s * 1e9)
        until(lambda: self.progress[-1]["at"] >= end, duration_s + _START_TIMEOUT_S, "traffic to go on")

    def wait_for_calls(self, since: int) -> None:
        """Wait until each call opened before an instant has ended, or has waited too long."""
        passed_s = (now_ns() - since) / 1e9
        self.wait_for_time(max(0.0, 1.5 + CALL_PATIENCE_NS / 1e9 - passed_s))

    def stop(self) -> Account:
        """Stop sending, let what is on its way arrive, and return the account."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(_STOP_TIMEOUT_S)
        self._reader.join(_STOP_TIMEOUT_S)
        if self._record is None:
            raise RuntimeError(f"the process that sends left no record (exit status {self._process.returncode})")
        return Account(self._record)

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
            elif "refused" in message:
                self._refused = message["refused"]
            else:
                self.progress.append(message)
                if self._watch:
                    self._watch(message)
