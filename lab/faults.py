"""How a switch port goes quiet without a word: filters of traffic control on the port, whose carrier stays up.

The filters are classic BPF programs that tc(8) takes as numbers, so nothing has to be compiled; kernels without the action
modules of tc can run them, since the program's own answer is the verdict.
"""

from enum import Enum

_LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
_LOAD_WORD = 0x20
_JUMP_GREATER_EQUAL = 0x35
_SHOT = 2
_NEXT_FILTER = 0xFFFFFFFF
_RANDOM = 0xFFFFF038
_CARP = 112

_TYPE_OFFSET = 12
_PROTOCOL_OFFSET = {0x0800: 23, 0x86DD: 20}
"""Of an Ethernet frame with an IPv4 or IPv6 header."""


class Direction(Enum):
    """Which way frames are lost, as the host sees it; the value is the hook of the switch port."""

    FROM_HOST = "ingress"
    TO_HOST = "egress"


class Traffic(Enum):
    """What is lost."""

    ALL = "all"
    IPV4_ADVERTISEMENTS = "IPv4 advertisements"
    IPV6_ADVERTISEMENTS = "IPv6 advertisements"
    ADVERTISEMENTS = "advertisements"


def programs(traffic: Traffic, loss: float = 1.0) -> list[str]:
    """Return the filters that drop the traffic, each in the notation of `tc filter ... bpf bytecode`.

    Args:
        traffic: what to drop.
        loss: the share of it that is dropped; less than 1 makes a lossy port.
    """
    kinds: dict[Traffic, list[int | None]] = {
        Traffic.ALL: [None],
        Traffic.IPV4_ADVERTISEMENTS: [0x0800],
        Traffic.IPV6_ADVERTISEMENTS: [0x86DD],
        Traffic.ADVERTISEMENTS: [0x0800, 0x86DD],
    }
    return [_bytecode(kind, loss) for kind in kinds[traffic]]


def _bytecode(ether_type: int | None, loss: float) -> str:
    code: list[tuple[int, int, int, int]] = []
    tail = [(_RETURN, 0, 0, _SHOT), (_RETURN, 0, 0, _NEXT_FILTER)]
    if loss < 1.0:
        tail = [(_LOAD_WORD, 0, 0, _RANDOM), (_JUMP_GREATER_EQUAL, 1, 0, int(loss * 0xFFFFFFFF)), *tail]
    if ether_type is not None:
        code = [
            (_LOAD_HALF, 0, 0, _TYPE_OFFSET),
            (_JUMP_EQUAL, 0, 2 + len(tail) - 1, ether_type),
            (_LOAD_BYTE, 0, 0, _PROTOCOL_OFFSET[ether_type]),
            (_JUMP_EQUAL, 0, len(tail) - 1, _CARP),
        ]
    code += tail
    return ",".join([str(len(code)), *(" ".join(map(str, instruction)) for instruction in code)])
