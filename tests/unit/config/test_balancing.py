"""Load balancing in a configuration: what is taken for what, what is refused, and what is warned of."""

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from carp.config.edit import HostView, ParentView, apply, set_global
from carp.config.errors import ConfigError, key_text
from carp.config.globals import parse_assignment
from carp.config.ifconfig import parse
from carp.config.load import Source, load_document
from carp.protocol.parameters import Balancing, Node
from carp.protocol.sharing import shared_addresses

RUNNING = Source(key_text, Path("/etc/carp"), incomplete_ok=True)
STRICT = Source(key_text, Path("/etc/carp"))
NODES = {"carpdev": "eth0", "carpnodes": ["4:100", "3:0"], "pass": "secret", "addresses": ["192.0.2.10/24"]}
ONE = {"carpdev": "eth0", "vhid": 1, "pass": "secret", "addresses": ["192.0.2.10/24"]}
TWO = {**ONE, "vhid": 2, "advskew": 100}
MODES = ("ip", "ip-stealth", "ip-unicast", "arp")
BALANCED = {"global": {"arpbalance": True}}
FENCE = "load balancing needs the fence's BPF programs"

HOST = HostView(
    (
        ParentView("rl0", True, (ip_interface("172.16.240.100/24"),)),
        ParentView("rl1", True, (ip_interface("172.16.250.100/24"),)),
    )
)


def load(document, source=STRICT):
    """Check a document."""
    return load_document(document, source)


def interface(**keys):
    """Return the parameters of [carp0] with several nodes and other keys; `_` stands for `-`."""
    (found,) = load({"carp0": {**NODES, **{key.replace("_", "-"): value for key, value in keys.items()}}}).host.interfaces
    return found


def problems_of(document, source=STRICT):
    """Return the sentences about a document, none where it is accepted."""
    try:
        load_document(document, source)
    except ConfigError as error:
        return str(error).splitlines()
    return []


def refusal(**keys):
    """Return the one sentence about [carp0] with several nodes and other keys."""
    (line,) = problems_of({"carp0": {**NODES, **keys}})
    return line


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode):
    """Each mode of the BSDs is taken, with the nodes in ascending order of their vhids."""
    found = interface(balancing=mode)
    assert (found.balancing, found.nodes) == (Balancing(mode), (Node(3, 0), Node(4, 100)))


def test_several_nodes_without_a_mode():
    """They have ip, as on OpenBSD."""
    assert interface().balancing is Balancing.IP


@pytest.mark.parametrize("one", [{"vhid": 1}, {"carpnodes": ["3:0"]}])
@pytest.mark.parametrize("mode", MODES)
def test_one_node_has_none(one, mode):
    """As on OpenBSD, whatever is asked for; it is said, and keeps nobody from what needs one virtual host."""
    base = {key: value for key, value in NODES.items() if key != "carpnodes"}
    loaded = load({"global": {"fence": "off"}, "carp0": {**base, **one, "balancing": mode, "lladdr": "parent"}})
    assert loaded.host.interfaces[0].balancing is Balancing.NONE
    assert loaded.warnings == (f"carp0.balancing: {mode} has no effect on one virtual host: carpnodes lists several",)


@pytest.mark.parametrize("quiet", [{"vhid": 1}, {"vhid": 1, "balancing": "none"}, {"balancing": "ip"}, NODES])
def test_nothing_to_say(quiet):
    """Neither of none, nor of a mode that is waiting for its nodes, nor of one that balances."""
    assert load({"carp0": {"pass": "secret", **quiet}}, RUNNING).warnings == ()


@pytest.mark.parametrize(("word", "announces"), [("mrd", True), ("off", False)])
def test_snooping(word, announces):
    """Whether switches are told by Multicast Router Advertisements."""
    assert interface(snooping=word).announces_router is announces


def test_32_nodes():
    """As many as OpenBSD has, and not one more."""
    nodes = [f"{vhid}:0" for vhid in range(33, 0, -1)]
    assert len(interface(carpnodes=nodes[1:]).nodes) == 32
    expected = 'a list of 1..32 words "vhid:advskew", with vhid 1..255 and advskew 0..254'
    assert refusal(carpnodes=nodes) == f"carp0.carpnodes: a list of 33 is not allowed: {expected}"


def test_a_vhid_twice():
    """In one list, or in two of the same parent."""
    assert refusal(carpnodes=["3:0", "3:100"]) == "carp0.carpnodes: 3 is listed twice: each vhid once on a carpdev"
    other = {**NODES, "carpnodes": ["9:0", "4:0"], "addresses": ["192.0.2.11/24"]}
    expected = "carp1.carpnodes: 4 is also the vhid of carp0 on eth0: each vhid once on a carpdev"
    assert problems_of({"carp0": NODES, "carp1": other}) == [expected]
    assert problems_of({"carp0": NODES, "carp1": {**other, "carpdev": "eth1"}}) == []


def test_none_with_several_nodes():
    """A contradiction; OpenBSD silently takes ip."""
    assert refusal(balancing="none") == "carp0.carpnodes: a list of 2 with balancing none: one node, or another balancing"


@pytest.mark.parametrize(
    ("mode", "lladdr", "why"),
    [
        ("ip", "parent", "virtual, as every host receives the multicast MAC of the leader"),
        ("ip", "02:00:00:00:00:01", "virtual, as every host receives the multicast MAC of the leader"),
        ("arp", "parent", "virtual, as each node has a MAC of its own"),
        ("arp", "02:00:00:00:00:01", "virtual, as each node has a MAC of its own"),
        ("ip-stealth", "parent", "virtual, or a MAC that is the same on all hosts, as each of them receives every packet"),
        ("ip-unicast", "parent", "virtual, or a MAC that is the same on all hosts, as each of them receives every packet"),
    ],
)
def test_macs_that_cannot_be(mode, lladdr, why):
    """Every host receives the same MAC, or each node has one of its own: the parent's is neither."""
    assert refusal(balancing=mode, lladdr=lladdr) == f'carp0.lladdr: "{lladdr}" is not allowed: with balancing {mode} {why}'


def test_macs_that_cannot_be_without_a_mode():
    """Without a word several nodes have ip."""
    assert refusal(lladdr="parent").endswith(
        "with balancing ip virtual, as every host receives the multicast MAC of the leader"
    )


@pytest.mark.parametrize("mode", ["ip-stealth", "ip-unicast"])
def test_macs_that_are_chosen(mode):
    """Where the shared MAC is a unicast one it may be chosen, but cannot be a multicast one."""
    assert interface(balancing=mode, lladdr="02:00:00:00:00:01").mac == bytes.fromhex("020000000001")
    expected = "a MAC of one host: not zero, and the first byte even"
    assert refusal(lladdr="01:00:5e:00:01:03", balancing=mode).endswith(f"is not allowed: {expected}")


@pytest.mark.parametrize("mode", MODES)
def test_no_balancing_without_the_fence(mode):
    """Its programs are what keeps a share; without them every host would take everything."""
    document = {"global": {"fence": "off"}, "carp0": {**NODES, "balancing": mode}}
    expected = f'global.fence: "off" is not allowed: auto or required: carp0 has balancing {mode}, and {FENCE}'
    assert problems_of(document) == [expected]
    for word in ("auto", "required"):
        assert problems_of({**document, "global": {"fence": word}}) == []


def test_no_shared_address_without_the_fence():
    """The programs answer the askers, too."""
    document = {"global": {"fence": "off", "arpbalance": True}, "carp0": ONE, "carp1": TWO}
    expected = f'global.fence: "off" is not allowed: auto or required: 192.0.2.10 is an address of carp0 and carp1, and {FENCE}'
    assert problems_of(document) == [expected]
    assert problems_of({**document, "carp1": {**TWO, "addresses": ["192.0.2.11/24"]}}) == []
    assert problems_of({**document, "carp1": {**TWO, "carpdev": "eth1"}}) == []


def test_arpbalance():
    """The switch reaches the host."""
    assert load({**BALANCED, "carp0": ONE}).host.arpbalance
    assert not load({"carp0": ONE}).host.arpbalance


@pytest.mark.parametrize("address", ["192.0.2.10/24", "192.0.2.10/32", "2001:DB8:0::1/64"])
def test_a_shared_address(address):
    """Carp interfaces of one parent may have the same address; its prefix does not matter."""
    one, two = {**ONE, "addresses": ["192.0.2.10/24", "2001:db8::1/64"]}, {**TWO, "addresses": [address]}
    loaded = load({**BALANCED, "carp0": one, "carp1": two})
    (shared,) = shared_addresses(loaded.host.interfaces)
    assert [member.name for member in shared.members] == ["carp0", "carp1"]
    assert loaded.warnings == ()


def test_a_shared_address_before_the_switch():
    """The guides set it last: until then it is said who answers, once for each address."""
    both = ["192.0.2.10/24", "2001:db8::1/64"]
    document = {"carp0": {**TWO, "addresses": both}, "carp1": {**ONE, "addresses": both}}
    expected = "is an address of carp1 and carp0: only the MASTER of vhid 1 answers for it until net.inet.carp.arpbalance is 1"
    assert load(document).warnings == tuple(f"carp0.addresses: {ip} {expected}" for ip in ("192.0.2.10", "2001:db8::1"))
    assert load({**document, **BALANCED}).warnings == ()


def test_who_answers_before_the_switch_on_netbsd():
    """The one that is counted first: there that is the highest vhid."""
    document = {"carp0": {**ONE, "dialect": "netbsd"}, "carp1": {**TWO, "dialect": "netbsd"}}
    (warning,) = load(document).warnings
    assert "is an address of carp1 and carp0: only the MASTER of vhid 2 answers" in warning


def test_who_is_down_shares_nothing():
    """An interface that is down by its administrator's wish answers nobody, and there is nothing to say."""
    assert load({"carp0": ONE, "carp1": {**TWO, "up": False}}).warnings == ()


@pytest.mark.parametrize(
    ("one", "two", "why"),
    [
        (
            {"lladdr": "parent"},
            {},
            "carp0 has lladdr parent: each of several with one address has lladdr virtual, or a MAC of its own",
        ),
        (
            {},
            {"lladdr": "parent"},
            "carp1 has lladdr parent: each of several with one address has lladdr virtual, or a MAC of its own",
        ),
        (
            {},
            {"dialect": "netbsd"},
            "their dialects are auto and netbsd: several with one address have one dialect, which says who answers whom",
        ),
        (
            {},
            {"lladdr": "00:00:5e:00:01:01"},
            "carp0 has the same MAC 00:00:5e:00:01:01: each of several with one address has a MAC of its own",
        ),
        (
            {"vhid": None, "carpnodes": ["7:0", "8:0"]},
            {},
            "carp0 has balancing ip: several with one address have balancing none, all of them",
        ),
        (
            {},
            {"vhid": None, "advskew": None, "carpnodes": ["7:0", "8:0"], "balancing": "arp"},
            "carp1 has balancing arp: several with one address have balancing none, all of them",
        ),
    ],
)
def test_addresses_that_cannot_be_shared(one, two, why):
    """An asker is given the MAC of one virtual host of one carp interface, chosen by one rule."""
    one, two = ({key: value for key, value in table.items() if value is not None} for table in ({**ONE, **one}, {**TWO, **two}))
    expected = f'carp1.addresses: "192.0.2.10/24" is also an address of carp0 on eth0, and {why}'
    assert problems_of({**BALANCED, "carp0": one, "carp1": two}) == [expected]
    assert problems_of({**BALANCED, "carp0": one, "carp1": {**two, "addresses": ["192.0.2.11/24"]}}) == []


@pytest.mark.parametrize(
    "two", [{"lladdr": "02:00:00:00:00:01"}, {"advskew": None, "vhid": None, "carpnodes": ["2:0"], "balancing": "ip"}]
)
def test_addresses_that_can_be_shared(two):
    """A MAC of one's own and a single node are one virtual host with one MAC."""
    table = {key: value for key, value in {**TWO, **two}.items() if value is not None}
    assert problems_of({**BALANCED, "carp0": ONE, "carp1": table}) == []


def test_32_share_an_address():
    """As many as a carp interface has nodes, and not one more."""
    tables = {f"carp{number}": {**ONE, "vhid": number} for number in range(1, 34)}
    expected = (
        'carp33.addresses: "192.0.2.10/24" is also an address of carp1 on eth0, and of 31 others: '
        "at most 32 carp interfaces with one address"
    )
    assert problems_of({**BALANCED, **tables}) == [expected]
    assert problems_of({**BALANCED, **{name: table for name, table in tables.items() if name != "carp20"}}) == []


def after(*lines):
    """Type lines of ifconfig and sysctl on a host with a network for each of the guides; return what then runs."""
    document = {}
    for line in lines:
        verb, *rest = line.split()
        if verb == "sysctl":
            document = set_global(document, dict([parse_assignment(rest[0])]))
        else:
            document = apply(document, parse(rest), HOST)
        # Each line is checked before the next one is typed.
        loaded = load(document, RUNNING)
    return loaded


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["ifconfig carp0 vhid 1 pass a 172.16.240.202/24", "ifconfig carp0 balancing ip carpnodes 1:0,2:100"],
            [("carp0", Balancing.IP, (Node(1), Node(2, 100)))],
        ),
        (
            [
                "ifconfig carp0 172.16.240.102/24 balancing ip carpnodes 3:0,4:100 pass password3",
                "ifconfig carp1 172.16.250.102/24 balancing ip carpnodes 5:0,6:100 pass password5",
            ],
            [("carp0", Balancing.IP, (Node(3), Node(4, 100))), ("carp1", Balancing.IP, (Node(5), Node(6, 100)))],
        ),
        (
            ["ifconfig carp0 172.16.240.102/24 balancing ip carpnodes 4:0,3:100 pass password3"],
            [("carp0", Balancing.IP, (Node(3, 100), Node(4)))],
        ),
        (
            ["ifconfig carp0 create", "ifconfig carp0 balancing ip-stealth", "ifconfig carp0 carpnodes 3:0,4:100 carpdev rl0"],
            [("carp0", Balancing.IP_STEALTH, (Node(3), Node(4, 100)))],
        ),
        (
            ["ifconfig carp0 carpnodes 3:0,4:100 carpdev rl0", "ifconfig carp0 carpnodes 3:100,4:0"],
            [("carp0", Balancing.IP, (Node(3, 100), Node(4)))],
        ),
        (
            ["ifconfig carp0 carpnodes 3:0,4:100 balancing arp carpdev rl0", "ifconfig carp0 vhid 7"],
            [("carp0", Balancing.NONE, (Node(7),))],
        ),
    ],
)
def test_lines_of_ifconfig(lines, expected):
    """The words of the guides, one line after the other, as a running carpd takes them."""
    found = after(*lines).host.interfaces
    assert [(one.name, one.balancing, one.nodes) for one in found] == expected
    assert {one.carpdev for one in found} <= {"rl0", "rl1"}


def test_lines_of_arp_balancing():
    """The words of DragonFly's manual: the switch comes last, and then there is nothing to warn of any more."""
    lines = [
        "ifconfig carp0 create",
        "ifconfig carp0 vhid 1 pass mekmitasdigoat 172.16.240.10/24",
        "ifconfig carp1 create",
        "ifconfig carp1 vhid 2 advskew 100 pass mekmitasdigoat 172.16.240.10/24",
    ]
    assert len(after(*lines).warnings) == 1
    loaded = after(*lines, "sysctl net.inet.carp.arpbalance=1")
    assert (loaded.host.arpbalance, loaded.warnings) == (True, ())
    assert [shared.address for shared in shared_addresses(loaded.host.interfaces)] == [ip_address("172.16.240.10")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ifconfig carp0 balancing none", "carp0.carpnodes: a list of 2 with balancing none: one node, or another balancing"),
        ("ifconfig carp0 advskew 50", "carp0.advskew: not together with carpnodes: carpnodes holds it"),
        (
            "ifconfig carp0 lladdr parent",
            (
                'carp0.lladdr: "parent" is not allowed: '
                "with balancing ip virtual, as every host receives the multicast MAC of the leader"
            ),
        ),
        (
            "ifconfig carp1 vhid 9 172.16.240.102/24",
            (
                'carp1.addresses: "172.16.240.102/24" is also an address of carp0 on rl0, and carp0 has balancing ip: '
                "several with one address have balancing none, all of them"
            ),
        ),
    ],
)
def test_lines_that_a_balanced_interface_refuses(line, expected):
    """With one sentence that names the place and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        after("ifconfig carp0 172.16.240.102/24 carpnodes 3:0,4:100", line)
    assert str(caught.value) == expected


def test_what_is_wrong_by_itself_is_told_once():
    """A wrong mode, MAC or dialect is refused for that, and not for what it would mean."""
    for key, word in (("balancing", "ip-stelth"), ("lladdr", "parnt")):
        (line,) = problems_of({"global": {"fence": "auto"}, "carp0": {**NODES, key: word}})
        assert line.startswith(f'carp0.{key}: "{word}" is not allowed: ')
    (line,) = problems_of({**BALANCED, "carp0": ONE, "carp1": {**TWO, "dialect": "netbds"}})
    assert line.startswith('carp1.dialect: "netbds" is not allowed: ')
