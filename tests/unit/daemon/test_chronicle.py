"""What stands in the log, at which level, and how often."""

import logging

import pytest

from carp.daemon.chronicle import Chronicle, logger
from carp.protocol.actions import Drop, Note, Notice, Reason, Transition
from carp.protocol.events import AddressClaimed
from carp.protocol.packet import DropReason
from carp.protocol.values import NANOSECONDS_PER_SECOND, Instant, State
from carp.testing.bench import Bench, only
from carp.testing.clock import seconds
from carp.testing.hosts import KEY, VIP4, carp_interface
from carp.testing.packets import Peer

SOURCE = bytes((192, 0, 2, 7))
SOURCE6 = bytes.fromhex("fe800000000000000000000000000007")
START = Instant(1_000 * NANOSECONDS_PER_SECOND)


class Lines:
    """What was written since it was looked at last."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def take(self) -> list[str]:
        """Return the messages and forget them."""
        found = list(self._caplog.messages)
        self._caplog.clear()
        return found


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Collect what is written."""
    caplog.set_level(logging.DEBUG, logger.name)
    return Lines(caplog)


def transition(old: State, new: State, reason: Reason, detail: str = "", source: bytes = b"") -> Transition:
    """Make a change of carp0."""
    return Transition("carp0", 7, old, new, reason, detail, source)


TO_MASTER = transition(State.BACKUP, State.MASTER, Reason.MASTER_TIMED_OUT)
TO_INIT = transition(State.MASTER, State.INIT, Reason.NOT_READY, "eth0 is down")
FROM_INIT = transition(State.INIT, State.BACKUP, Reason.INITIALIZED)


def level_of(message: object) -> int:
    """Find the lowest level at which something is written."""
    for level in range(8):
        seen: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = seen.append  # type: ignore[method-assign]
        logger.addHandler(handler)
        former = logger.level
        logger.setLevel(logging.DEBUG)
        try:
            chronicle = Chronicle(level)
            if isinstance(message, Transition):
                chronicle.transition(message)
            elif isinstance(message, Notice):
                chronicle.notice(message, START)
            elif isinstance(message, Drop):
                chronicle.drop(message, START)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(former)
        if seen:
            return level
    return 8


@pytest.mark.parametrize(
    ("message", "level"),
    [
        (TO_MASTER, 2),
        (transition(State.MASTER, State.BACKUP, Reason.LOST_TIE), 2),
        (TO_INIT, 4),
        (FROM_INIT, 4),
        *((Drop("eth0", reason, SOURCE, 7), 5) for reason in (DropReason.BAD_TTL, DropReason.BAD_VERSION)),
        *((Drop("eth0", reason, SOURCE, 7), 6) for reason in (DropReason.BAD_DIGEST, DropReason.BAD_CHECKSUM)),
        *((Drop("eth0", reason, SOURCE, 7), 6) for reason in (DropReason.TOO_SHORT, DropReason.BAD_DESTINATION)),
        *((Drop("eth0", reason, SOURCE, 7), 6) for reason in (DropReason.FRAGMENT, DropReason.VLAN_TAGGED)),
        (Drop("eth0", DropReason.BAD_VHID, SOURCE, 7), 7),
        (Notice("carp0", None, Note.DEMOTED, "0 -> 1"), 3),
        (Notice("carp0", 7, Note.SEND_FAILED, "IPv4, errno 105"), 4),
        (Notice("carp0", 7, Note.RIVAL, "", SOURCE), 2),
        (Notice("carp0", 7, Note.CLAIMED, ""), 2),
        (Notice("carp0", 7, Note.FAMILY_SILENT, "IPv6"), 2),
    ],
    ids=lambda one: str(one) if isinstance(one, int) else type(one).__name__,
)
def test_the_level_from_which_each_message_is_written(message: object, level: int) -> None:
    """As net.inet.carp.log has it and docs/configuration.md says."""
    assert level_of(message) == level


@pytest.mark.parametrize("reason", DropReason)
def test_every_refusal_has_a_level(reason: DropReason) -> None:
    """Nothing is refused that could not be seen at level 7."""
    assert 4 <= level_of(Drop("eth0", reason, SOURCE)) <= 7


@pytest.mark.parametrize("note", Note)
def test_every_note_has_a_level(note: Note) -> None:
    """A note that nobody could write would stop the daemon in the middle of a round."""
    assert 2 <= level_of(Notice("carp0", 7, note)) <= 7


def test_plain_lines_and_their_severity(caplog: pytest.LogCaptureFixture) -> None:
    """Levels 0 and 1 are warnings, what is above is information; higher than asked for is silent."""
    caplog.set_level(logging.DEBUG, logger.name)
    chronicle = Chronicle(2)
    for level in range(4):
        chronicle.say(level, f"level {level}")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "level 0"),
        ("WARNING", "level 1"),
        ("INFO", "level 2"),
    ]


def test_a_text_with_percent_signs_is_written_as_it_is(lines: Lines) -> None:
    """Names of interfaces may hold anything."""
    Chronicle(2).say(2, "100%s %d")
    assert lines.take() == ["100%s %d"]


def test_a_change_tells_who_what_and_why(lines: Lines) -> None:
    """With the source that caused it and the detail, where there are any."""
    chronicle = Chronicle(4)
    chronicle.transition(TO_MASTER)
    chronicle.transition(TO_INIT)
    chronicle.transition(transition(State.BACKUP, State.MASTER, Reason.PREEMPTED_SLOWER, source=SOURCE6))
    assert lines.take() == [
        "carp0 vhid 7: BACKUP -> MASTER (master timed out)",
        "carp0 vhid 7: MASTER -> INIT (not ready: eth0 is down)",
        "carp0 vhid 7: BACKUP -> MASTER (preempting a slower master, from fe80::7)",
    ]


def test_changes_are_never_held_back(lines: Lines) -> None:
    """However fast they follow each other."""
    chronicle = Chronicle(2)
    for _ in range(50):
        chronicle.transition(TO_MASTER)
    assert len(lines.take()) == 50


def test_a_refusal_names_its_source(lines: Lines) -> None:
    """And the parent, the vhid and the reason as the status names it."""
    chronicle = Chronicle(7)
    chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, SOURCE, 7), START)
    chronicle.drop(Drop("eth0", DropReason.BAD_TTL, SOURCE6), START)
    chronicle.drop(Drop("eth0", DropReason.BAD_IP_HEADER, b""), START)
    assert lines.take() == [
        "eth0 vhid 7: packet from 192.0.2.7 dropped (bad-digest)",
        "eth0: packet from fe80::7 dropped (bad-ttl)",
        "eth0: packet from an unknown host dropped (bad-ip-header)",
    ]


def test_a_flood_is_one_line_in_ten_seconds_with_a_count(lines: Lines) -> None:
    """The next line tells how many were not written; afterwards the count begins anew."""
    chronicle = Chronicle(7)
    for number in range(1000):
        now = Instant(START + number * seconds(0.009))
        chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, bytes((10, 0, number >> 8, number & 0xFF)), 7), now)
    assert lines.take() == ["eth0 vhid 7: packet from 10.0.0.0 dropped (bad-digest)"]
    chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, SOURCE, 7), Instant(START + seconds(10)))
    assert lines.take() == ["eth0 vhid 7: packet from 192.0.2.7 dropped (bad-digest) (and 999 more like it)"]
    chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, SOURCE, 7), Instant(START + seconds(20)))
    assert lines.take() == ["eth0 vhid 7: packet from 192.0.2.7 dropped (bad-digest)"]


def test_one_kind_does_not_hide_another(lines: Lines) -> None:
    """Each reason and each parent has its own line."""
    chronicle = Chronicle(7)
    for parent in ("eth0", "eth1"):
        for reason in (DropReason.BAD_DIGEST, DropReason.BAD_TTL):
            chronicle.drop(Drop(parent, reason, SOURCE, 7), START)
    assert len(lines.take()) == 4


def test_a_notice_is_written_with_its_place_source_and_detail(lines: Lines) -> None:
    """Of the whole interface, or of one virtual host."""
    chronicle = Chronicle(4)
    chronicle.notice(Notice("carp0", None, Note.DEMOTED, "0 -> 1 (carp0 carpdev)"), START)
    chronicle.notice(Notice("carp0", 7, Note.RIVAL, "this host stays", SOURCE), START)
    assert lines.take() == [
        "carp0: demotion changed: 0 -> 1 (carp0 carpdev)",
        "carp0 vhid 7: another host is MASTER too, 192.0.2.7: this host stays",
    ]


def test_notices_are_limited_too(lines: Lines) -> None:
    """Failed sends come as often as advertisements."""
    chronicle = Chronicle(4)
    for number in range(100):
        chronicle.notice(Notice("carp0", 7, Note.SEND_FAILED, "IPv4, errno 100"), Instant(START + number * seconds(0.05)))
    assert len(lines.take()) == 1
    chronicle.notice(Notice("carp0", 7, Note.SEND_FAILED, "IPv4, errno 100"), Instant(START + seconds(11)))
    (line,) = lines.take()
    assert line.endswith(" (and 99 more like it)")


def test_a_flood_of_claims_is_limited_whatever_it_claims(lines: Lines) -> None:
    """A stranger who makes up a new MAC for each claim fills neither the log nor the memory."""
    bench = Bench(carp_interface())
    bench.wait_for(State.MASTER)
    bench.run_for(seconds(1))
    chronicle = Chronicle(2)
    for number in range(1000):
        claim = AddressClaimed("lan0", VIP4.ip, bytes((2, 0, 0, 0, number >> 8, number & 0xFF)))
        for notice in only(Notice, bench.feed(claim)):
            chronicle.notice(notice, bench.now)
    assert 1 <= len(lines.take()) <= 10
    assert len(chronicle._limits) <= 10


def test_what_is_not_written_is_not_counted_as_written(lines: Lines) -> None:
    """After the level was raised the next refusal is written at once, without a count of those that were below it."""
    chronicle = Chronicle(2)
    chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, SOURCE, 7), START)
    chronicle.level = 7
    chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, SOURCE, 7), START)
    assert lines.take() == ["eth0 vhid 7: packet from 192.0.2.7 dropped (bad-digest)"]


def test_no_key_is_ever_written(lines: Lines) -> None:
    """Neither by an election nor by refusals of another key, at the most talkative level."""
    interface = carp_interface()
    bench = Bench(interface)
    peer = Peer.of(interface)
    bench.hear(peer.advertisement())
    bench.hear(peer.wrong(DropReason.BAD_DIGEST))
    bench.wait_for(State.MASTER)
    bench.run_for(seconds(1))
    bench.hear(peer.advertisement(advskew=100))
    chronicle = Chronicle(7)
    for action in bench.actions:
        match action:
            case Transition():
                chronicle.transition(action)
            case Notice():
                chronicle.notice(action, bench.now)
            case Drop():
                chronicle.drop(action, bench.now)
    written = "\n".join(lines.take())
    assert "bad-digest" in written
    assert "MASTER" in written
    text = KEY.rstrip(b"\0").decode()
    assert text not in written
    assert KEY.hex() not in written
    assert text.encode().hex() not in written
