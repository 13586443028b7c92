"""Changes while carpd runs."""

import asyncio
import logging
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import LINK_GROUP, FakeFence, FakeRuntime, configured, play

from carp.config.change import Change, WrittenAddress
from carp.config.load import Configuration, load_file
from carp.daemon.administration import Administration
from carp.daemon.chronicle import logger
from carp.daemon.refusals import ChangeRefusedError
from carp.linux.clock import boottime
from carp.linux.rtnetlink import Link
from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionStarted, Forced
from carp.protocol.values import State
from carp.testing.hosts import parent_down
from carp.testing.packets import Peer

CARP0 = {"carpdev": "eth0", "vhid": 1, "pass": "opensesame", "addresses": ["192.0.2.100/24"]}
CARP1 = {"carpdev": "eth0", "vhid": 2, "pass": "opensesame", "addresses": ["192.0.2.101/24"], "groups": ["carp", "lan"]}
CARP2 = {"carpdev": "eth0", "carpnodes": ["3:0", "4:100"], "pass": "opensesame", "addresses": ["192.0.2.102/24"]}
DOCUMENT: dict[str, Any] = {"global": {"preempt": True}, "carp0": CARP0, "carp1": CARP1}


class House:
    """An administration, and what is around it."""

    def __init__(
        self, document: Mapping[str, Any] = DOCUMENT, path: Path | None = None, fence: FakeFence | None = None
    ) -> None:
        self.runtime = FakeRuntime(fence=fence)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.file = configured(dict(document), path)
        runtime: Any = self.runtime
        self.administration = Administration(
            runtime, self.load, LINK_GROUP, lambda kind, told: self.told.append((kind, dict(told)))
        )

    def load(self) -> Configuration:
        """Read what carpd was started from."""
        return self.file

    async def start(self) -> "House":
        """Run what it was started from."""
        await self.runtime.reconfigure(self.file)
        self.runtime.adopted.clear()
        return self

    @property
    def running(self) -> dict[str, Any]:
        """The running document."""
        return self.administration.running.document

    def force(self, name: str, state: State) -> None:
        """Bring an interface to a state."""
        self.runtime.handle(Forced(name, state))

    def demotions(self) -> dict[str, int]:
        """Return the reasons that hold, with their amounts."""
        return {fact.name: fact.amount for fact in self.runtime.engine.host.demotions}


def housed(
    scenario: Callable[[House], Awaitable[None]],
    document: Mapping[str, Any] = DOCUMENT,
    path: Path | None = None,
    fence: FakeFence | None = None,
) -> None:
    """Play a scenario with a daemon that runs a document."""

    async def begin() -> None:
        await scenario(await House(document, path, fence).start())

    play(begin)


async def refused(change: Awaitable[object]) -> list[str]:
    """Return why a change is refused."""
    with pytest.raises(ChangeRefusedError) as caught:
        await change
    return caught.value.problems


def adding(*addresses: str) -> tuple[WrittenAddress, ...]:
    """Write addresses without their prefixes."""
    return tuple(WrittenAddress(one) for one in addresses)


def test_a_change_is_applied_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """To who asked, to the log, and to who listens; the prefix is found on the parent."""
    caplog.set_level(logging.INFO, logger.name)

    async def scenario(house: House) -> None:
        change = Change("carp0", set={"advskew": 100}, add_addresses=adding("192.0.2.110"))
        outcome = await house.administration.change(change)
        changes = ["carp0: advskew 0 -> 100", "carp0: address 192.0.2.110/24 added"]
        assert (outcome.changes, outcome.warnings) == (changes, [])
        assert house.running["carp0"] == {**CARP0, "advskew": 100, "addresses": ["192.0.2.100/24", "192.0.2.110/24"]}
        assert house.running["carp1"] == CARP1
        assert house.told == [("changed", {"changes": changes})]
        assert [message for message in caplog.messages if "->" in message] == ["changed: carp0: advskew 0 -> 100"]

    housed(scenario)


def test_an_interface_grows_line_by_line() -> None:
    """Created, then with a vhid, then with addresses, whose parent is found; and destroyed."""

    async def scenario(house: House) -> None:
        change = house.administration.change
        await change(Change("carp5", create=True))
        assert house.administration.running.drafts == ("carp5",)
        await change(Change("carp5", set={"vhid": 9, "pass": "x"}))
        await change(Change("carp5", add_addresses=adding("198.51.100.7")))
        assert house.running["carp5"] == {"vhid": 9, "pass": "x", "carpdev": "eth1", "addresses": ["198.51.100.7/24"]}
        await change(Change("carp5", destroy=True))
        assert house.running == DOCUMENT

    housed(scenario)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (Change("carp0", set={"vhid": 300}), "carp0.vhid: 300 is not allowed: an integer 1..255"),
        (Change("carp0", set={"vhid": 2}), "carp0.vhid: "),
        (Change("carp0", create=True), "carp0: create: it exists already"),
        (Change("carp9", destroy=True), "carp9: destroy: there is no such carp interface"),
        (Change("carp0", set={"carpdev": "eth9"}), "carp0.carpdev: there is no interface eth9 on this host; it has eth0, "),
        (Change("carp0", add_addresses=adding("198.51.100.1")), "carp0.addresses: 198.51.100.1 is this host's own address on "),
        (Change("carp0", state="up"), 'carp0: state: "up" is not allowed: one of init, backup, master'),
        (Change("carp3", set={"pass": "x"}, state="master"), "carp3: state master: carp3 has no vhid yet"),
        (Change("eth0", create=True), '"eth0" is not the name of a carp interface'),
    ],
)
def test_a_refused_change_changes_nothing(change: Change, sentence: str) -> None:
    """It is refused with a sentence that names the word."""

    async def scenario(house: House) -> None:
        (problem,) = await refused(house.administration.change(change))
        assert problem.startswith(sentence)
        assert (house.running, house.runtime.adopted, house.told) == (DOCUMENT, [], [])

    housed(scenario)


def test_a_key_stands_in_no_sentence() -> None:
    """Neither in what is refused nor in what is told."""

    async def scenario(house: House) -> None:
        outcome = await house.administration.change(Change("carp0", set={"pass": "xyzzy"}))
        problems = await refused(house.administration.change(Change("carp0", set={"pass": "xyzzy" * 100, "vhid": "xyzzy1"})))
        assert outcome.changes == ["carp0: pass phrase changed"]
        assert "xyzzy" * 2 not in str(problems)
        assert "xyzzy" not in str(house.told)

    housed(scenario)


def test_the_kernels_refusals_are_warnings() -> None:
    """What it did not do is told, what it did stays."""

    async def scenario(house: House) -> None:
        house.runtime.failures = ["carp0 cannot be made: no"]
        outcome = await house.administration.change(Change("carp0", set={"advskew": 1}))
        assert outcome.warnings == ["carp0 cannot be made: no"]
        assert house.running["carp0"]["advskew"] == 1

    housed(scenario)


def test_a_kernel_that_fails_altogether_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends no daemon."""

    async def scenario(house: House) -> None:
        async def fail(_: Configuration) -> list[str]:
            raise OSError(105, "No buffer space available")

        monkeypatch.setattr(house.runtime, "reconfigure", fail)
        outcome = await house.administration.change(Change("carp0", set={"advskew": 1}))
        assert outcome.warnings == ["the kernel refused a part of the change: No buffer space available"]

    housed(scenario)


def test_changes_come_one_after_another() -> None:
    """The second begins with what the first made, however long that takes; none is lost."""

    async def scenario(house: House) -> None:
        house.runtime.gate.clear()
        waiting = [
            asyncio.create_task(house.administration.change(Change("carp0", set={"advskew": 7}))),
            asyncio.create_task(house.administration.change(Change("carp1", set={"advskew": 8}))),
            asyncio.create_task(house.administration.set_global({"log": 5})),
        ]
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [False] * 3
        assert house.runtime.adopted == []
        house.runtime.gate.set()
        await asyncio.gather(*waiting)
        assert [len(differing(one.document)) for one in house.runtime.adopted] == [1, 2, 3]
        assert (house.running["carp0"]["advskew"], house.running["carp1"]["advskew"]) == (7, 8)

    housed(scenario)


def differing(document: dict[str, Any]) -> list[str]:
    """Name the tables that are not as at the start."""
    return [name for name, table in document.items() if table != DOCUMENT[name]]


def test_a_change_is_made_to_its_end() -> None:
    """Even if whoever asked for it is gone."""

    async def scenario(house: House) -> None:
        house.runtime.gate.clear()
        asked = asyncio.create_task(house.administration.change(Change("carp0", set={"advskew": 7})))
        await asyncio.sleep(0.1)
        asked.cancel()
        house.runtime.gate.set()
        await house.administration.change(Change("carp1", set={"advskew": 8}))
        assert house.running["carp0"]["advskew"] == 7

    housed(scenario)


def test_a_daemon_that_stops_changes_nothing() -> None:
    """Not even what waited already."""

    async def scenario(house: House) -> None:
        house.runtime.gate.clear()
        first = asyncio.create_task(house.administration.change(Change("carp0", set={"advskew": 7})))
        second = asyncio.create_task(house.administration.change(Change("carp1", set={"advskew": 8})))
        await asyncio.sleep(0.1)
        house.administration.close()
        house.runtime.gate.set()
        await first
        assert await refused(second) == ["carpd stops: it changes nothing any more"]

    housed(scenario)


def test_a_state_is_forced_after_the_change() -> None:
    """Once; one that does not come about is told with its reason."""

    async def scenario(house: House) -> None:
        outcome = await house.administration.change(Change("carp0", set={"advskew": 1}, state="master"))
        interface = house.runtime.engine.interface("carp0")
        assert interface is not None
        assert (interface.leader.state, outcome.warnings) == (State.MASTER, [])
        await house.administration.change(Change("carp0", state="backup"))
        assert interface.leader.state is State.BACKUP
        outcome = await house.administration.change(Change("carp0", up=False, state="master"))
        assert outcome.warnings == ["carp0: it stays INIT: down"]

    housed(scenario)


def test_a_master_warns_of_the_order() -> None:
    """Where its peers would refuse what it sends after the change, and only there."""

    async def scenario(house: House) -> None:
        house.force("carp0", State.MASTER)
        outcome = await house.administration.change(Change("carp0", set={"pass": "x"}))
        (warning,) = outcome.warnings
        assert warning.startswith("carp0: this host is MASTER: the BACKUPs are to be changed before it, all ")
        for change in (Change("carp0", set={"advskew": 3}), Change("carp1", set={"pass": "x"})):
            assert (await house.administration.change(change)).warnings == []

    housed(scenario)


def test_a_master_of_a_share_warns_of_the_order() -> None:
    """Whichever of the virtual hosts it is: each of them has peers."""

    async def scenario(house: House) -> None:
        house.force("carp2", State.MASTER)
        (interface,) = house.runtime.engine.interfaces
        faster = Peer.of(interface.parameters, 3)
        house.runtime.handle(faster.arrives(faster.advertisement(advbase=0, advskew=1), boottime()))
        assert [vhost.state for vhost in interface.vhosts] == [State.BACKUP, State.MASTER]
        outcome = await house.administration.change(Change("carp2", set={"pass": "x"}))
        (warning,) = outcome.warnings
        assert warning.startswith("carp2: this host is MASTER: ")

    housed(scenario, {"carp2": CARP2}, fence=FakeFence())


WITHOUT_BPF = "needs the kernel's BPF, and there is none: switched off by the configuration"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Change("carp2", set=CARP2), f"carp2: balancing ip {WITHOUT_BPF}"),
        (
            Change("carp1", add_addresses=adding("192.0.2.100")),
            f"carp0 and carp1: sharing the address 192.0.2.100 {WITHOUT_BPF}",
        ),
    ],
    ids=["carpnodes", "a shared address"],
)
def test_load_balancing_needs_bpf(change: Change, problem: str) -> None:
    """Where there is none it is refused with the reason, and nothing is changed; where there is it is not."""

    async def without(house: House) -> None:
        assert await refused(house.administration.change(change)) == [problem]
        assert (house.running, house.runtime.adopted, house.told) == (DOCUMENT, [], [])

    async def having_it(house: House) -> None:
        assert (await house.administration.change(change)).changes

    housed(without)
    housed(having_it, fence=FakeFence())


def test_a_reload_that_balances_needs_bpf() -> None:
    """It is refused with every reason, before as well as when it is carried out, and what runs goes on."""

    async def scenario(house: House) -> None:
        steps = {**CARP2, "carpnodes": ["5:0", "6:0"], "balancing": "arp", "addresses": ["192.0.2.103/24"]}
        house.file = configured({**DOCUMENT, "carp2": CARP2, "carp3": steps})
        problems = [f"carp2: balancing ip {WITHOUT_BPF}", f"carp3: balancing arp {WITHOUT_BPF}"]
        assert await refused(house.administration.difference()) == problems
        assert await refused(house.administration.reload()) == problems
        assert (house.running, house.runtime.adopted, house.told) == (DOCUMENT, [], [])

    housed(scenario)


def test_values_of_the_host_are_set() -> None:
    """What they were and are is answered; one wrong value and none is set."""

    async def scenario(house: House) -> None:
        administration = house.administration
        old, new, _ = await administration.set_global({"preempt": False, "log": 5})
        assert (old, new) == ({"preempt": True, "log": 2}, {"preempt": False, "log": 5})
        assert house.running["global"] == {"preempt": False, "log": 5}
        old, new, _ = await administration.set_global({"dscp": 46})
        assert (old, new, administration.running.host.dscp) == ({"dscp": 4}, {"dscp": 46}, 46)
        await administration.set_global({"dscp": None})
        assert administration.running.host.dscp is None
        assert await refused(administration.set_global({"log": 9, "allow": False})) == [
            "global.log: 9 is not allowed: an integer 0..7"
        ]
        assert administration.global_values()["allow"] is True

    housed(scenario)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"colour": 1}, "colour: unknown key; allowed: allow, preempt, log, "),
        ({"fence": "off"}, "fence: unknown key; allowed: allow, preempt, log, "),
        ({"suppress-preempt": 0}, "suppress-preempt: it can be read only"),
        ({"preempt": 1}, "global.preempt: 1 is not allowed: true or false"),
        ({"demotion": "1"}, 'demotion: "1" is not allowed: an integer, which is added'),
        ({"demotion": True}, "demotion: true is not allowed: an integer, which is added"),
        ({"demotion": 300, "log": 5}, "demotion: 300: the result must be 0..255, and by hand it is 0 now"),
    ],
)
def test_values_that_are_refused(values: dict[str, object], sentence: str) -> None:
    """With a sentence; nothing is set."""

    async def scenario(house: House) -> None:
        (problem,) = await refused(house.administration.set_global(values))
        assert problem.startswith(sentence)
        assert house.runtime.adopted == []
        assert house.demotions() == {}

    housed(scenario)


def test_demotion_is_added() -> None:
    """As on FreeBSD: what is written is added, and it demotes the group carp; at 0 the reason is gone."""

    async def scenario(house: House) -> None:
        administration = house.administration
        old, new, _ = await administration.set_global({"demotion": 50})
        assert (old, new) == ({"demotion": 0}, {"demotion": 50})
        old, new, _ = await administration.set_global({"demotion": -20})
        assert (old, new) == ({"demotion": 50}, {"demotion": 30})
        assert house.runtime.adopted == []
        assert administration.demoting.groups()["carp"]["demote"] == 30
        await administration.set_global({"demotion": -30})
        assert house.demotions() == {}

    housed(scenario)


def test_a_group_is_demoted_by_hand() -> None:
    """By what is added or taken away; the sum stays 0..255, and both ways to demote the group carp count into it."""

    async def scenario(house: House) -> None:
        administration = house.administration
        assert await administration.demote("lan", 50) == 50
        assert await administration.demote("lan", -20) == 30
        assert house.demotions() == {"ifconfig -g lan": 30}
        carp1 = house.runtime.engine.interface("carp1")
        assert carp1 is not None
        assert carp1.demote == 30
        (fact,) = house.runtime.engine.host.demotions
        assert (fact.owner, fact.groups) == ("admin", frozenset({"lan"}))
        sentence = "carpdemote: {}: the result must be 0..255, and by hand it is 30 now"
        for amount in (-31, 226):
            assert await refused(administration.demote("lan", amount)) == [sentence.format(amount)]
        await administration.set_global({"demotion": 200})
        assert len(await refused(administration.demote("carp", 56))) == 1
        assert await administration.demote("carp", 55) == 255
        assert await refused(administration.demote("wan", 1)) == ["wan: there is no such group; there is carp, lan"]

    housed(scenario)


def test_problems_are_counted() -> None:
    """suppress-preempt is how many reasons of carpd's own hold; those by hand are none of them."""

    async def scenario(house: House) -> None:
        assert house.administration.global_values()["suppress-preempt"] == 0
        house.runtime.handle(parent_down(parent="eth0"))
        await house.administration.demote("carp", 5)
        values = house.administration.global_values()
        assert (values["suppress-preempt"], values["demotion"]) == (2, 7)

    housed(scenario)


def test_a_reason_of_others_is_left_alone() -> None:
    """What a check demotes by is no sum by hand."""

    async def scenario(house: House) -> None:
        house.runtime.handle(DemotionStarted(Demotion("a check", 250, frozenset({"carp"}), "checks", boottime())))
        assert await house.administration.demote("carp", 10) == 255
        assert await house.administration.demote("carp", -10) == 250

    housed(scenario)


def test_groups_are_listed() -> None:
    """With their members, drafts too; the group carp exists without any."""

    async def scenario(house: House) -> None:
        await house.administration.change(Change("carp4", create=True))
        assert house.administration.demoting.groups() == {
            "carp": {"demote": 0, "members": ["carp0", "carp1", "carp4"]},
            "lan": {"demote": 0, "members": ["carp1"]},
        }
        for name in ("carp0", "carp1", "carp4"):
            await house.administration.change(Change(name, destroy=True))
        assert house.administration.demoting.groups() == {"carp": {"demote": 0, "members": []}}

    housed(scenario)


def test_a_reload_changes_what_differs(caplog: pytest.LogCaptureFixture) -> None:
    """And tells it, in the answer and in the log; before, the difference can be asked for."""
    caplog.set_level(logging.INFO, logger.name)

    async def scenario(house: House) -> None:
        await house.administration.change(Change("carp0", set={"advskew": 100}))
        caplog.clear()
        changes = ["carp0: advskew 100 -> 0"]
        assert (await house.administration.difference()).changes == changes
        assert (len(house.runtime.adopted), caplog.messages) == (1, [])
        assert (await house.administration.reload()).changes == changes
        assert caplog.messages == ["changed: carp0: advskew 100 -> 0", "configuration reloaded"]
        caplog.clear()
        assert (await house.administration.reload()).changes == []
        assert caplog.messages == ["configuration reloaded: nothing changed"]

    housed(scenario)


def test_a_file_that_is_wrong_is_not_reloaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every problem of it is told, and what runs goes on; so it is with a host that cannot carry it."""
    path = tmp_path / "carp.toml"
    path.write_text('[carp0]\ncarpdev = "eth0"\nvhid = 0\nadvskw = 3\naddresses = ["192.0.2.100/24"]\n')

    async def scenario(house: House) -> None:
        house.load = lambda: load_file(path)  # type: ignore[method-assign]
        runtime: Any = house.runtime
        house.administration = Administration(runtime, house.load, LINK_GROUP, lambda *_: None)
        problems = await refused(house.administration.reload())
        assert [problem.removeprefix(f"{path}: ").partition(" ")[0] for problem in problems] == ["carp0.vhid:", "carp0.advskw:"]
        assert caplog.messages == [*problems, "the configuration was not changed"]
        assert await refused(house.administration.difference()) == problems
        path.write_text('[carp0]\ncarpdev = "eth7"\nvhid = 1\naddresses = ["192.0.2.100/24"]\n')
        assert len(await refused(house.administration.reload())) == 1
        assert (house.running, house.runtime.adopted) == (DOCUMENT, [])

    housed(scenario)


def test_what_runs_is_saved(tmp_path: Path) -> None:
    """Where it came from, for the owner's eyes only; what a file cannot hold is named, and carpd reads it again."""
    path = tmp_path / "carp.toml"

    async def scenario(house: House) -> None:
        await house.administration.change(Change("carp0", set={"advskew": 100}))
        await house.administration.change(Change("carp5", create=True))
        saved, left_out = await house.administration.save(None)
        assert (saved, left_out) == (path, ["carp5 is left out: it has no vhid, no carpdev and no addresses"])
        assert path.stat().st_mode & 0o777 == 0o600
        assert tomllib.loads(path.read_text()) == {**DOCUMENT, "carp0": {**CARP0, "advskew": 100}}
        assert load_file(path).host == configured({**DOCUMENT, "carp0": {**CARP0, "advskew": 100}}).host
        other = tmp_path / "other.toml"
        assert (await house.administration.save(other))[0] == other

    housed(scenario, path=path)


def test_what_carpd_could_not_read_again_is_not_saved(tmp_path: Path) -> None:
    """A file that is there stays as it is; so does one that cannot be written."""
    path = tmp_path / "carp.toml"
    path.write_text("kept")

    async def scenario(house: House) -> None:
        problems = await refused(house.administration.save(path))
        assert "no carp interface" in problems[0]
        assert path.read_text() == "kept"
        await house.administration.change(Change("carp0", set=CARP0))
        absent = tmp_path / "absent" / "carp.toml"
        assert await refused(house.administration.save(absent)) == [f"{absent}: cannot be written: No such file or directory"]

    housed(scenario, {"carp0": {}})


def test_a_name_that_somebody_took_refuses_a_new_interface_only() -> None:
    """Changes of others go on."""

    async def scenario(house: House) -> None:
        house.runtime.hardware.table.links.append(Link(5, "carp6", False, False, bytes(6), "dummy", 0, 0))
        assert len(await refused(house.administration.change(Change("carp6", create=True)))) == 1
        assert (await house.administration.change(Change("carp0", set={"advskew": 1}))).changes

    housed(scenario)
