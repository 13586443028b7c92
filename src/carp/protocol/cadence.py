"""The beat of a parent: virtual hosts that advertise at the same interval come to do so at the same moment.

A host that is MASTER of 255 wakes once in each interval then, not 255 times, and so do its peers; when it dies, they take over
all of them at once. An advertisement that comes early is harmless to every peer, one that comes late may not be, so deadlines
are only ever moved forward. Differs: the BSDs let each virtual host keep the moment at which it became MASTER.
"""

from dataclasses import dataclass, field

from .values import Instant

LARGEST_STEP = 8
"""An interval is shortened by at most this part of it: a newcomer is in step after as many advertisements."""
_INTERVALS_UNTIL_FORGOTTEN = 2


@dataclass(slots=True)
class Cadence:
    """The beats of one parent, one for each interval; the virtual host that was there first keeps its own moments."""

    _beats: dict[int, tuple[int, Instant]] = field(default_factory=dict)

    def place(self, vhid: int, nominal: Instant, interval_ns: int) -> Instant:
        """Return when a virtual host advertises that would do so at `nominal`, an interval after its last time."""
        beat = self._beats.get(interval_ns)
        if beat is None or beat[0] == vhid or nominal - beat[1] >= _INTERVALS_UNTIL_FORGOTTEN * interval_ns:
            self._beats[interval_ns] = vhid, nominal
            return nominal
        return Instant(nominal - min((nominal - beat[1]) % interval_ns, interval_ns // LARGEST_STEP))
