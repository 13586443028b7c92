"""Who is compared, how often and with how much: the normal run, which stays below 30 minutes, and the quick one below 3."""

from dataclasses import dataclass, replace

from .carpd import Carpd
from .keepalived import PRIORITIES, Keepalived
from .subject import Subject
from .ucarp import Ucarp

_MS = 1_000_000
_S = 1_000_000_000


def _carpd(name: str, klass: str, skews: tuple[int, int]) -> Subject:
    """Make a pair of carpd; below a second the advskews alone are the intervals."""
    if klass == "1 s":
        return Subject(name, "carpd", klass, Carpd, _S + skews[0] * _S // 256, 3 * _S + skews[1] * _S // 256, advskews=skews)
    return Subject(name, "carpd", klass, Carpd, skews[0] * _S // 256, 3 * skews[1] * _S // 256, advskews=skews)


def _keepalived(version: int, interval_ns: int, klass: str, *, virtual_mac: bool) -> Subject:
    # RFC 3768 and RFC 5798: three intervals and a skew; that of version 2 is in 1/256 s, that of version 3 of the interval.
    skew_ns = (256 - PRIORITIES[1]) * (_S if version == 2 else interval_ns) // 256
    name = f"keepalived VRRPv{version} {klass}" + (", virtual MAC" if virtual_mac else "")
    down_ns = 3 * interval_ns + skew_ns
    return Subject(name, "keepalived", klass, Keepalived, interval_ns, down_ns, version=version, virtual_mac=virtual_mac)


CARPD = _carpd("carpd 1 s", "1 s", (0, 1))
CARPD_100 = _carpd("carpd 100 ms", "100 ms", (25, 26))
# CARP counts in 1/256 s and triples the BACKUP's own interval: 23.4 ms of patience and 35.2 ms lie around keepalived's 30 ms.
CARPD_10 = _carpd("carpd 10 ms", "10 ms", (1, 2))
CARPD_10_PATIENT = _carpd("carpd 10 ms, patient", "10 ms", (2, 3))
UCARP = Subject("ucarp 1 s", "ucarp", "1 s", Ucarp, _S, 3 * _S + _S // 256, virtual_mac=False)
KEEPALIVED = _keepalived(2, _S, "1 s", virtual_mac=False)
KEEPALIVED_VMAC = _keepalived(2, _S, "1 s", virtual_mac=True)
KEEPALIVED_100 = _keepalived(3, 100 * _MS, "100 ms", virtual_mac=False)
KEEPALIVED_100_VMAC = _keepalived(3, 100 * _MS, "100 ms", virtual_mac=True)
KEEPALIVED_10 = _keepalived(3, 10 * _MS, "10 ms", virtual_mac=False)
KEEPALIVED_10_VMAC = _keepalived(3, 10 * _MS, "10 ms", virtual_mac=True)
SUBJECTS = (
    *(CARPD, UCARP, KEEPALIVED, KEEPALIVED_VMAC),
    *(CARPD_100, KEEPALIVED_100, KEEPALIVED_100_VMAC),
    *(CARPD_10, CARPD_10_PATIENT, KEEPALIVED_10, KEEPALIVED_10_VMAC),
)
QUICK = (CARPD, UCARP, KEEPALIVED, CARPD_10, KEEPALIVED_10)
PATH = (CARPD_100, KEEPALIVED_100, KEEPALIVED_100_VMAC)
GROWTH = (CARPD, KEEPALIVED, UCARP)
CROWD = (KEEPALIVED_VMAC,)
"""Those that are only compared with as many virtual hosts as there are vhids."""
STABILITY = (CARPD_10, CARPD_10_PATIENT, KEEPALIVED_10)
STRIKE_S = {"1 s": 11.5, "100 ms": 5.5, "10 ms": 5.0}
"""How long a pair takes for one way to fail, until all is as before."""
FORGED = "forged"


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        quick: whether only a few programs fail over.
        budget_s: what would not end within it is left out.
        repeat: rounds of failovers by the interval they are compared at.
        width: how many pairs fail over at the same time, by interval.
        strikes: how many of the ways to fail are tried, in their order.
        path_addresses: numbers of addresses of the one virtual host.
        path_repeat: takeovers for each.
        counts: numbers of virtual hosts on one interface.
        cost_s: how long their CPU time is measured.
        many: numbers of virtual hosts and interfaces, for carpd alone.
        stable_s: how long these, and false takeovers on an idle machine, are watched.
        load_s: how long false takeovers are watched under load.
        floods: pairs with kinds and rates; each is sent to the BACKUP and to the MASTER.
        flood_s: how long each lasts.
    """

    quick: bool
    budget_s: float
    repeat: dict[str, int]
    width: dict[str, int]
    strikes: int
    path_addresses: tuple[int, ...]
    path_repeat: int
    counts: tuple[int, ...]
    cost_s: float
    many: tuple[tuple[int, int], ...]
    stable_s: float
    load_s: float
    floods: tuple[tuple[tuple[Subject, ...], tuple[tuple[str, int], ...]], ...]
    flood_s: float


_SECOND = (CARPD, UCARP, KEEPALIVED)
_NORMAL = Extent(
    quick=False,
    budget_s=29 * 60,
    repeat={"1 s": 3, "100 ms": 2, "10 ms": 3},
    width={"1 s": 2, "100 ms": 1, "10 ms": 1},
    strikes=4,
    path_addresses=(1, 16, 255),
    path_repeat=3,
    counts=(1, 16, 64, 255),
    cost_s=10,
    many=((4080, 16),),
    stable_s=60,
    load_s=60,
    floods=(
        (
            _SECOND,
            (
                *((FORGED, rate) for rate in (2, 10_000, 50_000, 100_000)),
                *((kind, 50_000) for kind in ("wrong digest", "wrong version", "foreign vhid")),
            ),
        ),
        # A flood is longer than these wait: who hears nothing takes over in it.
        ((CARPD_100, KEEPALIVED_100), ((FORGED, 50_000), (FORGED, 100_000), ("wrong digest", 50_000))),
    ),
    flood_s=1.5,
)
_QUICK = replace(
    _NORMAL,
    quick=True,
    budget_s=170,
    repeat={"1 s": 1, "10 ms": 1},
    width={"1 s": 3, "10 ms": 2},
    strikes=2,
    path_addresses=(16,),
    path_repeat=1,
    counts=(4,),
    cost_s=2,
    many=(),
    stable_s=4,
    load_s=4,
    floods=(((CARPD_100, KEEPALIVED_100), ((FORGED, 10_000),)),),
    flood_s=1,
)


def extent(*, quick: bool, stable_s: float | None) -> Extent:
    """Return how much is measured; `stable_s` replaces the time that stability is watched, beyond the budget if need be."""
    usual = _QUICK if quick else _NORMAL
    if stable_s is None:
        return usual
    return replace(usual, stable_s=stable_s, budget_s=usual.budget_s + 2 * max(0.0, stable_s - usual.stable_s))
