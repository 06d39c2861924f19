"""`record`: what it refuses before anything is traced, and the lines of text it can write."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pte_trace.views import document
from pte_trace.views.lines import CsvLines, JsonLines
from tests.builders import record, snapshot
from tests.command import pte_trace
from tests.recordings import interval, metadata

MOMENTS = ["2026-03-01T12:00:01.000000+00:00", "2026-03-01T12:00:02.000000+00:00"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "r.txt"], "has none of the endings of a recording"),
        (["-o", "r.parquet", "-r", "2"], "There is no command to repeat"),
        (["-o", "/no/such/directory/r.parquet"], "cannot be written: No such file"),
        ([], "Missing option '-o'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    done = pte_trace("record", *arguments)

    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(("ending", "needed"), [("csv", "[]"), ("parquet", "['pyarrow']")])
def test_arrow_is_not_imported_for_lines_of_text(ending: str, needed: str) -> None:
    script = (
        "import sys; from pathlib import Path; from pte_trace.commands.record import _recorder; "
        f"_recorder(Path('r.{ending}')); "
        "print(sorted({'pyarrow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == needed


def test_json_lines_are_metadata_and_a_document_for_each_interval(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = JsonLines(path, metadata(command=("./program",)))
    for second in (1, 2):
        lines.add(interval(snapshot(record()), second))
        assert len(path.read_text().splitlines()) == 1 + second
    lines.finish()

    about, *documents = map(json.loads, path.read_text().splitlines())
    assert about == metadata(command=("./program",)).document()
    assert [each.pop("time") for each in documents] == MOMENTS
    assert [each.pop("run") for each in documents] == [1, 1]
    assert documents == [document.document(snapshot(record()))] * 2


def test_csv_has_a_line_for_each_interval_and_mapping(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    lines = CsvLines(path, metadata())
    for second in (1, 2):
        lines.add(interval(snapshot(record(), record(pid=7, image=2)), second, run=second))
        assert len(path.read_text().splitlines()) == 1 + 2 * second
    lines.finish()

    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["time"] for row in rows] == [each for each in MOMENTS for _ in range(2)]
    assert [(row["run"], row["pid"]) for row in rows] == [
        *(("1", "7"), ("1", "100")),
        *(("2", "7"), ("2", "100")),
    ]
    assert {row["write_faults_other"] for row in rows} == {"1"}
