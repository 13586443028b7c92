"""One carp.toml as a whole: syntax, tables, rules between tables, order of problems."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carp.config.errors import ConfigError
from carp.config.load import load_file

Refused = Callable[..., list[str]]


def table(name: str, *, carpdev: str = "eth0", vhid: int = 1, address: str = "192.0.2.1/24") -> str:
    """Write a carp interface without a key."""
    return f'[{name}]\ncarpdev = "{carpdev}"\nvhid = {vhid}\naddresses = ["{address}"]\n'


def test_interfaces_in_the_order_of_their_numbers(write):
    """carp2 comes before carp10, wherever they stand in the file."""
    text = table("carp10") + table("carp2", vhid=2, address="192.0.2.2/24")
    assert [one.name for one in load_file(write(text)).host.interfaces] == ["carp2", "carp10"]


def test_all_problems_at_once_in_the_order_of_the_file(refused: Refused):
    """Every problem of a file is listed in one go, in its order: no second run shows a new one."""
    text = """
    [carp1]
    advskew = 255
    carpdev = "eth0"
    vhid = 7
    pass = "a pass phrase that is too long"
    addresses = ["nonsense", "192.0.2.1/24"]
    [global]
    log = 9
    [carp0]
    advskw = 1
    carpdev = "eth0"
    vhid = 7
    pass-file = "absent.key"
    addresses = ["192.0.2.1/24"]
    """
    assert refused(text) == [
        "carp.toml: carp1.advskew: 255 is not allowed: an integer 0..254",
        "carp.toml: carp1.pass: the pass phrase is 30 bytes long: at most 19 bytes, the BSDs would cut the rest silently",
        (
            'carp.toml: carp1.addresses: "nonsense" is not allowed: '
            "an IPv4 or IPv6 address with its prefix length, such as 192.0.2.100/24"
        ),
        "carp.toml: global.log: 9 is not allowed: an integer 0..7",
        "carp.toml: carp0.advskw: unknown key; did you mean advskew?",
        "carp.toml: carp0.vhid: 7 is also the vhid of carp1 on eth0: each vhid once on a carpdev",
        "carp.toml: carp0.pass-file: absent.key: cannot be read: No such file or directory",
    ]


def test_vhid_twice_on_a_parent(refused: Refused):
    """A vhid belongs to one carp interface of a parent, be it by vhid or by carpnodes; another parent may use it again."""
    again = '[carp1]\ncarpdev = "eth0"\ncarpnodes = ["1:100"]\naddresses = ["192.0.2.2/24"]\n'
    expected = "carp.toml: carp1.carpnodes: 1 is also the vhid of carp0 on eth0: each vhid once on a carpdev"
    assert refused(table("carp0") + again) == [expected]
    assert refused(table("carp0") + table("carp1", carpdev="eth1", address="192.0.2.2/24")) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("globl", "; did you mean global?"),
        ("tracks", "; did you mean track?"),
        ("carp", "; did you mean carp0?"),
        ("Carp7", "; did you mean carp7?"),
        ("carp01", "; did you mean carp1?"),
        ("carp10000", ""),
        ("eth0", ""),
        (f"x{'9' * 5000}", ""),
    ],
)
def test_unknown_table(refused: Refused, name: str, hint: str):
    """A table is [global], [sync], [track.NAME] or [carpN] with N 0..9999 without leading zeros."""
    assert refused(table("carp0") + f'[{name}]\npass = "hush"\n') == [
        f"carp.toml: {name}: unknown table: [global], [sync], [track.NAME] or carp0..carp9999{hint}"
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('pass = "hush"', "pass: stands outside of a table; put it below a line such as [carp0]"),
        ("log = 2", "log: stands outside of a table; put it below a line [global]"),
        ("rise = 2", "rise: stands outside of a table; put it below a line such as [track.uplink]"),
        ('hush = "hush"', "hush: unknown key outside of a table"),
        ("global = 5", "global: 5 is not allowed: a table [global]"),
        ("carp1 = 5", "carp1: 5 is not allowed: a table [carp1]"),
        ('"a\\nb.c" = 5', '"a\\nb.c": unknown key outside of a table'),
    ],
)
def test_keys_outside_of_tables(refused: Refused, line: str, expected: str):
    """Only tables stand at the top of the file."""
    assert refused(f"{line}\n{table('carp0')}") == [f"carp.toml: {expected}"]


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_empty(refused: Refused, text: str):
    """A file without anything is taken for a mistake, and refused."""
    assert refused(text) == ["carp.toml: no carp interface: a table such as [carp0], or an empty [global]"]


def test_global_alone(write):
    """A file that only has [global] leaves the carp interfaces to commands, with a warning."""
    configuration = load_file(write("[global]\nlog = 3\n"))
    assert (configuration.host.interfaces, configuration.log) == ((), 3)
    assert configuration.warnings == ("carp.toml: no carp interface: carp ifconfig can make one",)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[carp0]\nvhid = \n", "line 2, column 8"),
        ("[carp0]\nvhid = 1\nvhid = 2\n", "line 3, column 9"),
        ("[carp0]\ncarpdev = [", "line 2, column 12"),
    ],
)
def test_syntax(refused: Refused, text: str, place: str):
    """What is not TOML is refused with file, line and column, at the end of the file too."""
    (line,) = refused(text)
    assert line.startswith(f"carp.toml: {place}: ")


def test_not_a_configuration(write):
    """A file that is missing, a folder, not text, or made to exhaust the reader is a problem and not a crash."""

    def message(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            load_file(path)
        return str(caught.value)

    assert message(Path("absent.toml")) == "absent.toml: cannot be read: No such file or directory"
    assert message(Path()) == ".: cannot be read: Is a directory"
    assert message(Path("a\0b")).endswith("cannot be read: not the name of a file")
    binary = Path("binary.toml")
    binary.write_bytes(b"[carp0]\n\xff\n")
    assert message(binary) == "binary.toml: line 2: not UTF-8 text"
    deep = "not a configuration: a number too long or brackets too deep"
    assert message(write("x = " + "9" * 5000)) == f"carp.toml: {deep}"
    assert message(write("x = " + "[" * 100_000)) == f"carp.toml: {deep}"
    assert message(write("#" * 5_000_000)) == "carp.toml: larger than 4194304 bytes"


def test_place_holds_the_whole_path(write):
    """Problems name the file as it was given, so that those of several files can be told apart."""
    Path("one").mkdir()
    path = write("", "one/carp.toml")
    with pytest.raises(ConfigError, match=r"^one/carp\.toml: no carp interface"):
        load_file(path)
