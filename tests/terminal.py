"""A program on a terminal: what it shows there, and how it leaves it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import pyte

_PATIENCE = 250.0
_ENDED = "exit status "
_LEADER = f'trap : INT TERM HUP; "$@"; status=$?; echo; echo "{_ENDED}$status"; read _'


def _without_size(environ: Mapping[str, str]) -> dict[str, str]:
    """Not of the terminal that the tests are run on, which pytest-xdist hands on."""
    return {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}


class Terminal(AbstractContextManager["Terminal"]):
    """Runs *command* in a session of its own whose terminal this is."""

    def __init__(self, command: Sequence[str], columns: int = 100, lines: int = 24) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._written = b""
        self._ours, theirs = pty.openpty()
        self._tell_size(columns, lines)
        self._before = termios.tcgetattr(theirs)
        # Ctrl-C and the signal of a new size come through the terminal that controls a session.
        # Its leader is a shell that outlives the command: with it the terminal would go.
        self._leader = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", _LEADER, "sh", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**_without_size(os.environ), "TERM": "xterm-256color"},
        )
        os.close(theirs)

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._leader.pid, signal.SIGKILL)
        self._leader.wait()
        os.close(self._ours)

    def _tell_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Change the size; what was on the screen is left as junk for the program to clear."""
        self._screen.resize(lines, columns)
        self._tell_size(columns, lines)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def _take(self) -> None:
        if select.select([self._ours], [], [], 0.1)[0]:
            written = os.read(self._ours, 1 << 16)
            self._written += written
            self._stream.feed(written)

    def shown(self) -> list[str]:
        """The lines of the screen, without what is blank at their ends."""
        return [line.rstrip() for line in self._screen.display]

    def wait(self, expected: Callable[[list[str]], Any]) -> list[str]:
        """The screen once it is as *expected*; it fails with the screen that it is stuck at."""
        deadline = time.monotonic() + _PATIENCE
        while not expected(self.shown()):
            assert time.monotonic() < deadline, "\n".join(self.shown())
            self._take()
        return self.shown()

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self._leader.pid, number)

    def ended(self) -> int:
        """The exit status, when the program has ended."""
        shown = self.wait(lambda shown: any(line.startswith(_ENDED) for line in shown))
        (status,) = (line.removeprefix(_ENDED) for line in shown if line.startswith(_ENDED))
        return int(status)

    def as_before(self) -> bool:
        """Whether the terminal's modes, its screen and its cursor are those of the beginning."""
        alternate = self._written.count(b"\x1b[?1049h") == self._written.count(b"\x1b[?1049l")
        cursor = not self._screen.cursor.hidden
        return alternate and cursor and termios.tcgetattr(self._ours) == self._before
