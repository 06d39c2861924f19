"""Serves until it is told to end. A changed web configuration takes effect as it runs."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets

from pte_trace.errors import UsageError
from pte_trace.exporter import systemd, web_config
from pte_trace.exporter.app import App, Exporter
from pte_trace.exporter.web_config import WebConfig

_LOOK_AGAIN_S = 1.0
# A request's head must be here within this time, and the next request within it again.
_IDLE_S = 10
_HANDSHAKE_S = 10
_STAYS = "The web configuration from before stays in force."
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Settings(Config):
    """Hypercorn's, for sockets that are open already and TLS that was set up already."""

    accesslog = None
    loglevel = "WARNING"
    include_server_header = False
    keep_alive_timeout = _IDLE_S
    ssl_handshake_timeout = _HANDSHAKE_S

    def __init__(self, listeners: Sequence[socket.socket], config: WebConfig) -> None:
        super().__init__()
        self._listeners = listeners
        self._tls = config.tls
        self.alpn_protocols = ["h2", "http/1.1"] if config.http2 else ["http/1.1"]
        if self._tls is not None:
            self._tls.set_alpn_protocols(self.alpn_protocols)

    @property
    def ssl_enabled(self) -> bool:
        return self._tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self._tls

    def create_sockets(self) -> Sockets:
        # Copies: the server closes what it is given, and another one may follow it.
        copies = [listener.dup() for listener in self._listeners]
        return Sockets(copies, [], []) if self.ssl_enabled else Sockets([], copies, [])


class _WebConfigFile:
    """The configuration in force, and whether what it was read from has changed since."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.current = WebConfig() if path is None else web_config.load(path)
        self._seen = self._signature()
        self._problem: str | None = None

    def _signature(self) -> tuple[object, ...]:
        return tuple(map(_signature, self.current.files))

    def changed(self) -> bool:
        """Whether to read it again: it is new, or what was read last could not be used."""
        return self._problem is not None or self._signature() != self._seen

    def reload(self) -> str | None:
        """Read it again. What is broken is not taken: the sentence that says so, once."""
        assert self._path is not None
        before, self._problem = self._problem, None
        try:
            self.current = web_config.load(self._path)
        except UsageError as error:
            self._problem = error.what
            return None if before == self._problem else f"{self._problem} {_STAYS}"
        self._seen = self._signature()
        return None


def _signature(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)


class Server:
    """Answers on *listeners* until a signal.

    Raises UsageError where the first web configuration cannot be used.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        web_config_file: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._listeners = listeners
        self._file = _WebConfigFile(web_config_file)
        self._say = say

    @property
    def tls(self) -> bool:
        return self._file.current.tls is not None

    def run(self, exporter: Exporter, told: threading.Event) -> None:
        """Serve; returns when a signal to end came, or at once where *told* has heard of one.

        Whoever calls takes the signals until the loop does: an exception while it is made would
        leave it half made.
        """
        asyncio.run(self._run(exporter, told))

    async def _run(self, exporter: Exporter, told: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_exception)
        # It warns of a client that went away while it was answered.
        logging.getLogger("asyncio").setLevel(logging.ERROR)
        ended = asyncio.Event()
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, ended.set)
        if told.is_set():
            ended.set()
        systemd.notify("READY=1")
        while not ended.is_set():
            config = self._file.current
            app = App(exporter, config)

            async def over() -> None:
                await self._ended_or_changed(ended)

            try:
                await serve(app, _Settings(self._listeners, config), shutdown_trigger=over)
            finally:
                app.close()
            if self._file.current is not config:
                self._say("The web configuration was read again.")

    async def _ended_or_changed(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                await asyncio.wait_for(ended.wait(), _LOOK_AGAIN_S)
            except TimeoutError:
                before = self._file.current
                if self._file.changed() and (said := self._file.reload()):
                    self._say(said)
                if self._file.current is not before:
                    return
        systemd.notify("STOPPING=1")


def _exception(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What a client does wrong is its own affair."""
    if not isinstance(context.get("exception"), OSError | TimeoutError):
        loop.default_exception_handler(context)
