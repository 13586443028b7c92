"""One client of the control socket: reads its requests, sends the answers, and gives up on one that hangs."""

import asyncio
import contextlib
import json
from collections.abc import Iterable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

import h11

from .chronicle import logger
from .routes import Request, RequestError, Route, Routes, Stream, check_right, read_body

MOST_BODY_BYTES = 256 * 1024
_PATIENCE_S = 10
_READ_BYTES = 1 << 16
_JSON = ("Content-Type", "application/json")


class Conversation:
    """One connection. `uid` is the client's, as the kernel says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, routes: Routes, uid: int) -> None:
        self._reader = reader
        self._writer = writer
        self._routes = routes
        self._uid = uid
        self._connection = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Answer request after request until the client leaves or hangs."""
        try:
            while await self._answer_one():
                self._connection.start_next_cycle()
        except (TimeoutError, OSError):
            # What was not read by now will not be; a client that hangs or leaves is its own affair.
            self._writer.transport.abort()
        except asyncio.CancelledError:
            self._writer.transport.abort()
            raise
        except h11.RemoteProtocolError as error:
            with contextlib.suppress(h11.LocalProtocolError, OSError):
                self._write_document(error.error_status_hint, {"error": str(error), "problems": [str(error)]})
        finally:
            with contextlib.suppress(OSError):
                self._writer.close()

    async def _answer_one(self) -> bool:
        """Read a request and answer it; tell whether another one may follow on this connection."""
        head: h11.Request | None = None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head = await self._read_head()
                if head is None:
                    return False
                body = await self._read_body()
            answer = await self._ask(head, body)
        except RequestError as error:
            allow = [("Allow", error.allow)] if error.allow else []
            self._write_document(error.status, error.document(), allow, with_body=_wants_body(head))
        else:
            if isinstance(answer, Stream):
                await self._send_stream(answer, with_body=_wants_body(head))
            else:
                self._write_document(HTTPStatus.OK, answer, with_body=_wants_body(head))
        await self._drain()
        return self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE

    async def _read_head(self) -> h11.Request | None:
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                self._connection.receive_data(await self._reader.read(_READ_BYTES))
            elif isinstance(event, h11.Request):
                return event
            else:
                return None

    async def _read_body(self) -> bytes | None:
        """Return the body, None if it is too long; it is read to its end all the same, or the client would not listen."""
        if self._connection.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
        body = bytearray()
        too_long = False
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                self._connection.receive_data(await self._reader.read(_READ_BYTES))
            elif isinstance(event, h11.Data):
                too_long = too_long or len(body) + len(event.data) > MOST_BODY_BYTES
                if not too_long:
                    body += event.data
            else:
                return None if too_long else bytes(body)

    async def _ask(self, head: h11.Request, raw: bytes | None) -> object:
        route, request = self._routes.find(head.method.decode("ascii"), head.target.decode("ascii"))
        check_right(route, self._uid)
        if route.changes:
            if raw is None:
                sentence = f"the body is longer than {MOST_BODY_BYTES} bytes"
                raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, [sentence])
            request = Request(request.method, request.path, request.name, read_body(raw))
        return await self._carry_out(route, request)

    async def _carry_out(self, route: Route, request: Request) -> object:
        try:
            return await route.handler(request)
        except RequestError:
            raise
        except Exception:
            logger.exception("the answer to %s %s failed", request.method, request.path)
            sentence = "carpd has a fault; its log has the details"
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, [sentence]) from None

    def _write_document(
        self, status: int, document: object, headers: Iterable[tuple[str, str]] = (), *, with_body: bool = True
    ) -> None:
        body = json.dumps(document).encode() + b"\n"
        headers = [_JSON, ("Content-Length", str(len(body))), *headers]
        self._send(h11.Response(status_code=status, reason=HTTPStatus(status).phrase, headers=headers))
        if with_body:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())

    async def _send_stream(self, stream: Stream, *, with_body: bool) -> None:
        headers = [("Content-Type", stream.content_type), ("Cache-Control", "no-store")]
        self._send(h11.Response(status_code=HTTPStatus.OK, reason=HTTPStatus.OK.phrase, headers=headers))
        async with aclosing(stream.pieces):
            if with_body and stream.endless:
                await self._send_until_the_client_leaves(stream)
            elif with_body:
                await self._send_pieces(stream)
        self._send(h11.EndOfMessage())

    async def _send_pieces(self, stream: Stream) -> None:
        try:
            async for piece in stream.pieces:
                self._send(h11.Data(data=piece))
                await self._drain()
        except (TimeoutError, OSError):
            raise
        except Exception:
            # The client sees that the end is missing.
            logger.exception("an answer broke off")
            raise ConnectionAbortedError from None

    async def _send_until_the_client_leaves(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Future[Any]] = {
            loop.create_task(self._send_pieces(stream)),
            loop.create_task(self._read_to_the_end()),
        }
        if stream.given_up is not None:
            waiting.add(asyncio.ensure_future(stream.given_up))
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        for task in done:
            task.result()
        raise ConnectionAbortedError

    async def _read_to_the_end(self) -> None:
        while await self._reader.read(_READ_BYTES):
            pass

    def _send(self, event: h11.Event) -> None:
        self._writer.write(self._connection.send(event) or b"")

    async def _drain(self) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            await self._writer.drain()


def _wants_body(head: h11.Request | None) -> bool:
    return head is None or head.method != b"HEAD"
