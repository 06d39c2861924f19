"""The live view of a terminal."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pte_trace.snapshot import SORT_FIELDS, Snapshot
from pte_trace.views import sentences, text

_LINES_AROUND_ROWS = 6


class Source(Protocol):
    """Where snapshots come from: a session, or a recording."""

    def read(self) -> Snapshot:
        """The snapshot of the interval since the last call."""

    def total(self) -> Snapshot:
        """The snapshot of all intervals so far."""

    def processes_ended(self) -> bool:
        """Whether there is nothing left to wait for."""


class _View:
    """What is shown of the snapshots; the keys change it."""

    def __init__(self, sort: str, rows: int | None) -> None:
        self.sort = sort
        self.rows = rows
        self.accumulated = False
        self.quit = False

    def press(self, key: str) -> None:
        if key == "q":
            self.quit = True
        elif key == "a":
            self.accumulated = not self.accumulated
        elif key == "s":
            position = SORT_FIELDS.index(self.sort) + 1
            self.sort = SORT_FIELDS[position % len(SORT_FIELDS)]

    def render(self, snapshot: Snapshot, height: int) -> RenderableType:
        room = max(1, height - _LINES_AROUND_ROWS - len(sentences.notes(snapshot)))
        since = "since the start" if self.accumulated else "last interval"
        keys = Text(f"{since}, by {self.sort}   q quit   s sort   a accumulate", style="dim")
        return Group(text.interval(snapshot, self.sort, min(room, self.rows or room)), keys)


@contextmanager
def _keys() -> Iterator[None]:
    """Deliver each key as it is pressed, unechoed; put the terminal back whatever happens."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(timeout: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], max(0.0, timeout))
    return sys.stdin.read(1) if ready else ""


def show(
    source: Source, *, interval: float, count: int | None, sort: str, rows: int | None
) -> None:
    """Show *source* until q is pressed, *count* readings are shown or its processes ended."""
    view = _View(sort, rows)
    console = Console(highlight=False)
    taken = 0
    with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        latest: Snapshot | None = None
        due = time.monotonic() + interval
        while not view.quit:
            view.press(_pressed(due - time.monotonic()))
            if time.monotonic() >= due:
                ended = source.processes_ended()
                latest = source.read()
                taken += 1
                due = time.monotonic() + interval
                if ended or taken == count:
                    view.quit = True
            if latest is not None:
                shown = source.total() if view.accumulated else latest
                live.update(view.render(shown, console.size.height), refresh=True)
    if latest is not None:
        console.print(text.report(source.total()))
