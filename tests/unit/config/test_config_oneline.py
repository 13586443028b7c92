"""The form without a file."""

import argparse
import shlex
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path

import pytest

from carp.config.errors import ConfigError
from carp.config.load import Configuration
from carp.config.oneline import add_arguments, from_arguments, is_given
from carp.protocol.auth import key_from_passphrase
from carp.protocol.parameters import LinkAddress, Node


def parse(line: str) -> argparse.Namespace:
    """Parse a command line that knows only the one-line form."""
    parser = argparse.ArgumentParser("carpd")
    add_arguments(parser)
    return parser.parse_args(shlex.split(line))


def read(line: str) -> Configuration:
    """Read a command line."""
    return from_arguments(parse(line))


def refused(line: str) -> list[str]:
    """Return the lines of the problems of a command line."""
    with pytest.raises(ConfigError) as caught:
        read(line)
    return str(caught.value).splitlines()


def test_one_line(write: Callable[..., Path]):
    """Parent, vhid, key and address are enough."""
    write("secret\n", "KEY")
    configuration = read("--interface eth0 --vhid 1 --pass-file KEY 192.0.2.100/24")
    (carp0,) = configuration.host.interfaces
    assert (carp0.name, carp0.carpdev, carp0.nodes, carp0.advbase) == ("carp0", "eth0", (Node(1, 0),), 1)
    assert (carp0.key, carp0.addresses) == (key_from_passphrase("secret"), (ip_interface("192.0.2.100/24"),))
    assert (configuration.host.preempt, configuration.warnings, configuration.path) == (False, (), None)


def test_every_option():
    """Every option reaches its parameter."""
    words = (
        "--interface eth0 --vhid 7 --pass secret --advbase 0 --advskew 5 --preempt --lladdr parent --dialect ucarp --name carp3"
    )
    configuration = read(f"{words} 192.0.2.100/24 2001:db8::100/64")
    (carp3,) = configuration.host.interfaces
    assert (carp3.name, carp3.nodes, carp3.advbase) == ("carp3", (Node(7, 5),), 0)
    assert (carp3.lladdr, carp3.dialect.name, len(carp3.addresses)) == (LinkAddress.PARENT, "ucarp", 2)
    assert configuration.host.preempt


def test_short_options_of_ucarp(write: Callable[..., Path]):
    """-i -v -p -o -b -k -P mean what they mean to ucarp."""
    write("secret\n", "KEY")
    from_file = read("-i eth0 -v 7 -o KEY -b 2 -k 5 -P 192.0.2.100/24")
    inline = read("-i eth0 -v 7 -p secret -b 2 -k 5 -P 192.0.2.100/24")
    assert from_file.host == inline.host
    assert inline.host.preempt


def test_inline_pass_warns():
    """A pass phrase on the command line can be seen in ps, and the user is told."""
    assert read("-i eth0 -v 1 -p secret 192.0.2.100/24").warnings == (
        "--pass: anyone on this host can see the pass phrase in the process list; --pass-file hides it",
    )


def test_inline_pass_of_other_bytes():
    """A pass phrase on the command line is bytes, in whatever character set."""
    (carp0,) = read("-i eth0 -v 1 -p \udcff\udcfe 192.0.2.100/24").host.interfaces
    assert carp0.key.rstrip(b"\0") == b"\xff\xfe"


def test_no_pass_warns():
    """Without a key the warning is that of the file."""
    assert read("-i eth0 -v 1 192.0.2.100/24").warnings == ("carp0: no pass: every host on the network can take part",)


def test_all_problems_at_once():
    """The checks and texts are those of the file, and the places are the options."""
    words = "-i eth0/1 -v one -p twenty-bytes-and-more -b -1 -k 255 --lladdr virtul --dialect bsd --name eth0 192.0.2.100"
    assert refused(words) == [
        '--name: "eth0" is not allowed: carp0..carp9999',
        (
            '--interface: "eth0/1" is not allowed: '
            "the name of the parent interface, 1..15 bytes without slash, colon or white space"
        ),
        '--vhid: "one" is not allowed: an integer 1..255',
        "--pass: the pass phrase is 21 bytes long: at most 19 bytes, the BSDs would cut the rest silently",
        "--advbase: -1 is not allowed: an integer 0..254",
        "--advskew: 255 is not allowed: an integer 0..254",
        '--lladdr: "virtul" is not allowed: virtual, parent or a MAC such as 02:00:00:00:00:01; did you mean virtual?',
        (
            '--dialect: "bsd" is not allowed: '
            "one of auto, openbsd, freebsd, freebsd9, freebsd6, netbsd, netbsd10, dragonfly, ucarp; did you mean netbsd?"
        ),
        'ADDRESS: "192.0.2.100" is not allowed: an address with its prefix length; write the prefix, such as 192.0.2.100/24',
    ]


def test_missing_options():
    """What is missing is named by its option."""
    places = [line.split(":")[0] for line in refused("--preempt")]
    assert places == ["--interface", "ADDRESS", "--vhid"]


def test_wrong_name_alone():
    """A name that is not carpN is refused when everything else is fine."""
    assert refused("-i eth0 -v 1 --name carp01 192.0.2.1/24") == ['--name: "carp01" is not allowed: carp0..carp9999']


def test_two_keys(write: Callable[..., Path]):
    """A key is given once."""
    write("secret\n", "KEY")
    assert refused("-i eth0 -v 1 -p secret -o KEY 192.0.2.1/24") == [
        "--pass-file: pass is given already: only one of pass, pass-file, key-hex, pass-credential"
    ]


def test_pass_file_of_others(write: Callable[..., Path]):
    """A key file that others may read is refused here too."""
    write("secret\n", "KEY", 0o644)
    assert refused("-i eth0 -v 1 -o KEY 192.0.2.1/24") == [
        "--pass-file: KEY: mode 0644 lets others read the key in it: chmod 600 KEY"
    ]


def test_is_given():
    """Without any of its options the one-line form is not meant."""
    assert not is_given(parse(""))
    assert is_given(parse("--preempt"))
    assert is_given(parse("--vhid ''"))
    assert is_given(parse("192.0.2.1/24"))
