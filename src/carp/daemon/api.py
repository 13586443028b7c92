"""The control API: what each path answers; docs/api.md describes it for those who use it."""

import json
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ..config import write
from ..config.change import Change
from ..config.errors import shown
from . import status
from .administration import Administration, Outcome
from .event_stream import Events
from .handover import HandOver
from .pacing import Shared, Turns
from .refusals import ChangeRefusedError, UnknownNameError
from .routes import NAME, Answer, Document, Request, RequestError, Route, Stream
from .runtime import Runtime

_NAMES_IN_A_SENTENCE = 16

_Result = TypeVar("_Result")


class Api:
    """The routes, and what is behind them."""

    def __init__(
        self, runtime: Runtime, administration: Administration, handover: HandOver, events: Events, turns: Turns
    ) -> None:
        self._runtime = runtime
        self._administration = administration
        self._demoting = administration.demoting
        self._handover = handover
        self._events = events
        self._turns = turns
        self._shared_status = Shared(turns, lambda: status.pieces(runtime))

    def routes(self) -> tuple[Route, ...]:
        """Return every route."""
        return (
            Route("GET", "/v1/status", self._status),
            Route("GET", "/v1/events", self._listen),
            Route("GET", "/v1/interfaces/" + NAME, self._interface),
            Route("PATCH", "/v1/interfaces/" + NAME, self._change),
            Route("GET", "/v1/global", self._global),
            Route("PATCH", "/v1/global", self._set_global),
            Route("GET", "/v1/groups", self._groups),
            Route("POST", "/v1/groups/" + NAME, self._demote),
            Route("GET", "/v1/demotions", self._demotions),
            Route("POST", "/v1/demotions/" + NAME, self._add_demotion),
            Route("DELETE", "/v1/demotions/" + NAME, self._remove_demotion),
            Route("POST", "/v1/switch/" + NAME, self._switch),
            Route("GET", "/v1/maintenance", self._maintenance),
            Route("POST", "/v1/maintenance", self._maintain),
            Route("GET", "/v1/sync", self._sync),
            Route("GET", "/v1/config", self._config),
            Route("POST", "/v1/config/save", self._save),
            Route("GET", "/v1/reload", self._difference),
            Route("POST", "/v1/reload", self._reload),
        )

    async def _status(self, _: Request) -> Answer:
        return Stream(self._shared_status.ask())

    async def _listen(self, _: Request) -> Answer:
        return self._events.listen(lambda: status.states(self._runtime))

    async def _interface(self, request: Request) -> Answer:
        found = status.describe(self._runtime, request.name)
        if found is None:
            names = list(islice(status.names(self._runtime), _NAMES_IN_A_SENTENCE + 1))
            more = ["..."] if len(names) > _NAMES_IN_A_SENTENCE else []
            known = ", ".join(names[:_NAMES_IN_A_SENTENCE] + more) or "none yet"
            sentence = f"{request.name}: there is no such carp interface; there is {known}"
            raise RequestError(HTTPStatus.NOT_FOUND, [sentence])
        return found

    async def _change(self, request: Request) -> Answer:
        try:
            change = Change.from_json(request.name, request.body)
        except ValueError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, [str(error)]) from None
        if change == Change(request.name):
            raise RequestError(HTTPStatus.BAD_REQUEST, [f"{request.name}: the body asks for nothing"])
        return _outcome(await _or_refused(self._administration.change(change)))

    async def _global(self, _: Request) -> Answer:
        return self._administration.global_values()

    async def _set_global(self, request: Request) -> Answer:
        old, new, outcome = await _or_refused(self._administration.set_global(request.body))
        return {"old": old, "new": new, "warnings": outcome.warnings}

    async def _groups(self, _: Request) -> Answer:
        return self._demoting.groups()

    async def _demote(self, request: Request) -> Answer:
        _check_keys(request.body, ("carpdemote",))
        amount = request.body.get("carpdemote")
        if not isinstance(amount, int) or isinstance(amount, bool):
            sentence = f"carpdemote: {shown(amount)} is not allowed: an integer, which is added"
            raise RequestError(HTTPStatus.BAD_REQUEST, [sentence])
        return {"demote": await _or_refused(self._administration.demote(request.name, amount))}

    async def _demotions(self, _: Request) -> Answer:
        return {"demotions": status.demotions(self._runtime)}

    async def _add_demotion(self, request: Request) -> Answer:
        with _refusals():
            self._demoting.add(request.name, request.body)
        return {"demotions": status.demotions(self._runtime)}

    async def _remove_demotion(self, request: Request) -> Answer:
        _check_keys(request.body, ())
        with _refusals():
            self._demoting.remove(request.name)
        return {"demotions": status.demotions(self._runtime)}

    async def _switch(self, request: Request) -> Answer:
        _check_keys(request.body, ("to_backup", "timeout_s"))
        return await _or_refused(self._handover.switch(request.name, request.body))

    async def _maintenance(self, _: Request) -> Answer:
        return self._handover.describe()

    async def _maintain(self, request: Request) -> Answer:
        _check_keys(request.body, ("on", "reason", "by", "timeout_s"))
        return await _or_refused(self._handover.maintain(request.body))

    async def _sync(self, _: Request) -> Answer:
        return self._runtime.state_sync.describe()

    async def _config(self, _: Request) -> Answer:
        return Stream(self._turns.pace(_document_pieces(self._administration.running.document)))

    async def _save(self, request: Request) -> Answer:
        _check_keys(request.body, ("path",))
        given = request.body.get("path")
        if given is not None and not (isinstance(given, str) and given.startswith("/") and "\0" not in given):
            sentence = f"path: {shown(given)} is not allowed: the absolute path of a file, or null for that which was read"
            raise RequestError(HTTPStatus.BAD_REQUEST, [sentence])
        path, left_out = await _or_refused(self._administration.save(None if given is None else Path(given)))
        return {"path": str(path), "left_out": left_out}

    async def _difference(self, _: Request) -> Answer:
        return _outcome(await _or_refused(self._administration.difference()))

    async def _reload(self, request: Request) -> Answer:
        _check_keys(request.body, ())
        return _outcome(await _or_refused(self._administration.reload()))


def _document_pieces(document: Mapping[str, Any]) -> Iterator[bytes]:
    """Write a document without its keys, a table at a time."""
    members = (json.dumps(write.public({name: table})).encode()[1:-1] for name, table in list(document.items()))
    yield b'{"document": {'
    yield from status.separated(iter((member,)) for member in members)
    yield b"}}\n"


def _outcome(outcome: Outcome) -> Document:
    return {"changes": outcome.changes, "warnings": outcome.warnings}


async def _or_refused(change: Awaitable[_Result]) -> _Result:
    """Wait for a change; what is refused becomes an answer."""
    with _refusals():
        return await change


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except UnknownNameError as unknown:
        raise RequestError(HTTPStatus.NOT_FOUND, unknown.problems) from None
    except ChangeRefusedError as refused:
        raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, refused.problems) from None


def _check_keys(body: Mapping[str, object], allowed: Iterable[str]) -> None:
    for key in body:
        if key not in allowed:
            raise RequestError(HTTPStatus.BAD_REQUEST, [f"{key}: unknown key; allowed: {', '.join(allowed) or 'none'}"])
