"""Recordings of a real kernel: as `run` counts, in every format, compared."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import WORKLOADS, Finished

Command = Callable[..., Finished]
PAGES = 23
MAPPING = "0x600000000000"


def measured(document: dict[str, Any]) -> dict[str, Any]:
    """What was counted in the workload's mapping."""
    (row,) = (row for row in document["vmas"] if row["start"] == MAPPING)
    return {name: row[name] for name in ("protection_changes", "ptes_changed", "write_faults")}


@pytest.mark.once
def test_a_recording_counts_as_run_does(pte_trace: Command, tmp_path: Path) -> None:
    recorded, ran = tmp_path / "r.parquet", tmp_path / "run.json"
    workload = (WORKLOADS / "toggle", PAGES)
    done = pte_trace("record", "-o", recorded, "-i", 0.5, "--", *workload)
    assert done.status == 0, done.stderr
    assert "write faults" in done.stderr
    assert pte_trace("run", "--format", "json", "-o", ran, "--", *workload).status == 0

    report = pte_trace("report", recorded, "--format", "json")
    assert report.status == 0, report.stderr
    document = json.loads(report.stdout)
    assert measured(document) == measured(json.loads(ran.read_text()))
    assert document["kernel"] == json.loads(ran.read_text())["kernel"]
    assert document["recording"]["facts"]["btf"] is True


@pytest.mark.once
def test_each_run_is_told_apart_and_the_status_is_the_commands(
    pte_trace: Command, tmp_path: Path
) -> None:
    path = tmp_path / "r.parquet"
    script = f"{WORKLOADS}/toggle {PAGES} >/dev/null; exit 7"
    done = pte_trace("record", "-o", path, "-r", 3, "--", "sh", "-c", script)
    assert done.status == 7

    document = json.loads(pte_trace("report", path, "--format", "json").stdout)
    faults = [run["totals"]["write_faults"]["other"] for run in document["runs"]]
    assert len(faults) == 3
    assert min(faults) >= PAGES
    assert sum(faults) == document["totals"]["write_faults"]["other"]
    compared = pte_trace("compare", path, path)
    assert compared.status == 0
    assert "cannot be compared" not in compared.stdout


@pytest.mark.once
def test_the_text_formats_have_every_interval(pte_trace: Command, tmp_path: Path) -> None:
    for name in ("r.csv", "r.jsonl"):
        done = pte_trace("record", "-o", tmp_path / name, "--", WORKLOADS / "toggle", PAGES)
        assert done.status == 0, done.stderr

    with (tmp_path / "r.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["start"] == MAPPING]
    assert sum(int(row["write_faults_other"]) for row in rows) == PAGES
    metadata, *documents = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert metadata["command"] == [str(WORKLOADS / "toggle"), str(PAGES)]
    assert all(document["schema"] == 1 for document in documents)
