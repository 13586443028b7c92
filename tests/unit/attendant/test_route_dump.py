"""Routes as the kernel writes them, and the filter of its notifications."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from carp.attendant.route_dump import Prefix, notification_filter, parse, prefixes
from carp.linux.bpf_filter import attach
from carp.linux.rtnetlink import attribute

MAIN, OTHER_TABLE = 254, 77
UNICAST, UNREACHABLE = 1, 7
DST, OIF, TABLE, MULTIPATH = 1, 4, 15, 9
DEAD, CLONED = 1, 0x200
NEW_ROUTE = 24


def body(target: str, *attributes: bytes, table: int = MAIN, kind: int = UNICAST, flags: int = 0) -> bytes:
    """Write a route."""
    network = ip_network(target)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, table, 3, 0, kind, flags)
    destination = attribute(DST, network.network_address.packed) if network.prefixlen else b""
    return head + attribute(TABLE, struct.pack("=I", table)) + destination + b"".join(attributes)


def through(index: int) -> bytes:
    """Write the link of a route."""
    return attribute(OIF, struct.pack("=i", index))


def hops(*each: tuple[int, int]) -> bytes:
    """Write several next hops, as index and flags, each with a gateway."""
    gateway = attribute(5, bytes(4))
    return attribute(
        MULTIPATH, b"".join(struct.pack("=HBBi", 8 + len(gateway), flags, 0, index) + gateway for index, flags in each)
    )


def links_of(raw: bytes, target: str) -> set[int] | None:
    """Return the links of a route if it is wanted."""
    found = parse(raw, set(prefixes(target)))
    return None if found is None else set(found[1])


@pytest.mark.parametrize(
    ("raw", "target", "expected"),
    [
        (body("192.0.2.0/24", through(7)), "192.0.2.0/24", {7}),
        (body("2001:db8::/32", through(7)), "2001:db8::/32", {7}),
        (body("0.0.0.0/0", through(7)), "default", {7}),
        (body("::/0", through(7)), "default", {7}),
        (body("::/0", through(7)), "0.0.0.0/0", None),
        (body("192.0.2.0/25", through(7)), "192.0.2.0/24", None),
        (body("192.0.3.0/24", through(7)), "192.0.2.0/24", None),
        (body("192.0.2.0/24", through(7), table=OTHER_TABLE), "192.0.2.0/24", None),
        (body("192.0.2.0/24", kind=UNREACHABLE), "192.0.2.0/24", None),
        (body("192.0.2.0/24", through(7), flags=CLONED), "192.0.2.0/24", None),
        (body("192.0.2.0/24", through(7), flags=DEAD), "192.0.2.0/24", set()),
        (body("192.0.2.0/24", hops((7, 0), (8, DEAD), (9, 0))), "192.0.2.0/24", {7, 9}),
        (body("192.0.2.0/24", attribute(30, bytes(4))), "192.0.2.0/24", set()),
    ],
)
def test_routes(raw: bytes, target: str, expected: set[int] | None) -> None:
    """Exactly the prefix, unicast, in the main table; the links of all next hops that are not dead."""
    assert links_of(raw, target) == expected


def test_a_prefix_with_host_bits_is_none() -> None:
    """As the configuration refuses it too."""
    with pytest.raises(ValueError, match="host bits"):
        prefixes("192.0.2.1/24")


class Filtered:
    """A socket with the filter; one end sends what the other one may hear."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)

    def passes(self, wanted: list[Prefix], raw: bytes) -> bool:
        """Tell whether a notification comes through."""
        attach(self._receiver, notification_filter(wanted))
        self._sender.send(struct.pack("=IHHII", 16 + len(raw), NEW_ROUTE, 0, 0, 0) + raw)
        try:
            self._receiver.recv(4096)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Close both ends."""
        self._receiver.close()
        self._sender.close()


@pytest.fixture
def filtered() -> Iterator[Filtered]:
    """Offer a socket with a filter."""
    both = Filtered()
    yield both
    both.close()


WANTED = ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "default"]


@pytest.mark.parametrize("target", ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0", "::/0"])
def test_the_filter_passes_what_is_wanted(filtered: Filtered, target: str) -> None:
    """Each of them; and all of them when there are too many for a filter."""
    wanted = [prefix for one in WANTED for prefix in prefixes(one)]
    assert filtered.passes(wanted, body(target, through(7)))
    many = [prefixes(f"10.{number // 250}.{number % 250}.0/24")[0] for number in range(1000)]
    assert filtered.passes(many, body(target, through(7)))


@pytest.mark.parametrize(
    "raw",
    [
        body("192.0.2.0/25"),
        body("192.0.3.0/24"),
        body("192.0.2.0/24", table=OTHER_TABLE),
        body("11.0.0.0/8"),
        body("2001:db9::/32"),
        body("2001:db8::/33"),
    ],
)
def test_the_filter_stops_the_rest(filtered: Filtered, raw: bytes) -> None:
    """Nothing else wakes the attendant; nothing at all does if nothing is wanted."""
    wanted = [prefix for one in WANTED for prefix in prefixes(one)]
    assert not filtered.passes(wanted, raw)
    assert not filtered.passes([], body("192.0.2.0/24"))
    assert not filtered.passes([prefixes("192.0.2.0/24")[0]], body("0.0.0.0/0"))
