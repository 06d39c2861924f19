"""`explain`, over a simulated kernel: when it ends, and where what it says goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXPLAIN = [sys.executable, "-m", "tests.simulated", "explain"]
OWN = ["-p", str(os.getpid())]


def explain(*arguments: str) -> str:
    done = subprocess.run([*EXPLAIN, *OWN, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_it_ends_when_its_time_is_over() -> None:
    said = explain("-d", "0.1")
    assert "Process 100, worker\n" in said
    assert "evidence: ptes_left_readonly.clean = 11" in said


def test_it_escapes_what_a_process_calls_itself() -> None:
    assert 'Process 101, a"b\\c\\n\\x1b[31m' in explain("-d", "0.1")


def test_json_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "why.json"
    assert explain("-d", "0.1", "--format", "json", "-o", str(path)) == ""
    document = json.loads(path.read_text())
    assert document["schema"] == 1
    assert len(document["explanations"]) == len(document["vmas"]) == 2
