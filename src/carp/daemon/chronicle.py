"""The log: what each message says, and at which of the levels 0..7 of net.inet.carp.log it appears (PROTOCOL.md 8.1)."""

import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
    Note.REASSERTED: 4,
    Note.DEMOTED: 3,
    Note.SEND_FAILED: 4,
}
_EACH_IS_NEWS = frozenset({Note.FAMILY_SILENT, Note.FAMILY_HEARD, Note.DEMOTED})
"""Notes about this host itself, which nobody else can make come often."""
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
    """Writes the log; `level` is net.inet.carp.log. Tells `publish` too, if there is one, whatever the level is.

    Anything that a stranger on the LAN can cause is written at most once in ten seconds for each kind, with a count.
    """

    level: int
    publish: Callable[[str, Mapping[str, Any]], None] | None = None
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
        if self.publish is not None:
            self.publish("transition", _transition_document(transition))
        text = f"{transition.interface} vhid {transition.vhid}: {transition.old.value} -> {transition.new.value} ({why})"
        self.say(_INIT_TRANSITION_LEVEL if touches_init else _TRANSITION_LEVEL, text)

    def notice(self, notice: Notice, now: Instant) -> None:
        """Tell what an administrator should know."""
        level = _NOTE_LEVELS[notice.note]
        each_is_news = notice.note in _EACH_IS_NEWS
        if self.publish is not None and each_is_news:
            self.publish("notice", _notice_document(notice))
        if level > self.level and (self.publish is None or each_is_news):
            return
        kind = (notice.interface, notice.vhid, notice.note)
        if self._repeats(kind, now):
            return
        more = self._begin(kind, now)
        if self.publish is not None and not each_is_news:
            self.publish("notice", _notice_document(notice))
        place = notice.interface if notice.vhid is None else f"{notice.interface} vhid {notice.vhid}"
        text = f"{place}: {notice.note.value}"
        if notice.source:
            text += f", {address_text(notice.source)}"
        if notice.detail:
            text += f": {notice.detail}"
        self.say(level, text + more)

    def drop(self, drop: Drop, now: Instant) -> None:
        """Tell why a packet was refused."""
        kind = (drop.parent, drop.reason)
        if self._repeats(kind, now):
            return
        level = _DROP_LEVELS.get(drop.reason, _USUAL_DROP_LEVEL)
        if level > self.level and self.publish is None:
            return
        more = self._begin(kind, now)
        if self.publish is not None:
            self.publish("drop", _drop_document(drop))
        vhid = "" if drop.vhid is None else f" vhid {drop.vhid}"
        self.say(level, f"{drop.parent}{vhid}: packet from {address_text(drop.source)} dropped ({drop.reason.value}){more}")

    def unseen(self, parent: str, reason: DropReason, count: int) -> None:
        """So many more packets were refused like those that `drop` was told of."""
        limit = self._limits.get((parent, reason))
        if limit is not None:
            limit.suppressed += count

    def _repeats(self, kind: object, now: Instant) -> bool:
        """Tell whether a kind of message was told a short while ago, and count it then."""
        limit = self._limits.get(kind)
        if limit is None or now - limit.written_at >= _REPEAT_AFTER_NS:
            return False
        limit.suppressed += 1
        return True

    def _begin(self, kind: object, now: Instant) -> str:
        """A kind of message is told now; return what to add about those that were not told."""
        limit = self._limits.get(kind)
        self._limits[kind] = _Limit(now)
        return f" (and {limit.suppressed} more like it)" if limit is not None and limit.suppressed else ""


def _transition_document(transition: Transition) -> dict[str, Any]:
    return {
        "interface": transition.interface,
        "vhid": transition.vhid,
        "old": transition.old.value,
        "new": transition.new.value,
        "reason": transition.reason.value,
        "detail": transition.detail,
        "source": _source(transition.source),
    }


def _notice_document(notice: Notice) -> dict[str, Any]:
    return {
        "interface": notice.interface,
        "vhid": notice.vhid,
        "note": notice.note.value,
        "detail": notice.detail,
        "source": _source(notice.source),
    }


def _drop_document(drop: Drop) -> dict[str, Any]:
    return {"parent": drop.parent, "vhid": drop.vhid, "reason": drop.reason.value, "source": _source(drop.source)}


def _source(packed: bytes) -> str | None:
    return address_text(packed) if packed else None
