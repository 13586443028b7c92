"""What goes into one virtual host's advertisements: counter and advskew; and what happens when they cannot be sent."""

import random

from .dialect import CounterRule, DemotionRule, Dialect
from .interval import DEMOTED_SKEW
from .parameters import InterfaceParameters
from .vhost import VirtualHost

_OWN = CounterRule.OWN
_COUNTER_MODULUS = 2**64
SEND_ERROR_LIMIT_PER_NODE = 3
"""Failed sends in a row that demote, and good ones that undo it (PROTOCOL.md 3.8)."""


class CounterSource:
    """The host's own counter: rises by one with every advertisement of any virtual host.

    Args:
        start: the first value; the caller makes sure that it lies above everything this host sent in earlier lives.
    """

    __slots__ = ("_next",)

    def __init__(self, start: int) -> None:
        self._next = start % _COUNTER_MODULUS

    def take(self) -> int:
        """Return the next value."""
        value = self._next
        self._next = (value + 1) % _COUNTER_MODULUS
        return value


def next_counter(dialect: Dialect, vhost: VirtualHost, own: CounterSource, rng: random.Random) -> bytes:
    """Return the 8 counter bytes of the next advertisement, as the dialect wants them (PROTOCOL.md 2.5)."""
    if dialect.counter is _OWN:
        value = own.take()
    elif dialect.counter is CounterRule.COOKIE:
        value = int.from_bytes(vhost.sent_counters[-1]) if vhost.sent_counters else rng.randrange(1, _COUNTER_MODULUS)
    elif vhost.follow_counter is None:
        value = rng.randrange(_COUNTER_MODULUS)
    else:
        value = vhost.follow_counter = (vhost.follow_counter + 1) % _COUNTER_MODULUS
    return value.to_bytes(8)


def effective_skew(parameters: InterfaceParameters, advskew: int, demote: int) -> int:
    """Return the advskew that is advertised and compared while demoted by `demote` (PROTOCOL.md section 5)."""
    rule = parameters.dialect.demotion
    if rule is DemotionRule.ADD_TO_SKEW:
        return max(0, min(DEMOTED_SKEW, advskew + demote))
    shows_240 = rule is DemotionRule.SKEW_240 or (parameters.demote_skew and parameters.advbase >= 1)
    if shows_240 and demote > 0:
        return max(advskew, DEMOTED_SKEW)
    return advskew


class SendErrors:
    """Counts failed and good sends of one carp interface (PROTOCOL.md 3.8)."""

    __slots__ = ("_limit", "_successes", "errors")

    def __init__(self, nodes: int) -> None:
        self._limit = SEND_ERROR_LIMIT_PER_NODE * nodes
        self.errors = 0
        """Failures, up to the limit, that a success would undo."""
        self._successes = 0

    def failed(self) -> bool:
        """Count a failure; tell whether the interface is to be demoted for it."""
        self._successes = 0
        self.errors = min(self.errors + 1, self._limit)
        return self.errors == self._limit

    def succeeded(self) -> bool:
        """Count a success; tell whether it ends the demotion."""
        if self.errors < self._limit:
            self.errors = 0
            return False
        self._successes += 1
        if self._successes < self._limit:
            return False
        self.errors = self._successes = 0
        return True
