"""The runtime: one loop, one timer. Feeds the engine, carries out what it asks for.

A round is: advertisements that are due, then a bounded reading, then master-down timers, which fire only for the time up to
which everything was read. Nothing slow runs here.
"""

import asyncio
import errno
import gc
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace

from ..config.load import Configuration
from ..linux import batch, sysctl
from ..linux.carplink import CarpLink
from ..linux.clock import Timer, boottime
from ..linux.journal import Journal
from ..linux.links import LinkTable
from ..linux.netlink import Monitor, OverflowedError
from ..linux.packet_socket import PacketSocket
from ..linux.raw_socket import RawSocket
from ..linux.rtnetlink import filter_index
from ..linux.service_manager import Notifier
from ..linux.worker import Urgency, Worker
from ..protocol.actions import Transition
from ..protocol.engine import Engine
from ..protocol.events import Configured, Due, Event, Prepared, Shutdown, TakeFailed, Taken
from ..protocol.parameters import HostParameters, InterfaceParameters, LinkAddress
from ..protocol.statistics import Statistics
from ..protocol.values import NANOSECONDS_PER_SECOND, Family, Instant
from .chronicle import Chronicle
from .errands import Errands
from .execution import Execution
from .fencing import Fencing
from .fitness import StartError
from .hardware import Hardware, Port
from .lateness import Lateness
from .ownership import LINK_DOWN_AFTER_S, Ownership
from .reconcile import Reconciler
from .sender import Sender
from .state_sync import StateSync
from .unseen import Unseen

_NOTHING_READ = Instant(0)
_TRY_AGAIN_AFTER_S = 1.0


class Runtime:
    """One running daemon."""

    def __init__(self, journal: Journal, chronicle: Chronicle, fencing: Fencing, notifier: Notifier) -> None:
        self.chronicle = chronicle
        self.fencing = fencing
        self.started_at = boottime()
        self._notifier = notifier
        self._loop = asyncio.get_running_loop()
        self._feed_at: Instant | None = None
        self._due_at: Instant | None = None
        """The engine's next deadline, as it was when the timer was set."""
        self._due_set_at = self.started_at
        self._unseen = Unseen(chronicle)
        self.engine = Engine(journal.reserve_counter(), random.Random())  # noqa: S311
        self.worker = Worker(self._handle_reports)
        self._table = LinkTable()
        self.ownership = Ownership(self.worker, self._table, self._on_ownership, fencing.is_fenced)
        keeper = sysctl.Keeper()
        self.hardware = Hardware(self.worker, journal, self.ownership, self._table, fencing, keeper, self._watch, self._unwatch)
        self._raw: dict[Family, RawSocket] = {}
        self._sender = Sender(self._table, self.hardware.ports, self._raw, self.ownership.wanted, self._loop.call_soon)
        self.lateness = Lateness()
        self._reconciler = Reconciler(
            self.worker, self._table, self.ownership, fencing, keeper, chronicle, self._on_link_change, self._remake
        )
        self.configuration: Configuration | None = None
        self._host = HostParameters()
        """That of `configuration` as it is on this host."""
        self._parents: Iterable[str] = ()
        self._timer = Timer()
        self._monitor = Monitor()
        self.state_sync = StateSync(self.engine, self.handle, self._is_up)
        self.errands = Errands(self.engine, self._on_errand, self._loop.call_later)
        self._execution = Execution(
            self.engine,
            self._sender,
            self.ownership,
            fencing,
            self.hardware.balancers,
            chronicle,
            self.errands,
            self.state_sync,
            lambda: self.configuration,
        )
        self._reports: list[Event] = []
        """What came of takes, not handled yet."""
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported: list[str] = []
        self._stopping = False

    async def start(self, configuration: Configuration) -> None:
        """Make what the configuration asks for and begin.

        Raises:
            StartError: this host cannot carry it.
        """
        self.worker.start(self._loop)
        await self.worker.run(Urgency.SETUP, self._table.load)
        self._loop.add_reader(self._timer.fileno(), self._on_timer)
        self._loop.add_reader(self._monitor.fileno(), self._on_link_change)
        self._open_raw_sockets()
        async with self._changing:
            host = self._resolved(configuration.host)
            problems = await self.hardware.settle(host, configuration.drafts)
            if problems:
                raise StartError(problems)
            self.errands.begin(configuration)
            self._adopt(configuration, host)
        self._reconciler.start()
        self._feed()
        # What lives now lives for good: the collector need not look at it in the middle of a takeover.
        gc.collect()
        gc.freeze()

    async def reconfigure(self, configuration: Configuration) -> list[str]:
        """Change to another configuration that was checked; only what differs is touched. Return what went wrong."""
        async with self._changing:
            former, host = self._host, self._resolved(configuration.host)
            former_drafts = set(self.configuration.drafts if self.configuration is not None else ())
            wanted = {parameters.name: parameters for parameters in host.interfaces}
            # What changes its link is taken away first, as if it had been removed, and then made anew.
            survivors = tuple(one for one in former.interfaces if one.name in wanted and _same_link(one, wanted[one.name]))
            if len(survivors) < len(former.interfaces):
                self.handle(Configured(replace(former, interfaces=survivors)))
                kept = former_drafts.intersection(configuration.drafts)
                await self.hardware.settle(replace(host, interfaces=survivors), kept)
            problems = await self._settle(host, configuration.drafts)
            self._adopt(configuration, host)
            return problems

    async def stop(self) -> None:
        """Bow out of everything and leave the host as it was found."""
        self._stopping = True
        self.handle(Shutdown())
        self._reconciler.stop()
        await self.state_sync.stop()
        errands_over = self._loop.create_task(self.errands.stop())
        self._loop.remove_reader(self._timer.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        # Deleting links holds the kernel's lock: whoever takes over first has it first.
        await asyncio.sleep(LINK_DOWN_AFTER_S)
        # A change under way would go on to make links when all are gone.
        async with self._changing:
            await self.hardware.undo()
        await errands_over
        for raw in self._raw.values():
            self._loop.remove_reader(raw.fileno())
            raw.close()
        self.worker.stop()
        self._timer.close()
        self._monitor.close()

    @property
    def observers(self) -> set[Callable[[Transition], None]]:
        """Those who are told of each change of state, in the middle of a round."""
        return self._execution.observers

    def handle(self, event: Event) -> None:
        """Give the engine an event and carry out its answer."""
        self._execution.handle(event)
        self._set_timer()

    def _on_ownership(self, event: Event) -> None:
        self._reports.append(event)
        if not self.worker.is_telling:
            self._handle_reports()

    def _handle_reports(self) -> None:
        """Handle what came of the takes that the worker told of in one go: what follows from all of them leaves together."""
        reports, self._reports = self._reports, []
        if not reports:
            return
        self._execution.handle_together(reports, boottime())
        self._set_timer()
        for report in reports:
            if isinstance(report, Taken):
                self.errands.addresses_live(report.interface)

    def _on_errand(self, event: Event) -> None:
        if isinstance(event, Prepared):
            self.state_sync.prepared(event)
        else:
            self.handle(event)

    def _is_up(self, name: str) -> bool:
        link = self._table.by_name(name)
        return link is not None and link.up and link.running

    def _resolved(self, host: HostParameters) -> HostParameters:
        """Take a MAC that is spelled out and the parent's own for what it is: no link of its own can have it."""

        def resolved(one: InterfaceParameters) -> InterfaceParameters:
            link = self._table.by_name(one.carpdev)
            is_parents = link is not None and one.lladdr == link.mac and not one.is_balanced
            return replace(one, lladdr=LinkAddress.PARENT) if is_parents else one

        return replace(host, interfaces=tuple(map(resolved, host.interfaces)))

    def _adopt(self, configuration: Configuration, host: HostParameters) -> None:
        self.configuration, self._host = configuration, host
        self.chronicle.level = configuration.log
        self._sender.forget_ways()
        self._sender.prepare(host.interfaces)
        self.ownership.prepare(host.interfaces)
        self._parents = dict.fromkeys(one.carpdev for one in configuration.host.interfaces if one.carpdev)
        for name in self._parents:
            self.handle(self.hardware.describe_parent(name))
        self.errands.expect(configuration)
        self.hardware.admit(host)
        self.handle(Configured(host))
        self.errands.adopt(configuration)
        self.state_sync.adopt(configuration.sync)

    def _open_raw_sockets(self) -> None:
        for family in Family:
            try:
                raw = self._raw[family] = RawSocket(family, self._link_name)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                continue  # this host does without the family
            self._loop.add_reader(raw.fileno(), self._round, raw)

    def _link_name(self, index: int) -> str:
        link = self._table.by_index(index)
        return link.name if link is not None else ""

    def _watch(self, port: Port) -> None:
        self._loop.add_reader(port.socket.fileno(), self._round, port.socket)
        self._loop.add_reader(port.claims.fileno(), self._on_claims, port)

    def _unwatch(self, port: Port) -> None:
        self._unseen.collect(port.socket)
        self._loop.remove_reader(port.socket.fileno())
        self._loop.remove_reader(port.claims.fileno())

    def _on_claims(self, port: Port) -> None:
        for claim in port.claims.drain(batch.PACKETS):
            self.handle(claim)

    def _on_timer(self) -> None:
        armed = self._timer.acknowledge()
        if armed is not None:
            self.lateness.note(max(0, boottime() - armed))
        self._round(None)
        if self._feed_at is not None and self._feed_at <= boottime():
            self._feed()

    def _round(self, readable: PacketSocket | RawSocket | None) -> None:
        now = boottime()
        if self._due_at is not None and self._due_at <= now:
            late_ns = now - max(self._due_at, self._due_set_at)
            # A due advertisement never waits for reading.
            self._execution.handle(Due(_NOTHING_READ), now)
            master_down = self.engine.next_master_down()
            if master_down is not None and master_down <= now:
                # Whoever we are about to give up for dead may be waiting in a queue.
                sockets: list[PacketSocket | RawSocket] = [port.socket for port in self.hardware.ports.values()]
                sockets += self._raw.values()
                read_until = min((self._drain(socket) for socket in sockets), default=now)
                self._execution.handle(Due(read_until, late_ns))
                readable = None
            self._due_set_at = boottime()  # what is still due waits for reading
        if readable is not None:
            self._drain(readable)
        self._set_timer()

    def _set_timer(self) -> None:
        at = self.engine.next_deadline()
        if at != self._due_at:
            self._due_at, self._due_set_at = at, boottime()
        if self._feed_at is not None and (at is None or self._feed_at < at):
            at = self._feed_at
        self._timer.set(at)

    def _feed(self) -> None:
        """Tell the service manager that rounds are run: only the protocol's own timer leads here."""
        interval_s = self._notifier.watchdog_interval_s
        if interval_s is not None:
            self._notifier.watchdog()
            self._feed_at = Instant(boottime() + round(interval_s * NANOSECONDS_PER_SECOND))
            self._set_timer()

    def _drain(self, socket: PacketSocket | RawSocket) -> Instant:
        """Read a batch of packets; return the moment up to which all were read."""
        packets, read_until = socket.read()
        self._execution.handle_all(packets, boottime())
        if isinstance(socket, PacketSocket):
            self._unseen.collect(socket)
        return read_until

    def statistics(self) -> Statistics:
        """Return the counters of the whole host, with what its kernel refused."""
        for port in self.hardware.ports.values():
            self._unseen.collect(port.socket)
        return self._unseen.added_to(self.engine.statistics)

    def _on_link_change(self) -> None:
        try:
            changes = self._monitor.drain()
        except OverflowedError:
            self._begin(self._reload_table())
            return
        touched = set()
        filtered = set()
        for kind, body in changes:
            if (index := self._table.apply(kind, body)) is not None:
                touched.add(index)
            elif (index := filter_index(kind, body)) is not None:
                filtered.add(index)
        self._parents_changed(touched)
        self._reconciler.touched(touched, filtered)

    def _begin(self, task: Coroutine[None, None, None]) -> None:
        begun = self._loop.create_task(task)
        self._tasks.add(begun)
        begun.add_done_callback(self._tasks.discard)

    async def _reload_table(self) -> None:
        await self.worker.run(Urgency.SETUP, self._table.load)
        self._parents_changed(None)

    def _parents_changed(self, touched: set[int] | None) -> None:
        """Tell the engine about parents among the touched links, None for all; make anew what came back."""
        if self.configuration is None:
            return
        unsettled = self.hardware.placeholders_lost()
        for name in self._parents:
            port, link = self.hardware.ports.get(name), self._table.by_name(name)
            if touched is None or any(one is not None and one.index in touched for one in (port, link)):
                self._sender.forget_ways()
            if port is not None and (link is None or link.index != port.index):
                self.hardware.lose_parent(name)
                self.handle(self.hardware.describe_parent(name))
                port, unsettled = None, True
            if link is not None and port is None:
                unsettled = True
            elif port is not None and (touched is None or port.index in touched):
                self.handle(self.hardware.describe_parent(name))
        self.hardware.follow_snooping()
        if unsettled or not self.hardware.is_current():
            self._begin(self._settle_again())

    def _remake(self, deleted: list[CarpLink]) -> None:
        for link in deleted:
            self.ownership.abandon(link.name)
            self.ownership.links.pop(link.name, None)
            self.fencing.lose_link(link)
        self._begin(self._settle_again())

    async def _settle_again(self) -> None:
        async with self._changing:
            if self.configuration is None or self._stopping:
                return
            self._report_problems(await self._settle(self._host, self.configuration.drafts))
            self.hardware.admit(self._host)
            for name in self.hardware.ports:
                self.handle(self.hardware.describe_parent(name))

    async def _settle(self, host: HostParameters, drafts: Iterable[str]) -> list[str]:
        """Bring the kernel's objects to what is wanted; a MASTER whose link cannot be made yields, and it is tried again."""
        before = set(self.ownership.links)
        problems = await self.hardware.settle(host, drafts)
        self.ownership.prepare(host.interfaces)
        for name in self.ownership.links.keys() - before:
            if wanted := self.ownership.wanted(name):
                self.ownership.take(name, wanted)
        missing = [
            parameters.name
            for parameters in host.interfaces
            if parameters.name not in self.ownership.links and parameters.carpdev in self.hardware.ports
        ]
        for name in missing:
            if self.ownership.wanted(name):
                self.handle(TakeFailed(name, "; ".join(problems) or f"{name} does not exist"))
        if missing:
            self._loop.call_later(_TRY_AGAIN_AFTER_S, lambda: self._begin(self._settle_again()))
        return problems

    def _report_problems(self, problems: list[str]) -> None:
        if problems != self._reported:
            for problem in problems:
                self.chronicle.say(1, problem)
        self._reported = problems


def _same_link(one: InterfaceParameters, other: InterfaceParameters) -> bool:
    """Tell whether a change from one to the other can keep the link."""
    same_macs = (one.carpdev, one.lladdr, one.balancing) == (other.carpdev, other.lladdr, other.balancing)
    return same_macs and [node.vhid for node in one.nodes] == [node.vhid for node in other.nodes]
