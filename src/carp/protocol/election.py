"""What goes into an election: this host's standing, the intervals, who is preferred if all is equal, how patient peers are."""

from .dialect import CounterRule, DemotionRule, TieRule
from .interval import MASTER_DOWN_INTERVALS, advertisement_interval_ns, election_interval_ns, master_down_ns
from .packet import Advertisement
from .parameters import InterfaceParameters
from .sending import effective_skew
from .table import Preference, Standing
from .values import NANOSECONDS_PER_MILLISECOND, NEVER, Family
from .vhost import Timing, VirtualHost

_LEAST_MARGIN_NS = NANOSECONDS_PER_MILLISECOND
_MARGIN_DIVISOR = 64
_FAMILY_TRUSTED_AFTER = 3
"""Equal advertisements of the other family alone, after which that one decides ties."""


def standing(parameters: InterfaceParameters, advskew: int, demote: int, *, preempt: bool) -> Standing:
    """Return this host's side of an election for a virtual host of this advskew while demoted by `demote`."""
    dialect = parameters.dialect
    shown = effective_skew(parameters, advskew, demote)
    return Standing(
        advbase=parameters.advbase,
        interval_ns=election_interval_ns(parameters.advbase, shown),
        patience_ns=election_interval_ns(MASTER_DOWN_INTERVALS * parameters.advbase, shown),
        demote=demote if dialect.hears_demote_byte else 0,
        preempt=preempt,
        hears_bow_out=parameters.advbase != 0 or dialect.hears_bow_out_at_advbase_0,
        reasserts=dialect.reasserts,
    )


def timing(parameters: InterfaceParameters, advskew: int, demote: int) -> Timing:
    """Return the intervals of a virtual host: demotion may slow its advertisements, never its patience (PROTOCOL.md 3)."""
    dialect = parameters.dialect
    by_byte = dialect.demotion is DemotionRule.BYTE
    shown = advskew if by_byte else effective_skew(parameters, advskew, demote)
    return Timing(
        advertisement_interval_ns(parameters.advbase, shown),
        master_down_ns(parameters.advbase, advskew, triples_skew=dialect.triples_skew),
    )


def prefer(
    parameters: InterfaceParameters, vhost: VirtualHost, family: Family, own: bytes, other: bytes, heard: Advertisement
) -> Preference:
    """Tell who stays MASTER if all else is equal; `own` and `other` are the packed sources.

    One family decides for both: with two, the hosts' addresses could be in opposite orders and both would yield.
    """
    rule = parameters.dialect.tie
    if rule is TieRule.YIELD:
        return Preference.THERE
    if vhost.families and family is not vhost.families[0]:
        vhost.other_family_run += 1
        if vhost.other_family_run < _FAMILY_TRUSTED_AFTER:
            return Preference.LATER
    else:
        vhost.other_family_run = 0
    if rule is TieRule.LOWER_SOURCE_BYTES_REVERSED:
        own, other = own[::-1], other[::-1]
    if own != other and any(own) and any(other):
        return Preference.HERE if own < other else Preference.THERE
    if parameters.dialect.counter is not CounterRule.OWN or not vhost.sent_counters:
        return Preference.NEITHER
    return Preference.HERE if vhost.sent_counters[-1] < heard.counter else Preference.THERE


class PeerPatience:
    """How long the most impatient peer of a carp interface waits for a silent MASTER.

    That is a peer with the same advbase and advskew 0, or a faster one that was heard or was configured. With advbase 0
    nothing is known of a peer until it is heard, and it is taken for as patient as this host.
    """

    def __init__(self, parameters: InterfaceParameters) -> None:
        self._fastest_heard_ns: int = NEVER
        self.change(parameters)

    def change(self, parameters: InterfaceParameters) -> None:
        """Follow changed parameters."""
        least_skew = 0 if parameters.advbase else min(node.advskew for node in parameters.nodes)
        self._usual_ns = master_down_ns(parameters.advbase, least_skew, triples_skew=False)
        self._configured_ns = parameters.peer_master_down_ns

    def learn(self, heard: Advertisement, own: Timing) -> None:
        """Remember a faster peer. With one that is hardly slower than our advertisements no fence could stay open."""
        patience_ns = master_down_ns(heard.advbase, heard.advskew, triples_skew=False)
        if 2 * patience_ns >= 3 * own.advertisement_ns:
            self._fastest_heard_ns = min(self._fastest_heard_ns, patience_ns)

    @property
    def holds_ns(self) -> int:
        """How long after an advertisement no peer takes over, less a margin for drifting clocks and frames on their way."""
        patience_ns = self._configured_ns
        if patience_ns is None:
            patience_ns = min(self._usual_ns, self._fastest_heard_ns)
        return patience_ns - max(_LEAST_MARGIN_NS, patience_ns // _MARGIN_DIVISOR)
