"""However it ends: what was counted is printed or saved, and the exit status says how."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pte_trace.counted.counters import WRITE_FAULTS
from tests.simulated import RECORDS

# The first reading that is taken while a command runs leaves a file, for which it can wait.
RUN = """
from pathlib import Path
from tests.simulated import Source, main

class Told(Source):
    def gather(self):
        brought = super().gather()
        Path("read").touch()
        return brought

main(Told(once=False))
"""
# A signal comes before the command has been started.
EARLY = """
import os
from contextlib import contextmanager
from tests.simulated import Source, main

class Interrupted(Source):
    @contextmanager
    def following(self):
        os.kill(os.getpid(), {number})
        with super().following():
            yield

main(Interrupted(once=False))
"""
WAIT = "until [ -e read ]; do :; done; "
SIMULATED = (sys.executable, "-m", "tests.simulated")
READING = sum(record.counts.sum(WRITE_FAULTS) for record in RECORDS)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def faults(text: str) -> int:
    """All write faults of a JSON document."""
    return sum(json.loads(text)["totals"]["write_faults"].values())


def traced(place: Path, script: str) -> subprocess.Popen[str]:
    """`pte-trace run` of *script*, in *place*; the report is saved in `report` there."""
    arguments = ("run", "--format", "json", "-o", "report", "--", "sh", "-c", WAIT + script)
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE])
def test_a_command_ended_by_a_signal_is_reported_with_all_readings(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = traced(tmp_path, f"kill -{number.value} $$")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "")
    # One while it ran, or more, and one when it had ended.
    assert faults((tmp_path / "report").read_text()) >= 2 * READING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_the_report_comes(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = traced(tmp_path, "echo waiting >&2; exec sleep 1000")
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "")
    assert faults((tmp_path / "report").read_text()) >= 2 * READING


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = traced(tmp_path, "kill -HUP $PPID; exit 7")
    finally:
        signal.signal(signal.SIGHUP, before)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (7, "")


@contextmanager
def top(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`pte-trace top`, into a pipe, after its first interval."""
    with subprocess.Popen(
        [*SIMULATED, "top", "--format", "json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert faults(process.stdout.readline()) == READING
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", ENDING)
def test_the_interval_that_a_signal_cuts_short_is_shown(number: signal.Signals) -> None:
    with top("-i", "0.5") as process:
        process.send_signal(number)
        shown, said = process.communicate(timeout=60)
    assert shown
    assert all(faults(line) == READING for line in shown.splitlines())
    assert (process.returncode, said) == (0, "")


def test_a_reader_that_goes_away_ends_it_without_a_word() -> None:
    with top("-i", "0.1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_before_the_command_has_been_started_reaches_it(number: signal.Signals) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", EARLY.format(number=number.value)),
            *("run", "--format", "json", "--", "sleep", "1000"),
        ],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (128 + number, "")
    assert faults(done.stdout) == READING


@contextmanager
def on_a_terminal(*arguments: str | Path, until: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """`pte-trace` on a terminal that is closed when it has shown *until*."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", *SIMULATED, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:
        try:
            os.close(theirs)
            shown = b""
            while until not in shown:
                shown += os.read(ours, 4096)
            os.close(ours)
            yield process
        finally:
            process.kill()


def test_a_terminal_that_is_closed_ends_the_command_and_the_report_is_saved(tmp_path: Path) -> None:
    report = tmp_path / "report"
    command = ("sh", "-c", "echo up; exec sleep 1000")
    with on_a_terminal("run", "-o", report, "--", *command, until=b"up") as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.SIGHUP, b"")
    assert "worker" in report.read_text()


def test_a_terminal_that_is_closed_ends_the_live_view_without_a_word() -> None:
    with on_a_terminal("top", "-i", "0.1", until=b"FAULTS") as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.SIGHUP, b"")
