"""Hosts that share the load of an address: their configuration, who is to be MASTER of which node, and who is."""

from collections.abc import Iterable, Mapping, Sequence

from .figures import Bound, Pair
from .host import Carp, Host
from .pairs import SLACK_S
from .stage import SHARED
from .wait import until

IP, IP_STEALTH, IP_UNICAST, ARP = "ip", "ip-stealth", "ip-unicast", "arp"
QUICK_STEPS = (0, 80, 40)
"""advbase, the advskew of the node that a host prefers, and what each place after it adds."""
USUAL_STEPS = (1, 0, 100)

Standing = Mapping[int, Mapping[str, str]]
"""The state of each host, by vhid and the host's label."""


def crossed(index: int, count: int, steps: tuple[int, int, int] = QUICK_STEPS, first_vhid: int = 1) -> list[tuple[int, int]]:
    """Return the (vhid, advskew) pairs of host `index` of `count`, one node for each host.

    Host i prefers node i; when it fails host i+1 is the next, and so on around.
    """
    _, best, step = steps
    return [(first_vhid + node, best + step * ((index - node) % count)) for node in range(count)]


def balanced(
    nodes: Sequence[tuple[int, int]],
    mode: str = IP,
    steps: tuple[int, int, int] = QUICK_STEPS,
    carp: Carp | None = None,
    **extra: object,
) -> Carp:
    """Return a carp interface of several nodes, `nodes` being its (vhid, advskew) pairs."""
    carp = carp or Carp(addresses=SHARED)
    words = [f"{vhid}:{advskew}" for vhid, advskew in nodes]
    return carp.but(vhid=None, advbase=steps[0], extra={"balancing": mode, "carpnodes": words, **extra})


def arp_balanced(nodes: Sequence[tuple[int, int]], steps: tuple[int, int, int] = QUICK_STEPS, **extra: object) -> list[Carp]:
    """Return carp interfaces that share one address, one for each node."""
    return [
        Carp(f"carp{number}", vhid, advbase=steps[0], advskew=advskew, addresses=SHARED, extra=extra)
        for number, (vhid, advskew) in enumerate(nodes)
    ]


def standing(hosts: Iterable[Host]) -> Standing:
    """Ask running hosts for the state of each of their virtual hosts."""
    found: dict[int, dict[str, str]] = {}
    for host in hosts:
        for interface in host.status()["interfaces"]:
            for node in interface["nodes"]:
                found.setdefault(node["vhid"], {})[host.label] = node["state"]
    return found


def masters(hosts: Iterable[Host]) -> dict[int, list[str]]:
    """Return the labels of the hosts that are MASTER, by vhid."""
    return {vhid: [label for label, state in seen.items() if state == "MASTER"] for vhid, seen in standing(hosts).items()}


def preferred(hosts: Iterable[Host]) -> dict[int, str]:
    """Return which of running hosts has the lowest advskew of each vhid."""
    best: dict[int, tuple[int, str]] = {}
    for host in hosts:
        for interface in host.status()["interfaces"]:
            for node in interface["nodes"]:
                mine = node["advskew"], host.label
                best[node["vhid"]] = min(mine, best.get(node["vhid"], mine))
    return {vhid: label for vhid, (_, label) in best.items()}


def is_shared_out(hosts: Sequence[Host]) -> bool:
    """Tell whether each node has one MASTER, the host that prefers it, and all others are BACKUP."""
    wanted, seen = preferred(hosts), standing(hosts)
    return bool(seen) and all(
        state == ("MASTER" if wanted[vhid] == label else "BACKUP")
        for vhid, states in seen.items()
        for label, state in states.items()
    )


def wait_until_shared_out(hosts: Sequence[Host], timeout_s: float) -> int:
    """Wait for that; return the instant."""
    try:
        return until(lambda: is_shared_out(hosts), timeout_s, "each node to be with the host that prefers it", 0.05)
    except TimeoutError as error:
        raise TimeoutError(f"{error}\nthere is {standing(hosts)}") from None


def start_sharing(hosts: Sequence[Host], timeout_s: float = 3 * SLACK_S) -> None:
    """Start what is not running, all at once, and wait until the nodes are shared out."""
    starting = [host for host in hosts if not host.running]
    for host in starting:
        host.start(wait=False)
    for host in starting:
        host.wait_until_up()
    wait_until_shared_out(hosts, timeout_s)


def takeover_bound(hosts: Sequence[Host], struck: Host) -> Bound:
    """Return between which times after a crash of a host its nodes are taken over by those that are left."""
    held = [vhid for vhid, labels in masters(hosts).items() if struck.label in labels]
    bounds = []
    for vhid in held:
        skews = {host.label: _node(host, vhid) for host in hosts}
        _, mine = skews.pop(struck.label)
        advbase, next_best = min(skews.values())
        bounds.append(Pair(advbase, mine, next_best).crash)
    return Bound(min(one.earliest_ns for one in bounds), max(one.latest_ns for one in bounds))


def _node(host: Host, vhid: int) -> tuple[int, int]:
    for interface in host.status()["interfaces"]:
        for node in interface["nodes"]:
            if node["vhid"] == vhid:
                return interface["advbase"], node["advskew"]
    raise LookupError(f"{host.label} has no vhid {vhid}")
