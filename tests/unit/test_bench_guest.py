"""What a benchmark's program says of figures that are not as recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.table import Table

from tests.bench import guest

RECORDED = {"release": "6.1", "ways": {"empty": {"fault": 1000.0}, "gone": {"fault": 7}}}


def test_what_is_not_as_recorded_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(RECORDED))
    found = {"release": "6.1", "ways": {"empty": {"fault": 1006.0}, "new": {"fault": 3}}}
    guest.record(found, Table("shown"), path)
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [
        "ways, empty, fault: 1,006, was 1,000",
        "ways, new, fault: 3, was not measured",
        "ways, gone, fault: not measured, was 7",
    ]
    assert json.loads(path.read_text()) == found


def test_what_is_as_recorded_is_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(RECORDED))
    guest.record(RECORDED, Table("shown"), path)
    assert "was" not in capsys.readouterr().out
