"""`python -m lab`: play the cases with real daemons and show what a client sees."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from . import axe, axe_show, bars
from .balanced import SCENES, play_scene
from .figures import Pair, Result, tally
from .flows import DEFAULT_FLOWS
from .host import program
from .netns import left_by, sweep
from .pictures import PICTURES
from .scenes import CASES, SUB_SECOND, SUB_SECOND_CASES, TWO_PARENTS_CASES, Case, Scene, TwoParentsScene, play, unfenced
from .shares import ShareResult
from .show import Show, choose

USUAL = Pair()
FIREWALL = "firewall"
BALANCED_PICTURES = {"active-active": "active/active", "arp": "ARP balancing"}


def _arguments() -> argparse.Namespace:
    names = [*(case.name for case in (*CASES, *TWO_PARENTS_CASES, *SUB_SECOND_CASES)), *SCENES]
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play every case N times; the table shows medians")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result to a file")
    pictures = [FIREWALL, *PICTURES, *BALANCED_PICTURES]
    parser.add_argument("--scene", choices=pictures, help="only this picture of the guides")
    parser.add_argument("--case", action="append", choices=names, help="only this case or scene; repeatable")
    parser.add_argument(
        "--advbase",
        type=int,
        help="advbase of both hosts, 0 to 254 (default 1); a pair of one's own leaves sub-second cases and balancing out",
    )
    parser.add_argument(
        "--advskew",
        type=int,
        nargs=2,
        metavar=("A", "B"),
        help="advskew of the better host and of the other (default 0 100)",
    )
    return parser.parse_args()


def _programme(arguments: argparse.Namespace) -> list[tuple[type[Scene], Pair, list[Case]]]:
    """Return which cases are played in which scene with which pair."""
    pair = USUAL
    if arguments.advbase is not None or arguments.advskew is not None:
        advbase = USUAL.advbase if arguments.advbase is None else arguments.advbase
        pair = Pair(advbase, *(arguments.advskew or (USUAL.skew_a, USUAL.skew_b)))
    programme: list[tuple[type[Scene], Pair, tuple[Case, ...]]] = [
        (Scene, pair, CASES),
        (TwoParentsScene, pair, TWO_PARENTS_CASES),
    ]
    if arguments.scene:
        picture = PICTURES.get(arguments.scene)
        programme = [(picture.scene, pair, picture.cases)] if picture else []
    elif pair is USUAL:
        programme.append((Scene, SUB_SECOND, SUB_SECOND_CASES))
    chosen: list[tuple[type[Scene], Pair, list[Case]]] = [
        (scene, pair, [case for case in cases if not arguments.case or case.name in arguments.case])
        for scene, pair, cases in programme
    ]
    return [(scene, pair, cases) for scene, pair, cases in chosen if cases]


def _play_all(kind: type[Scene], cases: list[Case], pair: Pair, repeat: int, show: Show) -> list[Result]:
    results: list[Result] = []
    show.say(f"{kind.told}, advbase {pair.advbase}, advskew {pair.skew_a} and {pair.skew_b}; a sign in a strip is 50 ms")
    with kind(pair) as scene:
        scene.settle()
        for reason in unfenced(scene):
            show.say(f"{reason}; that two hosts answer at once is only marked")
        for _ in range(repeat):
            for case in cases:
                results += play(scene, case, show)
        scene.settle()
        with scene.prober() as prober:
            prober.wait_for_owner("a", 5.0)
    return results


def _scenes(arguments: argparse.Namespace) -> list[str]:
    """Return which scenes of load balancing are played; they have timings of their own."""
    own_pair = arguments.advbase is not None or arguments.advskew is not None
    if arguments.scene:
        return [BALANCED_PICTURES[arguments.scene]] if arguments.scene in BALANCED_PICTURES else []
    return [name for name in SCENES if not own_pair and (not arguments.case or name in arguments.case)]


def _play_failovers(programme: list[tuple[type[Scene], Pair, list[Case]]], repeat: int, show: Show) -> list[Result]:
    results: list[Result] = []
    show.open()
    try:
        for kind, pair, cases in programme:
            results += _play_all(kind, cases, pair, repeat, show)
    finally:
        show.close()
        show.table(tally(results))
    return results


def _play_balancing(names: list[str], repeat: int, watcher: bars.Bars) -> list[ShareResult]:
    results: list[ShareResult] = []
    watcher.open()
    try:
        for name in names:
            watcher.say(f"{SCENES[name].told}; {DEFAULT_FLOWS} flows to each address, each asked four times a second")
            for _ in range(repeat):
                results += play_scene(SCENES[name], watcher)
    finally:
        watcher.close()
        watcher.table(results)
    return results


def _play_axes(repeat: int, show: axe_show.AxeShow) -> list[axe.Outcome]:
    outcomes: list[axe.Outcome] = []
    show.open()
    try:
        outcomes += (axe.play_scene(show) for _ in range(repeat))
    finally:
        show.close()
        show.table(outcomes)
    return outcomes


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Return 0 when every case behaved, 1 when one did not, 2 when the laboratory cannot run."""
    arguments = _arguments()
    if os.geteuid() != 0:
        print("the laboratory makes network namespaces and needs root", file=sys.stderr)
        return 2
    if not program("carpd").exists():
        print(f"there is no {program('carpd')}: install the project into the environment of this Python", file=sys.stderr)
        return 2
    programme, scenes = _programme(arguments), _scenes(arguments)
    firewalls = arguments.scene == FIREWALL
    if not programme and not scenes and not firewalls:
        print("there is no such case for a pair of one's own: choose among the others", file=sys.stderr)
        return 2
    # Namespaces must go however the run is ended; a shell's background job would ignore SIGINT by inheritance.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    sweep()
    failovers: list[Result] = []
    balancings: list[ShareResult] = []
    axes: list[axe.Outcome] = []
    try:
        if firewalls:
            axes = _play_axes(arguments.repeat, axe_show.choose(sys.stdout))
        if programme:
            failovers = _play_failovers(programme, arguments.repeat, choose(sys.stdout))
        if scenes:
            balancings = _play_balancing(scenes, arguments.repeat, bars.choose(sys.stdout))
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    except (TimeoutError, RuntimeError) as error:
        print(f"WRONG: {error}")
        return 1
    if left := left_by(os.getpid()):
        print(f"WRONG: namespaces left: {left}")
        return 1
    everything: list[Result | ShareResult | axe.Outcome] = [*failovers, *balancings, *axes]
    if arguments.json:
        arguments.json.write_text(json.dumps([result.as_json() for result in everything], indent=1) + "\n")
    return 1 if any(result.faults for result in everything) else 0


if __name__ == "__main__":
    sys.exit(main())
