"""The adapter of carpd."""

from collections.abc import Sequence

from lab.host import Carp, program, toml
from lab.host import Host as CarpdHost

from .subject import PREFIX_LENGTH, Router, first_line, interface

PASSWORD = "opensesame"  # noqa: S105


class Carpd(Router):
    """carpd on one host."""

    def configure(self) -> None:
        """Write carp.toml, one carp interface for each virtual host."""
        skew = self.subject.advskews[self.rank]
        advbase = 0 if self.subject.interval_ns < 1_000_000_000 else 1
        # Keys are written to files of their own only by `table`; the virtual hosts share one here.
        carps = [
            Carp(
                name=f"carp{number}",
                vhid=group.vhid,
                advbase=advbase,
                advskew=skew,
                carpdev=interface(group.parent),
                addresses=tuple(f"{address}/{PREFIX_LENGTH}" for address in group.addresses),
                password=PASSWORD,
            )
            for number, group in enumerate(self.shape.groups())
        ]
        tables: dict[str, dict[str, object]] = {"global": {"preempt": True, "realtime": self.shape.realtime}}
        tables |= {carp.name: carp.table(self.directory) for carp in carps}
        (self.directory / "state").mkdir(exist_ok=True)
        (self.directory / "carp.toml").write_text(toml(tables))

    def command(self) -> Sequence[str]:
        """Return the command line."""
        files = self.directory
        return (
            str(program("carpd")),
            *("--config", f"{files}/carp.toml", "--socket", f"{files}/s", "--state-dir", f"{files}/state"),
        )

    def wait_until_ready(self) -> None:
        """Wait until no virtual host is in INIT."""
        host = CarpdHost.__new__(CarpdHost)
        host.port, host.label, host.socket, host.log = self.port, self.label, self.directory / "s", self.log
        host.wait_until_listening()

    @staticmethod
    def version() -> str:
        """Return what carpd says of its version."""
        return first_line(str(program("carpd")), "--version")
