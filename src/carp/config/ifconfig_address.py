"""The addresses of one line of `ifconfig`, in the forms of the BSDs: A, A/len, A mask, A netmask M, inet6 A prefixlen N.

As in the BSDs, a line either adds or removes: `alias`, `-alias` and `delete` hold for all addresses of the line.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_interface

from carp.protocol.values import Address

from . import words
from .bsd_words import WordError, integer, wrong
from .change import WrittenAddress
from .errors import RefusedError

ADDRESS = "an IPv4 or IPv6 address, such as 192.0.2.100/24"
IPV4_ADDRESS = "an IPv4 address, such as 192.0.2.100/24"
IPV6_ADDRESS = "an IPv6 address, such as 2001:db8::100/64"
MASK = "a mask such as 255.255.255.0 or 0xffffff00"

_EXAMPLE = "192.0.2.100"
_ALLOWED = {"inet": IPV4_ADDRESS, "inet6": IPV6_ADDRESS, "": ADDRESS}
_VERSIONS = {"inet": 4, "inet6": 6}
_LIKE_ONE = re.compile(r"[0-9A-Fa-f.:]*[.:][0-9A-Fa-f.:]*(%[^/]*)?(/.*)?")
_LENGTH = re.compile(r"[0-9]{1,3}")
_HEX_MASK = re.compile(r"0[xX][0-9A-Fa-f]{8}")
_BITS = {4: 32, 6: 128}
_HAS_BROADCAST = range(1, 31)


@dataclass(slots=True)
class _Entry:
    ip: Address
    length: int | None


def is_like_one(word: str) -> bool:
    """Tell whether a word can only have been meant as an address, right or wrong."""
    return _LIKE_ONE.fullmatch(word) is not None


def mask_length(word: str) -> int | None:
    """Return the prefix length, 1..32, of a mask in dotted or hexadecimal digits, or None for anything else."""
    try:
        bits = int(word, 16) if _HEX_MASK.fullmatch(word) else int(IPv4Address(word))
    except ValueError:
        return None
    host = ~bits & 0xFFFFFFFF
    # The ones of a mask come first: so its host part is one less than a power of two.
    return 32 - host.bit_length() if bits and host & (host + 1) == 0 else None


class Addresses:
    """The addresses of one line while its words are read from left to right.

    `may_be_mask` is whether the next word, if it is an IPv4 address without a length, belongs to the one before.
    """

    def __init__(self) -> None:
        self.may_be_mask = False
        self._entries: list[_Entry] = []
        self._family = ""
        self._early_length: tuple[str, int] | None = None
        self._has_broadcast = False

    @property
    def awaited(self) -> str:
        """What the next word has to be after `inet` or `inet6`, or ""."""
        return _ALLOWED[self._family] if self._family else ""

    @property
    def family(self) -> str:
        """The word `inet` or `inet6` that still waits for its address, or ""."""
        return self._family

    def begin(self, family: str) -> None:
        """Take `inet` or `inet6`: the next address is of that family.

        Raises:
            WordError: the one before has had no address.
        """
        if self._family:
            raise WordError(f"{self._family}: its value is missing: {self.awaited}")
        self._family = family

    def add(self, word: str) -> None:
        """Take an address with or without /len, or the mask of the address before.

        Raises:
            WordError: it is neither.
        """
        if self.may_be_mask and "/" not in word and ":" not in word:
            self._add_mask(word)
            return
        entry = self._read(word)
        self._refuse_broadcast(entry)
        if any(entry.ip == other.ip for other in self._entries):
            raise WordError(f"{entry.ip}: each address once")
        if self._early_length is not None:
            keyword, length = self._early_length
            self._early_length = None
            _set_length(entry, keyword, length)
        self._entries.append(entry)
        self._family = ""
        self.may_be_mask = entry.ip.version == 4 and entry.length is None

    def netmask(self, word: str) -> None:
        """Take the value of `netmask`.

        Raises:
            WordError: it is none, or there is a length already.
        """
        length = mask_length(word)
        if length is None:
            raise wrong("netmask", word, MASK)
        self._set_last("netmask", length)

    def prefix_length(self, word: str) -> None:
        """Take the value of `prefixlen`.

        Raises:
            WordError: it is none, or there is a length already.
        """
        self._set_last("prefixlen", integer("prefixlen", word, 1, 128))

    def broadcast(self, word: str) -> None:
        """Take the value of `broadcast`; it has no effect, as the prefix says it already.

        Raises:
            WordError: it is not an IPv4 address.
        """
        try:
            IPv4Address(word)
        except ValueError:
            raise wrong("broadcast", word, "an IPv4 address, such as 192.0.2.255") from None
        self._has_broadcast = True

    def finish(self) -> tuple[WrittenAddress, ...]:
        """Return the addresses in the order of the line.

        Raises:
            WordError: a word about addresses is left without one.
        """
        if self._family:
            raise WordError(f"{self._family}: its value is missing: {self.awaited}")
        if self._early_length is not None:
            raise WordError(f"{self._early_length[0]}: needs an address in the same line, such as {_EXAMPLE}")
        if self._has_broadcast and not any(entry.ip.version == 4 for entry in self._entries):
            raise WordError(f"broadcast: needs an address in the same line, such as {_EXAMPLE}")
        return tuple(WrittenAddress(str(entry.ip), entry.length) for entry in self._entries)

    def _read(self, word: str) -> _Entry:
        keyword = self._family or "address"
        allowed = _ALLOWED[self._family]
        text, slash, length_text = word.partition("/")
        try:
            ip = ip_address(text)
        except ValueError:
            raise wrong(keyword, word, allowed) from None
        if "%" in text:
            raise wrong(keyword, word, "an address without %, the parent is named by carpdev")
        if self._family and ip.version != _VERSIONS[self._family]:
            raise wrong(keyword, word, allowed)
        length = None
        if slash:
            longest = _BITS[ip.version]
            if not _LENGTH.fullmatch(length_text) or not 1 <= int(length_text) <= longest:
                raise wrong(keyword, word, f"a prefix length of 1..{longest}")
            length = int(length_text)
        try:
            words.address(f"{ip}/{length or _BITS[ip.version]}")
        except RefusedError as refused:
            raise wrong(keyword, word, refused.allowed) from None
        return _Entry(ip, length)

    def _add_mask(self, word: str) -> None:
        length = mask_length(word)
        if length is None:
            before = self._entries[-1].ip
            raise wrong("address", word, f"after {before} {MASK}, or a further address with its prefix length")
        self._entries[-1].length = length
        self.may_be_mask = False

    def _refuse_broadcast(self, entry: _Entry) -> None:
        """Refuse what OpenBSD's boot files put third, which on a command line would become one more address."""
        if not self._entries or entry.length is not None:
            return
        before = self._entries[-1]
        if before.ip.version == 4 and before.length in _HAS_BROADCAST:
            network = ip_interface(f"{before.ip}/{before.length}").network
            if entry.ip == network.broadcast_address:
                hint = f"write broadcast {entry.ip}, or leave it out"
                raise WordError(f"address: {entry.ip}: the broadcast address of {network} is not shared; {hint}")

    def _set_last(self, keyword: str, length: int) -> None:
        if self._family or not self._entries:
            if self._early_length is not None:
                raise WordError(f"{keyword}: only one {keyword} for each address")
            self._early_length = (keyword, length)
            return
        _set_length(self._entries[-1], keyword, length)


def _set_length(entry: _Entry, keyword: str, length: int) -> None:
    """Give an address its prefix length; `keyword` is netmask or prefixlen."""
    if entry.length is not None:
        raise WordError(f"{keyword}: {entry.ip}/{entry.length} has its prefix length already: give it once")
    longest = _BITS[entry.ip.version]
    if keyword == "netmask" and entry.ip.version == 6:
        raise WordError(f"netmask: {entry.ip} is an IPv6 address: prefixlen, or {entry.ip}/64")
    if length > longest:
        raise WordError(f"{keyword}: {length}: an integer 1..{longest}")
    entry.length = length
