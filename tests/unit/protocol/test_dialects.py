"""What differs between the dialects, as it shows from outside."""

import itertools

import pytest

from carp.protocol.actions import Reason, Send, Transition
from carp.protocol.demotion import Demotion
from carp.protocol.dialect import AUTO, DIALECTS, CounterRule
from carp.protocol.events import DemotionEnded, DemotionStarted, Shutdown
from carp.protocol.interval import skew_ns
from carp.protocol.packet import internet_checksum
from carp.protocol.values import Family, State
from carp.testing.bench import FIRST_COUNTER, Bench, advertisements, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP6, carp_interface
from carp.testing.packets import Peer

NAMES = list(DIALECTS)
BYTE = ["auto", "openbsd"]
SKEW = ["freebsd9", "freebsd6", "netbsd", "netbsd10", "dragonfly", "ucarp"]
TRIPLE = ["openbsd"]
IPV4, IPV6 = Family


def demote(bench, amount=1):
    """Demote the host on the bench."""
    return bench.feed(DemotionStarted(Demotion("test", amount, frozenset({"carp"}), "test", bench.now)))


def master(dialect, **settings):
    """Put a MASTER of a dialect on the bench."""
    bench = Bench(carp_interface(dialect=dialect, **settings))
    bench.wait_for(State.MASTER)
    bench.run_for(milliseconds(100))
    return bench


def backup(dialect, *, preempt=False, **settings):
    """Put a BACKUP of a dialect on the bench, and a peer on paper."""
    interface = carp_interface(dialect=dialect, **settings)
    return Bench(interface, preempt=preempt), Peer.of(interface)


def reason(actions):
    """Tell why the state changed, if it did."""
    changes = only(Transition, actions)
    return changes[0].reason if changes else None


def test_the_table_has_its_rows_by_name():
    """Each dialect is found under its name, and the four that may be configured are there."""
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
    assert {"auto", "openbsd", "freebsd", "netbsd", "ucarp"} <= set(DIALECTS)
    assert DIALECTS["auto"] is AUTO


class TestMasterDown:
    @pytest.mark.parametrize("name", NAMES)
    def test_formula(self, name):
        """OpenBSD waits 3 * (advbase + skew), all others 3 * advbase + skew."""
        bench, _ = backup(name, advbase=2, advskew=100)
        expected = 3 * (seconds(2) + skew_ns(100)) if name in TRIPLE else seconds(6) + skew_ns(100)
        assert bench.engine.next_deadline() - bench.now == expected

    @pytest.mark.parametrize("name", NAMES)
    def test_formula_at_advbase_0(self, name):
        """At advbase 0 everybody waits 3 * skew, at 0/0 three times 1/256 s."""
        assert backup(name, advbase=0, advskew=9)[0].engine.next_deadline() == backup(name)[0].now + 3 * skew_ns(9)
        assert backup(name, advbase=0)[0].engine.next_deadline() == backup(name)[0].now + 3 * skew_ns(1)

    @pytest.mark.parametrize("name", NAMES)
    def test_demotion_does_not_lengthen_it(self, name):
        """Demotion changes elections, not the patience of a BACKUP."""
        bench, _ = backup(name, advskew=100)
        before = bench.engine.next_master_down()
        demote(bench)
        bench.run_for(milliseconds(1))
        assert bench.engine.next_master_down() == before
        assert bench.vhost().timing == backup(name, advskew=100)[0].vhost().timing or name not in BYTE


class TestOneOrTwoTimers:
    def silent_ipv6(self, name, duration_ns):
        bench, peer = backup(name, addresses=DUAL_STACK)
        for _ in range(duration_ns // seconds(1)):
            bench.run_for(seconds(1))
            if bench.state() is State.BACKUP:
                bench.hear(peer.advertisement(IPV4), IPV4)
        return bench

    def test_auto_waits_for_both_families(self):
        """The dialect auto has one timer for a virtual host: one family alone keeps its MASTER alive."""
        assert self.silent_ipv6("auto", seconds(10)).state() is State.BACKUP

    @pytest.mark.parametrize("name", [name for name in NAMES if name != "auto"])
    def test_the_others_time_each_family(self, name):
        """The BSDs have a timer for each family: one family that is silent for the whole time means takeover."""
        assert self.silent_ipv6(name, seconds(3)).state() is State.MASTER

    @pytest.mark.parametrize("name", NAMES)
    def test_both_families_heard(self, name):
        """With both families heard nobody takes over."""
        bench, peer = backup(name, addresses=DUAL_STACK)
        for _ in range(8):
            bench.run_for(seconds(1))
            for family in Family:
                bench.hear(peer.advertisement(family), family)
        assert bench.state() is State.BACKUP


class TestDemotion:
    @pytest.mark.parametrize("name", BYTE)
    def test_in_the_demote_byte(self, name):
        """The dialects auto and OpenBSD show demotion in the demote byte, at once, and leave advskew alone."""
        bench = master(name, advskew=5)
        (shown,) = advertisements(demote(bench, 7))
        assert (shown.demote, shown.advskew, shown.advbase) == (7, 5, 1)

    @pytest.mark.parametrize("name", SKEW)
    def test_as_skew_240(self, name):
        """NetBSD, DragonFly, older FreeBSD and ucarp show advskew 240 while demoted, at once."""
        bench = master(name, advskew=5)
        (shown,) = advertisements(demote(bench, 7))
        assert (shown.demote, shown.advskew) == (0, 240)

    @pytest.mark.parametrize("name", SKEW)
    @pytest.mark.parametrize("advskew", [241, 254])
    def test_a_higher_skew_stays(self, name, advskew):
        """An advskew above 240 is shown as it is."""
        bench = master(name, advskew=advskew)
        assert advertisements(demote(bench))[0].advskew == advskew

    @pytest.mark.parametrize(("advskew", "amount", "shown"), [(5, 7, 12), (100, 240, 240), (0, 240, 240), (230, 10, 240)])
    def test_freebsd_adds_to_the_skew(self, advskew, amount, shown):
        """FreeBSD adds the demotion to advskew, and stops at 240."""
        bench = master("freebsd", advskew=advskew)
        assert advertisements(demote(bench, amount))[0].advskew == shown

    @pytest.mark.parametrize("advskew", [241, 254])
    def test_freebsd_never_shows_more_than_240(self, advskew):
        """FreeBSD shows a configured 241..254 as 240, demoted or not."""
        bench = Bench(carp_interface(dialect="freebsd", advskew=advskew))
        assert advertisements(bench.wait_for(State.MASTER))[0].advskew == 240

    def test_freebsd_negative_demotion(self):
        """A negative demotion makes nothing faster than advskew 0."""
        bench = master("freebsd", advskew=5)
        demote(bench, -100)
        assert advertisements(bench.run_for(seconds(3)))[0].advskew == 5

    @pytest.mark.parametrize("name", NAMES)
    def test_end_of_demotion_shows_at_once(self, name):
        """When the last reason ends the MASTER says so at once."""
        bench = master(name, advskew=5)
        demote(bench)
        (shown,) = advertisements(bench.feed(DemotionEnded("test")))
        assert (shown.demote, shown.advskew) == (0, 5)

    @pytest.mark.parametrize("name", [name for name in NAMES if name not in BYTE])
    def test_demote_byte_is_pad_to_the_others(self, name):
        """Only OpenBSD and auto read the demote byte: to the others it is padding."""
        bench, peer = backup(name, advskew=100)
        assert reason(bench.hear(peer.advertisement(demote=255))) is None

    @pytest.mark.parametrize("name", [*SKEW, "freebsd"])
    def test_demoted_skew_counts_in_elections(self, name):
        """A demoted host compares with the advskew that it shows: it neither preempts nor stays MASTER against a faster one."""
        bench, peer = backup(name, preempt=True, advskew=5)
        demote(bench, 240)
        assert reason(bench.hear(peer.advertisement(advskew=6))) is None
        bench = master(name, advskew=5)
        demote(bench, 240)
        assert reason(bench.hear(peer.advertisement(advskew=6))) is Reason.FASTER_MASTER

    @pytest.mark.parametrize("name", [*SKEW, "freebsd"])
    def test_demoted_skew_lengthens_the_interval(self, name):
        """A demoted MASTER of these dialects advertises at the interval that it shows."""
        bench = master(name)
        demote(bench, 240)
        bench.run_for(seconds(4))
        due = bench.engine.next_deadline()
        bench.run_until(due)
        assert bench.engine.next_deadline() - due == seconds(1) + skew_ns(240)


class TestDemoteSkew:
    def shown(self, *, demote_skew, advbase, advskew=5):
        bench = master("auto", advbase=advbase, advskew=advskew, demote_skew=demote_skew)
        return advertisements(demote(bench, 3))[0]

    def test_off(self):
        """Without demote_skew auto shows its demotion in the byte alone."""
        assert (self.shown(demote_skew=False, advbase=1).advskew, self.shown(demote_skew=False, advbase=1).demote) == (5, 3)

    @pytest.mark.parametrize("advbase", [1, 2])
    def test_on(self, advbase):
        """With demote_skew auto shows advskew 240 besides, for peers that do not know the byte."""
        shown = self.shown(demote_skew=True, advbase=advbase)
        assert (shown.advskew, shown.demote) == (240, 3)

    def test_not_at_advbase_0(self):
        """At advbase 0 a skew of 240 would be a second: it is not shown."""
        assert self.shown(demote_skew=True, advbase=0).advskew == 5

    def test_higher_skew_stays(self):
        """An advskew above 240 is not made smaller."""
        assert self.shown(demote_skew=True, advbase=1, advskew=250).advskew == 250


class TestBowOut:
    SENDS = ("auto", "openbsd", "freebsd9", "freebsd6", "netbsd", "netbsd10", "dragonfly")

    @pytest.mark.parametrize("name", NAMES)
    def test_who_bows_out(self, name):
        """All but FreeBSD since 10 and ucarp bow out when they stop."""
        sent = advertisements(master(name).feed(Shutdown()))
        assert [one.is_bow_out for one in sent] == ([True] if name in self.SENDS else [])

    @pytest.mark.parametrize("name", SENDS)
    def test_demote_byte_of_a_bow_out(self, name):
        """The bow-out of auto carries demote 255, that of OpenBSD its demote count, the others' 0."""
        bench = master(name)
        demote(bench, 3)
        (sent,) = advertisements(bench.feed(Shutdown()))
        assert sent.demote == {"auto": 255, "openbsd": 3}.get(name, 0)

    @pytest.mark.parametrize("name", NAMES)
    def test_heard_at_advbase_1(self, name):
        """Everybody takes over at once from a MASTER that bows out."""
        bench, peer = backup(name, advskew=200)
        bench.hear(peer.bow_out())
        assert bench.state() is State.MASTER

    @pytest.mark.parametrize("name", NAMES)
    def test_heard_at_advbase_0(self, name):
        """At advbase 0 only auto hears a bow-out as one; the others restart their timer."""
        bench, peer = backup(name, advbase=0, advskew=60)
        bench.hear(peer.bow_out())
        assert (bench.state() is State.MASTER) == (name == "auto")

    @pytest.mark.parametrize("name", BYTE)
    def test_demoted_bow_out_at_advbase_0(self, name):
        """A bow-out with demote 255 is heard at advbase 0 by OpenBSD too, as more demoted."""
        bench, peer = backup(name, advbase=0, advskew=60)
        bench.hear(peer.bow_out(demote=255))
        assert bench.state() is State.MASTER

    @pytest.mark.parametrize("name", NAMES)
    def test_both_families_bow_out(self, name):
        """A bow-out goes out in each family that has an address."""
        sent = only(Send, master(name, addresses=DUAL_STACK).feed(Shutdown()))
        assert [one.family for one in sent] == (list(Family) if name in self.SENDS else [])


class TestCounters:
    def counters(self, bench, duration_ns=5_000_000_000):
        return [int.from_bytes(one.counter) for one in advertisements(bench.run_for(duration_ns))]

    def test_auto_counts_by_itself(self):
        """The counter of auto begins where it is told and rises by one with each advertisement and family."""
        bench = Bench(carp_interface(addresses=DUAL_STACK))
        counters = self.counters(bench)
        assert counters == list(range(FIRST_COUNTER, FIRST_COUNTER + len(counters)))

    def test_auto_never_adopts_a_peers_counter(self):
        """What a peer counts has no influence."""
        bench, peer = backup("auto")
        bench.hear(peer.advertisement())
        bench.hear(peer.bow_out())
        counters = self.counters(bench)
        assert min(counters) > FIRST_COUNTER
        assert max(counters) < FIRST_COUNTER + 100

    def test_counter_is_shared_by_all_virtual_hosts(self):
        """No two advertisements of one host carry the same counter."""
        bench = Bench(carp_interface(), carp_interface("carp1", 2))
        counters = self.counters(bench)
        assert len(counters) == len(set(counters)) > 4

    def test_counter_wraps(self):
        """After 2^64 - 1 comes 0."""
        bench = Bench(carp_interface(), counter_start=2**64 - 1)
        assert self.counters(bench)[:2] == [2**64 - 1, 0]

    def test_openbsd_sends_a_cookie(self):
        """OpenBSD draws its counter once, never 0, and sends it for ever, in both families."""
        cookies = set()
        for seed in range(5):
            bench = Bench(carp_interface(dialect="openbsd", addresses=DUAL_STACK), seed=seed)
            (cookie,) = set(self.counters(bench))
            cookies.add(cookie)
        assert len(cookies) == 5
        assert 0 not in cookies

    @pytest.mark.parametrize("name", [name for name in NAMES if DIALECTS[name].counter is CounterRule.FOLLOW])
    def test_followers_are_random_until_they_heard_somebody(self, name):
        """Until a valid advertisement was received each one sent has a random counter."""
        counters = self.counters(Bench(carp_interface(dialect=name)))
        assert len({following - counter for counter, following in itertools.pairwise(counters)}) > 1

    @pytest.mark.parametrize("name", [name for name in NAMES if DIALECTS[name].counter is CounterRule.FOLLOW])
    def test_followers_go_on_from_what_they_heard(self, name):
        """After one was received each counter is the last one received or sent plus one."""
        bench, peer = backup(name)
        bench.hear(peer.advertisement())
        heard = peer.counter - 1
        counters = self.counters(bench, seconds(6))
        assert counters == list(range(heard + 1, heard + 1 + len(counters)))
        assert len(counters) > 2

    def test_followers_wrap(self):
        """After a received 2^64 - 1 comes 0."""
        bench, peer = backup("netbsd")
        peer.counter = 2**64 - 1
        bench.hear(peer.advertisement())
        assert self.counters(bench)[0] == 0

    def test_followers_ignore_what_does_not_authenticate(self):
        """A counter under a wrong digest is not adopted."""
        bench, peer = backup("netbsd")
        bench.hear(peer.advertisement())
        good = peer.counter
        peer.key = bytes(20)
        peer.counter = 5
        bench.hear(peer.advertisement())
        assert self.counters(bench)[0] == good


class TestChecksum:
    @pytest.mark.parametrize("name", NAMES)
    def test_over_ipv6(self, name):
        """Only NetBSD since 10 sums the pseudo header; everybody takes both forms."""
        bench = Bench(carp_interface(dialect=name, addresses=(VIP6,)))
        (send, *_) = only(Send, bench.wait_for(State.MASTER))
        assert (internet_checksum(send.packet[40:]) == 0) == (name != "netbsd10")
        for pseudo in (False, True):
            listener, peer = backup(name, addresses=(VIP6,))
            listener.hear(peer.advertisement(IPV6, pseudo=pseudo), IPV6)
            assert listener.vhost().known_masters
