"""The scene of `make lab` with two firewalls: an axe through the first, its recovery and its return, under traffic.

What is judged is what the client and the server feel: connections that end, pauses, new connections that are broken; and that
the firewall which comes back takes its place only when it has the states of all connections.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from .conntrackd import count_states
from .firewalls import LAN_VHID, SERVER, USUAL, WAN_VHID, Firewall, FirewallPair
from .pairs import virtual_mac
from .stage import Stage
from .transfer_record import Account, Part, Progress
from .transfers import DEFAULT_CALLS, DEFAULT_TRANSFERS, Transfers
from .wait import now_ns, until

BEFORE_S = 2.0
AFTER_S = 3.0
RETURN_S = 30.0
"""How long a firewall that boots may take to get the states and its place."""
SLACK_S = 0.3
"""What a UDP flow may pause beyond the protocol's bound: announcements, the commit, and this machine's own stalls."""
_LOOK_EVERY_S = 0.05
_OWNER_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what was measured, what is allowed, both in words, and whether it holds."""

    what: str
    measured: str
    allowed: str
    holds: bool

    @property
    def verdict(self) -> str:
        """One word."""
        return "ok" if self.holds else "WRONG"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the scene gave."""

    rows: tuple[Row, ...]

    @property
    def faults(self) -> list[str]:
        """What does not hold, in words."""
        return [f"{row.what}: {row.measured}, allowed {row.allowed}" for row in self.rows if not row.holds]

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"case": "firewall", "rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows]}


@dataclass(frozen=True, slots=True)
class Glance:
    """How it stands: `pause_s` is the longest pause since the act began, `owners` the firewall on LAN and WAN, if any."""

    act: str
    since_start_s: float
    owners: tuple[str | None, str | None]
    megabytes_per_s: float
    lost: int
    broken: int
    pause_s: float


class Onlooker(Protocol):
    """Who watches the scene live."""

    def act(self, told: str) -> None:
        """Something happens."""

    def glance(self, glance: Glance) -> None:
        """Another tenth of a second; called from another thread."""


class Nobody:
    """An onlooker that is not there."""

    def act(self, told: str) -> None:
        """Something happens."""

    def glance(self, glance: Glance) -> None:
        """Another tenth of a second."""


@dataclass(slots=True)
class Return:
    """What was seen of a firewall from its boot until it was MASTER; instants, 0 for never."""

    booted: int = 0
    demoted: int = 0
    synchronised: int = 0
    master: int = 0
    states: int = 0
    """How many were in its kernel's table when it was first seen as MASTER."""

    def look(self, firewall: Firewall) -> None:
        """Note what there is now."""
        with suppress(OSError, RuntimeError):
            sync = firewall.sync_status()
            state = firewall.state_of(firewall.carps[0].name)
            now = now_ns()
            if sync["demote"] and not self.demoted:
                self.demoted = now
            if sync["synchronised"] and not self.synchronised:
                self.synchronised = now
            if state == "MASTER" and not self.master:
                self.master, self.states = now, count_states(firewall.namespace)


class _Watch:
    """Turns lines of progress into glances, and looks where the switches have the shared MACs."""

    def __init__(self, pair: FirewallPair, onlooker: Onlooker) -> None:
        self._pair = pair
        self._onlooker = onlooker
        self._act, self._began, self._pause_ns = "", now_ns(), 0
        self._owners: tuple[str | None, str | None] = (None, None)
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, name="owners", daemon=True)
        self._looking.start()

    def begin(self, act: str, told: str) -> None:
        """Another act begins."""
        self._act, self._pause_ns = act, 0
        self._onlooker.act(told)

    def progress(self, progress: Progress) -> None:
        """Show another tenth of a second."""
        self._pause_ns = max(self._pause_ns, progress["silent"], progress["udp_silent"])
        self._onlooker.glance(
            Glance(
                self._act,
                (progress["at"] - self._began) / 1e9,
                self._owners,
                progress["bytes"] * 10 / 1e6,
                progress["lost"],
                progress["broken"],
                self._pause_ns / 1e9,
            )
        )

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        sides = ((self._pair.lan, LAN_VHID), (self._pair.wan, WAN_VHID))
        while not self._over.wait(_OWNER_EVERY_S):
            lan, wan = (side.port_of(virtual_mac(vhid)) for side, vhid in sides)
            self._owners = lan, wan


def play_axe(
    pair: FirewallPair, onlooker: Onlooker | None = None, transfers: int = DEFAULT_TRANSFERS, calls: int = DEFAULT_CALLS
) -> Outcome:
    """Let traffic run through the firewalls, from a settled pair on, while the first is struck and comes back."""
    watch = _Watch(pair, onlooker or Nobody())
    try:
        watch.begin("before", f"{transfers} transfers, {calls} new connections a second and a UDP flow of 100 Hz start")
        with Transfers(pair.client, pair.server, SERVER, transfers, calls, watch.progress) as traffic:
            traffic.wait_for_time(BEFORE_S)
            watch.begin("axe", "the axe: everything on fw1 is killed and its links are cut")
            struck = pair.fw1.axe()
            taken = pair.wait_settled(pair.fw2)
            _wait_until_flowing(traffic, taken, 2 * pair.bound_s)
            traffic.wait_for_time(AFTER_S)
            watch.begin("return", "fw1 boots again, with an empty table of connections")
            returned = _see_return(pair)
            _wait_until_flowing(traffic, now_ns(), 2 * pair.bound_s)
            traffic.wait_for_calls(now_ns())
            end = now_ns()
            account = traffic.stop()
    finally:
        watch.end()
    first, second = account.part(struck, returned.booted), account.part(returned.booted, end)
    rows = [
        _takeover(pair, taken - struck),
        *_rows("the axe", first, account, pair, most_broken=_in_flight(calls)),
        _states_first(returned, transfers),
        *_rows("the return", second, account, pair, most_broken=0),
        _whole(account),
    ]
    return Outcome(tuple(rows))


def play_scene(onlooker: Onlooker | None = None) -> Outcome:
    """Build everything, play, and remove it."""
    with Stage() as stage:
        pair = FirewallPair(stage, USUAL)
        pair.settle()
        return play_axe(pair, onlooker)


def _wait_until_flowing(traffic: Transfers, since: int, patience_s: float) -> None:
    """Wait for data in each transfer; that it does not come is in the account, as a pause or as a fault."""
    with suppress(TimeoutError):
        traffic.wait_until_flowing(patience_s + AFTER_S, since)


def _see_return(pair: FirewallPair) -> Return:
    seen = Return()
    seen.booted = now_ns()
    pair.fw1.recover()

    def back() -> bool:
        seen.look(pair.fw1)
        return bool(seen.master) and pair.fw1.is_settled("MASTER") and pair.fw2.is_settled("BACKUP")

    with suppress(TimeoutError):
        until(back, RETURN_S, "fw1 to be MASTER again", _LOOK_EVERY_S)
    return seen


def _in_flight(calls: int) -> int:
    """Return how many new connections an axe may cost: those of which the peer had not heard yet."""
    return 1 + calls // 50


def _takeover(pair: FirewallPair, took_ns: int) -> Row:
    limit_s = pair.bound_s + SLACK_S
    return Row("the axe: fw2 has LAN and WAN", _seconds(took_ns), f"within {limit_s:.1f} s", took_ns / 1e9 <= limit_s)


def _rows(act: str, part: Part, account: Account, pair: FirewallPair, most_broken: int) -> list[Row]:
    alive = sum(not one["error"] for one in account.transfers) if act == "the return" else part.transfers - len(part.lost)
    tcp_s, udp_s = 2 * pair.bound_s + 1, pair.bound_s + SLACK_S
    broken = sum(part.broken.values())
    return [
        Row(f"{act}: connections that live on", f"{alive} of {part.transfers}", "all", alive == part.transfers),
        Row(f"{act}: longest TCP pause", _seconds(part.tcp_pause_ns), f"{tcp_s:.1f} s", part.tcp_pause_ns / 1e9 <= tcp_s),
        Row(f"{act}: longest UDP pause", _seconds(part.udp_pause_ns), f"{udp_s:.1f} s", part.udp_pause_ns / 1e9 <= udp_s),
        Row(f"{act}: new connections broken", f"{broken} of {part.calls}", str(most_broken), broken <= most_broken),
    ]


def _states_first(seen: Return, transfers: int) -> Row:
    what = "the return: states when MASTER, demoted until then"
    if not seen.master:
        return Row(what, "fw1 never took its place", "all", holds=False)
    word = "" if seen.demoted else ", never demoted"
    measured = f"{seen.states}, {_seconds(seen.master - seen.booted)} after its boot{word}"
    in_order = 0 < seen.demoted < seen.synchronised <= seen.master
    return Row(what, measured, f"{transfers} or more", in_order and seen.states >= transfers)


def _whole(account: Account) -> Row:
    wrong = account.incomplete
    measured = f"{len(account.transfers) - len(wrong)} of {len(account.transfers)}" + (f" ({wrong[0]})" if wrong else "")
    return Row("transfers that arrived whole, byte for byte", measured, "all", not wrong)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:.2f} s"


def titles() -> Sequence[str]:
    """Return the headings of the table."""
    return ("", "measured", "allowed", "")
