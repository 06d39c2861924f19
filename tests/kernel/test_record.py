"""Recordings of a real kernel: as `run` counts, in every format, compared."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import WORKLOADS, Finished, until_recorded
from tests.rows import counted

Command = Callable[..., Finished]
PAGES = 23
MAPPING = "0x600000000000"


def measured(document: dict[str, Any]) -> dict[str, int]:
    """What was counted in the workload's mapping."""
    (row,) = (row for row in document["vmas"] if row["start"] == MAPPING)
    return counted(row)


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
    expected = json.loads(ran.read_text())
    assert measured(document) == measured(expected)
    for name in ("schema", "kernel", "hooks"):
        assert document[name] == expected[name]
    assert document["recording"]["facts"]["btf"] is True


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[str]]:
    """The workload, before its first instruction, until it gets a line."""
    script = 'read -r go; exec "$0" "$1"'
    with subprocess.Popen(
        ["sh", "-c", script, WORKLOADS / "toggle", str(PAGES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.once
@pytest.mark.timeout(900)
def test_a_recording_has_the_totals_of_run(
    pte_trace: Command, waiting: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Of one execution, which both count."""
    recorded, ran = tmp_path / "r.parquet", tmp_path / "run.json"
    command = (sys.executable, "-m", "pte_trace")
    this = ("-p", str(waiting.pid))
    record = (*command, "record", "-i", "0.5", "-o", recorded, *this)
    with subprocess.Popen(
        [*command, "run", "--format", "json", "-o", ran, *this, "--", *record]
    ) as both:
        until_recorded(both, recorded)
        waiting.communicate("go\n")
        assert both.wait() == 0

    report = json.loads(pte_trace("report", recorded, "--format", "json").stdout)
    run = json.loads(ran.read_text())
    assert report["health"]["missed_runs"] == run["health"]["missed_runs"] == 0
    rows = [process for process in run["processes"] if process["pid"] == waiting.pid]
    assert counted(report["totals"]) == counted(*rows)
    assert counted(*report["vmas"]) == counted(*report["processes"]) == counted(*rows)
    assert report["totals"]["ptes_changed"] >= 2 * PAGES


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


@pytest.mark.once
def test_two_recordings_are_compared(pte_trace: Command, tmp_path: Path) -> None:
    paths = [tmp_path / f"{pages}.parquet" for pages in (PAGES, 2 * PAGES)]
    for pages, path in zip((PAGES, 2 * PAGES), paths, strict=True):
        workload = (WORKLOADS / "toggle", pages)
        assert pte_trace("record", "-o", path, "-r", 3, "--", *workload).status == 0

    done = pte_trace("compare", *paths, "--format", "json")
    assert done.status == 0, done.stderr
    compared = json.loads(done.stdout)
    metrics = {metric["name"]: metric["recordings"] for metric in compared["metrics"]}
    (reservation,) = compared["reservations"]
    assert "Different commands" in " ".join(reservation["why"])
    reports = [
        json.loads(pte_trace("report", path, "--format", "json").stdout)["runs"] for path in paths
    ]
    for name, field in {
        "other": "write_faults.other",
        "PTEs changed": "ptes_changed",
        "PTEs made writable": "ptes_made_writable",
    }.items():
        expected = [[counted(run["totals"])[field] for run in runs] for runs in reports]
        assert [recording["runs"] for recording in metrics[name]] == expected
    fewer, more = (recording["median"] for recording in metrics["PTEs made writable"])
    assert more - fewer == PAGES


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
