"""Kernel settings under /proc/sys/net that carpd changes, reads or warns about (LINUX.md section 1)."""

import contextlib
import os
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path

from .devconf import get_all_settings, get_settings, index_of, read_settings
from .netlink import Netlink

INTERFACES_AT_A_TIME = 16
"""How many interfaces a keeper looks at in one turn."""
_SUSPECTS_AT_A_TIME = 48
"""And how many that are suspected: a takeover waits for the worker thread meanwhile."""
_ROOT = Path("/proc/sys/net")

# On a carp interface: answer only for its own addresses, with its own MAC; no addresses but ours; believe any return path.
CARP_LINK_SETTINGS = {
    "ipv6/conf/{name}/addr_gen_mode": "1",
    "ipv6/conf/{name}/accept_ra": "0",
    "ipv4/conf/{name}/rp_filter": "2",
    "ipv4/conf/{name}/arp_ignore": "1",
    "ipv4/conf/{name}/arp_announce": "2",
    "ipv4/conf/{name}/arp_filter": "0",
    "ipv4/conf/{name}/accept_local": "0",
}
# On the parent: do not answer for, nor speak as, the addresses of the carp interfaces above it.
PARENT_SETTINGS = {
    "ipv4/conf/{name}/arp_ignore": "1",
    "ipv4/conf/{name}/arp_announce": "2",
}


def path_of(key: str, name: str) -> Path:
    """Return the file of a setting of one interface; a dot in the name is no separator here."""
    return _ROOT / key.format(name=name)


def read(path: Path) -> str | None:
    """Read a setting; None if this kernel has none (IPv6 may be switched off)."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def write(path: Path, value: str) -> None:
    """Write a setting if it exists and differs."""
    if read(path) not in (None, value):
        path.write_text(value)


def forwards(family: int) -> bool:
    """Tell whether this host routes packets of a family (4 or 6); asked for each announcing, so by system calls alone."""
    key = "ipv4/ip_forward" if family == 4 else "ipv6/conf/all/forwarding"
    try:
        descriptor = os.open(f"{_ROOT}/{key}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return os.read(descriptor, 32).strip() == b"1"
    finally:
        os.close(descriptor)


def host_warnings() -> list[str]:
    """Name the settings of the whole host that were measured to keep clients from a virtual address."""
    found = []
    if read(_ROOT / "ipv4/conf/all/arp_filter") == "1":
        found.append("net.ipv4.conf.all.arp_filter is 1: ARP for virtual addresses is not answered; set it to 0")
    ignore = read(_ROOT / "ipv4/conf/all/arp_ignore")
    if ignore is not None and int(ignore) >= 2:
        found.append(f"net.ipv4.conf.all.arp_ignore is {ignore}: ARP for /32 addresses is not answered; set it to 0 or 1")
    return found


class Keeper:
    """Watches settings that carpd made on interfaces, by their indexes.

    A look costs the same however many are watched: it takes a few of them in turn. It belongs to the worker thread.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Mapping[str, str]] = {}
        self._right: dict[int, int] = {}
        """Hashes of what the kernel says of interfaces that are as they should be: reading that costs more than asking."""
        self._turn = 0
        self._suspects: dict[int, None] = {}
        """Those that are still to be looked at out of turn, the first ones first."""

    def keep(self, index: int, settings: Mapping[str, str]) -> None:
        """Watch these settings of an interface instead of those watched before; those that it does not have are left out."""
        self._kept[index] = settings
        self._right.pop(index, None)

    def drop(self, index: int) -> None:
        """Watch an interface no more."""
        self._kept.pop(index, None)
        self._right.pop(index, None)

    def put_back(self, netlink: Netlink, suspects: Collection[int] = ()) -> list[str]:
        """Write the settings again that somebody changed on the next few interfaces and on suspects.

        Of many suspects some wait for the next call. Where something was changed, all interfaces are looked at: who sets one by
        a pattern sets others, too. Returns what was found, as text.
        """
        self._suspects.update(dict.fromkeys(index for index in suspects if index in self._kept))
        suspected = list(islice(self._suspects, _SUSPECTS_AT_A_TIME))
        for index in suspected:
            del self._suspects[index]
        chosen = dict.fromkeys([*self._next(), *(index for index in suspected if index in self._kept)])
        found = []
        for index, answer in zip(chosen, netlink.ask([get_settings(index) for index in chosen]), strict=True):
            if answer is None:
                self.drop(index)  # the interface is gone; whoever makes it again keeps it again
            else:
                found += self._repair(index, answer)
        if found and len(chosen) < len(self._kept):
            found += self._look_at_all(netlink)
        return found

    def _next(self) -> list[int]:
        """Return the interfaces whose turn it is."""
        if self._turn >= len(self._kept):
            self._turn = 0
        first, self._turn = self._turn, self._turn + INTERFACES_AT_A_TIME
        return list(islice(self._kept, first, self._turn))

    def _look_at_all(self, netlink: Netlink) -> list[str]:
        found = []
        for answer in netlink.dump(get_all_settings()):
            index = index_of(answer)
            if index in self._kept:
                found += self._repair(index, answer)
        return found

    def _repair(self, index: int, answer: bytes) -> list[str]:
        """Write the settings again that are not as they should be in what the kernel says of an interface."""
        digest = hash(answer)
        if self._right.get(index) == digest:
            return []
        wanted = self._kept[index]
        name, values = read_settings(answer, wanted)
        found = []
        for key, now in values.items():
            if now != wanted[key]:
                path = path_of(key, name)
                with contextlib.suppress(FileNotFoundError):
                    path.write_text(wanted[key])
                found.append(f"{path.relative_to(_ROOT)} was {now}, is {wanted[key]} again")
        if not found:
            self._right[index] = digest
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        self._kept.clear()
        self._right.clear()
        self._suspects.clear()
