"""Any number of hosts on a bad LAN: never two MASTERs that hear each other, and exactly one once it is quiet."""

from dataclasses import dataclass
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from carp.protocol.demotion import Demotion
from carp.protocol.events import DemotionStarted
from carp.protocol.interval import advertisement_interval_ns, master_down_ns
from carp.protocol.values import Family
from carp.testing.clock import milliseconds, seconds
from carp.testing.hosts import DUAL_STACK, VIP4, VIP6, carp_interface, station_sources
from carp.testing.lan import VirtualLan, Weather

IPV4, IPV6 = Family
LONGEST_DELAY = milliseconds(30)
SHORTEST_SKEW = 52
"""With advbase 0 this gives intervals of at least 0.2 s, well above the longest delay."""


def numbered(number):
    """Give a parent addresses that rise with the number of the host."""
    return station_sources(number)


def crossed(number):
    """Give a parent addresses that rise with the number in IPv4 and fall in IPv6."""
    return {IPV4: station_sources(number)[IPV4], IPV6: station_sources(250 - number)[IPV6]}


def crossed_back(number):
    """Give a parent addresses that fall with the number in IPv4 and rise in IPv6."""
    return {IPV4: station_sources(250 - number)[IPV4], IPV6: station_sources(number)[IPV6]}


def unnumbered(_number):
    """Leave a parent without addresses: all hosts then send from the virtual one."""
    return {}


TO_PEERS = [(), (IPV4,), (IPV6,), (IPV4, IPV6)]
SOURCES = st.sampled_from([numbered, crossed, crossed_back, unnumbered])
ADDRESSES = st.sampled_from([(VIP4,), (VIP6,), DUAL_STACK])


@dataclass(frozen=True)
class Settings:
    """One virtual host as all hosts know it, and what is each host's own."""

    vhid: int
    advbase: int
    advskews: tuple[int, ...]
    addresses: tuple

    @property
    def longest_interval(self):
        """The time between two advertisements of the slowest host."""
        return max(advertisement_interval_ns(self.advbase, advskew) for advskew in self.advskews)

    @property
    def longest_master_down(self):
        """The patience of the slowest host."""
        return max(master_down_ns(self.advbase, advskew, triples_skew=False) for advskew in self.advskews)

    def interface(self, host, peers=()):
        """Make the carp interface of one host."""
        return carp_interface(
            f"carp{self.vhid}",
            self.vhid,
            advbase=self.advbase,
            advskew=self.advskews[host],
            addresses=self.addresses,
            peers=peers,
        )


@st.composite
def virtual_hosts(draw, hosts, *, least=1, most=3):
    """Draw the virtual hosts of a LAN; advskews are often equal."""
    drawn = []
    for vhid in range(1, draw(st.integers(least, most)) + 1):
        advbase = draw(st.integers(0, 2))
        lowest = SHORTEST_SKEW if advbase == 0 else 0
        advskew = st.one_of(st.just(lowest), st.just(100), st.integers(lowest, 254))
        advskews = draw(st.one_of(advskew.map(lambda one: (one,) * hosts), st.tuples(*[advskew] * hosts)))
        addresses = draw(ADDRESSES)
        drawn.append(Settings(vhid, advbase, advskews, addresses))
    return drawn


@dataclass(frozen=True)
class Scenario:
    """A LAN before it runs."""

    hosts: int
    virtual_hosts: list
    sources: object
    preempt: tuple[bool, ...]
    starts: tuple[int, ...]
    demotions: tuple[int, ...]
    to_peers: tuple[tuple[Family, ...], ...]
    weather: Weather
    seed: int

    def build(self):
        """Start the hosts at their times; return the LAN with all of them running."""
        lan = VirtualLan(self.seed, self.weather)
        for host, start in sorted(enumerate(self.starts), key=lambda pair: pair[1]):
            lan.run_until(max(lan.now, FIRST_START + start))
            interfaces = [one.interface(host, self.peers(host)) for one in self.virtual_hosts]
            station = lan.add(f"h{host}", *interfaces, sources=self.sources(host + 1), preempt=self.preempt[host])
            amount = self.demotions[host]
            if amount:
                station.feed(DemotionStarted(Demotion("test", amount, frozenset({"carp"}), "test", lan.now)))
        return lan

    def peers(self, host):
        """Name all hosts of a LAN as peers, in the families in which this one does not send to the group."""
        return [ip_address(self.sources(number + 1)[family]) for family in self.to_peers[host] for number in range(self.hosts)]


FIRST_START = VirtualLan().now
WEATHER = st.builds(
    Weather,
    loss=st.sampled_from([0.0, 0.1, 0.3, 0.6]),
    delay_ns=st.sampled_from([(0, 0), (50_000, 200_000), (0, LONGEST_DELAY // 2)]),
    duplication=st.sampled_from([0.0, 0.2]),
    reorder=st.sampled_from([0.0, 0.3]),
    echo=st.sampled_from([0.0, 0.2]),
)


@st.composite
def scenarios(draw):
    """Draw a LAN of 2 to 8 hosts."""
    hosts = draw(st.integers(2, 8))
    virtual = draw(virtual_hosts(hosts))
    together = st.just((0,) * hosts)
    starts = draw(st.one_of(together, st.tuples(*[st.integers(0, seconds(8))] * hosts)))
    may_be_demoted = all(one.advbase for one in virtual)
    amounts = st.one_of(together, st.tuples(*[st.integers(0, 2)] * hosts)) if may_be_demoted else together
    sources = draw(SOURCES)
    group, kinds = st.just(((),) * hosts), st.tuples(*[st.sampled_from(TO_PEERS)] * hosts)
    return Scenario(
        hosts,
        virtual,
        sources,
        draw(st.one_of(st.just((False,) * hosts), st.just((True,) * hosts), st.tuples(*[st.booleans()] * hosts))),
        starts,
        draw(amounts),
        # Where nobody has an address there is nobody to name.
        draw(group if sources is unnumbered else st.one_of(group, kinds)),
        draw(WEATHER),
        draw(st.integers(0, 2**32)),
    )


def deciding_family(virtual_host):
    """Tell which family decides ties."""
    return IPV4 if VIP4 in virtual_host.addresses else IPV6


def check_nobody_heard_and_stayed(lan, virtual_hosts):
    """Of two MASTERs of which each heard the other, one has yielded."""
    for one in virtual_hosts:
        for overlap in lan.history.overlaps(one.vhid):
            heard = lan.history.heard(overlap, deciding_family(one))
            assert 0 in heard, (overlap, heard)


def check_overlaps_are_short(lan, virtual_hosts, since, bound):
    """While nothing is lost, no two hosts are MASTER for longer than one interval of the slower and a packet's time."""
    for one in virtual_hosts:
        for overlap in lan.history.overlaps(one.vhid):
            assert min(overlap.end, lan.now) - max(overlap.begin, since) <= one.longest_interval + bound, overlap


@given(scenarios(), st.integers(0, seconds(12)))
def test_one_master_once_the_lan_is_quiet(scenario, storm):
    """After any weather each vhid has exactly one MASTER within a bound, and for good; no two heard each other and stayed."""
    lan = scenario.build()
    lan.run_for(storm)
    lan.weather = Weather(delay_ns=scenario.weather.delay_ns, duplication=scenario.weather.duplication)
    quiet_since = lan.now
    slowest = max(scenario.virtual_hosts, key=lambda one: one.longest_master_down)
    lan.run_for(slowest.longest_master_down + 2 * slowest.longest_interval + 4 * LONGEST_DELAY)
    for one in scenario.virtual_hosts:
        assert len(lan.masters(one.vhid)) == 1, one
    changes = len(lan.history.changes)
    lan.run_for(2 * slowest.longest_master_down)
    assert len(lan.history.changes) == changes
    check_nobody_heard_and_stayed(lan, scenario.virtual_hosts)
    check_overlaps_are_short(lan, scenario.virtual_hosts, quiet_since, 2 * LONGEST_DELAY)


@given(scenarios(), st.randoms(use_true_random=False))
def test_partitions_heal(scenario, rng):
    """Each side of a partition has exactly one MASTER, and so has the whole once it is healed."""
    lan = scenario.build()
    lan.weather = Weather(delay_ns=scenario.weather.delay_ns)
    names = list(lan.stations)
    rng.shuffle(names)
    cut = rng.randint(1, len(names) - 1)
    islands = (set(names[:cut]), set(names[cut:]))
    slowest = max(scenario.virtual_hosts, key=lambda one: one.longest_master_down)
    settle = slowest.longest_master_down + 2 * slowest.longest_interval + 4 * LONGEST_DELAY
    lan.run_for(rng.randint(0, settle))
    lan.partition(*islands)
    lan.run_for(settle)
    for one in scenario.virtual_hosts:
        for island in islands:
            assert len(lan.masters(one.vhid) & island) == 1
    healed_at = lan.now
    lan.heal()
    # A BACKUP of one side may first take over from the worse MASTER of the other, before the better one is heard again.
    lan.run_for(2 * slowest.longest_interval + 4 * LONGEST_DELAY)
    for one in scenario.virtual_hosts:
        assert len(lan.masters(one.vhid)) == 1
    check_nobody_heard_and_stayed(lan, scenario.virtual_hosts)
    check_overlaps_are_short(lan, scenario.virtual_hosts, healed_at, 2 * LONGEST_DELAY)


@given(scenarios(), st.randoms(use_true_random=False))
def test_the_rest_goes_on_without_the_dead(scenario, rng):
    """Whoever dies, stops or is frozen: the others have exactly one MASTER within the longest master-down time."""
    lan = scenario.build()
    lan.weather = Weather(delay_ns=scenario.weather.delay_ns)
    slowest = max(scenario.virtual_hosts, key=lambda one: one.longest_master_down)
    settle = slowest.longest_master_down + 2 * slowest.longest_interval + 4 * LONGEST_DELAY
    lan.run_for(settle)
    names = list(lan.stations)
    while len(names) > 1:
        gone = rng.choice(names)
        names.remove(gone)
        rng.choice([lan.kill, lan.stop])(gone)
        lan.run_for(settle)
        for one in scenario.virtual_hosts:
            assert len(lan.masters(one.vhid)) == 1
            assert lan.masters(one.vhid) <= set(names)
    check_nobody_heard_and_stayed(lan, scenario.virtual_hosts)


@given(st.integers(0, 254), st.integers(0, 2), SOURCES, st.integers(2, 8), ADDRESSES, st.integers(0, 2**32))
def test_equal_hosts_started_together(advskew, advbase, sources, hosts, addresses, seed):
    """Equal hosts that start at one instant have exactly one MASTER within two master-down times, and for good."""
    interface = carp_interface(advbase=advbase, advskew=max(advskew, SHORTEST_SKEW if advbase == 0 else 0), addresses=addresses)
    lan = VirtualLan(seed)
    for number in range(hosts):
        lan.add(f"h{number}", interface, sources=sources(number + 1))
    master_down = master_down_ns(advbase, interface.leader.advskew, triples_skew=False)
    lan.run_for(2 * master_down)
    assert len(lan.masters()) == 1
    changes = len(lan.history.changes)
    lan.run_for(5 * master_down)
    assert len(lan.history.changes) == changes
    assert len({one.station for one in lan.history.tenures if one.address == addresses[0]}) <= hosts


@given(scenarios(), st.integers(0, seconds(6)))
def test_a_run_can_be_repeated(scenario, duration):
    """The same seed gives the same run, event for event."""
    histories = []
    for _ in range(2):
        lan = scenario.build()
        lan.run_for(duration)
        histories.append(lan.history)
    assert histories[0] == histories[1]
