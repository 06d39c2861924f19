"""`pte-trace` as a process: its streams, its exit status, how errors look."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import pte_trace

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [
        ("<&- 2>&-", 0, ""),
        ("<&- >&-", 1, "pte-trace: The output cannot be written: Bad file descriptor.\n"),
        ("<&- >&- 2>&-", 1, ""),
    ],
)
def test_a_closed_stream_is_a_reason_to_fail_where_it_is_written_to(
    closed: str, status: int, said: str
) -> None:
    command = f"exec {sys.executable} -m pte_trace lab list {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "is about one process"),
        (["-p", "1", "-p", str(os.getpid())], "is about one process"),
        (["-p", "1", "--", "ls"], "is about one process"),
        (["-d", "1", "--", "ls"], "up to its end"),
    ],
)
def test_explain_is_about_one_process_or_a_command(arguments: list[str], said: str) -> None:
    done = pte_trace("explain", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


# As where the extra `recordings` is not installed.
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(("pandas", "plotly", "pyarrow")))
from tests.simulated import Source, main
main(Source(once=False))
"""


def without_recordings(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("top", "-n", "2", "-i", "0.1"),
        ("run", "--format", "json", "--", "true"),
        ("explain", "--", "true"),
        ("record", "-i", "0.1", "-o", "{}/r.jsonl", "--", "true"),
        ("record", "-i", "0.1", "-o", "{}/r.csv", "--", "true"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_no_recordings_works_without_what_they_need(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = without_recordings(*(each.format(tmp_path) for each in arguments))
    assert (done.returncode, "pte-trace:" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "-o", "{}/r.parquet", "--", "true"),
        ("report", "{}/r.parquet"),
        ("compare", "{}/r.parquet", "{}/r.parquet"),
        ("top", "--replay", "{}/r.parquet"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_them_says_the_command_that_installs_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = without_recordings(*(each.format(tmp_path) for each in arguments))
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert re.fullmatch(
        r"pte-trace: Recordings, their pages and profiles need \w+, which is not installed here\.",
        said[-2],
    )
    assert said[-1].endswith(f"{sys.executable} -m pip install pandas plotly pyarrow protobuf")
    assert list(tmp_path.iterdir()) == []
