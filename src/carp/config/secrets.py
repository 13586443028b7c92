"""Pass phrases and the files that hold them.

A file that holds a key is refused when anyone but its owner may read or change it, whoever asks: root too, as root could
read it anyway and would never notice. No text made here holds a byte of a key.
"""

import os
import shlex
import stat
from pathlib import Path

from carp.protocol.auth import KEY_BYTES, MAX_PASSPHRASE_BYTES, Key

from .errors import RefusedError

SECRET_KEYS = frozenset({"pass", "key-hex"})
"""Keys whose value is never shown, and which make the file that they stand in a secret."""

PASSPHRASE = f"a pass phrase of 1..{MAX_PASSPHRASE_BYTES} bytes in quotes"

CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd tells a service the folder of its credentials."""

_KEY_FILE = "a regular file with the pass phrase in one line"
_OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_READ_BYTES = 4096


def passphrase(word: object) -> Key:
    """Make the key of a pass phrase that stands in the configuration itself.

    Raises:
        RefusedError: it is not a string, or key_of refuses it.
    """
    if not isinstance(word, str):
        raise RefusedError(PASSPHRASE)
    try:
        # Arguments of a command line are bytes that need not be UTF-8; they reach the key as they are.
        raw = word.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise RefusedError(PASSPHRASE) from None
    return key_of(raw)


def key_of(raw: bytes) -> Key:
    """Make the key of a pass phrase, byte for byte.

    Raises:
        RefusedError: it is empty, holds a NUL, or is longer than 19 bytes.
    """
    if not raw:
        raise RefusedError("1 byte or more, or no pass at all", fault="the pass phrase is empty")
    if len(raw) > MAX_PASSPHRASE_BYTES:
        raise RefusedError(
            f"at most {MAX_PASSPHRASE_BYTES} bytes, the BSDs would cut the rest silently",
            fault=f"the pass phrase is {len(raw)} bytes long",
        )
    if 0 in raw:
        raise RefusedError("bytes other than NUL", fault="the pass phrase holds a NUL byte, which would end it on the BSDs")
    return Key(raw.ljust(KEY_BYTES, b"\0"))


def check_mode(path: Path, mode: int) -> None:
    """Refuse a file with a key whose permission bits let group or others read or change it.

    Raises:
        RefusedError: they do.
    """
    able = []
    if mode & _OTHERS_MAY_READ:
        able.append("read")
    if mode & _OTHERS_MAY_WRITE:
        able.append("change")
    if able:
        fault = f"mode {stat.S_IMODE(mode):04o} lets others {' and '.join(able)} the key in it"
        raise RefusedError(f"chmod 600 {shlex.quote(str(path))}", fault=fault)


def read_key_file(path: Path) -> Key:
    """Read the pass phrase of a file: one line, without its newline, otherwise verbatim.

    Raises:
        RefusedError: the file cannot be read, others may read or change it, or it does not hold one pass phrase.
    """
    try:
        return _read_key_file(path)
    except OSError as error:
        raise RefusedError(fault=f"{path}: cannot be read: {error.strerror}") from None
    except RefusedError as refused:
        raise RefusedError(refused.allowed, fault=f"{path}: {refused.fault}") from None


def read_credential(name: str) -> Key:
    """Read the pass phrase of a credential that systemd gave to this process.

    Raises:
        RefusedError: there are no credentials, or what read_key_file refuses.
    """
    folder = os.environ.get(CREDENTIALS, "")
    if not folder.startswith("/"):
        hint = f"in the unit of carpd write LoadCredential={name}:FILE; elsewhere set it to the folder that holds {name}"
        raise RefusedError(fault=f"${CREDENTIALS} is {'not an absolute path' if folder else 'not set'}", hint=hint)
    return read_key_file(Path(folder) / name)


def _read_key_file(path: Path) -> Key:
    # Without O_NONBLOCK a named pipe would block a reload for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # The open file is asked, not the path: nobody can exchange it in between.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise RefusedError(_KEY_FILE, fault="not a regular file")
        check_mode(path, mode)
        raw = os.read(descriptor, _READ_BYTES)
    finally:
        os.close(descriptor)
    line = raw.removesuffix(b"\n")
    if b"\n" in line:
        raise RefusedError(_KEY_FILE, fault="more than one line")
    return key_of(line)
