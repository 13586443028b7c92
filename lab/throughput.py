"""How much TCP carries to an address in a given time: one connection, large writes, counted where it arrives."""

import socket
import threading

from .lan import Port
from .wait import now_ns

_CHUNK = 1 << 18
_PATIENCE_S = 10.0


def tcp_bytes_per_second(client: Port, server: Port, address: str, duration_s: float, port: int = 7113) -> float:
    """Send from the client to an address of the server for a while; return what arrived in a second."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with server.namespace.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.settimeout(_PATIENCE_S)
        listening.bind((address, port))
        listening.listen(1)
        sender = threading.Thread(target=_send, args=(client, (address, port), duration_s), daemon=True)
        sender.start()
        connection, _ = listening.accept()
        with connection:
            count, begin = _receive(connection)
        ended = now_ns()
        sender.join()
    return count / ((ended - begin) / 1e9)


def _receive(connection: socket.socket) -> tuple[int, int]:
    """Read to the end; return how much came after the first piece, and when that one came."""
    connection.settimeout(_PATIENCE_S)
    buffer = bytearray(_CHUNK)
    connection.recv_into(buffer)
    begin, count = now_ns(), 0
    while got := connection.recv_into(buffer):
        count += got
    return count, begin


def _send(client: Port, target: tuple[str, int], duration_s: float) -> None:
    with client.namespace.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_STREAM) as sending:
        sending.settimeout(_PATIENCE_S)
        sending.connect(target)
        chunk = bytes(_CHUNK)
        deadline = now_ns() + int(duration_s * 1e9)
        while now_ns() < deadline:
            sending.sendall(chunk)
