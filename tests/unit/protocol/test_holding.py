"""A carp interface of several virtual hosts: when it has its addresses, and whose share of the traffic is open."""

import pytest

from carp.protocol.actions import Announce, CloseFence, Note, Notice, Prepare, Reason, Release, Send, SetMask, Take, Transition
from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionStarted, Forced, Prepared, Shutdown, Stalled, TakeFailed, Taken
from carp.protocol.health import TAKE_FAILED_DEMOTION_NS
from carp.protocol.parameters import Balancing, Node
from carp.protocol.values import State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP4, address, carp_interface, parent_down, parent_up, station_peers
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

EXTRA = address("192.0.2.101/24")
NODES = (Node(3), Node(4, 100), Node(7, 200))
VHIDS = [node.vhid for node in NODES]
INIT, BACKUP, MASTER = State.INIT, State.BACKUP, State.MASTER
MODES = [Balancing.ARP, Balancing.IP, Balancing.IP_STEALTH, Balancing.IP_UNICAST]


def balanced(**settings):
    """Make the carp interface of this file."""
    return carp_interface(**{"nodes": NODES, **settings})


def states(bench):
    """Tell the states of the virtual hosts, the leader's first."""
    return [bench.state(vhid) for vhid in VHIDS]


def masters(*vhids, **settings):
    """Put a host on the bench on which these virtual hosts are MASTER and the others BACKUP, all by peers' words."""
    bench = Bench(balanced(**settings))
    for vhid in vhids:
        bench.hear(Peer.of(balanced(**settings), vhid).bow_out())
    assert states(bench) == [MASTER if vhid in vhids else BACKUP for vhid in VHIDS]
    return bench


def kinds(actions, *wanted):
    """Name the actions of these kinds, in order."""
    return [type(action) for action in actions if isinstance(action, wanted)]


def opened(actions):
    """Tell the vhids whose advertisements open the fence."""
    return {send.vhid for send in only(Send, actions) if send.holds_ns}


class TestTaking:
    def test_with_the_first_that_runs(self):
        """The addresses are taken once, when the first virtual host leaves INIT, although nobody is MASTER yet."""
        bench = Bench(balanced(addresses=DUAL_STACK))
        assert states(bench) == [BACKUP] * 3
        assert only(Take, bench.actions) == [Take("carp0", DUAL_STACK)]

    def test_not_before(self):
        """While the parent is down nothing is taken; with the parent up it is."""
        bench = Bench()
        bench.feed(parent_down())
        assert only(Take, bench.reconfigure(balanced())) == []
        assert len(only(Take, bench.feed(parent_up()))) == 1

    def test_released_with_the_last(self):
        """They are released once, after the last virtual host went back to INIT and everything was closed."""
        bench = masters(3, 7)
        actions = bench.feed(parent_down())
        assert states(bench) == [INIT] * 3
        assert kinds(actions, Take, Release, Transition, CloseFence)[-1] is Release
        assert only(Release, actions) == [Release("carp0")]

    def test_taken_again_after_a_release(self):
        """With the parent up again they are taken again."""
        bench = masters(3)
        bench.feed(parent_down())
        assert len(only(Take, bench.feed(parent_up()))) == 1

    def test_a_promotion_takes_nothing(self):
        """A virtual host that becomes MASTER finds the addresses set."""
        bench = masters()
        assert only(Take, bench.run_for(seconds(10))) == []
        assert states(bench) == [MASTER] * 3

    def test_who_yields_releases_nothing(self):
        """One that yields, the last MASTER too, leaves the addresses where they are."""
        bench = masters(4)
        actions = bench.hear(Peer(4).advertisement())
        assert states(bench) == [BACKUP] * 3
        assert only(Release, actions) == []

    @pytest.mark.parametrize("peers", [(), station_peers(1, 2)], ids=["group", "peers"])
    @pytest.mark.parametrize("mode", MODES)
    def test_nothing_is_announced(self, mode, peers):
        """In no mode, by no way of advertising, is an address announced: not when taken, in time, spoken against or changed."""
        settings = {"balancing": mode, "peers": peers}
        bench = Bench(balanced(**settings))
        bench.run_for(seconds(200))
        bench.hear(Peer(3).bow_out())
        bench.hear(Peer(3).advertisement(advskew=254))
        bench.reconfigure(balanced(addresses=(VIP4, EXTRA), **settings))
        bench.run_for(seconds(5))
        assert states(bench) == [MASTER] * 3
        assert only(Announce, bench.actions) == []


class TestTakeFails:
    def failed(self, *vhids):
        bench = masters(*vhids)
        return bench, bench.feed(TakeFailed("carp0", "no"))

    def test_all_yield(self):
        """Every MASTER closes its share, bows out and yields; the BACKUPs stay."""
        bench, actions = self.failed(3, 7)
        assert states(bench) == [BACKUP] * 3
        assert [one.vhid for one in only(CloseFence, actions)] == [3, 7]
        assert [sent.vhid for sent in advertisements(actions) if sent.is_bow_out] == [3, 7]
        assert {change.reason for change in only(Transition, actions)} == {Reason.TAKE_FAILED}
        assert only(SetMask, actions)[-1].mask == 0

    def test_all_are_demoted(self):
        """The host is demoted, so that no virtual host here replaces a healthy one, and not for ever."""
        bench, _ = self.failed(3)
        assert bench.interface().demote == 1
        for _ in range(TAKE_FAILED_DEMOTION_NS // seconds(1)):
            for vhid in VHIDS:
                bench.hear(Peer(vhid).advertisement(advskew=254))
            bench.run_for(seconds(1))
        assert bench.interface().demote == 0

    def test_nobody_replaces_one_that_bows_out(self):
        """For a master-down time no virtual host here, not even one that was BACKUP, follows another that bows out."""
        bench, _ = self.failed(3)
        for vhid in VHIDS:
            bench.hear(Peer(vhid).bow_out())
        assert states(bench) == [BACKUP] * 3

    def test_taken_again_by_the_next_master(self):
        """They are taken again when a virtual host becomes MASTER, and not before."""
        bench, _ = self.failed(3)
        actions = bench.run_for(seconds(2.9))
        assert (only(Take, actions), states(bench)) == ([], [BACKUP] * 3)
        actions = bench.wait_for(MASTER, 3)
        assert only(Take, actions) == [Take("carp0", (VIP4,))]
        assert bench.interface().demote == 0

    def test_once(self):
        """Taken again with success, the next MASTER finds them set."""
        bench, _ = self.failed(3)
        bench.wait_for(MASTER, 3)
        assert only(Take, bench.run_for(seconds(2))) == []
        assert states(bench) == [MASTER] * 3

    def test_at_the_first_time(self):
        """A first take that fails leaves all BACKUP and demotes; the first MASTER tries again."""
        bench = Bench(balanced(), answers=False)
        actions = bench.feed(TakeFailed("carp0", "no"))
        assert (only(Transition, actions), bench.interface().demote) == ([], 1)
        assert len(only(Take, bench.wait_for(MASTER, 3))) == 1

    def test_every_time(self):
        """As long as it fails no virtual host stays MASTER."""
        bench = Bench(balanced(), answers=False)
        for _ in range(20):
            actions = bench.run_for(seconds(0.5))
            if only(Take, actions):
                bench.feed(TakeFailed("carp0", "no"))
                assert MASTER not in states(bench)
        assert bench.engine.statistics.became_master > 3


class TestReload:
    @pytest.mark.parametrize("vhids", [(), (3,), (4,)], ids=["backup", "leader", "follower"])
    def test_other_addresses(self, vhids):
        """Other addresses are taken at once, whoever is MASTER, and no state changes."""
        bench = masters(*vhids)
        actions = bench.reconfigure(balanced(addresses=(VIP4, EXTRA)))
        assert only(Take, actions) == [Take("carp0", (VIP4, EXTRA))]
        assert (only(Transition, actions), only(Release, actions)) == ([], [])

    def test_other_addresses_that_fail(self):
        """Where those cannot be taken every MASTER yields."""
        bench = masters(3, 4)
        bench.answers = False
        bench.reconfigure(balanced(addresses=(VIP4, EXTRA)))
        bench.feed(TakeFailed("carp0", "no"))
        assert states(bench) == [BACKUP] * 3

    def test_other_addresses_while_nobody_runs(self):
        """In INIT nothing is taken; what is configured then is taken when the parent is up."""
        bench = masters()
        bench.feed(parent_down())
        assert only(Take, bench.reconfigure(balanced(addresses=(EXTRA,)))) == []
        assert only(Take, bench.feed(parent_up())) == [Take("carp0", (EXTRA,))]

    def test_last_address_and_first(self):
        """Without any address nobody runs and nothing is held; with the first one all begin."""
        bench = masters(3)
        assert len(only(Release, bench.reconfigure(balanced(addresses=())))) == 1
        assert states(bench) == [INIT] * 3
        assert only(Take, bench.reconfigure(balanced())) == [Take("carp0", (VIP4,))]

    @pytest.mark.parametrize(
        "changed",
        [{"nodes": (*NODES, Node(9))}, {"nodes": NODES[1:]}, {"balancing": Balancing.IP_STEALTH}],
        ids=["one more", "one less", "balancing"],
    )
    def test_another_interface(self, changed):
        """Another list of virtual hosts or another mode makes it anew: all bow out, it is released, and then taken again."""
        bench = masters(3, 4, addresses=DUAL_STACK)
        actions = bench.reconfigure(balanced(addresses=DUAL_STACK, **changed))
        assert {sent.vhid for sent in advertisements(actions) if sent.is_bow_out} == {3, 4}
        assert kinds(actions, Take, Release) == [Release, Take]
        assert {vhost.state for vhost in bench.interface().vhosts} == {BACKUP}
        assert only(SetMask, actions)[-1].mask == 0

    @pytest.mark.parametrize("former", [(Node(3),), NODES], ids=["one to several", "several to one"])
    def test_between_one_and_several(self, former):
        """Between one virtual host and several it is another interface, which holds its addresses by the other rule."""
        later = NODES if len(former) == 1 else (Node(3),)
        bench = Bench(carp_interface(nodes=former))
        bench.wait_for(MASTER, 3)
        assert len(only(Release, actions := bench.reconfigure(carp_interface(nodes=later)))) == 1
        assert len(only(Take, actions)) == (1 if len(later) > 1 else 0)

    def test_other_advskews_change_nothing_here(self):
        """Other advskews of the same virtual hosts take nothing and cost no mastership."""
        bench = masters(3, 4)
        actions = bench.reconfigure(balanced(nodes=(Node(3, 50), Node(4), Node(7))))
        assert kinds(actions, Take, Release, Transition, SetMask) == []

    def test_removed(self):
        """Of an interface that is removed every MASTER bows out, then it is released."""
        actions = masters(4, 7).reconfigure()
        assert kinds(actions, Send, Release) == [Send, Send, Release]


class TestMask:
    def test_follows_every_change(self):
        """Each change of the set of MASTERs is told, by rank, and nothing else is."""
        bench = Bench(balanced())
        peers = {vhid: Peer(vhid) for vhid in VHIDS}
        for vhid in (7, 3):
            bench.hear(peers[vhid].bow_out())
        bench.hear(peers[7].advertisement())
        bench.run_for(milliseconds(500))
        bench.feed(parent_down())
        assert [one.mask for one in only(SetMask, bench.actions)] == [0b100, 0b101, 0b001, 0b000]

    def test_closed_before_it_is_cleared(self):
        """The share of one that yields is closed by its fence first."""
        actions = masters(3, 4).hear(Peer(4).advertisement(advskew=0))
        assert [one for one in actions if isinstance(one, (CloseFence, SetMask))] == [
            CloseFence("carp0", 4),
            SetMask("carp0", 1),
        ]


class TestShares:
    def test_open_with_the_advertisement(self):
        """A MASTER's own advertisement opens its share, and nobody else's."""
        bench = masters()
        assert opened(bench.hear(Peer(4).bow_out())) == {4}

    def test_preempted_share_opens_later(self):
        """Who replaces a MASTER that lives gives it time to yield: its share opens a moment later, the others stay open."""
        bench = Bench(balanced(), preempt=True)
        bench.hear(Peer(7).bow_out())
        actions = bench.hear(Peer(3).advertisement(advskew=100))
        assert (states(bench), opened(actions)) == ([MASTER, BACKUP, MASTER], set())
        assert only(CloseFence, actions) == []
        assert opened(bench.run_for(milliseconds(20))) == {3}

    def test_forced_to_yield(self):
        """Forced to BACKUP, every virtual host yields, as the leader's state is the one that is compared."""
        bench = masters(3, 7)
        actions = bench.feed(Forced("carp0", BACKUP))
        assert states(bench) == [BACKUP] * 3
        assert [one.vhid for one in only(CloseFence, actions)] == [3, 7]
        assert only(Release, actions) == []

    def test_forced_to_take_over(self):
        """Forced to MASTER, every virtual host is MASTER and opens its share; the addresses are there."""
        bench = masters(7)
        actions = bench.feed(Forced("carp0", MASTER))
        assert states(bench) == [MASTER] * 3
        assert (opened(actions), only(Take, actions)) == ({3, 4}, [])

    def test_forced_as_the_leader_is(self):
        """Forced to what the leader is already, no virtual host changes."""
        bench = masters(3)
        assert bench.feed(Forced("carp0", MASTER)) == []

    def test_shutdown(self):
        """At the end every MASTER closes its share and bows out, and then the addresses are released once."""
        bench = masters(3, 7)
        actions = bench.feed(Shutdown())
        assert kinds(actions, CloseFence, Send, Release) == [CloseFence, Send, CloseFence, Send, Release]
        assert [(sent.vhid, sent.is_bow_out) for sent in advertisements(actions)] == [(3, True), (7, True)]
        assert opened(actions) == set()

    def test_stall(self):
        """A host that slept too long closes all its shares without a word, and keeps the addresses."""
        bench = masters(3, 7)
        actions = bench.feed(Stalled(seconds(10)))
        assert states(bench) == [BACKUP] * 3
        assert [one.vhid for one in only(CloseFence, actions)] == [3, 7]
        assert kinds(actions, Send, Release, Take) == []

    def test_short_stall(self):
        """One that slept for less than its peers wait closes nothing."""
        assert masters(3, 7).feed(Stalled(milliseconds(900))) == []

    def test_a_dead_hosts_share_on_a_lan(self):
        """Of two hosts one dies: its share falls silent, then the other one serves both; its own is never interrupted."""
        lan = VirtualLan()
        for name, skews in (("a", (0, 100)), ("b", (100, 0))):
            lan.add(name, carp_interface(nodes=(Node(1, skews[0]), Node(2, skews[1]))), preempt=True)
        lan.run_for(seconds(8))
        assert (lan.servers(1), lan.servers(2)) == ({"a"}, {"b"})
        lan.kill("a")
        lan.run_for(seconds(5))
        assert (lan.servers(1), lan.servers(2), lan.holders(VIP4)) == ({"b"}, {"b"}, {"b"})
        former, later = (one for one in lan.history.shares if one.vhid == 1)
        assert 0 < later.begin - former.end < seconds(2)
        assert len([one for one in lan.history.shares if (one.station, one.vhid) == ("b", 2)]) == 1


class TestStage:
    """Each virtual host runs its own pre-master stage; its share is closed until it is over."""

    def promoted(self, vhid=4):
        bench = Bench(balanced(pre_master=True), answers=False)
        bench.feed(Taken("carp0"))
        actions = bench.hear(Peer(vhid).bow_out())
        (stage,) = only(Prepare, actions)
        assert (bench.state(vhid), stage.vhid) == (MASTER, vhid)
        return bench, stage, actions

    def test_addresses_do_not_wait(self):
        """The addresses are taken before any stage: behind closed shares they do nothing."""
        assert len(only(Take, Bench(balanced(pre_master=True)).actions)) == 1

    def test_closed_until_it_is_over(self):
        """What a new MASTER advertises during the stage opens nothing: not at once, not in time, not for another reason."""
        bench, _, actions = self.promoted()
        actions += bench.run_for(seconds(1.9))
        actions += bench.feed(DemotionStarted(Demotion("test", 1, frozenset({"carp"}), "test", bench.now)))
        actions += bench.hear(Peer(4).advertisement(advskew=254, demote=2))
        assert len([one for one in only(Send, actions) if one.vhid == 4]) >= 4
        assert opened(actions) == set()

    def test_opened_by_the_advertisement_after_it(self):
        """When it is over an advertisement opens the share at once."""
        bench, stage, _ = self.promoted()
        assert opened(bench.feed(Prepared("carp0", 4, stage.serial))) == {4}
        assert opened(bench.run_for(seconds(1.5))) == {4}

    def test_anothers_stage(self):
        """The stage of another virtual host opens nothing, though its number be the same."""
        bench, stage, _ = self.promoted()
        bench.hear(Peer(7).bow_out())
        assert opened(bench.feed(Prepared("carp0", 7, stage.serial))) == {7}
        assert opened(bench.run_for(seconds(2))) == {7}

    def test_before_a_preemption(self):
        """Where a MASTER lives the stage runs first; then it is preempted, and the share opens after its time to yield."""
        bench = Bench(balanced(pre_master=True), preempt=True, answers=False)
        peer = Peer(4, advskew=200)
        (stage,) = only(Prepare, bench.hear(peer.advertisement()))
        assert (stage.vhid, bench.state(4)) == (4, BACKUP)
        assert bench.feed(Prepared("carp0", 4, stage.serial)) == []
        actions = bench.hear(peer.advertisement())
        assert (bench.state(4), opened(actions)) == (MASTER, set())
        assert opened(bench.run_for(milliseconds(20))) == {4}

    def test_over_before_the_master_goes(self):
        """A stage that is over already lets the share open with the first advertisement."""
        bench = Bench(balanced(pre_master=True), preempt=True, answers=False)
        peer = Peer(4, advskew=200)
        (stage,) = only(Prepare, bench.hear(peer.advertisement()))
        bench.feed(Prepared("carp0", 4, stage.serial))
        actions = bench.hear(peer.bow_out())
        assert (only(Prepare, actions), only(Send, actions)[0].holds_ns > 0) == ([], True)

    def test_who_yields_meanwhile(self):
        """One that yields during its stage opens nothing when that is over, and runs another the next time."""
        bench, stage, _ = self.promoted()
        bench.hear(Peer(4).advertisement(advskew=0))
        assert bench.feed(Prepared("carp0", 4, stage.serial)) == []
        assert len(only(Prepare, bench.hear(Peer(4).bow_out()))) == 1

    @pytest.mark.parametrize("how", ["bowed out", "preempted"])
    def test_configured_on_a_master(self, how):
        """A stage that is configured while a virtual host is MASTER is for its next takeover: its share stays open."""
        bench = Bench(balanced(), preempt=True)
        bench.hear(Peer(4).bow_out() if how == "bowed out" else Peer(4).advertisement(advskew=254))
        bench.reconfigure(balanced(pre_master=True))
        actions = bench.run_for(seconds(2.9))
        first, *later = [one for one in only(Send, actions) if one.vhid == 4]
        assert only(Prepare, actions) == []
        assert first.holds_ns > 0 or how == "preempted"
        assert later
        assert all(one.holds_ns for one in later)

    def test_no_longer_configured(self):
        """A stage that is configured no more while it runs keeps the share closed for one interval at most."""
        bench, _, _ = self.promoted()
        bench.reconfigure(balanced())
        assert opened(bench.run_for(seconds(1.5))) == {4}

    def test_on_a_lan(self):
        """A better host comes back with a slow stage: the other serves its share until then, and at no moment do both."""
        lan = VirtualLan()
        lan.add("b", carp_interface(nodes=(Node(1, 100), Node(2))), preempt=True)
        lan.run_for(seconds(5))
        slow = lan.add("a", carp_interface(nodes=(Node(1), Node(2, 100)), pre_master=True), preempt=True)
        slow.hardware.stage_ns = seconds(3)
        lan.run_for(seconds(2.9))
        assert (lan.servers(1), lan.servers(2)) == ({"b"}, {"b"})
        lan.run_for(seconds(4))
        assert (lan.servers(1), lan.servers(2)) == ({"a"}, {"b"})
        assert list(lan.history.shared_twice(1)) == []

    def test_reassertion_waits_too(self):
        """Who is worse is told during the stage as well, but that opens nothing and says nothing of addresses."""
        bench, _, _ = self.promoted()
        actions = bench.hear(Peer(4).advertisement(advskew=254))
        assert (opened(actions), [one for one in only(Notice, actions) if one.note is Note.REASSERTED]) == (set(), [])
