"""`pte-trace top`: what happens now, interval by interval."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import IO

import click
from click.core import ParameterSource

from pte_trace.commands import child, options
from pte_trace.counted.order import SORT_FIELDS
from pte_trace.errors import UsageError
from pte_trace.views import document, live, text

_OF_TRACING = (
    "pids",
    "comm",
    "cgroup",
    "unit",
    "container",
    "split",
    "max_vmas",
    "inspect",
    "costs",
    "stacks",
    "attach",
)


@click.command()
@options.tracing()
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
    "-n", "--count", type=click.IntRange(min=1), metavar="COUNT", help="End after so many readings."
)
@click.option(
    "--sort",
    type=click.Choice(SORT_FIELDS),
    default="faults",
    show_default=True,
    help="Order of the rows, largest first.",
)
@click.option(
    "--replay",
    "recording",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show a recording (see `record`) instead of this machine.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    callback=options.seconds,
    show_default=True,
    metavar="N",
    help="With --replay: so many times as fast as it was recorded.",
)
@options.rows(default=100)
def top(
    request: options.Request,
    interval: float,
    count: int | None,
    sort: str,
    recording: Path | None,
    speed: float,
    rows: int | None,
) -> None:
    """Show the mappings with the most write faults, interval by interval.

    On a terminal a live view: q quits, s takes the next field to sort by, a switches between
    the last interval and all since the start. Elsewhere a plain table, one JSON document or
    some CSV lines for each interval, the one that a signal cuts short too. With -p it ends when
    the last of those processes does.

    \b
    Examples:
      sudo pte-trace top
      sudo pte-trace top -p 1234 -i 5 -n 12
      sudo pte-trace top --format json -n 1
      pte-trace top --replay faults.parquet --speed 10
    """
    given = _given()
    if recording is not None:
        _check_replay(given)
        _replay(recording, speed, request, count, sort, rows)
        return
    if "speed" in given:
        raise UsageError("--speed is of a recording.", "Give --replay FILE, or -i SECONDS.")
    with (
        request.output(sys.stdout) as stream,
        # Only the live view can be asked for all since the start.
        request.session(keep=_is_live(request, stream)) as session,
    ):
        session.start()
        _show(session, request, stream, interval, count, sort, rows)


def _given() -> dict[str, str]:
    """The options that were typed, as they are typed, by their parameters."""
    context = click.get_current_context()
    return {
        each.name: each.opts[0]
        for each in context.command.params
        if each.name and context.get_parameter_source(each.name) is ParameterSource.COMMANDLINE
    }


def _check_replay(given: dict[str, str]) -> None:
    """Raises UsageError."""
    if "interval" in given:
        raise UsageError(
            "A recording has intervals of its own.",
            f"Leave out {given['interval']}; --speed N shows them N times as fast.",
        )
    traced = ", ".join(given[name] for name in _OF_TRACING if name in given)
    if traced:
        raise UsageError(
            f"A recording shows what was traced when it was made: {traced} cannot change it.",
            f"Leave out {traced}, or record again with it.",
        )


def _replay(
    path: Path,
    speed: float,
    request: options.Request,
    count: int | None,
    sort: str,
    rows: int | None,
) -> None:
    from pte_trace.recording.reading import Recording
    from pte_trace.recording.replay import Replay

    with Recording(path) as recording, request.output(sys.stdout) as stream:
        pause = min(recording.metadata.interval_s / speed, options.LONGEST_WAIT_S)
        _show(Replay(recording), request, stream, pause, count, sort, rows)


def _is_live(request: options.Request, stream: IO[str]) -> bool:
    return request.style == "text" and stream.isatty() and sys.stdin.isatty()


def _show(
    source: live.Source,
    request: options.Request,
    stream: IO[str],
    interval: float,
    count: int | None,
    sort: str,
    rows: int | None,
) -> None:
    if _is_live(request, stream):
        live.show(source, interval=interval, count=count, sort=sort, rows=rows)
    else:
        _intervals(source, request.style, stream, interval, count, sort, rows)


def _intervals(
    source: live.Source,
    style: str,
    stream: IO[str],
    interval: float,
    count: int | None,
    sort: str,
    rows: int | None,
) -> None:
    with child.signals_end() as stopped:
        for taken in itertools.islice(itertools.count(), count):
            ended = stopped.wait(interval) or source.processes_ended()
            snapshot = source.read()
            if style == "text":
                text.console(stream).print(text.interval(snapshot, sort, rows))
            elif style == "json":
                document.write_json(snapshot, stream)
            else:
                document.write_csv(snapshot, stream, header=not taken)
            stream.flush()
            if ended:
                break
