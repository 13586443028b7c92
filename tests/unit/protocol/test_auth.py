"""Keys, the order of addresses, digests, and the grace in which the former digest goes on."""

from ipaddress import ip_address

import pytest

from carp.protocol.auth import (
    KEY_BYTES,
    ZERO_KEY,
    Authenticator,
    Digest,
    DigestSet,
    digest_addresses,
    key_from_hex,
    key_from_passphrase,
)
from carp.protocol.dialect import AUTO, DIALECTS, AddressOrder
from carp.protocol.values import Instant
from carp.testing.clock import seconds
from carp.testing.packets import digest_of

COUNTER = bytes.fromhex("0123456789abcdef")
KEY = key_from_passphrase("foobar")
GRACE = seconds(60)


def addresses(*texts):
    """Read addresses."""
    return [ip_address(text) for text in texts]


def packed(order, *texts, link_local=True):
    """Concatenate addresses as a digest takes them."""
    return digest_addresses(addresses(*texts), order, link_local=link_local)


def joined(*texts):
    """Concatenate addresses as given."""
    return b"".join(address.packed for address in addresses(*texts))


def digests(*texts, key=KEY, dialect=AUTO):
    """Prepare digests for vhid 1."""
    return DigestSet.prepare(dialect, key, 1, addresses(*texts))


OLD, NEW, NEWER = digests("192.0.2.1"), digests("192.0.2.1", "192.0.2.2"), digests("192.0.2.3")


class TestKeys:
    def test_passphrase_is_padded_with_zeros(self):
        """The key is 20 bytes, the pass phrase and zeros."""
        assert key_from_passphrase("secret") == b"secret" + bytes(14)

    def test_nineteen_bytes_are_the_most(self):
        """19 bytes fit; 20, which the BSDs would cut silently, are refused with the number."""
        assert len(key_from_passphrase("x" * 19)) == KEY_BYTES
        with pytest.raises(ValueError, match="20 bytes long, at most 19"):
            key_from_passphrase("x" * 20)

    def test_bytes_count_not_characters(self):
        """The length is that of the UTF-8 form."""
        with pytest.raises(ValueError, match="20 bytes"):
            key_from_passphrase("ä" * 10)

    def test_no_passphrase_is_the_zero_key(self):
        """An empty pass phrase is 20 zeros, and packets still need a valid digest."""
        assert key_from_passphrase("") == ZERO_KEY == bytes(20)

    def test_nul_is_refused(self):
        """A NUL byte would end the phrase in C and is refused."""
        with pytest.raises(ValueError, match="NUL"):
            key_from_passphrase("a\0b")

    def test_hex_key_uses_all_twenty_bytes(self):
        """40 digits give 20 bytes; any other number, or other letters, are refused."""
        assert key_from_hex("00ff" * 10) == bytes.fromhex("00ff" * 10)
        for wrong in ("00" * 19, "00" * 21, "", "zz" * 20):
            with pytest.raises(ValueError, match=r".+"):
                key_from_hex(wrong)


class TestAddressOrder:
    def test_sorted_ipv4_before_ipv6(self):
        """Addresses ascend as unsigned numbers, all of IPv4 before all of IPv6."""
        given = ("2001:db8::2", "192.0.2.2", "fe80::1", "10.0.0.1", "2001:db8::1")
        expected = joined("10.0.0.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "fe80::1")
        assert packed(AddressOrder.SORTED, *given) == expected

    def test_duplicates_count_once(self):
        """An address given twice is hashed once."""
        assert packed(AddressOrder.SORTED, "192.0.2.1", "192.0.2.1", "::5", "::5") == joined("192.0.2.1", "::5")

    def test_zero_and_all_ones_are_skipped(self):
        """0.0.0.0, 255.255.255.255, :: and ff..ff are never hashed."""
        given = ("0.0.0.0", "255.255.255.255", "::", "ff" * 2 + ":ffff" * 7, "192.0.2.1")
        assert packed(AddressOrder.SORTED, *given) == joined("192.0.2.1")

    def test_scope_is_zeroed(self):
        """Bytes 2 and 3 of a link-local address are hashed as zero."""
        assert packed(AddressOrder.SORTED, "fe80:7::1") == joined("fe80::1")
        assert packed(AddressOrder.SORTED, "ff02:7::1") == joined("ff02::1")

    @pytest.mark.parametrize("scoped", ["fe80::1", "febf::1", "ff01::1", "ff02::1"])
    def test_link_local_can_be_left_out(self, scoped):
        """The form without link-local leaves out every scoped address, and those alone."""
        assert packed(AddressOrder.SORTED, scoped, "2001:db8::1", link_local=False) == joined("2001:db8::1")

    @pytest.mark.parametrize("wide", ["fec0::1", "ff05::1", "fd00::1", "169.254.0.1"])
    def test_wider_scopes_stay(self, wide):
        """Site-local, wider multicast, unique-local and IPv4 link-local addresses are no scoped ones."""
        assert packed(AddressOrder.SORTED, wide, link_local=False) == joined(wide)

    def test_dragonfly_keeps_duplicates_and_ipv6_order(self):
        """DragonFly sorts IPv4 with duplicates and takes IPv6 as configured."""
        given = ("::9", "192.0.2.2", "192.0.2.1", "192.0.2.2", "::5")
        assert packed(AddressOrder.DRAGONFLY, *given) == joined("192.0.2.1", "192.0.2.2", "192.0.2.2", "::9", "::5")

    def test_interface_order_sorts_nothing(self):
        """FreeBSD 5 and 6 hash in interface order, IPv4 first."""
        given = ("::9", "192.0.2.2", "::5", "192.0.2.1")
        assert packed(AddressOrder.INTERFACE, *given) == joined("192.0.2.2", "192.0.2.1", "::9", "::5")


class TestDigest:
    def test_is_plain_hmac_sha1(self):
        """The prepared digest equals HMAC-SHA1 of version, type, vhid, addresses and counter."""
        listed = addresses("192.0.2.1", "2001:db8::1")
        prepared = Digest(KEY, 1, joined("192.0.2.1", "2001:db8::1"))
        assert prepared.of(COUNTER) == digest_of(KEY, 1, listed, COUNTER)

    def test_can_be_used_again(self):
        """Making one digest does not change the next."""
        prepared = Digest(KEY, 1, joined("192.0.2.1"))
        first = prepared.of(COUNTER)
        prepared.of(bytes(8))
        assert prepared.of(COUNTER) == first

    def test_lladdr_comes_before_the_vhid(self):
        """OpenBSD's interface MAC is hashed between type and vhid."""
        mac = bytes.fromhex("021122334455")
        assert Digest(KEY, 1, b"", mac).of(COUNTER) == Digest(KEY, mac[0], mac[1:] + b"\x01").of(COUNTER)

    def test_no_address_is_legal(self):
        """Without addresses the text is version, type, vhid and counter."""
        assert digests().send.of(COUNTER) == digest_of(KEY, 1, [], COUNTER)

    @pytest.mark.parametrize("name", ["auto", "openbsd"])
    def test_both_link_local_forms_are_accepted(self, name):
        """Both auto and OpenBSD send without link-local addresses and accept both forms."""
        made = digests("2001:db8::1", "fe80::1", dialect=DIALECTS[name])
        listed = addresses("2001:db8::1", "fe80::1")
        without, including = (digest_of(KEY, 1, listed, COUNTER, link_local=flag) for flag in (False, True))
        assert made.send.of(COUNTER) == without
        assert {one.of(COUNTER) for one in made.accept} == {without, including}

    @pytest.mark.parametrize("name", ["freebsd", "freebsd9", "netbsd"])
    def test_one_link_local_form_is_accepted(self, name):
        """The others send and accept the form with link-local addresses only."""
        made = digests("2001:db8::1", "fe80::1", dialect=DIALECTS[name])
        including = digest_of(KEY, 1, addresses("2001:db8::1", "fe80::1"), COUNTER, link_local=True)
        assert [one.of(COUNTER) for one in made.accept] == [made.send.of(COUNTER)] == [including]

    def test_equal_forms_are_tried_once(self):
        """Without link-local addresses both forms are one."""
        assert len(digests("192.0.2.1", "2001:db8::1").accept) == 1


class TestGrace:
    def accepts(self, authenticator, digest_set, at):
        return authenticator.verify(COUNTER, digest_set.send.of(COUNTER), Instant(at))

    def sends(self, authenticator, at):
        made = authenticator.sign(COUNTER, Instant(at))
        return next(one for one in (OLD, NEW, NEWER) if one.send.of(COUNTER) == made)

    def test_former_digest_is_sent_for_one_grace(self):
        """Until the grace ends the former digest goes on being sent, then the new one."""
        authenticator = Authenticator(OLD)
        authenticator.replace(NEW, Instant(0), GRACE)
        assert self.sends(authenticator, GRACE - 1) is OLD
        assert authenticator.in_grace(Instant(GRACE - 1))
        assert self.sends(authenticator, GRACE) is NEW
        assert not authenticator.in_grace(Instant(GRACE))

    def test_former_digest_is_accepted_for_two(self):
        """The last host may be changed at the end of its grace and then sends the old for one more: two are accepted."""
        authenticator = Authenticator(OLD)
        authenticator.replace(NEW, Instant(0), GRACE)
        assert self.accepts(authenticator, OLD, 2 * GRACE - 1)
        assert self.accepts(authenticator, NEW, 2 * GRACE - 1)
        assert not self.accepts(authenticator, OLD, 2 * GRACE)
        assert self.accepts(authenticator, NEW, 2 * GRACE)

    def test_grace_0_drops_the_former_at_once(self):
        """Without a grace only the new digest counts."""
        authenticator = Authenticator(OLD)
        authenticator.replace(NEW, Instant(0), 0)
        assert not self.accepts(authenticator, OLD, 0)
        assert self.sends(authenticator, 0) is NEW

    def test_second_change_keeps_the_oldest(self):
        """Within a running grace the peers still have the oldest digest: it stays the former one."""
        authenticator = Authenticator(OLD)
        authenticator.replace(NEW, Instant(0), GRACE)
        authenticator.replace(NEWER, Instant(10), GRACE)
        assert self.sends(authenticator, 20) is OLD
        assert self.accepts(authenticator, OLD, 20)
        assert self.accepts(authenticator, NEWER, 20)

    def test_change_after_the_grace_begins_another(self):
        """A change after the first grace makes the digest that is sent by then the former one."""
        authenticator = Authenticator(OLD)
        authenticator.replace(NEW, Instant(0), GRACE)
        authenticator.replace(NEWER, Instant(GRACE), GRACE)
        assert self.sends(authenticator, GRACE + 1) is NEW
        assert self.accepts(authenticator, NEWER, GRACE + 1)
        assert self.accepts(authenticator, OLD, 2 * GRACE - 1)
        assert not self.accepts(authenticator, OLD, 2 * GRACE)

    def test_what_is_replaced_within_a_grace_is_never_sent(self):
        """A second change within the grace of a first, of a mistyped pass phrase perhaps, begins the grace anew.

        The digest in the middle is accepted, but no peer need ever have had it: it is not sent.
        """
        authenticator = Authenticator(OLD)
        authenticator.replace(NEW, Instant(0), GRACE)
        authenticator.replace(NEWER, Instant(GRACE // 2), GRACE)
        assert self.sends(authenticator, GRACE // 2 + GRACE - 1) is OLD
        assert self.sends(authenticator, GRACE // 2 + GRACE) is NEWER
        for digests in (OLD, NEW, NEWER):
            assert self.accepts(authenticator, digests, GRACE // 2 + 2 * GRACE - 1)
        for digests in (OLD, NEW):
            assert not self.accepts(authenticator, digests, GRACE // 2 + 2 * GRACE)
