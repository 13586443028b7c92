"""bsd_commands.txt: command lines with what a user then sees, read and carried out. The file says what its words mean."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bsd_hosts import BsdHosts, document, typed

from carp.cli.interface_text import interface_text
from lab import tables
from lab.capture import Capture, is_advertisement
from lab.host import Host
from lab.pairs import SLACK_S
from lab.ping import ping
from lab.stage import Stage, bare
from lab.wait import until
from lab.wire import digest

FILE = Path(__file__).with_name("bsd_commands.txt")
PATIENCE_S = 4.0 + SLACK_S
"""A master-down time of advbase 1, and room for a slow machine."""
ETHERNET = 14
SILENCE_S = 0.3
POLL_S = 0.05
"""Most looks start a program or ask the daemon: more of them would only keep it busy."""


@dataclass
class Typed:
    """A line, who types it, and its effects; all with where they stand."""

    where: str
    label: str
    line: str
    effects: list[tuple[str, str, str]] = field(default_factory=list)

    def texts(self, verb: str) -> list[str]:
        """Return what stands after a verb."""
        return [text for _, word, text in self.effects if word == verb]


def stories() -> dict[str, list[Typed]]:
    """Read the file: the lines below each title."""
    found: dict[str, list[Typed]] = {}
    for number, line in enumerate(FILE.read_text().splitlines(), start=1):
        where = f"{FILE.name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("== "):
            found[line.removeprefix("== ")] = []
        elif line.startswith("    "):
            verb, _, text = line.strip().partition(" ")
            assert verb in EFFECTS or verb in OUTPUT, f"{where}: {verb}: unknown word"
            found[list(found)[-1]][-1].effects.append((where, verb, text))
        else:
            label, _, words = line.partition("# ")
            found[list(found)[-1]].append(Typed(where, label, words))
    return found


class Scene:
    """Carries lines out on hosts of its own; a context manager."""

    def __init__(self, stage: Stage) -> None:
        self.hosts = BsdHosts(stage)
        self._stack = ExitStack()
        self._captures: dict[str, Capture] = {}
        self._sent: list[Advertisement] = []
        self._before: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def carry_out(self, one: Typed) -> None:
        """Type a line and look at its effects."""
        host = self.hosts[one.label]
        if one.label not in self._captures:
            self._captures[one.label] = self._stack.enter_context(Capture(host.port))
        self._captures[one.label].frames()
        self._sent.clear()
        former, running = self._before.get(one.label, {}), document(host)
        done = typed(host, one.line)
        said = [*(f"warning: {text}" for text in one.texts("warns")), *(f"carp: {text}" for text in one.texts("refuses"))]
        for output, expected in ((done.stdout, one.texts("prints")), (done.stderr, said)):
            assert_printed(output, expected, f"{one.where}: carp {one.line}")
        assert done.returncode == (1 if one.texts("refuses") else 0), one.where
        if one.texts("refuses"):
            assert document(host) == running, one.where
        for where, verb, text in one.effects:
            if verb == "undisturbed":
                assert identity(host)[text] == former[text], f"{where}: {text} was disturbed\n{host.log_tail()}"
            elif verb in EFFECTS:
                self._wait(where, host, verb, text)
        self._before[one.label] = identity(host)

    def _wait(self, where: str, host: Host, verb: str, text: str) -> None:
        seen: list[object] = []

        def holds() -> bool:
            found = EFFECTS[verb](self, host, *text.split(" ", 1))
            seen[:] = [found]
            return found is True

        try:
            until(holds, PATIENCE_S, f"{where}: {verb} {text}", POLL_S)
        except TimeoutError as error:
            raise AssertionError(f"{error}; there is {seen[0]}\n{host.log_tail()}") from None

    # What each effect's function returns is True, or what there is instead.

    def state(self, host: Host, name: str, wanted: str) -> object:
        """Look at the state; a MASTER has its addresses."""
        if name not in identity(host):
            return "no such interface"
        interface = host.interface(name)
        states = [node["state"] for node in interface["nodes"]]
        return states if states != [wanted] or (wanted == "MASTER") != bool(interface["live"]) else True

    def shows(self, host: Host, name: str, wanted: str) -> object:
        """Look at the display."""
        shown = interface_text(host.interface(name))
        return wanted in [line.strip() for line in shown.splitlines()] or shown

    def link(self, host: Host, name: str, wanted: str) -> object:
        """Look for a link."""
        link = tables.links(host.namespace).get(name)
        found = "gone" if link is None else "up" if "UP" in link["flags"] else "down"
        return found == wanted or found

    def parent(self, host: Host, name: str, wanted: str) -> object:
        """Look what a link is on."""
        found = tables.links(host.namespace).get(name, {}).get("link")
        return found == wanted or found

    def mac(self, host: Host, name: str, wanted: str) -> object:
        """Look at the MAC address of a link."""
        found = tables.links(host.namespace).get(name, {}).get("address")
        return found == wanted or found

    def has(self, host: Host, name: str, wanted: str) -> object:
        """Look for an address."""
        found = tables.addresses(host.namespace, name)
        return wanted in found or found

    def lacks(self, host: Host, name: str, unwanted: str) -> object:
        """Look that an address is not there."""
        found = tables.addresses(host.namespace, name)
        return unwanted not in found or found

    def answers(self, host: Host, address: str) -> object:
        """Ping from the client."""
        return ping(self.hosts.client.namespace, address, count=5) == 5 or "no answer"

    def silent(self, host: Host, address: str) -> object:
        """Ping from the client in vain."""
        return ping(self.hosts.client.namespace, address, count=5, patience_s=SILENCE_S) == 0 or "an answer"

    def sends(self, host: Host, destination: str, values: str) -> object:
        """Look at what the host has put on the wire since the line."""
        words = values.split()
        wanted = dict(zip(words[::2], words[1::2], strict=True))
        self._sent += map(Advertisement, self._captures[host.label].frames(is_advertisement))
        return any(one.matches(destination, wanted, host) for one in self._sent) or list(self._sent)

    def follows(self, host: Host, name: str, master: str) -> object:
        """Look whom a BACKUP has heard."""
        node = host.interface(name)["nodes"][0]
        return (node["state"], (node["master"] or {}).get("source")) == ("BACKUP", master) or node


EFFECTS: dict[str, Callable[..., object]] = {
    name: getattr(Scene, name)
    for name in ("state", "shows", "link", "parent", "mac", "has", "lacks", "answers", "silent", "sends", "follows")
}
OUTPUT = ("prints", "warns", "refuses", "undisturbed")


class Advertisement:
    """The fields of an advertisement in a frame that a user of tcpdump would look at."""

    def __init__(self, frame: bytes) -> None:
        ipv4 = frame[12:14] == b"\x08\x00"
        start = ETHERNET + (20 if ipv4 else 40)
        self.destination = str(ip_address(frame[start - 4 : start] if ipv4 else frame[start - 16 : start]))
        header = frame[start:]
        self.values = {"vhid": header[1], "advskew": header[2], "demote": header[4], "advbase": header[5]}
        self._counter, self._digest = header[8:16], header[16:36]

    def __repr__(self) -> str:
        return f"to {self.destination} {self.values}"

    def matches(self, destination: str, wanted: dict[str, str], host: Host) -> bool:
        """Tell whether it is what is wanted; the addresses of the digest are those that the host shares now."""
        plain = {key: int(value) for key, value in wanted.items() if key != "pass"}
        if self.destination != destination or plain.items() - self.values.items():
            return False
        return "pass" not in wanted or any(
            digest(wanted["pass"], self.values["vhid"], bare(interface["addresses"]), self._counter) == self._digest
            for interface in host.status()["interfaces"]
        )


def identity(host: Host) -> dict[str, object]:
    """Return what a change that disturbs nothing leaves as it is: each interface's link, and how often its state changed."""
    links = tables.links(host.namespace)
    return {
        one["name"]: (links.get(one["name"], {}).get("ifindex"), [node["transitions"] for node in one["nodes"]])
        for one in host.status()["interfaces"]
    }


def assert_printed(output: str, expected: list[str], where: str) -> None:
    """Compare what was printed, white space apart, with lines in which * is anything."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    alike = len(lines) == len(expected) and all(map(fnmatchcase, lines, expected))
    # A list of groups or members may look like a character class of fnmatch.
    assert alike or lines == expected, f"{where}\nprinted:\n{output}\nexpected:\n{chr(10).join(expected)}"
