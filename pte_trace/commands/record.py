"""`pte-trace record`: intervals to a file, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import click

from pte_trace import __version__
from pte_trace.commands import child, options
from pte_trace.counted.counters import WRITE_FAULTS
from pte_trace.counted.snapshot import Snapshot
from pte_trace.errors import UsageError
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.session import Session
from pte_trace.views import diagnosis, lines, write
from pte_trace.views.printable import printable
from pte_trace.views.sentences import several


class Recorder(Protocol):
    """Where the intervals go."""

    def add(self, interval: Interval) -> None: ...

    def finish(self) -> None: ...


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The recording: FILE.parquet, .csv or .jsonl.",
)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    callback=options.seconds,
    show_default=True,
    metavar="SECONDS",
    help="Time between two readings.",
)
@click.option(
    "-r",
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Run the command so often; `compare` then knows its spread.",
)
@options.tracing(formats=())
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def record(
    request: options.Request,
    target: Path,
    interval: float,
    repeat: int,
    command: tuple[str, ...],
) -> None:
    """Record what happens, interval by interval, until COMMAND ends, or Ctrl-C.

    Without COMMAND the whole machine is recorded, or what the filters let through. FILE.parquet
    is what `report`, `compare`, `top --replay` and pte_trace.load() read; killed at any moment,
    it holds what was recorded up to the last interval. FILE.jsonl has a line of metadata and one
    JSON document for each interval, FILE.csv a line for each interval and mapping. The exit
    status is COMMAND's own; of several runs, of the last that failed.

    \b
    Examples:
      sudo pte-trace record -o faults.parquet -- ./program
      sudo pte-trace record -o faults.parquet -r 5 -- ./program
      sudo pte-trace record -o machine.parquet -i 10
      sudo pte-trace record -o one.jsonl -p 1234
    """
    if repeat > 1 and not command:
        raise UsageError("There is no command to repeat.", "Give it after --, or leave out -r.")
    make = _recorder(target)
    if command:
        request = replace(request, filters=replace(request.filters, children=True))
    with options.reserved(target), request.session(keep=False) as session:
        metadata = _metadata(session, request, interval, command)
        recording = _Recording(session, target, lambda: make(target, metadata), interval)
        session.start()
        status = recording.of_command(command, repeat) if command else recording.until_ended()
    with write.working(f"Writing {target}"):
        recording.finish()
    click.echo(f"{printable(str(target))}: {recording}.", err=True)
    click.get_current_context().exit(status or int(recording.failed))


def _recorder(path: Path) -> Callable[[Path, Metadata], Recorder]:
    """What writes the format that *path* asks for. Raises UsageError."""
    match path.suffix:
        case ".parquet":
            from pte_trace.recording import writing

            return writing.Recorder
        case ".csv":
            return lines.CsvLines
        case ".jsonl":
            return lines.JsonLines
    raise UsageError(
        f"{path} has none of the endings of a recording.",
        "Give -o a name that ends in .parquet, .csv or .jsonl.",
    )


def _metadata(
    session: Session, request: options.Request, interval: float, command: tuple[str, ...]
) -> Metadata:
    filters = request.filters
    return Metadata(
        started=datetime.now(UTC),
        pte_trace=__version__,
        kernel=session.kernel,
        hooks=session.plan.attachments,
        needless=session.plan.needless,
        effort=session.effort,
        interval_s=interval,
        command=command,
        split=request.split,
        options={
            "pids": list(filters.pids),
            "comm": filters.comm,
            "cgroup": filters.cgroup and str(filters.cgroup),
            "unit": filters.unit,
            "container": filters.container,
            "max_vmas": request.max_vmas,
            "attach": request.attach,
        },
        facts=_facts(session),
    )


def _facts(session: Session) -> dict[str, Any]:
    found = diagnosis.document(session.facts, session.plan)
    return {**found["facts"], "functions": found["functions"]}


class _Recording:
    """Intervals taken from a session, and what is to be said of them in the end.

    *make* is called at the first of them: until then what the file held is left alone. Where an
    interval finds no room this is said at once, and no other is recorded: they are counted.
    """

    def __init__(
        self, session: Session, path: Path, make: Callable[[], Recorder], interval: float
    ) -> None:
        self._session = session
        self._path = printable(str(path))
        self._make = make
        self._interval = interval
        self._kept, self._lost = _Taken(), _Taken()
        self.failed = False

    def of_command(self, command: tuple[str, ...], repeat: int) -> int:
        """Record that many runs; the status of the last one that failed, else 0."""
        status = 0
        for run in range(1, repeat + 1):
            with child.running(command, self._session) as started:
                returncode = child.wait(started, self._pauses(), partial(self._take, run))
            self._take(run)
            status = child.status(returncode) or status
            if self.failed:
                break
        return status

    def until_ended(self) -> int:
        """Record until a signal comes, the processes asked for have ended or there is no room."""
        with child.signals_end() as stopped:
            for wait in self._pauses():
                ended = stopped.wait(wait) or self._session.processes_ended()
                self._take(1)
                if ended or self.failed:
                    break
        return 0

    def _pauses(self) -> Iterator[float]:
        """Seconds to wait, so that readings keep their rhythm."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            due = max(due + self._interval, now)
            yield due - now

    def finish(self) -> None:
        """Make the file what it is to be; it can be read as it is where there is no room."""
        if self.failed and not self._kept.intervals:
            return
        try:
            self._recorder.finish()
        except OSError as error:
            if not self.failed:
                self._say(error, "What was recorded is in it all the same, as of a killed recorder")
            self.failed = True

    @cached_property
    def _recorder(self) -> Recorder:
        return self._make()

    def _take(self, run: int) -> None:
        snapshot = self._session.read()
        if not self.failed:
            try:
                self._recorder.add(Interval(datetime.now(UTC), run, snapshot))
            except OSError as error:
                self._say(error, "What comes now is not recorded; a command goes on to its end")
                self.failed = True
        (self._lost if self.failed else self._kept).add(snapshot)

    def _say(self, error: OSError, so: str) -> None:
        why = f"pte-trace: {self._path} cannot be written: {error.strerror}. {so}."
        click.echo(f"{why}\n  Free some space, or record elsewhere.", err=True)

    def __str__(self) -> str:
        return f"{self._kept}; {self._lost} not recorded" if self.failed else str(self._kept)


class _Taken:
    """Intervals, added up."""

    def __init__(self) -> None:
        self.intervals = 0
        self._seconds = 0.0
        self._faults = 0

    def add(self, snapshot: Snapshot) -> None:
        self.intervals += 1
        self._seconds += snapshot.duration_s
        self._faults += snapshot.totals.sum(WRITE_FAULTS)

    def __str__(self) -> str:
        return (
            f"{several(self.intervals, 'interval')}, {self._seconds:.3f} s,"
            f" {several(self._faults, 'write fault')}"
        )
