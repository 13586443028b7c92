"""Whether what belongs together is on one host: a firewall passes packets only if it is MASTER on both of their sides.

Carp interfaces belong together when this host prefers them equally (advbase, advskew) and they are in the same groups: where
two hosts each serve a part on purpose, one of these differs. Balanced ones are everywhere.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

from ..protocol.interface import CarpInterface
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant, State

_SETTLED_AFTER_NS = 3 * NANOSECONDS_PER_SECOND
"""On top of the time after which a MASTER is given up: a host that comes back takes its places one after the other."""


def apart(interfaces: Iterable[CarpInterface], now: Instant) -> str:
    """Say which are MASTER here and which of their kind are BACKUP, for longer than a takeover takes; "" if there are none."""
    sentences = []
    for kind in _kinds(interfaces):
        here = [one.name for one in kind if one.leader.state is State.MASTER]
        there = [one.name for one in kind if one.leader.state is State.BACKUP]
        if here and there and all(_is_settled(one, now) for one in kind):
            sentences.append(f"{_are(here)} MASTER here, {_are(there)} not: packets between them do not pass")
    return "; ".join(sentences)


def left_behind(name: str, interfaces: Iterable[CarpInterface]) -> list[str]:
    """Say which stay MASTER here when the one of a name, which belongs to them, was handed over; nothing if none do."""
    for kind in _kinds(interfaces):
        staying = [one.name for one in kind if one.leader.state is State.MASTER]
        if staying and any(one.name == name for one in kind):
            it = "it" if len(staying) == 1 else "them"
            commands = " and ".join(f"carp switch {one}" for one in staying)
            sentence = f"{_are(staying)} MASTER here still: packets between {it} and {name} do not pass"
            return [f"{sentence}; hand {it} over, too: {commands}, or carp maintenance on for all"]
    return []


def _kinds(interfaces: Iterable[CarpInterface]) -> Iterator[list[CarpInterface]]:
    known = sorted((one for one in interfaces if not one.parameters.is_balanced), key=_kind)
    return (list(members) for _, members in groupby(known, _kind))


def _kind(interface: CarpInterface) -> tuple[list[str], int, int]:
    parameters = interface.parameters
    return sorted(parameters.groups), parameters.advbase, parameters.leader.advskew


def _is_settled(interface: CarpInterface, now: Instant) -> bool:
    takes_ns = interface.leader.timing.master_down_ns + interface.parameters.preempt_delay_ns
    return now - interface.leader.since >= takes_ns + _SETTLED_AFTER_NS


def _are(names: list[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
