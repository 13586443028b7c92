"""The control API as its page describes it: every example is carried out."""

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from daemon_kit import LINK_GROUP, PATIENCE_S, FakeRuntime, Reply, configured, play, request, send

from carp.config.change import Change
from carp.config.errors import ConfigError
from carp.config.globals import BY_KEY
from carp.config.load import Configuration
from carp.daemon import event_stream
from carp.daemon.administration import Administration
from carp.daemon.api import Api
from carp.daemon.control import Control
from carp.daemon.conversation import MOST_BODY_BYTES
from carp.daemon.event_stream import Events
from carp.daemon.handover import HandOver
from carp.daemon.pacing import Turns
from carp.daemon.routes import Route
from carp.protocol.actions import Drop, Note, Notice, Reason, Transition
from carp.protocol.packet import DropReason
from carp.protocol.values import Instant, State

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
DOCUMENT: dict[str, Any] = {
    "carp0": {"carpdev": "eth0", "vhid": 1, "pass": "opensesame", "addresses": ["192.0.2.100/24"]},
    "carp1": {"carpdev": "eth0", "vhid": 2, "key-hex": "ab" * 20, "addresses": ["192.0.2.101/24"], "groups": ["lan"]},
}


class House:
    """A whole daemon but for the kernel."""

    def __init__(self, folder: Path) -> None:
        turns = Turns()
        self.path = folder / "carpd.sock"
        self.file = configured(DOCUMENT, folder / "carp.toml")
        self.events = Events(turns)
        self.runtime = FakeRuntime(self.events.publish)
        runtime: Any = self.runtime
        self.administration = Administration(runtime, self.load, LINK_GROUP, self.events.publish)
        handover = HandOver(runtime, folder)
        self.routes = Api(runtime, self.administration, handover, self.events, turns).routes()

    def load(self) -> Configuration:
        """Read what it was started from."""
        return self.file

    async def ask(self, method: str, target: str, body: object = None) -> Reply:
        """Ask it."""
        return await send(self.path, request(method, target, body))


def housed(folder: Path, scenario: Callable[[House], Awaitable[None]]) -> None:
    """Play a scenario with a daemon that runs."""

    async def serve() -> None:
        house = House(folder)
        await house.runtime.reconfigure(house.file)
        control = Control(house.path, house.routes)
        await control.start()
        try:
            await scenario(house)
        finally:
            await control.stop()

    play(serve)


def sections() -> dict[str, str]:
    """Split the page at the headings that name a method and a path."""
    parts = re.split(r"^## ([A-Z]+ /\S+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def examples(section: str) -> list[tuple[str, str, bytes | None]]:
    """Read the curl lines of a section as method, target and body."""
    found = []
    for line in re.findall(r"^curl .*$", section, re.MULTILINE):
        words = shlex.split(line)
        options = dict(pairwise(words))
        body = options.get("-d")
        found.append((options.get("-X", "GET"), urlsplit(words[-1]).path, None if body is None else body.encode()))
    return found


def names_in(section: str) -> set[str]:
    """Collect what stands as code in a section."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", section, flags=re.DOTALL)))


def route_of(route: Route) -> str:
    """Write a route as a heading does."""
    return f"{route.method} {route.path}"


def test_every_route_is_described_and_no_other(tmp_path: Path) -> None:
    """Each in a section of its own, with an example."""

    async def scenario(house: House) -> None:
        described = sections()
        assert sorted(described) == sorted(map(route_of, house.routes))
        assert [heading for heading, text in described.items() if not examples(text)] == []

    housed(tmp_path, scenario)


@pytest.mark.parametrize("heading", [one for one in sections() if one != "GET /v1/events"])
def test_the_examples_work(tmp_path: Path, heading: str) -> None:
    """In the order of the page; each field of an answer is named in its section."""
    text = sections()[heading]
    names = names_in(text) | (set(BY_KEY) if heading.endswith("/global") else set())
    method, _, pattern = heading.partition(" ")

    async def scenario(house: House) -> None:
        house.administration.demoting.add("backup", {"amount": 10})
        for asked, target, written in examples(text):
            body = None if written is None else written.replace(b"/tmp", str(tmp_path).encode())
            reply = await house.ask(asked, target, body)
            assert (asked, reply.status) == (method, 200), reply.body
            assert re.fullmatch(pattern.replace("NAME", "[a-z0-9]+"), target)
            assert "opensesame" not in reply.body.decode()
            assert "abab" not in reply.body.decode()
            for part in (body, reply.body) if "status.md" not in text else (body,):
                fields = json.loads(part) if part else {}
                if heading == "GET /v1/groups":
                    fields = {key for group in fields.values() for key in group}
                assert set(fields) - names == set()

    housed(tmp_path, scenario)


def test_every_part_of_a_change_is_described() -> None:
    """And nothing else that would be refused."""
    (described,) = re.findall(r"\| Field \| Meaning \|\n((?:\|.*\n)+)", sections()["PATCH /v1/interfaces/NAME"])
    fields = {name for line in described.splitlines()[1:] for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    whole = Change("carp0", True, True, True, "x", {"a": 1}, ("a",), ("b",), ("c",), ("d",), ("e",))  # type: ignore[arg-type]
    assert fields == set(whole.to_json())


def test_every_value_of_the_host_is_described() -> None:
    """By the name that it is set by."""
    assert set(BY_KEY) <= names_in(sections()["GET /v1/global"])


def test_every_event_is_described(tmp_path: Path) -> None:
    """By its kind and its fields; the first one tells the state of each virtual host."""
    text = sections()["GET /v1/events"]

    async def scenario(house: House) -> None:
        reader, writer = await asyncio.open_unix_connection(house.path)
        writer.write(request("GET", "/v1/events", version="1.0"))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"\r\n\r\n")
            first = await read_event(reader)
            chronicle = house.runtime.chronicle
            chronicle.transition(Transition("carp0", 1, State.BACKUP, State.MASTER, Reason.FORCED))
            chronicle.notice(Notice("carp0", None, Note.DEMOTED), Instant(1))
            chronicle.drop(Drop("eth0", DropReason.ECHO, b""), Instant(1))
            await house.ask("PATCH", "/v1/interfaces/carp0", {"set": {"advskew": 1}})
            others = [await read_event(reader) for _ in range(4)]
        writer.close()
        assert first["interfaces"] == [
            {"name": "carp0", "demote": 0, "nodes": [{"vhid": 1, "state": "BACKUP"}]},
            {"name": "carp1", "demote": 0, "nodes": [{"vhid": 2, "state": "BACKUP"}]},
        ]
        names = names_in(text)
        assert set(first) | {"name", "demote", "nodes", "vhid", "state"} <= names
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
        for event in others:
            fields = set(event) - {"event", "at"}
            assert fields <= set(re.findall(r"`(\w+)`", rows.pop(event["event"])))
        assert rows == {}

    housed(tmp_path, scenario)


async def read_event(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Read the data of the next event."""
    block = (await reader.readuntil(b"\n\n")).decode()
    (data,) = [line.removeprefix("data: ") for line in block.splitlines() if line.startswith("data: ")]
    document: dict[str, Any] = json.loads(data)
    return document


def test_the_limits_in_the_page_are_the_programs_own() -> None:
    """Of a body, and of a listener."""
    text = PAGE.read_text()
    assert f"at most {MOST_BODY_BYTES // 1024} KiB" in text
    assert f"which {event_stream.MOST_WAITING} events wait" in text
    assert f"every {event_stream.HEARTBEAT_S:.0f} seconds" in text


@pytest.mark.parametrize(
    ("asked", "body", "status", "sentence"),
    [
        ("GET /v1/interfaces/carp9", None, 404, "carp9: there is no such carp interface; there is carp0, carp1"),
        ("PATCH /v1/interfaces/carp0", {}, 400, "carp0: the body asks for nothing"),
        ("PATCH /v1/interfaces/carp0", {"advskew": 1}, 400, "advskew: unknown key; allowed: create, destroy, up, "),
        ("PATCH /v1/interfaces/carp0", {"up": 1}, 400, "up: 1: true or false is allowed"),
        ("PATCH /v1/interfaces/carp0", {"set": {"advskew": 255}}, 422, "carp0.advskew: 255 is not allowed: an integer 0..254"),
        ("PATCH /v1/interfaces/eth0", {"create": True}, 422, '"eth0" is not the name of a carp interface'),
        ("PATCH /v1/interfaces/carp0%0A", {"create": True}, 422, '"carp0\\n" is not the name of a carp interface'),
        ("PATCH /v1/global", {"colour": 1}, 422, "colour: unknown key; allowed: allow, "),
        ("POST /v1/groups/carp", {}, 400, "carpdemote: "),
        ("POST /v1/groups/carp", {"carpdemote": True}, 400, "carpdemote: true is not allowed: an integer"),
        ("POST /v1/groups/carp", {"carpdemote": 1, "x": 1}, 400, "x: unknown key; allowed: carpdemote"),
        ("POST /v1/groups/carp", {"carpdemote": 300}, 422, "carpdemote: 300: the result must be 0..255"),
        ("POST /v1/groups/wan", {"carpdemote": 1}, 404, "wan: there is no such group; there is carp, lan"),
        ("POST /v1/config/save", {"path": "carp.toml"}, 400, 'path: "carp.toml" is not allowed: the absolute path of a file'),
        ("POST /v1/config/save", {"path": 7}, 400, "path: 7 is not allowed: the absolute path of a file"),
        ("POST /v1/config/save", {"file": "/x"}, 400, "file: unknown key; allowed: path"),
        ("POST /v1/reload", {"file": "/x"}, 400, "file: unknown key; allowed: none"),
    ],
)
def test_what_is_refused(tmp_path: Path, asked: str, body: object, status: int, sentence: str) -> None:
    """With a sentence that names the word and what is allowed; nothing changes."""

    async def scenario(house: House) -> None:
        house.runtime.adopted.clear()
        reply = await house.ask(*asked.split(" "), body)
        assert reply.status == status
        assert reply.document["error"].startswith(sentence)
        assert house.runtime.adopted == []
        assert list(house.runtime.engine.host.demotions) == []

    housed(tmp_path, scenario)


def test_a_file_that_is_wrong_is_refused_with_every_problem(tmp_path: Path) -> None:
    """By a reload and by the question what it would change."""

    async def scenario(house: House) -> None:
        with pytest.raises(ConfigError) as caught:
            configured({"carp0": {"vhid": 0, "advskew": 900}})
        problems = list(map(str, caught.value.problems))

        def fail() -> Configuration:
            raise caught.value

        house.administration._load = fail
        for method in ("GET", "POST"):
            reply = await house.ask(method, "/v1/reload")
            assert (reply.status, reply.document["problems"]) == (422, problems)
            assert len(problems) == 2

    housed(tmp_path, scenario)


def test_two_clients_that_change_at_once(tmp_path: Path) -> None:
    """One waits for the other; both changes are made."""

    async def scenario(house: House) -> None:
        house.runtime.gate.clear()
        asked = [
            asyncio.create_task(house.ask("PATCH", f"/v1/interfaces/{name}", {"set": {"advskew": 7}}))
            for name in ("carp0", "carp1")
        ]
        await asyncio.sleep(0.1)
        assert (await house.ask("GET", "/v1/global")).status == 200
        assert not any(task.done() for task in asked)
        house.runtime.gate.set()
        assert [reply.status for reply in await asyncio.gather(*asked)] == [200, 200]
        assert [table["advskew"] for table in house.administration.running.document.values()] == [7, 7]

    housed(tmp_path, scenario)


def test_an_interface_that_was_only_created_is_shown(tmp_path: Path) -> None:
    """In its place, with everything that the others have, in INIT and without a vhid."""

    async def scenario(house: House) -> None:
        for name in ("carp9", "carp00", "carp2"):
            await house.ask("PATCH", f"/v1/interfaces/{name}", {"create": True, "set": {"advskew": 5}})
        shown = (await house.ask("GET", "/v1/status")).document["interfaces"]
        assert [one["name"] for one in shown] == ["carp0", "carp1", "carp2", "carp9"]
        assert shown[0].keys() == shown[3].keys()
        assert shown[0]["nodes"][0].keys() == shown[3]["nodes"][0].keys()
        (node,) = (await house.ask("GET", "/v1/interfaces/carp9")).document["nodes"]
        assert (node["vhid"], node["state"], node["advskew"], node["detail"]) == (None, "INIT", 5, "no vhid")

    housed(tmp_path, scenario)
