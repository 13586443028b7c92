"""The control socket, spoken to as curl or a careless script does."""

import asyncio
import socket
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import pytest
from daemon_kit import PATIENCE_S, play, read_reply, request, send

from carp.daemon import control, conversation
from carp.daemon.control import Control, SocketInUseError
from carp.daemon.routes import Answer, Request, RequestError, Route, Stream

DOCUMENT = {"version": 1, "interfaces": [{"name": "carp0"}]}
GET = request("GET", "/v1/status")
KEPT = GET.replace(b"Connection: close\r\n", b"")


async def status(_: Request) -> Answer:
    """Answer a document."""
    return DOCUMENT


async def echo(asked: Request) -> Answer:
    """Answer what was asked."""
    return {"name": asked.name, "body": asked.body}


async def refuse(_: Request) -> Answer:
    """Refuse."""
    raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, ["one thing", "another thing"])


async def fail(_: Request) -> Answer:
    """Fail as a fault in the program does."""
    raise ZeroDivisionError


async def long(_: Request) -> Answer:
    """Answer a list piece by piece."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"[1"
        for _ in range(1000):
            yield b", 2"
        yield b"]"

    return Stream(pieces())


async def broken(_: Request) -> Answer:
    """Answer half of something."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"[1"
        raise ZeroDivisionError

    return Stream(pieces())


ROUTES = (
    Route("GET", "/v1/status", status),
    Route("GET", "/v1/long", long),
    Route("GET", "/v1/broken", broken),
    Route("GET", "/v1/things/NAME", echo),
    Route("PATCH", "/v1/things/NAME", echo),
    Route("POST", "/v1/refuse", refuse),
    Route("POST", "/v1/fail", fail),
)


def served(path: Path, scenario: Callable[[Control], Awaitable[None]]) -> None:
    """Play a scenario while a server runs."""

    async def serve() -> None:
        server = Control(path, ROUTES)
        await server.start()
        try:
            await scenario(server)
        finally:
            await server.stop()

    play(serve)


def test_the_document_is_answered_as_json(path: Path) -> None:
    """With a type and a length, for any client of HTTP; what stands behind a question mark is ignored."""

    async def scenario(_: Control) -> None:
        for asked in (GET, GET.replace(b"/v1/status", b"/v1/status?pretty=1")):
            reply = await send(path, asked)
            assert (reply.status, reply.document) == (200, DOCUMENT)
            assert reply.headers["content-type"] == "application/json"

    served(path, scenario)


def test_a_name_stands_in_the_path(path: Path) -> None:
    """Written as a URL does."""

    async def scenario(_: Control) -> None:
        assert (await send(path, request("GET", "/v1/things/carp0"))).document["name"] == "carp0"
        assert (await send(path, request("GET", "/v1/things/a%2Fb%20c"))).document["name"] == "a/b c"

    served(path, scenario)


@pytest.mark.parametrize("target", ["/nonsense", "/", "/v1/things", "/v1/things/", "/v1/things/a/b", "/v1/status/"])
def test_an_unknown_path_is_answered_with_those_that_are_known(path: Path, target: str) -> None:
    """So that nobody has to look them up."""
    known = "/v1/broken, /v1/fail, /v1/long, /v1/refuse, /v1/status, /v1/things/NAME"

    async def scenario(_: Control) -> None:
        reply = await send(path, request("GET", target))
        sentence = f"{target} is not known; there is {known}"
        assert (reply.status, reply.document) == (404, {"error": sentence, "problems": [sentence]})

    served(path, scenario)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_what_can_only_be_read_cannot_be_written(path: Path, method: str) -> None:
    """With or without a body; the answer names what the path does know."""

    async def scenario(_: Control) -> None:
        for body in (None, b"body"):
            reply = await send(path, request(method, "/v1/status", body))
            assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
            assert reply.document["error"] == f"/v1/status does not know {method}; it knows GET, HEAD"

    served(path, scenario)


def test_a_head_request_is_answered(path: Path) -> None:
    """`curl -I` gets a status without a body, of a stream and of a refusal too, and not an empty reply."""

    async def scenario(_: Control) -> None:
        assert (await send(path, request("HEAD", "/v1/status"))).status == 200
        assert (await send(path, request("HEAD", "/v1/long"))).status == 200
        assert (await send(path, request("HEAD", "/v1/refuse"))).status == 405

    served(path, scenario)


def test_a_body_is_an_object(path: Path) -> None:
    """It reaches whoever changes something; no body is an empty object."""

    async def scenario(_: Control) -> None:
        for sent, body in (({"a": [1, "é", None]}, {"a": [1, "é", None]}), (None, {}), (b" \n", {})):
            reply = await send(path, request("PATCH", "/v1/things/x", sent))
            assert (reply.status, reply.document["body"]) == (200, body)

    served(path, scenario)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the body is not JSON: "),
        (b"[]", "the body must be a JSON object"),
        (b'"text"', "the body must be a JSON object"),
        (b'{"a": NaN}', "the body is not JSON: NaN is no number"),
        (b'{"a": 1, "b": 2, "a": 3}', "the body is not JSON: a stands twice"),
        (b'{"a": "\\ud800"}', "the body is not JSON: "),
        (b"\xff\xfe", "the body is not JSON: "),
        (b"[" * 100_000, "the body is not JSON: nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the body is not JSON: "),
    ],
    ids=["cut", "list", "string", "nan", "twice", "surrogate", "not utf-8", "deep", "long number"],
)
def test_any_other_body_is_refused(path: Path, body: bytes, sentence: str) -> None:
    """With status 400 and a sentence."""

    async def scenario(_: Control) -> None:
        reply = await send(path, request("PATCH", "/v1/things/x", body))
        assert reply.status == 400
        assert reply.document["error"].startswith(sentence)

    served(path, scenario)


def test_a_body_that_is_too_long_is_refused(path: Path) -> None:
    """256 KiB are not too long; the refusal comes after the body, so that the client reads it."""
    most = 256 * 1024

    async def scenario(_: Control) -> None:
        just = b'{"a": "' + b"x" * (most - 9) + b'"}'
        assert len(just) == most
        assert (await send(path, request("PATCH", "/v1/things/x", just))).status == 200
        reply = await send(path, request("PATCH", "/v1/things/x", just + b" "))
        assert (reply.status, reply.document["error"]) == (413, f"the body is longer than {most} bytes")
        assert (await send(path, request("PATCH", "/v1/things/x", just * 10))).status == 413

    served(path, scenario)


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(path: Path) -> None:
    """As curl does with a long body."""
    expecting = request("PATCH", "/v1/things/x", {"a": 1}).replace(b"Host", b"Expect: 100-continue\r\nHost")
    head, _, body = expecting.partition(b"\r\n\r\n")

    async def scenario(_: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(head + b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(body)
            assert (await read_reply(reader)).document["body"] == {"a": 1}
        writer.close()

    served(path, scenario)


def test_changes_are_for_root(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else who may connect may ask, and is told so in a sentence when he tries more."""
    monkeypatch.setattr(control, "peer_uid", lambda _: 1000)

    async def scenario(_: Control) -> None:
        assert (await send(path, GET)).status == 200
        reply = await send(path, request("PATCH", "/v1/things/x", {}))
        sentence = "PATCH /v1/things/NAME changes something: that is for root only, not for uid 1000"
        assert (reply.status, reply.document) == (403, {"error": sentence, "problems": [sentence]})
        assert (await send(path, request("PATCH", "/v1/things/x", b"no JSON"))).status == 403

    served(path, scenario)


def test_the_kernel_says_who_asks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the uid of this process."""
    asked: list[int] = []
    monkeypatch.setattr(control, "peer_uid", lambda writer, real=control.peer_uid: asked.append(real(writer)) or asked[-1])

    async def scenario(_: Control) -> None:
        await send(path, GET)

    served(path, scenario)
    assert asked == [Path("/proc/self").stat().st_uid]


def test_a_refusal_names_every_problem(path: Path) -> None:
    """As one text and as a list."""

    async def scenario(_: Control) -> None:
        reply = await send(path, request("POST", "/v1/refuse"))
        problems = ["one thing", "another thing"]
        assert (reply.status, reply.document) == (422, {"error": "one thing; another thing", "problems": problems})

    served(path, scenario)


def test_a_fault_is_answered_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client learns where to look, and nothing of the insides."""

    async def scenario(_: Control) -> None:
        reply = await send(path, request("POST", "/v1/fail"))
        assert (reply.status, reply.document["error"]) == (500, "carpd has a fault; its log has the details")
        assert (await send(path, GET)).status == 200

    served(path, scenario)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_long_answer_comes_in_pieces(path: Path, version: str) -> None:
    """In chunks, or until the end of the connection for a client that knows no chunks."""

    async def scenario(_: Control) -> None:
        reply = await send(path, request("GET", "/v1/long", version=version))
        assert (reply.status, "content-length" in reply.headers) == (200, False)
        assert reply.document == [1] + [2] * 1000

    served(path, scenario)


def test_an_answer_that_breaks_off_has_no_end(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """So that nobody takes a half for the whole."""

    async def scenario(_: Control) -> None:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await send(path, request("GET", "/v1/broken"))
        assert (await send(path, GET)).status == 200

    served(path, scenario)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET /v1/status HTTP/1.1\r\n\r\n", b"x" * 200_000],
    ids=["text", "tls", "no host", "endless"],
)
def test_garbage_is_refused_and_the_next_client_served(path: Path, garbage: bytes) -> None:
    """With a status of 400 or more and an error."""

    async def scenario(_: Control) -> None:
        reply = await send(path, garbage)
        assert 400 <= reply.status < 500
        assert reply.document["error"]
        assert (await send(path, GET)).status == 200

    served(path, scenario)


def test_a_connection_can_be_used_again(path: Path) -> None:
    """Also when all requests come at once, after a refusal and after an answer in pieces."""
    refused = request("PATCH", "/v1/things/x", b"no JSON").replace(b"Connection: close\r\n", b"")

    async def scenario(_: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(KEPT + refused + KEPT.replace(b"status", b"long") + GET)
        async with asyncio.timeout(PATIENCE_S):
            assert [(await read_reply(reader)).status for _ in range(4)] == [200, 400, 200, 200]
            assert await reader.read() == b""
        writer.close()

    served(path, scenario)


def test_a_client_that_hangs_blocks_nobody(path: Path) -> None:
    """Neither one that says nothing nor one that stops in the middle."""

    async def scenario(_: Control) -> None:
        silent = [await asyncio.open_unix_connection(path) for _ in range(20)]
        for _, writer in silent[::2]:
            writer.write(b"GET /v1/st")
        assert (await send(path, GET)).status == 200
        for _, writer in silent:
            writer.close()
        await asyncio.sleep(0.05)

    served(path, scenario)


@pytest.mark.parametrize("said", [b"", b"GET /v1/st", request("PATCH", "/v1/things/x", b"12345")[:-1]])
def test_a_client_that_hangs_is_sent_away(path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """After a while its connection is closed, wherever it stopped."""
    monkeypatch.setattr(conversation, "_PATIENCE_S", 0.05)

    async def scenario(_: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(said)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        writer.close()

    served(path, scenario)


def test_a_client_that_does_not_read_is_sent_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be sent is thrown away with its connection."""
    monkeypatch.setattr(conversation, "_PATIENCE_S", 0.05)

    async def scenario(server: Control) -> None:
        reader, writer = await asyncio.open_unix_connection(path, limit=1)
        writer.write(KEPT.replace(b"status", b"long") * 2000)
        async with asyncio.timeout(PATIENCE_S):
            while not server._conversations:
                await asyncio.sleep(0)
            await asyncio.wait(server._conversations)
        writer.close()
        del reader

    served(path, scenario)


def test_a_client_that_leaves_early_does_no_harm(path: Path) -> None:
    """Before, within and after its request."""

    async def scenario(_: Control) -> None:
        for sent in (b"", b"GET /v1/st", GET, GET.replace(b"status", b"long")):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            writer.close()
            await writer.wait_closed()
        assert (await send(path, GET)).status == 200

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
    Control(path).check()

    async def scenario(_: Control) -> None:
        assert (await send(path, GET)).status == 200

    served(path, scenario)


def test_a_socket_in_use_is_refused(path: Path) -> None:
    """By name; the one that uses it is not disturbed."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(SocketInUseError) as caught:
            Control(path).check()
        assert str(caught.value) == f"{path} is in use by another carpd"
        assert path.exists()


def test_a_socket_that_does_not_exist_is_not_in_use(path: Path) -> None:
    """Nor one whose folder does not exist; checking makes nothing."""
    Control(path).check()
    assert not path.parent.exists()


def test_stopping_what_never_started_removes_nothing(path: Path) -> None:
    """The socket may be another daemon's."""
    path.parent.mkdir()
    path.write_text("")
    asyncio.run(Control(path).stop())
    assert path.exists()
