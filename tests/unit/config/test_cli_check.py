"""`carp check FILE...` as its user sees it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carp.cli.check import check

Write = Callable[..., Path]

GOOD = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.1/24"]\n'


def test_one_good_file(write: Write, capsys: pytest.CaptureFixture[str]):
    """A good file is said to be good, with the number of its interfaces; status 0."""
    assert check([write(GOOD)]) == 0
    assert capsys.readouterr() == ("carp.toml: ok (1 interface)\n", "")


def test_warnings_are_no_errors(write: Write, capsys: pytest.CaptureFixture[str]):
    """A warning is printed, and the status stays 0."""
    text = GOOD.replace('pass = "secret"\n', "")
    two = text + text.replace("carp0", "carp1").replace("eth0", "eth1")
    assert check([write(two)]) == 0
    assert capsys.readouterr().out == (
        "carp.toml: ok (2 interfaces)\n"
        "warning: carp.toml: carp0: no pass: every host on the network can take part\n"
        "warning: carp.toml: carp1: no pass: every host on the network can take part\n"
    )


def test_every_error_of_a_file(write: Write, capsys: pytest.CaptureFixture[str]):
    """All errors of a file go to standard error; status 2."""
    assert check([write(GOOD.replace("vhid = 1", "vhid = 0\nadvskw = 1"))]) == 2
    assert capsys.readouterr() == (
        "",
        (
            "carp.toml: carp0.vhid: 0 is not allowed: an integer 1..255\n"
            "carp.toml: carp0.advskw: unknown key; did you mean advskew?\n"
        ),
    )


def test_what_this_process_was_not_given(write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """A credential that only carpd's service has cannot be looked at from a shell, and what is lacking is said."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert check([write(GOOD.replace('pass = "secret"', 'pass-credential = "carp0"'))]) == 2
    assert capsys.readouterr() == (
        "",
        (
            "carp.toml: carp0.pass-credential: $CREDENTIALS_DIRECTORY is not set; in the unit of carpd write "
            "LoadCredential=carp0:FILE; elsewhere set it to the folder that holds carp0\n"
        ),
    )


def test_tracks_and_hooks(write: Write, capsys: pytest.CaptureFixture[str]):
    """What a host checks and runs is its own affair: it need not be the same on all hosts."""
    more = '[track.flag]\nfile = "/run/flag"\n[carp0.hooks]\nmaster = "/bin/true"\n'
    assert check([write(GOOD + more, "a.toml"), write(GOOD + "advskew = 100\n", "b.toml")]) == 0
    assert capsys.readouterr().out.endswith("2 files: the hosts agree\n")


def test_hosts_that_agree(write: Write, capsys: pytest.CaptureFixture[str]):
    """Good files are compared; hosts that agree are said to."""
    assert check([write(GOOD, "a.toml"), write(GOOD + "advskew = 100\n", "b.toml")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a.toml: ok (1 interface)", "b.toml: ok (1 interface)", "2 files: the hosts agree"]
    assert err == ""


def test_hosts_that_do_not_agree(write: Write, capsys: pytest.CaptureFixture[str]):
    """What keeps the hosts from agreeing goes to standard error, status 2; what is only unwise is a warning."""
    other = GOOD.replace("secret", "other").replace("/24", "/32")
    assert check([write(GOOD, "a.toml"), write(other, "b.toml")]) == 2
    out, err = capsys.readouterr()
    assert err == (
        "pass differs: key 1 in a.toml (carp0), key 2 in b.toml (carp0): each host refuses the advertisements of the others\n"
    )
    assert "the hosts agree" not in out
    assert out.count("warning: ") == 2
    assert "secret" not in out + err


def test_a_bad_file_beside_good_ones(write: Write, capsys: pytest.CaptureFixture[str]):
    """A bad file does not keep the good ones from being compared, and the status is 2 all the same."""
    files = [write(GOOD, "a.toml"), Path("absent.toml"), write(GOOD + "advskew = 100\n", "c.toml")]
    assert check(files) == 2
    out, err = capsys.readouterr()
    assert err == "absent.toml: cannot be read: No such file or directory\n"
    assert "2 files: the hosts agree" in out
