"""conntrackd.conf of one of two firewalls, from its carp.toml: FTFW over UDP on the link of [sync].

The words are those of conntrackd 1.4.7. Both hosts' files differ in nothing but what differs between the hosts.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from carp.protocol.values import Address

from . import words
from .errors import ConfigError, Problem, joined, key_text, shown
from .layout import SYNC
from .load import Configuration

_HEAD = """\
# conntrackd.conf by carp sync config{origin}: the states of connections for {address}.
# {peer} has its own, made by the same command there.
"""
_SYNC = """\
Sync {{
    # Numbered messages, acknowledged and repeated: what a cut of the link loses comes after it.
    Mode FTFW {{
        # When conntrackd starts it asks the peer for its states; carpd asks again and watches for them.
        StartupResync yes

        # What the peer sends waits in the external cache, until carpd commits it before this host becomes MASTER.
        DisableExternalCache no
    }}

    # The address must be on the interface before conntrackd starts. Nothing is authenticated: whoever reaches this port can
    # write states. Let the packet filter accept it on this interface alone, and let the link hold nothing but the two hosts.
    UDP {{
        {family}_address {address}
        {family}_Destination_Address {peer}
        Port 3780
        Interface {interface}
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
"""

_GENERAL = """\
General {{
    # Tells systemd that it has started; without systemd it does nothing.
    Systemd yes

    # Buckets, and the most states in each cache, at least twice net.netfilter.nf_conntrack_max of either host: what is beyond
    # them is not kept, and no log says so.
    HashSize 65536
    HashLimit 524288

    LogFile no
    Syslog yes
    LockFile {lock}
    UNIX {{
        # [sync] conntrackd of carp.toml.
        Path {socket}
    }}

    # Bytes: conntrackd reads its own commits back, and a commit is faster.
    NetlinkBufferSize 8388608
    NetlinkBufferSizeMaxGrowth 33554432

    # Otherwise it runs at RR 99, and a commit of 100000 states may keep everything else, carpd too, off its core for 0.7 s.
    Scheduler {{
        Type RR
        Priority 1
    }}

    Filter From Userspace {{
        Protocol Accept {{
            TCP
            UDP
            SCTP
            ICMP
            IPv6-ICMP
        }}

        # What a firewall says itself stays there: a connection is left out if one of these began it or answers it, and what is
        # only translated from or to one of these is kept. So list single addresses of the firewalls, and no network that has
        # other hosts in it.
        Address Ignore {{
{ignored}
        }}
    }}
}}
"""

_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
"""What the parser of conntrackd takes for a name."""

_EVERYWHERE = ("127.0.0.1", "::1", "fe80::/10")


def conntrackd_conf(configuration: Configuration, own: Iterable[Address] | None) -> str:
    """Return the text for the host of a configuration.

    `own` are the addresses that this host has for itself on the parents of its carp interfaces, or None if they are not known,
    which the text then says.

    Raises:
        ConfigError: there is no [sync], or it lacks what conntrackd has to be told.
    """
    sync, path = configuration.sync, configuration.path
    if sync is None:
        raise ConfigError((_problem(configuration, (SYNC,), f"a table [{SYNC}]", "missing"),))
    problems = [
        _problem(configuration, (SYNC, key), words.PEER, "missing: conntrackd has to be told both addresses of the link")
        for key, value in (("address", sync.address), ("peer", sync.peer))
        if value is None
    ]
    if not _INTERFACE.fullmatch(sync.interface):
        allowed = "a letter, then letters, digits, '.', '_' and '-'"
        fault = f"{shown(sync.interface)} cannot be written in conntrackd.conf"
        problems.append(_problem(configuration, (SYNC, "interface"), allowed, fault))
    if problems or sync.address is None or sync.peer is None:
        raise ConfigError(tuple(problems))
    head = _HEAD.format(origin=f" from {path}" if path else "", address=sync.address, peer=sync.peer)
    link = _SYNC.format(family=_family(sync.address), address=sync.address, peer=sync.peer, interface=sync.interface)
    general = _GENERAL.format(
        lock=PurePosixPath(sync.socket).with_suffix(".lock" if not sync.socket.endswith(".lock") else ".locked"),
        socket=sync.socket,
        ignored="\n".join(f"            {line}" for line in _ignored(configuration, own, (sync.address, sync.peer))),
    )
    return f"{head}\n{link}\n{general}"


def _problem(configuration: Configuration, key: tuple[str, ...], allowed: str, fault: str) -> Problem:
    place = key_text(key) if configuration.path is None else f"{configuration.path}: {key_text(key)}"
    return Problem(place, allowed=allowed, fault=fault)


def _ignored(configuration: Configuration, own: Iterable[Address] | None, ends: Iterable[Address]) -> Iterator[str]:
    """Write each address once, in an order that is the same on both hosts, and what it is."""
    interfaces = configuration.host.interfaces
    labels = dict.fromkeys((*(own or ()), *(peer for one in interfaces for peer in one.peers)), "of one firewall")
    labels |= dict.fromkeys(ends, f"[{SYNC}]")
    for one in interfaces:
        labels |= {address.ip: f"shared: {one.name}" for address in one.addresses}
    yield from (f"{'IPv6' if ':' in word else 'IPv4'}_address {word}" for word in _EVERYWHERE)
    for address in sorted(labels, key=lambda address: (address.version, address)):
        if not address.is_link_local or address.version == 4:
            yield f"{_family(address)}_address {address}  # {labels[address]}"
    parents = sorted({one.carpdev for one in interfaces})
    if own is None and parents:
        yield f"# Made elsewhere than on the host: add the own addresses of both firewalls on {joined(parents)}."


def _family(address: Address) -> str:
    return f"IPv{address.version}"
