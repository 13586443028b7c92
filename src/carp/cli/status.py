"""`carp status`: what each carp interface does, and why."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import shares
from .client import get

_STATE_STYLES = {"MASTER": "bold green", "BACKUP": "yellow", "INIT": "red"}
_NO_VHID = "created, has no vhid yet"
_COLUMNS = ("interface", "parent", "vhid", "state", "since", "why", "master", "interval", "fence", "demote", "addresses")
_STATE = _COLUMNS.index("state")

Row = tuple[str, ...]


def status(socket: Path, *, as_json: bool) -> int:
    """Print the status of the daemon behind a socket; return the exit status. Raises DaemonError."""
    document = get(socket, "/v1/status")
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _print_table(document)
    return 0


def _print_table(document: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows = list(_rows(document))
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = [Text(cell) for cell in row]
        cells[_STATE].stylize(_STATE_STYLES.get(row[_STATE], ""))
        table.add_row(*cells)
    if console.is_terminal:
        console.print(table)
    else:
        _print_plain([_COLUMNS, *rows])
    about = (*shares.lines(document), *_remarks(document), *_tracks(document), _summary(document["statistics"]))
    for line in about:
        console.print(line, soft_wrap=True)


def _print_plain(rows: Sequence[Row]) -> None:
    """Print aligned columns as wide as they need to be: nothing is folded in a pipe."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rows(document: dict[str, Any]) -> Iterator[Row]:
    """Yield a row for each virtual host."""
    for interface in document["interfaces"]:
        # What up to 32 virtual hosts have in common is told once.
        last: Row = (str(interface["demote"]), " ".join(interface["addresses"]))
        for node in interface["nodes"] or [{}]:
            yield (
                interface["name"],
                interface["carpdev"] or "-",
                *_of_node(node),
                shares.gate(node) or interface.get("fence", {}).get("state", "-"),
                *last,
            )
            last = ("", "")


def _of_node(node: Mapping[str, Any]) -> Row:
    if not node:
        return ("-", "INIT", "-", _NO_VHID, "-", "-")
    return (
        str(node["vhid"]),
        node["state"],
        duration(node["for_s"]),
        _why(node),
        _master(node["master"]),
        f"{node['advertisement_interval_s']:.3f} s",
    )


def _why(node: Mapping[str, Any]) -> str:
    return ": ".join(part for part in (node["reason"], node["detail"]) if part) or "-"


def _master(master: dict[str, Any] | None) -> str:
    if master is None:
        return "unknown"
    return "this host" if master["self"] else str(master["source"])


def _remarks(document: dict[str, Any]) -> Iterator[str]:
    if document.get("apart"):
        yield document["apart"]
    for interface in document["interfaces"]:
        fence = interface.get("fence", {})
        if fence.get("reason"):
            yield f"{interface['name']}: not fenced: {fence['reason']}"
        # Without load balancing the first virtual host is the one that has the addresses.
        serving = interface["nodes"] if interface.get("balancing", "none") != "none" else interface["nodes"][:1]
        serves = any(node["state"] == "MASTER" for node in serving)
        if serves and interface.get("live") == []:
            yield f"{interface['name']}: its addresses are not set on this host"
        for demotion in interface["demotions"]:
            yield f"{interface['name']}: demoted by {line(demotion)}"
        if interface.get("held_back"):
            yield f"{interface['name']}: was handed over by hand, and preempts nobody until it is MASTER again"
        for node in interface["nodes"]:
            for warning in node["warnings"]:
                yield f"{interface['name']} vhid {node['vhid']}: {warning}"
            if node["digest_grace"]:
                yield f"{interface['name']} vhid {node['vhid']}: still sends the digest of the former key and addresses"


def _tracks(document: dict[str, Any]) -> Iterator[str]:
    for track in document["tracks"]:
        state = "holds" if track["holds"] else f"fails: {track['detail']}"
        yield f"track {track['name']} ({track['kind']} {track['target']}): {state}"


def _summary(statistics: dict[str, Any]) -> str:
    dropped = ", ".join(f"{count} {reason}" for reason, count in statistics["dropped"].items()) or "none"
    received, sent = sum(statistics["received"].values()), sum(statistics["sent"].values())
    return f"advertisements: {received} received, {sent} sent, {statistics['send_errors']} not sent; dropped: {dropped}"


def line(demotion: Mapping[str, Any]) -> str:
    """Write one reason: its name and amount, who set it, since when, and how long it lasts."""
    parts = [f"by {demotion['owner']}", f"for {duration(demotion['for_s'])}"]
    if demotion["ends_in_s"] is not None:
        parts.append(f"ends in {duration(max(0, demotion['ends_in_s']))}")
    detail = f": {demotion['detail']}" if demotion["detail"] else ""
    return f"{demotion['amount']}: {demotion['name']} ({', '.join(parts)}){detail}"


def duration(seconds: float) -> str:
    """Write a duration with its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
