"""The host is left as it was found: addresses, links, settings, routes and traffic control."""

import contextlib
from collections.abc import Callable

import pytest

from lab.host import Carp, Host
from lab.pairs import QUICK, SLACK_S, make_pair, settle
from lab.stage import SHARED, Stage
from lab.tables import Portrait, portrait
from lab.wait import until

pytestmark = pytest.mark.usefixtures("carpd")


def odd_settings(host: Host) -> None:
    """Give the parent settings that are neither the kernel's defaults nor carpd's."""
    for key, value in (("arp_ignore", 2), ("arp_announce", 1), ("rp_filter", 1)):
        host.namespace.sysctl(f"ipv4/conf/eth0/{key}", value)


def check_as_found(host: Host, before: Portrait) -> None:
    """Compare, waiting a little for what the kernel removes in its own time."""
    with contextlib.suppress(TimeoutError):
        until(lambda: not before.differences(portrait(host.namespace)), 3.0, "the host to be as it was found", 0.1)
    assert before.differences(portrait(host.namespace)) == []


@pytest.mark.parametrize("prepare", [lambda _host: None, odd_settings], ids=["default settings", "odd settings"])
@pytest.mark.parametrize("state", ["MASTER", "BACKUP"])
def test_after_a_clean_stop(stage: Stage, state: str, prepare: Callable[[Host], None]) -> None:
    """SIGTERM in either state leaves no trace."""
    a, b = make_pair(stage)
    host = a if state == "MASTER" else b
    prepare(host)
    before = portrait(host.namespace)
    settle(QUICK, a, b)
    assert before.differences(portrait(host.namespace))
    host.stop()
    check_as_found(host, before)


@pytest.mark.parametrize("prepare", [lambda _host: None, odd_settings], ids=["default settings", "odd settings"])
def test_after_a_crash_a_start_and_a_stop(stage: Stage, prepare: Callable[[Host], None]) -> None:
    """A crash leaves the addresses; the next start removes them, and after its stop the host is as before the first."""
    a, b = make_pair(stage)
    prepare(a)
    before = portrait(a.namespace)
    settle(QUICK, a, b)
    a.kill()
    assert before.differences(portrait(a.namespace))
    b.wait_for_state("MASTER", SLACK_S)
    a.start()
    settle(QUICK, a, b)
    a.stop()
    check_as_found(a, before)


def test_after_a_crash_a_start_with_another_configuration_cleans_up_all(stage: Stage) -> None:
    """What a crashed run left is removed although the next configuration no longer mentions it."""
    a = make_pair(stage)[0]
    before = portrait(a.namespace)
    settle(QUICK, a)
    a.kill()
    a.configure([Carp("carp7", 7, addresses=("192.0.2.107/24",))], preempt=True)
    a.start()
    links = a.namespace.run("ip", "link")
    assert "carp0" not in links
    assert "carp7" in links
    assert SHARED[0] not in a.namespace.run("ip", "addr")
    a.stop()
    check_as_found(a, before)


def test_after_two_crashes_in_a_row(stage: Stage) -> None:
    """The original settings survive a second crash: what the first run set is not taken for the original."""
    a = make_pair(stage)[0]
    odd_settings(a)
    before = portrait(a.namespace)
    for _ in range(2):
        settle(QUICK, a)
        a.kill()
    settle(QUICK, a)
    a.stop()
    check_as_found(a, before)


def test_after_an_interface_was_added_and_removed_by_reload(stage: Stage) -> None:
    """A carp interface that a reload removes leaves nothing, while the daemon goes on without it."""
    a = make_pair(stage)[0]
    untouched = portrait(a.namespace)
    settle(QUICK, a)
    before = portrait(a.namespace)
    second = Carp("carp1", 2, advbase=0, advskew=40, addresses=("192.0.2.101/24", "2001:db8::101/64"))
    a.configure([*a.carps, second], preempt=True)
    a.reload()
    a.wait_for_state("MASTER", SLACK_S, name="carp1")
    a.configure(a.carps[:1], preempt=True)
    a.reload()
    a.wait_for(lambda status: len(status["interfaces"]) == 1, SLACK_S, "the interface to go")
    check_as_found(a, before)
    a.stop()
    check_as_found(a, untouched)


def test_files_are_left_for_nobody(stage: Stage) -> None:
    """The socket goes with the daemon; while it runs, only root and its group may use it."""
    a = make_pair(stage)[0]
    settle(QUICK, a)
    assert a.socket.stat().st_mode & 0o777 == 0o660
    a.stop()
    assert not a.socket.exists()


def test_after_a_stop_in_the_middle_of_a_change(stage: Stage) -> None:
    """SIGTERM while a reload is still making links: those made so far and those on their way are gone too."""
    a = make_pair(stage)[0]
    before = portrait(a.namespace)
    settle(QUICK, a)
    many = [Carp(f"carp{vhid}", vhid, addresses=(f"198.51.100.{vhid}/24",)) for vhid in range(2, 102)]
    a.configure([*a.carps, *many], **a.global_keys)
    a.reload()
    until(lambda: "carp3@" in a.namespace.run("ip", "-o", "link"), SLACK_S, "the reload to be under way", 0.001)
    assert "carp101@" not in a.namespace.run("ip", "-o", "link"), "the reload is over already"
    a.stop()
    check_as_found(a, before)
    assert "Traceback" not in a.log_text()
