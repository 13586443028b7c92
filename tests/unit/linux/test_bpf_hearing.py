"""What the filter of packet sockets refuses: what the engine would refuse for the same reason, and nothing else."""

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from carp.linux.bpf.hearing import Hearing
from carp.linux.bpf.libbpf import FenceUnavailable
from carp.protocol.packet import DropReason
from carp.protocol.values import Family
from lab.wire import Forgery, checksum

ADMITTED = (1, 63, 64, 200, 255)
GOOD = Forgery(counter=bytes(range(8)))
GOOD6 = replace(GOOD, source="2001:db8::66")
MANY = 50
VRRP2 = bytes.fromhex("21 01 64 05 00 01") + bytes(30)
VRRP3 = bytes.fromhex("31 01 64 02 00 01 0000 c0000264 c0000265".replace(" ", ""))


class Heard:
    """One end of a socket pair has the filter, the other one sends."""

    def __init__(self) -> None:
        self.filter = Hearing.load()
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiver.setblocking(False)
        self.filter.attach(self._receiver)
        self.filter.admit(ADMITTED)

    def passes(self, frame: bytes) -> bool:
        """Send a frame; tell whether it comes through."""
        self._sender.send(frame)
        try:
            return self._receiver.recv(2048) == frame[:512]
        except BlockingIOError:
            return False

    def refused_for(self, frame: bytes) -> tuple[Family, DropReason] | None:
        """Send a frame many times, since one in 100 ms passes; return what it is refused for."""
        passed = sum(self.passes(frame) for _ in range(MANY))
        refused = self.filter.refused()
        assert passed + sum(count for _, _, count in refused) == MANY
        if not refused:
            return None
        ((family, reason, _),) = refused
        assert passed < MANY // 2
        return family, reason

    def close(self) -> None:
        """Close everything."""
        self._receiver.close()
        self._sender.close()
        self.filter.close()


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Make one."""
    made = Heard()
    yield made
    made.close()


def changed(frame: bytes, offset: int, value: int) -> bytes:
    """Change a byte."""
    return frame[:offset] + bytes((value,)) + frame[offset + 1 :]


def with_pseudo_header(one: Forgery) -> bytes:
    """Make an IPv6 frame with the checksum of NetBSD 2023."""
    frame = one.frame()
    head, header = frame[:54], frame[54:]
    bare = header[:6] + bytes(2) + header[8:]
    total = checksum(frame[22:54] + struct.pack("!II", 36, 112) + bare)
    return head + bare[:6] + struct.pack("!H", total) + bare[8:]


@pytest.mark.parametrize("good", [GOOD, GOOD6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"ttl": 254}, DropReason.BAD_TTL),
        ({"ttl": 254, "spoil_checksum": True, "vhid": 77, "version": 3}, DropReason.BAD_TTL),
        ({"spoil_checksum": True}, DropReason.BAD_CHECKSUM),
        ({"spoil_checksum": True, "vhid": 77, "version": 3}, DropReason.BAD_CHECKSUM),
        ({"version": 3}, DropReason.BAD_VERSION),
        ({"version": 1, "vhid": 77}, DropReason.BAD_VERSION),
        *(({"vhid": vhid}, DropReason.BAD_VHID) for vhid in (0, 2, 62, 65, 77, 199, 254)),
    ],
    ids=str,
)
def test_what_is_refused(heard: Heard, good: Forgery, wrong: dict[str, int], reason: DropReason) -> None:
    """The first of several faults counts, in the order of the engine; by family."""
    family = Family.IPV6 if ":" in good.source else Family.IPV4
    assert heard.refused_for(replace(good, **wrong).frame()) == (family, reason)  # type: ignore[arg-type]


def other_length(good: Forgery, vhid: int, length: int) -> bytes:
    """Make a frame whose advertisement is cut or padded with zeros."""
    return replace(good, payload=replace(good, vhid=vhid).header().ljust(length, b"\0")[:length]).frame()


OTHERS = replace(GOOD, vhid=77)
OTHERS6 = replace(GOOD6, vhid=77)
PASSING = {
    **{f"IPv4 vhid {vhid}": replace(GOOD, vhid=vhid).frame() for vhid in ADMITTED},
    **{f"IPv6 vhid {vhid}": replace(GOOD6, vhid=vhid).frame() for vhid in ADMITTED},
    "wrong digest": replace(GOOD, spoil_digest=True).frame(),
    "wrong digest, IPv6": replace(GOOD6, spoil_digest=True).frame(),
    "pseudo header": with_pseudo_header(GOOD6),
    "another group": replace(OTHERS, destination="224.0.0.99").frame(),
    "another group, IPv6": replace(OTHERS6, destination="ff02::13").frame(),
    "another scope": replace(OTHERS6, destination="ff05::12").frame(),
    "first fragment": replace(OTHERS, fragment=0x2000).frame(),
    "last fragment": replace(OTHERS, fragment=0x0001).frame(),
    "fragment, IPv6": replace(GOOD6, vhid=77, protocol=44, payload=bytes((112,)) + bytes(43)).frame(),
    "short": other_length(GOOD, 77, 35),
    "long": other_length(GOOD, 77, 38),
    "short, IPv6": other_length(GOOD6, 77, 20),
    "long, IPv6": other_length(GOOD6, 77, 38),
    "VRRP 2": replace(GOOD, payload=VRRP2).frame(),
    "VRRP 3": replace(GOOD, payload=VRRP3).frame(),
    "cut": OTHERS.frame()[:69],
    "cut, IPv6": OTHERS6.frame()[:89],
    "IP options": changed(OTHERS.frame(), 14, 0x46),
    "wrong IP checksum": changed(OTHERS.frame(), 24, 0),
    "wrong IP version": changed(OTHERS6.frame(), 14, 0x50),
}
NO_ADVERTISEMENTS = {
    "UDP": replace(GOOD, protocol=17).frame(),
    "ICMPv6": replace(GOOD6, protocol=58).frame(),
    "to one host": replace(GOOD, destination="192.0.2.1").frame(),
    "broadcast": replace(GOOD, destination="255.255.255.255").frame(),
    "to one host, IPv6": replace(GOOD6, destination="2001:db8::1").frame(),
    "a fragment of ICMPv6": replace(GOOD6, protocol=44, payload=bytes((58,)) + bytes(43)).frame(),
    "ARP": changed(GOOD.frame(), 13, 0x06),
    "short": GOOD.frame()[:20],
    "a byte": b"\0",
}


@pytest.mark.parametrize("frame", PASSING.values(), ids=PASSING.keys())
def test_what_passes(heard: Heard, frame: bytes) -> None:
    """What is right, and whatever is not as long as an advertisement to the group without anything unusual."""
    assert heard.refused_for(frame) is None
    assert heard.passes(frame)


@pytest.mark.parametrize("frame", NO_ADVERTISEMENTS.values(), ids=NO_ADVERTISEMENTS.keys())
def test_what_is_no_advertisement(heard: Heard, frame: bytes) -> None:
    """It neither passes nor counts, as with the classic filter; and so before it is known who is here."""
    for admitted in (ADMITTED, None):
        heard.filter.admit(admitted)
        assert not heard.passes(frame)
        assert heard.filter.refused() == []


@pytest.mark.parametrize("wrong", [{"ttl": 1}, {"spoil_checksum": True}, {"version": 3}, {"vhid": 77}], ids=str)
def test_at_first_and_on_request_nothing_is_judged(heard: Heard, wrong: dict[str, int]) -> None:
    """As on a host that allows no CARP."""
    frame = replace(GOOD, **wrong).frame()  # type: ignore[arg-type]
    assert heard.refused_for(frame) is not None
    heard.filter.admit(None)
    assert heard.refused_for(frame) is None


def test_what_is_admitted_follows(heard: Heard) -> None:
    """A vhid that comes is heard, one that goes is refused; none at all is a set, too."""
    frames = {vhid: replace(GOOD, vhid=vhid).frame() for vhid in (1, 77)}
    for admitted in ([77], [1, 77], [1], []):
        heard.filter.admit(admitted)
        assert [vhid for vhid, frame in frames.items() if heard.refused_for(frame) is None] == admitted


def test_it_outlives_its_handle_on_the_socket(heard: Heard) -> None:
    """The socket keeps filter and counters alive; closing is for the end."""
    frame = replace(GOOD, vhid=77).frame()
    heard.filter.close()
    assert sum(heard.passes(frame) for _ in range(MANY)) < MANY // 2
    heard.filter = Hearing.load()


def test_a_broken_object_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a kernel without BPF: the caller does without."""

    def refuse(*_: object) -> Callable[..., None]:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("carp.linux.bpf.hearing.BpfObject", refuse)
    with pytest.raises(FenceUnavailable, match="Operation not permitted"):
        Hearing.load()
