"""The programs of the fence, run by the kernel over packets as bytes (BPF_PROG_TEST_RUN); nothing is attached anywhere.

The kernel lends the loopback interface (index 1), which plays the carp interface or the parent.
"""

import random
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from carp.linux.bpf.fence import Fence
from carp.linux.netlink import Netlink
from carp.protocol.values import Instant

PASS, DROP = -1, 2
LOOPBACK = 1
SLOT = 5
VIP4, VIP6 = "192.0.2.100", "2001:db8::100"
OTHER4, OTHER6 = "192.0.2.9", "2001:db8::9"
SECOND_NS = 10**9
UDP, TCP, CARP, ICMPV6, HOP_BY_HOP, FRAGMENT = 17, 6, 112, 58, 0, 44
IN, OUT, LINK = "carp_parent_in", "carp_parent_out", "carp_link"


def boottime() -> int:
    """Return the fence's clock in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Fence]:
    """A fence with both virtual addresses on the interface, loaded once for all tests."""
    fence = Fence.load()
    fence.set_vips(LOOPBACK, SLOT, [ip_address(VIP4), ip_address(VIP6)])
    yield fence
    fence.close()


@pytest.fixture
def fence(loaded: Fence) -> Fence:
    """The same fence, closed."""
    loaded.deadlines.close_slot(SLOT)
    return loaded


@pytest.fixture
def link(fence: Fence) -> Iterator[Fence]:
    """A fence that also knows the interface as a carp interface; the map alone is written, nothing is attached."""
    fence._links_map.update(struct.pack("=I", LOOPBACK), struct.pack("=I", SLOT))
    yield fence
    fence.forget_link(LOOPBACK)


def open_it(fence: Fence, for_ns: int = 100 * SECOND_NS) -> None:
    """Move the deadline that far from now."""
    fence.deadlines.extend(SLOT, Instant(boottime() + for_ns))


def ethernet(kind: int, payload: bytes, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """Return an Ethernet frame; tags are pairs of EtherType and tag control information."""
    tagged = b"".join(struct.pack("!HH", tag, tci) for tag, tci in tags)
    return bytes.fromhex("020000000001020000000002") + tagged + struct.pack("!H", kind) + payload


def ipv4(source: str, destination: str, protocol: int = UDP, *, fragment: int = 0, options: bytes = b"") -> bytes:
    """Return an IPv4 packet; `fragment` is the field with flags and offset."""
    length = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | length // 4, 0, length + 8, 1, fragment, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + options + bytes(8)


def ipv6(source: str, destination: str, following: int = UDP, payload: bytes = bytes(8)) -> bytes:
    """Return an IPv6 packet."""
    head = struct.pack("!IHBB", 0x60000000, len(payload), following, 255)
    return head + ip_address(source).packed + ip_address(destination).packed + payload


def arp(sender: str, target: str, operation: int = 1, kind: tuple[int, int, int, int] = (1, 0x0800, 6, 4)) -> bytes:
    """Return an ARP packet; `kind` is hardware type, protocol type and both address lengths."""
    head = struct.pack("!HHBBH", *kind, operation)
    return head + bytes(6) + ip_address(sender).packed + bytes(6) + ip_address(target).packed


def neighbour(kind: int, target: str) -> bytes:
    """Return a neighbour solicitation (135) or advertisement (136)."""
    return struct.pack("!BBHI", kind, 0, 0, 0) + ip_address(target).packed


def frame4(*arguments: object, **options: object) -> bytes:
    """Return an IPv4 packet in a frame."""
    return ethernet(0x0800, ipv4(*arguments, **options))  # type: ignore[arg-type]


def frame6(*arguments: object, **options: object) -> bytes:
    """Return an IPv6 packet in a frame."""
    return ethernet(0x86DD, ipv6(*arguments, **options))  # type: ignore[arg-type]


def frame_arp(*arguments: object, **options: object) -> bytes:
    """Return an ARP packet in a frame."""
    return ethernet(0x0806, arp(*arguments, **options))  # type: ignore[arg-type]


NA_OF_VIP = neighbour(136, VIP6)
FENCED = {
    "IPv4 to a VIP": (IN, frame4(OTHER4, VIP4)),
    "IPv4 with options to a VIP": (IN, frame4(OTHER4, VIP4, TCP, options=bytes(40))),
    "first fragment to a VIP": (IN, frame4(OTHER4, VIP4, fragment=0x2000)),
    "later fragment to a VIP": (IN, frame4(OTHER4, VIP4, fragment=100)),
    "IPv4 with priority tag to a VIP": (IN, ethernet(0x0800, ipv4(OTHER4, VIP4), ((0x8100, 0xE000),))),
    "IPv6 with priority tag to a VIP": (IN, ethernet(0x86DD, ipv6(OTHER6, VIP6), ((0x8100, 0xE000),))),
    "IPv6 to a VIP": (IN, frame6(OTHER6, VIP6)),
    "IPv6 with extension header to a VIP": (IN, frame6(OTHER6, VIP6, HOP_BY_HOP, bytes((CARP, 0, 1, 4, 0, 0, 0, 0)))),
    "IPv6 fragment to a VIP": (IN, frame6(OTHER6, VIP6, FRAGMENT, bytes((UDP, 0, 0, 1, 0, 0, 0, 1)))),
    "IPv6 header alone to a VIP": (IN, frame6(OTHER6, VIP6, payload=b"")),
    "IPv4 from a VIP": (OUT, frame4(VIP4, OTHER4)),
    "fragment from a VIP": (OUT, frame4(VIP4, OTHER4, fragment=100)),
    "IPv6 from a VIP": (OUT, frame6(VIP6, OTHER6)),
    "IPv6 with priority tag from a VIP": (OUT, ethernet(0x86DD, ipv6(VIP6, OTHER6), ((0x8100, 0),))),
    "ARP request of a VIP": (OUT, frame_arp(VIP4, OTHER4, 1)),
    "ARP reply of a VIP": (OUT, frame_arp(VIP4, OTHER4, 2)),
    "gratuitous ARP": (OUT, frame_arp(VIP4, VIP4, 1)),
    "NA of a VIP from it": (OUT, frame6(VIP6, "ff02::1", ICMPV6, NA_OF_VIP)),
    "NA of a VIP from another source": (OUT, frame6("fe80::1", "ff02::1", ICMPV6, NA_OF_VIP)),
    "NA of a VIP with priority tag": (OUT, ethernet(0x86DD, ipv6("fe80::1", OTHER6, ICMPV6, NA_OF_VIP), ((0x8100, 0),))),
}
FREE = {
    "IPv4 to another": (IN, frame4(VIP4, OTHER4)),
    "IPv6 to another": (IN, frame6(VIP6, OTHER6)),
    "advertisement over IPv4": (IN, frame4(OTHER4, "224.0.0.18", CARP)),
    "unicast advertisement to a VIP": (IN, frame4(OTHER4, VIP4, CARP)),
    "unicast advertisement over IPv6 to a VIP": (IN, frame6(OTHER6, VIP6, CARP)),
    "ARP request for a VIP": (IN, frame_arp(OTHER4, VIP4, 1)),
    "ARP reply of the other owner": (IN, frame_arp(VIP4, OTHER4, 2)),
    "NA of the other owner": (IN, frame6("fe80::1", OTHER6, ICMPV6, NA_OF_VIP)),
    "NS for a VIP": (IN, frame6(OTHER6, "ff02::1:ff00:100", ICMPV6, neighbour(135, VIP6))),
    "VLAN to a VIP": (IN, ethernet(0x0800, ipv4(OTHER4, VIP4), ((0x8100, 7),))),
    "service VLAN to a VIP": (IN, ethernet(0x86DD, ipv6(OTHER6, VIP6), ((0x88A8, 7),))),
    "two tags to a VIP": (IN, ethernet(0x0800, ipv4(OTHER4, VIP4), ((0x88A8, 0), (0x8100, 7)))),
    "another EtherType": (IN, ethernet(0x88CC, ipv4(OTHER4, VIP4))),
    "frame with a length": (IN, ethernet(0x0026, ipv4(OTHER4, VIP4))),
    "IPv4 to a VIP from here": (OUT, frame4(OTHER4, VIP4)),
    "IPv6 to a VIP from here": (OUT, frame6(OTHER6, VIP6)),
    "advertisement from a VIP": (OUT, frame4(VIP4, "224.0.0.18", CARP)),
    "advertisement over IPv6 from a VIP": (OUT, frame6(VIP6, "ff02::12", CARP)),
    "ARP request of an own address for a VIP": (OUT, frame_arp(OTHER4, VIP4, 1)),
    "ARP probe for a VIP": (OUT, frame_arp("0.0.0.0", VIP4, 1)),
    "ARP of another hardware": (OUT, frame_arp(VIP4, OTHER4, 1, (6, 0x0800, 6, 4))),
    "ARP of another protocol": (OUT, frame_arp(VIP4, OTHER4, 1, (1, 0x0806, 6, 4))),
    "ARP of other lengths": (OUT, frame_arp(VIP4, OTHER4, 1, (1, 0x0800, 8, 4))),
    "NA of another": (OUT, frame6("fe80::1", "ff02::1", ICMPV6, neighbour(136, OTHER6))),
    "NS for a VIP from here": (OUT, frame6(OTHER6, "ff02::1:ff00:100", ICMPV6, neighbour(135, VIP6))),
    "truncated NA of a VIP": (OUT, frame6("fe80::1", "ff02::1", ICMPV6, NA_OF_VIP[:-1])),
    "UDP that looks like an NA": (OUT, frame6("fe80::1", "ff02::1", UDP, NA_OF_VIP)),
    "VLAN from a VIP": (OUT, ethernet(0x0800, ipv4(VIP4, OTHER4), ((0x8100, 7),))),
    "VLAN ARP of a VIP": (OUT, ethernet(0x0806, arp(VIP4, OTHER4), ((0x8100, 7),))),
}


@pytest.mark.parametrize(("program", "packet"), FENCED.values(), ids=FENCED)
def test_what_concerns_a_virtual_address_passes_only_while_open(fence: Fence, program: str, packet: bytes) -> None:
    """Closed it drops and is counted; open it passes, unchanged and uncounted; past its deadline it drops again."""
    before = fence.deadlines.dropped(SLOT)
    assert fence.test_run(program, packet).verdict == DROP
    assert fence.deadlines.dropped(SLOT) == before + 1
    open_it(fence)
    assert fence.test_run(program, packet).verdict == PASS
    assert fence.test_run(program, packet).packet == packet
    assert fence.deadlines.dropped(SLOT) == before + 1
    open_it(fence, for_ns=-1)
    assert fence.test_run(program, packet).verdict == DROP


@pytest.mark.parametrize(("program", "packet"), FREE.values(), ids=FREE)
def test_everything_else_passes_on_the_parent(fence: Fence, program: str, packet: bytes) -> None:
    """It passes open and closed, unchanged and uncounted."""
    before = fence.deadlines.dropped(SLOT)
    for _ in range(2):
        done = fence.test_run(program, packet)
        assert (done.verdict, done.packet) == (PASS, packet)
        open_it(fence)
    assert fence.deadlines.dropped(SLOT) == before


@pytest.mark.parametrize("packet", [packet for _, packet in (FENCED | FREE).values()], ids=FENCED | FREE)
def test_a_carp_interface_passes_all_or_nothing(link: Fence, packet: bytes) -> None:
    """Whatever it is, protocol 112 and VLANs too: it drops while closed and passes while open."""
    before = link.deadlines.dropped(SLOT)
    assert link.test_run(LINK, packet).verdict == DROP
    assert link.deadlines.dropped(SLOT) == before + 1
    open_it(link)
    assert link.test_run(LINK, packet).verdict == PASS
    open_it(link, for_ns=-1)
    assert link.test_run(LINK, packet).verdict == DROP


def test_an_unknown_carp_interface_drops_everything(link: Fence) -> None:
    """Without a slot there is no deadline, and nothing to count on."""
    open_it(link)
    link.forget_link(LOOPBACK)
    before = link.deadlines.dropped(SLOT)
    assert link.test_run(LINK, frame4(OTHER4, VIP4)).verdict == DROP
    assert link.deadlines.dropped(SLOT) == before


@pytest.mark.parametrize("program", [IN, OUT])
@pytest.mark.parametrize(
    "whole", [frame4(VIP4, VIP4), frame6(VIP6, VIP6, ICMPV6, NA_OF_VIP), frame_arp(VIP4, VIP4)], ids=["IPv4", "IPv6", "ARP"]
)
def test_a_truncated_packet_passes_on_the_parent(fence: Fence, program: str, whole: bytes) -> None:
    """What ends before its address cannot be anybody's; no length upsets a program."""
    address_end = 14 + (40 if whole[12:14] == b"\x86\xdd" else 20)
    for length in range(15, len(whole)):
        try:
            verdict = fence.test_run(program, whole[:length]).verdict
        except OSError:
            continue  # newer kernels run no program over half a header
        assert verdict == PASS or length >= min(address_end, 14 + 24)


@pytest.mark.parametrize("program", [IN, OUT, LINK])
def test_random_bytes_upset_nothing(fence: Fence, program: str) -> None:
    """Any bytes behind any EtherType give one of the two verdicts."""
    source = random.Random(112)
    kinds = [0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, 0x88CC]
    ran = 0
    for _ in range(3000):
        tags = tuple((source.choice((0x8100, 0x88A8)), source.choice((0, 0xE000, 9))) for _ in range(source.randrange(3)))
        packet = ethernet(source.choice(kinds), source.randbytes(source.randrange(1, 120)), tags)
        try:
            done = fence.test_run(program, packet)
        except OSError:
            continue
        ran += 1
        assert done.verdict in (PASS, DROP)
        assert done.packet == packet
    assert ran > 1000


def test_an_address_is_fenced_on_its_own_parent_only(fence: Fence) -> None:
    """The same address on another parent is another one."""
    fence.set_vips(LOOPBACK + 1, SLOT + 1, [ip_address("192.0.2.7")])
    assert fence.test_run(IN, frame4(OTHER4, "192.0.2.7")).verdict == PASS
    fence.set_vips(LOOPBACK + 1, SLOT + 1, [])


def test_the_addresses_of_a_slot_can_be_exchanged(fence: Fence) -> None:
    """set_vips fences exactly the given addresses of the slot, and leaves those of other slots alone."""
    names = ["192.0.2.201", "192.0.2.202", "2001:db8::201"]
    packets = {name: frame4(OTHER4, name) if "." in name else frame6(OTHER6, name) for name in names}

    def fenced() -> list[str]:
        return [name for name, packet in packets.items() if fence.test_run(IN, packet).verdict == DROP]

    fence.set_vips(LOOPBACK, SLOT + 1, map(ip_address, names[:2]))
    assert fenced() == names[:2]
    fence.set_vips(LOOPBACK, SLOT + 1, map(ip_address, names[1:]))
    assert fenced() == names[1:]
    fence.set_vips(LOOPBACK, SLOT + 2, map(ip_address, names[2:]))  # moves to another slot
    fence.set_vips(LOOPBACK, SLOT + 1, [])
    assert fenced() == names[2:]
    fence.deadlines.extend(SLOT + 2, Instant(boottime() + SECOND_NS))
    assert fenced() == []
    fence.deadlines.close_slot(SLOT + 2)
    fence.set_vips(LOOPBACK, SLOT + 2, [])
    assert fenced() == []
    assert fence.test_run(IN, frame4(OTHER4, VIP4)).verdict == DROP


def test_a_deadline_is_what_was_last_said(fence: Fence) -> None:
    """Slots start closed; extend sets, in either direction; close_slot gives 0; slots do not touch each other."""
    deadlines = fence.deadlines
    assert deadlines.deadline(8191) == 0
    for value in (1, 2**63 - 1, 12345):
        deadlines.extend(8191, Instant(value))
        assert deadlines.deadline(8191) == value
    assert deadlines.deadline(8190) == 0
    deadlines.close_slot(8191)
    assert deadlines.deadline(8191) == 0
    with pytest.raises(IndexError):
        deadlines.extend(8192, Instant(1))


def test_a_slot_beyond_the_map_is_refused(fence: Fence) -> None:
    """The error names the slot and the range."""
    with pytest.raises(ValueError, match=r"slot 8192 is not in 0\.\.8191"):
        fence.set_vips(LOOPBACK, 8192, [ip_address("192.0.2.1")])


def test_nothing_is_attached_by_loading(fence: Fence) -> None:
    """The interface is not guarded."""
    netlink = Netlink()
    try:
        assert not fence.is_guarded(netlink, LOOPBACK)
    finally:
        netlink.close()


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("name", "program", "packet"),
    [
        ("carp interface", LINK, frame4(OTHER4, VIP4)),
        ("parent in, IPv4 to a VIP", IN, frame4(OTHER4, VIP4)),
        ("parent in, IPv6 to a VIP", IN, frame6(OTHER6, VIP6)),
        ("parent in, IPv4 to another", IN, frame4(OTHER4, OTHER4)),
        ("parent in, IPv6 to another", IN, frame6(OTHER6, OTHER6)),
        ("parent out, IPv4 of a VIP", OUT, frame4(VIP4, OTHER4)),
        ("parent out, IPv6 of a VIP", OUT, frame6(VIP6, OTHER6)),
        ("parent out, NA of a VIP", OUT, frame6("fe80::1", OTHER6, ICMPV6, NA_OF_VIP)),
        ("parent out, IPv4 of another", OUT, frame4(OTHER4, OTHER4)),
        ("parent out, IPv6 of another", OUT, frame6(OTHER6, OTHER6)),
        ("parent out, ARP of a VIP", OUT, frame_arp(VIP4, OTHER4)),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) and " " in value else "",
)
def test_a_packet_costs_next_to_nothing(link: Fence, name: str, program: str, packet: bytes, *, opened: bool) -> None:
    """The cost is printed; it is about 50 ns, and far below 1 us on any machine."""
    if opened:
        open_it(link)
    fastest = min(link.test_run(program, packet, repeat=50_000).duration_ns for _ in range(5))
    print(f"{name}, {'open' if opened else 'closed'}: {fastest} ns")
    assert fastest < 1000
