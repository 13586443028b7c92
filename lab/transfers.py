"""Traffic through firewalls seen from a test: start it, watch it, take its record and look at parts of it.

Long TCP transfers, half of them in each direction, calls (new connections that live for a second), and a UDP flow of 100 Hz.
"""

from collections.abc import Callable

from .lan import Port
from .recorder import Recorder
from .transfer_probe import CALL_PATIENCE_NS, FINISH_NS
from .transfer_record import Account, Order, Progress
from .wait import now_ns, until

DEFAULT_TRANSFERS = 100
DEFAULT_CALLS = 50
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = FINISH_NS / 1e9 + 20.0


class Transfers(Recorder[Progress]):
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
        order: Order = {
            "client": str(client.namespace.path),
            "server": str(server.namespace.path),
            "address": address,
            "transfers": transfers,
            "calls": calls,
        }
        super().__init__("lab.transfer_probe", order, "transfers", _START_TIMEOUT_S, _STOP_TIMEOUT_S, watch)

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

    def wait_for_calls(self, since: int) -> None:
        """Wait until each call opened before an instant has ended, or has waited too long."""
        passed_s = (now_ns() - since) / 1e9
        self.wait_for_time(max(0.0, 1.5 + CALL_PATIENCE_NS / 1e9 - passed_s))

    def stop(self) -> Account:
        """Stop sending, let what is on its way arrive, and return the account."""
        return Account(self.take_record())
