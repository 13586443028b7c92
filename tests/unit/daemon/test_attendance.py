"""Keeping the attendant: real processes, most of them small programs in its place."""

import asyncio
import errno
import json
import logging
import os
import pwd
import socket
import stat
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import PATIENCE_S, play

from carp.attendant.orders import (
    MAX_MESSAGE_BYTES,
    Check,
    Checked,
    CheckKind,
    Forget,
    Hook,
    HookEnded,
    HookKind,
    Message,
    Watch,
    decode,
    encode,
)
from carp.daemon import attendance
from carp.daemon.attendance import PLACE, Attendance
from carp.daemon.chronicle import logger

HEAD = """#!{python} -ES
import json, os, signal, socket, sys, time
FOLDER = {folder!r}
words = dict(zip(sys.argv[3::2], sys.argv[4::2]))
channel = socket.socket(fileno=int(words["--socket"]))


def note(what):
    with open(FOLDER + "/log", "a") as log:
        log.write(json.dumps(what) + "\\n")


def wait_for(name):
    while not os.path.exists(FOLDER + "/" + name):
        time.sleep(0.005)


def note_all():
    while raw := channel.recv(1 << 17):
        message = json.loads(raw)
        note(message.get("serial", message.get("name", message.get("check", dict()).get("name"))))


"""
NOTE_ALL = "note(os.getpid())\nnote_all()\n"
END_AT_ONCE = "note(os.getpid())\n"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote(os.getpid())\nwhile True: time.sleep(60)\n"


class House:
    """An attendance, and what it says; `watched` is what its attendant is to be told first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watched: list[Message] = []
        self.received: list[Message] = []
        self.began = 0
        self.lost = 0
        self.attendance = Attendance("carp", self.received.append, self._begin, self._lose)

    def _begin(self) -> list[Message]:
        self.began += 1
        return self.watched

    def _lose(self) -> None:
        assert not self.attendance.runs
        self.lost += 1

    def noted(self) -> list[Any]:
        """Return what the program wrote down, line by line."""
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    async def until_noted(self, count: int) -> list[Any]:
        """Wait until the program has written so many lines."""
        await eventually(lambda: len(self.noted()) >= count)
        return self.noted()

    def let(self, name: str) -> None:
        """Let the program go on that waits for this name."""
        (self.folder / name).touch()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE_S * 3):
        while not condition():
            await asyncio.sleep(0.005)


def is_there(pid: int) -> bool:
    """Tell whether a process is there, be it a dead one that nobody has buried."""
    return Path(f"/proc/{pid}").exists()


def hook(serial: int, **context: str) -> Hook:
    """Order a hook."""
    return Hook("carp0", serial, HookKind.CHANGE, ("/x",), 1, context=context)


def watch(name: str) -> Watch:
    """Order a check."""
    return Watch(Check(name, CheckKind.FILE, "/"))


def be(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a small program be what is started from now on."""
    file = folder / "program"
    file.write_text(HEAD.format(python=os.path.realpath(sys.executable), folder=str(folder)) + program)
    file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(file))
    monkeypatch.delenv(PLACE, raising=False)
    return file


@pytest.fixture
def housed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Play a scenario with a program in the attendant's place, and end it."""

    def _housed(program: str, scenario: Callable[[House], Awaitable[None]]) -> None:
        be(program, tmp_path, monkeypatch)

        async def begin() -> None:
            before = set(children())
            house = House(tmp_path)
            try:
                await scenario(house)
            finally:
                await house.attendance.stop()
            await eventually(lambda: set(children()) <= before)

        play(begin)

    return _housed


def children() -> list[str]:
    """List the processes, dead ones too, that this thread has started."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def descriptors() -> int:
    """Count what is open here."""
    return len(list(Path("/proc/self/fd").iterdir()))


def spy_on_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pauses be short, and return how long they would be."""
    loop = asyncio.get_running_loop()
    pauses: list[float] = []
    call_later = loop.call_later

    def spied(delay: float, call: Callable[..., object], *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        if call.__qualname__.startswith("Attendance."):
            pauses.append(delay)
            delay = 0.001
        return call_later(delay, call, *arguments, **more)

    monkeypatch.setattr(loop, "call_later", spied)
    return pauses


def test_it_is_told_what_it_has_to_know(housed: Callable[..., None]) -> None:
    """First of all, in order; what is said later comes after it."""

    async def scenario(house: House) -> None:
        house.watched = [watch("a"), watch("b")]
        assert not house.attendance.runs
        house.attendance.start()
        assert house.attendance.runs
        assert house.attendance.send(Forget("c"))
        assert (await house.until_noted(4))[1:] == ["a", "b", "c"]

    housed(NOTE_ALL, scenario)


def test_it_is_started_as_it_expects(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words, nothing of the daemon's open but its sockets, not in the daemon's directory, none of its secrets."""
    program = """
sockets = {int(number): option for option, number in words.items() if option != "--user"}
opened = [int(one) for one in os.listdir("/proc/self/fd") if int(one) > 2 and os.path.exists("/proc/self/fd/" + one)]
note([sys.argv[1:3], words["--user"], os.getcwd(), sorted(set(os.environ) & {"NOTIFY_SOCKET", "WATCHDOG_PID", "KEPT"})])
note(sorted(sockets.values()))
note([sockets.get(one, one) for one in opened])
note([socket.socket(fileno=os.dup(one)).type for one in sockets])
note([os.readlink("/proc/self/fd/0"), os.readlink("/proc/self/fd/1")])
note_all()
"""

    async def scenario(house: House) -> None:
        for name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "KEPT"):
            monkeypatch.setenv(name, "1")
        house.attendance.start()
        called, options, opened, types, standard = await house.until_noted(5)
        assert called == [["-m", "carp.attendant"], "carp", "/", ["KEPT"]]
        assert options in (["--icmp", "--icmp6", "--socket"], ["--socket"])
        assert sorted(opened) == options
        assert types == [socket.SOCK_SEQPACKET] + [socket.SOCK_RAW] * (len(options) - 1)
        assert standard == ["/dev/null", "/dev/null"]

    housed(program, scenario)


def test_it_is_started_once(housed: Callable[..., None]) -> None:
    """However often that is asked for."""

    async def scenario(house: House) -> None:
        house.attendance.start()
        house.attendance.start()
        house.attendance.send(hook(1))
        await house.until_noted(2)
        assert house.began == 1

    housed(NOTE_ALL, scenario)


def test_what_it_says_is_heard(housed: Callable[..., None]) -> None:
    """All of it, in its order, however much that is at once."""
    said: list[Message] = [Checked(f"c{number}", number % 2 == 0, "why") for number in range(200)]
    said.append(HookEnded("carp0", 3, HookKind.PRE_MASTER, "exit status 1"))
    program = f"for raw in {[encode(one) for one in said]!r}: channel.send(raw)\nnote_all()\n"

    async def scenario(house: House) -> None:
        house.attendance.start()
        await eventually(lambda: len(house.received) == len(said))
        assert (house.received, house.lost) == (said, 0)

    housed(program, scenario)


def test_it_is_started_again_when_it_ends(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause that grows up to a minute, each time told what it has to know; who waits for it is told that it is lost."""

    async def scenario(house: House) -> None:
        pauses = spy_on_pauses(monkeypatch)
        house.watched = [watch("a")]
        house.attendance.start()
        await eventually(lambda: len(pauses) >= 9)
        assert pauses[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert house.lost == len(pauses)
        assert house.began in (house.lost, house.lost + 1)
        noted = await house.until_noted(18)
        assert noted[1:18:2] == ["a"] * 9

    housed("note(os.getpid())\nnote(json.loads(channel.recv(1 << 17))['check']['name'])\n", scenario)


def test_the_pauses_begin_anew(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """After one that lived long."""
    monkeypatch.setattr(attendance, "_LASTING_S", -1)

    async def scenario(house: House) -> None:
        pauses = spy_on_pauses(monkeypatch)
        house.attendance.start()
        await eventually(lambda: len(pauses) >= 3)
        assert pauses[:3] == [1, 1, 1]

    housed(END_AT_ONCE, scenario)


def test_nobody_hears_in_a_pause(housed: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """Whoever says something is told so; the log tells when it is over. The dead one is buried."""

    async def scenario(house: House) -> None:
        assert not house.attendance.send(hook(1))
        house.attendance.start()
        await eventually(lambda: house.lost)
        assert (house.attendance.runs, house.attendance.send(hook(1))) == (False, False)
        house.attendance.start()
        assert house.began == 1
        assert caplog.messages == ["the attendant ended: no hooks and checks until it is started again, in 1 s"]
        (pid,) = house.noted()
        await eventually(lambda: not is_there(pid))

    housed(END_AT_ONCE, scenario)


def test_what_was_said_to_a_dead_one_is_not_said_again(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of long ago would do harm."""
    monkeypatch.setattr(attendance, "_FIRST_PAUSE_S", 0.05)
    program = """
note(os.getpid())
if not os.path.exists(FOLDER + "/go"):
    wait_for("go")
    sys.exit()
note_all()
"""

    async def scenario(house: House) -> None:
        house.watched = [watch("a")]
        house.attendance.start()
        await house.until_noted(1)
        assert all(house.attendance.send(hook(number, text="x" * 10000)) for number in range(100))
        house.let("go")
        await eventually(lambda: house.began == 2)
        assert house.attendance.send(hook(1000))
        assert (await house.until_noted(4))[2:] == ["a", 1000]

    housed(program, scenario)


def test_a_full_socket_neither_blocks_nor_loses(housed: Callable[..., None]) -> None:
    """What does not fit is sent when there is room, in order; and so is what comes after."""

    async def scenario(house: House) -> None:
        house.watched = [watch("a")]
        house.attendance.start()
        for number in range(3000):
            assert house.attendance.send(hook(number, text="x" * 500))
        house.let("go")
        assert (await house.until_noted(3001))[:3001] == ["a", *range(3000)]
        assert house.attendance.send(hook(3000))
        assert (await house.until_noted(3002))[-1] == 3000

    housed("wait_for('go')\nnote_all()\n", scenario)


def test_one_that_never_listens_is_not_told_for_ever(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many hooks are refused, which is said; what is to be watched is not. Nothing of what was taken is lost."""
    monkeypatch.setattr(attendance, "_MOST_WAITING", 50)

    async def scenario(house: House) -> None:
        house.attendance.start()
        taken = 0
        while house.attendance.send(hook(taken, text="x" * 10000)):
            taken += 1
            assert taken < 1000
        assert house.attendance.runs
        for name in ("a", "b"):
            assert house.attendance.send(watch(name))
        house.let("go")
        assert await house.until_noted(taken + 2) == [*range(taken), "a", "b"]
        assert house.attendance.send(hook(0))
        await house.until_noted(taken + 3)
        assert house.lost == 0

    housed("wait_for('go')\nnote_all()\n", scenario)


def test_many_checks_are_told_at_the_start(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, all of them."""
    monkeypatch.setattr(attendance, "_MOST_WAITING", 50)

    async def scenario(house: House) -> None:
        names = [f"c{number}" for number in range(3000)]
        house.watched = [watch(name) for name in names]
        house.attendance.start()
        house.let("go")
        assert await house.until_noted(3000) == names

    housed("wait_for('go')\nnote_all()\n", scenario)


def test_what_is_too_long_is_not_told(housed: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """It would be cut off; the attendant lives on."""

    async def scenario(house: House) -> None:
        house.attendance.start()
        for length in (MAX_MESSAGE_BYTES, 10 * MAX_MESSAGE_BYTES):
            assert not house.attendance.send(hook(1, text="x" * length))
        fits = MAX_MESSAGE_BYTES - len(encode(hook(2, text="")))
        assert house.attendance.send(hook(2, text="x" * fits))
        assert house.attendance.send(hook(3))
        assert (await house.until_noted(3))[1:] == [2, 3]
        assert (house.lost, len(caplog.messages)) == (0, 2)

    housed(NOTE_ALL, scenario)


NONSENSE = [
    b"hello",
    b"[]",
    b"{}",
    b"\xff",
    b"[" * 50000,
    b'{"message": "Sing"}',
    b'{"message": "Checked", "name": "c"}',
    b'{"message": "Checked", "name": ["c"], "holds": true, "detail": ""}',
    b'{"message": "Checked", "name": "c", "holds": "yes", "detail": ""}',
    b'{"message": "Checked", "name": "c", "holds": true, "detail": null}',
    b'{"message": "HookEnded", "queue": "carp0", "serial": 1, "kind": "sing", "problem": ""}',
    b'{"message": "HookEnded", "queue": {}, "serial": 1, "kind": "master", "problem": ""}',
    b'{"message": "HookEnded", "queue": "carp0", "serial": 1, "kind": "master", "problem": 3}',
    encode(watch("a")),
    encode(hook(1)),
    encode(Checked("c", holds=True, detail="x" * MAX_MESSAGE_BYTES)),
]


def test_nonsense_is_ignored(housed: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, each time in a line of its own; what makes sense after it is heard."""
    sense = Checked("c", holds=False, detail="why")
    program = f"for raw in {[*NONSENSE, encode(sense)]!r}: channel.send(raw)\nnote_all()\n"

    async def scenario(house: House) -> None:
        house.attendance.start()
        await eventually(lambda: house.received)
        assert (house.received, house.lost, house.began) == ([sense], 0, 1)
        assert [line.startswith("the attendant speaks nonsense: ") for line in caplog.messages] == [True] * len(NONSENSE)
        assert not [line for line in caplog.messages if "\n" in line or len(line) > 500]

    housed(program, scenario)


@pytest.mark.parametrize("program", [NOTE_ALL, DEAF], ids=["polite", "deaf"])
def test_it_ends_with_the_daemon(
    housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    """Its closed socket says so; one that does not heed that is killed. It is buried, nobody is told that it is lost."""
    monkeypatch.setattr(attendance, "_END_PATIENCE_S", 0.3 if program is DEAF else 60)

    async def scenario(house: House) -> None:
        house.attendance.start()
        (pid,) = await house.until_noted(1)
        assert str(pid) in children()
        async with asyncio.timeout(PATIENCE_S):
            await house.attendance.stop()
        assert not is_there(pid)
        assert (house.attendance.runs, house.lost, caplog.messages) == (False, 0, [])
        assert not house.attendance.send(hook(1))
        house.attendance.start()
        assert (house.attendance.runs, house.began) == (False, 1)
        await house.attendance.stop()

    housed(program, scenario)


def test_it_does_not_hold_up_the_daemon(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """While its end is waited for the others go on."""
    monkeypatch.setattr(attendance, "_END_PATIENCE_S", 0.3)

    async def scenario(house: House) -> None:
        house.attendance.start()
        await house.until_noted(1)
        turns = 0
        stopping = asyncio.create_task(house.attendance.stop())
        while not stopping.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 20

    housed(DEAF, scenario)


def test_it_is_not_started_again_after_the_end(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when a pause is over."""
    monkeypatch.setattr(attendance, "_FIRST_PAUSE_S", 0.05)

    async def scenario(house: House) -> None:
        house.attendance.start()
        await eventually(lambda: house.lost)
        await house.attendance.stop()
        await asyncio.sleep(0.15)
        assert house.began == 1

    housed(END_AT_ONCE, scenario)


def test_another_one_takes_its_place(housed: Callable[..., None]) -> None:
    """At once, as another user; the former one ends and is buried, and is not said to be lost."""

    async def scenario(house: House) -> None:
        house.attendance.start()
        ((first, user),) = await house.until_noted(1)
        house.attendance.user = "nobody"
        house.watched = [watch("a")]
        house.attendance.restart()
        assert (house.attendance.runs, house.began, house.lost) == (True, 2, 0)
        _, (second, other), name = await house.until_noted(3)
        assert (user, other, name) == ("carp", "nobody", "a")
        assert first != second
        await eventually(lambda: not is_there(first))

    housed("note([os.getpid(), words['--user']])\nnote_all()\n", scenario)


def test_another_one_in_a_pause(housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is started when the pause is over, as the new user."""
    monkeypatch.setattr(attendance, "_FIRST_PAUSE_S", 0.2)

    async def scenario(house: House) -> None:
        house.attendance.start()
        await eventually(lambda: house.lost)
        house.attendance.user = "nobody"
        house.attendance.restart()
        assert house.began == 1
        assert (await house.until_noted(2))[:2] == ["carp", "nobody"]

    housed("note(words['--user'])\n", scenario)


def test_one_that_cannot_be_started_is_tried_again(
    housed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a pause that grows; the log says why. Nothing is left open."""

    async def scenario(house: House) -> None:
        pauses = spy_on_pauses(monkeypatch)
        before = descriptors()
        program = Path(sys.executable)
        program.chmod(stat.S_IRUSR)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
        house.attendance.start()
        await eventually(lambda: len(pauses) >= 3)
        assert (pauses[:3], house.attendance.runs, house.began) == ([1, 2, 4], False, 0)
        assert caplog.messages[0].startswith("hooks and checks cannot run: [Errno 2] No such file or directory")
        assert descriptors() == before
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        await house.until_noted(1)
        assert house.attendance.runs

    housed(NOTE_ALL, scenario)


def test_a_daemon_without_descriptors_tries_again(
    housed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As soon as there are some."""

    async def scenario(house: House) -> None:
        pauses = spy_on_pauses(monkeypatch)

        def fail(*_: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patched:
            patched.setattr(socket, "socketpair", fail)
            house.attendance.start()
        assert (house.attendance.runs, pauses) == (False, [1])
        await house.until_noted(1)
        assert house.attendance.runs
        assert caplog.messages == ["hooks and checks cannot run: [Errno 24] Too many open files"]

    housed(NOTE_ALL, scenario)


def listen(place: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Be the service manager that has the attendant's socket."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.setblocking(False)
    server.bind(str(place))
    server.listen()
    monkeypatch.setenv(PLACE, str(place))
    return server


def test_one_that_the_service_manager_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is reached by its socket, told the same, and heard; nothing is started here."""
    sense = Checked("a", holds=False, detail="why")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = children()
        with listen(tmp_path / "socket", monkeypatch) as server:
            pauses = spy_on_pauses(monkeypatch)
            house = House(tmp_path)
            house.watched = [watch("a")]
            house.attendance.start()
            for lost in (0, 1):
                assert house.attendance.runs
                channel, _ = await loop.sock_accept(server)
                with channel:
                    channel.setblocking(False)
                    assert decode(await loop.sock_recv(channel, MAX_MESSAGE_BYTES)) == watch("a")
                    await loop.sock_sendall(channel, encode(sense))
                    await eventually(lambda lost=lost: len(house.received) == lost + 1)
                await eventually(lambda lost=lost: house.lost == lost + 1 and house.attendance.runs)
            assert (house.received, pauses, children()) == ([sense, sense], [1, 2], before)
            channel, _ = await loop.sock_accept(server)
            await house.attendance.stop()
            with channel:
                channel.setblocking(False)
                await loop.sock_recv(channel, MAX_MESSAGE_BYTES)
                assert await loop.sock_recv(channel, MAX_MESSAGE_BYTES) == b""

    play(scenario)


def test_a_service_manager_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Is asked again after a pause; nothing is left open."""
    monkeypatch.setenv(PLACE, str(tmp_path / "socket"))

    async def scenario() -> None:
        pauses = spy_on_pauses(monkeypatch)
        house = House(tmp_path)
        before = descriptors()
        house.attendance.start()
        await eventually(lambda: len(pauses) >= 3)
        assert (pauses[:3], house.attendance.runs, descriptors()) == ([1, 2, 4], False, before)
        assert caplog.messages[0] == "hooks and checks cannot run: [Errno 2] No such file or directory"
        with listen(tmp_path / "socket", monkeypatch):
            await eventually(lambda: house.attendance.runs)
            await house.attendance.stop()

    play(scenario)


def test_the_attendant_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the words that it is started with, does what it is told, and ends when it is to end."""
    monkeypatch.delenv(PLACE, raising=False)
    caplog.set_level(logging.INFO, logger.name)

    async def scenario() -> None:
        house = House(tmp_path)
        house.attendance.user = pwd.getpwuid(os.getuid()).pw_name
        house.watched = [watch("root")]
        house.attendance.start()
        process = house.attendance._process
        assert process is not None
        try:
            await eventually(lambda: house.received or house.lost)
            assert house.received == [Checked("root", holds=True, detail="")]
            order = Hook("carp0", 7, HookKind.CHANGE, ("/bin/false",), 10**10)
            assert house.attendance.send(order)
            await eventually(lambda: len(house.received) == 2 or house.lost)
            assert house.received[1:] == [HookEnded("carp0", 7, HookKind.CHANGE, "exit status 1")]
        finally:
            await house.attendance.stop()
        assert (process.returncode, house.lost, caplog.messages) == (0, 0, [])

    play(scenario)
