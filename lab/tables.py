"""What the kernels of a LAN have learned, and what a host looks like from outside: read-only views."""

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from .netns import Namespace

Forwarding = dict[str, str]
"""MAC address to the name of the switch port on which it was learned."""

_VOLATILE_LINK = {"stats64", "stats", "linkinfo_stats", "ifindex", "link_index", "link_netnsid", "operstate"}
_VOLATILE_ADDRESS = {"valid_life_time", "preferred_life_time"}
# These move by themselves or refuse to be read.
_UNREADABLE = {"flush", "stable_secret"}
_SETTINGS = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of a neighbour cache; `mac` is None while it is unresolved."""

    mac: str | None
    state: str


def neighbours(namespace: Namespace) -> dict[str, Neighbour]:
    """Return a host's neighbour caches of both families, by address in its usual spelling."""
    rows = namespace.query("neigh show")
    return {str(ip_address(row["dst"])): Neighbour(row.get("lladdr"), " ".join(row.get("state", []))) for row in rows}


def forwarding(switch: Namespace) -> Forwarding:
    """Return what the bridges of a switch have learned; the ports' own addresses are left out."""
    rows = switch.query("fdb show", program="bridge")
    return {row["mac"]: row["ifname"] for row in rows if row.get("state") != "permanent" and "master" in row}


def addresses(namespace: Namespace, interface: str | None = None) -> set[str]:
    """Return the addresses of a host, or of one interface, with prefix lengths, without link-local ones."""
    rows = namespace.query("addr show" + (f" dev {interface}" if interface else ""))
    found = (entry for row in rows for entry in row.get("addr_info", []))
    return {f"{entry['local']}/{entry['prefixlen']}" for entry in found if entry["scope"] == "global"}


def links(namespace: Namespace) -> dict[str, dict[str, Any]]:
    """Return the interfaces of a host by name, in detail."""
    return {row["ifname"]: row for row in namespace.query("-d link show")}


@dataclass(frozen=True, slots=True)
class Portrait:
    """All of a host that a daemon could have touched, in comparable form."""

    links: dict[str, Any]
    addresses: dict[str, Any]
    routes: list[str]
    settings: dict[str, str]
    traffic_control: list[str]

    def differences(self, later: "Portrait") -> list[str]:
        """Say what a later portrait shows otherwise; nothing means the host is as it was."""
        found = [*_compare("link", self.links, later.links), *_compare("address", self.addresses, later.addresses)]
        found += _compare("setting", self.settings, later.settings)
        for name, before, after in (("route", self.routes, later.routes), ("tc", self.traffic_control, later.traffic_control)):
            found += [f"{name} gone: {line}" for line in before if line not in after]
            found += [f"{name} new: {line}" for line in after if line not in before]
        return found


def portrait(namespace: Namespace) -> Portrait:
    """Look at a host closely: links, addresses, routes, network settings, traffic control."""
    interfaces = namespace.query("-d link show")
    traffic_control = []
    for name in (row["ifname"] for row in interfaces):
        traffic_control += [f"{name}: {line}" for line in namespace.tc(f"qdisc show dev {name}").splitlines()]
        for hook in ("ingress", "egress"):
            traffic_control += [
                f"{name} {hook}: {line}" for line in namespace.tc(f"filter show dev {name} {hook}").splitlines()
            ]
    return Portrait(
        links={row["ifname"]: {key: row[key] for key in row.keys() - _VOLATILE_LINK} for row in interfaces},
        addresses={row["ifname"]: _stable_addresses(row) for row in namespace.query("addr show")},
        routes=sorted(_routes(namespace)),
        settings=_settings(namespace),
        traffic_control=traffic_control,
    )


def _stable_addresses(row: dict[str, Any]) -> list[dict[str, Any]]:
    entries = ({key: entry[key] for key in entry.keys() - _VOLATILE_ADDRESS} for entry in row.get("addr_info", []))
    return sorted(entries, key=repr)


def _routes(namespace: Namespace) -> list[str]:
    shown = (namespace.run("ip", family, "route", "show", "table", "all") for family in ("-4", "-6"))
    return [" ".join(line.split()) for text in shown for line in text.splitlines()]


def _settings(namespace: Namespace) -> dict[str, str]:
    found: dict[str, str] = {}
    root = Path("/proc/sys/net")
    with namespace.entered():
        for area in _SETTINGS:
            for file in sorted((root / area).glob("*/*")):
                if file.name not in _UNREADABLE:
                    found[str(file.relative_to(root))] = _read(file)
    return found


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        return f"({error.strerror})"


def _compare(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    keys = sorted(before.keys() | after.keys())
    return [f"{name} {key}: {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)]


def socket_groups(namespace: Namespace, interface: str) -> set[str]:
    """Return the multicast groups that a host has joined on an interface."""
    rows = namespace.query(f"maddr show dev {interface}")
    groups = (entry for row in rows for entry in row.get("maddr", []))
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    return {entry["address"] for entry in groups if entry.get("family") in families}
