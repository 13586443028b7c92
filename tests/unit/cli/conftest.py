"""The program `carp` in this process, against a server in the daemon's place."""

import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from carp.cli import main as program


@dataclass
class FakeDaemon:
    """Answers with what is in `answers`, by method and path; remembers the changes that it was asked for.

    An answer is a document, (status, document), bytes as they are, or a function of the body.
    """

    path: Path
    answers: dict[str, Any] = field(default_factory=dict)
    changes: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, method: str, target: str, content: bytes) -> tuple[int, Any]:
        """Look an answer up."""
        asked = f"{method} {target}"
        body = json.loads(content or b"{}")
        if method != "GET":
            self.changes.append((asked, body))
        found = self.answers.get(asked, (404, {"error": f"{target} is not known"}))
        found = found(body) if callable(found) else found
        return found if isinstance(found, tuple) else (200, found)


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of HTTP over a unix socket."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def serve(self) -> None:
        """Read the body, if any, and answer."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, document = self.server.daemon.answer(self.command, self.path, content)
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PATCH = do_POST = do_DELETE = serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Be silent."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server of HTTP on a unix socket."""

    daemon_threads = True
    daemon: FakeDaemon

    def get_request(self) -> Any:
        """Name a client as HTTP servers expect it."""
        return super().get_request()[0], ("unix", 0)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """Run a server in the daemon's place."""
    fake = FakeDaemon(tmp_path / "carpd.sock")
    with Server(str(fake.path), Handler) as server:
        server.daemon = fake
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Done:
    """What a run of the program ended with."""

    status: int
    out: str
    err: str


Carp = Callable[..., Done]


@pytest.fixture
def carp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Carp:
    """Run `carp` with the words of one line, or with a list of them, against the socket of `daemon`."""

    def _carp(*words: str) -> Done:
        line = words[0].split() if len(words) == 1 else list(words)
        monkeypatch.setattr("sys.argv", ["carp", "--socket", str(tmp_path / "carpd.sock"), *line])
        with pytest.raises(SystemExit) as ended:
            program.main()
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return _carp
