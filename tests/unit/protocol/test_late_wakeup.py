"""A BACKUP that comes late to its master-down timer: what held it up may have held up the MASTER."""

import pytest

from carp.protocol.events import Due
from carp.protocol.values import Instant, State
from carp.testing.bench import Bench
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import carp_interface
from carp.testing.packets import Peer

LATE = milliseconds(5)
MOMENT = milliseconds(7)
"""As long as it was late, and two milliseconds in which a MASTER sends."""


class Silence:
    """A BACKUP that has heard its MASTER once, and then nothing."""

    def __init__(self, advbase: int = 1, advskew: int = 100) -> None:
        self.interface = carp_interface(advbase=advbase, advskew=advskew)
        self.bench = Bench(self.interface)
        self.peer = Peer.of(self.interface)
        self.hear()

    def hear(self) -> None:
        """Let the MASTER advertise."""
        self.bench.hear(self.peer.advertisement(advskew=0))

    @property
    def master_down(self) -> Instant:
        """Tell when the MASTER will be given up."""
        at = self.bench.interface().leader.expected_master_down()
        assert at is not None
        return at

    def wake(self, late_ns: int) -> State:
        """Wake up for the master-down timer, so much too late; return the state after it."""
        self.bench.now = Instant(self.master_down + late_ns)
        self.bench.feed(Due(self.bench.now, late_ns))
        return self.bench.state()


def test_in_time_it_takes_over_at_once() -> None:
    """What a timer is late by on a host that runs is nothing."""
    assert Silence().wake(milliseconds(0.9)) is State.MASTER


def test_late_it_listens_for_a_moment() -> None:
    """A MASTER that goes on is heard then, and nothing has happened."""
    silence = Silence()
    assert silence.wake(LATE) is State.BACKUP
    assert silence.master_down == silence.bench.now + MOMENT
    silence.bench.now = Instant(silence.bench.now + milliseconds(1))
    silence.hear()
    assert silence.master_down > silence.bench.now + seconds(3)


def test_a_dead_master_is_replaced_after_it() -> None:
    """Once for each silence, so that a host that is always late takes over too."""
    silence = Silence()
    silence.wake(LATE)
    assert silence.wake(LATE) is State.MASTER


def test_each_silence_has_its_moment() -> None:
    """Whoever was heard in between may be held up again."""
    silence = Silence()
    silence.wake(LATE)
    silence.hear()
    assert [silence.wake(LATE), silence.wake(LATE)] == [State.BACKUP, State.MASTER]


@pytest.mark.parametrize(("advskew", "moment_ns"), [(1, 3_906_000), (5, MOMENT)])
def test_no_longer_than_its_own_interval(advskew: int, moment_ns: int) -> None:
    """Where intervals are short the takeover stays short."""
    silence = Silence(advbase=0, advskew=advskew)
    assert silence.wake(LATE) is State.BACKUP
    assert silence.master_down == silence.bench.now + moment_ns


def test_after_a_long_sleep_it_waits_anew() -> None:
    """As ever: the newest advertisements may be lost."""
    silence = Silence()
    assert silence.wake(seconds(4)) is State.BACKUP
    assert silence.master_down > silence.bench.now + seconds(3)
