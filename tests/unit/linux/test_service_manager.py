"""The service manager is told what sd_notify(3) says, and costs nothing where there is none."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from carp.linux.service_manager import Notifier


class Manager:
    """A service manager's socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """Return the messages that came since."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        """Be gone."""
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Listen at a path."""
    listening = Manager(str(tmp_path / "notify"))
    yield listening
    listening.close()


NotifierOf = Callable[..., Notifier]


@pytest.fixture
def notifier() -> Iterator[NotifierOf]:
    """Make notifiers of services that a manager started."""
    with ExitStack() as made:

        def _notifier(manager: Manager, **environment: str) -> Notifier:
            told = Notifier.from_environment({"NOTIFY_SOCKET": manager.address, **environment})
            made.callback(told.close)
            return told

        yield _notifier


def test_every_message(manager: Manager, notifier: NotifierOf) -> None:
    """In the words of sd_notify(3), one datagram each."""
    told = notifier(manager, WATCHDOG_USEC="20000000")
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    told.ready("2 carp interfaces")
    told.status("carp0 is MASTER")
    told.reloading()
    told.watchdog()
    told.stopping()
    ready, status, reloading, watchdog, stopping = manager.heard()
    assert (ready, status) == ("READY=1\nSTATUS=2 carp interfaces", "STATUS=carp0 is MASTER")
    assert (watchdog, stopping) == ("WATCHDOG=1", "STOPPING=1")
    word, _, at_us = reloading.partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before_us <= int(at_us) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_an_abstract_socket(notifier: NotifierOf) -> None:
    """Its name begins with @."""
    listening = Manager(f"@carp-test-{os.getpid()}")
    notifier(listening).ready("up")
    assert listening.heard() == ["READY=1\nSTATUS=up"]
    listening.close()


def test_children_inherit_nothing(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three variables leave the environment of the process, as a child sees it; others stay."""
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "OTHER": "x"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = Notifier.from_environment()
    assert told.watchdog_interval_s == 0.5
    told.close()
    print_them = f"import os; print([name for name in {list(variables)} if name in os.environ])"
    done = subprocess.run([sys.executable, "-c", print_them], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "['OTHER']"


def test_children_inherit_no_socket(manager: Manager, notifier: NotifierOf) -> None:
    """Nor the descriptor."""
    told = notifier(manager)
    assert told._socket is not None
    assert not told._socket.get_inheritable()
    assert not told._socket.getblocking()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "nobody"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_interval(
    manager: Manager, notifier: NotifierOf, environment: dict[str, str], interval_s: float | None
) -> None:
    """Half of what the service manager waits, if it waits for this process; nothing is sent to one that does not."""
    told = notifier(manager, **environment)
    assert told.watchdog_interval_s == interval_s
    told.watchdog()
    assert manager.heard() == ([] if interval_s is None else ["WATCHDOG=1"])


def test_a_watchdog_without_a_socket() -> None:
    """Cannot be fed, so nobody has to try."""
    assert Notifier.from_environment({"WATCHDOG_USEC": "20000000"}).watchdog_interval_s is None


@pytest.mark.parametrize(
    "address", ["", "vsock:2:1234", "relative", "/nowhere/notify", "/" + "long" * 40, "@" + "long" * 40, "/with\0null"]
)
def test_nobody_listens(address: str) -> None:
    """Nothing is raised, whatever the address is."""
    told = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    told.ready("up")
    told.status("up")
    for tell in (told.reloading, told.stopping, told.watchdog, told.close, told.watchdog, told.close):
        tell()


def test_a_manager_that_went_away(manager: Manager, notifier: NotifierOf) -> None:
    """Is told nothing, and nothing is kept for it."""
    told = notifier(manager)
    manager.close()
    told.ready("up")
    assert told._owed == {}


def test_a_text_is_one_line(manager: Manager, notifier: NotifierOf) -> None:
    """However it is written, it is no assignment of its own; and what cannot be written does no harm."""
    told = notifier(manager)
    told.status("one\nMAINPID=1\r\ntwo \udcff")
    assert manager.heard() == ["STATUS=one MAINPID=1 two ?"]


def fill(manager: Manager, told: Notifier) -> None:
    """Send until the queue is full."""
    while not told._owed:
        told.status("full")


def test_a_full_queue_neither_blocks_nor_loses(manager: Manager, notifier: NotifierOf) -> None:
    """What could not be sent goes with the next message; of two states and of two texts only the newer one."""
    told = notifier(manager, WATCHDOG_USEC="1000000")
    fill(manager, told)
    told.reloading()
    told.ready("up")
    manager.heard()
    told.watchdog()
    told.watchdog()
    first, second = manager.heard()
    assert set(first.split("\n")) == {"READY=1", "STATUS=up", "WATCHDOG=1"}
    assert second == "WATCHDOG=1"


def test_stopping_takes_back_ready(manager: Manager, notifier: NotifierOf) -> None:
    """A service that stops is not announced any more."""
    told = notifier(manager)
    fill(manager, told)
    told.ready("up")
    told.stopping()
    manager.heard()
    told.status("bye")
    (message,) = manager.heard()
    assert set(message.split("\n")) == {"STOPPING=1", "STATUS=bye"}
