"""The application without a server: what it answers while readings fail."""

from __future__ import annotations

import asyncio
import errno
from contextlib import closing
from typing import Any

import pytest

from pte_trace.errors import HostError
from pte_trace.exporter.app import App, Exporter
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.web_config import WebConfig
from tests.unit.test_reader import Clock, Source


def ask(app: App, path: str) -> tuple[int, str]:
    """Status and body of the answer."""
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    async def receive() -> None:
        raise AssertionError("nothing is to be received")

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "headers": []}
    asyncio.run(app(scope, receive, send))
    body = b"".join(each.get("body", b"") for each in messages)
    return messages[0]["status"], body.decode()


@pytest.mark.parametrize("broken", [HostError("Refused."), OSError(errno.ENOMEM, "no memory")])
def test_it_is_not_ready_while_readings_fail(broken: Exception) -> None:
    clock, source = Clock(), Source()
    with (
        Reader(source, Groups(9), lambda _: None, clock) as reader,
        closing(Exporter(reader, {}, "1")) as exporter,
        closing(App(exporter, WebConfig())) as app,
    ):
        assert ask(app, "/-/ready")[0] == 200
        source.broken = broken
        clock.time = 1.0
        status, metrics = ask(app, "/metrics")
        assert status == 200
        assert "pte_trace_scrape_errors_total 1.0" in metrics
        assert ask(app, "/-/ready")[0] == 503
        assert ask(app, "/-/healthy")[0] == 200
        source.broken = None
        clock.time = 2.0
        assert "pte_trace_scrape_errors_total 1.0" in ask(app, "/metrics")[1]
        assert ask(app, "/-/ready")[0] == 200
