"""The exporter's pages: who asks for what gets which bytes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from prometheus_client.exposition import choose_encoder

from pte_trace.exporter import page
from pte_trace.exporter.access import Access, TooBusyError
from pte_trace.exporter.metrics import Labels, StateCollector
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from pte_trace.exporter.web_config import WebConfig

_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_TEXT = "text/plain"
_PLAIN = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Request:
    """``headers``: by names in small letters. ``origin``: whom it counts for."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    origin: Hashable = None


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


def load() -> None:
    """Load now what answering takes: the files may be out of reach later."""
    page.template()
    page.policy()
    for accepted in (_OPENMETRICS, _TEXT):
        choose_encoder(accepted)


class Exporter:
    """The metrics and the page of a reader's state, rendered one at a time."""

    def __init__(self, reader: Reader, labels: Labels, version: str) -> None:
        self.reader = reader
        self._labels = labels
        self._version = version
        self._worker = ThreadPoolExecutor(1, "rendering")
        self._shown: State | None = None
        self._rendered: dict[Wanted | None, Answer] = {}

    async def metrics(self, wanted: Wanted) -> Answer:
        return await self._work(wanted)

    async def page(self) -> Answer:
        return await self._work(None)

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)

    async def _work(self, wanted: Wanted | None) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._fresh, wanted)

    def _fresh(self, wanted: Wanted | None) -> Answer:
        state = self.reader.state()
        if state is not self._shown:
            self._shown = state
            self._rendered.clear()
        return self._once(state, wanted)

    def _once(self, state: State, wanted: Wanted | None) -> Answer:
        if wanted not in self._rendered:
            self._rendered[wanted] = self._render(state, wanted)
        return self._rendered[wanted]

    def _render(self, state: State, wanted: Wanted | None) -> Answer:
        if wanted is None:
            return Answer(200, _HTML, page.render(state, self._version).encode())
        if wanted.compressed:
            plain = self._once(state, replace(wanted, compressed=False))
            body = gzip.compress(plain.body, 1)
            return replace(plain, body=body, headers=((b"content-encoding", b"gzip"),))
        encode, content_type = choose_encoder(_OPENMETRICS if wanted.openmetrics else _TEXT)
        return Answer(200, content_type, encode(StateCollector(state, self._labels, self._version)))


class App:
    """The pages with one web configuration. *failed* hears of those that could not be made."""

    def __init__(
        self,
        exporter: Exporter,
        config: WebConfig,
        access: Access,
        failed: Callable[[Exception], None],
    ) -> None:
        self._failed = failed
        self.tls = config.tls
        self._exporter = exporter
        self._access = access
        self._headers = tuple(
            (name.lower().encode(), value.strip().encode("latin-1", "replace"))
            for name, value in {**_harmless(), **config.headers}.items()
        )

    async def refusal(self, request: Request) -> Answer | None:
        """What is said to those who may not look."""
        given = request.headers.get(b"authorization")
        try:
            if await self._access.granted(given, request.origin):
                return None
            demand = (b"www-authenticate", b'Basic realm="pte-trace", charset="UTF-8"')
            answer = say(401, "A user name and a password are needed.", demand)
        except TooBusyError:
            retry = (b"retry-after", b"5")
            answer = say(429, "Too many passwords are being tried.", retry)
        return self._with_headers(answer)

    async def answer(self, request: Request) -> Answer:
        try:
            page = await self._page(request)
        except Exception as error:
            self._failed(error)
            page = say(500, "This page could not be made.")
        return self._with_headers(page)

    def _with_headers(self, answer: Answer) -> Answer:
        return replace(answer, headers=(*answer.headers, *self._headers))

    async def _page(self, request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return say(405, "Only GET and HEAD are answered.", (b"allow", b"GET, HEAD"))
        if request.path == "/metrics":
            return await self._exporter.metrics(_wanted(request.headers))
        if request.path == "/":
            return await self._exporter.page()
        if request.path == "/-/healthy":
            return say(200, "pte-trace is healthy.")
        if request.path == "/-/ready":
            if self._exporter.reader.ready:
                return say(200, "pte-trace is ready.")
            return say(503, "The last reading failed.")
        return say(404, "There is / and /metrics, /-/healthy and /-/ready.")


def _harmless() -> dict[str, str]:
    return {"Content-Security-Policy": page.policy(), "X-Content-Type-Options": "nosniff"}


def say(status: int, sentence: str, *headers: Header) -> Answer:
    return Answer(status, _PLAIN, f"{sentence}\n".encode(), headers)


def _wanted(headers: Mapping[bytes, bytes]) -> Wanted:
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
