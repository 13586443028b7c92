"""Which slot of the fence belongs to whom, and when it opens; the fence itself is a list of deadlines."""

from typing import Any

import pytest
from daemon_kit import FakeFence, fencing_of

from carp.linux.bpf.fence import FenceUnavailable
from carp.linux.carplink import CarpLink
from carp.protocol.parameters import InterfaceParameters, Node
from carp.protocol.values import Family, Instant
from carp.testing.hosts import DUAL_STACK, VIP4, VIP6, carp_interface

IPV4, IPV6 = Family
ETH0 = 2
NETLINK: Any = None
CARP0 = carp_interface("carp0", 1, addresses=DUAL_STACK)
CARP1 = carp_interface("carp1", nodes=(Node(3), Node(4), Node(9)))
MAC = bytes.fromhex("00005e000101")


def seconds(number: float) -> Instant:
    """Name a moment."""
    return Instant(round(number * 1_000_000_000))


class House:
    """A fencing over a list of deadlines, with carp0, alone with its virtual host 1, and carp1, which has 3, 4 and 9."""

    def __init__(self, wanted: str = "auto") -> None:
        self.fence = FakeFence()
        self.told: list[str] = []
        self.fencing = fencing_of(self.fence, wanted, self.told)
        self.links = {"carp0": CarpLink("carp0", 10, ETH0, MAC), "carp1": CarpLink("carp1", 11, ETH0, None, True)}

    def make(self, *interfaces: InterfaceParameters) -> None:
        """Make carp interfaces, as the hardware does."""
        for one in interfaces:
            self.fencing.prepare(one, ETH0, () if one.is_balanced else one.addresses)
            self.fencing.guard_link(NETLINK, self.links[one.name])

    def sent(self, name: str, vhid: int, until: float, now: float = 1, families: tuple[Family, ...] = (IPV4,)) -> int | None:
        """Send an advertisement in the first of these families, which are those of the interface."""
        return self.fencing.sent(name, vhid, families, families[0], seconds(until), seconds(now))

    def open_until(self, name: str, vhid: int) -> int:
        """Tell until when a virtual host's slot is open."""
        return self.fence.deadlines.deadline(self.fencing.slot(name, vhid))

    def link_is_open_until(self, name: str) -> int:
        """Tell until when packets pass through a link."""
        return self.fence.deadlines.deadline(self.fence.links[self.links[name].index])

    def described(self, parameters: InterfaceParameters, now: float = 1) -> dict[str, Any]:
        """Describe the fence of a carp interface."""
        return self.fencing.describe(parameters, seconds(now))


@pytest.fixture
def house() -> House:
    """Make both carp interfaces."""
    made = House()
    made.make(CARP0, CARP1)
    return made


# Whose slot it is


def test_slots_are_used_again(house: House) -> None:
    """There are so many; whoever comes gets the lowest that nobody has."""
    before = {house.fencing.slot("carp1", vhid) for vhid in (3, 4, 9)}
    house.fencing.forget(house.links["carp1"])
    again = [house.fencing.slot("carp7", vhid) for vhid in (1, 2, 3)]
    assert again == sorted(again)
    assert before <= {*again, house.fencing.slot("carp7", 4), house.fencing.slot("carp7", 5)}
    taken = {house.fencing.slot(*one) for one in (("carp0", 1), *(("carp7", vhid) for vhid in (1, 2, 3, 4, 5)))}
    assert len(taken) == 6
    assert max(taken) == 5


def test_nobody_shares_a_slot(house: House) -> None:
    """Nor a deadline: what one virtual host sends opens nothing of another's."""
    slots = [house.fencing.slot(*one) for one in (("carp0", 1), ("carp1", 3), ("carp1", 4), ("carp1", 9))]
    assert len(set(slots)) == 4
    house.sent("carp1", 4, 30)
    assert [house.open_until("carp1", vhid) for vhid in (3, 4, 9)] == [0, seconds(30), 0]
    assert house.open_until("carp0", 1) == 0


def test_a_slot_stays_the_same(house: House) -> None:
    """However often it is asked for, or its interface prepared anew."""
    before = [house.fencing.slot("carp1", vhid) for vhid in (3, 4, 9)]
    house.make(CARP1, CARP1)
    assert [house.fencing.slot("carp1", vhid) for vhid in (3, 4, 9)] == before


def test_the_link_of_one_virtual_host_opens_with_it(house: House) -> None:
    """And its addresses do; they are in the same slot."""
    house.sent("carp0", 1, 30)
    assert house.link_is_open_until("carp0") == seconds(30)
    slot = house.fencing.slot("carp0", 1)
    assert house.fence.vips[ETH0, slot] == (str(VIP4.ip), str(VIP6.ip))


def test_the_link_of_several_never_opens(house: House) -> None:
    """Whatever is MASTER: nothing passes through it. Nor has it addresses in the fence, which the programs share out."""
    for vhid in (3, 4, 9):
        house.sent("carp1", vhid, 30)
    assert house.link_is_open_until("carp1") == 0
    slots = {house.fencing.slot("carp1", vhid) for vhid in (3, 4, 9)}
    assert house.fence.links[house.links["carp1"].index] not in slots
    assert not any(addresses for (_, slot), addresses in house.fence.vips.items() if slot != house.fencing.slot("carp0", 1))


def test_the_closed_slot_is_each_interfaces_own(house: House) -> None:
    """So that one can be given back without the other."""
    other = carp_interface("carp2", nodes=(Node(5), Node(6)))
    house.links["carp2"] = CarpLink("carp2", 12, ETH0, None, True)
    house.make(other)
    assert len(set(house.fence.links.values())) == 3


# When it opens and closes


def test_both_families_open_it(house: House) -> None:
    """A peer takes over when either falls silent: the earlier one counts."""
    house.sent("carp0", 1, 30, families=(IPV4, IPV6))
    assert house.open_until("carp0", 1) == 0
    house.sent("carp0", 1, 20, families=(IPV6, IPV4))
    assert house.open_until("carp0", 1) == seconds(20)
    house.sent("carp0", 1, 40, families=(IPV4, IPV6))
    assert house.open_until("carp0", 1) == seconds(20)


def test_the_families_of_two_virtual_hosts_are_apart(house: House) -> None:
    """IPv4 of the one and IPv6 of the other open neither."""
    house.sent("carp1", 3, 30, families=(IPV4, IPV6))
    house.sent("carp1", 4, 30, families=(IPV6, IPV4))
    assert [house.open_until("carp1", vhid) for vhid in (3, 4)] == [0, 0]


def test_each_closes_alone(house: House) -> None:
    """At once; the others of the interface stay open. The next one to open it begins anew."""
    for vhid in (3, 4):
        house.sent("carp1", vhid, 30, families=(IPV4, IPV6))
        house.sent("carp1", vhid, 30, families=(IPV6, IPV4))
    house.fencing.close("carp1", 3)
    assert [house.open_until("carp1", vhid) for vhid in (3, 4)] == [0, seconds(30)]
    house.sent("carp1", 3, 40, families=(IPV4, IPV6))
    assert house.open_until("carp1", 3) == 0


def test_one_that_comes_too_late_is_told(house: House) -> None:
    """With the time for which it was closed; counted for the interface; of a virtual host alone."""
    for vhid in (3, 4):
        assert house.sent("carp1", vhid, 10) is None
    assert house.sent("carp1", 4, 20, now=9) is None
    assert house.sent("carp1", 3, 20, now=12) == seconds(2)
    assert house.sent("carp1", 4, 40, now=21) == seconds(1)
    assert house.described(CARP1)["late_closings"] == 2
    assert house.described(CARP0)["late_closings"] == 0


def test_after_closing_late_every_family_opens_it(house: House) -> None:
    """The one that was not late does not vouch for the other."""
    both = (IPV4, IPV6)
    house.sent("carp0", 1, 10, families=both)
    house.sent("carp0", 1, 10, families=(IPV6, IPV4))
    assert house.sent("carp0", 1, 30, now=12, families=both) == seconds(2)
    assert house.open_until("carp0", 1) == 0
    assert house.sent("carp0", 1, 30, now=12, families=(IPV6, IPV4)) is None
    assert house.open_until("carp0", 1) == seconds(30)


def test_what_is_open(house: House) -> None:
    """A virtual host whose deadline is to come; one that nobody knows is not."""
    house.sent("carp1", 3, 30)
    opened = [house.fencing.is_open("carp1", vhid, seconds(29)) for vhid in (3, 4, 7)]
    assert opened == [True, False, False]
    assert not house.fencing.is_open("carp1", 3, seconds(30))


def test_an_interface_that_is_gone_opens_nothing(house: House) -> None:
    """Its last advertisement may come after it."""
    house.fencing.forget(house.links["carp1"])
    assert house.sent("carp1", 3, 30) is None
    house.fencing.close("carp1", 3)
    assert not any(house.fence.deadlines.until.values())


# Going away


def test_who_goes_away_gives_everything_back(house: House) -> None:
    """The slots of all its virtual hosts and of its link, closed; the others keep theirs."""
    for name, vhid in (("carp0", 1), ("carp1", 3), ("carp1", 4), ("carp1", 9)):
        house.sent(name, vhid, 30)
    given_back = {house.fencing.slot("carp1", vhid) for vhid in (3, 4, 9)} | {house.fence.links[11]}
    house.fencing.forget(house.links["carp1"])
    assert set(house.fence.links) == {10}
    assert {slot for slot, until in house.fence.deadlines.until.items() if until} == {house.fencing.slot("carp0", 1)}
    used_again = {house.fencing.slot("carp8", vhid) for vhid in (1, 2, 3, 4)}
    assert used_again == given_back
    assert not house.fencing.is_prepared("carp1", ETH0, ())
    assert house.described(CARP1)["state"] == "unavailable"


def test_who_had_an_address_lets_it_go(house: House) -> None:
    """Nothing guards it for a carp interface that is gone."""
    house.fencing.forget(house.links["carp0"])
    assert not any(house.fence.vips.values())


def test_a_link_that_is_made_again_keeps_its_slots(house: House) -> None:
    """And the deadlines with them: its virtual hosts are MASTER still."""
    house.sent("carp0", 1, 30)
    house.sent("carp1", 4, 30)
    closed = house.fence.links[11]
    for name in ("carp0", "carp1"):
        house.fencing.lose_link(house.links[name])
    assert house.fence.links == {}
    house.make(CARP0, CARP1)
    assert (house.open_until("carp0", 1), house.open_until("carp1", 4)) == (seconds(30), seconds(30))
    assert house.fence.links == {10: house.fencing.slot("carp0", 1), 11: closed}


def test_a_link_that_became_another_kind(house: House) -> None:
    """One that had several virtual hosts and has one now opens with it, and the other way round."""
    house.fencing.forget(house.links["carp0"])
    house.fencing.forget(house.links["carp1"])
    house.make(carp_interface("carp0", nodes=(Node(1), Node(2))), carp_interface("carp1", 3))
    for name, vhid in (("carp0", 1), ("carp0", 2), ("carp1", 3)):
        house.sent(name, vhid, 30)
    assert (house.link_is_open_until("carp0"), house.link_is_open_until("carp1")) == (0, seconds(30))


# What is prepared


def test_what_is_prepared_is_known(house: House) -> None:
    """The same addresses on the same parent, and nothing else."""
    assert house.fencing.is_prepared("carp0", ETH0, DUAL_STACK)
    assert house.fencing.is_prepared("carp1", ETH0, ())
    assert not house.fencing.is_prepared("carp0", ETH0, (VIP4,))
    assert not house.fencing.is_prepared("carp0", ETH0 + 1, DUAL_STACK)
    assert not house.fencing.is_prepared("carp2", ETH0, ())


def test_what_failed_is_not_prepared(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again."""

    def fail(*_: object) -> None:
        raise FenceUnavailable("the kernel takes no more entries for the fence")

    monkeypatch.setattr(house.fence, "set_vips", fail)
    with pytest.raises(FenceUnavailable):
        house.fencing.prepare(CARP0, ETH0, DUAL_STACK)
    assert not house.fencing.is_prepared("carp0", ETH0, DUAL_STACK)


# The status


def test_of_several_the_one_that_stays_open_longest_counts(house: House) -> None:
    """Closed when the last one is; what was dropped is added up."""
    assert house.described(CARP1)["state"] == "closed"
    house.sent("carp1", 3, 30)
    house.sent("carp1", 9, 20)
    for vhid in (3, 4):
        house.fence.deadlines.lost[house.fencing.slot("carp1", vhid)] = vhid
    assert house.described(CARP1, now=25.5) == {
        "state": "open",
        "reason": None,
        "closes_in_s": 4.5,
        "dropped": 7,
        "late_closings": 0,
    }
    assert house.described(CARP1, now=30)["state"] == "closed"
    assert house.described(CARP1, now=30)["closes_in_s"] is None


def test_an_interface_that_takes_no_fence() -> None:
    """Works without, and says why; everybody is told once."""
    house = House()
    house.fence.refusing = {11}
    house.make(CARP0, CARP1)
    house.make(CARP1)
    assert house.told == ["carp1 is not fenced: interface 11 takes no BPF filter"]
    assert house.described(CARP1)["reason"] == "interface 11 takes no BPF filter"
    assert (house.fencing.is_fenced("carp0"), house.fencing.is_fenced("carp1")) == (True, False)
    assert (house.fencing.why_not_guarded(11), house.fencing.why_not_guarded(10)) == ("interface 11 takes no BPF filter", "")
    house.fence.refusing.clear()
    house.make(CARP1)
    assert (house.fencing.why_not_guarded(11), house.fencing.is_fenced("carp1")) == ("", True)


def test_a_fence_that_is_required() -> None:
    """Is missed."""
    house = House("required")
    house.fence.refusing = {11, ETH0}
    with pytest.raises(FenceUnavailable):
        house.make(CARP1)
    with pytest.raises(FenceUnavailable):
        house.fencing.guard_parent(NETLINK, "eth0", ETH0)


def test_of_new_links_those_that_take_no_fence_are_told() -> None:
    """All others have it; where it is not required one that has none works without."""
    house = House()
    for one in (CARP0, CARP1):
        house.fencing.prepare(one, ETH0, ())
    house.fence.refusing = {11}
    assert house.fencing.guard_new_links(NETLINK, list(house.links.values())) == {}
    assert (house.fencing.is_fenced("carp0"), house.fencing.is_fenced("carp1")) == (True, False)
    assert house.told == ["carp1 is not fenced: interface 11 takes no BPF filter"]
    house.fence.refusing.clear()
    assert house.fencing.guard_new_links(NETLINK, list(house.links.values())) == {}
    assert (house.fencing.why_not_guarded(11), house.fencing.is_fenced("carp1")) == ("", True)


def test_of_new_links_those_that_miss_a_required_fence_are_named() -> None:
    """With the reason."""
    house = House("required")
    for one in (CARP0, CARP1):
        house.fencing.prepare(one, ETH0, ())
    house.fence.refusing = {11}
    refused = house.fencing.guard_new_links(NETLINK, list(house.links.values()))
    assert {name: str(error) for name, error in refused.items()} == {"carp1": "interface 11 takes no BPF filter"}
    assert house.fencing.is_fenced("carp0")


def test_without_a_fence_nothing_fails() -> None:
    """It says why there is none."""
    fencing = fencing_of(None)
    link = CarpLink("carp1", 11, ETH0, None, True)
    fencing.prepare(CARP1, ETH0, ())
    fencing.guard_link(NETLINK, link)
    assert fencing.sent("carp1", 3, (IPV4,), IPV4, seconds(30), seconds(1)) is None
    fencing.close("carp1", 3)
    assert not fencing.is_open("carp1", 3, seconds(1))
    why = "switched off by the configuration"
    assert fencing.describe(CARP1, seconds(1)) == {"state": "unavailable", "reason": why}
    assert (fencing.why_not_guarded(ETH0), fencing.balancer, fencing.is_fenced("carp1")) == (why, None, False)
    assert fencing.is_prepared("carp1", ETH0, DUAL_STACK)
    fencing.forget(link)
    fencing.stop()


def test_the_end(house: House) -> None:
    """Programs and maps are let go; who comes later finds no fence."""
    house.fencing.stop()
    assert house.fence.closed
    assert house.fencing.balancer is None
    house.fencing.stop()
