"""The documents say what the program does."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carp.config import globals as sysctls
from carp.config import ifconfig
from carp.config.load import load_file
from carp.config.model import GlobalTable, InterfaceTable, keys_of
from carp.daemon import fencing as fencing_module
from carp.daemon import status
from carp.daemon.balancing import Balancers
from carp.daemon.chronicle import Chronicle
from carp.daemon.fencing import Fencing
from carp.daemon.lateness import Lateness
from carp.linux.bpf.balancer import NodeCount
from carp.linux.carplink import CarpLink
from carp.protocol.demotion import Demotion
from carp.protocol.dialect import DIALECTS
from carp.protocol.events import AddressClaimed, DemotionStarted
from carp.protocol.packet import DropReason
from carp.protocol.sharing import SharedAddress
from carp.protocol.values import Family, Instant, State
from carp.testing.bench import Bench
from carp.testing.clock import seconds
from carp.testing.hosts import DUAL_STACK, KEY, VIP4, carp_interface
from carp.testing.packets import Peer
from tools import state_machine

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BIN = Path(sys.executable).parent

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][A-Za-z-]*")


def sections(page: Path) -> dict[str, str]:
    """Split a page at its headings of the second level; "" is what stands before the first."""
    parts = re.split(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in a text, without heads and rulers."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    rulers = [number for number, row in enumerate(table) if set("".join(row)) <= set("-: ")]
    return [row for number, row in enumerate(table) if number not in rulers and number + 1 not in rulers]


def block(page: Path, language: str) -> str:
    """Return the first code block in a language."""
    match = re.search(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


def test_every_key_of_the_file_is_described_and_no_other() -> None:
    """Each in the section of its table; a key that is not in the model would be refused."""
    page = sections(DOCS / "configuration.md")
    for heading, model in (("[global]", GlobalTable), ("[carpN]", InterfaceTable)):
        described = [key for row in rows(page[heading]) for key in CODE.findall(row[0])]
        assert sorted(described) == sorted(keys_of(model))


@pytest.mark.parametrize(("heading", "model"), [("[global]", GlobalTable), ("[carpN]", InterfaceTable)])
def test_the_defaults_are_those_of_the_program(heading: str, model: Any) -> None:
    """What stands in the column of defaults as a value is the value."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for keys, default, *_ in rows(sections(DOCS / "configuration.md")[heading]):
        written = CODE.findall(default)
        for key in CODE.findall(keys):
            value = None if fields[key].is_required() else fields[key].default
            value = getattr(value, "name", None) if key == "dialect" else getattr(value, "value", value)
            if not written or "[global]" in written:
                assert value is None, key
            else:
                assert json.loads(written[0]) == value, key


def test_every_dialect_is_named() -> None:
    """In the description of its key."""
    (row,) = [row for row in rows(sections(DOCS / "configuration.md")["[carpN]"]) if row[0] == "`dialect`"]
    assert set(DIALECTS) <= {word.strip('"') for word in CODE.findall(" ".join(row))}


def test_every_reason_to_refuse_a_packet_is_described() -> None:
    """With the counter of the BSDs that it belongs to, and no reason that there is not."""
    described = {
        CODE.findall(row[0])[0]: row[2]
        for row in rows(sections(DOCS / "status.md")[""])
        if len(row) == 3 and row[0] != "Dropped as"
    }
    assert described == {reason.value: reason.bsd for reason in DropReason}


class StubFence:
    """A fence that opens and closes, without a kernel."""

    def __init__(self) -> None:
        self.at: dict[int, int] = {}
        self.balancer = None
        self.deadlines = SimpleNamespace(
            deadline=lambda slot: self.at.get(slot, 0),
            dropped=lambda slot: 3,
            extend=self.at.__setitem__,
            close_slot=lambda slot: self.at.pop(slot, None),
        )

    def set_vips(self, *_: object) -> None:
        """Fence addresses."""

    def guard_link(self, *_: object) -> None:
        """Fence a link."""


def documents(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make the status of a host in every situation that adds a field: with everything, as BACKUP, and without a fence."""
    interface = carp_interface(addresses=DUAL_STACK)
    peer = Peer.of(interface)
    bench = Bench(interface)
    journal: Any = SimpleNamespace(link_group=0x63000001, qdiscs=[])
    stub: Any = StubFence()
    monkeypatch.setattr(fencing_module.Fence, "load", lambda _owner: stub)
    fencing = Fencing("auto", journal, lambda _: None)
    fencing.prepare(interface, 2, interface.addresses)
    netlink: Any = None
    fencing.guard_link(netlink, CarpLink("carp0", 9, 2, bytes(6)))
    track = dict.fromkeys(("name", "kind", "target", "holds", "detail", "demote", "groups"), "")
    chronicle, lateness = Chronicle(2), Lateness()
    lateness.note(100_000)
    runtime: Any = SimpleNamespace(
        engine=bench.engine,
        chronicle=chronicle,
        fencing=fencing,
        lateness=lateness,
        started_at=bench.now,
        ownership=SimpleNamespace(live_addresses=lambda _: [str(VIP4)]),
        configuration=SimpleNamespace(drafts=(), document={}),
        hardware=SimpleNamespace(balancers=Balancers(fencing)),
        errands=SimpleNamespace(describe=lambda: [track]),
        statistics=lambda: bench.engine.statistics,
        state_sync=SimpleNamespace(apart="", holds=lambda _: False),
    )
    monkeypatch.setattr(status, "boottime", lambda: bench.now)

    def now() -> dict[str, Any]:
        described: dict[str, Any] = json.loads(json.dumps(status.document(runtime)))
        return described

    made = [now()]
    bench.hear(peer.advertisement())
    bench.feed(
        DemotionStarted(Demotion("a check", 1, frozenset({"carp"}), "admin", bench.now, Instant(bench.now + seconds(90))))
    )
    made.append(now())
    bench.wait_for(State.MASTER)
    for family in Family:
        fencing.sent("carp0", 1, interface.families, family, Instant(bench.now + seconds(3)), bench.now)
    bench.run_for(seconds(1.5))
    bench.hear(peer.advertisement(advskew=200, demote=9))
    bench.feed(AddressClaimed("lan0", VIP4.ip, bytes.fromhex("020000000009")))
    made.append(now())
    bench.engine.host.shared["lan0", VIP4.ip] = SharedAddress("lan0", VIP4.ip, (interface,))
    balance = {"index": 0, "open": True} | dict.fromkeys(NodeCount.__dataclass_fields__, 0)
    runtime.hardware.balancers = SimpleNamespace(describe=lambda *_: [balance])
    runtime.fencing = Fencing("off", journal, lambda _: None)
    made.append(now())
    return made


def fields(value: object) -> set[str]:
    """Collect the names of all fields, however deep; not the reasons and families that count something."""
    if isinstance(value, list):
        return set().union(*map(fields, value))
    if not isinstance(value, dict):
        return set()
    names = {name for name in value if not name.startswith("IPv") and name not in {reason.value for reason in DropReason}}
    return names.union(*map(fields, value.values()))


def test_every_field_of_the_status_is_described_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands in the document."""
    made = fields(documents(monkeypatch))
    assert {"rivals_heard", "closes_in_s", "ends_in_s", "heard_s_ago", "this_host_stayed", "p99_ms"} <= made
    text = (DOCS / "status.md").read_text()
    described = {word.removesuffix("[]") for word in CODE.findall(text) if re.fullmatch(r"[a-z0-9_]+(\[\])?", word)}
    described |= {"self"} if '`{"self": true}`' in text else set()
    reasons = {reason.value for reason in DropReason}
    assert described - reasons - {"_s"} == made


def test_every_field_is_described_in_its_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the host, of an interface, of a virtual host."""
    text = (DOCS / "status.md").read_text()
    host, interface, node = re.findall(r"^\| Field \| Meaning \|\n((?:\|.*\n)+)", text, re.MULTILINE)
    for document in documents(monkeypatch):
        (carp0,) = document["interfaces"]
        for table, part in ((host, document), (interface, carp0), (node, carp0["nodes"][0])):
            described = [word.removesuffix("[]") for row in rows(table) for word in CODE.findall(row[0])]
            assert sorted(described) == sorted(part)


def test_the_status_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no situation and in no form."""
    text = json.dumps(documents(monkeypatch))
    assert KEY.rstrip(b"\0").decode() not in text
    assert KEY.rstrip(b"\0").hex() not in text


def test_the_page_of_the_state_machine_is_up_to_date() -> None:
    """`make docs` would not change it."""
    assert (DOCS / "state-machine.md").read_text() == state_machine.page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Those to files of this repository."""
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_the_first_configuration_works(tmp_path: Path) -> None:
    """The example of the README is accepted as it is, once its key file is there; nothing is wrong or unwise about it."""
    text = block(ROOT / "README.md", "toml")
    (named,) = re.findall(r'^pass-file = "([^"]+)"', text, re.MULTILINE)
    key = tmp_path / "carp0.key"
    key.write_text("secret\n")
    key.chmod(0o600)
    path = tmp_path / "carp.toml"
    path.write_text(text.replace(named, str(key)))
    path.chmod(0o600)
    configuration = load_file(path)
    assert configuration.warnings == ()
    (carp0,) = configuration.host.interfaces
    assert (carp0.name, carp0.leader.vhid, len(carp0.addresses)) == ("carp0", 1, 2)


def commands(program: str) -> list[str]:
    """Find every command line of a program in the pages: lines of shell blocks, and code within text."""
    found = []
    for page in PAGES:
        lines = []
        language: str | None = None
        for line in page.read_text().splitlines():
            if line.startswith("```"):
                language = line[3:] if language is None else None
            elif language is None:
                lines += CODE.findall(line)
            elif language in ("", "sh"):
                lines += re.sub(r"\s+[#|].*", "", line).split("; ")
        found += [line for line in lines if re.match(rf"{program}(\s|$)", line)]
    return found


BSD_VERBS = {("ifconfig",), ("sysctl",), ("netstat",)}


def help_of(*line: str) -> set[str]:
    """Return the options that a program's help names."""
    done = subprocess.run([BIN / line[0], *line[1:], "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    return set(OPTION.findall(done.stdout))


def test_carpd_knows_the_options_in_the_pages() -> None:
    """Each option of each example."""
    lines = commands("carpd")
    assert {"carpd -n", "carpd"} <= set(lines)
    used = {option for line in lines for option in OPTION.findall(line)}
    assert "--pass-file" in used
    assert used - help_of("carpd") == set()


def test_carp_knows_the_verbs_and_options_in_the_pages() -> None:
    """Each verb of each example, with its own options."""
    lines = commands("carp")
    verbs = {tuple(line.split()[1 : 3 if line.split()[1] in ("config", "demote") else 2]) for line in lines}
    assert {("status",), ("check",), ("reload",), ("config", "save"), ("config", "diff")} <= verbs
    for verb in verbs - BSD_VERBS:
        options = (OPTION.findall(line) for line in lines if tuple(line.split()[1 : 1 + len(verb)]) == verb)
        assert {option for found in options for option in found} - help_of("carp", *verb) == set()


def test_the_bsd_words_in_the_pages_are_understood() -> None:
    """Each example of ifconfig, sysctl and netstat is a line that carp can read."""
    from carp.config import globals as sysctl
    from carp.config import ifconfig

    lines = [shlex.split(line)[1:] for line in commands("carp") if tuple(line.split()[1:2]) in BSD_VERBS]
    assert {"ifconfig", "sysctl", "netstat"} == {line[0] for line in lines}
    for verb, *words in lines:
        if verb == "ifconfig":
            ifconfig.parse(words)
        elif verb == "sysctl":
            sysctl.parse(words)
        else:
            assert words[:3] == ["-s", "-p", "carp"]


def test_every_statement_of_the_guides_has_a_verdict() -> None:
    """One of three; whatever is not the same is explained, unless it waits for load balancing as a whole."""
    verdicts = {"same", "differs", "not yet"}
    table = rows((DOCS / "guides.md").read_text())
    assert len(table) > 50
    assert [row for row in table if len(row) != 3 or row[1] not in verdicts] == []
    assert [statement for statement, verdict, why in table if verdict == "differs" and not why] == []


def test_the_words_of_the_guides_are_understood() -> None:
    """Every line of ifconfig and sysctl in the page of the guides; what waits for load balancing is refused later."""
    words = [shlex.split(line) for line in CODE.findall((DOCS / "guides.md").read_text())]
    lines = [(verb, rest) for verb, *rest in words if rest and verb in ("ifconfig", "sysctl")]
    assert len(lines) > 10
    for verb, rest in lines:
        (ifconfig.parse if verb == "ifconfig" else sysctls.parse)(rest)


def test_the_paths_in_the_pages_are_the_programs_own() -> None:
    """The configuration and the control socket are where the pages say."""
    from carp.cli.client import DEFAULT_SOCKET
    from carp.config.load import DEFAULT_PATH

    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"/etc/carp/[\w.]*toml", text)) == {str(DEFAULT_PATH)}
    assert set(re.findall(r"/run/carp/[\w.]+", text)) == {str(DEFAULT_SOCKET)}


def test_the_modules_that_the_pages_name_exist() -> None:
    """A file that was moved is not looked for in vain."""
    named = {
        word
        for page in PAGES
        for word in CODE.findall(page.read_text())
        if re.fullmatch(r"(src|tests|tools|docs)/[\w./-]+", word)
    }
    assert [word for word in named if not (ROOT / word).exists()] == []
