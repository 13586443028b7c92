"""What the status says of load balancing, whole and in pieces."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from daemon_kit import FakeFence, FakeRuntime, configured, play

from carp.daemon import status
from carp.linux.bpf.balancer import NodeCount
from carp.linux.clock import boottime
from carp.protocol.auth import Key
from carp.protocol.values import NANOSECONDS_PER_SECOND, Instant
from carp.testing.packets import Peer

KEY = {"pass": "opensesame"}
KEY_OF_ANOTHER = Key(bytes(range(20)))
SEVERAL = {"carpdev": "eth0", "carpnodes": ["3:0", "4:100", "9:200"], "addresses": ["192.0.2.100/24"], **KEY}
FIRST = {"carpdev": "eth1", "vhid": 1, "addresses": ["198.51.100.100/24", "198.51.100.7/24", "2001:db8::100/64"], **KEY}
SECOND = {"carpdev": "eth1", "vhid": 2, "addresses": ["2001:db8::100/64", "198.51.100.100/24"], **KEY}
THIRD = {"carpdev": "eth1", "vhid": 3, "addresses": ["2001:db8::100/64"], **KEY}
DOCUMENT: dict[str, Any] = {
    "carp0": SEVERAL,
    "carp1": FIRST,
    "carp2": SECOND,
    "carp3": THIRD,
    "carp4": {"vhid": 9},
    "carp5": {},
}


class House:
    """A daemon with a fence, and what it shares out."""

    def __init__(self) -> None:
        self.fence = FakeFence()
        self.runtime = FakeRuntime(fence=self.fence)

    def shown(self) -> dict[str, Any]:
        """Return the status of each carp interface by its name; the pieces of the whole say the same."""
        runtime: Any = self.runtime
        pieces = json.loads(b"".join(status.pieces(runtime)))
        found = {one["name"]: one for one in pieces["interfaces"]}
        for name, one in found.items():
            described = status.describe(runtime, name)
            assert described is not None
            assert [node["balance"] for node in described["nodes"]] == [node["balance"] for node in one["nodes"]]
            assert (described["shared"], described["balancing"]) == (one["shared"], one["balancing"])
        return found


def housed(scenario: Callable[[House], Awaitable[None]], document: dict[str, Any] = DOCUMENT) -> None:
    """Play a scenario with a daemon that runs a document, everything shared out."""

    async def played() -> None:
        house = House()
        configuration = configured(document)
        await house.runtime.reconfigure(configuration)
        house.runtime.share_out()
        await scenario(house)

    play(played)


@pytest.mark.parametrize("balancing", ["ip", "ip-stealth", "ip-unicast", "arp"])
def test_how_it_balances(balancing: str) -> None:
    """In the word of the configuration; several without a word balance IP."""

    async def scenario(house: House) -> None:
        assert {name: one["balancing"] for name, one in house.shown().items()} == {
            "carp0": balancing,
            **dict.fromkeys(["carp1", "carp2", "carp3", "carp4", "carp5"], "none"),
        }

    asked = {} if balancing == "ip" else {"balancing": balancing}
    housed(scenario, {**DOCUMENT, "carp0": {**SEVERAL, **asked}})


@pytest.mark.parametrize(
    ("balancing", "mac"),
    [
        ("ip", "01:00:5e:00:01:03"),
        ("ip-stealth", "00:00:5e:00:01:03"),
        ("ip-unicast", "00:00:5e:00:01:03"),
        ("arp", "00:00:5e:00:01:03"),
    ],
)
def test_the_mac_that_is_shared(balancing: str, mac: str) -> None:
    """Not that of its link, which is this host's alone."""

    async def scenario(house: House) -> None:
        assert house.shown()["carp0"]["lladdr"] == mac

    housed(scenario, {"carp0": {**SEVERAL, "balancing": balancing}})


def test_what_each_virtual_host_keeps() -> None:
    """Its number and what the programs counted; whether its share is open: MASTER, and its fence open."""

    async def scenario(house: House) -> None:
        nodes = house.shown()["carp0"]["nodes"]
        assert [(node["vhid"], node["balance"]["index"]) for node in nodes] == [(3, 0), (4, 1), (9, 2)]
        assert [node["balance"]["open"] for node in nodes] == [False, False, False]
        house.fence.balancer.counted[0] = tuple(NodeCount(one, one * 100, one * 10, one * 1000) for one in (1, 2, 3))
        fencing, now = house.runtime.fencing, boottime()
        house.runtime.hardware.balancers.set_mask("carp0", 0b101)
        for vhid in (4, 9):
            interface = house.runtime.engine.interface("carp0")
            assert interface is not None
            for family in interface.parameters.families:
                until = Instant(now + 60 * NANOSECONDS_PER_SECOND)
                fencing.sent("carp0", vhid, interface.parameters.families, family, until, now)
        assert [node["balance"] for node in house.shown()["carp0"]["nodes"]] == [
            {
                "index": index,
                "open": index == 2,
                "kept_packets": index + 1,
                "kept_bytes": (index + 1) * 100,
                "dropped_packets": (index + 1) * 10,
                "dropped_bytes": (index + 1) * 1000,
            }
            for index in range(3)
        ]
        assert house.shown()["carp0"]["fence"]["state"] == "open"

    housed(scenario)


def test_who_is_alone_keeps_everything() -> None:
    """So there is nothing to tell; nor of one that is incomplete. Those with an address in common are told apart."""

    async def scenario(house: House) -> None:
        shown = house.shown()
        found = {name: [node["balance"] for node in shown[name]["nodes"]] for name in shown if name != "carp0"}
        assert {name: [one and one["index"] for one in balances] for name, balances in found.items()} == {
            "carp1": [0],
            "carp2": [1],
            "carp3": [2],
            "carp4": [None],
            "carp5": [None],
        }

    housed(scenario)


def test_addresses_that_others_have_too() -> None:
    """How many have each, and which of them this one is, as askers are counted; in the order of its own addresses."""

    async def scenario(house: House) -> None:
        shown = house.shown()
        assert {name: one["shared"] for name, one in shown.items() if one["shared"]} == {
            "carp1": [
                {"address": "198.51.100.100", "index": 0, "of": 2},
                {"address": "2001:db8::100", "index": 0, "of": 3},
            ],
            "carp2": [
                {"address": "2001:db8::100", "index": 1, "of": 3},
                {"address": "198.51.100.100", "index": 1, "of": 2},
            ],
            "carp3": [{"address": "2001:db8::100", "index": 2, "of": 3}],
        }

    housed(scenario)


def test_the_newest_is_the_first_on_netbsd() -> None:
    """The number is that by which askers are given to it."""

    async def scenario(house: House) -> None:
        shown = house.shown()
        assert [shown[name]["shared"][0]["index"] for name in ("carp1", "carp2")] == [1, 0]

    netbsd = {"carp1": {**FIRST, "dialect": "netbsd"}, "carp2": {**SECOND, "dialect": "netbsd"}}
    housed(scenario, netbsd)


def test_who_is_down_shares_nothing() -> None:
    """And is not counted."""

    async def scenario(house: House) -> None:
        shown = house.shown()
        assert shown["carp3"]["shared"] == []
        assert [one["of"] for one in shown["carp1"]["shared"]] == [2, 2]

    housed(scenario, {**DOCUMENT, "carp3": {**THIRD, "up": False}})


def test_advertisements_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told while they are, then as what was; and no more when right ones have come from there, or after a minute."""

    async def scenario(house: House) -> None:
        (parameters,) = house.runtime.engine.host.parameters.interfaces
        peer = Peer.of(parameters)

        def told(later_s: float = 0) -> str:
            """Return the only warning, "" for none."""
            monkeypatch.setattr(status, "boottime", lambda: Instant(boottime() + round(later_s * NANOSECONDS_PER_SECOND)))
            (node,) = house.shown()["carp1"]["nodes"]
            return str(*node["warnings"])

        def hear(key: Key) -> None:
            peer.key = key
            house.runtime.handle(peer.arrives(peer.advertisement(), boottime()))

        right = peer.key
        hear(KEY_OF_ANOTHER)
        assert told().startswith("advertisements of 192.0.2.200 are refused: its pass phrase or address list differs")
        assert told(20).startswith("advertisements of 192.0.2.200 were refused until 20 s ago: its pass phrase")
        assert told(61) == ""
        hear(right)
        assert told() == ""
        hear(KEY_OF_ANOTHER)
        assert "are refused" in told()

    housed(scenario, {"carp1": {**FIRST, "addresses": ["198.51.100.100/24"]}})
