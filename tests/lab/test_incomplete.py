"""Carp interfaces that are not whole yet: what of them is in the kernel, and what becomes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from document_host import DocumentHost

from lab.capture import Capture
from lab.netns import Namespace
from lab.pairs import QUICK, SLACK_S, make_pair, settle, transitions, virtual_mac
from lab.ping import ping
from lab.stage import SHARED, Stage
from lab.tables import addresses, links, portrait
from lab.wait import holds_for, until

pytestmark = pytest.mark.usefixtures("carpd")

WHOLE = {"vhid": 1, "carpdev": "eth0", "advbase": 0, "advskew": 40, "pass": "opensesame", "addresses": list(SHARED)}
PLACEHOLDER = "bridge"


def without(*keys: str) -> dict[str, Any]:
    """Return a table that lacks keys."""
    return {key: value for key, value in WHOLE.items() if key not in keys}


@pytest.fixture
def host(stage: Stage, tmp_path: Path) -> Iterator[DocumentHost]:
    """Run a daemon without carp interfaces on host a."""
    with DocumentHost(stage.port("a"), tmp_path) as running:
        running.change({})
        yield running


def kind_of(host: DocumentHost, name: str = "carp0") -> str | None:
    """Tell what link a carp interface has."""
    link = links(host.namespace).get(name)
    return None if link is None else str(link["linkinfo"]["info_kind"])


def is_down(host: DocumentHost, name: str = "carp0") -> bool:
    """Tell whether a link is down."""
    return "UP" not in links(host.namespace)[name]["flags"]


class TestLinks:
    def test_created_only(self, host: DocumentHost) -> None:
        """A carp interface that has nothing but its name has a link, which is down."""
        answer = host.change({"carp1": {}})
        assert answer == {"problems": [], "interfaces": {}}
        assert (kind_of(host, "carp1"), is_down(host, "carp1")) == (PLACEHOLDER, True)

    def test_destroyed(self, host: DocumentHost) -> None:
        """Its link goes, and nothing else does."""
        host.change({"carp1": {}, "carp2": {}, "carp3": without("carpdev")})
        indexes = {name: link["ifindex"] for name, link in links(host.namespace).items()}
        host.change({"carp2": {}, "carp3": without("carpdev")})
        del indexes["carp1"]
        assert {name: link["ifindex"] for name, link in links(host.namespace).items()} == indexes

    def test_many(self, host: DocumentHost) -> None:
        """A hundred of them come and go."""
        host.change({f"carp{number}": {} for number in range(100)})
        assert sum(name.startswith("carp") for name in links(host.namespace)) == 100
        host.change({})
        assert sum(name.startswith("carp") for name in links(host.namespace)) == 0

    def test_step_by_step(self, host: DocumentHost) -> None:
        """Create, vhid, parent, addresses: a placeholder until it has a parent, then a macvlan with the virtual MAC."""
        steps = [
            ({}, None, PLACEHOLDER),
            (without("carpdev", "addresses"), "no carpdev", PLACEHOLDER),
            (without("addresses"), "no address", "macvlan"),
            (WHOLE, "", "macvlan"),
        ]
        for table, why, kind in steps:
            answer = host.change({"carp0": table})
            assert answer["problems"] == []
            assert kind_of(host) == kind
            if why is not None:
                assert answer["interfaces"]["carp0"]["why"] == why
                assert answer["interfaces"]["carp0"]["demote"] == 0
        assert links(host.namespace)["carp0"]["address"] == virtual_mac(1)
        until(lambda: set(SHARED) <= addresses(host.namespace, "carp0"), SLACK_S, "the shared addresses")

    def test_backwards(self, host: DocumentHost) -> None:
        """And the other way round: a MASTER that loses its parent bows out, and a placeholder is left."""
        host.change({"carp0": WHOLE})
        until(lambda: set(SHARED) <= addresses(host.namespace, "carp0"), SLACK_S, "the shared addresses")
        answer = host.change({"carp0": without("carpdev")})
        assert (kind_of(host), is_down(host)) == (PLACEHOLDER, True)
        assert answer["interfaces"]["carp0"]["state"] == "INIT"
        assert set(SHARED) & addresses(host.namespace) == set()
        host.change({"carp0": {}})
        assert kind_of(host) == PLACEHOLDER
        host.change({})
        assert kind_of(host) is None

    def test_it_leads_nowhere(self, host: DocumentHost, stage: Stage) -> None:
        """Making and removing placeholders says nothing on the LAN."""
        own = bytes.fromhex(stage.port("a").mac.replace(":", ""))
        with Capture(stage.port("a")) as capture:
            for document in ({"carp1": {}}, {"carp1": {}, "carp0": without("carpdev")}, {}):
                host.change(document)
            assert capture.frames(lambda frame: frame[6:12] != own) == []

    def test_the_addresses_of_the_parent_itself(self, host: DocumentHost) -> None:
        """A carp interface with the parent's MAC has no link of its own, with or without a parent."""
        for table in (without("carpdev"), WHOLE):
            host.change({"carp0": table | {"lladdr": "parent"}})
            assert kind_of(host) is None

    def test_a_name_that_is_taken(self, host: DocumentHost) -> None:
        """Another's link of that name is left alone, and named."""
        host.namespace.ip("link add carp1 type bridge")
        index = links(host.namespace)["carp1"]["ifindex"]
        answer = host.change({"carp1": {}})
        assert answer["problems"] == ["carp1 exists already and is not carpd's: remove it or choose another name"]
        host.change({})
        assert links(host.namespace)["carp1"]["ifindex"] == index

    def test_deleted_by_somebody_else(self, host: DocumentHost) -> None:
        """It is made again."""
        host.change({"carp1": {}})
        index = links(host.namespace)["carp1"]["ifindex"]
        host.namespace.ip("link del carp1")
        until(lambda: links(host.namespace).get("carp1", {"ifindex": index})["ifindex"] != index, SLACK_S, "another carp1")


class TestEnds:
    def test_a_clean_stop(self, stage: Stage, tmp_path: Path) -> None:
        """No trace is left."""
        port = stage.port("a")
        before = portrait(port.namespace)
        with DocumentHost(port, tmp_path) as host:
            host.change({"carp1": {}, "carp0": without("carpdev")})
        assert before.differences(portrait(port.namespace)) == []

    def test_a_crash(self, stage: Stage, tmp_path: Path) -> None:
        """The next start, which asks for none of them, removes what was left."""
        (a,) = make_pair(stage)[:1]
        crashed = DocumentHost(a.port, a.state)
        crashed.change({"carp1": {}, "carp2": without("carpdev") | {"vhid": 2}})
        crashed.kill()
        assert {"carp1", "carp2"} <= links(a.namespace).keys()
        settle(QUICK, a)
        assert links(a.namespace).keys() & {"carp1", "carp2"} == set()
        assert "carp1, carp2" in a.log_text()


class TestParents:
    def test_a_parent_that_goes_and_comes_back(self, stage: Stage) -> None:
        """While the parent is gone a placeholder keeps the name; with the parent back the carp interface works again."""
        a, _ = make_pair(stage)
        settle(QUICK, a)
        a.port.remove_interface()
        until(lambda: _kind(a.namespace, "carp0") == PLACEHOLDER, SLACK_S, "a placeholder")
        a.wait_for_state("INIT", SLACK_S)
        a.port.create_interface(["192.0.2.1/24", "2001:db8::1/64"])
        until(lambda: _kind(a.namespace, "carp0") == "macvlan", SLACK_S, "a macvlan")
        settle(QUICK, a)
        assert ping(stage.client.namespace, "192.0.2.100", count=10) == 10

    def test_a_parent_that_moves_away_and_back(self, stage: Stage) -> None:
        """Into another namespace, where its macvlan does not follow: what is left holds the place, and it works again."""
        a, _ = make_pair(stage)
        settle(QUICK, a)
        other = stage.port("x").namespace
        a.namespace.ip(f"link set dev eth0 netns {other.name} name away0")
        a.wait_for_state("INIT", SLACK_S)
        assert "carp0" in links(a.namespace)
        other.ip(f"link set dev away0 netns {a.namespace.name} name eth0")
        a.namespace.sysctl("ipv6/conf/eth0/accept_dad", 0)
        a.namespace.ip("addr replace 192.0.2.1/24 dev eth0", "link set dev eth0 up")
        until(lambda: is_macvlan_of(a.namespace, "eth0"), SLACK_S, "a macvlan on the parent")
        settle(QUICK, a)
        assert ping(stage.client.namespace, "192.0.2.100", count=10) == 10


class TestBeside:
    def test_a_master_does_not_notice(self, host: DocumentHost, stage: Stage) -> None:
        """Incomplete interfaces that come, change and go beside a MASTER cost it nothing."""
        host.change({"carp0": WHOLE})
        until(lambda: set(SHARED) <= addresses(host.namespace, "carp0"), SLACK_S, "the shared addresses")
        index = links(host.namespace)["carp0"]["ifindex"]
        other = {"vhid": 2, "addresses": ["192.0.2.101/24"], "pass": "opensesame"}
        for table in ({}, other, other | {"carpdev": "eth0"}, other, {}):
            answer = host.change({"carp0": WHOLE, "carp1": table})
            assert answer["interfaces"]["carp0"]["state"] == "MASTER"
            assert ping(stage.client.namespace, "192.0.2.100", count=50) == 50
        host.change({"carp0": WHOLE})
        assert links(host.namespace)["carp0"]["ifindex"] == index


class TestDown:
    def test_put_down_and_up(self, stage: Stage) -> None:
        """A MASTER that is put down hands over at once and keeps its link, down; put up it comes back."""
        a, b = make_pair(stage)
        settle(QUICK, a, b)
        index = links(a.namespace)["carp0"]["ifindex"]
        before = transitions(b)
        self.reload(a, up=False)
        b.wait_for_state("MASTER", SLACK_S)
        assert transitions(b) == before + 1
        assert a.state_of() == "INIT"
        until(lambda: "UP" not in links(a.namespace)["carp0"]["flags"], SLACK_S, "the link to go down")
        assert holds_for(lambda: a.interface()["demote"] == 0, 0.5)
        self.reload(a, up=True)
        settle(QUICK, a, b)
        assert links(a.namespace)["carp0"]["ifindex"] == index

    @staticmethod
    def reload(host: Any, *, up: bool) -> None:
        """Change the key `up` while the daemon runs."""
        host.configure([carp.but(extra={"up": up}) for carp in host.carps], **host.global_keys)
        host.reload()


def is_macvlan_of(namespace: Namespace, parent: str) -> bool:
    """Tell whether carp0 is a macvlan on a parent."""
    link = links(namespace).get("carp0")
    return link is not None and link["linkinfo"]["info_kind"] == "macvlan" and link.get("link") == parent


def _kind(namespace: Namespace, name: str) -> str | None:
    link = links(namespace).get(name)
    return None if link is None else str(link["linkinfo"]["info_kind"])
