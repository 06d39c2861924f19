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
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pte_trace.counted.order import SORT_FIELDS
from pte_trace.counted.snapshot import Snapshot
from pte_trace.views import text

_LINES_BELOW = 2
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


class View:
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

    def render(self, snapshot: Snapshot | None, height: int, width: int) -> RenderableType:
        """The screen; without a snapshot, before the first reading.

        Sentences are cut where they would take the most of it.
        """
        since = "since the start" if self.accumulated else "last interval"
        keys = _line(f"q quit  s sort  a accumulate   {since}, by {self.sort}", "dim")
        if snapshot is None:
            return Group(_line("The first interval is being counted."), Text(), keys)
        height -= _LINES_BELOW
        room = height - text.lines_without_rows(snapshot, width)
        cut = room < height // 2
        if cut:
            room = max(1, height - text.lines_without_rows(snapshot))
        rows = min(room, self.rows or room)
        return Group(text.screen(snapshot, self.sort, rows, cut=cut), keys)


@contextmanager
def _keys() -> Iterator[int]:
    """Deliver each key as it is pressed, unechoed; put the terminal back whatever happens."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        with suppress(termios.error):  # it was closed
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


class _Signals(AbstractContextManager["_Signals"]):
    """A new size of the terminal, and Ctrl-Z, to be waited for beside the keys."""

    def __enter__(self) -> _Signals:
        self.stopped = False
        self.receiver, self._sender = os.pipe()
        os.set_blocking(self._sender, False)
        self._before = {signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._come)}
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._sender)
        os.close(self.receiver)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self.stopped |= number == signal.SIGTSTP
        with suppress(BlockingIOError):
            os.write(self._sender, b"s")

    def stop(self) -> None:
        """Stop this process as Ctrl-Z does by itself; return when it goes on."""
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self.stopped = False


def _pressed(keyboard: int, signals: int, timeout: float) -> str:
    """The keys pressed, as soon as there are some, or a signal has come, or it is time."""
    ready, _, _ = select.select([keyboard, signals], [], [], max(0.0, timeout))
    if signals in ready:
        os.read(signals, _AT_ONCE)
    if keyboard not in ready:
        return ""
    keys = b""
    with suppress(OSError):
        keys = os.read(keyboard, _AT_ONCE)
    return keys.decode("ascii", "replace") or _HUNG_UP


class _Readings:
    """What was read of *source* so far, one interval after the other."""

    def __init__(self, source: Source, interval: float, count: int | None) -> None:
        self._source = source
        self._interval = interval
        self._left = count
        self.due = time.monotonic() + interval
        self.latest: Snapshot | None = None
        self.ended = False

    def take(self) -> None:
        """Read, if it is time."""
        if time.monotonic() < self.due:
            return
        self.ended = self._source.processes_ended()
        self.latest = self._source.read()
        self.due = time.monotonic() + self._interval
        if self._left is not None:
            self._left -= 1
            self.ended |= not self._left


def show(
    source: Source, *, interval: float, count: int | None, sort: str, rows: int | None
) -> None:
    """Show *source* until q is pressed, *count* readings are shown or its processes ended.

    Ctrl-Z gives the terminal back until it goes on in the foreground; meanwhile it is counted.
    """
    view = View(sort, rows)
    console = Console(highlight=False)
    readings = _Readings(source, interval, count)
    with _Signals() as signals:
        while not view.quit and not readings.ended:
            if signals.stopped:
                signals.stop()
            with (
                _keys() as keyboard,
                Live(console=console, screen=True, auto_refresh=False) as live,
            ):
                while not (view.quit or readings.ended or signals.stopped):
                    latest = readings.latest
                    shown = source.total() if latest and view.accumulated else latest
                    live.update(view.render(shown, console.height, console.width), refresh=True)
                    wait = readings.due - time.monotonic()
                    for key in _pressed(keyboard, signals.receiver, wait):
                        view.press(key)
                    readings.take()
    if readings.latest is not None:
        console.print(text.report(source.total(), rows))
