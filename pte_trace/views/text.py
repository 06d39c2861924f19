"""A snapshot for a person to read: a table between sentences, in a terminal or a pipe."""

from __future__ import annotations

from typing import IO

from rich.console import Console, Group, RenderableType
from rich.text import Text

from pte_trace.snapshot import Snapshot, ordered
from pte_trace.views import sentences
from pte_trace.views.table import VmaTable

_PIPE_WIDTH = 1000


def console(stream: IO[str]) -> Console:
    """A console for *stream*: colour and its width for a terminal, plain long lines for a pipe."""
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=stream, highlight=False, width=_PIPE_WIDTH, no_color=True)


def report(snapshot: Snapshot) -> RenderableType:
    """The whole report, as `run` prints it."""
    return Group(
        sentences.heading(snapshot),
        Text(),
        VmaTable(ordered(snapshot.vmas, "faults"), snapshot.totals, snapshot.effort),
        Text(),
        sentences.summary(snapshot),
        *sentences.notes(snapshot),
    )


def interval(snapshot: Snapshot, sort: str, rows: int | None) -> RenderableType:
    """One interval, as `top` shows it: at most *rows* mappings, the totals of all."""
    shown = ordered(snapshot.vmas, sort)[:rows]
    hidden = len(snapshot.vmas) - len(shown)
    table = VmaTable(shown, snapshot.totals, snapshot.effort, hidden)
    said = [sentences.heading(snapshot), *sentences.notes(snapshot)]
    for line in said:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(said[0], table, *said[1:], Text())
