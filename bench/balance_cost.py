"""`python -m bench.balance_cost`: what a packet costs in the fence's programs, without and with balancing over 32 nodes.

Each figure is the fastest of several runs of BPF_PROG_TEST_RUN, as whatever else the machine does only adds to it. The rows of
hosts without a balance are what everybody pays.
"""

import argparse
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address

from carp.linux.bpf.balancer import Balance, BalancedNode, Decision
from carp.linux.bpf.fence import Fence
from carp.protocol.balance import AskerHash
from carp.protocol.values import NANOSECONDS_PER_SECOND, Instant, multicast_mac, virtual_mac

NODES = 32
LOOPBACK = 1
"""The interface on which BPF_PROG_TEST_RUN puts a packet."""
PLAIN_SLOT = 100
OPEN_NS = 3600 * NANOSECONDS_PER_SECOND
VIP = {4: "192.0.2.100", 6: "2001:db8::100"}
PLAIN_VIP = {4: "192.0.2.101", 6: "2001:db8::101"}
PEER = {4: "192.0.2.9", 6: "2001:db8::9"}
PARENT_MAC = bytes.fromhex("020000000001")
SHARED_MAC = multicast_mac(1)
PASS, DROP = -1, 2
IN, OUT = "carp_parent_in", "carp_parent_out"


def frame(source: str, destination: str, mac: bytes, *, protocol: int = 17) -> bytes:
    """Return a packet of 64 bytes of payload in a frame to a MAC."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    if len(addresses) == 8:
        head = b"\x08\x00" + struct.pack("!BBHHHBBH", 0x45, 0, 84, 1, 0, 64, protocol, 0)
    else:
        head = b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, 64, protocol, 64)
    return mac + bytes.fromhex("020000000009") + head + addresses + bytes(64)


def balance(decision: Decision) -> Balance:
    """Make a balance of all nodes for both addresses."""
    is_split = decision is Decision.PACKETS
    return Balance(
        parent_ifindex=LOOPBACK,
        decision=decision,
        nodes=tuple(BalancedNode(rank, virtual_mac(rank + 1), AskerHash(1, 2, 3)) for rank in range(NODES)),
        addresses=tuple(ip_address(address) for address in VIP.values()),
        shared_mac=SHARED_MAC if is_split else b"",
        # A kept frame is given this MAC; with its own it is the same frame in every repetition.
        reply_mac=SHARED_MAC if is_split else b"",
        delivers=False,
        router=False,
    )


def rows(fence: Fence) -> Iterator[tuple[str, str, bytes]]:
    """Set the fence up for one packet after another: what it is, the program, the packet. All pass but those "dropped"."""
    for state in ("no balance", "balance of others"):
        if state != "no balance":
            fence.balancer.put(0, balance(Decision.PACKETS))
        for family in (4, 6):
            yield f"{state}, IPv{family} to another address", IN, frame(PEER[family], PEER[family], PARENT_MAC)
            yield f"{state}, IPv{family} to a plain VIP", IN, frame(PEER[family], PLAIN_VIP[family], PARENT_MAC)
            yield f"{state}, IPv{family} of another address", OUT, frame(PEER[family], PEER[family], PARENT_MAC)
    for mask, state in ((0xFFFFFFFF, "kept"), (0, "dropped")):
        fence.balancer.set_mask(0, mask)
        for family in (4, 6):
            yield f"ip, IPv{family} to the address, {state}", IN, frame(PEER[family], VIP[family], SHARED_MAC)
            yield f"ip, IPv{family} through a gateway, {state}", IN, frame(PEER[family], PEER[family], SHARED_MAC)
            yield f"ip, IPv{family} of the address, {state}", OUT, frame(VIP[family], PEER[family], PARENT_MAC)
    fence.balancer.set_mask(0, 0xFFFFFFFF)
    yield "ip, ICMP error", IN, frame(PEER[4], VIP[4], SHARED_MAC, protocol=1).replace(bytes(64), b"\x03" + bytes(63))
    fence.balancer.put(0, balance(Decision.ASKER_MAC))
    for family in (4, 6):
        yield f"arp, IPv{family} to a node's MAC, kept", IN, frame(PEER[family], VIP[family], virtual_mac(NODES))
        yield f"arp, IPv{family} of the address, kept", OUT, frame(VIP[family], PEER[family], PARENT_MAC)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.balance_cost", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="how often each is run (default 7)")
    parser.add_argument("--repeat", type=int, default=200_000, help="packets in one run (default 200000)")
    arguments = parser.parse_args()
    fence = Fence.load()
    until = Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + OPEN_NS)
    for slot in (*range(NODES), PLAIN_SLOT):
        fence.deadlines.extend(slot, until)
    fence.set_vips(LOOPBACK, PLAIN_SLOT, (ip_address(address) for address in PLAIN_VIP.values()))
    try:
        for what, program, packet in rows(fence):
            runs = [fence.test_run(program, packet, arguments.repeat) for _ in range(arguments.runs)]
            if runs[0].verdict != (DROP if what.endswith("dropped") else PASS):
                raise RuntimeError(f"{what}: verdict {runs[0].verdict}")
            print(f"{min(run.duration_ns for run in runs):5} ns  {what}")
    finally:
        fence.close()


if __name__ == "__main__":
    main()
