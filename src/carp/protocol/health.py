"""What is wrong with one carp interface on this host, and so demotes its groups: its parent, its sends, its addresses."""

from enum import Enum

from .demotion import Demotion, Demotions
from .parameters import HostParameters, InterfaceParameters
from .sending import SendErrors
from .values import NANOSECONDS_PER_SECOND, Instant

OWNER = "carpd"
SEND_ERROR_DEMOTION_NS = 60 * NANOSECONDS_PER_SECOND
"""A BACKUP sends nothing and so cannot see its sends succeed again: the demotion ends by itself (PROTOCOL.md 11.3)."""
TAKE_FAILED_DEMOTION_NS = 60 * NANOSECONDS_PER_SECOND


class Trouble(Enum):
    """What can be wrong; the value follows the interface's name in the name of the demotion."""

    CARPDEV = "carpdev"
    SEND_ERRORS = "send errors"
    ADDRESSES = "addresses"


class Health:
    """The troubles of one carp interface, as reasons for demotion."""

    def __init__(self, parameters: InterfaceParameters, demotions: Demotions) -> None:
        self._name = parameters.name
        self._groups = frozenset(parameters.groups)
        self._demotions = demotions
        self._send_errors = SendErrors(len(parameters.nodes))

    def follow(self, parameters: InterfaceParameters, host: HostParameters) -> None:
        """Let what is wrong demote the groups as they are now, by what it counts now."""
        self._groups = frozenset(parameters.groups)
        for trouble in Trouble:
            fact = self._demotions.find(self._fact(trouble))
            if fact is not None:
                self._demote(trouble, _amount(trouble, host), fact.since, fact.until)

    def carpdev(self, *, broken: bool, host: HostParameters, now: Instant) -> None:
        """The parent works, or is down or gone."""
        if not broken:
            self._demotions.remove(self._fact(Trouble.CARPDEV))
        elif self._demotions.find(self._fact(Trouble.CARPDEV)) is None:
            self._demote(Trouble.CARPDEV, _amount(Trouble.CARPDEV, host), now, None)

    def sent(self, *, error: bool, host: HostParameters, now: Instant) -> None:
        """An advertisement was sent or not: enough failures in a row demote, enough good ones end that (PROTOCOL.md 3.8)."""
        if error and self._send_errors.failed():
            until = Instant(now + SEND_ERROR_DEMOTION_NS)
            self._demote(Trouble.SEND_ERRORS, _amount(Trouble.SEND_ERRORS, host), now, until)
        elif not error and self._send_errors.succeeded():
            self._demotions.remove(self._fact(Trouble.SEND_ERRORS))

    def taken(self, *, error: bool, host: HostParameters, now: Instant) -> None:
        """The addresses were taken or not."""
        if error:
            until = Instant(now + TAKE_FAILED_DEMOTION_NS)
            self._demote(Trouble.ADDRESSES, _amount(Trouble.ADDRESSES, host), now, until)
        else:
            self._demotions.remove(self._fact(Trouble.ADDRESSES))

    def forget(self) -> None:
        """Nothing is wrong any more: the interface is gone."""
        for trouble in Trouble:
            self._demotions.remove(self._fact(trouble))

    def _fact(self, trouble: Trouble) -> str:
        return f"{self._name} {trouble.value}"

    def _demote(self, trouble: Trouble, amount: int, since: Instant, until: Instant | None) -> None:
        wanted = Demotion(self._fact(trouble), amount, self._groups, OWNER, since, until)
        if amount == 0:
            self._demotions.remove(wanted.name)
        elif wanted != self._demotions.find(wanted.name):
            self._demotions.add(wanted)


def _amount(trouble: Trouble, host: HostParameters) -> int:
    """Return what a trouble counts; 0 does not demote."""
    return {Trouble.CARPDEV: host.ifdown_demotion, Trouble.SEND_ERRORS: host.senderr_demotion}.get(trouble, 1)
