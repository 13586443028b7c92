"""The stream of events, as a client reads it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import PATIENCE_S, play, request

from carp.daemon import conversation, event_stream
from carp.daemon.chronicle import Chronicle
from carp.daemon.control import Control
from carp.daemon.event_stream import Events
from carp.daemon.pacing import Turns
from carp.daemon.routes import Answer, Request, Route
from carp.protocol.actions import Drop, Note, Notice, Reason, Transition
from carp.protocol.packet import DropReason
from carp.protocol.values import Instant, State

STATES = b'{"interfaces": []}'
GET = request("GET", "/v1/events", version="1.0")
TRANSITION = Transition("carp0", 1, State.BACKUP, State.MASTER, Reason.MASTER_TIMED_OUT)


def states() -> Iterator[bytes]:
    """Write how the stream starts, in two pieces."""
    yield STATES[:5]
    yield STATES[5:]


class Client:
    """Somebody who listens."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def next(self) -> dict[str, str]:
        """Read the next event, or comment, as its fields."""
        async with asyncio.timeout(PATIENCE_S):
            block = (await self.reader.readuntil(b"\n\n")).decode()
        return {name: value for name, _, value in (line.partition(": ") for line in block.splitlines() if line)}


@asynccontextmanager
async def listening(path: Path, **options: Any) -> Any:
    """Connect, and read the head of the answer."""
    reader, writer = await asyncio.open_unix_connection(path, **options)
    writer.write(GET)
    try:
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head.lower()
        yield Client(reader, writer)
    finally:
        writer.close()


def told(path: Path, scenario: Callable[[Events], Awaitable[None]]) -> None:
    """Play a scenario while a server streams events."""

    async def serve() -> None:
        events = Events(Turns())

        async def listen(_: Request) -> Answer:
            return events.listen(states)

        server = Control(path, [Route("GET", "/v1/events", listen)])
        await server.start()
        try:
            await scenario(events)
        finally:
            await server.stop()

    play(serve)


def test_a_stream_starts_with_what_is(path: Path) -> None:
    """So that nobody has to ask first; then comes what happens, with a number that grows."""

    async def scenario(events: Events) -> None:
        events.publish("changed", {"changes": ["before anybody listened"]})
        async with listening(path) as client:
            assert await client.next() == {"event": "status", "id": "1", "data": STATES.decode()}
            events.publish("changed", {"changes": ["x"]})
            events.publish("notice", {})
            first, second = await client.next(), await client.next()
        assert (first["event"], first["id"], second["event"], second["id"]) == ("changed", "2", "notice", "3")
        data = json.loads(first["data"])
        assert (data.pop("at")[10], data) == ("T", {"event": "changed", "changes": ["x"]})

    told(path, scenario)


def test_every_listener_is_told_the_same(path: Path) -> None:
    """In the same order."""

    async def scenario(events: Events) -> None:
        async with listening(path) as one, listening(path) as other:
            for client in (one, other):
                await client.next()
            for number in range(1000):
                events.publish("changed", {"number": number})
            heard = [[await client.next() for _ in range(1000)] for client in (one, other)]
        assert heard[0] == heard[1]
        assert [json.loads(event["data"])["number"] for event in heard[0]] == list(range(1000))

    told(path, scenario)


def test_a_quiet_stream_shows_that_it_lives(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a comment from time to time."""
    monkeypatch.setattr(event_stream, "HEARTBEAT_S", 0.02)

    async def scenario(events: Events) -> None:
        async with listening(path) as client:
            await client.next()
            assert await client.next() == {"": "still here"}
            events.publish("changed", {})
            while (await client.next()).get("event") != "changed":
                pass

    told(path, scenario)


def test_who_left_is_forgotten(path: Path) -> None:
    """As soon as the connection ends, not with the next event."""

    async def scenario(events: Events) -> None:
        async with listening(path) as client:
            await client.next()
            assert len(events._listeners) == 1
        async with asyncio.timeout(PATIENCE_S):
            while events._listeners:
                await asyncio.sleep(0.01)

    told(path, scenario)


def test_what_a_listener_says_is_ignored(path: Path) -> None:
    """The stream goes on."""

    async def scenario(events: Events) -> None:
        async with listening(path) as client:
            await client.next()
            client.writer.write(b"more\r\n" * 1000)
            events.publish("changed", {})
            assert (await client.next())["event"] == "changed"

    told(path, scenario)


def test_a_listener_that_stops_reading_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once too much waits for it; the others hear everything, and publishing never waits."""
    monkeypatch.setattr(event_stream, "MOST_WAITING", 256)

    async def scenario(events: Events) -> None:
        async with listening(path, limit=1024) as stuck, listening(path) as other:
            await other.next()
            number = 0
            async with asyncio.timeout(PATIENCE_S):
                while len(events._listeners) == 2:
                    number += 1
                    events.publish("changed", {"number": number, "filling": "x" * 10_000})
                    event = await other.next()
                    assert json.loads(event["data"])["number"] == number
            async with asyncio.timeout(PATIENCE_S):
                while chunk := await stuck.reader.read(1 << 20):
                    assert chunk
            events.publish("notice", {})
            assert (await other.next())["event"] == "notice"

    told(path, scenario)


def test_a_listener_that_reads_nothing_for_long_is_dropped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if little waits for it."""
    monkeypatch.setattr(conversation, "_PATIENCE_S", 0.05)

    async def scenario(events: Events) -> None:
        async with listening(path, limit=1024):
            async with asyncio.timeout(PATIENCE_S):
                while not events._listeners:
                    await asyncio.sleep(0.01)
                for _ in range(20):
                    events.publish("changed", {"filling": "x" * 100_000})
                while events._listeners:
                    await asyncio.sleep(0.01)

    told(path, scenario)


def test_a_stream_that_nobody_began_leaves_nothing() -> None:
    """A HEAD request has no body."""

    async def scenario() -> None:
        events = Events(Turns())
        async with aclosing(events.listen(states).pieces):
            pass
        assert not events._listeners

    play(scenario)


def test_publishing_to_nobody_costs_nothing() -> None:
    """The document is not even looked at."""
    events = Events(Turns())
    nothing: Any = object()
    events.publish("changed", nothing)
    assert not events._listeners


class Published:
    """A chronicle and what it publishes."""

    def __init__(self, level: int = 2) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.chronicle = Chronicle(level, lambda kind, document: self.told.append((kind, dict(document))))


def test_transitions_are_published_whatever_the_log_holds() -> None:
    """With who, what and why."""
    published = Published(level=0)
    published.chronicle.transition(TRANSITION)
    document = {
        "interface": "carp0",
        "vhid": 1,
        "old": "BACKUP",
        "new": "MASTER",
        "reason": "master timed out",
        "detail": "",
        "source": None,
    }
    assert published.told == [("transition", document)]


def test_what_strangers_cause_is_published_rarely() -> None:
    """Once in ten seconds for each kind, as it is logged; what this host itself does, each time."""
    published = Published(level=0)
    source = bytes((192, 0, 2, 7))
    for _ in range(3):
        published.chronicle.drop(Drop("eth0", DropReason.BAD_DIGEST, source, 1), Instant(1))
        published.chronicle.notice(Notice("carp0", 1, Note.RIVAL, "x", source), Instant(1))
        published.chronicle.notice(Notice("carp0", None, Note.DEMOTED, "0 -> 1"), Instant(1))
    assert [kind for kind, _ in published.told] == ["drop", "notice", "notice", "notice", "notice"]
    assert published.told[0][1] == {"parent": "eth0", "vhid": 1, "reason": "bad-digest", "source": "192.0.2.7"}
    assert [document["note"] for _, document in published.told[1:]] == [Note.RIVAL.value] + [Note.DEMOTED.value] * 3
