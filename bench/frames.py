"""What frames say: who advertised when, for which virtual host, and when each address was announced or answered for.

Instants are those of the kernel at the switch port, in ns of CLOCK_MONOTONIC.
"""

import itertools
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

Stamped = tuple[int, bytes]

_ARP, _IPV4 = b"\x08\x06", b"\x08\x00"
_PROTOCOL = 112
_REPLY = 2


def is_advertisement(frame: bytes) -> bool:
    """Tell advertisements of CARP and VRRP, which share a protocol number, over IPv4."""
    return frame[12:14] == _IPV4 and frame[23] == _PROTOCOL


def is_farewell(frame: bytes) -> bool:
    """Tell advertisements by which a MASTER leaves: VRRP with priority 0, CARP with advbase and advskew 255."""
    body = frame[14 + (frame[14] & 0x0F) * 4 :]
    # Byte 1 is the vhid or VRID of both; byte 2 VRRP's priority or CARP's advskew, byte 5 VRRP's interval or CARP's advbase.
    is_carp = body[0] == 0x21 and len(body) == 36
    return (body[2] == body[5] == 255) if is_carp else body[2] == 0


def advertisements(frames: Iterable[Stamped]) -> list[int]:
    """Return the instants of advertisements, farewells left out."""
    return [at for at, frame in frames if is_advertisement(frame) and not is_farewell(frame)]


def last_of_each(frames: Iterable[Stamped]) -> dict[int, int]:
    """Return when the last advertisement of each vhid or VRID came, farewells left out."""
    return {
        frame[15 + (frame[14] & 0x0F) * 4]: at for at, frame in frames if is_advertisement(frame) and not is_farewell(frame)
    }


def announced(frames: Iterable[Stamped], addresses: Iterable[str], since: int) -> dict[str, int]:
    """Return when each address was first announced by ARP after an instant; what was not announced is missing."""
    wanted = {IPv4Address(address).packed: address for address in addresses}
    found: dict[str, int] = {}
    for at, frame in frames:
        if at >= since and _announces(frame) and (address := wanted.get(frame[28:32])) is not None:
            found.setdefault(address, at)
    return found


def end_of_burst(frames: Iterable[Stamped], since: int, quiet_ns: int) -> int | None:
    """Return the instant of the last announcement before none came for `quiet_ns`; None if there was none at all."""
    last: int | None = None
    for at, frame in frames:
        if at < since or not _announces(frame):
            continue
        if last is not None and at - last > quiet_ns:
            break
        last = at
    return last


def answers(frames: Iterable[Stamped], address: str) -> list[int]:
    """Return when ARP questions for an address were answered."""
    packed = IPv4Address(address).packed
    found = []
    for at, frame in frames:
        is_arp = frame[12:14] == _ARP and struct.unpack_from("!H", frame, 20)[0] == _REPLY
        if is_arp and frame[28:32] == packed and frame[38:42] != packed:
            found.append(at)
    return found


def both_ns(one: Sequence[int], other: Sequence[int], every_ns: int) -> int:
    """Return for how long two hosts answered the same questions, one question each `every_ns`.

    Only answers that came within half of that of one another belong to one question.
    """
    count = 0
    rest = iter(other)
    later = next(rest, None)
    for at in one:
        while later is not None and later < at - every_ns // 2:
            later = next(rest, None)
        if later is not None and later <= at + every_ns // 2:
            count += 1
    return count * every_ns


def longest_pause_ns(instants: Sequence[int], start: int, end: int) -> int:
    """Return the longest time without one of the instants within [start, end]; the bounds count."""
    within = [start, *(at for at in instants if start <= at <= end), end]
    return max(later - before for before, later in itertools.pairwise(within))


def runs(instants: Sequence[int], quiet_ns: int) -> int:
    """Count the groups of instants that are `quiet_ns` or more apart."""
    return bool(instants) + sum(1 for before, at in itertools.pairwise(instants) if at - before >= quiet_ns)


def arp_question(source_mac: bytes, source: str, address: str) -> bytes:
    """Return the broadcast frame that asks who has an address."""
    ends = source_mac + IPv4Address(source).packed + bytes(6) + IPv4Address(address).packed
    return b"\xff" * 6 + source_mac + _ARP + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + ends


def _announces(frame: bytes) -> bool:
    return frame[12:14] == _ARP and frame[28:32] == frame[38:42]
