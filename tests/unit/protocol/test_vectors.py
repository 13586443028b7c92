"""Digests, packets and frames that real BSD code made; ours must be equal, byte for byte."""

import json
import random
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from carp.protocol.advertising import advertised, make_template
from carp.protocol.auth import Authenticator, DigestSet, key_from_hex, key_from_passphrase
from carp.protocol.cadence import Cadence
from carp.protocol.dialect import AUTO, DIALECTS, DemotionRule, Identification
from carp.protocol.packet import GROUP, GROUP_MAC, Advertisement, Datagram, decode, encode, parse_ip
from carp.protocol.parameters import InterfaceParameters, LinkAddress, Node
from carp.protocol.values import Family, Instant, State, virtual_mac
from carp.protocol.vhost import Timers, VirtualHost
from carp.testing.bench import Bench
from carp.testing.hosts import carp_interface, parent_up

VECTORS = Path(__file__).parents[2] / "vectors"
DERIVED = json.loads((VECTORS / "bsd-derived.json").read_text())
CAPTURED = json.loads((VECTORS / "netbsd-captured.json").read_text())["vectors"]

DIALECT_OF = {"freebsd14": "freebsd"}
SOURCES = {
    Family.IPV4: ip_address(DERIVED["meta"]["ip_src"]).packed,
    Family.IPV6: ip_address(DERIVED["meta"]["ip6_src"]).packed,
}
INJECTED_IDENTIFICATION = 0x1234
ETHERTYPE = {Family.IPV4: b"\x08\x00", Family.IPV6: b"\x86\xdd"}
NOW = Instant(0)
COUNTS_DEMOTION = (DemotionRule.BYTE, DemotionRule.ADD_TO_SKEW)
"""The older systems know only whether they are demoted; the vectors were made with them not demoted."""

ADVERTS = [
    pytest.param(vector, name, result, id=f"{vector['name']}-{name}")
    for vector in DERIVED["advert"]
    for name, result in vector["results"].items()
]
PACKETS = [
    pytest.param(vector, name, result, family, id=f"{vector['name']}-{name}-{family}")
    for vector in DERIVED["advert"]
    for name, result in vector["results"].items()
    for family in Family
    if f"packet_v{family.value}" in result
]
NETBSD = [pytest.param(vector, id=f"{number}-vhid{vector['vhid']}") for number, vector in enumerate(CAPTURED)]

V1_DIGEST = "0dfbb78df92ae15f6766260cb37e40aa27c5e542"
COUNTER = "0123456789abcdef"
SPECIFIED = {
    # name: pass phrase, vhid, addresses, (advskew, advbase, demote), the header's first 8 bytes, digest
    "V1": ("foobar", 1, "192.0.2.1", (0, 1, 0), "210100070001121a", V1_DIGEST),
    "V2": ("", 1, "192.0.2.1", (0, 1, 0), "210100070001f879", "20b8506481741e4bf43652a1759ae57b50ca44c2"),
    "V3": ("s3cret", 175, "10.1.1.100", (200, 1, 0), "21afc80700013d57", "1cafea93e966782950a8b362539b0b91c9bda502"),
    "V4": (
        *("foobar", 1, "192.0.2.2 192.0.2.1 2001:db8::1", (100, 1, 0)),
        *("2101640700010b6f", "8b60b6754df1564fad4c381693b838c219162057"),
    ),
    "V5": (
        *("foobar", 1, "fe80::200:5eff:fe00:101 2001:db8::1", (0, 1, 0)),
        *("210100070001b3b0", "39afefc85a9cdf03b2d7808a694e1a8cd3209faa"),
    ),
    "V6": ("foobar", 1, "192.0.2.1", (255, 255, 0), "2101ff0700ff121b", V1_DIGEST),
    "V7": ("foobar", 1, "192.0.2.1", (0, 1, 130), "2101000782019019", V1_DIGEST),
}
WITH_LINK_LOCAL = ("V5",)


class Injected(random.Random):
    """Randomness that gives the identification of the vectors."""

    def getrandbits(self, _bits):
        return INJECTED_IDENTIFICATION


def dialect_of(name):
    """Find the dialect of a system of the vectors."""
    return DIALECTS[DIALECT_OF.get(name, name)]


def vips(vector):
    """Read the addresses of a vector, in its order."""
    return tuple(ip_interface(text) for text in vector.get("vips_in_interface_order", vector.get("vips")))


def parameters(vector, dialect, **changes):
    """Make the carp interface of a vector."""
    lladdr = LinkAddress.PARENT if "realmac" in vector.get("name", "") else LinkAddress.VIRTUAL
    settings = {
        "addresses": vips(vector),
        "key": key_from_hex(vector["key_hex"]),
        "advbase": vector["advbase"],
        "dialect": dialect,
        "lladdr": lladdr,
    }
    return InterfaceParameters("carp0", "lan0", (Node(vector["vhid"], vector["advskew"]),), **(settings | changes))


def digest_set(vector, dialect, addresses=None):
    """Prepare the digests of a vector."""
    listed = [address.ip for address in (vips(vector) if addresses is None else addresses)]
    return DigestSet.prepare(dialect, key_from_hex(vector["key_hex"]), vector["vhid"], listed)


def accepts(vector, dialect, counter, digest, addresses=None):
    """Tell whether a host with the settings of a vector takes a digest."""
    return Authenticator(digest_set(vector, dialect, addresses)).verify(counter, digest, NOW)


class TestDerivedDigests:
    @pytest.mark.parametrize(("vector", "name", "result"), ADVERTS)
    def test_sent_digest(self, vector, name, result):
        """The digest that each system sends is the one that its dialect sends."""
        expected = result.get("hmac") or result["hmac_sent_NOV6LL"]
        counter = bytes.fromhex(vector["counter_hex"])
        assert digest_set(vector, dialect_of(name)).send.of(counter).hex() == expected

    @pytest.mark.parametrize(("vector", "name", "result"), ADVERTS)
    def test_accepted_digests(self, vector, name, result):
        """A dialect accepts every digest that its system accepts, and no flipped one."""
        counter = bytes.fromhex(vector["counter_hex"])
        for key in ("hmac", "hmac_sent_NOV6LL", "hmac_ORIG_also_accepted"):
            if key in result:
                digest = bytes.fromhex(result[key])
                assert accepts(vector, dialect_of(name), counter, digest)
                assert not accepts(vector, dialect_of(name), counter, bytes((digest[0] ^ 1,)) + digest[1:])

    @pytest.mark.parametrize(("vector", "name", "result"), ADVERTS)
    def test_auto_accepts_all_that_hash_sorted_addresses(self, vector, name, result):
        """The dialect auto authenticates every system, save those that hash addresses unsorted or doubled and then differ."""
        counter = bytes.fromhex(vector["counter_hex"])
        standard = vector["results"]["openbsd"]
        known = {standard["hmac_sent_NOV6LL"], standard.get("hmac_ORIG_also_accepted")}
        for key in ("hmac", "hmac_sent_NOV6LL", "hmac_ORIG_also_accepted"):
            if key in result:
                assert accepts(vector, AUTO, counter, bytes.fromhex(result[key])) == (result[key] in known)
                assert result[key] in known or name in ("freebsd6", "dragonfly")

    def test_every_system_is_here(self):
        """The vectors name the systems of the dialect table."""
        assert {name for vector in DERIVED["advert"] for name in vector["results"]} == {
            *("openbsd", "freebsd14", "freebsd9", "freebsd6", "netbsd", "dragonfly", "ucarp")
        }


class TestDerivedPackets:
    def build(self, vector, dialect, family):
        settings = parameters(vector, dialect)
        digests = digest_set(vector, dialect)
        rng = Injected(0)
        vhost = VirtualHost(settings.leader, Authenticator(digests), Timers(), Cadence(), rng, NOW)
        demote = vector.get("demote", 0) if dialect.demotion in COUNTS_DEMOTION else 0
        counter = bytes.fromhex(vector["counter_hex"])
        advertisement = advertised(settings, vhost, demote=demote, bow_out=False)
        template = make_template(settings, advertisement, family, SOURCES[family], GROUP[family], None)
        return template.fill(counter, vhost.authenticator.sign(counter, NOW), rng)

    @pytest.mark.parametrize(("vector", "name", "result", "family"), PACKETS)
    def test_whole_packet(self, vector, name, result, family):
        """Header, identification, TOS, checksums and digest are those of the system."""
        assert self.build(vector, dialect_of(name), family).hex() == result[f"packet_v{family.value}"]

    @pytest.mark.parametrize(("vector", "name", "result", "family"), PACKETS)
    def test_ethernet_header(self, vector, name, result, family):
        """The frame goes to the group's MAC, from the virtual MAC with the system's fourth byte."""
        frame = bytes.fromhex(result[f"frame_v{family.value}"])
        dialect = dialect_of(name)
        assert frame[:6] == GROUP_MAC[family]
        assert frame[6:12] == virtual_mac(vector["vhid"], dialect.source_mac_byte)
        assert frame[12:14] == ETHERTYPE[family]
        assert frame[14:].hex() == result[f"packet_v{family.value}"]

    @pytest.mark.parametrize(("vector", "name", "result", "family"), PACKETS)
    def test_packet_is_heard(self, vector, name, result, family):
        """An engine of the same dialect takes the packet, and makes its sender the known MASTER."""
        bench = Bench(carp_interface("carp0", nodes=(Node(vector["vhid"], 254),), addresses=vips(vector),
                                     key=key_from_hex(vector["key_hex"]), advbase=vector["advbase"],
                                     dialect=dialect_of(name)))  # fmt: skip
        bench.hear(bytes.fromhex(result[f"packet_v{family.value}"]), family)
        known = bench.vhost(vector["vhid"]).known_masters.get(family)
        assert known is not None
        advskew = bytes.fromhex(result[f"packet_v{family.value}"])[-34]
        assert (known.source, known.advbase, known.advskew) == (SOURCES[family], vector["advbase"], advskew)
        assert bench.engine.statistics.dropped.total() == 0

    def test_identification_zero_is_never_random(self):
        """Where the system sends identification 0, no randomness is drawn."""
        zero = {name for name, dialect in DIALECTS.items() if dialect.identification is Identification.ZERO}
        assert zero == {"freebsd", "netbsd", "netbsd10"}


class TestOpenBsdLladdr:
    VECTOR = next(vector for vector in DERIVED["advert"] if "realmac" in vector["name"])
    MAC = bytes.fromhex("021122334455")

    def first_digest(self, lladdr):
        bench = Bench(parameters(self.VECTOR, DIALECTS["openbsd"], lladdr=lladdr), sources={Family.IPV4: SOURCES[Family.IPV4]})
        bench.feed(parent_up(bench.sources, mac=self.MAC))
        bench.wait_for(State.MASTER)
        return bench.vhost().authenticator.sign(bytes.fromhex(self.VECTOR["counter_hex"]), bench.now).hex()

    def expected(self):
        return self.VECTOR["results"]["openbsd"]["hmac_sent_NOV6LL"]

    def test_parents_mac_by_word_is_not_hashed(self):
        """A carp interface that uses its parent's MAC hashes no MAC."""
        assert self.first_digest(LinkAddress.PARENT) == self.expected()

    def test_parents_mac_by_number_is_not_hashed(self):
        """The parent's MAC spelled out is the same: no MAC is hashed."""
        assert self.first_digest(self.MAC) == self.expected()

    def test_virtual_mac_by_number_is_not_hashed(self):
        """The virtual MAC spelled out is the virtual MAC: no MAC is hashed."""
        assert self.first_digest(virtual_mac(1)) == self.expected()

    def test_another_mac_is_hashed(self):
        """A MAC of one's own is hashed by the leader."""
        assert self.first_digest(bytes.fromhex("02aabbccddee")) != self.expected()


@pytest.mark.parametrize("vector", NETBSD)
class TestCapturedFromNetBsd:
    def parsed(self, vector):
        family = Family(vector["ip_version"])
        datagram = parse_ip(family, bytes.fromhex(vector["eth_frame_hex"])[14:])
        assert isinstance(datagram, Datagram)
        heard = decode(datagram)
        assert isinstance(heard, Advertisement)
        return datagram, heard

    def test_parses(self, vector):
        """Every field of the recorded frame is read as it was recorded."""
        datagram, heard = self.parsed(vector)
        assert datagram.source == ip_address(vector["src"]).packed
        assert datagram.destination == ip_address(vector["dst"]).packed
        assert (datagram.ttl, heard.vhid, heard.advbase, heard.advskew) == (
            *(vector["ttl"], vector["vhid"], vector["advbase"], vector["advskew"]),
        )
        assert heard.counter.hex() == vector["counter_hex"]
        assert heard.digest.hex() == vector["hmac_hex"]
        assert encode(heard).hex() == vector["carp_hex"]

    @pytest.mark.parametrize("name", ["auto", "netbsd", "openbsd"])
    def test_verifies(self, vector, name):
        """The digest holds with the key and the addresses, in every dialect that takes link-local addresses into it."""
        _, heard = self.parsed(vector)
        assert accepts(vector, DIALECTS[name], heard.counter, heard.digest)

    def test_flipped_digest_is_refused(self, vector):
        """No single flipped bit of digest or counter passes."""
        _, heard = self.parsed(vector)
        for byte in range(20):
            flipped = heard.digest[:byte] + bytes((heard.digest[byte] ^ 1 << byte % 8,)) + heard.digest[byte + 1 :]
            assert not accepts(vector, AUTO, heard.counter, flipped)
        assert not accepts(vector, AUTO, bytes((heard.counter[0] ^ 1,)) + heard.counter[1:], heard.digest)

    def test_wrong_address_list_is_refused(self, vector):
        """One address more or one less does not pass."""
        _, heard = self.parsed(vector)
        for listed in ((*vips(vector), ip_interface("203.0.113.1/32")), vips(vector)[1:]):
            assert not accepts(vector, AUTO, heard.counter, heard.digest, listed)


@pytest.mark.parametrize("name", SPECIFIED)
def test_specified_packets(name):
    """The seven worked examples of the specification come out, and auto accepts each."""
    passphrase, vhid, texts, (advskew, advbase, demote), header, expected_digest = SPECIFIED[name]
    dialect = DIALECTS["netbsd"] if name in WITH_LINK_LOCAL else AUTO
    listed = [ip_address(text) for text in texts.split()]
    counter = bytes.fromhex(COUNTER)
    key = key_from_passphrase(passphrase)
    digest = DigestSet.prepare(dialect, key, vhid, listed).send.of(counter)
    made = encode(Advertisement(vhid, advbase, advskew, demote, counter, digest)).hex()
    assert made == header + COUNTER + expected_digest
    assert Authenticator(DigestSet.prepare(AUTO, key, vhid, listed)).verify(counter, digest, NOW)
