"""What the fence shows of itself, what it does without libbpf, and how it gets along with others and with leftovers."""

import json
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from lab.capture import Capture
from lab.faults import Traffic, programs
from lab.host import Host
from lab.load import Load
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, patience_s, settle, transitions
from lab.ping import ping
from lab.stage import SHARED, Stage, bare
from lab.strikes import router_pair, strike, witness
from lab.tables import addresses
from lab.wait import holds_for, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
CANNOT_RUN = 1
LIBRARY = "libbpf.so.1"


def fence(host: Host) -> dict[str, object]:
    """Return what the status says of the fence."""
    return dict(host.interface()["fence"])


def test_the_status_shows_open_and_closed(stage: Stage) -> None:
    """Open on the MASTER, never for longer than a peer waits; closed on the BACKUP; each changes with the state."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    for _ in range(2):
        shown = fence(a)
        assert (shown["state"], shown["reason"], shown["late_closings"]) == ("open", None, 0)
        assert isinstance(shown["closes_in_s"], float)
        assert 0 < shown["closes_in_s"] < USUAL.master_down_ns(0) / 1e9
    shown = fence(b)
    assert (shown["state"], shown["closes_in_s"]) == ("closed", None)
    a.stop()
    b.wait_for_state("MASTER", SLACK_S)
    b.wait_for(lambda status: status["interfaces"][0]["fence"]["state"] == "open", SLACK_S, "its fence to open")


def test_dropped_packets_are_counted(build_stage: Callable[..., Stage]) -> None:
    """On a hub the BACKUP is asked too: what its fence drops shows in the status."""
    stage = build_stage(flooding=True)
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = fence(b)["dropped"]
    # Sent to the BACKUP's own MAC, a packet for the shared address gets as far as its parent.
    stage.client.namespace.ip(f"neigh replace {bare(SHARED)[0]} lladdr {b.port.mac} dev eth0 nud permanent")
    assert ping(stage.client.namespace, bare(SHARED)[0], count=20, patience_s=0.2) == 0
    after = fence(b)["dropped"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after >= before + 20


def test_switched_off_it_is_unavailable_and_says_why(stage: Stage) -> None:
    """With fence = "off" nothing hangs on the interfaces, the status says so, and there is no warning."""
    a = make_pair(stage, QUICK, None, fence="off")[0]
    settle(QUICK, a)
    shown = fence(a)
    assert shown["state"] == "unavailable"
    assert "switched off" in str(shown["reason"])
    assert "no fence" not in a.log_text()
    for name in ("eth0", "carp0"):
        assert "clsact" not in a.namespace.tc(f"qdisc show dev {name}")
    assert "unavailable" in a.carp("status", "--json").stdout


def without_libbpf(host: Host) -> tuple[str, ...]:
    """Return the command line of a daemon that finds an empty file in place of libbpf, in a mount namespace of its own."""
    found = {Path(line.split()[-1]) for line in _ldconfig().splitlines() if line.split()[:1] == [LIBRARY]}
    assert found, f"{LIBRARY} is not installed"
    hide = " && ".join(f"mount --bind /dev/null {path.resolve()}" for path in sorted(found))
    return ("unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh", *host.arguments())


def _ldconfig() -> str:
    return subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout


def test_required_without_libbpf_it_refuses_to_start(stage: Stage) -> None:
    """Exit status 1, one sentence with what is missing and how to get it; the host is not touched."""
    a = make_pair(stage, QUICK, None, fence="required")[0]
    line = a.namespace.wrap(*without_libbpf(a))
    done = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert done.returncode == CANNOT_RUN
    (said,) = done.stderr.strip().splitlines()
    assert all(word in said for word in ("required", "libbpf 1.1 or newer", "libbpf1"))
    assert "carp0" not in a.namespace.run("ip", "link")
    # With the library it starts.
    settle(QUICK, a)
    assert fence(a)["state"] == "open"


def test_auto_without_libbpf_it_warns_once_and_works(stage: Stage) -> None:
    """One line at the start; it becomes MASTER and answers, and the status gives the reason."""
    a = make_pair(stage, QUICK)[0]
    assert stage.client.carrier()
    program = stage.program("a", *without_libbpf(a))
    a.wait_for_state("MASTER", patience_s(QUICK))
    shown = fence(a)
    assert shown["state"] == "unavailable"
    assert "libbpf" in str(shown["reason"])
    for address in bare(SHARED):
        assert ping(stage.client.namespace, address, count=20) == 20
    said = program.log.read_text()
    assert len([line for line in said.splitlines() if "libbpf" in line]) == 1
    assert "warning" in said
    program.close()
    assert "libbpf" not in program.log.read_text()[len(said) :]
    assert "carp0" not in a.namespace.run("ip", "link")


PASS_ALL = programs(Traffic.ADVERTISEMENTS, loss=0.0)[0]
BOTH_HOOKS = ("ingress", "egress")


def add_foreign(host: Host, preference: int, program: str = PASS_ALL, hooks: Iterable[str] = BOTH_HOOKS) -> None:
    """Put a filter of somebody else on the parent; by default one that leaves every packet to the next."""
    for hook in hooks:
        line = f"filter add dev eth0 {hook} protocol all pref {preference} bpf direct-action bytecode"
        host.namespace.run("tc", *line.split(), program)


def foreign(host: Host) -> list[str]:
    """Return the filters on the parent that are not carpd's."""
    shown = [host.namespace.tc(f"filter show dev eth0 {hook}") for hook in BOTH_HOOKS]
    return [line for text in shown for line in text.splitlines() if "bytecode" in line]


@pytest.mark.parametrize("end", ["clean stop", "kill -9"])
def test_a_foreign_filter_stays_and_runs(stage: Stage, end: str) -> None:
    """A filter of somebody else on the same hook runs while carpd does and after it stopped or crashed and was restarted."""
    a, b = make_pair(stage, QUICK)
    client = stage.client
    a.namespace.tc("qdisc add dev eth0 clsact")
    add_foreign(a, 200)
    there = foreign(a)
    assert len(there) == 2
    settle(QUICK, a, b)
    assert foreign(a) == there
    if end == "kill -9":
        a.kill()
        b.wait_for_state("MASTER", patience_s(QUICK))
        settle(QUICK, a, b)
        assert foreign(a) == there
    a.stop()
    assert foreign(a) == there
    assert "carp_" not in a.namespace.tc("filter show dev eth0 ingress")
    # It still decides: replaced by one that drops all, nothing arrives any more.
    assert ping(client.namespace, "192.0.2.1", count=5) == 5
    a.namespace.tc("filter del dev eth0 ingress pref 200")
    add_foreign(a, 200, programs(Traffic.ALL)[0], ("ingress",))
    assert ping(client.namespace, "192.0.2.1", count=5, patience_s=0.3) == 0


def test_a_foreign_filter_behind_the_fence_is_asked(stage: Stage) -> None:
    """While carpd runs, what the open fence lets pass still goes to the filters of others."""
    a = make_pair(stage, QUICK)[0]
    client = stage.client
    settle(QUICK, a)
    vip = bare(SHARED)[0]
    assert ping(client.namespace, vip, count=5) == 5
    add_foreign(a, 200, programs(Traffic.ALL)[0], ("ingress",))
    assert ping(client.namespace, vip, count=5, patience_s=0.3) == 0
    assert fence(a)["state"] == "open"


def program_ids(host: Host) -> set[str]:
    """Return the kernel's numbers of the programs that are attached to the parent."""
    shown = [host.namespace.tc(f"filter show dev eth0 {hook}") for hook in BOTH_HOOKS]
    lines = [line for text in shown for line in text.splitlines() if "carp_" in line]
    assert all(re.search(r" id (\d+)", line) for line in lines)
    return {match[1] for line in lines if (match := re.search(r" id (\d+)", line))}


def test_what_a_crash_left_is_replaced_and_nobody_answers_twice(build_stage: Callable[..., Stage]) -> None:
    """The next start releases the addresses before it takes the old fence away; at no moment do both hosts answer.

    The restarted host must not preempt, so that every word of it after its crash is one too many.
    """
    stage = build_stage(flooding=True)
    a, b = router_pair(stage, QUICK, preempt=False)
    settle(QUICK, a)
    settle(QUICK, a, b)
    left = program_ids(a)
    assert len(left) == 2
    strike(stage, QUICK, a, b, a.kill).check()
    assert program_ids(a) == left
    assert set(SHARED) <= addresses(a.namespace, "carp0")
    with stage.prober() as prober, witness(stage, a, b) as seen, Capture(a.port) as from_a:
        prober.wait_for_owner("b", SLACK_S)
        a.start()
        a.wait_for_state("BACKUP", patience_s(QUICK))
        prober.wait_for_time(0.5)
        traces = prober.stop()
        words = seen.stop()
        assert from_a.frames(), "the capture saw nothing of the restarted host, not even its own traffic"
    assert {answer.host for trace in traces.values() for answer in trace.answers} == {"b"}
    assert {word.host for word in words} == {"b"}
    new = program_ids(a)
    assert len(new) == 2
    assert not new & left
    assert "removed what a crashed run left" in a.log_text()


def test_a_healthy_daemon_under_load_stays_open(stage: Stage) -> None:
    """With every core busy for ten seconds and advbase 1 no advertisement comes too late, and nobody changes state."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = transitions(a), transitions(b)
    with Load():
        assert holds_for(lambda: fence(a)["state"] == "open", 10.0, 0.2)
    assert fence(a)["late_closings"] == 0
    assert (transitions(a), transitions(b)) == before


def test_late_closings_are_counted(stage: Stage) -> None:
    """A MASTER whose advertisements could not leave for a while and then could again says that its fence had closed."""
    a = make_pair(stage, USUAL)[0]
    settle(USUAL, a)
    for number, program in enumerate(programs(Traffic.ADVERTISEMENTS), start=1):
        add_foreign(a, number, program, ("egress",))
    until(lambda: fence(a)["state"] == "closed", patience_s(USUAL), "the fence to close", 0.02)
    for number in (1, 2):
        a.namespace.tc(f"filter del dev eth0 egress pref {number}")
    until(lambda: fence(a)["state"] == "open", patience_s(USUAL), "the fence to open again", 0.02)
    assert fence(a)["late_closings"] == 1
    assert a.log_text().count("the fence was closed for") == 1
    assert json.loads(a.carp("status", "--json").stdout)["timer_lateness"]["timers"] > 0
