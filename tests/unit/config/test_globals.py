"""The sysctls net.inet.carp.NAME."""

import shlex

import pytest

from carp.config.bsd_words import WordError
from carp.config.globals import BY_KEY, BY_NAME, PARAMETERS, Step, SysctlLine, find, parse, parse_assignment
from carp.config.model import GlobalTable, keys_of

NAMES = "allow, preempt, log, arpbalance, suppress_preempt, demotion, dscp, ifdown_demotion_factor, senderr_demotion_factor"


def read(line: str) -> SysctlLine:
    """Read a line as it is typed after `sysctl`."""
    return parse(shlex.split(line, comments=True))


def refused(line: str) -> str:
    """Return the message of a line that is typed after `sysctl`."""
    with pytest.raises(WordError) as caught:
        read(line)
    return str(caught.value)


def steps(line: str) -> list[tuple[str, object]]:
    """Return the keys and values of the steps of a line."""
    return [(step.parameter.key, step.value) for step in read(line).steps]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("net.inet.carp.preempt=1", [("preempt", True)]),
        ("-w net.inet.carp.preempt=1", [("preempt", True)]),
        ("net.inet.carp.allow=0", [("allow", False)]),
        ("net.inet.carp.log=2              # 0..7, syslog priorities", [("log", 2)]),
        ("net.inet.carp.arpbalance=1", [("arpbalance", True)]),
        ("net.inet.carp.suppress_preempt", [("suppress-preempt", None)]),
        ("net.inet.carp.demotion=-240", [("demotion", -240)]),
        ("net.inet.carp.demotion", [("demotion", None)]),
        ("net.inet.carp.dscp=63", [("dscp", 63)]),
        ("net.inet.carp.ifdown_demotion_factor=240", [("ifdown-demotion-factor", 240)]),
        ("net.inet.carp.senderr_demotion_factor=0", [("senderr-demotion-factor", 0)]),
        ("net.inet.carp.log net.inet.carp.log=7", [("log", None), ("log", 7)]),
    ],
)
def test_lines_of_the_manuals(line: str, expected: list[tuple[str, object]]):
    """A line shows or writes what it names, in its order."""
    assert steps(line) == expected


@pytest.mark.parametrize("line", ["net.inet.carp", "", "-a", "-n net.inet.carp"])
def test_all(line: str):
    """net.inet.carp, -a and no name at all show every parameter once."""
    assert read(line).steps == tuple(Step(parameter) for parameter in PARAMETERS)


@pytest.mark.parametrize(
    ("line", "bare", "quiet"),
    [("-n net.inet.carp.log", True, False), ("-q net.inet.carp.log=1", False, True), ("-nqw net.inet.carp.log=1", True, True)],
)
def test_options(line: str, bare: bool, quiet: bool):
    """-n asks for values alone, -q for silence, and they may be one word."""
    assert (read(line).bare, read(line).quiet) == (bare, quiet)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("net.inet.carp.preempt=2", "net.inet.carp.preempt: 2: an integer 0..1"),
        ("net.inet.carp.preempt=yes", "net.inet.carp.preempt: yes: an integer 0..1"),
        ("net.inet.carp.preempt=", "net.inet.carp.preempt: its value is missing: an integer 0..1"),
        ("net.inet.carp.log=8", "net.inet.carp.log: 8: an integer 0..7"),
        ("net.inet.carp.dscp=64", "net.inet.carp.dscp: 64: an integer 0..63"),
        ("net.inet.carp.demotion=256", "net.inet.carp.demotion: 256: an integer -255..255"),
        ("net.inet.carp.ifdown_demotion_factor=256", "net.inet.carp.ifdown_demotion_factor: 256: an integer 0..255"),
        ("net.inet.carp.senderr_demotion_factor=-1", "net.inet.carp.senderr_demotion_factor: -1: an integer 0..255"),
        (
            "net.inet.carp.suppress_preempt=0",
            "net.inet.carp.suppress_preempt: it is read only: leave out = and what follows",
        ),
        ("net.inet.carp.premept", "net.inet.carp.premept: unknown name; did you mean net.inet.carp.preempt?"),
        (
            "net.inet.carp.ifdown_demotion_facto=1",
            "net.inet.carp.ifdown_demotion_facto: unknown name; did you mean net.inet.carp.ifdown_demotion_factor?",
        ),
        ("preempt=1", "preempt: unknown name; did you mean net.inet.carp.preempt?"),
        ("net.inet.ip.forwarding=1", f"net.inet.ip.forwarding: unknown name: net.inet.carp. and one of {NAMES}"),
        ("net.inet.carp=1", f"net.inet.carp: unknown name: net.inet.carp. and one of {NAMES}"),
        ("=1", f'"": unknown name: net.inet.carp. and one of {NAMES}'),
        ("net.inet.carp.stats", "sysctl: net.inet.carp.stats: the counters are shown by carp netstat -s -p carp"),
        ("-x", "sysctl: -x: one of -a, -n, -q, -w, or a name such as net.inet.carp.preempt"),
        ("-w", "-w: its value is missing: an assignment such as net.inet.carp.preempt=1"),
    ],
)
def test_refusals(line: str, expected: str):
    """What is unknown, read only or out of range is named with what is allowed."""
    assert refused(line) == expected


def test_assignments():
    """NAME=VALUE becomes the key of [global] and its value; spaces around = do not matter."""
    assert parse_assignment("net.inet.carp.preempt=1") == ("preempt", True)
    assert parse_assignment("net.inet.carp.ifdown_demotion_factor = 3") == ("ifdown-demotion-factor", 3)
    with pytest.raises(WordError, match=r"^net\.inet\.carp\.log: = and its value are missing: an integer 0\.\.7$"):
        parse_assignment("net.inet.carp.log")


def test_values_are_shown_as_numbers():
    """True and false are 1 and 0, as sysctl(8) shows them."""
    assert [BY_NAME["allow"].show(value) for value in (True, False)] == ["1", "0"]
    assert BY_NAME["log"].show(7) == "7"


def test_settings_are_the_keys_of_the_file():
    """Every parameter that is a setting is a key of [global], and every key is found by name and by key."""
    assert {parameter.key for parameter in PARAMETERS if parameter.is_setting} <= set(keys_of(GlobalTable))
    assert all(find(parameter.sysctl) is parameter is BY_KEY[parameter.key] for parameter in PARAMETERS)
    assert {parameter.name for parameter in PARAMETERS if not parameter.is_setting} == {"suppress_preempt", "demotion"}
