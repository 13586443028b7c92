"""`python -m bench.engine_cost`: what the engine alone costs for each advertisement, without a socket, on a virtual clock.

CPU time of the fastest of several rounds, so that a busy machine changes it little. Beside `python -m bench.floor` it says how
far the protocol's own code is from the system calls and the hashing that it needs. With `--parents` it also tells what a whole
start costs, of the given number of virtual hosts on each parent: whether that grows faster than their number.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_interface

from carp.protocol.actions import Send
from carp.protocol.events import Due, Event, PacketArrived, Sent
from carp.protocol.parameters import InterfaceParameters
from carp.protocol.values import NANOSECONDS_PER_SECOND, Family, Instant, State
from carp.testing.bench import Bench
from carp.testing.hosts import carp_interface, station_sources

from . import flood_sender
from .subject import PREFIX_LENGTH, shared_address

ROUNDS = 12
_NOTHING_READ = Instant(0)
_STEP_NS = NANOSECONDS_PER_SECOND + 500_000
_MASTER_MAC = bytes.fromhex("00005e000101")
_WAITS_NS = 10 * NANOSECONDS_PER_SECOND


def interfaces(family: Family, parent: int, count: int, advskew: int) -> list[InterfaceParameters]:
    """Make the carp interfaces of one parent, one virtual host with one address each."""
    if family is Family.IPV4:
        addresses = [ip_interface(f"{shared_address(parent, number)}/{PREFIX_LENGTH}") for number in range(count)]
    else:
        addresses = [ip_interface(f"2001:db8:{parent:x}::{number + 1:x}/64") for number in range(count)]
    return [
        carp_interface(f"c{parent}v{number}", number + 1, advskew=advskew, carpdev=f"eth{parent}", addresses=(address,))
        for number, address in enumerate(addresses)
    ]


def host(number: int, family: Family, count: int, advskew: int) -> Bench:
    """Make the host of this number with virtual hosts on one parent."""
    return Bench(*interfaces(family, 0, count, advskew), sources=station_sources(number))


def timed(work: Callable[[], object]) -> int:
    """Return the CPU time of some work in ns."""
    begin = time.process_time_ns()
    work()
    return time.process_time_ns() - begin


def exchange(family: Family, count: int) -> Iterator[tuple[str, float]]:
    """Let a MASTER advertise to a BACKUP; yield the microseconds of each step for one advertisement."""
    master, backup = host(1, family, count, 0), host(2, family, count, 100)
    master.run_for(_WAITS_NS)
    now = master.now
    costs: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        now = Instant(now + _STEP_NS)
        sends: list[Send] = []
        due = timed(lambda now=now, sends=sends: sends.extend(_sends(master, now)))  # type: ignore[misc]
        told: list[Event] = [Sent(one.interface, one.vhid, one.family, None, ()) for one in sends]
        heard: list[Event] = [PacketArrived("eth0", one.family, one.packet, now, False) for one in sends]
        for what, nanoseconds in (
            ("an advertisement that is due, made", due),
            ("that it was sent, noted", timed(lambda told=told, now=now: _feed(master, told, now))),  # type: ignore[misc]
            (
                "an advertisement of the MASTER, heard" + ("" if number else " for the first time"),
                timed(lambda heard=heard, now=now: _feed(backup, heard, now)),  # type: ignore[misc]
            ),
            ("the next deadline, asked for", timed(lambda: [backup.engine.next_deadline() for _ in sends])),  # noqa: B023
        ):
            costs.setdefault(what, []).append(nanoseconds / max(1, len(sends)) / 1e3)
    yield from ((what, min(found)) for what, found in costs.items())
    yield from refusals(backup, now) if family is Family.IPV4 else ()


def refusals(backup: Bench, now: Instant) -> Iterator[tuple[str, float]]:
    """Flood a BACKUP; yield the microseconds of each kind of wrong advertisement."""
    for kind in flood_sender.KINDS:
        pool = flood_sender.pool("carp", kind, 2, shared_address(0, 0), "10.112.255.1", _MASTER_MAC)
        wrong: list[Event] = [PacketArrived("eth0", Family.IPV4, frame[14:], now, False) for frame in pool]
        rounds = [timed(lambda wrong=wrong: _feed(backup, wrong, now)) for _ in range(ROUNDS)]  # type: ignore[misc]
        yield f"refused: {kind}", min(rounds) / len(wrong) / 1e3


def start(parents: int, count: int) -> Iterator[tuple[str, float]]:
    """Start a host with many virtual hosts on each of several parents; yield the microseconds for each of them."""
    wanted = [one for parent in range(parents) for one in interfaces(Family.IPV4, parent, count, 0)]
    begin = time.process_time_ns()
    bench = Bench(*wanted)
    configured = time.process_time_ns()
    bench.run_for(_WAITS_NS)
    master = time.process_time_ns()
    total = parents * count
    assert all(one.leader.state is State.MASTER for one in bench.engine.interfaces)
    yield f"one of {total} virtual hosts, configured", (configured - begin) / total / 1e3
    yield f"one of {total}, until MASTER and for 7 s after that", (master - configured) / total / 1e3


def _sends(bench: Bench, now: Instant) -> list[Send]:
    return [one for one in bench.engine.handle(Due(_NOTHING_READ), now) if isinstance(one, Send)]


def _feed(bench: Bench, events: Sequence[Event], now: Instant) -> None:
    for event in events:
        bench.engine.handle(event, now)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine_cost", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=16, help="virtual hosts (default 16, so that one vhid of the floods is foreign)"
    )
    parser.add_argument("--parents", type=int, default=0, help="start so many virtual hosts on each of several parents, too")
    arguments = parser.parse_args()
    for family in Family:
        print(f"{family}, {arguments.count} virtual hosts")
        for what, microseconds in exchange(family, arguments.count):
            print(f"{microseconds:9.2f} us  {what}")
    for what, microseconds in start(arguments.parents, arguments.count) if arguments.parents else ():
        print(f"{microseconds:9.2f} us  {what}")


if __name__ == "__main__":
    main()
