"""rc.conf of FreeBSD, NetBSD and DragonFly."""

from collections.abc import Callable
from pathlib import Path

import pytest

from carp.config.bsd_files import read_rc_conf
from carp.config.change import Change, WrittenAddress
from carp.config.errors import ConfigError
from carp.config.ifconfig import parse

Write = Callable[..., Path]


@pytest.fixture
def changes(write: Write) -> Callable[[str], tuple[Change, ...]]:
    """Return what an rc.conf asks for."""
    return lambda text: read_rc_conf(write(text, "rc.conf")).changes


@pytest.fixture
def problems(write: Write) -> Callable[[str], list[str]]:
    """Return the problems of an rc.conf, without the name of the file."""

    def _problems(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read_rc_conf(write(text, "rc.conf"))
        return [line.removeprefix("rc.conf: ") for line in str(caught.value).splitlines()]

    return _problems


def test_the_lines_of_the_manuals(changes):
    """Interfaces are created, then set, then given their aliases, in whatever order the variables stand."""
    text = (
        'ifconfig_carp0_alias0="192.0.2.11/32"\n'
        'ifconfig_carp0="vhid 1 pass mekmitasdigoat 192.0.2.10/24"\n'
        'cloned_interfaces="carp0 carp1"\n'
    )
    assert changes(text) == (
        Change("carp0", create=True),
        Change("carp1", create=True),
        parse(["carp0", "vhid", "1", "pass", "mekmitasdigoat", "192.0.2.10/24"]),
        Change("carp0", add_addresses=(WrittenAddress("192.0.2.11", 32),)),
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"vhid 1 advskew 5"', "vhid 1 advskew 5"),
        ("'vhid 1 advskew 5'", "vhid 1 advskew 5"),
        ("up", "up"),
        ('"vhid 1 \\\n  advskew 5" # comment', "vhid 1 advskew 5"),
        ('"192.0.2.1 netmask 255.255.255.0"', "192.0.2.1/24"),
    ],
)
def test_quotes(changes, value: str, expected: str):
    """A value stands in double quotes, in single ones or in none, and a backslash lets it go on."""
    assert changes(f"ifconfig_carp0={value}\n") == (parse(["carp0", *expected.split()]),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('ifconfig_carp0_ipv6="inet6 2001:db8::1 prefixlen 64"', ["2001:db8::1/64"]),
        ('ipv6_ifconfig_carp0="2001:db8::1 prefixlen 64"', ["2001:db8::1/64"]),
        ('ipv6_ifconfig_carp0_alias0="2001:db8::1/64"', ["2001:db8::1/64"]),
        ('ifconfig_carp0_aliases="inet 192.0.2.1/24 inet6 2001:db8::1/64"', ["192.0.2.1/24", "2001:db8::1/64"]),
        ('ipv4_addrs_carp0="192.0.2.1/24 192.0.2.2/32"', ["192.0.2.1/24", "192.0.2.2/32"]),
        ('ifaliases_carp0="192.0.2.1 255.255.255.0 192.0.2.2 -"', ["192.0.2.1/24", "192.0.2.2"]),
        ('ifconfig_carp0_alias0="inet 192.0.2.1 netmask 255.255.255.255"', ["192.0.2.1/32"]),
        ('ifconfig_carp0_alias0="inet alias 192.0.2.1/32"', ["192.0.2.1/32"]),
    ],
)
def test_variables_with_addresses(changes, line: str, expected: list[str]):
    """Every variable for addresses of FreeBSD and NetBSD adds them."""
    (change,) = changes(line + "\n")
    assert [str(address) for address in change.add_addresses] == expected


def test_aliases_in_the_order_of_their_numbers(changes):
    """alias10 comes after alias9."""
    found = changes("".join(f'ifconfig_carp0_alias{number}="192.0.2.{number}/32"\n' for number in (10, 9, 1)))
    assert [str(change.add_addresses[0]) for change in found] == ["192.0.2.1/32", "192.0.2.9/32", "192.0.2.10/32"]


def test_interfaces_in_the_order_of_their_numbers(changes):
    """carp10 comes after carp9."""
    assert [change.interface for change in changes('ifconfig_carp10="up"\nifconfig_carp9="up"\n')] == ["carp9", "carp10"]


def test_commands_of_netbsd(changes):
    """NetBSD puts several commands into one variable, with semicolons or line ends; an interface is created once."""
    found = changes("ifconfig_carp0=\"create; vhid 1 pass 'a;b'\n# and then\ninet 192.0.2.1/24\"\n")
    assert [(change.create, dict(change.set)) for change in found] == [
        (True, {}),
        (False, {"vhid": 1, "pass": "a;b"}),
        (False, {}),
    ]
    assert [change.create for change in changes('cloned_interfaces=carp0\nifconfig_carp0="create vhid 1"\n')] == [True, False]


def test_create_args(changes):
    """Arguments for the creation come before the interface's own."""
    found = changes('ifconfig_carp0="up"\ncreate_args_carp0="vhid 1"\n')
    assert [dict(change.set) for change in found] == [{"vhid": 1}, {}]


def test_the_last_assignment_holds(changes):
    """As in a shell an earlier value of a variable is forgotten, and so is what was wrong with it."""
    assert changes('ifconfig_carp0="vhid 0"\nifconfig_carp0="vhid 2"\n') == (parse(["carp0", "vhid", "2"]),)


def test_the_rest_of_the_file_is_passed_over(changes):
    """What is not about carp is not looked at, however wrong it is."""
    text = (
        'hostname="x"\nifconfig_em0="inet $ADDRESS"\ncloned_interfaces="$(list) lagg0"\nif true; then\n  x=`date`\nfi\n'
        'motd=\'carp0\nifconfig_carp9="vhid 0"\n\'\nifconfig_carpet0="dhcp"\nsshd_enable=YES\nbroken="\n'
    )
    assert changes(text) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ifconfig_carp0="vhid 256"', "line 1: ifconfig_carp0: vhid: 256: an integer 1..255"),
        (
            '\n\nifconfig_carp0="vhid 1 pass $(cat key)"',
            "line 3: ifconfig_carp0: a variable or command of the shell ($ or `) is never run: write its value",
        ),
        (
            'cloned_interfaces="${cloned_interfaces} carp0"',
            "line 1: cloned_interfaces: a variable or command of the shell ($ or `) is never run: write its value",
        ),
        ('cloned_interfaces="carp01"', "line 1: cloned_interfaces: carp01: carp0..carp9999"),
        ('ifconfig_carp0="up', "line 1: ifconfig_carp0: a quotation mark has no partner: close it"),
        ('ifconfig_carp0="!route add default"', "line 1: ifconfig_carp0: !: a command is never run: take the line out"),
        (
            'ifconfig_carp0="up | cat"',
            "line 1: ifconfig_carp0: one of |&<>(); outside of quotes is for a shell, and nothing is ever run",
        ),
        (
            'ifconfig_carp0="DHCP"',
            "line 1: ifconfig_carp0: DHCP: unknown word",
        ),
        (
            'ifconfig_carp0_name="lan"',
            (
                "line 1: ifconfig_carp0_name: unknown variable of a carp interface: "
                "ifconfig_carp0, or that with _alias0, _aliases or _ipv6"
            ),
        ),
        ('ifconfig_carp10000="up"', "line 1: ifconfig_carp10000: interface: carp10000: carp0..carp9999"),
        (
            'ifaliases_carp0="192.0.2.1"',
            "line 1: ifaliases_carp0: pairs of an address and a mask, which is - where it is to be found out",
        ),
        ('ifconfig_em0_alias0="inet vhid 0 192.0.2.1/32"', "line 1: ifconfig_em0_alias0: vhid: 0: an integer 1..255"),
        (
            'ifconfig_em0_alias0="inet vhid 1 $IP"',
            "line 1: ifconfig_em0_alias0: a variable or command of the shell ($ or `) is never run: write its value",
        ),
    ],
)
def test_problems(problems, text: str, expected: str):
    """What is wrong about carp is told with line and variable."""
    (problem,) = problems(text + "\n")
    assert problem.startswith(expected)


def test_all_problems_at_once(problems):
    """Every wrong variable is listed."""
    found = problems('ifconfig_carp1="vhid 0"\nifconfig_carp0="advskew 255"\ncloned_interfaces="carp00"\n')
    assert [line.partition(": ")[0] for line in found] == ["line 3", "line 2", "line 1"]


def test_virtual_hosts_on_the_parent(changes):
    """FreeBSD's vhids on a parent become carp interfaces of free numbers, each with all its addresses."""
    text = (
        'cloned_interfaces="carp0"\nifconfig_carp1="up"\nifconfig_em0="inet 192.0.2.5/24"\n'
        'ifconfig_em0_alias0="inet vhid 1 advskew 100 pass secret alias 192.0.2.1/32"\n'
        'ifconfig_em0_alias1="inet vhid 1 alias 192.0.2.2/32"\n'
        'ifconfig_em1_aliases="inet 10.0.0.5/24 inet vhid 1 10.0.0.1/32 inet6 vhid 2 2001:db8::1/64"\n'
    )
    found = [change for change in changes(text) if "vhid" in change.set]
    assert [(change.interface, change.set["carpdev"], change.set["vhid"]) for change in found] == [
        ("carp2", "em0", 1),
        ("carp2", "em0", 1),
        ("carp3", "em1", 1),
        ("carp4", "em1", 2),
    ]
    assert [str(address) for change in found for address in change.add_addresses] == [
        "192.0.2.1/32",
        "192.0.2.2/32",
        "10.0.0.1/32",
        "2001:db8::1/64",
    ]
    assert (found[0].set["advskew"], found[0].set["pass"]) == (100, "secret")
