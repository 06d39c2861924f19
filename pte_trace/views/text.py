"""A snapshot for a person to read: a table between sentences, in a terminal or a pipe."""

from __future__ import annotations

from typing import IO

from rich.console import Console, Group, RenderableType
from rich.text import Text

from pte_trace.counted.snapshot import Snapshot
from pte_trace.views import sentences, stacks
from pte_trace.views.table import VmaTable

_PIPE_WIDTH = 1000
_HEADING_HEADER_TOTALS = 3
_WRITERS, _WRITERS_OF_AN_INTERVAL = 10, 3


def console(stream: IO[str]) -> Console:
    """A console for *stream*: colour and its width for a terminal, plain long lines for a pipe."""
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=stream, highlight=False, width=_PIPE_WIDTH, no_color=True)


def report(snapshot: Snapshot, rows: int | None = None) -> RenderableType:
    """The report, as `run` prints it: at most *rows* mappings, the totals of all."""
    shown = snapshot.vmas.ordered("faults", rows)
    hidden = len(snapshot.vmas) - len(shown)
    return Group(
        sentences.heading(snapshot),
        Text(),
        VmaTable(shown, snapshot.totals, snapshot.effort, hidden),
        Text(),
        sentences.summary(snapshot),
        *sentences.notes(snapshot),
        *(Text(line) for line in stacks.writers(snapshot, _WRITERS)),
    )


def interval(snapshot: Snapshot, sort: str, rows: int | None) -> RenderableType:
    """One interval, as `top` shows it: at most *rows* mappings, the totals of all."""
    return Group(screen(snapshot, sort, rows), Text())


def screen(snapshot: Snapshot, sort: str, rows: int | None, *, cut: bool = True) -> RenderableType:
    """An interval; *cut*: each sentence on one line."""
    shown = snapshot.vmas.ordered(sort, rows)
    hidden = len(snapshot.vmas) - len(shown)
    table = VmaTable(shown, snapshot.totals, snapshot.effort, hidden)
    heading, *below = said = [sentences.heading(snapshot), *_below(snapshot)]
    for line in said if cut else ():
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(heading, table, *below)


def lines_without_rows(snapshot: Snapshot, width: int | None = None) -> int:
    """So many lines a screen has beside its rows: so wide, or each sentence on one line."""
    table = VmaTable([], snapshot.totals, snapshot.effort)
    beside = _HEADING_HEADER_TOTALS + table.has_legend
    if width is None:
        return beside + len(_below(snapshot))
    wide = Console(width=width)
    said = [sentences.heading(snapshot), *_below(snapshot)]
    return beside - 1 + sum(len(line.wrap(wide, width)) for line in said)


def _below(snapshot: Snapshot) -> list[Text]:
    """What is said below the table; of those who write the first, for there is little room."""
    return [
        sentences.saved_at_most(snapshot),
        *sentences.notes(snapshot),
        *(Text(line) for line in stacks.writers(snapshot, _WRITERS_OF_AN_INTERVAL)),
    ]
