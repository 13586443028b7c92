"""Documents as text, without what must not be shown or cannot be kept, and into files."""

import copy
import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carp.config.errors import key_text
from carp.config.load import Source, load_document, load_file
from carp.config.model import GlobalTable, HooksTable, InterfaceTable, TrackTable, keys_of
from carp.config.words import BALANCING_WORDS, SNOOPING_WORDS
from carp.config.write import complete, public, save, to_toml
from carp.protocol.dialect import DIALECTS

RUNNING = Source(key_text, Path("/etc/carp"), incomplete_ok=True)
WHOLE = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.100/24"]}
HEX = "0123456789abcdefABCD" * 2


def test_text():
    """[global] stands first, interfaces follow by number, keys in the order in which the model explains them."""
    document = {
        "carp10": {"addresses": ["192.0.2.10/24", "2001:db8::10/64"], "pass": 'a"b\\c\x7f\n', "vhid": 10, "carpdev": "eth0"},
        "carp2": {"digest-grace": 0.5, "up": False, "carppeer": "10.0.0.2"},
        "global": {"realtime": True, "log": 7},
        "carp3": {},
    }
    assert to_toml(document, with_keys=True) == (
        "[global]\nlog = 7\nrealtime = true\n"
        '\n[carp2]\ncarppeer = "10.0.0.2"\nup = false\ndigest-grace = 0.5\n'
        "\n[carp3]\n"
        '\n[carp10]\ncarpdev = "eth0"\nvhid = 10\npass = "a\\"b\\\\c\\u007f\\n"\n'
        'addresses = ["192.0.2.10/24", "2001:db8::10/64"]\n'
    )


def test_text_of_nothing():
    """An empty document is an empty text."""
    assert to_toml({}, with_keys=True) == ""


@pytest.mark.parametrize("key", [{"pass": "hushhush"}, {"key-hex": HEX}])
def test_text_without_keys(key):
    """A comment stands in the place of a key, as well where the key was taken out before; no comment where a file has it."""
    table = {"vhid": 1, "addresses": ["192.0.2.1/24"], **key}
    expected = '[carp0]\nvhid = 1\n# A pass phrase or key is not shown here.\naddresses = ["192.0.2.1/24"]\n'
    assert to_toml({"carp0": table}, with_keys=False) == expected
    assert to_toml(public({"carp0": table}), with_keys=False) == expected
    for elsewhere in ("pass-file", "pass-credential"):
        assert to_toml({"carp0": {elsewhere: "/k"}}, with_keys=False) == f'[carp0]\n{elsewhere} = "/k"\n'


PHRASES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=4)
PARENTS = st.text(st.characters(exclude_characters="/:", categories=["L", "N", "P", "S"]), min_size=1, max_size=3)
SECONDS = st.floats(0.001, 3600) | st.integers(0, 3600)
PROGRAMS = st.just("/bin/sh") | st.lists(PHRASES, max_size=2).map(lambda words: ["/bin/sh", *words])
HOOK = {
    **dict.fromkeys(("pre-master", "master", "backup", "init", "reasserted", "change"), PROGRAMS),
    "timeout": SECONDS.filter(bool),
    "pre-master-deadline": st.floats(0.001, 60),
}
HOOKS = st.fixed_dictionaries({}, optional=HOOK)
OPTIONAL = {
    "pass": PHRASES,
    "advbase": st.integers(1, 254),
    "advskew": st.integers(0, 254),
    "carpdev": PARENTS.filter(lambda name: name not in (".", "..", "other")),
    "addresses": st.lists(st.integers(1, 200).map("192.0.2.{}/24".format), unique=True),
    "carppeer": st.lists(st.integers(1, 200).map("10.0.0.{}".format), unique=True) | st.just("fe80::1"),
    "groups": st.lists(st.sampled_from(["carp", "lan"])),
    "lladdr": st.sampled_from(["virtual", "parent", "02:00:00:00:00:0A"]),
    "preempt": st.booleans(),
    "up": st.booleans(),
    "dialect": st.sampled_from(list(DIALECTS)),
    "demote-skew": st.booleans(),
    "digest-grace": SECONDS,
    "peer-master-down": st.floats(256, 1024),
    "balancing": st.sampled_from(BALANCING_WORDS),
    "snooping": st.sampled_from(SNOOPING_WORDS),
    "preempt-delay": SECONDS,
    "hooks": HOOKS,
}
GLOBAL = {
    "allow": st.booleans(),
    "preempt": st.booleans(),
    "log": st.integers(0, 7),
    "arpbalance": st.booleans(),
    "dscp": st.integers(0, 63),
    "ifdown-demotion-factor": st.integers(0, 255),
    "senderr-demotion-factor": st.integers(0, 255),
    "fence": st.sampled_from(["auto", "required", "off"]),
    "realtime": st.booleans(),
    "preempt-delay": SECONDS,
    "start-demote": st.integers(0, 255),
    "start-demote-time": SECONDS,
    "script-user": st.sampled_from(["nobody", "root"]),
    "hooks": HOOKS,
}
TARGETS = {
    "interface": PARENTS.filter(lambda name: name not in (".", "..")),
    "address": st.ip_addresses(network="2001:db8::/64").map(str),
    "route": st.sampled_from(["default", "10.0.0.0/8"]),
    "process": st.text("abc \"'\\", min_size=1, max_size=5),
    "pid-file": PHRASES.map("/run/{}".format),
    "file": PHRASES.map("/run/{}".format),
    "script": PROGRAMS,
    "tcp": st.sampled_from(["a:1", "[2001:db8::1]:2"]),
    "http": st.sampled_from(["http://a/", "https://[::1]:8080/?a=b"]),
    "ping": st.sampled_from(["192.0.2.1", "fe80::1%eth0"]),
}
TIMING = {
    "interval": st.floats(0.1, 3600) | st.integers(1, 3600),
    "timeout": SECONDS.filter(bool),
    "rise": st.integers(1, 100),
    "fall": st.integers(1, 100),
}
ANY_TRACK = {"demote": st.integers(1, 255), "groups": st.lists(st.sampled_from(["carp", "all", "carp0"]), min_size=1)}
EXTRAS = {
    "interface": {},
    "address": {"device": st.just("eth1")},
    "route": {"device": st.just("eth1")},
    "http": {"status": st.lists(st.integers(100, 599), min_size=1), "verify-tls": st.booleans(), **TIMING},
}
TRACK = st.one_of(
    [
        st.fixed_dictionaries({kind: target}, optional={**ANY_TRACK, **EXTRAS.get(kind, TIMING)})
        for kind, target in TARGETS.items()
    ]
)
NAMES = st.text("aZ09-_.", min_size=1, max_size=3) | st.sampled_from(["pass", "key-hex", "carp0", "track"])
EXAMPLES = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
TABLES = st.fixed_dictionaries({}, optional=OPTIONAL)
DOCUMENTS = st.fixed_dictionaries(
    {"carp0": TABLES, "carp7": TABLES.map(lambda table: table | {"vhid": 7, "carpdev": "other"})},
    optional={
        "global": st.fixed_dictionaries({}, optional=GLOBAL),
        "track": st.dictionaries(NAMES, TRACK, min_size=1, max_size=3),
    },
)


def test_no_key_is_forgotten():
    """The examples below hold every key that there is, but for those that exclude another."""
    assert GLOBAL.keys() == keys_of(GlobalTable).keys()
    assert OPTIONAL.keys() | {"vhid", "carpnodes", "key-hex", "pass-file", "pass-credential"} == keys_of(InterfaceTable).keys()
    assert HOOK.keys() == keys_of(HooksTable).keys()
    extras = {key for keys in EXTRAS.values() for key in keys}
    assert TARGETS.keys() | TIMING.keys() | ANY_TRACK.keys() | extras == keys_of(TrackTable).keys()


@EXAMPLES
@given(DOCUMENTS)
def test_round_trip(document):
    """The text with keys is the document: TOML reads the same values, and they make the same configuration."""
    loaded = load_document(document, RUNNING)
    read = tomllib.loads(to_toml(loaded.document, with_keys=True))
    assert read == loaded.document
    again = load_document(read, RUNNING)
    assert again == loaded
    assert again.document == loaded.document


@pytest.mark.parametrize(
    "key",
    [{"key-hex": HEX}, {"carpnodes": ["3:100"]}, {"carpnodes": ["4:0", "3:100"], "balancing": "arp"}, {"pass-credential": "a"}],
)
def test_round_trip_of_what_excludes_others(key):
    """The keys that stand for others are written as well."""
    assert tomllib.loads(to_toml({"carp0": key}, with_keys=True)) == {"carp0": key}


@EXAMPLES
@given(DOCUMENTS)
def test_public(document):
    """Neither the public form nor the text without keys holds a key; all else is there, and the document stays."""
    document["carp0"]["pass"] = "hushhush"
    document["carp7"]["key-hex"] = HEX
    former = copy.deepcopy(document)
    shown = public(document)
    text = to_toml(document, with_keys=False)
    for secret in ("hushhush", HEX):
        assert secret not in text
        assert secret not in str(shown)
    assert shown.get("track") == former.pop("track", None)
    document.pop("track", None)
    for name, table in former.items():
        assert shown[name] == {key: value for key, value in table.items() if key not in ("pass", "key-hex")}
    assert tomllib.loads(text) == shown
    shown["carp0"].setdefault("groups", []).append("scribble")
    assert document == former


def test_complete():
    """What a file could not hold is left out, with a sentence for each."""
    document = {
        "global": {"log": 3},
        "carp10": {},
        "carp0": WHOLE,
        "carp1": {"vhid": 1, "addresses": ["192.0.2.1/24"]},
        "carp2": {"carpdev": "eth0", "carpnodes": ["1:0"], "addresses": []},
        "carp3": {"vhid": 3},
    }
    former = copy.deepcopy(document)
    kept, left_out = complete(document)
    assert kept == {"global": {"log": 3}, "carp0": WHOLE}
    assert left_out == [
        "carp1 is left out: it has no carpdev",
        "carp2 is left out: it has no addresses",
        "carp3 is left out: it has no carpdev and no addresses",
        "carp10 is left out: it has no vhid, no carpdev and no addresses",
    ]
    assert document == former


def test_nothing_is_left_out_of_a_whole_document():
    """One node of carpnodes is as good as a vhid."""
    nodes = {"carp1": {"carpdev": "eth0", "carpnodes": ["2:0"], "addresses": ["192.0.2.1/24"]}}
    document = {"carp0": WHOLE, **nodes}
    assert complete(document) == (document, [])


def test_saved_file_is_read_again(folder):
    """A complete document that was saved is a configuration."""
    path = folder / "saved.toml"
    save(path, to_toml({"carp0": WHOLE}, with_keys=True))
    assert load_file(path).document == {"carp0": WHOLE}


def test_saved_file_is_secret(folder):
    """Only the owner may read it, whatever the mask and the former file said; nothing else stays in the folder."""
    path = folder / "carp.toml"
    path.write_text("former")
    path.chmod(0o644)
    former_mask = os.umask(0)
    try:
        save(path, "ümläut\n")
    finally:
        os.umask(former_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == "ümläut\n".encode()
    assert list(folder.iterdir()) == [path]


def test_saved_through_a_link(folder):
    """A symbolic link goes on pointing to the file."""
    (folder / "real.toml").write_text("former")
    (folder / "carp.toml").symlink_to("real.toml")
    save(folder / "carp.toml", "new")
    assert (folder / "carp.toml").is_symlink()
    assert (folder / "real.toml").read_text() == "new"


def test_saved_whole_or_not_at_all(folder, monkeypatch):
    """Where writing fails the former file is as it was, and no half of a new one is left."""
    path = folder / "carp.toml"
    path.write_text("former")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save(path, "new")
    assert path.read_text() == "former"
    assert list(folder.iterdir()) == [path]


def test_saved_where_it_cannot_be(folder):
    """A folder that is not there, or a folder in the file's place, is told as the system tells it."""
    with pytest.raises(FileNotFoundError):
        save(folder / "absent" / "carp.toml", "new")
    (folder / "carp.toml").mkdir()
    with pytest.raises(IsADirectoryError):
        save(folder / "carp.toml", "new")
    assert list(folder.iterdir()) == [folder / "carp.toml"]


def test_saved_to_the_disk(folder, monkeypatch):
    """The new file reaches the disk before it takes the former one's name, and the name after it."""
    order = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor):
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(path, target):
        order.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    save(folder / "carp.toml", "new")
    assert order == ["file", "name", "folder"]
