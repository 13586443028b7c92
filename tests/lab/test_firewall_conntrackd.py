"""Two firewalls whose conntrackd is missing, wrong, killed, hanging or cut off: that is shown and healed, never stuck."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.conntrackd import count_states, flush_states
from lab.firewalls import LAN_CARP, QUICK, SERVER, WAN_CARP, Firewall, FirewallPair
from lab.pairs import SLACK_S
from lab.stage import Stage
from lab.transfers import Transfers
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

TIMEOUT_S = 1.0
BULK_TIMEOUT_S = 4.0
SOME = 20
MANY = 20_000
STAYS_S = 5.0
"""Far longer than any takeover of this pair takes."""
LATE_NS = 500_000_000
"""What a busy machine may add to a takeover."""
DEMOTED_S = 12.0
"""Within this a MASTER without a peer is demoted, too."""


@pytest.fixture
def pair(stage: Stage) -> FirewallPair:
    """Build a quick pair; nothing is started."""
    return FirewallPair(stage, QUICK, **{"timeout": TIMEOUT_S, "bulk-timeout": BULK_TIMEOUT_S})


@pytest.fixture
def settled(pair: FirewallPair) -> FirewallPair:
    """Let both run, fw1 as MASTER, fw2 with all states."""
    pair.settle()
    return pair


def demotion(firewall: Firewall) -> int:
    """Return by how much `carp sync status` says that a firewall is demoted."""
    return int(firewall.sync_status()["demote"])


def ends_in_s(firewall: Firewall, name: str) -> float:
    """Return in how many seconds a reason for demotion ends that was given for a while, 0 where it has ended."""
    reasons = firewall.get("/v1/demotions")["demotions"]
    return sum(float(one["ends_in_s"]) for one in reasons if one["name"] == name)


def put_states(firewall: Firewall, number: int) -> None:
    """Let a firewall's kernel have so many states more, of connections that nobody uses."""
    lines = (
        f"-I -s 10.1.{one >> 8 & 255}.{one & 255} -d 10.2.{one >> 16}.1 -p udp --sport {1024 + one % 50_000} --dport 53 -t 600"
        for one in range(number)
    )
    file = firewall.directory / "states"
    file.write_text("\n".join(lines) + "\n")
    firewall.namespace.run("conntrack", "-R", str(file), timeout_s=SLACK_S)


def wait_for_trouble(firewall: Firewall, word: str, timeout_s: float = SLACK_S) -> None:
    """Wait until a firewall says that it gets no states, for a reason with a word in it."""

    def told() -> bool:
        status = firewall.sync_status()
        return not status["synchronised"] and word in status["reason"]

    until(told, timeout_s, f"{firewall.label} to tell of {word}: {firewall.sync_status()}")


def wait_for_demotion(firewall: Firewall, timeout_s: float = DEMOTED_S) -> None:
    """Wait until it shows in the group's demote count, too."""
    until(lambda: demotion(firewall) > 0, timeout_s, f"{firewall.label} to be demoted")
    shown = firewall.carp("ifconfig", "-g", "carp").stdout
    assert "carp demote count 0" not in shown


def wait_until_healed(pair: FirewallPair) -> None:
    """Wait until both have all states, and neither is demoted."""
    pair.wait_settled(pair.fw1, pair.fw2)
    until(lambda: all(one.synchronised() and not demotion(one) for one in pair.both), SLACK_S, "both firewalls to be in step")


def still(pair: FirewallPair, master: Firewall, backup: Firewall) -> bool:
    """Tell whether roles stay as they are for a while."""
    return holds_for(lambda: master.is_settled("MASTER") and backup.is_settled("BACKUP"), STAYS_S, 0.05)


@pytest.mark.slow
def test_without_conntrackd(pair: FirewallPair) -> None:
    """Where none is installed carpd says so, naming the socket, and shares the addresses as before.

    The one that came back has no states, and so does not take its place by itself; maintenance of the other one forces it.
    """
    for firewall in pair.both:
        firewall.boot(with_conntrackd=False)
    pair.wait_settled(pair.fw1)
    until(lambda: pair.fw2.is_settled("BACKUP"), SLACK_S, "fw2 to be BACKUP")
    for firewall in pair.both:
        told = f"cannot be asked at {firewall.conntrackd.socket}: No such file or directory"
        assert f"conntrackd {told}" in firewall.log_text()
        assert told in firewall.carp("sync", "status").stdout
    killed = pair.fw1.kill()
    taken = pair.wait_settled(pair.fw2)
    assert taken - killed < (pair.bound_s + TIMEOUT_S) * 1e9 + LATE_NS
    pair.fw1.start()
    pair.fw1.wait_until_listening()
    assert still(pair, pair.fw2, pair.fw1)
    done = pair.fw2.carp("maintenance", "on")
    assert done.returncode == 0, done.stderr
    pair.wait_settled(pair.fw1)


@pytest.mark.parametrize("kind", ["left", "other program", "statistics"])
def test_a_socket_that_is_wrong(pair: FirewallPair, kind: str) -> None:
    """It is told what is wrong with it; a firewall that is alone takes its place all the same."""
    firewall = pair.fw1
    left = firewall.directory / "left"
    with socket.socket(socket.AF_UNIX) as former:
        former.bind(str(left))
    cases: dict[str, tuple[Path, str]] = {
        "left": (left, "Connection refused"),
        "other program": (firewall.socket, "conntrackd "),
        "statistics": (firewall.conntrackd.socket, "does not synchronise"),
    }
    path, told = cases[kind]
    if kind == "statistics":
        general = firewall.printed_configuration()
        firewall.conntrackd.configure("Stats {\n}\n" + general[general.index("General {") :])
        firewall.conntrackd.start()
    firewall.sync["conntrackd"] = str(path)
    firewall.configure(firewall.carps, **firewall.global_keys)
    firewall.start()
    wait_for_trouble(firewall, told)
    assert demotion(firewall) > 0
    assert told in firewall.log_text()
    pair.wait_settled(firewall)


@pytest.mark.parametrize("harm", ["killed", "stopped"])
def test_a_backup_whose_conntrackd_fails(settled: FirewallPair, harm: str) -> None:
    """Its demotion is shown while it gets no states, and ends when it has them all again."""
    backup = settled.fw2
    with Transfers(settled.client, settled.server, SERVER, SOME, calls=0) as traffic:
        if harm == "killed":
            backup.conntrackd.kill()
        else:
            backup.conntrackd.signal(signal.SIGSTOP)
        wait_for_trouble(backup, "conntrackd")
        wait_for_demotion(backup)
        assert settled.fw1.is_settled("MASTER")
        if harm == "killed":
            backup.conntrackd.start()
        else:
            backup.conntrackd.signal(signal.SIGCONT)
        wait_until_healed(settled)
        assert backup.conntrackd.external() >= SOME
        settled.fw1.axe()
        traffic.wait_until_flowing(SLACK_S, settled.wait_settled(backup))
        assert traffic.stop().incomplete == []


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["killed", "stopped", "cut"])
def test_nobody_takes_over_from_the_host_that_has_the_states(settled: FirewallPair, harm: str) -> None:
    """If the MASTER's conntrackd or the link fails, both show it and the roles stay; what began meanwhile is carried later."""
    master, backup = settled.both
    cures: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "killed": (master.conntrackd.kill, master.conntrackd.start),
        "stopped": (
            lambda: master.conntrackd.signal(signal.SIGSTOP),
            lambda: master.conntrackd.signal(signal.SIGCONT),
        ),
        "cut": (master.cut_link, master.mend_link),
    }
    strike, cure = cures[harm]
    strike()
    with Transfers(settled.client, settled.server, SERVER, SOME, calls=0) as traffic:
        for firewall in (backup, master):
            wait_for_demotion(firewall)
            assert not firewall.synchronised()
        assert still(settled, master, backup)
        cure()
        wait_until_healed(settled)
        master.axe()
        traffic.wait_until_flowing(SLACK_S, settled.wait_settled(backup))
        assert traffic.stop().incomplete == []


def test_a_takeover_with_a_conntrackd_that_hangs(settled: FirewallPair) -> None:
    """It waits no longer than the deadline, says that it goes on without the states, and is never stuck."""
    backup = settled.fw2
    backup.conntrackd.signal(signal.SIGSTOP)
    struck = settled.fw1.axe()
    taken = settled.wait_settled(backup)
    assert taken - struck < (settled.bound_s + TIMEOUT_S) * 1e9 + LATE_NS
    assert "this host takes over without the peer's states: conntrackd does not answer" in backup.log_text()
    takeover = backup.sync_status()["last_takeover"]
    assert not takeover["committed"]
    assert "does not answer" in takeover["problem"]


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["conntrackd", "link", "the other conntrackd"])
def test_a_firewall_that_comes_back_without_states(settled: FirewallPair, missing: str) -> None:
    """It stays BACKUP, demoted, however long it waits, and takes its place as soon as it has the states."""
    back, other = settled.both
    with Transfers(settled.client, settled.server, SERVER, SOME, calls=0) as traffic:
        back.axe()
        traffic.wait_until_flowing(SLACK_S, settled.wait_settled(other))
        if missing == "the other conntrackd":
            other.conntrackd.kill()
        back.recover(with_conntrackd=missing != "conntrackd", without_link=missing == "link")
        back.wait_until_listening()
        wait_for_demotion(back)
        # Longer than it waits for the peer's states, and than a MASTER without a peer takes to be demoted itself.
        until_s = BULK_TIMEOUT_S + DEMOTED_S
        assert holds_for(lambda: back.state_of(LAN_CARP) == "BACKUP" and other.is_settled("MASTER"), until_s, 0.05)
        assert "states of the peer are in the kernel" not in back.log_text().rpartition("started: ")[2]
        if missing == "link":
            back.mend_link()
        else:
            (back if missing == "conntrackd" else other).conntrackd.start()
        settled.wait_settled(back, other)
        assert count_states(back.namespace) >= SOME
        traffic.wait_until_flowing(SLACK_S, now_ns())
        assert traffic.stop().incomplete == []


@pytest.mark.slow
def test_nobody_is_replaced_by_a_host_whose_conntrackd_hangs(stage: Stage) -> None:
    """It hangs right before fw1 takes its place again: fw2 serves until the states are in the kernel of fw1."""
    # So little that the commit of a takeover would be given up before carpd finds out by itself that conntrackd hangs.
    pair = FirewallPair(stage, QUICK, timeout=0.5)
    pair.settle()
    back, other = pair.both
    with Transfers(pair.client, pair.server, SERVER, SOME, calls=0) as traffic:
        back.axe()
        traffic.wait_until_flowing(SLACK_S, pair.wait_settled(other))
        back.recover()
        back.wait_until_up()
        assert back.carp("demote", "add", "work", "50", "--for", f"{SLACK_S:g}s").returncode == 0
        until(back.synchronised, SLACK_S, "fw1 to have the states", 0.05)
        until(lambda: ends_in_s(back, "work") < 0.2, SLACK_S, "fw1 to be about to take its place", 0.02)
        back.conntrackd.signal(signal.SIGSTOP)
        assert still(pair, other, back)
        back.conntrackd.signal(signal.SIGCONT)
        pair.wait_settled(back, other)
        traffic.wait_until_flowing(SLACK_S, now_ns())
        assert traffic.stop().incomplete == []


@pytest.mark.slow
def test_a_conntrackd_that_goes_on_after_the_takeover(settled: FirewallPair) -> None:
    """It writes the states then, and sends the peer its copy: what it held when it hung comes back to fw1 in the end."""
    first, other = settled.both
    put_states(first, MANY)
    until(lambda: other.conntrackd.external() >= MANY, SLACK_S, "the states to be sent")
    other.conntrackd.signal(signal.SIGSTOP)
    first.axe()
    taken = settled.wait_settled(other)
    assert holds_for(lambda: count_states(other.namespace) < MANY, STAYS_S + TIMEOUT_S)
    other.conntrackd.signal(signal.SIGCONT)
    until(lambda: count_states(other.namespace) >= MANY, SLACK_S, "the states to be written", 0.05)
    first.recover()
    assert settled.wait_settled(first, other) > taken
    assert count_states(first.namespace) >= MANY


def test_states_that_come_after_the_takeover(settled: FirewallPair) -> None:
    """A MASTER whose conntrackd was not there commits late what the peer's conntrackd has, once, and says so."""
    with Transfers(settled.client, settled.server, SERVER, SOME, calls=0):
        taker = settled.fw2
        until(lambda: taker.conntrackd.external() >= SOME, SLACK_S, "fw2 to have the states")
        taker.conntrackd.kill()
        flush_states(taker.namespace)
        settled.fw1.kill()
        settled.wait_settled(taker)
        last = taker.sync_status()["last_takeover"]
        assert (last["committed"], last["states"], last["late_at"]) == (False, None, None)
        taker.conntrackd.start()
        until(lambda: taker.sync_status()["last_takeover"]["late_at"], SLACK_S, "fw2 to commit the states")
    assert taker.sync_status()["last_takeover"]["states"] >= SOME
    assert count_states(taker.namespace) >= SOME
    assert " committed late, 20" in taker.carp("sync", "status").stdout
    assert taker.log_text().count("states of the peer are in the kernel late, ") == 1


def test_two_sides_on_two_hosts(settled: FirewallPair) -> None:
    """A switch of one side says that nothing passes any more, and how to go on; both hosts show it until it is over."""
    done = settled.fw1.carp("switch", LAN_CARP)
    assert (done.returncode, f"warning: {WAN_CARP} is MASTER here still: packets" in done.stderr) == (0, True)
    assert f"carp switch {WAN_CARP}" in done.stderr
    for firewall, here, there in ((settled.fw1, WAN_CARP, LAN_CARP), (settled.fw2, LAN_CARP, WAN_CARP)):
        told = f"{here} is MASTER here, {there} is not: packets between them do not pass"
        until(lambda told=told, one=firewall: told in one.carp("status").stdout, SLACK_S, f"{firewall.label} to tell")  # type: ignore[misc]
        shown = firewall.carp("sync", "status")
        assert (shown.returncode, told in shown.stdout) == (3, True)
        assert firewall.log_text().count(told) == 1
    done = settled.fw1.carp("switch", WAN_CARP)
    assert (done.returncode, done.stderr) == (0, "")
    for firewall in settled.both:
        until(lambda one=firewall: one.carp("sync", "status").returncode == 0, SLACK_S, f"{firewall.label} to be well")  # type: ignore[misc]


def test_a_hand_over_without_states(settled: FirewallPair) -> None:
    """It is done, with a warning that connections may break."""
    settled.fw1.cut_link()
    wait_for_trouble(settled.fw1, "down")
    done = settled.fw1.carp("maintenance", "on")
    assert done.returncode == 0
    assert "warning: the peer may lack the states of connections, which then break: em2 is down" in done.stderr
    settled.wait_settled(settled.fw2)
