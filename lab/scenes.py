"""The scenes of `make lab`: two hosts that share addresses, a client, a switch or two; and the cases played on them.

Host a is better and both preempt. Each case starts from a settled scene, strikes, and is over when the expected host alone
answers for every shared address; then the scene is repaired. What a case shows is measured by the client alone.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from .figures import AT_ONCE, Bound, Pair, Result, result
from .host import Carp, Host
from .lan import Lan
from .measure import Trace, both_answered, owners
from .pairs import virtual_mac
from .parents import SECOND_SHARED, mend, with_two_parents
from .probe import Progress
from .prober import Prober
from .stage import SHARED, Stage, bare
from .tables import neighbours

PATIENCE_S = 5.0
"""How much longer than the protocol's bound is waited before a takeover counts as missing."""
BEFORE_S, AFTER_S = 0.3, 0.5
CELL_NS = 50_000_000
NOBODY, BOTH = ".", "#"


class Audience(Protocol):
    """Who watches the cases live."""

    def begin(self, case: "Case", expected_s: float) -> None:
        """A case begins."""

    def progress(self, progress: Progress) -> None:
        """Another 50 ms of answers; called from another thread."""

    def struck(self, at: int) -> None:
        """The event has happened."""

    def end(self, results: list[Result]) -> None:
        """The case is over."""


class Silence:
    """An audience that is not there."""

    def begin(self, case: "Case", expected_s: float) -> None:
        """A case begins."""

    def progress(self, progress: Progress) -> None:
        """Another 50 ms of answers."""

    def struck(self, at: int) -> None:
        """The event has happened."""

    def end(self, results: list[Result]) -> None:
        """The case is over."""


@dataclass(frozen=True)
class Segment:
    """One LAN of a scene, and the carp interface that both hosts have on it; `word` tells it from the scene's others."""

    lan: Lan
    carp: str
    vhid: int
    addresses: tuple[str, ...]
    word: str = ""


class Scene:
    """The LAN with its two hosts and the client; a context manager that leaves nothing behind."""

    told = "two hosts"

    def __init__(self, pair: Pair, **global_keys: object) -> None:
        self.pair = pair
        self.stage = Stage()
        try:
            self.make_hosts(**global_keys)
            self.client = self.stage.client
            self.segments = self.build()
        except BaseException:
            self.stage.close()
            raise

    def make_hosts(self, **global_keys: object) -> None:
        """Configure both hosts."""
        for label, advskew in (("a", self.pair.skew_a), ("b", self.pair.skew_b)):
            carp = Carp(advbase=self.pair.advbase, advskew=advskew, addresses=SHARED)
            self.stage.host(label, carp, preempt=True, **global_keys)

    def build(self) -> list[Segment]:
        """Complete the scene; return its LANs."""
        return [Segment(self.stage.lan, "carp0", 1, tuple(bare(SHARED)))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stage.close()

    @property
    def hosts(self) -> dict[str, Host]:
        """Both hosts by label."""
        return self.stage.hosts

    @property
    def a(self) -> Host:
        """The better host."""
        return self.hosts["a"]

    @property
    def b(self) -> Host:
        """The other host."""
        return self.hosts["b"]

    def settle(self) -> None:
        """Let both daemons run, a as MASTER and b as BACKUP."""
        for host in self.hosts.values():
            if not host.running:
                host.start()
        patience_s = self.pair.master_down_ns(self.pair.skew_b) / 1e9 + PATIENCE_S
        for segment in self.segments:
            self.a.wait_for_state("MASTER", patience_s, segment.carp)
            self.b.wait_for_state("BACKUP", patience_s, segment.carp)

    def settle_without_a(self) -> None:
        """Let b alone run, as MASTER."""
        if not self.b.running:
            self.b.start()
        if self.a.running:
            self.a.stop()
        for segment in self.segments:
            self.b.wait_for_state("MASTER", self.pair.master_down_ns(self.pair.skew_b) / 1e9 + PATIENCE_S, segment.carp)

    def prober(self, watch: Callable[[Progress], None] | None = None) -> Prober:
        """Probe every shared address from the client."""
        addresses = [address for segment in self.segments for address in segment.addresses]
        return Prober([host.port for host in self.hosts.values()], self.client, addresses, watch)


class TwoParentsScene(Scene):
    """The same with a second LAN, on which everybody has a further interface and both hosts a further carp interface."""

    told = "two hosts with two parents each"

    def build(self) -> list[Segment]:
        """Add the second LAN; a case cuts the first."""
        second = with_two_parents(self.stage, self.a, self.b)
        return [
            replace(super().build()[0], word="cut LAN"),
            Segment(second, "carp1", 2, tuple(bare(SECOND_SHARED)), "other LAN"),
        ]


@dataclass(frozen=True)
class Case:
    """One thing that happens to the pair."""

    name: str
    told: str
    """What happens, in a few words."""
    winner: str
    """Who answers in the end."""
    strike: Callable[[Scene], int]
    """Make it happen and return its instant."""
    bound: Callable[[Pair], Bound]
    prepare: Callable[[Scene], None] = Scene.settle
    repair: Callable[[Scene], object] = Scene.settle
    loser_state: str | None = None
    """The state that the other host must be in afterwards; None where it is not running or may believe what it likes."""
    one_owner: bool = False
    """Whether two hosts that answer at once are wrong behaviour, given a fence."""
    elsewhere: Callable[[Pair], Bound] = lambda _pair: AT_ONCE
    """The bound on the scene's other LANs."""
    loser_elsewhere: str | None = "BACKUP"
    """The same as `loser_state` for the other LANs."""


def _start_better(scene: Scene) -> int:
    # The bound counts from the moment the daemon listens; how fast Python starts is not the protocol's affair.
    scene.a.start(wait=False)
    return scene.a.wait_until_listening()


def _block(scene: Scene) -> int:
    return scene.a.port.block()


def _unblock(scene: Scene) -> None:
    scene.a.port.unblock()
    scene.settle()


def _mend(scene: Scene) -> None:
    mend(scene.a.port)
    scene.settle()


def _mend_and_return(scene: Scene) -> None:
    """Give the parent back: everything returns to the better host, with nobody answered by both."""
    with scene.prober() as prober:
        prober.wait_for_owner("b", PATIENCE_S)
        _mend(scene)
        prober.wait_for_owner("a", PATIENCE_S)
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    for address, trace in traces.items():
        if (seen := owners(trace, trace.start, trace.end)) != ["b", "a"]:
            raise RuntimeError(f"after the repair {address} was answered by {', '.join(seen)}, not by b and then a")


def _stop(scene: Scene) -> int:
    return scene.a.signal(signal.SIGSTOP)


def _wake(scene: Scene) -> None:
    """Let the replaced MASTER go on: it must step back before it takes over again, and nobody may be answered by both."""
    said = len(scene.a.log_text())
    with scene.prober() as prober:
        prober.wait_for_owner("b", PATIENCE_S)
        scene.a.signal(signal.SIGCONT)
        scene.settle()
        prober.wait_for_owner("a", PATIENCE_S)
        prober.wait_for_time(AFTER_S)
        traces = prober.stop()
    if "MASTER -> BACKUP" not in scene.a.log_text()[said:]:
        raise RuntimeError("after SIGCONT the replaced MASTER did not go to BACKUP first")
    both = {address: both_answered(trace) for address, trace in traces.items()}
    if any(both.values()) and not unfenced(scene):
        raise RuntimeError(f"after SIGCONT two hosts answered: {both} ms")


def unfenced(scene: Scene) -> list[str]:
    """Say which host works without the fence, and why; empty where both have it."""
    fences = {label: host.interface()["fence"] for label, host in scene.hosts.items() if host.running}
    return [f"{label} has no fence: {fence['reason']}" for label, fence in fences.items() if fence["state"] == "unavailable"]


CASES = (
    Case(
        "clean stop",
        "SIGTERM to the MASTER",
        "b",
        lambda scene: scene.a.stop(),
        lambda _pair: AT_ONCE,
        repair=Scene.settle_without_a,
    ),
    Case(
        "better host returns",
        "the better host starts again",
        "a",
        _start_better,
        lambda pair: pair.preemption,
        prepare=Scene.settle_without_a,
        loser_state="BACKUP",
    ),
    Case(
        "link cut",
        "the MASTER's link goes down",
        "b",
        lambda scene: scene.a.port.cut(),
        lambda pair: pair.crash,
        repair=_mend,
        loser_state="INIT",
        one_owner=True,
    ),
    Case(
        "port blocked",
        "the MASTER's switch port goes silent",
        "b",
        _block,
        lambda pair: pair.crash,
        repair=_unblock,
        one_owner=True,
    ),
    Case(
        "kill -9",
        "the MASTER's daemon is killed; the fence silences its host",
        "b",
        lambda scene: scene.a.kill(),
        lambda pair: pair.crash,
        one_owner=True,
    ),
    Case(
        "SIGSTOP",
        "the MASTER's daemon is stopped; the fence silences its host until SIGCONT",
        "b",
        _stop,
        lambda pair: pair.crash,
        repair=_wake,
        one_owner=True,
    ),
)

SUB_SECOND = Pair(0, 5, 6)
SUB_SECOND_CASES = tuple(
    replace(case, name=f"{case.name}, sub-second") for case in CASES if case.name in ("link cut", "port blocked")
)

TWO_PARENTS_CASES = (
    Case(
        "two parents",
        "one of the MASTER's two links goes down; the address of the other is handed over",
        "b",
        lambda scene: scene.a.port.cut(),
        lambda pair: pair.crash,
        repair=_mend_and_return,
        loser_state="INIT",
        one_owner=True,
    ),
)


def play(scene: Scene, case: Case, audience: Audience | None = None) -> list[Result]:
    """Play one case and return its results, one for each shared address."""
    audience = audience or Silence()
    bound = case.bound(scene.pair)
    case.prepare(scene)
    audience.begin(case, bound.latest_ns / 1e9 + BEFORE_S + AFTER_S)
    faults: list[str] = []
    without = unfenced(scene)
    with scene.prober(audience.progress) as prober:
        prober.wait_for_owner("b" if case.winner == "a" else "a", PATIENCE_S)
        prober.wait_for_time(BEFORE_S)
        at = case.strike(scene)
        audience.struck(at)
        try:
            prober.wait_for_owner(case.winner, bound.latest_ns / 1e9 + PATIENCE_S)
        except TimeoutError as error:
            faults.append(str(error))
        prober.wait_for_time(AFTER_S)
        faults += _faults(scene, case)
        traces = prober.stop()
    try:
        case.repair(scene)
    except (TimeoutError, RuntimeError) as error:
        faults.append(f"afterwards: {error}")
    results = []
    for number, segment in enumerate(scene.segments):
        name = f"{case.name}, {segment.word}" if segment.word else case.name
        limit = case.elsewhere(scene.pair) if number else bound
        for address in segment.addresses:
            one = result(name, limit, traces[address], at, case.winner)
            told = [f"two hosts answered for {address} in {one.both} ms"] if case.one_owner and one.both and not without else []
            drawn = strip(traces[address], at)
            results.append(replace(one, strip=drawn, unfenced=bool(without), faults=(*one.faults, *told, *faults)))
    audience.end(results)
    return results


def _faults(scene: Scene, case: Case) -> list[str]:
    loser_states = [case.loser_state, *[case.loser_elsewhere] * (len(scene.segments) - 1)]
    return [
        fault
        for segment, state in zip(scene.segments, loser_states, strict=True)
        for fault in _faults_of(segment, scene, case.winner, state)
    ]


def _faults_of(segment: Segment, scene: Scene, winner: str, loser_state: str | None) -> Iterator[str]:
    wanted = virtual_mac(segment.vhid)
    known = neighbours(scene.client.namespace)
    for address in segment.addresses:
        mac = known[address].mac if address in known else None
        if mac != wanted:
            yield f"the client knows {address} at {mac}, not at {wanted}"
    if (port := segment.lan.port_of(wanted)) != winner:
        yield f"the switch has {wanted} on the port of {port}"
    loser = scene.a if winner == "b" else scene.b
    if (state := scene.hosts[winner].state_of(segment.carp)) != "MASTER":
        yield f"{segment.carp} of {winner} is {state}, not MASTER"
    if loser_state and (state := loser.state_of(segment.carp)) != loser_state:
        yield f"{segment.carp} of {loser.label} is {state}, not {loser_state}"


def strip(trace: Trace, event: int) -> str:
    """Draw a trace, a sign for each 50 ms; `|` stands where the event was."""
    signs = []
    before: set[str] = set()
    for start in range(trace.start, trace.end, CELL_NS):
        if start <= event < start + CELL_NS:
            signs.append("|")
        hosts = {answer.host for answer in trace.between(start, start + CELL_NS - 1)}
        signs.append(sign(before, hosts))
        before = hosts
    return "".join(signs)


def sign(before: set[str], hosts: set[str]) -> str:
    """Return the sign of one cell: who answered, the newcomer where a handover was, `#` for two, `.` for nobody."""
    if not hosts:
        return NOBODY
    newcomers = hosts if len(hosts) == 1 else hosts - before
    return next(iter(newcomers)) if len(newcomers) == 1 else BOTH
