"""Kernel settings under /proc/sys/net that carpd changes, reads or warns about (LINUX.md section 1)."""

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
