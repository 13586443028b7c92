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

CREDENTIAL = "the name of a credential: 1..255 printable ASCII characters without slash and colon"
ONLY_ONE = "only one of pass, pass-file, key-hex, pass-credential"


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
    """Of the keys that tell a key only one is given; every other one is a problem."""
    write("secret\n", "carp0.key")
    lines = ('pass = "hush"', 'pass-file = "carp0.key"', f'key-hex = "{"ab" * 20}"', 'pass-credential = "../a"')
    assert refused(carp0(*lines)) == [
        f"carp.toml: carp0.pass-file: pass is given already: {ONLY_ONE}",
        f"carp.toml: carp0.key-hex: pass is given already: {ONLY_ONE}",
        f'carp.toml: carp0.pass-credential: "../a" is not allowed: {CREDENTIAL}',
        f"carp.toml: carp0.pass-credential: pass is given already: {ONLY_ONE}",
    ]


@pytest.fixture
def credentials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder of the credentials that systemd would tell of."""
    found = folder / "credentials"
    found.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(found))
    return found


def test_credential(write: Write, credentials: Path):
    """A credential is read like a pass-file, from the folder that systemd tells of; carp.toml itself is no secret."""
    write("secret\n", "credentials/carp0.key", 0o400)
    path = write(carp0('pass-credential = "carp0.key"'), mode=0o644)
    assert key_of(path).rstrip(b"\0") == b"secret"
    configuration = load_file(path)
    assert configuration.document["carp0"]["pass-credential"] == "carp0.key"
    assert "secret" not in str(configuration.document) + repr(configuration)
    assert configuration.warnings == ()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a:b", "ä", "a\\u0000", "a\\n", "x" * 256])
def test_credential_is_a_plain_file_name(refused: Refused, credentials: Path, name: str):
    """A credential cannot be a file of another folder."""
    (line,) = refused(carp0(f'pass-credential = "{name}"'))
    assert line.startswith("carp.toml: carp0.pass-credential: ")
    assert line.endswith(f" is not allowed: {CREDENTIAL}")


def test_credential_refused(refused: Refused, write: Write, credentials: Path):
    """What is wrong with a credential is said with its whole path, as of a pass-file."""
    place = f"carp.toml: carp0.pass-credential: {credentials}/key:"
    line = carp0('pass-credential = "key"')
    assert refused(line) == [f"{place} cannot be read: No such file or directory"]
    write("hush\nhush\n", "credentials/key")
    assert refused(line) == [f"{place} more than one line: a regular file with the pass phrase in one line"]
    write("hush\n", "credentials/key", 0o440)
    assert refused(line) == [f"{place} mode 0440 lets others read the key in it: chmod 600 {credentials}/key"]


def test_without_credentials(refused: Refused, monkeypatch: pytest.MonkeyPatch):
    """Where systemd has told of no credentials, what is missing is said, and how it gets there."""
    advice = "in the unit of carpd write LoadCredential=key:FILE; elsewhere set it to the folder that holds key"
    place = "carp.toml: carp0.pass-credential: $CREDENTIALS_DIRECTORY is"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert refused(carp0('pass-credential = "key"')) == [f"{place} not set; {advice}"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "relative")
    assert refused(carp0('pass-credential = "key"')) == [f"{place} not an absolute path; {advice}"]


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
