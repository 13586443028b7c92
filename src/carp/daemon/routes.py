"""What the control API is asked and what it answers, as values; and the table of its routes by method and path.

A path may hold one part NAME, which stands for any word.
"""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import unquote

NAME = "NAME"
CHANGING_METHODS = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_CHANGES_FOR_UID = 0

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `name` is what stands for NAME in the path, `body` the JSON object that came with a change."""

    method: str
    path: str
    name: str = ""
    body: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is sent while it is made; one without an end goes on until the client leaves.

    `given_up`, where there is one, resolves once nobody feeds the stream any more: it is cut off then.
    """

    pieces: AsyncGenerator[bytes, None]
    content_type: str = "application/json"
    endless: bool = False
    given_up: Awaitable[object] | None = None


Answer = Document | Stream
Handler = Callable[[Request], Awaitable[Answer]]


class RequestError(Exception):
    """A request is not carried out. `problems` are sentences; `allow` names the methods that the path does know."""

    def __init__(self, status: HTTPStatus, problems: Sequence[str], allow: str = "") -> None:
        super().__init__("; ".join(problems))
        self.status = status
        self.problems = list(problems)
        self.allow = allow

    def document(self) -> Document:
        """Return the answer's body."""
        return {"error": str(self), "problems": self.problems}


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a method on a path."""

    method: str
    path: str
    handler: Handler

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return self.method in CHANGING_METHODS


class Routes:
    """The table."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._paths.setdefault(route.path, {})[route.method] = route

    def __iter__(self) -> Iterator[Route]:
        """Walk all routes."""
        return (route for methods in self._paths.values() for route in methods.values())

    def find(self, method: str, target: str) -> tuple[Route, Request]:
        """Find the route of a request target; a HEAD goes where a GET goes.

        Raises:
            RequestError: there is no such path, or it does not know the method.
        """
        path = target.partition("?")[0]
        pattern, name = self._match(path)
        methods = self._paths[pattern]
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            known = sorted(methods.keys() | ({"HEAD"} if "GET" in methods else set()))
            allow = ", ".join(known)
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, [f"{path} does not know {method}; it knows {allow}"], allow)
        return route, Request(method, path, name)

    def _match(self, path: str) -> tuple[str, str]:
        words = path.split("/")
        for pattern in self._paths:
            name = ""
            for wanted, word in zip(pattern.split("/"), words, strict=False):
                if wanted == NAME and word:
                    name = unquote(word, errors="replace")
                elif wanted != word:
                    break
            else:
                if pattern.count("/") == path.count("/"):
                    return pattern, name
        known = ", ".join(sorted(self._paths))
        raise RequestError(HTTPStatus.NOT_FOUND, [f"{path} is not known; there is {known}"])


def check_right(route: Route, uid: int) -> None:
    """Let changes pass for root only.

    Raises:
        RequestError: the client may not do this.
    """
    if route.changes and uid != _CHANGES_FOR_UID:
        sentence = f"{route.method} {route.path} changes something: that is for root only, not for uid {uid}"
        raise RequestError(HTTPStatus.FORBIDDEN, [sentence])


def read_body(raw: bytes) -> Document:
    """Read the JSON object of a body; nothing at all is an empty object.

    Raises:
        RequestError: it is something else.
    """
    if not raw.strip():
        return {}
    try:
        # Whatever could not be written again, to a log or into an answer, is not let in.
        document = json.loads(raw, parse_constant=_refuse_constant, object_pairs_hook=_without_repetition)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise RequestError(HTTPStatus.BAD_REQUEST, [f"the body is not JSON: {reason}"]) from None
    if not isinstance(document, dict):
        raise RequestError(HTTPStatus.BAD_REQUEST, ["the body must be a JSON object, such as {}"])
    return document


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _without_repetition(pairs: list[tuple[str, object]]) -> Document:
    document = dict(pairs)
    if len(document) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"{repeated} stands twice")
    return document
