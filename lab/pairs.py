"""Two hosts that share addresses, and what a user may expect of them at any quiet moment."""

from collections.abc import Iterable
from typing import Any

from .figures import Pair
from .host import Carp, Host
from .ping import ping
from .stage import SHARED, Stage, bare
from .tables import neighbours
from .wait import until

USUAL = Pair(1, 0, 100)
QUICK = Pair(0, 40, 60)
"""Master-down times of 470 and 700 ms: quick, and yet far above the stalls of a busy virtual machine."""
SLACK_S = 8.0
"""How long a test waits beyond the protocol's bound before it calls something missing; nothing is measured by it."""


def virtual_mac(vhid: int) -> str:
    """Return the MAC address that all hosts of a virtual host share."""
    return f"00:00:5e:00:01:{vhid:02x}"


def make_pair(stage: Stage, pair: Pair = QUICK, carp: Carp | None = None, **global_keys: object) -> tuple[Host, Host]:
    """Configure hosts a, the better one, and b; both preempt unless told otherwise. Nothing is started."""
    carp = carp or Carp()
    keys: dict[str, Any] = {"preempt": True, "log": 6} | global_keys
    a = stage.host("a", carp.but(advbase=pair.advbase, advskew=pair.skew_a), **keys)
    b = stage.host("b", carp.but(advbase=pair.advbase, advskew=pair.skew_b), **keys)
    return a, b


def patience_s(pair: Pair) -> float:
    """Return how long any takeover of a pair may be waited for."""
    return pair.master_down_ns(pair.skew_b) / 1e9 + SLACK_S


def settle(pair: Pair, master: Host, *backups: Host) -> None:
    """Start what is not running, and wait until one host is MASTER and the others are BACKUP."""
    for host in (master, *backups):
        if not host.running:
            host.start()
    wait_settled(pair, master, *backups)


def wait_settled(pair: Pair, master: Host, *backups: Host) -> None:
    """Wait until one host is MASTER with its addresses and the others are BACKUP, all at one look."""

    def settled() -> bool:
        return master.is_settled("MASTER") and all(host.is_settled("BACKUP") for host in backups)

    names = ", ".join(host.label for host in backups)
    until(settled, patience_s(pair), f"{master.label} to be MASTER and {names or 'nobody'} BACKUP")


def check_caches(stage: Stage, master: Host, shared: Iterable[str] = SHARED, vhid: int = 1, packets: int = 100) -> None:
    """Send packets in each direction, then look at the client's neighbour caches and the switch table.

    Checked is what a user relies on: every packet is answered, the shared addresses are known at the virtual MAC, the
    host's own ones at its own MAC, and the switch has the virtual MAC on the MASTER's port.
    """
    client, mac = stage.client, master.port.mac
    clients_own = {4: "192.0.2.9", 6: "2001:db8::9"}
    own = {entry.split("/")[0] for entry in _own_addresses(master)} - set(bare(shared))
    for address in (*bare(shared), *own):
        answered = ping(client.namespace, address, count=packets)
        assert answered == packets, f"the client got {answered} of {packets} answers from {address}"
        target = clients_own[6 if ":" in address else 4]
        answered = ping(master.namespace, target, count=packets, source=address)
        assert answered == packets, f"{master.label} got {answered} of {packets} answers as {address}"
    known = neighbours(client.namespace)
    wanted = dict.fromkeys(bare(shared), virtual_mac(vhid)) | dict.fromkeys(own, mac)
    found = {address: known[address].mac if address in known else None for address in wanted}
    assert found == wanted
    assert stage.lan.port_of(virtual_mac(vhid)) == master.label


def _own_addresses(host: Host) -> set[str]:
    rows = host.namespace.query(f"addr show dev {host.port.interface}")
    entries = (entry for row in rows for entry in row.get("addr_info", []) if entry["scope"] == "global")
    return {f"{entry['local']}/{entry['prefixlen']}" for entry in entries}


def transitions(host: Host) -> int:
    """Return how often the host's virtual hosts have changed their state."""
    return sum(node["transitions"] for interface in host.status()["interfaces"] for node in interface["nodes"])
