"""The application without a server: what the page marks, what is answered while readings fail."""

from __future__ import annotations

import asyncio
import errno
from contextlib import closing

import pytest

from pte_trace.errors import HostError
from pte_trace.exporter import page
from pte_trace.exporter.access import Access
from pte_trace.exporter.app import App, Exporter, Request
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.web_config import WebConfig
from tests.builders import counts, record
from tests.unit.test_reader import Clock, Source


def test_the_page_marks_what_is_known_in_part() -> None:
    changed = counts({"mprotect": 1}, {"mprotect": 9}, {"wp_reuse": 1}, writable={"mprotect": 3})
    in_part = changed + counts(omitted={"huge": 1})
    for counted, shown in ((changed, "75.0%"), (in_part, "≥75.0%")):
        source = Source(record(counts=counted))
        with Reader(source, Groups(9), print) as reader:
            html = page.render(reader.state(), "1")
        assert f'<b id="efficacy">{shown}</b>' in html
        assert html.count("≥3") == 2 * (counted is in_part)


def ask(app: App, path: str) -> tuple[int, str]:
    """Status and body of the answer."""
    answer = asyncio.run(app.answer(Request("GET", path, {})))
    return answer.status, answer.body.decode()


@pytest.mark.parametrize("broken", [HostError("Refused."), OSError(errno.ENOMEM, "no memory")])
def test_it_is_not_ready_while_readings_fail(broken: Exception) -> None:
    clock, source = Clock(), Source()
    with (
        Reader(source, Groups(9), lambda _: None, clock) as reader,
        closing(Exporter(reader, {}, "1")) as exporter,
        closing(Access()) as access,
    ):
        app = App(exporter, WebConfig(), access, print)
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


def test_a_page_that_cannot_be_made_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[Exception] = []
    monkeypatch.setattr(page, "render", None)
    with (
        Reader(Source(), Groups(9), print) as reader,
        closing(Exporter(reader, {}, "1")) as exporter,
        closing(Access()) as access,
    ):
        app = App(exporter, WebConfig(), access, failed.append)
        assert ask(app, "/")[0] == 500
        assert ask(app, "/metrics")[0] == 200
    assert [type(each) for each in failed] == [TypeError]
