"""What is said about the configurations of several hosts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carp.config.compare import Comparison, compare
from carp.config.load import load_file

Hosts = Callable[..., Comparison]

BASE = {"carpdev": '"eth0"', "vhid": "1", "pass": '"hush"', "addresses": '["192.0.2.1/24"]'}


def table(name: str = "carp0", **keys: object) -> str:
    """Write a carp interface; a key of None is left out, and _ stands for -."""
    merged = BASE | {key.rstrip("_").replace("_", "-"): value for key, value in keys.items()}
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in merged.items() if value is not None), ""])


@pytest.fixture
def hosts(write: Callable[..., Path]) -> Hosts:
    """Compare hosts that are given by the text of their files: a, b, c."""

    def _hosts(*texts: str) -> Comparison:
        return compare([(name, load_file(write(text, name))) for name, text in zip("abc", texts, strict=False)])

    return _hosts


def test_hosts_that_agree(hosts: Hosts):
    """Hosts may differ in advskew, in parents and in the numbers of their interfaces."""
    one = table() + table("carp1", carpdev='"eth1"', vhid=2, addresses='["2001:db8::1/64", "198.51.100.1/24"]')
    other = table("carp7", carpdev='"lan0"', advskew=100)
    other += table("carp0", carpdev='"wan0"', vhid=2, advskew=1, addresses='["198.51.100.1/24", "2001:db8::1/64"]')
    assert hosts(one, other) == Comparison()


def test_one_host(hosts: Hosts):
    """A host alone has nobody to disagree with."""
    assert hosts(table()) == Comparison()


def test_key_differs(hosts: Hosts):
    """Different keys are an error that names who shares which, and never shows one."""
    found = hosts(table(), table(pass_='"hush hush"', advskew=1), table(advskew=2))
    assert found.warnings == ()
    refuses = "each host refuses the advertisements of the others"
    assert found.errors == (f"pass differs: key 1 in a (carp0) and c (carp0), key 2 in b (carp0): {refuses}",)
    found = hosts(table(), table(pass_=None, advskew=1))
    assert found.errors == (f"pass differs: key 1 in a (carp0), none in b (carp0): {refuses}",)


def test_vhid_differs(hosts: Hosts):
    """The same address under different vhids is an error."""
    found = hosts(table(), table("carp3", vhid=2))
    assert found == Comparison(
        ("vhid differs: 1 in a (carp0), 2 in b (carp3): hosts with different vhids do not hear each other",)
    )


def test_address_list_differs(hosts: Hosts):
    """An address that one host lacks is an error, and is named for each file."""
    found = hosts(
        table(addresses='["192.0.2.1/24", "192.0.2.2/24"]'), table(addresses='["192.0.2.1/24", "2001:db8::1/64"]', advskew=1)
    )
    assert found == Comparison(
        (
            (
                "addresses differ: 2001:db8::1 missing in a (carp0), 192.0.2.2 missing in b (carp0): "
                "the digest covers the whole list"
            ),
        )
    )


def test_all_addresses_differ(hosts: Hosts):
    """Interfaces without a common address are paired by their vhid."""
    found = hosts(table(), table("carp1", carpdev='"lan0"', advskew=1, addresses='["192.0.2.9/24"]'))
    assert len(found.errors) == 1
    assert "192.0.2.9 missing in a (carp0), 192.0.2.1 missing in b (carp1)" in found.errors[0]


def test_paired_by_name(hosts: Hosts):
    """With neither a vhid nor an address in common the name pairs."""
    found = hosts(table(), table(vhid=2, addresses='["192.0.2.9/24"]'))
    assert [line.split(":")[0] for line in found.errors] == ["vhid differs", "addresses differ"]


def test_one_vhid_on_two_parents(hosts: Hosts):
    """A vhid that is used on two networks is paired by its addresses, not by the order of the tables."""
    lan, wan = table(advskew=1), table("carp1", carpdev='"eth1"', advskew=1, addresses='["198.51.100.1/24"]')
    swapped = table("carp1", carpdev='"eth1"') + table(addresses='["198.51.100.1/24"]')
    assert hosts(lan + wan, swapped) == Comparison()


def test_link_local_address_missing(hosts: Hosts):
    """A link-local address is not in the digest of auto: the hosts agree, and it is a warning."""
    found = hosts(table(addresses='["192.0.2.1/24", "fe80::1/64"]'), table(advskew=1))
    assert found == Comparison((), ("addresses differ: fe80::1 missing in b (carp0): the digest covers the whole list",))


def test_prefix_differs(hosts: Hosts):
    """The prefix is not in the digest: a warning."""
    found = hosts(table(), table(addresses='["192.0.2.1/32"]', advskew=1))
    assert found == Comparison(
        (),
        (
            (
                "prefix of 192.0.2.1 differs: /24 in a (carp0), /32 in b (carp0): "
                "the digest does not cover it, but routes change with the MASTER"
            ),
        ),
    )


def test_advbase_differs(hosts: Hosts):
    """Different advbase is a warning that says who wins; equal advskew is then no tie."""
    assert hosts(table(), table(advbase=2)) == Comparison(
        (),
        (
            (
                "advbase differs: 1 in a (carp0), 2 in b (carp0): "
                "the host with the lower one always wins, and advskew decides nothing between them"
            ),
        ),
    )


def test_equal_advskew(hosts: Hosts):
    """Equal intervals leave the choice to the source addresses: a warning."""
    assert hosts(table(), table(advskew=5), table(advskew=5)) == Comparison(
        (),
        (
            (
                "advskew of vhid 1 is 5 in b (carp0) and c (carp0) alike: the source addresses of the hosts "
                "decide which of them is MASTER; give the preferred one the lowest advskew"
            ),
        ),
    )


def test_preempt_differs(hosts: Hosts):
    """Preemption on one host only is legal and surprising; the interface's own word beats the host's."""
    found = hosts("[global]\npreempt = true\n" + table(), table(advskew=1))
    assert found.errors == ()
    assert found.warnings == (
        (
            "preempt differs: true in a (carp0), false in b (carp0): with it a host takes over from a slower MASTER "
            "as soon as it is back, without it only when the MASTER is gone"
        ),
    )
    assert hosts("[global]\npreempt = true\n" + table(), table(advskew=1, preempt="true")) == Comparison()


def test_interface_in_one_file_only(hosts: Hosts):
    """An interface without a partner is a warning."""
    one = table() + table("carp1", vhid=2, addresses='["192.0.2.2/24"]')
    assert hosts(one, table(advskew=1)) == Comparison(
        (), ("carp1 (vhid 2) is in a only: no other host takes its addresses over",)
    )
    found = hosts(one, one.replace("vhid", "advskew = 1\nvhid"), table(advskew=2))
    assert found == Comparison(
        (), ("vhid 2 of a (carp1) and b (carp1) is missing in c: that host never takes its addresses over",)
    )


def test_dialects(hosts: Hosts):
    """Dialects that put different things into the digest are an error with the reason; most get along."""
    assert hosts(table(dialect='"freebsd"'), table(dialect='"openbsd"', advskew=1)) == Comparison()
    scoped = '["192.0.2.1/24", "fe80::1/64"]'
    found = hosts(table(dialect='"netbsd"', addresses=scoped), table(addresses=scoped, advskew=1))
    assert found == Comparison(
        (
            (
                "dialect netbsd and auto of a (carp0) and b (carp0) cannot authenticate each other: "
                "they disagree on whether link-local addresses go into the digest"
            ),
        )
    )


def test_dialect_with_lladdr(hosts: Hosts):
    """OpenBSD hashes a MAC of one's own, nobody else does; the virtual MAC spelled out is not one's own."""
    mac = '"02:00:00:00:00:01"'
    found = hosts(table(dialect='"openbsd"', lladdr=mac), table(lladdr=mac, advskew=1))
    assert found.warnings == ()
    assert len(found.errors) == 1
    assert found.errors[0].endswith("lladdr differs, and the openbsd dialect puts it into the digest")
    spelled = '"00:00:5e:00:01:01"'
    assert hosts(table(dialect='"openbsd"', lladdr=spelled), table(advskew=1)) == Comparison()


def test_dialect_with_address_order(hosts: Hosts):
    """Old FreeBSD hashes the addresses in the order in which they were configured."""
    one = table(dialect='"freebsd6"', addresses='["192.0.2.1/24", "192.0.2.2/24"]')
    other = table(dialect='"freebsd6"', addresses='["192.0.2.2/24", "192.0.2.1/24"]', advskew=1)
    found = hosts(one, other)
    assert len(found.errors) == 1
    assert found.errors[0].endswith("the order of addresses goes into the digest, and it differs")
