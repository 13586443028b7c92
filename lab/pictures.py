"""The pictures of the BSDs' guides as scenes of failover: `make lab SCENE=standby`, `physical` and `group`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .events import Events
from .figures import AT_ONCE
from .host import Carp
from .lan import Lan
from .scenes import CASES, PATIENCE_S, TWO_PARENTS_CASES, Case, Scene, Segment, TwoParentsScene
from .stage import Stage, bare, own_addresses
from .wait import now_ns

STANDBY_CASES = ("clean stop", "better host returns", "kill -9")


class StandbyScene(Scene):
    """The active/standby pair, Mickey and Minnie, on two LANs: a is .200 and b .201 on both, and they share .202."""

    told = "active/standby: a serves 172.16.0.202 and 172.16.240.202, b takes both over"
    NETWORKS = (("carp0", 1, "eth0", "172.16.0", "password1"), ("carp1", 2, "eth1", "172.16.240", "password2"))
    NUMBERS: Mapping[str, int] = {"a": 200, "b": 201, "client": 9}

    def make_hosts(self, **global_keys: object) -> None:
        """Put hosts and client on both LANs."""
        lans = {"eth0": self.stage.lan, "eth1": self.stage.another_lan()}
        self._second = lans["eth1"]
        for label, number in self.NUMBERS.items():
            for _, _, parent, prefix, _ in self.NETWORKS:
                _attach(self.stage, lans[parent], label, parent, f"{prefix}.{number}/24")
        for label, advskew in (("a", self.pair.skew_a), ("b", self.pair.skew_b)):
            carps = [
                Carp(name, vhid, self.pair.advbase, advskew, (f"{prefix}.202/24",), parent, password)
                for name, vhid, parent, prefix, password in self.NETWORKS
            ]
            self.stage.host(label, *carps, preempt=True, **global_keys)

    def build(self) -> list[Segment]:
        """Return both LANs."""
        lans = (self.stage.lan, self._second)
        return [
            Segment(lan, name, vhid, (f"{prefix}.202",), f"{prefix}.202")
            for lan, (name, vhid, _, prefix, _) in zip(lans, self.NETWORKS, strict=True)
        ]


def _attach(stage: Stage, lan: Lan, label: str, interface: str, address: str) -> None:
    if lan is stage.lan:
        lan.attach(label, [address], interface=interface)
    else:
        lan.join(stage.lan.ports[label], interface, [address])


def _on_both(case: Case) -> Case:
    """Return a case of one LAN as one of two, on which the same is expected."""
    return replace(case, elsewhere=case.bound, loser_elsewhere=case.loser_state)


class PhysicalScene(Scene):
    """The address of one host's own interface, shared: a keeps it configured, and serves it unless it is BACKUP."""

    told = "host a's own addresses, 192.0.2.1 and 2001:db8::1, are the shared ones"
    OWN = tuple(own_addresses("a"))

    def make_hosts(self, **global_keys: object) -> None:
        """Give both hosts a's addresses to share."""
        for label, advskew in (("a", self.pair.skew_a), ("b", self.pair.skew_b)):
            carp = Carp(advbase=self.pair.advbase, advskew=advskew, addresses=self.OWN)
            self.stage.host(label, carp, preempt=True, **global_keys)

    def build(self) -> list[Segment]:
        """Return the LAN."""
        return [Segment(self.stage.lan, "carp0", 1, tuple(bare(self.OWN)))]


def _demote(scene: Scene) -> int:
    return _change(scene, "add", "scene", "9")


def _promote(scene: Scene) -> int:
    return _change(scene, "remove", "scene")


def _change(scene: Scene, *words: str) -> int:
    """Change the owner's demotion; return the instant at which its daemon did."""
    asked = now_ns()
    with Events(scene.a) as events:
        done = scene.a.carp("demote", *words)
        if done.returncode:
            raise RuntimeError(f"carp demote {' '.join(words)}: {done.stderr.strip()}")
        return events.demoted("carp0", PATIENCE_S, asked)


def _demoted(scene: Scene) -> None:
    scene.settle()
    _demote(scene)
    scene.b.wait_for_state("MASTER", PATIENCE_S)


PHYSICAL_CASES = (
    next(case for case in CASES if case.name == "port blocked"),
    Case(
        "owner demoted",
        "the addresses' owner is demoted, and keeps them configured",
        "b",
        _demote,
        lambda _pair: AT_ONCE,
        repair=_promote,
        loser_state="BACKUP",
        one_owner=True,
    ),
    Case(
        "owner well again",
        "the addresses' owner is demoted no more",
        "a",
        _promote,
        lambda pair: pair.preemption,
        prepare=_demoted,
        loser_state="BACKUP",
        one_owner=True,
    ),
)


@dataclass(frozen=True)
class Picture:
    """A scene of failover, and what happens in it."""

    scene: type[Scene]
    cases: tuple[Case, ...]


PICTURES: Mapping[str, Picture] = {
    "standby": Picture(StandbyScene, tuple(map(_on_both, (case for case in CASES if case.name in STANDBY_CASES)))),
    "physical": Picture(PhysicalScene, PHYSICAL_CASES),
    "group": Picture(TwoParentsScene, TWO_PARENTS_CASES),
}
