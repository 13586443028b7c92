"""Packets that the kernel refused: carpd never saw them, but counts and tells of them as of those that it refuses itself."""

from collections import Counter
from dataclasses import replace

from ..linux.packet_socket import PacketSocket
from ..protocol.packet import DropReason
from ..protocol.statistics import Statistics
from ..protocol.values import Family
from .chronicle import Chronicle


class Unseen:
    """What the filters of all packet sockets have refused since the daemon began, closed sockets included."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle
        self._received: Counter[Family] = Counter()
        self._dropped: Counter[DropReason] = Counter()

    def collect(self, socket: PacketSocket) -> None:
        """Count what a socket's filter has refused since the last time: after reading from it, and before it is closed."""
        for family, reason, count in socket.refused():
            self._received[family] += count
            self._dropped[reason] += count
            self._chronicle.unseen(socket.parent, reason, count)

    def added_to(self, statistics: Statistics) -> Statistics:
        """Return counters that include these."""
        received = {family: count + self._received[family] for family, count in statistics.received.items()}
        return replace(statistics, received=received, dropped=statistics.dropped + self._dropped)
