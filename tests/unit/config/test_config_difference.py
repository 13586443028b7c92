"""What an operator reads about a change, before and after it."""

from pathlib import Path

import pytest

from carp.config.difference import differences, order_warnings
from carp.config.errors import key_text
from carp.config.load import Source, load_document

RUNNING = Source(key_text, Path(), incomplete_ok=True)
CARP0 = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.100/24", "2001:db8::100/64"]}
WARNING = "carp0: this host is MASTER: the BACKUPs are to be changed before it, all within digest-grace (60 s)"


def load(document):
    """Check a running document."""
    return load_document(document, RUNNING)


def changed(**change):
    """Return what differs after a change of [carp0]; a key of None is taken away, `_` stands for `-`."""
    table = {key.replace("_", "-"): value for key, value in (CARP0 | change).items() if value is not None}
    return differences(load({"carp0": CARP0}), load({"carp0": table}))


def test_nothing():
    """What is the same is not told, however it is written."""
    assert changed() == []
    assert changed(advskew=0, groups=["carp"], up=True, addresses=["192.0.2.100/24", "2001:DB8:0::100/64"]) == []
    assert changed(vhid=None, carpnodes=["1:0"]) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"advskew": 100}, "advskew 0 -> 100"),
        ({"advbase": 2}, "advbase 1 -> 2"),
        ({"up": False}, "up true -> false"),
        ({"vhid": 2}, "vhid 1 -> 2 (made anew)"),
        ({"carpdev": "eth1"}, "carpdev eth0 -> eth1 (made anew)"),
        ({"lladdr": "02:00:00:00:00:0A"}, "lladdr virtual -> 02:00:00:00:00:0a (made anew)"),
        ({"dialect": "openbsd"}, "dialect auto -> openbsd (made anew)"),
        ({"preempt": True}, "preempt as [global] -> true"),
        ({"demote_skew": True}, "demote-skew false -> true"),
        ({"digest_grace": 0.5}, "digest-grace 60 s -> 0.5 s"),
        ({"peer_master_down": 2}, "peer-master-down worked out -> 2 s"),
        ({"pass": "other"}, "pass phrase changed"),
        ({"pass": None}, "pass phrase removed"),
        ({"carppeer": ["10.0.0.2"]}, "carppeer 10.0.0.2 added"),
        ({"groups": ["carp", "lan"]}, "group lan added"),
        ({"groups": []}, "group carp removed"),
        ({"addresses": [*CARP0["addresses"], "192.0.2.101/24"]}, "address 192.0.2.101/24 added"),
        ({"addresses": ["192.0.2.100/24"]}, "address 2001:db8::100/64 removed"),
        ({"addresses": ["192.0.2.100/25", "2001:db8::100/64"]}, "address 192.0.2.100/24 -> 192.0.2.100/25"),
        ({"addresses": ["2001:db8::100/64", "192.0.2.100/24"]}, "order of addresses changed"),
        ({"vhid": None}, "vhid 1 -> none"),
        ({"carpdev": None}, "carpdev eth0 -> none"),
        ({"vhid": None, "carpnodes": ["2:0"]}, "vhid 1 -> 2 (made anew)"),
        ({"snooping": "off"}, "snooping mrd -> off"),
    ],
)
def test_one_value(change, expected):
    """Each value that differs is one sentence; it says where the interface is taken down and made anew."""
    assert changed(**change) == [f"carp0: {expected}"]


BALANCED = {"vhid": None, "carpnodes": ["4:100", "3:0"]}


def test_one_virtual_host_more():
    """One virtual host becomes several: the vhids differ, and so does the MAC."""
    assert changed(**BALANCED) == ["carp0: balancing none -> ip (made anew)", "carp0: carpnodes 1:0 -> 3:0,4:100 (made anew)"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"balancing": "ip", "carpnodes": ["3:0", "4:100"]}, []),
        ({"carpnodes": ["4:0", "3:100"]}, ["carpnodes 3:0,4:100 -> 3:100,4:0"]),
        ({"carpnodes": ["3:0", "5:100"]}, ["carpnodes 3:0,4:100 -> 3:0,5:100 (made anew)"]),
        ({"carpnodes": ["2:0", "3:0", "4:100"]}, ["carpnodes 3:0,4:100 -> 2:0,3:0,4:100 (made anew)"]),
        ({"balancing": "ip-stealth"}, ["balancing ip -> ip-stealth (made anew)"]),
        ({"balancing": "arp"}, ["balancing ip -> arp (made anew)"]),
    ],
)
def test_several_virtual_hosts(change, expected):
    """Of several an advskew changes in place; other vhids, another mode and another MAC need the link made anew."""
    before, after = ({**CARP0, **BALANCED}, {**CARP0, **BALANCED, **change})
    before, after = ({key: value for key, value in table.items() if value is not None} for table in (before, after))
    assert differences(load({"carp0": before}), load({"carp0": after})) == [f"carp0: {one}" for one in expected]


def test_first_pass_phrase():
    """The first one is set; none is ever shown."""
    bare = {key: value for key, value in CARP0.items() if key != "pass"}
    assert differences(load({"carp0": bare}), load({"carp0": CARP0})) == ["carp0: pass phrase set"]


def test_keys_are_not_shown():
    """No sentence and no warning holds a key."""
    text = "\n".join([*changed(**{"pass": "hushhush"}), *order_warnings(load({"carp0": CARP0}), load({}), {"carp0"})])
    assert "secret" not in text
    assert "hush" not in text


def test_interfaces_come_and_go():
    """A new interface and one that is gone are told by name, a draft like any other, in the order of the numbers."""
    assert differences(load({"carp10": {}, "carp1": CARP0}), load({"carp2": {}, "carp1": CARP0})) == [
        "carp2: new",
        "carp10: removed",
    ]
    assert differences(load({}), load({"carp0": CARP0})) == ["carp0: new"]


def test_drafts():
    """What is said of an interface before it has a vhid is told too; nothing is made anew where nothing was."""
    assert differences(load({"carp0": {}}), load({"carp0": {"advskew": 5, "pass": "secret"}})) == [
        "carp0: advskew 0 -> 5",
        "carp0: pass phrase set",
    ]
    assert differences(load({"carp0": {"pass": "secret"}}), load({"carp0": CARP0})) == [
        "carp0: carpdev none -> eth0",
        "carp0: vhid none -> 1",
        "carp0: address 192.0.2.100/24 added",
        "carp0: address 2001:db8::100/64 added",
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("preempt", True, "preempt false -> true"),
        ("allow", False, "allow true -> false"),
        ("log", 3, "log 2 -> 3"),
        ("arpbalance", True, "arpbalance false -> true"),
        ("dscp", 46, "dscp as the dialect -> 46"),
        ("ifdown-demotion-factor", 240, "ifdown-demotion-factor 1 -> 240"),
        ("senderr-demotion-factor", 0, "senderr-demotion-factor 1 -> 0"),
        ("fence", "off", "fence auto -> off (from the next start of carpd)"),
        ("realtime", True, "realtime false -> true (from the next start of carpd)"),
    ],
)
def test_global(key, value, expected):
    """Every value of [global] is told, before the interfaces; two of them wait for a start."""
    after = load({"carp0": {**CARP0, "advskew": 1}, "global": {key: value}})
    assert differences(load({"carp0": CARP0}), after) == [expected, "carp0: advskew 0 -> 1"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"script-user": "root"}, "script-user nobody -> root"),
        ({"start-demote": 5}, "start-demote 0 -> 5 (from the next start of carpd)"),
        ({"start-demote-time": 0.5}, "start-demote-time 60 s -> 0.5 s (from the next start of carpd)"),
        ({"preempt-delay": 5}, "carp0: preempt-delay 0 s -> 5 s"),
    ],
)
def test_start_and_scripts(change, expected):
    """What is about the start changes nothing now, and says so; what interfaces take from [global] is told of each."""
    assert differences(load({"carp0": CARP0}), load({"carp0": CARP0, "global": change})) == [expected]


def test_preempt_delay():
    """An own delay is compared with that of [global]."""
    of_all = {"global": {"preempt-delay": 5}}
    before = load({**of_all, "carp0": CARP0})
    assert differences(before, load({**of_all, "carp0": {**CARP0, "preempt-delay": 5}})) == []
    after = load({**of_all, "carp0": {**CARP0, "preempt-delay": 0}})
    assert differences(before, after) == ["carp0: preempt-delay 5 s -> 0 s"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"interval": 2}, ["interval 1 s -> 2 s"]),
        ({"timeout": 0.5}, ["timeout 1 s -> 0.5 s"]),
        ({"rise": 1, "fall": 1}, ["rise 2 -> 1", "fall 3 -> 1"]),
        ({"demote": 9}, ["demote 1 -> 9"]),
        ({"groups": ["carp0", "all"]}, ["groups carp -> all,carp0"]),
        ({"http": "https://b/"}, ["http http://a/ -> http https://b/"]),
        ({"status": [204, 200]}, ["status 200..399 -> 200,204"]),
        ({"verify-tls": False}, ["verify-tls true -> false"]),
        ({"http": None, "route": "default", "device": "eth1"}, ["http http://a/ -> route default", "device none -> eth1"]),
    ],
)
def test_changed_track(change, expected):
    """A track that changed is told value by value; one that checks something else has other numbers, which are not told."""
    table = {key: value for key, value in ({"http": "http://a/"} | change).items() if value is not None}
    before, after = (load({"carp0": CARP0, "track": {"x": one}}) for one in ({"http": "http://a/"}, table))
    assert differences(before, after) == [f"track x: {one}" for one in expected]


def test_tracks_that_come_and_go():
    """Tracks are told by name, before the carp interfaces; in which order they stand is no difference."""
    one, two = {"file": "/a"}, {"file": "/b"}
    before = load({"carp0": CARP0, "track": {"a": one, "b": two, "c": one}})
    assert differences(before, load({"carp0": CARP0, "track": {"c": one, "b": two, "a": one}})) == []
    after = load({"carp0": {**CARP0, "advskew": 1}, "track": {"d": one, "b": {"file": "/c"}, "c": one}})
    assert differences(before, after) == [
        "track a: removed",
        "track b: file /b -> file /c",
        "track d: new",
        "carp0: advskew 0 -> 1",
    ]


def test_hooks():
    """Hooks are told as they hold for each interface, wherever they are written; times only where they mean something."""
    before = load({"carp0": CARP0, "global": {"hooks": {"timeout": 5, "pre-master-deadline": 1}}})
    assert differences(before, load({"carp0": CARP0})) == []
    hooks = {"master": ["/bin/sh", "-c", "a b"], "init": "/bin/sh"}
    after = load({"carp0": CARP0, "carp1": {}, "global": {"hooks": hooks}})
    assert differences(before, after) == [
        "carp0: hook master none -> /bin/sh -c 'a b'",
        "carp0: hook init none -> /bin/sh",
        "carp1: new",
    ]
    first = {**CARP0, "hooks": {"init": "/bin/sh", "timeout": 5}}
    assert differences(load({"carp0": CARP0}), load({"carp0": first})) == ["carp0: hook init none -> /bin/sh"]
    own = {"init": "/bin/true", "timeout": 2.5, "pre-master-deadline": 1}
    later = load({"carp0": {**CARP0, "hooks": own}, "carp1": {}})
    assert differences(after, later) == [
        "carp0: hook master /bin/sh -c 'a b' -> none",
        "carp0: hook init /bin/sh -> /bin/true",
        "carp0: hook timeout 10 s -> 2.5 s",
        "carp0: hook pre-master-deadline 2 s -> 1 s",
        "carp1: hook master /bin/sh -c 'a b' -> none",
        "carp1: hook init /bin/sh -> none",
    ]


def warned(change, masters=("carp0",), **kept):
    """Return the warnings about the order for a change of [carp0]; `kept` holds before and after it."""
    before = {**CARP0, **kept}
    return order_warnings(load({"carp0": before}), load({"carp0": {**before, **change}}), masters)


@pytest.mark.parametrize("change", [{"pass": "other"}, {"addresses": ["192.0.2.100/24"]}])
def test_order(change):
    """A MASTER that changes its key or its addresses first would be refused by its peers, and is told the order."""
    assert warned(change) == [WARNING]
    assert warned(change, masters=()) == []
    assert warned({**change, "up": False}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"advskew": 100},
        {"addresses": ["192.0.2.100/25", "2001:db8::100/128"]},
        {"addresses": [*CARP0["addresses"], "fe80::100/64"]},
        {"addresses": CARP0["addresses"][::-1]},
    ],
)
def test_order_does_not_matter(change):
    """What the digest does not cover needs no order: values, prefixes, and to `auto` link-local addresses and their order."""
    assert warned(change) == []


def test_order_of_addresses_in_the_digest():
    """To a dialect that puts the addresses into the digest as they stand, their order matters."""
    assert warned({"addresses": ["192.0.2.101/24", "192.0.2.100/24"]}, dialect="freebsd6", addresses=["192.0.2.100/24"])
    turned = {"addresses": ["192.0.2.101/24", "192.0.2.100/24"]}
    assert warned(turned, dialect="freebsd6", addresses=["192.0.2.100/24", "192.0.2.101/24"]) == [WARNING]


def test_order_without_grace():
    """Without grace there is no time between one host and the next."""
    (warning,) = warned({"pass": "other"}, **{"digest-grace": 0})
    assert warning.endswith("changed before it, all at the same moment, as digest-grace is 0")


def test_order_of_new_and_removed_interfaces():
    """Interfaces that come or go are no change of a digest."""
    assert order_warnings(load({}), load({"carp0": CARP0}), {"carp0"}) == []
    assert order_warnings(load({"carp0": CARP0}), load({}), {"carp0"}) == []
