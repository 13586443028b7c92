"""Which changes of a carp interface its link survives."""

from dataclasses import replace
from typing import Any

import pytest

from carp.daemon.runtime import _same_link
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
