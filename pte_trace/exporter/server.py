"""Serves until it is told to end. A changed web configuration takes effect as it runs."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pte_trace.exporter import systemd
from pte_trace.exporter.access import Access
from pte_trace.exporter.app import App, Exporter
from pte_trace.exporter.complaints import Complaints, Wrong
from pte_trace.exporter.visits import Visits
from pte_trace.exporter.web_config_file import WebConfigFile

_LOOK_AGAIN_S = 1.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
        self._file = WebConfigFile(web_config_file)
        self._say = say
        self._complaints = Complaints(say)
        self._access = Access(lambda: self._complaints.hear(Wrong.GUESSING))

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
        loop.set_exception_handler(self._exception)
        ended = asyncio.Event()
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, ended.set)
        if told.is_set():
            ended.set()
        self._use(exporter)
        visits = Visits(self._listeners, lambda: self._app, self._complaints)
        visits.begin()
        systemd.notify("READY=1")
        try:
            while not await _set_within(ended, _LOOK_AGAIN_S):
                self._look(exporter)
            systemd.notify("STOPPING=1")
        finally:
            await visits.end()
            self._access.close()

    def _look(self, exporter: Exporter) -> None:
        """See whether the web configuration has changed."""
        before = self._file.current
        said = self._file.look()
        if self._file.current is not before:
            self._use(exporter)
        if said:
            self._say(said)

    def _use(self, exporter: Exporter) -> None:
        config = self._file.current
        self._access.use(config.users)
        self._app = App(exporter, config, self._access, self._failed)

    def _failed(self, error: object) -> None:
        """Without a traceback, which a client might have made."""
        self._complaints.hear(Wrong.OURS, f"{type(error).__name__}: {error}")

    def _exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._failed(context.get("exception") or context.get("message"))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
