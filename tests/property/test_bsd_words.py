"""What holds for all words: whatever is typed or stands in a boot file is understood, or refused in one sentence."""

from hypothesis import given
from hypothesis import strategies as st

from carp.config import boot_lines, ifconfig, rc_conf, shell_words
from carp.config import globals as sysctls
from carp.config.bsd_words import WordError
from carp.config.change import Change
from carp.config.errors import ConfigError
from carp.config.ucarp import Imported, parse_ucarp

KEYWORDS = (*ifconfig._KEYWORDS, *ifconfig._ELSEWHERE, "-g", "-a", "carpdemote", "-carpdemote", "carp", "carp0", "em0")
VALUES = [
    "0",
    "1",
    "255",
    "256",
    "-1",
    "10.0.0.1",
    "10.0.0.1/24",
    "255.255.255.0",
    "0xffffff00",
    "2001:db8::1/64",
    "::",
    "1:0,2:5",
    "10.0.0.2,10.0.0.3",
    "ip",
    "none",
    "master",
    "virtual",
    "02:00:00:00:00:01",
    "lan",
    "secret",
    "/",
    "%",
    "'",
    '"',
    "#",
]
SHELL_PARTS = (
    *("ifconfig_carp0", "cloned_interfaces", "ifconfig_em0_alias0", "carp0", "inet", "inet6", "10.0.0.1", "64", "vhid 1"),
    *("net.inet.carp.log", "pass", "=", '"', "'", "\\", "\n", ";", "#", " ", "$(x)", "!", "|"),
)
UCARP_OPTIONS = ("-i", "-v", "-p", "-a", "-o", "--vhid=1", "--addr", "-P", "--", "-")
ASSIGNMENT = st.sampled_from(sysctls.PARAMETERS).map(lambda parameter: f"{parameter.sysctl}=1")
WORD = st.one_of(st.sampled_from(KEYWORDS), st.sampled_from(VALUES), st.text(max_size=25))
WORDS = st.lists(WORD, max_size=8)
SHELL = st.one_of(st.lists(st.sampled_from(SHELL_PARTS)).map("".join), st.text())
SECRET = "s3cr3t-0123456789"


def outcome(read, *arguments):
    """Return what a reader makes of words, and its message in place of WordError; any other error fails the test."""
    try:
        return read(*arguments), None
    except WordError as error:
        return None, str(error)


def is_one_sentence(message):
    """Tell whether a message can stand in one line."""
    return message != "" and message.isprintable()


@given(WORDS)
def test_any_words_of_ifconfig(words):
    """A line of ifconfig is a value or one sentence."""
    _, message = outcome(ifconfig.parse, words)
    assert message is None or is_one_sentence(message)


@given(WORDS)
def test_any_words_after_an_interface(words):
    """A change of a carp interface is refused in one sentence, or survives its journey to the daemon."""
    change, message = outcome(ifconfig.parse_change, "carp0", words)
    if message is None:
        assert Change.from_json("carp0", change.to_json()) == change
    else:
        assert is_one_sentence(message)


@given(WORDS, WORDS)
def test_any_words_around_a_pass_phrase(before, after):
    """Neither a message nor the representation of a change shows a pass phrase."""
    change, message = outcome(ifconfig.parse_change, "carp0", [*before, "pass", SECRET, *after])
    assert SECRET not in (repr(change) if message is None else message)


@given(st.lists(st.one_of(st.text(max_size=30), ASSIGNMENT), max_size=5))
def test_any_words_of_sysctl(words):
    """A line of sysctl is a value or one sentence."""
    _, message = outcome(sysctls.parse, words)
    assert message is None or is_one_sentence(message)


@given(st.lists(st.one_of(WORD, st.sampled_from(UCARP_OPTIONS)), max_size=8))
def test_any_words_of_ucarp(words):
    """A command line of ucarp is a document or a list of problems."""
    try:
        found = parse_ucarp(words)
    except ConfigError as error:
        found = error.problems
    assert isinstance(found, Imported) or found


@given(SHELL)
def test_any_text_of_a_boot_file(text):
    """A boot file of any text is understood or refused line by line, and the numbers are those of its lines."""
    asked = [*boot_lines.hostname_lines("carp0", text), *rc_conf.lines(text)]
    assert all(1 <= one.line <= text.count("\n") + 1 for one in asked)
    assert all((one.change is None) == bool(one.error) for one in asked)
    assert rc_conf.system_of(text) in ("", *boot_lines.LOG_LEVELS)


@given(st.one_of(SHELL, ASSIGNMENT), st.sampled_from(list(boot_lines.LOG_LEVELS)))
def test_any_line_of_sysctl_conf(line, system):
    """A line of sysctl.conf is a setting, nothing, or one sentence."""
    _, message = outcome(boot_lines.sysctl_setting, line, system)
    assert message is None or is_one_sentence(message)


@given(st.lists(st.text(min_size=1)))
def test_quoted_words_come_back(words):
    """What a shell's quotes protect comes out as it was."""
    line = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    assert shell_words.split_words(line) == words
