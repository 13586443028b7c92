"""The page of carp.toml: what it says about [sync], tracks and hooks is what the models know, and its examples are accepted."""

import json
import re
from pathlib import Path

import pytest

from carp.attendant.orders import HookKind
from carp.config import hooks
from carp.config.load import load_file
from carp.config.model import HooksTable, SyncTable, TrackTable, keys_of
from carp.config.track import KINDS
from carp.config.words import BALANCING_WORDS
from carp.protocol.sharing import shared_addresses
from carp.protocol.values import NANOSECONDS_PER_SECOND

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
CODE = re.compile(r"`([^`\n]+)`")
GOOD = '[carp0]\ncarpdev = "eth0"\nvhid = 1\npass = "secret"\naddresses = ["192.0.2.1/24"]\n'


def section(heading):
    """Return the text below a heading of the second level."""
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def rows(heading):
    """Return the cells of the rows of a section's tables whose first one is code."""
    lines = [line.strip("|").split("|") for line in section(heading).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines]


def test_every_key_of_a_track():
    """Each key is described, and no other."""
    described = [key for row in rows("[track.NAME]") for key in CODE.findall(row[0])]
    assert sorted(described) == sorted(keys_of(TrackTable))
    assert described[: len(KINDS)] == list(KINDS)


def test_defaults_of_a_track():
    """What stands in the column of defaults as a value is the value."""
    fields = {field.alias or name: field for name, field in TrackTable.model_fields.items()}
    for key, default, *_ in (row for row in rows("[track.NAME]") if len(row) == 3):
        written = CODE.findall(default)
        assert (json.loads(written[0]) if written else None) == fields[CODE.findall(key)[0]].default, key


def test_every_key_of_sync():
    """Each key is described, with its default."""
    described = {CODE.findall(key)[0]: CODE.findall(default) for key, default, _ in rows("[sync]")}
    fields = {field.alias or name: field for name, field in SyncTable.model_fields.items()}
    assert list(described) == list(keys_of(SyncTable))
    for key, written in described.items():
        assert (json.loads(written[0]) if written else None) == (None if fields[key].is_required() else fields[key].default), (
            key
        )


def test_every_key_of_hooks():
    """Each key is described, with the times that hold where none is written."""
    described = {CODE.findall(row[0])[0]: CODE.findall(row[1]) for row in rows("Hooks") if len(row) == 3}
    assert described.keys() == keys_of(HooksTable).keys()
    assert described.pop("timeout") == [str(hooks.DEFAULT_TIMEOUT_NS // NANOSECONDS_PER_SECOND)]
    assert described.pop("pre-master-deadline") == [str(hooks.DEFAULT_PRE_MASTER_DEADLINE_NS // NANOSECONDS_PER_SECOND)]
    assert described == {kind.value: [] for kind in HookKind}


def test_examples_of_load_balancing(write):
    """Each is a whole file, accepted without a warning; the modes are those that there are."""
    write("secret\n", "carp0.key")
    examples = re.findall(r"^```toml\n(.*?)^```$", section("Load balancing"), re.MULTILINE | re.DOTALL)
    hosts = [load_file(write(text.replace("/etc/carp/", ""))) for text in examples]
    assert [host.warnings for host in hosts] == [(), ()]
    assert [one.balancing.value for one in hosts[0].host.interfaces] == ["ip"]
    assert len(shared_addresses(hosts[1].host.interfaces)) == 1
    assert {CODE.findall(row[0])[0] for row in rows("Load balancing")} == set(BALANCING_WORDS) - {"none"}


@pytest.mark.parametrize("heading", ["[sync]", "[track.NAME]", "Hooks"])
def test_examples(write, program, heading):
    """Every example is accepted as it is, once its programs are there."""
    examples = re.findall(r"^```toml\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        text = re.sub(r"/etc/carp/[a-z-]+", str(program()), example)
        configuration = load_file(write(f"{GOOD}{text}"))
        assert configuration.warnings == ()
        assert configuration.sync or configuration.tracks or configuration.hooks
