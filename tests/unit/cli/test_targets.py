"""`carp targets`, in a process of its own, with a systemctl and a carpd that are made here."""

import http.server
import json
import os
import queue
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from carp.cli import targets as module
from carp.cli.errors import CommandError
from carp.cli.targets import Roles, escape, targets
from carp.protocol.values import State

PATIENCE_S = 20
PROGRAM = "import sys, pathlib; from carp.cli.targets import targets; targets(pathlib.Path(sys.argv[1]))"
SYSTEMCTL = """#!/bin/sh
cd {directory}
echo "begin $*" >>calls
while [ -e slow ]; do sleep 0.01; done
echo "end $*" >>calls
if [ "$1" = list-units ]; then cat active 2>/dev/null; exit 0; fi
if [ -e refuse ]; then echo "Unit is masked," >&2; echo "so no." >&2; exit 1; fi
"""


class Systemctl:
    """The program `systemctl`: writes down how it was called, and can be slow or refuse."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        program = directory / "systemctl"
        program.write_text(SYSTEMCTL.format(directory=directory))
        program.chmod(0o755)

    def let(self, what: str, *, be: bool = True) -> None:
        """Be slow, or refuse; or no longer."""
        file = self.directory / what
        file.touch() if be else file.unlink()

    def lines(self) -> list[str]:
        """Return every beginning and end of a call, but those that only list."""
        calls = self.directory / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in lines if "list-units" not in line]

    def calls(self) -> list[str]:
        """Return what the calls that are over were for, such as `start carp-master@carp0.target`."""
        return [line.removeprefix("end ").replace(" --no-block --", "") for line in self.lines() if line.startswith("end")]


def start(role: str, name: str = "carp0") -> str:
    """Write the call that lets a role begin."""
    return f"start carp-{role}@{name}.target"


def stop(name: str = "carp0") -> str:
    """Write the call that ends both roles."""
    return f"stop carp-master@{name}.target carp-backup@{name}.target"


class Carpd(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A daemon that streams what it is told to, each stream after the states of that moment."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path, states: dict[str, list[tuple[int, str]]]) -> None:
        self.states = states
        self.streams: list[queue.Queue[dict[str, Any] | None]] = []
        self.refusal: tuple[int, str] | None = None
        self.opened = 0
        super().__init__(str(path), Stream)
        self.path = path
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def get_request(self) -> Any:
        """Name a client as HTTP servers expect it."""
        return super().get_request()[0], ("unix", 0)

    def status(self) -> dict[str, Any]:
        """Return the first event of a stream."""
        interfaces = [
            {"name": name, "demote": 0, "nodes": [{"vhid": vhid, "state": state} for vhid, state in nodes]}
            for name, nodes in self.states.items()
        ]
        return {"host": "here", "interfaces": interfaces}

    def tell(self, event: str, **data: Any) -> None:
        """Send an event to every stream."""
        for stream in self.streams:
            stream.put({"event": event, "at": "now", **data})

    def turn(self, new: str, name: str = "carp0", vhid: int = 1) -> None:
        """Tell of a transition, and have it in the states."""
        self.states[name] = [(one, new if one == vhid else state) for one, state in self.states[name]]
        self.tell("transition", interface=name, vhid=vhid, old="INIT", new=new, reason="because", detail="", source=None)

    def cut(self) -> None:
        """End every stream, and go on to listen."""
        for stream in self.streams:
            stream.put(None)
        self.streams = []

    def leave(self) -> None:
        """Be gone, as after a crash."""
        self.shutdown()
        self.thread.join()
        self.server_close()
        self.path.unlink()
        self.cut()


class Stream(http.server.BaseHTTPRequestHandler):
    """One request for a stream."""

    server: Carpd

    def do_GET(self) -> None:
        """Send the states and then what happens."""
        assert self.path == "/v1/events"
        self.server.opened += 1
        if self.server.refusal is not None:
            status, sentence = self.server.refusal
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"error": sentence}).encode())
            return
        mine: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.send_response(200)
        self.end_headers()
        self.server.streams.append(mine)  # first, so that nothing is missed in between
        self.send("status", self.server.status())
        while (event := mine.get()) is not None:
            self.wfile.write(b": still here\n\n")
            self.send(event["event"], event)

    def send(self, kind: str, data: dict[str, Any]) -> None:
        """Send one event."""
        self.wfile.write(f"event: {kind}\nid: 1\ndata: {json.dumps(data)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Be silent."""


class Follower:
    """The program, running."""

    def __init__(self, socket: Path, systemctl: Systemctl, log: Path) -> None:
        self.log = log
        environment = {**os.environ, "PATH": f"{systemctl.directory}:{os.environ['PATH']}"}
        with log.open("w") as out:
            line = [sys.executable, "-c", PROGRAM, str(socket)]
            self.process = subprocess.Popen(line, env=environment, stdout=out, stderr=out)

    def said(self) -> list[str]:
        """Return what it printed."""
        return self.log.read_text().splitlines()

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that happens in another process."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture
def systemctl(tmp_path: Path) -> Systemctl:
    """Put a systemctl into a directory."""
    return Systemctl(tmp_path / "bin")


CarpdOf = Callable[..., Carpd]


@pytest.fixture
def carpd(tmp_path: Path) -> Iterator[CarpdOf]:
    """Start daemons, one after another, at the same path."""
    made: list[Carpd] = []

    def _carpd(**states: list[tuple[int, str]]) -> Carpd:
        made.append(Carpd(tmp_path / "carpd.sock", states))
        return made[-1]

    yield _carpd
    for one in made:
        if one.thread.is_alive():
            one.leave()


FollowerOf = Callable[[], Follower]


@pytest.fixture
def follow(tmp_path: Path, systemctl: Systemctl) -> Iterator[FollowerOf]:
    """Start the program."""
    made: list[Follower] = []

    def _follow() -> Follower:
        made.append(Follower(tmp_path / "carpd.sock", systemctl, tmp_path / "log"))
        return made[-1]

    yield _follow
    for one in made:
        one.close()


def expect(systemctl: Systemctl, follower: Follower, *calls: str) -> None:
    """Wait until systemctl was called in exactly this way, in this order."""
    try:
        until(lambda: len(systemctl.calls()) >= len(calls), "")
    except AssertionError:
        pytest.fail(f"called: {systemctl.calls()}, expected: {list(calls)}; said: {follower.said()}")
    assert systemctl.calls() == list(calls), follower.said()


def test_targets_follow_the_states(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """Those at the start, and each change after it, in order: a target for MASTER and BACKUP, none for INIT."""
    daemon = carpd(carp0=[(1, "BACKUP")])
    follower = follow()
    expected = [start("backup")]
    expect(systemctl, follower, *expected)
    for state, call in (
        ("MASTER", start("master")),
        ("BACKUP", start("backup")),
        ("INIT", stop()),
        ("MASTER", start("master")),
    ):
        daemon.turn(state)
        expected.append(call)
        expect(systemctl, follower, *expected)
    until(lambda: len(follower.said()) >= len(expected), "a word about the last one")
    assert follower.said() == [
        "carp0 is BACKUP: start carp-backup@carp0.target",
        "carp0 is MASTER: start carp-master@carp0.target",
        "carp0 is BACKUP: start carp-backup@carp0.target",
        "carp0 is INIT: stop carp-master@carp0.target carp-backup@carp0.target",
        "carp0 is MASTER: start carp-master@carp0.target",
    ]


def test_systemctl_does_not_wait_for_units(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """A service that is slow to start keeps nobody from being told of the next change."""
    carpd(carp0=[(1, "MASTER")], carp1=[(2, "INIT")])
    expect(systemctl, follow(), start("master"), stop("carp1"))
    assert [line.split()[2] for line in systemctl.lines()] == ["--no-block"] * 4


def test_the_leader_decides(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """The first node of an interface; the others, and interfaces that are not known, move no target."""
    daemon = carpd(carp0=[(3, "BACKUP"), (4, "MASTER")], carp1=[(5, "BACKUP")])
    follower = follow()
    expect(systemctl, follower, start("backup"), start("backup", "carp1"))
    daemon.turn("INIT", vhid=4)
    daemon.tell("transition", interface="carp9", vhid=3, old="INIT", new="MASTER", reason="", detail="", source=None)
    daemon.tell("drop", parent="eth0", vhid=3, reason="echo", source=None)
    daemon.turn("MASTER", "carp1", vhid=5)
    expect(systemctl, follower, start("backup"), start("backup", "carp1"), start("master", "carp1"))


def test_a_burst_ends_with_the_newest(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """While systemctl hangs, a hundred changes of one interface do not pile up, and another interface is not forgotten."""
    daemon = carpd(carp0=[(1, "BACKUP")], carp1=[(2, "BACKUP")])
    follower = follow()
    expect(systemctl, follower, start("backup"), start("backup", "carp1"))
    systemctl.let("slow")
    daemon.turn("MASTER")
    until(lambda: len(systemctl.lines()) == 5, "systemctl to be called")
    for _ in range(50):
        daemon.turn("INIT")
        daemon.turn("BACKUP")
    daemon.turn("MASTER", "carp1", vhid=2)
    until(lambda: all(stream.empty() for stream in daemon.streams), "everything to be read")
    time.sleep(0.5)  # what is read is remembered a moment later
    systemctl.let("slow", be=False)
    rest = [start("master"), start("backup"), start("master", "carp1")]
    expect(systemctl, follower, start("backup"), start("backup", "carp1"), *rest)
    time.sleep(0.3)
    assert systemctl.calls()[2:] == rest
    begins_and_ends = [line.split()[0] for line in systemctl.lines()]
    assert begins_and_ends == ["begin", "end"] * 5, "one systemctl at a time"


def test_there_and_back_is_no_change(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """What was left and come back to while systemctl was busy elsewhere needs no call."""
    daemon = carpd(carp0=[(1, "BACKUP")], carp1=[(2, "BACKUP")])
    follower = follow()
    expect(systemctl, follower, start("backup"), start("backup", "carp1"))
    systemctl.let("slow")
    daemon.turn("MASTER")
    until(lambda: len(systemctl.lines()) == 5, "systemctl to be called")
    daemon.turn("MASTER", "carp1", vhid=2)
    daemon.turn("BACKUP", "carp1", vhid=2)
    time.sleep(0.5)
    systemctl.let("slow", be=False)
    time.sleep(0.5)
    expect(systemctl, follower, start("backup"), start("backup", "carp1"), start("master"))


def test_no_target_without_a_daemon(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """Its addresses are gone; when it is back, its states count, and nobody was told twice that it was away."""
    former = carpd(carp0=[(1, "MASTER")], carp1=[(2, "BACKUP")])
    follower = follow()
    expected = [start("master"), start("backup", "carp1")]
    expect(systemctl, follower, *expected)
    former.leave()
    expected += [stop(), stop("carp1")]
    expect(systemctl, follower, *expected)
    time.sleep(2.5)  # it tries again more than once
    carpd(carp0=[(1, "BACKUP")])
    expected += [start("backup")]
    expect(systemctl, follower, *expected)
    errors = [line for line in follower.said() if line.startswith("carp:")]
    assert errors == [f"carp: {former.path} does not exist: is carpd running?"]


def test_a_daemon_that_comes_later(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """Is waited for."""
    follower = follow()
    until(follower.said, "a word about it")
    carpd(carp0=[(1, "MASTER")])
    expect(systemctl, follower, start("master"))


def test_a_stream_that_is_cut(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """Stops nothing as long as carpd lives; what happened meanwhile is known by the next one."""
    daemon = carpd(carp0=[(1, "MASTER")], carp1=[(2, "BACKUP")])
    follower = follow()
    expect(systemctl, follower, start("master"), start("backup", "carp1"))
    daemon.states["carp1"] = [(2, "MASTER")]
    daemon.cut()
    expect(systemctl, follower, start("master"), start("backup", "carp1"), start("master", "carp1"))
    assert [line for line in follower.said() if line.startswith("carp:")] == []


def test_a_changed_configuration(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """Interfaces that came and went, and another leader of one that stayed, are known at once."""
    daemon = carpd(carp0=[(1, "MASTER")], carp1=[(2, "MASTER")])
    follower = follow()
    expected = [start("master"), start("master", "carp1")]
    expect(systemctl, follower, *expected)
    daemon.states = {"carp1": [(7, "MASTER")], "carp2": [(3, "BACKUP")]}
    daemon.tell("changed", changes=["carp0: removed"])
    expected += [stop(), start("backup", "carp2")]
    expect(systemctl, follower, *expected)
    until(lambda: len(daemon.streams) == 2, "the next stream")
    daemon.turn("BACKUP", "carp1", vhid=7)
    expected += [start("backup", "carp1")]
    expect(systemctl, follower, *expected)


def test_what_an_earlier_run_left(carpd: CarpdOf, systemctl: Systemctl, follow: FollowerOf) -> None:
    """A target of an interface that is gone is stopped; one that is still right is never stopped."""
    units = ["carp-master@carp0.target", "carp-backup@carp5.target"]
    (systemctl.directory / "active").write_text("".join(f"{unit} loaded active active Some words\n" for unit in units))
    carpd(carp0=[(1, "MASTER")])
    follower = follow()
    until(lambda: len(systemctl.calls()) == 2, "both calls")
    assert set(systemctl.calls()) == {start("master"), stop("carp5")}
    assert follower.process.poll() is None


def test_a_refusal_is_said_once_and_tried_again(
    carpd: CarpdOf, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch, follow: FollowerOf
) -> None:
    """It ends nothing: the other interfaces follow on, and the next change counts at once."""
    daemon = carpd(carp0=[(1, "MASTER")])
    systemctl.let("refuse")
    follower = follow()
    sentence = "carp: systemctl start --no-block -- carp-master@carp0.target: Unit is masked, so no."
    until(lambda: follower.said() == [sentence], "the refusal")
    until(lambda: len(systemctl.calls()) == 2, "another try")
    systemctl.let("refuse", be=False)
    until(lambda: len(follower.said()) == 2, "success")
    assert follower.said() == [sentence, "carp0 is MASTER: start carp-master@carp0.target"]
    daemon.turn("BACKUP")
    expect(systemctl, follower, *[start("master")] * 3, start("backup"))


def test_a_refusing_daemon_ends_it(carpd: CarpdOf, systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other verb: a carpd without events will not have any later."""
    daemon = carpd()
    daemon.refusal = (404, "/v1/events is not known")
    monkeypatch.setenv("PATH", f"{systemctl.directory}:{os.environ['PATH']}")
    monkeypatch.setattr(Roles, "run", lambda _: None)
    with pytest.raises(CommandError, match=r"^/v1/events is not known$") as caught:
        targets(daemon.path)
    assert caught.value.exit_status == 1


def test_a_host_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told so at once."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match=r"^there is no systemctl: carp targets is for hosts that run systemd$") as caught:
        targets(tmp_path / "carpd.sock")
    assert caught.value.exit_status == 1


def test_a_systemctl_that_hangs(systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up."""
    monkeypatch.setenv("PATH", f"{systemctl.directory}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "_SYSTEMCTL_PATIENCE_S", 0.2)
    systemctl.let("slow")
    assert module._bring_about("carp0", State.INIT) == (
        "systemctl stop --no-block -- carp-master@carp0.target carp-backup@carp0.target: no answer within 0 s"
    )


def test_a_systemctl_that_cannot_be_run(systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a failure like any other, for it may be there again later."""
    monkeypatch.setenv("PATH", str(systemctl.directory))
    (systemctl.directory / "systemctl").unlink()
    problem = module._bring_about("carp0", State.MASTER)
    assert problem == "systemctl start --no-block -- carp-master@carp0.target: No such file or directory"


def test_the_newest_wish_counts() -> None:
    """Whatever was wanted in between; the longest waiting instance goes first."""
    roles = Roles()
    roles.want({"carp0": State.MASTER})
    roles.want({"carp1": State.MASTER})
    roles.want({"carp0": State.BACKUP})
    assert roles._next() == ("carp0", State.BACKUP)


@pytest.mark.parametrize(
    ("name", "instance"),
    [
        ("carp0", "carp0"),
        ("carp9999", "carp9999"),
        ("a/b-c d", r"a-b\x2dc\x20d"),
        (".x.y", r"\x2ex.y"),
        ("ö@", r"\xc3\xb6\x40"),
    ],
)
def test_instances_are_escaped(name: str, instance: str) -> None:
    """As systemd-escape(1) writes them."""
    assert escape(name) == instance
