"""`python -m bench.profiles WHAT`: where carpd's time goes, as MASTER and as BACKUP, in a flood, and in a takeover.

Prints the CPU time of each thread without a profiler, then the loop's functions with one, which makes it slower by half or
more: its shares count, not its sums. With `--system-calls` the calls of all threads are counted by strace instead.
"""

import argparse
import pstats
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from io import StringIO
from pathlib import Path

from lab.wait import until

from . import processes
from .arena import Arena
from .carpd import Carpd
from .flood_sender import KINDS
from .plan import CARPD, CARPD_100
from .subject import Shape, Subject

WHAT = ("idle", "flood", "takeover")
LINES = 22
_AFTER_TAKEOVER_S = 0.5


class ProfiledCarpd(Carpd):
    """carpd under `bench.profiled`."""

    def command(self) -> Sequence[str]:
        """Return the command line."""
        carpd = super().command()[1:]
        return (sys.executable, "-m", "bench.profiled", str(self.profile), *carpd)

    @property
    def profile(self) -> Path:
        """Where the profile is written."""
        return self.directory / "profile"

    def begin(self) -> None:
        """Begin to profile."""
        self.profile.unlink(missing_ok=True)
        processes.signal_all(self.pids()[:1], signal.SIGUSR1)

    def end(self) -> str:
        """End it; return the functions with the most time of their own and with their callees."""
        processes.signal_all(self.pids()[:1], signal.SIGUSR2)
        until(self.profile.exists, 20, "the profile")
        text = StringIO()
        stats = pstats.Stats(str(self.profile), stream=text).strip_dirs()
        for order in ("tottime", "cumtime"):
            stats.sort_stats(order).print_stats(LINES)
        return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def threads(pid: int) -> dict[str, int]:
    """Return the CPU time of each thread of a process in ns; the loop is the one of the process's own number."""
    return {
        "loop" if task.name == str(pid) else f"thread {task.name}": int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def _calls(pid: int, seconds: float) -> str:
    line = ["timeout", "-s", "INT", f"{seconds:g}", "strace", "-f", "-c", "-p", str(pid)]
    return subprocess.run(line, capture_output=True, text=True, check=False).stderr


def _watch(arena: Arena, router: Carpd, seconds: float, *, calls: bool) -> None:
    pid = router.pids()[0]
    if calls:
        print(_calls(pid, seconds))
        return
    before = threads(pid)
    arena.breathe(seconds)
    for name, used in threads(pid).items():
        percent = (used - before.get(name, 0)) / seconds / 1e7
        print(f"{name}: {percent * 0.6:.3f} s/min, {percent:.2f} % of a processor")
    if isinstance(router, ProfiledCarpd):
        router.begin()
        arena.breathe(seconds)
        print(router.end())


def _idle(subject: Subject, count: int, seconds: float, *, calls: bool) -> None:
    with Arena(subject, Shape(count)) as arena:
        arena.settle()
        for role, router in (("MASTER", arena.a), ("BACKUP", arena.b)):
            assert isinstance(router, Carpd)
            print(f"\n=== {role} of {count} virtual hosts")
            _watch(arena, router, seconds, calls=calls)


def _flood(subject: Subject, rate: int, kind: str, seconds: float, *, calls: bool) -> None:
    with Arena(subject, Shape()) as arena, ExitStack() as stack:
        arena.settle()
        assert isinstance(arena.b, Carpd)
        line = [sys.executable, "-m", "bench.flood_sender", f"--namespace={arena.stage.lan.switch.path}", f"--kind={kind}"]
        line += [f"--interface={arena.b.port.switch_port}", f"--rate={rate}", f"--seconds={3 * seconds + 2}"]
        sender = stack.enter_context(subprocess.Popen(line, cwd=Path(__file__).resolve().parent.parent))
        arena.breathe(1)
        print(f"\n=== BACKUP, {rate} a second of {kind}")
        _watch(arena, arena.b, seconds, calls=calls)
        sender.terminate()


def _takeover(subject: Subject, addresses: int) -> None:
    with Arena(subject, Shape(1, addresses)) as arena:
        arena.settle()
        router = arena.b
        assert isinstance(router, ProfiledCarpd)
        before = threads(router.pids()[0])
        router.begin()
        arena.a.kill()
        router.wait_until_holding(addresses, arena.patience_s)
        arena.breathe(_AFTER_TAKEOVER_S)
        print(f"\n=== takeover of {addresses} addresses")
        for name, used in threads(router.pids()[0]).items():
            print(f"{name}: {(used - before.get(name, 0)) / 1e6:.2f} ms")
        print(router.end())


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.profiles", description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--count", type=int, default=255, help="virtual hosts, or addresses of the one that is taken over")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0])
    parser.add_argument("--system-calls", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "takeover":
        _takeover(replace(CARPD_100, router=ProfiledCarpd), arguments.count)
        return
    subject = CARPD if arguments.system_calls else replace(CARPD, router=ProfiledCarpd)
    if arguments.what == "idle":
        _idle(subject, arguments.count, arguments.seconds, calls=arguments.system_calls)
    else:
        _flood(subject, arguments.rate, arguments.kind, arguments.seconds, calls=arguments.system_calls)


if __name__ == "__main__":
    main()
