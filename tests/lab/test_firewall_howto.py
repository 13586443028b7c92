"""The files of docs/firewall.md, put to work as they stand there."""

import re
from pathlib import Path

import pytest

from lab.firewalls import CLIENT, LAN_CARP, QUICK, SERVER, WAN_SHARED, FirewallPair
from lab.host import program
from lab.pairs import SLACK_S
from lab.stage import Stage
from lab.transfer_probe import PORT
from lab.transfers import Transfers

pytestmark = pytest.mark.usefixtures("carpd")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "firewall.md"
SOME = 20


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [text for word, text in found if word == language]


def test_carp_toml(stage: Stage, tmp_path: Path) -> None:
    """The page's carp.toml is right, and the other host's, which differs as the page says; both agree with each other."""
    (first,) = blocks("toml")
    second = first.replace("advskew = 0", "advskew = 128").replace("10.9.9.1", "x").replace("10.9.9.2", "10.9.9.1")
    second = second.replace('"x"', '"10.9.9.2"')
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text("opensesame\n")
    for name, text in (("firewall-1.toml", first), ("firewall-2.toml", second)):
        written = re.sub(r'"/etc/carp/\w+\.key"', f'"{tmp_path}/key"', text)
        (tmp_path / name).write_text(written)
    host = stage.port("client").namespace
    host.run(str(program("carpd")), "-n", "--config", str(tmp_path / "firewall-1.toml"))
    told = host.run(str(program("carp")), "check", str(tmp_path / "firewall-1.toml"), str(tmp_path / "firewall-2.toml"))
    assert "error" not in told.lower()


def test_the_rules(stage: Stage) -> None:
    """With the page's rules clients get through, and connections survive the axe and the return."""
    rules, _ = blocks("nft")
    pair = FirewallPair(stage, QUICK)
    for firewall in pair.both:
        firewall.namespace.run("nft", "-f", "-", text=rules)
    pair.settle()
    with Transfers(pair.client, pair.server, SERVER, SOME) as traffic:
        pair.fw1.axe()
        traffic.wait_until_flowing(SLACK_S, pair.wait_settled(pair.fw2))
        pair.fw1.recover()
        traffic.wait_until_flowing(SLACK_S, pair.wait_settled(pair.fw1, pair.fw2))
        assert traffic.stop().incomplete == []


def test_a_forwarded_port(stage: Stage) -> None:
    """With the page's two rules for it a host outside gets to one of the LAN, and its connections survive the axe."""
    rules, forwarded = blocks("nft")
    ported = forwarded.replace("tcp dport 443", f"meta l4proto {{ tcp, udp }} th dport {PORT}")
    ported = ported.replace("dnat to 172.16.0.9", f"dnat to {CLIENT}")
    pair = FirewallPair(stage, QUICK)
    for firewall in pair.both:
        firewall.namespace.run("nft", "-f", "-", text=rules + ported)
    pair.settle()
    with Transfers(pair.server, pair.client, WAN_SHARED, SOME) as traffic:
        pair.fw1.axe()
        traffic.wait_until_flowing(SLACK_S, pair.wait_settled(pair.fw2))
        assert traffic.stop().incomplete == []


def test_what_is_seen(stage: Stage) -> None:
    """`carp sync status` prints the lines that the page shows."""
    (shown,) = (block for block in blocks("") if "carp sync status" in block)
    pair = FirewallPair(stage, QUICK)
    pair.settle()
    printed = pair.fw2.carp("sync", "status")
    assert printed.returncode == 0
    assert _shape(printed.stdout) == _shape("\n".join(shown.splitlines()[1:-1]))
    assert pair.fw1.state_of(LAN_CARP) == "MASTER"


def _shape(text: str) -> list[str]:
    return [re.sub(r"\d+", "N", line.strip()).replace("N-N-NTN:N:N.N+N:N", "T") for line in text.strip().splitlines()]
