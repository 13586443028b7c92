"""The adapter of ucarp: one process for each virtual host, the address set by scripts as those of Debian's package do."""

import signal
from collections.abc import Sequence

from lab.wait import now_ns

from . import processes
from .carpd import PASSWORD
from .subject import PREFIX_LENGTH, Router, delete_leftovers, first_line, interface, own_address


class Ucarp(Router):
    """ucarp on one host."""

    def configure(self) -> None:
        """Write the scripts, and one that starts all processes."""
        for word, verb in (("up", "add"), ("down", "del")):
            self._script(word, f"exec /sbin/ip addr {verb} $2/{PREFIX_LENGTH} dev $1\n")
        skew, files = self.subject.advskews[self.rank], self.directory
        lines = []
        for group in self.shape.groups():
            own = own_address(group.parent, self.rank + 1)
            lines.append(
                f"setpriv --pdeathsig KILL ucarp -i {interface(group.parent)} -s {own} -v {group.vhid} -p {PASSWORD}"
                f" -a {group.addresses[0]} -b 1 -k {skew} -P -z -u {files}/up -d {files}/down &\n"
            )
        # The shell must outlive a signal to all, so that it can wait for them.
        self._script("all", "trap : TERM\n" + "".join(lines) + "wait\nwait\n")

    def _script(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    def command(self) -> Sequence[str]:
        """Return the command line."""
        return (f"{self.directory}/all",)

    def stop(self) -> int:
        """Ask all processes to end; return the instant right before."""
        pids = self.pids()
        at = now_ns()
        processes.signal_all(pids, signal.SIGTERM)
        return at

    def clean(self) -> None:
        """Delete the addresses that killed processes left."""
        delete_leftovers(self)

    @staticmethod
    def version() -> str:
        """Return what ucarp says of its version."""
        return first_line("ucarp", "--help").partition(" - ")[0]
