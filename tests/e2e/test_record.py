"""One program recorded on two kernels, and compared: without the optimization and with it.

COMPARED names other kernels of the lab than these two: COMPARED="unpatched patched".
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.command import pte_trace
from tests.e2e.browser import DESKTOP, console, measure, screenshot
from tests.e2e.fleet import ROOT
from tests.rows import counted

# Two guests under emulation, in each of which pte-trace starts four times.
pytestmark = pytest.mark.timeout(3600)

WITHOUT, WITH = os.environ.get("COMPARED", "bullseye bookworm").split()
RUNS = 5
# See tests/workloads/demo.c: toggled and rewritten by itself, beside a child, only read before.
PAGES = {0x600000000000: 1009, 0x600000431000: 499, 0x600000664000: 251}
ALONE, *_ = PAGES
SAVED = 10 * PAGES[ALONE]
# What the C library and its loader write to may be so many pages more on another kernel.
MORE_OR_LESS = 50
# Faults on these up to Linux 5.17 copy pages that wait in a CPU's LRU batch: how many is chance.
REUSE_OR_COPY = ("write_faults", "fault_ns")


def _record(kernel: str, directory: Path) -> None:
    command = [
        *(sys.executable, "-m", "pte_trace", "lab", "run", "--kernel", kernel),
        *("--cpus", "1", "--memory", "2G", "--timeout", "3000", "--rwdir", str(directory), "--"),
        *("sh", str(ROOT / "tests/e2e/record.sh"), str(directory), str(ROOT / "build/workloads")),
    ]
    with (directory / "log").open("wb") as log:
        status = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
    assert status == 0, (directory / "log").read_text(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kernel, the directory of what was counted there."""
    directories = {kernel: tmp_path_factory.mktemp(kernel) for kernel in (WITHOUT, WITH)}
    with ThreadPoolExecutor() as guests:
        list(guests.map(_record, directories, directories.values()))
    return directories


@pytest.fixture(scope="module")
def compared(recorded: dict[str, Path]) -> Callable[..., str]:
    """What `compare` says of the two, with these options."""
    recordings = [directory / "recorded.parquet" for directory in recorded.values()]

    def compare(*options: object) -> str:
        done = pte_trace("compare", *recordings, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return compare


def _report(directory: Path, name: str) -> dict[str, Any]:
    done = pte_trace("report", directory / f"{name}.parquet", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_text_says_what_the_optimization_did(compared: Callable[..., str]) -> None:
    text = compared()
    without, with_, *lines = text.splitlines()

    assert without.startswith("A: ")
    assert f"{RUNS} runs of" in without
    assert "mprotect optimization absent" in without
    assert "this kernel lacks the optimization" in without
    assert with_.startswith("B: ")
    assert "mprotect optimization at work" in with_
    assert f"{RUNS * SAVED:,} PTEs writable at once" in with_
    for metric in ("write faults", "wp_reuse", "PTEs made writable", "efficacy"):
        (line,) = (line for line in lines if line.startswith(f"{metric}  "))
        assert line.rstrip().endswith("beyond the noise"), line
    assert "Events were lost" not in text
    assert "Different commands" not in text


def test_the_counts_say_it_too(recorded: dict[str, Path], compared: Callable[..., str]) -> None:
    found = json.loads(compared("--format", "json"))
    metrics = {metric["name"]: metric for metric in found["metrics"]}

    def runs(name: str) -> list[list[float]]:
        return [each["runs"] for each in metrics[name]["recordings"]]

    assert [each["kernel"]["optimization"] for each in found["recordings"]] == [False, True]
    assert runs("PTEs made writable") == [[0] * RUNS, [SAVED] * RUNS]
    assert runs("efficacy")[0] == [0] * RUNS
    assert min(runs("efficacy")[1]) > 0.99
    assert abs(metrics["write faults"]["differences"][0]["difference"] + SAVED) < MORE_OR_LESS
    reports = [_report(directory, "recorded") for directory in recorded.values()]
    for outcome in ("wp_reuse", "wp_copy", "other"):
        assert runs(outcome) == [
            [run["totals"]["write_faults"][outcome] for run in report["runs"]] for report in reports
        ]


def test_the_page_says_it_too(
    recorded: dict[str, Path], compared: Callable[..., str], tmp_path: Path
) -> None:
    page = tmp_path / "compared.html"
    compared("--html", page)
    shown = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)

    assert "mprotect optimization absent" in shown
    assert "mprotect optimization at work" in shown
    assert f"{RUNS * SAVED:,} PTEs writable at once" in shown
    for metric in ("write faults", "wp_reuse", "PTEs made writable", "efficacy"):
        (row,) = re.findall(rf"<tr><td>{metric}</td>.*?</tr>", shown)
        assert "beyond the noise" in row
    assert console(page) == []
    drawn = measure(
        page,
        DESKTOP,
        """() => [...document.querySelectorAll(".js-plotly-plot")].map((plot) => [
            plot.querySelector(".gtitle").textContent,
            plot.querySelectorAll(".point, .box").length,
        ])""",
    )
    assert "Write faults, by outcome" in dict(drawn)
    assert "PTEs made writable, or left read-only" in dict(drawn)
    assert all(number for _, number in drawn)
    screenshot(page, f"compare-{WITHOUT}-{WITH}", DESKTOP, 2000)


@pytest.mark.parametrize("kernel", [WITHOUT, WITH])
def test_the_totals_are_those_of_run(recorded: dict[str, Path], kernel: str) -> None:
    """Of one execution, which both counted."""
    report = _report(recorded[kernel], "both")
    (program,) = report["recording"]["options"]["pids"]
    run = json.loads((recorded[kernel] / "both.json").read_text())

    for document in (report, run):
        assert document["health"]["missed_runs"] == document["health"]["map_full"] == 0
    assert counted(report["totals"]) == counted(
        *(process for process in run["processes"] if process["pid"] == program)
    )
    assert report["totals"]["ptes_changed"] >= 2 * PAGES[ALONE]


@pytest.mark.parametrize("kernel", [WITHOUT, WITH])
@pytest.mark.parametrize("start", PAGES, ids=hex)
def test_each_run_is_counted_as_run_does(
    recorded: dict[str, Path], kernel: str, start: int
) -> None:
    report = _report(recorded[kernel], "recorded")
    run = json.loads((recorded[kernel] / "run.json").read_text())
    rows, (expected,) = (
        [_by_no_chance(row, start) for row in document["vmas"] if row["start"] == hex(start)]
        for document in (report, run)
    )

    assert len(report["runs"]) == RUNS
    assert rows == [expected] * RUNS
    assert expected["write_faults.other"] in (0, PAGES[start])


def _by_no_chance(row: dict[str, Any], start: int) -> dict[str, int]:
    found = counted(row)
    if start == ALONE:
        for name in REUSE_OR_COPY:
            found[f"{name}.wp_reuse or wp_copy"] = found.pop(f"{name}.wp_reuse") + found.pop(
                f"{name}.wp_copy"
            )
    return found
