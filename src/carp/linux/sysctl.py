"""Kernel settings under /proc/sys/net that carpd changes, reads or warns about (LINUX.md section 1)."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

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
    """Tell whether this host routes packets of a family (4 or 6)."""
    key = "ipv4/ip_forward" if family == 4 else "ipv6/conf/all/forwarding"
    return read(_ROOT / key) == "1"


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
    """Watches settings that carpd made, one open file each: a look at one costs a microsecond.

    It belongs to the worker thread.
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[Path, int, bytes]]] = {}

    def keep(self, name: str, settings: Mapping[str, str]) -> None:
        """Watch the settings of an interface instead of those watched before."""
        self.drop(name)
        kept = []
        for key, value in settings.items():
            path = path_of(key, name)
            try:
                kept.append((path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), value.encode()))
            except FileNotFoundError:
                continue
        self._kept[name] = kept

    def drop(self, name: str) -> None:
        """Watch an interface no more."""
        for _, descriptor, _ in self._kept.pop(name, ()):
            os.close(descriptor)

    def put_back(self) -> list[str]:
        """Write the settings again that somebody changed; return what was found, as text."""
        found = []
        for name, kept in list(self._kept.items()):
            try:
                changed = [
                    (path, value, now)
                    for path, descriptor, value in kept
                    if (now := os.pread(descriptor, 32, 0).strip()) != value
                ]
            except OSError:
                self.drop(name)  # the interface is gone; whoever makes it again keeps it again
                continue
            for path, value, now in changed:
                with contextlib.suppress(FileNotFoundError):
                    path.write_bytes(value)
                found.append(f"{path.relative_to(_ROOT)} was {now.decode()}, is {value.decode()} again")
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        for name in list(self._kept):
            self.drop(name)
