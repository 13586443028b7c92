"""Reasons why a host should not be MASTER: given by hand with a name, shown to peers that know no demote byte, or its own."""

import re
from collections.abc import Iterator

import pytest

from lab.capture import Capture, is_advertisement
from lab.events import Events, is_demotion
from lab.faults import Traffic, programs
from lab.host import Carp, Host
from lab.measure import both_answered, longest_gap_ns, milliseconds, owners
from lab.pairs import QUICK, SLACK_S, USUAL, make_pair, patience_s, settle, transitions, virtual_mac, wait_settled
from lab.stage import SHARED, Stage
from lab.wait import holds_for, now_ns, until

pytestmark = pytest.mark.usefixtures("carpd")

MS = 1_000_000
STALL_NS = 250 * MS
SECOND_NS = 1_000 * MS
AFTER_S = 0.3
SEND_ERRORS = "carp0 send errors"
THREE = {"carp0": ["carp"], "carp1": ["lan"], "carp2": ["carp", "lan"]}
"""The carp interfaces of one host, with their groups."""


def three_carps(host: Host) -> None:
    """Give a host the three interfaces, on one parent."""
    first = host.carps[0]
    host.configure(
        [
            first.but(name=name, vhid=number, addresses=(f"192.0.2.{99 + number}/24",), extra={"groups": groups})
            for number, (name, groups) in enumerate(THREE.items(), start=1)
        ],
        **host.global_keys,
    )


def counts(host: Host) -> dict[str, int]:
    """Return what each carp interface is demoted by."""
    return {interface["name"]: interface["demote"] for interface in host.status()["interfaces"]}


def reasons(host: Host) -> list[str]:
    """Return the names of all reasons."""
    return [one["name"] for one in host.status()["demotions"]]


def carp(host: Host, line: str) -> str:
    """Run `carp LINE`, which has to succeed; return what it prints."""
    done = host.carp(*line.split())
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


class TestByHand:
    def test_whom_it_demotes(self, stage: Stage) -> None:
        """The group carp unless told otherwise; another group, one interface, several, all; several reasons add up."""
        (a,) = make_pair(stage, QUICK)[:1]
        three_carps(a)
        settle(QUICK, a)
        for options, demoted in {
            "": {"carp0", "carp2"},
            " --group lan": {"carp1", "carp2"},
            " --group carp0": {"carp0"},
            " --group carp0 --group carp1": {"carp0", "carp1"},
            " --group all": set(THREE),
        }.items():
            carp(a, f"demote add reason 5{options}")
            assert counts(a) == {name: 5 if name in demoted else 0 for name in THREE}, options
        carp(a, "demote add other 7 --group lan")
        assert counts(a) == {"carp0": 5, "carp1": 12, "carp2": 12}
        assert [line.partition(" (")[0] for line in carp(a, "demote list").splitlines()] == ["all: 5: reason", "lan: 7: other"]
        for name in ("reason", "other"):
            carp(a, f"demote remove {name}")
        assert set(counts(a).values()) == {0}
        assert carp(a, "demote list") == "nothing demotes this host\n"
        done = a.carp("demote", "add", "x", "1", "--group", "nobody")
        assert done.returncode == 1
        assert '"nobody": there is no such group' in done.stderr

    def test_who_did_it(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """The status names the reason and the person: who called sudo, else who the process belongs to."""
        (a,) = make_pair(stage, QUICK)[:1]
        settle(QUICK, a)
        monkeypatch.setenv("SUDO_USER", "wanda")
        carp(a, "demote add new-kernel 3 --for 1h")
        monkeypatch.delenv("SUDO_USER")
        carp(a, "demote add backup 4")
        text = carp(a, "status")
        assert re.search(r"^carp0: demoted by 3: new-kernel \(by wanda, for .*, ends in 59 min .*\)$", text, re.MULTILINE), text
        assert re.search(r"^carp0: demoted by 4: backup \(by root, for [0-9.]+ s\)$", text, re.MULTILINE), text
        assert {one["name"]: one["owner"] for one in a.interface()["demotions"]} == {"new-kernel": "wanda", "backup": "root"}

    def test_it_moves_what_it_demotes(self, stage: Stage) -> None:
        """Only the demoted interface goes to the other host, with nobody answered by both; then it comes back."""
        a, b = make_pair(stage, USUAL)
        for host in (a, b):
            three_carps(host)
        settle(USUAL, a, b)
        shared = [carp.addresses[0] for carp in a.carps]
        with stage.prober(shared) as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = now_ns()
            carp(a, "demote add disk 1 --group carp1")
            prober.wait_for_owner("b", SLACK_S, ["192.0.2.101"])
            prober.wait_for_time(AFTER_S)
            carp(a, "demote remove disk")
            prober.wait_for_owner("a", patience_s(USUAL))
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        for address, trace in traces.items():
            moved = address == "192.0.2.101"
            assert owners(trace, trace.start, trace.end) == (["a", "b", "a"] if moved else ["a"])
            assert both_answered(trace) == 0
            if moved:
                print(f"longest gap {milliseconds(longest_gap_ns(trace, event))} ms")
                assert longest_gap_ns(trace, event) < 20 * MS + STALL_NS

    def test_it_ends_by_itself(self, stage: Stage) -> None:
        """A reason that was given for two seconds holds for two seconds; the host is MASTER again."""
        a, b = make_pair(stage, USUAL, preempt=True)
        settle(USUAL, a, b)
        with Events(a) as from_a:
            asked = now_ns()
            carp(a, "demote add short 10 --for 2s")
            began = from_a.demoted("carp0", SLACK_S, asked)
            b.wait_for_state("MASTER", SLACK_S)
            until(lambda: len(from_a.all(is_demotion("carp0"), asked)) > 1, SLACK_S, "the end of the demotion")
            ended = from_a.all(is_demotion("carp0"), asked)[1]
            assert ended.data["detail"].startswith("10 -> 0")
            # The daemon tells its time to the millisecond.
            assert 2 * SECOND_NS - 2 * MS <= ended.at - began < 2 * SECOND_NS + STALL_NS
        wait_settled(USUAL, a, b)
        assert carp(a, "demote list") == "nothing demotes this host\n"

    def test_given_again_it_replaces_the_former(self, stage: Stage) -> None:
        """The same name twice is one reason: the second amount, and no end where none is given."""
        (a,) = make_pair(stage, QUICK)[:1]
        settle(QUICK, a)
        carp(a, "demote add again 10 --for 1s")
        carp(a, "demote add again 4")
        assert counts(a) == {"carp0": 4}
        assert holds_for(lambda: counts(a) == {"carp0": 4}, 1.5, 0.05)


class TestOtherDialects:
    """A peer that does not read the demote byte."""

    @pytest.fixture
    def hosts(self, stage: Stage) -> tuple[Host, Host]:
        """Configure a, which shows its demotion in advskew too, and b, which behaves as FreeBSD does."""
        a, b = make_pair(stage, USUAL)
        a.configure([a.carps[0].but(extra={"demote-skew": True})], **a.global_keys)
        b.configure([b.carps[0].but(extra={"dialect": "freebsd"})], **b.global_keys)
        return a, b

    def test_what_is_on_the_wire(self, stage: Stage, hosts: tuple[Host, Host]) -> None:
        """While demoted: advskew 240 besides the demote byte, in both families; before and after, the configured advskew."""
        (a,) = hosts[:1]
        settle(USUAL, a)
        with Capture(a.port) as capture:
            for line, shown in (("demote add x 3", (240, 3)), ("demote remove x", (0, 0))):
                capture.frames()
                carp(a, line)
                # It is told at once, and so is each advertisement from then on.
                wanted = {(*shown, 4), (*shown, 6)}
                assert wanted <= set(wire(capture))
                assert next_on_wire(capture) == wanted

    def test_it_takes_over(self, stage: Stage, hosts: tuple[Host, Host]) -> None:
        """A preempting peer of another dialect becomes MASTER by the advskew alone, and gives it back."""
        a, b = hosts
        settle(USUAL, a, b)
        with stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            carp(a, "demote add x 1")
            prober.wait_for_owner("b", patience_s(USUAL))
            wait_settled(USUAL, b, a)
            prober.wait_for_time(1.5)
            carp(a, "demote remove x")
            prober.wait_for_owner("a", patience_s(USUAL))
            wait_settled(USUAL, a, b)
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        for trace in traces.values():
            assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
            assert both_answered(trace) == 0

    def test_without_demote_skew_it_takes_nothing(self, stage: Stage, hosts: tuple[Host, Host]) -> None:
        """The byte alone says nothing to it: a demoted host stays MASTER, and a switch says why it came to nothing."""
        a, b = hosts
        a.configure([a.carps[0].but(extra={})], **a.global_keys)
        settle(USUAL, a, b)
        carp(a, "demote add x 1")
        assert holds_for(lambda: (a.state_of(), b.state_of()) == ("MASTER", "BACKUP"), 2.5, 0.05)
        done = a.carp("switch", "carp0", "--timeout", "1")
        assert done.returncode == 1
        assert "needs demote-skew = true here" in done.stderr
        assert reasons(a) == ["x"]


def wire(capture: Capture) -> Iterator[tuple[int, int, int]]:
    """Return advskew, demote byte and family of the advertisements since the last call."""
    for frame in capture.frames(is_advertisement):
        family, start = (4, 34) if frame[12:14] == b"\x08\x00" else (6, 54)
        yield frame[start + 2], frame[start + 4], family


def next_on_wire(capture: Capture) -> set[tuple[int, int, int]]:
    """Wait for the next advertisements of both families, and return them so."""
    seen: set[tuple[int, int, int]] = set()

    def both() -> bool:
        seen.update(wire(capture))
        return {family for _, _, family in seen} == {4, 6}

    until(both, SLACK_S, "advertisements of both families")
    return seen


class TestSendErrors:
    def test_who_cannot_send_is_replaced_and_recovers(self, stage: Stage) -> None:
        """Every send fails on the MASTER's parent: it is demoted and replaced. When the parent sends again, the BACKUP finds
        out by itself within a few seconds, and takes its place back; nobody is answered by both.
        """
        a, b = make_pair(stage, USUAL)
        settle(USUAL, a, b)
        with Events(a) as from_a, stage.prober() as prober:
            prober.wait_for_owner("a", SLACK_S)
            event = a.port.refuse()
            prober.wait_for_owner("b", patience_s(USUAL))
            replaced = now_ns()
            wait_settled(USUAL, b, a)
            assert reasons(a) == [SEND_ERRORS]
            before = transitions(a), transitions(b)
            # As long as it cannot send it does not try to be MASTER.
            assert holds_for(lambda: a.state_of() == "BACKUP" and reasons(a) == [SEND_ERRORS], 4.0, 0.05)
            lifted = a.port.accept()
            a.wait_for(lambda status: not status["demotions"], SLACK_S, "its send errors to be over")
            recovered = now_ns()
            prober.wait_for_owner("a", patience_s(USUAL))
            wait_settled(USUAL, a, b)
            prober.wait_for_time(AFTER_S)
            traces = prober.stop()
        print(f"replaced after {milliseconds(replaced - event)} ms, recovered after {milliseconds(recovered - lifted)} ms")
        assert replaced - event < USUAL.crash.latest_ns + STALL_NS
        # Three good tries, one each second.
        assert recovered - lifted < 4 * SECOND_NS + STALL_NS
        assert (transitions(a), transitions(b)) == (before[0] + 1, before[1] + 1)
        assert from_a.states("carp0", event) == ["BACKUP", "MASTER"]
        for trace in traces.values():
            assert owners(trace, trace.start, trace.end) == ["a", "b", "a"]
            assert both_answered(trace) == 0

    def test_where_only_advertisements_fail_clients_do_not_notice(self, stage: Stage) -> None:
        """The host finds that it can send, tries again and fails again, ever more rarely; the other one goes on to serve."""
        a, b = make_pair(stage, USUAL)
        settle(USUAL, a, b)
        for number, program in enumerate(programs(Traffic.ADVERTISEMENTS), start=1):
            hook = f"filter add dev eth0 egress protocol all pref {number} bpf direct-action bytecode"
            a.namespace.run("tc", *hook.split(), program)
        b.wait_for_state("MASTER", patience_s(USUAL))
        with Events(a) as from_a, Events(b) as from_b, stage.prober() as prober:
            prober.wait_for_owner("b", SLACK_S)
            prober.wait_for_time(20.0)
            traces = prober.stop()
        print(f"a became {', '.join(from_a.states('carp0'))}")
        for trace in traces.values():
            assert owners(trace, trace.start, trace.end) == ["b"]
            assert longest_gap_ns(trace) < STALL_NS
        assert from_b.states("carp0") == []
        assert from_a.states("carp0").count("MASTER") <= 2

    def test_a_backup_without_a_peer_recovers_too(self, stage: Stage) -> None:
        """A host that is alone and cannot send goes on trying, and serves when it can."""
        (a,) = make_pair(stage, USUAL, Carp(addresses=SHARED[:1]))[:1]
        settle(USUAL, a)
        with stage.prober(SHARED[:1]) as prober:
            prober.wait_for_owner("a", SLACK_S)
            a.port.refuse()
            a.wait_for(lambda status: status["demotions"], patience_s(USUAL), "send errors to demote")
            prober.wait_for_owner(None, SLACK_S)
            a.port.accept()
            prober.wait_for_owner("a", SLACK_S)
        a.wait_for(lambda status: not status["demotions"], SLACK_S, "its send errors to be over")
        assert a.state_of() == "MASTER"


class TestAddresses:
    """Another link on the parent holds the virtual MAC, so that the kernel refuses to bring carp0 up."""

    @staticmethod
    def start_occupied(host: Host) -> None:
        """Start carpd and take the virtual MAC away from it at once: its own link is down while it is BACKUP."""
        host.start()
        host.namespace.ip(f"link add link eth0 name x0 address {virtual_mac(1)} type macvlan", "link set dev x0 up")

    def test_who_cannot_take_the_addresses_leaves_them_to_the_other(self, stage: Stage) -> None:
        """The better host tries once, is demoted and yields; the other one serves without a flap."""
        a, b = make_pair(stage, USUAL)
        self.start_occupied(a)
        b.start()
        with Events(b) as from_b:
            b.wait_for_state("MASTER", patience_s(USUAL))
            assert reasons(a) == ["carp0 addresses"]
            wait_settled(USUAL, b, a)
            assert holds_for(lambda: (a.state_of(), b.state_of()) == ("BACKUP", "MASTER"), 2.5, 0.05)
            assert from_b.states("carp0")[-1:] == ["MASTER"]
            assert from_b.states("carp0").count("MASTER") == 1

    def test_where_nobody_can_they_take_turns_slowly(self, stage: Stage) -> None:
        """Two hosts that both cannot do not drive each other: neither tries more than a few times in five seconds."""
        a, b = make_pair(stage, USUAL)
        for host in (a, b):
            self.start_occupied(host)
        with Events(a) as from_a, Events(b) as from_b:
            until(lambda: "MASTER" in from_a.states("carp0") + from_b.states("carp0"), patience_s(USUAL), "a try")
            begin = now_ns()
            until(lambda: now_ns() - begin > 5 * SECOND_NS, SLACK_S, "five seconds")
            tries = [one.states("carp0").count("MASTER") for one in (from_a, from_b)]
        print(f"tries in five seconds: {tries}")
        assert max(tries) <= 5
        assert [reasons(host) for host in (a, b)] == [["carp0 addresses"]] * 2
