"""conntrackd's control socket, played by a server that answers, or does not, in every way that was seen."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from carp.linux import conntrackd
from carp.linux.conntrackd import (
    ConntrackdError,
    ConntrackdLateError,
    Request,
    Statistics,
    ask,
    events_received,
    kernel_states,
    parse_statistics,
    statistics,
)

PATIENCE_S = 5.0
SHORT_S = 0.05

STATISTICS = """\
cache internal:
current active connections:\t         103
connections created:\t\t         205\tfailed:\t           0
connections updated:\t\t         307\tfailed:\t           0
connections destroyed:\t\t         102\tfailed:\t           0

cache external:
current active connections:\t          11
connections created:\t\t          25\tfailed:\t           3
connections updated:\t\t         400\tfailed:\t           0
connections destroyed:\t\t          14\tfailed:\t           0

traffic processed:
                   0 Bytes                         0 Pckts

UDP traffic (active device=sync0):
               52416 Bytes sent                 9128 Bytes recv
                 613 Pckts sent                  517 Pckts recv
                   1 Error send                    0 Error recv

message tracking:
                   2 Malformed msgs                    7 Lost msgs

"""

ONLY_COUNTS = """\
cache stats:
current active connections:\t         103
connections created:\t\t         205\tfailed:\t           0
connections updated:\t\t         307\tfailed:\t           0
connections destroyed:\t\t         102\tfailed:\t           0

traffic processed:
                   0 Bytes                         0 Pckts

"""

RUNTIME = """\
daemon uptime: 3 min

netlink stats:
\tevents received:\t                 1717
\tevents filtered:\t                    5
\tevents unknown type:\t\t           0
\tnetlink overrun:\t\t           2
\tflush kernel table:\t\t           0
\tcurrent buffer size (in bytes):\t      212992

runtime stats:
\tchild process failed:\t\t           0
\tlocal unknown request:\t\t           0

"""

_Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Name the socket."""
    return str(tmp_path / "conntrackd.ctl")


def text(*pieces: str) -> _Answer:
    """Answer with this text, piece by piece."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        for piece in pieces:
            writer.write(piece.encode())
            await writer.drain()
            await asyncio.sleep(0)

    return answer


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and stay silent, as one that is stopped does."""
    await reader.read()


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Leave at once, with the request unread."""
    writer.transport.abort()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write without an end."""
    while not writer.is_closing():
        writer.write(bytes(100_000))
        await writer.drain()


async def served(path: str, answer: _Answer, question: Callable[[], Awaitable[object]]) -> object:
    """Ask a question while a server answers."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_unix_server(talk, path):
        return await question()


def asked(path: str, answer: _Answer, request: Request = Request.COMMIT, timeout_s: float = PATIENCE_S) -> object:
    """Make one request of a server that answers like this."""
    return asyncio.run(served(path, answer, lambda: ask(path, request, timeout_s)))


def problem(path: str, timeout_s: float = SHORT_S) -> str:
    """Tell why a request at a path that nobody serves fails."""
    with pytest.raises(ConntrackdError) as caught:
        asyncio.run(ask(path, Request.COMMIT, timeout_s))
    return str(caught.value)


@contextmanager
def listening(path: str, kind: int = socket.SOCK_STREAM, backlog: int = 100) -> Iterator[None]:
    """Hold a socket there that nobody reads."""
    with closing(socket.socket(socket.AF_UNIX, kind)) as listener:
        listener.bind(path)
        if kind == socket.SOCK_STREAM:
            listener.listen(backlog)
        yield


def test_the_answer_comes_with_who_gave_it(path: str) -> None:
    """Whole, from however many pieces."""
    assert asked(path, text("states ", "and more ", "x" * 60_000)) == ("states and more " + "x" * 60_000, os.getpid())


@pytest.mark.parametrize("request_", Request, ids=lambda one: one.name)
def test_a_request_is_one_integer(path: str, request_: Request) -> None:
    """Of four bytes as this host writes them, and nothing before or after it."""
    heard: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readexactly(4))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.01)

    assert asked(path, note, request_) == ("", os.getpid())
    assert heard == [struct.pack("=i", request_)]


def test_the_requests_are_those_of_its_own_client() -> None:
    """As conntrackd 1.4.7 writes them."""
    assert {request.name: int(request) for request in Request} == {
        "STATISTICS": 21,
        "BULK_UPDATE": 22,
        "ASK_PEER": 23,
        "RUNTIME": 30,
        "PURGE": 43,
        "RESYNC": 44,
        "FLUSH": 45,
        "COMMIT": 46,
    }


def test_one_that_hangs_has_a_deadline(path: str) -> None:
    """Also one that accepts no connection any more, as a stopped one."""
    with pytest.raises(ConntrackdError) as caught:
        asked(path, nothing, timeout_s=SHORT_S)
    assert str(caught.value) == "does not answer within 0.05 s"


def test_one_that_is_stopped_has_a_deadline(path: str) -> None:
    """Its kernel still takes connections."""
    with listening(path):
        assert problem(path) == "does not answer within 0.05 s"


def test_a_full_queue_is_no_answer(path: str) -> None:
    """One that is stopped long enough takes no connection any more: that is told at once, and it may go on."""
    with listening(path, backlog=0), closing(socket.socket(socket.AF_UNIX)) as other:
        other.connect(path)
        with pytest.raises(ConntrackdLateError) as caught:
            asyncio.run(ask(path, Request.COMMIT, PATIENCE_S))
        assert str(caught.value) == "does not take connections any more"


def test_a_slow_answer_has_a_deadline(path: str) -> None:
    """For the whole of it, not for each piece."""

    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(SHORT_S / 5)

    with pytest.raises(ConntrackdError, match="does not answer within"):
        asked(path, dribble, timeout_s=SHORT_S)


def test_an_answer_without_an_end(path: str) -> None:
    """Is given up: it comes from something else."""
    with pytest.raises(ConntrackdError) as caught:
        asked(path, endless)
    assert str(caught.value) == "answers without an end"


def test_a_process_without_a_descriptor_left(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cannot ask: that is told as any other reason."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def ask_without() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", refuse)
            await ask(path, Request.COMMIT, PATIENCE_S)

    with pytest.raises(ConntrackdError) as caught:
        asyncio.run(ask_without())
    assert str(caught.value) == f"cannot be asked at {path}: Too many open files"


def test_one_that_ended(path: str) -> None:
    """It left its socket behind."""
    with listening(path):
        pass
    assert problem(path) == f"cannot be asked at {path}: Connection refused"


def test_one_that_is_not_there(path: str) -> None:
    """The place is named."""
    assert problem(path) == f"cannot be asked at {path}: No such file or directory"


def test_a_socket_of_another_kind(path: str) -> None:
    """The place and the fault are named."""
    with listening(path, socket.SOCK_DGRAM):
        assert problem(path) == f"cannot be asked at {path}: Protocol wrong type for socket"


def test_a_path_that_no_socket_has(tmp_path: Path) -> None:
    """It is too long for the kernel."""
    path = str(tmp_path / ("x" * 200))
    assert problem(path) == f"cannot be asked at {path}: AF_UNIX path too long"


def test_one_that_leaves(path: str) -> None:
    """Without having read the request."""
    with pytest.raises(ConntrackdError, match=f"cannot be asked at {path}: "):
        asked(path, leave)


def test_no_connection_is_kept(path: str) -> None:
    """A client that stays blocks conntrackd for everybody: also one that waits no longer leaves."""
    gone: list[bool] = []

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        gone.append(await asyncio.wait_for(reader.read(1), PATIENCE_S) == b"")
        left.set()

    async def question() -> None:
        with pytest.raises(ConntrackdError):
            await ask(path, Request.COMMIT, SHORT_S)
        await asyncio.wait_for(left.wait(), PATIENCE_S)

    left = asyncio.Event()
    asyncio.run(served(path, watch, question))
    assert gone == [True]


def test_the_statistics(path: str) -> None:
    """Each number is that of its line and of its cache; changes are what was created and updated."""
    found = asyncio.run(served(path, text(STATISTICS), lambda: statistics(path, PATIENCE_S)))
    assert found == Statistics(
        os.getpid(), internal=103, external=11, changes=425, received=517, lost=7, sent_bytes=52416, received_bytes=9128
    )


@pytest.mark.parametrize(
    "answer",
    [
        ONLY_COUNTS,
        "",
        STATISTICS.partition("cache external:")[0],
        STATISTICS.partition("UDP traffic")[0],
        STATISTICS.partition("message tracking")[0],
        STATISTICS.replace("cache internal", "cache stats").replace("current active connections", "others", 1),
    ],
    ids=["only counts", "nothing", "no external cache", "no traffic", "no tracking", "no internal cache"],
)
def test_one_that_does_not_synchronise(path: str, answer: str) -> None:
    """It would say yes to everything and do nothing: what is wrong with it is told."""
    with pytest.raises(ConntrackdError) as caught:
        asyncio.run(served(path, text(answer), lambda: statistics(path, PATIENCE_S)))
    assert str(caught.value) == "does not synchronise: its configuration has no section Sync with an external cache"


@pytest.mark.parametrize("field", ["517", "7 Lost", "11", "103", "25", "400"])
def test_numbers_that_nobody_counts_to(field: str) -> None:
    """Something else answers; it is read in no time all the same."""
    number, _, name = field.partition(" ")
    long = STATISTICS.replace(f" {number}{name and ' ' + name}", f" {'9' * 60_000}{name and ' ' + name}", 1)
    assert len(long) > 60_000
    with suppress(ConntrackdError):
        parse_statistics(long, 1)


@pytest.mark.parametrize(
    ("later", "same"),
    [
        ({}, True),
        ({"internal": 0, "external": 0, "lost": 0}, True),
        ({"received": 518, "changes": 426}, True),
        ({"pid": 2}, False),
        ({"received": 516}, False),
        ({"changes": 424}, False),
    ],
)
def test_who_gave_the_statistics(later: dict[str, int], same: bool) -> None:
    """One that began anew has another id, or has counted less."""
    former = Statistics(1, internal=103, external=11, changes=425, received=517, lost=7)
    assert replace(former, **later).follows(former) is same


def test_events_of_the_kernel(path: str) -> None:
    """Those that were read, whether they were filtered or not."""
    assert asyncio.run(served(path, text(RUNTIME), lambda: events_received(path, PATIENCE_S))) == 1717


@pytest.mark.parametrize(("content", "states"), [("4711\n", 4711), ("", None), (None, None)])
def test_states_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, states: int | None) -> None:
    """None where it tracks no connections."""
    count = tmp_path / "nf_conntrack_count"
    if content is not None:
        count.write_text(content)
    monkeypatch.setattr(conntrackd, "_COUNT", count)
    assert kernel_states() == states


@pytest.mark.parametrize(
    ("before", "after", "is_echo"),
    [
        ((100, 100), (2100, 2100), True),
        ((100, 100), (2099, 2099), False),
        ((100, 100), (2100, 2101), False),
        ((99, 100), (2100, 2100), False),
        ((0, 0), (0, 0), False),
    ],
)
def test_one_that_sends_to_itself(before: tuple[int, int], after: tuple[int, int], is_echo: bool) -> None:
    """Receives what it has sent, to the byte; a few equal keep-alives are nothing."""
    former, found = (Statistics(1, 0, 0, 0, 0, 0, *traffic) for traffic in (before, after))
    assert found.is_echo(former) is is_echo
    assert not found.is_echo(None)
