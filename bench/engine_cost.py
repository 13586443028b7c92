"""`python -m bench.engine_cost`: what the engine alone costs for each advertisement, without a socket, on a virtual clock.

CPU time of the fastest of several rounds, so that a busy machine changes it little. Beside `python -m bench.floor` it says how
far the protocol's own code is from the system calls and the hashing that it needs.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_interface

from carp.protocol.actions import Send
from carp.protocol.events import Due, Event, PacketArrived, Sent
from carp.protocol.parameters import Node
from carp.protocol.values import NANOSECONDS_PER_SECOND, Family, Instant
from carp.testing.bench import Bench
from carp.testing.hosts import carp_interface

from . import flood_sender
from .subject import PREFIX_LENGTH, shared_address

ROUNDS = 12
_NOTHING_READ = Instant(0)
_STEP_NS = NANOSECONDS_PER_SECOND + 500_000
_MASTER_MAC = bytes.fromhex("00005e000101")


def hosts(count: int, advskew: int) -> Bench:
    """Make a host with virtual hosts, one address each."""
    addresses = [ip_interface(f"{shared_address(0, number)}/{PREFIX_LENGTH}") for number in range(count)]
    return Bench(
        *(
            carp_interface(f"carp{number}", nodes=(Node(number + 1, advskew),), carpdev="eth0", addresses=(address,))
            for number, address in enumerate(addresses)
        )
    )


def timed(work: Callable[[], object]) -> int:
    """Return the CPU time of some work in ns."""
    begin = time.process_time_ns()
    work()
    return time.process_time_ns() - begin


def exchange(count: int) -> Iterator[tuple[str, float]]:
    """Let a MASTER advertise to a BACKUP; yield the microseconds of each step for one advertisement."""
    master, backup = hosts(count, 0), hosts(count, 100)
    master.run_for(10 * NANOSECONDS_PER_SECOND)
    now = master.now
    costs: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        now = Instant(now + _STEP_NS)
        sends: list[Send] = []
        due = timed(lambda now=now, sends=sends: sends.extend(_sends(master, now)))  # type: ignore[misc]
        told: list[Event] = [Sent(one.interface, one.vhid, one.family, None, ()) for one in sends]
        heard: list[Event] = [PacketArrived("eth0", one.family, one.packet, now, False) for one in sends]
        for what, nanoseconds in (
            ("an advertisement that is due, made", due),
            ("that it was sent, noted", timed(lambda told=told, now=now: _feed(master, told, now))),  # type: ignore[misc]
            ("an advertisement of the MASTER, heard", timed(lambda heard=heard, now=now: _feed(backup, heard, now))),  # type: ignore[misc]
        ):
            costs.setdefault(what, []).append(nanoseconds / max(1, len(sends)) / 1e3)
    yield from ((what, min(found)) for what, found in costs.items())
    for kind in flood_sender.KINDS:
        pool = flood_sender.pool("carp", kind, 2, shared_address(0, 0), "10.112.255.1", _MASTER_MAC)
        wrong: list[Event] = [PacketArrived("eth0", Family.IPV4, frame[14:], now, False) for frame in pool]
        rounds = [timed(lambda wrong=wrong, now=now: _feed(backup, wrong, now)) for _ in range(ROUNDS)]  # type: ignore[misc]
        yield f"refused: {kind}", min(rounds) / len(wrong) / 1e3


def _sends(host: Bench, now: Instant) -> list[Send]:
    return [one for one in host.engine.handle(Due(_NOTHING_READ), now) if isinstance(one, Send)]


def _feed(host: Bench, events: Sequence[Event], now: Instant) -> None:
    for event in events:
        host.engine.handle(event, now)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine_cost", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=16, help="virtual hosts (default 16, so that one vhid of the floods is foreign)"
    )
    for what, microseconds in exchange(parser.parse_args().count):
        print(f"{microseconds:9.2f} us  {what}")


if __name__ == "__main__":
    main()
