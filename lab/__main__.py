"""`python -m lab`: play the cases with real daemons and show what a client sees."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from .figures import Pair, Result, tally
from .host import program
from .netns import left_by, sweep
from .scenes import CASES, Case, Scene, play, unfenced
from .show import Show, choose


def _arguments() -> argparse.Namespace:
    usual = Pair()
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="play every case N times; the table shows medians")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result to a file")
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this case; repeatable")
    parser.add_argument("--advbase", type=int, default=usual.advbase, help="advbase of both hosts (default %(default)s)")
    parser.add_argument(
        "--advskew",
        type=int,
        nargs=2,
        default=(usual.skew_a, usual.skew_b),
        metavar=("A", "B"),
        help="advskew of the better host and of the other (default 0 100)",
    )
    return parser.parse_args()


def _play_all(cases: list[Case], pair: Pair, repeat: int, show: Show) -> list[Result]:
    results: list[Result] = []
    show.say(f"two hosts, advbase {pair.advbase}, advskew {pair.skew_a} and {pair.skew_b}; a sign in a strip is 50 ms")
    with Scene(pair) as scene:
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
    # Namespaces must go however the run is ended; a shell's background job would ignore SIGINT by inheritance.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    sweep()
    pair = Pair(arguments.advbase, *arguments.advskew)
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    show = choose(sys.stdout)
    results: list[Result] = []
    show.open()
    try:
        results = _play_all(cases, pair, arguments.repeat, show)
    except KeyboardInterrupt:
        show.say("interrupted")
        return 130
    except (TimeoutError, RuntimeError) as error:
        show.say(f"WRONG: {error}")
        return 1
    finally:
        show.close(tally(results))
    if left := left_by(os.getpid()):
        show.say(f"WRONG: namespaces left: {left}")
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n")
    return 1 if any(result.faults for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
