"""BPF filters of the kernel's traffic control, by rtnetlink (tc(8), tc-bpf(8)).

They hang on the queueing discipline clsact, which queues nothing and is seen by tc(8); an interface has at most one, shared by
everyone. Filters run in the order of their preference, lowest first. Host byte order, except the EtherType.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from ..netlink import Netlink
from ..rtnetlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, attribute, message
from .libbpf import FenceUnavailable, Program

PREFERENCE = 112
"""Where a filter goes when nobody is in its way: before those that let the kernel choose (49152 and below)."""

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46
_TCA_KIND, _TCA_OPTIONS, _TCA_CHAIN = 1, 2, 11
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS, _TCA_BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION = 1
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_CLSACT = 0xFFFFFFF1
_CLSACT_HANDLE = 0xFFFF0000
_ETH_P_ALL = 0x0003
_HEADER = struct.Struct("=BxxxiIII")
_ATTRIBUTE = struct.Struct("=HH")


class Hook(IntEnum):
    """The two places of clsact, by the kernel's number of the parent."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3

    def __str__(self) -> str:
        """Name the hook as tc(8) does."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as the kernel reports it; `name` and `program_id` are those of a BPF filter."""

    hook: Hook
    preference: int
    ether_type: int
    handle: int
    kind: str
    chain: int
    name: str
    program_id: int


def new_clsact(ifindex: int) -> bytes:
    """Make clsact; fails if the interface has it, or the older discipline `ingress`."""
    body = _HEADER.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0) + attribute(_TCA_KIND, b"clsact\0")
    return message(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)


def delete_clsact(ifindex: int) -> bytes:
    """Delete clsact and every filter on it, whoever made them."""
    return message(_RTM_DELQDISC, 0, _HEADER.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0))


def new_filter(ifindex: int, hook: Hook, preference: int, program: Program, name: str) -> bytes:
    """Attach a program to a hook, for all EtherTypes; among BPF filters of one preference the newest runs first."""
    options = (
        attribute(_TCA_BPF_FD, struct.pack("=I", program.descriptor))
        + attribute(_TCA_BPF_NAME, name.encode() + b"\0")
        + attribute(_TCA_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    head = _HEADER.pack(0, ifindex, 0, hook, preference << 16 | socket.htons(_ETH_P_ALL))
    body = head + attribute(_TCA_KIND, b"bpf\0") + attribute(_TCA_OPTIONS | _NESTED, options)
    return message(_RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body)


def delete_filter(ifindex: int, one: Filter) -> bytes:
    """Detach one filter."""
    head = _HEADER.pack(0, ifindex, one.handle, one.hook, one.preference << 16 | socket.htons(one.ether_type))
    return message(_RTM_DELTFILTER, 0, head + attribute(_TCA_KIND, one.kind.encode() + b"\0"))


def filters(netlink: Netlink, ifindex: int, hooks: Iterable[Hook] = Hook) -> list[Filter]:
    """List the filters of an interface in the order in which they are asked; none if it is gone or has no clsact."""
    found = []
    for hook in hooks:
        request = message(_RTM_GETTFILTER, NLM_F_DUMP, _HEADER.pack(0, ifindex, 0, hook, 0))
        # A body with handle 0 announces a group of filters; the filters themselves follow.
        found += [one for one in (_parse_filter(hook, body) for body in netlink.dump(request)) if one.handle]
    return found


def ingress_discipline(netlink: Netlink, ifindex: int) -> str | None:
    """Return the kind of the discipline that holds the filters of an interface: clsact, ingress or none."""
    for body in netlink.dump(message(_RTM_GETQDISC, NLM_F_DUMP, _HEADER.pack(0, 0, 0, 0, 0))):
        _, index, _, parent, _ = _HEADER.unpack_from(body)
        if index == ifindex and parent == _CLSACT:
            return _text(dict(_attributes(body[_HEADER.size :])), _TCA_KIND)
    return None


def place(others: Iterable[Filter]) -> int:
    """Choose the preference at which a new filter runs before these, or before as many as can be.

    The kernel's own choice (preference 0) goes before those that it chose itself, but behind all that were given a number.
    """
    taken = {one.preference: one for one in others if one.chain == 0}
    lowest = min(taken, default=PREFERENCE + 1)
    if lowest > 1:
        return min(PREFERENCE, lowest - 1)
    # A preference belongs to filters of one kind and EtherType: join those of ours, or else go behind.
    preference = 1
    while preference in taken and (taken[preference].kind, taken[preference].ether_type) != ("bpf", _ETH_P_ALL):
        preference += 1
    return preference


def make_clsact(netlink: Netlink, ifindex: int) -> bool:
    """See that an interface has clsact; tell whether it was made here. Raises FenceUnavailable."""
    refused = netlink.execute([new_clsact(ifindex)])
    if not refused:
        return True
    name = interface_name(ifindex)
    if refused[0].errno == errno.ENODEV:
        raise FenceUnavailable(f"{name} is gone")
    if refused[0].errno != errno.EEXIST:
        raise FenceUnavailable(f"{name} takes no clsact (CONFIG_NET_SCH_INGRESS): {refused[0].strerror}")
    kind = ingress_discipline(netlink, ifindex)
    if kind != "clsact":
        # It would take filters for egress and run them on ingress.
        raise FenceUnavailable(
            f"{name} has the discipline {kind} of another program, which knows no egress; replace it by clsact"
        )
    return False


def interface_name(ifindex: int) -> str:
    """Name an interface for a message, also one that is gone."""
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"interface {ifindex}"


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _text(attributes: dict[int, bytes], kind: int) -> str:
    return attributes.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _number(attributes: dict[int, bytes], kind: int) -> int:
    value = attributes.get(kind, b"")
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0


def _parse_filter(hook: Hook, body: bytes) -> Filter:
    _, _, handle, _, info = _HEADER.unpack_from(body)
    attributes = dict(_attributes(body[_HEADER.size :]))
    kind = _text(attributes, _TCA_KIND)
    options = dict(_attributes(attributes.get(_TCA_OPTIONS, b""))) if kind == "bpf" else {}
    return Filter(
        hook=hook,
        preference=info >> 16,
        ether_type=socket.ntohs(info & 0xFFFF),
        handle=handle,
        kind=kind,
        chain=_number(attributes, _TCA_CHAIN),
        name=_text(options, _TCA_BPF_NAME),
        program_id=_number(options, _TCA_BPF_ID),
    )
