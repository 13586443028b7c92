"""The attendant as a process: how it begins, whom it obeys, and that nothing is left when it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from attendant_kit import PATIENCE_S, SECOND_NS, Attendant, Scripts, check, gone, hook

from carp.attendant.orders import MAX_MESSAGE_BYTES, Checked, CheckKind, Forget, HookEnded, Watch, encode
from carp.attendant.proc import is_alive
from lab.wait import until


def start_some(attendant: Attendant, scripts: Scripts) -> list[int]:
    """Have it run a check and a hook that never end, one of them deaf to SIGTERM; return what runs."""
    deaf = scripts.make("trap '' TERM; echo $$ >$D/deaf; while :; do sleep 0.05; done", "deaf-script")
    slow = scripts.make("sleep 991 & echo $! >$D/child; echo $$ >$D/slow; wait", "slow-script")
    attendant.send(Watch(check(CheckKind.SCRIPT, argv=slow, timeout_ns=3600 * SECOND_NS)))
    attendant.send(hook(deaf, timeout_ns=3600 * SECOND_NS))
    return [scripts.pid(name) for name in ("deaf", "slow", "child")]


def test_it_ends_with_the_daemon(attendant: Attendant, scripts: Scripts) -> None:
    """When its socket is closed it ends everything that it runs, and says nothing."""
    running = start_some(attendant, scripts)
    assert attendant.end() == (0, "")
    assert not any(is_alive(pid) for pid in running)


def test_it_ends_when_told(attendant: Attendant, scripts: Scripts) -> None:
    """SIGTERM alike; SIGINT and SIGHUP are the daemon's affair."""
    running = start_some(attendant, scripts)
    for number in (signal.SIGINT, signal.SIGHUP):
        attendant.process.send_signal(number)
    attendant.send(Watch(check(CheckKind.FILE, "/", name="file")))
    assert attendant.next(Checked) == Checked("file", True, "")
    attendant.process.send_signal(signal.SIGTERM)
    assert attendant.wait() == (0, "")
    assert not any(is_alive(pid) for pid in running)


PARENT = """
import os, socket, subprocess, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line = [sys.executable, "-m", "carp.attendant", "--socket", str(theirs.fileno())]
child = subprocess.Popen(line, pass_fds=[theirs.fileno(), *KEPT])
theirs.close()
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kept", ["[]", "[ours.fileno()]"])
def test_it_dies_with_the_daemon(kept: str) -> None:
    """Also if that was killed, and even if somebody else still has the daemon's end of the socket."""
    line = [sys.executable, "-c", PARENT.replace("*KEPT", f"*{kept}")]
    parent = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: _handles_sigterm(child), PATIENCE_S, "the start of the attendant")
    parent.kill()
    parent.communicate()
    gone(child)


def _handles_sigterm(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def test_a_daemon_that_died_early_is_noticed() -> None:
    """Who made the socket is not the parent any more: it ends at once."""
    made_elsewhere = "import socket, subprocess, sys, os\nif os.fork(): os._exit(os.wait()[1])\n"
    body = (
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "if not os.fork():\n"
        "    line = [sys.executable, '-m', 'carp.attendant', '--socket', str(theirs.fileno())]\n"
        "    os._exit(subprocess.run(line, pass_fds=[theirs.fileno()], timeout=10).returncode)\n"
        "os._exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", made_elsewhere + body], timeout=PATIENCE_S, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense",
        b"{}",
        b'{"message": "Watch", "check": {"name": "x", "kind": "no"}}',
        encode(Checked("c", True, "")),
        b"x" * (MAX_MESSAGE_BYTES + 1),
        b'{"message": "Watch", "check": {"name": [], "kind": "file", "target": "", "argv": [], "status": []}}',
        b'{"message": "Hook", "queue": [], "serial": 1, "kind": "master", "argv": ["/bin/true"], "timeout_ns": 1}',
    ],
)
def test_a_malformed_order_is_ignored(attendant: Attendant, raw: bytes) -> None:
    """It is logged in one line; what follows is obeyed."""
    attendant.socket.send(raw)
    attendant.send(Watch(check(CheckKind.FILE, "/")))
    assert attendant.next(Checked) == Checked("c", True, "")
    status, log = attendant.end()
    assert status == 0
    assert log.startswith("carpd: attendant: an order is ignored: ")
    assert log.count("\n") == 1


@pytest.mark.parametrize("field", ['"interval_ns": "x"', '"timeout_ns": null', '"target": 7', '"rise": "x"'])
def test_an_order_with_nonsense_in_it(attendant: Attendant, field: str) -> None:
    """Whatever comes of it, the others go on."""
    for kind in CheckKind:
        raw = f'{{"message": "Watch", "check": {{"name": "{kind.value}", "kind": "{kind.value}", "target": "x", "argv": [], '
        attendant.socket.send((raw + f'"status": [], {field}}}}}').encode())
    attendant.send(Watch(check(CheckKind.FILE, "/")))
    while (checked := attendant.next(Checked)) != Checked("c", True, ""):
        assert not checked.holds or checked.name == "boot"
    assert attendant.end()[0] == 0


def test_a_ping_without_a_socket(attendant: Attendant) -> None:
    """Is bad and says why; so is one to no address."""
    for target, version in (("127.0.0.1", 4), ("::1", 6)):
        attendant.send(Watch(check(CheckKind.PING, target)))
        assert attendant.next(Checked) == Checked("c", False, f"carpd has no socket for pings over IPv{version}")
    attendant.send(Watch(check(CheckKind.PING, "nowhere")))
    assert not attendant.next(Checked).holds


def test_a_daemon_that_does_not_read(attendant: Attendant, scripts: Scripts) -> None:
    """Its full socket holds nothing up: all ends of hooks come later, and of each check its newest result."""
    attendant.socket.setblocking(True)
    argv = scripts.make("exit 0")
    for number in range(400):
        attendant.send(
            Watch(check(CheckKind.FILE, str(scripts.folder / "file"), name=f"{number:0>200}", interval_ns=SECOND_NS // 5))
        )
    attendant.send(hook(argv, 1, queue="before"))
    (scripts.folder / "file").touch()
    attendant.send(Watch(check(CheckKind.SCRIPT, name="last", argv=scripts.make("touch $D/last", "last-script"))))
    until((scripts.folder / "last").exists, PATIENCE_S, "the last check")
    attendant.send(hook(scripts.make("touch $D/hooked", "second"), 1, queue="after"))
    until((scripts.folder / "hooked").exists, PATIENCE_S, "the hook")
    newest: dict[str, bool] = {}
    hooks = set()
    while len(newest) < 401 or not all(newest.values()) or len(hooks) < 2:
        message = attendant.receive()
        if isinstance(message, HookEnded):
            hooks.add(message.queue)
        else:
            assert isinstance(message, Checked)
            newest[message.name] = message.holds
    assert hooks == {"before", "after"}


def test_it_is_small(attendant: Attendant) -> None:
    """One of these runs beside each daemon."""
    attendant.send(Watch(check(CheckKind.FILE, "/")))
    attendant.next(Checked)
    assert attendant.rss_kib() < 48 * 1024


def test_it_sleeps_while_nothing_happens(attendant: Attendant) -> None:
    """No polling of its own."""
    attendant.send(Watch(check(CheckKind.FILE, "/", interval_ns=3600 * SECOND_NS)))
    attendant.next(Checked)
    attendant.send(Forget("c"))
    before = attendant.cpu_s()
    assert attendant.silent_for(1)
    assert attendant.cpu_s() - before <= 0.03


def test_programs_inherit_nothing_from_the_daemon(scripts: Scripts) -> None:
    """Neither real-time scheduling nor ignored and blocked signals: a hook is an ordinary program."""
    block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); os.execvp(sys.argv[1], sys.argv[1:])"
    ignore = ("sh", "-c", 'trap "" QUIT USR1 HUP INT TERM; exec "$@"', "sh")
    started = Attendant(prefix=("chrt", "-f", "10", *ignore, sys.executable, "-c", block))
    try:
        # The shell blocks all signals around each start of a program, so it looks at itself.
        look = "while read -r name mask; do case $name in SigBlk:|SigIgn:) echo $name $mask;; esac; done"
        started.send(hook(scripts.make(f"chrt -p $$ >$D/policy; {look} </proc/$$/status >$D/signals")))
        started.next(HookEnded)
        assert "SCHED_OTHER" in scripts.read("policy")
        masks = dict(line.split() for line in scripts.read("signals").splitlines())
        # Signals 32 and 33 are the C library's own: no program can ask for them.
        assert {name: int(mask, 16) & ~(3 << 31) for name, mask in masks.items()} == {"SigBlk:": 0, "SigIgn:": 0}
    finally:
        started.destroy()
