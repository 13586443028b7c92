"""Pass phrases, key files, and who may read them."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from carp.config.errors import ConfigError
from carp.config.load import load_file
from carp.protocol.auth import KEY_BYTES, ZERO_KEY

Refused = Callable[..., list[str]]
Write = Callable[..., Path]

ONLY_ONE = "only one of pass, pass-file and key-hex"


def carp0(*lines: str) -> str:
    """Write a [carp0] with some lines about its key."""
    return "\n".join(["[carp0]", 'carpdev = "eth0"', "vhid = 1", 'addresses = ["192.0.2.1/24"]', *lines, ""])


def key_of(path: Path) -> bytes:
    """Return the key of the only interface of a file."""
    return load_file(path).host.interfaces[0].key


@pytest.mark.parametrize("phrase", ["a", "nineteen bytes long", "ümläut"])
def test_inline(write: Write, phrase: str):
    """A pass phrase is its bytes in UTF-8, at most 19, filled up with NUL."""
    assert key_of(write(carp0(f'pass = "{phrase}"'))) == phrase.encode().ljust(KEY_BYTES, b"\0")


def test_key_hex(write: Write):
    """key-hex holds all 20 bytes of a key."""
    assert key_of(write(carp0(f'key-hex = "{"0123456789abcdefABCD" * 2}"'))) == bytes.fromhex("0123456789abcdefABCD" * 2)


@pytest.mark.parametrize("value", ['"abc"', f'"{"0" * 39}"', f'"{"0" * 42}"', f'"{"g" * 40}"', f'"{"00 " * 20}"', "5"])
def test_key_hex_refused(refused: Refused, value: str):
    """Anything but 40 hexadecimal digits is refused, and not shown."""
    expected = "carp.toml: carp0.key-hex: this value is not allowed: 40 hexadecimal digits in quotes"
    assert refused(carp0(f"key-hex = {value}")) == [expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"twenty bytes are more"', "the pass phrase is 21 bytes long: at most 19 bytes, the BSDs would cut the rest silently"),
        ('"ümläütümläütü"', "the pass phrase is 20 bytes long: at most 19 bytes, the BSDs would cut the rest silently"),
        ('""', "the pass phrase is empty: 1 byte or more, or no pass at all"),
        ('"a\\u0000b"', "the pass phrase holds a NUL byte, which would end it on the BSDs: bytes other than NUL"),
        ("12345", "this value is not allowed: a pass phrase of 1..19 bytes in quotes"),
    ],
)
def test_inline_refused(refused: Refused, value: str, expected: str):
    """A pass phrase that the BSDs would cut, end early or ignore is refused with the reason, and never shown."""
    assert refused(carp0(f"pass = {value}")) == [f"carp.toml: carp0.pass: {expected}"]


@pytest.mark.parametrize(
    ("raw", "key"),
    [(b"secret\n", b"secret"), (b"secret", b"secret"), (b" with spaces \n", b" with spaces "), (b"\xff\xfe\n", b"\xff\xfe")],
)
def test_pass_file(write: Write, raw: bytes, key: bytes):
    """A pass-file is one line; but for its newline every byte counts."""
    write("", "carp0.key").write_bytes(raw)
    assert key_of(write(carp0('pass-file = "carp0.key"'), mode=0o644)) == key.ljust(KEY_BYTES, b"\0")


def test_pass_file_is_relative_to_the_configuration(write: Write):
    """A relative pass-file lies beside carp.toml, wherever carpd was started; an absolute one lies where it says."""
    Path("etc").mkdir()
    write("secret\n", "etc/carp0.key")
    path = write(carp0('pass-file = "carp0.key"'), "etc/carp.toml")
    assert key_of(path).rstrip(b"\0") == b"secret"
    absolute = Path("etc/carp0.key").resolve()
    assert key_of(write(carp0(f'pass-file = "{absolute}"'))).rstrip(b"\0") == b"secret"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "the pass phrase is empty: 1 byte or more, or no pass at all"),
        (b"\n", "the pass phrase is empty: 1 byte or more, or no pass at all"),
        (b"one\ntwo\n", "more than one line: a regular file with the pass phrase in one line"),
        (b"one\n\n", "more than one line: a regular file with the pass phrase in one line"),
        (b"x" * 20, "the pass phrase is 20 bytes long: at most 19 bytes, the BSDs would cut the rest silently"),
        (b"a\0b", "the pass phrase holds a NUL byte, which would end it on the BSDs: bytes other than NUL"),
    ],
)
def test_pass_file_refused(refused: Refused, write: Write, raw: bytes, expected: str):
    """What is wrong with the content of a pass-file is said with the name of the file."""
    write("", "carp0.key").write_bytes(raw)
    assert refused(carp0('pass-file = "carp0.key"')) == [f"carp.toml: carp0.pass-file: carp0.key: {expected}"]


def test_pass_file_that_is_no_file(refused: Refused):
    """A missing file, a folder and a pipe (which would block) are refused with their path."""
    Path("folder").mkdir()
    os.mkfifo("pipe", 0o600)
    place = "carp.toml: carp0.pass-file:"
    regular = "not a regular file: a regular file with the pass phrase in one line"
    assert refused(carp0('pass-file = "absent"')) == [f"{place} absent: cannot be read: No such file or directory"]
    assert refused(carp0('pass-file = "folder"')) == [f"{place} folder: {regular}"]
    assert refused(carp0('pass-file = "pipe"')) == [f"{place} pipe: {regular}"]
    assert refused(carp0('pass-file = ""')) == [f'{place} "" is not allowed: the path of a file that holds the pass phrase']
    assert len(refused(carp0('pass-file = "a\\u0000b"'))) == 1


@pytest.mark.parametrize(
    ("mode", "able"),
    [
        (0o640, "read"),
        (0o604, "read"),
        (0o644, "read"),
        (0o620, "change"),
        (0o602, "change"),
        (0o666, "read and change"),
    ],
)
def test_files_that_others_may_read_or_change(refused: Refused, write: Write, mode: int, able: str):
    """Any file with a key is refused when others may read or change it, with its mode and the command that helps."""
    fault = f"mode {mode:04o} lets others {able} the key in it: chmod 600"
    assert refused(carp0('pass = "secret"'), mode) == [f"carp.toml: {fault} carp.toml"]
    assert refused(carp0(f'key-hex = "{"ab" * 20}"'), mode) == [f"carp.toml: {fault} carp.toml"]
    write("secret\n", "my key", mode)
    assert refused(carp0('pass-file = "my key"'), mode) == [f"carp.toml: carp0.pass-file: my key: {fault} 'my key'"]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o711])
def test_files_of_their_owner(refused: Refused, write: Write, mode: int):
    """A file that only its owner may read is fine; so is a readable configuration without any key."""
    write("secret\n", "carp0.key", mode)
    assert refused(carp0('pass-file = "carp0.key"'), 0o644) == []
    Path("carp.toml").unlink()
    assert refused(carp0('pass = "secret"'), mode) == []


def test_one_key(refused: Refused, write: Write):
    """Of pass, pass-file and key-hex only one is given; every other one is a problem."""
    write("secret\n", "carp0.key")
    lines = ('pass = "hush"', 'pass-file = "carp0.key"', f'key-hex = "{"ab" * 20}"')
    assert refused(carp0(*lines)) == [
        f"carp.toml: carp0.pass-file: pass is given already: {ONLY_ONE}",
        f"carp.toml: carp0.key-hex: pass is given already: {ONLY_ONE}",
    ]


def test_no_pass_warns(write: Write):
    """No pass is legal: the key is zero, and each such interface is told once."""
    other = '[carp1]\ncarpdev = "eth0"\nvhid = 2\naddresses = ["192.0.2.2/24"]\npass = "secret"\n'
    configuration = load_file(write(carp0() + other))
    assert configuration.host.interfaces[0].key == ZERO_KEY
    assert configuration.warnings == ("carp.toml: carp0: no pass: every host on the network can take part",)


def test_keys_are_never_shown(write: Write):
    """Whatever is wrong with a file, nothing that could be a pass phrase gets into a message, a trace or a repr."""
    text = """
    pass = "hush-1"
    [global]
    pass = "hush-2"
    [carp0]
    pas = "hush-3"
    pass = ["hush-4"]
    key-hex = "hush-5"
    vhid = {pass = "hush-6"}
    [carp1]
    pass = "hush-7 and many more bytes"
    [eth0]
    pass = "hush-8"
    """
    with pytest.raises(ConfigError) as caught:
        load_file(write(text))
    assert len(caught.value.problems) > 8
    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert "hush" not in repr(caught.value.problems)
    assert "hush" not in repr(load_file(write(carp0('pass = "hush"'))))
