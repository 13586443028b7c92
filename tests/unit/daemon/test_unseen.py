"""What the kernel refuses is counted and told of as if carpd had seen it."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from carp.daemon.chronicle import Chronicle, logger
from carp.daemon.unseen import Unseen
from carp.protocol.actions import Drop
from carp.protocol.packet import DropReason
from carp.protocol.statistics import Statistics
from carp.protocol.values import NANOSECONDS_PER_SECOND, Family, Instant

START = Instant(1_000 * NANOSECONDS_PER_SECOND)
DROP = Drop("eth0", DropReason.BAD_VHID, bytes((192, 0, 2, 7)), 7)


def socket(*refused: tuple[Family, DropReason, int], parent: str = "eth0") -> Any:
    """Make a socket whose filter has refused these; it says so once."""
    left = [list(refused)]
    return SimpleNamespace(parent=parent, refused=lambda: left.pop() if left else [])


def test_it_is_added_to_what_was_seen() -> None:
    """For each family and reason, from all sockets; the engine's own counters stay as they are."""
    unseen = Unseen(Chronicle(2))
    seen = Statistics(sent={Family.IPV4: 9, Family.IPV6: 8}, became_master=3)
    seen.received[Family.IPV4] = 10
    seen.dropped[DropReason.BAD_VHID] = 1
    unseen.collect(socket((Family.IPV4, DropReason.BAD_VHID, 5), (Family.IPV6, DropReason.BAD_TTL, 7)))
    unseen.collect(socket((Family.IPV4, DropReason.BAD_VHID, 100), parent="eth1"))
    shown = unseen.added_to(seen)
    assert shown.received == {Family.IPV4: 115, Family.IPV6: 7}
    assert shown.dropped == {DropReason.BAD_VHID: 106, DropReason.BAD_TTL: 7}
    assert (shown.sent, shown.became_master) == (seen.sent, 3)
    assert (seen.received[Family.IPV4], seen.dropped) == (10, {DropReason.BAD_VHID: 1})


def test_nothing_unseen_changes_nothing() -> None:
    """The counters are those of the engine."""
    unseen = Unseen(Chronicle(2))
    unseen.collect(socket())
    seen = Statistics()
    seen.dropped[DropReason.BAD_DIGEST] = 4
    assert unseen.added_to(seen) == seen


def test_the_log_tells_how_many(caplog: pytest.LogCaptureFixture) -> None:
    """The next line on the same parent for the same reason counts them; others count their own."""
    caplog.set_level(logging.DEBUG, logger.name)
    chronicle = Chronicle(7)
    unseen = Unseen(chronicle)
    chronicle.drop(DROP, START)
    chronicle.drop(DROP, START)
    unseen.collect(socket((Family.IPV4, DropReason.BAD_VHID, 40), (Family.IPV4, DropReason.BAD_TTL, 9)))
    unseen.collect(socket((Family.IPV6, DropReason.BAD_VHID, 2)))
    unseen.collect(socket((Family.IPV4, DropReason.BAD_VHID, 500), parent="eth1"))
    later = Instant(START + 10 * NANOSECONDS_PER_SECOND)
    chronicle.drop(DROP, later)
    chronicle.drop(Drop("eth1", DropReason.BAD_VHID, DROP.source, 7), later)
    line = "eth0 vhid 7: packet from 192.0.2.7 dropped (bad-vhid)"
    assert caplog.messages == [line, f"{line} (and 43 more like it)", line.replace("eth0", "eth1")]
