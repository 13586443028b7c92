"""Hosts behind a fence whose deadlines a test moves, and ways to ask whether a host answers for a virtual address."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from carp.linux import sysctl
from carp.linux.bpf.fence import Fence
from carp.linux.netlink import Netlink
from carp.protocol.values import Instant
from lab.capture import is_advertisement
from lab.lan import Port
from lab.ping import ping
from lab.stage import SHARED, bare

VIP4, VIP6 = bare(SHARED)
VIPS = (VIP4, VIP6)
VIRTUAL_MAC = "00:00:5e:00:01:01"
SLOT = 3
BEYOND = "198.51.100.7"
UDP_PORT = 4711
SECOND_NS = 10**9


def in_ns(duration_ns: int) -> Instant:
    """Return an instant on the fence's clock."""
    return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + duration_ns)


class Guarded:
    """A host with the virtual addresses, on a macvlan or on the parent itself, behind a closed fence."""

    def __init__(self, port: Port, *, on_parent: bool = False, addresses: bool = True, owner: str = "test") -> None:
        self.port = port
        self.namespace = port.namespace
        self.parent_index = index_of(port, port.interface)
        self.fence = Fence.load(owner)
        with self.namespace.entered():
            self.netlink = Netlink()
        self.fence.set_vips(self.parent_index, SLOT, [ip_address(address) for address in VIPS])
        self.made_clsact = self.fence.guard_parent(self.netlink, self.parent_index)
        self.interface = port.interface
        if not on_parent:
            self.interface = "carp0"
            self.make_carp_interface()
        if addresses:
            self.take()

    def make_carp_interface(self) -> None:
        """Make the macvlan as carpd does, link down."""
        parent = self.port.interface
        self.namespace.ip(f"link add carp0 link {parent} address {VIRTUAL_MAC} type macvlan mode bridge")
        for name, settings in (("carp0", sysctl.CARP_LINK_SETTINGS), (parent, sysctl.PARENT_SETTINGS)):
            for key, value in settings.items():
                self.namespace.sysctl(key.format(name=name), value)
        self.link_index = index_of(self.port, "carp0")
        self.fence.guard_link(self.netlink, self.link_index, SLOT)

    def take(self) -> None:
        """Set the addresses, whatever the fence says."""
        self.namespace.ip(
            f"link set dev {self.interface} up",
            *(f"addr add {address} dev {self.interface} nodad noprefixroute" for address in SHARED),
        )

    def open(self, duration_ns: int = 600 * SECOND_NS) -> None:
        """Open the fence for that long."""
        self.fence.deadlines.extend(SLOT, in_ns(duration_ns))

    def shut(self) -> None:
        """Close the fence at once."""
        self.fence.deadlines.close_slot(SLOT)

    def close(self) -> None:
        """Let go of programs and socket."""
        self.netlink.close()
        self.fence.close()


def packed(mac: str) -> bytes:
    """Return a MAC address as bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def index_of(port: Port, interface: str) -> int:
    """Return the index of an interface in a host's namespace."""
    with port.namespace.entered():
        return socket.if_nametoindex(interface)


@pytest.fixture
def guard() -> Iterator[Callable[..., Guarded]]:
    """Put hosts behind a fence."""
    with ExitStack() as stack:

        def build(port: Port, **options: object) -> Guarded:
            host = Guarded(port, **options)  # type: ignore[arg-type]
            stack.callback(host.close)
            return host

        yield build


def learn(client: Port, mac: str) -> None:
    """Let the client know the virtual addresses without asking, so that ARP and ND decide nothing."""
    client.namespace.ip(*(f"neigh replace {address} lladdr {mac} nud permanent dev eth0" for address in VIPS))


def forget(client: Port) -> None:
    """Empty the client's neighbour caches."""
    client.namespace.ip("neigh flush all nud permanent", "neigh flush all")


def resolves(client: Port, address: str) -> bool:
    """Tell whether a host answers ARP or ND for an address: ask anew and wait a moment for the entry."""
    forget(client)
    ping(client.namespace, address, patience_s=0.1)
    return any(row["dst"] == address and "lladdr" in row for row in client.namespace.query("neigh show nud reachable dev eth0"))


def answers_ping(client: Port, address: str) -> bool:
    """Tell whether any of a few echo requests is answered."""
    return ping(client.namespace, address, count=5, patience_s=0.15) > 0


def receives(server: Port, client: Port, address: str) -> tuple[bool, bool]:
    """Send a datagram to an address; tell whether it arrives, and whether an answer from that address gets back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    anywhere = "::" if ":" in address else "0.0.0.0"
    with (
        server.namespace.socket(family, socket.SOCK_DGRAM) as there,
        client.namespace.socket(family, socket.SOCK_DGRAM) as here,
    ):
        there.bind((anywhere, UDP_PORT))
        here.bind((anywhere, UDP_PORT))
        here.sendto(b"question", (address, UDP_PORT))
        arrived = bool(select.select([there], [], [], 0.15)[0])
        with server.namespace.socket(family, socket.SOCK_DGRAM) as answering:
            answering.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            answering.bind((address, UDP_PORT + 1))
            answering.sendto(b"answer", ("2001:db8::9" if ":" in address else "192.0.2.9", UDP_PORT))
        return arrived, bool(select.select([here], [], [], 0.15)[0])


def is_claim(frame: bytes) -> bool:
    """Tell frames that speak for a virtual address or from the virtual MAC, other than advertisements."""
    if is_advertisement(frame):
        return False
    if frame[6:12] == packed(VIRTUAL_MAC):
        return True
    sender = {b"\x08\x00": slice(26, 30), b"\x08\x06": slice(28, 32), b"\x86\xdd": slice(22, 38)}.get(frame[12:14])
    return sender is not None and frame[sender] in [ip_address(address).packed for address in VIPS]
