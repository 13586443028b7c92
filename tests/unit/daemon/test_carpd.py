"""The program carpd as it is started: exit statuses and what it says."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

CARPD = Path(sys.executable).parent / "carpd"
GOOD = '[carp0]\ncarpdev = "eth9"\nvhid = 1\npass = "opensesame"\naddresses = ["192.0.2.100/24"]\n'
DONE, FAILED, WRONG = 0, 1, 2
IN_A_NAMESPACE = ("unshare", "-n")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a good configuration."""
    path = tmp_path / "carp.toml"
    path.write_text(GOOD)
    path.chmod(0o600)
    return path


def carpd(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run it until it ends by itself."""
    line = [*prefix, str(CARPD), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr
    assert "opensesame" not in done.stdout + done.stderr
    return done


def test_a_good_configuration(config: Path) -> None:
    """-n says that it is good and how many interfaces it has, and needs none of them."""
    done = carpd("-n", "--config", config)
    assert (done.returncode, done.stdout, done.stderr) == (DONE, "carpd: configuration ok, 1 interface(s)\n", "")


def test_a_good_command_line(tmp_path: Path) -> None:
    """The form without a file is checked alike; a pass phrase that everyone can see is warned about."""
    done = carpd("-n", "-i", "eth9", "-v", "1", "-p", "sesame", "192.0.2.100/24")
    assert done.returncode == DONE
    assert done.stderr.startswith("carpd: warning: --pass: anyone on this host can see")
    assert "sesame" not in done.stdout + done.stderr


def test_every_problem_of_a_bad_configuration_is_listed(config: Path) -> None:
    """Each on its line with the program's name, the file's and the key's; status 2."""
    config.write_text(GOOD.replace("vhid = 1", "vhid = 0\nadvskw = 1").replace("/24", "/240"))
    for check in ((), ("-n",)):
        done = carpd(*check, "--config", config)
        assert (done.returncode, done.stdout) == (WRONG, "")
        first, second, third = done.stderr.splitlines()
        assert first == f"carpd: {config}: carp0.vhid: 0 is not allowed: an integer 1..255"
        assert second == f"carpd: {config}: carp0.advskw: unknown key; did you mean advskew?"
        assert third.startswith(f'carpd: {config}: carp0.addresses: "192.0.2.100/240" is not allowed: ')


def test_a_bad_command_line_is_listed_by_its_options() -> None:
    """Not by keys of a file that was never written."""
    done = carpd("-i", "eth9", "-v", "300", "192.0.2.100")
    assert done.returncode == WRONG
    assert "carpd: --vhid: 300 is not allowed" in done.stderr
    assert "ADDRESS: " in done.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Status 2."""
    done = carpd("--config", tmp_path / "absent.toml")
    assert done.returncode == WRONG
    assert done.stderr == f"carpd: {tmp_path}/absent.toml: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("options", [("-i", "eth9"), ("192.0.2.100/24",), ("-P",)])
def test_a_file_and_options_exclude_each_other(config: Path, options: tuple[str, ...]) -> None:
    """Any of the options that the file could contradict."""
    done = carpd("--config", config, *options)
    assert done.returncode == WRONG
    assert "--config and the options of one interface exclude each other" in done.stderr


@pytest.mark.parametrize("arguments", [("--nonsense",), ("--conf", "x")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Status 2; options are not abbreviated, since a later one could change what they mean."""
    assert carpd(*arguments).returncode == WRONG


def test_the_version_is_that_of_the_installed_distribution() -> None:
    """--version prints the program's name and the version and nothing else; status 0."""
    done = carpd("--version")
    assert (done.returncode, done.stdout, done.stderr) == (DONE, f"carpd {version('carpd')}\n", "")


def test_a_parent_that_does_not_exist_is_named(config: Path, tmp_path: Path) -> None:
    """With the interfaces that there are; status 2, and neither socket nor interface was made."""
    state, socket = tmp_path / "state", tmp_path / "run" / "carpd.sock"
    program = f"{CARPD} --config {config} --state-dir {state} --socket {socket}; echo $?; ip -br link; ip -br address"
    done = subprocess.run([*IN_A_NAMESPACE, "sh", "-c", f"ip -br link; {program}"], capture_output=True, text=True, timeout=30)
    before, status, after, *addresses = done.stdout.splitlines()
    assert status == str(WRONG)
    assert before == after
    assert len(addresses) == 1
    assert done.stderr == "carpd: carp0.carpdev: there is no interface eth9 on this host; it has lo\n"
    assert not socket.parent.exists()
    assert not (state / "undo.json").exists()


def test_every_missing_parent_is_named(config: Path, tmp_path: Path) -> None:
    """All problems of a host at once, as those of a file."""
    config.write_text(GOOD + GOOD.replace("carp0", "carp1").replace("eth9", "eth8").replace(".100/", ".101/"))
    done = carpd("--config", config, "--state-dir", tmp_path / "state", prefix=IN_A_NAMESPACE)
    assert done.returncode == WRONG
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["carp0.carpdev", "carp1.carpdev"]


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("-net_admin", ["CAP_NET_ADMIN (to make interfaces and set addresses)"]),
        ("-net_raw", ["CAP_NET_RAW (to send and receive CARP packets)"]),
        ("-all", ["CAP_NET_ADMIN", " and ", "CAP_NET_RAW"]),
    ],
)
def test_a_missing_privilege_is_named(config: Path, tmp_path: Path, without: str, named: list[str]) -> None:
    """Status 1, before anything is touched."""
    state = tmp_path / "state"
    prefix = ("setpriv", "--bounding-set", without, "--inh-caps", without)
    done = carpd("--config", config, "--state-dir", state, prefix=prefix)
    assert done.returncode == FAILED
    assert done.stderr.startswith("carpd: cannot run without ")
    assert all(word in done.stderr for word in named)
    assert not state.exists()


def test_checking_needs_no_privilege(config: Path) -> None:
    """-n works for anyone who may read the file."""
    prefix = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
    assert carpd("-n", "--config", config, prefix=prefix).returncode == DONE


def test_a_state_directory_that_cannot_be_used(config: Path, tmp_path: Path) -> None:
    """Status 1 and the reason."""
    (tmp_path / "file").write_text("")
    done = carpd("--config", config, "--state-dir", tmp_path / "file", prefix=IN_A_NAMESPACE)
    assert done.returncode == FAILED
    assert done.stderr.startswith(f"carpd: the state directory {tmp_path}/file cannot be used: ")
