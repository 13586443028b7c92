"""`carp config import`: what other systems read, as a carp.toml that carpd reads."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carp.config.load import load_file
from carp.protocol.parameters import Balancing

SECRET = "the text holds pass phrases: keep it in a file of mode 0600"

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into an empty folder, where the program works."""
    monkeypatch.chdir(tmp_path)

    def _write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    return _write


def test_files_of_openbsd(write: Write, carp: Any) -> None:
    """One carp.toml of all of them, which carpd accepts, with its pass phrase and a warning about that."""
    write("hostname.carp0", "inet 172.16.0.202 255.255.255.0 172.16.0.255 vhid 1 carpdev em0 pass password1 advskew 100\n")
    write("hostname.carp1", "inet 172.16.240.202 255.255.255.0 172.16.240.255 vhid 2 carpdev em1 pass password2\n")
    write("sysctl.conf", "net.inet.ip.forwarding=1\nnet.inet.carp.preempt=1\n")
    done = carp("config import hostname.carp0 hostname.carp1 sysctl.conf")
    assert (done.status, done.err) == (0, f"warning: {SECRET}\n")
    assert tomllib.loads(done.out) == {
        "global": {"preempt": True},
        "carp0": {"carpdev": "em0", "vhid": 1, "advskew": 100, "pass": "password1", "addresses": ["172.16.0.202/24"]},
        "carp1": {"carpdev": "em1", "vhid": 2, "pass": "password2", "addresses": ["172.16.240.202/24"]},
    }
    assert load_file(write("carp.toml", done.out)).host.preempt


def test_load_balancing(write: Write, carp: Any) -> None:
    """The lines of OpenBSD's guide, as the parameters that they mean."""
    line = "inet 172.16.240.102 255.255.255.0 172.16.240.255 balancing ip carpnodes 3:0,4:100 pass password3 carpdev em0\n"
    write("hostname.carp0", line)
    done = carp("config import hostname.carp0")
    assert (done.status, done.err) == (0, f"warning: {SECRET}\n")
    assert tomllib.loads(done.out)["carp0"] == {
        "carpdev": "em0",
        "pass": "password3",
        "addresses": ["172.16.240.102/24"],
        "balancing": "ip",
        "carpnodes": ["3:0", "4:100"],
    }
    (carp0,) = load_file(write("carp.toml", done.out)).host.interfaces
    assert (carp0.balancing, [node.vhid for node in carp0.nodes]) == (Balancing.IP, [3, 4])


@pytest.mark.parametrize("system", ["dragonfly", "netbsd"])
def test_arp_balancing(write: Write, carp: Any, system: str) -> None:
    """Two carp interfaces with one address, and the switch; NetBSD's rule is another one, which is said."""
    lines = [
        'ifconfig_carp0="vhid 1 pass secret 192.0.2.10/24"',
        'ifconfig_carp1="vhid 2 advskew 100 pass secret 192.0.2.10/24"',
    ]
    first = "rc_configured=YES" if system == "netbsd" else 'cloned_interfaces="carp0 carp1"'
    write("rc.conf", "\n".join([first, *lines, ""]))
    write("sysctl.conf", "net.inet.carp.arpbalance=1\n")
    done = carp("config import --carpdev eth0 rc.conf sysctl.conf")
    assert done.status == 0
    assert load_file(write("carp.toml", done.out)).host.arpbalance
    rule = 'NetBSD answers for a shared address by the MAC of the asker: dialect = "netbsd" does so, too'
    warnings = ([rule] if system == "netbsd" else []) + [SECRET]
    assert done.err.splitlines() == [f"warning: {warning}" for warning in warnings]
    write("rc.conf", "\n".join([first, lines[0], lines[1].replace("2.10/", "2.11/"), ""]))
    assert carp("config import --carpdev eth0 rc.conf sysctl.conf").err == f"warning: {SECRET}\n"


def test_an_rc_conf(write: Write, carp: Any) -> None:
    """With the parent that it does not name."""
    text = (
        'cloned_interfaces="carp0"\nifconfig_carp0="vhid 1 pass secret 192.0.2.10/24"\nifconfig_carp0_alias0="192.0.2.11/32"\n'
    )
    write("rc.conf", text)
    done = carp("config import --carpdev eth0 rc.conf")
    assert done.status == 0
    assert tomllib.loads(done.out)["carp0"] == {
        "carpdev": "eth0",
        "vhid": 1,
        "pass": "secret",
        "addresses": ["192.0.2.10/24", "192.0.2.11/32"],
    }


def test_files_of_other_names_are_known_by_what_is_in_them(write: Write, carp: Any) -> None:
    """Lines of sysctl.conf, or variables of rc.conf."""
    write("a.txt", "# mine\nnet.inet.carp.log=3\n")
    write("b.txt", 'ifconfig_carp0="vhid 1 carpdev em0 pass secret 192.0.2.10/24"\n')
    document = tomllib.loads(carp("config import a.txt b.txt").out)
    assert (document["carp0"]["vhid"], "log" in document["global"]) == (1, True)


def test_settings_alone(write: Write, carp: Any) -> None:
    """Are a table to be put beside others."""
    write("sysctl.conf", "net.inet.carp.preempt=1\n")
    done = carp("config import sysctl.conf")
    assert (done.status, done.out, done.err) == (0, "[global]\npreempt = true\n", "")


def test_a_parent_named_in_a_later_line(write: Write, carp: Any) -> None:
    """Is the one of the addresses before it; the option is for interfaces that name none."""
    write("hostname.carp0", "inet 192.0.2.10 255.255.255.0\nvhid 1 carpdev em1 pass secret\n")
    done = carp("config import --carpdev em9 hostname.carp0")
    assert tomllib.loads(done.out)["carp0"]["carpdev"] == "em1"


def test_a_parent_that_nobody_names(write: Write, carp: Any) -> None:
    """Every interface that lacks one is told, with the option that helps; status 2."""
    write("hostname.carp0", "inet 192.0.2.10 255.255.255.0 NONE vhid 1 pass secret\n")
    write("hostname.carp1", "inet 192.0.2.11 255.255.255.0 NONE vhid 2 pass secret\n")
    done = carp("config import hostname.carp0 hostname.carp1")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        "carp: carp0: carpdev: no file names its parent: --carpdev IF does",
        "carp: carp1: carpdev: no file names its parent: --carpdev IF does",
    ]


def test_what_a_file_lacks_is_told(write: Write, carp: Any) -> None:
    """Checked as carpd would."""
    write("hostname.carp0", "vhid 1 carpdev em0 pass secret\n")
    done = carp("config import hostname.carp0")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("carp: carp0.addresses: missing")
    assert "secret" not in done.err


def test_wrong_words_of_all_files(write: Write, carp: Any) -> None:
    """With file and line; status 2."""
    write("hostname.carp0", "vhid 1 carpdev em0\nadvskew 300\n")
    write("sysctl.conf", "net.inet.carp.log=many\n")
    done = carp("config import hostname.carp0 sysctl.conf absent/rc.conf")
    assert (done.status, done.out) == (2, "")
    assert [line.split(": ")[1:3] for line in done.err.splitlines()] == [
        ["hostname.carp0", "line 2"],
        ["absent/rc.conf", "cannot be read"],
        ["sysctl.conf", "line 1"],
    ]


def test_a_file_about_something_else(write: Write, carp: Any) -> None:
    """Is not taken for an empty configuration."""
    write("motd", "Welcome\n")
    done = carp("config import motd")
    assert (done.status, done.out, done.err) == (2, "", "carp: motd: nothing in it is about carp\n")


def test_a_forced_state_is_left_out(write: Write, carp: Any) -> None:
    """With a warning."""
    write("hostname.carp0", "inet 192.0.2.10/24 vhid 1 carpdev em0 pass secret state backup\n")
    assert "warning: carp0: state backup: left out: a file forces no state\n" in carp("config import hostname.carp0").err


def test_a_guessed_prefix_length(write: Write, carp: Any) -> None:
    """Is that of the address's class, with a warning."""
    write("hostname.carp0", "172.16.0.202 vhid 1 carpdev em0 pass secret\n")
    done = carp("config import hostname.carp0")
    assert tomllib.loads(done.out)["carp0"]["addresses"] == ["172.16.0.202/16"]
    assert "warning: carp0: 172.16.0.202: no file tells its prefix length: it is guessed\n" in done.err


def test_a_command_line_of_ucarp(carp: Any) -> None:
    """Behind -- its options are its own."""
    done = carp("config import -- ucarp -i eth0 -s 192.0.2.1 -v 1 -p secret -a 192.0.2.100 -k 100 -P")
    assert done.status == 0
    assert tomllib.loads(done.out) == {
        "carp0": {
            "carpdev": "eth0",
            "vhid": 1,
            "pass": "secret",
            "addresses": ["192.0.2.100/32"],
            "advskew": 100,
            "preempt": True,
        }
    }
    assert "warning: --srcip: left out: " in done.err


def test_ucarp_without_its_interface(carp: Any) -> None:
    """Takes the one of the option; its own comes first."""
    line = "-v 1 -p secret -a 192.0.2.100"
    assert tomllib.loads(carp(f"config import --carpdev eth9 -- ucarp {line}").out)["carp0"]["carpdev"] == "eth9"
    assert tomllib.loads(carp(f"config import --carpdev eth9 -- ucarp {line} -i eth0").out)["carp0"]["carpdev"] == "eth0"
    assert carp(f"config import -- ucarp {line}").status == 2


def test_the_key_file_of_ucarp_may_be_elsewhere(carp: Any) -> None:
    """It is named, not read."""
    done = carp("config import -- /usr/sbin/ucarp -i eth0 -v 1 -o /absent/key -a 192.0.2.100")
    assert (done.status, tomllib.loads(done.out)["carp0"]["pass-file"]) == (0, "/absent/key")
    assert SECRET not in done.err
