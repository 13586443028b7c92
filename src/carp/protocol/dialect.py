"""What differs between the CARPs, as one table of data (PROTOCOL.md 11.4, WIRE.md section 10).

No other module asks which system a peer is: it reads one column of this table. `auto` is what carpd speaks by itself; it
authenticates with all the others, and its columns are explained in docs/differences.md.
"""

from dataclasses import dataclass, replace
from enum import Enum

from .values import plain


@plain
class AddressOrder(Enum):
    """In which order the digest takes the virtual addresses (WIRE.md section 2)."""

    SORTED = "ascending, IPv4 then IPv6, duplicates removed"
    DRAGONFLY = "IPv4 ascending with duplicates, IPv6 in interface order"
    INTERFACE = "as configured, IPv4 then IPv6"


@plain
class CounterRule(Enum):
    """Which eight bytes go into the counter field (PROTOCOL.md 2.5)."""

    OWN = "own, rising by one with each advertisement"
    COOKIE = "random, constant"
    FOLLOW = "random until an advertisement was received, then the last one received plus one"


@plain
class DemotionRule(Enum):
    """How demotion changes what is advertised (PROTOCOL.md section 5)."""

    BYTE = "in the demote byte"
    ADD_TO_SKEW = "added to advskew, at most 240"
    SKEW_240 = "advskew 240"


@plain
class TieRule(Enum):
    """Which of two MASTERs with equal intervals stays (PROTOCOL.md 4.2)."""

    LOWER_SOURCE = "the lower source address, then the lower counter"
    LOWER_SOURCE_BYTES_REVERSED = "the lower source address read as a little-endian number"
    YIELD = "nobody: whoever hears an equal one yields"


class AskerRule(Enum):
    """What of an asker chooses the carp interface that answers it, of several with one address (WIRE.md section 9)."""

    ADDRESS = "its address, modulo their number"
    MAC = "a keyed hash of its MAC, modulo their number"


@plain
class Identification(Enum):
    """The IPv4 identification field (WIRE.md section 5)."""

    RANDOM = "random"
    ZERO = "zero"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One row of the table; every field is a column.

    `tos` and `traffic_class` are the whole IPv4 and IPv6 byte. `source_mac_byte` is the fourth byte of the virtual MAC that
    advertisements come from. `hears_other_kind`: advertisements to this host alone are heard without peers too, and those to
    the group with peers (PROTOCOL.md 1.4, 9.1). `routed_peers`: those of a peer may have passed routers. `newest_first`: of
    several carp interfaces with one address the one configured last is the first (WIRE.md section 9).
    """

    name: str
    address_order: AddressOrder = AddressOrder.SORTED
    sends_link_local: bool = True
    accepts_both_link_local_forms: bool = False
    hashes_custom_lladdr: bool = False
    counter: CounterRule = CounterRule.FOLLOW
    demotion: DemotionRule = DemotionRule.SKEW_240
    hears_demote_byte: bool = False
    tie: TieRule = TieRule.YIELD
    triples_skew: bool = False
    one_master_down_timer: bool = False
    sends_bow_out: bool = True
    bow_out_demotes: bool = False
    hears_bow_out_at_advbase_0: bool = False
    reasserts: bool = False
    identification: Identification = Identification.RANDOM
    tos: int = 0x10
    traffic_class: int = 0
    ipv6_pseudo_checksum: bool = False
    source_mac_byte: int = 0x01
    hears_other_kind: bool = False
    routed_peers: bool = False
    asker: AskerRule = AskerRule.ADDRESS
    newest_first: bool = False


AUTO = Dialect(
    "auto",
    sends_link_local=False,
    accepts_both_link_local_forms=True,
    counter=CounterRule.OWN,
    demotion=DemotionRule.BYTE,
    hears_demote_byte=True,
    tie=TieRule.LOWER_SOURCE,
    one_master_down_timer=True,
    bow_out_demotes=True,
    hears_bow_out_at_advbase_0=True,
    reasserts=True,
    hears_other_kind=True,
    routed_peers=True,
)
_OPENBSD = Dialect(
    "openbsd",
    sends_link_local=False,
    accepts_both_link_local_forms=True,
    hashes_custom_lladdr=True,
    counter=CounterRule.COOKIE,
    demotion=DemotionRule.BYTE,
    hears_demote_byte=True,
    triples_skew=True,
    asker=AskerRule.MAC,
)
_FREEBSD = Dialect(
    "freebsd",
    demotion=DemotionRule.ADD_TO_SKEW,
    sends_bow_out=False,
    identification=Identification.ZERO,
    tos=0xE0,
    traffic_class=0xE0,
    hears_other_kind=True,
    routed_peers=True,
)
_NETBSD = Dialect("netbsd", identification=Identification.ZERO, asker=AskerRule.MAC, newest_first=True)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        AUTO,
        _OPENBSD,
        _FREEBSD,
        Dialect("freebsd9"),
        Dialect("freebsd6", address_order=AddressOrder.INTERFACE),
        _NETBSD,
        replace(_NETBSD, name="netbsd10", ipv6_pseudo_checksum=True),
        Dialect("dragonfly", address_order=AddressOrder.DRAGONFLY),
        Dialect("ucarp", tie=TieRule.LOWER_SOURCE_BYTES_REVERSED, sends_bow_out=False, source_mac_byte=0x00),
    )
}
