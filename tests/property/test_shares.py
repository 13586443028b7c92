"""Any number of hosts and virtual hosts on a bad LAN that share the traffic: each share is served by one host, never by two."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from carp.protocol.actions import Announce, Release, Take
from carp.protocol.interval import advertisement_interval_ns, master_down_ns
from carp.protocol.parameters import MAX_NODES, Balancing, Node
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP4, VIP6, carp_interface, station_sources
from carp.testing.lan import VirtualLan, Weather

from .test_lan import LONGEST_DELAY, SOURCES, WEATHER

TO_OPEN = milliseconds(20)
"""The time that a MASTER which was replaced is given to yield, and the taking of the addresses."""


@dataclass(frozen=True)
class Cluster:
    """Hosts with one list of virtual hosts and different advskews: `advskews` has a row for each host."""

    vhids: tuple[int, ...]
    advskews: tuple[tuple[int, ...], ...]
    advbase: int
    addresses: tuple
    balancing: Balancing
    preempt: bool
    sources: object
    starts: tuple[int, ...]
    weather: Weather
    seed: int

    @property
    def interval(self):
        """The time between two advertisements of the slowest virtual host."""
        return max(advertisement_interval_ns(self.advbase, one) for row in self.advskews for one in row)

    @property
    def master_down(self):
        """The patience of the slowest one."""
        return max(master_down_ns(self.advbase, one, triples_skew=False) for row in self.advskews for one in row)

    @property
    def settle(self):
        """The time after which a LAN without loss has settled."""
        return self.master_down + 2 * self.interval + 4 * LONGEST_DELAY + TO_OPEN

    def interface(self, host):
        """Make the carp interface of one host."""
        nodes = tuple(Node(vhid, advskew) for vhid, advskew in zip(self.vhids, self.advskews[host], strict=True))
        return carp_interface(nodes=nodes, advbase=self.advbase, addresses=self.addresses, balancing=self.balancing)

    def start(self, lan, host, name=None):
        """Start a host, under another name when it comes back."""
        return lan.add(name or f"h{host}", self.interface(host), sources=self.sources(host + 1), preempt=self.preempt)

    def build(self):
        """Start the hosts at their times; return the LAN with all of them running."""
        lan = VirtualLan(self.seed, self.weather)
        begin = lan.now
        for host, start in sorted(enumerate(self.starts), key=lambda pair: pair[1]):
            lan.run_until(max(lan.now, begin + start))
            self.start(lan, host)
        return lan

    def build_settled(self):
        """Start the hosts on a LAN that loses nothing; return it when each share is served."""
        lan = self.build()
        lan.weather = self.quiet
        lan.run_for(self.settle)
        check_each_is_served_once(lan, self.vhids)
        return lan

    @property
    def quiet(self):
        """The same weather, but nothing is lost."""
        return Weather(delay_ns=self.weather.delay_ns, duplication=self.weather.duplication)


@st.composite
def clusters(draw, *, least=2, own=False, preempt=None):
    """Draw 2 to 5 hosts with 2 to 5 virtual hosts; `own`: as many as hosts, and each host prefers the one of its number."""
    hosts = draw(st.integers(least, 5))
    count = hosts if own else draw(st.integers(2, 5))
    vhids = tuple(sorted(draw(st.sets(st.integers(1, 255), min_size=count, max_size=count))))
    advskew = st.one_of(st.just(100), st.integers(0, 254))
    if own:
        rows = tuple(tuple(0 if node == host else draw(st.integers(1, 254)) for node in range(count)) for host in range(hosts))
    else:
        rows = draw(st.tuples(*[st.tuples(*[advskew] * count)] * hosts))
    return Cluster(
        vhids,
        rows,
        draw(st.integers(1, 2)),
        draw(st.sampled_from([(VIP4,), (VIP6,), DUAL_STACK])),
        draw(st.sampled_from([one for one in Balancing if one is not Balancing.NONE])),
        draw(st.booleans()) if preempt is None else preempt,
        draw(SOURCES),
        draw(st.one_of(st.just((0,) * hosts), st.tuples(*[st.integers(0, seconds(8))] * hosts))),
        draw(WEATHER),
        draw(st.integers(0, 2**32)),
    )


def check_each_is_served_once(lan, vhids):
    """Each share has one server, which is the one MASTER of its virtual host."""
    for vhid in vhids:
        assert len(lan.servers(vhid)) == 1, (vhid, lan.servers(vhid), lan.masters(vhid))
        assert lan.servers(vhid) == lan.masters(vhid), vhid


def check_twice_is_short(lan, cluster, since):
    """While nothing is lost no share is served by two for longer than an interval of the slower and a packet's time."""
    for vhid in cluster.vhids:
        for overlap in lan.history.shared_twice(vhid):
            twice = min(overlap.end, lan.now) - max(overlap.begin, since)
            assert twice <= cluster.interval + 2 * LONGEST_DELAY, overlap


@given(clusters(), st.integers(0, seconds(12)))
def test_each_share_has_one_server_once_the_lan_is_quiet(cluster, storm):
    """After any weather each share is served by one host within a bound and for good, and by two only for a short time."""
    lan = cluster.build()
    lan.run_for(storm)
    lan.weather = cluster.quiet
    quiet_since = lan.now
    lan.run_for(cluster.settle)
    check_each_is_served_once(lan, cluster.vhids)
    shares = len(lan.history.shares)
    lan.run_for(2 * cluster.master_down)
    assert len(lan.history.shares) == shares
    check_each_is_served_once(lan, cluster.vhids)
    check_twice_is_short(lan, cluster, quiet_since)


@given(clusters(), st.integers(0, seconds(12)))
def test_the_addresses_stay_where_they_are(cluster, storm):
    """Whatever the weather, each host takes the addresses once and neither announces nor releases them."""
    lan = cluster.build()
    lan.run_for(storm)
    for station in lan.stations.values():
        asked = [type(action) for _, action in station.noted.actions if isinstance(action, (Take, Release, Announce))]
        assert asked == [Take]


@given(clusters(), st.data())
def test_a_dead_hosts_share_is_closed_before_another_opens_it(cluster, data):
    """Hosts die one after another: what one of them served is silent before another serves it, and nothing else moves."""
    lan = cluster.build_settled()
    alive = list(lan.stations)
    while len(alive) > 1:
        died, others = lan.now, {vhid: lan.servers(vhid) for vhid in cluster.vhids}
        gone = data.draw(st.sampled_from(alive))
        alive.remove(gone)
        how = data.draw(st.sampled_from(["killed", "frozen", "stopped"]))
        if how == "frozen":
            lan.freeze(gone, 2**62)
        else:
            {"killed": lan.kill, "stopped": lan.stop}[how](gone)
        lan.run_for(cluster.settle)
        for vhid, former in others.items():
            (server,) = lan.servers(vhid)
            assert server in alive
            assert {server} == former or former == {gone}
            twice = [one for one in lan.history.shared_twice(vhid) if one.end > died and gone in (one.first, one.second)]
            assert twice == []


@given(clusters(own=True, preempt=True), st.data())
def test_a_host_that_returns_gets_its_own_share_back(cluster, data):
    """With preempt each host serves its own share; when it is gone another one does, and when it returns it does again."""
    lan = cluster.build_settled()
    lan.run_for(cluster.settle)
    names = [f"h{host}" for host in range(len(cluster.advskews))]
    assert [lan.servers(vhid) for vhid in cluster.vhids] == [{name} for name in names]
    host = data.draw(st.integers(0, len(names) - 1))
    own, name = cluster.vhids[host], names[host]
    unplugged = data.draw(st.booleans())
    if unplugged:
        lan.link(name, up=False)
    else:
        lan.kill(name)
    lan.run_for(cluster.settle)
    (substitute,) = lan.servers(own)
    assert substitute in set(names) - {name}
    if unplugged:
        lan.link(name, up=True)
    else:
        del lan.stations[name]
        cluster.start(lan, host, f"{name} again")
        names[host] = f"{name} again"
    returned = lan.now
    lan.run_for(cluster.settle)
    assert [lan.servers(vhid) for vhid in cluster.vhids] == [{name} for name in names]
    check_twice_is_short(lan, cluster, returned)


@given(st.integers(0, 2**32))
@settings(max_examples=3)
def test_thirty_two_hosts(seed):
    """32 hosts that prefer one of 32 virtual hosts each settle: each serves its own share, at once and for good."""
    lan = VirtualLan(seed)
    hosts = range(MAX_NODES)
    for host in hosts:
        nodes = tuple(Node(node + 1, 0 if node == host else 100 + (node + host) % MAX_NODES) for node in hosts)
        lan.add(f"h{host}", carp_interface(nodes=nodes), sources=station_sources(host + 1), preempt=True)
    lan.run_for(seconds(6))
    assert [lan.servers(host + 1) for host in hosts] == [{f"h{host}"} for host in hosts]
    assert len(lan.history.shares) == MAX_NODES
