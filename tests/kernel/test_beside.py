"""Two of us at once, beside bpftrace and perf on the same functions: all count the same."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import LITTLE, WORKLOADS, Finished, until_recorded

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("leaves_nothing"),
]

PTE_TRACE = (sys.executable, "-m", "pte_trace")
COUNTED = ("protection_changes", "ptes_changed", "write_faults")
PAGES = 23
START = 0x600000000000
END = START + PAGES * 4096
WRITE = 1  # FAULT_FLAG_WRITE

BPFTRACE = f"""
kfunc:handle_mm_fault /args->flags & {WRITE} && args->address >= {START} && args->address < {END}/
{{ @faults = count(); }}
kretfunc:do_wp_page /args->vmf->address >= {START} && args->vmf->address < {END}/
{{ @wp = count(); }}
kprobe:change_protection /((struct vm_area_struct *)arg1)->vm_start == {START}/
{{ @changes = count(); }}
"""
PROBES = Path("/sys/kernel/tracing/kprobe_events")
PERF_EVENT = "pte_trace_test:written"  # faults is a word of perf's own
PROBE = PERF_EVENT.replace(":", "/")
PERF_PROBE = f"p:{PROBE} handle_mm_fault address=%si:u64 flags=%dx:u32\n"
PERF_FILTER = f"flags & {WRITE} && address >= {START} && address < {END}"


@pytest.fixture
def perf_event() -> Iterator[None]:
    """As `perf probe` makes it, which takes a minute to look for what is not needed."""
    _write(PERF_PROBE)
    yield
    _write(f"-:{PROBE}\n")


def _write(line: str) -> None:
    probes = os.open(PROBES, os.O_WRONLY)  # truncated it loses all, and it has no end to seek
    os.write(probes, line.encode())
    os.close(probes)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`record` of what is called toggle, which has begun."""
    path = tmp_path / "recorded.parquet"
    command = (*PTE_TRACE, "record", *LITTLE, "-c", "toggle", "-i", "0.5", "-o", path)
    with subprocess.Popen(command) as process:
        until_recorded(process, path)
        yield process, path
        process.kill()


def figures(rows: list[dict[str, Any]], account: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted in the workload's mapping."""
    (row,) = (
        row for row in rows if (row["start"], row["pid"]) == (account["start"], account["pid"])
    )
    return {name: row[name] for name in COUNTED}


def test_all_count_the_same(
    session: Session,
    pte_trace: Callable[..., Finished],
    recorder: tuple[subprocess.Popen[bytes], Path],
    perf_event: None,
    tmp_path: Path,
) -> None:
    """A workload whose every write is a fault, before and after its protection is toggled."""
    ran, counted = tmp_path / "run", tmp_path / "perf"
    run = (*PTE_TRACE, "run", *LITTLE, "--attach", "kprobe", "--format", "json", "-o", ran, "--")
    perf = ("perf", "stat", "-x,", "-o", counted, "-e", PERF_EVENT, "--filter", PERF_FILTER, "--")
    workload = (WORKLOADS / "toggle", PAGES, "only-read")
    script = tmp_path / "script"
    script.write_text(f"exec {shlex.join(map(str, (*perf, *run, *workload)))}\n")
    before = document(session.read())["health"]
    with session.following():
        done = subprocess.run(
            ["bpftrace", "-e", BPFTRACE, "-c", f"/bin/sh {script}"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found = document(session.read())
    recording, recorded = recorder
    recording.send_signal(signal.SIGTERM)
    assert recording.wait() == 0

    (account,) = (json.loads(line) for line in done.stdout.splitlines() if '"faults"' in line)
    ours = figures(found["vmas"], account)
    assert ours["write_faults"]["wp_copy"] == sum(ours["write_faults"].values()) == PAGES
    assert ours["protection_changes"]["mprotect"] == 2
    by_kprobes = json.loads(ran.read_text())
    assert {hook["how"] for hook in by_kprobes["hooks"].values()} == {"kprobe"}
    assert figures(by_kprobes["vmas"], account) == ours
    report = json.loads(pte_trace("report", recorded, "--format", "json").stdout)
    assert figures(report["vmas"], account) == ours

    assert account["faults"] == PAGES
    bpftrace = dict(re.findall(r"^@(\w+): (\d+)$", done.stdout, re.MULTILINE))
    assert bpftrace == {"faults": str(PAGES), "wp": str(PAGES), "changes": "2"}
    perf_stat = [line.split(",") for line in counted.read_text().splitlines() if PERF_EVENT in line]
    assert [fields[0] for fields in perf_stat] == [str(PAGES)]
    for loss in ("map_full", "missed_runs"):
        assert found["health"][loss] == before[loss]
