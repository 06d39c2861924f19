"""`pte-trace` as a process: its streams, its exit status, how errors look."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import pte_trace


def test_a_file_that_cannot_be_written_is_one_sentence_and_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "none" / "out"
    done = pte_trace("top", "-n", "1", "-o", path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"pte-trace: {path} cannot be written: No such file or directory.\n"
        "  Give -o a file you may write.\n"
    )


def test_a_wrong_option_is_told_without_a_traceback() -> None:
    done = pte_trace("--colour")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr
    assert "--help" in done.stderr


def test_a_command_that_ends_well_has_status_0() -> None:
    done = pte_trace("--version")
    assert done.returncode == 0
    assert re.search(r"\d+\.\d+", done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("option", "name"), [("--cgroup", "cgroup's path"), ("-c", "process name")]
)
def test_an_empty_filter_is_none(option: str, name: str) -> None:
    done = pte_trace("top", option, "")
    assert done.returncode == 2
    assert f"{name} cannot be empty." in done.stderr


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"]])
def test_a_full_disk_is_told_without_a_traceback(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pte_trace", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "pte-trace: The output cannot be written: No space left on device.\n"
        "  Free some space, or send the output elsewhere.\n"
    )


def test_a_reader_that_is_gone_ends_it_silently() -> None:
    receiver, sender = os.pipe()
    os.close(receiver)
    with os.fdopen(sender, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "pte_trace", "doctor"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ""


def test_closed_streams_are_no_reason_to_fail() -> None:
    command = f"exec {sys.executable} -m pte_trace lab list <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "is about one process"),
        (["-p", "1", "-p", "2"], "is about one process"),
        (["-p", "1", "--", "ls"], "is about one process"),
        (["-d", "1", "--", "ls"], "up to its end"),
    ],
)
def test_explain_is_about_one_process_or_a_command(arguments: list[str], said: str) -> None:
    done = pte_trace("explain", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
