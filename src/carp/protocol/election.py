"""What goes into an election: this host's standing, the intervals, and who is preferred if all is equal."""

from .dialect import CounterRule, DemotionRule, TieRule
from .interval import MASTER_DOWN_INTERVALS, advertisement_interval_ns, election_interval_ns, master_down_ns
from .packet import Advertisement
from .parameters import InterfaceParameters
from .sending import effective_skew
from .table import Preference, Standing
from .values import Family, Instant
from .vhost import Timing, VirtualHost


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
    parameters: InterfaceParameters,
    vhost: VirtualHost,
    family: Family,
    own: bytes,
    other: bytes,
    heard: Advertisement,
    now: Instant,
) -> Preference:
    """Tell who stays MASTER if all else is equal; `own` and `other` are the packed sources.

    One family decides for both: with two, the hosts' addresses could be in opposite orders and both would yield.
    """
    rule = parameters.dialect.tie
    if rule is TieRule.YIELD:
        return Preference.THERE
    if vhost.families and family is not vhost.families[0]:
        # Unless this one alone has come for so long that the other must be filtered somewhere.
        since, last = vhost.undecided or (now, now)
        if now - last > vhost.timing.master_down_ns:
            since = now
        vhost.undecided = (since, now)
        if now - since < vhost.timing.master_down_ns:
            return Preference.LATER
    else:
        vhost.undecided = None
    if rule is TieRule.LOWER_SOURCE_BYTES_REVERSED:
        own, other = own[::-1], other[::-1]
    if own != other and any(own) and any(other):
        return Preference.HERE if own < other else Preference.THERE
    if parameters.dialect.counter is not CounterRule.OWN or not vhost.sent_counters:
        return Preference.NEITHER
    return Preference.HERE if vhost.sent_counters[-1] < heard.counter else Preference.THERE
