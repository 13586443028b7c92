"""The scenes of `make lab` in which several hosts serve one address at once; hosts are cut one after another and come back.

Every host has a node that it prefers, and all preempt. Thousand flows to each shared address run through each event; what is
shown of it is what their stations see.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from .figures import Bound
from .flow_probe import Tally
from .flow_record import FlowRecord
from .flows import DEFAULT_FLOWS, Flows, Told
from .host import Carp, Host
from .lan import Lan, Port
from .pairs import virtual_mac
from .shares import ShareResult, measure, strangers, wanted_owners
from .sharing import (
    IP,
    USUAL_STEPS,
    arp_balanced,
    balanced,
    crossed,
    is_shared_out,
    masters,
    start_sharing,
    takeover_bound,
    wait_until_shared_out,
)
from .stage import SHARED, Stage, bare
from .stations import wanted_nodes
from .wait import until

PATIENCE_S = 8.0
BEFORE_S, AFTER_S = 0.8, 0.6


@dataclass(frozen=True)
class Strand:
    """One LAN of a scene: who asks on it for which addresses, balanced over which vhids; ports by the hosts' labels."""

    client: Port
    ports: Mapping[str, Port]
    addresses: tuple[str, ...]
    vhids: tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """Something that happens to one host: `strike` makes it happen and returns its instant."""

    word: str
    host: str
    comes: bool
    strike: Callable[["Balanced"], int]

    @property
    def told(self) -> str:
        """What happens, in a few words."""
        return f"{self.host} {self.word}"


class Watcher(Protocol):
    """Who watches the events live."""

    def begin(self, scene: "Balanced", told: str) -> None:
        """An event, or the quiet before the first, begins."""

    def progress(self, address: str, shares: Mapping[str, float]) -> None:
        """The shares of the last quarter of a second, 0..1 by host; called from other threads."""

    def end(self, results: Sequence[ShareResult]) -> None:
        """The event is over."""


class Nobody:
    """A watcher that is not there."""

    def begin(self, scene: "Balanced", told: str) -> None:
        """An event begins."""

    def progress(self, address: str, shares: Mapping[str, float]) -> None:
        """Another quarter of a second."""

    def end(self, results: Sequence[ShareResult]) -> None:
        """The event is over."""


class Balanced:
    """A scene with its hosts and flows; a context manager that leaves nothing behind. Subclasses build it."""

    name = ""
    told = ""
    by_packet = True
    """Whether each packet's addresses choose its host; else the MAC that its station was told does."""

    def __init__(self, watcher: Watcher | None = None, flows: int = DEFAULT_FLOWS, stage: Stage | None = None) -> None:
        """Build the scene and let flows be ready; a stage that is given is left as it is in the end."""
        self.watcher = watcher or Nobody()
        self._stack = ExitStack()
        self.stage = stage or self._stack.enter_context(Stage())
        try:
            self.strands = self.build()
            self.up = dict(self.stage.hosts)
            start_sharing(list(self.up.values()))
            self.flows = [self._flows(number, strand, flows) for number, strand in enumerate(self.strands)]
            self.told_macs = self._resolve()
        except BaseException:
            self._stack.close()
            raise

    def build(self) -> list[Strand]:
        """Put hosts and clients on LANs; return these."""
        raise NotImplementedError

    def events(self) -> list[Event]:
        """Return what happens to the scene."""
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @property
    def labels(self) -> list[str]:
        """All hosts."""
        return list(self.stage.hosts)

    def host(self, label: str) -> Host:
        """Return a host by label."""
        return self.stage.hosts[label]

    def whole(self, since: int) -> bool:
        """Tell whether the nodes are shared out among the hosts that are up, and after an instant all flows are answered."""
        return is_shared_out(list(self.up.values())) and all(one.whole(since) for one in self.flows)

    def faults_now(self) -> list[str]:
        """Say what a new station finds wrong: nobody, or more than one, tells it the MAC of an address."""
        faults = []
        for told in self._resolve():
            for address, one in told.items():
                seen = (one.get(station.flow, []) for station in self.flows[0].stations)
                if wrong := [macs for macs in seen if len(macs) != 1]:
                    faults.append(f"{len(wrong)} stations were not told one MAC of {address}, but {wrong[0] or 'none'}")
        return faults

    def wanted(self, number: int, address: str) -> list[frozenset[str]]:
        """Return who should have each flow to an address of a strand, as the states and the rules say."""
        strand, flows = self.strands[number], self.flows[number]
        vhids = list(strand.vhids)
        if self.by_packet:
            nodes = wanted_nodes(flows.stations, address, len(vhids))
        else:
            macs = [virtual_mac(vhid) for vhid in vhids]
            nodes = [macs.index(self.told_macs[number][address][flow][0][0]) for flow in range(len(flows.stations))]
        return wanted_owners(nodes, vhids, masters(self.up.values()))

    def _flows(self, number: int, strand: Strand, count: int) -> Flows:
        def watch(tally: Tally) -> None:
            for address, counts in tally["answered"].items():
                asked = max(1, tally["asked"])
                self.watcher.progress(address, {label: counts.get(label, 0) / asked for label in self.labels})

        flows = Flows(strand.ports.values(), strand.client, strand.addresses, count, number, watch)
        return self._stack.enter_context(flows)

    def _resolve(self) -> list[Mapping[str, Told]]:
        return [one.resolve() for one in self.flows]


def cut(label: str) -> Event:
    """Pull the cables of a host."""

    def strike(scene: Balanced) -> int:
        scene.up.pop(label)
        return max([strand.ports[label].unplug() for strand in scene.strands])

    return Event("is cut", label, False, strike)


def plug(label: str) -> Event:
    """Plug the cables in again."""

    def strike(scene: Balanced) -> int:
        for strand in scene.strands:
            strand.ports[label].plug()
        scene.up[label] = scene.host(label)
        # The bound counts from the moment the host listens again.
        return scene.host(label).wait_until_listening()

    return Event("is back", label, True, strike)


def kill(label: str) -> Event:
    """Kill a host's daemon."""

    def strike(scene: Balanced) -> int:
        scene.up.pop(label)
        return scene.host(label).kill()

    return Event("is killed (-9)", label, False, strike)


def restart(label: str) -> Event:
    """Start a host's daemon."""

    def strike(scene: Balanced) -> int:
        host = scene.host(label)
        host.start(wait=False)
        at = host.wait_until_listening()
        scene.up[label] = host
        return at

    return Event("starts again", label, True, strike)


def play_event(scene: Balanced, event: Event) -> list[ShareResult]:
    """Let flows run through an event and measure what became of them, for each shared address."""
    host = scene.host(event.host)
    everybody = list(scene.up.values())
    bound = _return_bound(scene) if event.comes else takeover_bound(everybody, host)
    scene.watcher.begin(scene, event.told)
    for flows in scene.flows:
        flows.run()
    for flows in scene.flows:
        flows.wait_for_time(BEFORE_S)
    at = event.strike(scene)
    faults = []
    try:
        whole_at = until(lambda: scene.whole(at), bound.latest_ns / 1e9 + PATIENCE_S, "all flows to be answered", 0.05)
    except TimeoutError as error:
        whole_at = at
        faults.append(str(error))
    for flows in scene.flows:
        flows.wait_for_time(AFTER_S)
    taken = [flows.halt() for flows in scene.flows]
    faults += scene.faults_now()
    results = []
    for number, records in enumerate(taken):
        for record in records.values():
            side = {"coming": event.host} if event.comes else {"leaving": event.host}
            one = measure(record, scene.name, event.told, at, whole_at, bound, **side)
            wrong = _wrong_hosts(scene, number, record, whole_at)
            results.append(replace(one, faults=(*one.faults, *wrong, *faults)))
    scene.watcher.end(results)
    return results


def _return_bound(scene: Balanced) -> Bound:
    """Return when a host that listens has its nodes back: after the next advertisements of those who hold them."""
    longest = max(
        node["advertisement_interval_s"]
        for host in scene.up.values()
        for interface in host.status()["interfaces"]
        for node in interface["nodes"]
        if node["state"] == "MASTER"
    )
    return Bound(0, int(longest * 1e9))


def _wrong_hosts(scene: Balanced, number: int, record: FlowRecord, since: int) -> list[str]:
    wrong = strangers(record, scene.wanted(number, record.address), since)
    if not wrong:
        return []
    flow, (seen, should) = next(iter(wrong.items()))
    return [f"{len(wrong)} flows to {record.address} are not with the host of the rule: flow {flow} has {seen}, not {should}"]


class ActiveActive(Balanced):
    """The guide's pair of firewalls: two LANs, on each an address that both serve."""

    name = "active/active"
    told = "two hosts between two LANs, balancing ip, each MASTER of one of two nodes on either side"
    HOSTS = (("donald", 100), ("daisy", 101))
    NETWORKS = (("rl0", "172.16.240", 3, "password3"), ("rl1", "172.16.250", 5, "password5"))

    def build(self) -> list[Strand]:
        """Build both LANs."""
        lans = [self.stage.lan, self.stage.another_lan()]
        ports: dict[str, dict[str, Port]] = {}
        clients = []
        for lan, (interface, prefix, _, _) in zip(lans, self.NETWORKS, strict=True):
            for label, number in self.HOSTS:
                ports.setdefault(interface, {})[label] = self._on(lan, label, interface, f"{prefix}.{number}/24")
            clients.append(lan.attach(f"client{interface}", [f"{prefix}.9/24"], interface=interface))
        for index, (label, _) in enumerate(self.HOSTS):
            carps = [
                balanced(
                    crossed(index, 2, USUAL_STEPS, vhid),
                    IP,
                    USUAL_STEPS,
                    Carp(f"carp{number}", carpdev=interface, addresses=(f"{prefix}.102/24",), password=password),
                )
                for number, (interface, prefix, vhid, password) in enumerate(self.NETWORKS)
            ]
            self.stage.host(label, *carps, preempt=True)
        return [
            Strand(client, ports[interface], (f"{prefix}.102",), (vhid, vhid + 1))
            for client, (interface, prefix, vhid, _) in zip(clients, self.NETWORKS, strict=True)
        ]

    def events(self) -> list[Event]:
        """Kill one daemon, which cuts its host off on both sides, and start it again."""
        return [kill("donald"), restart("donald")]

    def _on(self, lan: Lan, label: str, interface: str, address: str) -> Port:
        known = self.stage.lan.ports.get(label)
        if known is None:
            return lan.attach(label, [address], interface=interface)
        return lan.join(known, interface, [address])


class FourHosts(Balanced):
    """Four hosts with four nodes."""

    name = "four hosts"
    told = "four hosts, balancing ip, each MASTER of one of four nodes"
    LABELS = ("a", "b", "c", "d")

    def build(self) -> list[Strand]:
        """Build the LAN."""
        count = len(self.LABELS)
        for index, label in enumerate(self.LABELS):
            steps = (1, 0, 40)
            self.stage.host(label, balanced(crossed(index, count, steps), IP, steps), preempt=True)
        ports = {label: self.stage.port(label) for label in self.LABELS}
        return [Strand(self.stage.client, ports, tuple(bare(SHARED)), tuple(range(1, count + 1)))]

    def events(self) -> list[Event]:
        """Take three hosts away, one after another, and give them back."""
        return [cut("b"), kill("c"), cut("d"), plug("b"), restart("c"), plug("d")]


class ArpBalanced(Balanced):
    """ARP balancing: two carp interfaces with one address on each of two hosts, advskew 0 and 100 crossed."""

    name = "ARP balancing"
    told = "two carp interfaces with one address on each of two hosts, net.inet.carp.arpbalance=1"
    by_packet = False

    def build(self) -> list[Strand]:
        """Build the LAN."""
        for index, label in enumerate("ab"):
            self.stage.host(label, *arp_balanced(crossed(index, 2, USUAL_STEPS), USUAL_STEPS), preempt=True, arpbalance=True)
        ports = {label: self.stage.port(label) for label in "ab"}
        return [Strand(self.stage.client, ports, tuple(bare(SHARED)), (1, 2))]

    def events(self) -> list[Event]:
        """Cut one, and plug it in again."""
        return [cut("b"), plug("b")]


SCENES: Mapping[str, type[Balanced]] = {scene.name: scene for scene in (ActiveActive, FourHosts, ArpBalanced)}


def play_scene(kind: type[Balanced], watcher: Watcher) -> list[ShareResult]:
    """Play all events of a scene."""
    with kind(watcher) as scene:
        results = []
        for event in scene.events():
            results += play_event(scene, event)
        wait_until_shared_out(list(scene.up.values()), PATIENCE_S)
    return results
