"""Tracking: while something that a host checks is not right, its carp interfaces are left to the other host."""

import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program_kit import ProgramKit, Tables, add_tables, alive, attendant_of, end, reload, settle_at_once

from lab.events import Events, is_demotion
from lab.host import Host
from lab.pairs import QUICK, SLACK_S, make_pair, patience_s, settle, wait_settled
from lab.stage import Stage
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
SECOND_NS = 1_000 * MS
STALL_NS = 250 * MS
WHILE_S = 0.8
"""Some three advertisements of a quick pair, and many checks."""
OFTEN: dict[str, object] = {"interval": 0.1, "timeout": 1, "rise": 1, "fall": 1, "demote": 5}
"""A check that decides at once; a stalled machine does not make it fail."""

Step = Callable[[], object]


@pytest.fixture
def kit() -> Iterator[ProgramKit]:
    """Make a place for programs."""
    with ProgramKit() as made:
        yield made


@pytest.fixture
def pair(kit: ProgramKit, stage: Stage) -> tuple[Host, Host]:
    """Configure a pair that preempts, a better than b; nothing is started."""
    return make_pair(stage, QUICK)


def settled_with(tables: Tables, a: Host, b: Host) -> None:
    """Start the pair, of which only the MASTER checks anything, and wait until all of its tracks hold."""
    add_tables(a, tables)
    settle_at_once(a, b)
    assert tracks(a) == {name.removeprefix("track."): "" for name in tables}


def tracks(host: Host) -> dict[str, str]:
    """Return "" for each track that holds, and why it fails for each that does not."""
    return {one["name"]: "" if one["holds"] else one["detail"] for one in host.status()["tracks"]}


def there_and_back(a: Host, b: Host, track: str, why: str, hurt: Step, mend: Step, *, words: bool = False) -> int:
    """Hurt what a track of the MASTER checks: the peer takes over, and gives it back; return the time until it was MASTER.

    Args:
        a: the MASTER.
        b: its peer.
        track: its name; it demotes the group carp by 5, and no other track fails.
        why: a pattern of what is said about it.
        hurt: makes the check fail.
        mend: makes it hold again.
        words: whether to read as well what `carp status` and `carp demote list` print, which takes a while.
    """
    with Events(b) as from_b:
        event = now_ns()
        hurt()
        took = from_b.became("carp0", "MASTER", SLACK_S, event) - event
    wait_settled(QUICK, b, a)
    status = a.status()
    (failing,) = (one for one in status["tracks"] if not one["holds"])
    (reason,) = status["demotions"]
    assert (failing["name"], reason["name"], reason["owner"], reason["amount"]) == (track, f"track {track}", "track", 5)
    assert re.fullmatch(why, failing["detail"]), failing
    assert reason["detail"] == failing["detail"]
    if words:
        text = a.carp("status").stdout
        assert re.search(rf"^track {track} \(.*\): fails: (?:{why})$", text, re.MULTILINE), text
        assert re.search(rf"^carp0: demoted by 5: track {track} \(by track, for .* s\): (?:{why})$", text, re.MULTILINE), text
        text = a.carp("demote", "list").stdout
        assert re.fullmatch(rf"carp: 5: track {track} \(by track, for .* s\): (?:{why})\n", text), text
    mend()
    wait_settled(QUICK, a, b)
    status = a.status()
    assert (status["demotions"], all(one["holds"] for one in status["tracks"])) == ([], True)
    return took


def test_a_gateway_that_stops_answering(stage: Stage, pair: tuple[Host, Host]) -> None:
    """A ping of either family: the gateway is silent to this host, the peer serves; it answers again, this host does."""
    a, b = pair
    gateway = stage.client.namespace
    often = {**OFTEN, "timeout": 0.5}
    settled_with({"track.gw4": {"ping": "192.0.2.9", **often}, "track.gw6": {"ping": "2001:db8::9", **often}}, a, b)
    for track, key in {"gw4": "ipv4/icmp_echo_ignore_all", "gw6": "ipv6/icmp/echo_ignore_all"}.items():
        there_and_back(
            a,
            b,
            track,
            r"no answer in 0\.5 s",
            lambda key=key: gateway.sysctl(key, 1),
            lambda key=key: gateway.sysctl(key, 0),
            words=track == "gw4",
        )


def test_what_the_kernel_tells(pair: tuple[Host, Host]) -> None:
    """An interface, an address, a route of another network that goes away: the peer is MASTER within a second."""
    a, b = pair
    inside = a.namespace
    gone = {
        "uplink": ("has no carrier", "link set up1 down", "link set up1 up"),
        "four": ("is not set", "addr del 198.51.100.1/32 dev lo", "addr add 198.51.100.1/32 dev lo"),
        "six": ("is not set", "addr del 2001:db8:7::1/128 dev lo", "addr add 2001:db8:7::1/128 dev lo nodad"),
        "internet": ("no such route", "route del default via 192.0.2.9", "route add default via 192.0.2.9"),
        "lab": ("no such route", "route del 2001:db8:8::/48", "route add 2001:db8:8::/48 via 2001:db8::9"),
    }
    inside.ip("link add up0 type veth peer name up1", "link set up0 up", *(there for _, _, there in gone.values()))
    settled_with(
        {
            "track.uplink": {"interface": "up0", "demote": 5},
            "track.four": {"address": "198.51.100.1", "demote": 5},
            "track.six": {"address": "2001:db8:7::1", "device": "lo", "demote": 5},
            "track.internet": {"route": "0.0.0.0/0", "device": "eth0", "demote": 5},
            "track.lab": {"route": "2001:db8:8::/48", "demote": 5},
        },
        a,
        b,
    )
    took = {
        track: there_and_back(a, b, track, why, lambda line=hurt: inside.ip(line), lambda line=mend: inside.ip(line))
        for track, (why, hurt, mend) in gone.items()
    }
    took["down"] = there_and_back(
        a, b, "uplink", "is down", lambda: inside.ip("link set up0 down"), lambda: inside.ip("link set up0 up"), words=True
    )
    print({track: f"{time / MS:.0f} ms" for track, time in took.items()})
    assert statistics.median(took.values()) < SECOND_NS
    assert max(took.values()) < SECOND_NS + STALL_NS


class Process:
    """A program that runs until it is ended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.begin()

    def begin(self) -> None:
        """Start it."""
        self._process = subprocess.Popen([self._path])

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def write_pid(self, file: Path) -> None:
        """Write its number to a file."""
        file.write_text(f"{self._process.pid}\n")


def test_files_and_processes(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """A file that is removed; a process that dies, known by its name or by a file that then is stale."""
    a, b = pair
    flag, pid_file = kit.out / "flag", kit.out / "pid"
    # Other tests may run beside this one.
    name = f"proxy-{os.getpid()}"
    by_name = Process(kit.write(name, "while :; do sleep 0.1; done"))
    by_file = Process(kit.write("service", "while :; do sleep 0.1; done"))
    by_file.write_pid(pid_file)
    flag.touch()

    def begin_again() -> None:
        by_file.begin()
        by_file.write_pid(pid_file)

    try:
        settled_with(
            {
                "track.flag": {"file": str(flag), **OFTEN},
                "track.proxy": {"process": name, **OFTEN},
                "track.service": {"pid-file": str(pid_file), **OFTEN},
            },
            a,
            b,
        )
        there_and_back(a, b, "flag", "No such file or directory", flag.unlink, flag.touch, words=True)
        there_and_back(a, b, "proxy", "no such process", by_name.end, by_name.begin)
        there_and_back(a, b, "service", r"no process \d+", by_file.end, begin_again)
        there_and_back(
            a, b, "service", "cannot be read: No such file or directory", pid_file.unlink, lambda: by_file.write_pid(pid_file)
        )
    finally:
        by_name.end()
        by_file.end()


class Web:
    """A server on a host's loopback address; `status` is what it answers, None for not at all."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self._port = port
        self.status: int | None = 200
        self.begin()

    def begin(self) -> None:
        """Listen."""
        self._socket = self._host.namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", self._port))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Listen no longer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(SLACK_S)

    def say(self, status: int | None) -> None:
        """Answer otherwise from now on."""
        self.status = status

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(SLACK_S)
                    while connection.recv(4096) and self.status is None:
                        pass
                    connection.sendall(f"HTTP/1.1 {self.status} Lab\r\nContent-Length: 0\r\n\r\n".encode())


def test_servers(pair: tuple[Host, Host]) -> None:
    """A TCP server that is gone; a web server that answers wrongly, or not at all."""
    a, b = pair
    plain, web = Web(a, 8025), Web(a, 8080)
    try:
        settled_with(
            {
                "track.mail": {"tcp": "127.0.0.1:8025", **OFTEN},
                "track.web": {"http": "http://127.0.0.1:8080/health", **OFTEN, "status": [200], "timeout": 0.5},
            },
            a,
            b,
        )
        there_and_back(a, b, "mail", "Connection refused", plain.end, plain.begin, words=True)
        there_and_back(a, b, "web", "status 503", lambda: web.say(503), lambda: web.say(200))
        there_and_back(a, b, "web", r"took over 0\.5 s|no answer in 0\.5 s", lambda: web.say(None), lambda: web.say(200))
    finally:
        plain.end()
        web.end()


STATUSES = "0 0 1 1 0 0 1 1 1 0 1 0 0 0"
"""Of a script, one after another: two bad ones are not enough, three are; one good one is not enough, two are."""
FALLS, RISES = 9, 13
"""Which run in this row is the third bad, which the second good one."""


def test_a_scripts_exit_status(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """With fall = 3 and rise = 2 the third bad result in a row demotes and the second good one ends it, no other does."""
    a, b = pair
    (kit.out / "statuses").write_text(STATUSES.replace(" ", "\n") + "\n")
    script = kit.write(
        "check",
        "date +%s%N >>{out}/began",
        "[ -e {out}/go ] || exit 0",
        "echo run >>{out}/count",
        "date +%s%N >>{out}/began-$(wc -l <{out}/count)",
        "status=$(sed -n $(wc -l <{out}/count)p {out}/statuses)",
        "[ ${status:-0} = 0 ] || echo the disk is full >&2",
        "exit ${status:-0}",
    )
    settled_with(
        {"track.disk": {"script": [script, "x"], "demote": 5, "interval": 0.2, "timeout": 5, "rise": 2, "fall": 3}}, a, b
    )
    with Events(a) as from_a, Events(b) as from_b:
        go = now_ns()
        (kit.out / "go").touch()
        failed = from_a.demoted("carp0", 4 * SLACK_S, go)
        from_b.became("carp0", "MASTER", SLACK_S, go)
        assert "track disk fails: exit status 1: the disk is full" in a.log_text()
        kit.wait_for_lines(f"began-{RISES + 1}", 1, 4 * SLACK_S)
        wait_settled(QUICK, a, b)
        changes = from_a.all(is_demotion("carp0"), go)
    assert [one.data["detail"].partition(" (")[0] for one in changes] == ["0 -> 5", "5 -> 0"]
    # The daemon tells its time to the millisecond.
    assert kit.instant(f"began-{FALLS}") - MS < failed < kit.instant(f"began-{FALLS + 1}") + STALL_NS
    assert kit.instant(f"began-{RISES}") - MS < changes[1].at < kit.instant(f"began-{RISES + 1}") + STALL_NS


def test_a_script_that_hangs(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """It counts as failed at its timeout, and is killed with all its children, also those that do not listen to SIGTERM."""
    a, b = pair
    (kit.out / "fine").touch()
    script = kit.write(
        "hang",
        "[ -e {out}/fine ] && exit 0",
        "trap '' TERM",
        "(trap - TERM; exec sleep 1000) & echo $! >>{out}/pids",
        "(sh -c 'echo $$ >>{out}/pids; sleep 1001; :')&",
        "timeout 1002 sleep 1003 & echo $! >>{out}/pids",
        "echo $$ >>{out}/pids",
        "while :; do sleep 1004; done",
    )
    settled_with({"track.hang": {"script": script, **OFTEN, "timeout": 0.5}}, a, b)
    try:
        with Events(b) as from_b:
            event = now_ns()
            (kit.out / "fine").unlink()
            took = from_b.became("carp0", "MASTER", SLACK_S, event) - event
        assert tracks(a)["hang"] == "took over 0.5 s"
        # It is not waited for until it is dead.
        assert took < 1.5 * SECOND_NS
        first = [int(pid) for pid in kit.wait_for_lines("pids", 4)[:4]]
        until(lambda: not any(alive(pid) for pid in first), SLACK_S, f"the end of {first}")
        (kit.out / "fine").touch()
        wait_settled(QUICK, a, b)
        pids = [int(pid) for pid in kit.lines("pids")]
        assert not [pid for pid in pids if alive(pid)]
    finally:
        end([int(pid) for pid in kit.lines("pids")])


def with_three(*hosts: Host) -> None:
    """Give hosts three carp interfaces on one parent: carp0 in the usual group, carp1 and carp2 in the group lan."""
    for host in hosts:
        first = host.carps[0]
        host.configure(
            [
                first.but(
                    name=f"carp{number}", vhid=number + 1, addresses=(f"192.0.2.{100 + number}/24",), extra={"groups": [group]}
                )
                for number, group in enumerate(("carp", "lan", "lan"))
            ],
            **host.global_keys,
        )


def states(host: Host) -> dict[str, str]:
    """Return the state of each carp interface."""
    return {interface["name"]: interface["nodes"][0]["state"] for interface in host.status()["interfaces"]}


def changes(host: Host) -> dict[str, int]:
    """Return how often each carp interface has changed its state."""
    return {interface["name"]: interface["nodes"][0]["transitions"] for interface in host.status()["interfaces"]}


def wait_for_masters(a: Host, b: Host, of_b: set[str]) -> None:
    """Wait until b is MASTER of some carp interfaces and a of the others."""

    def there() -> bool:
        wanted = {name: "MASTER" if name in of_b else "BACKUP" for name in ("carp0", "carp1", "carp2")}
        return states(b) == wanted and all((state == "BACKUP") == (name in of_b) for name, state in states(a).items())

    until(there, patience_s(QUICK), f"b to be MASTER of {of_b or 'nothing'}, a of the rest", 0.05)


def test_whom_it_demotes(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """A check for a group or for one carp interface moves that and leaves the others where they are."""
    a, b = pair
    with_three(a, b)
    flags = {name: kit.out / name for name in ("lan", "one", "everything")}
    for flag in flags.values():
        flag.touch()
    groups = {"lan": ["lan"], "one": ["carp0"], "everything": ["all"]}
    add_tables(a, {f"track.{name}": {"file": str(flags[name]), **OFTEN, "groups": groups[name]} for name in flags})
    settle_at_once(a, b)
    moved = {"lan": {"carp1", "carp2"}, "one": {"carp0"}, "everything": {"carp0", "carp1", "carp2"}}
    for name, flag in flags.items():
        before = changes(a)
        flag.unlink()
        wait_for_masters(a, b, moved[name])
        assert a.carp("demote", "list").stdout.startswith(f"{groups[name][0]}: 5: track {name} (by track, ")
        flag.touch()
        wait_for_masters(a, b, set())
        assert {one for one, count in changes(a).items() if count != before[one]} == moved[name]


def test_tracks_come_and_go_by_reload(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """One that is added, changed or removed takes effect, and nothing else changes its state."""
    a, b = pair
    with_three(a, b)
    settle_at_once(a, b)
    assert attendant_of(a) is None
    there, missing = kit.out / "there", kit.out / "missing"
    there.touch()
    good = {"track.good": {"file": str(there), **OFTEN, "groups": ["all"]}}
    bad: dict[str, object] = {"file": str(missing), **OFTEN}
    steps: list[tuple[dict[str, Any], set[str]]] = [
        (good, set()),
        ({**good, "track.bad": {**bad, "groups": ["carp1"]}}, {"carp1"}),
        ({**good, "track.bad": {**bad, "groups": ["lan"]}}, {"carp1", "carp2"}),
        ({**good, "track.bad": {**bad, "groups": ["lan"], "demote": 9}}, {"carp1", "carp2"}),
        ({**good, "track.bad": {**bad, "file": str(there), "groups": ["lan"]}}, set()),
        ({**good, "track.bad": {**bad, "groups": ["carp0"]}}, {"carp0"}),
        (good, set()),
        ({}, set()),
    ]
    former: set[str] = set()
    for tables, of_b in steps:
        before = changes(a)
        reload(a, tables)
        until(lambda tables=tables: set(tracks(a)) == {name[6:] for name in tables}, SLACK_S, "the tracks")
        wait_for_masters(a, b, of_b)
        if tables == steps[3][0]:
            assert [one["demote"] for one in a.status()["interfaces"]] == [0, 9, 9]
        assert holds_for(lambda of_b=of_b: {name for name, one in states(b).items() if one == "MASTER"} == of_b, 0.25)
        assert {name for name, count in changes(a).items() if count != before[name]} == of_b ^ former
        former = of_b
    assert a.status()["demotions"] == []


def test_whom_scripts_run_as(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """As nobody, with no group or privilege of root's; `script-user` names another user, from the next reload on."""
    (a, _) = pair
    script = kit.write("who", 'echo "$(id -un) $(id -Gn) $(grep CapEff /proc/self/status | tr "\\t" " ")" >>{out}/$1')
    none = f"CapEff: {0:016x}"
    for user, group in (("nobody", "nogroup"), ("daemon", "daemon"), ("nobody", "nogroup")):
        tables: Tables = {"track.who": {"script": [script, f"{user}-{group}"], **OFTEN}}
        keys = {"script-user": user} if user == "daemon" else {}
        if a.running:
            (kit.out / f"{user}-{group}").unlink(missing_ok=True)
            changed = changes(a)
            reload(a, tables, **keys)
            # The former attendant may end a run of its own.
            kit.wait_for_lines(f"{user}-{group}", 3)
            assert changes(a) == changed
        else:
            add_tables(a, tables)
            settle(QUICK, a)
        assert set(kit.wait_for_lines(f"{user}-{group}", 3)) == {f"{user} {group} {none}"}
    # What it runs as is all that was changed: it held all the time.
    assert tracks(a) == {"who": ""}
    assert "fails" not in a.log_text()


def test_the_attendant_is_killed(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """No transition; what failed still counts; checks go on after its restart."""
    a, b = pair
    with_three(a, b)
    flag = kit.out / "flag"
    flag.touch()
    add_tables(
        a,
        {
            "track.flag": {"file": str(flag), **OFTEN, "groups": ["carp0"]},
            "track.bad": {"file": str(kit.out / "missing"), **OFTEN, "groups": ["carp2"]},
        },
    )
    for host in (b, a):
        host.start()
    wait_for_masters(a, b, {"carp2"})
    before, first = changes(a), attendant_of(a)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: attendant_of(a) not in (None, first), SLACK_S, "another attendant")
    assert "the attendant ended" in a.log_text()
    assert holds_for(lambda: states(b) == {"carp0": "BACKUP", "carp1": "BACKUP", "carp2": "MASTER"}, WHILE_S)
    assert changes(a) == before
    assert tracks(a)["bad"] == "No such file or directory"
    flag.unlink()
    wait_for_masters(a, b, {"carp0", "carp2"})
    flag.touch()
    wait_for_masters(a, b, {"carp2"})


def test_carpd_is_killed(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """The attendant and all that it runs are gone within seconds, also what does not listen to SIGTERM."""
    (a, _) = pair
    script = kit.write(
        "hang", "trap '' TERM", "sleep 1000 & echo $! >>{out}/pids", "echo $$ >>{out}/pids", "while :; do sleep 999; done"
    )
    hook = kit.write("hook", "echo $$ >>{out}/pids", "exec sleep 998")
    add_tables(
        a,
        {
            "track.hang": {"script": script, "timeout": 60},
            "global.hooks": {"master": hook, "timeout": 60},
        },
    )
    settle_at_once(a)
    pids = [int(pid) for pid in kit.wait_for_lines("pids", 3)]
    try:
        attendant = attendant_of(a)
        assert attendant is not None
        assert all(alive(pid) for pid in [*pids, attendant])
        event = a.kill()
        until(lambda: not any(alive(pid) for pid in [*pids, attendant]), SLACK_S, "the end of the attendant and its programs")
        assert now_ns() - event < 4 * SECOND_NS
    finally:
        end(pids)


START_S = 2
FAKE_SYSTEMD = """#!/bin/sh
mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && mount -t tmpfs none /usr/local/sbin || exit
printf '#!/bin/sh\\ncat {out}/system\\n' >/usr/local/sbin/systemctl
chmod 755 /usr/local/sbin/systemctl
exec {carpd} "$@"
"""
"""Starts carpd where systemd is the init of the host, as it seems; `ip netns exec` has made mounts of its own for it."""


@pytest.mark.parametrize("says", ["starting", "degraded"])
def test_a_fresh_host_is_held_back(
    kit: ProgramKit, stage: Stage, pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """With start-demote it takes nothing before systemd says that it has started, or start-demote-time is over."""
    a, b = pair
    settle(QUICK, b)
    (kit.out / "system").write_text("starting\n")
    fake = kit.directory / "carpd"
    fake.write_text(FAKE_SYSTEMD.replace("{out}", str(kit.out)).replace("{carpd}", a.arguments()[0]))
    fake.chmod(0o755)
    add_tables(a, {}, **{"start-demote": 10, "start-demote-time": START_S if says == "starting" else 3600})
    with monkeypatch.context() as patch:
        patch.setenv("CARP_BIN", str(kit.directory))
        begun = a.start()
    if says == "degraded":
        text = a.carp("demote", "list").stdout
        assert re.fullmatch(r"all: 10: start \(by carpd, .*ends in .*\): until this host has started\n", text), text
        a.wait_until_listening()
        assert holds_for(lambda: (a.state_of(), b.state_of()) == ("BACKUP", "MASTER"), WHILE_S)
        (kit.out / "system").write_text(f"{says}\n")
    took = a.wait_for_state("MASTER", START_S + SLACK_S) - begun
    assert says == "degraded" or took > START_S * SECOND_NS
    wait_settled(QUICK, a, b)
    assert a.status()["demotions"] == []
