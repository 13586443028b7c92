"""`python -m bench.flood_sender`: a process that sends wrong advertisements at a rate, and says what rate it reached.

Frames are made before the first is sent; a batch of them leaves in one system call (sendmmsg). Sent is through the switch
port of the victim, so that only the victim hears them and no bridge has to copy them.
"""

import argparse
import ctypes
import json
import os
import random
import socket
import struct
import sys
import time
from ipaddress import IPv4Address

from lab.netns import enter
from lab.wire import Forgery, checksum

KINDS = ("wrong digest", "wrong version", "foreign vhid", "forged")
POOL = 512
BATCH = 64
SHORTEST_PAUSE_S = 0.0005
_GROUP = "224.0.0.18"
_GROUP_MAC = bytes.fromhex("01005e000012")
_STRANGER = "10.112.255.66"
_STRANGER_MAC = bytes.fromhex("020000000066")
_FOREIGN_VHID = 77
_SNDBUFFORCE = 32


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vector", ctypes.POINTER(_Iovec)),
        ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class Batches:
    """Prepared frames as the arrays that sendmmsg(2) takes."""

    def __init__(self, pool: list[bytes]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in pool]
        self._vectors = [_Iovec(ctypes.addressof(one), len(one)) for one in self._buffers]
        self._messages = (_Message * len(pool))()
        for message, vector in zip(self._messages, self._vectors, strict=True):
            message.header.vector = ctypes.pointer(vector)
            message.header.vector_length = 1
        self._next = 0

    def send(self, descriptor: int, count: int) -> int:
        """Send up to `count` frames, BATCH at most; return how many left. A full queue sends fewer."""
        count = min(count, BATCH, len(self._messages) - self._next)
        first = ctypes.byref(self._messages, self._next * ctypes.sizeof(_Message))
        sent: int = self._libc.sendmmsg(descriptor, first, count, 0)
        self._next = (self._next + max(1, sent)) % len(self._messages)
        return max(0, sent)


def pool(family: str, kind: str, version: int, address: str, master: str, master_mac: bytes) -> list[bytes]:
    """Make frames that are wrong in one way.

    Args:
        family: carp or vrrp.
        kind: of KINDS; "forged" is a wrong digest that comes from the real master's IP and MAC address.
        version: of VRRP.
        address: the shared one.
        master: the real master's own IP address.
        master_mac: the MAC that its advertisements come from.
    """
    source, mac = (master, master_mac) if kind == "forged" else (_STRANGER, _STRANGER_MAC)
    vhid = _FOREIGN_VHID if kind == "foreign vhid" else 1
    spoils = kind in ("wrong digest", "forged")
    if family == "carp":
        shown = 3 if kind == "wrong version" else 2
        right = Forgery(vhid=vhid, addresses=(address,), source=source, version=shown, spoil_digest=spoils)
        return [right.frame(mac) for _ in range(POOL)]
    shown = 4 if kind == "wrong version" else version
    return [vrrp_frame(shown, vhid, (address,), source, mac, number + 1 if spoils else 0) for number in range(POOL)]


def vrrp_frame(version: int, vrid: int, addresses: tuple[str, ...], source: str, mac: bytes, spoilt: int = 0) -> bytes:
    """Make an advertisement at priority 200 of VRRP 2 (1 s, no authentication) or 3 (100 ms); `spoilt` ruins its checksum."""
    packed = b"".join(IPv4Address(one).packed for one in addresses)
    interval = struct.pack("!BB", 0, 1) if version != 3 else struct.pack("!H", 10)
    start = bytes((version << 4 | 1, vrid, 200, len(addresses))) + interval
    ends = IPv4Address(source).packed + IPv4Address(_GROUP).packed
    tail = packed + (bytes(8) if version != 3 else b"")
    length = len(start) + 2 + len(tail)
    pseudo = ends + struct.pack("!HH", 112, length) if version == 3 else b""
    total = checksum(pseudo + start + bytes(2) + tail) ^ (spoilt & 0xFFFF)
    body = start + struct.pack("!H", total) + tail
    head = struct.pack("!BBHHHBBH", 0x45, 0xC0, 20 + len(body), random.getrandbits(16), 0, 255, 112, 0) + ends
    return _GROUP_MAC + mac + b"\x08\x00" + head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def flood(descriptor: int, batches: Batches, rate: float, seconds: float) -> tuple[int, float]:
    """Send at a rate for a while; return how many frames left and in how many seconds."""
    begin = time.monotonic()
    end = begin + seconds
    sent = 0
    while (now := time.monotonic()) < end:
        due = int((now - begin) * rate) + 1 - sent
        if due <= 0:
            time.sleep(max(SHORTEST_PAUSE_S, min(end - now, (sent + 1) / rate - (now - begin))))
            continue
        # What was missed in a pause of the machine is not made up for at once: that would be another rate.
        due = min(due, max(1, int(rate * 0.02)))
        sent += batches.send(descriptor, due)
    return sent, time.monotonic() - begin


def main() -> int:
    """Flood as the command line says; print one line of JSON: what was sent, in how many seconds, with how much CPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.flood_sender", description=__doc__)
    parser.add_argument("--namespace", help="the file of the namespace to send in")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--family", choices=("carp", "vrrp"), default="carp")
    parser.add_argument("--version", type=int, default=2)
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0])
    parser.add_argument("--address", default="10.112.1.1")
    parser.add_argument("--master", default="10.112.255.1")
    parser.add_argument("--master-mac", default="00:00:5e:00:01:01")
    parser.add_argument("--rate", type=float, default=50_000)
    parser.add_argument("--seconds", type=float, default=2)
    arguments = parser.parse_args()
    mac = bytes.fromhex(arguments.master_mac.replace(":", ""))
    frames = pool(arguments.family, arguments.kind, arguments.version, arguments.address, arguments.master, mac)
    if arguments.namespace:
        enter(arguments.namespace)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, 4 << 20)
        raw.bind((arguments.interface, 0))
        sent, seconds = flood(raw.fileno(), Batches(frames), arguments.rate, arguments.seconds)
    used = os.times()
    print(json.dumps({"sent": sent, "seconds": seconds, "cpu_s": used.user + used.system}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
