"""The words of `ifconfig`: one line of the BSDs into the change that it asks for (PROTOCOL.md 8.1 to 8.4).

Words stand in any order after the name of the interface, each keyword once. As on OpenBSD each keyword changes its own
value and leaves the others alone; but `vhid` and `carpnodes` take each other's place, and so do the kinds of key.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from carp.protocol.parameters import MAX_NODES

from . import secrets, words
from .bsd_words import WordError, checked, integer, missing, unknown, wrong
from .change import Change
from .hints import did_you_mean
from .ifconfig_address import Addresses, is_like_one, mask_length

STATES = ("init", "backup", "master")
MAX_GROUP_DEMOTION = 128

PEERS = "the addresses of one or more hosts, IPv4 or IPv6, with a comma between them"
NODES = f"1..{MAX_NODES} pairs vhid:advskew with a comma between them, vhid 1..255 and advskew 0..254"


@dataclass(frozen=True, slots=True)
class Show:
    """A line that changes nothing: `all` interfaces, one `interface`, the interfaces of a `group`, or a group's `demotion`."""

    kind: Literal["all", "interface", "group", "demotion"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class GroupDemotion:
    """Raise the demotion counter of an interface group by 0..128, or lower it by a negative amount."""

    group: str
    amount: int


def parse(line: Sequence[str]) -> Change | GroupDemotion | Show:
    """Read everything that stands after `ifconfig`.

    Raises:
        WordError: with one sentence about the first word that is wrong.
    """
    match list(line):
        case [] | ["-a"]:
            return Show("all")
        case ["-g", *rest]:
            return _group_line(rest)
        case [option, *_] if option.startswith("-"):
            raise unknown(option, (), "-a, or -g and a group")
        # DragonFly's word vhaddr asks for nothing but the addresses.
        case [name] | [name, "vhaddr"]:
            return _shown(name)
        case [name, *rest]:
            return parse_change(name, rest)
        case _:
            raise AssertionError(line)


def parse_change(interface: str, line: Sequence[str]) -> Change:
    """Read the words after the name of a carp interface.

    Raises:
        WordError: with one sentence about the first word that is wrong.
    """
    if words.carp_number(interface) is None:
        raise wrong("interface", interface, f"{words.CARP_NAME}, with its parent as the value of carpdev")
    rest = deque(line)
    reader = _Line()
    while rest:
        reader.take(rest.popleft(), rest)
    return reader.change(interface)


def _group_line(line: Sequence[str]) -> GroupDemotion | Show:
    """Read what stands after -g."""
    if not line:
        raise missing("-g", words.GROUP)
    group = checked("-g", line[0], words.group)
    match list(line[1:]):
        case []:
            return Show("demotion", group)
        case [("carpdemote" | "-carpdemote") as word]:
            amount = 1
        case [("carpdemote" | "-carpdemote") as word, number]:
            amount = integer(word, number, 0, MAX_GROUP_DEMOTION)
        case [("carpdemote" | "-carpdemote") as word, _, extra, *_]:
            raise wrong(word, extra, "one number, and nothing after it")
        case [word, *_]:
            raise unknown(word, ("carpdemote", "-carpdemote"), "carpdemote or -carpdemote")
        case _:
            raise AssertionError(line)
    return GroupDemotion(group, -amount if word.startswith("-") else amount)


def _shown(name: str) -> Show:
    if words.carp_number(name) is not None:
        return Show("interface", name)
    try:
        return Show("group", words.group(name))
    except ValueError:
        raise wrong("interface", name, f"{words.CARP_NAME}, or a group such as carp") from None


def _passphrase(word: str) -> str:
    checked("pass", word, secrets.passphrase, secret=True)
    return word


def _lladdr(word: str) -> str:
    checked("lladdr", word.lower(), words.lladdr)
    return word.lower()


def _one_of(keyword: str, allowed: Sequence[str], word: str) -> str:
    if word not in allowed:
        raise wrong(keyword, word, "one of " + ", ".join(allowed), did_you_mean(word, allowed))
    return word


def _nodes(word: str) -> list[str]:
    nodes = [checked("carpnodes", one, words.node) for one in word.split(",")]
    if len(nodes) > MAX_NODES:
        raise WordError(f"carpnodes: {len(nodes)} nodes: at most {MAX_NODES}")
    vhids = [node.vhid for node in nodes]
    for vhid in vhids:
        if vhids.count(vhid) > 1:
            raise WordError(f"carpnodes: vhid {vhid} is listed twice: each vhid once")
    return [f"{node.vhid}:{node.advskew}" for node in nodes]


_MULTICAST = frozenset({IPv4Address("224.0.0.18"), IPv6Address("ff02::12")})


def _peer(word: str) -> str:
    for group in _MULTICAST:
        if word == str(group):
            raise wrong("carppeer", word, "-carppeer goes back to multicast")
    return str(checked("carppeer", word, words.peer))


_SETTINGS: dict[str, tuple[Callable[[str], object], str]] = {
    "vhid": (lambda word: integer("vhid", word, 1, 255), "an integer 1..255"),
    "advbase": (lambda word: integer("advbase", word, 0, 254), "an integer 0..254"),
    "advskew": (lambda word: integer("advskew", word, 0, 254), "an integer 0..254"),
    "pass": (_passphrase, secrets.PASSPHRASE),
    "carpdev": (lambda word: checked("carpdev", word, words.carpdev), words.CARPDEV),
    "balancing": (partial(_one_of, "balancing", words.BALANCING_WORDS), words.BALANCING),
    "carpnodes": (_nodes, NODES),
    "lladdr": (_lladdr, words.LLADDR),
}
"""Keywords that are keys of a table of carp.toml: how the value is read, and what it may be."""

_TAKES_THE_PLACE_OF = {
    "vhid": ("carpnodes",),
    "carpnodes": ("vhid", "advskew"),
    "pass": ("pass-file", "key-hex", "pass-credential"),
}

_NOT_TOGETHER = (
    ("vhid", "carpnodes"),
    ("advskew", "carpnodes"),
    ("up", "down"),
    ("create", "destroy"),
    ("carpdev", "-carpdev"),
    ("carppeer", "-carppeer"),
    ("alias", "-alias"),
    ("alias", "delete"),
)

_ELSEWHERE = {
    **dict.fromkeys(("dhcp", "rtsol", "autoconf", "eui64"), "a shared address is the same on all hosts: write the address"),
    **dict.fromkeys(("dest", "dstaddr"), "a carp interface is not point-to-point: leave it out"),
    **dict.fromkeys(("peer", "peer6"), "write carppeer and the addresses of the other hosts"),
    **dict.fromkeys(("mcast", "mcast6"), "write -carppeer"),
    **dict.fromkeys(("carpver", "vrrpprio", "vrrpinterval"), "carpd does not speak VRRP: leave it out"),
    **dict.fromkeys(("ether", "link"), "write lladdr and the MAC"),
    **dict.fromkeys(("-inet", "-inet6"), "write each address and delete"),
    **dict.fromkeys(
        ("description", "descr", "mtu", "metric", "priority", "rtlabel", "rdomain", "vrf", "media"),
        "carpd does not set it: leave it out",
    ),
}
"""Words that ifconfig knows on one BSD or another and that carpd does not carry out, each with what to do instead."""


class _Line:
    """What the words of one line have asked for so far."""

    def __init__(self) -> None:
        self._given: list[str] = []
        self._set: dict[str, object] = {}
        self._peers: list[str] = []
        self._groups: dict[str, str] = {}
        self._state: str | None = None
        self._addresses = Addresses()
        self._after_pass = False

    def take(self, word: str, rest: deque[str]) -> None:
        """Carry out one word; what belongs to it is taken from the left of `rest`."""
        after_pass, self._after_pass = self._after_pass, False
        mask = self._addresses.may_be_mask and mask_length(word) is not None
        if is_like_one(word) or mask:
            try:
                self._addresses.add(word)
            except WordError:
                if after_pass:
                    raise _stray_after_pass(word) from None
                raise
            return
        self._addresses.may_be_mask = False
        if word in _SETTINGS:
            self._take_setting(word, rest)
        elif word in _WORDS:
            _WORDS[word](self, word, rest)
        elif after_pass:
            raise _stray_after_pass(word)
        elif word in _ELSEWHERE:
            raise WordError(f"{word}: {_ELSEWHERE[word]}")
        elif self._addresses.family:
            raise wrong(self._addresses.family, word, self._addresses.awaited)
        else:
            raise unknown(word, _KEYWORDS, "an address, or one of " + ", ".join(_KEYWORDS))

    def change(self, interface: str) -> Change:
        """Return the whole line as a change.

        Raises:
            WordError: words contradict each other.
        """
        self._check_together()
        addresses = self._addresses.finish()
        removes = [word for word in ("-alias", "delete") if word in self._given]
        if not addresses and (removes or "alias" in self._given):
            raise WordError(f"{(*removes, 'alias')[0]}: needs an address in the same line, such as 192.0.2.101")
        if self._peers:
            self._set["carppeer"] = self._peers
        unset = [other for word, others in _TAKES_THE_PLACE_OF.items() if word in self._set for other in others]
        unset += [word[1:] for word in ("-carpdev", "-carppeer") if word in self._given]
        return Change(
            interface,
            create="create" in self._given,
            destroy="destroy" in self._given,
            up=True if "up" in self._given else False if "down" in self._given else None,
            state=self._state,
            set=self._set,
            unset=tuple(unset),
            add_addresses=() if removes else addresses,
            remove_addresses=addresses if removes else (),
            add_groups=tuple(name for name, word in self._groups.items() if word == "group"),
            remove_groups=tuple(name for name, word in self._groups.items() if word == "-group"),
        )

    def _check_together(self) -> None:
        for one, other in _NOT_TOGETHER:
            if one in self._given and other in self._given:
                raise WordError(f"{other}: not together with {one}: one of them in a line")
        if "destroy" in self._given and (len(self._given) > 1 or self._groups or self._peers or self._addresses.finish()):
            raise WordError("destroy: not together with other words: it stands alone after the interface")
        if "down" in self._given and self._state in ("backup", "master"):
            raise WordError(f"state: {self._state}: not together with down, which is INIT")
        nodes = self._set.get("carpnodes")
        if isinstance(nodes, list) and len(nodes) > 1 and self._set.get("balancing") == "none":
            raise WordError("carpnodes: not together with balancing none: one pair, or another balancing")

    def _note(self, word: str) -> None:
        if word in self._given:
            raise WordError(f"{word}: given twice: once in a line")
        self._given.append(word)

    def _take_setting(self, keyword: str, rest: deque[str]) -> None:
        read, allowed = _SETTINGS[keyword]
        value = read(_value(keyword, rest, allowed))
        self._note(keyword)
        self._set[keyword] = value
        self._after_pass = keyword == "pass"

    def _take_flag(self, word: str, _rest: deque[str]) -> None:
        self._note(word)

    def _take_alias(self, word: str, _rest: deque[str]) -> None:
        if word not in self._given:
            self._note(word)

    def _take_back(self, word: str, rest: deque[str]) -> None:
        self._note(word)
        # OpenBSD would silently share the address of the peer.
        if rest and is_like_one(rest[0]):
            raise wrong(word, rest[0], "it takes no value; an address stands before it")

    def _take_state(self, word: str, rest: deque[str]) -> None:
        # NetBSD writes the states in capitals.
        self._state = _one_of(word, STATES, _value(word, rest, "one of " + ", ".join(STATES)).lower())
        self._note(word)

    def _take_peers(self, word: str, rest: deque[str]) -> None:
        for one in _value(word, rest, PEERS).split(","):
            peer = _peer(one)
            if peer in self._peers:
                raise WordError(f"{word}: {peer} is listed twice: each peer once")
            self._peers.append(peer)
        if word not in self._given:
            self._given.append(word)

    def _take_group(self, word: str, rest: deque[str]) -> None:
        group = checked(word, _value(word, rest, words.GROUP), words.own_group)
        if group in self._groups:
            raise WordError(f"{word}: {group} is given twice: each group once in a line")
        self._groups[group] = word

    def _take_family(self, word: str, _rest: deque[str]) -> None:
        self._addresses.begin(word)

    def _take_netmask(self, word: str, rest: deque[str]) -> None:
        self._addresses.netmask(_value(word, rest, "a mask such as 255.255.255.0 or 0xffffff00"))

    def _take_prefix_length(self, word: str, rest: deque[str]) -> None:
        self._addresses.prefix_length(_value(word, rest, "an integer 1..128"))

    def _take_broadcast(self, word: str, rest: deque[str]) -> None:
        self._addresses.broadcast(_value(word, rest, "an IPv4 address, such as 192.0.2.255"))


_WORDS: dict[str, Callable[[_Line, str, deque[str]], None]] = {
    **dict.fromkeys(("create", "destroy", "up", "down"), _Line._take_flag),
    "-carpdev": _Line._take_back,
    "-carppeer": _Line._take_back,
    "carppeer": _Line._take_peers,
    "state": _Line._take_state,
    **dict.fromkeys(("group", "-group"), _Line._take_group),
    **dict.fromkeys(("alias", "-alias", "delete"), _Line._take_alias),
    **dict.fromkeys(("inet", "inet6"), _Line._take_family),
    "netmask": _Line._take_netmask,
    "prefixlen": _Line._take_prefix_length,
    "broadcast": _Line._take_broadcast,
}
_KEYWORDS = (*_SETTINGS, *_WORDS)


def _value(keyword: str, rest: deque[str], allowed: str) -> str:
    """Take the value of a keyword; only a pass phrase may look like the next keyword."""
    if not rest or (keyword != "pass" and rest[0] in _KEYWORDS):
        raise missing(keyword, allowed)
    return rest.popleft()


def _stray_after_pass(word: str) -> WordError:
    """Refuse the word after a pass phrase without showing it: it may be the rest of one that has spaces."""
    hint = did_you_mean(word, _KEYWORDS)
    advice = "a pass phrase with spaces stands in quotes"
    return WordError(f"pass: the word after the pass phrase is neither a keyword nor an address; {hint or advice}")
