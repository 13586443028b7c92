"""The log: what each message says, and at which of the levels 0..7 of net.inet.carp.log it appears (PROTOCOL.md 8.1)."""

import ipaddress
import logging
from dataclasses import dataclass, field

from ..protocol.actions import Drop, Note, Notice, Transition
from ..protocol.packet import DropReason
from ..protocol.values import NANOSECONDS_PER_SECOND, Instant, State

logger = logging.getLogger("carpd")

_TRANSITION_LEVEL = 2
_INIT_TRANSITION_LEVEL = 4
_DROP_LEVELS = {
    DropReason.BAD_TTL: 5,
    DropReason.BAD_VERSION: 5,
    DropReason.FOREIGN_VRRP: 5,
    DropReason.ECHO: 4,
    DropReason.BAD_VHID: 7,
}
_USUAL_DROP_LEVEL = 6
_NOTE_LEVELS = {
    Note.RIVAL: 2,
    Note.CLAIMED: 2,
    Note.FAMILY_SILENT: 2,
    Note.FAMILY_HEARD: 2,
    Note.DEMOTED: 3,
    Note.SEND_FAILED: 4,
}
_REPEAT_AFTER_NS = 10 * NANOSECONDS_PER_SECOND


def address_text(packed: bytes) -> str:
    """Write a packed source address, "an unknown host" if there is none."""
    return str(ipaddress.ip_address(packed)) if packed else "an unknown host"


@dataclass(slots=True)
class _Limit:
    """How often one kind of message came since it was last written."""

    written_at: Instant
    suppressed: int = 0


@dataclass(slots=True)
class Chronicle:
    """Writes the log; `level` is net.inet.carp.log.

    Anything that a stranger on the LAN can cause is written at most once in ten seconds for each kind, with a count.
    """

    level: int
    _limits: dict[object, _Limit] = field(default_factory=dict)

    def say(self, level: int, text: str) -> None:
        """Write a line if the level is low enough."""
        if level <= self.level:
            severity = logging.WARNING if level <= 1 else logging.INFO
            logger.log(severity, "%s", text)

    def transition(self, transition: Transition) -> None:
        """Tell who changed to what, and why."""
        touches_init = State.INIT in (transition.old, transition.new)
        why = transition.reason.value
        if transition.source:
            why += f", from {address_text(transition.source)}"
        if transition.detail:
            why += f": {transition.detail}"
        text = f"{transition.interface} vhid {transition.vhid}: {transition.old.value} -> {transition.new.value} ({why})"
        self.say(_INIT_TRANSITION_LEVEL if touches_init else _TRANSITION_LEVEL, text)

    def notice(self, notice: Notice, now: Instant) -> None:
        """Tell what an administrator should know."""
        level = _NOTE_LEVELS[notice.note]
        if level > self.level:
            return
        place = notice.interface if notice.vhid is None else f"{notice.interface} vhid {notice.vhid}"
        text = f"{place}: {notice.note.value}"
        if notice.source:
            text += f", {address_text(notice.source)}"
        if notice.detail:
            text += f": {notice.detail}"
        self._limited(level, text, (notice.interface, notice.vhid, notice.note), now)

    def drop(self, drop: Drop, now: Instant) -> None:
        """Tell why a packet was refused."""
        level = _DROP_LEVELS.get(drop.reason, _USUAL_DROP_LEVEL)
        if level > self.level:
            return
        vhid = "" if drop.vhid is None else f" vhid {drop.vhid}"
        text = f"{drop.parent}{vhid}: packet from {address_text(drop.source)} dropped ({drop.reason.value})"
        self._limited(level, text, (drop.parent, drop.reason), now)

    def _limited(self, level: int, text: str, kind: object, now: Instant) -> None:
        limit = self._limits.get(kind)
        if limit is not None and now - limit.written_at < _REPEAT_AFTER_NS:
            limit.suppressed += 1
            return
        if limit is not None and limit.suppressed:
            text += f" (and {limit.suppressed} more like it)"
        self._limits[kind] = _Limit(now)
        self.say(level, text)
