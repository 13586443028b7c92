"""Checks that run programs: bounded in time, output and what they leave behind."""

import itertools

import pytest
from attendant_kit import MILLISECOND_NS, PATIENCE_S, SECOND_NS, Attendant, Scripts, check, gone, now_s

from carp.attendant.orders import Check, Checked, CheckKind, Forget, Watch
from carp.attendant.proc import is_alive
from lab.wait import until

LONG_NS = 3600 * SECOND_NS


def script_check(argv: tuple[str, ...], name: str = "c", **more: int) -> Check:
    """Describe a check that runs once, unless an interval is given."""
    return check(CheckKind.SCRIPT, name=name, argv=argv, **{"interval_ns": LONG_NS, **more})


def result_of(attendant: Attendant, argv: tuple[str, ...], **more: int) -> Checked:
    """Run a check once."""
    attendant.send(Watch(script_check(argv, **more)))
    return attendant.next(Checked)


@pytest.mark.parametrize(
    ("body", "holds", "detail"),
    [
        ("exit 0", True, ""),
        ("exit 3", False, "exit status 3"),
        ("echo first >&2; echo 'no route to peer' >&2; echo ' ' >&2; exit 1", False, "exit status 1: no route to peer"),
        ("printf 'a\\033[31mb\\377' >&2; exit 1", False, "exit status 1: a [31mb\N{REPLACEMENT CHARACTER}"),
        ("kill -SEGV $$", False, "killed by SIGSEGV"),
        ("echo noise; exit 0", True, ""),
        ("echo noise; exit 1", False, "exit status 1"),
    ],
)
def test_how_a_script_ends(attendant: Attendant, scripts: Scripts, body: str, holds: bool, detail: str) -> None:
    """Status 0 is good; anything else is bad and says what, with the last line of standard error."""
    assert result_of(attendant, scripts.make(body)) == Checked("c", holds, detail)


def test_an_executable_that_is_bad(attendant: Attendant, scripts: Scripts) -> None:
    """Missing, not executable, no program: a bad result each, and the attendant goes on."""
    text = scripts.folder / "text"
    text.write_text("no program")
    text.chmod(0o755)
    assert result_of(attendant, (str(scripts.folder / "absent"),)).detail == "cannot be run: No such file or directory"
    assert result_of(attendant, (str(scripts.folder),)).detail == "cannot be run: Permission denied"
    assert result_of(attendant, (str(text),)).detail == "cannot be run: Exec format error"
    assert not result_of(attendant, ("/bin/a\0b",)).holds
    assert not result_of(attendant, ()).holds
    assert result_of(attendant, scripts.make("exit 0")).holds


def test_a_script_that_sleeps_for_ever(attendant: Attendant, scripts: Scripts) -> None:
    """It is bad at its timeout and ended with its children, and with those that have left its group but not its session."""
    argv = scripts.make("timeout 1000 sleep 999 & echo $! >$D/timeout; sleep 998 & echo $! >$D/sleep; echo $$ >$D/own; wait")
    begun = now_s()
    assert result_of(attendant, argv, timeout_ns=300 * MILLISECOND_NS) == Checked("c", False, "took over 0.3 s")
    assert 0.3 <= now_s() - begun < PATIENCE_S
    for name in ("own", "sleep", "timeout"):
        gone(scripts.pid(name))


def test_a_script_that_ignores_sigterm(attendant: Attendant, scripts: Scripts) -> None:
    """The result comes at the timeout; a second later it is killed, and is not started again before."""
    argv = scripts.make("trap 'echo >>$D/term' TERM; echo $$ >$D/own; echo >>$D/runs; while :; do sleep 0.05; done")
    more = {"timeout_ns": 300 * MILLISECOND_NS, "interval_ns": 310 * MILLISECOND_NS}
    assert not result_of(attendant, argv, **more).holds
    first = scripts.pid("own")
    assert is_alive(first)
    until(lambda: scripts.read("term"), PATIENCE_S, "SIGTERM")
    assert scripts.read("runs") == "\n"
    gone(first)
    until(lambda: len(scripts.read("runs")) >= 2, PATIENCE_S, "the next run")


def test_a_script_that_leaves_children(attendant: Attendant, scripts: Scripts) -> None:
    """They are killed when it ends, also if they ignore SIGTERM and hold its output open; that delays nothing."""
    child = 'trap "" TERM HUP; echo $$ >$D/child; sleep 997'
    argv = scripts.make(f"sh -c '{child}' & while ! [ -s $D/child ]; do sleep 0.01; done; exit 4")
    begun = now_s()
    assert result_of(attendant, argv) == Checked("c", False, "exit status 4")
    assert now_s() - begun < PATIENCE_S
    gone(scripts.pid("child"))


@pytest.mark.parametrize(
    ("flood", "timeout_ns", "detail"),
    [("1G", 60 * SECOND_NS, ""), ("1G >&2", 2 * SECOND_NS, "took over 2 s"), ("50M >&2", 2 * SECOND_NS, "took over 2 s")],
)
def test_a_script_that_prints_a_gigabyte(
    attendant: Attendant, scripts: Scripts, flood: str, timeout_ns: int, detail: str
) -> None:
    """It costs neither memory nor much time, whichever stream it is; on standard error the script is slowed, not broken."""
    assert result_of(attendant, scripts.make("exit 0", "warm-up"), name="warm-up").holds
    memory, processor = attendant.rss_kib(), attendant.cpu_s()
    argv = scripts.make(f"trap 'exit 9' PIPE; yes 'the network is down' | head -c {flood}", "noisy")
    assert result_of(attendant, argv, timeout_ns=timeout_ns) == Checked("c", not detail, detail)
    assert attendant.rss_kib() - memory < 4096
    assert attendant.cpu_s() - processor < 0.3


def test_the_beginning_of_a_long_output_is_told(attendant: Attendant, scripts: Scripts) -> None:
    """A script that writes more than is kept is not held up for long, and not broken."""
    argv = scripts.make("head -c 200000 /dev/zero | tr '\\0' x >&2; exit 5")
    checked = result_of(attendant, argv)
    assert checked.detail.startswith("exit status 5: xxxx")
    assert len(checked.detail) < 200


def test_what_a_script_gets(attendant: Attendant, scripts: Scripts) -> None:
    """PATH, LANG, no input, no other descriptors (the shell has its own from 10 on), / as its directory, a session."""
    look = "ls -l /proc/$$/fd >$D/fds; echo $$ $(cut -d' ' -f5,6 /proc/$$/stat) >$D/session"
    argv = scripts.make(f"env >$D/env; cat >$D/input; pwd >$D/pwd; {look}")
    assert result_of(attendant, argv).holds
    names = {line.partition("=")[0] for line in scripts.read("env").splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_", "D"} == {"PATH", "LANG"}
    assert scripts.read("input") == ""
    assert scripts.read("pwd") == "/\n"
    descriptors = {line.split()[8] for line in scripts.read("fds").splitlines() if "->" in line}
    assert {number for number in descriptors if int(number) < 10} == {"0", "1", "2"}
    own, group, session = scripts.read("session").split()
    assert own == group == session


def test_rise_and_fall_of_a_script(attendant: Attendant, scripts: Scripts) -> None:
    """A first bad result is told at once; later ones are counted."""
    argv = scripts.make('n=$(cat $D/n 2>/dev/null || echo 0); echo $((n + 1)) >$D/n; [ "$n" -ge 1 ] && [ "$n" -lt 6 ]')
    attendant.send(Watch(script_check(argv, interval_ns=30 * MILLISECOND_NS, rise=3, fall=2)))
    assert not attendant.next(Checked).holds
    assert scripts.read("n") == "1\n"
    assert attendant.next(Checked).holds
    assert int(scripts.read("n")) >= 4
    assert not attendant.next(Checked).holds
    assert int(scripts.read("n")) >= 8


def test_the_interval_is_kept(attendant: Attendant, scripts: Scripts) -> None:
    """From start to start; runs neither overlap nor follow each other faster."""
    argv = scripts.make("[ -e $D/lock ] && echo >>$D/overlap; touch $D/lock; date +%s%N >>$D/times; sleep 0.1; rm $D/lock")
    attendant.send(Watch(script_check(argv, interval_ns=200 * MILLISECOND_NS)))
    until(lambda: scripts.read("times").count("\n") >= 4, PATIENCE_S, "four runs")
    attendant.send(Forget("c"))
    times = [int(line) for line in scripts.read("times").split()]
    gaps = [(after - before) / 1e9 for before, after in itertools.pairwise(times)]
    assert min(gaps) > 0.1
    assert sum(gaps) / len(gaps) > 0.19
    assert scripts.read("overlap") == ""


def test_a_forgotten_check_is_ended(attendant: Attendant, scripts: Scripts) -> None:
    """What it runs is killed, and it is not heard of again."""
    attendant.send(Watch(script_check(scripts.make("echo $$ >$D/own; sleep 995"), timeout_ns=LONG_NS)))
    own = scripts.pid("own")
    attendant.send(Forget("c"))
    gone(own)
    assert attendant.silent_for(0.2)
    attendant.send(Forget("never heard of"))
    assert result_of(attendant, scripts.make("exit 0")).holds


def test_a_check_in_the_place_of_another(attendant: Attendant, scripts: Scripts) -> None:
    """The new one has a first result of its own, and the old one is ended."""
    assert result_of(attendant, scripts.make("exit 0", "good")).holds
    attendant.send(Watch(script_check(scripts.make("echo $$ >$D/own; sleep 994", "slow"), timeout_ns=LONG_NS)))
    own = scripts.pid("own")
    assert result_of(attendant, scripts.make("exit 0", "good"), fall=9).holds
    gone(own)


def test_very_many_checks(attendant: Attendant, scripts: Scripts) -> None:
    """Only some run at once, all get their turn, and waiting for it is not part of their time."""
    argv = scripts.make("ls $D/running 2>/dev/null | wc -l >>$D/counts; : >$D/running/$$; sleep 0.1; rm $D/running/$$")
    (scripts.folder / "running").mkdir()
    for number in range(300):
        attendant.send(Watch(script_check(argv, name=f"c{number}", timeout_ns=10 * SECOND_NS)))
    results = [attendant.next(Checked) for _ in range(300)]
    assert {one.name for one in results} == {f"c{number}" for number in range(300)}
    assert all(one.holds for one in results)
    assert max(int(count) for count in scripts.read("counts").split()) <= 64


def test_nothing_is_used_up(attendant: Attendant, scripts: Scripts) -> None:
    """A check that goes on for long costs no more descriptors than at its beginning."""
    attendant.send(Watch(script_check(scripts.make("echo >>$D/runs; setsid sleep 0.2 & exit 1"), interval_ns=MILLISECOND_NS)))
    until(lambda: len(scripts.read("runs")) > 3, PATIENCE_S, "some runs")
    before = attendant.descriptors()
    until(lambda: len(scripts.read("runs")) > 40, PATIENCE_S, "many runs")
    assert attendant.descriptors() < before + 8
