"""The checks: one task for each that has an interval, and the kernel's word for the others."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..protocol.values import NANOSECONDS_PER_SECOND
from . import connections, ping, scripts
from .connections import HttpProbe, TcpProbe
from .judgement import Finding, Judgement, Probe, failure
from .kernel import Kernel
from .local import LocalProbe
from .orders import AT_ONCE, Check, Checked, CheckKind
from .ping import Echo, PingProbe
from .proc import Names
from .process import Programs
from .scripts import BootProbe, ScriptProbe

logger = logging.getLogger(__name__)

MOST_DETAIL_CHARACTERS = 200
_MOST_READERS = 32
_KERNEL_READERS = 2

Report = Callable[[Checked], None]


class Checks:
    """All checks. `report` gets the first result of each and every change; `echoes` are the ping sockets by IP version."""

    def __init__(self, report: Report, programs: Programs, echoes: dict[int, Echo]) -> None:
        self._report = report
        self._programs = programs
        self._echoes = echoes
        self._judgements: dict[str, Judgement] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Apart from each other: a dead name server must not keep files from being read.
        self._files = ThreadPoolExecutor(_MOST_READERS, "files")
        self._names = ThreadPoolExecutor(_MOST_READERS, "names")
        self._netlink = ThreadPoolExecutor(_KERNEL_READERS, "netlink")
        self._script_slots = asyncio.Semaphore(scripts.MOST_AT_ONCE)
        self._file_slots = asyncio.Semaphore(_MOST_READERS)
        self._connection_slots = asyncio.Semaphore(connections.MOST_AT_ONCE)
        self._ping_slots = asyncio.Semaphore(ping.MOST_AT_ONCE)
        self._processes = Names()
        self._kernel = Kernel(self._on_kernel, self._netlink)

    def watch(self, check: Check) -> None:
        """Run this check from now on, in the place of one of the same name, of which nothing is remembered."""
        self.forget(check.name)
        if check.kind in AT_ONCE:
            self._judgements[check.name] = Judgement(1, 1)
            self._kernel.watch(check)
        else:
            self._judgements[check.name] = Judgement(max(check.rise, 1), max(check.fall, 1))
            self._tasks[check.name] = asyncio.get_running_loop().create_task(self._repeat(check))

    def forget(self, name: str) -> None:
        """Run it no longer, and end what it runs."""
        self._judgements.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
        self._kernel.forget(name)

    async def stop(self) -> None:
        """Forget all. Threads that hang stay behind until the process ends."""
        tasks = list(self._tasks.values())
        for name in list(self._judgements):
            self.forget(name)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kernel.close()
        for executor in (self._files, self._names, self._netlink):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _repeat(self, check: Check) -> None:
        loop = asyncio.get_running_loop()
        judgement = self._judgements[check.name]
        try:
            probe = self._probe(check)
            interval_s = check.interval_ns / NANOSECONDS_PER_SECOND
        except (TypeError, ValueError) as error:
            self._judge(check.name, judgement, Finding(good=False, detail=failure(error)))
            return
        told_of_fault = False
        while True:
            async with probe.slots:
                begun = loop.time()
                try:
                    await probe.run(lambda finding: self._judge(check.name, judgement, finding))
                except Exception as error:
                    if not told_of_fault:
                        logger.warning("check %s: %s", check.name, failure(error), exc_info=True)
                        told_of_fault = True
                    self._judge(check.name, judgement, Finding(good=False, detail=failure(error)))
            if check.kind is CheckKind.BOOT and judgement.holds:
                return
            await asyncio.sleep(begun + interval_s - loop.time())

    def _probe(self, check: Check) -> Probe:
        match check.kind:
            case CheckKind.SCRIPT:
                return ScriptProbe(check, self._script_slots, self._programs)
            case CheckKind.BOOT:
                return BootProbe(check, self._script_slots, self._programs)
            case CheckKind.TCP:
                return TcpProbe(check, self._connection_slots, self._names)
            case CheckKind.HTTP:
                return HttpProbe(check, self._connection_slots, self._names)
            case CheckKind.PING:
                return PingProbe(check, self._ping_slots, self._echoes)
            case _:
                return LocalProbe(check, self._file_slots, self._files, self._processes)

    def _on_kernel(self, name: str, finding: Finding) -> None:
        if name in self._judgements:
            self._judge(name, self._judgements[name], finding)

    def _judge(self, name: str, judgement: Judgement, finding: Finding) -> None:
        if self._judgements.get(name) is judgement and judgement.add(good=finding.good):
            self._report(Checked(name, finding.good, finding.detail[:MOST_DETAIL_CHARACTERS]))
