"""The words of ifconfig that are wrong: one sentence that names the word and what is allowed."""

import shlex

import pytest

from carp.config.bsd_words import WordError
from carp.config.ifconfig import parse

SECRET = "s3cr3tphrase"
CARPDEV = "the name of the parent interface, 1..15 bytes without slash, colon or white space"
GROUP = "a group name of 1..15 letters, digits, '_', '-' and '.' that does not end in a digit"
NODE = '"vhid:advskew", with vhid 1..255 and advskew 0..254'
NODES = "1..32 pairs vhid:advskew with a comma between them, vhid 1..255 and advskew 0..254"
PEER = "an IPv4 or IPv6 address of one host, without a prefix length, such as 192.0.2.2"
PEERS = "the addresses of one or more hosts, IPv4 or IPv6, with a comma between them"
HOST = "an address of a host: not unspecified, loopback, multicast or broadcast"
LLADDR = "virtual, parent or a MAC such as 02:00:00:00:00:01"
PASS = "a pass phrase of 1..19 bytes in quotes"
BALANCING = "one of none, ip, ip-stealth, ip-unicast, arp"
MASK = "a mask such as 255.255.255.0 or 0xffffff00"


def refused(line: str) -> str:
    """Return the message of a line that is typed after `ifconfig`."""
    with pytest.raises(WordError) as caught:
        parse(shlex.split(line))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vhid 0", "vhid: 0: an integer 1..255"),
        ("vhid 256", "vhid: 256: an integer 1..255"),
        ("vhid one", "vhid: one: an integer 1..255"),
        ("vhid 1.5", "vhid: 1.5: an integer 1..255"),
        ("vhid -1", "vhid: -1: an integer 1..255"),
        ("vhid 99999999999999999999", "vhid: 99999999999999999999: an integer 1..255"),
        ("vhid ''", 'vhid: "": an integer 1..255'),
        ("vhid '1 2'", 'vhid: "1 2": an integer 1..255'),
        ("advbase 255", "advbase: 255: an integer 0..254"),
        ("advskew 255", "advskew: 255: an integer 0..254"),
        ("pass ''", "pass: the pass phrase is empty: 1 byte or more, or no pass at all"),
        (f"pass {'x' * 20}", "pass: the pass phrase is 20 bytes long: at most 19 bytes, the BSDs would cut the rest silently"),
        ("carpdev a/b", f"carpdev: a/b: {CARPDEV}"),
        ("carpdev sixteen-bytes-xx", f"carpdev: sixteen-bytes-xx: {CARPDEV}"),
        ("carpdev carp1", "carpdev: carp1: a parent that is not itself a carp interface"),
        ("carppeer 10.0.0", f"carppeer: 10.0.0: {PEER}"),
        ("carppeer peer.example", f"carppeer: peer.example: {PEER}"),
        ("carppeer 10.0.0.2,", f'carppeer: "": {PEER}'),
        ("carppeer 10.0.0.2/24", f"carppeer: 10.0.0.2/24: {PEER}"),
        ("carppeer 224.0.0.5", f"carppeer: 224.0.0.5: {HOST}"),
        ("carppeer 224.0.0.18", "carppeer: 224.0.0.18: -carppeer goes back to multicast"),
        ("carppeer 10.0.0.2,10.0.0.2", "carppeer: 10.0.0.2 is listed twice: each peer once"),
        ("carpnodes 0:0", f"carpnodes: 0:0: {NODE}"),
        ("carpnodes 1:255", f"carpnodes: 1:255: {NODE}"),
        ("carpnodes 1", f"carpnodes: 1: {NODE}"),
        ("carpnodes 1:0,", f'carpnodes: "": {NODE}'),
        ("carpnodes 1:0,2:0,1:5", "carpnodes: vhid 1 is listed twice: each vhid once"),
        ("carpnodes " + ",".join(f"{n}:0" for n in range(1, 34)), "carpnodes: 33 nodes: at most 32"),
        ("balancing ip-stealht", f"balancing: ip-stealht: {BALANCING}; did you mean ip-stealth?"),
        ("balancing x", f"balancing: x: {BALANCING}"),
        ("lladdr 01:00:5e:00:01:01", "lladdr: 01:00:5e:00:01:01: a MAC of one host: not zero, and the first byte even"),
        ("lladdr virtul", f"lladdr: virtul: {LLADDR}; did you mean virtual?"),
        ("group carp0", f"group: carp0: {GROUP}"),
        ("-group carp0", f"-group: carp0: {GROUP}"),
        ("state up-and-running", "state: up-and-running: one of init, backup, master"),
        ("state mastr", "state: mastr: one of init, backup, master; did you mean master?"),
    ],
)
def test_values(line: str, expected: str):
    """A value that is not allowed is named with its keyword and what is."""
    assert refused(f"carp0 {line}") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vhid", "vhid: its value is missing: an integer 1..255"),
        ("vhid advskew 100", "vhid: its value is missing: an integer 1..255"),
        ("advbase", "advbase: its value is missing: an integer 0..254"),
        ("advskew", "advskew: its value is missing: an integer 0..254"),
        ("vhid 1 pass", f"pass: its value is missing: {PASS}"),
        ("carpdev", f"carpdev: its value is missing: {CARPDEV}"),
        ("carpdev vhid 1", f"carpdev: its value is missing: {CARPDEV}"),
        ("carppeer", f"carppeer: its value is missing: {PEERS}"),
        ("carpnodes", f"carpnodes: its value is missing: {NODES}"),
        ("balancing", f"balancing: its value is missing: {BALANCING}"),
        ("lladdr", f"lladdr: its value is missing: {LLADDR}"),
        ("group", f"group: its value is missing: {GROUP}"),
        ("-group", f"-group: its value is missing: {GROUP}"),
        ("state", "state: its value is missing: one of init, backup, master"),
        ("192.0.2.1 netmask", f"netmask: its value is missing: {MASK}"),
        ("2001:db8::1 prefixlen", "prefixlen: its value is missing: an integer 1..128"),
        ("192.0.2.1/24 broadcast", "broadcast: its value is missing: an IPv4 address, such as 192.0.2.255"),
        ("inet", "inet: its value is missing: an IPv4 address, such as 192.0.2.100/24"),
        ("inet6", "inet6: its value is missing: an IPv6 address, such as 2001:db8::100/64"),
        ("inet inet6 2001:db8::1", "inet: its value is missing: an IPv4 address, such as 192.0.2.100/24"),
        ("alias", "alias: needs an address in the same line, such as 192.0.2.101"),
        ("delete", "delete: needs an address in the same line, such as 192.0.2.101"),
        ("-alias", "-alias: needs an address in the same line, such as 192.0.2.101"),
    ],
)
def test_missing_values(line: str, expected: str):
    """A keyword without its value is told as such, at the end of the line and before the next keyword."""
    assert refused(f"carp0 {line}") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("advskw 100", "advskw: unknown word; did you mean advskew?"),
        ("vihd 1", "vihd: unknown word; did you mean vhid?"),
        ("carpnode 1:0", "carpnode: unknown word; did you mean carpnodes?"),
        ("VHID 1", "VHID: unknown word; did you mean vhid?"),
        (
            "24",
            (
                "24: unknown word: an address, or one of vhid, advbase, advskew, pass, carpdev, balancing, carpnodes, lladdr, "
                "create, destroy, up, down, -carpdev, -carppeer, carppeer, state, group, -group, alias, -alias, delete, inet, "
                "inet6, netmask, prefixlen, broadcast"
            ),
        ),
        ("dhcp", "dhcp: a shared address is the same on all hosts: write the address"),
        ("inet autoconf", "autoconf: a shared address is the same on all hosts: write the address"),
        ("mtu 1500", "mtu: carpd does not set it: leave it out"),
        ("description LAN", "description: carpd does not set it: leave it out"),
        ("peer 10.0.0.2", "peer: write carppeer and the addresses of the other hosts"),
        ("vrrpprio 100", "vrrpprio: carpd does not speak VRRP: leave it out"),
        ("inet host.example", "inet: host.example: an IPv4 address, such as 192.0.2.100/24"),
    ],
)
def test_unknown_words(line: str, expected: str):
    """An unknown word comes with the one that was probably meant, or with all; a foreign one with what to do instead."""
    assert refused(f"carp0 {line}") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("vhid 1 carpnodes 1:0", "carpnodes: not together with vhid: one of them in a line"),
        ("carpnodes 1:0 vhid 1", "carpnodes: not together with vhid: one of them in a line"),
        ("advskew 5 carpnodes 1:0", "carpnodes: not together with advskew: one of them in a line"),
        ("up down", "down: not together with up: one of them in a line"),
        ("create destroy", "destroy: not together with create: one of them in a line"),
        ("carpdev em0 -carpdev", "-carpdev: not together with carpdev: one of them in a line"),
        ("carppeer 10.0.0.2 -carppeer", "-carppeer: not together with carppeer: one of them in a line"),
        ("192.0.2.1 alias delete", "delete: not together with alias: one of them in a line"),
        ("192.0.2.1 alias -alias", "-alias: not together with alias: one of them in a line"),
        ("vhid 1 vhid 1", "vhid: given twice: once in a line"),
        ("up up", "up: given twice: once in a line"),
        ("state init state backup", "state: given twice: once in a line"),
        ("group lan -group lan", "-group: lan is given twice: each group once in a line"),
        ("destroy vhid 1", "destroy: not together with other words: it stands alone after the interface"),
        ("destroy group lan", "destroy: not together with other words: it stands alone after the interface"),
        ("192.0.2.1 destroy", "destroy: not together with other words: it stands alone after the interface"),
        ("state master down", "state: master: not together with down, which is INIT"),
        (
            "balancing none carpnodes 1:0,2:0",
            "carpnodes: not together with balancing none: one pair, or another balancing",
        ),
    ],
)
def test_contradictions(line: str, expected: str):
    """Words of one line that contradict each other are refused, in either order."""
    assert refused(f"carp0 {line}") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("192.0.2.300", "address: 192.0.2.300: an IPv4 or IPv6 address, such as 192.0.2.100/24"),
        ("192.0.2.1/33", "address: 192.0.2.1/33: a prefix length of 1..32"),
        ("192.0.2.1/0", "address: 192.0.2.1/0: a prefix length of 1..32"),
        ("192.0.2.1/", "address: 192.0.2.1/: a prefix length of 1..32"),
        ("192.0.2.1/255.255.255.0", "address: 192.0.2.1/255.255.255.0: a prefix length of 1..32"),
        ("2001:db8::1/129", "address: 2001:db8::1/129: a prefix length of 1..128"),
        ("inet 2001:db8::1", "inet: 2001:db8::1: an IPv4 address, such as 192.0.2.100/24"),
        ("inet6 192.0.2.1", "inet6: 192.0.2.1: an IPv6 address, such as 2001:db8::100/64"),
        ("127.0.0.1", f"address: 127.0.0.1: {HOST}"),
        ("inet6 ff02::1", f"inet6: ff02::1: {HOST}"),
        ("fe80::1%em0/64", "address: fe80::1%em0/64: an address without %, the parent is named by carpdev"),
        ("192.0.2.1 192.0.2.2", f"address: 192.0.2.2: after 192.0.2.1 {MASK}, or a further address with its prefix length"),
        ("192.0.2.1 255.0.255.0", f"address: 255.0.255.0: after 192.0.2.1 {MASK}, or a further address with its prefix length"),
        ("192.0.2.1 netmask 255.0.255.0", f"netmask: 255.0.255.0: {MASK}"),
        ("192.0.2.1 netmask 0.0.0.0", f"netmask: 0.0.0.0: {MASK}"),
        ("192.0.2.1/24 netmask 255.255.255.0", "netmask: 192.0.2.1/24 has its prefix length already: give it once"),
        ("netmask 255.255.255.0 192.0.2.1/24", "netmask: 192.0.2.1/24 has its prefix length already: give it once"),
        ("2001:db8::1 netmask 255.255.255.0", "netmask: 2001:db8::1 is an IPv6 address: prefixlen, or 2001:db8::1/64"),
        ("192.0.2.1 prefixlen 64", "prefixlen: 64: an integer 1..32"),
        ("2001:db8::1 prefixlen 129", "prefixlen: 129: an integer 1..128"),
        ("netmask 255.255.255.0 netmask 255.0.0.0 10.0.0.1", "netmask: only one netmask for each address"),
        ("netmask 255.255.255.0", "netmask: needs an address in the same line, such as 192.0.2.100"),
        ("broadcast 192.0.2.255", "broadcast: needs an address in the same line, such as 192.0.2.100"),
        ("192.0.2.1/24 broadcast all", "broadcast: all: an IPv4 address, such as 192.0.2.255"),
        ("192.0.2.1/24 192.0.2.1/32", "192.0.2.1: each address once"),
        (
            "inet 172.16.0.202 255.255.255.0 172.16.0.255 vhid 1",
            (
                "address: 172.16.0.255: the broadcast address of 172.16.0.0/24 is not shared; "
                "write broadcast 172.16.0.255, or leave it out"
            ),
        ),
        ("-carppeer 10.0.0.2", "-carppeer: 10.0.0.2: it takes no value; an address stands before it"),
    ],
)
def test_addresses(line: str, expected: str):
    """A wrong address, mask or length is named with what is allowed, and no address is shared by a slip."""
    assert refused(f"carp0 {line}") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("em0 vhid 1", "interface: em0: carp0..carp9999, with its parent as the value of carpdev"),
        ("carp create", "interface: carp: carp0..carp9999, with its parent as the value of carpdev"),
        ("carp01 up", "interface: carp01: carp0..carp9999, with its parent as the value of carpdev"),
        ("em0", "interface: em0: carp0..carp9999, or a group such as carp"),
        ("-x", "-x: unknown word: -a, or -g and a group"),
        ("-a carp0", "-a: unknown word: -a, or -g and a group"),
        ("-g", f"-g: its value is missing: {GROUP}"),
        ("-g carp0", f"-g: carp0: {GROUP}"),
        ("-g carp demote", "demote: unknown word; did you mean carpdemote?"),
        ("-g carp up", "up: unknown word: carpdemote or -carpdemote"),
        ("-g carp carpdemote 129", "carpdemote: 129: an integer 0..128"),
        ("-g carp -carpdemote -1", "-carpdemote: -1: an integer 0..128"),
        ("-g carp carpdemote 1 2", "carpdemote: 2: one number, and nothing after it"),
    ],
)
def test_interfaces_and_groups(line: str, expected: str):
    """What is not a carp interface, or not a word about a group, is refused."""
    assert refused(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        f"carp0 pass {SECRET}{SECRET}",
        f"carp0 vhid 1 pass my {SECRET}",
        f"carp0 pass my {SECRET} vhid 1",
        f"carp0 pass {SECRET} vihd 1",
        f"carp0 pass {SECRET} vhid 0",
        f"carp0 pass {SECRET} pass {SECRET}",
        f"carp0 pass my 10.{SECRET}:",
        "carp0 pass my a:b:c",
    ],
)
def test_pass_phrases_are_never_shown(line: str):
    """No message holds a pass phrase, nor the rest of one that should have stood in quotes."""
    message = refused(line)
    assert SECRET not in message
    assert "a:b:c" not in message


def test_the_word_after_a_pass_phrase():
    """It is not shown, but what was probably meant is."""
    where = "pass: the word after the pass phrase is neither a keyword nor an address; "
    assert refused("carp0 pass a b") == where + "a pass phrase with spaces stands in quotes"
    assert refused("carp0 pass a advskw 5") == where + "did you mean advskew?"
