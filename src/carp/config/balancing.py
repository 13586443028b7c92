"""Rules of load balancing: several virtual hosts on one carp interface, and several carp interfaces with one address.

Like `relations` they look at what was written, and pass over what is wrong by itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from carp.protocol.dialect import AUTO
from carp.protocol.parameters import MAX_NODES, Balancing, HostParameters, LinkAddress
from carp.protocol.sharing import shared_addresses
from carp.protocol.values import Address, mac_text, virtual_mac

from . import words
from .errors import Collector, KeyPath, RefusedError, joined, shown
from .layout import GLOBAL, Tables, global_table
from .model import InterfaceTable
from .relations import addresses_of, lenient, parent_of, vhids_of

_FENCE_OFF = "off"
_ALL_RECEIVE_IT = "virtual, or a MAC that is the same on all hosts, as each of them receives every packet"
_LLADDRS = {
    Balancing.IP: "virtual, as every host receives the multicast MAC of the leader",
    Balancing.IP_STEALTH: _ALL_RECEIVE_IT,
    Balancing.IP_UNICAST: _ALL_RECEIVE_IT,
    Balancing.ARP: "virtual, as each node has a MAC of its own",
}


@dataclass(frozen=True, slots=True)
class _Claim:
    """A table has an address, written as `word`, that `others` of the same parent before it have too, or it itself."""

    name: str
    word: str
    address: Address
    parent: str
    others: tuple[str, ...]


def check_balancing(name: str, table: Mapping[str, object], problems: Collector) -> None:
    """Check what several virtual hosts of one carp interface need."""
    nodes = table.get("carpnodes")
    if isinstance(nodes, list) and len(nodes) > 1 and table.get("balancing") == Balancing.NONE.value:
        fault = f"a list of {len(nodes)} with balancing none"
        problems.add((name, "carpnodes"), RefusedError("one node, or another balancing", fault=fault))
    balancing, lladdr = _balancing(table), _lladdr(table)
    if balancing not in _LLADDRS or lladdr in (None, LinkAddress.VIRTUAL):
        return
    if lladdr is LinkAddress.PARENT or balancing in (Balancing.IP, Balancing.ARP):
        allowed = f"with balancing {balancing.value} {_LLADDRS[balancing]}"
        problems.add((name, "lladdr"), RefusedError(allowed), shown(table["lladdr"]))


def check_addresses(tables: Tables, problems: Collector) -> None:
    """Check that carp interfaces of one parent with the same address can balance its askers, and that none has it twice."""
    for claim in _claims(tables):
        if claim.name in claim.others:
            fault = f"{shown(claim.word)} is listed twice"
            problems.add((claim.name, "addresses"), RefusedError("each address once", fault=fault))
        elif claim.others and (why_not := _why_not_shared(claim, tables)):
            why, allowed = why_not
            fault = f"{shown(claim.word)} is also an address of {claim.others[0]} on {claim.parent}, and {why}"
            problems.add((claim.name, "addresses"), RefusedError(allowed, fault=fault))


def check_fence(document: Mapping[str, object], tables: Tables, problems: Collector) -> None:
    """Refuse to balance load without the fence, whose programs keep or answer the share of this host."""
    if global_table(document).get("fence") != _FENCE_OFF:
        return
    reason = _needs_fence(tables)
    if reason:
        allowed = f"auto or required: {reason}, and load balancing needs the fence's BPF programs"
        problems.add((GLOBAL, "fence"), RefusedError(allowed), shown(_FENCE_OFF))


def balancing_warnings(tables: Mapping[str, InterfaceTable], host: HostParameters) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is legal and balances nothing, each with its place."""
    for name, table in tables.items():
        asked = table.asked_balancing
        if asked in _LLADDRS and not table.is_draft and len(table.nodes) == 1:
            yield (name, "balancing"), f"{asked.value} has no effect on one virtual host: carpnodes lists several"
    if host.arpbalance:
        return
    for shared in shared_addresses(host.interfaces):
        names = [member.name for member in shared.members]
        remark = (
            f"{shared.address} is an address of {joined(names)}: only the MASTER of vhid {shared.members[0].leader.vhid} "
            "answers for it until net.inet.carp.arpbalance is 1"
        )
        yield (names[-1], "addresses"), remark


def _balancing(table: Mapping[str, object]) -> Balancing | None:
    """Tell how a table's nodes share the traffic, as InterfaceTable.balancing does; None where a word is wrong."""
    nodes = table.get("carpnodes")
    if not isinstance(nodes, list) or len(nodes) < 2:
        return Balancing.NONE
    return lenient(words.balancing, table.get("balancing", Balancing.IP.value))


def _lladdr(table: Mapping[str, object]) -> LinkAddress | bytes | None:
    return lenient(words.lladdr, table.get("lladdr", LinkAddress.VIRTUAL.value))


def _mac(table: Mapping[str, object]) -> bytes | None:
    """Return the MAC of a table with one virtual host; None where it is the parent's, or not known yet."""
    lladdr, vhids = _lladdr(table), [vhid for _, vhid in vhids_of(table)]
    if isinstance(lladdr, bytes):
        return lladdr
    return virtual_mac(vhids[0]) if lladdr is LinkAddress.VIRTUAL and vhids else None


def _claims(tables: Tables) -> Iterator[_Claim]:
    """Walk the addresses of all tables, in the order of the document."""
    holders: dict[tuple[str, Address], list[str]] = {}
    for name, table in tables.items():
        parent = parent_of(name, table)
        for word, address in addresses_of(table):
            known = holders.setdefault((parent, address), [])
            yield _Claim(name, word, address, parent, tuple(known))
            if name not in known:
                known.append(name)


def _why_not_shared(claim: _Claim, tables: Tables) -> tuple[str, str] | None:
    """Say why a carp interface cannot have an address that others have, and what is allowed; None if it can."""
    for one in (*claim.others, claim.name):
        balancing = _balancing(tables[one])
        if balancing in _LLADDRS:
            return f"{one} has balancing {balancing.value}", "several with one address have balancing none, all of them"
        if _lladdr(tables[one]) is LinkAddress.PARENT:
            return f"{one} has lladdr parent", "each of several with one address has lladdr virtual, or a MAC of its own"
    first, own = (lenient(words.dialect, tables[one].get("dialect", AUTO.name)) for one in (claim.others[0], claim.name))
    if first is not None and own is not None and first is not own:
        why = f"their dialects are {first.name} and {own.name}"
        return why, "several with one address have one dialect, which says who answers whom"
    mac = _mac(tables[claim.name])
    for one in claim.others:
        # That two of one vhid have its MAC is told elsewhere.
        chosen = any(isinstance(_lladdr(tables[each]), bytes) for each in (one, claim.name))
        if chosen and mac is not None and mac == _mac(tables[one]):
            return f"{one} has the same MAC {mac_text(mac)}", "each of several with one address has a MAC of its own"
    if len(claim.others) >= MAX_NODES:
        return f"of {len(claim.others) - 1} others", f"at most {MAX_NODES} carp interfaces with one address"
    return None


def _needs_fence(tables: Tables) -> str:
    """Say what balances load; "" where nothing does."""
    for name, table in tables.items():
        balancing = _balancing(table)
        if balancing in _LLADDRS:
            return f"{name} has balancing {balancing.value}"
    for claim in _claims(tables):
        if claim.others and claim.name not in claim.others:
            return f"{claim.address} is an address of {claim.others[0]} and {claim.name}"
    return ""
