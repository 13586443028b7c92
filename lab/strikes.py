"""A MASTER that stops advertising, whatever the reason: on a hub, with every kind of question, who speaks and until when."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from .figures import Pair
from .host import Host
from .measure import both_answered, takeover_ns
from .pairs import SLACK_S, make_pair, patience_s, settle, virtual_mac, wait_settled
from .stage import SHARED, Stage, bare
from .wait import now_ns, until
from .witness import KINDS, Witness, Word, before_and_after, route_beyond

_BEFORE_S, _AFTER_S = 0.3, 0.3


@dataclass(frozen=True)
class Struck:
    """What one strike showed; times are nanoseconds."""

    took_ns: list[int]
    """From the strike to the other host's first answer to a UDP probe, for each address."""
    silent_ns: int
    """From the last frame in which the MASTER's host spoke to the first one of the other host; negative is two owners."""
    both: int
    """UDP probes that two hosts answered."""
    missing: set[str] = field(default_factory=set)
    """Kinds of answers that one of the hosts never gave: then the question was not asked rightly."""

    def check(self) -> None:
        """Demand that everything was asked and that at no moment two hosts answered."""
        assert self.missing == set(), f"never answered: {sorted(self.missing)}"
        assert self.both == 0, f"two hosts answered {self.both} probes"
        assert self.silent_ns > 0, f"for {-self.silent_ns / 1e6:.1f} ms both hosts spoke"


def router_pair(stage: Stage, pair: Pair, **global_keys: object) -> tuple[Host, Host]:
    """Configure hosts a and b that also forward for the virtual MAC; the stage should be a hub."""
    a, b = make_pair(stage, pair, None, **global_keys)
    route_beyond((a.port, b.port), stage.port("c"))
    assert stage.client.carrier()
    return a, b


def witness(stage: Stage, *hosts: Host) -> Witness:
    """Ask for the usual shared addresses in every way, and record who speaks."""
    return Witness(stage.client, [host.port for host in hosts], bare(SHARED), virtual_mac(1))


def strike(stage: Stage, pair: Pair, a: Host, b: Host, how: Callable[[], int]) -> Struck:
    """Strike the MASTER a, wait until b answers, and say who spoke when; a stays as the strike left it."""
    settle(pair, a, b)
    with stage.prober() as prober, witness(stage, a, b) as seen:
        prober.wait_for_owner("a", SLACK_S)
        prober.wait_for_time(_BEFORE_S)
        event = how()
        # Whether b answers alone is what the record tells.
        until(lambda: all("b" in prober.answering(one) for one in prober.addresses), patience_s(pair), "b to answer")
        prober.wait_for_time(_AFTER_S)
        traces = prober.stop()
        words = seen.stop()
    last, first = before_and_after(words, "a", "b")
    return Struck(
        took_ns=[takeover_ns(trace, event, "b") or 0 for trace in traces.values()],
        silent_ns=first - last,
        both=sum(both_answered(trace) for trace in traces.values()),
        missing=_missing(words, "a") | _missing(words, "b"),
    )


def stop(host: Host) -> int:
    """Stop a daemon as a debugger does; return the instant right before."""
    return host.signal(signal.SIGSTOP)


def wake(stage: Stage, pair: Pair, a: Host, b: Host) -> int:
    """Let the replaced MASTER a go on until it has its place back; return how many UDP probes both hosts answered.

    It must step back before it takes over: `AssertionError` if its log does not show that.
    """
    before = _changes(a)
    with stage.prober() as prober:
        prober.wait_for_owner("b", SLACK_S)
        event = now_ns()
        a.signal(signal.SIGCONT)
        prober.wait_for_owner("a", patience_s(pair))
        prober.wait_for_time(_AFTER_S)
        traces = prober.stop()
    wait_settled(pair, a, b)
    changes = _changes(a)[len(before) :]
    assert changes, "the woken MASTER says nothing of stepping back"
    # A busy machine may have made it step back before it was stopped.
    if "-> MASTER" in before[-1]:
        assert "MASTER -> BACKUP" in changes[0], f"the woken MASTER did not step back first: {changes}"
    return sum(both_answered(trace, event) for trace in traces.values())


def _changes(host: Host) -> list[str]:
    return [line for line in host.log_text().splitlines() if " -> " in line]


def _missing(words: list[Word], host: str) -> set[str]:
    return set(KINDS - {word.kind for word in words if word.host == host})
