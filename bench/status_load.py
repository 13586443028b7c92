"""`python -m bench.status_load`: how much later timers fire while clients ask for the status again and again.

A control server with thousands of virtual hosts and a timer as the daemon's run on one loop, as in carpd. Spans with and
without clients take turns, so that whatever else the machine does falls on both.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from carp.daemon import status
from carp.daemon.chronicle import Chronicle
from carp.daemon.control import Control
from carp.daemon.lateness import Lateness
from carp.daemon.pacing import Shared, Turns
from carp.daemon.routes import Request, Route, Stream
from carp.linux.clock import Timer, boottime
from carp.protocol.parameters import InterfaceParameters, Node
from carp.protocol.values import NANOSECONDS_PER_MILLISECOND, Instant
from carp.testing.bench import Bench
from carp.testing.hosts import carp_interface

SWITCH_INTERVAL_S = 0.0005
"""As carpd sets it."""
WARM_UP_S = 2.0
"""Until then a client has started, even on a busy machine."""
BUSY_CLIENT = """
import json, socket, sys
path, parses = sys.argv[1], sys.argv[2] == "parse"
request = b"GET /v1/status HTTP/1.0\\r\\nHost: carp\\r\\n\\r\\n"
while True:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(request)
        parts = []
        while part := client.recv(1 << 18):
            parts.append(part)
    body = b"".join(parts).partition(b"\\r\\n\\r\\n")[2]
    if parses:
        json.loads(body)
    assert body.endswith(b"}\\n")
"""


def interfaces(virtual_hosts: int, nodes: int) -> Iterator[InterfaceParameters]:
    """Make carp interfaces of `nodes` virtual hosts each, as many as a parent can carry on each parent."""
    a_parent_carries = 255 // nodes
    for number in range(virtual_hosts // nodes):
        parent, place = divmod(number, a_parent_carries)
        yield carp_interface(
            f"carp{number}",
            nodes=tuple(Node(place * nodes + rank + 1) for rank in range(nodes)),
            carpdev=f"eth{parent}",
            addresses=(ip_interface(f"10.{parent}.{place}.1/24"), ip_interface(f"2001:db8:{parent:x}:{place:x}::1/64")),
        )


def make_runtime(virtual_hosts: int, nodes: int) -> Any:
    """Make what the status describes, without a kernel: every virtual host is MASTER."""
    bench = Bench(*interfaces(virtual_hosts, nodes))
    bench.run_for(10_000 * NANOSECONDS_PER_MILLISECOND)
    lateness = Lateness()
    fence = {"state": "open", "reason": None, "closes_in_s": 2.9, "dropped": 0, "late_closings": 0}
    return SimpleNamespace(
        engine=bench.engine,
        chronicle=Chronicle(2),
        fencing=SimpleNamespace(describe=lambda _name, _now: fence),
        lateness=lateness,
        started_at=boottime(),
        ownership=SimpleNamespace(live_addresses=lambda _: ["10.0.0.1/24", "2001:db8::1/64"]),
        configuration=SimpleNamespace(drafts=(), document={}),
    )


class Metronome:
    """A timer of the daemon's kind that fires every `every_ns`; collects how late it did, in ns."""

    def __init__(self, every_ns: int) -> None:
        self._timer = Timer()
        self._every_ns = every_ns
        self._next = Instant(0)
        self.late: list[int] = []
        asyncio.get_running_loop().add_reader(self._timer.fileno(), self._fired)

    def start(self) -> None:
        """Begin a span."""
        self.late = []
        self._next = Instant(boottime() + self._every_ns)
        self._timer.set(self._next)

    def stop(self) -> list[int]:
        """End the span and return its figures."""
        self._timer.set(None)
        return self.late

    def _fired(self) -> None:
        if self._timer.acknowledge() is None:
            return
        now = boottime()
        self.late.append(now - self._next)
        self._next = Instant(max(self._next + self._every_ns, now))
        self._timer.set(self._next)


@contextmanager
def clients(count: int, path: Path, *, parse: bool) -> Iterator[None]:
    """Let clients ask without a pause, until the end of the block."""
    line = [sys.executable, "-S", "-c", BUSY_CLIENT, str(path), "parse" if parse else "read"]
    begun = [subprocess.Popen(line) for _ in range(count)]
    try:
        yield
    finally:
        for client in begun:
            client.kill()
            client.wait()


def percentile(late: list[int], share: float) -> float:
    """Return a percentile in ms."""
    ordered = sorted(late)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / NANOSECONDS_PER_MILLISECOND


def figures(late: list[int]) -> str:
    """Write the figures of a span or of many, in ms."""
    return "  ".join(
        f"{name} {percentile(late, share):7.3f}" for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("max", 1))
    )


async def measure(arguments: argparse.Namespace) -> float:
    """Print the figures; return by how many ms the p99 is worse with clients."""
    runtime = make_runtime(arguments.virtual_hosts, arguments.nodes)
    shared = Shared(Turns(), lambda: status.pieces(runtime))

    whole = sum(map(len, status.pieces(runtime)))
    made = 0

    async def counted() -> AsyncGenerator[bytes, None]:
        nonlocal made
        async for chunk in shared.ask():
            made += len(chunk)
            yield chunk

    async def answer(_: Request) -> Stream:
        return Stream(counted())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "carpd.sock"
        control = Control(path, [Route("GET", "/v1/status", answer)])
        await control.start()
        gc.collect()
        gc.freeze()
        metronome = Metronome(int(arguments.every_ms * NANOSECONDS_PER_MILLISECOND))
        without: list[int] = []
        loaded: list[int] = []
        loaded_made = 0
        for _ in range(arguments.rounds):
            without += await span(metronome, arguments.seconds)
            with clients(arguments.clients, path, parse=arguments.parse):
                await asyncio.sleep(WARM_UP_S)
                before = made
                loaded += await span(metronome, arguments.seconds)
                loaded_made += made - before
        await control.stop()
    seconds = arguments.rounds * arguments.seconds
    print(f"load average {' '.join(f'{one:.1f}' for one in os.getloadavg())} on {os.cpu_count()} processors")
    print(
        f"{arguments.virtual_hosts} virtual hosts, {arguments.clients} clients, {loaded_made / whole / seconds:.2f} answers/s"
    )
    print(f"without  {figures(without)} ms  ({len(without)} timers)")
    print(f"with     {figures(loaded)} ms  ({len(loaded)} timers)")
    difference = percentile(loaded, 0.99) - percentile(without, 0.99)
    print(f"p99 is worse by {difference:.3f} ms")
    return difference


async def span(metronome: Metronome, seconds: float) -> list[int]:
    """Let the timer run for a while."""
    metronome.start()
    await asyncio.sleep(seconds)
    return metronome.stop()


def main() -> int:
    """Measure; the exit status is 1 if the p99 is worse by more than is allowed."""
    parser = argparse.ArgumentParser(prog="python -m bench.status_load", description=__doc__)
    parser.add_argument("--virtual-hosts", type=int, default=4000)
    parser.add_argument("--nodes", type=int, default=1, help="virtual hosts of each carp interface, 1..32")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--every-ms", type=float, default=5.0, help="how often the timer fires")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="the length of a span")
    parser.add_argument("--parse", action="store_true", help="the clients read the JSON too, which costs them the most")
    parser.add_argument("--allowed-ms", type=float, default=2.0)
    arguments = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return 0 if asyncio.run(measure(arguments)) <= arguments.allowed_ms else 1


if __name__ == "__main__":
    sys.exit(main())
