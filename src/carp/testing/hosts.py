"""Settings that most tests share: one carp interface, one parent, addresses from the documentation ranges."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

from carp.protocol.auth import Key, key_from_passphrase
from carp.protocol.dialect import AUTO, DIALECTS, Dialect
from carp.protocol.events import Configured, ParentChanged
from carp.protocol.parameters import Balancing, HostParameters, InterfaceParameters, LinkAddress, Node
from carp.protocol.values import Address, Family, InterfaceAddress

PARENT = "lan0"
"""The parent interface of every carp interface in the kit, unless another is named: also the name of the wire it is on."""

KEY = key_from_passphrase("secret")
VIP4: InterfaceAddress = ip_interface("192.0.2.100/24")
VIP6: InterfaceAddress = ip_interface("2001:db8::100/64")
DUAL_STACK = (VIP4, VIP6)

_IPV6_PREFIX = bytes.fromhex("fe80000000000000")

_Sources = Mapping[Family, bytes]


def address(text: str) -> InterfaceAddress:
    """Read an address with its prefix."""
    return ip_interface(text)


def carp_interface(
    name: str = "carp0",
    vhid: int = 1,
    *,
    advbase: int = 1,
    advskew: int = 0,
    addresses: Iterable[InterfaceAddress] = (VIP4,),
    nodes: tuple[Node, ...] | None = None,
    carpdev: str = PARENT,
    key: Key = KEY,
    dialect: str | Dialect = AUTO,
    preempt: bool | None = None,
    groups: tuple[str, ...] = ("carp",),
    lladdr: LinkAddress | bytes = LinkAddress.VIRTUAL,
    demote_skew: bool = False,
    digest_grace_ns: int = 0,
    peer_master_down_ns: int | None = None,
    up: bool = True,
    peers: Iterable[Address] = (),
    preempt_delay_ns: int = 0,
    pre_master: bool = False,
    balancing: Balancing | None = None,
) -> InterfaceParameters:
    """Make the parameters of a carp interface; `nodes` beats `vhid` and `advskew`. There is no digest grace unless given.

    Several nodes balance IP unless `balancing` says how; one balances nothing.
    """
    balanced = nodes is not None and len(nodes) > 1
    usual = Balancing.IP if balanced else Balancing.NONE
    return InterfaceParameters(
        name,
        carpdev,
        nodes if nodes is not None else (Node(vhid, advskew),),
        key,
        tuple(addresses),
        advbase,
        DIALECTS[dialect] if isinstance(dialect, str) else dialect,
        preempt,
        groups,
        lladdr,
        demote_skew,
        digest_grace_ns,
        peer_master_down_ns,
        up,
        tuple(peers),
        preempt_delay_ns,
        pre_master,
        usual if balancing is None else balancing,
    )


def configured(*interfaces: InterfaceParameters, allow: bool = True, preempt: bool = False, **switches: Any) -> Configured:
    """Make the event that configures a host with these carp interfaces; `switches` are further host parameters."""
    return Configured(replace(HostParameters(interfaces, allow, preempt), **switches))


def station_sources(number: int) -> dict[Family, bytes]:
    """Return the packed sources of the host of this number, 1..254; a lower number is a lower address in both families."""
    return {Family.IPV4: bytes((192, 0, 2, number)), Family.IPV6: _IPV6_PREFIX + number.to_bytes(8)}


def station_peers(*numbers: int, families: Iterable[Family] = Family) -> tuple[Address, ...]:
    """Return the sources of the hosts of these numbers as peers."""
    return tuple(ip_address(station_sources(number)[family]) for family in families for number in numbers)


def parent_mac(number: int) -> bytes:
    """Return the MAC of the parents of the host of this number."""
    return bytes((0x02, 0, 0, 0, 0, number % 256))


def parent_up(sources: _Sources | None = None, parent: str = PARENT, mac: bytes | None = None) -> ParentChanged:
    """Make the event of a parent that is there and up; an empty mapping of sources leaves it un-numbered."""
    known = station_sources(1) if sources is None else sources
    return ParentChanged(parent, True, True, parent_mac(1) if mac is None else mac, tuple(known.items()))


def parent_down(sources: _Sources | None = None, parent: str = PARENT, mac: bytes | None = None) -> ParentChanged:
    """Make the event of a parent that is there but has no link."""
    known = station_sources(1) if sources is None else sources
    return ParentChanged(parent, True, False, parent_mac(1) if mac is None else mac, tuple(known.items()))


def parent_gone(parent: str = PARENT) -> ParentChanged:
    """Make the event of a parent that was removed."""
    return ParentChanged(parent, False, False, bytes(6))
