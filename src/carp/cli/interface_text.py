"""A carp interface of the status document as ifconfig shows it on OpenBSD."""

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

_FLAGS = {"UP": 0x1, "BROADCAST": 0x2, "RUNNING": 0x40, "SIMPLEX": 0x800, "MULTICAST": 0x8000}
"""The BSDs' interface flags that a carp interface can have, and their bits."""

_DEFAULT_MTU = 1500
_VIRTUAL_MAC = "00:00:5e:00:01:"
_LONGEST_WITH_BROADCAST = 30


def interface_text(interface: dict[str, Any]) -> str:
    """Describe one interface in lines without a newline at the end. What it does not have yet is left out."""
    return "\n".join((_first_line(interface), *(f"\t{line}" for line in _lines(interface))))


def _first_line(interface: dict[str, Any]) -> str:
    absent = set()
    if not interface.get("up", True):
        absent.add("UP")
    if _status(interface) == "invalid":
        absent.add("RUNNING")
    names = [name for name in _FLAGS if name not in absent]
    flags = sum(_FLAGS[name] for name in names)
    return f"{interface['name']}: flags={flags:x}<{','.join(names)}> mtu {interface.get('mtu') or _DEFAULT_MTU}"


def _lines(interface: dict[str, Any]) -> Iterator[str]:
    nodes = _nodes(interface)
    lladdr = _lladdr(interface, nodes)
    if lladdr:
        yield f"lladdr {lladdr}"
    yield from _carp(interface, nodes)
    if interface["groups"]:
        yield f"groups: {' '.join(interface['groups'])}"
    yield f"status: {_status(interface)}"
    for address in map(ip_interface, interface["addresses"]):
        yield (
            _inet(address)
            if isinstance(address, IPv4Interface)
            else f"inet6 {address.ip} prefixlen {address.network.prefixlen}"
        )


def _nodes(interface: dict[str, Any]) -> list[dict[str, Any]]:
    """List the virtual hosts that have a number; an interface that is only created has none."""
    return [node for node in interface["nodes"] if node.get("vhid")]


def _lladdr(interface: dict[str, Any], nodes: list[dict[str, Any]]) -> str:
    """Return the MAC; what was chosen by hand does not wait for a vhid, which the virtual one is made of."""
    lladdr = str(interface.get("lladdr") or "")
    return "" if lladdr.startswith(_VIRTUAL_MAC) and not nodes else lladdr


def _carp(interface: dict[str, Any], nodes: list[dict[str, Any]]) -> Iterator[str]:
    carpdev = f"carpdev {interface['carpdev']} " if interface.get("carpdev") else ""
    peers = "".join(f" carppeer {peer}" for peer in interface.get("carppeer", ()))
    advbase, mode = interface["advbase"], interface.get("balancing", "none")
    if mode != "none" and nodes:
        yield f"carp: {carpdev}advbase {advbase} balancing {mode}{peers}"
        for node in nodes:
            yield f"\tstate {node['state']} vhid {node['vhid']} advskew {node['advskew']}"
        return
    state, number, advskew = "INIT", "", 0
    for node in nodes or interface["nodes"]:
        state, advskew = node["state"], node["advskew"]
        number = f"vhid {node['vhid']} " if node.get("vhid") else ""
    yield f"carp: {state} {carpdev}{number}advbase {advbase} advskew {advskew}{peers}"


def _status(interface: dict[str, Any]) -> str:
    """Say what routing sees: master if any virtual host is, backup if any is, else invalid (PROTOCOL.md 4.6)."""
    states = {node["state"] for node in interface["nodes"]}
    if "MASTER" in states:
        return "master"
    return "backup" if "BACKUP" in states else "invalid"


def _inet(address: IPv4Interface | IPv6Interface) -> str:
    length = address.network.prefixlen
    if isinstance(address, IPv6Interface):
        return f"inet6 {address.ip} prefixlen {length}"
    text = f"inet {address.ip} netmask 0x{int(address.netmask):08x}"
    return text if length > _LONGEST_WITH_BROADCAST else f"{text} broadcast {address.network.broadcast_address}"
