"""The units for systemd: what matters in them, and what systemd itself says of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from carp.cli import targets
from carp.cli.client import DEFAULT_SOCKET
from carp.config.load import DEFAULT_PATH
from carp.daemon import main as daemon
from carp.daemon.attendance import PLACE
from carp.linux import realtime
from carp.protocol.values import State

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
NAMES = (
    "carpd.service",
    "carp-attendant@.service",
    "carp-attendant.socket",
    "carp-targets.service",
    "carp-master@.target",
    "carp-backup@.target",
)
STUBS = ("sysinit", "basic", "shutdown", "network", "multi-user")
"""The targets of systemd's own that the units name, or that every unit does."""

MOST_EXPOSED = {"carpd.service": 25, "carp-attendant@.service": 21, "carp-targets.service": 7}
"""In tenths, of 100. What is left of carpd.service is what it is for: the network, as root."""

NEEDED = {
    *("CAP_NET_ADMIN", "CAP_NET_RAW"),  # the protocol, the links
    *("CAP_BPF", "CAP_PERFMON"),  # the fence
}

Unit = dict[str, dict[str, list[str]]]


def read(name: str) -> Unit:
    """Read a unit: sections, and in each the values of every key in order; an empty value takes back what was before."""
    unit: Unit = {}
    section: dict[str, list[str]] = {}
    for number, line in enumerate((UNITS / name).read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            assert match[1] not in unit, f"{name}:{number}: [{match[1]}] again"
            section = unit[match[1]] = {}
            continue
        key, equals, value = line.partition("=")
        assert equals, f"{name}:{number}: no assignment"
        assert key == key.strip(), f"{name}:{number}: a space around a key"
        section.setdefault(key, []).append(value)
    return unit


def words(unit: Unit, section: str, key: str) -> list[str]:
    """Return the words of a list, whatever lines they stand in."""
    return [word for value in unit[section].get(key, []) for word in value.split()]


def one(unit: Unit, section: str, key: str) -> str:
    """Return the value of a key that stands there once."""
    (value,) = unit[section][key]
    return value


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; where it is missing, the Debian package systemd has to be installed."""
    program = shutil.which("systemd-analyze")
    assert program is not None, "there is no systemd-analyze: install the package systemd"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make the root of a host where carpd is installed."""
    units, programs = tmp_path / "usr/lib/systemd/system", tmp_path / "usr/bin"
    units.mkdir(parents=True)
    programs.mkdir()
    (tmp_path / "etc").mkdir()
    for link in ("lib", "bin"):
        (tmp_path / link).symlink_to(f"usr/{link}")
    for name in NAMES:
        shutil.copy(UNITS / name, units)
    for stub in STUBS:
        (units / f"{stub}.target").write_text("[Unit]\nDescription=A stub\n")
    for program in ("carpd", "carp", "carp-attendant"):
        (programs / program).write_text("#!/bin/sh\n")
        (programs / program).chmod(0o755)
    return tmp_path


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    """Let systemd read all units of that host."""
    return analyze("verify", f"--root={root}", *(name.replace("@", "@carp0") for name in NAMES))


def test_there_are_these_units_and_no_others() -> None:
    """Each of them is looked at here."""
    assert {path.name for path in UNITS.iterdir()} == {*NAMES, "carp.sysusers"}


def test_systemd_understands_every_line(root: Path) -> None:
    """It says nothing at all about them."""
    done = verify(root)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("RestartSec=2", "RestartSek=2", "Unknown key"),
        ("WatchdogSec=20", "WatchdogSec=soon", "Failed to parse"),
        ("SystemCallFilter=@system-service", "SystemCallFilter=@everything", "@everything"),
        ("ExecStart=/usr/bin/carpd", "ExecStart=/usr/bin/karpd", "not executable"),
    ],
)
def test_systemd_would_complain(root: Path, right: str, wrong: str, complaint: str) -> None:
    """So its silence means something."""
    unit = root / "usr/lib/systemd/system/carpd.service"
    text = unit.read_text()
    assert right in text
    unit.write_text(text.replace(right, wrong))
    assert complaint in verify(root).stderr


@pytest.mark.parametrize("name", MOST_EXPOSED)
def test_the_sandbox_is_tight(name: str) -> None:
    """As systemd judges it."""
    done = analyze("security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED[name]}", UNITS / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sandbox_could_be_too_wide(tmp_path: Path) -> None:
    """A capability more would be noticed."""
    unit = tmp_path / "carpd.service"
    unit.write_text((UNITS / "carpd.service").read_text().replace("CAP_BPF", "CAP_BPF CAP_SYS_ADMIN CAP_SYS_MODULE"))
    assert analyze("security", "--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED['carpd.service']}", unit).returncode


def test_carpd_has_the_capabilities_that_it_needs() -> None:
    """And no others; hooks and checks cannot gain any."""
    unit = read("carpd.service")
    assert sorted(words(unit, "Service", "CapabilityBoundingSet")) == sorted(NEEDED)
    assert "AmbientCapabilities" not in unit["Service"]
    assert one(unit, "Service", "NoNewPrivileges") == "yes"


def test_carpd_runs_under_a_watchdog() -> None:
    """It tells when it serves, it is fed by carpd, and what dies or hangs is started again, but not for ever."""
    unit = read("carpd.service")
    assert one(unit, "Service", "Type") == "notify"
    assert 10 <= int(one(unit, "Service", "WatchdogSec")) <= 60
    assert one(unit, "Service", "Restart") == "on-failure"
    interval_s, burst = (int(one(unit, "Unit", key)) for key in ("StartLimitIntervalSec", "StartLimitBurst"))
    assert burst * int(one(unit, "Service", "RestartSec")) < interval_s, "it would never be given up"


def test_hooks_and_checks_have_a_unit_of_their_own() -> None:
    """It is reached by a socket that only root may use, and is an ordinary user's; the last hooks are not killed at once."""
    socket, unit = read("carp-attendant.socket"), read("carp-attendant@.service")
    place = one(socket, "Socket", "ListenSequentialPacket")
    assert words(read("carpd.service"), "Service", "Environment") == [f"{PLACE}={place}"]
    assert (one(socket, "Socket", "SocketMode"), one(socket, "Socket", "Accept")) == ("0600", "yes")
    assert one(unit, "Service", "ExecStart") == "/usr/bin/carp-attendant --socket 0 --activated"
    assert one(unit, "Service", "StandardInput") == "socket"
    assert one(unit, "Service", "User") == "carp-script"
    assert words(unit, "Service", "CapabilityBoundingSet") == words(unit, "Service", "AmbientCapabilities") == ["CAP_NET_RAW"]
    assert one(unit, "Service", "KillMode") == "mixed"


def test_programs_and_directories_are_those_of_the_package() -> None:
    """The unit's directories are where carpd looks, and are as closed as they have to be."""
    unit = read("carpd.service")
    assert one(unit, "Service", "ExecStart") == "/usr/bin/carpd"
    assert one(unit, "Service", "ExecReload") == "/usr/bin/carp reload"
    assert Path("/run") / one(unit, "Service", "RuntimeDirectory") == DEFAULT_SOCKET.parent == daemon.DEFAULT_SOCKET.parent
    assert Path("/var/lib") / one(unit, "Service", "StateDirectory") == daemon._DEFAULT_STATE_DIRECTORY
    assert one(unit, "Service", "StateDirectoryMode") == "0700"
    assert Path("/etc") / one(unit, "Service", "ConfigurationDirectory") == DEFAULT_PATH.parent


def test_carpd_may_write_what_it_writes() -> None:
    """carp.toml for `carp config save`, and the settings of the network; the rest of the host it may not."""
    unit = read("carpd.service")
    assert one(unit, "Service", "ProtectSystem") == "strict"
    assert one(unit, "Service", "ProtectKernelTunables") == "yes"
    assert words(unit, "Service", "ReadWritePaths") == [f"-{DEFAULT_PATH.parent}", "/proc/sys/net"]


def test_checks_see_the_processes_of_the_host() -> None:
    """Hidden ones would look as if they had ended."""
    hiding = {"ProtectProc", "ProcSubset", "PrivatePIDs", "PrivateNetwork", "PrivateUsers"}
    assert hiding.isdisjoint(read("carp-attendant@.service")["Service"])


def test_realtime_is_allowed() -> None:
    """`realtime = true` is refused neither by limits nor by filters."""
    unit = read("carpd.service")
    assert int(one(unit, "Service", "LimitRTPRIO")) == realtime._PRIORITY
    assert one(unit, "Service", "LimitMEMLOCK") == "infinity"
    assert "RestrictRealtime" not in unit["Service"]
    assert words(unit, "Service", "SystemCallFilter") == ["@system-service", "bpf"]
    allowed = analyze("syscall-filter", "@system-service").stdout.split()
    assert {"@resources", "@memlock"} <= set(allowed), "sched_setscheduler, mlockall"


def test_sockets_of_all_kinds_that_carpd_opens() -> None:
    """And of no other."""
    kinds = words(read("carpd.service"), "Service", "RestrictAddressFamilies")
    assert sorted(kinds) == ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_UNIX"]


def test_pass_phrases_stay_where_they_are() -> None:
    """No core holds them, and what carpd writes is for root alone."""
    unit = read("carpd.service")
    assert one(unit, "Service", "LimitCORE") == "0"
    assert one(unit, "Service", "UMask") == "0077"


def test_the_group_of_the_control_socket() -> None:
    """Is made by sysusers, and carpd is in it, so that it may give the socket to it without a capability."""
    lines = [line.split() for line in (UNITS / "carp.sysusers").read_text().splitlines() if not line.startswith("#")]
    assert [line[:3] for line in lines] == [["g", "carp", "-"], ["u", "carp-script", "-"]]
    assert words(read("carpd.service"), "Service", "SupplementaryGroups") == ["carp"]


@pytest.mark.parametrize("role", ["master", "backup"])
def test_the_targets_exclude_each_other(role: str) -> None:
    """Starting one stops the other one of the same interface; nobody's targets outlast who starts them."""
    unit = read(f"carp-{role}@.target")
    other = {"master": "backup", "backup": "master"}[role]
    assert words(unit, "Unit", "Conflicts") == [f"carp-{other}@%i.target"]
    assert words(unit, "Unit", "StopPropagatedFrom") == words(unit, "Unit", "After") == ["carp-targets.service"]
    # A target that nobody needs would be stopped again at once.
    assert "StopWhenUnneeded" not in unit["Unit"]
    assert targets._TARGETS[State[role.upper()]] == f"carp-{role}@{{}}.target"


def test_the_follower_never_gives_up() -> None:
    """Nor has it any right but those of root's sockets."""
    unit = read("carp-targets.service")
    assert one(unit, "Service", "ExecStart") == "/usr/bin/carp targets"
    assert one(unit, "Service", "Restart") == "always"
    assert one(unit, "Unit", "StartLimitIntervalSec") == "0"
    assert one(unit, "Service", "CapabilityBoundingSet") == ""
    assert words(unit, "Service", "RestrictAddressFamilies") == ["AF_UNIX"]
