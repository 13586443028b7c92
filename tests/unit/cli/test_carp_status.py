"""`carp status` as its user sees it, against a server in the daemon's place."""

import copy
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from carp.cli.client import DaemonError, get, socket_path
from carp.cli.status import duration, status

CARP = Path(sys.executable).parent / "carp"
NODE = {
    "vhid": 1,
    "advskew": 0,
    "state": "MASTER",
    "for_s": 75.4,
    "reason": "master timed out",
    "detail": "",
    "advertisement_interval_s": 1.0,
    "master": {"self": True},
    "digest_grace": False,
    "warnings": [],
}
BACKUP = {
    **NODE,
    "vhid": 22,
    "state": "BACKUP",
    "for_s": 0.25,
    "reason": "initialization complete",
    "advertisement_interval_s": 1.391,
    "master": {"self": False, "source": "192.0.2.7", "advbase": 1, "advskew": 0, "demote": 0, "heard_s_ago": 0.1},
}
INTERFACE = {
    "name": "carp0",
    "carpdev": "eth0",
    "fence": {"state": "open", "reason": None},
    "demote": 0,
    "demotions": [],
    "addresses": ["192.0.2.100/24", "2001:db8::100/64"],
    "nodes": [NODE],
}
OTHER = {
    **INTERFACE,
    "name": "carp10",
    "carpdev": "eth1.5",
    "fence": {"state": "closed", "reason": None},
    "demote": 240,
    "addresses": ["10.0.0.1/8"],
    "nodes": [BACKUP],
}
STATISTICS = {"received": {"IPv4": 3, "IPv6": 4}, "sent": {"IPv4": 5, "IPv6": 6}, "dropped": {}, "send_errors": 0}
DOCUMENT = {"version": 1, "interfaces": [INTERFACE, OTHER], "tracks": [], "statistics": STATISTICS}


@contextmanager
def daemon(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Answer every connection with these bytes; yield the requests."""
    requests: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            while True:
                with listening.accept()[0] as connection:
                    request = connection.recv(65536)
                    if not request:
                        return
                    requests.append(request)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield requests
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


def response(document: object, code: str = "200 OK") -> bytes:
    """Write an answer as the daemon does."""
    body = json.dumps(document).encode()
    return f"HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Show a document and return the lines."""

    def _shown(document: dict[str, Any], *, as_json: bool = False) -> list[str]:
        path = tmp_path / "s"
        path.unlink(missing_ok=True)
        with daemon(path, response(document)):
            assert status(path, as_json=as_json) == 0
        return capsys.readouterr().out.splitlines()

    return _shown


def carp(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    line = [str(CARP), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin", **environment})
    assert "Traceback" not in done.stderr
    return done


def test_a_line_for_each_virtual_host_in_aligned_columns(shown: Callable[..., list[str]]) -> None:
    """Whom it serves, what it is and why; nothing is folded or coloured in a pipe."""
    assert shown(DOCUMENT) == [
        "interface  parent  vhid  state   since       why                      master     interval  fence   demote  addresses",
        (
            "carp0      eth0    1     MASTER  1 min 15 s  master timed out         this host  1.000 s   open    0       "
            "192.0.2.100/24 2001:db8::100/64"
        ),
        "carp10     eth1.5  22    BACKUP  0.2 s       initialization complete  192.0.2.7  1.391 s   closed  240     10.0.0.1/8",
        "advertisements: 7 received, 11 sent, 0 not sent; dropped: none",
    ]


def test_several_virtual_hosts_of_one_interface(shown: Callable[..., list[str]]) -> None:
    """Each has its own line."""
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "nodes": [NODE, BACKUP]}]})
    assert [line.split()[:4] for line in lines[1:3]] == [["carp0", "eth0", "1", "MASTER"], ["carp0", "eth0", "22", "BACKUP"]]


def test_what_virtual_hosts_have_in_common_is_told_once(shown: Callable[..., list[str]]) -> None:
    """The demotion and the addresses of their interface stand in the first line."""
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "nodes": [NODE, BACKUP]}]})
    assert lines[1].endswith("  open   0       192.0.2.100/24 2001:db8::100/64")
    assert lines[2].endswith("  open")


def balance(*, passes: bool, kept: int, dropped: int) -> dict[str, Any]:
    """Make what a virtual host of a balanced interface adds; a packet has 100 bytes."""
    counts = {"kept_packets": kept, "kept_bytes": 100 * kept, "dropped_packets": dropped, "dropped_bytes": 100 * dropped}
    return {"balance": {"index": 0, "open": passes, **counts}}


def test_load_balancing(shown: Callable[..., list[str]]) -> None:
    """Each virtual host has a gate of its own; below the table stands what each keeps, then all other remarks."""
    nodes = [
        {**NODE, **balance(passes=True, kept=30, dropped=0)},
        {**BACKUP, **balance(passes=False, kept=0, dropped=70), "warnings": ["a remark"]},
    ]
    shared = {**OTHER, "shared": [{"address": "10.0.0.1", "index": 0, "of": 2}]}
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "balancing": "ip", "nodes": nodes}, shared]})
    assert "  1.000 s   open    0  " in lines[1]
    assert lines[2].endswith("  1.391 s   closed")
    assert lines[4:-1] == [
        "carp0: balancing ip, MASTER of 1 of 2, has kept 30.0 % of the packets",
        "  vhid  state    share  kept packets  kept bytes  dropped packets  dropped bytes",
        "  1     MASTER  30.0 %            30      3.0 kB                0            0 B",
        "  22    BACKUP   0.0 %             0         0 B               70         7.0 kB",
        "  all           30.0 %            30      3.0 kB               70         7.0 kB",
        "10.0.0.1 on eth1.5 is shared by carp10 BACKUP",
        "carp0 vhid 22: a remark",
    ]


def test_why_tells_reason_and_detail(shown: Callable[..., list[str]]) -> None:
    """A host that has just started has no reason, and one that does not know a MASTER says so."""
    down = {**NODE, "state": "INIT", "reason": "not ready", "detail": "eth0 is down", "master": None}
    new = {**down, "reason": None, "detail": ""}
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "nodes": [down, new]}]})
    assert "  not ready: eth0 is down  unknown  " in lines[1]
    assert "  -                        unknown  " in lines[2]


def test_demotions_and_warnings_have_lines_of_their_own(shown: Callable[..., list[str]]) -> None:
    """With the interface, and the virtual host where it is one's alone."""
    demotion = {
        "name": "carp0 carpdev",
        "amount": 1,
        "groups": ["carp"],
        "owner": "carpd",
        "detail": "",
        "for_s": 12.0,
        "ends_in_s": None,
    }
    node = {**NODE, "warnings": ["IPv6 advertisements of the MASTER do not arrive"], "digest_grace": True}
    interface = {**INTERFACE, "demote": 1, "demotions": [demotion], "nodes": [node]}
    statistics = {**STATISTICS, "dropped": {"bad-digest": 2, "bad-ttl": 1}, "send_errors": 9}
    lines = shown({**DOCUMENT, "interfaces": [interface], "statistics": statistics})
    assert lines[2:] == [
        "carp0: demoted by 1: carp0 carpdev (by carpd, for 12.0 s)",
        "carp0 vhid 1: IPv6 advertisements of the MASTER do not arrive",
        "carp0 vhid 1: still sends the digest of the former key and addresses",
        "advertisements: 7 received, 11 sent, 9 not sent; dropped: 2 bad-digest, 1 bad-ttl",
    ]


def test_an_interface_that_is_only_created(shown: Callable[..., list[str]]) -> None:
    """Is there, and says what it lacks."""
    draft = {**INTERFACE, "carpdev": "", "fence": {}, "addresses": [], "nodes": [], "live": []}
    assert shown({**DOCUMENT, "interfaces": [draft]})[1:-1] == [
        "carp0      -       -     INIT   -      created, has no vhid yet  -       -         -      0"
    ]


@pytest.mark.parametrize("state", ["unavailable", "open"])
def test_an_interface_without_its_fence_says_why(shown: Callable[..., list[str]], state: str) -> None:
    """It is named with the reason in one line, however long, whether nothing of it is fenced or only a part."""
    reason = "libbpf.so.1 is not on this host: " + "install Debian's libbpf1, " * 10 + "and start carpd anew"
    fence = {"state": state, "reason": reason}
    whole = {"state": "closed", "reason": None, "closes_in_s": None, "dropped": 0, "late_closings": 0}
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "fence": whole}, {**OTHER, "fence": fence}]})
    assert lines[3:-1] == [f"carp10: not fenced: {reason}"]


@pytest.mark.parametrize(
    ("nodes", "live", "is_told"),
    [
        ([NODE], [], True),
        ([NODE, BACKUP], [], True),
        ([NODE], ["192.0.2.100/24"], False),
        ([BACKUP], [], False),
        ([BACKUP, NODE], [], False),
    ],
    ids=["MASTER without", "leading MASTER without", "MASTER with", "BACKUP without", "leading BACKUP without"],
)
def test_a_master_without_its_addresses_is_told(
    shown: Callable[..., list[str]], nodes: list[dict[str, Any]], live: list[str], *, is_told: bool
) -> None:
    """A MASTER that has none of its addresses set serves nobody; the first virtual host is the one that holds them."""
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "nodes": nodes, "live": live}]})
    assert lines[1 + len(nodes) : -1] == (["carp0: its addresses are not set on this host"] if is_told else [])


@pytest.mark.parametrize(("nodes", "is_told"), [([BACKUP, NODE], True), ([BACKUP, BACKUP], False)])
def test_a_balanced_master_without_its_addresses_is_told(
    shown: Callable[..., list[str]], nodes: list[dict[str, Any]], *, is_told: bool
) -> None:
    """Any virtual host that is MASTER serves a share, whether it is the first or not."""
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "balancing": "ip", "nodes": nodes, "live": []}]})
    assert ("carp0: its addresses are not set on this host" in lines) is is_told


def test_remarks_name_the_interface_and_the_virtual_host_that_they_are_about(shown: Callable[..., list[str]]) -> None:
    """Interface by interface, each with all of its remarks, a line for each; what is in order is not mentioned."""
    demotions = [
        {
            "name": "carp0 addresses",
            "amount": 1,
            "groups": ["carp"],
            "owner": "carpd",
            "detail": "",
            "for_s": 12.0,
            "ends_in_s": 48.0,
        },
        {
            "name": "maintenance",
            "amount": 255,
            "groups": ["all"],
            "owner": "a",
            "detail": "new disks",
            "for_s": 7325.0,
            "ends_in_s": None,
        },
    ]
    nodes = [
        {**NODE, "warnings": ["one thing", "another thing"]},
        BACKUP,
        {**BACKUP, "vhid": 3, "warnings": ["a third thing"], "digest_grace": True},
    ]
    bad = {**INTERFACE, "fence": {"state": "unavailable", "reason": "no CAP_BPF"}, "live": [], "demotions": demotions}
    other = {**OTHER, "fence": {"state": "open", "reason": None}, "nodes": [{**BACKUP, "digest_grace": True}], "live": []}
    lines = shown({**DOCUMENT, "interfaces": [{**bad, "nodes": nodes}, other]})
    assert lines[5:-1] == [
        "carp0: not fenced: no CAP_BPF",
        "carp0: its addresses are not set on this host",
        "carp0: demoted by 1: carp0 addresses (by carpd, for 12.0 s, ends in 48.0 s)",
        "carp0: demoted by 255: maintenance (by a, for 2 h 2 min): new disks",
        "carp0 vhid 1: one thing",
        "carp0 vhid 1: another thing",
        "carp0 vhid 3: a third thing",
        "carp0 vhid 3: still sends the digest of the former key and addresses",
        "carp10 vhid 22: still sends the digest of the former key and addresses",
    ]


def test_a_daemon_without_interfaces(shown: Callable[..., list[str]]) -> None:
    """Only the heads of the columns and the counters."""
    assert len(shown({**DOCUMENT, "interfaces": []})) == 2


def test_json_is_the_whole_document(shown: Callable[..., list[str]]) -> None:
    """Fields that this version does not know are printed too."""
    document = copy.deepcopy(DOCUMENT) | {"unknown": {"deep": [1, None, True, "ä"]}}
    assert json.loads("\n".join(shown(document, as_json=True))) == document


@pytest.mark.parametrize(
    ("carpdev", "address", "detail"),
    [
        ("eth0", "fd00:a::1/64", ""),
        ("a[b]c", "192.0.2.100/24", ""),
        ("eth0", "192.0.2.100/24", "eth[/] is down"),
    ],
    ids=["colons", "brackets in a name", "brackets in a reason"],
)
def test_a_terminal_shows_everything_as_it_is(
    shown: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, carpdev: str, address: str, detail: str
) -> None:
    """Neither colons nor brackets of what is shown mean anything to the terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    interface = {**INTERFACE, "carpdev": carpdev, "addresses": [address], "nodes": [{**NODE, "detail": detail}]}
    text = "\n".join(shown({**DOCUMENT, "interfaces": [interface]}))
    assert "\x1b[" in text
    assert "MASTER" in text
    assert carpdev in text
    assert address in text
    assert detail in text


def test_remarks_are_shown_as_they_are(shown: Callable[..., list[str]]) -> None:
    """An IPv6 address in the name of a demotion too."""
    demotion = {
        "name": "check fd00:a::1 [x]",
        "amount": 1,
        "groups": ["carp"],
        "owner": "a",
        "detail": "",
        "for_s": 1,
        "ends_in_s": None,
    }
    lines = shown({**DOCUMENT, "interfaces": [{**INTERFACE, "demotions": [demotion]}]})
    assert "carp0: demoted by 1: check fd00:a::1 [x] (by a, for 1.0 s)" in lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "60.0 s"),
        (60, "1 min 0 s"),
        (3599.9, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (7325, "2 h 2 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (400 * 86400 + 3 * 3600, "400 d 3 h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    """So that a glance is enough."""
    assert duration(seconds) == text


def test_a_daemon_that_does_not_run(tmp_path: Path) -> None:
    """A sentence that names the socket and asks the right question."""
    with pytest.raises(DaemonError) as caught:
        get(tmp_path / "s", "/v1/status")
    assert str(caught.value) == f"{tmp_path}/s does not exist: is carpd running?"


def test_a_daemon_that_crashed(tmp_path: Path) -> None:
    """Its socket is still there, but nobody listens."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    with pytest.raises(DaemonError) as caught:
        get(tmp_path / "s", "/v1/status")
    assert str(caught.value) == f"nobody listens on {tmp_path}/s: carpd is not running"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["nothing", "no HTTP", "no JSON", "cut"],
)
def test_something_that_is_no_daemon(tmp_path: Path, answer: bytes) -> None:
    """It does not crash the client."""
    with daemon(tmp_path / "s", answer), pytest.raises(DaemonError, match=r"does not answer: "):
        get(tmp_path / "s", "/v1/status")


def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    """An older daemon says what it knows."""
    refusal = response({"error": "/v1/new is not known; there is /v1/status"}, "404 Not Found")
    with daemon(tmp_path / "s", refusal), pytest.raises(DaemonError, match=r"^/v1/new is not known; there is /v1/status$"):
        get(tmp_path / "s", "/v1/new")


def test_the_status_is_asked_for_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With GET and nothing else."""
    with daemon(tmp_path / "s", response(DOCUMENT)) as requests:
        status(tmp_path / "s", as_json=True)
    assert [request.split(b"\r\n")[0] for request in requests] == [b"GET /v1/status HTTP/1.1"]


def test_which_socket_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one given, else the environment's, else the usual one."""
    monkeypatch.delenv("CARP_SOCKET", raising=False)
    assert socket_path(None) == Path("/run/carp/carpd.sock")
    monkeypatch.setenv("CARP_SOCKET", "/tmp/other")
    assert socket_path(None) == Path("/tmp/other")
    assert socket_path(Path("/tmp/given")) == Path("/tmp/given")


def test_the_program_says_when_the_daemon_does_not_run(tmp_path: Path) -> None:
    """One sentence on standard error, status 1; by the option and by the environment."""
    path = tmp_path / "s"
    for done in (carp("--socket", path, "status"), carp("status", "--json", CARP_SOCKET=str(path))):
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"carp: {path} does not exist: is carpd running?\n"


def test_the_program_shows_the_status(tmp_path: Path) -> None:
    """Status 0; --json can be read by another program."""
    with daemon(tmp_path / "s", response(DOCUMENT)):
        plain = carp("--socket", tmp_path / "s", "status")
        done = carp("--socket", tmp_path / "s", "status", "--json")
    assert (plain.returncode, plain.stderr, plain.stdout.splitlines()[1][:5]) == (0, "", "carp0")
    assert (done.returncode, json.loads(done.stdout)) == (0, DOCUMENT)


@pytest.mark.parametrize("arguments", [("nonsense",), ("status", "--nonsense")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Status 2."""
    assert carp(*arguments).returncode == 2
