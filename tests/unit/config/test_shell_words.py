"""Shell text that is read without a shell."""

import pytest

from carp.config.bsd_words import WordError
from carp.config.shell_words import NEVER_RUN, NO_PARTNER, NOT_FOR_A_SHELL, assignments, split_commands, split_words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vhid 1  pass\tx\r", ["vhid", "1", "pass", "x"]),
        ("pass 'a b' \"c d\"", ["pass", "a b", "c d"]),
        ("pass a'b'\"c\"", ["pass", "abc"]),
        ("pass a#b # a comment", ["pass", "a#b"]),
        ("# a comment that isn't closed", []),
        ("pass ''", ["pass", ""]),
        (r"pass a\ b\\c\$d", ["pass", "a b\\c$d"]),
        (r'pass "a\"b\c\$d"', ["pass", 'a"b\\c$d']),
        (r"pass 'a\b$c`d;'", ["pass", r"a\b$c`d;"]),
        ('pass "a;b|c"', ["pass", "a;b|c"]),
        ("vhid \\\n1", ["vhid", "1"]),
        ("", []),
    ],
)
def test_words(line: str, expected: list[str]):
    """Quotes hold a word together, a backslash protects, and a # that begins a word begins a comment."""
    assert split_words(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pass $KEY", NEVER_RUN),
        ('pass "$(cat /etc/key)"', NEVER_RUN),
        ("pass ${KEY}", NEVER_RUN),
        ("pass `cat /etc/key`", NEVER_RUN),
        ("vhid 1; reboot", NOT_FOR_A_SHELL),
        ("vhid 1 && reboot", NOT_FOR_A_SHELL),
        ("vhid 1 > /dev/null", NOT_FOR_A_SHELL),
        ("pass 'a", NO_PARTNER),
        ('pass "a', NO_PARTNER),
    ],
)
def test_what_only_a_shell_could_say(line: str, expected: str):
    """Variables, commands, operators and open quotes are refused without showing any of the line."""
    with pytest.raises(WordError) as caught:
        split_words(line)
    assert str(caught.value) == expected


def test_commands():
    """Commands end at line ends and at semicolons outside of quotes and comments."""
    text = "create; vhid 1 pass 'a;b'\n# don't; stop\n up ;; group \"x\ny\""
    assert split_commands(text) == ["create", "vhid 1 pass 'a;b'", "up", 'group "x\ny"']


def test_assignments():
    """Assignments are found at the beginning of a command, over several lines, and all other shell is passed over."""
    text = (
        "#!/bin/sh\n# don't read A=1\nA=1 # one\n\n  export B='x\ny'; C=\"z\\\n \" D=a#b\n"
        'if [ -f /x ]; then\n\tE="$(cat /x)"\nfi\necho F=1\nG=a"b"\'c\'\nH=\nI="open\nJ=2'
    )
    found = [(one.line, one.name, one.value, one.error) for one in assignments(text)]
    assert found == [
        (3, "A", "1", ""),
        (5, "B", "x\ny", ""),
        (6, "C", "z ", ""),
        (7, "D", "a#b", ""),
        (9, "E", "$(cat /x)", NEVER_RUN),
        (12, "G", "abc", ""),
        (13, "H", "", ""),
        (14, "I", "open\nJ=2", NO_PARTNER),
        (15, "J", "2", ""),
    ]
