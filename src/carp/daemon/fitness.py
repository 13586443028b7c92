"""Whether this host can carry a configuration: are the parents there, and are names, MACs and addresses free."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..config.edit import HostView, ParentView
from ..config.load import Configuration
from ..linux.links import LinkTable
from ..linux.rtnetlink import CARP_ADDRESS_PROTOCOL, Link
from ..protocol.parameters import InterfaceParameters
from ..protocol.values import InterfaceAddress, mac_text


class StartError(Exception):
    """The daemon cannot run on this host; `problems` are sentences."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Stock:
    """What a host has that is not of this daemon, at one moment: `addresses` by the index of their link."""

    links: tuple[Link, ...]
    addresses: Mapping[int, tuple[InterfaceAddress, ...]]

    @classmethod
    def take(cls, table: LinkTable, link_group: int) -> "Stock":
        """Copy it from the table; links in `link_group` are this daemon's."""
        links = tuple(link for link in table.all() if link.group != link_group)
        own = {
            link.index: tuple(one.address for one in table.addresses(link.index) if one.protocol != CARP_ADDRESS_PROTOCOL)
            for link in links
        }
        return cls(links, own)

    def view(self) -> HostView:
        """Return what a change of the configuration has to know."""
        return HostView(tuple(ParentView(link.name, link.up, self.addresses[link.index]) for link in self.links))


def host_problems(wanted: Configuration, stock: Stock, running: Configuration | None = None) -> list[str]:
    """List what keeps this host from carrying a configuration, as sentences.

    What is `running` is not asked about again: a parent that is gone for a while is no reason to refuse other changes.
    """
    host = _Index(stock)
    former = {one.name: one for one in running.host.interfaces} if running is not None else {}
    problems = [_taken(name) for name in wanted.drafts if name in host.by_name]
    for parameters in wanted.host.interfaces:
        before = former.get(parameters.name)
        if before != parameters:
            problems += _problems(parameters, before, host)
    return problems


def host_warnings(wanted: Configuration, stock: Stock) -> list[str]:
    """List what an administrator should know of a configuration on this host, as sentences."""
    host = _Index(stock)
    return [
        f"{one.name}.addresses: {address.ip} is {one.carpdev}'s own address: only a MASTER can use it, for its own traffic too"
        for one in wanted.host.interfaces
        for address in one.addresses
        if one.carpdev in host.owners.get(address.ip, ())
    ]


class _Index:
    """A stock, to look things up in."""

    def __init__(self, stock: Stock) -> None:
        self.by_name = {link.name: link for link in stock.links}
        self.on_parent: dict[tuple[int, bytes], list[str]] = {}
        self.owners: dict[object, list[str]] = {}
        for link in stock.links:
            self.on_parent.setdefault((link.parent_index, link.mac), []).append(link.name)
            for address in stock.addresses[link.index]:
                self.owners.setdefault(address.ip, []).append(link.name)


def _problems(parameters: InterfaceParameters, before: InterfaceParameters | None, host: _Index) -> Iterator[str]:
    name, carpdev = parameters.name, parameters.carpdev
    parent = host.by_name.get(carpdev)
    moved = before is None or before.carpdev != carpdev
    if carpdev and parent is None and moved:
        yield f"{name}.carpdev: there is no interface {carpdev} on this host; it has {', '.join(sorted(host.by_name))}"
    if parent is not None and moved and not any(parent.mac):
        yield f"{name}.carpdev: {carpdev} is no Ethernet interface: CARP needs one that has a MAC address"
    if parent is not None and parameters.is_balanced and parameters.mac == parent.mac:
        yield f"{name}.lladdr: {mac_text(parent.mac)} is the MAC of {carpdev}: another one, which all hosts of the group have"
    if name in host.by_name and parameters.mac is not None:
        yield _taken(name)
    if parent is not None and parameters.mac is not None and (moved or before is None or before.mac != parameters.mac):
        for holder in _others(host.on_parent.get((parent.index, parameters.mac), ()), name):
            yield f"{name}: vhid {parameters.leader.vhid} on {carpdev} is held by {holder} already, of another daemon"
    as_before = before is not None and before.is_balanced == parameters.is_balanced
    known = {address.ip for address in before.addresses} if before is not None and as_before else set()
    for address in parameters.addresses:
        for holder in () if address.ip in known else host.owners.get(address.ip, ()):
            if holder != carpdev or parameters.is_balanced:
                allowed = f"share another one{'' if parameters.is_balanced else ', or one of its carpdev'}"
                yield f"{name}.addresses: {address.ip} is this host's own address on {holder}: {allowed}"


def _taken(name: str) -> str:
    return (
        f"{name}: an interface of this name exists already and is not of this carpd: remove it (ip link del"
        f" {name}), choose another name, or use the --state-dir of the carpd that made it"
    )


def _others(names: Iterable[str], name: str) -> Iterator[str]:
    return (one for one in names if one != name)
