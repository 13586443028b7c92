"""Advertisements that cannot be sent: they demote, and what ends that does not depend on being MASTER."""

import errno
from ipaddress import ip_address

import pytest

from carp.protocol.actions import Note, Probe, Send
from carp.protocol.events import Probed, Sent
from carp.protocol.health import FIRST_HOLD_NS, PROBE_EVERY_NS, RELAPSE_NS
from carp.protocol.parameters import Node
from carp.protocol.values import Family, State
from carp.testing.bench import Bench, advertisements, only
from carp.testing.clock import seconds
from carp.testing.hosts import VIP4, carp_interface, parent_down, station_peers
from carp.testing.lan import VirtualLan
from carp.testing.packets import Peer

IPV4 = Family.IPV4


def unanswered(**settings):
    """Put a host on the bench whose takes and sends are answered by the test."""
    return Bench(carp_interface(**settings), answers=False)


class TestSendErrors:
    def report(self, bench, *results):
        return [
            action for failed in results for action in bench.feed(Sent("carp0", 1, IPV4, errno.ENETDOWN if failed else None))
        ]

    def test_three_in_a_row_demote(self):
        """Three failed sends in a row demote by one; the MASTER tells it at once."""
        bench = unanswered()
        bench.wait_for(State.MASTER)
        assert only(Send, self.report(bench, True, True)) == []
        assert bench.interface().demote == 0
        actions = self.report(bench, True)
        assert [sent.demote for sent in advertisements(actions)] == [1]

    def test_a_success_between_starts_over(self):
        """A send that succeeds in between starts the count over."""
        bench = unanswered()
        self.report(bench, True, True, False, True, True)
        assert bench.interface().demote == 0

    def test_three_successes_undo_it(self):
        """Three sends in a row that succeed end the demotion; a failure between starts that count over."""
        bench = unanswered()
        self.report(bench, True, True, True, False, False, True, False, False)
        assert bench.interface().demote == 1
        self.report(bench, False)
        assert bench.interface().demote == 0

    def test_a_backup_probes(self):
        """A BACKUP sends nothing that could succeed: each second it asks for its MASTER, and three good probes end it."""
        bench, peer = unanswered(), Peer.of(carp_interface())
        bench.hear(peer.advertisement())
        self.report(bench, True, True, True)
        for _ in range(3):
            assert bench.interface().demote == 1
            (probe,) = only(Probe, bench.run_for(PROBE_EVERY_NS))
            assert (probe.interface, probe.target) == ("carp0", ip_address(peer.sources[IPV4]))
            bench.feed(Probed("carp0"))
            bench.hear(peer.advertisement())
        assert bench.interface().demote == 0
        assert only(Probe, bench.run_for(PROBE_EVERY_NS)) == []

    def test_probes_that_fail(self):
        """While probes fail the demotion stays, and a failure among good ones starts their count over."""
        bench = unanswered()
        self.report(bench, True, True, True)
        for error in (errno.ENETDOWN, None, None, errno.ENETDOWN, None, None):
            bench.feed(Probed("carp0", error))
            assert bench.interface().demote == 1
        bench.feed(Probed("carp0"))
        assert bench.interface().demote == 0

    def test_a_master_does_not_probe(self):
        """A MASTER sees whether its advertisements are sent; a probe that succeeds beside them would say nothing."""
        bench = unanswered()
        bench.wait_for(State.MASTER)
        self.report(bench, True, True, True)
        assert only(Probe, bench.run_for(5 * PROBE_EVERY_NS)) == []

    def test_without_a_master_it_asks_for_the_shared_address(self):
        """Where no MASTER was heard, the shared address is asked for; without a link nothing is."""
        bench = unanswered(advskew=254, advbase=10)
        self.report(bench, True, True, True)
        assert [probe.target for probe in only(Probe, bench.run_for(PROBE_EVERY_NS))] == [VIP4.ip]
        bench.feed(parent_down())
        assert only(Probe, bench.run_for(3 * PROBE_EVERY_NS)) == []

    def test_a_relapse_holds_longer(self):
        """Errors that come back within a minute demote for eight seconds at least, the next ones for twice as long."""
        bench = unanswered(advbase=100)
        self.report(bench, True, True, True, False, False, False)
        for hold_ns in (FIRST_HOLD_NS, 2 * FIRST_HOLD_NS):
            self.report(bench, True, True, True)
            bench.run_for(hold_ns - 1)
            self.report(bench, False, False, False)
            assert bench.interface().demote == 1
            bench.run_for(1)
            self.report(bench, False, False, False)
            assert bench.interface().demote == 0
        bench.run_for(RELAPSE_NS)
        self.report(bench, True, True, True, False, False, False)
        assert bench.interface().demote == 0

    def test_more_failures_demote_no_further(self):
        """However many sends fail, the demotion is one."""
        bench = unanswered()
        self.report(bench, *[True] * 20)
        assert bench.interface().demote == 1

    def test_limit_grows_with_the_nodes(self):
        """With n virtual hosts on an interface it takes 3 * n failures, and as many successes."""
        bench = unanswered(nodes=(Node(1), Node(2)))
        self.report(bench, *[True] * 5)
        assert bench.interface().demote == 0
        self.report(bench, True)
        assert bench.interface().demote == 1
        self.report(bench, *[False] * 5)
        assert bench.interface().demote == 1
        self.report(bench, False)
        assert bench.interface().demote == 0

    @pytest.mark.parametrize(("error", "no_memory"), [(errno.ENOBUFS, 1), (errno.ENOMEM, 1), (errno.ENETDOWN, 0)])
    def test_counted(self, error, no_memory):
        """A failure is counted and told; lack of memory has its own counter besides."""
        bench = unanswered()
        (notice,) = bench.feed(Sent("carp0", 1, IPV4, error))
        assert notice.note is Note.SEND_FAILED
        statistics = bench.engine.statistics
        assert (statistics.send_errors, statistics.no_memory, statistics.sent[IPV4]) == (1, no_memory, 0)

    def test_mute_host_loses_mastership(self):
        """On a LAN a MASTER whose sends fail is replaced, and does not come back while they fail."""
        lan = VirtualLan()
        lan.add("mute", carp_interface())
        lan.add("good", carp_interface(advskew=200))
        lan.run_for(seconds(5))
        lan.stations["mute"].hardware.send_errno = errno.ENETDOWN
        lan.run_for(seconds(15))
        assert (lan.masters(), lan.holders(VIP4)) == ({"good"}, {"good"})

    def test_another_way_starts_over(self):
        """What failed towards former peers says nothing about the new ones: the demotion ends with the change."""
        bench = unanswered(peers=station_peers(2))
        self.report(bench, True, True, True)
        assert bench.interface().demote == 1
        bench.reconfigure(carp_interface())
        assert bench.interface().demote == 0
        self.report(bench, True, True)
        assert bench.interface().demote == 0
