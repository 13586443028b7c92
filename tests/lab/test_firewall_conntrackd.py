"""Two firewalls whose conntrackd is missing, wrong, killed, hanging or cut off: that is shown and healed, never stuck."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.conntrackd import count_states
from lab.firewalls import LAN_CARP, QUICK, SERVER, Firewall, FirewallPair
from lab.pairs import SLACK_S
from lab.stage import Stage
from lab.transfers import Transfers
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

TIMEOUT_S = 1.0
BULK_TIMEOUT_S = 4.0
SOME = 20
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


@pytest.mark.parametrize("kind", ["file", "other program", "statistics"])
def test_a_socket_that_is_wrong(pair: FirewallPair, kind: str) -> None:
    """It is told what is wrong with it; a firewall that is alone takes its place all the same."""
    firewall = pair.fw1
    plain = firewall.directory / "file"
    plain.touch()
    cases: dict[str, tuple[Path, str]] = {
        "file": (plain, "Connection refused"),
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
@pytest.mark.parametrize("missing", ["conntrackd", "link"])
def test_a_firewall_that_comes_back_without_states(settled: FirewallPair, missing: str) -> None:
    """It stays BACKUP, demoted, however long it waits, and takes its place as soon as it has the states."""
    back, other = settled.both
    with Transfers(settled.client, settled.server, SERVER, SOME, calls=0) as traffic:
        back.axe()
        traffic.wait_until_flowing(SLACK_S, settled.wait_settled(other))
        if missing == "conntrackd":
            back.recover(with_conntrackd=False)
        else:
            back.recover(without_link=True)
        back.wait_until_listening()
        wait_for_demotion(back)
        # Longer than it waits for the peer's states, and than a MASTER without a peer takes to be demoted itself.
        until_s = BULK_TIMEOUT_S + DEMOTED_S
        assert holds_for(lambda: back.state_of(LAN_CARP) == "BACKUP" and other.is_settled("MASTER"), until_s, 0.05)
        if missing == "conntrackd":
            back.conntrackd.start()
        else:
            back.mend_link()
        settled.wait_settled(back, other)
        assert count_states(back.namespace) >= SOME
        traffic.wait_until_flowing(SLACK_S, now_ns())
        assert traffic.stop().incomplete == []
