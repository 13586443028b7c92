"""Sees from conntrackd's statistics whether the states that were asked of the peer have come.

Nobody tells: the burst of states is over when the cache grows no more than by what a busy network brings, and it was complete
when a later message of the peer, which sends one a second, came without the loss of another.
"""

from ..linux.conntrackd import Statistics
from ..protocol.values import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Instant

_WINDOW_NS = 100 * NANOSECONDS_PER_MILLISECOND
_QUIET_NS = 1050 * NANOSECONDS_PER_MILLISECOND
_ASK_AGAIN_NS = 5 * NANOSECONDS_PER_SECOND
_FEW_CHANGES, _MANY_CHANGES = 20, 2000


class Bulk:
    """One request for the peer's states; `given_up` is set by whoever waits no longer, while it is still looked for."""

    def __init__(self, before: Statistics, now: Instant) -> None:
        self.asked_at = now
        self.given_up = False
        self._asked_again_at = now
        self._last, self._last_at = before, now
        self._quiet: tuple[Statistics, Instant] | None = None
        self._changes_before = before.changes
        self._asks_once_more: bool | None = None
        """Where nothing came at all: whether the second request is still to be made."""

    def is_complete(self, found: Statistics, now: Instant) -> bool:
        """Look once more; tell whether all is here."""
        if now - self._last_at >= _WINDOW_NS:
            grown = found.changes - self._last.changes
            may_grow = max(_FEW_CHANGES, min(_MANY_CHANGES, found.external // 10))
            if grown > may_grow or found.lost != self._last.lost:
                self._quiet = None
            elif self._quiet is None and found.received:  # a peer that was never heard may still have everything to send
                self._quiet = (found, now)
            self._last, self._last_at = found, now
        if self._quiet is None:
            return False
        then, at = self._quiet
        if now - at < _QUIET_NS or found.received <= then.received or found.lost != then.lost:
            return False
        if found.changes == self._changes_before and self._asks_once_more is None:
            # The peer has no states, or the request was lost.
            self._asks_once_more, self._quiet = True, None
            return False
        return True

    def asks_again(self, now: Instant) -> bool:
        """Tell, every five seconds, that the request may have been lost."""
        if now - self._asked_again_at < _ASK_AGAIN_NS and not self._asks_once_more:
            return False
        if self._asks_once_more:
            self._asks_once_more = False
        self._asked_again_at = now
        return True
