"""Say on standard error what takes long: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


class Progress:
    """Where a lab command says what it is doing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

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


def silent() -> Progress:
    """Says nothing."""
    return Progress(Console(stderr=True, quiet=True))
