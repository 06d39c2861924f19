"""The exporter's pages, as an ASGI application: who asks for what gets which bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from prometheus_client.exposition import choose_encoder

from pte_trace.exporter import page
from pte_trace.exporter.access import Access, TooBusyError
from pte_trace.exporter.metrics import Labels, StateCollector
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from pte_trace.exporter.web_config import WebConfig

# More than these at once is no monitoring: an answer may wait for a client that reads slowly.
_MOST_REQUESTS = 256
_LONGEST_SENDING_S = 30
_PART = 1 << 16
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_TEXT = "text/plain"
_PLAIN = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_HARMLESS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

Send = Callable[[Any], Awaitable[None]]
Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What a scrape can have; each is rendered once for all that come while it is fresh."""

    openmetrics: bool
    compressed: bool


class Exporter:
    """The metrics and the page of a reader's state, rendered one at a time."""

    def __init__(self, reader: Reader, labels: Labels, version: str) -> None:
        self.reader = reader
        self._labels = labels
        self._version = version
        self._worker = ThreadPoolExecutor(1, "rendering")
        self._rendered: dict[Wanted, tuple[State, Answer]] = {}

    async def metrics(self, wanted: Wanted) -> Answer:
        return await self._work(self._metrics, wanted)

    async def page(self) -> Answer:
        return await self._work(self._page)

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)

    async def _work(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    def _metrics(self, wanted: Wanted) -> Answer:
        state = self.reader.state()
        shown, answer = self._rendered.get(wanted, (None, None))
        if answer is None or shown is not state:
            answer = self._render(state, wanted)
            self._rendered[wanted] = (state, answer)
        return answer

    def _render(self, state: State, wanted: Wanted) -> Answer:
        encode, content_type = choose_encoder(_OPENMETRICS if wanted.openmetrics else _TEXT)
        body = encode(StateCollector(state, self._labels, self._version))
        if not wanted.compressed:
            return Answer(200, content_type, body)
        return Answer(200, content_type, gzip.compress(body, 1), ((b"content-encoding", b"gzip"),))

    def _page(self) -> Answer:
        return Answer(200, _HTML, page.render(self.reader.state(), self._version).encode())


class App:
    """One ASGI application for one web configuration."""

    def __init__(self, exporter: Exporter, config: WebConfig) -> None:
        self._exporter = exporter
        self._headers = [
            (name.lower().encode(), value.encode("latin-1", "replace"))
            for name, value in {**_HARMLESS, **config.headers}.items()
        ]
        self._access = Access(config.users)
        self._requests = 0

    def close(self) -> None:
        self._access.close()

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._bounded(scope, send)
        else:
            await send({"type": "websocket.close"})

    async def _bounded(self, scope: Any, send: Send) -> None:
        self._requests += 1
        try:
            if self._requests > _MOST_REQUESTS:
                answer = _said(503, "Too many requests at once.")
            else:
                answer = await self._answer(scope)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_SENDING_S):
                    await self._send(send, answer, scope)
        finally:
            self._requests -= 1

    async def _answer(self, scope: Any) -> Answer:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = b",".join(filter(None, (headers.get(name), value)))
        try:
            if not await self._access.granted(headers.get(b"authorization")):
                demand = (b"www-authenticate", b'Basic realm="pte-trace", charset="UTF-8"')
                return _said(401, "A user name and a password are needed.", demand)
        except TooBusyError:
            return _said(429, "Too many passwords are being tried.", (b"retry-after", b"5"))
        if scope["method"] not in ("GET", "HEAD"):
            return _said(405, "Only GET and HEAD are answered.", (b"allow", b"GET, HEAD"))
        return await self._page(scope["path"], headers)

    async def _page(self, path: str, headers: dict[bytes, bytes]) -> Answer:
        if path == "/metrics":
            return await self._exporter.metrics(_wanted(headers))
        if path == "/":
            return await self._exporter.page()
        if path == "/-/healthy":
            return _said(200, "pte-trace is healthy.")
        if path == "/-/ready":
            if self._exporter.reader.ready:
                return _said(200, "pte-trace is ready.")
            return _said(503, "The last reading failed.")
        return _said(404, "There is / and /metrics, /-/healthy and /-/ready.")

    async def _send(self, send: Send, answer: Answer, scope: Any) -> None:
        own = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"vary", b"accept, accept-encoding"),
        ]
        if scope["http_version"] != "2":
            # Kept connections would outlive their clients: hypercorn notices at its time-out.
            own.append((b"connection", b"close"))
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*own, *answer.headers, *self._headers],
            }
        )
        body = b"" if scope["method"] == "HEAD" else answer.body
        # Part by part: what is handed over and not taken is kept once for each client.
        for part in range(0, len(body), _PART):
            sent = body[part : part + _PART]
            await send({"type": "http.response.body", "body": sent, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _live(receive: Any, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _said(status: int, sentence: str, *headers: Header) -> Answer:
    return Answer(status, _PLAIN, f"{sentence}\n".encode(), headers)


def _wanted(headers: dict[bytes, bytes]) -> Wanted:
    accepted = headers.get(b"accept", b"").decode("latin-1")
    try:
        _, content_type = choose_encoder(accepted)
    except (TypeError, ValueError):
        content_type = _TEXT
    return Wanted(
        openmetrics=content_type.startswith("application/openmetrics-text"),
        compressed=_takes_gzip(headers.get(b"accept-encoding", b"").decode("latin-1")),
    )


def _takes_gzip(accepted: str) -> bool:
    return any(_is_gzip(each) for each in accepted.split(","))


def _is_gzip(coding: str) -> bool:
    name, *parameters = (part.strip().lower() for part in coding.split(";"))
    return name == "gzip" and not _refused(parameters)


def _refused(parameters: Iterable[str]) -> bool:
    return any(each.replace(" ", "").rstrip("0.") == "q=" for each in parameters)
