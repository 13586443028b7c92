"""Tells snooping switches, by Multicast Router Advertisements, that balanced parents want every multicast frame (RFC 4286).

Without them a switch that snoops by IP address sends a balanced interface's packets nowhere.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol

from ..linux.router_advertisement import advertisements, routes_multicast, terminations
from ..protocol.values import Family

INTERVAL_S = 20
JITTER_S = 0.025 * INTERVAL_S
"""By so much an interval is longer or shorter, so that hosts do not fall into step."""
INITIAL_COUNT = 3
INITIAL_INTERVAL_S = 2

Ends = tuple[bytes, Mapping[Family, bytes]]
"""A parent's MAC, 6 bytes, and its packed source address of each family."""


class Timer(Protocol):
    """What asyncio's call_later returns."""

    def cancel(self) -> None:
        """Do not call any more."""


class RouterAnnouncer:
    """Advertises on the parents that it is given: at once, twice more 2 s apart, and then every 20 s.

    Args:
        call_later: as asyncio's.
        send: sends whole Ethernet frames on the parent of a name; one that is gone or down is for it to pass over.
        routes_multicast: tells whether this host is a real multicast router in a family behind the parent of a name.
        random: makes the jitter.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], Timer],
        send: Callable[[str, list[bytes]], None],
        routes_multicast: Callable[[str, Family], bool] = routes_multicast,
        random: Random | None = None,
    ) -> None:
        self._call_later = call_later
        self._send = send
        self._routes_multicast = routes_multicast
        self._random = random or Random()  # noqa: S311 - not secret
        self._followed: dict[str, _Followed] = {}

    def follow(self, parents: Mapping[str, Ends]) -> None:
        """Advertise on exactly these parents.

        One that is new, or whose MAC or addresses changed, starts from the beginning. A parent is to be left out while its link
        is down, as the switch forgets its port then.
        """
        for name in self._followed.keys() - parents.keys():
            self._leave(name)
        for name, (mac, sources) in parents.items():
            followed = self._followed.get(name)
            if followed is None or (followed.mac, followed.sources) != (mac, dict(sources)):
                if followed is not None:
                    followed.cancel()
                self._followed[name] = _Followed(mac, dict(sources))
                self._advertise(name)

    def stop(self) -> None:
        """Take back all advertisements and make no more."""
        self.follow({})

    def _advertise(self, name: str) -> None:
        followed = self._followed[name]
        if frames := advertisements(followed.mac, followed.sources, INTERVAL_S):
            self._send(name, frames)
        followed.sent += 1
        wait_s = INITIAL_INTERVAL_S if followed.sent < INITIAL_COUNT else self._interval_s()
        followed.timer = self._call_later(wait_s, lambda: self._advertise(name))

    def _interval_s(self) -> float:
        return INTERVAL_S + self._random.uniform(-JITTER_S, JITTER_S)

    def _leave(self, name: str) -> None:
        followed = self._followed.pop(name)
        followed.cancel()
        # A real router goes on to want them: its own daemon advertises.
        sources = {family: source for family, source in followed.sources.items() if not self._routes_multicast(name, family)}
        if frames := terminations(followed.mac, sources):
            self._send(name, frames)


class _Followed:
    """A parent, how often it was advertised, and the timer of the next one."""

    def __init__(self, mac: bytes, sources: dict[Family, bytes]) -> None:
        self.mac = mac
        self.sources = sources
        self.sent = 0
        self.timer: Timer | None = None

    def cancel(self) -> None:
        """Advertise no more."""
        if self.timer is not None:
            self.timer.cancel()
