"""Whatever a process, a mapping or a file is called: no view lets a name act."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, RenderableType

from pte_trace import __main__
from pte_trace.counted.explanation import explain
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.snapshot import Snapshot
from pte_trace.effort import Effort
from pte_trace.errors import HostError
from pte_trace.exporter import labels
from pte_trace.exporter import page as exporter_page
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.metrics import StateCollector
from pte_trace.exporter.reader import Reader
from pte_trace.exporter.state import State
from pte_trace.host import plan
from pte_trace.host.behavior import Behavior
from pte_trace.recording.comparison import Comparison, Subject, compare
from pte_trace.recording.interval import Interval
from pte_trace.recording.reading import Recording
from pte_trace.recording.summary import Summary, summarize
from pte_trace.views import (
    compared,
    diagnosis,
    document,
    explained,
    lines,
    page,
    recorded,
    text,
)
from pte_trace.views.live import View
from tests import recordings
from tests.builders import counts, host, record, snapshot
from tests.simulated import HOSTILE

NAMES = {
    "plain": "plain name",
    "terminal": "\x1b[2J\x1b]0;owned\x07\x9b31m\x9d0;owned\x9c",
    "lines": "a\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h\x1ci",
    "direction": "\u202egnp.exe\u2066\u200f\u061c",
    "invisible": "\x00\x7f\u200b\ufeff\u00ad\U000e0001",
    "not UTF-8": b"\xff\xfe\xc3(".decode("utf-8", "backslashreplace"),
    "surrogates": b"\xff\xfe\xc3(".decode("utf-8", "surrogateescape"),
    "HTML": "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'`",
    "formula": "=HYPERLINK(1)",
    "markup": "[bold]x[/bold] [link=http://x]y[/link] <b>z</b>",
    "templates": "{{7*7}} {% raw %} $title ${title} %{x} %s {0}",
    "all": HOSTILE,
}

openmetrics, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
Text = Callable[[str, Path], str]


def named(name: str) -> Snapshot:
    frames = (Frame(1, f"/srv/{name}", 1, f"{name}+0x1"), Frame(2, f"/{name}"))
    called = Stack(Event("protection_changes", "mprotect"), frames, 1)
    wrote = Stack(Event("write_faults", "wp_reuse", "user"), frames, 99)
    return snapshot(
        record(
            comm=name,
            kind="file",
            name=f"/srv/{name}",
            counts=counts({"mprotect": 1}, {"mprotect": 1}, {"wp_reuse": 99, "wp_copy": 99}),
            stacks=(called, wrote),
        ),
        record(pid=101, comm=name, start=0x20000, end=0x30000, name=f"[anon:{name}]"),
        effort=Effort(stacks=1),
    )


class Once:
    def __init__(self, shown: Snapshot) -> None:
        self._shown = shown

    def read(self) -> Snapshot:
        return self._shown


def state(name: str) -> State:
    with Reader(Once(named(name)), Groups(10, by_pid=True), print) as reader:
        return reader.state()


def printed(shown: RenderableType) -> str:
    stream = StringIO()
    text.console(stream).print(shown)
    return stream.getvalue()


def on_terminal(shown: RenderableType) -> str:
    """As a terminal gets it, but for what colours it: that comes of rich."""
    stream = StringIO()
    Console(file=stream, width=300, height=40, force_terminal=True, color_system=None).print(shown)
    return stream.getvalue()


def live(name: str) -> RenderableType:
    return View("faults", None).render(named(name), 40, 100)


def written(write: Callable[[Snapshot, StringIO], None], name: str) -> str:
    stream = StringIO()
    write(named(name), stream)
    return stream.getvalue()


def explanation(name: str) -> str:
    shown = named(name)
    return printed(explained.report(shown, explain(shown, Behavior())))


def explanation_json(name: str) -> str:
    stream = StringIO()
    shown = named(name)
    explained.write_json(shown, Behavior(), explain(shown, Behavior()), stream)
    return stream.getvalue()


def interval(name: str) -> Interval:
    return recordings.interval(named(name.encode("utf-8", "backslashreplace").decode()))


def recording(name: str, directory: Path) -> Path:
    """A recording of a command of that name, in a file of that name."""
    metadata = recordings.metadata(
        command=(name, f"--{name}"), options={"pids": [], "comm": name, "cgroup": f"/sys/{name}"}
    )
    path = directory / name.replace("/", "").replace("\0", "")
    return recordings.recorded(path, [interval(name)], metadata)


def summary(name: str, directory: Path) -> tuple[Recording, Summary]:
    with Recording(recording(name, directory)) as found:
        return found, summarize(found)


def report(name: str, directory: Path) -> str:
    found, whole = summary(name, directory)
    return printed(recorded.report(found.metadata, whole, ended=False, rows=9))


def report_json(name: str, directory: Path) -> str:
    found, whole = summary(name, directory)
    return json.dumps(recorded.document(found.metadata, whole, ended=False))


def report_page(name: str, directory: Path) -> str:
    found, whole = summary(name, directory)
    return page.report(found.metadata, whole, ended=False)


def comparison(name: str, directory: Path) -> Comparison:
    found, whole = summary(name, directory)
    return compare([Subject(found.name, found.metadata, whole, True)] * 2)


def comparison_csv(name: str, directory: Path) -> str:
    stream = StringIO()
    compared.write_csv(comparison(name, directory), stream)
    return stream.getvalue()


def line_by_line(make: type[lines.JsonLines | lines.CsvLines], name: str, directory: Path) -> str:
    path = directory / "lines"
    writer = make(path, recordings.metadata(command=(name,)))
    writer.add(interval(name))
    writer.finish()
    return path.read_text("utf-8")


def metrics(name: str) -> StateCollector:
    return StateCollector(state(name), labels.parse([f"team={name}"]), "1")


def doctor(name: str) -> str:
    facts = host(btf=False, btf_problem=name, bcc_version=None, bcc_impostor=f"/{name}/bcc")
    return printed(diagnosis.page(facts, plan.make(facts)))


def error(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    __main__._say(f"pte-trace: {HostError(f'{name} cannot be read.').what}", f"Mend {name}.")
    return capsys.readouterr().err


VIEWS: dict[str, Text] = {
    "table": lambda name, _: printed(text.report(named(name))),
    "interval": lambda name, _: printed(text.interval(named(name), "faults", 5)),
    "live view": lambda name, _: on_terminal(live(name)),
    "JSON": lambda name, _: written(document.write_json, name),
    "CSV": lambda name, _: written(document.write_csv, name),
    "metrics": lambda name, _: generate_latest(metrics(name)).decode(),
    "OpenMetrics": lambda name, _: openmetrics(metrics(name)).decode(),
    "exporter's page": lambda name, _: exporter_page.render(state(name), "1"),
    "explain": lambda name, _: explanation(name),
    "explain as JSON": lambda name, _: explanation_json(name),
    "report": report,
    "report as JSON": report_json,
    "report's page": report_page,
    "compare": lambda name, path: printed(compared.text(comparison(name, path))),
    "compare as JSON": lambda name, path: json.dumps(compared.document(comparison(name, path))),
    "compare as CSV": comparison_csv,
    "compare's page": lambda name, path: compared.page(comparison(name, path)),
    "recording in lines of JSON": lambda name, path: line_by_line(lines.JsonLines, name, path),
    "recording in lines of CSV": lambda name, path: line_by_line(lines.CsvLines, name, path),
    "doctor": lambda name, _: doctor(name),
}


@pytest.fixture(autouse=True)
def without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its four megabytes of script are not ours."""
    monkeypatch.setattr(page, "get_plotlyjs", str)


def harmless(shown: str) -> bool:
    shown.encode("utf-8")
    return all(each.isprintable() or each == "\n" for each in shown)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_name_is_shown_and_does_nothing(view: Text, name: str, tmp_path: Path) -> None:
    shown = view(name, tmp_path)
    assert harmless(shown)
    assert "<script>alert" not in shown or "<html" not in shown
    assert "<img" not in shown or "<html" not in shown
    plain = view("plain name", tmp_path)
    assert "plain name" in plain
    if "<html" not in shown:
        assert len(shown.splitlines()) == len(plain.splitlines())


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_an_error_shows_a_name_that_does_nothing(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harmless(error(name, capsys))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_what_programs_read_has_the_name_whole(name: str) -> None:
    found = json.loads(written(document.write_json, name))
    assert {row["comm"] for row in found["processes"]} == {name}
    assert {row["name"] for row in found["vmas"]} == {f"/srv/{name}", f"[anon:{name}]"}
    rows = list(csv.DictReader(StringIO(written(document.write_csv, name), newline="")))
    assert len(rows) == 2
    assert not [cell for row in rows for cell in row.values() if cell[:1] in "=+-@" and cell]
    samples = [
        sample
        for family in text_string_to_metric_families(generate_latest(metrics(name)).decode())
        for sample in family.samples
    ]
    assert len({sample.labels["comm"] for sample in samples if "comm" in sample.labels}) == 2
