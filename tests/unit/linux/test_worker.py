"""The thread for what can be slow: who goes first, what is written together, and how the loop hears of it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from carp.linux import worker as worker_module
from carp.linux.netlink import Netlink, NetlinkError, Write
from carp.linux.worker import Urgency, Worker

PATIENCE_S = 5


class FakeKernel(Netlink):
    """Writes down each write; refuses the messages that are in `refused`, or all with `broken`."""

    def __init__(self) -> None:
        self.writes: list[list[bytes]] = []
        self.refused: dict[bytes, int] = {}
        self.broken: OSError | None = None

    def execute(self, batch: Any) -> list[NetlinkError]:
        """Carry out a batch."""
        if self.broken is not None:
            raise self.broken
        self.writes.append(list(batch))
        return [NetlinkError(self.refused[one], place) for place, one in enumerate(batch) if one in self.refused]

    def close(self) -> None:
        """Do nothing."""


class Scene:
    """A worker that is held up until `go`, so that what is submitted waits together."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.log: list[object] = []
        self.worker = Worker()
        self._gate = threading.Event()
        held_up = threading.Event()
        self.worker.start(asyncio.get_running_loop())
        self.worker.submit(Urgency.TAKE, lambda _: (held_up.set(), self._gate.wait(PATIENCE_S)))
        assert held_up.wait(PATIENCE_S)

    def go(self) -> None:
        """Let the worker go on."""
        self._gate.set()

    def job(self, name: str) -> Callable[[Netlink], object]:
        """Make a job that writes down its name."""
        return lambda _: self.log.append(name)

    def write(self, urgency: Urgency, *requests: bytes) -> None:
        """Submit a write; what came of it is written down."""

        def steps() -> Write:
            for error in (yield requests):
                raise error

        self.worker.write(urgency, steps(), lambda result: self.log.append((requests[0], result)))

    async def end(self) -> None:
        """Let everything be done and told."""
        self.go()
        await self.worker.run(Urgency.LINK_DOWN, lambda _: None)
        self.worker.stop()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """Let the thread speak to no kernel."""
    made = FakeKernel()
    monkeypatch.setattr(worker_module, "Netlink", lambda: made)
    return made


def played(kernel: FakeKernel, scenario: Callable[[Scene], Awaitable[None]]) -> list[object]:
    """Play a scenario on a loop to its end; return what was written down."""

    async def play() -> list[object]:
        scene = Scene(kernel)
        await scenario(scene)
        async with asyncio.timeout(PATIENCE_S):
            await scene.end()
        return scene.log

    return asyncio.run(play())


def test_the_most_urgent_goes_first(kernel: FakeKernel) -> None:
    """Whatever was submitted first; what is equally urgent goes in that order, jobs and writes alike."""

    async def scenario(scene: Scene) -> None:
        for urgency in (Urgency.LINK_DOWN, Urgency.SETUP, Urgency.RELEASE, Urgency.TAKE):
            for turn in ("first", "second"):
                scene.worker.submit(urgency, scene.job(f"{urgency.name} {turn}"))

    names = [urgency.name for urgency in (Urgency.TAKE, Urgency.RELEASE, Urgency.SETUP, Urgency.LINK_DOWN)]
    assert played(kernel, scenario) == [f"{name} {turn}" for name in names for turn in ("first", "second")]


def test_writes_that_wait_together_are_one(kernel: FakeKernel) -> None:
    """Those of equal urgency, in their order: they wait for the kernel's lock once."""

    async def scenario(scene: Scene) -> None:
        scene.write(Urgency.RELEASE, b"down 1")
        scene.write(Urgency.TAKE, b"link 1", b"address 1")
        scene.write(Urgency.TAKE, b"link 2", b"address 2")
        scene.write(Urgency.RELEASE, b"down 2")

    told = played(kernel, scenario)
    assert kernel.writes == [[b"link 1", b"address 1", b"link 2", b"address 2"], [b"down 1", b"down 2"]]
    assert told == [(b"link 1", None), (b"link 2", None), (b"down 1", None), (b"down 2", None)]


def test_the_writes_of_one_round_call_the_thread_once(kernel: FakeKernel) -> None:
    """When the round is over; a job calls it at once."""
    calls = []

    async def scenario(scene: Scene) -> None:
        waiting = scene.worker._calls
        for turn in (b"1", b"2"):
            scene.write(Urgency.TAKE, b"link " + turn)
            scene.write(Urgency.RELEASE, b"down " + turn)
            calls.append(waiting.qsize())
            await asyncio.sleep(0)
            calls.append(waiting.qsize())
        scene.worker.submit(Urgency.SETUP, scene.job("job"))
        calls.append(waiting.qsize())

    told = played(kernel, scenario)
    assert calls == [0, 1, 1, 2, 3]
    assert len(told) == 5


def test_a_job_between_two_writes_parts_them(kernel: FakeKernel) -> None:
    """It was submitted between them, and may depend on the first."""

    async def scenario(scene: Scene) -> None:
        scene.write(Urgency.TAKE, b"link 1")
        scene.worker.submit(Urgency.TAKE, lambda netlink: netlink.execute([b"job"]))
        scene.write(Urgency.TAKE, b"link 2")

    played(kernel, scenario)
    assert kernel.writes == [[b"link 1"], [b"job"], [b"link 2"]]


def test_not_everything_is_one_write(kernel: FakeKernel) -> None:
    """The first ones are told while the others are written, and all are told, in order."""

    async def scenario(scene: Scene) -> None:
        for number in range(255):
            scene.write(Urgency.TAKE, b"link %d" % number)

    assert played(kernel, scenario) == [(b"link %d" % number, None) for number in range(255)]
    assert max(map(len, kernel.writes)) <= 32
    assert len(kernel.writes) == 8


def test_each_write_hears_of_its_own_refusals(kernel: FakeKernel) -> None:
    """With the positions of its own messages; the others are done."""
    kernel.refused = {b"address 2": 13}

    async def scenario(scene: Scene) -> None:
        for number in (b"1", b"2", b"3"):
            scene.write(Urgency.TAKE, b"link " + number, b"address " + number)

    told: dict[object, object] = dict(pair for pair in played(kernel, scenario) if isinstance(pair, tuple))
    error = told.pop(b"link 2")
    assert told == {b"link 1": None, b"link 3": None}
    assert isinstance(error, NetlinkError)
    assert (error.errno, error.position) == (13, 1)


def test_a_write_that_could_not_be_made_fails_all_of_it(kernel: FakeKernel) -> None:
    """And the thread goes on."""
    kernel.broken = OSError(105, "No buffer space available")

    async def scenario(scene: Scene) -> None:
        scene.write(Urgency.TAKE, b"link 1")
        scene.write(Urgency.TAKE, b"link 2")

    assert played(kernel, scenario) == [(b"link 1", kernel.broken), (b"link 2", kernel.broken)]


@pytest.mark.parametrize("begun", [True, False])
def test_a_write_that_has_a_fault_fails_alone(kernel: FakeKernel, begun: bool) -> None:
    """Before its messages are known or afterwards; the others and the thread go on."""

    def faulty() -> Write:
        if begun:
            yield (b"faulty",)
        raise ValueError

    async def scenario(scene: Scene) -> None:
        scene.write(Urgency.TAKE, b"link 1")
        scene.worker.write(Urgency.TAKE, faulty(), lambda result: scene.log.append(type(result)))
        scene.write(Urgency.TAKE, b"link 2")

    assert played(kernel, scenario) == [(b"link 1", None), ValueError, (b"link 2", None)]


def test_a_write_that_has_nothing_to_say_writes_nothing(kernel: FakeKernel) -> None:
    """Overtaken, it ends before it begins; those beside it have their own refusals."""
    kernel.refused = {b"link 2": 19}

    def overtaken() -> Write:
        yield from ()

    async def scenario(scene: Scene) -> None:
        scene.write(Urgency.TAKE, b"link 1")
        scene.worker.write(Urgency.TAKE, overtaken(), scene.log.append)
        scene.write(Urgency.TAKE, b"link 2")

    log = played(kernel, scenario)
    assert log[:2] == [(b"link 1", None), None]
    assert isinstance(log[2], tuple)
    assert (log[2][0], log[2][1].position) == (b"link 2", 0)
    assert kernel.writes == [[b"link 1", b"link 2"]]


def test_the_loop_does_other_things_between_results(kernel: FakeKernel) -> None:
    """What follows from hundreds of takes does not hold up what is due."""

    async def scenario(scene: Scene) -> None:
        told = asyncio.Event()
        for number in range(32):
            scene.write(Urgency.TAKE, b"link %d" % number)
        scene.worker.submit(Urgency.TAKE, lambda _: None, lambda _: told.set())
        scene.go()
        while not told.is_set():
            scene.log.append("other")
            await asyncio.sleep(0)

    log = played(kernel, scenario)
    places = [place for place, entry in enumerate(log) if entry != "other"]
    assert len(places) == 32
    assert "other" in log[places[0] : places[-1]]


def test_a_fault_in_one_result_keeps_no_other_back(kernel: FakeKernel) -> None:
    """The loop hears of it, and of everything else."""
    faults: list[object] = []

    def fail(_: object) -> None:
        raise ValueError

    async def scenario(scene: Scene) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
        scene.worker.submit(Urgency.TAKE, scene.job("1"), fail)
        scene.write(Urgency.TAKE, b"link 1")

    assert played(kernel, scenario) == ["1", (b"link 1", None)]
    assert [type(fault) for fault in faults] == [ValueError]


def test_a_job_that_fails_is_told(kernel: FakeKernel) -> None:
    """To whoever waits for it."""

    def fail(_: Netlink) -> None:
        raise ValueError("no")

    async def scenario(scene: Scene) -> None:
        scene.go()
        with pytest.raises(ValueError, match="no"):
            await scene.worker.run(Urgency.SETUP, fail)
        assert await scene.worker.run(Urgency.SETUP, lambda _: 7) == 7

    played(kernel, scenario)


def test_everything_is_done_before_the_end(kernel: FakeKernel) -> None:
    """Stopping waits for what was submitted, however little urgent."""

    async def scenario(scene: Scene) -> None:
        scene.worker.submit(Urgency.LINK_DOWN, scene.job("down"))
        scene.write(Urgency.TAKE, b"link 1")
        scene.go()
        scene.worker.stop()
        assert scene.log == ["down"]
        assert kernel.writes == [[b"link 1"]]
        scene.worker = Worker()
        scene.worker.start(asyncio.get_running_loop())

    assert played(kernel, scenario) == ["down", (b"link 1", None)]


def test_what_is_told_together_ends_with_a_word() -> None:
    """Also where telling one of them fails: the others' news are not kept."""
    scene: list[str] = []

    async def played() -> None:
        over = asyncio.Event()
        worker = Worker(lambda: (scene.append("over"), over.set() if len(scene) > 4 else None)[0])
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        worker.start(asyncio.get_running_loop())

        def fail(_result: object) -> None:
            scene.append("fails")
            raise ValueError

        def tell(_result: object) -> None:
            assert worker.is_telling
            scene.append("told")

        for done in (tell, fail, tell):
            worker.submit(Urgency.TAKE, lambda _netlink: None, done)
        async with asyncio.timeout(5):
            await over.wait()
        assert not worker.is_telling
        worker.stop()

    asyncio.run(played())
    assert [word for word in scene if word != "over"] == ["told", "fails", "told"]
    assert scene[-1] == "over"
    assert scene[scene.index("fails") + 1] == "over"
