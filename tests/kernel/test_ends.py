"""However it ends: nothing is left in the kernel, what was counted is kept, the status tells."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import Finished, until_recorded

pytestmark = [pytest.mark.once, pytest.mark.timeout(900), pytest.mark.usefixtures("leaves_nothing")]

PTE_TRACE = (sys.executable, "-m", "pte_trace")
LITTLE = ("--inspect", "none", "--costs", "none")
TOP = (*PTE_TRACE, "top", *LITTLE, "-i", "0.5")
# A recorder's status when it is sent that.
RECORDERS = {
    signal.SIGTERM: 0,
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGSEGV: -signal.SIGSEGV,
}


@dataclass(frozen=True)
class Started:
    """What is to be ended: one process each, and the terminal that one of them is on."""

    place: Path
    recorders: Mapping[signal.Signals, subprocess.Popen[bytes]]
    run: subprocess.Popen[bytes]
    piped: subprocess.Popen[bytes]
    live: subprocess.Popen[bytes]
    terminal: int

    def recording(self, number: signal.Signals) -> Path:
        return self.place / f"{number.name}.parquet"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, leaves_nothing: None) -> Iterator[Started]:
    """All at once."""
    place = tmp_path_factory.mktemp("ends")
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color"}
    with ExitStack() as stack:

        def start(*command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(command, stderr=subprocess.PIPE, env=environ, **options)
            )
            stack.callback(process.kill)
            return process

        started = Started(
            place,
            {
                number: start(
                    *(*PTE_TRACE, "record", *LITTLE, "-i", "0.5"),
                    *("-o", place / f"{number.name}.parquet"),
                )
                for number in RECORDERS
            },
            start(
                *(*PTE_TRACE, "run", *LITTLE, "--format", "json", "-o", place / "run"),
                *("--", "sh", "-c", "echo up >&2; exec sleep 1000"),
                start_new_session=True,
            ),
            start(*TOP, stdout=subprocess.PIPE),
            start("setsid", "--ctty", *TOP, stdin=theirs, stdout=theirs),
            ours,
        )
        os.close(theirs)
        yield started


@pytest.mark.parametrize("number", RECORDERS, ids=lambda number: number.name)
def test_a_recorder_that_is_ended_leaves_what_it_recorded(
    started: Started, pte_trace: Any, number: signal.Signals
) -> None:
    recorder, path = started.recorders[number], started.recording(number)
    until_recorded(recorder, path)
    recorder.send_signal(number)
    recorder.communicate()
    assert recorder.returncode == RECORDERS[number]

    report: Finished = pte_trace("report", path, "--format", "json")
    assert report.status == 0, report.stderr
    found = json.loads(report.stdout)
    assert found["recording"]["ended"] is (RECORDERS[number] == 0)
    assert found["recording"]["intervals"] >= 1
    assert sum(found["totals"]["write_faults"].values()) > 0


def test_ctrl_c_reaches_the_command_and_the_report_comes(started: Started) -> None:
    run = started.run
    assert run.stderr is not None
    assert run.stderr.readline() == b"up\n"
    os.killpg(run.pid, signal.SIGINT)
    assert (run.stderr.read(), run.wait()) == (b"", 128 + signal.SIGINT)
    found = json.loads((started.place / "run").read_text())
    assert sum(found["totals"]["write_faults"].values()) > 0


def test_a_reader_that_goes_away_ends_it_without_a_word(started: Started) -> None:
    piped = started.piped
    assert piped.stdout is not None
    assert piped.stdout.readline().startswith(b"Linux ")
    piped.stdout.close()
    assert piped.stderr is not None
    assert (piped.stderr.read(), piped.wait()) == (b"", 1)


def test_a_terminal_that_is_closed_ends_the_live_view_without_a_word(started: Started) -> None:
    shown = b""
    while b"FAULTS" not in shown:
        shown += os.read(started.terminal, 4096)
    os.close(started.terminal)
    _, said = started.live.communicate()
    assert (started.live.returncode, said) == (128 + signal.SIGHUP, b"")
