"""One connection: one request, one answer, and a time by which both are over.

h11 says what is HTTP/1. A request ends with its head: nobody here takes a body, so none is waited
for, whatever it is said to be. What is left unread would take the answer back from the client (a
reset), so some of it is discarded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote

import h11

from pte_trace.exporter.app import Answer, App, Header, Request, say
from pte_trace.exporter.channel import PART, Channel
from pte_trace.exporter.crowd import Crowd, Guest

# From being accepted to the end of the request's head, and until the answer is taken.
HEAD_S = 10
WHOLE_S = 20
_FAREWELL_S = 2
_MOST_DISCARDED = 2 << 20
_LONGEST_HEAD = 16 << 10
# Each takes time to parse, in which nobody else is served.
_MOST_LINES = 100
_END_OF_HEAD = b"\r\n\r\n"
_MOST_QUOTED = 80
# Of a target that names the server too (RFC 9112, 3.2.2).
_SERVER = re.compile(rb"https?://[^/?]*", re.IGNORECASE)


class NoHttpError(Exception):
    """What came is no request, and why."""


@dataclass
class Connection:
    """What a guest gets on *channel* from the App there is by then."""

    channel: Channel
    guest: Guest
    crowd: Crowd
    app: Callable[[], App]

    async def serve(self) -> None:
        """Raises TimeoutError, OSError (ssl.SSLError among them) and NoHttpError."""
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(begun + WHOLE_S):
            wrong = await self._exchange(begun + HEAD_S)
        await self._farewell()
        if wrong:
            raise NoHttpError(wrong)

    async def _exchange(self, head_by: float) -> str | None:
        """Answer what is asked; what is wrong with it where it is no request."""
        agreed = self.app()
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        try:
            async with asyncio.timeout_at(head_by):
                await self.channel.open()
                head = await self._head(parser)
        except h11.RemoteProtocolError as error:
            await self._refuse(parser, say(error.error_status_hint, "This is no request."))
            return str(error)[:_MOST_QUOTED]
        if not head.http_version.startswith(b"1."):
            await self._refuse(parser, say(505, "Only HTTP/1 is spoken."))
            return f"HTTP/{head.http_version.decode()}"
        app = self.app()
        if app is not agreed and (app.tls or agreed.tls):
            raise ConnectionAbortedError("agreed with another certificate, or in clear")
        self.crowd.moved(self.guest)
        answer = await self._answer(app, _request(head, self.guest))
        await self._send(parser, answer, only_head=head.method == b"HEAD")
        return None

    async def _head(self, parser: h11.Connection) -> h11.Request:
        lines = 0
        while (event := parser.next_event()) is h11.NEED_DATA:
            came = await self.channel.receive()
            if not came:
                raise ConnectionAbortedError("went away before it asked")
            lines += came.partition(_END_OF_HEAD)[0].count(b"\n")
            if lines > _MOST_LINES:
                raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
            parser.receive_data(came)
        assert isinstance(event, h11.Request)
        return event

    async def _answer(self, app: App, request: Request) -> Answer:
        refused = await app.refusal(request)
        if refused:
            return refused
        self.crowd.waits(self.guest)
        return await app.answer(request)

    async def _send(
        self, parser: h11.Connection, answer: Answer, *, only_head: bool = False
    ) -> None:
        head = parser.send(_response(answer))
        assert head is not None
        body = b"" if only_head else answer.body
        self.crowd.takes(self.guest, body)
        parts = memoryview(body)
        begun = PART - len(head)  # A small answer is one segment, and one record of TLS.
        await self.channel.send(head + parts[:begun])
        for part in range(begun, len(body), PART):
            await self.channel.send(parts[part : part + PART])
            self.crowd.moved(self.guest)

    async def _refuse(self, parser: h11.Connection, answer: Answer) -> None:
        """Whether it is taken or not, what came was no request."""
        with suppress(OSError):
            await self._send(parser, answer)

    async def _farewell(self) -> None:
        self.crowd.served(self.guest)
        discarded = 0
        with suppress(OSError):
            async with asyncio.timeout(_FAREWELL_S):
                await self.channel.end()
                while discarded < _MOST_DISCARDED and (taken := await self.channel.discard()):
                    discarded += taken


def _request(head: h11.Request, guest: Guest) -> Request:
    headers: dict[bytes, bytes] = {}
    for name, value in head.headers:
        headers[name] = b",".join(filter(None, (headers.get(name), value)))
    path = _SERVER.sub(b"", head.target, count=1).partition(b"?")[0].decode("ascii")
    return Request(head.method.decode("ascii"), unquote(path) or "/", headers, guest.origin)


def _response(answer: Answer) -> h11.Response:
    own: list[Header] = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"vary", b"accept, accept-encoding"),
        # A connection that is kept would take a place for as long.
        (b"connection", b"close"),
    ]
    return h11.Response(
        status_code=answer.status,
        headers=[*own, *answer.headers],
        reason=HTTPStatus(answer.status).phrase.encode(),
    )
