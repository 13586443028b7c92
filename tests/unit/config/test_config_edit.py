"""Changes of the running document, one rule of the BSD words after the other."""

import copy
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carp.config.change import Change, WrittenAddress
from carp.config.edit import EditError, HostView, ParentView, apply, set_global
from carp.config.errors import ConfigError, key_text
from carp.config.load import Source, load_document

RUNNING = Source(key_text, Path("/etc/carp"), incomplete_ok=True)


def parent(name, *addresses, up=True):
    """Make an interface of the host."""
    return ParentView(name, up, tuple(ip_interface(address) for address in addresses))


HOST = HostView(
    (
        parent("lo", "127.0.0.1/8", "203.0.113.7/32"),
        parent("carp9", "192.0.2.100/30"),
        parent("eth0", "192.0.2.1/24", "2001:db8::1/56", "fe80::1/64"),
        parent("eth1", "10.0.0.1/8"),
        parent("eth2", "10.1.0.1/16"),
        parent("eth3", "198.51.100.1/24", up=False),
    )
)
CARP0 = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.100/24"]}


def addresses(*words):
    """Write addresses, with or without a prefix length."""
    pairs = [word.partition("/") for word in words]
    return tuple(WrittenAddress(ip, int(length) if length else None) for ip, _, length in pairs)


def edited(table=None, host=HOST, **change):
    """Return [carp0] after a change of it; `table` None: it does not exist yet."""
    document = {} if table is None else {"carp0": table}
    return apply(document, Change("carp0", **change), host)["carp0"]


def refusal(table=None, host=HOST, **change):
    """Return the sentence that refuses a change of carp0."""
    with pytest.raises(EditError) as caught:
        edited(table, host, **change)
    return str(caught.value)


def test_create():
    """A new interface is there by name alone, and only once."""
    assert edited(create=True) == {}
    assert refusal({}, create=True) == "carp0: create: it exists already"


def test_create_with_more():
    """A line that creates may say what the interface should be."""
    assert edited(create=True, set={"vhid": 1}) == {"vhid": 1}


def test_creation_by_first_use():
    """A change of an unknown interface creates it; the others stay."""
    assert apply({"carp1": CARP0}, Change("carp0", set={"advskew": 100}), HOST) == {"carp0": {"advskew": 100}, "carp1": CARP0}


def test_destroy():
    """An interface goes away with everything that was said of it; what is not there cannot."""
    assert apply({"carp0": CARP0, "carp1": {}}, Change("carp0", destroy=True), HOST) == {"carp1": {}}
    assert refusal(destroy=True) == "carp0: destroy: there is no such carp interface"
    assert refusal(CARP0, destroy=True, up=False) == "carp0: destroy: nothing else is allowed in the same change"


@pytest.mark.parametrize("name", ["carp", "carp01", "eth0", "global", "carp10000"])
def test_name(name):
    """Only carp interfaces are changed, never [global] by this way."""
    with pytest.raises(EditError, match=r"is not the name of a carp interface: carp0\.\.carp9999$"):
        apply({}, Change(name, create=True), HOST)


@pytest.mark.parametrize("change", [{"remove_addresses": addresses("192.0.2.1")}, {"remove_groups": ("carp",)}])
def test_removing_creates_nothing(change):
    """Nothing can be removed from an interface that is not there."""
    assert refusal(**change) == "carp0: there is no such carp interface to remove something from"


def test_set_and_unset():
    """A value is set, or goes back to its default; taking back what was never set is no error."""
    assert edited({**CARP0, "advskew": 1}, set={"advskew": 100, "advbase": 2}) == {**CARP0, "advskew": 100, "advbase": 2}
    assert edited({**CARP0, "carppeer": ["10.0.0.2"]}, unset=("carppeer",)) == CARP0
    assert edited(CARP0, unset=("carppeer",)) == CARP0


def test_words_that_contradict_themselves():
    """A key is set or taken back, a group added or removed, a list given or changed: not both in one line."""
    assert refusal(CARP0, set={"carppeer": ["10.0.0.2"]}, unset=("carppeer",)).startswith("carp0: carppeer: either set or")
    assert refusal(CARP0, add_groups=("lan",), remove_groups=("lan",)).startswith('carp0: group: "lan" is either')
    assert refusal(CARP0, set={"addresses": [5]}, add_addresses=addresses("192.0.2.7")).startswith("carp0: addresses: either")
    assert refusal(CARP0, set={"groups": "lan"}, remove_groups=("lan",)).startswith("carp0: groups: either")
    assert refusal(CARP0, set={"up": 5}, up=False).startswith("carp0: up: either")


@pytest.mark.parametrize("values", [{"groups": 1}, {"addresses": 1}, {"up": 1}, {"carppeer": {}}, {"carpdev": 1}])
def test_values_of_wrong_types(values):
    """A value of whatever type is set, and the check of the whole refuses it."""
    table = edited(CARP0, set=values)
    with pytest.raises(ConfigError):
        load_document({"carp0": table}, RUNNING)


def test_unknown_words():
    """An unknown key is refused: of those taken back here, of those set when the whole is checked."""
    assert refusal(CARP0, unset=("carpper",)) == "carp0: -carpper: unknown key; did you mean carppeer?"
    assert refusal(CARP0, unset=("x",)).startswith("carp0: -x: unknown key; allowed: carpdev, vhid, ")
    with pytest.raises(ConfigError, match=r"^carp0\.advskw: unknown key; did you mean advskew\?$"):
        load_document(apply({}, Change("carp0", set={"advskw": 1}), HOST), RUNNING)


def test_null():
    """JSON's null is no value: a file could not hold it."""
    expected = "carp0: pass: null is not allowed: unset takes a key back to its default"
    assert refusal(CARP0, set={"pass": None}) == expected


def test_a_conflict_is_blamed_on_what_is_changed():
    """What is changed comes last, and of two with one vhid, or one address that they cannot share, a check blames the last."""
    other = {**CARP0, "vhid": 2, "addresses": ["192.0.2.101/24"], "lladdr": "parent"}
    document = {"carp0": CARP0, "carp1": other}
    for change in (Change("carp0", set={"vhid": 2}), Change("carp0", add_addresses=addresses("192.0.2.101/24"))):
        with pytest.raises(ConfigError) as caught:
            load_document(apply(document, change, HOST), RUNNING)
        (problem,) = caught.value.problems
        assert problem.place.startswith("carp0.")


def test_forced_state():
    """A state is one of three words, and is not kept."""
    assert edited(CARP0, state="backup") == CARP0
    assert refusal(CARP0, state="slave") == 'carp0: state: "slave" is not allowed: one of init, backup, master'


def test_up_and_down():
    """Down is kept, up is the default."""
    assert edited(CARP0, up=False) == {**CARP0, "up": False}
    assert edited({**CARP0, "up": False}, up=True) == CARP0
    assert edited({}, up=True) == {}


def test_a_first_value_brings_nothing_down():
    """Neither a vhid nor an address says anything about up and down."""
    assert "up" not in edited({}, set={"vhid": 1}, add_addresses=addresses("192.0.2.100"))
    assert edited({"up": False}, set={"vhid": 1}, add_addresses=addresses("192.0.2.100"))["up"] is False


def test_vhid_instead_of_nodes():
    """A vhid ends balancing, and the nodes end with it."""
    table = {"carpdev": "eth0", "carpnodes": ["3:0"], "balancing": "none"}
    assert edited(table, set={"vhid": 3}) == {"carpdev": "eth0", "vhid": 3}


def test_nodes_instead_of_vhid():
    """Nodes hold vhid and advskew in themselves."""
    table = {"carpdev": "eth0", "vhid": 3, "advskew": 100, "advbase": 2}
    assert edited(table, set={"carpnodes": ["3:0"]}) == {"carpdev": "eth0", "carpnodes": ["3:0"], "advbase": 2}


def test_nodes_instead_of_one_node():
    """Several nodes end what was said of balancing while there was one; a mode that was asked for stays."""
    nodes = ["3:0", "4:100"]
    assert edited({"carpnodes": ["3:0"], "balancing": "none"}, set={"carpnodes": nodes}) == {"carpnodes": nodes}
    asked = {"carpnodes": nodes, "balancing": "ip-stealth"}
    assert edited({"vhid": 3, "balancing": "ip-stealth"}, set={"carpnodes": nodes}) == asked


def test_no_balancing_with_several_nodes():
    """Several nodes and none contradict each other, in one line or in two."""
    expected = r"^carp0\.carpnodes: a list of 2 with balancing none: one node, or another balancing$"
    both = {"carpnodes": ["3:0", "4:100"], "balancing": "none"}
    for document, change in (({}, both), ({"carp0": {"carpnodes": both["carpnodes"]}}, {"balancing": "none"})):
        with pytest.raises(ConfigError, match=expected):
            load_document(apply(document, Change("carp0", set=change), HOST), RUNNING)


def test_vhid_and_nodes_at_once():
    """Both in one line contradict each other, and the check of the whole says so."""
    with pytest.raises(ConfigError, match=r"carp0\.vhid: not together with carpnodes"):
        load_document(apply({}, Change("carp0", set={"vhid": 3, "carpnodes": ["3:0"]}), HOST), RUNNING)


@pytest.mark.parametrize(
    ("given", "value"), [("pass", "new"), ("pass-file", "/etc/carp/key"), ("key-hex", "00" * 20), ("pass-credential", "a")]
)
def test_one_key(given, value):
    """A new pass phrase, file or key takes the place of whichever there was."""
    for former in ("pass", "pass-file", "key-hex", "pass-credential"):
        assert edited({"vhid": 1, former: "old"}, set={given: value}) == {"vhid": 1, given: value}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("192.0.2.7/32", "192.0.2.7/32"),
        ("192.0.2.7", "192.0.2.7/24"),
        ("2001:db8:0:ff::7", "2001:db8:0:ff::7/56"),
        ("9.1.2.3", "9.1.2.3/8"),
        ("127.255.255.255/31", None),
        ("128.1.2.3", "128.1.2.3/16"),
        ("191.255.2.3", "191.255.2.3/16"),
        ("192.1.2.3", "192.1.2.3/24"),
        ("10.1.0.7", "10.1.0.7/8"),
        ("2001:db9::7", "2001:db9::7/64"),
        ("fe80::7", "fe80::7/64"),
    ],
)
def test_prefix(word, expected):
    """A prefix is as written, else the parent's that matches, else that of the class or 64; other interfaces do not count."""
    table = {"carpdev": "eth0", "vhid": 1}
    if expected is None:
        assert refusal(table, add_addresses=addresses(word)).startswith("carp0: 127.255.255.255 is not allowed: an address of")
    else:
        assert edited(table, add_addresses=addresses(word))["addresses"] == [expected]


def test_longest_prefix_of_the_parent():
    """Of two networks of the parent the smaller one is meant."""
    host = HostView((parent("eth0", "192.0.2.1/24", "192.0.2.2/28"),))
    found = edited({"carpdev": "eth0"}, host, add_addresses=addresses("192.0.2.3", "192.0.2.77"))
    assert found["addresses"] == ["192.0.2.3/28", "192.0.2.77/24"]


def test_parent_that_is_down_gives_its_prefix():
    """Once it is named, a parent need not be up, nor be there."""
    assert edited({"carpdev": "eth3"}, add_addresses=addresses("198.51.100.7"))["addresses"] == ["198.51.100.7/24"]
    assert edited({"carpdev": "gone"}, add_addresses=addresses("10.1.0.7"))["addresses"] == ["10.1.0.7/8"]


def test_parent_named_in_the_same_line():
    """Words stand in any order: a carpdev of the line counts for its addresses."""
    found = edited(set={"carpdev": "eth2"}, add_addresses=addresses("10.1.0.7", "10.2.0.7"))
    assert found == {"carpdev": "eth2", "addresses": ["10.1.0.7/16", "10.2.0.7/8"]}


@pytest.mark.parametrize(
    ("word", "carpdev", "written"),
    [
        ("192.0.2.101", "eth0", "192.0.2.101/24"),
        ("192.0.2.101/32", "eth0", "192.0.2.101/32"),
        ("192.0.2.1", "eth0", "192.0.2.1/24"),
        ("10.1.2.3", "eth2", "10.1.2.3/16"),
        ("10.2.2.3", "eth1", "10.2.2.3/8"),
        ("2001:db8::100/64", "eth0", "2001:db8::100/64"),
    ],
)
def test_parent_by_subnet(word, carpdev, written):
    """Without a carpdev it is the interface with the smallest network around the address; no carp interface is one."""
    assert edited({"vhid": 1}, add_addresses=addresses(word)) == {"vhid": 1, "carpdev": carpdev, "addresses": [written]}


def test_first_of_equal_parents():
    """Of two parents in the same network the kernel's first is meant."""
    host = HostView((parent("eth5", "192.0.2.5/24"), parent("eth1", "192.0.2.1/24")))
    assert edited({}, host, add_addresses=addresses("192.0.2.9"))["carpdev"] == "eth5"


@pytest.mark.parametrize("word", ["198.51.100.7/24", "203.0.113.7/32", "192.88.99.1", "2001:db9::1/64", "fe80::7/64"])
def test_no_parent_by_subnet(word):
    """An interface that is down, loopback and every interface's link-local network do not tell the parent."""
    ip = word.partition("/")[0]
    expected = f"carp0: carpdev: missing, and no interface that is up has a network with {ip}: name the parent"
    assert refusal({"vhid": 1}, add_addresses=addresses(word)) == expected


def test_any_address_of_the_line_finds_the_parent():
    """One address of the line in a network of a parent is enough."""
    assert edited({}, add_addresses=addresses("fe80::7", "192.0.2.7/32"))["carpdev"] == "eth0"


def test_no_address_no_search():
    """Without an address the parent stays missing, and nothing is refused."""
    assert edited({}, set={"vhid": 1}) == {"vhid": 1}


def test_a_named_parent_stays():
    """An address of another network does not change the carpdev."""
    assert edited(CARP0, add_addresses=addresses("10.1.0.7/16"))["carpdev"] == "eth0"


@pytest.mark.parametrize("word", ["192.0.2.100", "192.0.2.100/24"])
def test_address_again(word):
    """An address that is there already is no error, and keeps its place and its prefix."""
    table = {**CARP0, "addresses": ["192.0.2.100/24", "192.0.2.101/24"]}
    assert edited(table, add_addresses=addresses(word)) == table


def test_address_again_without_a_prefix():
    """An address that is there keeps its own prefix, not the parent's, unless another is written."""
    table = {**CARP0, "addresses": ["192.0.2.100/32"]}
    assert edited(table, add_addresses=addresses("192.0.2.100")) == table


def test_address_with_another_prefix():
    """Another prefix replaces the former one, in its place."""
    table = {**CARP0, "addresses": ["2001:DB8::1/64", "192.0.2.101/24"]}
    assert edited(table, add_addresses=addresses("2001:db8::1/128"))["addresses"] == ["2001:db8::1/128", "192.0.2.101/24"]


def test_address_deleted():
    """It goes by the address alone, however it was written; without any the key is gone, and the parent stays."""
    table = {**CARP0, "addresses": ["2001:DB8:0::1/64", "192.0.2.100/24"]}
    assert edited(table, remove_addresses=addresses("2001:db8::1"))["addresses"] == ["192.0.2.100/24"]
    assert edited(CARP0, remove_addresses=addresses("192.0.2.100/32")) == {"carpdev": "eth0", "vhid": 1, "pass": "secret"}


def test_deleting_what_is_not_there():
    """The answer names what is there."""
    expected = "carp0: delete: 192.0.2.101 is not one of its addresses: "
    assert refusal(CARP0, remove_addresses=addresses("192.0.2.101")) == expected + "192.0.2.100/24"
    assert refusal({}, remove_addresses=addresses("192.0.2.101")) == expected + "it has none"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("192.0.2.300", '"192.0.2.300" is not allowed: an IPv4 or IPv6 address'),
        ("fe80::1%eth0", '"fe80::1%eth0" is not allowed: an IPv4 or IPv6 address'),
        ("192.0.2.1/33", "192.0.2.1: prefix length 33 is not allowed: 1..32"),
        ("2001:db8::1/0", "2001:db8::1: prefix length 0 is not allowed: 1..128"),
        ("224.0.0.18", "224.0.0.18 is not allowed: an address of a host: not unspecified, loopback, multicast or broadcast"),
    ],
)
def test_not_an_address(word, expected):
    """What is no address of a host is refused for that, before its parent is looked for."""
    assert refusal({}, add_addresses=addresses(word)) == f"carp0: {expected}"
    assert refusal(CARP0, remove_addresses=addresses(word)) == f"carp0: {expected}"


def test_groups():
    """The first group joins carp; twice is no error; carp can be left."""
    assert edited({}, add_groups=("lan", "lan"))["groups"] == ["carp", "lan"]
    assert edited({"groups": ["carp", "lan"]}, add_groups=("lan",))["groups"] == ["carp", "lan"]
    assert edited({}, remove_groups=("carp",))["groups"] == []
    assert edited({"groups": ["carp", "lan"]}, remove_groups=("carp",))["groups"] == ["lan"]


def test_leaving_a_group():
    """A group that it is not in cannot be left."""
    assert refusal({}, remove_groups=("lan",)) == 'carp0: -group: "lan" is not one of its groups: carp'
    assert refusal({"groups": []}, remove_groups=("carp",)) == 'carp0: -group: "carp" is not one of its groups: it has none'


def test_global():
    """Values of [global] are set, and null takes one back; an empty table goes."""
    assert set_global({}, {"preempt": True}) == {"global": {"preempt": True}}
    assert set_global({"global": {"preempt": True, "log": 3}}, {"preempt": None}) == {"global": {"log": 3}}
    assert set_global({"global": {"dscp": 46}, "carp0": {}}, {"dscp": None, "log": None}) == {"carp0": {}}


def test_no_key_is_shown():
    """An error about a change with a key does not hold it, and neither does the change's representation."""
    change = Change("carp0", set={"pass": "hushhush"}, remove_addresses=addresses("192.0.2.1"))
    with pytest.raises(EditError) as caught:
        apply({"carp0": {"pass": "oldhush"}}, change, HOST)
    assert "hush" not in str(caught.value) + repr(caught.value) + repr(change)


EXAMPLES = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.sampled_from(["192.0.2.100", "192.0.2.100/32", "10.1.0.1", "2001:db8::7", "fe80::1", "9.9.9.9/8", "nonsense"])
GROUPS = st.lists(st.sampled_from(["carp", "lan", "wan"]), max_size=2).map(tuple)
SETS = st.dictionaries(
    st.sampled_from(["vhid", "carpnodes", "pass", "key-hex", "carpdev", "carppeer", "groups", "addresses", "advskew"]),
    st.sampled_from([1, "eth0", ["1:0"], ["10.0.0.2"]]),
    max_size=3,
)
CHANGES = st.builds(
    Change,
    st.sampled_from(["carp0", "carp1", "carp2"]),
    create=st.booleans(),
    destroy=st.booleans(),
    up=st.sampled_from([None, True, False]),
    set=SETS,
    unset=st.lists(st.sampled_from(["carppeer", "carpdev", "addresses", "groups"]), max_size=1).map(tuple),
    add_addresses=st.lists(WORDS, max_size=2).map(lambda words: addresses(*words)),
    remove_addresses=st.lists(WORDS, max_size=1).map(lambda words: addresses(*words)),
    add_groups=GROUPS,
    remove_groups=GROUPS,
)


@EXAMPLES
@given(CHANGES, st.booleans())
def test_the_given_document_stays(change, scribble):
    """Whatever is asked for, and whatever is done to the result, neither the document nor the change is another afterwards."""
    document = {
        "global": {"log": 3},
        "carp0": {**CARP0, "groups": ["carp", "lan"], "addresses": ["192.0.2.100/24"]},
        "carp1": {},
    }
    former, former_change = copy.deepcopy(document), copy.deepcopy(change)
    try:
        result = apply(document, change, HOST)
    except EditError:
        result = {}
    for table in result.values():
        for value in table.values():
            if isinstance(value, list) and scribble:
                value.append("scribble")
        table["scribble"] = True
    assert document == former
    assert change == former_change


TRACKS = {"uplink": {"interface": "eth1", "demote": 50}, "carp0": {"file": "/flag", "groups": ["carp0"]}}
WITH_HOOKS = {
    "global": {"script-user": "root", "hooks": {"change": ["/bin/sh", "-c", ":"]}},
    "track": TRACKS,
    "carp0": {**CARP0, "hooks": {"master": "/bin/sh", "timeout": 3}},
}


@pytest.mark.parametrize(
    "change",
    [
        Change("carp0", set={"advskew": 7}, add_addresses=(WrittenAddress("192.0.2.102", 24),), add_groups=("lan",)),
        Change("carp1", create=True),
        Change("carp0", up=False, set={"pass": "other"}),
    ],
)
def test_tracks_and_hooks_stay(change):
    """A line of ifconfig is about one carp interface and leaves what is checked and what is run alone."""
    before = load_document(WITH_HOOKS, RUNNING)
    after = load_document(apply(before.document, change, HOST), RUNNING)
    for name in ("global", "track"):
        assert after.document[name] == WITH_HOOKS[name]
    assert after.document["carp0"]["hooks"] == WITH_HOOKS["carp0"]["hooks"]
    assert (after.tracks, after.hooks["carp0"], after.script_user) == (before.tracks, before.hooks["carp0"], "root")
    again = load_document(set_global(after.document, {"log": 5}), RUNNING)
    assert again.document["global"] == {**WITH_HOOKS["global"], "log": 5}
    assert (again.tracks, again.hooks) == (after.tracks, after.hooks)


def test_a_carp_interface_with_a_track_can_be_made_again():
    """A track that names a carp interface is no reason to refuse to destroy it; that it demotes nothing is warned."""
    destroyed = load_document(apply(WITH_HOOKS, Change("carp0", destroy=True), HOST), RUNNING)
    assert destroyed.document["track"] == TRACKS
    assert len(destroyed.warnings) == 2
    assert load_document(apply(destroyed.document, Change("carp0", create=True), HOST), RUNNING).warnings == ()


@pytest.mark.parametrize("name", ["track", "hooks", "carp0.hooks"])
def test_tables_that_are_no_carp_interface(name):
    """None of the other tables can be changed as a carp interface."""
    with pytest.raises(EditError, match="is not the name of a carp interface"):
        apply(WITH_HOOKS, Change(name, destroy=True), HOST)


@pytest.mark.parametrize("value", [None, {"master": None}])
def test_null_within_a_value(value):
    """What no file could hold is not taken, in a table of hooks neither."""
    with pytest.raises(EditError, match=r"^carp0: hooks: null is not allowed: unset takes a key back to its default$"):
        edited({"vhid": 1}, set={"hooks": value})


@EXAMPLES
@given(CHANGES)
def test_a_change_is_carried_out_or_refused(change):
    """There is no third way: what comes out can be checked, and carrying it out again on a checked one never breaks."""
    try:
        once = load_document(apply({"carp0": CARP0, "carp1": {}}, change, HOST), RUNNING).document
        load_document(apply(once, change, HOST), RUNNING)
    except (EditError, ConfigError):
        pass
