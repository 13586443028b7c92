"""Reasons that people give for this host not to be MASTER."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from daemon_kit import FakeRuntime, configured, play

from carp.daemon.demoting import Demoting
from carp.daemon.refusals import ChangeRefusedError, UnknownNameError
from carp.linux.clock import boottime
from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionStarted, Due
from carp.protocol.health import OWNER
from carp.protocol.values import NANOSECONDS_PER_SECOND, Instant

CARP0 = {"carpdev": "eth0", "vhid": 1, "pass": "opensesame", "addresses": ["192.0.2.100/24"]}
CARP1 = {"carpdev": "eth0", "vhid": 2, "pass": "opensesame", "addresses": ["192.0.2.101/24"], "groups": ["lan"]}
DOCUMENT: dict[str, Any] = {"carp0": CARP0, "carp1": CARP1}
KNOWN = "there is carp, lan, all, carp0, carp1"


class House:
    """What demotes by hand, and the engine that is demoted: carp0 in the group carp, carp1 in lan."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.demoting = Demoting(self.runtime.engine, self.runtime.handle, lambda: DOCUMENT)

    def counts(self) -> list[int]:
        """Return what carp0 and carp1 are demoted by."""
        return [one.demote for one in self.runtime.engine.interfaces]

    def facts(self) -> dict[str, Demotion]:
        """Return the reasons that hold."""
        return {fact.name: fact for fact in self.runtime.engine.host.demotions}

    def amounts(self) -> dict[str, int]:
        """Return the reasons that hold, with their amounts."""
        return {name: fact.amount for name, fact in self.facts().items()}

    def pass_by(self, seconds: float) -> None:
        """Let the engine's clock say that so much time went by."""
        now = Instant(boottime() + round(seconds * NANOSECONDS_PER_SECOND))
        self.runtime.engine.handle(Due(Instant(0)), now)

    def hold(self, name: str, owner: str, amount: int = 1) -> None:
        """Let a reason of somebody else's hold."""
        self.runtime.handle(DemotionStarted(Demotion(name, amount, frozenset({"carp"}), owner, boottime())))


def housed(scenario: Callable[[House], Awaitable[None]]) -> None:
    """Play a scenario with a daemon that runs the document."""

    async def begin() -> None:
        house = House()
        await house.runtime.reconfigure(configured(DOCUMENT))
        await scenario(house)

    play(begin)


def refused(work: Callable[..., object], *arguments: object) -> list[str]:
    """Return why something is refused."""
    with pytest.raises(ChangeRefusedError) as caught:
        work(*arguments)
    return caught.value.problems


def test_a_reason_demotes_the_group_carp() -> None:
    """Unless other groups are named; it never ends by itself, and is the administrator's."""

    async def scenario(house: House) -> None:
        fact = house.demoting.add("backup", {"amount": 10})
        assert house.facts() == {"backup": fact}
        assert (fact.amount, fact.groups, fact.owner, fact.until) == (10, frozenset({"carp"}), "admin", None)
        assert house.counts() == [10, 0]
        house.pass_by(100 * 365 * 86400)
        assert house.counts() == [10, 0]

    housed(scenario)


@pytest.mark.parametrize(
    ("groups", "counts"),
    [
        (["lan"], [0, 7]),
        (["carp", "lan"], [7, 7]),
        (["all"], [7, 7]),
        (["carp1"], [0, 7]),
        (["carp0", "carp0"], [7, 0]),
        (None, [7, 0]),
    ],
)
def test_groups_are_demoted_and_no_others(groups: list[str] | None, counts: list[int]) -> None:
    """The name of a carp interface is the group of that one alone, `all` that of every one."""

    async def scenario(house: House) -> None:
        house.demoting.add("backup", {"amount": 7, "groups": groups})
        assert house.counts() == counts

    housed(scenario)


def test_a_reason_takes_the_place_of_its_namesake() -> None:
    """With its amount, its groups, its end and who said so."""

    async def scenario(house: House) -> None:
        house.demoting.add("backup", {"amount": 10, "by": "ann", "for_s": 5})
        house.demoting.add("backup", {"amount": 3, "by": "bob", "groups": ["lan"]})
        (fact,) = house.facts().values()
        assert (fact.amount, fact.owner, fact.until) == (3, "bob", None)
        assert house.counts() == [0, 3]

    housed(scenario)


def test_a_reason_is_removed() -> None:
    """That one, and no other."""

    async def scenario(house: House) -> None:
        house.demoting.add("backup", {"amount": 10})
        house.demoting.add("upgrade", {"amount": 5})
        house.demoting.remove("backup")
        assert house.amounts() == {"upgrade": 5}
        assert house.counts() == [5, 0]

    housed(scenario)


def test_a_reason_ends_after_its_time() -> None:
    """Not sooner; by itself."""

    async def scenario(house: House) -> None:
        before = boottime()
        fact = house.demoting.add("backup", {"amount": 10, "for_s": 0.5})
        assert fact.until is not None
        assert before + NANOSECONDS_PER_SECOND // 2 <= fact.until <= boottime() + NANOSECONDS_PER_SECOND // 2
        assert house.runtime.engine.next_deadline() <= fact.until
        house.pass_by(0.25)
        assert house.counts() == [10, 0]
        house.pass_by(1)
        assert house.counts() == [0, 0]

    housed(scenario)


def test_a_reason_that_is_over_counts_no_more() -> None:
    """Not to the sum; it can be given again, and there is nothing to remove meanwhile."""

    async def scenario(house: House) -> None:
        house.demoting.add("backup", {"amount": 200, "for_s": 1})
        house.pass_by(2)
        house.demoting.add("upgrade", {"amount": 200})
        assert refused(house.demoting.remove, "backup") == [
            '"backup": no such reason demotes this host; there is upgrade',
        ]
        house.demoting.remove("upgrade")
        house.demoting.add("backup", {"amount": 255})
        house.demoting.remove("backup")
        assert house.facts() == {}

    housed(scenario)


@pytest.mark.parametrize("amount", [0, -1, 256, 1.5, "1", True, None])
def test_an_amount_that_is_refused(amount: object) -> None:
    """Anything but an integer 1..255."""

    async def scenario(house: House) -> None:
        (problem,) = refused(house.demoting.add, "backup", {"amount": amount})
        assert problem.startswith("amount: ")
        assert problem.endswith(" is not allowed: an integer 1..255")
        assert house.facts() == {}

    housed(scenario)


@pytest.mark.parametrize("amount", [1, 255])
def test_an_amount_that_is_allowed(amount: int) -> None:
    """The least and the most."""

    async def scenario(house: House) -> None:
        house.demoting.add("backup", {"amount": amount})
        assert house.counts() == [amount, 0]

    housed(scenario)


def test_what_is_given_to_a_group_has_a_limit() -> None:
    """255 in sum, for each group by itself; what it replaces does not count, nor does what others give."""

    async def scenario(house: House) -> None:
        house.hold("track uplink", "track", 250)
        house.demoting.add("one", {"amount": 200})
        assert refused(house.demoting.add, "two", {"amount": 56}) == [
            "amount: 56: the sum of carp must be 0..255, and by hand it is 200 without it"
        ]
        house.demoting.add("two", {"amount": 55})
        house.demoting.add("three", {"amount": 255, "groups": ["lan"]})
        house.demoting.add("one", {"amount": 100})
        assert len(refused(house.demoting.add, "one", {"amount": 201})) == 1
        assert len(refused(house.demoting.add, "four", {"amount": 101, "groups": ["lan", "carp"]})) == 2
        assert house.amounts() == {"track uplink": 250, "one": 100, "two": 55, "three": 255}

    housed(scenario)


@pytest.mark.parametrize("for_s", [0, -1, True, "1h", 10 * 365 * 86400 + 1, float("inf"), float("nan"), [1]])
def test_a_time_that_is_refused(for_s: object) -> None:
    """Anything but seconds, more than 0 and at most ten years."""

    async def scenario(house: House) -> None:
        (problem,) = refused(house.demoting.add, "backup", {"amount": 1, "for_s": for_s})
        assert problem.startswith("for: ")
        assert problem.endswith(" is not allowed: seconds, more than 0, at most 315360000")
        assert house.facts() == {}

    housed(scenario)


@pytest.mark.parametrize("name", ["", "a b", "-a", ".a", "a\n", "a/b", "ä", "a" * 33, "ifconfig -g carp"])
def test_a_name_that_is_refused(name: str) -> None:
    """It is told what a name is."""

    async def scenario(house: House) -> None:
        (problem,) = refused(house.demoting.add, name, {"amount": 1})
        assert problem.endswith(
            " is no name of a reason: 1..32 letters, digits, '.', '_' and '-', a letter or digit first",
        )
        assert "\n" not in problem

    housed(scenario)


@pytest.mark.parametrize("name", ["a", "7", "a" * 32, "A.b_c-d", "starting"])
def test_a_name_that_is_allowed(name: str) -> None:
    """One that can be typed and be told from others."""

    async def scenario(house: House) -> None:
        house.demoting.add(name, {"amount": 1})
        house.demoting.remove(name)

    housed(scenario)


@pytest.mark.parametrize(
    ("name", "how_else"),
    [
        ("start", ""),
        ("maintenance", ": carp maintenance on, carp maintenance off"),
        ("net.inet.carp.demotion", ": carp sysctl net.inet.carp.demotion=-N"),
    ],
)
def test_names_of_carpds_own_are_refused(name: str, how_else: str) -> None:
    """Nobody gives, replaces or ends by a name what carpd keeps under it; what else there is to do is told."""

    async def scenario(house: House) -> None:
        sentence = f"{name}: this name is carpd's own{how_else}"
        assert refused(house.demoting.add, name, {"amount": 1}) == [sentence]
        house.hold(name, OWNER)
        assert refused(house.demoting.add, name, {"amount": 1}) == [sentence]
        assert house.amounts() == {name: 1}

    housed(scenario)


def test_unknown_groups_are_refused() -> None:
    """Each one, with those that there are: `all` and the carp interfaces too."""

    async def scenario(house: House) -> None:
        assert refused(house.demoting.add, "backup", {"amount": 1, "groups": ["wan", "lan", "carp9"]}) == [
            f'"wan": there is no such group; {KNOWN}',
            f'"carp9": there is no such group; {KNOWN}',
        ]
        assert house.facts() == {}

    housed(scenario)


@pytest.mark.parametrize("groups", [[], "carp", ["carp", 1], 7, {"carp": 1}])
def test_groups_that_are_no_list_of_groups(groups: object) -> None:
    """Are refused, an empty list too."""

    async def scenario(house: House) -> None:
        problems = refused(house.demoting.add, "backup", {"amount": 1, "groups": groups})
        assert problems[0].startswith("groups: ")
        assert problems[0].endswith(" is not allowed: a list of groups")
        assert house.facts() == {}

    housed(scenario)


def test_every_problem_is_told_at_once() -> None:
    """And nothing is done."""

    async def scenario(house: House) -> None:
        values = {"amount": 0, "for_s": -1, "groups": ["wan", 7], "colour": "red"}
        assert refused(house.demoting.add, "a b", values) == [
            "colour: unknown key; allowed: amount, groups, for_s, by",
            "\"a b\" is no name of a reason: 1..32 letters, digits, '.', '_' and '-', a letter or digit first",
            "amount: 0 is not allowed: an integer 1..255",
            "for: -1 is not allowed: seconds, more than 0, at most 315360000",
            "groups: a list of 2 is not allowed: a list of groups",
            f'"wan": there is no such group; {KNOWN}',
        ]
        assert house.facts() == {}

    housed(scenario)


def test_a_reason_that_does_not_hold_cannot_be_removed() -> None:
    """Those by hand are named, and carpd's own are not."""

    async def scenario(house: House) -> None:
        house.hold("start", OWNER)
        with pytest.raises(UnknownNameError) as caught:
            house.demoting.remove("nothing")
        assert caught.value.problems == ['"nothing": no such reason demotes this host; there is none by hand']
        house.demoting.add("one", {"amount": 1})
        house.demoting.add("two", {"amount": 1})
        assert refused(house.demoting.remove, "a\nb") == [
            '"a\\nb": no such reason demotes this host; there is one, two',
        ]

    housed(scenario)


@pytest.mark.parametrize(
    ("name", "owner", "how_else"),
    [
        ("track uplink", "track", ""),
        ("start", OWNER, ""),
        ("maintenance", "ann", ": carp maintenance on, carp maintenance off"),
        ("ifconfig -g carp", "admin", ": carp ifconfig -g GROUP -carpdemote N"),
        ("net.inet.carp.demotion", "admin", ": carp sysctl net.inet.carp.demotion=-N"),
    ],
)
def test_a_reason_of_others_cannot_be_removed(name: str, owner: str, how_else: str) -> None:
    """It is told whose it is, and what ends it if that is a command."""

    async def scenario(house: House) -> None:
        house.hold(name, owner)
        assert refused(house.demoting.remove, name) == [f"{name}: this reason is {owner}'s, and ends when it is over{how_else}"]
        assert house.amounts() == {name: 1}

    housed(scenario)


@pytest.mark.parametrize(
    ("by", "owner"),
    [
        ("ann", "ann"),
        ("a\nb\x1b[31m\0", "ab[31m"),
        ("x" * 100, "x" * 32),
        ("", "admin"),
        ("\n", "admin"),
        (7, "admin"),
        (None, "admin"),
    ],
)
def test_who_says_so_is_written_in_one_line(by: object, owner: str) -> None:
    """Nothing that a terminal or a log would stumble over, and not too long; the administrator if it is not known."""

    async def scenario(house: House) -> None:
        assert house.demoting.add("backup", {"amount": 1, "by": by}).owner == owner

    housed(scenario)


def test_a_group_is_adjusted_within_its_limits() -> None:
    """What is added by ifconfig -g and by sysctl is 0..255 in sum; a refused one changes nothing."""

    async def scenario(house: House) -> None:
        demoting = house.demoting
        assert demoting.adjust_group("carp", 255) == 255
        assert refused(demoting.adjust_group, "carp", 1) == [
            "carpdemote: 1: the result must be 0..255, and by hand it is 255 now"
        ]
        assert demoting.adjust_group("carp", -200) == 55
        assert refused(demoting.check_all, 201) == ["demotion: 201: the result must be 0..255, and by hand it is 55 now"]
        demoting.check_all(200)
        demoting.adjust_all(200)
        assert house.amounts() == {"ifconfig -g carp": 55, "net.inet.carp.demotion": 200}
        assert refused(demoting.check_all, -256) == ["demotion: -256: the result must be 0..255, and by hand it is 255 now"]
        demoting.adjust_all(-200)
        assert demoting.adjust_group("carp", -55) == 0
        assert house.facts() == {}
        assert refused(demoting.adjust_group, "carp", -1) == [
            "carpdemote: -1: the result must be 0..255, and by hand it is 0 now"
        ]

    housed(scenario)


def test_a_group_is_adjusted_by_itself() -> None:
    """Neither another group nor a named reason counts to its limit; one that nobody is in is refused with those there are."""

    async def scenario(house: House) -> None:
        house.demoting.add("backup", {"amount": 100, "groups": ["lan"]})
        house.demoting.adjust_group("carp", 200)
        assert house.demoting.adjust_group("lan", 50) == 150
        assert house.counts() == [200, 150]
        assert house.demoting.count("lan") == 150
        with pytest.raises(UnknownNameError) as caught:
            house.demoting.adjust_group("wan", 1)
        assert caught.value.problems == ["wan: there is no such group; there is carp, lan"]

    housed(scenario)


def test_a_reason_keeps_its_age_when_it_is_adjusted() -> None:
    """It is the same reason, and more or less of it."""

    async def scenario(house: House) -> None:
        house.demoting.adjust_group("carp", 5)
        since = house.facts()["ifconfig -g carp"].since
        house.demoting.adjust_group("carp", 5)
        assert (house.facts()["ifconfig -g carp"].since, house.counts()) == (since, [10, 0])

    housed(scenario)
