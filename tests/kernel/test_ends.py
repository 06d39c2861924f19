"""However it ends: nothing is left in the kernel, what was counted is kept, the status tells."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pte_trace import user_cache
from tests.kernel import leftovers
from tests.kernel.conftest import LITTLE, Finished, until_recorded

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(1500),
    pytest.mark.usefixtures("leaves_nothing"),
]

PTE_TRACE = (sys.executable, "-m", "pte_trace")
TRAMPOLINES, KPROBES = ("--attach", "fentry"), (*LITTLE, "--attach", "kprobe")
SELDOM = ("-i", "2")
TOP = (*PTE_TRACE, "top", *LITTLE, *SELDOM)
RECORD = (*PTE_TRACE, "record", *SELDOM)
RUN = (*PTE_TRACE, "run", *LITTLE)
# What the others find compiled: they would compile it at once, each for itself.
COMPILED_BEFORE = (
    (*TOP, "-n", "1"),
    (*RUN, "--", "true"),
    (*PTE_TRACE, "top", *TRAMPOLINES, "-n", "1"),
)
# What a recorder is sent, how it records, and its status then.
RECORDERS = (
    (signal.SIGTERM, LITTLE, 0),
    (signal.SIGHUP, LITTLE, 0),
    (signal.SIGSEGV, LITTLE, -signal.SIGSEGV),
    (signal.SIGKILL, TRAMPOLINES, -signal.SIGKILL),
    (signal.SIGKILL, KPROBES, -signal.SIGKILL),
)
# What `run` is sent while its command sleeps. Ctrl-C reaches the command too, as on a terminal.
SIGNALS = (signal.SIGINT, signal.SIGHUP)
SLEEPING = ("sh", "-c", "echo up >&2; exec sleep 1000")
READING = ("sh", "-c", "echo up >&2; read _")
# Where it is saved, what is started, and how the traced command ends itself.
REPORTED, RECORDED = "run.json", "record.parquet"
DEATHS = {
    REPORTED: ((*RUN, "--format", "json"), signal.SIGKILL),
    RECORDED: ((*RECORD, *LITTLE), signal.SIGABRT),
}

Process = subprocess.Popen[bytes]
Command = Callable[..., Finished]


def recorded(place: Path, number: signal.Signals, ways: tuple[str, ...]) -> Path:
    return place / f"{number.name}-{ways[-1]}.parquet"


@dataclass(frozen=True)
class Started:
    """What is to be ended, or ends itself: one process each, and the terminal that one is on."""

    place: Path
    recorders: Mapping[Path, Process]
    runs: Mapping[signal.Signals, Process]
    dying: Mapping[str, Process]
    printing: Process
    piped: Process
    live: Process
    terminal: int


@pytest.fixture(scope="module")
def compiled(leaves_nothing: None) -> None:
    """By all at once: there are as many CPUs, or fewer."""
    before = [subprocess.Popen(each, stdout=subprocess.DEVNULL) for each in COMPILED_BEFORE]
    assert [each.wait() for each in before] == [0] * len(before)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, compiled: None) -> Iterator[Started]:
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

        recorders = {}
        for number, ways, _ in RECORDERS:
            path = recorded(place, number, ways)
            recorders[path] = start(*RECORD, *ways, "-o", path)
        runs = {
            number: start(
                *(*RUN, "--format", "json", "-o", place / number.name, "--", *SLEEPING),
                start_new_session=True,
            )
            for number in SIGNALS
        }
        dying = {
            name: start(*words, "-o", place / name, "--", "sh", "-c", f"kill -{number.value} $$")
            for name, (words, number) in DEATHS.items()
        }
        started = Started(
            place,
            recorders,
            runs,
            dying,
            start(
                *(*RUN, "--format", "json", "--", *READING),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ),
            start(*TOP, stdout=subprocess.PIPE),
            start("setsid", "--ctty", *TOP, stdin=theirs, stdout=theirs),
            ours,
        )
        os.close(theirs)
        yield started


def report(pte_trace: Command, path: Path) -> Any:
    """What `report` says of a recording."""
    done = pte_trace("report", path, "--format", "json")
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["recording"]["intervals"] >= 1
    assert faults(found) > 0
    return found["recording"]


def faults(document: Any) -> int:
    return sum(document["totals"]["write_faults"].values())


@pytest.mark.parametrize(
    ("number", "ways", "status"),
    [pytest.param(*each, id=f"{each[0].name}-{each[1][-1]}") for each in RECORDERS],
)
def test_a_recorder_that_is_ended_leaves_what_it_recorded(
    started: Started,
    pte_trace: Command,
    number: signal.Signals,
    ways: tuple[str, ...],
    status: int,
) -> None:
    path = recorded(started.place, number, ways)
    recorder = started.recorders[path]
    until_recorded(recorder, path)
    recorder.send_signal(number)
    recorder.communicate()
    assert recorder.returncode == status
    assert report(pte_trace, path)["ended"] is (status == 0)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_the_command_and_the_report_comes(
    started: Started, number: signal.Signals
) -> None:
    run = started.runs[number]
    assert run.stderr is not None
    assert run.stderr.readline() == b"up\n"
    if number is signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    assert (run.stderr.read(), run.wait()) == (b"", 128 + number)
    assert faults(json.loads((started.place / number.name).read_text())) > 0


def test_a_command_that_a_signal_ends_is_reported(started: Started) -> None:
    run, (_, number) = started.dying[REPORTED], DEATHS[REPORTED]
    _, said = run.communicate()
    assert (run.returncode, said) == (128 + number, b"")
    assert faults(json.loads((started.place / REPORTED).read_text())) > 0


def test_a_command_that_a_signal_ends_is_recorded(started: Started, pte_trace: Command) -> None:
    record, (_, number) = started.dying[RECORDED], DEATHS[RECORDED]
    _, said = record.communicate()
    assert record.returncode == 128 + number, said
    assert report(pte_trace, started.place / RECORDED)["ended"] is True


def test_a_report_that_nobody_reads_is_dropped_without_a_word(started: Started) -> None:
    run = started.printing
    assert run.stdin is not None
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stderr.readline() == b"up\n"
    run.stdout.close()
    run.stdin.close()
    assert (run.stderr.read(), run.wait()) == (b"", 1)


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


def test_files_that_would_be_left_are_found() -> None:
    """The temporary ones, and those of the cache that are not whole."""
    programs = user_cache.directory() / "programs"
    before = leftovers.now()
    with (
        tempfile.NamedTemporaryFile() as temporary,
        tempfile.NamedTemporaryFile(prefix=f"{'0' * 64}.json.", dir=programs) as part,
    ):
        found = leftovers.now()["files"] - before["files"]
    names = (temporary.name, part.name)
    assert sorted(Path(each).name for each in found) == sorted(Path(each).name for each in names)
