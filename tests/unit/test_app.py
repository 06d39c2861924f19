"""The application without a server: what the page marks, what is answered while readings fail."""

from __future__ import annotations

import asyncio
import errno
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from pte_trace.errors import HostError
from pte_trace.exporter import page
from pte_trace.exporter.app import App, Exporter
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.web_config import WebConfig
from tests.builders import counts, record
from tests.unit.test_reader import Clock, Source


def test_the_page_marks_what_is_known_in_part() -> None:
    changed = counts({"mprotect": 1}, {"mprotect": 9}, {"wp_reuse": 1}, writable={"mprotect": 3})
    in_part = replace(changed, not_inspected=(1, *changed.not_inspected[1:]))
    for counted, shown in ((changed, "75.0%"), (in_part, "≥75.0%")):
        source = Source(record(counts=counted))
        with Reader(source, Groups(9), print) as reader:
            html = page.render(reader.state(), "1")
        assert f'<b id="efficacy">{shown}</b>' in html
        assert html.count("≥3") == 2 * (counted is in_part)


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
