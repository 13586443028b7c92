"""What is wrong with one carp interface on this host, and so demotes its groups: its parent, its sends, its addresses."""

from enum import Enum

from .demotion import Demotion, Demotions
from .host import Host, Parent
from .parameters import HostParameters, InterfaceParameters
from .sending import SendErrors
from .values import NANOSECONDS_PER_SECOND, Instant

OWNER = "carpd"
PROBE_EVERY_NS = 1 * NANOSECONDS_PER_SECOND
"""How often an interface that is no MASTER tries whether it could send again (PROTOCOL.md 11.3)."""
RELAPSE_NS = 60 * NANOSECONDS_PER_SECOND
FIRST_HOLD_NS, LONGEST_HOLD_NS = 8 * NANOSECONDS_PER_SECOND, 600 * NANOSECONDS_PER_SECOND
"""Where only advertisements fail, probes do not show it, and this host would take over again and again: after a relapse no
success counts for a while, twice as long each time."""
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
        self._groups = _demoted_by(parameters)
        self._demotions = demotions
        self._send_errors = SendErrors(len(parameters.nodes))
        self._failing_since: Instant | None = None
        self._recovered_at: Instant | None = None
        self._hold_ns = 0

    @property
    def sends_fail(self) -> bool:
        """Whether so many sends in a row failed that it demotes, and not enough good ones came since."""
        return self._failing_since is not None

    @property
    def doubts_sending(self) -> bool:
        """Whether a send failed since so many good ones that they would tell nothing new."""
        return self._send_errors.errors > 0

    def follow(self, parameters: InterfaceParameters, host: HostParameters) -> None:
        """Let what is wrong demote the groups as they are now, by what it counts now."""
        self._groups = _demoted_by(parameters)
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
        """Something was sent or not: enough failures in a row demote, enough good ones end that (PROTOCOL.md 3.8)."""
        if error:
            if self._send_errors.failed() and self._failing_since is None:
                self._failing_since = now
                relapsed = self._recovered_at is not None and now - self._recovered_at < RELAPSE_NS
                self._hold_ns = min(max(2 * self._hold_ns, FIRST_HOLD_NS), LONGEST_HOLD_NS) if relapsed else 0
                self._demote(Trouble.SEND_ERRORS, _amount(Trouble.SEND_ERRORS, host), now, None)
        elif self._failing_since is None:
            self._send_errors.succeeded()
        elif now - self._failing_since >= self._hold_ns and self._send_errors.succeeded():
            self._failing_since, self._recovered_at = None, now
            self._demotions.remove(self._fact(Trouble.SEND_ERRORS))

    def sends_elsewhere(self, parameters: InterfaceParameters) -> None:
        """Advertisements go another way from now on: what failed on the former one counts no more."""
        self._send_errors = SendErrors(len(parameters.nodes))
        self._failing_since = None
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


def why_not_ready(parameters: InterfaceParameters, parent: Parent, host: Host) -> str:
    """Say why the virtual hosts of a carp interface cannot run, or return "" (PROTOCOL.md 3.4)."""
    if host.stopped:
        return "this host stops"
    if not host.parameters.allow:
        return "carp is not allowed (net.inet.carp.allow is 0)"
    if not parameters.up:
        return "down"
    if not parameters.carpdev:
        return "no carpdev"
    if not parent.present:
        return f"{parameters.carpdev} does not exist"
    if not parent.up:
        return f"{parameters.carpdev} is down"
    if not parameters.addresses:
        return "no address"
    return ""


def _demoted_by(parameters: InterfaceParameters) -> frozenset[str]:
    """Return the groups that suffer from what is wrong with an interface; without any it suffers alone."""
    return frozenset(parameters.groups or (parameters.name,))


def _amount(trouble: Trouble, host: HostParameters) -> int:
    """Return what a trouble counts; 0 does not demote."""
    return {Trouble.CARPDEV: host.ifdown_demotion, Trouble.SEND_ERRORS: host.senderr_demotion}.get(trouble, 1)
