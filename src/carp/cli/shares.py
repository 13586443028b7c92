"""Load balancing in `carp status`: what this host keeps and drops for each virtual host, and who shares an address."""

from collections.abc import Iterator, Mapping
from typing import Any

_HEADS = ("vhid", "state", "share", "kept packets", "kept bytes", "dropped packets", "dropped bytes")
_WORDS = 2
"""How many of the columns hold words, which stand at the left; the others hold numbers."""

_COUNTS = ("kept_packets", "kept_bytes", "dropped_packets", "dropped_bytes")
_UNITS = ("kB", "MB", "GB", "TB", "PB")


def gate(node: Mapping[str, Any]) -> str:
    """Say whether the packets of one virtual host pass; "" where all of the carp interface do alike."""
    balance = node.get("balance")
    return "" if not balance else "open" if balance["open"] else "closed"


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Describe each carp interface that balances load, then each shared address with those that have it, as they are counted.

    The share of a virtual host is that of the packets that came for its carp interface and were kept for it.
    """
    for interface in document["interfaces"]:
        if interface.get("balancing", "none") != "none" and any(node.get("balance") for node in interface["nodes"]):
            yield from _interface(interface)
    sharers: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for interface in document["interfaces"]:
        states = [f"{node['state']}{_received(node)}" for node in interface["nodes"][:1]]
        for one in interface.get("shared", ()):
            place = sharers.setdefault((one["address"], interface["carpdev"]), [])
            place.append((one["index"], " ".join((interface["name"], *states))))
    for (address, carpdev), names in sharers.items():
        yield f"{address} on {carpdev} is shared by {', '.join(name for _, name in sorted(names))}"


def _received(node: Mapping[str, Any]) -> str:
    """Say what came to the MAC of a virtual host and was kept."""
    balance = node.get("balance")
    return f" ({balance['kept_packets']} packets, {_size(balance['kept_bytes'])})" if balance else ""


def _interface(interface: Mapping[str, Any]) -> Iterator[str]:
    nodes = [node for node in interface["nodes"] if node.get("balance")]
    masters = sum(node["state"] == "MASTER" for node in nodes)
    total = {key: sum(node["balance"][key] for node in nodes) for key in _COUNTS}
    came = total["kept_packets"] + total["dropped_packets"]
    yield (
        f"{interface['name']}: balancing {interface['balancing']}, MASTER of {masters} of {len(nodes)}, "
        f"has kept {_share(total, came)} of the packets"
    )
    rows = [_HEADS, *(_row(node, came) for node in nodes), ("all", "", *_numbers(total, came))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  " + "  ".join(
            cell.ljust(width) if number < _WORDS else cell.rjust(width) for number, (cell, width) in enumerate(cells)
        )


def _row(node: Mapping[str, Any], came: int) -> tuple[str, ...]:
    return str(node["vhid"]), node["state"], *_numbers(node["balance"], came)


def _numbers(counts: Mapping[str, int], came: int) -> tuple[str, ...]:
    texts = (_size(counts[key]) if key.endswith("bytes") else str(counts[key]) for key in _COUNTS)
    return _share(counts, came), *texts


def _share(counts: Mapping[str, int], came: int) -> str:
    return f"{100 * counts['kept_packets'] / came if came else 0:.1f} %"


def _size(count: int) -> str:
    """Write a number of bytes with a unit that leaves at most three digits before the point."""
    if count < 1000:
        return f"{count} B"
    size, unit = count / 1000, 0
    # What would be rounded up to 1000.0 has the next unit.
    while size >= 999.95 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}"
