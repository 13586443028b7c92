"""Single words of a configuration turned into values: names, addresses, nodes, MACs, dialects.

Each function takes what a person wrote, of whatever type, and returns the value or raises RefusedError.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address, ip_interface

from carp.protocol.auth import KEY_BYTES, Key, key_from_hex
from carp.protocol.demotion import EVERY_INTERFACE
from carp.protocol.dialect import DIALECTS, Dialect
from carp.protocol.parameters import Balancing, LinkAddress, Node
from carp.protocol.values import Address, InterfaceAddress

from .errors import RefusedError, shown
from .hints import did_you_mean

MAX_NAME_BYTES = 15
"""What Linux allows for the name of an interface (IFNAMSIZ without its NUL)."""

MAX_TRACK_NAME = 32

ADDRESS = "an IPv4 or IPv6 address with its prefix length, such as 192.0.2.100/24"
ADDRESS_OF_A_HOST = "an address of a host: not unspecified, loopback, multicast or broadcast"
PEER = "an IPv4 or IPv6 address of one host, without a prefix length, such as 192.0.2.2"
PEERS = 'a list of IPv4 and IPv6 addresses of hosts, such as ["192.0.2.2"]'
CARPDEV = f"the name of the parent interface, 1..{MAX_NAME_BYTES} bytes without slash, colon or white space"
CARP_NAME = "carp0..carp9999"
GROUP = f"a group name of 1..{MAX_NAME_BYTES} letters, digits, '_', '-' and '.' that does not end in a digit"
NODE = '"vhid:advskew", with vhid 1..255 and advskew 0..254'
LLADDR = "virtual, parent or a MAC such as 02:00:00:00:00:01"
UNICAST_MAC = "a MAC of one host: not zero, and the first byte even"
DIALECT = "one of " + ", ".join(DIALECTS)
BALANCING_WORDS = ("none", "ip", "ip-stealth", "ip-unicast", "arp")
BALANCING = "one of " + ", ".join(BALANCING_WORDS)
FENCE_WORDS = ("auto", "required", "off")
FENCE = "one of " + ", ".join(FENCE_WORDS)
SNOOPING_WORDS = ("mrd", "off")
SNOOPING = "mrd or off"
KEY_HEX = f"{2 * KEY_BYTES} hexadecimal digits in quotes"
FILE_NAME = "the path of a file that holds the pass phrase"

CREDENTIAL = "the name of a credential: 1..255 printable ASCII characters without slash and colon"
TRACK_NAME = f"a name of 1..{MAX_TRACK_NAME} letters, digits, '-', '_' and '.'"
TRACK_GROUP = "a group, carp0..carp9999, or all"
BROADCAST = IPv4Address("255.255.255.255")

_CARP_NAME = re.compile(r"carp(0|[1-9][0-9]{0,3})")
_GROUP = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z_.-]")
_TRACK_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_TRACK_NAME}}}")
_CREDENTIAL = re.compile(r"[ -.0-9;-~]{1,255}")
_PREFIXED = re.compile(r"([^/]*)/([0-9]{1,3})")
_NODE = re.compile(r"([0-9]{1,3}):([0-9]{1,3})")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


def carp_number(name: str) -> int | None:
    """Return the N of carpN, 0..9999, or None for any other name."""
    match = _CARP_NAME.fullmatch(name)
    return int(match[1]) if match else None


def carpdev(word: object) -> str:
    """Check the name of a parent interface as Linux does; a carp interface cannot be one."""
    if not isinstance(word, str) or not word or word in (".", ".."):
        raise RefusedError(CARPDEV)
    if any(letter in "/:" or letter.isspace() or not letter.isprintable() for letter in word):
        raise RefusedError(CARPDEV)
    if len(word.encode()) > MAX_NAME_BYTES:
        raise RefusedError(CARPDEV)
    if carp_number(word) is not None:
        raise RefusedError("a parent that is not itself a carp interface")
    return word


def own_group(word: object) -> str:
    """Check the name of a group that a carp interface is put into; that of all of them it is in already."""
    if word == EVERY_INTERFACE:
        raise RefusedError("another name: every carp interface is in this group without being told")
    return group(word)


def group(word: object) -> str:
    """Check the name of an interface group; as in OpenBSD it does not end in a digit, or it would look like an interface."""
    if not isinstance(word, str) or len(word) > MAX_NAME_BYTES or not _GROUP.fullmatch(word):
        raise RefusedError(GROUP)
    return word


def track_group(word: object) -> str:
    """Check the name of a group that a track demotes; a carp interface is a group of its own."""
    if isinstance(word, str) and carp_number(word) is not None:
        return word
    try:
        return group(word)
    except RefusedError:
        raise RefusedError(TRACK_GROUP) from None


def track_name(word: str) -> str:
    """Check the NAME of a table [track.NAME]."""
    if not _TRACK_NAME.fullmatch(word):
        raise RefusedError(TRACK_NAME)
    return word


def address(word: object) -> InterfaceAddress:
    """Read ADDRESS/LENGTH. The prefix is never guessed: the routes of the host depend on it."""
    if not isinstance(word, str) or "%" in word:
        raise RefusedError(ADDRESS)
    match = _PREFIXED.fullmatch(word)
    try:
        found = ip_interface(word)
    except ValueError:
        raise RefusedError(ADDRESS) from None
    if match is None:
        if "/" in word:
            raise RefusedError(ADDRESS, hint=f"write {found.with_prefixlen}")
        length = 24 if found.version == 4 else 64
        raise RefusedError("an address with its prefix length", hint=f"write the prefix, such as {word}/{length}")
    if found.network.prefixlen == 0:
        raise RefusedError(f"a prefix length of 1..{found.max_prefixlen}")
    if not _is_of_a_host(found.ip):
        raise RefusedError(ADDRESS_OF_A_HOST)
    if found.version == 4 and found.network.num_addresses > 2 and found.ip in (found.network[0], found.network[-1]):
        which = "network" if found.ip == found.network[0] else "broadcast"
        raise RefusedError(ADDRESS_OF_A_HOST, fault=f"{shown(word)} is the {which} address of its subnet")
    return found


def peer(word: object) -> Address:
    """Read the address of a host that advertisements go to; the scope of a link-local one is that of the carpdev."""
    if not isinstance(word, str) or "%" in word:
        raise RefusedError(PEER)
    try:
        found = ip_address(word)
    except ValueError:
        raise RefusedError(PEER) from None
    if not _is_of_a_host(found):
        raise RefusedError(ADDRESS_OF_A_HOST)
    return found


def _is_of_a_host(ip: Address) -> bool:
    return not (ip.is_unspecified or ip.is_multicast or ip.is_loopback or ip == BROADCAST)


def as_list(word: object) -> object:
    """Let one string stand for a list of it."""
    return [word] if isinstance(word, str) else word


def node(word: object) -> Node:
    """Read one vhid:advskew of carpnodes."""
    match = _NODE.fullmatch(word) if isinstance(word, str) else None
    if match is None or not 1 <= int(match[1]) <= 255 or int(match[2]) > 254:
        raise RefusedError(NODE)
    return Node(int(match[1]), int(match[2]))


def lladdr(word: object) -> LinkAddress | bytes:
    """Read virtual, parent, or a unicast MAC (6 bytes)."""
    if isinstance(word, str) and _MAC.fullmatch(word):
        mac = bytes.fromhex(word.replace(":", ""))
        if not any(mac) or mac[0] & 1:
            raise RefusedError(UNICAST_MAC)
        return mac
    for known in LinkAddress:
        if word == known.value:
            return known
    raise RefusedError(LLADDR, hint=_hint(word, [known.value for known in LinkAddress]))


def dialect(word: object) -> Dialect:
    """Look up a dialect by its name."""
    if isinstance(word, str) and word in DIALECTS:
        return DIALECTS[word]
    raise RefusedError(DIALECT, hint=_hint(word, DIALECTS))


def fence(word: object) -> str:
    """Check how much the fence is wanted."""
    if not isinstance(word, str) or word not in FENCE_WORDS:
        raise RefusedError(FENCE, hint=did_you_mean(word, FENCE_WORDS) if isinstance(word, str) else "")
    return word


def balancing(word: object) -> Balancing:
    """Look up how the virtual hosts of a carp interface share its traffic."""
    if isinstance(word, str) and word in BALANCING_WORDS:
        return Balancing(word)
    raise RefusedError(BALANCING, hint=_hint(word, BALANCING_WORDS))


def snooping(word: object) -> str:
    """Check how switches that snoop multicast groups are told that this host wants every frame."""
    if not isinstance(word, str) or word not in SNOOPING_WORDS:
        raise RefusedError(SNOOPING, hint=_hint(word, SNOOPING_WORDS))
    return word


def key_hex(word: object) -> Key:
    """Read all 20 bytes of a key."""
    try:
        if isinstance(word, str) and word.isalnum():
            return key_from_hex(word)
    except ValueError:
        pass
    raise RefusedError(KEY_HEX)


def file_name(word: object) -> str:
    """Check that something can be the path of a file."""
    if not isinstance(word, str) or not word or "\0" in word:
        raise RefusedError(FILE_NAME)
    return word


def credential(word: object) -> str:
    """Check the name of a credential of systemd, which is that of a file in one folder."""
    if not isinstance(word, str) or not _CREDENTIAL.fullmatch(word) or word in (".", ".."):
        raise RefusedError(CREDENTIAL)
    return word


def _hint(word: object, words: Iterable[str]) -> str:
    return did_you_mean(word, words) if isinstance(word, str) else ""
