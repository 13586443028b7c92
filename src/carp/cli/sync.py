"""`carp sync`: whether the states of connections are the same on both firewalls, and the conntrackd.conf that makes them so."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from carp.protocol.values import Address

from .client import get
from .errors import WRONG_CONFIGURATION, CommandError

SYNCHRONISED = 0
LACKS_STATES = 3
NOT_CONFIGURED = 4
"""These three are those of `systemctl is-active`: active, not active, and no such unit. Where carp interfaces that belong
together are on different hosts it is the second one, too: packets do not pass."""


def config(file: Path) -> int:
    """Print conntrackd.conf for the host of a carp.toml, this one or another; return the exit status.

    Raises:
        CommandError: the file is wrong, or says too little; exit status 2.
    """
    from carp.config.conntrackd import conntrackd_conf
    from carp.config.errors import ConfigError
    from carp.config.load import load_file

    try:
        configuration = load_file(file)
        sync, parents = configuration.sync, {one.carpdev for one in configuration.host.interfaces}
        own = None if sync is None or sync.address is None else _own_addresses(sync.interface, sync.address, parents)
        print(conntrackd_conf(configuration, own), end="")
    except ConfigError as error:
        raise CommandError(map(str, error.problems), exit_status=WRONG_CONFIGURATION) from None
    return 0


def status(socket: Path, *, as_json: bool) -> int:
    """Print what is known of the states; return SYNCHRONISED, LACKS_STATES or NOT_CONFIGURED. Raises DaemonError."""
    document = get(socket, "/v1/sync")
    if as_json:
        print(json.dumps(document, indent=2))
    elif document["configured"]:
        for line in _lines(document):
            print(line)
    else:
        print("not configured: carp.toml has no table [sync]")
    if not document["configured"]:
        return NOT_CONFIGURED
    return SYNCHRONISED if document["synchronised"] and not document["apart"] else LACKS_STATES


def _own_addresses(interface: str, address: Address, parents: Iterable[str]) -> list[Address] | None:
    """Return what this host has for itself on some links, or None if it is not the one that has `address` on `interface`."""
    from carp.linux.links import LinkTable
    from carp.linux.netlink import Netlink

    table = LinkTable()
    try:
        with closing(Netlink()) as netlink:
            table.load(netlink)
    except OSError:
        return None
    own = {link.name: table.own_addresses(link.index) for link in table.all()}
    if address not in own.get(interface, ()):
        return None
    return [one for parent in parents for one in own.get(parent, ())]


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    about = f": {document['reason']}" if document["reason"] else ""
    since = f" since {document['since']}" if document["since"] else ""
    yield f"{'synchronised' if document['synchronised'] else 'not synchronised'}{since}{about}"
    demoted = f", demoted by {document['demote']}" if document["demote"] else ""
    held_back = ", and preempts nobody until it has the peer's states" if document["held_back"] else ""
    yield f"this host is {document['role']}{demoted}{held_back}"
    if document["apart"]:
        yield document["apart"]
    daemon, link = document["conntrackd"], document["link"]
    process = "" if daemon["pid"] is None else f" (pid {daemon['pid']})"
    says = f"answers{process}" if daemon["answers"] else daemon["problem"] or "does not answer"
    is_link = "up" if link["up"] else "down" if link["present"] else "there is none"
    yield f"conntrackd: {says}; link {link['interface']}: {is_link}"
    if document["states"] is not None:
        yield _states(document["states"])
    if document["last_takeover"] is not None:
        yield _takeover(document["last_takeover"])


def _states(states: Mapping[str, Any]) -> str:
    # A kernel that tracks nothing has no count.
    kernel = "" if states["kernel"] is None else f"{states['kernel']} in the kernel, "
    return f"states: {kernel}{states['internal']} of this host, {states['external']} of the peer"


def _takeover(last: Mapping[str, Any]) -> str:
    ended = f"{last['states']} states committed" if last["committed"] else "states not committed"
    problem = f": {last['problem']}" if last["problem"] else ""
    late = f"; {last['states']} committed late, {last['late_at']}" if last["late_at"] else ""
    return f"last takeover: {last['at']}, {ended} within {last['took_ms']:.1f} ms{problem}{late}"
