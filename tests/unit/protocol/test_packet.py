"""The bytes of an advertisement: IP headers, checksums, and what the parser refuses."""

import pytest

from carp.protocol.packet import (
    GROUP,
    GROUP_MAC,
    HEADER_BYTES,
    IP_PROTOCOL_CARP,
    Advertisement,
    Datagram,
    DropReason,
    decode,
    encode,
    internet_checksum,
    ipv4_packet,
    ipv6_packet,
    parse_ip,
    pseudo_header,
)
from carp.protocol.values import Family, virtual_mac
from carp.testing.hosts import DUAL_STACK
from carp.testing.packets import (
    SOURCE,
    WRONG,
    Peer,
    change_byte,
    repair_carp_header,
    repair_ipv4_header,
    vrrp_packet,
)

VALUE = Advertisement(7, 1, 100, 3, bytes(range(8)), bytes(range(20)))
FAMILIES = list(Family)


def read(packet, family=Family.IPV4):
    """Read an IP packet as far as it goes."""
    datagram = parse_ip(family, packet)
    return datagram if isinstance(datagram, DropReason) else decode(datagram)


def datagram(payload, family=Family.IPV4):
    """Wrap a payload as if it had come in a good IP packet."""
    return Datagram(family, SOURCE[family], GROUP[family], 255, payload)


class TestAdvertisement:
    def test_fields_lie_where_the_header_says(self):
        """Version and type, vhid, advskew, authlen 7, demote, advbase, checksum, counter, digest: 36 bytes in this order."""
        wire = encode(VALUE)
        assert len(wire) == HEADER_BYTES == 36
        assert wire[:6] == bytes((0x21, 7, 100, 7, 3, 1))
        assert wire[8:] == VALUE.counter + VALUE.digest

    def test_checksum_makes_the_sum_come_out_even(self):
        """The Internet checksum over the 36 bytes, its own field included, is 0."""
        assert internet_checksum(encode(VALUE)) == 0

    def test_what_is_encoded_is_decoded(self):
        """Decoding an encoded advertisement gives the same value."""
        assert decode(datagram(encode(VALUE))) == VALUE

    def test_bow_out_is_255_and_255(self):
        """Only advbase 255 together with advskew 255 is a farewell."""
        farewell = Advertisement(1, 255, 255, 0, bytes(8), bytes(20))
        assert farewell.is_bow_out
        assert not Advertisement(1, 255, 254, 0, bytes(8), bytes(20)).is_bow_out
        assert not Advertisement(1, 254, 255, 0, bytes(8), bytes(20)).is_bow_out

    @pytest.mark.parametrize("payload_bytes", [0, 1, 7, 8, 35])
    def test_shorter_than_the_header_is_too_short(self, payload_bytes):
        """Fewer than 36 bytes are too short, whatever they say."""
        assert decode(datagram(encode(VALUE)[:payload_bytes])) is DropReason.TOO_SHORT

    @pytest.mark.parametrize("extra", [1, 2, 4, 12, 48])
    def test_trailing_bytes_are_ignored(self, extra):
        """Bytes behind the 36 are neither summed nor looked at."""
        assert decode(datagram(encode(VALUE) + b"\xa5" * extra)) == VALUE

    def test_eight_trailing_bytes_do_not_make_it_vrrp(self):
        """Bytes behind an advertisement are ignored whatever their number; 8 make the length of VRRPv2 with 7 addresses."""
        assert decode(datagram(encode(VALUE) + bytes(8))) == VALUE

    @pytest.mark.parametrize("type_", [0, 2, 15])
    def test_type_is_not_checked(self, type_):
        """No BSD checks the type nibble."""
        changed = repair_carp_header(change_byte(Peer().advertisement(), 20, 0x20 | type_))
        assert isinstance(read(changed), Advertisement)

    @pytest.mark.parametrize("authlen", [0, 6, 255])
    def test_authlen_is_not_checked(self, authlen):
        """No BSD checks authlen."""
        changed = repair_carp_header(change_byte(Peer().advertisement(), 23, authlen))
        assert isinstance(read(changed), Advertisement)

    @pytest.mark.parametrize("version", [0, 1, 3, 15])
    def test_other_versions_are_refused(self, version):
        """A version nibble other than 2 under a good checksum is a bad version."""
        changed = repair_carp_header(change_byte(Peer().advertisement(), 20, version << 4 | 1))
        assert read(changed) is DropReason.BAD_VERSION

    def test_any_flipped_byte_breaks_the_checksum(self):
        """Without repair of the checksum, each changed byte of the 36 is a bad checksum."""
        good = Peer().advertisement()
        for offset in range(20, 56):
            assert read(change_byte(good, offset, good[offset] ^ 0x40)) is DropReason.BAD_CHECKSUM, offset


class TestChecksumOverIpv6:
    def test_without_pseudo_header(self):
        """Over IPv6 the checksum of most systems covers the 36 bytes alone."""
        assert isinstance(read(Peer(addresses=DUAL_STACK).advertisement(Family.IPV6), Family.IPV6), Advertisement)

    def test_with_pseudo_header(self):
        """Over IPv6 the form with the pseudo header is accepted too."""
        packet = Peer(addresses=DUAL_STACK).advertisement(Family.IPV6, pseudo=True)
        assert internet_checksum(packet[40:]) != 0
        assert isinstance(read(packet, Family.IPV6), Advertisement)

    def test_pseudo_header_is_the_one_of_ipv6(self):
        """The pseudo header is source, destination, 32-bit length, 32-bit next header."""
        source, group = SOURCE[Family.IPV6], GROUP[Family.IPV6]
        assert pseudo_header(source, group, 36, IP_PROTOCOL_CARP) == source + group + bytes((0, 0, 0, 36, 0, 0, 0, 112))

    def test_pseudo_header_counts_over_ipv6_only(self):
        """Over IPv4 no pseudo header is accepted."""
        pseudo = pseudo_header(SOURCE[Family.IPV6], GROUP[Family.IPV6], 36, IP_PROTOCOL_CARP)
        assert decode(datagram(encode(VALUE, pseudo))) is DropReason.BAD_CHECKSUM


class TestIpHeaders:
    def test_ipv4_header(self):
        """IPv4: length 56, DF, TTL 255, protocol 112, to 224.0.0.18, a good header checksum."""
        packet = ipv4_packet(SOURCE[Family.IPV4], GROUP[Family.IPV4], encode(VALUE), tos=0x10, identification=0x1234)
        assert packet[:10] == bytes.fromhex("45100038123440 00ff70")
        assert internet_checksum(packet[:20]) == 0
        assert packet[12:20] == SOURCE[Family.IPV4] + bytes((224, 0, 0, 18))

    def test_ipv6_header(self):
        """IPv6: payload 36, next header 112, hop limit 255, flow label 0, to ff02::12."""
        packet = ipv6_packet(SOURCE[Family.IPV6], GROUP[Family.IPV6], encode(VALUE), traffic_class=0xE0)
        assert packet[:8] == bytes.fromhex("6e000000002470ff")
        assert packet[8:40] == SOURCE[Family.IPV6] + bytes.fromhex("ff02" + "00" * 13 + "12")

    def test_ethernet_groups(self):
        """Advertisements go to 01:00:5e:00:00:12 and 33:33:00:00:00:12."""
        assert GROUP_MAC[Family.IPV4].hex(":") == "01:00:5e:00:00:12"
        assert GROUP_MAC[Family.IPV6].hex(":") == "33:33:00:00:00:12"

    def test_virtual_mac(self):
        """The virtual MAC is 00:00:5e:00:01:VHID."""
        assert virtual_mac(255).hex(":") == "00:00:5e:00:01:ff"

    @pytest.mark.parametrize("family", FAMILIES)
    def test_ethernet_padding_is_cut_off(self, family):
        """Bytes behind the IP packet's own length belong to Ethernet."""
        packet = Peer().advertisement(family)
        parsed = parse_ip(family, packet + bytes(10))
        assert isinstance(parsed, Datagram)
        assert len(parsed.payload) == 36

    def test_ipv4_options_are_skipped(self):
        """An IPv4 header with options is read to its end."""
        plain = Peer().advertisement()
        long = bytes((0x46,)) + plain[1:2] + (60).to_bytes(2) + plain[4:20] + b"\x01\x01\x01\x00" + plain[20:]
        assert isinstance(read(repair_ipv4_header(long)), Advertisement)

    @pytest.mark.parametrize(
        ("offset", "value"),
        [(0, 0x65), (0, 0x44), (9, 17), (3, 19), (2, 1)],
        ids=["version", "header too short", "protocol", "length below header", "length beyond packet"],
    )
    def test_broken_ipv4_headers(self, offset, value):
        """An IPv4 header that contradicts itself or is not of protocol 112 is refused."""
        packet = repair_ipv4_header(change_byte(Peer().advertisement(), offset, value))
        assert parse_ip(Family.IPV4, packet) is DropReason.BAD_IP_HEADER

    @pytest.mark.parametrize(("offset", "value"), [(0, 0x40), (5, 37), (6, 17)], ids=["version", "length", "next header"])
    def test_broken_ipv6_headers(self, offset, value):
        """An IPv6 header that contradicts itself or is not followed by CARP is refused."""
        packet = change_byte(Peer().advertisement(Family.IPV6), offset, value)
        assert parse_ip(Family.IPV6, packet) is DropReason.BAD_IP_HEADER

    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_cut_is_refused(self, family):
        """A packet cut anywhere is refused, never an error."""
        packet = Peer().advertisement(family)
        for length in range(len(packet)):
            assert read(packet[:length], family) is DropReason.BAD_IP_HEADER

    @pytest.mark.parametrize("offset_bits", [0x2000, 0x0001, 0x1FFF])
    def test_every_fragment_is_refused(self, offset_bits):
        """A packet with more fragments or an offset is a fragment, the first one too; DF alone is not."""
        packet = Peer().advertisement()
        changed = repair_ipv4_header(packet[:6] + offset_bits.to_bytes(2) + packet[8:])
        assert parse_ip(Family.IPV4, changed) is DropReason.FRAGMENT
        assert isinstance(read(repair_ipv4_header(packet[:6] + bytes(2) + packet[8:])), Advertisement)


class TestVrrp:
    @pytest.mark.parametrize("addresses", [1, 2, 4, 6, 20])
    def test_version_2(self, addresses):
        """VRRPv2: 8 bytes, the addresses, 8 bytes of authentication."""
        assert read(vrrp_packet(addresses=addresses)) is DropReason.FOREIGN_VRRP

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("addresses", [1, 2, 3])
    def test_version_3(self, family, addresses):
        """VRRPv3: 8 bytes and the addresses, of either family."""
        assert read(vrrp_packet(family, version=3, addresses=addresses), family) is DropReason.FOREIGN_VRRP

    @pytest.mark.parametrize("addresses", [5, 6])
    def test_version_2_of_the_length_of_carp(self, addresses):
        """VRRPv2 with five addresses is as long as CARP, and is told by where CARP always sends 7."""
        assert read(vrrp_packet(addresses=addresses)) is DropReason.FOREIGN_VRRP

    def test_what_could_be_either_is_read_as_carp(self):
        """VRRPv2 with seven addresses could be CARP with eight bytes more: it is read as CARP, and the digest will tell."""
        assert isinstance(read(vrrp_packet(addresses=7)), Advertisement)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reason", [reason for reason in WRONG if reason not in (DropReason.BAD_VHID, DropReason.BAD_DIGEST)])
def test_wrong_bytes_are_refused_without_a_configuration(reason, family):
    """What is wrong in the bytes is seen before any configuration is looked at; TTL and destination are the engine's checks."""
    found = read(Peer(addresses=DUAL_STACK).wrong(reason, family), family)
    if reason in (DropReason.BAD_TTL, DropReason.BAD_DESTINATION):
        assert isinstance(found, Advertisement)
    else:
        assert found is reason


def test_every_drop_reason_names_a_counter_of_the_bsds():
    """Each reason sums into one of the counters of carpstats, and each label is its own."""
    known = {"badif", "badttl", "hdrops", "badsum", "badver", "badlen", "badauth", "badvhid"}
    assert {reason.bsd for reason in DropReason} == known
    assert len({reason.value for reason in DropReason}) == len(DropReason)
