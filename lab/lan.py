"""A LAN: one switch (a Linux bridge in a namespace of its own) and hosts on its ports.

A port can fail in ways that look different to a host: `cut` takes the host's own link down, `unplug` takes the carrier away
at the switch, `block` loses frames silently, `refuse` makes sending fail. Every fault has its cure: `mend`, `plug`, `unblock`,
`accept`.
"""

import fcntl
import re
import socket
import struct
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from .faults import Direction, Traffic, programs
from .netns import Namespace
from .tables import Forwarding, forwarding
from .wait import now_ns, until

BRIDGE = "br0"
ISLAND = "br1"
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
# The kernel's shortest; a querier counts only after one response interval.
_QUERY_CENTISECONDS = 100


class Port:
    """A host on the LAN: its namespace, its Ethernet interface, and the switch port at the other end of the cable."""

    def __init__(self, lan: "Lan", label: str, interface: str = "eth0", namespace: Namespace | None = None) -> None:
        """Name the parts; `namespace` is that of a host which exists already."""
        self.lan = lan
        self.label = label
        self.interface = interface
        self.switch_port = f"to-{label}"
        self.namespace = namespace or Namespace(label)

    def __repr__(self) -> str:
        return f"Port({self.label})"

    @property
    def mac(self) -> str:
        """The MAC address of the host's own interface."""
        return str(self.namespace.query(f"link show dev {self.interface}")[0]["address"])

    def create_interface(self, addresses: Iterable[str], *, link_local: bool = True) -> None:
        """Make the host's interface, cable and switch port; also after `remove_interface`.

        Duplicate address detection is off for this interface, so that its own addresses serve at once; what a daemon makes
        on top of it keeps the kernel's defaults.
        """
        switch, namespace, interface, port = self.lan.switch, self.namespace, self.interface, self.switch_port
        switch.ip(
            f"link add name {port} type veth peer name {interface} netns {namespace.name}",
            f"link set dev {port} addrgenmode none",
            f"link set dev {port} master {BRIDGE}",
            f"link set dev {port} up",
        )
        if self.lan.flooding:
            switch.run("bridge", "link", "set", "dev", port, "learning", "off", "flood", "on")
        switch.tc(f"qdisc add dev {port} clsact")
        namespace.sysctl(f"ipv6/conf/{interface}/accept_dad", 0)
        namespace.ip(
            *([] if link_local else [f"link set dev {interface} addrgenmode none"]),
            f"link set dev {interface} up",
            *(f"addr add {address} dev {interface}" for address in addresses),
        )
        if link_local:
            shown = ("ip", "-6", "addr", "show", "dev", interface)
            until(lambda: "fe80::" in namespace.run(*shown), 5, f"a link-local address on {self.label}")

    def remove_interface(self) -> None:
        """Take the host's interface away as if the card were pulled."""
        self.namespace.ip(f"link del dev {self.interface}")

    def cut(self) -> int:
        """Take the host's link down; return the instant right before."""
        return self._set_up(up=False)

    def mend(self) -> int:
        """Take the host's link up again; IPv6 addresses that Linux dropped with the link are not put back."""
        return self._set_up(up=True)

    def unplug(self) -> int:
        """Take the carrier away at the switch; the host's interface stays up. Return the instant right before."""
        at = now_ns()
        self.lan.switch.ip(f"link set dev {self.switch_port} down")
        return at

    def plug(self) -> None:
        """Give the carrier back."""
        self.lan.switch.ip(f"link set dev {self.switch_port} up")

    def block(
        self,
        traffic: Traffic = Traffic.ALL,
        directions: Iterable[Direction] = (Direction.FROM_HOST, Direction.TO_HOST),
        loss: float = 1.0,
    ) -> int:
        """Lose frames silently, carrier up; return the instant at which the last direction was blocked."""
        for direction in directions:
            for number, program in enumerate(programs(traffic, loss), start=1):
                hook = (
                    f"filter add dev {self.switch_port} {direction.value} protocol all pref {number} bpf direct-action bytecode"
                )
                # The program holds blanks, so it must stay one word.
                self.lan.switch.run("tc", *hook.split(), program)
        return now_ns()

    def unblock(self) -> int:
        """Let everything through again; return the instant right after."""
        for direction in Direction:
            self.lan.switch.tc(f"filter del dev {self.switch_port} {direction.value}")
        return now_ns()

    def refuse(self) -> int:
        """Let every send on the host's interface fail, with ENOBUFS where it is asked; what arrives is still heard.

        Return the instant right after.
        """
        self.namespace.tc(f"qdisc add dev {self.interface} root pfifo limit 0")
        return now_ns()

    def accept(self) -> int:
        """Let the host send again; return the instant right after."""
        self.namespace.tc(f"qdisc del dev {self.interface} root")
        return now_ns()

    def carrier(self) -> bool:
        """Tell whether the host sees a carrier."""
        return "LOWER_UP" in self.namespace.query(f"link show dev {self.interface}")[0]["flags"]

    def _set_up(self, *, up: bool) -> int:
        # One ioctl instead of ip(8): the instant is exact, though the kernel keeps us some 15 ms when a link goes down.
        with self.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sH22x", self.interface.encode(), 0)
            flags = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)[0]
            flags = flags | _IFF_UP if up else flags & ~_IFF_UP
            at = now_ns()
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", self.interface.encode(), flags))
        return at


class Lan:
    """A switch with its ports; a context manager that leaves nothing behind."""

    def __init__(self, *, snooping: bool = True, querier: bool = False, flooding: bool = False) -> None:
        """Build the switch.

        Args:
            snooping: forward multicast by IGMP and MLD reports, as most switches do out of the box.
            querier: ask for those reports; without a querier a Linux bridge floods all multicast. It counts a second later.
            flooding: learn nothing and send every frame to every port, as a hub does.
        """
        self.flooding = flooding
        self.ports: dict[str, Port] = {}
        self._stack = ExitStack()
        self.switch = Namespace("sw")
        self._stack.callback(self.switch.delete)
        bridge = f"link add name {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping {int(snooping)}"
        try:
            self.switch.ip(bridge)
            # The bridge needs an address to query by MLD, and is to say nothing by itself otherwise.
            self.switch.sysctl(f"ipv6/conf/{BRIDGE}/{'accept_dad' if querier else 'disable_ipv6'}", 0 if querier else 1)
            self.switch.ip(
                f"link set dev {BRIDGE} type bridge mcast_query_response_interval {_QUERY_CENTISECONDS}"
                f" mcast_query_interval {2 * _QUERY_CENTISECONDS} mcast_startup_query_interval {_QUERY_CENTISECONDS}",
                f"link set dev {BRIDGE} up",
            )
            if querier:
                self.switch.ip(f"link set dev {BRIDGE} type bridge mcast_querier 1")
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove every namespace of the LAN."""
        self._stack.close()

    def attach(self, label: str, addresses: Iterable[str] = (), *, interface: str = "eth0", link_local: bool = True) -> Port:
        """Put a new host on the LAN.

        Args:
            label: its name; the switch port is then called `to-<label>`.
            addresses: its own addresses with prefix lengths; none for an un-numbered interface.
            interface: the name of its interface.
            link_local: False leaves even the IPv6 link-local address out.
        """
        port = Port(self, label, interface)
        self._stack.callback(port.namespace.delete)
        port.create_interface(addresses, link_local=link_local)
        self.ports[label] = port
        return port

    def join(self, other: Port, interface: str, addresses: Iterable[str] = (), *, link_local: bool = True) -> Port:
        """Put a host that is on another LAN on this one too, with a further interface; return its port here."""
        port = Port(self, other.label, interface, other.namespace)
        port.create_interface(addresses, link_local=link_local)
        self.ports[port.label] = port
        return port

    def partition(self, *island: Port) -> int:
        """Move ports to a second bridge: two LANs, every carrier up. Return the instant right after."""
        if not self.switch.path.exists() or ISLAND not in self.switch.run("ip", "link", "show"):
            self.switch.ip(f"link add name {ISLAND} type bridge stp_state 0 forward_delay 0")
            self.switch.sysctl(f"ipv6/conf/{ISLAND}/disable_ipv6", 1)
            self.switch.ip(f"link set dev {ISLAND} up")
        self.switch.ip(*(f"link set dev {port.switch_port} master {ISLAND}" for port in island))
        return now_ns()

    def rejoin(self) -> int:
        """End the partition; return the instant right after."""
        self.switch.ip(*(f"link set dev {port.switch_port} master {BRIDGE}" for port in self.ports.values()))
        return now_ns()

    def forwarding(self) -> Forwarding:
        """Return the switch table: which MAC address was learned on which port."""
        return forwarding(self.switch)

    def port_of(self, mac: str) -> str | None:
        """Return the label of the host behind whose port the switch has learned a MAC address."""
        port = self.forwarding().get(mac.lower())
        return re.sub("^to-", "", port) if port else None
