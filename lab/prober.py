"""The probing process seen from a test: start it, ask who answers now, stop it and take its record."""

from collections.abc import Callable, Iterable, Mapping

from .lan import Port
from .measure import Trace, traces
from .probe import PATIENCE_NS, PROGRESS_EVERY_NS, Order, Progress
from .recorder import Recorder
from .wait import now_ns, until

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = PATIENCE_NS / 1e9 + 20.0


class Prober(Recorder[Progress]):
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
        order: Order = {
            "hosts": {host.label: str(host.namespace.path) for host in hosts},
            "client": str(client.namespace.path),
            "addresses": self.addresses,
        }
        super().__init__("lab.probe", order, "probes", _START_TIMEOUT_S, _STOP_TIMEOUT_S, watch)

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

    def stop(self) -> Mapping[str, Trace]:
        """Stop probing and return what was recorded, by address; takes up to a second where answers are outstanding."""
        return traces(self.take_record())
