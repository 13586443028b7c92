"""Hooks: what may be written, what holds for which carp interface, and what of it an operator reads."""

import tomllib
from pathlib import Path

import pytest

from carp.attendant.orders import HookKind
from carp.config.errors import ConfigError, key_text
from carp.config.hooks import NO_HOOKS, Hooks
from carp.config.load import Source, draft_parameters, load_document, load_file
from carp.config.model import HooksTable, keys_of
from carp.config.programs import MAX_BYTES, PROGRAM
from carp.config.write import complete, public, to_toml

GOOD = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.1/24"]\n'
PLACE = "carp.toml: carp0.hooks"


def test_every_kind_has_its_key():
    """The keys are the kinds that the attendant knows, and two times."""
    kinds = {kind.value for kind in HookKind}
    assert keys_of(HooksTable).keys() == {*kinds, "timeout", "pre-master-deadline"}


def test_without_hooks(write):
    """Nothing runs, as nobody, and nothing waits for it."""
    configuration = load_file(write(GOOD))
    assert (configuration.hooks, configuration.script_user) == ({}, "nobody")
    assert configuration.host.interfaces[0].pre_master is False
    assert Hooks({}, timeout_ns=10_000_000_000, pre_master_deadline_ns=2_000_000_000) == NO_HOOKS


def test_every_hook(write, program):
    """A string is a path, a list a program and its arguments; times are in seconds."""
    hook = str(program("a hook"))
    lines = "".join(f'{kind.value} = ["{hook}", "{kind.value}", ""]\n' for kind in HookKind if kind is not HookKind.INIT)
    text = f'{GOOD}[carp0.hooks]\n{lines}init = "{hook}"\ntimeout = 0.5\npre-master-deadline = 60\n'
    configuration = load_file(write(f'{text}[global]\nscript-user = "root"\n'))
    argvs = {kind: (hook, kind.value, "") for kind in HookKind} | {HookKind.INIT: (hook,)}
    assert configuration.hooks == {"carp0": Hooks(argvs, 500_000_000, 60_000_000_000)}
    assert configuration.script_user == "root"
    assert configuration.host.interfaces[0].pre_master is True


def test_own_hooks_come_first(write, program):
    """A hook or a time of the interface takes the place of that of [global], each by itself; other interfaces keep theirs."""
    one, two = str(program("one")), str(program("two"))
    text = f"""
    [global.hooks]
    pre-master = "{one}"
    master = "{one}"
    timeout = 3
    [carp0]
    carpdev = "eth0"
    vhid = 1
    pass = "secret"
    addresses = ["192.0.2.1/24"]
    [carp0.hooks]
    master = "{two}"
    backup = ["{two}", "x"]
    pre-master-deadline = 1
    [carp1]
    carpdev = "eth0"
    vhid = 2
    pass = "secret"
    addresses = ["192.0.2.2/24"]
    """
    configuration = load_file(write(text))
    of_carp0 = {HookKind.PRE_MASTER: (one,), HookKind.MASTER: (two,), HookKind.BACKUP: (two, "x")}
    of_carp1 = {HookKind.PRE_MASTER: (one,), HookKind.MASTER: (one,)}
    assert configuration.hooks == {
        "carp0": Hooks(of_carp0, 3_000_000_000, 1_000_000_000),
        "carp1": Hooks(of_carp1, 3_000_000_000, 2_000_000_000),
    }
    assert [one.pre_master for one in configuration.host.interfaces] == [True, True]


def test_times_alone_are_no_hooks(write):
    """A table that names no program makes nothing run."""
    assert load_file(write(f"{GOOD}[global.hooks]\ntimeout = 3\n[carp0.hooks]\n")).hooks == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('master = "hook"', f'master: "hook" is not allowed: {PROGRAM}'),
        ('master = ""', f'master: "" is not allowed: {PROGRAM}'),
        ("master = []", f"master: an empty list is not allowed: {PROGRAM}"),
        ('master = ["hook", "/bin/true"]', f"master: a list of 2 is not allowed: {PROGRAM}"),
        ('master = ["/bin/true", 1]', f"master: a list of 2 is not allowed: {PROGRAM}"),
        ("master = true", f"master: true is not allowed: {PROGRAM}"),
        ('master = ["/bin/true", "a\\u0000b"]', "master: a NUL byte would end the word: strings without NUL"),
        (
            f'master = ["/bin/true", "{"x" * MAX_BYTES}"]',
            f"master: program and arguments are {MAX_BYTES + 9} bytes long: at most {MAX_BYTES} bytes",
        ),
        (
            'master = "/etc/absent -v"',
            (
                "master: /etc/absent -v: cannot be run: No such file or directory; "
                'arguments are members of a list: ["/etc/absent", "-v"]'
            ),
        ),
        (
            'backup = "/etc/passwd"',
            "backup: /etc/passwd: mode 0644 lets nobody run it: an executable file; chmod +x /etc/passwd",
        ),
        ("timeout = 0", "timeout: 0 is not allowed: a number of seconds, more than 0, at most 3600"),
        ("timeout = 3601", "timeout: 3601 is not allowed: a number of seconds, more than 0, at most 3600"),
        ("timeout = nan", "timeout: nan is not allowed: a number of seconds, more than 0, at most 3600"),
        ('timeout = "1"', 'timeout: "1" is not allowed: a number of seconds, more than 0, at most 3600'),
        ("pre-master-deadline = 0", "pre-master-deadline: 0 is not allowed: a number of seconds, more than 0, at most 60"),
        ("pre-master-deadline = 61", "pre-master-deadline: 61 is not allowed: a number of seconds, more than 0, at most 60"),
        ('mastr = "/bin/true"', "mastr: unknown key; did you mean master?"),
        ('premaster = "/bin/true"', "premaster: unknown key; did you mean pre-master?"),
    ],
)
def test_refused(refused, line, expected):
    """What is wrong with a hook is said with the whole of its place, below [global] as below [carpN]."""
    assert refused(f"{GOOD}[carp0.hooks]\n{line}\n") == [f"{PLACE}.{expected}"]
    assert refused(f"{GOOD}[global.hooks]\n{line}\n") == [f"carp.toml: global.hooks.{expected}"]


@pytest.mark.parametrize(("value", "shown"), [("5", "5"), ('"/bin/true"', '"/bin/true"'), ("[]", "an empty list")])
def test_not_a_table(refused, value, shown):
    """Hooks stand in a table of their own."""
    expected = f"{PLACE}: {shown} is not allowed: a table of hooks, such as the lines below [carp0.hooks]"
    assert refused(f"{GOOD}hooks = {value}\n") == [expected]


def test_hooks_of_nothing(refused):
    """A table [hooks] of its own belongs to nobody."""
    expected = "carp.toml: hooks: hooks of nothing: [global.hooks] or one such as [carp0.hooks]"
    assert refused(f'{GOOD}[hooks]\nmaster = "/bin/true"\n') == [expected]


def test_every_problem_in_its_place(refused):
    """Problems within tables of tables keep the order of the file."""
    text = f'[global.hooks]\nx = 1\nmaster = "/absent"\n{GOOD}advskew = 255\n[carp0.hooks]\ninit = 1\n[global]\nlog = 9\n'
    assert [line.split(": ")[1] for line in refused(text)] == [
        "global.hooks.x",
        "global.hooks.master",
        "global.log",
        "carp0.advskew",
        "carp0.hooks.init",
    ]


RUNNING = Source(key_text, Path(), incomplete_ok=True)


def test_document_with_hooks(program):
    """Hooks stay with the document: as text, in public, saved, and read again."""
    hook = str(program())
    table = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.1/24"]}
    document = {
        "global": {"preempt": True, "hooks": {"timeout": 2.5}},
        "carp0": {**table, "hooks": {"master": hook, "change": [hook, 'a"b']}},
        "carp1": {"hooks": {"pre-master": hook}},
    }
    loaded = load_document(document, RUNNING)
    assert loaded.document == document
    text = to_toml(loaded.document, with_keys=True)
    assert text.startswith("[global]\npreempt = true\n\n[global.hooks]\ntimeout = 2.5\n\n[carp0]\n")
    assert f'\n[carp0.hooks]\nmaster = "{hook}"\nchange = ["{hook}", "a\\"b"]\n\n[carp1]\n\n[carp1.hooks]\n' in text
    assert tomllib.loads(text) == document
    assert load_document(tomllib.loads(text), RUNNING) == loaded
    assert public(document)["carp0"]["hooks"] == document["carp0"]["hooks"]
    assert tomllib.loads(to_toml(document, with_keys=False)) == public(document)
    kept, _ = complete(document)
    assert kept == {name: document[name] for name in ("global", "carp0")}


def test_drafts(program):
    """A carp interface without a vhid has its hooks and what [global] says as well."""
    document = {"global": {"preempt-delay": 3, "hooks": {"pre-master": str(program())}}, "carp0": {}}
    loaded = load_document(document, RUNNING)
    assert loaded.drafts == ("carp0",)
    assert HookKind.PRE_MASTER in loaded.hooks["carp0"].programs
    draft = draft_parameters(loaded, "carp0")
    assert (draft.preempt_delay_ns, draft.pre_master, draft.leader.vhid) == (3_000_000_000, True, 0)


def test_a_program_that_is_gone(program):
    """A running document is checked like a file: what cannot be run any more is told with the next change."""
    hook = program()
    document = load_document({"carp0": {"hooks": {"master": str(hook)}}}, RUNNING).document
    hook.unlink()
    with pytest.raises(ConfigError, match=r"^carp0\.hooks\.master: .*/hook: cannot be run: No such file or directory$"):
        load_document(document, RUNNING)
