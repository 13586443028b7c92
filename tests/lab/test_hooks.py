"""Hooks: programs that run when a carp interface changes its state, and never hold up the protocol."""

import http.client
import itertools
import json
import signal
import socket
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from program_kit import ProgramKit, Run, add_tables, alive, attendant_of, end, reload, settle_at_once

from lab.capture import Capture, is_advertisement, packet_socket
from lab.events import Events
from lab.host import Host, program
from lab.measure import both_answered, lost, owners, takeover_ns
from lab.pairs import QUICK, SLACK_S, make_pair, patience_s, settle, transitions, wait_settled
from lab.stage import SHARED, Stage
from lab.wait import holds_for, now_ns, until
from lab.wire import Forgery, inject

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
SECOND_NS = 1_000 * MS
STALL_NS = 250 * MS
AFTER_S = 0.3
WHERE = ("global.hooks.master", "carp0.hooks.pre-master", "track.x.script")
"""How a program is named that is refused in each of these places."""
STATE_HOOKS = ("pre-master", "master", "backup", "init", "change")


@pytest.fixture
def kit() -> Iterator[ProgramKit]:
    """Make a place for programs."""
    with ProgramKit() as made:
        yield made


@pytest.fixture
def pair(kit: ProgramKit, stage: Stage) -> tuple[Host, Host]:
    """Configure a pair that preempts, a better than b; nothing is started."""
    return make_pair(stage, QUICK)


def all_hooks(path: str) -> dict[str, object]:
    """Return a table that runs one program for all hooks of a change."""
    return dict.fromkeys(STATE_HOOKS, path)


def check_environment(run: Run) -> None:
    """See that the environment tells what the standard input does, and holds nothing else."""
    told = run.told
    expected = {f"CARP_{key.upper()}": str(value) for key, value in told.items()}
    expected["CARP_ADDRESSES"] = " ".join(told["addresses"])
    own = {key: value for key, value in run.variables.items() if key.startswith("CARP_")}
    assert own == expected
    assert set(run.variables) - set(own) == {"PATH", "LANG"}


def test_the_hooks_of_a_life(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """Each change has its hooks, in order, told what happened; `master` finds the addresses set, `backup` does not."""
    a, b = pair
    hook = kit.recorder(
        "hook", 'echo "$CARP_HOOK $CARP_STATE:" $(ip -o address show dev $CARP_INTERFACE scope global) >>{out}/addresses'
    )
    settle_at_once(a, b)
    reload(a, {"global.hooks": all_hooks(hook)})
    assert not kit.lines("runs")
    up = ["pre-master BACKUP MASTER", "master BACKUP MASTER", "change BACKUP MASTER"]
    down = ["backup MASTER BACKUP", "change MASTER BACKUP"]
    stopped = ["init MASTER INIT", "change MASTER INIT"]
    assert a.carp("demote", "add", "disk", "5").returncode == 0
    wait_settled(QUICK, b, a)
    kit.wait_for_runs(*down)
    assert a.carp("demote", "remove", "disk").returncode == 0
    wait_settled(QUICK, a, b)
    kit.wait_for_runs(*down, *up)
    kit.wait_for_lines("addresses", len(down + up))
    a.stop()
    runs = kit.wait_for_runs(*down, *up, *stopped)
    for run in runs:
        check_environment(run)
        about = {key: run.told[key] for key in ("interface", "vhid", "addresses", "carpdev")}
        assert about == {"interface": "carp0", "vhid": 1, "addresses": list(SHARED), "carpdev": "eth0"}
    peers = {run.what: run.told["peer"] for run in runs}
    # Advertisements of either family may be the first.
    for what in ("backup MASTER BACKUP", "master BACKUP MASTER"):
        assert peers[what] == "192.0.2.2" or peers[what].startswith("fe80::")
    assert peers["init MASTER INIT"] == ""
    reasons = {run.what: run.told["reason"] for run in runs}
    assert reasons["backup MASTER BACKUP"] == "advertisement of a less demoted host received"
    assert reasons["change BACKUP MASTER"] == reasons["master BACKUP MASTER"] == "preempting a slower master"
    for line in kit.lines("addresses"):
        what, _, found = line.partition(":")
        # The interface is removed while the last hooks run.
        if "INIT" not in what:
            assert [address in found for address in SHARED] == [what in ("master MASTER", "change MASTER")] * 2, line


def test_a_master_without_its_addresses(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """`master` and `change` do not run where the addresses cannot be set, as their link's name is somebody else's."""
    (a, _) = pair
    settle_at_once(a)
    reload(a, {"global.hooks": dict.fromkeys(("master", "backup", "change"), kit.recorder("hook"))})
    tried = a.log_text().count("BACKUP -> MASTER")
    # Stopped for a moment, as it makes its link again at once.
    a.signal(signal.SIGSTOP)
    a.namespace.ip("link del dev carp0", "link add name carp0 type veth peer name other0")
    a.signal(signal.SIGCONT)
    until(lambda: a.log_text().count("BACKUP -> MASTER") > tried + 2, SLACK_S, "it to try again")
    kit.wait_for_lines("runs", 4)
    assert {run.what for run in kit.runs()} == {"backup MASTER BACKUP", "change MASTER BACKUP"}


def test_one_interface_has_hooks_of_its_own(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """Each in the place of the global one of the same key, with arguments as they are written; the others go on."""
    (a, _) = pair
    first = a.carps[0]
    a.configure([first, first.but(name="carp1", vhid=2, addresses=("192.0.2.101/24",))], **a.global_keys)
    hook = kit.write("hook", 'echo "$CARP_INTERFACE $CARP_HOOK" "$@" >>{out}/$CARP_INTERFACE')
    add_tables(
        a,
        {
            "global.hooks": {"master": [hook, "global"], "change": [hook, "global"]},
            "carp1.hooks": {"master": [hook, "own $HOME", "*"]},
        },
    )
    settle_at_once(a)

    def masters(name: str) -> list[str]:
        lines = kit.wait_for_lines(name, 2)
        return lines[lines.index(next(line for line in lines if " master " in line)) :]

    until(lambda: kit.lines("carp0")[-1:] == ["carp0 change global"], SLACK_S, "the hooks of carp0")
    assert masters("carp0") == ["carp0 master global", "carp0 change global"]
    assert masters("carp1") == ["carp1 master own $HOME *", "carp1 change global"]


@pytest.mark.parametrize(("lasts", "deadline_s", "least_s"), [("0.5", 3, 0.5), ("1000", 1, 1)], ids=["ends", "hangs"])
def test_pre_master(
    kit: ProgramKit, stage: Stage, pair: tuple[Host, Host], lasts: str, deadline_s: int, least_s: float
) -> None:
    """It runs to its end, or its deadline, before the addresses are taken: from a MASTER that serves meanwhile, or a dead one.

    While it runs before a preemption no probe is lost, and none is answered by both.
    """
    a, b = pair
    hook = kit.recorder(
        "hook",
        "echo $$ >>{out}/pids",
        "echo $(ip -o address show dev $CARP_INTERFACE scope global) >>{out}/addresses-$1",
        f"sleep {lasts}",
        log="$1",
    )
    hooks = {"pre-master-deadline": deadline_s}
    # The deadline begins a little before the hook has written down when it began.
    early_ns = STALL_NS if lasts == "1000" else 10 * MS
    least_ns = int(least_s * SECOND_NS)
    settle(QUICK, b)
    add_tables(a, {"carp0.hooks": {**hooks, "pre-master": [hook, "a"]}})
    reload(b, {"carp0.hooks": {**hooks, "pre-master": [hook, "b"]}})
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
        a.start()
        prober.wait_for_owner("a", deadline_s + patience_s(QUICK))
        prober.wait_for_time(AFTER_S)
        wait_settled(QUICK, a, b)
        # The better host dies: now the other one runs it, with nobody there.
        killed = a.kill()
        prober.wait_for_owner("b", deadline_s + patience_s(QUICK))
        traces = prober.stop()
    (preempting,) = kit.runs("a")
    (replacing,) = kit.runs("b")
    for run in (preempting, replacing):
        assert run.what == "pre-master BACKUP MASTER"
        check_environment(run)
    # No address is set when it begins.
    assert (kit.lines("addresses-a"), kit.lines("addresses-b")) == ([""], [""])
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == ["b", "a", "b"]
        assert both_answered(trace) == 0
        assert lost(trace, trace.start, preempting.at + least_ns - early_ns) == 0
        first = trace.answers[next(index for index, answer in enumerate(trace.answers) if answer.host == "a")]
        # At the next advertisement that the old MASTER sends.
        assert least_ns - early_ns < first.at - preempting.at < least_ns + QUICK.interval_ns(QUICK.skew_b) + STALL_NS
        took = takeover_ns(trace, killed, "b")
        assert took is not None
        assert least_ns - early_ns < killed + took - replacing.at < least_ns + STALL_NS
        assert took < QUICK.crash.latest_ns + least_ns + STALL_NS
    pids = [int(pid) for pid in kit.lines("pids")]
    try:
        until(lambda: not any(alive(pid) for pid in pids), SLACK_S, "the end of the hooks")
    finally:
        end(pids)


def test_reasserted(kit: ProgramKit, stage: Stage, pair: tuple[Host, Host]) -> None:
    """It runs when a worse MASTER is heard, and this host stays; what comes while it runs adds no further run."""
    (a, _) = pair
    hook = kit.recorder("hook", "sleep 0.3", "date +%s%N >>{out}/ends")
    add_tables(a, {"global.hooks": {"reasserted": hook}})
    client = stage.client
    settle_at_once(a)
    changed = transitions(a)
    with packet_socket(client) as raw:
        inject(raw, [Forgery(advskew=200).frame()])
        kit.wait_for_lines("runs")
        for _ in range(5):
            inject(raw, [Forgery(advskew=200).frame()])
            # Longer than the least time between two answers of the MASTER.
            holds_for(lambda: True, 0.05)
        kit.wait_for_lines("ends")
        # What came meanwhile is over, and now it may run again.
        assert holds_for(lambda: len(kit.lines("runs")) == 1, AFTER_S)
        until(lambda: inject(raw, [Forgery(advskew=200).frame()]) and len(kit.lines("runs")) > 1, SLACK_S, "another run", 0.1)
        kit.wait_for_lines("ends", 2)
    runs = kit.runs()
    for run in runs:
        assert (run.variables["CARP_HOOK"], run.variables["CARP_STATE"]) == ("reasserted", "MASTER")
        check_environment(run)
    assert runs[1].at > kit.instant("ends") - MS
    assert (a.state_of(), transitions(a)) == ("MASTER", changed)


def test_a_hook_that_hangs(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """It is ended at its timeout, with its children, and the later ones run; nothing of it changes the state."""
    (a, _) = pair
    hang = kit.write(
        "hang", "trap '' TERM", "sleep 1000 & echo $! >>{out}/pids", "echo $$ >>{out}/pids", "while :; do sleep 1001; done"
    )
    add_tables(a, {"global.hooks": {"master": hang, "change": kit.recorder("change"), "timeout": 0.5}})
    try:
        settle(QUICK, a)
        began = now_ns()
        until(lambda: "change BACKUP MASTER" in [run.what for run in kit.runs()], SLACK_S, "the next hook")
        # The timeout, a second for it to end by itself, and what a busy machine takes to start programs.
        assert kit.runs()[-1].at - began < 4 * SECOND_NS
        assert "carp0: the hook master failed: took over 0.5 s" in a.log_text()
        pids = [int(pid) for pid in kit.lines("pids")]
        assert len(pids) == 2
        assert not [pid for pid in pids if alive(pid)]
        assert a.state_of() == "MASTER"
    finally:
        end([int(pid) for pid in kit.lines("pids")])


class Control:
    """A connection to the daemon's socket that forces states, far quicker than a command; a context manager."""

    def __init__(self, host: Host) -> None:
        self._connection = http.client.HTTPConnection("carp")
        self._connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.sock.settimeout(SLACK_S)
        self._connection.sock.connect(str(host.socket))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def force(self, state: str) -> int:
        """Force a state; return how long that took."""
        at = now_ns()
        self._connection.request("PATCH", "/v1/interfaces/carp0", json.dumps({"state": state}), {"Host": "carp"})
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == http.HTTPStatus.OK, body
        return now_ns() - at


def test_a_hundred_changes_in_a_second(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """Never two hooks run at once, the last run is that of the newest state, and the protocol is not held up."""
    (a, _) = pair
    hook = kit.write(
        "hook",
        "mkdir {out}/lock || echo $CARP_HOOK >>{out}/overlapping",
        'echo "begin $CARP_HOOK $CARP_STATE" >>{out}/log',
        "sleep 0.03",
        'echo "end $CARP_HOOK $CARP_STATE" >>{out}/log',
        "rmdir {out}/lock",
    )
    add_tables(a, {"global.hooks": dict.fromkeys(("master", "backup", "init", "change"), hook)})
    settle_at_once(a)

    def wait_for_hooks_of(state: str) -> None:
        last = [f"{word} {kind} {state}" for kind in (state.lower(), "change") for word in ("begin", "end")]
        until(lambda: kit.lines("log")[-4:] == last, SLACK_S, f"{last} to be the last of {kit.lines('log')[-8:]}")
        assert holds_for(lambda: kit.lines("log")[-4:] == last, AFTER_S)

    wait_for_hooks_of("MASTER")
    for end_with in ("master", "init"):
        with Control(a) as control, Capture(a.port) as capture:
            changed, before, begun = transitions(a), len(kit.lines("log")), now_ns()
            took = [control.force("backup" if number % 2 == 0 else "master") for number in range(100)]
            lasted = now_ns() - begun
            changed = transitions(a) - changed
            if end_with == "init":
                assert a.carp("ifconfig", "carp0", "down").returncode == 0
            wait_for_hooks_of(end_with.upper())
            if end_with == "master":
                times = [at for at, _ in capture.stamped(is_advertisement) if at > begun]
                gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
                # As many as ever, and more: each time it becomes MASTER.
                assert max([*gaps, now_ns() - times[-1]]) < QUICK.interval_ns(QUICK.skew_a) + STALL_NS
        log = kit.lines("log")[before:]
        print(f"{changed} changes in {lasted / MS:.0f} ms, {max(took) / MS:.0f} ms the longest; {len(log) // 2} hooks ran")
        assert changed >= 100
        assert statistics.median(took) < 30 * MS
        assert max(took) < STALL_NS
        # One begins when the other one has ended, and most were overtaken.
        assert [line.replace("begin", "end", 1) for line in log[::2]] == log[1::2]
        assert len(log) // 2 < 100
        assert not kit.lines("overlapping")


def test_the_last_hook_runs_to_its_end(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """At SIGTERM the hook init, and change after it, end before carpd does; the peer does not wait for them."""
    a, b = pair
    settle_at_once(a, b)
    slow = kit.write("slow", "date +%s%N >>{out}/began", "sleep 0.6", 'echo "$CARP_HOOK $CARP_STATE" >>{out}/log')
    reload(a, {"global.hooks": {"init": slow, "change": slow}})
    attendant = attendant_of(a)
    assert attendant is not None
    with Events(b) as from_b:
        event = a.stop()
        took = from_b.became("carp0", "MASTER", SLACK_S, event) - event
    assert kit.lines("log") == ["init INIT", "change INIT"]
    assert not alive(attendant)
    assert took < 100 * MS + STALL_NS


def test_hooks_are_changed_by_reload(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """The next change has the new ones, and the reload itself changes no state and runs nothing."""
    a, b = pair
    settle_at_once(a, b)
    one, other = kit.recorder("one", log="one"), kit.recorder("other", log="other")
    steps: list[tuple[dict[str, object], dict[str, int]]] = [
        ({"backup": one}, {"one": 1, "other": 0}),
        ({"backup": other}, {"one": 1, "other": 1}),
        ({"backup": one, "change": other}, {"one": 2, "other": 3}),
        ({}, {"one": 2, "other": 3}),
    ]

    def ran() -> dict[str, int]:
        return {name: len(kit.lines(name)) for name in ("one", "other")}

    for hooks, counts in steps:
        before = transitions(a), ran()
        reload(a, {"global.hooks": hooks})
        assert (transitions(a), ran()) == before
        with Control(a) as control:
            control.force("backup")
        wait_settled(QUICK, a, b)
        until(lambda counts=counts: ran() == counts, SLACK_S, f"{counts} runs")
    assert holds_for(lambda: ran() == steps[-1][1], AFTER_S)


def test_programs_that_others_could_exchange(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """`carpd -n` and a reload refuse them with a sentence that names what is wrong, and nothing changes."""
    a, b = pair
    good = kit.recorder("good")
    add_tables(a, {"global.hooks": {"backup": good}})
    settle_at_once(a, b)
    loose = kit.directory / "loose"
    loose.mkdir()
    hook = loose / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    missing = loose / "missing"

    def refused(path: Path, sentence: str, directory_mode: int = 0o755, mode: int = 0o755) -> None:
        loose.chmod(directory_mode)
        hook.chmod(mode)
        changed, tracks = transitions(a), a.status()["tracks"]
        tables = {
            "global.hooks": {"backup": good, "master": str(path)},
            "carp0.hooks": {"pre-master": [str(path), "x"]},
            "track.x": {"script": str(path)},
        }
        add_tables(a, tables)
        done = subprocess.run([program("carpd"), "-n", "--config", a.config], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        before = len(a.log_text())
        a.reload()
        until(lambda: "was not changed" in a.log_text()[before:], SLACK_S, "the refusal")
        for said in (done.stderr, a.log_text()[before:]):
            lines = [line for line in said.splitlines() if sentence in line]
            assert [any(key in line for line in lines) for key in WHERE] == [True] * 3, said
        assert (transitions(a), a.status()["tracks"]) == (changed, tracks)

    refused(hook, f"{loose}: mode 0777 lets its group and others exchange the program", directory_mode=0o777)
    refused(hook, f"{hook}: mode 0775 lets its group exchange the program", mode=0o775)
    refused(hook, f"{hook}: mode 0644 lets nobody run it", mode=0o644)
    refused(missing, f"{missing}: cannot be run: No such file or directory")
    # The hooks that there were still run.
    with Control(a) as control:
        control.force("backup")
    wait_settled(QUICK, a, b)
    kit.wait_for_runs("backup INIT BACKUP", "backup MASTER BACKUP")
    # And the same program is taken when it is right.
    loose.chmod(0o755)
    hook.chmod(0o755)
    reload(a, {"global.hooks": {"master": str(hook)}})


def test_the_first_states_have_hooks(kit: ProgramKit, pair: tuple[Host, Host]) -> None:
    """From INIT to BACKUP at the start, and so for a carp interface that a reload adds."""
    (a, _) = pair
    hook = kit.recorder("hook", log="$CARP_INTERFACE")
    add_tables(a, {"global.hooks": {"backup": hook}})
    settle_at_once(a)
    kit.wait_for_runs("backup INIT BACKUP", log="carp0")
    a.configure([*a.carps, a.carps[0].but(name="carp1", vhid=2, addresses=("192.0.2.101/24",))], **a.global_keys)
    reload(a, {"carp1.hooks": {"backup": hook}})
    kit.wait_for_runs("backup INIT BACKUP", log="carp1")
