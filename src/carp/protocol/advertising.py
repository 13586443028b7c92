"""How advertisements are made: for each family one packet to the group, or one to each peer (PROTOCOL.md 1.1 to 1.3)."""

import random

from .actions import Send
from .demotion import MAX_DEMOTE
from .dialect import DemotionRule, Dialect, Identification
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
from .values import Family, Instant
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
) -> list[Send]:
    """Let a virtual host advertise, or bow out, in every family that it has addresses of; `opens`: the fence may open."""
    holds_ns = vhost.patience.holds_ns if opens else 0
    vhost.advertised_at = now
    sends = []
    for family in vhost.families:
        counter = next_counter(parameters.dialect, vhost, host.counter, host.rng)
        vhost.sent_counters.append(counter)
        advertisement = make_advertisement(parameters, vhost, counter, demote=demote, bow_out=bow_out, now=now)
        peers = paths.destinations(family)
        packets = tuple(
            build_packet(
                advertisement,
                family,
                paths.source(family, destination if peers else None),
                destination,
                dialect=parameters.dialect,
                dscp=host.parameters.dscp,
                rng=host.rng,
            )
            for destination in peers or (GROUP[family],)
        )
        sends.append(Send(parameters.name, vhost.vhid, family, packets, holds_ns, unicast=bool(peers)))
    return sends


def make_advertisement(
    parameters: InterfaceParameters, vhost: VirtualHost, counter: bytes, *, demote: int, bow_out: bool, now: Instant
) -> Advertisement:
    """Return what a virtual host advertises now (PROTOCOL.md 1.1)."""
    dialect = parameters.dialect
    if bow_out:
        advbase = advskew = BOW_OUT
    else:
        advbase, advskew = parameters.advbase, effective_skew(parameters, vhost.node.advskew, demote)
    demote_byte = 0
    if dialect.demotion is DemotionRule.BYTE:
        demote_byte = MAX_DEMOTE if bow_out and dialect.bow_out_demotes else demote
    return Advertisement(vhost.vhid, advbase, advskew, demote_byte, counter, vhost.authenticator.sign(counter, now))


def build_packet(
    advertisement: Advertisement,
    family: Family,
    source: bytes,
    destination: bytes,
    *,
    dialect: Dialect,
    dscp: int | None,
    rng: random.Random,
) -> bytes:
    """Return the IP packet of an advertisement (PROTOCOL.md 1.2, 1.3); `dscp` None is for what the dialect sends."""
    if family is Family.IPV4:
        tos = dialect.tos if dscp is None else dscp << _DSCP_SHIFT
        identification = rng.getrandbits(16) if dialect.identification is Identification.RANDOM else 0
        return ipv4_packet(source, destination, encode(advertisement), tos=tos, identification=identification)
    pseudo = b""
    if dialect.ipv6_pseudo_checksum:
        pseudo = pseudo_header(source, destination, HEADER_BYTES, IP_PROTOCOL_CARP)
    traffic_class = dialect.traffic_class if dscp is None else dscp << _DSCP_SHIFT
    return ipv6_packet(source, destination, encode(advertisement, pseudo), traffic_class=traffic_class)
