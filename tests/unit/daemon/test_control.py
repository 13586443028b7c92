"""The control socket, spoken to as curl or a careless script does."""

import asyncio
import contextlib
import json
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from carp.daemon import control
from carp.daemon.control import Control, SocketInUseError

DOCUMENT = {"version": 1, "interfaces": [{"name": "carp0"}]}
GET = b"GET /v1/status HTTP/1.1\r\nHost: carp\r\nConnection: close\r\n\r\n"
PATIENCE_S = 5


async def ask(path: Path, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Send bytes, read until the end; return status, headers and the JSON of the body."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
            body = b"" if request.startswith(b"HEAD") else await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return int(status.split()[1]), headers, json.loads(body) if body else None


def served(path: Path, scenario: Callable[[Control], Awaitable[None]]) -> None:
    """Play a scenario while a server runs, and let no error of the loop go unseen."""
    errors: list[dict[str, Any]] = []

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        server = Control(path, {"/v1/status": lambda: DOCUMENT, "/v1/other": lambda: None})
        await server.start()
        try:
            await scenario(server)
        finally:
            await server.stop()

    asyncio.run(play())
    assert errors == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the socket, in a folder that does not exist yet."""
    return tmp_path / "run" / "carpd.sock"


def test_the_document_is_answered_as_json(path: Path) -> None:
    """With a type and a length, for any client of HTTP; what stands behind a question mark is ignored."""

    async def scenario(_: Control) -> None:
        for request in (GET, GET.replace(b"/v1/status", b"/v1/status?pretty=1")):
            status, headers, body = await ask(path, request)
            assert (status, body) == (200, DOCUMENT)
            assert headers["content-type"] == "application/json"

    served(path, scenario)


def test_an_unknown_path_is_answered_with_those_that_are_known(path: Path) -> None:
    """So that nobody has to look them up."""

    async def scenario(_: Control) -> None:
        status, _, body = await ask(path, GET.replace(b"/v1/status", b"/nonsense"))
        assert (status, body) == (404, {"error": "/nonsense is not known; there is /v1/other, /v1/status"})

    served(path, scenario)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
def test_what_can_only_be_read_cannot_be_written(path: Path, method: bytes) -> None:
    """With or without a body."""

    async def scenario(_: Control) -> None:
        with_body = GET.replace(b"GET", method).replace(b"Host", b"Content-Length: 4\r\nHost") + b"body"
        for request in (GET.replace(b"GET", method), with_body):
            status, _, body = await ask(path, request)
            assert (status, body) == (405, {"error": "/v1/status can be read only (GET)"})

    served(path, scenario)


def test_a_head_request_is_answered(path: Path) -> None:
    """`curl -I` gets a status without a body, be it a refusal, and not an empty reply."""

    async def scenario(_: Control) -> None:
        status, _, _ = await ask(path, GET.replace(b"GET", b"HEAD"))
        assert status in (200, 405)

    served(path, scenario)


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET /v1/status HTTP/1.1\r\n\r\n", b"x" * 200_000],
    ids=["text", "tls", "no host", "endless"],
)
def test_garbage_is_refused_and_the_next_client_served(path: Path, garbage: bytes) -> None:
    """With a status of 400 or more and an error."""

    async def scenario(_: Control) -> None:
        status, _, body = await ask(path, garbage)
        assert 400 <= status < 500
        assert body["error"]
        assert (await ask(path, GET))[0] == 200

    served(path, scenario)


def test_a_connection_can_be_used_again(path: Path) -> None:
    """Also when both requests come at once."""

    async def scenario(_: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(GET.replace(b"Connection: close\r\n", b"") + GET)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
        assert answer.count(b"HTTP/1.1 200") == 2
        writer.close()

    served(path, scenario)


def test_a_client_that_hangs_blocks_nobody(path: Path) -> None:
    """Neither one that says nothing nor one that stops in the middle."""

    async def scenario(_: Control) -> None:
        silent = [await asyncio.open_unix_connection(path) for _ in range(20)]
        for _, writer in silent[::2]:
            writer.write(b"GET /v1/st")
        assert (await ask(path, GET))[0] == 200
        for _, writer in silent:
            writer.close()
        await asyncio.sleep(0.05)

    served(path, scenario)


def test_a_client_that_hangs_is_sent_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while its connection is closed."""
    monkeypatch.setattr(control, "_PATIENCE_S", 0.05)

    async def scenario(_: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /v1/st")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()

    served(path, scenario)


def test_a_client_that_leaves_early_does_no_harm(path: Path) -> None:
    """Before, within and after its request."""

    async def scenario(_: Control) -> None:
        for sent in (b"", b"GET /v1/st", GET):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            writer.close()
            await writer.wait_closed()
        assert (await ask(path, GET))[0] == 200

    served(path, scenario)


def test_a_stop_does_not_wait_for_a_client_that_hangs(path: Path) -> None:
    """The daemon ends and its socket is gone."""

    async def scenario(server: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /v1/st")
        await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE_S):
            await server.stop()
            assert await reader.read() == b""
        writer.close()

    served(path, scenario)
    assert not path.exists()


def test_a_stop_with_a_client_that_hangs_is_silent(path: Path) -> None:
    """Nothing of it stands in the log: that the daemon stops is no error of anyone."""
    with socket.socket(socket.AF_UNIX) as client:

        async def scenario(_: Control) -> None:
            client.connect(str(path))
            client.send(b"GET /v1/st")
            await asyncio.sleep(0.02)

        served(path, scenario)


def test_only_owner_and_group_may_ask(path: Path) -> None:
    """The socket has mode 0660; the daemon's own umask is as before."""

    async def scenario(_: Control) -> None:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o660
        probe = path.parent / "probe"
        probe.touch()
        assert stat.S_IMODE(probe.stat().st_mode) & 0o600 == 0o600
        probe.chmod(0o644)

    served(path, scenario)


def test_a_socket_that_a_crash_left_is_replaced(path: Path) -> None:
    """Nobody listens on it."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    Control(path, {}).check()

    async def scenario(_: Control) -> None:
        assert (await ask(path, GET))[0] == 200

    served(path, scenario)


def test_a_socket_in_use_is_refused(path: Path) -> None:
    """By name; the one that uses it is not disturbed."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(SocketInUseError) as caught:
            Control(path, {}).check()
        assert str(caught.value) == f"{path} is in use by another carpd"
        assert path.exists()


def test_a_socket_that_does_not_exist_is_not_in_use(path: Path) -> None:
    """Nor one whose folder does not exist; checking makes nothing."""
    Control(path, {}).check()
    assert not path.parent.exists()


def test_stopping_what_never_started_removes_nothing(path: Path) -> None:
    """The socket may be another daemon's."""
    path.parent.mkdir()
    path.write_text("")
    asyncio.run(Control(path, {}).stop())
    assert path.exists()
