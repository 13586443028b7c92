"""The attendant's checks that need a network of their own: links, addresses, routes, pings."""

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from carp.attendant.orders import MAX_MESSAGE_BYTES, Check, Checked, CheckKind, Forget, Watch, decode, encode
from carp.attendant.ping import Echo
from lab.netns import Namespace
from lab.wait import until

PATIENCE_S = 15
SOON_S = 0.5
"""Within this a change of the kernel's is told; without a stall of the machine it takes milliseconds."""

MILLISECOND_NS = 1_000_000
SECOND_NS = 1000 * MILLISECOND_NS
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all")


class Attendant:
    """An attendant inside a namespace, without any privilege but two raw sockets."""

    def __init__(self, inside: Namespace) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pings = {
            "--icmp": inside.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            "--icmp6": inside.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        }
        descriptors = {"--socket": theirs, **pings}
        words = [word for name, each in descriptors.items() for word in (name, str(each.fileno()))]
        line = inside.wrap(*NOBODY, sys.executable, "-m", "carp.attendant", *words)
        self.process = subprocess.Popen(line, pass_fds=[each.fileno() for each in descriptors.values()])
        for each in descriptors.values():
            each.close()
        self.socket.settimeout(PATIENCE_S)

    def watch(self, kind: CheckKind, target: str, name: str = "c", **more: Any) -> None:
        """Order a check that decides at once."""
        usual: dict[str, Any] = {"interval_ns": 50 * MILLISECOND_NS, "timeout_ns": SECOND_NS, "rise": 1, "fall": 1}
        self.socket.send(encode(Watch(Check(name, kind, target, **{**usual, **more}))))

    def forget(self, name: str) -> None:
        """Take a check back."""
        self.socket.send(encode(Forget(name)))

    def next(self, timeout_s: float = PATIENCE_S) -> Checked:
        """Wait for the next result."""
        self.socket.settimeout(timeout_s)
        message = decode(self.socket.recv(MAX_MESSAGE_BYTES))
        assert isinstance(message, Checked), message
        return message

    def silent(self, seconds: float = 0.3) -> bool:
        """Tell whether nothing is said for so long."""
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(MAX_MESSAGE_BYTES, socket.MSG_PEEK)
        except TimeoutError:
            return True
        return False

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/schedstat").read_text().split()
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return max(int(fields[0]), sum(int(each.read_text().split()[0]) for each in threads)) / 1e9

    def wakenings(self) -> int:
        """Count how often it has slept and was wakened."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    def end(self) -> None:
        """End it as a daemon does."""
        self.socket.close()
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def host() -> Iterator[Namespace]:
    """Make a host with a link eth0 whose other end is eth1."""
    made = Namespace("attendant")
    made.ip(*PAIR)
    yield made
    made.delete()


@pytest.fixture
def attendant(host: Namespace) -> Iterator[Attendant]:
    """Start an attendant on it."""
    started = Attendant(host)
    yield started
    started.end()


PAIR = ("link add eth0 type veth peer name eth1", "link set eth1 up", "link set eth0 up")
BAD_LINKS = {
    "link set eth1 down": ({"has no carrier"}, ("link set eth1 up",)),
    "link set eth0 down": ({"is down"}, ("link set eth0 up",)),
    "link set eth0 down name wan0": ({"is down", "does not exist"}, ("link set wan0 name eth0", "link set eth0 up")),
    "link del eth0": ({"is down", "has no carrier", "does not exist"}, PAIR),
}
"""What is said of each; what is renamed or deleted goes down first."""


@pytest.mark.parametrize("change", BAD_LINKS)
def test_a_link(host: Namespace, attendant: Attendant, change: str) -> None:
    """It holds while the link is up and has a carrier; each change is told at once."""
    details, back = BAD_LINKS[change]
    attendant.watch(CheckKind.INTERFACE, "eth0")
    assert attendant.next() == Checked("c", True, "")
    host.ip(change)
    checked = attendant.next(SOON_S)
    assert not checked.holds
    assert checked.detail in details
    host.ip(*back)
    assert attendant.next(SOON_S).holds
    assert attendant.silent()


def test_links_without_a_carrier_to_speak_of(host: Namespace, attendant: Attendant) -> None:
    """An operational state that is unknown counts as up, as that of lo; a link that is not there is bad."""
    attendant.watch(CheckKind.INTERFACE, "lo", "a")
    assert attendant.next() == Checked("a", True, "")
    attendant.watch(CheckKind.INTERFACE, "eth9", "b")
    assert attendant.next() == Checked("b", False, "does not exist")
    host.ip("link add eth9 type veth peer name eth8", "link set eth8 up", "link set eth9 up")
    assert attendant.next(SOON_S) == Checked("b", True, "")


def test_a_port_of_a_bridge_is_still_there(host: Namespace, attendant: Attendant) -> None:
    """Joining and leaving a bridge is no end of a link."""
    attendant.watch(CheckKind.INTERFACE, "eth0")
    assert attendant.next().holds
    host.ip("link add br0 type bridge", "link set br0 up", "link set eth0 master br0", "link set eth0 nomaster")
    assert attendant.silent()


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_an_address(host: Namespace, attendant: Attendant, address: str) -> None:
    """It holds while it is set anywhere, whatever its prefix, or on one link if that is asked for."""
    attendant.watch(CheckKind.ADDRESS, address, "any")
    attendant.watch(CheckKind.ADDRESS, address, "eth0", device="eth0")
    assert [attendant.next(), attendant.next()] == [Checked(name, False, "is not set") for name in ("any", "eth0")]
    host.ip(f"addr add {address}/32 dev lo")
    assert attendant.next(SOON_S) == Checked("any", True, "")
    assert attendant.silent()
    host.ip(f"addr add {address}/24 dev eth0 nodad" if ":" in address else f"addr add {address}/24 dev eth0")
    assert attendant.next(SOON_S) == Checked("eth0", True, "")
    host.ip(f"addr del {address}/32 dev lo")
    assert attendant.silent()
    host.ip("link del eth0")
    assert {attendant.next(SOON_S), attendant.next(SOON_S)} == {Checked(name, False, "is not set") for name in ("any", "eth0")}


def test_a_tentative_address(host: Namespace, attendant: Attendant) -> None:
    """It is not set before it is known to be nobody else's, and never if it is."""
    host.sysctl("ipv6/conf/eth0/accept_dad", 1)
    host.sysctl("ipv6/conf/eth1/accept_dad", 0)
    attendant.watch(CheckKind.ADDRESS, "2001:db8::7")
    assert not attendant.next().holds
    begun = time.monotonic()
    host.ip("addr add 2001:db8::7/64 dev eth0")
    assert attendant.next() == Checked("c", True, "")
    assert time.monotonic() - begun > 0.5
    host.ip("addr del 2001:db8::7/64 dev eth0")
    assert not attendant.next(SOON_S).holds


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("default", "-4 default via 192.0.2.254"),
        ("0.0.0.0/0", "-4 default via 192.0.2.254"),
        ("default", "-6 default via 2001:db8::254"),
        ("198.51.100.0/24", "-4 198.51.100.0/24 via 192.0.2.254"),
        ("2001:db8:1::/48", "-6 2001:db8:1::/48 via 2001:db8::254"),
        ("198.51.100.0/24", "-4 198.51.100.0/24 nexthop via 192.0.2.254 nexthop via 192.0.2.253"),
    ],
)
def test_a_route(host: Namespace, attendant: Attendant, target: str, line: str) -> None:
    """It comes and goes, is told at once, and narrower or other ones do not count."""
    host.ip("addr add 192.0.2.1/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad")
    attendant.watch(CheckKind.ROUTE, target)
    assert attendant.next() == Checked("c", False, "no such route")
    family, prefix, rest = line.split(maxsplit=2)

    def change(word: str, more: str) -> None:
        host.run("ip", *f"{family} route {word} {prefix} {more} {rest}".split())

    change("add", "table 77")
    host.ip("route add 198.51.100.0/25 via 192.0.2.254", "route add unreachable 198.51.100.0/24 metric 4000")
    assert attendant.silent()
    change("add", "metric 100")
    assert attendant.next(SOON_S) == Checked("c", True, "")
    change("add", "metric 200")
    change("del", "metric 100")
    assert attendant.silent()
    change("del", "metric 200")
    assert attendant.next(SOON_S) == Checked("c", False, "no such route")


def test_a_route_through_a_link(host: Namespace, attendant: Attendant) -> None:
    """Others do not count; a link that is there only later does, also if it takes the route along silently."""
    host.ip("addr add 192.0.2.1/24 dev eth0")
    attendant.watch(CheckKind.ROUTE, "default", device="wan0")
    assert not attendant.next().holds
    host.ip("route add default via 192.0.2.254 dev eth0")
    assert attendant.silent()
    host.ip("link add wan0 type veth peer name wan1", "link set wan0 up", "route add default dev wan0 metric 5")
    assert attendant.next(SOON_S) == Checked("c", True, "")
    assert attendant.silent(1.3)
    host.ip("link set wan0 down")
    assert not attendant.next(2).holds


def test_a_route_that_is_there_already(host: Namespace, attendant: Attendant) -> None:
    """The first result is good, also for the first check of all, when nothing is known of the links yet."""
    host.ip("addr add 192.0.2.1/24 dev eth0", "route add default via 192.0.2.254")
    attendant.watch(CheckKind.ROUTE, "default", device="eth0")
    assert attendant.next() == Checked("c", True, "")
    attendant.watch(CheckKind.ROUTE, "192.0.2.0/24", "connected", device="eth0")
    assert attendant.next() == Checked("connected", True, "")


def test_a_full_table_costs_little(host: Namespace, attendant: Attendant, tmp_path: Path) -> None:
    """Changes of routes that nobody watches do not wake the attendant, and it finds its own among very many."""
    host.ip("addr add 192.0.2.1/24 dev eth0", "route add 198.51.100.0/24 via 192.0.2.254")
    attendant.watch(CheckKind.ROUTE, "198.51.100.0/24", "there")
    attendant.watch(CheckKind.ROUTE, "198.51.101.0/24", "absent")
    assert {attendant.next(), attendant.next()} == {Checked("there", True, ""), Checked("absent", False, "no such route")}
    attendant.silent(1.2)
    processor, wakenings = attendant.cpu_s(), attendant.wakenings()
    networks = [f"{a}.{b}.{c}.0/24" for a in (20, 21) for b in range(100) for c in range(250)]
    host.ip(*(f"route add {network} via 192.0.2.254" for network in networks))
    assert attendant.wakenings() - wakenings < 100
    assert attendant.cpu_s() - processor < 0.3
    host.ip("route del 198.51.100.0/24", "route add 198.51.101.0/24 via 192.0.2.254")
    assert {attendant.next(), attendant.next()} == {Checked("there", False, "no such route"), Checked("absent", True, "")}


def test_lost_notifications(host: Namespace, attendant: Attendant) -> None:
    """When more came than the queue holds everything is read anew, and the end is right."""
    attendant.watch(CheckKind.ADDRESS, "192.0.2.1")
    attendant.watch(CheckKind.INTERFACE, "eth0", "link")
    assert not attendant.next().holds
    assert attendant.next().holds
    attendant.process.send_signal(19)
    host.ip(*(f"addr add 10.{number // 250}.{number % 250}.1/32 dev lo" for number in range(12000)))
    host.ip("addr add 192.0.2.1/24 dev eth0", "link set eth1 down")
    attendant.process.send_signal(18)
    assert {attendant.next(), attendant.next()} == {Checked("c", True, ""), Checked("link", False, "has no carrier")}


def test_checks_come_and_go(host: Namespace, attendant: Attendant) -> None:
    """A forgotten one is silent; one in the place of another has a first result of its own."""
    attendant.watch(CheckKind.INTERFACE, "eth0")
    assert attendant.next().holds
    attendant.watch(CheckKind.ADDRESS, "192.0.2.1")
    assert attendant.next() == Checked("c", False, "is not set")
    attendant.watch(CheckKind.ROUTE, "default")
    assert attendant.next() == Checked("c", False, "no such route")
    attendant.forget("c")
    host.ip("link set eth0 down", "addr add 192.0.2.1/24 dev eth0", "link set eth0 up", "route add default via 192.0.2.2")
    assert attendant.silent()
    attendant.watch(CheckKind.ROUTE, "default")
    assert attendant.next().holds
    for kind, target in ((CheckKind.ADDRESS, "nonsense"), (CheckKind.ROUTE, "192.0.2.1/24"), (CheckKind.INTERFACE, "")):
        attendant.watch(kind, target)
        assert not attendant.next().holds


@pytest.fixture
def peer(host: Namespace) -> Iterator[Namespace]:
    """Put the other end of eth0 on another host."""
    made = Namespace("peer")
    host.ip("addr add 192.0.2.1/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad", f"link set eth1 netns {made.name}")
    made.ip("addr add 192.0.2.2/24 dev eth1", "addr add 2001:db8::2/64 dev eth1 nodad", "addr add fe80::2/64 dev eth1 nodad")
    made.ip("link set eth1 up")
    host.ip("addr add fe80::1/64 dev eth0 nodad")
    yield made
    made.delete()


@pytest.mark.parametrize("target", ["192.0.2.2", "2001:db8::2", "fe80::2%eth0", "127.0.0.1", "::1"])
def test_a_ping(host: Namespace, peer: Namespace, attendant: Attendant, target: str) -> None:
    """It holds while the address answers."""
    peer.run("ip", "link", "set", "eth1", "up")
    attendant.watch(CheckKind.PING, target, timeout_ns=3 * SECOND_NS, fall=2)
    assert attendant.next() == Checked("c", True, "")
    if target not in ("127.0.0.1", "::1"):
        attendant.watch(CheckKind.PING, target, timeout_ns=200 * MILLISECOND_NS)
        assert attendant.next().holds
        peer.sysctl("ipv4/icmp_echo_ignore_all", 1)
        peer.sysctl("ipv6/icmp/echo_ignore_all", 1)
        assert attendant.next() == Checked("c", False, "no answer in 0.2 s")


def test_pings_that_cannot_be_sent(peer: Namespace, attendant: Attendant) -> None:
    """Say why."""
    attendant.watch(CheckKind.PING, "203.0.113.1")
    assert attendant.next() == Checked("c", False, "Network is unreachable")
    attendant.watch(CheckKind.PING, "fe80::2%eth9")
    assert attendant.next() == Checked("c", False, "there is no interface eth9")


def test_many_pings_at_once(peer: Namespace, attendant: Attendant) -> None:
    """Each hears its own answer."""
    for number in range(200):
        target = "192.0.2.2" if number % 2 else "192.0.2.77"
        attendant.watch(CheckKind.PING, target, f"c{number}", timeout_ns=400 * MILLISECOND_NS, interval_ns=3600 * SECOND_NS)
    results = {int(one.name[1:]): one.holds for one in (attendant.next() for _ in range(200))}
    assert results == {number: bool(number % 2) for number in range(200)}


FORGERIES: dict[str, Callable[[int, int], tuple[int, int, int, int]]] = {
    "wrong identifier": lambda identifier, sequence: (0, 0, identifier ^ 1, sequence),
    "wrong sequence number": lambda identifier, sequence: (0, 0, identifier, sequence ^ 1),
    "a request": lambda identifier, sequence: (8, 0, identifier, sequence),
    "wrong code": lambda identifier, sequence: (0, 1, identifier, sequence),
}


@pytest.mark.parametrize("forgery", [*FORGERIES, "wrong source", "cut off"])
def test_forged_replies(host: Namespace, peer: Namespace, forgery: str) -> None:
    """Only a reply with identifier, sequence number and source of the request counts."""
    peer.ip("addr add 192.0.2.9/24 dev eth1")
    peer.sysctl("ipv4/icmp_echo_ignore_all", 1)
    raw = host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    right, wrong = (peer.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) for _ in range(2))
    right.bind(("192.0.2.9", 0))
    wrong.bind(("192.0.2.2", 0))

    async def scenario() -> None:
        echo = Echo(4, raw.detach())
        asked = asyncio.ensure_future(echo.ask(ip_address("192.0.2.9")))
        await asyncio.sleep(0)
        identifier, ((sequence, _, _),) = echo._identifier, echo._waiting
        good = reply(0, 0, identifier, sequence)
        if forgery == "wrong source":
            wrong.sendto(good, ("192.0.2.1", 0))
        elif forgery == "cut off":
            right.sendto(good[:6], ("192.0.2.1", 0))
        else:
            right.sendto(reply(*FORGERIES[forgery](identifier, sequence)), ("192.0.2.1", 0))
        assert not await within(asked, 0.3)
        right.sendto(good, ("192.0.2.1", 0))
        assert await within(asked, PATIENCE_S)
        echo.close()

    with right, wrong:
        asyncio.run(scenario())


async def within(future: Awaitable[None], seconds: float) -> bool:
    """Tell whether something is done in time; it goes on if not."""
    done, _ = await asyncio.wait([asyncio.ensure_future(future)], timeout=seconds)
    return bool(done)


def reply(kind: int, code: int, identifier: int, sequence: int) -> bytes:
    """Write an ICMP message with its checksum."""
    total = sum((kind << 8 | code, identifier, sequence))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", kind, code, ~total & 0xFFFF, identifier, sequence)


def test_it_goes_on_without_a_network(host: Namespace, attendant: Attendant) -> None:
    """A namespace that loses everything is no reason to end."""
    attendant.watch(CheckKind.INTERFACE, "eth0")
    assert attendant.next().holds
    host.ip("link del eth0", "link set lo down")
    assert not attendant.next(SOON_S).holds
    until(lambda: attendant.process.poll() is None, PATIENCE_S, "the attendant")
