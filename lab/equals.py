"""Two equal hosts that start together: the election that ends without anybody's preference."""

from dataclasses import dataclass

from .figures import Pair
from .host import Host
from .measure import owners
from .pairs import SLACK_S, make_pair
from .stage import Stage
from .wait import holds_for, until


@dataclass(frozen=True)
class EqualHosts:
    """The own addresses of hosts a and b; an empty list is an interface without addresses."""

    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()
    link_local: bool = True


ARRANGEMENTS = {
    "ordered alike": EqualHosts(("192.0.2.1/24", "2001:db8::1/64"), ("192.0.2.2/24", "2001:db8::2/64")),
    "ordered oppositely": EqualHosts(("192.0.2.1/24", "2001:db8::2/64"), ("192.0.2.2/24", "2001:db8::1/64")),
    "without addresses": EqualHosts(),
    "without even link-local addresses": EqualHosts(link_local=False),
}


def elect(stage: Stage, arrangement: EqualHosts, pair: Pair) -> str:
    """Start both at once, check that exactly one becomes MASTER in time and stays it, stop both; return its label.

    Two master-down times are allowed from the moment the second one listens, and what a stalled machine adds.
    """
    hosts = _hosts(stage, arrangement, pair)
    for host in hosts:
        host.start(wait=False)
    for host in hosts:
        host.wait_until_up()
    down_s = pair.master_down_ns(pair.skew_a) / 1e9
    until(lambda: _masters(hosts) and len(_masters(hosts)) == 1, 2 * down_s + 0.3, "exactly one MASTER")
    (master,) = _masters(hosts)
    assert holds_for(lambda: _masters(hosts) == [master], 2 * down_s), f"the MASTER changed: {_masters(hosts)}"
    with stage.prober() as prober:
        prober.wait_for_owner(master, SLACK_S)
        prober.wait_for_time(0.2)
        traces = prober.stop()
    for trace in traces.values():
        assert owners(trace, trace.start, trace.end) == [master]
    for host in hosts:
        host.stop()
    return master


def _hosts(stage: Stage, arrangement: EqualHosts, pair: Pair) -> tuple[Host, ...]:
    if not stage.hosts:
        stage.port("a", arrangement.a, link_local=arrangement.link_local)
        stage.port("b", arrangement.b, link_local=arrangement.link_local)
        assert stage.client.carrier()
        make_pair(stage, pair)
    return tuple(stage.hosts.values())


def _masters(hosts: tuple[Host, ...]) -> list[str]:
    return [host.label for host in hosts if host.state_of() == "MASTER"]
