"""The server ends when it is told to, whenever that is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import closing

import pytest

from pte_trace.commands.child import signals_end
from pte_trace.exporter.app import Exporter
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.server import Server
from tests.unit.test_reader import Source


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_there_is_a_loop_ends_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = asyncio.run

    def told_to_end(main: Coroutine[None, None, None]) -> None:
        os.kill(os.getpid(), number)
        run(main)

    monkeypatch.setattr(asyncio, "run", told_to_end)
    reader = Reader(Source(), Groups(10), print)
    with signals_end() as told, closing(Exporter(reader, {}, "1.0")) as exporter:
        Server([], None, print).run(exporter, told)
