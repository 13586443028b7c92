"""What is said about the configurations of several hosts that balance load."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carp.config.compare import Comparison, compare
from carp.config.load import load_file

Hosts = Callable[..., Comparison]

GLOBAL = "[global]\npreempt = true\narpbalance = true\n"
NODES = {"carpdev": '"eth0"', "pass": '"hush"', "addresses": '["192.0.2.10/24"]'}
BASE = NODES | {"vhid": "1"}
TAKES_ALL = "while it is up it takes all of {}; another host should have the lowest one of some"


def written(name: str, keys: dict[str, object]) -> str:
    """Write a carp interface; a key of None is left out, and _ stands for -."""
    return "\n".join(
        [f"[{name}]", *(f"{key.replace('_', '-')} = {value}" for key, value in keys.items() if value is not None), ""]
    )


def balanced(*nodes: str, switches: str = GLOBAL, name: str = "carp0", **keys: object) -> str:
    """Write a host with one balanced carp interface."""
    return switches + written(name, {**NODES, "carpnodes": str(list(nodes)).replace("'", '"'), **keys})


def sharing(*advskews: int, switches: str = GLOBAL, first: int = 1, **keys: object) -> str:
    """Write a host with carp interfaces that share an address: vhids from `first`, with these advskews."""
    tables = (
        written(f"carp{number}", {**BASE, "vhid": first + number, "advskew": advskew, **keys})
        for number, advskew in enumerate(advskews)
    )
    return switches + "".join(tables)


@pytest.fixture
def hosts(write: Callable[..., Path]) -> Hosts:
    """Compare hosts that are given by the text of their files: a, b, c."""

    def _hosts(*texts: str) -> Comparison:
        return compare([(name, load_file(write(text, name))) for name, text in zip("abc", texts, strict=False)])

    return _hosts


@pytest.mark.parametrize("mode", ["ip", "ip-stealth", "ip-unicast", "arp"])
def test_hosts_that_agree(hosts: Hosts, mode: str):
    """The same vhids in any order, with crossed advskews, and switches that are told in different ways."""
    one = balanced("3:0", "4:100", balancing=f'"{mode}"')
    assert hosts(one, balanced("4:0", "3:100", balancing=f'"{mode}"', snooping='"off"')) == Comparison()


def test_the_mode_that_goes_without_saying(hosts: Hosts):
    """Several nodes without a mode have ip."""
    assert hosts(balanced("3:0", "4:100"), balanced("3:100", "4:0", balancing='"ip"')) == Comparison()


@pytest.mark.parametrize(
    ("nodes", "found"),
    [(["3:100", "5:0"], "3,5"), (["3:100", "4:0", "5:100"], "3,4,5"), (["2:100", "4:0"], "2,4"), (["3:100"], "3")],
)
def test_vhids_differ(hosts: Hosts, nodes: list[str], found: str):
    """A host that counts other nodes, or more or fewer, takes what others take: an error."""
    (error,) = hosts(balanced("3:0", "4:100"), balanced(*nodes)).errors
    assert error == (
        f"vhid differs: 3,4 in a (carp0), {found} in b (carp0): hosts that count different vhids disagree on who takes what"
    )


def test_modes_differ(hosts: Hosts):
    """In different modes hosts answer with different MACs, and receive other packets: an error."""
    (error,) = hosts(balanced("3:0", "4:100"), balanced("3:100", "4:0", balancing='"ip-stealth"')).errors
    assert error == (
        "balancing differs: ip in a (carp0), ip-stealth in b (carp0): a packet is taken by more than one host, or by none"
    )


def test_macs_differ(hosts: Hosts):
    """A host that does not receive the MAC that the leader answers with loses its share: an error."""
    mac = '"02:00:00:00:00:01"'
    one = balanced("3:0", "4:100", balancing='"ip-unicast"', lladdr=mac)
    (error,) = hosts(one, balanced("3:100", "4:0", balancing='"ip-unicast"')).errors
    assert error == (
        "lladdr differs: 02:00:00:00:00:01 in a (carp0), 00:00:5e:00:01:03 in b (carp0): "
        "with load balancing every host receives the same MAC"
    )
    assert hosts(one, balanced("3:100", "4:0", balancing='"ip-unicast"', lladdr=mac)) == Comparison()


def test_rules_differ_with_balancing_arp(hosts: Hosts):
    """Askers are told apart by address or by MAC, as the dialect has it: an error, where askers are told apart at all."""
    one, other = balanced("3:0", "4:100", balancing='"arp"'), balanced("3:100", "4:0", balancing='"arp"', dialect='"openbsd"')
    assert hosts(one, other).errors == (
        "dialect differs: auto in a (carp0), openbsd in b (carp0): their rules differ as to who answers whom",
    )
    assert hosts(balanced("3:0", "4:100"), balanced("3:100", "4:0", dialect='"openbsd"')) == Comparison()


def test_one_host_is_preferred_for_all(hosts: Hosts):
    """Nothing is balanced while it is up: a warning."""
    found = hosts(balanced("3:0", "4:0"), balanced("3:100", "4:100"), balanced("3:50", "4:50"))
    assert found == Comparison((), (f"advskew of vhid 3,4 is lowest in a each time: {TAKES_ALL.format('carp0')}",))


def test_the_same_file_on_two_hosts(hosts: Hosts):
    """One remark for all nodes that are alike; those that no host prefers are no matter."""
    one = balanced("3:0", "4:100", "5:0")
    assert hosts(one, one, balanced("3:100", "4:0", "5:100")) == Comparison(
        (),
        (
            (
                "advskew of vhid 3,5 is 0 in a (carp0) and b (carp0) alike: the source addresses of the hosts "
                "decide which of them is MASTER; give the preferred one the lowest advskew"
            ),
        ),
    )


def test_one_file_on_all_hosts(hosts: Hosts):
    """No host is preferred for anything, which is no preference for one host."""
    one = balanced("3:0", "4:0")
    (warning,) = hosts(one, one).warnings
    assert warning.startswith("advskew of vhid 3,4 is 0 in a (carp0) and b (carp0) alike: ")


def test_some_preempt(hosts: Hosts):
    """Where hosts differ that alone is said."""
    (warning,) = hosts(balanced("3:0", "4:100"), balanced("3:100", "4:0", switches="")).warnings
    assert warning.startswith("preempt differs: true in a (carp0), false in b (carp0): ")


def test_32_hosts(write: Callable[..., Path]):
    """Each with one node that it prefers: no remark, though the other nodes are alike on 31 hosts."""
    files = []
    for host in range(1, 33):
        nodes = [f"{vhid}:{0 if vhid == host else 100}" for vhid in range(1, 33)]
        files.append((f"h{host}", load_file(write(balanced(*nodes), f"h{host}"))))
    assert compare(files) == Comparison()


def test_nobody_preempts(hosts: Hosts):
    """A host that comes back gets nothing: a warning, also of addresses that are shared."""
    hint = "the host that starts first takes all of it, and one that comes back nothing; with preempt = true each has its share"
    found = hosts(balanced("3:0", "4:100", switches=""), balanced("3:100", "4:0", switches=""))
    assert found == Comparison((), (f"preempt is false for carp0: {hint}",))
    switches = "[global]\narpbalance = true\n"
    found = hosts(sharing(0, 100, switches=switches), sharing(100, 0, switches=switches))
    assert found == Comparison((), (f"preempt is false for 192.0.2.10: {hint}",))


def test_shared_addresses_that_agree(hosts: Hosts):
    """Crossed advskews, whatever the interfaces are called, with an address of one's own besides."""
    one = sharing(0, 100) + written("carp7", {**BASE, "vhid": 9, "addresses": '["192.0.2.99/24"]'})
    other = sharing(100, 0) + written("carp9", {**BASE, "vhid": 9, "advskew": 5, "addresses": '["192.0.2.99/24"]'})
    assert hosts(one, other) == Comparison()


def test_who_shares_differs(hosts: Hosts):
    """A host that counts fewer carp interfaces answers others' askers: an error, whatever is switched on there."""
    assert hosts(sharing(0, 100), sharing(100, switches="[global]\npreempt = true\n")).errors == (
        "192.0.2.10: shared by vhid 1,2 in a, 1 in b: hosts that count different vhids disagree on who answers whom",
    )


def test_who_is_down_is_not_counted(hosts: Hosts):
    """An interface that is down on one host makes that host count differently."""
    other = sharing(100, 0, up="false").replace("up = false\n", "", 1)
    assert hosts(sharing(0, 100), other).errors == (
        "192.0.2.10: shared by vhid 1,2 in a, 1 in b: hosts that count different vhids disagree on who answers whom",
    )


def test_addresses_of_the_same_sharers_are_told_once(hosts: Hosts):
    """IPv4 and IPv6 addresses that the same carp interfaces have make one sentence."""
    both = '["192.0.2.10/24", "2001:db8::1/64"]'
    (error,) = hosts(sharing(0, 100, addresses=both), sharing(100, addresses=both)).errors
    assert error.startswith("192.0.2.10 and 2001:db8::1: shared by vhid 1,2 in a, 1 in b: ")


def test_arpbalance_differs(hosts: Hosts):
    """Where addresses are shared; elsewhere it does not matter."""
    off = "[global]\npreempt = true\n"
    assert hosts(sharing(0, 100), sharing(100, 0, switches=off)).errors == (
        ("arpbalance differs: true in a, false in b: an asker of 192.0.2.10 is answered by more than one host, or by none"),
    )
    assert hosts(sharing(0), sharing(100, switches=off)) == Comparison()


@pytest.mark.parametrize(("one", "other", "differ"), [("auto", "netbsd", True), ("auto", "freebsd9", False)])
def test_rules_differ(hosts: Hosts, one: str, other: str, differ: bool):
    """Dialects matter where their rules do."""
    found = hosts(sharing(0, 100, dialect=f'"{one}"'), sharing(100, 0, dialect=f'"{other}"'))
    expected = f"dialect differs: {one} in a (carp0), {other} in b (carp0): their rules differ as to who answers whom"
    assert found.errors == ((expected,) if differ else ())


def test_one_host_is_preferred_for_a_shared_address(hosts: Hosts):
    """It answers everybody while it is up: a warning; those that are not preferred may be alike."""
    found = hosts(sharing(0, 0), sharing(100, 100), sharing(100, 100))
    assert found == Comparison((), (f"advskew of vhid 1,2 is lowest in a each time: {TAKES_ALL.format('192.0.2.10')}",))
