"""Hooks: in order, one at a time for each interface, the newest change first."""

import json

import pytest
from attendant_kit import MILLISECOND_NS, PATIENCE_S, SECOND_NS, Attendant, Scripts, gone, hook, now_s

from carp.attendant.hooks import variables
from carp.attendant.orders import HookEnded, HookKind
from carp.attendant.proc import is_alive
from lab.wait import until


def ended(serial: int, problem: str = "", kind: HookKind = HookKind.MASTER, queue: str = "carp0") -> HookEnded:
    """Say what is expected of a hook."""
    return HookEnded(queue, serial, kind, problem)


def hold(attendant: Attendant, scripts: Scripts) -> None:
    """Have a hook of serial 1 run until `release` is called."""
    attendant.send(hook(scripts.make("echo $$ >$D/holding; while ! [ -e $D/go ]; do sleep 0.01; done", "hold"), 1))
    scripts.pid("holding")


def release(scripts: Scripts) -> None:
    """Let it end."""
    (scripts.folder / "go").touch()


def test_what_a_hook_is_told(attendant: Attendant, scripts: Scripts) -> None:
    """The context as JSON on standard input and as variables, beside the kind, PATH and LANG; nothing else."""
    argv = scripts.make("env >$D/env; cat >$D/input; echo $# $1 >$D/arguments; pwd >$D/pwd")
    context = {
        "interface": "carp0",
        "vhid": 7,
        "old-state": "BACKUP",
        "peer": None,
        "addresses": ["192.0.2.1/24", "2001:db8::1/64"],
        "preempt": True,
        "reason": "ü = $HOME\n",
        "hook": "not this",
    }
    attendant.send(hook((*argv, "two words"), context=context))
    assert attendant.next(HookEnded) == ended(1)
    assert json.loads(scripts.read("input")) == context
    environment = dict(one.partition("=")[::2] for one in scripts.read("env").replace("\n\n", "\n").splitlines())
    assert {name: text for name, text in environment.items() if name.startswith("CARP_")} == {
        "CARP_INTERFACE": "carp0",
        "CARP_VHID": "7",
        "CARP_OLD_STATE": "BACKUP",
        "CARP_PEER": "",
        "CARP_ADDRESSES": "192.0.2.1/24 2001:db8::1/64",
        "CARP_PREEMPT": "true",
        "CARP_REASON": "ü = $HOME",
        "CARP_HOOK": "master",
    }
    assert {name for name in environment if not name.startswith("CARP_")} - {"PWD", "OLDPWD", "SHLVL", "_", "D"} == {
        "PATH",
        "LANG",
    }
    assert scripts.read("arguments") == "1 two words\n"
    assert scripts.read("pwd") == "/\n"


def test_a_big_context(attendant: Attendant, scripts: Scripts) -> None:
    """A script that never reads its standard input is not held up, and one that does gets all."""
    context = {"addresses": [f"2001:db8::{number:x}/64" for number in range(2000)]}
    attendant.send(hook(scripts.make("exit 0", "deaf"), 1, context=context))
    assert attendant.next(HookEnded) == ended(1)
    attendant.send(hook(scripts.make("cat >$D/input", "hearing"), 2, context=context))
    assert attendant.next(HookEnded) == ended(2)
    assert json.loads(scripts.read("input")) == context


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("exit 0", ""),
        ("exit 3", "exit status 3"),
        ("echo 'cannot connect' >&2; exit 2", "exit status 2: cannot connect"),
        ("kill -9 $$", "killed by SIGKILL"),
    ],
)
def test_how_a_hook_ends(attendant: Attendant, scripts: Scripts, body: str, problem: str) -> None:
    """Each is told of."""
    attendant.send(hook(scripts.make(body)))
    assert attendant.next(HookEnded) == ended(1, problem)


def test_a_bad_executable_does_not_hold_the_queue_up(attendant: Attendant, scripts: Scripts) -> None:
    """It is reported, and the next hook runs."""
    for argv in (("/nonexistent",), (str(scripts.folder),), (), ("a\0b",)):
        attendant.send(hook(argv))
        assert attendant.next(HookEnded).problem
    attendant.send(hook(scripts.make("exit 0"), 2))
    assert attendant.next(HookEnded) == ended(2)


def test_a_hundred_changes_in_a_burst(attendant: Attendant, scripts: Scripts) -> None:
    """Never two at once, in their order, few of the older ones, and the last program run is the newest change's last one."""
    argv = scripts.make(
        "[ -e $D/lock ] && echo >>$D/overlap; touch $D/lock; sleep 0.02; echo $CARP_SERIAL $CARP_HOOK >>$D/runs; rm $D/lock"
    )
    for serial in range(100):
        for kind in (HookKind.BACKUP if serial % 2 else HookKind.MASTER, HookKind.CHANGE):
            attendant.send(hook(argv, serial, kind, context={"serial": serial}))
    while attendant.next(HookEnded) != ended(99, kind=HookKind.CHANGE):
        pass
    runs = [(int(line.split()[0]), line.split()[1]) for line in scripts.read("runs").splitlines()]
    assert runs[-2:] == [(99, "backup"), (99, "change")]
    assert [serial for serial, _ in runs] == sorted(serial for serial, _ in runs)
    assert len(runs) < 100
    assert scripts.read("overlap") == ""
    assert attendant.silent_for(0.2)


def test_only_the_newest_of_what_waits_is_run(attendant: Attendant, scripts: Scripts) -> None:
    """What runs is not disturbed; what was overtaken is not heard of."""
    hold(attendant, scripts)
    argv = scripts.make("echo $CARP_SERIAL >>$D/runs")
    for serial in (1, 2, 2, 3, 4, 4):
        attendant.send(hook(argv, serial, context={"serial": serial}))
    release(scripts)
    assert [attendant.next(HookEnded) for _ in range(3)] == [ended(1), ended(4), ended(4)]
    assert scripts.read("runs") == "4\n4\n"
    assert attendant.silent_for(0.2)


def test_a_late_older_change_is_overtaken_too(attendant: Attendant, scripts: Scripts) -> None:
    """Whatever order they come in."""
    hold(attendant, scripts)
    argv = scripts.make("exit 0")
    attendant.send(hook(argv, 5))
    attendant.send(hook(argv, 4, HookKind.PRE_MASTER, answer=True))
    assert attendant.next(HookEnded) == ended(4, "overtaken", HookKind.PRE_MASTER)
    release(scripts)
    assert [attendant.next(HookEnded) for _ in range(2)] == [ended(1), ended(5)]


def test_an_overtaken_answer(attendant: Attendant, scripts: Scripts) -> None:
    """Somebody waits for it: it is told at once, while the former hook still runs."""
    hold(attendant, scripts)
    attendant.send(hook(scripts.make("exit 0"), 2, HookKind.PRE_MASTER, answer=True))
    assert attendant.silent_for(0.2)
    attendant.send(hook(scripts.make("exit 0"), 3))
    assert attendant.next(HookEnded) == ended(2, "overtaken", HookKind.PRE_MASTER)
    release(scripts)
    assert [attendant.next(HookEnded) for _ in range(2)] == [ended(1), ended(3)]


def test_an_answer_that_has_to_wait_too_long(attendant: Attendant, scripts: Scripts) -> None:
    """Its time runs from its arrival: it is told when that is over, and not run any more."""
    hold(attendant, scripts)
    begun = now_s()
    argv = scripts.make("touch $D/run")
    attendant.send(hook(argv, 2, HookKind.PRE_MASTER, answer=True, timeout_ns=300 * MILLISECOND_NS))
    assert attendant.next(HookEnded) == ended(2, "took over 0.3 s", HookKind.PRE_MASTER)
    assert 0.29 <= now_s() - begun < PATIENCE_S
    release(scripts)
    assert attendant.next(HookEnded) == ended(1)
    attendant.send(hook(scripts.make("exit 0"), 3))
    assert attendant.next(HookEnded) == ended(3)
    assert scripts.read("run") == ""
    assert not (scripts.folder / "run").exists()


def test_the_time_of_an_answer_includes_its_waiting(attendant: Attendant, scripts: Scripts) -> None:
    """A program that began late has less time, and its problem names the whole."""
    hold(attendant, scripts)
    begun = now_s()
    argv = scripts.make("echo $$ >$D/slow; sleep 993")
    attendant.send(hook(argv, 2, HookKind.PRE_MASTER, answer=True, timeout_ns=SECOND_NS))
    until(lambda: now_s() - begun > 0.5, PATIENCE_S, "half of its time")
    release(scripts)
    assert attendant.next(HookEnded) == ended(1)
    slow = scripts.pid("slow")
    assert attendant.next(HookEnded) == ended(2, "took over 1 s", HookKind.PRE_MASTER)
    assert now_s() - begun < 1.45
    gone(slow)


def test_without_an_answer_the_time_runs_from_the_start(attendant: Attendant, scripts: Scripts) -> None:
    """However long it has waited."""
    hold(attendant, scripts)
    attendant.send(hook(scripts.make("sleep 0.2"), 2, timeout_ns=600 * MILLISECOND_NS))
    assert attendant.silent_for(0.7)
    release(scripts)
    assert [attendant.next(HookEnded) for _ in range(2)] == [ended(1), ended(2)]


def test_a_hook_that_will_not_end(attendant: Attendant, scripts: Scripts) -> None:
    """It is told at its timeout; the next one begins only when it is gone, killed for good."""
    argv = scripts.make("trap '' TERM; echo $$ >$D/own; while :; do sleep 0.05; done")
    attendant.send(hook(argv, 1, timeout_ns=300 * MILLISECOND_NS))
    scripts.pid("own")
    attendant.send(hook(scripts.make("kill -0 $(cat $D/own) 2>/dev/null && exit 7; exit 0", "next"), 2))
    assert attendant.next(HookEnded) == ended(1, "took over 0.3 s")
    assert is_alive(scripts.pid("own"))
    assert attendant.next(HookEnded) == ended(2)
    gone(scripts.pid("own"))


def test_interfaces_do_not_wait_for_each_other(attendant: Attendant, scripts: Scripts) -> None:
    """Each has a queue of its own."""
    hold(attendant, scripts)
    attendant.send(hook(scripts.make("exit 0"), 1, queue="carp1"))
    assert attendant.next(HookEnded) == ended(1, queue="carp1")
    release(scripts)
    assert attendant.next(HookEnded) == ended(1)


def test_a_daemon_that_a_hook_starts_lives(attendant: Attendant, scripts: Scripts) -> None:
    """If it made a session of its own, and though it writes to the hook's standard error; other children are killed."""
    child = "echo $$ >$D/daemon; while :; do echo noise >&2; echo >>$D/beats; sleep 0.01; done"
    argv = scripts.make(f"sleep 992 & echo $! >$D/child; setsid sh -c '{child}' & until [ -s $D/daemon ]; do sleep 0.01; done")
    attendant.send(hook(argv))
    assert attendant.next(HookEnded) == ended(1)
    gone(scripts.pid("child"))
    beats = len(scripts.read("beats"))
    until(lambda: len(scripts.read("beats")) > beats + 20, PATIENCE_S, "some more beats")
    daemon = scripts.pid("daemon")
    assert attendant.end()[0] == 0
    gone(daemon)  # its standard error is gone by now


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"vhid": 1}, {"CARP_VHID": "1"}),
        ({"peer": None}, {"CARP_PEER": ""}),
        ({"list": []}, {"CARP_LIST": ""}),
        ({"list": ["a", 1, None]}, {"CARP_LIST": "a 1 "}),
        ({"flag": False}, {"CARP_FLAG": "false"}),
        ({"a.b c=d": "x\0y"}, {"CARP_A_B_C_D": "xy"}),
        ({"nested": {"a": 1}}, {"CARP_NESTED": '{"a": 1}'}),
    ],
)
def test_variables(context: dict[str, object], expected: dict[str, str]) -> None:
    """Names that every shell can read, and values as people write them."""
    assert variables(context) == expected
