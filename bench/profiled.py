"""`python -m bench.profiled FILE carpd-arguments...`: carpd with a profiler on its loop that can be switched on and off.

SIGUSR1 begins, SIGUSR2 ends and writes the profile to FILE, for `python -m pstats FILE`. The worker thread is not seen.
"""

import cProfile
import signal
import sys
from pathlib import Path

from carp.daemon.main import main as carpd


def main() -> object:
    """Run carpd."""
    file = Path(sys.argv[1])
    sys.argv = ["carpd", *sys.argv[2:]]
    profile = cProfile.Profile()

    def end(_signal: int, _frame: object) -> None:
        profile.disable()
        unfinished = file.with_suffix(".part")
        profile.dump_stats(unfinished)
        unfinished.rename(file)

    signal.signal(signal.SIGUSR1, lambda _signal, _frame: profile.enable())
    signal.signal(signal.SIGUSR2, end)
    return carpd()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[arg-type]
