"""How advertisements are made: for each family one packet to the group, or one to each peer (PROTOCOL.md 1.1 to 1.3).

All that stays the same from one to the next is prepared as templates, which the virtual host keeps until something that they
are made from changes (`CarpInterface.forget_outdated`). A MASTER whose templates are there only fills them each interval.
"""

from collections.abc import Mapping

from .actions import Action, Send
from .auth import DigestSet
from .demotion import MAX_DEMOTE
from .dialect import DemotionRule, Identification
from .host import Host
from .packet import (
    BOW_OUT,
    GROUP,
    HEADER_BYTES,
    IP_PROTOCOL_CARP,
    Advertisement,
    encode,
    ipv4_packet,
    ipv6_packet,
    pseudo_header,
)
from .parameters import InterfaceParameters
from .paths import Paths
from .sending import effective_skew, next_counter
from .template import Prepared, Template
from .values import Address, Family, Instant, virtual_mac
from .vhost import VirtualHost

_DSCP_SHIFT = 2


def advertise(
    parameters: InterfaceParameters,
    vhost: VirtualHost,
    paths: Paths,
    host: Host,
    *,
    demote: int,
    bow_out: bool,
    opens: bool,
    now: Instant,
) -> list[Action]:
    """Let a virtual host advertise, or bow out, in every family that it has addresses of; `opens`: the fence may open."""
    prepared = {} if bow_out else vhost.prepared
    if len(prepared) < len(vhost.families):
        advertisement = advertised(parameters, vhost, demote=demote, bow_out=bow_out)
        for family in vhost.families:
            prepared[family] = _prepare(parameters, advertisement, family, paths, host.parameters.dscp)
    sends: list[Action] = []
    send_prepared(prepared, parameters, vhost, host, vhost.patience.holds_ns if opens else 0, now, sends)
    return sends


def send_prepared(
    prepared: Mapping[Family, Prepared],
    parameters: InterfaceParameters,
    vhost: VirtualHost,
    host: Host,
    holds_ns: int,
    now: Instant,
    actions: list[Action],
) -> None:
    """Add the advertisements of each family, each with a counter of its own."""
    name, vhid, dialect, rng = parameters.name, vhost.node.vhid, parameters.dialect, host.rng
    vhost.advertised_at = now
    for family, (templates, unicast) in prepared.items():
        counter = next_counter(dialect, vhost, host.counter, rng)
        vhost.sent_counters.append(counter)
        digest = vhost.authenticator.sign(counter, now)
        if unicast:
            packets = tuple([template.fill(counter, digest, rng) for template in templates])
        else:
            packets = (templates[0].fill(counter, digest, rng),)
        actions.append(Send(name, vhid, family, packets, holds_ns, unicast))


def advertised(parameters: InterfaceParameters, vhost: VirtualHost, *, demote: int, bow_out: bool) -> Advertisement:
    """Return what a virtual host advertises now, but for counter and digest, which are zeros (PROTOCOL.md 1.1)."""
    dialect = parameters.dialect
    if bow_out:
        advbase = advskew = BOW_OUT
    else:
        advbase, advskew = parameters.advbase, effective_skew(parameters, vhost.node.advskew, demote)
    demote_byte = 0
    if dialect.demotion is DemotionRule.BYTE:
        demote_byte = MAX_DEMOTE if bow_out and dialect.bow_out_demotes else demote
    return Advertisement(vhost.vhid, advbase, advskew, demote_byte, bytes(8), bytes(20))


def _prepare(
    parameters: InterfaceParameters, advertisement: Advertisement, family: Family, paths: Paths, dscp: int | None
) -> Prepared:
    """Prepare an advertisement for all its destinations in one family."""
    peers = paths.destinations(family)
    ends = [(paths.source(family, peer), peer) for peer in peers] or [(paths.source(family), GROUP[family])]
    templates = [make_template(parameters, advertisement, family, *one, dscp) for one in ends]
    return Prepared(tuple(templates), unicast=bool(peers))


def make_template(
    parameters: InterfaceParameters,
    advertisement: Advertisement,
    family: Family,
    source: bytes,
    destination: bytes,
    dscp: int | None,
) -> Template:
    """Prepare the IP packet of an advertisement (PROTOCOL.md 1.2, 1.3); `dscp` None is for what the dialect sends."""
    dialect = parameters.dialect
    payload = encode(advertisement)
    if family is Family.IPV4:
        tos = dialect.tos if dscp is None else dscp << _DSCP_SHIFT
        sample = ipv4_packet(source, destination, payload, tos=tos, identification=0)
        return Template(family, sample, numbered=dialect.identification is Identification.RANDOM)
    pseudo = b""
    if dialect.ipv6_pseudo_checksum:
        pseudo = pseudo_header(source, destination, HEADER_BYTES, IP_PROTOCOL_CARP)
    traffic_class = dialect.traffic_class if dscp is None else dscp << _DSCP_SHIFT
    return Template(family, ipv6_packet(source, destination, payload, traffic_class=traffic_class), pseudo)


def digests(parameters: InterfaceParameters, vhid: int, parent_mac: bytes) -> DigestSet:
    """Prepare the digests of a virtual host's advertisements."""
    addresses: list[Address] = [address.ip for address in parameters.addresses]
    lladdr = parameters.lladdr if isinstance(parameters.lladdr, bytes) else b""
    if not parameters.dialect.hashes_custom_lladdr or vhid != parameters.leader.vhid:
        lladdr = b""
    elif lladdr in (virtual_mac(vhid), parent_mac):
        lladdr = b""  # OpenBSD knows its own MACs however they were set (PROTOCOL.md 6.1)
    return DigestSet.prepare(parameters.dialect, parameters.key, vhid, addresses, lladdr)
