"""The status document: what `carp status --json` prints; its fields are described in docs/status.md.

Seconds and text, for people and scripts; never a key.
"""

import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from heapq import merge
from ipaddress import ip_address
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from ..config.load import draft_parameters
from ..config.words import carp_number
from ..linux.clock import boottime
from ..protocol.demotion import Demotion
from ..protocol.interface import CarpInterface
from ..protocol.parameters import InterfaceParameters, LinkAddress
from ..protocol.statistics import Statistics
from ..protocol.values import NANOSECONDS_PER_SECOND, Family, Instant, State, mac_text, virtual_mac
from ..protocol.vhost import VirtualHost
from ..protocol.vigilance import Refused
from .runtime import Runtime

VERSION = 1

_MOST_DEMOTIONS = 8
_NODES_IN_A_PIECE = 2
_CLAIMED_RECENTLY_NS = 150 * NANOSECONDS_PER_SECOND
"""The question is asked once a minute."""
_REFUSED_RECENTLY_NS = 60 * NANOSECONDS_PER_SECOND

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Configured:
    """What was set, described and written."""

    parameters: InterfaceParameters
    document: Document
    encoded: bytes


_written: WeakKeyDictionary[CarpInterface, _Configured] = WeakKeyDictionary()


def document(runtime: Runtime) -> Document:
    """Describe the whole daemon."""
    interfaces = [one for name in names(runtime) if (one := describe(runtime, name)) is not None]
    return {**_head(runtime), "interfaces": interfaces, "demotions": demotions(runtime), **_tail(runtime)}


def demotions(runtime: Runtime) -> list[Document]:
    """Describe every reason that holds."""
    return [_demotion(fact, boottime()) for fact in runtime.engine.host.demotions]


def pieces(runtime: Runtime) -> Iterator[bytes]:
    """Write the document as JSON, each carp interface as it is when its piece is asked for."""
    yield json.dumps(_head(runtime)).encode().removesuffix(b"}") + b', "interfaces": ['
    found = filter(None, (_find(runtime, name) for name in names(runtime)))
    yield from separated(_interface_pieces(runtime, interface) for interface in found)
    yield b'], "demotions": ['
    facts = list(runtime.engine.host.demotions)
    yield from separated(iter((json.dumps(_demotion(fact, boottime())).encode(),)) for fact in facts)
    yield b"], " + json.dumps(_tail(runtime)).encode().removeprefix(b"{") + b"\n"


def states(runtime: Runtime) -> Iterator[bytes]:
    """Write, as JSON, the state of each virtual host and nothing else: how a stream of events starts."""
    yield json.dumps({"event": "status", "host": socket.gethostname()}).encode().removesuffix(b"}") + b', "interfaces": ['
    found = filter(None, (_find(runtime, name) for name in names(runtime)))
    yield from separated(iter((json.dumps(_states(interface)).encode(),)) for interface in found)
    yield b"]}"


def names(runtime: Runtime) -> Iterator[str]:
    """Walk the names of all carp interfaces in the order of their numbers."""
    whole = [interface.name for interface in runtime.engine.interfaces]
    return merge(whole, _drafts(runtime), key=lambda name: carp_number(name) or 0)


def describe(runtime: Runtime, name: str) -> Document | None:
    """Describe one carp interface; None if there is none of that name."""
    interface = _find(runtime, name)
    if interface is None:
        return None
    balances = _balances(runtime, interface)
    nodes = [_node(interface, vhost, balance) for vhost, balance in zip(interface.vhosts, balances, strict=True)]
    return {**_configured(interface).document, **_changing(runtime, interface), "nodes": nodes}


def separated(lists: Iterable[Iterator[bytes]]) -> Iterator[bytes]:
    """Put commas between the members of a JSON list, each in pieces."""
    separator = b""
    for members in lists:
        yield separator + next(members)
        yield from members
        separator = b", "


def _drafts(runtime: Runtime) -> tuple[str, ...]:
    return () if runtime.configuration is None else runtime.configuration.drafts


def _find(runtime: Runtime, name: str) -> CarpInterface | None:
    """Find a carp interface; one without a vhid, which the engine does not know, is made to be looked at."""
    if name not in _drafts(runtime) or runtime.configuration is None:
        return runtime.engine.interface(name)
    return CarpInterface(draft_parameters(runtime.configuration, name), runtime.engine.host, boottime())


def _head(runtime: Runtime) -> Document:
    host = runtime.engine.host
    return {
        "version": VERSION,
        "host": socket.gethostname(),
        "up_s": _seconds(boottime() - runtime.started_at),
        "allow": host.parameters.allow,
        "preempt": host.parameters.preempt,
        "log": runtime.chronicle.level,
        "timer_lateness": runtime.lateness.describe(),
    }


def _tail(runtime: Runtime) -> Document:
    statistics = _statistics(runtime.statistics())
    return {"apart": runtime.state_sync.apart, "tracks": runtime.errands.describe(), "statistics": statistics}


def _interface_pieces(runtime: Runtime, interface: CarpInterface) -> Iterator[bytes]:
    changing = json.dumps(_changing(runtime, interface)).encode()
    yield _configured(interface).encoded[:-1] + b", " + changing[1:-1] + b', "nodes": ['
    vhosts = list(zip(interface.vhosts, _balances(runtime, interface), strict=True))
    for first in range(0, len(vhosts), _NODES_IN_A_PIECE):
        nodes = [_node(interface, *one) for one in vhosts[first : first + _NODES_IN_A_PIECE]]
        yield (b", " if first else b"") + json.dumps(nodes).encode()[1:-1]
    yield b"]}"


def _states(interface: CarpInterface) -> Document:
    nodes = [{"vhid": vhost.vhid or None, "state": vhost.state.value} for vhost in interface.vhosts]
    return {"name": interface.name, "demote": interface.demote, "nodes": nodes}


def _configured(interface: CarpInterface) -> "_Configured":
    """Describe what an administrator set; written once for all answers, as it is the larger half of them."""
    parameters = interface.parameters
    known = _written.get(interface)
    if known is None or known.parameters is not parameters:
        document = {
            "name": parameters.name,
            "up": parameters.up,
            "carpdev": parameters.carpdev,
            "advbase": parameters.advbase,
            "dialect": parameters.dialect.name,
            "carppeer": [str(peer) for peer in parameters.peers],
            "groups": list(parameters.groups),
            "addresses": [str(address) for address in parameters.addresses],
        }
        known = _written[interface] = _Configured(parameters, document, json.dumps(document).encode())
    return known


def _changing(runtime: Runtime, interface: CarpInterface) -> Document:
    """Describe everything else that its virtual hosts share."""
    now = boottime()
    parameters = interface.parameters
    parent = interface.parent
    lladdr = parameters.lladdr
    mac = parent.mac if lladdr is LinkAddress.PARENT else parameters.mac or virtual_mac(parameters.leader.vhid)
    claim = interface.vigilance.last_claim
    reasons = islice(runtime.engine.host.demotions.walk(interface.demotion_groups), _MOST_DEMOTIONS)
    return {
        "parent": {
            "present": parent.present,
            "up": parent.up,
            "mac": mac_text(parent.mac),
            "sources": {str(family): _address_text(packed) for family, packed in parent.sources.items()},
        },
        "lladdr": mac_text(mac),
        "preempt": interface.preempt,
        "balancing": parameters.balancing.value,
        "shared": _shared(runtime, parameters),
        "demote": interface.demote,
        "demotions": [_demotion(fact, now) for fact in reasons],
        "held_back": interface.held_back and not runtime.state_sync.holds(parameters.name),
        "fence": runtime.fencing.describe(parameters, now),
        "claim": None
        if claim is None
        else {"address": str(claim.address), "mac": mac_text(claim.mac), "heard_s_ago": _seconds(now - claim.at)},
        "live": runtime.ownership.live_addresses(parameters.name),
        "statistics": _statistics(interface.statistics),
    }


def _demotion(fact: Demotion, now: Instant) -> Document:
    return {
        "name": fact.name,
        "amount": fact.amount,
        "groups": sorted(fact.groups),
        "owner": fact.owner,
        "detail": fact.detail,
        "for_s": _seconds(now - fact.since),
        "ends_in_s": None if fact.until is None else _seconds(fact.until - now),
    }


def _balances(runtime: Runtime, interface: CarpInterface) -> list[Document | None]:
    return runtime.hardware.balancers.describe(interface.parameters, boottime())


def _shared(runtime: Runtime, parameters: InterfaceParameters) -> list[Document]:
    """Describe the addresses that other carp interfaces have, too, and which of them this one is."""
    found = runtime.engine.host.shared if parameters.up else {}  # one that is down is not counted
    addresses = [found[key] for one in parameters.addresses if (key := (parameters.carpdev, one.ip)) in found]
    return [
        {
            "address": str(shared.address),
            "index": [member.name for member in shared.members].index(parameters.name),
            "of": len(shared.members),
        }
        for shared in addresses
    ]


def _node(interface: CarpInterface, vhost: VirtualHost, balance: Document | None) -> Document:
    now = boottime()
    since = datetime.now(UTC) - timedelta(microseconds=(now - vhost.since) / 1000)
    expected = vhost.expected_master_down() if vhost.state is State.BACKUP else None
    return {
        "vhid": vhost.vhid or None,
        "advskew": vhost.node.advskew,
        "state": vhost.state.value,
        "since": since.isoformat(timespec="milliseconds"),
        "for_s": _seconds(now - vhost.since),
        "reason": vhost.reason.value if vhost.reason is not None else None,
        "detail": vhost.detail if vhost.vhid else "no vhid",
        "transitions": vhost.transitions,
        "advertisement_interval_s": _seconds(vhost.timing.advertisement_ns),
        "master_down_s": _seconds(vhost.timing.master_down_ns),
        "master_down_in_s": None if expected is None else _seconds(expected - now),
        "master": _master(vhost, now),
        "rival": None
        if vhost.rivalry is None
        else {
            "source": _address_text(vhost.rivalry.source),
            "heard_s_ago": _seconds(now - vhost.rivalry.at),
            "this_host_stayed": vhost.rivalry.stayed,
        },
        "digest_grace": vhost.authenticator.in_grace(now),
        "balance": balance,
        "warnings": _warnings(vhost, interface.vigilance.last_refused, now) + _strangers(interface, vhost, now),
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
        "source": _address_text(known.source),
        "advbase": known.advbase,
        "advskew": known.advskew,
        "demote": known.demote,
        "heard_s_ago": _seconds(now - known.arrival),
    }


def _warnings(vhost: VirtualHost, refused: Refused | None, now: Instant) -> list[str]:
    found = [f"{family} advertisements of the MASTER do not arrive" for family in sorted(vhost.silent_families)]
    if refused is None or refused.vhid != vhost.vhid or now - refused.at >= _REFUSED_RECENTLY_NS:
        return found
    if any(known.source == refused.source and known.arrival > refused.at for known in vhost.known_masters.values()):
        return found
    # A peer that was healed may be BACKUP, and say nothing any more.
    ago_ns = now - refused.at
    are = "are refused" if ago_ns <= vhost.timing.master_down_ns else f"were refused until {_seconds(ago_ns):.0f} s ago"
    source = _address_text(refused.source)
    found.append(f"advertisements of {source} {are}: its pass phrase or address list differs (carp check compares)")
    return found


def _strangers(interface: CarpInterface, vhost: VirtualHost, now: Instant) -> list[str]:
    """Warn of a host that answers for a balanced address with another MAC: the leader has asked for it."""
    claim, parameters = interface.vigilance.last_claim, interface.parameters
    if claim is None or not parameters.is_balanced or vhost is not interface.leader or claim.mac == parameters.mac:
        return []
    if now - claim.at >= _CLAIMED_RECENTLY_NS:
        return []
    who = f"{claim.address} is answered for from {mac_text(claim.mac)}, too"
    return [f"{who}: the hosts differ in their carpnodes or their balancing (carp check compares)"]


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


@lru_cache(maxsize=1024)
def _address_text(packed: bytes) -> str:
    return str(ip_address(packed))


def _by_family(counts: Mapping[Family, int]) -> dict[str, int]:
    return {str(family): count for family, count in counts.items()}


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / NANOSECONDS_PER_SECOND, 6)
