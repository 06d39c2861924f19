"""The live view of a terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pte_trace.snapshot import SORT_FIELDS, Snapshot
from pte_trace.views import sentences, text

_LINES_AROUND_ROWS = 6
_AT_ONCE = 4096
_HUNG_UP = "q"


class Source(Protocol):
    """Where snapshots come from: a session, or a recording."""

    def read(self) -> Snapshot:
        """The snapshot of the interval since the last call."""

    def total(self) -> Snapshot:
        """The snapshot of all intervals so far."""

    def processes_ended(self) -> bool:
        """Whether there is nothing left to wait for."""


def _line(said: str, style: str = "") -> Text:
    return Text(said, style=style, no_wrap=True, overflow="ellipsis")


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

    def render(self, snapshot: Snapshot | None, height: int) -> RenderableType:
        """The screen; without a snapshot, before the first reading."""
        since = "since the start" if self.accumulated else "last interval"
        keys = _line(f"q quit  s sort  a accumulate   {since}, by {self.sort}", "dim")
        if snapshot is None:
            return Group(_line("The first interval is being counted."), Text(), keys)
        room = max(1, height - _LINES_AROUND_ROWS - len(sentences.notes(snapshot)))
        return Group(text.interval(snapshot, self.sort, min(room, self.rows or room)), keys)


@contextmanager
def _keys() -> Iterator[int]:
    """Deliver each key as it is pressed, unechoed; put the terminal back whatever happens."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _resizes() -> Iterator[int]:
    """A file descriptor that can be read when the terminal has changed its size."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)

    def resized(number: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(sender, b"r")

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        yield receiver
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(sender)
        os.close(receiver)


def _pressed(keyboard: int, resizes: int, timeout: float) -> str:
    """The keys pressed, as soon as there are some, or the size has changed, or it is time."""
    ready, _, _ = select.select([keyboard, resizes], [], [], max(0.0, timeout))
    if resizes in ready:
        os.read(resizes, _AT_ONCE)
    if keyboard not in ready:
        return ""
    keys = b""
    with suppress(OSError):
        keys = os.read(keyboard, _AT_ONCE)
    return keys.decode("ascii", "replace") or _HUNG_UP


def show(
    source: Source, *, interval: float, count: int | None, sort: str, rows: int | None
) -> None:
    """Show *source* until q is pressed, *count* readings are shown or its processes ended."""
    view = _View(sort, rows)
    console = Console(highlight=False)
    latest: Snapshot | None = None
    taken = 0
    with (
        _keys() as keyboard,
        _resizes() as resizes,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        due = time.monotonic() + interval
        while not view.quit:
            shown = source.total() if latest and view.accumulated else latest
            live.update(view.render(shown, console.size.height), refresh=True)
            for key in _pressed(keyboard, resizes, due - time.monotonic()):
                view.press(key)
            if time.monotonic() >= due:
                ended = source.processes_ended()
                latest = source.read()
                taken += 1
                due = time.monotonic() + interval
                view.quit = view.quit or ended or taken == count
    if latest is not None:
        console.print(text.report(source.total()))
