"""The parent interface comes and goes under a running carpd."""

import signal

import pytest

from lab.capture import Capture, is_advertisement
from lab.pairs import QUICK, SLACK_S, USUAL, check_caches, make_pair, patience_s, settle, transitions, wait_settled
from lab.stage import SHARED, Stage, own_addresses
from lab.tables import addresses, socket_groups
from lab.wait import holds_for, until

pytestmark = pytest.mark.usefixtures("carpd")


def test_a_backup_whose_link_flaps_goes_on(stage: Stage) -> None:
    """INIT while the link is down, BACKUP when it is back, and able to take over."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    for _ in range(2):
        b.port.cut()
        b.wait_for_state("INIT", SLACK_S)
        b.port.mend()
        b.namespace.ip("addr replace 2001:db8::2/64 dev eth0")
        wait_settled(QUICK, a, b)
    a.stop()
    b.wait_for_state("MASTER", patience_s(QUICK))
    check_caches(stage, b, packets=20)


def test_a_daemon_started_on_a_down_link_waits_for_it(stage: Stage) -> None:
    """The start succeeds, the state is INIT, and the link's coming up is enough."""
    a = make_pair(stage)[0]
    a.port.cut()
    a.start()
    a.wait_for_state("INIT", SLACK_S)
    a.port.mend()
    a.wait_for_state("MASTER", patience_s(QUICK))


def test_a_removed_parent_is_waited_for_and_used_again(stage: Stage) -> None:
    """The parent is removed, with it everything on it, and created again: carpd goes on as if it had just been started."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    for _ in range(2):
        a.port.remove_interface()
        b.wait_for_state("MASTER", patience_s(QUICK))
        a.wait_for_state("INIT", SLACK_S)
        assert a.running
        a.port.create_interface(own_addresses("a"))
        wait_settled(QUICK, a, b)
        assert addresses(a.namespace, "carp0") == set(SHARED)
    check_caches(stage, a, packets=20)
    assert "Traceback" not in a.log_text()


def test_the_parents_settings_are_right_again_after_its_return(stage: Stage) -> None:
    """A parent that is created anew gets the settings again, and loses them at the stop."""
    a = make_pair(stage)[0]
    settle(QUICK, a)
    assert a.namespace.sysctl("ipv4/conf/eth0/arp_ignore") == "1"
    a.port.remove_interface()
    a.wait_for_state("INIT", SLACK_S)
    a.port.create_interface(own_addresses("a"))
    a.wait_for_state("MASTER", patience_s(QUICK))
    assert a.namespace.sysctl("ipv4/conf/eth0/arp_ignore") == "1"
    assert a.namespace.sysctl("ipv4/conf/eth0/arp_announce") == "2"
    a.stop()
    assert a.namespace.sysctl("ipv4/conf/eth0/arp_ignore") == "0"
    assert a.namespace.sysctl("ipv4/conf/eth0/arp_announce") == "0"


def test_an_address_of_the_parent_may_change(stage: Stage) -> None:
    """Advertisements come from the parent's new address, and nobody changes state."""
    a, b = make_pair(stage, USUAL)
    settle(USUAL, a, b)
    before = transitions(a), transitions(b)
    a.namespace.ip("addr add 192.0.2.77/24 dev eth0", "addr del 192.0.2.1/24 dev eth0")

    def heard_from_new(_status: object) -> bool:
        master = b.interface()["nodes"][0]["master"]
        return master is not None and master.get("source") == "192.0.2.77"

    # The first address of an interface takes its secondaries along unless told otherwise.
    if "192.0.2.77/24" not in addresses(a.namespace, "eth0"):
        a.namespace.ip("addr add 192.0.2.77/24 dev eth0")
    b.wait_for(heard_from_new, SLACK_S, "an advertisement from the new address")
    assert (transitions(a), transitions(b)) == before


def test_the_groups_are_joined_in_every_state(stage: Stage) -> None:
    """A BACKUP is in the groups already, so that a snooping switch lets everything through when it matters."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    for host in (a, b):
        groups = socket_groups(host.namespace, "eth0")
        assert {"224.0.0.18", "ff02::12", "ff02::1:ff00:100"} <= groups


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_bows_out_once_for_each_family_and_ends_well(stage: Stage, number: signal.Signals) -> None:
    """SIGTERM and SIGINT alike: advbase and advskew 255, exit status 0."""
    a = make_pair(stage)[0]
    settle(QUICK, a)
    with Capture(a.port) as capture:
        a.signal(number)
        assert a.wait_for_end() == 0
        frames = capture.frames(is_advertisement)
    headers = [frame[34:] if frame[12:14] == b"\x08\x00" else frame[54:] for frame in frames]
    assert [header[2] == header[5] == 255 for header in headers[-2:]] == [True, True]
    assert {frame[12:14] for frame in frames[-2:]} == {b"\x08\x00", b"\x86\xdd"}


def test_a_backup_leaves_without_a_word(stage: Stage) -> None:
    """A BACKUP that stops sends nothing and disturbs nobody."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    before = transitions(a)
    with Capture(b.port) as capture:
        assert b.stop()
        assert capture.frames(is_advertisement) == []
    assert holds_for(lambda: a.state_of() == "MASTER", 0.5)
    assert transitions(a) == before


def test_the_address_is_held_only_by_a_master(stage: Stage) -> None:
    """The carp interface is up with its addresses in MASTER, down without any in BACKUP; the MAC is the virtual one."""
    a, b = make_pair(stage)
    settle(QUICK, a, b)
    until(lambda: addresses(a.namespace, "carp0") == set(SHARED), SLACK_S, "a to hold the addresses")
    assert addresses(b.namespace, "carp0") == set()
    for host, up in ((a, True), (b, False)):
        link = host.namespace.query("-d link show dev carp0")[0]
        assert link["address"] == "00:00:5e:00:01:01"
        assert link["linkinfo"]["info_kind"] == "macvlan"
        assert ("UP" in link["flags"]) is up
    a.stop()
    until(lambda: addresses(b.namespace, "carp0") == set(SHARED), SLACK_S, "b to hold the addresses")
