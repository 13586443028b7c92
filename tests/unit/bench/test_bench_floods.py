"""The frames of the floods are wrong in one way and right in all others, and no more of them are sent than was asked for."""

import struct
from ipaddress import IPv4Address

import pytest

from bench import flood_sender
from carp.protocol.packet import Advertisement, DropReason, decode, parse_ip
from carp.protocol.values import Family
from lab.wire import checksum, digest

VIP, MASTER = "10.112.1.1", "10.112.255.1"
MASTER_MAC = bytes.fromhex("00005e000101")
PASSWORD = "opensesame"


def frames_of(family, kind, version=2):
    """Return a pool."""
    return flood_sender.pool(family, kind, version, VIP, MASTER, MASTER_MAC)


def decoded(frame):
    """Return what carpd makes of a frame, before it looks at the digest."""
    return decode(parse_ip(Family.IPV4, frame[14:]))


def has_right_digest(frame):
    """Tell whether the digest is that of the pass phrase and the addresses."""
    header = frame[34:]
    return header[16:36] == digest(PASSWORD, header[1], [VIP], header[8:16])


@pytest.mark.parametrize("kind", ["wrong digest", "forged"])
def test_only_the_digest_is_wrong(kind):
    """An advertisement like any other, but for its digest."""
    for frame in frames_of("carp", kind)[:5]:
        seen = decoded(frame)
        assert isinstance(seen, Advertisement)
        assert seen.vhid == 1
        assert not has_right_digest(frame)


def test_only_the_version_is_wrong():
    """What is refused is its version."""
    assert decoded(frames_of("carp", "wrong version")[0]) is DropReason.BAD_VERSION


def test_only_the_vhid_is_foreign():
    """Right in itself, and of a group that nobody here is in."""
    frame = frames_of("carp", "foreign vhid")[0]
    assert decoded(frame).vhid == 77
    assert has_right_digest(frame)


@pytest.mark.parametrize("family", ["carp", "vrrp"])
def test_a_forger_has_the_masters_addresses(family):
    """Source IP and MAC are the real master's; of other kinds they are a stranger's."""
    forged, other = frames_of(family, "forged")[0], frames_of(family, "wrong digest")[0]
    assert (forged[6:12], forged[26:30]) == (MASTER_MAC, IPv4Address(MASTER).packed)
    assert other[6:12] != MASTER_MAC
    assert other[26:30] != IPv4Address(MASTER).packed


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", flood_sender.KINDS)
def test_vrrp_is_wrong_in_the_same_ways(kind, version):
    """Its checksum stands for the digest."""
    frame = frames_of("vrrp", kind, version)[0]
    body = frame[34:]
    pseudo = frame[26:34] + struct.pack("!HH", 112, len(body)) if body[0] >> 4 == 3 else b""
    assert checksum(frame[14:34]) == 0
    assert (checksum(pseudo + body) == 0) == (kind not in ("wrong digest", "forged"))
    assert (body[0] >> 4 == version) == (kind != "wrong version")
    assert (body[1] == 1) == (kind != "foreign vhid")


def test_frames_of_a_pool_differ():
    """The same frame again and again could be remembered."""
    assert len(set(frames_of("carp", "wrong digest"))) == flood_sender.POOL


class Counted:
    """Batches that count."""

    def __init__(self):
        self.counts = []

    def send(self, _descriptor, count):
        """Take what there is to send."""
        self.counts.append(count)
        return min(count, flood_sender.BATCH)


@pytest.mark.parametrize("rate", [2, 1000, 100_000])
def test_no_more_is_sent_than_was_asked_for(rate):
    """A machine that stood still does not make up for it beyond the rate."""
    counted = Counted()
    sent, seconds = flood_sender.flood(0, counted, rate, 0.05)
    assert 1 <= sent <= rate * seconds + 1
    assert max(counted.counts) <= max(1, rate * 0.02)
