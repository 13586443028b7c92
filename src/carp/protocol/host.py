"""What all carp interfaces of one host share, and what one call of the engine collects."""

import random
from dataclasses import dataclass, field

from .actions import Action
from .cadence import Cadence
from .demotion import Demotions
from .parameters import HostParameters
from .sending import CounterSource
from .sharing import SharedAddress
from .statistics import Statistics
from .values import Address, Family, Instant, InterfaceAddress
from .vhost import Timers


@dataclass(slots=True)
class Parent:
    """What is known of a parent interface; until the first report it is taken for gone."""

    present: bool = False
    up: bool = False
    mac: bytes = bytes(6)
    sources: dict[Family, bytes] = field(default_factory=dict)
    addresses: tuple[InterfaceAddress, ...] = ()
    cadence: Cadence = field(default_factory=Cadence)

    @property
    def works(self) -> bool:
        """Whether packets go in and out."""
        return self.present and self.up


@dataclass(slots=True)
class Host:
    """What all carp interfaces of one engine share."""

    counter: CounterSource
    rng: random.Random
    timers: Timers
    parameters: HostParameters = field(default_factory=HostParameters)
    demotions: Demotions = field(default_factory=Demotions)
    parents: dict[str, Parent] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)
    shared: dict[tuple[str, Address], SharedAddress] = field(default_factory=dict)
    """The addresses that several carp interfaces of a parent have, by parent and address."""
    stopped: bool = False
    """Set by a shutdown; nothing starts again after it."""


class Round:
    """One call of the engine: its time, and the actions collected so far."""

    __slots__ = ("actions", "now")

    def __init__(self, now: Instant) -> None:
        self.now = now
        self.actions: list[Action] = []
