"""Say on standard error what takes long: a spinner or a bar on a terminal, else plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

# Where there is no bar, so many lines say how far the work is.
_LINES = 10


class Progress:
    """Where a lab command says what it is doing."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, line: str) -> Iterator[None]:
        """What goes on while the body runs."""
        if not self._console.is_terminal:
            self.say(line)
        with self.spinner(line):
            yield

    @contextmanager
    def spinner(self, line: str) -> Iterator[None]:
        """As `step`, but nothing where standard error is not a terminal."""
        if self._console.is_terminal and not self._console.quiet:
            with self._console.status(Text(line)):
                yield
        else:
            yield

    @contextmanager
    def work(self, line: str, expected: int) -> Iterator[Callable[[int], None]]:
        """Long work of about `expected` steps: the body calls what it gets with steps done."""
        began, done, said = self._clock(), 0, 0
        if not self._console.is_terminal:
            self.say(line)
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
        with Bar(
            *columns,
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        ) as bar:
            task = bar.add_task(line, total=expected, left="")

            def advance(steps: int) -> None:
                nonlocal done, said
                # The number is an estimate: never say that all is done while it is not.
                done = min(done + steps, expected - 1)
                left = time_left(self._clock() - began, done / expected)
                bar.update(task, completed=done, left=left)
                if not self._console.is_terminal and done * _LINES // expected > said:
                    said = done * _LINES // expected
                    self.say(f"{line}: {said / _LINES:.0%}, {left}")

            yield advance


def time_left(elapsed: float, fraction: float) -> str:
    """How long work still takes that took `elapsed` seconds for its first `fraction`."""
    if fraction <= 0:
        return ""
    seconds = round(elapsed * (1 - fraction) / fraction)
    if seconds < 60:
        return "less than a minute left"
    return f"about {seconds / 60:.0f} min left"


def silent() -> Progress:
    """Says nothing."""
    return Progress(Console(stderr=True, quiet=True))
