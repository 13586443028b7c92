"""Handing over by hand, seen by a client: `carp switch` and `carp maintenance` leave nobody without an answer."""

import re
from collections.abc import Callable

import pytest

from lab.events import Events
from lab.host import Carp, Host
from lab.measure import both_answered, longest_gap_ns, lost, milliseconds, owners
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, patience_s, settle, transitions, wait_settled
from lab.prober import Prober
from lab.stage import SHARED, Stage, bare
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
GAP_NS = 20 * MS
"""The goal, in the median; the long tests hold it to that."""
AFTER_S = 0.3
THREE_ADVERTISEMENTS_S = 3 * USUAL.interval_ns(USUAL.skew_b) / 1e9
WHILE_S = 1.0
"""Some four advertisements of a quick pair."""
SECOND_SHARED = ("192.0.2.101/24", "2001:db8::101/64")

Command = Callable[[Host], None]


def command(*words: str) -> Command:
    """Return a step that runs `carp` with words and wants it to succeed."""

    def run(host: Host) -> None:
        done = host.carp(*words)
        assert (done.returncode, done.stderr) == (0, ""), done

    return run


SWITCH = command("switch", "carp0")
MAINTENANCE_ON, MAINTENANCE_OFF = command("maintenance", "on", "--reason", "new disks"), command("maintenance", "off")


@pytest.fixture
def pair(stage: Stage) -> tuple[Host, Host]:
    """Settle a pair that preempts, a better than b."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    return a, b


@pytest.fixture
def quick(stage: Stage) -> tuple[Host, Host]:
    """Settle the same with shorter intervals, where no client looks."""
    a, b = make_pair(stage, QUICK)
    settle(QUICK, a, b)
    return a, b


def demotions(host: Host) -> str:
    """Return what `carp demote list` prints."""
    return host.carp("demote", "list").stdout


def hand_over(prober: Prober, source: Host, target: Host, how: Command) -> int:
    """Hand over and wait until the other host answers; return the instant right before."""
    prober.wait_for_owner(source.label, SLACK_S)
    event = now_ns()
    how(source)
    # The command returns when it is over.
    assert (source.state_of(), target.state_of()) == ("BACKUP", "MASTER")
    prober.wait_for_owner(target.label, SLACK_S)
    return event


class TestSwitch:
    @pytest.mark.parametrize("flooding", [False, True], ids=["switch", "hub"])
    def test_there_and_back(self, build_stage: Callable[..., Stage], flooding: bool) -> None:
        """Hardly a probe is lost and none is answered by both, even on a hub, where every question reaches both hosts.

        It stays there with preempt on, until it is switched back.
        """
        stage = build_stage(flooding=flooding)
        a, b = make_pair(stage, USUAL)
        settle(USUAL, a, b)
        with stage.prober() as prober:
            begin = hand_over(prober, a, b, SWITCH)
            assert a.status()["demotions"] == []
            assert a.interface()["held_back"] is True
            changed = transitions(a), transitions(b)
            prober.wait_for_time(THREE_ADVERTISEMENTS_S)
            assert (transitions(a), transitions(b)) == changed
            hand_over(prober, b, a, SWITCH)
            assert a.interface()["held_back"] is False
            prober.wait_for_time(THREE_ADVERTISEMENTS_S)
            traces = prober.stop()
        for trace in traces.values():
            gap = longest_gap_ns(trace, begin)
            print(f"{trace.address}: longest gap {milliseconds(gap)} ms, {lost(trace, begin)} probes lost")
            assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
            assert both_answered(trace) == 0
            assert gap < GAP_NS + STALL_NS
        assert demotions(a) == demotions(b) == "nothing demotes this host\n"

    def test_what_it_says(self, pair: tuple[Host, Host]) -> None:
        """Who is MASTER now and after how long; a BACKUP cannot be switched, but may be BACKUP already."""
        a, b = pair
        done = b.carp("switch", "carp0")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"carp: carp0 is BACKUP here; its MASTER is \S+: hand it over there\n", done.stderr)
        done = b.carp("switch", "carp0", "--to-backup")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"carp0: is BACKUP already; MASTER is \S+\n", done.stdout)
        done = a.carp("switch", "carp0", "--to-backup")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"carp0: \S+ is MASTER after [0-9.]+ ms\n", done.stdout)
        assert a.carp("switch", "carp7").returncode == 1

    def test_the_other_host_dies_after_it(self, quick: tuple[Host, Host]) -> None:
        """A host that was switched away is still there when it is needed, and holds back no longer then."""
        a, b = quick
        SWITCH(a)
        b.kill()
        a.wait_for_state("MASTER", patience_s(QUICK))
        assert a.interface()["held_back"] is False

    def test_nobody_takes_it(self, stage: Stage, pair: tuple[Host, Host]) -> None:
        """Exit status 1 and a sentence; this host answers throughout, and no demotion is left."""
        a, b = pair
        b.stop()
        changed = transitions(a)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            done = a.carp("switch", "carp0", "--timeout", "1")
            # At once, not when its time is over.
            assert a.status()["demotions"] == []
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        assert (done.returncode, done.stdout) == (1, "")
        assert "carp0: no peer took it within 1 s, so this host goes on as MASTER" in done.stderr
        assert [lost(trace) for trace in traces.values()] == [0, 0]
        assert (a.state_of(), transitions(a)) == ("MASTER", changed)
        assert demotions(a) == "nothing demotes this host\n"
        interface = a.interface()
        assert (interface["demote"], interface["held_back"]) == (0, False)
        # As before: a peer that comes is not given what it was not there to take.
        settle(USUAL, a, b)
        assert holds_for(lambda: a.state_of() == "MASTER", THREE_ADVERTISEMENTS_S)


class TestMaintenance:
    def test_on_and_off(self, stage: Stage, pair: tuple[Host, Host]) -> None:
        """It hands over like a switch, keeps a preempting host away, and `off` brings it back."""
        a, b = pair
        with stage.prober() as prober:
            begin = hand_over(prober, a, b, MAINTENANCE_ON)
            prober.wait_for_time(THREE_ADVERTISEMENTS_S)
            assert (a.state_of(), b.state_of()) == ("BACKUP", "MASTER")
            MAINTENANCE_OFF(a)
            prober.wait_for_owner("a", patience_s(USUAL))
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        for trace in traces.values():
            gap = longest_gap_ns(trace, begin)
            print(f"{trace.address}: longest gap {milliseconds(gap)} ms, {lost(trace, begin)} probes lost")
            assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
            assert both_answered(trace) == 0
            assert gap < GAP_NS + STALL_NS
        assert demotions(a) == "nothing demotes this host\n"

    def test_it_survives_a_restart_and_a_crash(self, quick: tuple[Host, Host]) -> None:
        """After stop and start, and after kill -9 and start, the host is in maintenance, says so, and takes nothing."""
        a, b = quick
        MAINTENANCE_ON(a)
        wait_settled(QUICK, b, a)
        changed = transitions(b)
        for end in (a.stop, a.kill):
            end()
            a.start()
            with Events(a) as from_a:
                until(lambda: a.state_of() == "BACKUP", SLACK_S, "a to listen", 0.05)
                shown = a.carp("maintenance").stdout
                assert re.fullmatch(r"maintenance: on since \S+ by \S+: new disks\n", shown), shown
                assert re.search(r"carp0: demoted by 255: maintenance \(.*\): new disks", a.carp("status").stdout)
                assert "all: 255: maintenance" in demotions(a)
                assert holds_for(lambda: a.state_of() == "BACKUP", WHILE_S)
                assert from_a.states("carp0") in ([], ["BACKUP"])
        assert (b.state_of(), transitions(b)) == ("MASTER", changed)
        MAINTENANCE_OFF(a)
        wait_settled(QUICK, a, b)
        assert a.carp("maintenance").stdout == "maintenance: off\n"
        # And that is for good.
        a.kill()
        a.start()
        wait_settled(QUICK, a, b)
        assert demotions(a) == "nothing demotes this host\n"

    def test_the_last_host_serves_all_the_same(self, quick: tuple[Host, Host]) -> None:
        """In maintenance it takes over when its peer goes, and gives it back when the peer returns."""
        a, b = quick
        MAINTENANCE_ON(a)
        b.kill()
        a.wait_for_state("MASTER", patience_s(QUICK))
        b.start()
        wait_settled(QUICK, b, a)

    def test_no_peer_took_over(self, stage: Stage, pair: tuple[Host, Host]) -> None:
        """Exit status 1 and a sentence; this host goes on to answer, in maintenance, until a peer comes."""
        a, b = pair
        b.stop()
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            done = a.carp("maintenance", "on", "--timeout", "1")
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        assert done.returncode == 1
        assert "carp0: no peer took over: this host goes on as MASTER\n" in done.stderr
        assert done.stdout.startswith("maintenance: on since ")
        assert [lost(trace) for trace in traces.values()] == [0, 0]
        b.start()
        wait_settled(USUAL, b, a)

    def test_several_interfaces(self, stage: Stage) -> None:
        """All that this host serves moves at once; of one that the peer does not have it says that it goes on to serve it."""
        a, b = make_pair(stage, QUICK)
        for host in (a, b):
            mine = host.carps[0]
            second = mine.but(name="carp1", vhid=2, addresses=SECOND_SHARED)
            third = mine.but(name="carp2", vhid=3, addresses=("192.0.2.102/24",))
            host.configure([mine, second, *([third] if host is a else [])], **host.global_keys)
        settle(QUICK, a)
        settle(QUICK, a, b)
        with stage.prober([*SHARED, *SECOND_SHARED, "192.0.2.102/24"]) as prober:
            prober.wait_for_owner("a", SLACK_S)
            done = a.carp("maintenance", "on", "--timeout", "1")
            prober.wait_for_owner("b", SLACK_S, bare([*SHARED, *SECOND_SHARED]))
            prober.wait_for_time(AFTER_S)
            MAINTENANCE_OFF(a)
            prober.wait_for_owner("a", patience_s(QUICK))
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        assert done.returncode == 1
        assert "carp2: no peer took over: this host goes on as MASTER\n" in done.stderr
        assert sorted(re.findall(r"^(carp\d): handed over after [0-9.]+ ms$", done.stdout, re.MULTILINE)) == ["carp0", "carp1"]
        alone = traces.pop("192.0.2.102")
        assert (owners(alone, alone.start, alone.end), lost(alone)) == (["a"], 0)
        for trace in traces.values():
            assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
            assert both_answered(trace) == 0


def test_a_single_family_is_handed_over(stage: Stage) -> None:
    """Addresses of one family need nothing of the other, there and back."""
    for number, shared in enumerate(SHARED, start=1):
        a, b = make_pair(stage, QUICK, Carp(vhid=number, addresses=(shared,)))
        settle(QUICK, a, b)
        with stage.prober([shared]) as prober:
            hand_over(prober, a, b, SWITCH)
            hand_over(prober, b, a, SWITCH)
            prober.wait_for_time(AFTER_S)
            (trace,) = prober.stop().values()
        assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
        assert both_answered(trace) == 0
        for host in (a, b):
            host.close()
