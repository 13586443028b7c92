"""The client side of the control socket: changes, refusals, and a daemon that hangs."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carp.cli import client
from carp.cli.client import DaemonError, get, segment, send, stream


def test_a_change_carries_json(daemon: Any) -> None:
    """With its method and its path; the answer is returned."""
    daemon.answers["PATCH /v1/interfaces/carp0"] = {"warnings": []}
    assert send(daemon.path, "PATCH", "/v1/interfaces/carp0", {"up": False}) == {"warnings": []}
    assert daemon.changes == [("PATCH /v1/interfaces/carp0", {"up": False})]


@pytest.mark.parametrize(
    ("answer", "sentences"),
    [
        ({"error": "vhid 1 is taken"}, ("vhid 1 is taken",)),
        ({"error": "one; two", "problems": ["one", "two"]}, ("one", "two")),
        ({"error": "one\ntwo"}, ("one", "two")),
    ],
)
def test_a_refusal_tells_every_problem(daemon: Any, answer: Any, sentences: tuple[str, ...]) -> None:
    """A line each, and its status lets a verb choose how to end."""
    daemon.answers["POST /v1/reload"] = (422, answer)
    with pytest.raises(DaemonError) as caught:
        send(daemon.path, "POST", "/v1/reload", {})
    assert (caught.value.sentences, caught.value.status) == (sentences, 422)
    assert str(caught.value) == "\n".join(sentences)


def test_a_refusal_without_a_sentence(daemon: Any) -> None:
    """Is told with what HTTP says."""
    daemon.answers["POST /v1/reload"] = (403, {})
    with pytest.raises(DaemonError, match=rf"^carpd behind {daemon.path} refused: Forbidden$"):
        send(daemon.path, "POST", "/v1/reload", {})


@pytest.mark.parametrize(("asked", "patience"), [("get", "_READING_PATIENCE_S"), ("send", "_CHANGING_PATIENCE_S")])
def test_a_stopped_daemon_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, patience: str) -> None:
    """After the patience of a reader; a change may need longer, and may still be made when the daemon goes on."""
    monkeypatch.setattr(client, patience, 0.05)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        with pytest.raises(DaemonError) as caught:
            get(tmp_path / "s", "/v1/status") if asked == "get" else send(tmp_path / "s", "PATCH", "/v1/global", {})
    later = "" if asked == "get" else "; it may still make the change"
    assert str(caught.value) == f"carpd behind {tmp_path}/s does not answer: timed out{later}"
    assert caught.value.status is None


def test_a_reader_waits_three_seconds() -> None:
    """Longer than any answer takes, and short enough to be waited for; a change waits for the kernel."""
    assert (client._READING_PATIENCE_S, client._CHANGING_PATIENCE_S) == (3, 30)


def test_any_name_is_one_segment_of_a_path() -> None:
    """Neither a slash nor a question mark leads elsewhere."""
    assert segment("a/../b?c d") == "a%2F..%2Fb%3Fc%20d"


def _assert_each(found: Iterator[str], expected: list[str]) -> None:
    """Compare one after the other, and then see the end."""
    for one in expected:
        assert next(found) == one
    next(found)


def test_events_are_their_data(daemon: Any) -> None:
    """One line each; what else stands in the stream is for machines. It has no end but that of the daemon."""
    daemon.answers["GET /v1/events"] = b"event: transition\ndata: {1}\n\n: still here\ndata: {2}\n\n"
    with pytest.raises(DaemonError, match=rf"^carpd behind {daemon.path} ended the stream$"):
        _assert_each(stream(daemon.path, "/v1/events"), ["{1}", "{2}"])


def test_events_that_are_refused(daemon: Any) -> None:
    """As any other refusal."""
    with pytest.raises(DaemonError, match=r"^/v1/events is not known$"):
        list(stream(daemon.path, "/v1/events"))
