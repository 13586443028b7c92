"""A command line of ucarp as a carp.toml."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from carp.config.errors import ConfigError
from carp.config.load import Source, load_document
from carp.config.ucarp import Imported, parse_ucarp

CARPDEV = "the name of the parent interface, 1..15 bytes without slash, colon or white space"
LINE = "ucarp -i eth0 -s 10.1.1.1 -v 42 -p love -a 10.1.1.252"


def read(line: str) -> Imported:
    """Read a command line as it is typed."""
    return parse_ucarp(shlex.split(line))


def refused(line: str) -> list[str]:
    """Return the problems of a command line."""
    with pytest.raises(ConfigError) as caught:
        read(line)
    return str(caught.value).splitlines()


def warned(line: str) -> dict[str, str]:
    """Return the warnings of a command line by the option that they name."""
    return {warning.partition(":")[0]: warning for warning in read(line).warnings}


def test_a_line():
    """What carp.toml has a key for is taken over, and the address gets a prefix length."""
    assert read(LINE).document == {"carp0": {"carpdev": "eth0", "vhid": 42, "pass": "love", "addresses": ["10.1.1.252/32"]}}


def test_the_result_is_a_configuration():
    """The document is accepted as a carp.toml."""
    configuration = load_document(read(f"{LINE} -b 2 -k 5 -P").document, Source(str, Path()))
    (carp0,) = configuration.host.interfaces
    assert (carp0.leader.vhid, carp0.leader.advskew, carp0.advbase, carp0.preempt) == (42, 5, 2, True)


def test_every_key():
    """Short and long options mean the same, in any order, cut short where that is unique."""
    table = {
        "carpdev": "eth0",
        "vhid": 42,
        "advbase": 2,
        "advskew": 5,
        "pass-file": "/etc/key",
        "preempt": True,
        "addresses": ["10.1.1.252/32"],
    }
    short = "-P -k 5 -b2 -a 10.1.1.252 -o /etc/key -v 42 -i eth0 -s 10.1.1.1 &"
    long = (
        "/usr/sbin/ucarp --interface=eth0 --vhid 42 --passfile=/etc/key --preempt --addr=10.1.1.252 --advbase=2 --advsk 5 "
        "--srcip=10.1.1.1"
    )
    assert read(short).document == read(long).document == {"carp0": table}
    assert parse_ucarp(shlex.split(short), "carp7").document == {"carp7": table}


def test_what_has_no_counterpart():
    """Each option that nothing becomes of is a warning that says what carpd does instead."""
    line = f"{LINE} -u /up -d /down -n -z -x extra -B -f local0 -D -S -M -m 239.1.1.1 -r 2 -o /etc/key".replace("-p love ", "")
    found = warned(line)
    assert set(found) == {
        *("--upscript", "--downscript", "--neutral", "--shutdown", "--xparam", "--daemonize", "--facility", "--debug"),
        *("--ignoreifstate", "--nomcast", "--mcast", "--deadratio", "--passfile", "--srcip", "--addr"),
    }
    assert found["--upscript"] == (
        "--upscript: left out: carpd sets and removes the address itself and runs no script of ucarp"
    )
    assert found["--addr"] == (
        "--addr: 10.1.1.252 has become 10.1.1.252/32: write the prefix length of its network if the parent has no address in it"
    )


def test_usual_values_need_no_warning():
    """The usual dead ratio and multicast group are what carpd does anyway."""
    assert set(warned(f"{LINE} -r 3 -m 224.0.0.18")) == {"--srcip", "--addr"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "ucarp -s 10.1.1.1",
            [
                "--interface: missing: the name of the parent interface, where ucarp would take the first one that it finds",
                "--vhid: missing: an integer 1..255",
                "--addr: missing: an IPv4 address, such as 192.0.2.100",
            ],
        ),
        (f"{LINE} -v 256", ["--vhid: 256 is not allowed: an integer 1..255"]),
        (f"{LINE} -v x", ['--vhid: "x" is not allowed: an integer 1..255']),
        (f"{LINE} -k 255", ["--advskew: 255 is not allowed: an integer 0..254"]),
        (
            f"{LINE} -b 255 -i a/b",
            [
                f'--interface: "a/b" is not allowed: {CARPDEV}',
                "--advbase: 255 is not allowed: an integer 0..254",
            ],
        ),
        (f"{LINE} -a 2001:db8::1", ['--addr: "2001:db8::1" is not allowed: an IPv4 address, such as 192.0.2.100']),
        (
            f"{LINE} -a 127.0.0.1",
            ['--addr: "127.0.0.1/32" is not allowed: an address of a host: not unspecified, loopback, multicast or broadcast'],
        ),
        (f"{LINE} -o /etc/key", ["--passfile: --pass is given already: only one of them"]),
        (f"{LINE} -q", ["ucarp: option -q not recognized: an option of ucarp 1.5.2, such as --vhid=1"]),
        (f"{LINE} --adv 1", ["ucarp: option --adv not a unique prefix: an option of ucarp 1.5.2, such as --vhid=1"]),
        (f"{LINE} -k", ["ucarp: option -k requires argument: an option of ucarp 1.5.2, such as --vhid=1"]),
        (f"{LINE} more words", ["ucarp: words that belong to no option: 2: a value with spaces stands in quotes"]),
        (f"{LINE} -h", ["--help: it starts nothing: the options that ucarp is started with"]),
        (
            "",
            [
                "--interface: missing: the name of the parent interface, where ucarp would take the first one that it finds",
                "--vhid: missing: an integer 1..255",
                "--addr: missing: an IPv4 address, such as 192.0.2.100",
            ],
        ),
    ],
)
def test_problems(line: str, expected: list[str]):
    """Every problem is listed, with the long name of its option and what is allowed."""
    assert refused(line) == expected


@pytest.mark.parametrize("tail", ["-p s3cret-s3cret-s3cret", "-p my s3cret", "-p s3cret -v 0", "-p s3cret -o x"])
def test_pass_phrases_are_never_shown(tail: str):
    """No problem and no representation shows a pass phrase."""
    assert "s3cret" not in "\n".join(refused(f"{LINE} {tail}"))
    assert "love" not in repr(read(LINE))


def test_the_options_are_those_of_ucarp():
    """Every option that `ucarp --help` lists is known: it becomes a key or a warning, or a problem for another reason."""
    printed = subprocess.run(["ucarp", "--help"], capture_output=True, text=True, timeout=10).stdout
    listed = re.findall(r"^--(\w+)(?:=<\w+>)? \((-\w)", printed, re.MULTILINE)
    assert len(listed) == 22
    for option in [name for long, short in listed for name in (f"--{long}", short)]:
        # An option that takes no value leaves this one over.
        problems = refused(f"{option} 7 -v 0")
        assert not any("not recognized" in problem for problem in problems), option


def test_options_with_and_without_a_value():
    """Of all options these take no value, as `ucarp --help` says."""
    flags = ["-P", "-n", "-D", "-z", "-B", "-S", "-M", "--preempt", "--neutral", "--debug", "--shutdown", "--daemonize"]
    for option in [*flags, "--ignoreifstate", "--nomcast"]:
        assert read(f"{LINE} {option}").document["carp0"]["vhid"] == 42
        assert refused(f"{LINE} {option} 7") == [
            "ucarp: words that belong to no option: 1: a value with spaces stands in quotes"
        ]
    for option in ("-m", "-u", "-d", "-r", "-f", "-x", "--mcast", "--upscript", "--downscript", "--deadratio", "--facility"):
        assert read(f"{LINE} {option} 7").document["carp0"]["vhid"] == 42
