"""Checks that connect: TCP, HTTP, and HTTP with TLS."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attendant_kit import MILLISECOND_NS, Attendant, Scripts, check

from carp.attendant.connections import split_place
from carp.attendant.orders import Checked, CheckKind, Watch

LONG_NS = 3600 * 10**9
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Answer = Callable[[socket.socket], None]


class Server:
    """Listens on a loopback address; each connection is handed to `answer`, and what it asked is kept in `asked`."""

    def __init__(self, family: int = socket.AF_INET, context: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = lambda connection: connection.sendall(OK)
        self.asked: list[bytes] = []
        self._context = context
        self._listener = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self.asked.append(connection.recv(65536))
                self.answer(connection)
            except OSError:
                pass
            finally:
                connection.close()

    def close(self) -> None:
        """Listen no longer."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(15)


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve HTTP."""
    serving = Server()
    yield serving
    serving.close()


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[Server]:
    """Serve HTTP with TLS and a certificate that nobody has signed."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    line += " -addext subjectAltName=DNS:localhost"
    subprocess.run([*line.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    serving = Server(context=context)
    yield serving
    serving.close()


def unused_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def result(attendant: Attendant, kind: CheckKind, target: str, **more: object) -> Checked:
    """Run a check once."""
    attendant.send(Watch(check(kind, target, **{"interval_ns": LONG_NS, **more})))
    return attendant.next(Checked)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_tcp(attendant: Attendant, family: int) -> None:
    """It holds while connections come about, over IPv4 and IPv6."""
    server = Server(family)
    host = "[::1]" if family == socket.AF_INET6 else "127.0.0.1"
    attendant.send(Watch(check(CheckKind.TCP, f"{host}:{server.port}")))
    assert attendant.next(Checked) == Checked("c", True, "")
    server.close()
    assert attendant.next(Checked) == Checked("c", False, "Connection refused")


def test_tcp_by_name(attendant: Attendant, server: Server) -> None:
    """All addresses of a name are tried."""
    assert result(attendant, CheckKind.TCP, f"localhost:{server.port}") == Checked("c", True, "")
    assert not result(attendant, CheckKind.TCP, f"name.invalid:{server.port}").holds


def test_tcp_that_is_not_answered(attendant: Attendant) -> None:
    """A server whose queue is full is bad at the timeout."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        checked = result(attendant, CheckKind.TCP, f"127.0.0.1:{port}", timeout_ns=200 * MILLISECOND_NS)
        assert checked == Checked("c", False, "took over 0.2 s")
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("target", ["", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", "[::1]"])
def test_tcp_to_nowhere(attendant: Attendant, target: str) -> None:
    """A target that is none is a bad result and not the end."""
    assert not result(attendant, CheckKind.TCP, target).holds
    assert not result(attendant, CheckKind.TCP, f"127.0.0.1:{unused_port()}").holds


@pytest.mark.parametrize(
    ("target", "expected"),
    [("a:1", ("a", 1)), ("[::1]:22", ("::1", 22)), ("[fe80::1%eth0]:22", ("fe80::1%eth0", 22))],
)
def test_places(target: str, expected: tuple[str, int]) -> None:
    """The brackets of an IPv6 address are taken off."""
    assert split_place(target) == expected


@pytest.mark.parametrize(
    ("status", "wanted", "holds"),
    [
        (200, (), True),
        (302, (), True),
        (399, (), True),
        (404, (), False),
        (503, (), False),
        (404, (404,), True),
        (200, (404,), False),
    ],
)
def test_http_status(attendant: Attendant, server: Server, status: int, wanted: tuple[int, ...], holds: bool) -> None:
    """One of the wanted, or 200 to 399; a redirect is not followed."""
    head = f"HTTP/1.1 {status} Whatever\r\nLocation: http://127.0.0.1:{server.port}/other\r\nContent-Length: 0\r\n\r\n"
    server.answer = lambda connection: connection.sendall(head.encode())
    url = f"http://127.0.0.1:{server.port}/health?a=b#c"
    assert result(attendant, CheckKind.HTTP, url, status=wanted) == Checked("c", holds, f"status {status}")
    (asked,) = server.asked
    lines = asked.decode().split("\r\n")
    assert lines[0] == "GET /health?a=b HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "Connection: close" in lines


def drip(connection: socket.socket) -> None:
    """Never come to an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: and more\r\n")


def drip_interim(connection: socket.socket) -> None:
    """Say again and again that the answer comes soon."""
    while True:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "holds", "detail"),
    [
        (lambda connection: connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + OK), True, "status 200"),
        (lambda connection: connection.sendall(b"HTTP/1.0 200\r\n\r\n" + bytes(100000)), True, "status 200"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"), False, "RemoteProtocolError: "),
        (lambda connection: connection.sendall(b"HTTP/1.1 999999 No\r\n\r\n"), False, "RemoteProtocolError: "),
        (lambda connection: None, False, "RemoteProtocolError: "),
        (drip, False, "RemoteProtocolError: Receive buffer too long"),
        (drip_interim, False, "ValueError: no final answer"),
        (lambda connection: connection.recv(1) and None, False, "took over 1 s"),
    ],
)
def test_http_answers(attendant: Attendant, server: Server, answer: Answer, holds: bool, detail: str) -> None:
    """Interim answers are passed over, bodies not read; nonsense, endless headers and silence are bad."""
    server.answer = answer
    checked = result(attendant, CheckKind.HTTP, f"http://127.0.0.1:{server.port}", timeout_ns=1000 * MILLISECOND_NS)
    assert checked.holds is holds
    assert checked.detail.startswith(detail)
    assert len(checked.detail) <= 200
    assert attendant.rss_kib() < 80000
    server.answer = lambda connection: connection.sendall(OK)
    assert result(attendant, CheckKind.HTTP, f"http://127.0.0.1:{server.port}").holds


@pytest.mark.parametrize(
    "url", ["", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:x/", "http://u:p@127.0.0.1/", "http://a b/", "http://[::1/"]
)
def test_http_to_nowhere(attendant: Attendant, url: str) -> None:
    """Bad results, all of them."""
    assert not result(attendant, CheckKind.HTTP, url).holds


def test_https(attendant: Attendant, tls_server: Server) -> None:
    """The certificate is verified unless that is not wanted."""
    url = f"https://localhost:{tls_server.port}/"
    checked = result(attendant, CheckKind.HTTP, url)
    assert not checked.holds
    assert checked.detail.startswith("certificate: self")
    assert result(attendant, CheckKind.HTTP, url, verify_tls=False) == Checked("c", True, "status 200")
    assert tls_server.asked[-1].startswith(b"GET / HTTP/1.1\r\n")


def test_https_of_a_server_without_tls(attendant: Attendant, server: Server) -> None:
    """Is bad and says that it is TLS that fails; one that says nothing is bad at its timeout."""
    url = f"https://127.0.0.1:{server.port}/"
    assert result(attendant, CheckKind.HTTP, url, verify_tls=False).detail.startswith("TLS: ")
    server.answer = lambda connection: connection.recv(1) and None
    checked = result(attendant, CheckKind.HTTP, url, verify_tls=False, timeout_ns=200 * MILLISECOND_NS)
    assert checked.detail == "took over 0.2 s"


def test_nothing_is_used_up(attendant: Attendant, scripts: Scripts, server: Server) -> None:
    """Failing checks leave no descriptors behind."""
    targets = {
        CheckKind.HTTP: f"http://127.0.0.1:{server.port}/",
        CheckKind.TCP: f"127.0.0.1:{unused_port()}",
    }
    server.answer = lambda connection: None
    for kind, target in targets.items():
        attendant.send(Watch(check(kind, target, name=kind.value, interval_ns=MILLISECOND_NS)))
    assert not attendant.next(Checked).holds
    assert not attendant.next(Checked).holds
    before = attendant.descriptors()
    assert attendant.silent_for(0.5)
    assert len(server.asked) > 20
    assert attendant.descriptors() <= before + 3
