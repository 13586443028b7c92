"""Authentication: keys, the order of addresses, and digests prepared once (PROTOCOL.md section 2, WIRE.md 2 and 3).

The digest is HMAC-SHA1 over: 02 01, the interface's MAC in one OpenBSD case, vhid, the IPv4 then the IPv6 addresses of the
carp interface, and the counter. advskew, advbase and the demote byte are not covered. Two SHA-1 states, after the key pads
and everything but the counter, are kept; a digest then costs two copies.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NewType

from .dialect import AddressOrder, Dialect
from .values import Address, Instant

KEY_BYTES = 20
MAX_PASSPHRASE_BYTES = KEY_BYTES - 1
DIGEST_BYTES = 20
_BLOCK_BYTES = 64
_VERSION_AND_TYPE = b"\x02\x01"
_EMPTY_MARKS = frozenset({bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16})

Key = NewType("Key", bytes)
"""20 bytes, NUL padded."""

ZERO_KEY = Key(bytes(KEY_BYTES))


def key_from_passphrase(passphrase: str) -> Key:
    """Make the key of a pass phrase of 0..19 bytes in UTF-8.

    Raises:
        ValueError: it is longer; the BSDs would cut it silently (WIRE.md section 3).
    """
    raw = passphrase.encode()
    if len(raw) > MAX_PASSPHRASE_BYTES:
        raise ValueError(f"{len(raw)} bytes long, at most {MAX_PASSPHRASE_BYTES} bytes are allowed")
    if 0 in raw:
        raise ValueError("holds a NUL byte, which would end it")
    return Key(raw.ljust(KEY_BYTES, b"\0"))


def key_from_hex(text: str) -> Key:
    """Make a key of exactly 40 hexadecimal digits, for hosts that use all 20 bytes.

    Raises:
        ValueError: it is anything else.
    """
    raw = bytes.fromhex(text)
    if len(raw) != KEY_BYTES:
        raise ValueError(f"{len(raw)} bytes long, {KEY_BYTES} bytes (40 digits) are needed")
    return Key(raw)


def _is_scoped(packed: bytes) -> bool:
    """Tell an IPv6 link-local unicast or an interface- or link-local multicast address."""
    if len(packed) != 16:
        return False
    if packed[0] == 0xFE:
        return packed[1] & 0xC0 == 0x80
    return packed[0] == 0xFF and packed[1] & 0x0F in (1, 2)


def _without_scope(packed: bytes) -> bytes:
    """Zero bytes 2..3, where the BSD kernels keep the scope."""
    return packed[:2] + b"\0\0" + packed[4:] if _is_scoped(packed) else packed


def digest_addresses(addresses: Iterable[Address], order: AddressOrder, *, link_local: bool) -> bytes:
    """Concatenate the addresses as the digest takes them (WIRE.md section 2)."""
    packed = [_without_scope(address.packed) for address in addresses]
    if not link_local:
        packed = [one for one in packed if not _is_scoped(one)]
    v4 = [one for one in packed if len(one) == 4]
    v6 = [one for one in packed if len(one) == 16]
    if order is AddressOrder.SORTED:
        v4 = sorted(set(v4) - _EMPTY_MARKS)
        v6 = sorted(set(v6) - _EMPTY_MARKS)
    elif order is AddressOrder.DRAGONFLY:
        v4 = sorted(v4)
    return b"".join(v4 + v6)


class Digest:
    """The digest of one virtual host for one key and one address list, ready but for the counter."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: Key, vhid: int, addresses: bytes, lladdr: bytes = b"") -> None:
        padded = key.ljust(_BLOCK_BYTES, b"\0")
        text = _VERSION_AND_TYPE + lladdr + bytes((vhid,)) + addresses
        self._inner = hashlib.sha1(bytes(b ^ 0x36 for b in padded) + text, usedforsecurity=False)
        self._outer = hashlib.sha1(bytes(b ^ 0x5C for b in padded), usedforsecurity=False)

    def of(self, counter: bytes) -> bytes:
        """Return the 20-byte digest for the counter's 8 bytes as on the wire."""
        inner = self._inner.copy()
        inner.update(counter)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


@dataclass(frozen=True, slots=True)
class DigestSet:
    """The digest to send and those to accept, for one key and address list; the sent one is tried first."""

    send: Digest
    accept: tuple[Digest, ...]

    @classmethod
    def prepare(cls, dialect: Dialect, key: Key, vhid: int, addresses: Sequence[Address], lladdr: bytes = b"") -> "DigestSet":
        """Prepare the digests of one virtual host; `lladdr` is b"" or the 6 bytes of an interface MAC that is hashed."""
        forms = {}
        for link_local in (dialect.sends_link_local, not dialect.sends_link_local):
            listed = digest_addresses(addresses, dialect.address_order, link_local=link_local)
            forms[listed] = Digest(key, vhid, listed, lladdr)
            if not dialect.accepts_both_link_local_forms:
                break
        accept = tuple(forms.values())
        return cls(accept[0], accept)


@dataclass(frozen=True, slots=True)
class _Former:
    """Digests that were replaced: sent until one moment, accepted until a later one."""

    digests: DigestSet
    until_sending: Instant
    until_accepting: Instant


class Authenticator:
    """Digests of one virtual host through changes of key and address list.

    Differs: no BSD can change either without a split. For one grace the former digest goes on being sent and for two it
    goes on being accepted, so that hosts may be changed in any order within one grace (docs/differences.md).
    """

    __slots__ = ("_current", "_former")

    def __init__(self, digests: DigestSet) -> None:
        self._current = digests
        self._former: list[_Former] = []

    def replace(self, digests: DigestSet, now: Instant, grace_ns: int) -> None:
        """Change the digests at `now`; the former ones stay for the grace. A grace of 0 drops them all at once."""
        if grace_ns <= 0:
            self._former = []
        else:
            until_sending, until_accepting = Instant(now + grace_ns), Instant(now + 2 * grace_ns)
            kept = [one for one in self._former if now < one.until_accepting]
            sent = self._sending(now)
            if sent is not self._current:
                # What is replaced before it was ever sent, a mistyped pass phrase perhaps, never is; its predecessor goes on.
                kept = [_Former(one.digests, until_sending if one.digests is sent else now, until_accepting) for one in kept]
                until_sending = now
            self._former = [*kept, _Former(self._current, until_sending, until_accepting)]
        self._current = digests

    def in_grace(self, now: Instant) -> bool:
        """Tell whether a former digest is still the one that is sent."""
        return self._sending(now) is not self._current

    def sign(self, counter: bytes, now: Instant) -> bytes:
        """Return the digest to send with these 8 counter bytes."""
        return (self._sending(now) if self._former else self._current).send.of(counter)

    def verify(self, counter: bytes, digest: bytes, now: Instant) -> bool:
        """Tell whether a received digest is one of those accepted, in constant time for each."""
        if self._former:
            self._former = [one for one in self._former if now < one.until_accepting]
        # With the one form and no former digests that nearly all have, nothing else is looked at.
        if hmac.compare_digest(self._current.send.of(counter), digest):
            return True
        others = list(self._current.accept[1:])
        for one in self._former:
            others += one.digests.accept
        return bool(others) and any(hmac.compare_digest(form.of(counter), digest) for form in others)

    def _sending(self, now: Instant) -> DigestSet:
        """Return the oldest digests whose time is not over: the peers that were not changed yet know no newer ones."""
        for one in self._former:
            if now < one.until_sending:
                return one.digests
        return self._current
