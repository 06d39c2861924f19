"""`explain`, over a simulated kernel: when it ends, and where what it says goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pte_trace.commands.explain import _note_children

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


def test_children_are_noted_as_long_as_they_live() -> None:
    seen: dict[int, set[int]] = {}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as living:
        _note_children(os.getpid(), seen)
        assert living.pid in seen[os.getpid()]
    with subprocess.Popen(["true"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        later: dict[int, set[int]] = {}
        _note_children(os.getpid(), later)
        assert zombie.pid not in later[os.getpid()]
        assert living.pid not in later[os.getpid()]


def test_of_a_process_that_is_gone_nothing_is_noted() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    seen: dict[int, set[int]] = {}
    _note_children(gone.pid, seen)
    assert seen == {}
