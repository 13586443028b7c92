"""Which changes of a carp interface its link survives; who takes the events of errands; whether a link is up."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from carp.daemon.runtime import Runtime, _same_link
from carp.linux.rtnetlink import Link
from carp.protocol.events import DemotionEnded, Event, Prepared
from carp.protocol.parameters import Balancing, LinkAddress, Node
from carp.testing.hosts import DUAL_STACK, VIP4, carp_interface

ALONE = carp_interface(vhid=3)
SEVERAL = carp_interface(nodes=(Node(3), Node(4, 100)))


@pytest.mark.parametrize(
    "changed",
    [
        {"addresses": DUAL_STACK},
        {"advbase": 2, "preempt": True, "groups": ("lan",)},
        {"nodes": (Node(3, 200), Node(4))},
        {"up": False},
        {"announces_router": False},
    ],
    ids=str,
)
def test_a_balanced_link_stays(changed: dict[str, Any]) -> None:
    """With its virtual hosts MASTER of what they are."""
    assert _same_link(SEVERAL, replace(SEVERAL, **changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"carpdev": "eth9"},
        {"nodes": (Node(3), Node(5))},
        {"nodes": (Node(3), Node(4), Node(5))},
        {"nodes": (Node(3),), "balancing": Balancing.NONE},
        *({"balancing": one} for one in (Balancing.IP_STEALTH, Balancing.IP_UNICAST, Balancing.ARP)),
    ],
    ids=str,
)
def test_a_balanced_link_is_made_anew(changed: dict[str, Any]) -> None:
    """Whatever is shared out otherwise or among others begins anew."""
    assert not _same_link(SEVERAL, replace(SEVERAL, **changed))
    assert not _same_link(replace(SEVERAL, **changed), SEVERAL)


def test_a_mode_with_the_same_mac_is_another_one() -> None:
    """What came from the parent's MAC comes from the shared one then."""
    assert not _same_link(replace(SEVERAL, balancing=Balancing.IP_STEALTH), replace(SEVERAL, balancing=Balancing.IP_UNICAST))


def test_another_mac_is_another_link() -> None:
    """Also one that no link has, but every host receives."""
    unicast = replace(SEVERAL, balancing=Balancing.IP_UNICAST)
    for mac in (bytes.fromhex("021122334455"), bytes.fromhex("021122334466")):
        assert not _same_link(unicast, replace(unicast, lladdr=mac))
        assert not _same_link(ALONE, replace(ALONE, lladdr=mac))
    assert not _same_link(ALONE, replace(ALONE, lladdr=LinkAddress.PARENT))
    assert _same_link(ALONE, replace(ALONE, addresses=(VIP4,), nodes=(Node(3, 7),)))


def test_the_end_of_a_hook_goes_to_who_waits_for_the_states() -> None:
    """Whatever else errands have to say goes to the engine."""
    took: list[tuple[str, Event]] = []
    runtime: Any = SimpleNamespace(
        handle=lambda event: took.append(("engine", event)),
        state_sync=SimpleNamespace(prepared=lambda event: took.append(("state sync", event))),
    )
    prepared, ended = Prepared("carp0", 1, 1), DemotionEnded("track a")
    for event in (prepared, ended):
        Runtime._on_errand(runtime, event)
    assert took == [("state sync", prepared), ("engine", ended)]


@pytest.mark.parametrize(
    ("link", "is_up"),
    [
        (Link(2, "sync0", True, True, bytes(6), "", 0, 0), True),
        (Link(2, "sync0", True, False, bytes(6), "", 0, 0), False),
        (Link(2, "sync0", False, True, bytes(6), "", 0, 0), False),
        (None, False),
    ],
    ids=["up", "no carrier", "down", "gone"],
)
def test_a_link_is_up_where_it_carries(link: Link | None, is_up: bool) -> None:
    """Up, with a carrier, and there at all."""
    runtime: Any = SimpleNamespace(_table=SimpleNamespace(by_name={"sync0": link}.get))
    assert Runtime._is_up(runtime, "sync0") is is_up
