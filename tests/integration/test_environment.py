"""What the environment of who called us cannot do: have us load what is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pte_trace.bench import compiler
from tests import hostile

COMMAND = Path(sys.executable).with_name("pte-trace")


def test_python_loads_nothing_that_the_environment_names(tmp_path: Path) -> None:
    environment = hostile.fill(tmp_path)
    done = subprocess.run(
        [COMMAND, "--version"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert hostile.used(tmp_path) == ""


def test_the_compiler_of_the_benchmark_reads_nothing_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("evil", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(os, "environ", hostile.fill(tmp_path / "evil"))
    before = sorted((tmp_path / "evil").iterdir())
    assert compiler.program(tmp_path / "cache").exists()
    assert hostile.used(tmp_path / "evil") == ""
    assert sorted((tmp_path / "evil").iterdir()) == before


def test_a_command_in_a_users_directory_finds_debians_python(tmp_path: Path) -> None:
    (tmp_path / "pte-trace").write_bytes(COMMAND.read_bytes())
    (tmp_path / "pte-trace").chmod(0o755)
    shown = subprocess.run(
        ["sh", "-x", tmp_path / "pte-trace", "--version"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "exec /usr/bin/python3 -I -m pte_trace --version" in shown
