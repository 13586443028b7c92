"""Two firewalls between a LAN and the Internet, with the addresses of the guides, and a link of their own for states.

    client 172.16.0.9 ── LAN ──┬── fw1 .1  em0 ┌─────┐ em1  .1 ──┬── Internet ── server 192.0.2.9
                      172.16.0 ├── .100 shared │ em2 │ shared .100 ┤ 192.0.2
                               └── fw2 .2  em0 └─────┘ em1  .2 ──┘

Each has stateful rules that refuse what they have no state for, source NAT to 192.0.2.100, conntrackd with the configuration
that `carp sync config` prints, and carpd, which prefers fw1 and preempts.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from .conntrackd import Conntrackd, flush_states
from .figures import Pair
from .host import Carp, Host, Status, program, toml
from .lan import Port
from .netns import CommandError
from .stage import Stage
from .tables import addresses as addresses_of
from .wait import now_ns, until

LAN, WAN, LINK = "em0", "em1", "em2"
LAN_SHARED, WAN_SHARED = "172.16.0.100", "192.0.2.100"
CLIENT, SERVER = "172.16.0.9", "192.0.2.9"
LAN_CARP, WAN_CARP = "carp1", "carp2"
LAN_VHID, WAN_VHID = 1, 2
LABELS = ("fw1", "fw2")
USUAL = Pair(1, 0, 128)
"""The guide's firewalls: advskew 0 and 128."""
QUICK = Pair(0, 100, 160)
"""Quicker, and yet patient enough for a busy machine: master-down times of 1.2 and 1.9 s."""
_PATIENCE_S = 20.0

# Packets to a virtual MAC come in by carpN, and go out by its parent. What has no state is refused in the rudest way there is:
# an address that is live before the states are here costs connections at once.
RULES = f"""
flush ruleset
table inet firewall {{
    chain forward {{
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ct state invalid drop
        iifname {{ {LAN}, {LAN_CARP} }} oifname {WAN} tcp flags & (fin | syn | rst | ack) == syn ct state new accept
        iifname {{ {LAN}, {LAN_CARP} }} oifname {WAN} meta l4proto {{ udp, icmp }} ct state new accept
    }}
    chain input {{
        type filter hook input priority filter; policy drop
        iifname {{ lo, {LINK} }} accept
        ct state established,related accept
        meta l4proto {{ icmp, icmpv6, 112 }} accept
        meta l4proto tcp reject with tcp reset
    }}
}}
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname {WAN} ip saddr 172.16.0.0/24 snat to {WAN_SHARED}
    }}
}}
"""


class Firewall(Host):
    """A firewall: a host with conntrackd and rules."""

    def __init__(self, ports: Mapping[str, Port], directory: Path, carps: Iterable[Carp], sync: Mapping[str, object]) -> None:
        """Write all configuration; nothing is started.

        Args:
            ports: where it is, by interface; the LAN's comes first.
            directory: for the files of carpd and conntrackd.
            carps: its carp interfaces.
            sync: the table [sync] of carp.toml, without the path of conntrackd's socket.
        """
        self.ports = dict(ports)
        first = next(iter(self.ports.values()))
        self.conntrackd = Conntrackd(first.namespace, directory)
        self.sync = {"conntrackd": str(self.conntrackd.socket), **sync}
        super().__init__(first, directory, carps, preempt=True, log=6)
        self._set_up()

    def configure(self, carps: Iterable[Carp], **global_keys: object) -> None:
        """Write carp.toml anew, with its table [sync]; a running daemon learns of it by `reload`."""
        super().configure(carps, **global_keys)
        with self.config.open("a") as file:
            file.write(toml({"sync": self.sync}) if self.sync else "")

    def boot(self, *, with_conntrackd: bool = True, wait: bool = True) -> None:
        """Start what init starts, conntrackd first."""
        if with_conntrackd and not self.conntrackd.running:
            if not self.conntrackd.config.exists():
                self.conntrackd.configure(self.printed_configuration())
            self.conntrackd.start()
        if not self.running:
            self.start(wait=wait)

    def printed_configuration(self) -> str:
        """Return what `carp sync config` prints on this host."""
        return self.namespace.run(str(program("carp")), "sync", "config", "--file", str(self.config))

    def axe(self) -> int:
        """Kill everything and cut every link; return the instant at which the first was cut."""
        at = min(port.unplug() for port in self.ports.values())
        if self.running:
            self.kill()
        self.conntrackd.close()
        return at

    def recover(self, *, with_conntrackd: bool = True, without_link: bool = False) -> int:
        """Boot again after the axe, with an empty table of connections; return the instant at which carpd was started."""
        flush_states(self.namespace)
        for interface, port in self.ports.items():
            if interface != LINK or not without_link:
                port.plug()
        self.boot(with_conntrackd=with_conntrackd, wait=False)
        return now_ns()

    def cut_link(self) -> int:
        """Take the carrier of the states' link away; return the instant right before."""
        return self.ports[LINK].unplug()

    def mend_link(self) -> None:
        """Give it back."""
        self.ports[LINK].plug()

    def sync_status(self) -> Status:
        """Return what `carp sync status --json` prints."""
        return self.get("/v1/sync")

    def synchronised(self) -> bool:
        """Tell whether carpd runs and says that this host has the states of all connections."""
        with suppress(OSError, RuntimeError):
            return bool(self.sync_status()["synchronised"])
        return False

    def owns(self, *shared: str) -> bool:
        """Tell whether this host has shared addresses."""
        held = {address.partition("/")[0] for address in addresses_of(self.namespace)}
        return held >= set(shared)

    def close(self) -> None:
        """End both daemons."""
        super().close()
        self.conntrackd.close()

    def _set_up(self) -> None:
        namespace = self.namespace
        namespace.sysctl("ipv4/ip_forward", 1)
        try:
            namespace.run("nft", "-f", "-", text=RULES)
        except CommandError as error:
            raise RuntimeError(f"the firewall needs nft and a kernel with conntrack and NAT: {error}") from None
        # Packets in the middle of a connection are no reason to believe in one that nobody has told us of.
        namespace.sysctl("netfilter/nf_conntrack_tcp_loose", 0)


class FirewallPair:
    """Both firewalls with a client, a server and the networks between, on a stage that ends and removes all of it."""

    def __init__(self, stage: Stage, pair: Pair = USUAL, **sync: object) -> None:
        """Build it; no daemon is started.

        Args:
            stage: an empty one.
            pair: the timing; fw1 is the better one.
            sync: further keys of the table [sync], on both.
        """
        self.stage = stage
        self.pair = pair
        self.lan, self.wan, self.link = stage.lan, stage.another_lan(), stage.another_lan()
        self.fw1, self.fw2 = (self._firewall(number, label, dict(sync)) for number, label in enumerate(LABELS, start=1))
        self.client = self.lan.attach("client", [f"{CLIENT}/24"])
        self.client.namespace.ip(f"route add default via {LAN_SHARED}")
        self.server = self.wan.attach("server", [f"{SERVER}/24"])

    @property
    def both(self) -> tuple[Firewall, Firewall]:
        """Both, the better one first."""
        return self.fw1, self.fw2

    @property
    def bound_s(self) -> float:
        """How long the protocol lets a takeover from fw1 take."""
        return self.pair.crash.latest_ns / 1e9

    def settle(self) -> None:
        """Boot what does not run; wait until fw1 is MASTER of all and fw2 is BACKUP with all states."""
        for firewall in self.both:
            firewall.boot()
        self.wait_settled(self.fw1, self.fw2)

    def wait_settled(self, master: Firewall, backup: Firewall | None = None, timeout_s: float | None = None) -> int:
        """Wait until one is MASTER of all, and the other, if it is named, BACKUP with all states; return that instant."""
        limit_s = self.bound_s + _PATIENCE_S if timeout_s is None else timeout_s

        def settled() -> bool:
            if backup is not None and not (backup.is_settled("BACKUP") and backup.synchronised()):
                return False
            return master.is_settled("MASTER")

        other = f" and {backup.label} BACKUP with all states" if backup else ""
        try:
            return until(settled, limit_s, f"{master.label} to be MASTER{other}", 0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self._told()}") from None

    def _told(self) -> str:
        told = []
        for one in self.both:
            status = one.try_status()
            states = {part["name"]: part["nodes"][0]["state"] for part in status["interfaces"]} if status else "no answer"
            told.append(f"{one.label}: {states} {one.sync_status() if status else ''}\n{one.log_tail()}")
        return "\n".join(told)

    def _firewall(self, number: int, label: str, sync: dict[str, object]) -> Firewall:
        first = self.lan.attach(label, [f"172.16.0.{number}/24"], interface=LAN)
        ports = {LAN: first}
        for lan, interface, prefix in ((self.wan, WAN, "192.0.2."), (self.link, LINK, "10.9.9.")):
            ports[interface] = lan.join(first, interface, [f"{prefix}{number}/24"])
        skew = self.pair.skew_a if number == 1 else self.pair.skew_b
        carp = Carp(LAN_CARP, LAN_VHID, self.pair.advbase, skew, (f"{LAN_SHARED}/24",), LAN, "lanpasswd")
        internet = carp.but(
            name=WAN_CARP,
            vhid=WAN_VHID,
            addresses=(f"{WAN_SHARED}/24",),
            carpdev=WAN,
            password="netpasswd",
        )
        keys = {"interface": LINK, "address": f"10.9.9.{number}", "peer": f"10.9.9.{3 - number}", **sync}
        firewall = Firewall(ports, self.stage.directory / label, (carp, internet), keys)
        self.stage.adopt(firewall)
        return firewall
