"""The status document: what `carp status --json` prints; its fields are described in docs/status.md.

Seconds and text, for people and scripts; never a key.
"""

import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from ..linux.clock import boottime
from ..protocol.interface import CarpInterface, Refused
from ..protocol.parameters import LinkAddress
from ..protocol.statistics import Statistics
from ..protocol.values import NANOSECONDS_PER_SECOND, Family, Instant, State, mac_text, virtual_mac
from ..protocol.vhost import VirtualHost
from .runtime import Runtime

VERSION = 1

_REFUSED_RECENTLY_NS = 60 * NANOSECONDS_PER_SECOND

Document = dict[str, Any]


def document(runtime: Runtime) -> Document:
    """Describe the whole daemon."""
    now = boottime()
    host = runtime.engine.host
    return {
        "version": VERSION,
        "host": socket.gethostname(),
        "up_s": _seconds(now - runtime.started_at),
        "allow": host.parameters.allow,
        "preempt": host.parameters.preempt,
        "log": runtime.chronicle.level,
        "timer_lateness": runtime.lateness.describe(),
        "interfaces": [_interface(runtime, interface, now) for interface in runtime.engine.interfaces],
        "statistics": _statistics(runtime.engine.statistics),
    }


def _interface(runtime: Runtime, interface: CarpInterface, now: Instant) -> Document:
    parameters = interface.parameters
    parent = interface.parent
    lladdr = parameters.lladdr
    mac = parent.mac if lladdr is LinkAddress.PARENT else parameters.mac or virtual_mac(parameters.leader.vhid)
    claim = interface.last_claim
    demotions = runtime.engine.host.demotions.holding(parameters.groups)
    return {
        "name": parameters.name,
        "carpdev": parameters.carpdev,
        "parent": {
            "present": parent.present,
            "up": parent.up,
            "mac": mac_text(parent.mac),
            "sources": {str(family): str(ip_address(packed)) for family, packed in parent.sources.items()},
        },
        "lladdr": mac_text(mac),
        "advbase": parameters.advbase,
        "dialect": parameters.dialect.name,
        "preempt": interface.preempt,
        "groups": list(parameters.groups),
        "demote": interface.demote,
        "demotions": [
            {
                "name": fact.name,
                "amount": fact.amount,
                "groups": sorted(fact.groups),
                "owner": fact.owner,
                "for_s": _seconds(now - fact.since),
                "ends_in_s": None if fact.until is None else _seconds(fact.until - now),
            }
            for fact in demotions
        ],
        "fence": runtime.fencing.describe(parameters.name, now),
        "claim": None
        if claim is None
        else {"address": str(claim.address), "mac": mac_text(claim.mac), "heard_s_ago": _seconds(now - claim.at)},
        "addresses": [str(address) for address in parameters.addresses],
        "live": runtime.live_addresses(parameters.name),
        "nodes": [_node(vhost, interface.last_refused, now) for vhost in interface.vhosts],
        "statistics": _statistics(interface.statistics),
    }


def _node(vhost: VirtualHost, refused: Refused | None, now: Instant) -> Document:
    since = datetime.now(UTC) - timedelta(microseconds=(now - vhost.since) / 1000)
    expected = vhost.expected_master_down() if vhost.state is State.BACKUP else None
    return {
        "vhid": vhost.vhid,
        "advskew": vhost.node.advskew,
        "state": vhost.state.value,
        "since": since.isoformat(timespec="milliseconds"),
        "for_s": _seconds(now - vhost.since),
        "reason": vhost.reason.value if vhost.reason is not None else None,
        "detail": vhost.detail,
        "transitions": vhost.transitions,
        "advertisement_interval_s": _seconds(vhost.timing.advertisement_ns),
        "master_down_s": _seconds(vhost.timing.master_down_ns),
        "master_down_in_s": None if expected is None else _seconds(expected - now),
        "master": _master(vhost, now),
        "rival": None
        if vhost.rivalry is None
        else {
            "source": str(ip_address(vhost.rivalry.source)),
            "heard_s_ago": _seconds(now - vhost.rivalry.at),
            "this_host_stayed": vhost.rivalry.stayed,
        },
        "digest_grace": vhost.authenticator.in_grace(now),
        "warnings": _warnings(vhost, refused, now),
    }


def _master(vhost: VirtualHost, now: Instant) -> Document | None:
    """Say who is MASTER as far as this host knows."""
    if vhost.state is State.MASTER:
        return {"self": True}
    known = vhost.known_master(now)
    if known is None or vhost.state is State.INIT:
        return None
    return {
        "self": False,
        "source": str(ip_address(known.source)),
        "advbase": known.advbase,
        "advskew": known.advskew,
        "demote": known.demote,
        "heard_s_ago": _seconds(now - known.arrival),
    }


def _warnings(vhost: VirtualHost, refused: Refused | None, now: Instant) -> list[str]:
    found = [f"{family} advertisements of the MASTER do not arrive" for family in sorted(vhost.silent_families)]
    if refused is not None and refused.vhid == vhost.vhid and now - refused.at < _REFUSED_RECENTLY_NS:
        source = ip_address(refused.source)
        found.append(f"advertisements of {source} are refused: its pass phrase or address list differs (carp check compares)")
    return found


def _statistics(statistics: Statistics) -> Document:
    return {
        "received": _by_family(statistics.received),
        "sent": _by_family(statistics.sent),
        "dropped": {
            reason.value: count for reason, count in sorted(statistics.dropped.items(), key=lambda item: item[0].value)
        },
        "send_errors": statistics.send_errors,
        "no_memory": statistics.no_memory,
        "became_master": statistics.became_master,
        "rivals_heard": statistics.rivals_heard,
        "claims_heard": statistics.claims_heard,
    }


def _by_family(counts: Mapping[Family, int]) -> dict[str, int]:
    return {str(family): count for family, count in counts.items()}


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / NANOSECONDS_PER_SECOND, 6)
