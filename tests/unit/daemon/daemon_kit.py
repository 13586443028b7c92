"""A client of the control socket, and a daemon without a kernel behind it."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from carp.config.load import Configuration, Source, load_document
from carp.daemon.balancing import Balancers, ParentPort
from carp.daemon.chronicle import Chronicle
from carp.daemon.fencing import Fencing
from carp.daemon.lateness import Lateness
from carp.daemon.state_sync import StateSync
from carp.linux.bpf.balancer import Balance, NodeCount, _check, _checked
from carp.linux.bpf.fence import FenceUnavailable
from carp.linux.clock import boottime
from carp.linux.rtnetlink import Link, LinkAddress
from carp.protocol.actions import Action, Transition
from carp.protocol.engine import Engine
from carp.protocol.events import Configured, Event
from carp.protocol.statistics import Statistics
from carp.protocol.values import Instant
from carp.testing.hosts import address, parent_up

PATIENCE_S = 5
LINK_GROUP = 0x63000001


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.body)


async def read_reply(reader: asyncio.StreamReader, *, with_body: bool = True) -> Reply:
    """Read one answer, whatever says where it ends."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = b""
    if with_body and "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif with_body and headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif with_body:
        body = await reader.read()
    return Reply(int(status.split()[1]), headers, body)


async def send(path: Path, request: bytes) -> Reply:
    """Send bytes on a connection of their own and read the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            return await read_reply(reader, with_body=not request.startswith(b"HEAD"))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def request(method: str, target: str, body: object = None, *, version: str = "1.1") -> bytes:
    """Write a request; a body that is not bytes is written as JSON."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    length = f"Content-Length: {len(content)}\r\n" if content else ""
    return f"{method} {target} HTTP/{version}\r\nHost: carp\r\nConnection: close\r\n{length}\r\n".encode() + content


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in a loop, and let no error of the loop go unseen."""
    errors: list[dict[str, Any]] = []

    async def played() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        await scenario()

    asyncio.run(played())
    assert errors == []


class Table:
    """The links of a host: lo, eth0 with 192.0.2.1/24, eth1 with 198.51.100.1/24; and those of this daemon."""

    def __init__(self) -> None:
        self.links = [
            Link(1, "lo", True, True, bytes(6), "", 0, 0),
            Link(2, "eth0", True, True, bytes.fromhex("020000000001"), "", 0, 0),
            Link(3, "eth1", True, True, bytes.fromhex("020000000002"), "", 0, 0),
            Link(9, "carp7", False, False, bytes.fromhex("00005e000109"), "macvlan", 2, LINK_GROUP),
        ]
        self.own = {1: ["127.0.0.1/8"], 2: ["192.0.2.1/24"], 3: ["198.51.100.1/24"]}

    def all(self) -> list[Link]:
        """Walk all links."""
        return self.links

    def addresses(self, index: int) -> list[LinkAddress]:
        """List the addresses of a link."""
        return [LinkAddress(index, address(text), 0, 0) for text in self.own.get(index, ())]


class FakeDeadlines:
    """The deadlines by slot, 0 where nothing was said, and the packets dropped."""

    def __init__(self) -> None:
        self.until: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()

    def extend(self, slot: int, until_ns: Instant) -> int:
        """Keep a slot open until then; return until when it was."""
        former, self.until[slot] = self.until[slot], until_ns
        return former

    def close_slot(self, slot: int) -> None:
        """Close a slot."""
        self.until[slot] = 0

    def deadline(self, slot: int) -> Instant:
        """Return until when a slot is open."""
        return Instant(self.until[slot])

    def dropped(self, slot: int) -> int:
        """Return how many packets were dropped."""
        return self.lost[slot]


class FakeBalancer:
    """Writes down what it is told; `wanted` and `masks` are what holds, `counted` what it is to count for each node.

    As the real one it refuses what is no balance, and forgets the mask where the nodes are other ones.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.wanted: dict[int, Balance] = {}
        self.masks: dict[int, int] = {}
        self.counted: dict[int, tuple[NodeCount, ...]] = {}

    def put(self, index: int, balance: Balance) -> None:
        """Make or change a balance."""
        _checked(index)
        _check(balance)
        self.calls.append(("put", index))
        former = self.wanted.get(index)
        if former is None or [node.slot for node in former.nodes] != [node.slot for node in balance.nodes]:
            self.masks[index] = 0
        self.wanted[index] = balance

    def remove(self, index: int) -> None:
        """End a balance."""
        self.calls.append(("remove", index))
        del self.wanted[index], self.masks[index]

    def set_mask(self, index: int, mask: int) -> None:
        """Say which nodes are MASTER."""
        self.calls.append(("mask", index, mask))
        self.masks[index] = mask

    def counts(self, index: int, nodes: int) -> tuple[NodeCount, ...]:
        """Count."""
        assert nodes == len(self.wanted[index].nodes)
        return self.counted.get(index, (NodeCount(0, 0, 0, 0),) * nodes)

    def taken(self) -> list[tuple[Any, ...]]:
        """Return what was asked since the last look."""
        calls, self.calls = self.calls, []
        return calls


class FakeFence:
    """Writes down what it is told; `vips` are the addresses of each slot on a parent, `links` the slot of each link.

    `refusing` holds the links and parents that take no programs.
    """

    def __init__(self) -> None:
        self.deadlines = FakeDeadlines()
        self.balancer = FakeBalancer()
        self.vips: dict[tuple[int, int], tuple[str, ...]] = {}
        self.links: dict[int, int] = {}
        self.refusing: set[int] = set()
        self.calls: list[tuple[Any, ...]] = []
        self.closed = False

    def set_vips(self, parent_ifindex: int, slot: int, addresses: Iterable[object]) -> None:
        """Fence exactly these addresses."""
        self.calls.append(("vips", slot))
        self.vips[parent_ifindex, slot] = tuple(map(str, addresses))

    def guard_link(self, _netlink: object, ifindex: int, slot: int) -> None:
        """Put the fence on a link."""
        self._refuse(ifindex)
        self.links[ifindex] = slot

    def guard_new_links(self, _netlink: object, slots: Mapping[int, int]) -> set[int]:
        """Put the fence on new links; return those that refuse."""
        self.links |= {ifindex: slot for ifindex, slot in slots.items() if ifindex not in self.refusing}
        return self.refusing & slots.keys()

    def forget_link(self, ifindex: int) -> None:
        """Forget a link."""
        self.links.pop(ifindex, None)

    def guard_parent(self, _netlink: object, ifindex: int) -> bool:
        """Put the fence on a parent."""
        self._refuse(ifindex)
        return True

    def unguard_parent(self, _netlink: object, ifindex: int, *, remove_qdisc: bool) -> None:
        """Take it off."""
        self.calls.append(("unguard", ifindex, remove_qdisc))

    def ahead(self, _netlink: object, _ifindex: int) -> list[str]:
        """Name the filters that run before: none."""
        return []

    def close(self) -> None:
        """Let go of everything."""
        self.closed = True

    def _refuse(self, ifindex: int) -> None:
        if ifindex in self.refusing:
            raise FenceUnavailable(f"interface {ifindex} takes no BPF filter")


def fencing_of(fence: FakeFence | None, wanted: str = "auto", told: list[str] | None = None) -> Fencing:
    """Make a fencing that has this fence, or none; its warnings are `told`."""
    journal: Any = SimpleNamespace(link_group=LINK_GROUP, qdiscs=[], save=lambda: None)
    fencing = Fencing("off", journal, (told if told is not None else []).append)
    if fence is not None:
        kernel: Any = fence
        fencing._fence, fencing._wanted, fencing.unavailable = kernel, wanted, ""
    return fencing


class FakeRuntime:
    """A daemon's runtime without a kernel: what it is to become is kept, and happens at once. It has no fence unless given."""

    def __init__(self, publish: Callable[[str, Any], None] | None = None, fence: FakeFence | None = None) -> None:
        self.engine = Engine(1, Random(1))
        self.observers: set[Callable[[Transition], None]] = set()
        self.actions: list[Action] = []
        for parent in ("eth0", "eth1"):
            self.handle(parent_up(parent=parent))
        self.fencing = fencing_of(fence)
        self.hardware = SimpleNamespace(table=Table(), balancers=Balancers(self.fencing))
        self.chronicle = Chronicle(2, publish)
        self.lateness = Lateness()
        self.errands = SimpleNamespace(describe=list)
        self.state_sync = StateSync(self.engine, self.handle, lambda _: True)
        self.started_at = boottime()
        self.configuration: Configuration | None = None
        self.ownership = SimpleNamespace(live_addresses=lambda _name: [])  # without a kernel
        self.adopted: list[Configuration] = []
        self.failures: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def handle(self, event: Event) -> None:
        """Give the engine an event; what it asks for is kept, and changes of state are told."""
        actions = self.engine.handle(event, boottime())
        self.actions += actions
        for action in actions:
            if isinstance(action, Transition):
                for observer in list(self.observers):
                    observer(action)

    async def reconfigure(self, configuration: Configuration) -> list[str]:
        """Change to another configuration, once the gate is open."""
        await self.gate.wait()
        self.adopted.append(configuration)
        self.configuration = configuration
        self.handle(Configured(configuration.host))
        return self.failures

    def share_out(self) -> None:
        """Tell the fence's programs what the running configuration wants."""
        ports = {"eth0": ParentPort(2, bytes.fromhex("020000000001")), "eth1": ParentPort(3, bytes.fromhex("020000000002"))}
        assert self.hardware.balancers.follow(self.engine.host.parameters, ports) == []

    def statistics(self) -> Statistics:
        """Return the counters of the whole host."""
        return self.engine.statistics


def configured(document: dict[str, Any], path: Path | None = None) -> Configuration:
    """Check a document as a running one is."""
    return load_document(document, Source(".".join, Path("/"), path, incomplete_ok=True))
