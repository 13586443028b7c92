"""What carpd refuses to start with: every problem is named, and the host is not touched."""

import subprocess

import pytest

from lab.host import Carp, Host, program
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, settle, transitions
from lab.stage import SHARED, Stage
from lab.tables import portrait
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")

WRONG_USE, CANNOT_RUN = 2, 1
GOOD_TABLE = '[carp0]\ncarpdev = "eth0"\nvhid = 1\naddresses = ["192.0.2.100/24"]\n'


def refused(host: Host, *prefix: str) -> subprocess.CompletedProcess[str]:
    """Run carpd, which is expected to end by itself, and check that the host is as before."""
    before = portrait(host.namespace)
    line = host.namespace.wrap(*prefix, *host.arguments())
    done = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert before.differences(portrait(host.namespace)) == []
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD_TABLE + "advskeww = 1\n", ["advskeww", "advskew"]),
        (GOOD_TABLE.replace("vhid = 1", "vhid = 0"), ["vhid"]),
        (GOOD_TABLE.replace("vhid = 1", "vhid = 256"), ["256"]),
        (GOOD_TABLE + "advskew = 255\n", ["advskew", "255"]),
        (GOOD_TABLE + GOOD_TABLE.replace("carp0", "carp1").replace(".100", ".101"), ["vhid", "carp1"]),
        (GOOD_TABLE.replace("eth0", "eth9"), ["eth9"]),
        (GOOD_TABLE.replace("192.0.2.100/24", "192.0.2.300/24"), ["192.0.2.300"]),
        (GOOD_TABLE + 'pass = "12345678901234567890"\n', ["19"]),
        (GOOD_TABLE + 'pass-file = "/nowhere/key"\n', ["/nowhere/key"]),
        (GOOD_TABLE.replace("vhid = 1", "vhid = 256") + "advskew = 300\nbalancing2 = 1\n", ["256", "300", "balancing2"]),
        ("this is not TOML", ["carp.toml"]),
    ],
)
def test_a_wrong_configuration_is_refused_whole(stage: Stage, text: str, told: list[str]) -> None:
    """Exit status 2, all problems listed, nothing changed on the host."""
    (host,) = make_pair(stage)[:1]
    host.config.write_text(text)
    host.config.chmod(0o600)
    done = refused(host)
    assert done.returncode == WRONG_USE, done.stderr
    assert all(word in done.stderr for word in told), done.stderr
    assert "opensesame" not in done.stderr


def test_a_key_that_others_can_read_is_refused(stage: Stage) -> None:
    """A key file, and a configuration that holds a pass phrase, must be private."""
    host = make_pair(stage)[0]
    key = host.directory / "carp0.key"
    key.chmod(0o644)
    done = refused(host)
    assert done.returncode == WRONG_USE
    assert str(key) in done.stderr
    host.config.write_text(GOOD_TABLE + 'pass = "opensesame"\n')
    host.config.chmod(0o644)
    done = refused(host)
    assert done.returncode == WRONG_USE
    assert "opensesame" not in done.stderr


def test_two_daemons_cannot_share_a_state_directory(stage: Stage) -> None:
    """The second one is refused and the first one goes on undisturbed."""
    first, second = make_pair(stage)
    settle(QUICK, first)
    second.state.rmdir()
    second.state.symlink_to(first.state)
    done = refused(second)
    assert done.returncode == WRONG_USE
    assert first.state_of() == "MASTER"


def test_a_missing_capability_is_named(stage: Stage) -> None:
    """Without the right to administer the network it says which one is missing, with exit status 1."""
    host = make_pair(stage)[0]
    done = refused(host, "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    assert done.returncode == CANNOT_RUN, done.stderr
    assert "CAP_NET_ADMIN" in done.stderr


def test_an_interface_that_is_not_ours_is_left_alone(stage: Stage) -> None:
    """Where carp0 exists already and is somebody else's, it is neither used nor removed."""
    host = make_pair(stage)[0]
    host.namespace.ip("link add name carp0 type veth peer name carp0peer")
    done = refused(host)
    assert done.returncode in (WRONG_USE, CANNOT_RUN)
    assert "carp0" in done.stderr


@pytest.mark.parametrize(
    ("own", "interface", "shared"),
    [
        ("2001:db8:7::1/128", "lo", "2001:db8:7::1/64"),
        ("198.51.100.7/32", "lo", "198.51.100.7/24"),
    ],
    ids=["IPv6", "IPv4"],
)
def test_a_shared_address_that_is_the_hosts_own_is_refused(stage: Stage, own: str, interface: str, shared: str) -> None:
    """Exit status 2 and one line, which names the address and the interface that has it; the good addresses are not named."""
    host = make_pair(stage)[0]
    host.namespace.ip(f"addr replace {own} dev {interface}")
    host.configure([Carp(addresses=(*SHARED, shared))])
    done = refused(host)
    assert done.returncode == WRONG_USE, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("carpd: carp0.addresses: ")
    assert f"{own.partition('/')[0]} is this host's own address on {interface}" in line


def test_a_vhid_that_another_daemon_holds_on_the_same_parent_is_refused(stage: Stage) -> None:
    """A second daemon with its own files is told vhid, parent and the link that holds it; the first one stays MASTER."""
    first = make_pair(stage, USUAL)[0]
    settle(USUAL, first)
    before = transitions(first)
    # The kernel adds the route of an IPv6 address in its own time.
    routes = ("ip", "-6", "route", "show", "table", "local")
    until(lambda: "local 2001:db8::100 dev carp0" in first.namespace.run(*routes), SLACK_S, "the shared address's route")
    second = Host(first.port, stage.directory / "second", [Carp("carp7", addresses=("192.0.2.107/24",))])
    done = refused(second)
    assert done.returncode == WRONG_USE, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("carpd: carp7: ")
    assert "vhid 1 on eth0 is held by carp0" in line
    assert first.is_settled("MASTER")
    assert transitions(first) == before


def test_a_check_needs_no_daemon_and_changes_nothing(stage: Stage) -> None:
    """`carpd -n` and `carp check` accept a good file, and tell what two hosts would disagree about."""
    a, b = make_pair(stage)
    before = portrait(a.namespace)
    done = subprocess.run([*a.arguments(), "-n"], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert before.differences(portrait(a.namespace)) == []
    line = [str(program("carp")), "check", str(a.config), str(b.config)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    b.configure([Carp(vhid=2, addresses=("192.0.2.101/24",), password="other")], preempt=True)
    done = subprocess.run(line, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
