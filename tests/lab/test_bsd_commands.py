"""The command lines of the BSD manuals, one by one, with their effects; bsd_commands.txt holds both."""

import pytest
from bsd_hosts import BsdHosts, set_up, typed_here
from bsd_transcript import Scene, Typed, stories

from lab.host import Host
from lab.measure import longest_gap_ns, lost, owners
from lab.pairs import SLACK_S, USUAL, patience_s, transitions, wait_settled
from lab.stage import Stage

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
TWO_INTERVALS_S = 2.2
SHARED = ("172.16.0.202",)
STORIES = stories()


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_lines_of_the_manuals(stage: Stage, story: list[Typed]) -> None:
    """Each line does what it does on the BSDs, and says what it says there."""
    with Scene(stage) as scene:
        for one in story:
            scene.carry_out(one)


@pytest.fixture
def pair(stage: Stage) -> tuple[Host, Host]:
    """Make the guide's active and standby hosts, a and b, by its own lines."""
    hosts = BsdHosts(stage)
    a, b = hosts["a"], hosts["b"]
    set_up(a, ["sysctl net.inet.carp.preempt=1", "ifconfig carp0 172.16.0.202/24 vhid 1 pass password1 advbase 1 advskew 0"])
    set_up(b, ["sysctl net.inet.carp.preempt=1", "ifconfig carp0 172.16.0.202/24 vhid 1 pass password1 advbase 1 advskew 100"])
    wait_settled(USUAL, a, b)
    return a, b


def test_down_hands_over_at_once(stage: Stage, pair: tuple[Host, Host]) -> None:
    """`ifconfig carp0 down` bows out: the other host takes over long before it would miss the MASTER; `up` brings it back."""
    a, b = pair
    before = transitions(b)
    with stage.prober(SHARED) as prober:
        prober.wait_for_owner("a", SLACK_S)
        set_up(a, ["ifconfig carp0 down"])
        prober.wait_for_owner("b", SLACK_S)
        prober.wait_for_time(0.2)
        (trace,) = prober.stop().values()
    assert owners(trace, trace.start, trace.end) == ["a", "b"]
    assert longest_gap_ns(trace) < USUAL.master_down_ns(USUAL.skew_b) / 2
    assert (a.state_of(), transitions(b)) == ("INIT", before + 1)
    set_up(a, ["ifconfig carp0 up"])
    wait_settled(USUAL, a, b)


def test_changes_of_a_running_pair_are_not_noticed(stage: Stage, pair: tuple[Host, Host]) -> None:
    """advskew, advbase and groups change on both hosts: no probe lost and no transition, until a change asks for one."""
    a, b = pair
    before = transitions(a), transitions(b)
    changes = [
        (b, "ifconfig carp0 advskew 120"),
        (a, "ifconfig carp0 advskew 10"),
        (b, "ifconfig carp0 group lan"),
        (a, "ifconfig carp0 group lan"),
        (b, "ifconfig carp0 advbase 2"),
        (a, "ifconfig carp0 advbase 2"),
        (a, "ifconfig carp0 advbase 1"),
        (a, "ifconfig carp0 -group lan"),
    ]
    with stage.prober(SHARED) as prober:
        prober.wait_for_owner("a", SLACK_S)
        for host, line in changes:
            done = typed_here(host, line)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        prober.wait_for_time(TWO_INTERVALS_S)
        (trace,) = prober.stop().values()
    assert lost(trace) == 0
    assert owners(trace, trace.start, trace.end) == ["a"]
    assert (transitions(a), transitions(b)) == before
    assert b.interface()["advbase"] == 2
    set_up(b, ["ifconfig carp0 advbase 1"])
    # Now it is better than the MASTER, which hears of it with its first advertisement.
    set_up(a, ["ifconfig carp0 advskew 200"])
    b.wait_for_state("MASTER", patience_s(USUAL))
    a.wait_for_state("BACKUP", SLACK_S)
    assert (transitions(a), transitions(b)) == (before[0] + 1, before[1] + 1)
