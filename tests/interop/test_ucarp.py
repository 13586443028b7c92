"""carpd and ucarp, Debian's package, on one LAN: they authenticate, take over from each other, and understand farewells.

ucarp knows IPv4, one address, no bow-out; it sends from the MAC address 00:00:5e:00:00:VHID and takes over up to 1.7 s later
than its own formula says.
"""

import shutil
from pathlib import Path

import pytest

from lab.capture import Capture, is_advertisement
from lab.host import Carp, Host, Program
from lab.pairs import SLACK_S, transitions
from lab.stage import Stage
from lab.tables import addresses
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd", "ucarp_program")

VIP = "192.0.2.100"
SHARED = (f"{VIP}/24",)
PASSWORD = "opensesame"
MASTER_DOWN_S = 3.4
PATIENCE_S = MASTER_DOWN_S + SLACK_S


@pytest.fixture(scope="session")
def ucarp_program() -> None:
    """Require ucarp."""
    if shutil.which("ucarp") is None:
        pytest.fail("there is no ucarp on this host: install Debian's package of that name", pytrace=False)


class Ucarp:
    """ucarp on a host, with scripts that set the address as its package's do."""

    def __init__(self, stage: Stage, label: str, advskew: int, *options: str, password: str = PASSWORD) -> None:
        self.port = stage.port(label)
        self.advskew = advskew
        scripts = {}
        for verb in ("add", "del"):
            script = stage.directory / f"{label}-{verb}"
            script.write_text(f"#!/bin/sh\nexec ip addr {verb} {SHARED[0]} dev eth0\n")
            script.chmod(0o755)
            scripts[verb] = str(script)
        key = stage.directory / f"{label}-ucarp.key"
        key.write_text(password + "\n")
        own = self.port.namespace.query("-4 addr show dev eth0")[0]["addr_info"][0]["local"]
        line = ["ucarp", "-i", "eth0", "-s", own, "-v", "1", "-o", str(key), "-a", VIP, "-b", "1", "-k", str(advskew)]
        line += ["-u", scripts["add"], "-d", scripts["del"], "-z", *options]
        self.program: Program = stage.program(label, *line)

    @property
    def log(self) -> Path:
        """What it said."""
        return self.program.log

    def is_master(self) -> bool:
        """Tell by the address, as a user would."""
        return SHARED[0] in addresses(self.port.namespace, "eth0")


def carpd_host(stage: Stage, label: str, advskew: int, *, preempt: bool = False, **changes: object) -> Host:
    """Configure carpd for what ucarp can do."""
    carp = Carp(advskew=advskew, addresses=SHARED, password=PASSWORD).but(**changes)
    return stage.host(label, carp, preempt=preempt, log=6)


def answered_by(stage: Stage, label: str, timeout_s: float = PATIENCE_S) -> int:
    """Wait until the client is answered by that host alone; return the instant."""
    with stage.prober(SHARED, ["a", "b"]) as prober:
        return prober.wait_for_owner(label, timeout_s)


def started_master(stage: Stage, host: Host) -> None:
    """Start carpd alone until it is MASTER."""
    host.start()
    host.wait_for_state("MASTER", PATIENCE_S)


def test_a_ucarp_backup_accepts_carpd_as_master(stage: Stage) -> None:
    """A carpd that was there first and is better: ucarp stays BACKUP, and both log nothing against the other."""
    a = carpd_host(stage, "a", 0)
    started_master(stage, a)
    ucarp = Ucarp(stage, "b", 100)
    assert holds_for(lambda: a.state_of() == "MASTER" and not ucarp.is_master(), 2 * MASTER_DOWN_S, 0.05)
    answered_by(stage, "a")
    assert a.interface()["statistics"]["dropped"].get("bad-digest", 0) == 0


def test_a_carpd_backup_accepts_ucarp_as_master(stage: Stage) -> None:
    """The other way round: carpd shows ucarp's address, advbase and advskew as those of the MASTER."""
    ucarp = Ucarp(stage, "a", 0)
    until(ucarp.is_master, PATIENCE_S, "ucarp to be MASTER")
    b = carpd_host(stage, "b", 100)
    b.start()
    assert holds_for(lambda: b.state_of() != "MASTER" and ucarp.is_master(), 2 * MASTER_DOWN_S, 0.05)
    master = b.interface()["nodes"][0]["master"]
    assert (master["source"], master["advbase"], master["advskew"]) == ("192.0.2.1", 1, 0)
    assert b.interface()["statistics"]["dropped"] == {}
    answered_by(stage, "a")


def test_ucarp_takes_over_from_a_silent_carpd(stage: Stage) -> None:
    """After a silent cut ucarp serves; when the cut heals, the better carpd is the only MASTER again."""
    a = carpd_host(stage, "a", 0)
    started_master(stage, a)
    ucarp = Ucarp(stage, "b", 100)
    answered_by(stage, "a")
    a.port.block()
    until(ucarp.is_master, PATIENCE_S, "ucarp to take over")
    answered_by(stage, "b")
    a.port.unblock()
    until(lambda: not ucarp.is_master(), PATIENCE_S, "ucarp to yield")
    answered_by(stage, "a")
    assert a.state_of() == "MASTER"


def test_carpd_takes_over_from_a_silent_ucarp(stage: Stage) -> None:
    """After a silent cut carpd serves within its master-down time; when the cut heals it yields to the better ucarp."""
    ucarp = Ucarp(stage, "a", 0)
    until(ucarp.is_master, PATIENCE_S, "ucarp to be MASTER")
    b = carpd_host(stage, "b", 100)
    b.start()
    b.wait_for(lambda status: status["interfaces"][0]["nodes"][0]["master"], SLACK_S, "an advertisement of ucarp")
    event = ucarp.port.block()
    took = b.wait_for_state("MASTER", PATIENCE_S) - event
    assert 2_390_000_000 - 200_000_000 < took < 3_391_000_000 + 200_000_000
    answered_by(stage, "b")
    ucarp.port.unblock()
    b.wait_for_state("BACKUP", PATIENCE_S)
    assert "192.0.2.1" in b.log_text()


def test_ucarp_hears_a_bow_out_as_a_slow_master(stage: Stage) -> None:
    """The bow-out of carpd has 255/255; to ucarp, as to a BSD, that is a MASTER that will time out: it takes over at once."""
    a = carpd_host(stage, "a", 0)
    started_master(stage, a)
    ucarp = Ucarp(stage, "b", 100)
    answered_by(stage, "a")
    # ucarp listens only once it is past its start.
    until(lambda: ucarp.log.stat().st_size > 0, SLACK_S, "ucarp to be up")
    with Capture(a.port) as capture:
        event = a.stop()
        farewell = [frame for frame in capture.frames(is_advertisement) if frame[36] == frame[39] == 255]
    assert farewell
    took = until(ucarp.is_master, PATIENCE_S, "ucarp to take over") - event
    assert took < 2_500_000_000
    answered_by(stage, "b")


def test_carpd_takes_over_when_ucarp_stops_without_a_farewell(stage: Stage) -> None:
    """There is no bow-out from ucarp: carpd waits its master-down time."""
    ucarp = Ucarp(stage, "a", 0)
    until(ucarp.is_master, PATIENCE_S, "ucarp to be MASTER")
    b = carpd_host(stage, "b", 100)
    b.start()
    b.wait_for(lambda status: status["interfaces"][0]["nodes"][0]["master"], SLACK_S, "an advertisement of ucarp")
    ucarp.program.close()
    stopped = now_ns()
    took = b.wait_for_state("MASTER", PATIENCE_S) - stopped
    assert took < 3_391_000_000 + 200_000_000
    answered_by(stage, "b")


def test_a_better_carpd_preempts_ucarp(stage: Stage) -> None:
    """With preempt carpd takes over at ucarp's next advertisement, and ucarp yields."""
    ucarp = Ucarp(stage, "b", 100)
    until(ucarp.is_master, PATIENCE_S, "ucarp to be MASTER")
    a = carpd_host(stage, "a", 0, preempt=True)
    a.start()
    a.wait_for_state("MASTER", SLACK_S)
    until(lambda: not ucarp.is_master(), PATIENCE_S, "ucarp to yield")
    answered_by(stage, "a")
    assert "preempt" in a.log_text()


def test_a_better_carpd_without_preempt_waits(stage: Stage) -> None:
    """Without preempt it stays BACKUP although it is better."""
    ucarp = Ucarp(stage, "b", 100)
    until(ucarp.is_master, PATIENCE_S, "ucarp to be MASTER")
    a = carpd_host(stage, "a", 0)
    a.start()
    assert holds_for(lambda: a.state_of() != "MASTER" and ucarp.is_master(), MASTER_DOWN_S + 1, 0.05)


def test_a_better_ucarp_preempts_carpd(stage: Stage) -> None:
    """A ucarp with --preempt becomes MASTER, and carpd yields and says to whom."""
    b = carpd_host(stage, "b", 100)
    started_master(stage, b)
    ucarp = Ucarp(stage, "a", 0, "-P")
    until(ucarp.is_master, PATIENCE_S, "ucarp to preempt")
    b.wait_for_state("BACKUP", SLACK_S)
    answered_by(stage, "a")
    assert "192.0.2.1" in b.log_text()


def test_a_wrong_password_is_refused_by_both(stage: Stage) -> None:
    """Neither believes the other: carpd counts, names the sender once or so, and both are MASTER on their own."""
    a = carpd_host(stage, "a", 0, preempt=True)
    started_master(stage, a)
    before = transitions(a)
    ucarp = Ucarp(stage, "b", 100, password="closesesame")
    until(ucarp.is_master, PATIENCE_S, "ucarp to believe it is alone")
    a.wait_for(
        lambda status: status["interfaces"][0]["statistics"]["dropped"].get("bad-digest", 0) >= 2, SLACK_S, "refusals counted"
    )
    assert a.state_of() == "MASTER"
    assert transitions(a) == before
    assert "192.0.2.2" in a.log_text()


def test_a_wrong_password_postpones_no_takeover(stage: Stage) -> None:
    """A ucarp with another password does not keep a carpd that starts in BACKUP."""
    ucarp = Ucarp(stage, "b", 100, password="closesesame")
    until(ucarp.is_master, PATIENCE_S, "ucarp to be MASTER")
    a = carpd_host(stage, "a", 0)
    a.start()
    began = a.wait_for_state("BACKUP", SLACK_S)
    assert a.wait_for_state("MASTER", PATIENCE_S) - began < 3_000_000_000 + 300_000_000
