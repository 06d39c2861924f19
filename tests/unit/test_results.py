"""docs/results.py: what it takes for a result, and what it writes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pte_trace.counted.counters import OUTCOMES
from tests.scripts import script

SIZES = (4096, 16384, 65536, 524288)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("results")
    monkeypatch.setattr(module, "_FILE", tmp_path / "results.md")
    monkeypatch.setattr("sys.argv", ["results.py"])
    return module


def write(average: float, **faults: int) -> dict[str, Any]:
    return {
        "min_ns": average,
        "max_ns": average,
        "avg_ns": average,
        "write_faults": {outcome: faults.get(outcome, 0) for outcome in OUTCOMES},
    }


def micro(ratio: float, reused: bool) -> dict[str, Any]:
    """The document of a kernel on which a write after mprotect costs *ratio* second writes."""
    return {
        "kernel": {"release": "6.1.0-test"},
        "iterations": 1000,
        "lost_events": 0,
        "cases": [
            {
                "size": size,
                "access": access,
                "writes": {
                    "first": write(20000, other=size // 4096),
                    "second": write(100),
                    "mprotect": write(
                        100 * ratio, **({"wp_reuse": size // 4096} if reused else {})
                    ),
                    "soft_dirty": write(1000, wp_reuse=size // 4096),
                },
                "mprotect_to": {"second": ratio, "soft_dirty": ratio / 10},
            }
            for size in SIZES
            for access in ("memset", "byte_per_page")
        ],
    }


def heap(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """What the program told, and what was counted of it."""
    told = {"start": "0x7f00", "phases": {"filled": {"faults": 195, "thp_split_pmd": 2}}}
    row = {
        "start": "0x7f00",
        "write_faults": {"other": 192, "wp_reuse": 360},
        "pmds_split": 24,
        "ptes_made_writable": 12288,
        "pmds_made_writable": 168,
        "pmds_left_readonly": {"huge": 168, "shared": 0},
    }
    lines = (json.dumps(each).encode() for each in (told, {"vmas": [{"start": "0x1"}, row]}))
    return subprocess.CompletedProcess(command, 0, b"\n".join(lines), b"")


def run(
    results: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    unpatched: dict[str, Any],
    patched: dict[str, Any],
) -> None:
    macro = {"seconds": 12.5, "write_faults": write(0)["write_faults"], "lost_events": 0}

    def lab_run(
        kernel: str, command: Sequence[str], *, icount: bool = False, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        assert timeout
        if not icount:
            return heap(command)
        document = (
            macro if "--size" in command else {"unpatched": unpatched, "patched": patched}[kernel]
        )
        return subprocess.CompletedProcess(command, 0, json.dumps(document).encode(), b"")

    monkeypatch.setattr(results.lab, "run", lab_run)
    results.main()


def test_what_must_be_shown_is_written(
    results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(results, monkeypatch, micro(8, True), micro(1, False))
    page = results._FILE.read_text()
    assert "| 16 KiB | memset | 8.00 | 4 wp_reuse | 1.00 | none | 1.13 |" in page
    assert "| 512 KiB | a byte per page | 0.80 | 128 wp_reuse | 0.10 | none | 0.023 |" in page
    assert "| time | 12.5 s | 12.5 s | 1.00 |" in page
    assert "| posted: time | 6.398 s | 3.780 s | 1.69 |" in page
    assert "| filled | 195 | 2 | 195 | 2 |" in page
    assert "| write faults | 192 other, 360 wp_reuse | 192 other, 360 wp_reuse |" in page
    assert "| PMDs left read-only | 168 huge | 168 huge |" in page


def test_the_last_section_alone_can_be_made_anew(
    results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    results._FILE.write_text("# The first\n\n## A heap of huge pages\n\nas it was\n")
    monkeypatch.setattr("sys.argv", ["results.py", "heap"])
    run(results, monkeypatch, {}, {})
    page = results._FILE.read_text()
    assert page.startswith("# The first\n\n## A heap of huge pages\n\nA Python program")
    assert "as it was" not in page


@pytest.mark.parametrize(
    ("unpatched", "patched", "said"),
    [
        (micro(8, True), micro(1.31, False), "patched, memset of 4096 bytes: 1.31 times"),
        (micro(1.9, True), micro(1, False), "unpatched, memset of 16384 bytes: only 1.90 times"),
        (micro(8, False), micro(1, False), "unpatched, memset of 4096 bytes: faults"),
        (micro(8, True), micro(1, True), "patched, memset of 4096 bytes: faults"),
    ],
)
def test_what_is_not_shown_is_told_and_nothing_is_written(
    results: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    unpatched: dict[str, Any],
    patched: dict[str, Any],
    said: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(results, monkeypatch, unpatched, patched)
    assert said in str(caught.value)
    assert not results._FILE.exists()
