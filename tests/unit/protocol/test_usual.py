"""The usual advertisement: what fits passes every check step by step too, and is read the same."""

import pytest

from carp.protocol.packet import GROUP, TTL, DropReason, decode, parse_ip
from carp.protocol.usual import USUAL
from carp.protocol.values import Family
from carp.testing.packets import WRONG, Peer, change_byte, repair_carp_header, repair_ipv4_header, vrrp_packet

IPV4, IPV6 = Family
FAMILIES = pytest.mark.parametrize("family", list(Family), ids=str)
PAYLOAD_AT = {IPV4: 20, IPV6: 40}
ANY_VALUE = {
    # TOS, identification, reserved and DF, source.
    IPV4: {1, 4, 5, *range(12, 16)},
    # Traffic class and flow label, source.
    IPV6: {1, 2, 3, *range(8, 24)},
}


def repaired(family, packet):
    """Make the checksums of a packet right again."""
    packet = repair_carp_header(packet, family)
    return repair_ipv4_header(packet) if family is IPV4 else packet


def passes(family, packet):
    """Read a packet step by step; return the datagram and the advertisement, or None for what is not to be heard."""
    datagram = parse_ip(family, packet)
    if isinstance(datagram, DropReason) or datagram.destination != GROUP[family] or datagram.ttl != TTL:
        return None
    heard = decode(datagram)
    return None if isinstance(heard, DropReason) else (datagram, heard)


@FAMILIES
def test_the_usual_fits(family):
    """An advertisement to the group fits, and is read as it is step by step."""
    packet = Peer(vhid=7, advbase=3, advskew=9, demote=5).advertisement(family)
    usual = USUAL[family]
    assert usual.fits(packet)
    datagram, heard = passes(family, packet)
    assert usual.read(packet) == heard
    assert (packet[usual.source], packet[usual.vhid]) == (datagram.source, 7)


@FAMILIES
def test_what_fits_passes(family):
    """Whatever byte has whatever value: what fits passes all checks and is read the same; the checksums are right."""
    packet, usual = Peer().advertisement(family), USUAL[family]
    for offset in range(len(packet)):
        for value in (*range(0, 256, 5), packet[offset] ^ 1, packet[offset] ^ 16, packet[offset] ^ 32, packet[offset] ^ 128):
            changed = repaired(family, change_byte(packet, offset, value))
            read = passes(family, changed)
            if usual.fits(changed):
                assert read is not None, (offset, value)
                assert usual.read(changed) == read[1]
                assert changed[usual.source] == read[0].source
            elif offset in ANY_VALUE[family] or offset > PAYLOAD_AT[family] + 3:
                assert read is None, (offset, value)


@FAMILIES
def test_wrong_checksums_do_not_fit(family):
    """One wrong bit anywhere that a checksum covers is seen, also two that undo each other between the two headers."""
    packet, usual = Peer().advertisement(family), USUAL[family]
    at = PAYLOAD_AT[family]
    for offset in range(at, len(packet)):
        assert not usual.fits(change_byte(packet, offset, packet[offset] ^ 1)), offset
    if family is IPV4:
        for offset in range(at):
            assert not usual.fits(change_byte(packet, offset, packet[offset] ^ 1)), offset
        source = int.from_bytes(packet[14:16]) + 1
        counter = int.from_bytes(packet[at + 8 : at + 10]) - 1
        evened = packet[:14] + source.to_bytes(2) + packet[16 : at + 8] + counter.to_bytes(2) + packet[at + 10 :]
        assert not usual.fits(evened)


@FAMILIES
@pytest.mark.parametrize("reason", [reason for reason in WRONG if reason not in (DropReason.BAD_VHID, DropReason.BAD_DIGEST)])
def test_wrong_ones_do_not_fit(reason, family):
    """What is refused for its bytes alone does not fit."""
    assert not USUAL[family].fits(Peer().wrong(reason, family))


@FAMILIES
def test_vrrp_of_the_same_length_does_not_fit(family):
    """VRRP 2 with five addresses is as long as an advertisement."""
    packet = vrrp_packet(family, version=2, addresses=5 if family is IPV4 else 1)
    assert not USUAL[family].fits(packet)


def test_pseudo_header_fits():
    """Over IPv6 the checksum may be over the pseudo header too, as NetBSD 10 makes it."""
    assert USUAL[IPV6].fits(Peer().advertisement(IPV6, pseudo=True))


@FAMILIES
def test_other_lengths_do_not_fit(family):
    """What is cut, padded, or of no length at all is left to those who say why."""
    packet = Peer().advertisement(family)
    assert not any(USUAL[family].fits(one) for one in (packet[:-1], packet + b"\0", b""))
