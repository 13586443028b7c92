"""The adapter of keepalived: VRRP 2 and 3, addresses on the parent or on a macvlan with the virtual MAC (use_vmac)."""

from collections.abc import Sequence

from lab.wait import until

from .subject import PREFIX_LENGTH, Router, VirtualHost, delete_leftovers, first_line, interface

PRIORITIES = (254, 253)
"""The highest that do not mean an owner of the address: so it waits the least by its own rules."""
READY_TIMEOUT_S = 20.0
REALTIME_PRIORITY = 50


class Keepalived(Router):
    """keepalived on one host, its VRRP part alone."""

    def configure(self) -> None:
        """Write keepalived.conf, one instance for each virtual host."""
        realtime = [f"vrrp_rt_priority {REALTIME_PRIORITY}", "vrrp_no_swap"] if self.shape.realtime else []
        blocks = [_block("global_defs", [f"vrrp_version {self.subject.version}", *realtime])]
        blocks += [self._instance(group) for group in self.shape.groups()]
        (self.directory / "keepalived.conf").write_text("\n".join(blocks))

    def _instance(self, group: VirtualHost) -> str:
        lines = [
            "state BACKUP",
            f"interface {interface(group.parent)}",
            f"virtual_router_id {group.vhid}",
            f"priority {PRIORITIES[self.rank]}",
            f"advert_int {self.subject.interval_ns / 1e9:g}",
            _block("virtual_ipaddress", [f"{address}/{PREFIX_LENGTH}" for address in group.addresses]),
        ]
        if self.subject.virtual_mac:
            lines.append(f"use_vmac v{group.parent}.{group.vhid}")
        return _block(f"vrrp_instance p{group.parent}v{group.vhid}", lines)

    def command(self) -> Sequence[str]:
        """Return the command line."""
        files = self.directory
        return (
            *("keepalived", "--vrrp", "--dont-fork", "--log-console", "--use-file", f"{files}/keepalived.conf"),
            *("--pid", f"{files}/parent.pid", "--vrrp_pid", f"{files}/vrrp.pid"),
        )

    def wait_until_ready(self) -> None:
        """Wait until its last instance has entered BACKUP."""
        names = [f"(p{group.parent}v{group.vhid}) Entering BACKUP" for group in self.shape.groups()]
        until(lambda: names[-1] in self.log.read_text(errors="replace"), READY_TIMEOUT_S, "keepalived to enter BACKUP")

    def start(self) -> int:
        """Start it; the log begins anew, as readiness is read from it."""
        self.log.unlink(missing_ok=True)
        return super().start()

    def clean(self) -> None:
        """Delete what a killed keepalived left."""
        delete_leftovers(self)
        for name in ("parent.pid", "vrrp.pid"):
            (self.directory / name).unlink(missing_ok=True)

    @staticmethod
    def version() -> str:
        """Return what keepalived says of its version."""
        return first_line("keepalived", "--version")


def _block(name: str, lines: Sequence[str]) -> str:
    return "\n".join((f"{name} {{", *lines, "}"))
