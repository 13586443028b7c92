"""When the states that were asked of the peer are here, by the statistics of a conntrackd that nobody has to have."""

from collections.abc import Callable

import pytest

from carp.daemon.bulk import Bulk
from carp.linux.conntrackd import Statistics
from carp.protocol.values import Instant
from carp.testing.clock import START, milliseconds, seconds


class Peer:
    """What conntrackd tells every `step_ms` ms: keep-alives once a second from `first_alive_ms` on, and what a test adds."""

    def __init__(self, *, received: int = 100, external: int = 0, changes: int = 0, lost: int = 0) -> None:
        self.external, self.changes, self.received, self.lost = external, changes, received, lost
        self.alive = True
        self.now = START
        self.bulk = Bulk(self.statistics(), self.now)
        self._alive_at = START

    def statistics(self) -> Statistics:
        """Tell how it is."""
        return Statistics(1, 0, self.external, self.changes, self.received, self.lost)

    def states(self, number: int) -> None:
        """Send states."""
        self.external += number
        self.changes += number
        self.received += number // 15 + 1

    def complete_at(
        self, most_ms: int = 30_000, step_ms: int = 100, doing: Callable[[int], None] = lambda _: None
    ) -> int | None:
        """Let time pass until all is here; return the ms since the beginning. `doing` is called at each step with them."""
        while (ms := (self.now - START) // milliseconds(1)) < most_ms:
            self.now = Instant(self.now + milliseconds(step_ms))
            doing(ms + step_ms)
            if self.alive and self.now - self._alive_at >= seconds(1):
                self._alive_at = self.now
                self.received += 1
            if self.bulk.is_complete(self.statistics(), self.now):
                return ms + step_ms
        return None


def at(**steps: Callable[[], None]) -> Callable[[int], None]:
    """Do something at these moments, such as `ms200`."""
    return lambda ms: steps.get(f"ms{ms}", lambda: None)()


@pytest.mark.parametrize("states", [100, 50_000])
def test_a_burst_then_a_keep_alive(states: int) -> None:
    """More than a second after the burst, however many they are, a later message has come and nothing was lost."""
    peer = Peer()
    assert peer.complete_at(doing=at(ms200=lambda: peer.states(states))) == 1400


def test_not_while_it_lasts() -> None:
    """A burst of three seconds is over after three seconds."""
    peer = Peer()
    complete = peer.complete_at(doing=lambda ms: peer.states(5000) if ms <= 3000 else None)
    assert complete is not None
    assert complete >= 4000


def test_pauses_in_a_burst() -> None:
    """A second without a state between two halves does not end it."""
    peer = Peer()
    complete = peer.complete_at(doing=at(ms200=lambda: peer.states(5000), ms1200=lambda: peer.states(5000)))
    assert complete is not None
    assert complete >= 2250


def test_looks_that_follow_each_other_closely() -> None:
    """Tell nothing more: a burst is seen however it is sliced."""
    peer = Peer()
    complete = peer.complete_at(step_ms=1, doing=lambda ms: peer.states(100) if ms <= 3000 else None)
    assert complete is not None
    assert complete >= 4000


def test_what_was_lost_comes_again() -> None:
    """A keep-alive uncovers the loss, and it is complete only a second after that without another."""
    peer = Peer()

    def lose() -> None:
        peer.lost += 40

    def repair() -> None:
        peer.states(10)

    complete = peer.complete_at(doing=at(ms200=lambda: peer.states(5000), ms1000=lose, ms1100=repair))
    assert complete is not None
    assert complete >= 2050


def test_losses_without_an_end() -> None:
    """It is never complete."""
    peer = Peer()

    def lose(_: int) -> None:
        peer.lost += 1

    assert peer.complete_at(doing=lose) is None


def test_former_losses_do_not_count() -> None:
    """Only those since the request."""
    assert Peer(lost=1000).complete_at(3000) is not None


@pytest.mark.parametrize("received", [0, 100])
def test_a_peer_without_states(received: int) -> None:
    """It has sent all that it has: that it lives is enough, whether it was heard before or not."""
    peer = Peer(received=received)
    complete = peer.complete_at()
    assert complete is not None
    assert complete <= 4500


@pytest.mark.parametrize("received", [0, 100])
def test_a_dead_peer(received: int) -> None:
    """It sends nothing, and nothing is complete, whatever was heard before."""
    peer = Peer(received=received)
    peer.alive = False
    assert peer.complete_at() is None


def test_a_peer_that_is_heard_late() -> None:
    """It may still have everything to send: the second without states begins when it is heard."""
    peer = Peer(received=0)
    peer.alive = False

    def speak() -> None:
        peer.received += 1

    complete = peer.complete_at(doing=at(ms1200=speak, ms1500=lambda: peer.states(5000), ms2600=speak))
    assert complete is not None
    assert complete >= 2600


def test_a_peer_that_is_heard_late_and_slow() -> None:
    """It has its two seconds from then on."""
    peer = Peer(received=0)
    peer.alive = False

    def live() -> None:
        peer.alive = True

    complete = peer.complete_at(doing=at(ms1200=live, ms2600=lambda: peer.states(5000)))
    assert complete is not None
    assert complete >= 3600


def test_a_request_that_was_lost() -> None:
    """Where nothing came it is made once more, and what comes of that is waited for."""
    peer = Peer()
    due_ms = 0

    def answer_the_second(ms: int) -> None:
        nonlocal due_ms
        if peer.bulk.asks_again(peer.now) and not due_ms:
            due_ms = ms + 300
        if ms == due_ms:
            peer.states(5000)

    complete = peer.complete_at(doing=answer_the_second)
    assert due_ms
    assert complete is not None
    assert complete >= due_ms + 1000


def test_a_peer_that_died_in_the_burst() -> None:
    """Its states may not be all."""
    peer = Peer()

    def die() -> None:
        peer.states(5000)
        peer.alive = False

    assert peer.complete_at(doing=at(ms200=die)) is None


@pytest.mark.parametrize(("states", "each"), [(0, 20), (1000, 100), (1_000_000, 2000)])
def test_a_busy_network(states: int, each: int) -> None:
    """New connections go on for ever, the more the more there are: they are no burst."""
    peer = Peer(external=states)

    def open_connections(_: int) -> None:
        peer.changes += each
        peer.received += 1

    assert peer.complete_at(doing=open_connections) == 1200


@pytest.mark.parametrize(("states", "each"), [(0, 21), (1000, 101), (1_000_000, 2001)])
def test_more_than_a_busy_network(states: int, each: int) -> None:
    """This is the burst."""
    peer = Peer(external=states)

    def burst(_: int) -> None:
        peer.changes += each
        peer.received += 1

    assert peer.complete_at(doing=burst) is None


def test_it_is_asked_again_every_five_seconds() -> None:
    """The request may have been lost."""
    bulk = Peer().bulk
    asked = [ms for ms in range(0, 16_000, 100) if bulk.asks_again(Instant(START + milliseconds(ms)))]
    assert asked == [5000, 10_000, 15_000]


def test_it_knows_when_it_was_asked_first() -> None:
    """Whoever waits, waits since then."""
    bulk = Peer().bulk
    bulk.asks_again(Instant(START + seconds(7)))
    assert (bulk.asked_at, bulk.given_up) == (START, False)
