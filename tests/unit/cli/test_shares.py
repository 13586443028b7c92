"""Load balancing in `carp status`."""

from typing import Any

import pytest

from carp.cli.shares import gate, lines

COUNTS = ("kept_packets", "kept_bytes", "dropped_packets", "dropped_bytes")


def node(vhid: int, state: str, *counts: int) -> dict[str, Any]:
    """Make a virtual host of a balanced interface with its counts."""
    return {
        "vhid": vhid,
        "state": state,
        "balance": {"index": 0, "open": state == "MASTER", **dict(zip(COUNTS, counts, strict=True))},
    }


def interface(*nodes: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Make a balanced interface."""
    return {"name": "carp0", "carpdev": "eth0", "balancing": "ip", "shared": [], "nodes": list(nodes), **keys}


def plain(name: str, state: str, *shared: tuple[str, int], of: int = 2, carpdev: str = "eth0") -> dict[str, Any]:
    """Make an interface with one virtual host that shares addresses."""
    addresses = [{"address": address, "index": index, "of": of} for address, index in shared]
    nodes = [{"vhid": 1, "state": state, "balance": None}]
    return {"name": name, "carpdev": carpdev, "balancing": "none", "shared": addresses, "nodes": nodes}


def shown(*interfaces: dict[str, Any]) -> list[str]:
    """Return the lines about a document."""
    return list(lines({"interfaces": list(interfaces)}))


def test_two_virtual_hosts() -> None:
    """What was kept and dropped for each, its share of all that came, and the sum."""
    assert shown(interface(node(3, "MASTER", 12034, 8_123_456, 17, 4410), node(4, "BACKUP", 0, 0, 12101, 999_950))) == [
        "carp0: balancing ip, MASTER of 1 of 2, has kept 49.8 % of the packets",
        "  vhid  state    share  kept packets  kept bytes  dropped packets  dropped bytes",
        "  3     MASTER  49.8 %         12034      8.1 MB               17         4.4 kB",
        "  4     BACKUP   0.0 %             0         0 B            12101         1.0 MB",
        "  all           49.8 %         12034      8.1 MB            12118         1.0 MB",
    ]


def test_32_virtual_hosts() -> None:
    """A line each, aligned, short enough for a terminal."""
    nodes = [node(vhid, "MASTER" if vhid % 8 == 0 else "BACKUP", *(2**vhid,) * 4) for vhid in range(1, 33)]
    head, *rows, total = shown(interface(*nodes, balancing="ip-stealth"))
    assert head.startswith("carp0: balancing ip-stealth, MASTER of 4 of 32, has kept 50.0 % ")
    assert len(rows) == 33
    assert [row.split()[0] for row in rows[1:]] == [str(vhid) for vhid in range(1, 33)]
    assert total.split()[0] == "all"
    assert {len(row) for row in (*rows, total)} == {len(rows[0])}
    assert len(rows[0]) <= 80


def test_nothing_came_yet() -> None:
    """No share of nothing."""
    head, _, row, _ = shown(interface(node(3, "INIT", 0, 0, 0, 0)))
    assert head == "carp0: balancing ip, MASTER of 0 of 1, has kept 0.0 % of the packets"
    assert row.split() == ["3", "INIT", "0.0", "%", "0", "0", "B", "0", "0", "B"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (10**9, "1.0 GB"),
        (10**13, "10.0 TB"),
        (10**15, "1.0 PB"),
        (2**64, "18446.7 PB"),
    ],
)
def test_bytes_have_a_unit(count: int, text: str) -> None:
    """At most three digits before the point, as far as there are units."""
    assert f"  {text}  " in shown(interface(node(3, "MASTER", 1, count, 0, 0)))[2]


def test_each_balanced_interface_has_its_own_numbers() -> None:
    """What another one keeps is no part of the share; one without load balancing is not mentioned."""
    one, other = interface(node(3, "MASTER", 1, 1, 3, 3)), interface(node(5, "MASTER", 3, 3, 1, 1), name="carp1")
    heads = [line for line in shown(one, plain("carp2", "MASTER"), other) if line.startswith("carp")]
    assert heads == [
        "carp0: balancing ip, MASTER of 1 of 1, has kept 25.0 % of the packets",
        "carp1: balancing ip, MASTER of 1 of 1, has kept 75.0 % of the packets",
    ]


def test_no_load_balancing() -> None:
    """Nothing is said, to a daemon that does not know it neither."""
    assert shown(plain("carp0", "MASTER"), {"name": "carp1", "carpdev": "", "nodes": []}) == []


def test_shared_addresses() -> None:
    """One line for each address on a parent, with those that have it in the order in which they are counted."""
    assert shown(
        plain("carp0", "MASTER", ("192.0.2.10", 1), ("2001:db8::1", 1)),
        plain("carp1", "BACKUP", ("192.0.2.10", 0), ("2001:db8::1", 0)),
        plain("carp2", "INIT", ("192.0.2.10", 0), carpdev="eth1"),
        plain("carp10", "MASTER", ("192.0.2.10", 1), carpdev="eth1"),
    ) == [
        "192.0.2.10 on eth0 is shared by carp1 BACKUP, carp0 MASTER",
        "2001:db8::1 on eth0 is shared by carp1 BACKUP, carp0 MASTER",
        "192.0.2.10 on eth1 is shared by carp2 INIT, carp10 MASTER",
    ]


def test_32_share_an_address() -> None:
    """They stand in the order of their numbers, not of their digits."""
    interfaces = [plain(f"carp{number}", "BACKUP", ("192.0.2.10", number), of=32) for number in range(32)]
    (line,) = shown(*interfaces)
    assert line.endswith(f"is shared by {', '.join(f'carp{number} BACKUP' for number in range(32))}")


def test_whose_packets_pass() -> None:
    """Each virtual host has a gate of its own where load is balanced."""
    assert [gate(node(3, state, 0, 0, 0, 0)) for state in ("MASTER", "BACKUP")] == ["open", "closed"]
    assert gate({"vhid": 1, "balance": None}) == gate({"vhid": 1}) == gate({}) == ""
